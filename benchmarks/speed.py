"""Speed, beside the original and others: python -m benchmarks.speed [--original DIR --python PY]

Prints the table of docs/SPEED.md and writes benchmarks/out/speed.json and speed.png
(docs/speed.png is such a picture). DIR is an unmodified checkout of the original, PY a
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


def picture(rows, path):
    """Every ratio of a speed, beside what it is to reach."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [r for r in rows if r["kind"] == "times"][::-1]
    if not rows:
        return
    colours = {"the original": "#2b6777", "PyTorch": "#e07a3f"}
    fig, ax = plt.subplots(figsize=(9, 0.32 * len(rows) + 1), layout="constrained")
    y = range(len(rows))
    ax.barh(
        y,
        [r["ratio"] for r in rows],
        color=[colours.get(r["than"], "#8a8a5c") for r in rows],
    )
    for i, r in enumerate(rows):
        end = max(r["ratio"], r["bound"] or 0)
        ax.text(end * 1.06, i, f"{r['ratio']:.3g}", va="center", fontsize=8)
        if r["bound"]:
            ax.plot([r["bound"]] * 2, [i - 0.4, i + 0.4], color="black", lw=1.5)
    ax.set_xscale("log")
    ax.set_ylim(-0.8, len(rows) - 0.2)
    ax.set_xlim(left=0.8, right=max(r["ratio"] for r in rows) * 1.8)
    ax.axvline(1, color="grey", lw=0.8)
    ax.set_yticks(y, [f"{r['what']}  /  {r['than']}" for r in rows], fontsize=8)
    ax.set_xlabel("times fewer CPU seconds here (bar); to reach (stroke)")
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=110)


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
    args = p.parse_args()
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
    picture(rows, os.path.join(OUT, "speed.png"))
    sys.exit(any(row["reached"] is False for row in rows))


if __name__ == "__main__":
    main()
