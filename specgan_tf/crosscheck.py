"""The reference against this package, stage by stage.

    python -m specgan_tf.crosscheck
    python -m specgan_tf.crosscheck --original CHECKOUT --python PYTHON_WITH_TF1

The first replays what chrisdonahue/wavegan 40e85e8 computed, as kept in tests/goldens.
The second makes weights and inputs, has an unmodified checkout of the reference compute
on them under its own TensorFlow (see original.py), and compares that. Either prints one
line per check, and ends with status 1 if one falls short of its bound.

A record is an .npz file: inputs, and what the reference made of them. Beside each bound
stands the largest error measured: over the goldens, and over records made with --all.
"""

import argparse
import contextlib
import dataclasses
import glob
import hashlib
import importlib.util
import io
import itertools
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import checkpoint, export, loader, moments, specgan, spectral
from specgan_tf.files import InputError, replacing
from specgan_tf.gan import SpecGAN
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import UPSAMPLES, SpecGANDiscriminator, SpecGANGenerator

COMMIT = "40e85e8"
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDENS = os.path.join(HERE, "..", "tests", "goldens")
STRIDE = 7  # of what the goldens keep of large results


# Records, and how far off a value is


class Record(dict):
    """The arrays of one record by name, those of a golden reduced or in full."""

    def __init__(self, arrays, path):
        super().__init__({k: np.asarray(v) for k, v in arrays.items()})
        self.name, self.path = os.path.basename(path).removesuffix(".npz"), path
        self.kind = str(self.get("record", self.name.partition("_")[0]))

    @classmethod
    def read(cls, path):
        try:
            with np.load(path) as arrays:
                r = cls(arrays, path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
            raise InputError(f"{path} is not a record: {e}") from None
        if "wav.flac" in r:
            import soundfile

            flac = io.BytesIO(r["wav.flac"].tobytes())
            wav = soundfile.read(flac, dtype="int16")[0]
            r["wav"] = wav.reshape(r["wav.shape"])
        kept = os.path.join(GOLDENS, f"{r.name}.npz")
        if r.kind == "train" and "x" not in r and os.path.isfile(kept):
            # Of the goldens, only the reduced have it.
            r |= {k: v for k, v in np.load(kept).items() if k == "x"}
        return r

    def __missing__(self, key):
        raise InputError(f"{self.path} lacks {key}: not a record of this version")

    def option(self, name, default):
        return self[name].item() if name in self else default

    def group(self, prefix):
        """Arrays under `prefix`, by the rest of their names."""
        return {k[len(prefix) :]: v for k, v in self.items() if k.startswith(prefix)}

    def off(self, key, got):
        """Errors of `got`, of which a golden may keep every seventh value."""
        want, got = self[key], np.asarray(got)
        if want.size != got.size and want.size == -(-got.size // STRIDE):
            got = got.ravel()[::STRIDE]
        if want.size == got.size:  # D's last layer is flattened for the next
            got = got.reshape(want.shape)
        return errors(got, want)


def errors(got, want):
    """Largest and mean difference, absolute and relative to the largest and mean."""
    want, got = np.asarray(want, np.float64), np.asarray(got, np.float64)
    if want.shape != got.shape:
        return dict.fromkeys(("max", "rel", "mean", "mean rel"), math.inf)
    error, size = np.abs(got - want), np.abs(want)
    top, mean = float(error.max()), float(error.mean())
    return {
        "max": top,
        "rel": top / max(float(size.max()), 1e-12),
        "mean": mean,
        "mean rel": mean / max(float(size.mean()), 1e-12),
    }


@dataclasses.dataclass
class Check:
    """One comparison, or the worst of several alike.

    stage, lines, what: where in the pipeline, which lines of the reference, what value
    absolute, relative: largest error, and that over the largest value; None where
      the check is of something else
    by, error, bound: what is judged ("max", "rel", "mean", "mean rel", or a unit); a
      bound of None marks a difference made on purpose
    nudges: how often the inputs were `nudged` before it agreed
    """

    stage: str
    lines: str
    what: str
    absolute: float | None
    relative: float | None
    by: str
    error: float
    bound: float | None
    record: str = ""
    nudges: int = 0

    @property
    def verdict(self):
        if self.bound is None:
            return "skipped" if math.isnan(self.error) else "differs"
        return "ok" if self.error <= self.bound else "FAIL"  # NaN fails


def judge(stage, lines, what, off, bound, by="max"):
    """A check of the worst of `off`: errors of one value, or of several."""
    off = [off] if isinstance(off, dict) else list(off)
    worst = {key: float(np.max([o[key] for o in off])) for key in off[0]}
    bound = None if bound is None else float(bound)
    return Check(stage, lines, what, worst["max"], worst["rel"], by, worst[by], bound)


def tally(stage, lines, what, error, bound=0, by="unequal"):
    """A check of a number that is not a difference of values."""
    return Check(stage, lines, what, None, None, by, float(error), bound)


# Networks from a record


def options(r):
    """Keyword arguments of the generator and of the discriminator."""
    both = {
        "kernel_len": r.option("kernel_len", 5),
        "dim": r.option("dim", 64),
        "use_batchnorm": r.option("batchnorm", False),
    }
    G = {"upsample": r.option("upsample", "zeros")}
    return both | G | {"latent_dim": r.option("latent_dim", 100)}, both


def networks(r):
    G, D = options(r)
    return SpecGANGenerator(**G), SpecGANDiscriminator(**D)


def assign(net, record, prefix):
    """Set every variable of a network by its TF 1 name."""
    for v in net.variables:
        v.assign(record[prefix + v.path])


def build_gan(r):
    gan = SpecGAN(*networks(r), r.option("disc_nupdates", 5), seed=0)
    gan.compile(str(r["loss"]))
    for net in (gan.G, gan.D) if "checkpoint" not in r else ():
        assign(net, r, "init/")
    return gan


def by_scope(net, x, **kwargs):
    """(what each scope hands on after its activation, by name; the net's output)."""
    given, call = {}, keras.Sequential.call

    def spy(self, inputs, **kwargs):
        given[self.name] = inputs
        return call(self, inputs, **kwargs)

    with mock.patch.object(keras.Sequential, "call", spy):
        y = net(x, **kwargs)
    # What a scope hands on is what the next is given.
    return dict(zip(given, [*list(given.values())[1:], y], strict=True)), y


# Stages: each yields the checks of one record


def names(r):
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


def generator(r):
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


def discriminator(r):
    if "D" not in r:
        return
    lines = "specgan.py 118-178"
    _, D = networks(r)
    assign(D, r, "w/")
    x = tf.constant(r["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        layers, D_x = by_scope(D, x)
    if want := r.group("layer/D/"):
        off = [r.off(f"layer/D/{k}", layers[k]) for k in want]
        yield judge("discriminator", lines, "each layer", off, 5e-6, "rel")
    yield judge(
        "discriminator", lines, "D(x)", r.off("D", D_x), 5e-6
    )  # measured 1.3e-6
    # The mean: a pre-activation within rounding of zero may fall on either side.
    off = r.off("D_grad_x", tape.gradient(D_x, x))
    # measured 5e-7
    yield judge("discriminator", lines, "dD/dx", off, 5e-6, "mean rel")


def initial(r):
    """What tf.layers drew for each variable against what Keras draws, as often."""
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
        # Between draws there is variance too; of n values together it counts as well.
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
        # In standard errors of the difference, of a uniform distribution.
        means.append(abs(got[1] - want[1]) / (limit * np.sqrt(2 / 3 / n)))
        spread = limit**2 / 3 * np.sqrt(2 * 0.8 / n)
        variances.append(abs(got[2] - want[2]) / spread)
    yield judge("initial", lines, "biases, gammas, betas", constant, 0)
    # one in a million by chance: 14, 5, 5
    yield tally("initial", lines, "kernels, limit", max(limits), 14, "limit / n")
    yield tally("initial", lines, "kernels, mean", max(means), 5, "std errors")
    yield tally("initial", lines, "kernels, variance", max(variances), 5, "std errors")


def log_magnitude64(x):
    """Waveform [n, 16384] -> magnitudes and their logs [n, 128, 129], in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    x = np.pad(x.astype(np.float64), [[0, 0], [0, 256]])
    frames = np.stack([x[:, i * 128 : i * 128 + 256] for i in range(128)], 1)
    X_mag = np.abs(np.fft.rfft(frames * window))
    return X_mag, np.log(X_mag + 1e-6)


def analysis(r):
    """Near the log floor the rounding of a float32 FFT shows, ours and the reference's;
    ours must be no farther from float64 than the reference's."""
    stage, lines = "t_to_f", "train_specgan.py 31-45"
    mean, std = (r[k][:-1] for k in ("mean", "std"))
    X_mag, X_lmag = (X[:, :, :-1] for X in log_magnitude64(r["x"][:, :, 0]))
    exact = np.clip((X_lmag - mean) / std / 3, -1, 1)[..., np.newaxis]
    got = spectral.t_to_f(r["x"], r["mean"], r["std"]).numpy()
    theirs, off = errors(r["X_norm"], exact), errors(got, exact)
    for by in ("max", "mean"):
        yield judge(stage, lines, f"from float64, {by}", off, theirs[by], by)
    off = r.off("X_norm", got)
    yield judge(stage, lines, "X_norm", off, 2e-5, "mean")  # measured 7e-6
    linear = np.exp(got[..., 0] * 3 * std + mean) - 1e-6
    inside = np.abs(got[..., 0]) < 1
    off = np.abs(linear - X_mag)[inside].max() / X_mag.max()
    # measured 1e-6
    yield tally(stage, lines, "linear magnitude", off, 3e-6, "of the peak")


def synthesis(r):
    stage, lines = "f_to_t", "train_specgan.py 51-84"
    f_to_t = tf.function(lambda X, n: spectral.f_to_t(X, r["mean"], r["std"], n))
    for key in sorted(r.group("audio_ngl"), key=int):
        off = r.off(f"audio_ngl{key}", f_to_t(r["X_norm"], tf.constant(int(key))))
        # measured 1.4e-6, 1.6e-5, 1.8e-4
        bound = {"0": 5e-6, "1": 5e-5}.get(key, 5e-4)
        yield judge(stage, lines, f"{key} iterations", off, bound, "rel")
    off = r.off("audio_noise_ngl1", f_to_t(r["S"], tf.constant(1)))
    # measured 2.8e-5
    yield judge(stage, lines, "noise, 1 iteration", off, 1e-4, "rel")


def image(r):
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
def wav_files(r):
    """Paths of the record's files, written as 16 kHz WAV."""
    from scipy.io import wavfile

    with tempfile.TemporaryDirectory() as folder:
        fps = [os.path.join(folder, name) for name in r["names"]]
        for fp, name in zip(fps, r["names"], strict=True):
            wavfile.write(fp, 16000, r[f"file/{name}"])
        yield fps


def slices_of(fps, **kwargs):
    """All slices of these files in order, float32 [n, 16384, 1, 1]."""
    dataset = loader.decode_extract_and_batch(fps, 1, 16384, 16000, 1, **kwargs)
    return np.concatenate(list(dataset.as_numpy_iterator()))


def slices(r):
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


def data_moments(r):
    """Digital silence is at the log floor, where the reference's float32 FFT is off:
    ours must be no farther from float64 than the reference's."""
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


def resampling(r):
    """kaiser_best of librosa 0.6.2, rebuilt from its published parameters."""
    from scipy.io import wavfile

    lines, what = "loader.py 36", "22050 to 16000 Hz"
    if not importlib.util.find_spec("resampy"):
        yield tally("resampling", lines, what, math.nan, None, "needs resampy")
        return
    with tempfile.TemporaryDirectory() as folder:
        fp = os.path.join(folder, "rate22050.wav")
        wavfile.write(fp, 22050, r["file/rate22050"])
        got = loader.decode_audio(fp, 16000, resample="kaiser_best")
    # The largest in a handful of samples: resampy once added up its clock, and rounding
    # puts it on the other side of a whole sample there.
    off = r.off("decoded_rate22050", got.ravel())
    yield judge("resampling", lines, f"{what}, mean", off, 1e-6, "mean")  # 1e-7
    yield judge("resampling", lines, what, off, 3e-3, "rel")  # measured 9.7e-4


def real(r, i, n):
    """The n real batches of iteration i, [n, b, 128, 128, 1], from the audio."""
    wav = r["wav"][i * n : (i + 1) * n].astype(np.float32) / 32768
    flat = wav.reshape(-1, spectral.SLICE_LEN, 1)
    x = spectral.t_to_f(flat, r["mean"], r["std"]).numpy()
    return x.reshape(*wav.shape[:2], *x.shape[1:])


def alphas(r, i, n):
    return r["alpha"][i * n : (i + 1) * n].reshape(-1, r["z"].shape[1], 1, 1, 1)


def replaying(gan):
    """`train_step` on given draws: a function of (x, z, alpha) for each of its updates.

    It returns the loss of each update, and the gradients of D's first and of G's.
    """

    @tf.function
    def iteration(x, z, alpha):
        zs, alphas, losses, gradients = tf.unstack(z), tf.unstack(alpha), [], {}

        def keep(name, update):
            def kept(*args):
                values = update(*args)
                losses.append(values[name])
                return values

            return kept

        def spy(optimizer):
            def apply(grads, variables, original=optimizer.apply):
                for v, g in zip(variables, grads, strict=True):
                    gradients.setdefault(v.path, g)
                return original(grads, variables)

            return mock.patch.object(optimizer, "apply", apply)

        with (
            mock.patch.multiple(
                gan,
                draw_z=lambda n: zs.pop(0),
                draw_alpha=lambda x: alphas.pop(0),
                update_D=keep("D_loss", gan.update_D),
                update_G=keep("G_loss", gan.update_G),
            ),
            spy(gan.D_optimizer),
            spy(gan.G_optimizer),
        ):
            gan.train_step(x)
        return tf.stack(losses), gradients

    return iteration


def idle(gan):
    """Biases in front of a batch norm, by path: their true gradient is zero."""
    normed = {v.path.rpartition("/batch_norm")[0] for v in gan.G.variables}
    normed |= {v.path.rpartition("/batch_norm")[0] for v in gan.D.variables}
    convs = [v.path for v in gan.G.variables + gan.D.variables if "conv2d" in v.path]
    return {p for p in convs if p[-5:] == "/bias" and p.rsplit("/", 2)[0] in normed}


def training(r):
    """Losses, gradients by name, and whole 5:1 iterations on recorded draws."""
    gan, n = build_gan(r), r.option("disc_nupdates", 5)
    if "checkpoint" in r:  # one of ours, which the reference went on from
        checkpoint.restore(gan, str(r["checkpoint"]))
    if gan.loss_spec.penalty and gan.D.use_batchnorm:
        yield from deliberately_different(r, gan)
        return
    x = r.get("x")
    iteration, losses, gradients = replaying(gan), [], None
    for i in range(len(r["z"]) // (n + 1)):
        batches = real(r, i, n)
        if i == 0 and x is not None:
            # The first from the reference's own spectrogram: from the audio, the
            # rounding of its FFT (up to 0.03 from float64 near silence, ours 0.003)
            # moves dcgan's smallest gradient by 1.4e-2 and lsgan's loss by 3e-5.
            batches[0] = x
        z = r["z"][i * (n + 1) : (i + 1) * (n + 1)]
        some, first = iteration(batches, z, alphas(r, i, n))
        losses, gradients = [*losses, *some.numpy()], gradients or first
    if "checkpoint" not in r:
        yield from first_updates(r, gan, losses[0], gradients)
    yield from whole_iterations(r, gan, np.array(losses))


def first_updates(r, gan, loss, gradients):
    """D's loss before any update, its gradients, and those of G's first update."""
    lines = "train_specgan.py 273-276"
    if "x" in r:
        # Wasserstein losses are differences: relative to what is subtracted, if larger.
        logits = np.abs(build_gan(r).D(r["x"])).max()
        error = abs(loss - r["losses"][0]) / max(abs(r["losses"][0]), logits)
        # measured 5e-7; 1.1e-5 of networks of dim 2, whose G(z) with batch statistics
        # is as far off
        yield tally("losses", "train_specgan.py 181-236", "D_loss", error, 3e-5, "rel")
    for net, bound in ((gan.D, 2e-5), (gan.G, 3e-3)):
        if net is gan.D and "x" not in r:
            continue
        want = {v.path: r[f"grad/{v.path}"] for v in net.trainable_variables}
        off = [r.off(f"grad/{path}", gradients[path]) for path in want]
        if net.use_batchnorm:
            # Of the largest of all variables: the normalisation takes away most of a
            # bias's gradient, and all of it from the conv's in front of it.
            top = max(np.abs(w).max() for w in want.values())
            off = [o | {"rel": o["max"] / top} for o in off]
        # Where a pre-activation is within rounding of zero, the lrelu's slope is a toss
        # of a coin, there or here, and all gradients before it follow. The median knows
        # nothing of it.
        what = f"{net.name}'s gradients"
        median = float(np.median([o["rel"] for o in off]))
        # measured 4e-6 of D; 1.6e-3 (wgan-gp) of G, after five updates of D
        yield tally("gradients", lines, f"{what}, median", median, bound, "rel")
        # measured 1.3e-5 of D, 1.9e-3 after such a toss; 1.6e-3 of G
        yield judge("gradients", lines, f"{what}, worst", off, 2e-2, "rel")


def whole_iterations(r, gan, losses, since=0, stage="iterations"):
    """Losses on the way and the variables in the end, from update `since` on."""
    lines, dead = "train_specgan.py 285-295", idle(gan)
    want = r["losses"][since:]
    # Of the mean if that is larger: Wasserstein losses pass through zero.
    off = np.abs(losses - want) / np.maximum(np.abs(want), np.abs(want).mean())
    for who in "DG":
        median = np.median(off[r["order"][since:] == who])
        # measured 1e-4
        yield tally(stage, lines, f"{who}'s losses, median", median, 4e-4, "rel")
    # measured 3.3e-4, 8.4e-4 after a toss (see first_updates)
    yield tally(stage, lines, "losses, worst", off.max(), 4e-3, "rel")
    variables = [v for v in gan.G.variables + gan.D.variables if v.path not in dead]
    off = {v.path: r.off(f"final/{v.path}", v) for v in variables}
    averages = [off.pop(path) for path in [*off] if "/moving_" in path]
    if averages:
        # measured 4e-7; with Adam 4.9e-5: idle biases move on, by rounding's direction
        bound = 5e-6 if gan.loss_name in ("wgan", "lsgan") else 3e-4
        yield judge(stage, lines, "moving averages", averages, bound)
    if gan.loss_name in ("wgan", "lsgan"):
        # measured 9.3e-10; 1.5e-6, 5.7e-5 after a toss
        bound = {"wgan": 5e-9, "lsgan": 3e-4}[gan.loss_name]
        yield judge(stage, lines, f"variables, {gan.loss_name}", off.values(), bound)
        # and that is small beside how far they have moved
        for net in (gan.G, gan.D) if "checkpoint" not in r else ():
            paths = [v.path for v in net.variables if v.path in off]
            moved = max(r.off(f"init/{v.path}", v)["max"] for v in net.variables)
            error = max(off[path]["max"] for path in paths)
            # measured 2.6e-3, of D in lsgan, 2.6e-2 after a toss. In wgan, clipping
            # leaves G no gradient.
            what = f"{net.name}'s variables, of their movement"
            yield tally(stage, lines, what, error / (moved or 1.0), 0.1, "of movement")
    else:
        # The mean: with Adam an entry whose gradient is near zero takes steps of full
        # size, in either direction.
        mean = np.mean([o["mean"] for o in off.values()])
        worst = judge(stage, lines, "variables, Adam", off.values(), 1e-5)
        yield dataclasses.replace(worst, by="mean", error=mean)  # measured 3e-6
    yield counts(r, gan, stage)


def counts(r, gan, stage):
    """Updates so far: of G, which the reference counts, and of D."""
    steps = [gan.global_step, int(gan.D_optimizer.iterations)]
    step = int(r["final/global_step"])
    wrong = steps != [step, step * gan.disc_nupdates]
    return tally(stage, "train_specgan.py 274-275", "global_step", wrong)


def deliberately_different(r, gan):
    """Batch norm under the gradient penalty, where TF 1.12's second derivative is wrong
    and ours is not: the first loss agrees, updates cannot. Finite differences judge."""
    lines = "train_specgan.py 222-236"
    x = r["x"] if "x" in r else real(r, 0, 1)[0]
    z, alpha = r["z"][0], alphas(r, 0, 1)[0]
    with tf.GradientTape() as tape:
        value, _ = gan.D_loss(x, z, alpha)
    off = errors(float(value), r["losses"][0])
    # measured 1.2e-6
    yield judge("losses", lines, "D_loss, batch norm", off, 5e-6, "rel")
    if r.group("grad/"):
        D_vars = gan.D.trainable_variables
        grads = tape.gradient(value, D_vars)
        off = [
            r.off(f"grad/{v.path}", g)
            for v, g in zip(D_vars, grads, strict=True)
            if v.path not in idle(gan)
        ]
        what = "D's gradients, batch norm"
        yield judge("gradients", lines, what, off, None, "rel")
    rs = np.random.RandomState(0)
    directions = {v.path: rs.randn(*v.shape) for v in gan.D.trainable_variables}
    # At an lrelu's kink there is no derivative to compare.
    r = Record(r | {"smooth": True}, r.path)
    analytic, differences = slopes_along(r, x, z, alpha, directions, STEPS)
    yield agreement(analytic, differences)


STEPS = 1e-6, 1e-7


def smooth_lrelu(x, alpha=0.2):
    """An lrelu without a kink, for differences in float32: see original.derivative."""
    return alpha * x + (1.0 - alpha) * tf.nn.softplus(x)


def slopes_along(r, x, z, alpha, directions, steps):
    """D's loss along one direction per variable of D, in float64.

    Returns:
      (analytic [variables], central differences [steps, variables])
    """
    if not r.option("smooth", False):
        return _slopes_along(r, x, z, alpha, directions, steps)
    with mock.patch.object(specgan, "lrelu", smooth_lrelu):
        return _slopes_along(r, x, z, alpha, directions, steps)


def _slopes_along(r, x, z, alpha, directions, steps):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        gan = build_gan(r)
    finally:
        keras.config.set_dtype_policy(policy)
    x, z, alpha = (tf.constant(a, tf.float64) for a in (x, z, alpha))
    D_vars = gan.D.trainable_variables

    @tf.function
    def loss():
        return gan.D_loss(x, z, alpha)[0]

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            value = gan.D_loss(x, z, alpha)[0]
        return tape.gradient(value, D_vars)

    def loss_at(v, value):
        kept = v.numpy()
        v.assign(value)
        result = float(loss())
        v.assign(kept)
        return result

    analytic, differences = [], []
    for v, gradient in zip(D_vars, gradients(), strict=True):
        at, along = v.numpy(), directions[v.path]
        analytic.append(np.sum(gradient * along))
        differences.append(
            [
                (loss_at(v, at + eps * along) - loss_at(v, at - eps * along)) / 2 / eps
                for eps in steps
            ]
        )
    return np.array(analytic), np.array(differences).T


def agreement(analytic, differences):
    # The better of the steps: the lrelu has its kink within one now and then.
    off = np.abs(analytic - differences) / np.maximum(1.0, np.abs(analytic))
    what, error = "analytic - finite differences", off.min(axis=0).max()
    lines = "train_specgan.py 222-236"
    # measured 1.7e-7
    return tally("second derivatives", lines, what, error, 1e-5, "rel to 1")


def derivative(r):
    """The same for the reference: its difference agrees with ours, its gradient not."""
    stage, lines = "second derivatives", "train_specgan.py 222-236"
    alpha, along = r["alpha"].reshape(-1, 1, 1, 1), r.group("dir/")
    smooth = r.option("smooth", False)
    steps = *STEPS, float(r["eps"])
    analytic, differences = slopes_along(r, r["x"], r["z"], alpha, along, steps)
    *exact, coarse = differences
    yield agreement(analytic, np.array(exact))
    paths = [v.path for v in networks(r)[1].trainable_variables]
    for what, key, want, bound in (
        # At the same step, the error that comes of its size is the same; a float32 step
        # over kinks is a rough measure all the same.
        # measured 1e-3; 4.8e-2 where not smooth
        ("the reference's differences", "difference", coarse, 5e-3 if smooth else 0.1),
        ("the reference's gradients", "analytic", analytic, None),  # measured 17
    ):
        theirs = np.array([float(r[f"{key}/{path}"]) for path in paths])
        error = np.max(np.abs(theirs - want) / np.maximum(1.0, np.abs(want)))
        yield tally(stage, lines, what, error, bound, "rel to 1")


def saved(r):
    """A checkpoint that the reference's Saver wrote, restored here."""
    bn = int(r.option("batchnorm", False))
    folder = os.path.dirname(r.path)
    for name in (r.name, f"ckpt_{r['loss']}_bn{bn}"):
        if os.path.isdir(os.path.join(folder, name)):
            break
    else:
        return
    stage, lines = "checkpoints", "train_specgan.py 279-283"
    prefix = checkpoint.latest(os.path.join(folder, name))
    gan, n = build_gan(r), r.option("disc_nupdates", 5)
    checkpoint.restore(gan, prefix)
    theirs = checkpoint.reader(prefix)
    with tempfile.TemporaryDirectory() as d:
        ours = checkpoint.reader(checkpoint.save(gan, d))
        # Its momentum is 0: the slot is never used.
        keys = [k for k in theirs.get_variable_to_shape_map() if "RMSProp_1" not in k]
        off = [errors(ours.get_tensor(k), theirs.get_tensor(k)) for k in keys]
    # measured 6e-8: beta powers, which we compute and the reference multiplies up
    yield judge(stage, lines, "restored, and saved again", off, 1e-6, "rel")
    step = gan.global_step
    if step == int(r["final/global_step"]):
        off = [r.off(f"final/{v.path}", v) for v in gan.G.variables + gan.D.variables]
        yield judge(stage, lines, "restored, variables", off, 0)
        yield counts(r, gan, stage)
    elif not (gan.loss_spec.penalty and gan.D.use_batchnorm):
        iteration, losses = replaying(gan), []
        for i in range(step, len(r["z"]) // (n + 1)):
            z = r["z"][i * (n + 1) : (i + 1) * (n + 1)]
            losses += [*iteration(real(r, i, n), z, alphas(r, i, n))[0].numpy()]
        since = step * (n + 1)
        yield from whole_iterations(r, gan, np.array(losses), since, stage)


def draws(r):
    """z and alpha of training: uniform, by their quantiles."""
    gan = build_gan(r)
    z, alpha = (
        gan.draw_z(50000 // gan.G.latent_dim),
        gan.draw_alpha(tf.zeros([50000, 1])),
    )
    for what, got, low in (("z", z, -1), ("alpha", alpha, 0)):
        got = np.sort(np.ravel(got))
        off = errors(got, np.linspace(low, 1, got.size))
        # of 50,000 draws, beyond this once in 10,000 times
        yield judge("draws", "train_specgan.py 127, 226", what, off, 0.02)


def optimizer(r):
    variable = keras.Variable(r["v"])
    ours = LOSSES[str(r["loss"])].optimizer()
    for step, g in enumerate(r["g"], 1):
        ours.apply([tf.constant(g)], [variable])
        if f"step{step}" in r:
            off, what = r.off(f"step{step}", variable), f"{r['loss']}, {step} steps"
            # measured 0 and 6e-8
            yield judge("optimizers", "train_specgan.py 243-276", what, off, 1e-6)


def inference(r):
    """The inference graph's named tensors, from weights and latents to samples."""
    stage, lines = "inference", "train_specgan.py 327-363"
    G, _ = networks(r)
    assign(G, r, "w/")
    module = export.SpecGANModule(G, moments.Moments(r["mean"], r["std"]))
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
    # measured 9e-6; 7.9e-4: Griffin-Lim enlarges rounding, step by step
    for key, bound in (("G_z_norm", 3e-5), ("G_z", 5e-3), ("G_z_flat", 5e-3)):
        if key in r:
            yield judge(stage, lines, key, r.off(key, got[key]), bound, "rel")
    # measured 1, 1.1e-3: a value within rounding of a whole number falls on either side
    off = r.off("G_z_norm_uint8", got["G_z_norm_uint8"])
    yield judge(stage, lines, "G_z_norm_uint8, steps", off, 1)
    yield judge(stage, lines, "G_z_norm_uint8, mean", off, 0.02, "mean")
    for key in ("G_z_int16", "G_z_flat_int16"):
        bound = 1 + 5e-3 * 32767 * np.abs(r["G_z"]).max()  # and what G_z may be off
        yield judge(stage, lines, f"{key}, steps", r.off(key, got[key]), bound)
    # From the reference's own samples: the same.
    off = errors(spectral.float_to_int16(r["G_z"]), r["G_z_int16"])
    yield judge("int16", "train_specgan.py 356-361", "from the same samples", off, 0)


STAGES = {
    "model": (names, generator, discriminator),
    "init": (initial,),
    "spectral": (analysis, synthesis, image),
    "infer": (inference,),
    "data": (slices, data_moments, resampling),
    "optimizer": (optimizer,),
    "train": (draws, training, saved),
    "derivative": (derivative,),
}


TRIES, NUDGED = 8, ("model", "train")


def nudged(r, number):
    """The record, what goes into its networks moved by one rounding, up or down.

    Where a pre-activation is within rounding of zero, the slope of the lrelu or relu is
    a toss of a coin, in the reference as here, and every gradient before it follows. An
    error of ours stays when that coin is tossed again; a toss does not.
    """
    if number == 0:
        return r
    rs, moved = np.random.RandomState(number), Record(r, r.path)
    for key in [k for k in ("mean", "x", "z") if k in r]:
        towards = rs.choice([-np.inf, np.inf], r[key].shape)
        moved[key] = np.nextafter(r[key], towards.astype(r[key].dtype))
    return moved


def run(records, tries=TRIES):
    """Every check of every record, as it is made.

    A stage of which a check fails is tried again, up to `tries` in all, each time
    `nudged` otherwise. The first try without a failure counts; if there is none, the
    first.
    """
    for record in records:
        if record.kind not in STAGES:
            raise InputError(
                f"{record.path} is of kind {record.kind}, not {', '.join(STAGES)}"
            )
        for stage in STAGES[record.kind]:
            first = None
            for number in range(tries if record.kind in NUDGED else 1):
                checks = list(stage(nudged(record, number)))
                if all(c.verdict != "FAIL" for c in checks):
                    break
                first = first or checks
            else:
                checks, number = first, 0
            for check in checks:
                yield dataclasses.replace(check, record=record.name, nudges=number)


def load(folder):
    """The records in a folder, in the order of the stages, one at a time."""
    if not os.path.isdir(folder):
        raise InputError(f"no goldens at {folder}: name their folder with --goldens")
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "*.npz")))
    if not paths:
        raise InputError(f"{folder} holds no records (*.npz)")
    kinds = list(STAGES)

    def order(path):
        kind = os.path.basename(path).removesuffix(".npz").partition("_")[0]
        return kinds.index(kind) if kind in kinds else len(kinds)

    return map(Record.read, sorted(paths, key=order))


# Records of one's own, computed by a checkout of the reference


@dataclasses.dataclass(frozen=True)
class Cell:
    """One way to configure the reference."""

    kernel_len: int
    dim: int
    batchnorm: bool
    upsample: str
    latent_dim: int
    loss: str

    @property
    def network(self):
        return (
            f"k{self.kernel_len}_dim{self.dim}_bn{int(self.batchnorm)}_{self.upsample}"
        )


def every_cell(cell):
    """{4 losses} x {batch norm or not} x {4 ways to upsample} x {4 kernels}."""
    return [
        dataclasses.replace(cell, loss=loss, batchnorm=bn, upsample=up, kernel_len=k)
        for k, bn, up, loss in itertools.product(
            (3, 4, 5, 7), (False, True), UPSAMPLES, LOSSES
        )
    ]


def weights(cell, rs):
    """Values for every variable of G and D, by path: no bias zero, no gamma one."""
    values = {}
    for v in (v for net in networks(Record(vars(cell), "")) for v in net.variables):
        noise = rs.uniform(-1, 1, v.shape)
        if v.name == "kernel":
            *area, fan_in, fan_out = v.shape
            noise *= np.sqrt(6 / (np.prod(area) * (fan_in + fan_out)))
        else:
            noise = 0.1 * noise + (v.name in ("gamma", "moving_variance"))
        values[v.path] = noise.astype(np.float32)
    return values


def bursts(shape, rs):
    """Waveforms int16 [..., 16384]: noise that dies away, into silence for some."""
    t = np.arange(spectral.SLICE_LEN) / spectral.SLICE_LEN
    decay = np.exp(-t * rs.uniform(10, 60, [*shape, 1]))
    noise = rs.uniform(-1, 1, [*shape, spectral.SLICE_LEN]) * decay
    return (noise * 78).astype("i2") * np.int16(256)  # of eight bits, to pack well


def inputs(cells, seed, folder, b=3):
    """Records without results, batches of b: yields (name, arrays).

    `folder` is where those go that come with a checkpoint of ours.
    """
    rs = np.random.RandomState(seed)
    iterations, n = 3, 5
    wav = bursts([iterations * n, b], rs)
    audio = wav.reshape(-1, spectral.SLICE_LEN).astype(np.float32) / 32768
    mean, std, _ = moments.moments([audio])
    scale = {"mean": mean, "std": std}
    spectrograms = (rs.randint(-64, 65, [b, 128, 128, 1]) / 64).astype("f4")

    x = audio[:b, :, np.newaxis]
    yield "spectral", {**scale, "x": x, "S": spectrograms, "ngl": [0, 1, 16]}
    files = {
        "a_long.wav": bursts([3], rs).ravel()[:40000],
        "b_short.wav": bursts([], rs)[:5000],
        "c_float.wav": bursts([2], rs).ravel()[:20000].astype("f4") / 32768,
        "d_stereo.wav": bursts([2], rs).T,
        "e_silence.wav": np.zeros(3000, "i2"),
        "rate22050": bursts([2], rs).ravel()[:30000],
    }
    names = [name for name in files if name.endswith(".wav")]
    files = {f"file/{name}": samples for name, samples in files.items()}
    yield "data", {**files, "names": names, "random_offset": 1234}
    for loss in dict.fromkeys(cell.loss for cell in cells):
        v = rs.uniform(-0.1, 0.1, 500).astype("f4")
        # Gradients down to where Adam's epsilon counts.
        g = (10.0 ** rs.uniform(-9, 0, 500) * rs.randn(50, 500)).astype("f4")
        yield f"optimizer_{loss}", {"loss": loss, "v": v, "g": g}

    network, resumed = None, set()
    for cell in cells:
        flags = vars(cell)
        z = rs.uniform(-1, 1, [iterations * (n + 1), b, cell.latent_dim]).astype("f4")
        if cell.network != network:
            network, values = cell.network, weights(cell, rs)
            w = {f"w/{k}": v for k, v in values.items()}
            yield f"model_{network}", {**flags, **w, "z": z[0], "x": spectrograms}
            yield f"init_{network}", {**flags, "draws": 20}
            # Livelier than at the start of a training, whose spectrograms are grey:
            # there Griffin-Lim makes noise of rounding.
            w = {k: v * np.float32(1.3) for k, v in w.items() if k.startswith("w/G/")}
            n_z = 50000 // cell.latent_dim
            given = {"z": z[0], "ngl": 1, "flat_pad": 100, "samp_z_n": n_z}
            yield f"infer_{network}", {**flags, **w, **scale, **given}
        init = {f"init/{k}": v for k, v in values.items()}
        alpha = rs.uniform(size=[iterations * n, b, 1, 1, 1]).astype("f4")
        drawn = {
            **flags,
            **scale,
            "disc_nupdates": n,
            "wav": wav,
            "z": z,
            "alpha": alpha,
        }
        name = f"{cell.loss}_{network}"
        # What a checkpoint holds depends on these two alone.
        first = (cell.loss, cell.batchnorm) not in resumed
        resumed.add((cell.loss, cell.batchnorm))
        yield f"train_{name}", {**drawn, **init, **({"save_at": 1} if first else {})}
        if not first:
            continue
        if cell.batchnorm and cell.loss == "wgan-gp":
            D = {k: v for k, v in values.items() if k[0] == "D" and "moving" not in k}
            signs = {k: rs.choice([-1.0, 1.0], v.shape) for k, v in D.items()}
            along = {f"dir/{k}": v / np.sqrt(v.size) for k, v in signs.items()}
            given = {"x": spectrograms, "z": z[0], "alpha": alpha[0]}
            given |= {"eps": 1e-2, "smooth": True}
            yield f"derivative_{name}", {**flags, **init, **along, **given}
        else:
            r = Record({**drawn, **init}, f"{folder}/train_resumed_{name}")
            yield r.name, {**drawn, "checkpoint": own_checkpoint(r)}


def own_checkpoint(r):
    """Train one iteration here and save; the checkpoint's prefix."""
    gan = build_gan(r)
    n = gan.disc_nupdates
    replaying(gan)(real(r, 0, n), r["z"][: n + 1], alphas(r, 0, n))
    os.makedirs(r.path)
    return checkpoint.save(gan, r.path)


def compute(original, python, records, folder):
    """Have the reference compute on records of inputs; the folder of what it returns.

    records: (name, arrays) of each, written to the folder `in` in `folder`.

    Raises:
      InputError: no checkout, no such Python, no TensorFlow 1 in it, or a failure in
        the reference, by record.
    """
    for name in ("specgan.py", "train_specgan.py", "loader.py"):
        if not os.path.isfile(os.path.join(original, name)):
            raise InputError(
                f"{original} is not a checkout of wavegan: it lacks {name}"
            )
    given, computed = os.path.join(folder, "in"), os.path.join(folder, "out")
    os.makedirs(given)
    os.makedirs(computed)
    for name, arrays in records:
        np.savez(os.path.join(given, f"{name}.npz"), **arrays)
    count = len(glob.glob(os.path.join(glob.escape(given), "*.npz")))

    script = os.path.join(HERE, "original.py")
    command = [python, script, os.path.abspath(original), given, computed]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=err, env=clean, text=True
            )
        except OSError as e:
            raise InputError(f"{python} cannot be run: {e.strerror}") from None
        with process:
            for i, line in enumerate(process.stdout, 1):
                print(f"reference: {line.rstrip()} ({i} of {count})", file=sys.stderr)
        err.seek(0)
        said = err.read().strip()
    if process.returncode:
        if process.returncode != 2:
            print(said, file=sys.stderr)
        last = said.splitlines()[-2:] or [f"status {process.returncode}"]
        raise InputError(f"the reference failed: {'; '.join(reversed(last))}")
    return computed


def check_commit(original):
    """A warning where the checkout is known to be of another commit."""
    git = ["git", "-C", original, "rev-parse", "HEAD"]
    try:
        said = subprocess.run(git, capture_output=True, text=True)
    except OSError:  # no git
        return
    if said.returncode == 0 and not said.stdout.startswith(COMMIT):
        print(
            f"warning: {original} is at {said.stdout[:7]}, not {COMMIT}",
            file=sys.stderr,
        )


# The command


def rows(checks):
    """A table's head, and a row for each comparison: the worst of all records."""
    groups = {}
    for c in checks:
        groups.setdefault((c.stage, c.lines, c.what), []).append(c)
    heads = "stage", "reference", "compared", "of", "max abs", "max rel"
    yield *heads, "judged", "error", "bound", "verdict"
    for (stage, where, what), group in groups.items():
        worst = max(group, key=lambda c: (c.verdict == "FAIL", _share(c)))
        absolute, relative = (
            max(
                (getattr(c, k) for c in group if getattr(c, k) is not None),
                default=None,
            )
            for k in ("absolute", "relative")
        )
        numbers = [_short(n) for n in (absolute, relative)]
        judged = worst.by, _short(worst.error), _short(worst.bound), worst.verdict
        yield stage, where, what, str(len(group)), *numbers, *judged


def table(checks):
    """`rows` as lines of text."""
    lines = list(rows(checks))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = {3, 4, 5, 7, 8}
    for line in lines:
        cells = (
            text.rjust(w) if i in right else text.ljust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _share(c):
    """How much of its bound an error takes up."""
    return c.error / c.bound if c.bound else c.error


def _short(number):
    return "-" if number is None or math.isnan(number) else f"{number:.2g}"


def write_json(path, checks, reference):
    def plain(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    rows = [
        {k: plain(v) for k, v in (vars(c) | {"verdict": c.verdict}).items()}
        for c in checks
    ]
    ours = {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    content = {"versions": ours, "reference": reference, "checks": rows}
    try:
        with replacing(path, "w") as f:
            json.dump(content, f, indent=1)
            f.write("\n")
    except OSError as e:
        raise InputError(f"{path} cannot be written: {e.strerror}") from None


def share(text):
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        i, n = 0, 0
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"must be I/N, as 1/2. Received: {text!r}")
    return i, n


def parse(argv):
    p = argparse.ArgumentParser(
        prog="python -m specgan_tf.crosscheck",
        description="Compare this package with the reference, stage by stage.",
    )
    p.add_argument("--goldens", help="folder of records to replay", default=GOLDENS)
    p.add_argument("--json", help="file for every check, and versions")
    live = p.add_argument_group("with the reference itself")
    live.add_argument("--original", help="a checkout of chrisdonahue/wavegan 40e85e8")
    live.add_argument(
        "--python", help="a Python with TensorFlow 1.12 and librosa 0.6.2"
    )
    live.add_argument(
        "--all",
        action="store_true",
        help="the matrix: losses, batch norm, upsampling, kernels 3 to 7",
    )
    live.add_argument(
        "--share",
        type=share,
        default=(1, 1),
        help="1/2 or 2/2 of the matrix: for two processes side by side",
    )
    live.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    live.add_argument("--dim", type=int, default=2)
    live.add_argument("--kernel_len", type=int, default=5)
    live.add_argument("--latent_dim", type=int, default=100)
    live.add_argument(
        "--batchnorm", action=argparse.BooleanOptionalAction, default=False
    )
    live.add_argument("--upsample", choices=UPSAMPLES, default="zeros")
    live.add_argument("--loss", choices=LOSSES, default="wgan-gp")
    args = p.parse_args(argv)
    if bool(args.original) != bool(args.python):
        p.error("--original and --python go together")
    if args.all and not args.original:
        p.error("--all needs --original and --python")
    return args


def main(argv=None):
    """Check what the flags say, print it; the exit status."""
    args = parse(argv)
    tf.get_logger().setLevel("ERROR")  # one function per record is as it should be
    try:
        with tempfile.TemporaryDirectory(prefix="crosscheck-") as folder:
            return check_all(args, folder)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


def check_all(args, folder):
    records, reference = args.goldens, {"commit": COMMIT}
    if args.original:
        check_commit(args.original)
        fields = [field.name for field in dataclasses.fields(Cell)]
        cell = Cell(**{name: getattr(args, name) for name in fields})
        cells = every_cell(cell) if args.all else [cell]
        share, shares = args.share
        cells = cells[len(cells) * (share - 1) // shares : len(cells) * share // shares]
        records = inputs(cells, args.seed, os.path.join(folder, "in"))
        records = compute(args.original, args.python, records, folder)
        with open(os.path.join(records, "versions.json")) as f:
            reference |= json.load(f)
    checks = []
    for check in run(load(records)):
        checks.append(check)
        if check.verdict == "FAIL":
            where = f"{check.record}: {check.stage}, {check.what}"
            print(f"falls short: {where}", file=sys.stderr)
    print("\n".join(table(checks)))
    if args.json:
        write_json(args.json, checks, reference)
    failed = sum(c.verdict == "FAIL" for c in checks)
    count = len({c.record for c in checks})
    print(f"{len(checks)} checks of {count} records, {failed} fall short of the bound")
    if nudges := {c.record for c in checks if c.nudges}:
        print("Agreed after a nudge of the inputs by a rounding:", ", ".join(nudges))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
