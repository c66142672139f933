"""The reference's records against the port; and that a wrong port is found out."""

import glob
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import FULL, REDUCED, ROOT, note

from benchmarks.seeded_errors import ERRORS, mean_square_from_zero
from specgan_tf import specgan
from specgan_tf.crosscheck import __main__ as crosscheck
from specgan_tf.crosscheck import kinks, matrix, records, replay, table
from specgan_tf.crosscheck.__main__ import main
from specgan_tf.losses import LOSSES

PYTHON = os.environ.get("SPECGAN_REFERENCE_PYTHON")
ORIGINAL = os.environ.get("SPECGAN_ORIGINAL")


def names(folder):
    paths = sorted(glob.glob(os.path.join(folder, "*.npz")))
    return [os.path.splitext(os.path.basename(path))[0] for path in paths]


def checks_of(name, folder=REDUCED):
    record = records.Record.read(os.path.join(folder, f"{name}.npz"))
    return list(replay.run([record]))


def falls_short(name, stage):
    """Whether a check of a stage fails on a reduced golden.

    The first will do; those after it may be whole trainings.
    """
    record = records.Record.read(os.path.join(REDUCED, f"{name}.npz"))
    checks = replay.run([record])
    return any(c.verdict == "FAIL" and c.stage == stage for c in checks)


GOLDENS = [pytest.param(REDUCED, name, id=f"reduced-{name}") for name in names(REDUCED)]
GOLDENS += [pytest.param(FULL, name, id=f"full-{name}") for name in names(FULL)]
if not os.path.isdir(FULL):
    skip = pytest.mark.skip(reason="the shared data folder is not on this machine")
    GOLDENS.append(pytest.param(FULL, "all", id="full", marks=skip))


# The goldens' spectrograms are not as loud as those of records of any seed.
TIGHTER = {
    "G_z_norm": 2e-6,  # measured 3.6e-7
    "G_z": 5e-4,  # measured 2.2e-4
    "G_z_int16, steps": 1,
    "G_z_flat_int16, steps": 1,
}


@pytest.mark.parametrize("folder, name", GOLDENS)
def test_golden(request, folder, name):
    checks = checks_of(name, folder)
    assert checks
    for c in checks:
        if c.bound is not None:
            c.bound = min(c.bound, TIGHTER.get(c.what, c.bound))
            what = f"{c.stage}, {c.what}, {c.by}"
            note(request, what, c.error, c.bound)
    assert not [vars(c) for c in checks if c.verdict == "FAIL"]


