"""The reference's records against the port; and that a wrong port is found out."""

import functools
import glob
import itertools
import json
import os
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import FULL, REDUCED, ROOT, note

from specgan_tf import (
    crosscheck,
    gan,
    generate,
    kernels,
    losses,
    moments,
    specgan,
    spectral,
    tf1,
)

PYTHON = os.environ.get("SPECGAN_REFERENCE_PYTHON")
ORIGINAL = os.environ.get("SPECGAN_ORIGINAL")


def records(folder):
    paths = sorted(glob.glob(os.path.join(folder, "*.npz")))
    return [os.path.splitext(os.path.basename(path))[0] for path in paths]


def checks_of(name, folder=REDUCED, tries=1):
    record = crosscheck.Record.read(os.path.join(folder, f"{name}.npz"))
    return list(crosscheck.run([record], tries))


def fallen(name, stage=""):
    """Which checks of a reduced golden fall short."""
    checks = checks_of(name)
    assert checks
    return [c.what for c in checks if c.verdict == "FAIL" and stage in c.stage]


GOLDENS = [
    pytest.param(REDUCED, name, id=f"reduced-{name}") for name in records(REDUCED)
]
GOLDENS += [pytest.param(FULL, name, id=f"full-{name}") for name in records(FULL)]
if not os.path.isdir(FULL):
    skip = pytest.mark.skip(reason="the shared data folder is not on this machine")
    GOLDENS.append(pytest.param(FULL, "all", id="full", marks=skip))


# Of the goldens none has a pre-activation within rounding of the lrelu's kink, and
# their spectrograms are not as loud: less is needed than for records of any seed.
TIGHTER = {
    "D_loss": 3e-6,  # measured 5e-7
    "D's gradients, worst": 2e-5,  # measured 1.3e-5
    "G's gradients, worst": 3e-3,  # measured 9.5e-4
    "losses, worst": 4e-4,  # measured 1e-4
    "variables, lsgan": 2e-6,  # measured 1.5e-6
    "variables, wgan": 1e-9,  # measured 2.3e-10
    "D's variables, of their movement": 1e-2,  # measured 1.5e-3
    "G_z_norm": 2e-6,  # measured 3.6e-7
    "G_z": 5e-4,  # measured 2.2e-4
    "G_z_int16, steps": 1,
    "G_z_flat_int16, steps": 1,
}


@pytest.mark.parametrize("folder, name", GOLDENS)
def test_golden(request, folder, name):
    checks = checks_of(name, folder, crosscheck.TRIES)
    assert checks
    for c in checks:
        if c.bound is not None:
            c.bound = min(c.bound, TIGHTER.get(c.what, c.bound))
            what = f"{c.stage}, {c.what}, {c.by}"
            note(request, what, c.error, c.bound)
    assert not [vars(c) for c in checks if c.verdict == "FAIL"]


def test_a_toss_is_tried_again_and_an_error_stays(monkeypatch):
    """What a nudge of the inputs removes is rounding; what it does not is ours."""
    record = crosscheck.Record.read(os.path.join(REDUCED, "train_lsgan_bn0_zeros.npz"))
    tosses = iter([2.0, 2.0, 0.5, 2.0])
    seen = []

    def stage(r):
        seen.append(r)
        yield crosscheck.tally("toss", "-", "x", next(tosses), 1.0)
        yield crosscheck.tally("error", "-", "y", 3.0 - wrong, 1.0)

    monkeypatch.setitem(crosscheck.STAGES, "train", (stage,))
    wrong = 3.0
    checks = list(crosscheck.run([record]))
    assert [(c.error, c.nudges, c.verdict) for c in checks] == [
        (0.5, 2, "ok"),
        (0.0, 2, "ok"),
    ]
    assert seen[0] is record
    for moved in seen[1:]:
        off = np.abs(moved["z"] - record["z"])
        assert 0 < off.max() <= 2**-24 and (off > 0).all()
        np.testing.assert_array_equal(moved["losses"], record["losses"])
    assert (seen[1]["z"] != seen[2]["z"]).any()

    wrong, tosses = 0.0, itertools.repeat(0.5)
    checks = list(crosscheck.run([record]))
    assert [(c.nudges, c.verdict) for c in checks] == [(0, "ok"), (0, "FAIL")]
    assert len(seen) == 3 + crosscheck.TRIES


