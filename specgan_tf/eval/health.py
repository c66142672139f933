"""Signs that a training goes wrong, from its numbers and its sounds.

Pure functions of recorded scalars and of clips; they read no files. A scalar's series
is (steps, values), under the tag with which `cli.callbacks.Summaries` records it. Each
value comes from one iteration, so a sign needs the median, or a share, of `WINDOW`
values.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

# "Healthy" is a wgan-gp training on the embedded drums: dim 4, batch 8, 1500 steps,
# summaries every 15 steps (tests/recorded/make_health.py).
EARLY = 100  # steps; the losses before are ignored: D swings at its beginning
LATE = 2000  # steps; healthy: silence until 540, the largest gap at 270
WINDOW = 12  # number of the latest values
ENOUGH = 6  # values; with fewer, noise looks like a sign

# dcgan: a D that is right with 95% confidence has log losses of 0.05; a draw is 0.69.
# lsgan: errors of 0.1 on labels 0 and 1; a draw is 0.25. To be that sure early is
# normal: a healthy dcgan has 0.001 from step 100 on, while G finds its first sounds.
WON = {"dcgan": 0.05, "lsgan": 0.01}
NEAR_PEAK = 0.9  # share of the largest gap so far; healthy: 0.3 at the end
LOST = 0.8  # share of values where D rates generated above real; chance is a half
# D(real) and D(generated) at this distance from zero (healthy: 96), while the gap
# (healthy: 0.6 of that or more) and movements are below a twentieth of it.
STUCK_LEVEL, STUCK_GAP, STUCK_MOVE = 20.0, 0.05, 0.05
WILD = 1.0  # change from one value to the next, over their size; healthy: 0.05 to 0.6
SLOPES = 0.2, 5.0  # healthy: 1.6 to 3.0
# A smaller diversity cannot collapse. Healthy: 0 at step 450, 0.8 at the end. A healthy
# dcgan's falls from 0.3 and rises again while its first sounds come and go.
VARIED = 0.5
COLLAPSED = 0.4  # share of the largest diversity so far; healthy: 0.9 or more
SILENCE = 0.01  # of full scale, -40 dB: a peak below it is hardly audible
MANY = 0.5  # share of clips from which on they are a sign
PURE = 0.9  # share of a clip's power in three bins of 62.5 Hz; a tone has 0.98
COPIED = 0.25  # share of the distance of real clips from each other

Series = dict[str, tuple[ArrayLike, ArrayLike]]  # tag -> (steps, values)


@dataclasses.dataclass(frozen=True)
class Sign:
    """One thing that is wrong.

    Args:
      name: what is wrong, without numbers.
      says: the numbers that show it.
      remedy: what usually helps.
    """

    name: str
    says: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.says}. {self.remedy}"


def window(series: Series, tag: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The latest (steps, values) of a scalar, or None if they are too few."""
    if tag not in series:
        return None
    steps, values = map(np.asarray, series[tag])
    steps, values = steps[steps >= EARLY][-WINDOW:], values[steps >= EARLY][-WINDOW:]
    return (steps, values) if len(steps) >= ENOUGH else None


def _span(steps):
    return f"from step {steps[0]} to {steps[-1]}"


def is_early(series: Series) -> bool:
    """True if there are too few losses to judge."""
    return window(series, "D_loss") is None


# Numbers


def of_training(loss: str, series: Series) -> list[Sign]:
    """Signs in the scalars of a training.

    Args:
      loss: "wgan-gp", "wgan", "lsgan" or "dcgan".
      series: any of D_loss, G_loss, D_x, D_G_z, D_x_minus_D_G_z, gradient_penalty,
        slopes, G_z_diversity.

    Returns:
      The signs; none for a healthy training, or for one too young to judge.
    """
    if found := diverged(series):
        return [found]
    checks = critic_wins, critic_loses, stuck, oscillation, slopes, mode_collapse
    return [sign for check in checks if (sign := check(loss, series))]


