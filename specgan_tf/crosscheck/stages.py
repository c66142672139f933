"""Checks of the networks, the spectra, the loader and the inference graph.

Each function takes a record and yields its checks.
"""

import contextlib
import functools
import hashlib
import importlib.util
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import loader, moments, spectral
from specgan_tf.crosscheck.kinks import farthest, recorded, sided
from specgan_tf.crosscheck.records import (
    Check,
    Record,
    assign,
    by_scope,
    errors,
    judge,
    networks,
    tally,
)
from specgan_tf.export import saved_model


def names(r: Record) -> Iterator[Check]:
    """Variables: names and shapes, and the order in which the reference makes them."""
    ours = [v for net in networks(r) for v in net.variables]
    ours = {v.path: tuple(v.shape) for v in ours}
    if want := r.group("shape/"):
        want = {k: tuple(v) for k, v in want.items()}
        order = sum(a != b for a, b in zip(ours, want, strict=False))
        yield tally("variables", "specgan.py 42-178", "order", order)
    else:
        want = {k: v.shape for k, v in r.group("w/").items()}
        if "D" not in r:  # a golden of G alone
            ours = {k: v for k, v in ours.items() if k.startswith("G/")}
    wrong = len(set(ours.items()) ^ set(want.items()))
    yield tally("variables", "specgan.py 42-178", "names and shapes", wrong)


def generator(r: Record) -> Iterator[Check]:
    lines = "specgan.py 42-111"
    G, _ = networks(r)
    assign(G, r, "w/")
    for mode, bound in (("infer", 5e-6), ("train", 2e-5)):  # measured 1.6e-6, 6e-6
        if f"G_{mode}" not in r:
            continue
        layers, G_z = by_scope(G, r["z"], training=mode == "train")
        if want := r.group(f"layer/G_{mode}/"):
            off = [r.off(f"layer/G_{mode}/{k}", layers[k]) for k in want]
            yield judge("generator", lines, f"each layer, {mode}", off, bound, "rel")
        yield judge("generator", lines, f"G(z), {mode}", r.off(f"G_{mode}", G_z), bound)
    if "G_train" in r:
        off = [r.off(f"after/{v.path}", v) for v in G.non_trainable_variables]
        what = "moving averages after"
        yield judge("generator", "specgan.py 57, 105-109", what, off, 1e-6)  # 1.2e-7


def discriminator(r: Record) -> Iterator[Check]:
    if "D" not in r:
        return
    lines = "specgan.py 118-178"
    _, D = networks(r)
    assign(D, r, "w/")
    x, met = tf.constant(r["x"]), []
    sides = {layer: values[0] for layer, values in recorded(r, "D").items()}
    with tf.GradientTape() as tape, sided(sides, met):
        tape.watch(x)
        layers, D_x = by_scope(D, x)
    if want := r.group("layer/D/"):
        off = [r.off(f"layer/D/{k}", layers[k]) for k in want]
        yield judge("discriminator", lines, "each layer", off, 5e-6, "rel")
    yield judge(
        "discriminator", lines, "D(x)", r.off("D", D_x), 5e-6
    )  # measured 1.3e-6
    off = r.off("D_grad_x", tape.gradient(D_x, x))
    if sides:
        yield farthest("discriminator", met)
        yield judge("discriminator", lines, "dD/dx, worst", off, 1e-4, "rel")
    # measured 5e-7
    yield judge("discriminator", lines, "dD/dx", off, 5e-6, "mean rel")