def test_every_stage_has_a_golden():
    kinds = {
        crosscheck.Record.read(os.path.join(REDUCED, f"{name}.npz")).kind
        for name in records(REDUCED)
    }
    assert kinds == crosscheck.STAGES.keys()


# Errors in the port, each of which must make a check fall short


def swap_two_taps(monkeypatch):
    class Swapped(kernels.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, tf.gather(kernel, [1, 0, 2, 3, 4]))

    monkeypatch.setattr(kernels, "Conv2D", Swapped)


def normal_z(monkeypatch):
    def sample_z(n, latent_dim, seed):
        return tf.random.stateless_normal([n, latent_dim], [seed, 0])

    monkeypatch.setattr(generate, "sample_z", sample_z)


def normal_z_in_training(monkeypatch):
    def draw_z(self, n):
        return keras.random.normal((n, self.G.latent_dim), seed=self.seed_generator)

    monkeypatch.setattr(gan.SpecGAN, "draw_z", draw_z)


def initial_kernels(monkeypatch):
    """Keras' own glorot_normal in place of glorot_uniform."""
    for where, name in ((kernels, "Conv2D"), (keras.layers, "Dense")):
        layer = functools.partial(
            getattr(where, name), kernel_initializer="glorot_normal"
        )
        monkeypatch.setattr(where, name, layer)


def adams_epsilon(monkeypatch):
    monkeypatch.setattr(tf1, "Adam", keras.optimizers.Adam)


def mean_square_from_zero(monkeypatch):
    class Zero(tf1.RMSProp):
        def build(self, var_list):
            keras.optimizers.RMSprop.build(self, var_list)

    monkeypatch.setattr(tf1, "RMSProp", Zero)


def half_pixels(method, monkeypatch):
    def resize(x, size):
        return tf.image.resize(x, size, method)

    name = {"bilinear": "lin", "bicubic": "cub"}[method]
    monkeypatch.setitem(specgan.UPSAMPLES, name, resize)


def symmetric_hann(monkeypatch):
    window = functools.partial(tf.signal.hann_window, periodic=False)
    stft = functools.partial(tf.signal.stft, window_fn=window)
    monkeypatch.setattr(tf.signal, "stft", stft)
    monkeypatch.setattr(moments, "HANN", window(256).numpy())
    monkeypatch.setitem(spectral.GL_WINDOWS, "hann", window)


def one_batch_for_five_updates(monkeypatch):
    train_step = gan.SpecGAN.train_step
    monkeypatch.setattr(
        gan.SpecGAN, "train_step", lambda self, x: train_step(self, x * 0 + x[:1])
    )


def biased_moving_variance(monkeypatch):
    def move(self, mean, variance, count):
        self.moving_mean.assign_sub((self.moving_mean - mean) * 0.01)
        self.moving_variance.assign_sub((self.moving_variance - variance) * 0.01)

    monkeypatch.setattr(tf1.BatchNormalization, "_move_averages", move)


def averages_only_in_gs_update(monkeypatch):
    def D_loss(self, x, z, alpha, D_loss=gan.SpecGAN.D_loss):
        kept = [tf.identity(v) for v in self.G.non_trainable_variables]
        result = D_loss(self, x, z, alpha)
        for v, value in zip(self.G.non_trainable_variables, kept, strict=True):
            v.assign(value)
        return result

    monkeypatch.setattr(gan.SpecGAN, "D_loss", D_loss)


def nyquist_kept_and_dc_dropped(monkeypatch):
    def log_magnitude(*args, original=spectral.log_magnitude):
        return tf.roll(original(*args), -1, axis=2)

    monkeypatch.setattr(spectral, "log_magnitude", log_magnitude)


