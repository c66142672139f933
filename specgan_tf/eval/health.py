"""What is wrong with a training, in words: from its numbers and its sounds.

Pure functions of recorded scalars and of clips; no files. A scalar's series is (steps,
values), as `callbacks.Summaries` records it, under its tags. Each value is of one
iteration, so signs are read off medians and shares of a `WINDOW` of them.
"""

import dataclasses

import numpy as np

# "It was" is said of a healthy wgan-gp training on the embedded drums: dim 4, batch 8,
# 1500 steps, summaries at every 15th (tests/recorded/make_health.py).
EARLY = 100  # steps; before, D has no opinion and swings between none and its first
LATE = 2000  # steps; sounds were silent for 540, the gap was at its peak at 270
WINDOW = 12  # of the latest values
ENOUGH = 6  # fewer of them tell noise from nothing

# dcgan: a D that is right with 95% confidence has log losses of 0.05; a draw is 0.69.
# lsgan: errors of 0.1 on labels 0 and 1; a draw is 0.25. To be that sure early is
# normal: dcgan's was 0.001 from step 100 on, while G found its first sounds.
WON = {"dcgan": 0.05, "lsgan": 0.01}
NEAR_PEAK = 0.9  # the gap is where it was at its largest; in the end it was at 0.3
LOST = 0.8  # share of values where D takes generated for real; chance is a half
# D(real) and D(generated) this far from zero (it was 96), with a gap (it was 0.6 of
# that or more) and movements of a twentieth.
STUCK_LEVEL, STUCK_GAP, STUCK_MOVE = 20.0, 0.05, 0.05
WILD = 1.0  # of one value to the next, relative to their size; it was 0.05 to 0.6
SLOPES = 0.2, 5.0  # it was 1.6 to 3.0
# Diversity that can be lost; it was 0 at step 450, 0.8 in the end. dcgan's fell from
# 0.3 and rose again while its first sounds came and went.
VARIED = 0.5
COLLAPSED = 0.4  # of the largest diversity so far; it was 0.9 or more
SILENCE = 0.01  # of full scale, -40 dB: a peak below it is hardly heard
MANY = 0.5  # share of clips that makes a sign of what one clip may do
PURE = 0.9  # share of a clip's power in three bins of 62.5 Hz; a tone has 0.98
COPIED = 0.25  # of the distance of real clips from each other


@dataclasses.dataclass(frozen=True)
class Sign:
    """One thing that is wrong.

    name: the same as long as it is; says: the numbers; remedy: what usually helps.
    """

    name: str
    says: str
    remedy: str

    def __str__(self):
        return f"{self.name}: {self.says}. {self.remedy}"


def window(series, tag):
    """(steps, values) of the latest that count, or None where they are too few."""
    if tag not in series:
        return None
    steps, values = map(np.asarray, series[tag])
    steps, values = steps[steps >= EARLY][-WINDOW:], values[steps >= EARLY][-WINDOW:]
    return (steps, values) if len(steps) >= ENOUGH else None


def _span(steps):
    return f"from step {steps[0]} to {steps[-1]}"


def is_early(series):
    """Whether there is too little yet for an opinion on the losses."""
    return window(series, "D_loss") is None


# Of the numbers


def of_training(loss, series):
    """Signs in the scalars of a training.

    Args:
      loss: "wgan-gp", "wgan", "lsgan" or "dcgan".
      series: tag -> (steps, values), as far as there are: D_loss, G_loss, D_x, D_G_z,
        D_x_minus_D_G_z, slopes, G_z_diversity.

    Returns:
      list of `Sign`, empty for a healthy training, and for one too young to tell.
    """
    if found := diverged(series):
        return [found]
    checks = critic_wins, critic_loses, stuck, oscillation, slopes, mode_collapse
    return [sign for check in checks if (sign := check(loss, series))]


def diverged(series):
    for tag in ("D_loss", "G_loss", "D_x", "D_G_z", "gradient_penalty"):
        steps, values = map(np.asarray, series.get(tag, ([], [])))
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            return Sign(
                "diverged",
                f"{tag} is {values[bad[0]]:g} at step {steps[bad[0]]}",
                "Go back to a checkpoint before it, with another --seed; look at what "
                "diverged-STEP.txt names.",
            )


def critic_wins(loss, series):
    """D is sure of itself, and G no longer learns from it."""
    if loss in WON and (found := window(series, "D_loss")):
        steps, D_loss = found
        median, draw = np.median(D_loss), {"dcgan": 0.69, "lsgan": 0.25}[loss]
        if steps[0] >= LATE and median < WON[loss]:
            return Sign(
                "the critic wins",
                f"D_loss is {median:.2g} {_span(steps)}; a draw is {draw}",
                "Give D fewer updates (--specgan_disc_nupdates 1), or take wgan-gp.",
            )
    if loss == "wgan-gp" and (found := window(series, "D_x_minus_D_G_z")):
        steps, gap = found
        largest = _largest_median(series["D_x_minus_D_G_z"][1])
        if steps[0] >= LATE and np.median(gap) > NEAR_PEAK * largest > 0:
            return Sign(
                "the critic wins",
                f"D(real) - D(generated) is {np.median(gap):.3g} {_span(steps)}, and "
                f"was never much larger ({largest:.3g}): G does not gain",
                "Give G more to work with (--specgan_dim) and the training more time; "
                "fewer updates of D help if neither does.",
            )


