"""benchmarks.learning: the test between two sides, the plan, the document."""

import itertools
import json
import os
import sys

import numpy as np
import pytest
from conftest import DRUMS

from benchmarks import learning, permutation
from benchmarks.studies import STUDIES
from specgan_tf import kernels, moments
from specgan_tf.errors import InputError
from specgan_tf.weights import checkpoint

ORIGINAL = os.environ.get("SPECGAN_ORIGINAL")
PYTHON = os.environ.get("SPECGAN_REFERENCE_PYTHON")

STEPS = [5, 10]
SETTINGS = {
    "beside": "original",
    "dim": 1,
    "batch": 2,
    "steps": STEPS,
    "data": {"drums": "/D", "digits": "/E"},
}
HALF = {**SETTINGS, "beside": "float32"}

# Of 1, 2 | 3, 4 two of six ways are as far apart; of 1, 3 | 2, 4 four of six.
FAR = [[1.0], [2.0]], [[3.0], [4.0]]
NEAR = [[1.0], [3.0]], [[2.0], [4.0]]


def test_p_is_the_share_of_relabelings_as_far_apart():
    ((p, adjusted),) = permutation.test([FAR])
    assert (p, adjusted) == ([2 / 6], [pytest.approx(2 / 6)])
    ((p, _),) = permutation.test([NEAR])
    assert p == [4 / 6]


def test_adjusted_p_is_that_of_the_farthest_measure_anywhere():
    # In one data set: the largest of both, way by way, is 2, 2, 0, 0, 2, 2.
    pair = [np.hstack([a, b]) for a, b in zip(FAR, NEAR, strict=True)]
    ((p, adjusted),) = permutation.test([pair])
    assert p.tolist() == [2 / 6, 4 / 6]
    np.testing.assert_allclose(adjusted, [4 / 6, 4 / 6])
    # In two, which are relabelled on their own: 36 ways.
    (_, first), (_, second) = permutation.test([FAR, NEAR])
    np.testing.assert_allclose([first, second], [[20 / 36], [32 / 36]])


def test_what_never_differs_says_nothing():
    equal = np.zeros([2, 1])
    pair = [np.hstack([a, equal]) for a in FAR]
    ((p, adjusted),) = permutation.test([pair])
    assert p.tolist() == [2 / 6, 1.0]
    np.testing.assert_allclose(adjusted, [2 / 6, 1.0])


def test_it_errs_as_seldom_as_it_says():
    """Whichever labelling is the true one: exactly, over all of two data sets."""
    rs, m = np.random.RandomState(0), 3
    sets = [rs.normal(size=(2 * m, 4)) @ rs.normal(size=(4, 4)) for _ in range(2)]
    labels = permutation.relabelings(m, m)
    smallest, own = [], []
    for true in itertools.product(labels, labels):
        pairs = [(x[t], x[~t]) for x, t in zip(sets, true, strict=True)]
        results = permutation.test(pairs)
        smallest.append(min(adjusted.min() for _, adjusted in results))
        own.append(results[0][0])
    assert len(smallest) == 400
    for level in sorted({*smallest}):
        assert np.mean(np.array(smallest) <= level + 1e-9) <= level + 1e-9
    # One measure alone: every p is as frequent as it says.
    np.testing.assert_allclose(np.mean(np.array(own) <= 0.1 + 1e-9, axis=0), 0.1)


@pytest.mark.parametrize("m, n", [(3, 3), (4, 4), (3, 5), (6, 6), (10, 10)])
def test_the_interval_holds_the_shifts_that_the_test_does_not_refuse(m, n):
    rs, level = np.random.RandomState(m + n), 0.1
    for _ in range(5):
        original, here = rs.normal(size=m), rs.normal(size=n) + 1

        def p(shift, original=original, here=here):
            ((p, _),) = permutation.test([(original[:, None], (here - shift)[:, None])])
            return p[0]

        low, high = permutation.shift(original, here, level)
        assert low < np.mean(here) - np.mean(original) < high
        for end, outwards in ((low, -1), (high, 1)):
            assert p(end - 1e-6 * outwards) > level >= p(end + 1e-6 * outwards)


def test_of_many_ways_some_are_drawn(monkeypatch):
    labels = permutation.relabelings(9, 10)
    assert labels.shape == (permutation.MOST, 19) and (labels.sum(axis=1) == 9).all()
    np.testing.assert_array_equal(labels[0], np.arange(19) < 9)
    assert permutation.smallest_p(9, 10) == 1 / permutation.MOST
    rs = np.random.RandomState(0)
    pair = rs.normal(size=(7, 5)), rs.normal(size=(8, 5)) + np.linspace(0, 1.5, 5)
    ((exact, adjusted),) = permutation.test([pair])  # 6435 ways
    monkeypatch.setattr(permutation, "MOST", 5000)
    ((drawn, drawn_adjusted),) = permutation.test([pair])
    assert not np.array_equal(drawn, exact)
    # 5000 draws: a standard error of at most 0.007
    np.testing.assert_allclose(drawn, exact, atol=0.03)
    np.testing.assert_allclose(drawn_adjusted, adjusted, atol=0.03)