def nyquist_silent(monkeypatch):
    def invert(X_mag, *args, original=spectral.invert_spectra_griffin_lim):
        silent = tf.concat([X_mag[..., :-1], X_mag[..., -1:] * 0], -1)
        return original(silent, *args)

    monkeypatch.setattr(spectral, "invert_spectra_griffin_lim", invert)


def int16_rounded(monkeypatch):
    def float_to_int16(x):
        x = tf.round(tf.clip_by_value(x * 32767.0, -32767.0, 32767.0))
        return tf.cast(x, tf.int16)

    monkeypatch.setattr(spectral, "float_to_int16", float_to_int16)


def int16_of_32768(monkeypatch):
    def float_to_int16(x):
        return tf.cast(tf.clip_by_value(x * 32768.0, -32768.0, 32767.0), tf.int16)

    monkeypatch.setattr(spectral, "float_to_int16", float_to_int16)


def loss_not_halved(loss, monkeypatch):
    right = losses.LOSSES[loss]
    wrong = losses.Loss(lambda *D: 2 * right.D(*D), right.G, right.optimizer)
    monkeypatch.setitem(losses.LOSSES, loss, wrong)


def stale_z(monkeypatch):
    """G is updated on the latents of D's last update."""
    update_D, update_G = gan.SpecGAN.update_D, gan.SpecGAN.update_G
    last = []

    def remember(self, x, z, alpha):
        last[:] = [z]
        return update_D(self, x, z, alpha)

    monkeypatch.setattr(gan.SpecGAN, "update_D", remember)
    monkeypatch.setattr(gan.SpecGAN, "update_G", lambda self, z: update_G(self, *last))


def no_clipping(monkeypatch):
    right = losses.LOSSES["wgan"]
    wrong = losses.Loss(right.D, right.G, right.optimizer)
    monkeypatch.setitem(losses.LOSSES, "wgan", wrong)


def stopped_gradients_in_batch_norm(monkeypatch):
    """tf.nn.moments, as in Keras' own layer: wrong second derivatives."""

    def call(self, x, training=False):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return x * scale + (self.beta - mean * scale)

    monkeypatch.setattr(tf1.BatchNormalization, "call", call)


def with_(error, argument):
    named = functools.partial(error, argument)
    named.__name__ = f"{error.__name__}-{argument}"
    return named


ERRORS = [
    (swap_two_taps, "model_k5_dim2_bn0_zeros", "discriminator"),
    (normal_z, "infer", "inference"),
    (normal_z_in_training, "train_wgan_bn0_zeros", "draws"),
    (initial_kernels, "init_small", "initial"),
    (adams_epsilon, "optimizer_wgan-gp", "optimizers"),
    (adams_epsilon, "optimizer_dcgan", "optimizers"),
    (mean_square_from_zero, "optimizer_lsgan", "optimizers"),
    (mean_square_from_zero, "train_lsgan_bn0_zeros", "iterations"),
    (with_(half_pixels, "bilinear"), "model_k5_dim2_bn0_lin", "generator"),
    (with_(half_pixels, "bicubic"), "model_k5_dim2_bn0_cub", "generator"),
    (symmetric_hann, "spectral", "t_to_f"),
    (symmetric_hann, "spectral", "f_to_t"),
    (symmetric_hann, "data", "moments"),
    (one_batch_for_five_updates, "train_lsgan_bn0_zeros", "iterations"),
    (one_batch_for_five_updates, "continue_wgan-gp", "checkpoints"),
    (biased_moving_variance, "model_k5_dim2_bn1_nn", "generator"),
    (averages_only_in_gs_update, "continue_lsgan", "iterations"),
    (nyquist_kept_and_dc_dropped, "spectral", "t_to_f"),
    (nyquist_silent, "spectral", "f_to_t"),
    (int16_rounded, "infer", "int16"),
    (int16_of_32768, "infer", "int16"),
    (with_(loss_not_halved, "lsgan"), "train_lsgan_bn0_zeros", "losses"),
    (with_(loss_not_halved, "dcgan"), "train_dcgan_bn0_zeros", "gradients"),
    (stale_z, "train_lsgan_bn0_zeros", "gradients"),
    (stale_z, "continue_lsgan", "checkpoints"),
    (no_clipping, "train_wgan_bn0_zeros", "iterations"),
    (stopped_gradients_in_batch_norm, "derivative_small", "second derivatives"),
]