def diverged(series: Series) -> Sign | None:
    """A loss is NaN or infinite."""
    for tag in ("D_loss", "G_loss", "D_x", "D_G_z", "gradient_penalty"):
        steps, values = map(np.asarray, series.get(tag, ([], [])))
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            return Sign(
                "diverged",
                f"{tag} is {values[bad[0]]:g} at step {steps[bad[0]]}",
                "Go back to a checkpoint before it, with another --seed. "
                "diverged-STEP.txt in the training folder has details.",
            )


def critic_wins(loss: str, series: Series) -> Sign | None:
    """D is so sure that G no longer learns from it."""
    if loss in WON and (found := window(series, "D_loss")):
        steps, D_loss = found
        median, draw = np.median(D_loss), {"dcgan": 0.69, "lsgan": 0.25}[loss]
        if steps[0] >= LATE and median < WON[loss]:
            return Sign(
                "the critic wins",
                f"D_loss is {median:.2g} {_span(steps)}; a draw is {draw}",
                "Give D fewer updates (--specgan_disc_nupdates 1), or use wgan-gp.",
            )
    if loss == "wgan-gp" and (found := window(series, "D_x_minus_D_G_z")):
        steps, gap = found
        largest = _largest_median(series["D_x_minus_D_G_z"][1])
        if steps[0] >= LATE and np.median(gap) > NEAR_PEAK * largest > 0:
            return Sign(
                "the critic wins",
                f"D(real) - D(generated) is {np.median(gap):.3g} {_span(steps)}, and "
                f"was never much larger ({largest:.3g}): G does not gain",
                "Enlarge the networks (--specgan_dim), or train longer; if neither "
                "helps, give D fewer updates.",
            )


def critic_loses(loss: str, series: Series) -> Sign | None:
    """D rates generated sounds above real ones."""
    if found := window(series, "D_x_minus_D_G_z"):
        steps, gap = found
        if np.mean(gap < 0) >= LOST:
            return Sign(
                "the critic loses",
                f"D rates generated sounds above real ones in {np.mean(gap < 0):.0%} "
                f"of the summaries {_span(steps)}",
                "Give D more updates (--specgan_disc_nupdates) or larger batches.",
            )


def stuck(loss: str, series: Series) -> Sign | None:
    """D(real) and D(generated) stay together, far from zero."""
    found = [window(series, tag) for tag in ("D_x", "D_G_z")]
    if not all(found):
        return None
    (steps, D_x), (_, D_G_z) = found
    n = min(len(D_x), len(D_G_z))
    levels = np.stack([D_x[-n:], D_G_z[-n:]])
    level = np.abs(np.median(levels))
    gap = np.abs(np.median(levels[0] - levels[1]))
    move = np.max(np.std(levels, axis=1))
    if level > STUCK_LEVEL and gap < STUCK_GAP * level and move < STUCK_MOVE * level:
        D_x, D_G_z = np.median(levels, axis=1)
        return Sign(
            "D is stuck",
            f"D(real) stays at {D_x:.3g} and D(generated) at {D_G_z:.3g} from step "
            f"{steps[0]} to {steps[-1]}",
            "Raise the learning rate (--train_lr_G, --train_lr_D).",
        )


def oscillation(loss: str, series: Series) -> Sign | None:
    """From one value to the next, D's gap swings by more than its size."""
    if found := window(series, "D_x_minus_D_G_z"):
        steps, gap = found
        swing, size = np.median(np.abs(np.diff(gap))), np.median(np.abs(gap))
        # A gap as small as the noise of a batch swings by its own size, too.
        largest = _largest_median(np.abs(series["D_x_minus_D_G_z"][1]))
        if swing > WILD * size and swing > WILD / 2 * largest:
            return Sign(
                "wild oscillation",
                f"D(real) - D(generated) changes by {swing:.3g} from one summary to "
                f"the next, at a size of {size:.3g}, {_span(steps)}",
                "Lower the learning rate (--train_lr_G, --train_lr_D), "
                "or use larger batches.",
            )