def test_what_few_runs_cannot_refuse_is_in_the_interval():
    original, here = np.array([1.0, 2.5, 4.0]), np.array([3.0, 3.5, 6.0])
    # Below the smallest p that three and three have, no shift is refused; at it those
    # that set the sides apart entirely.
    assert permutation.smallest_p(3, 3) == 0.1
    assert permutation.shift(original, here, 0.05) == (-np.inf, np.inf)
    assert permutation.shift(original, here, 0.1) == pytest.approx((-1.0, 5.0))
    assert permutation.shift([2.0] * 4, [3.0] * 4, 0.05) == pytest.approx((1.0, 1.0))


def test_effect_is_in_deviations_within_the_sides():
    assert permutation.effect([0.0, 2.0], [1.0, 3.0]) == pytest.approx(2**-0.5)
    assert permutation.effect([1.0, 1.0], [3.0, 3.0]) == np.inf
    assert permutation.effect([1.0, 1.0], [1.0, 1.0]) == 0.0


def leave(out, shift=0.0, seeds=4, settings=SETTINGS):
    """What `train` and `score` leave of trainings whose values are drawn."""
    rs = np.random.RandomState(0)
    learning.write_json(os.path.join(out, "settings.json"), settings)
    tested, beside = STUDIES[settings["beside"]].names
    for data in settings["data"]:
        sides = itertools.product((tested, beside), range(1, seeds + 1))
        for side, seed in sides:
            run = learning.Run(str(out), data, side, seed)
            os.makedirs(run.folder)
            draw = lambda s=side: rs.normal() + shift * (s == tested)  # noqa: E731
            names = ["spectrograms", "sounds", "to_real", "among", "diversity"]
            names += ["inception"] * (data == "digits")
            scores = {step: {n: 30 + draw() for n in names} for step in (0, *STEPS)}
            cpu = {1: 9.0, 5: 10.0, 10: 9.0 + 9 * (1 if side == tested else 2.5)}
            learning.write_json(
                run.file("run.json"),
                {
                    "losses": [[i, -10 + draw(), draw()] for i in (1, 5, 10)],
                    "cpu": [cpu],
                    "total": 90.0,
                    "machine": "2 cores",
                    "versions": dict.fromkeys(["python", "tensorflow", "keras"], side),
                },
            )
            learning.write_json(run.file("scores.json"), scores)
        real = {"n": 600, "measures": dict.fromkeys(names, 1.5)}
        learning.write_json(os.path.join(out, data, "real.json"), real)


