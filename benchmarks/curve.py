"""How long to train: scores of a training's checkpoints over its hours.

    python -m benchmarks.curve drums=TRAINING digits=TRAINING \\
        --classifier drums=FILE --classifier digits=FILE

scores the checkpoints that each training folder still has (--train_keep), at most
--checkpoints of them, evenly spread, all with the same latents; writes the picture
docs/curve.png and the section of docs/SOUNDS.md.
"""

import argparse
import json
import logging
import os
import sys

import numpy as np

from benchmarks import bundle, sections
from specgan_tf import load_moments
from specgan_tf.cli.data import find_files
from specgan_tf.cli.run import run
from specgan_tf.cli.settings import griffin_lim, resolve_settings
from specgan_tf.errors import InputError
from specgan_tf.eval import score
from specgan_tf.eval.classifier import Classifier
from specgan_tf.files import replacing
from specgan_tf.report.gather import find_checkpoints
from specgan_tf.report.sections import spread
from specgan_tf.weights import checkpoint

log = logging.getLogger("specgan_tf")

NAME = "benchmarks.curve"  # of its section
CLIPS = 256
FAST = 90  # percentile of a training's rates: when little else ran
MEASURES = {
    "inception_score": "inception score",
    "frechet_log_mel": "Frechet distance, log-mel",
    "log_spectral_distance": "diversity, dB",
}
TEXT = """## How long to train

Written by `python -m benchmarks.curve`. {clips} sounds of each checkpoint, all from
the same latents, are scored as [SCORES.md](SCORES.md) describes, the inception score
in one group. Only checkpoints that the training kept are listed. *Real* are equally
many real sounds; their Frechet distance is to the other real sounds. The hours are the
steps divided by the rate of the training while the machine did little else (the
{fast}th percentile of its rates between two summaries), on two CPU cores.

![Scores over hours of training]({picture})
"""


def rate(series):
    """Steps a second of a training: see `FAST`. None where nothing tells.

    series: of each run (steps, seconds), as they were recorded.
    """
    rates = [np.diff(steps) / np.diff(seconds) for steps, seconds in series]
    rates = np.concatenate([*rates, []])
    return float(np.percentile(rates, FAST)) if len(rates) else None


