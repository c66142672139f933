"""A study's document and its picture, of what benchmarks.learning has measured."""

import itertools
import math

import numpy as np

from benchmarks import permutation
from benchmarks.studies import STUDIES

MEASURES = {
    "spectrograms": "Frechet, spectrograms",
    "sounds": "Frechet, sounds",
    "inception": "inception score",
    "to_real": "distance to real",
    "among": "distance among",
    "diversity": "diversity, dB",
    "D_loss": "D's loss",
    "G_loss": "G's loss",
}
LOSSES = "D_loss", "G_loss"
LEVEL = 0.05
QUIET = 1  # dB of diversity: below, nearly all is softer than what `score` hears


def study_of(found):
    return STUDIES[found["settings"]["beside"]]


def values(did, name, step, steps):
    """A measure of a run at a step; a loss is the mean since the step before."""
    if name not in LOSSES:
        return did["scores"][str(step)][name]
    since = max((s for s in (0, *steps) if s < step), default=0)
    column = 1 + LOSSES.index(name)
    return np.mean([row[column] for row in did["losses"] if since < row[0] <= step])


def cells(sides, steps):
    """(measure, step) -> side -> its value in each run."""
    known = next(iter(sides.values()))[0]["scores"]["0"]
    return {
        (name, step): {
            side: [values(did, name, step, steps) for did in runs]
            for side, runs in sides.items()
        }
        for name in MEASURES
        for step in (0, *steps)
        if name in known or (name in LOSSES and step)
    }


def as_pair(found):
    """What `permutation.test` takes, of one data set's cells."""
    pairs = zip(*(cell.values() for cell in found.values()), strict=True)
    here, beside = (np.array(of_side).T for of_side in pairs)
    return beside, here


def tested(found):
    """Rows of every data set: measure, step, both sides, p, adjusted p."""
    steps = found["settings"]["steps"]
    compared = {data: cells(sides, steps) for data, sides in found["runs"].items()}
    results = permutation.test([as_pair(c) for c in compared.values()])
    rows = {}
    for (data, c), (p, adjusted) in zip(compared.items(), results, strict=True):
        sides = zip(c.items(), p, adjusted, strict=True)
        rows[data] = [(*key, *cell.values(), *ps) for (key, cell), *ps in sides]
    return rows


def earlier(sides, steps):
    """What the test says of one side and the other at the checkpoint before.

    Yields (later side, later step, earlier side, earlier step, smallest adjusted p).
    """
    found = cells(sides, steps)
    for before, after in itertools.pairwise(steps):
        for late, early in itertools.permutations(sides):
            names = [name for name, step in found if step == after]
            pair = [
                np.array([found[name, step][side] for name in names]).T
                for side, step in ((late, after), (early, before))
            ]
            ((_, adjusted),) = permutation.test([pair])
            yield late, after, early, before, adjusted.min()


def spread(xs):
    return f"{shown(np.mean(xs))} ± {shown(np.std(xs, ddof=1))}"


def shown(x):
    return f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"


def shown_p(p):
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"


def render(found):
    """The document as text."""
    rows, study = tested(found), study_of(found)
    parts = [
        f"# {study.title}\n",
        study.introduction.format(**counts(found)),
        *answer(found, rows),
        f"![Losses and measures over iterations, both sides]({study.picture})\n",
        PICTURE,
        "## Every comparison\n",
        COMPARISON.format(**counts(found)),
        *(text for data in rows for text in comparison(found, data, rows[data])),
        "## What the test would see\n",
        *control(found),
        "## CPU time\n",
        *cost(found),
        study.not_claimed.format(**counts(found)),
        "## Do it again\n",
        study.again.format(**counts(found)),
    ]
    return "\n".join(parts)


def counts(found):
    """What the texts name."""
    settings, (here, beside) = found["settings"], study_of(found).names.items()
    ours, theirs = (
        [runs[side] for runs in found["runs"].values()] for side, _ in (here, beside)
    )
    m, n = min(map(len, theirs)), min(map(len, ours))
    sets = [f"{found['real'][d]['n']} {d}" for d in found["runs"]]
    versions = {
        here[0]: ours[0][0]["versions"],
        beside[0]: theirs[0][0]["versions"],
    }
    scored = [d for d, r in found["real"].items() if "inception" in r["measures"]]
    return {
        "sets": " and ".join(sets),
        "names": " ".join(f"--data {d}={d.upper()}" for d in found["runs"]),
        "classifier": "".join(f" --classifier {d}=CLASSIFIER" for d in scored),
        "classifier_line": INCEPTION if scored else "",
        "m": m,
        "n": n,
        "here": here[1],
        "beside": beside[1],
        "share": share_of_relabelings(m, n),
        "smallest": shown_p(permutation.smallest_p(m, n)),
        "confidence": f"{100 * (1 - LEVEL):.0f}",
        **{name: found[name] for name in ("clips", "every", "flags")},
        "dim": settings["dim"],
        "batch": settings["batch"],
        "steps": ",".join(map(str, settings["steps"])),
        "last": max(settings["steps"]),
        "machine": ours[0][0]["machine"],
        **{
            f"{side}_{name}": version
            for side, found in versions.items()
            for name, version in found.items()
        },
    }