def initial(r: Record) -> Iterator[Check]:
    """Initial values: statistics of tf.layers' draws against as many by Keras."""
    lines = "specgan.py 4-39, 65, 137-174"
    keras.utils.set_random_seed(0)
    ours = {}
    for _ in range(int(r["draws"])):
        for v in (v for net in networks(r) for v in net.trainable_variables):
            ours.setdefault(v.path, []).append(v.numpy())
    limits, means, variances, constant = [], [], [], []
    for path, stats in r.group("init/").items():
        got = np.array(ours[path], np.float64)
        got = np.stack([np.abs(got).max(), got.mean(), got.var()])
        want = np.array([stats[:, 0].max(), *stats[:, 1:].mean(0)])
        # The variance of n values together includes that between draws.
        want[2] += stats[:, 1].var()
        if not path.endswith("/kernel"):
            constant.append(errors(got, want))
            continue
        *area, fan_in, fan_out = ours[path][0].shape
        limit = np.sqrt(6 / (np.prod(area) * (fan_in + fan_out)))
        n = ours[path][0].size * len(stats)
        # The largest of n uniform values falls short of the limit by limit / n.
        limits += [abs(m / limit - 1) * n for m in (got[0], want[0])]
        limits += [np.inf for m in (got[0], want[0]) if m > limit * (1 + 1e-6)]
        # In standard errors of a difference, for uniform distributions.
        means.append(abs(got[1] - want[1]) / (limit * np.sqrt(2 / 3 / n)))
        spread = limit**2 / 3 * np.sqrt(2 * 0.8 / n)
        variances.append(abs(got[2] - want[2]) / spread)
    yield judge("initial", lines, "biases, gammas, betas", constant, 0)
    # one in a million by chance: 14, 5, 5
    yield tally("initial", lines, "kernels, limit", max(limits), 14, "limit / n")
    yield tally("initial", lines, "kernels, mean", max(means), 5, "std errors")
    yield tally("initial", lines, "kernels, variance", max(variances), 5, "std errors")