@pytest.mark.parametrize(
    "error, name, stage",
    [pytest.param(*e, id=f"{e[0].__name__}-{e[1]}-{e[2]}") for e in ERRORS],
)
def test_an_error_is_found_out(monkeypatch, error, name, stage):
    error(monkeypatch)
    assert fallen(name, stage)


# The command line


@pytest.fixture
def few(tmp_path):
    """A folder of one quick record."""
    folder = tmp_path / "records"
    folder.mkdir()
    os.symlink(
        os.path.join(REDUCED, "optimizer_lsgan.npz"), folder / "optimizer_lsgan.npz"
    )
    return folder


def test_prints_a_table_and_writes_json(few, tmp_path, capsys):
    fp = tmp_path / "result.json"
    fp.write_text("old")
    assert crosscheck.main(["--goldens", str(few), "--json", str(fp)]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["stage", "reference", "compared"]
    assert len(rows) == 2 and all(row.endswith("  ok") for row in rows)
    assert "train_specgan.py 243-276" in rows[0] and "lsgan, 1 steps" in rows[0]
    assert last == "2 checks of 1 records, 0 fall short of the bound"
    result = json.loads(fp.read_text())
    assert result["versions"]["tensorflow"] == tf.__version__
    assert result["reference"] == {"commit": "40e85e8"}
    assert [c["what"] for c in result["checks"]] == [
        "lsgan, 1 steps",
        "lsgan, 50 steps",
    ]
    for c in result["checks"]:
        assert c["record"] == "optimizer_lsgan" and c["verdict"] == "ok"
        assert 0 <= c["error"] <= c["bound"]


def test_status_1_if_a_check_falls_short(few, monkeypatch, capsys):
    mean_square_from_zero(monkeypatch)
    assert crosscheck.main(["--goldens", str(few)]) == 1
    said = capsys.readouterr()
    assert "FAIL" in said.out and "2 fall short" in said.out
    assert "falls short: optimizer_lsgan: optimizers, lsgan, 50 steps" in said.err


def test_worst_of_several_records_is_shown():
    def check(error, record):
        c = crosscheck.tally("a stage", "loader.py 9", "a value", error, bound=2)
        c.record = record
        return c

    _, row = crosscheck.table([check(1, "a"), check(float("nan"), "b"), check(2, "c")])
    assert row.split()[-1] == "FAIL"
    _, row = crosscheck.table([check(1, "a"), check(2, "c")])
    assert row.split()[-4:] == ["unequal", "2", "2", "ok"]
    assert crosscheck.tally("", "", "", 5, bound=None).verdict == "differs"


def stand_in(tmp_path, body):
    """A file in the place of the Python with TensorFlow 1."""
    fp = tmp_path / "python"
    fp.write_text(f"#!/bin/sh\n{body}\n")
    fp.chmod(0o755)
    return str(fp)


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "wavegan"
    folder.mkdir()
    for name in ("specgan.py", "train_specgan.py", "loader.py"):
        (folder / name).write_text("")
    return folder


LIVE = ["--dim", "1", "--kernel_len", "3", "--latent_dim", "2", "--loss", "wgan"]


@pytest.mark.parametrize(
    "body, message",
    [
        ("echo 'x has no TensorFlow 1' >&2; exit 2", "failed: x has no TensorFlow 1"),
        ("echo 'ValueError: no' >&2; echo 'data.npz failed' >&2; exit 1",
         "failed: data.npz failed; ValueError: no"),
        ("exit 7", "failed: status 7"),
    ],
)  # fmt: skip
def test_a_failing_reference_is_said(tmp_path, checkout, capsys, body, message):
    args = ["--original", str(checkout), "--python", stand_in(tmp_path, body), *LIVE]
    assert crosscheck.main(args) == 2
    assert f"error: the reference {message}" in capsys.readouterr().err.splitlines()[-1]


def test_user_errors_are_one_line(tmp_path, few, checkout, capsys):
    def error(*args):
        assert crosscheck.main([str(a) for a in args]) == 2
        said = capsys.readouterr().err.splitlines()
        return [line for line in said if line.startswith("error: ")][-1]

    assert "no goldens at nowhere: name their folder" in error("--goldens", "nowhere")
    assert "holds no records" in error("--goldens", checkout)
    live = ("--python", "nowhere/python", *LIVE)
    assert "is not a checkout of wavegan" in error("--original", tmp_path, *live)
    assert "nowhere/python cannot be run" in error("--original", checkout, *live)
    here = tmp_path / "nowhere" / "x.json"
    assert "cannot be written" in error("--goldens", few, "--json", here)
    (few / "model_x.npz").write_bytes(b"nonsense")
    assert "model_x.npz is not a record" in error("--goldens", few)
    np.savez(few / "model_x.npz", z=np.zeros(3))
    assert "model_x.npz lacks w/" in error("--goldens", few)
    os.rename(few / "model_x.npz", few / "other_x.npz")
    assert "other_x.npz is of kind other, not model, " in error("--goldens", few)


@pytest.mark.parametrize("args", [["--original", "x"], ["--python", "x"], ["--all"]])
def test_what_goes_together(args, capsys):
    with pytest.raises(SystemExit) as e:
        crosscheck.main(args)
    assert e.value.code == 2 and "--original and --python" in capsys.readouterr().err


def test_another_commit_is_warned_of(tmp_path, capsys):
    crosscheck.check_commit(str(tmp_path))  # not under git: nothing to say
    assert not capsys.readouterr().err
    crosscheck.check_commit(ROOT)
    assert "not 40e85e8" in capsys.readouterr().err


def test_the_matrix():
    cell = crosscheck.Cell(5, 1, False, "zeros", 10, "wgan")
    cells = crosscheck.every_cell(cell)
    assert len(set(cells)) == len(cells) == 4 * 2 * 4 * 4
    assert len({c.network for c in cells}) == 32
    assert {c.dim for c in cells} == {1}


def test_inputs_are_the_seeds(tmp_path):
    cells = [crosscheck.Cell(3, 1, True, "nn", 2, loss) for loss in ("wgan-gp", "wgan")]
    runs = []
    for i, seed in enumerate((0, 0, 1)):
        runs.append(dict(crosscheck.inputs(cells, seed, str(tmp_path / str(i)), b=1)))
    kinds = {name.partition("_")[0] for name in runs[0]}
    assert kinds == crosscheck.STAGES.keys()
    for name, arrays in runs[0].items():
        for key, value in arrays.items():
            if key != "checkpoint":
                np.testing.assert_array_equal(value, runs[1][name][key])
    assert (runs[0]["spectral"]["x"] != runs[2]["spectral"]["x"]).any()


@pytest.mark.slow
@pytest.mark.skipif(
    not (PYTHON and ORIGINAL),
    reason="live reference: SPECGAN_REFERENCE_PYTHON and SPECGAN_ORIGINAL are not set",
)
def test_live(tmp_path):
    """The reference itself, on new weights and inputs; its checkout stays as it was."""
    status = ["git", "-C", ORIGINAL, "status", "--porcelain"]
    before = subprocess.check_output(status)
    fp = tmp_path / "result.json"
    live = [
        "--original",
        ORIGINAL,
        "--python",
        PYTHON,
        "--json",
        str(fp),
        "--seed",
        "1",
    ]
    options = ["--dim", "1", "--kernel_len", "3", "--batchnorm", "--loss", "lsgan"]
    assert crosscheck.main([*live, *options]) == 0
    result = json.loads(fp.read_text())
    assert result["reference"]["tensorflow"].startswith("1.")
    assert subprocess.check_output(status) == before
