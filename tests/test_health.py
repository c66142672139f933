"""Each sign on a synthetic run that shows it and on one that does not; real runs."""

import logging
import os
import sys

import numpy as np
import pytest
from conftest import BUFFER, RECORDED, ROOT

sys.path.insert(0, ROOT)
from specgan_tf import spectral
from specgan_tf.cli import callbacks, flags
from specgan_tf.eval import health

STEPS = np.arange(1, 4001, 40)


def noise(scale, seed=0):
    return np.random.RandomState(seed).randn(len(STEPS)) * scale


def healthy(loss):
    """As a good training goes: tag -> (steps, values), from the first step on."""
    falling = np.exp(-STEPS / 1500)
    if loss in ("wgan", "wgan-gp"):
        gap = (60 * falling + 4) * (1 - np.exp(-STEPS / 15)) * (1 + noise(0.1))
        D_G_z = 20 * np.sin(STEPS / 700) + noise(3, 1)
        D_loss = -gap
    else:
        gap = 3 * falling + 1 + noise(0.3)
        D_G_z = -gap / 2 + noise(0.2, 1)
        draw = {"dcgan": 0.69, "lsgan": 0.25}[loss]
        D_loss = draw * (0.7 + noise(0.1, 2))
    series = {
        "D_loss": D_loss,
        "G_loss": -D_G_z,
        "D_x": D_G_z + gap,
        "D_G_z": D_G_z,
        "D_x_minus_D_G_z": gap,
        "G_z_diversity": 0.9 * (1 - np.exp(-STEPS / 400)) * (1 + noise(0.1, 3)),
    }
    if loss == "wgan-gp":
        slopes = 1.3 + 1.5 * np.exp(-STEPS / 200) + noise(0.1, 4)
        series |= {"slopes": slopes, "gradient_penalty": np.square(slopes - 1)}
        series["D_loss"] = D_loss + 10 * series["gradient_penalty"]
    return {tag: (STEPS, np.asarray(v)) for tag, v in series.items()}


def signs(loss, **changed):
    series = healthy(loss) | {tag: (STEPS, v) for tag, v in changed.items()}
    return {s.name: s for s in health.of_training(loss, series)}


LOSSES = ["dcgan", "lsgan", "wgan", "wgan-gp"]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_healthy_training_has_no_sign_at_any_time(loss):
    whole = healthy(loss)
    for n in range(1, len(STEPS) + 1):
        series = {tag: (steps[:n], v[:n]) for tag, (steps, v) in whole.items()}
        assert health.of_training(loss, series) == [], (n, loss)


def test_what_is_too_young_to_tell():
    """Nothing, whatever the numbers: one window short of an opinion."""
    values = {"D_x_minus_D_G_z": -1.0, "slopes": 99.0, "D_loss": 9.0}
    steps = np.arange(health.ENOUGH - 1) * 1000 + health.EARLY
    awful = {tag: (steps, np.full(len(steps), v)) for tag, v in values.items()}
    assert health.of_training("wgan-gp", awful) == [] and health.is_early(awful)
    early = {tag: (np.arange(99), np.full(99, v[1][0])) for tag, v in awful.items()}
    assert health.of_training("wgan-gp", early) == [] and health.is_early(early)
    more = {tag: (np.arange(120), np.full(120, v[1][0])) for tag, v in awful.items()}
    assert len(health.of_training("wgan-gp", more)) == 2
    assert not health.is_early(more) and health.of_training("dcgan", {}) == []


def test_the_documents_say_from_when_on_losses_are_judged():
    with open(os.path.join(ROOT, "docs", "TRAINING.md")) as f:
        readme = " ".join(f.read().split())
    secs = flags.Settings.train_summary_secs
    said = f"by {health.ENOUGH} summaries from step {health.EARLY} on; there is one "
    assert f"{said}every {secs} seconds" in readme
    assert f"are judged from step {health.LATE} on" in readme


def test_diverged():
    D_loss = healthy("wgan-gp")["D_loss"][1].copy()
    D_loss[50:] = np.nan
    found = signs("wgan-gp", D_loss=D_loss)
    assert list(found) == ["diverged"]
    assert found["diverged"].says == f"D_loss is nan at step {STEPS[50]}"
    D_loss[50:] = -3e38  # large, but a number
    assert "diverged" not in signs("wgan-gp", D_loss=D_loss)
    # the square of a norm overflows first
    assert signs("wgan", D_gradient_norm=np.full(100, np.inf)) == {}