def log_magnitude64(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Waveform [n, 16384] -> magnitudes and their logs [n, 128, 129], in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    x = np.pad(x.astype(np.float64), [[0, 0], [0, 256]])
    frames = np.stack([x[:, i * 128 : i * 128 + 256] for i in range(128)], 1)
    X_mag = np.abs(np.fft.rfft(frames * window))
    return X_mag, np.log(X_mag + 1e-6)


def analysis(r: Record) -> Iterator[Check]:
    """Checks of t_to_f. Near the log floor a float32 FFT's rounding is visible, in ours
    and the reference's. Our mean error from float64 must not exceed the reference's."""
    stage, lines = "t_to_f", "train_specgan.py 31-45"
    mean, std = (r[k][:-1] for k in ("mean", "std"))
    X_mag, X_lmag = log_magnitude64(r["x"][:, :, 0])
    peak = X_mag.max(axis=2, keepdims=True)
    X_mag, X_lmag = X_mag[:, :, :-1], X_lmag[:, :, :-1]
    exact = np.clip((X_lmag - mean) / std / 3, -1, 1)[..., np.newaxis]
    got = spectral.t_to_f(r["x"], r["mean"], r["std"]).numpy()
    # Rounding by the FFT, relative to the frame's peak, by the logarithm, by the mean.
    rounding = peak / (X_mag + 1e-6) + np.abs(X_lmag) + np.abs(mean)
    rounding = np.finfo(np.float32).eps * (rounding / std / 3 + 1)
    off = np.max(np.abs(got - exact)[..., 0] / rounding)
    # measured 1.9 at seeds 0 to 99; the reference's own is 5.1 in the golden
    yield tally(stage, lines, "from float64", off, 5, "roundings")
    theirs, off = errors(r["X_norm"], exact), errors(got, exact)
    yield judge(stage, lines, "from float64, mean", off, theirs["mean"], "mean")
    off = r.off("X_norm", got)
    yield judge(stage, lines, "X_norm", off, 2e-5, "mean")  # measured 7e-6
    linear = np.exp(got[..., 0] * 3 * std + mean) - 1e-6
    inside = np.abs(got[..., 0]) < 1
    off = np.abs(linear - X_mag)[inside].max() / X_mag.max()
    # measured 1e-6
    yield tally(stage, lines, "linear magnitude", off, 3e-6, "of the peak")


def sensitivity(f: Callable, X: np.ndarray, step: np.ndarray) -> float:
    """The change of f(X) when every value of X changes by +-step, with random signs:
    the largest relative error of three tries."""
    rs, want = np.random.RandomState(0), f(X).numpy()
    tries = (X + step * rs.choice(np.float32([-1, 1]), X.shape) for _ in range(3))
    return max(errors(f(x), want)["rel"] for x in tries)


def synthesis(r: Record) -> Iterator[Check]:
    """Checks of f_to_t. Griffin-Lim uses the phase of every bin, and in a bin near zero
    the phase is rounding. So the bound is also a few times the change that one rounding
    of the input causes in our result."""
    stage, lines = "f_to_t", "train_specgan.py 51-84"
    f_to_t = tf.function(lambda X, n: spectral.f_to_t(X, r["mean"], r["std"], n))

    def compare(key, what, X, n, bound):
        got, n = f_to_t(X, tf.constant(n)).numpy(), tf.constant(n)
        moved = sensitivity(lambda X: f_to_t(X, n), X, np.spacing(np.abs(X)))
        return judge(stage, lines, what, r.off(key, got), max(bound, 4 * moved), "rel")

    for key in sorted(r.group("audio_ngl"), key=int):
        # measured 1.4e-6, 1.6e-5, 1.8e-4
        bound = {"0": 5e-6, "1": 5e-5}.get(key, 5e-4)
        what = f"{key} iterations"
        yield compare(f"audio_ngl{key}", what, r["X_norm"], int(key), bound)
    # measured 2.8e-5
    yield compare("audio_noise_ngl1", "noise, 1 iteration", r["S"], 1, 1e-4)


def image(r: Record) -> Iterator[Check]:
    off = r.off("img", spectral.f_to_img(r["X_norm"]))
    yield judge("f_to_img", "train_specgan.py 90-98", "image", off, 0)


FIRST, PAD = {"slice_first_only": True}, {"slice_pad_end": True}
SLICINGS = {
    "first_pad": FIRST | PAD,
    "all": {},
    "pad": PAD,
    "overlap75": {"slice_overlap_ratio": 0.75} | PAD,
    "nonorm": {"decode_normalize": False} | FIRST | PAD,
}
RANDOM = {"slice_randomize_offset": True}
MOMENTS = {
    "first": FIRST | PAD,
    "all": RANDOM,
    "overlap": {"slice_overlap_ratio": 0.5} | RANDOM | PAD,
}


@contextlib.contextmanager
def wav_files(r: Record) -> Iterator[list[str]]:
    """Paths of the record's files, written as 16 kHz WAV."""
    from scipy.io import wavfile

    with tempfile.TemporaryDirectory() as folder:
        fps = [os.path.join(folder, name) for name in r["names"]]
        for fp, name in zip(fps, r["names"], strict=True):
            wavfile.write(fp, 16000, r[f"file/{name}"])
        yield fps


def slices_of(fps: list[str], **kwargs) -> np.ndarray:
    """All slices of the files, in order, float32 [n, 16384, 1, 1]."""
    dataset = loader.decode_extract_and_batch(fps, 1, 16384, 16000, 1, **kwargs)
    return np.concatenate(list(dataset.as_numpy_iterator()))


def slices(r: Record) -> Iterator[Check]:
    lines = "loader.py 9-198"
    with wav_files(r) as fps:
        for fast, (name, kwargs) in itertools.product((False, True), SLICINGS.items()):
            got = slices_of(fps, decode_fast_wav=fast, **kwargs)
            what = f"{name}, fast_wav" if fast else name
            key = f"slices_fast_{name}" if fast else f"slices_{name}"
            key = key if key in r else f"slices_{name}"
            if key in r:
                yield judge("slices", lines, what, errors(got, r[key]), 0)
                continue
            digest = hashlib.sha256(got.tobytes()).hexdigest()
            wrong = [str(got.shape), digest] != r[f"sha256/{key}"].tolist()
            yield tally("slices", lines, what, wrong)


def data_moments(r: Record) -> Iterator[Check]:
    """Checks of moments. Digital silence is at the log floor, where the reference's
    float32 FFT is inexact: our error from float64 must not exceed the reference's."""
    lines = "train_specgan.py 575-613"

    def epoch(self, number):
        start = r["random_offset"] if self.offsets else 0
        return np.arange(self.nfiles), np.full(self.nfiles, start)

    with wav_files(r) as fps, mock.patch.object(loader.Order, "epoch", epoch):
        for name, kwargs in MOMENTS.items():
            x = slices_of(fps, **kwargs)[:, :, 0, 0]
            ours = moments.moments(x[i : i + 2] for i in range(0, len(x), 2))
            X_lmag = log_magnitude64(x)[1].reshape(-1, 129)
            exact = X_lmag.mean(0), X_lmag.std(0)
            for what, got, want in zip(("mean", "std"), ours, exact, strict=False):
                theirs = r[f"moments_{name}_{what}"]
                bound, what = max(errors(theirs, want)["max"], 1e-6), f"{name}, {what}"
                off = errors(got, want)
                yield judge("moments", lines, f"{what}, from float64", off, bound)
                # measured 1e-3
                yield judge("moments", lines, what, errors(got, theirs), 2e-3)


def resampling(r: Record) -> Iterator[Check]:
    """A check of kaiser_best, rebuilt from the parameters in librosa 0.6.2."""
    from scipy.io import wavfile

    lines, what = "loader.py 36", "22050 to 16000 Hz"
    if not importlib.util.find_spec("resampy"):
        yield tally("resampling", lines, what, math.nan, None, "needs resampy")
        return
    with tempfile.TemporaryDirectory() as folder:
        fp = os.path.join(folder, "rate22050.wav")
        wavfile.write(fp, 22050, r["file/rate22050"])
        got = loader.decode_audio(fp, 16000, resample="kaiser_best")
    # A few samples are farther off: resampy used to add up its clock, and rounding puts
    # it on the other side of a whole sample there.
    off = r.off("decoded_rate22050", got.ravel())
    yield judge("resampling", lines, f"{what}, mean", off, 1e-6, "mean")  # 1e-7
    yield judge("resampling", lines, what, off, 3e-3, "rel")  # measured 9.7e-4


def inference(r: Record) -> Iterator[Check]:
    """Checks of the inference graph's named tensors, from latents to samples."""
    stage, lines = "inference", "train_specgan.py 327-363"
    G, _ = networks(r)
    assign(G, r, "w/")
    module = saved_model.SpecGANModule(G, moments.Moments(r["mean"], r["std"]))
    ngl, n = tf.constant(int(r["ngl"])), tf.constant(r.option("samp_z_n", 500))
    z = {"z": tf.constant(r["z"]), "ngl": ngl}
    got = module.synthesize(**z)
    got |= module.flatten(**z, flat_pad=tf.constant(int(r["flat_pad"])))
    got |= module.sample(samp_z_n=n, seed=tf.constant(0))
    if "tensor_names" in r:
        ours = {*got, *z, "flat_pad", "samp_z_n"}
        wrong = len(set(r["tensor_names"].tolist()) ^ ours)
        yield tally(stage, lines, "names of the tensors", wrong)
    samp_z = np.sort(np.ravel(got["samp_z"]))
    want = np.linspace(-1, 1, samp_z.size)
    if "samp_z" in r:
        want = np.sort(np.ravel(r["samp_z"]))
    off = errors(samp_z, want)
    # of 50,000 draws, beyond this once in 10,000 times
    yield judge(stage, lines, "samp_z, quantiles", off, 0.03)
    bound = 5e-3  # measured 7.9e-4: Griffin-Lim enlarges rounding, step by step
    if "G_z_norm" in r:
        off = r.off("G_z_norm", got["G_z_norm"])
        yield judge(stage, lines, "G_z_norm", off, 3e-5, "rel")  # measured 9e-6
        # As in `synthesis`: the bound is also a few times the change that the error of
        # the spectrograms, judged above, causes in our sounds.
        invert = functools.partial(
            spectral.f_to_t, X_mean=r["mean"], X_std=r["std"], ngl=ngl
        )
        moved = sensitivity(
            tf.function(invert), got["G_z_norm"].numpy(), np.float32(off["max"])
        )
        bound = max(bound, 4 * moved)
    for key in ("G_z", "G_z_flat"):
        if key in r:
            yield judge(stage, lines, key, r.off(key, got[key]), bound, "rel")
    # measured 1, 1.1e-3: rounding decides about values near a whole number
    off = r.off("G_z_norm_uint8", got["G_z_norm_uint8"])
    yield judge(stage, lines, "G_z_norm_uint8, steps", off, 1)
    yield judge(stage, lines, "G_z_norm_uint8, mean", off, 0.02, "mean")
    for key in ("G_z_int16", "G_z_flat_int16"):
        steps = 1 + bound * 32767 * np.abs(r["G_z"]).max()  # and the bound of G_z
        yield judge(stage, lines, f"{key}, steps", r.off(key, got[key]), steps)
    # From the reference's own samples the result is equal.
    off = errors(spectral.float_to_int16(r["G_z"]), r["G_z_int16"])
    yield judge("int16", "train_specgan.py 356-361", "from the same samples", off, 0)