def test_only_rounding_lets_a_unit_take_the_references_side():
    x = tf.constant([1e-7, -1e-7, 0.5, -1.0, 1e-2])
    theirs = [-1e-7, 2e-8, np.inf, -np.inf, -np.inf]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            moved, across, apart = kinks.on_their_side(x, theirs)
            y = tf.reduce_sum(specgan.lrelu(moved) * x)
        dy = tape.gradient(y, x)
    slopes = np.array([0.2, 1.0, 1.0, 0.2, 1.0])
    np.testing.assert_allclose(moved, [-1e-7, 2e-8, 0.5, -1.0, 1e-2])
    assert across == 3 and np.isinf(apart)  # the last is no matter of rounding
    np.testing.assert_allclose(dy, slopes * (moved + x), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(outer.gradient(dy, x), 2 * slopes, rtol=1e-6)


AT_KINKS = "train_wgan-gp_at_kinks"


def test_a_gradient_is_judged_with_the_slopes_that_the_reference_had():
    """Without them the same record fails; and a record must know its sides."""
    record = records.Record.read(os.path.join(REDUCED, f"{AT_KINKS}.npz"))
    blind = {k: v for k, v in record.items() if not k.startswith("kinks/")}
    (check,) = checks_that_fall_short(records.Record(blind, record.path))
    assert check.what == "D's gradients" and check.error > 1  # measured 2.6
    sides = record["kinks/D/lrelu_1/above"]
    wrong = {**record, "kinks/D/lrelu_1/above": ~sides}
    short = checks_that_fall_short(records.Record(wrong, record.path))
    assert [c.what for c in short] == ["pre-activations across zero"]


def checks_that_fall_short(record):
    return [c for c in replay.run([record]) if c.verdict == "FAIL"]


def test_every_stage_has_a_golden():
    kinds = {
        records.Record.read(os.path.join(REDUCED, f"{name}.npz")).kind
        for name in names(REDUCED)
    }
    assert kinds == replay.STAGES.keys()


# Errors in the port, each of which must make a check fail


@pytest.mark.parametrize(
    "error, name, stage",
    [pytest.param(*e, id=f"{e[0].__name__}-{e[1]}-{e[2]}") for e in ERRORS],
)
def test_an_error_is_found_out(monkeypatch, error, name, stage):
    error(monkeypatch)
    assert falls_short(name, stage)


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
    assert main(["--goldens", str(few), "--json", str(fp)]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["stage", "reference", "compared"]
    assert len(rows) == 2 and all(row.endswith("  ok") for row in rows)
    assert "train_specgan.py 243-276" in rows[0] and "lsgan, 1 steps" in rows[0]
    assert last == "2 checks of 1 records, 0 exceed their bound"
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
    assert main(["--goldens", str(few)]) == 1
    said = capsys.readouterr()
    assert "FAIL" in said.out and "2 exceed their bound" in said.out
    assert "exceeds its bound: optimizer_lsgan: optimizers, lsgan, 50 steps" in said.err


def test_worst_of_several_records_is_shown():
    def check(error, record):
        c = records.tally("a stage", "loader.py 9", "a value", error, bound=2)
        c.record = record
        return c

    _, row = table.table([check(1, "a"), check(float("nan"), "b"), check(2, "c")])
    assert row.split()[-1] == "FAIL"
    _, row = table.table([check(1, "a"), check(2, "c")])
    assert row.split()[-4:] == ["unequal", "2", "2", "ok"]
    assert records.tally("", "", "", 5, bound=None).verdict == "differs"


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
def test_a_failing_reference_is_reported(tmp_path, checkout, capsys, body, message):
    args = ["--original", str(checkout), "--python", stand_in(tmp_path, body), *LIVE]
    assert main(args) == 2
    assert f"error: the reference {message}" in capsys.readouterr().err.splitlines()[-1]


def test_user_errors_are_one_line(tmp_path, few, checkout, capsys):
    def error(*args):
        assert main([str(a) for a in args]) == 2
        said = capsys.readouterr().err.splitlines()
        return [line for line in said if line.startswith("error: ")][-1]

    said = error("--goldens", "nowhere")
    assert "no goldens at nowhere: they come with a clone" in said
    assert "--original CHECKOUT --python PYTHON_WITH_TF1" in said
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
    assert "other_x.npz has kind other, not one of model, " in error("--goldens", few)


@pytest.mark.parametrize("args, status", [(["--help"], 0), (["--share", "x"], 2)])
def test_help_and_wrong_flags_come_without_tensorflow(args, status):
    argv = [sys.executable, "-X", "importtime", "-m", "specgan_tf.crosscheck", *args]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status and "argparse" in done.stderr
    for slow in ("tensorflow", "keras", "numpy"):
        assert slow not in done.stderr


def test_the_choices_are_those_of_the_package():
    assert tuple(LOSSES) == crosscheck.LOSSES
    assert tuple(specgan.UPSAMPLES) == crosscheck.UPSAMPLES


@pytest.mark.parametrize("args", [["--original", "x"], ["--python", "x"], ["--all"]])
def test_what_goes_together(args, capsys):
    with pytest.raises(SystemExit) as e:
        main(args)
    assert e.value.code == 2 and "--original and --python" in capsys.readouterr().err


def test_another_commit_is_warned_of(tmp_path, capsys):
    matrix.check_commit(str(tmp_path))  # not under git: nothing to say
    assert not capsys.readouterr().err
    matrix.check_commit(ROOT)
    assert "not 40e85e8" in capsys.readouterr().err


def test_the_matrix():
    cell = matrix.Cell(5, 1, False, "zeros", 10, "wgan")
    cells = matrix.every_cell(cell)
    assert len(set(cells)) == len(cells) == 4 * 2 * 4 * 4
    assert len({c.network for c in cells}) == 32
    assert {c.dim for c in cells} == {1}


def test_inputs_are_the_seeds(tmp_path):
    cells = [matrix.Cell(3, 1, True, "nn", 2, loss) for loss in ("wgan-gp", "wgan")]
    runs = []
    for i, seed in enumerate((0, 0, 1)):
        runs.append(dict(matrix.inputs(cells, seed, str(tmp_path / str(i)), b=1)))
    kinds = {name.partition("_")[0] for name in runs[0]}
    assert kinds == replay.STAGES.keys()
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
    assert main([*live, *options]) == 0
    result = json.loads(fp.read_text())
    assert result["reference"]["tensorflow"].startswith("1.")
    assert subprocess.check_output(status) == before
