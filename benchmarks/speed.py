"""Speed, beside the original and others: python -m benchmarks.speed [--original DIR --python PY]

Prints the table of docs/SPEED.md and writes benchmarks/out/speed.json and speed.png
(docs/speed.png: `--draw docs/SPEED.md docs/speed.png`). DIR is an unmodified checkout of the original, PY a
Python with what original-requirements.txt lists; PyTorch comes with `pip install
'specgan_tf[benchmarks]'`. Every side is a process of its own; they take turns, and medians
of the turns are compared, in CPU seconds (user and system) where it does not say
otherwise. Ends with status 1 if a bound was not reached.
"""  # noqa: E501

import argparse
import contextlib
import functools
import json
import os
import platform
import re
import sys
import tempfile

from benchmarks import iteration
from benchmarks.quick import ROOT
from benchmarks.stages import Stages

OUT = os.path.join(ROOT, "benchmarks", "out")


def jobs(original, python, folder):
    """Name -> a function that gives rows."""
    stages = Stages(original, python, folder)
    yield "moments", lambda: stages.moments(0, "moments of a clip, once in a process")
    yield "moments", lambda: stages.moments(1, "moments of a clip, again")
    yield "memory", stages.memory
    for what, bound, cache in (
        ("fast_wav", 3, None),
        ("cached in memory", 8, "memory"),
        ("cached in a folder", 8, folder + "/cache"),
    ):
        what = f"a slice, {what}"
        yield what, functools.partial(stages.loader, what, bound, cache)
    for rate, bound in ((16000, 50), (44100, 5)):
        for kind in ("wav", "flac", "ogg", "mp3"):
            yield "decoding", functools.partial(stages.decoding, bound, kind, rate)
    yield "f_to_t", stages.f_to_t
    yield "cold", stages.cold
    yield "summaries", stages.summaries
    for case in iteration.CASES:
        job = functools.partial(iteration.rows, *case, original, python)
        yield f"iteration {case[0]} {case[1]}", job
    for case in iteration.MIXED_CASES:
        job = functools.partial(iteration.mixed_rows, *case)
        yield f"iteration mixed {case[0]} {case[1]}", job


SMALLER = {"s": (1000, ["s", "ms", "µs"]), "GiB": (1024, ["GiB", "MiB"])}


def quantity(value, unit):
    """0.0034, "CPU s" -> "3.4 CPU ms"."""
    *which, name = unit.split()
    factor, names = SMALLER.get(name, (1, [name]))
    while value < 0.1 and len(names) > 1:
        value, names = value * factor, names[1:]
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return " ".join([digits, *which, names[0]])


def line(row):
    """Of the Markdown table."""
    ours, theirs = (quantity(row[side], row["unit"]) for side in ("ours", "theirs"))
    sign = "≤" if row["kind"] == "cost" else "≥"
    bound = "" if row["bound"] is None else f"{sign} {row['bound']:g}"
    reached = {True: "yes", False: "**no**", None: ""}[row["reached"]]
    ratio = f"{row['ratio']:.2g}" if row["ratio"] < 1 else f"{row['ratio']:.3g}"
    cells = row["what"], row["than"], ours, theirs, ratio, bound, reached
    return f"| {' | '.join(cells)} |"


HEAD = """| | beside | here | there | ratio | to reach | reached |
|---|---|---|---|---|---|---|"""


# The picture's bars: what, beside whom, in words.
HEADLINES = (
    ("a slice, default decoding, WAV at 16 kHz", "the original", "Decode a WAV file"),
    (
        "a slice, default decoding, MP3 at 44.1 kHz",
        "the original",
        "Decode and resample an MP3 file",
    ),
    ("moments of a clip, once in a process", "the original", "Moments of the data"),
    ("f_to_t of a clip, of 64, ngl 16", "the original", "Spectrogram to sound"),
    (
        "5:1 iteration, wgan-gp, dim 64, batch 64",
        "the original",
        "Training, dim 64, batch 64",
    ),
    (
        "5:1 iteration, wgan-gp, dim 64, batch 64",
        "PyTorch",
        "Training, dim 64, batch 64",
    ),
)
COLOURS = {"the original": "#2b6777", "PyTorch": "#c2602a"}
BESIDE = {"the original": "the original (TensorFlow 1.12)", "PyTorch": "PyTorch"}