PICTURE = """Left: D's loss before the last update of each iteration; the line is the mean over the trainings, the band reaches from the smallest to the largest value. The other panels: measures of each training's sounds at each checkpoint, with a line through the means. Dashed: real sounds.
"""

COMPARISON = """Each cell is a mean ± standard deviation over trainings. The measures, by `specgan_tf/eval/score.py`, of {clips} generated sounds:

- *Frechet, spectrograms*: Frechet distance between generated and real sounds, from normalised spectrograms as the networks see them (means of 16 bands in 4 parts of time).
- *Frechet, sounds*: the same from sounds, in dB of 16 mel bands, where levels below -80 dB count as silence.
{classifier_line}- *distance to real*: mean distance to the nearest real sound (the paper's |D|train).
- *distance among*: mean distance to the nearest other generated sound (|D|self).
- *diversity*: mean log-spectral distance between two generated sounds, in dB.
- *D's loss*, *G's loss*: means of the values read every {every} iterations since the previous checkpoint.

*real*: the same measures for {clips} held-out real sounds. *d* is the difference, {here} minus {beside}, in standard deviations over a side's trainings. The {confidence} % interval is for one cell: the shifts that the test would not reject. p comes from a permutation test: {share}. It cannot be below {smallest}. *adjusted* corrects p for the number of comparisons: it is the share of relabelings in which at least one cell of any table differs as strongly.
"""

INCEPTION = """- *inception score*: from a classifier that `train_specgan.py classifier` trained, in one group; higher means clearer and more varied sounds.
"""


def share_of_relabelings(m, n):
    """What p is, in words."""
    ways, every = len(permutation.relabelings(m, n)), math.comb(m + n, m)
    exact, drawn = "exact ", ""
    if ways < every:
        exact, drawn = "", f" (the true one, and {ways - 1} drawn from all {every:,})"
    return (
        f"the {exact}share of the {ways} relabelings of the {m + n} trainings{drawn} with "
        "a difference of means at least as large"
    )


def answer(found, rows):
    """The verdict, as the figures have it."""
    flat = [row for data in rows.values() for row in data]
    n, study = counts(found), study_of(found)
    (ours, name_of_ours), (theirs, name_of_theirs) = study.names.items()
    least = min(row[-1] for row in flat)
    small = sum(row[-2] <= LEVEL for row in flat)
    if least > LEVEL:
        verdict = "**The two sides cannot be told apart.**"
    else:
        said = [
            f"{MEASURES[name]} of {data} at {step}"
            for data, of in rows.items()
            for name, step, *_, adjusted in of
            if adjusted <= LEVEL
        ]
        verdict = f"**The two sides differ** in {', '.join(said)}."
    yield (
        f"- {verdict} Of {len(flat)} comparisons, {small} have p <= {LEVEL}; by chance "
        f"alone, at most {LEVEL * len(flat):.1f} would on average. Adjusted for the number "
        f"of comparisons, the smallest p is {shown_p(least)} (it cannot be below {n['smallest']})."
    )
    for data, sides in found["runs"].items():
        c = cells(sides, found["settings"]["steps"])
        name, last = "spectrograms", n["last"]
        first = [x for xs in c[name, 0].values() for x in xs]
        original, here = (c[name, last][side] for side in (theirs, ours))
        low, high = permutation.shift(original, here, LEVEL)
        yield (
            f"- {data.capitalize()}: the Frechet distance to real spectrograms is "
            f"{spread(first)} untrained, {spread(original)} ({name_of_theirs}) and "
            f"{spread(here)} ({name_of_ours}) after {last} iterations; between two sets of real sounds it is "
            f"{shown(found['real'][data]['measures'][name])}. {name_of_ours.capitalize()} minus "
            f"{name_of_theirs}: {shown(np.mean(here) - np.mean(original))} ({n['confidence']} % interval: "
            f"{shown(low)} to {shown(high)})."
        )
        made = {side: np.array(xs) for side, xs in c["diversity", last].items()}
        quiet = {side: f"{sum(d < QUIET)} of {len(d)}" for side, d in made.items()}
        yield (
            f"- This is early in training: {study.quiet.format(**quiet)} still generate "
            f"nearly silent {data} (a diversity below {QUIET} dB)."
        )
    ratios = [s[theirs] / s[ours] for s in seconds(found).values()]
    yield (
        f"- CPU time of an iteration: {name_of_theirs} takes "
        f"{' and '.join(f'{r:.2f}' for r in ratios)} times as much as {name_of_ours}.\n"
    )