def recorded(train_dir):
    """(steps, seconds) of the summaries of each run, each step once."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for name in sorted(n for n in os.listdir(train_dir) if "tfevents" in n):
        first = {}
        for event in EventFileLoader(os.path.join(train_dir, name)).Load():
            if event.summary.value and event.step > 0:
                first.setdefault(event.step, event.wall_time)
        steps = sorted(first)
        yield np.array(steps), np.array([first[step] for step in steps])


def scores(x, features, judge):
    """The measures of clips [n, 16384], held against the features of real ones."""
    found = {
        "frechet_log_mel": score.frechet_distance(score.features_log_mel(x), features),
        "log_spectral_distance": score.diversity(x),
    }
    if judge:
        p = judge.probabilities(x)
        found["inception_score"] = score.inception_score(p, 1)[0]
    return found


def measure(train_dir, judge, n):
    """Of a training: its rate, the scores of its checkpoints, and of real sounds."""
    checkpoints = find_checkpoints(train_dir)
    checkpoints.pop(0, None)  # before the first step
    if not checkpoints:
        raise InputError(f"no checkpoint in {train_dir} yet: train first")
    settings = resolve_settings({"mode": "score", "train_dir": train_dir})
    real = bundle.slices(find_files(settings), settings)
    real = real[np.random.RandomState(0).permutation(len(real))]
    features = score.features_log_mel(real)
    some = min(CLIPS, len(real) // 2)
    found = {"rate": rate(recorded(train_dir)), "steps": {}}
    found["real"] = scores(real[:some], features[some:], judge)
    moments = load_moments(train_dir)
    for step in spread(checkpoints, n):
        G = checkpoint.load_generator(checkpoints[step])
        x = bundle.sounds(G, moments, griffin_lim(settings), some, bundle.CHOOSE)
        found["steps"][step] = scores(x, features, judge)
        log.info("step %d: %s", step, found["steps"][step])
    return found | {"clips": some}


def hours(step, of):
    """Hours that a training of this rate takes to a step; None if it is not known."""
    return of["rate"] and step / of["rate"] / 3600


def section(found, picture):
    clips = sorted({of["clips"] for of in found.values()})
    text = TEXT.format(clips=" and ".join(map(str, clips)), fast=FAST, picture=picture)
    lines = [text]
    for name, of in found.items():
        speed = f" ({of['rate']:.1f} steps a second)" if of["rate"] else ""
        measures = [m for m in MEASURES if m in of["real"]]
        lines += [f"{name}{speed}:", ""]
        rows = [["step", "hours", *(MEASURES[m] for m in measures)]]
        rows.append(["---"] * len(rows[0]))
        for step, values in [*of["steps"].items(), ("real", of["real"])]:
            at = hours(step, of) if step != "real" else None
            cells = [str(step), "" if at is None else f"{at:.2f}"]
            rows.append(cells + [f"{values[m]:.2f}" for m in measures])
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines)


def draw(found, path):
    """The picture: a column for each training, a row for each of two measures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    measures = ["inception_score", "frechet_log_mel"]
    measures = [m for m in measures if all(m in of["real"] for of in found.values())]
    fig, axes = plt.subplots(
        len(measures),
        len(found),
        figsize=(4.2 * len(found), 2.6 * len(measures)),
        layout="constrained",
        squeeze=False,
        sharex="col",
    )
    for column, (name, of) in zip(axes.T, found.items(), strict=True):
        steps = list(of["steps"])
        x = [hours(step, of) for step in steps] if of["rate"] else steps
        for ax, measured in zip(column, measures, strict=True):
            y = [of["steps"][step][measured] for step in steps]
            ax.plot(x, y, "o-", color="#2b6777", label=f"{name}, generated")
            ax.axhline(of["real"][measured], color="#888", ls="--", label="real sounds")
            top = 1.1 * max(*y, of["real"][measured])
            ax.set_ylim(1 if measured == "inception_score" else 0, top)
            ax.set_ylabel(MEASURES[measured])
            ax.spines[["top", "right"]].set_visible(False)
        column[0].set_title(name)
        column[0].legend(frameon=False, fontsize="small")
        column[-1].set_xlabel("hours" if of["rate"] else "step")
        column[-1].set_xlim(0, None)
    with replacing(path) as f:
        fig.savefig(f, dpi=110, format="png")
    plt.close(fig)


def make(args):
    if args.document:
        sections.around(args.document, NAME)  # refused before the work
    judges = {name: Classifier.load(fp) for name, fp in args.classifier}
    found = {
        name: measure(train_dir, judges.get(name), args.checkpoints)
        for name, train_dir in args.trainings
    }
    if args.json:
        with replacing(args.json, "w") as f:
            json.dump(found, f, indent=1)
    draw(found, args.picture)
    if args.document:
        folder = os.path.dirname(os.path.abspath(args.document))
        picture = os.path.relpath(args.picture, folder)
        sections.write(args.document, NAME, section(found, picture))


def named(text):
    """NAME=PATH -> (name, path)."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"must be NAME=PATH. Received: {text!r}")
    return name, path


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("trainings", nargs="+", type=named, metavar="NAME=TRAINING")
    p.add_argument(
        "--classifier",
        action="append",
        default=[],
        type=named,
        metavar="NAME=FILE",
        help="of the sounds of training NAME, for an inception score",
    )
    p.add_argument("--checkpoints", type=int, default=10, help="of a training, at most")
    p.add_argument("--picture", default="docs/curve.png")
    p.add_argument("--document", default="docs/SOUNDS.md", help="'' writes none")
    p.add_argument("--json", help="keep the figures")
    args = p.parse_args(argv)
    return run("benchmarks.curve", lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