def critic_loses(loss, series):
    """D takes what is generated for real."""
    if found := window(series, "D_x_minus_D_G_z"):
        steps, gap = found
        if np.mean(gap < 0) >= LOST:
            return Sign(
                "the critic loses",
                f"D rates generated sounds above real ones in {np.mean(gap < 0):.0%} "
                f"of the summaries {_span(steps)}",
                "Give D more updates (--specgan_disc_nupdates) or larger batches.",
            )


def stuck(loss, series):
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


def oscillation(loss, series):
    """From one value to the next, D's gap swings by more than its size."""
    if found := window(series, "D_x_minus_D_G_z"):
        steps, gap = found
        swing, size = np.median(np.abs(np.diff(gap))), np.median(np.abs(gap))
        # A gap that has come down to the noise of a batch swings by its own size, too.
        largest = _largest_median(np.abs(series["D_x_minus_D_G_z"][1]))
        if swing > WILD * size and swing > WILD / 2 * largest:
            return Sign(
                "wild oscillation",
                f"D(real) - D(generated) changes by {swing:.3g} from one summary to "
                f"the next, at a size of {size:.3g}, {_span(steps)}",
                "Lower the learning rate (--train_lr_G, --train_lr_D), "
                "or take larger batches.",
            )


def slopes(loss, series):
    """Of a wgan-gp critic they are to be near 1."""
    if found := window(series, "slopes"):
        steps, values = found
        median, (low, high) = np.median(values), SLOPES
        if not low <= median <= high:
            return Sign(
                "slopes far from 1",
                f"the slopes of D are {median:.2g} {_span(steps)}",
                "The penalty does not hold D: lower its learning rate, or take larger "
                "batches."
                if median > high
                else "D is flat and teaches nothing: more updates of D "
                "(--specgan_disc_nupdates), or a higher learning rate.",
            )


def mode_collapse(loss, series):
    """Generated clips differ less from each other than they did."""
    if found := window(series, "G_z_diversity"):
        steps, values = found
        now, best = np.median(values[-3:]), _largest_median(series["G_z_diversity"][1])
        if best > VARIED and now < COLLAPSED * best:
            return Sign(
                "mode collapse",
                f"at step {steps[-1]} generated clips differ by {now:.0%} of what real "
                f"ones do; it was {best:.0%}",
                "Go back to a checkpoint before it; larger batches, more varied sounds "
                "or wgan-gp keep it away.",
            )


def _largest_median(values):
    """Of any three in a row, so that no single value counts."""
    values = np.asarray(values)
    threes = np.lib.stride_tricks.sliding_window_view(values, min(3, len(values)))
    return float(np.median(threes, axis=1).max())


# Of the sounds


def of_clips(step, real, made):
    """Signs in generated clips, held against real ones.

    Args:
      step: updates of G that made them.
      real, made: waveforms float32 [n, 16384, 1] and [m, 16384, 1]; real may be none.
    """
    if step < LATE:
        return []
    return [sign for sign in (silence(made), single_frequency(real, made)) if sign]


def silence(made):
    quiet = np.max(np.abs(made), axis=(1, 2)) < SILENCE
    if np.mean(quiet) > MANY:
        return Sign(
            "silence",
            f"{np.sum(quiet)} of {len(made)} generated clips peak below {SILENCE:g} of "
            "full scale",
            "Train on; if it stays so, look whether the real sounds are mostly "
            "silence, and compute their moments again.",
        )


def single_frequency(real, made):
    pure, natural = (purity(x) > PURE for x in (made, real))
    if np.mean(pure) > MANY and np.sum(natural) < MANY / 2 * max(len(real), 1):
        return Sign(
            "a single frequency",
            f"{np.sum(pure)} of {len(made)} generated clips have {PURE:.0%} of their "
            f"power in three bins, of real ones {np.sum(natural)} of {len(real)}",
            "Go back to a checkpoint before it; --specgan_genr_upsample nn avoids the "
            "tones that G's layers make.",
        )


def purity(x):
    """Share of a clip's power in its strongest three bins of 62.5 Hz (at 16 kHz).

    x: [n, 16384, 1]; returns [n], 0 for silence.
    """
    frames = np.reshape(x, [len(x), x.shape[1] // 256, 256]) * np.hanning(256)
    power = np.sum(np.square(np.abs(np.fft.rfft(frames))), axis=1)
    three = power[:, :-2] + power[:, 1:-1] + power[:, 2:]
    return three.max(axis=1) / np.maximum(power.sum(axis=1), 1e-9)


def overfitting(distances, apart):
    """Generated clips are copies: nearer to a real one than those are to each other.

    distances: [n], of generated clips to the nearest of all real ones, or of many;
    apart: mean distance of a real one to its nearest other. See `score.nearest`.
    """
    median = np.median(distances)
    if median < COPIED * apart:
        return Sign(
            "copies of the training clips",
            f"generated clips are {median:.3g} from the nearest real one, real ones "
            f"{apart:.3g} from theirs",
            "More sounds, or a checkpoint before it.",
        )