def picture(ratios, path):
    """Draw the HEADLINES as bars: how many times fewer CPU seconds.

    Args:
      ratios: (what, than) -> ratio; headlines without one are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    bars = [(title, than, ratios.get((w, than))) for w, than, title in HEADLINES][::-1]
    bars = [bar for bar in bars if bar[2]]
    if not bars:
        return
    fig, ax = plt.subplots(figsize=(8, 0.5 * len(bars) + 1.3), layout="constrained")
    for i, (_, than, ratio) in enumerate(bars):
        label = None if than in [bar[1] for bar in bars[:i]] else BESIDE[than]
        ax.barh(i, ratio - 1, left=1, height=0.62, color=COLOURS[than], label=label)
        digits = f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
        ax.text(ratio * 1.06, i, f"{digits} x", va="center", weight="bold", fontsize=12)
    ax.set_xscale("log")
    ax.set_xlim(1, max(ratio for *_, ratio in bars) * 1.9)
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if t < ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{t}x" for t in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(bars)), [title for title, *_ in bars], fontsize=12)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#dddddd")
    ax.set_axisbelow(True)
    ax.set_title("Times fewer CPU seconds than", loc="left", fontsize=12)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], frameon=False, loc="lower right")
    ax.spines[["top", "right", "left"]].set_visible(False)
    fig.savefig(path, dpi=110)


def ratios_in(document):
    """(what, than) -> ratio, from the table that this command printed into it."""
    with open(document, encoding="utf-8") as f:
        cells = [[c.strip() for c in line.split("|")] for line in f if line[:1] == "|"]
    wanted = {(what, than) for what, than, _ in HEADLINES}
    return {(c[1], c[2]): float(c[5]) for c in cells if tuple(c[1:3]) in wanted}


def cpu():
    """Cores, their name, and the widest vectors they compute with."""
    said = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
        said = dict(re.findall(r"^(model name|flags)\s*: (.*)$", f.read(), re.M))
    flags = said.get("flags", "").split()
    widest = next((v for v in ("amx_bf16", "avx512f", "avx2") if v in flags), "neither")
    name = said.get("model name", platform.processor())
    return f"{os.cpu_count()} cores, {name}, {widest}"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--original", metavar="DIR", help="the original's checkout")
    p.add_argument("--python", metavar="PY", help="a Python with TensorFlow 1.12")
    p.add_argument("--only", default="", help="what has this in its name")
    p.add_argument(
        "--draw",
        nargs=2,
        metavar=("DOCUMENT", "PNG"),
        help="measure nothing: draw the table in DOCUMENT, as docs/SPEED.md",
    )
    args = p.parse_args()
    if args.draw:
        document, path = args.draw
        return picture(ratios_in(document), path)
    if bool(args.original) != bool(args.python):
        p.error("--original and --python go together")
    rows = []
    print(f"On {cpu()}:\n\n{HEAD}")
    with tempfile.TemporaryDirectory() as folder:
        for name, job in jobs(args.original, args.python, folder):
            if args.only in name:
                for row in job():
                    print(line(row), flush=True)
                    rows.append(row)
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "speed.json"), "w") as f:
        json.dump({"machine": cpu(), "rows": rows}, f, indent=2)
    ratios = {(r["what"], r["than"]): r["ratio"] for r in rows}
    picture(ratios, os.path.join(OUT, "speed.png"))
    sys.exit(any(row["reached"] is False for row in rows))


if __name__ == "__main__":
    main()