def written(tmp_path, name="LEARNING.md", picture="learning.png"):
    """The document's text, of what is in tmp_path/out."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    docs = tmp_path / "docs"
    docs.mkdir()
    learning.main(["write", "--out", str(tmp_path / "out"), "--docs", str(docs)])
    assert sorted(os.listdir(docs)) == sorted([name, picture])
    assert (docs / picture).read_bytes().startswith(b"\x89PNG")
    return (docs / name).read_text()


def test_the_document_says_what_was_measured(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    leave(out)
    text = written(tmp_path)
    assert "from 600 drums and 600 digits" in text
    assert "**The two sides cannot be told apart.**" in text
    # 5 or 6 measures at 3 checkpoints, 2 losses at 2.
    assert "Of 41 comparisons, " in text and "(it cannot be below 0.029)" in text
    assert "the original takes 2.50 and 2.50 times as much" in text
    assert "0 of 4 trainings of the original and 0 of 4 of ours still generate" in text
    assert "0.20 CPU hours here, 0.20 CPU hours the original" in text
    assert "small networks on 2 cores, without a GPU" in text
    rows = [line for line in text.splitlines() if line.startswith("| Frechet, sounds")]
    assert len(rows) == 6
    name, step, _, here, real, _, _, p, adjusted = [
        cell.strip() for cell in rows[-1].strip("|").split("|")
    ]
    runs = [learning.Run(str(out), "digits", "here", seed) for seed in range(1, 5)]
    values = [run.read("scores.json")["10"]["sounds"] for run in runs]
    assert here == f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.3g}"
    assert (name, step, real) == ("Frechet, sounds", "10", "1.5")
    assert float(p) >= 0.03 and float(adjusted) >= float(p)
    assert "| inception score | untrained |" in text
    assert "--classifier digits=CLASSIFIER" in text
    assert "--data drums=DRUMS --data digits=DIGITS" in text
    assert "/D" not in text and str(tmp_path) not in text


def test_a_difference_is_named(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    leave(out, shift=50.0, seeds=5)
    text = written(tmp_path)
    assert "**The two sides differ** in Frechet, spectrograms of drums at 0, " in text
    assert "Of 41 comparisons, 41 have p <= 0.05;" in text


def test_half_precision_has_a_document_of_its_own(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    leave(out, settings=HALF, seeds=5)
    text = written(tmp_path, "HALF_PRECISION.md", "half_precision.png")
    assert text.startswith("# Half precision\n")
    assert "](half_precision.png)" in text
    assert "5 trainings in half precision and 5 in float32 on each data set" in text
    assert "**The two sides cannot be told apart.**" in text
    assert ". Half precision minus float32: " in text
    assert "float32 takes 2.50 and 2.50 times as much as half precision." in text
    assert "0 of 5 trainings in float32 and 0 of 5 in half precision still" in text
    assert "0.25 CPU hours in half precision, 0.25 CPU hours in float32" in text
    assert "|  | iterations | float32 | half precision | real |" in text
    assert "| drums | half precision, 10 | float32, 5 |" in text
    assert "--beside float32 --out OUT \\\n    --data drums=DRUMS" in text
    assert "the original" not in text


def test_older_settings_are_of_the_original(tmp_path):
    out = str(tmp_path)
    older = {name: value for name, value in SETTINGS.items() if name != "beside"}
    learning.write_json(os.path.join(out, "settings.json"), older)
    assert learning.settings_of(out) == SETTINGS
    with pytest.raises(InputError, match="beside original. Received: float32"):
        learning.settle(out, **HALF)
    assert learning.settle(out, **SETTINGS) == SETTINGS


def test_the_plan_leaves_out_what_is_done(tmp_path):
    out = str(tmp_path)

    def left():
        plan = learning.runs(out, SETTINGS, 2, done=False)
        return [(run.data, run.side, run.seed) for run in plan]

    every = [
        (data, side, seed)
        for data in ("drums", "digits")
        for seed in (1, 2)
        for side in ("here", "original")
    ]
    assert left() == every
    run = learning.Run(out, "drums", "original", 1)
    os.makedirs(run.folder)
    learning.write_json(run.file("watched.json"), {})  # one that was interrupted
    assert left() == every
    learning.write_json(run.file("run.json"), {"cpu": [{"1": 1.0, "10": 2.0}]})
    assert left() == [r for r in every if r != ("drums", "original", 1)]
    assert [*learning.runs(out, SETTINGS, 2, done=True)] == [run]
    later = {**SETTINGS, "steps": [5, 10, 20]}  # it goes on
    assert [*learning.runs(out, later, 2, done=True)] == []
    plan = json.loads(learning.command(run, later, "/wavegan", "/py")[3])
    assert (plan["start"], plan["steps"]) == (10, [20])


def test_other_settings_are_another_folder(tmp_path):
    out = str(tmp_path / "out")
    learning.settle(out, **SETTINGS)
    more = {"steps": [5, 10, 20], "data": {"more": "/F", **SETTINGS["data"]}}
    more = learning.settle(out, **{**SETTINGS, **more})
    assert learning.settings_of(out) == more
    for name, value, says in [
        ("steps", [5], r"with steps \[5, 10, 20\]. Received: \[5\]"),
        ("dim", 2, "with dim 1. Received: 2"),
        ("data", {**more["data"], "drums": "/G"}, "use another --out"),
        ("data", SETTINGS["data"], "use another --out"),
    ]:
        with pytest.raises(InputError, match=says):
            learning.settle(out, **{**more, name: value})
    with pytest.raises(SystemExit, match="no trainings: train first"):
        learning.main(["score", "--out", str(tmp_path / "none")])


def test_both_sides_have_the_same_flags(tmp_path):
    ours, theirs = (
        learning.command(
            learning.Run(str(tmp_path), "drums", side, 3), SETTINGS, "/wavegan", "/py"
        )
        for side in ("here", "original")
    )
    plans = [json.loads(c[3]) for c in (ours, theirs)]
    shared = [f.replace("original-3", "here-3") for f in theirs[4:-2]]
    assert theirs[-2:] == ["--data_prefetch_gpu_num", "-1"]
    assert ours[4:] == [
        *shared,
        *["--seed", "3", "--train_max_steps", "10", "--train_keep", "1000"],
    ]
    assert shared[0] == "train" and "--data_first_slice" in shared
    assert all(plan["steps"] == STEPS for plan in plans)


def test_half_precision_differs_in_its_flag_and_its_seeds(tmp_path):
    half, float32 = (
        learning.command(
            learning.Run(str(tmp_path), "drums", side, 3), HALF, None, None
        )[4:]
        for side in ("half", "float32")
    )
    assert half[-1] == "--mixed_precision"
    assert [(a, b) for a, b in zip(half[:-1], float32, strict=True) if a != b] == [
        (str(tmp_path / "drums" / "half-3"), str(tmp_path / "drums" / "float32-3")),
        ("3", str(3 + learning.MOST)),
    ]


def test_half_precision_that_would_fall_back_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "fast_bfloat16", lambda: (False, "no AMX"))
    out = tmp_path / "out"
    argv = ["--beside", "float32", "--data", f"drums={DRUMS}", "--out", str(out)]
    with pytest.raises(SystemExit, match="compute in float32 here: no AMX"):
        learning.main(["train", *argv])
    assert not out.exists()


@pytest.mark.parametrize(
    "argv",
    ["", "--original .", "--python py", "--beside float32 --original . --python py"],
)
def test_the_original_is_named_where_it_is_trained(argv, capsys):
    with pytest.raises(SystemExit):
        learning.parse([*"train --data a=b".split(), *argv.split()])
    assert "--original and --python" in capsys.readouterr().err


def train_here(run, settings, monkeypatch):
    """As `train_one` does, in this process."""
    from specgan_tf.cli import callbacks

    monkeypatch.setattr(callbacks, "Save", callbacks.Save)  # put back at the end
    monkeypatch.setattr(learning, "EVERY", 2)
    os.makedirs(run.folder)
    _, _, code, *argv = learning.command(run, settings, None, None)
    monkeypatch.setattr(sys, "argv", ["-c", *argv])
    with pytest.raises(SystemExit) as ended:
        exec(code, {})
    assert ended.value.code == 0
    return run.read("watched.json")


@pytest.mark.slow
def test_a_training_here_is_watched(tmp_path, monkeypatch):
    run = learning.Run(str(tmp_path), "drums", "here", 1)
    moments.save(tmp_path / "drums" / "moments.pkl", np.zeros(129), np.ones(129))
    settings = {"dim": 1, "batch": 1, "steps": [2, 3], "data": {"drums": DRUMS}}
    settings = {**SETTINGS, **settings}
    did = train_here(run, settings, monkeypatch)
    assert [iteration for iteration, *_ in did["losses"]] == [1, 2]
    assert did["losses"][0][1] == pytest.approx(10, abs=2)  # D's; all of it the penalty
    assert [*did["cpu"]] == ["1", "2", "3"]
    assert did["cpu"]["1"] < did["cpu"]["2"] < did["cpu"]["3"]
    for step in (0, 2, 3):
        prefix = run.file(f"model.ckpt-{step}")
        assert checkpoint.step_of(prefix) == step
        assert checkpoint.Checkpoint(prefix).options["dim"] == 1


@pytest.mark.slow
@pytest.mark.skipif(
    not (ORIGINAL and PYTHON),
    reason="live reference: SPECGAN_REFERENCE_PYTHON and SPECGAN_ORIGINAL are not set",
)
def test_a_training_of_the_original_is_watched(tmp_path):
    run = learning.Run(str(tmp_path), "drums", "original", 1)
    moments.save(tmp_path / "drums" / "moments.pkl", np.zeros(129), np.ones(129))
    settings = {"dim": 1, "batch": 2, "steps": [2, 6], "data": {"drums": DRUMS}}
    settings = {**SETTINGS, **settings}
    did = learning.train_one(run, settings, os.path.abspath(ORIGINAL), PYTHON)
    assert [len(reading) for reading in did["losses"]] == [3, 3]
    assert [iteration for iteration, *_ in did["losses"]] == [1, 5]
    assert [[*noted] for noted in did["cpu"]] == [["1", "2", "6"]]
    assert learning.per_iteration(did) > 0
    assert did["versions"]["tensorflow"].startswith("1.")
    for step in (0, 2, 6):
        assert checkpoint.step_of(run.file(f"model.ckpt-{step}")) == step
        assert checkpoint.load_generator(run.file(f"model.ckpt-{step}")).dim == 1


@pytest.mark.parametrize("text", ["1,5", "a", "", "0"])
def test_wrong_steps_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        learning.parse(
            [*"train --original . --python py --data a=b --steps".split(), text]
        )
    assert "must be iterations such as 75,150" in capsys.readouterr().err