@pytest.mark.parametrize(
    "loss, won, even", [("dcgan", 0.01, 0.2), ("lsgan", 0.002, 0.05)]
)
def test_a_critic_that_wins(loss, won, even):
    found = signs(loss, D_loss=won * (1 + noise(0.2)))
    assert list(found) == ["the critic wins"]
    steps = f"from step {STEPS[-health.WINDOW]} to {STEPS[-1]}"
    assert steps in found["the critic wins"].says
    assert "--specgan_disc_nupdates 1" in found["the critic wins"].remedy
    assert signs(loss, D_loss=even * (1 + noise(0.2))) == {}
    early = {"D_loss": (STEPS // 4 + 1, won * (1 + noise(0.2)))}
    assert health.of_training(loss, early) == []


def test_a_wasserstein_critic_that_wins():
    """Its gap stays where it was at its largest; to be large is no sign."""
    rising = 60 * (1 - np.exp(-STEPS / 100)) * (1 + noise(0.05))
    assert list(signs("wgan-gp", D_x_minus_D_G_z=rising)) == ["the critic wins"]
    assert signs("wgan-gp", D_x_minus_D_G_z=rising * np.exp(-STEPS / 9000)) == {}
    # before a gap can have come down
    series = healthy("wgan-gp") | {"D_x_minus_D_G_z": (STEPS // 4 + 1, rising)}
    assert health.of_training("wgan-gp", series) == []


@pytest.mark.parametrize("loss", LOSSES)
def test_a_critic_that_loses(loss):
    gap = healthy(loss)["D_x_minus_D_G_z"][1]
    found = signs(loss, D_x_minus_D_G_z=-np.abs(gap))
    assert list(found) == ["the critic loses"]
    assert "100% of the summaries" in found["the critic loses"].says
    alternating = np.where(np.arange(len(gap)) % 3 > 0, 0.1, -0.1)  # about a draw
    assert "the critic loses" not in signs(loss, D_x_minus_D_G_z=alternating)


def test_D_is_stuck_at_large_values():
    level = np.full(len(STEPS), 500.0)
    found = signs("wgan-gp", D_x=level + 1, D_G_z=level + noise(0.5))
    assert list(found) == ["D is stuck"]
    assert "D(real) stays at 501" in found["D is stuck"].says
    assert "Raise the learning rate" in found["D is stuck"].remedy
    for D_x, D_G_z in (
        (level + 100, level),  # apart: D tells them
        (level + 1 + noise(60), level + noise(60)),  # it moves
        (level / 500, level / 500 - 0.01),  # small
        (level, -level),  # on both sides of zero
    ):
        assert signs("wgan-gp", D_x=D_x, D_G_z=D_G_z) == {}


def test_wild_oscillation():
    swinging = 40.0 * np.cos(np.pi * np.arange(len(STEPS))) + 10
    (sign,) = signs("wgan-gp", D_x_minus_D_G_z=swinging).values()
    assert sign.name == "wild oscillation"
    assert "changes by 80 from one summary to the next, at a size of" in sign.says
    assert "Lower the learning rate" in sign.remedy
    # the noise of a batch, where little of the gap is left
    gap = healthy("wgan-gp")["D_x_minus_D_G_z"][1].copy()
    gap[50:] = 1 + noise(2)[50:]
    assert signs("wgan-gp", D_x_minus_D_G_z=gap) == {}


@pytest.mark.parametrize("value, remedy", [(8.0, "does not hold D"), (0.05, "flat")])
def test_slopes_far_from_1(value, remedy):
    found = signs("wgan-gp", slopes=np.full(len(STEPS), value))
    assert list(found) == ["slopes far from 1"]
    assert f"the slopes of D are {value:.2g} from" in found["slopes far from 1"].says
    assert remedy in found["slopes far from 1"].remedy
    assert signs("wgan-gp", slopes=np.full(len(STEPS), 1.8)) == {}


def test_mode_collapse():
    good = healthy("wgan-gp")["G_z_diversity"][1]
    fallen = good.copy()
    fallen[-5:] = 0.05
    found = signs("wgan-gp", G_z_diversity=fallen)
    assert list(found) == ["mode collapse"]
    assert "differ by 5% of what real ones do; it was" in found["mode collapse"].says
    once = good.copy()
    once[-2] = 0.05
    assert signs("wgan-gp", G_z_diversity=once) == {}
    # never was varied: not a collapse; training may still get there
    assert signs("wgan-gp", G_z_diversity=np.full(len(STEPS), 0.1)) == {}


# Sounds


def hits(n, seed=0):
    """Noise that fades: float32 [n, 16384, 1]."""
    rs = np.random.RandomState(seed)
    fade = np.exp(-np.arange(spectral.SLICE_LEN) / 2000)[:, None]
    return (rs.uniform(-1, 1, [n, spectral.SLICE_LEN, 1]) * fade).astype(np.float32)


def tones(n):
    t = np.arange(spectral.SLICE_LEN)[:, None] / 16000
    hertz = np.random.RandomState(1).uniform(200, 4000, n)
    return np.stack([np.sin(2 * np.pi * f * t) for f in hertz]).astype(np.float32)


def of_clips(real, made, step=health.LATE):
    return {sign.name: sign for sign in health.of_clips(step, real, made)}


def test_healthy_sounds():
    assert of_clips(hits(8), hits(8, 1)) == {}
    assert of_clips(np.zeros([0, spectral.SLICE_LEN, 1]), hits(8)) == {}


def test_silence():
    quiet = hits(8, 1) * 0.005
    found = of_clips(hits(8), quiet)
    assert list(found) == ["silence"]
    assert "8 of 8 generated clips peak below 0.01" in found["silence"].says
    assert of_clips(hits(8), np.concatenate([quiet[:4], hits(4)])) == {}
    assert of_clips(hits(8), quiet, step=health.LATE - 1) == {}


def test_a_single_frequency():
    (sign,) = of_clips(hits(8), tones(8)).values()
    assert sign.name == "a single frequency"
    assert "8 of 8 generated clips have 90% of their power" in sign.says
    assert of_clips(tones(8), tones(8)) == {}, "where real sounds are tones, too"
    assert of_clips(hits(8), np.concatenate([tones(4), hits(4)])) == {}
    np.testing.assert_array_less(0.98, health.purity(tones(4)))
    np.testing.assert_array_less(health.purity(hits(4)), 0.2)
    assert health.purity(np.zeros([1, spectral.SLICE_LEN, 1])) == 0.0


def test_copies_of_the_training_clips():
    from specgan_tf.eval import score

    real = hits(6)
    apart, _ = score.similarity(score.to_int16(real))

    def found(made):
        return health.overfitting(score.nearest(made, real)[1], apart)

    sign = found(real[:4] * 0.99)
    assert sign.name == "copies of the training clips"
    assert f"real ones {apart:.3g} from theirs" in sign.says
    assert found(hits(4, seed=9)) is None


def test_a_sign_is_reported_once_until_it_is_gone(caplog):
    summaries = callbacks.Summaries(None, hits(2), None, 16000)
    watch = callbacks.Health(summaries)

    class Model:
        loss_name, global_step = "wgan-gp", 0

    watch.set_model(Model)

    def summary(made, step):
        summaries.last, Model.global_step, summaries.clips = step, step, (hits(2), made)
        caplog.clear()
        for _ in range(2):  # a step without new summaries
            watch.on_train_batch_end(0)
        return [r.message for r in caplog.records]

    with caplog.at_level(logging.WARNING, "specgan_tf"):
        (said,) = summary(tones(2), 2000)
        assert said.startswith("Step 2000: a single frequency: 2 of 2 generated clips")
        assert summary(tones(2), 2001) == []
        (said,) = summary(0 * hits(2), 2002)
        assert said.startswith("Step 2002: silence: 2 of 2")
        assert summary(hits(2), 2003) == []
        assert len(summary(tones(2), 2004)) == 1


@pytest.mark.parametrize("loss", ["wgan-gp", "dcgan"])
def test_a_normal_beginning_is_no_sign(loss):
    """Real trainings on the drums, at any time: see tests/recorded/make_health.py."""
    with np.load(os.path.join(RECORDED, "health.npz")) as f:
        recorded = {k.partition("/")[2]: f[k] for k in f.files if k.startswith(loss)}
    steps, D_loss = recorded["D_loss"]
    assert steps[-1] >= 300 and len(recorded) >= 10 and np.ptp(D_loss) > 0.5
    for n in range(len(steps) + 1):
        series = {tag: values[:, :n] for tag, values in recorded.items()}
        series = {tag: (s.astype(int), values) for tag, (s, values) in series.items()}
        assert health.of_training(loss, series) == [], n
    assert not health.is_early(series)


@pytest.mark.slow
def test_a_short_training_says_nothing_of_its_health(tmp_path, monkeypatch, capfd):
    """The same, as it is now: up to where an opinion begins."""
    from recorded import make_health

    monkeypatch.setattr(BUFFER, 64)
    steps = health.EARLY + 4 * health.ENOUGH
    series = make_health.record(str(tmp_path), "wgan-gp", steps, 4)
    logging.getLogger().handlers.clear()
    assert not health.is_early(series)
    assert health.of_training("wgan-gp", series) == []
    assert "Step " not in capfd.readouterr().out