def comparison(found, data, rows):
    """Table of a data set."""
    from benchmarks.parity import markdown

    real = found["real"][data]["measures"]
    here, beside = study_of(found).names.values()
    header = ["", "iterations", beside, here, "real", "d", "interval", "p"]
    table = []
    for name, step, here, original, p, adjusted in rows:
        cut = "untrained" if step == 0 else str(step)
        low, high = map(shown, permutation.shift(original, here, LEVEL))
        table.append(
            [
                MEASURES[name],
                cut,
                *map(spread, (original, here)),
                shown(real[name]) if name in real else "",
                f"{permutation.effect(original, here):+.1f}",
                f"{low} to {high}",
                shown_p(p),
                shown_p(adjusted),
            ]
        )
    yield "\n".join([f"### {data}\n", *markdown([*header, "adjusted"], table), ""])


def control(found):
    """A difference that is there, for the same test to find."""
    from benchmarks.parity import markdown

    yield (
        "A test without findings means something only if it can find a difference. Here "
        "the same test compares one side with the other side's previous checkpoint, over all "
        "measures of a data set at once; p is the smallest adjusted one.\n"
    )
    names = study_of(found).names
    table = [
        [data, f"{names[late]}, {after}", f"{names[early]}, {before}", shown_p(p)]
        for data, sides in found["runs"].items()
        for late, after, early, before, p in earlier(sides, found["settings"]["steps"])
    ]
    yield "\n".join([*markdown(["", "iterations", "beside", "p"], table), ""])


def seconds(found):
    """Data set -> side -> CPU seconds of an iteration, mean over trainings."""
    return {
        data: {
            side: np.mean([did["per_iteration"] for did in runs])
            for side, runs in sides.items()
        }
        for data, sides in found["runs"].items()
    }


def cost(found):
    from benchmarks.parity import markdown

    names, where = study_of(found).names, study_of(found).where
    table, totals = [], dict.fromkeys(names, 0.0)
    for data, sides in found["runs"].items():
        each = {side: [d["per_iteration"] for d in sides[side]] for side in names}
        ours, theirs = map(np.mean, each.values())
        for side in names:
            total = sum(did["total"] for did in sides[side])
            totals[side] += total
            table.append([data, names[side], spread(each[side]), f"{total / 60:.1f}"])
        table[-1].append(f"{theirs / ours:.2f}")
        table[-2].append("1")
    header = ["", "", "CPU s an iteration", "CPU min of all trainings", "ratio"]
    yield "\n".join([*markdown(header, table), ""])
    hours = [f"{totals[side] / 3600:.2f} CPU hours {where[side]}" for side in names]
    yield (
        "CPU seconds of an iteration are those of the whole process, including decoding "
        "and excluding saving. The first iteration of a process, which builds graphs and fills a "
        f"buffer of 4096 sounds, counts only in the totals: {', '.join(hours)}. "
        "Other load on the machine slows both sides alike, because they take turns.\n"
    )


def draw(found, path):
    """Losses with a band over trainings, measures with a mark for each: a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    steps = found["settings"]["steps"]
    names = study_of(found).names
    here, beside = names
    colours = {beside: "black", here: "tab:red"}
    shifts = {beside: -0.008, here: 0.008}  # of the width: marks side by side
    size = len(found["runs"]), 5
    fig, axes = plt.subplots(
        *size,
        figsize=(3.1 * size[1], 2.7 * size[0]),
        squeeze=False,
        layout="constrained",
    )
    for row, (data, sides) in zip(axes, found["runs"].items(), strict=True):
        c, real = cells(sides, steps), found["real"][data]["measures"]
        fifth = "inception" if "inception" in real else "diversity"
        measures = "D_loss", "spectrograms", "sounds", "to_real", fifth
        for ax, name in zip(row, measures, strict=True):
            ax.spines[["top", "right"]].set_visible(False)
            ax.set_title(f"{data}: {MEASURES[name]}", fontsize=10)
            for side in (beside, here):
                color = colours[side]
                if name in LOSSES:
                    readings = np.array([did["losses"] for did in sides[side]])
                    x, y = readings[0, :, 0], readings[:, :, 1 + LOSSES.index(name)]
                    ax.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.2, lw=0)
                    ax.plot(x, y.mean(0), color=color, lw=1.2, label=names[side])
                    continue
                x = np.array([0, *steps]) + shifts[side] * steps[-1]
                y = np.array([c[name, step][side] for step in (0, *steps)])
                ax.plot(x, y.mean(1), color=color, lw=1.2, label=names[side])
                ax.plot(x, y, ".", color=color, ms=5, alpha=0.6, mew=0)
            if name in real:
                ax.axhline(real[name], color="grey", ls="--", lw=1, label="real sounds")
            ax.tick_params(labelsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("iterations", fontsize=9)
    axes[0, 1].legend(fontsize=8, frameon=False)
    fig.savefig(path, dpi=110)