def slopes(loss: str, series: Series) -> Sign | None:
    """The slopes of a wgan-gp critic are far from 1."""
    if found := window(series, "slopes"):
        steps, values = found
        median, (low, high) = np.median(values), SLOPES
        if not low <= median <= high:
            return Sign(
                "slopes far from 1",
                f"the slopes of D are {median:.2g} {_span(steps)}",
                "The penalty does not hold D: lower its learning rate, or use larger "
                "batches."
                if median > high
                else "D is flat and teaches nothing: more updates of D "
                "(--specgan_disc_nupdates), or a higher learning rate.",
            )


def mode_collapse(loss: str, series: Series) -> Sign | None:
    """Generated clips differ less from each other than they did before."""
    if found := window(series, "G_z_diversity"):
        steps, values = found
        now, best = np.median(values[-3:]), _largest_median(series["G_z_diversity"][1])
        if best > VARIED and now < COLLAPSED * best:
            return Sign(
                "mode collapse",
                f"at step {steps[-1]} generated clips differ by {now:.0%} of what real "
                f"ones do; it was {best:.0%}",
                "Go back to a checkpoint before it. Larger batches, more varied sounds "
                "or wgan-gp prevent it.",
            )


def _largest_median(values):
    """The largest median of three values in a row: a single value does not count."""
    values = np.asarray(values)
    threes = np.lib.stride_tricks.sliding_window_view(values, min(3, len(values)))
    return float(np.median(threes, axis=1).max())


# Sounds


def of_clips(step: int, real: np.ndarray, made: np.ndarray) -> list[Sign]:
    """Signs in generated clips, compared with real ones.

    Args:
      step: number of updates of the G that made them.
      real, made: waveforms float32 [n, 16384, 1] and [m, 16384, 1]; n may be 0.
    """
    if step < LATE:
        return []
    return [sign for sign in (silence(made), single_frequency(real, made)) if sign]


def silence(made: np.ndarray) -> Sign | None:
    """Most generated clips are hardly audible."""
    quiet = np.max(np.abs(made), axis=(1, 2)) < SILENCE
    if np.mean(quiet) > MANY:
        return Sign(
            "silence",
            f"{np.sum(quiet)} of {len(made)} generated clips peak below {SILENCE:g} of "
            "full scale",
            "Train on. If it stays so, check whether the real sounds are mostly "
            "silence, and compute their moments again.",
        )


def single_frequency(real: np.ndarray, made: np.ndarray) -> Sign | None:
    """Most generated clips are tones, and most real ones are not."""
    pure, natural = (purity(x) > PURE for x in (made, real))
    if np.mean(pure) > MANY and np.sum(natural) < MANY / 2 * max(len(real), 1):
        return Sign(
            "a single frequency",
            f"{np.sum(pure)} of {len(made)} generated clips have {PURE:.0%} of their "
            f"power in three bins, of real ones {np.sum(natural)} of {len(real)}",
            "Go back to a checkpoint before it. --specgan_genr_upsample nn avoids the "
            "tones that G's layers make.",
        )


def purity(x: np.ndarray) -> np.ndarray:
    """Share of a clip's power in its strongest three bins of 62.5 Hz (at 16 kHz).

    x: waveforms [n, 16384, 1]. Returns [n], from 0 to 1; 0 for silence.
    """
    frames = np.reshape(x, [len(x), x.shape[1] // 256, 256]) * np.hanning(256)
    power = np.sum(np.square(np.abs(np.fft.rfft(frames))), axis=1)
    three = power[:, :-2] + power[:, 1:-1] + power[:, 2:]
    return three.max(axis=1) / np.maximum(power.sum(axis=1), 1e-9)


def overfitting(distances: np.ndarray, apart: float) -> Sign | None:
    """Generated clips are copies: nearer to real ones than those are to each other.

    Args:
      distances: [n], from each generated clip to its nearest real clip, as
        `score.nearest` returns them.
      apart: mean distance of a real clip to its nearest other real clip.
    """
    median = np.median(distances)
    if median < COPIED * apart:
        return Sign(
            "copies of the training clips",
            f"generated clips are {median:.3g} from the nearest real one, real ones "
            f"{apart:.3g} from theirs",
            "Train on more sounds, or go back to an earlier checkpoint.",
        )
