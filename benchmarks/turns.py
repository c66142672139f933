"""Sides of a comparison that take turns, each a process of its own: whatever else the
machine does slows them all alike. Medians of the turns are compared."""

import json
import os
import statistics
import subprocess
import tempfile

from benchmarks.quick import ENV, ROOT

# What the code of every side begins with; for Python 3.6 too. A job may return how many
# it did; its time is that of one, of this process and of those it ended.
SERVE = """
import json, resource, sys, time
import numpy as np
argv, sys.argv = sys.argv[1:], [""]

def cpu():
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)

def serve(warm_up=1, **jobs):
    for _ in range(warm_up):
        for job in jobs.values():
            job()
    print("ready", flush=True)
    for line in sys.stdin:
        start = cpu(), time.time()
        n = jobs[line.strip()]()
        n = n if isinstance(n, int) else 1
        seconds = (cpu() - start[0]) / n, (time.time() - start[1]) / n
        print("seconds " + json.dumps(seconds), flush=True)
"""


class Side:
    """Runs `code`, which serves jobs, and keeps their seconds.

    Args:
      python: the interpreter.
      code: ends with a call of `serve`.
      argv: for the code: `argv`, of strings.
    """

    def __init__(self, python, code, *argv):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, "-c", SERVE + code, *map(str, argv)],
            cwd=ROOT,
            env={**os.environ, **ENV},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.seconds = {}  # job -> [(CPU seconds, seconds)]
        self.said("ready")

    def said(self, word):
        """The rest of the next line with this first word; the original says more."""
        for line in self.process.stdout:
            if line.startswith(word):
                return line[len(word) :]
        self.errors.seek(0)
        raise RuntimeError(f"a side ended; it said:\n{self.errors.read()[-2000:]}")

    def turn(self, job):
        print(job, file=self.process.stdin, flush=True)
        self.seconds.setdefault(job, []).append(json.loads(self.said("seconds")))

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def medians(seconds):
    """[(CPU seconds, seconds)] -> both medians."""
    return tuple(map(statistics.median, zip(*seconds, strict=True)))


def row(what, than, unit, ours, theirs, bound, kind="times", **more):
    """A line of the table.

    Args:
      kind: "times" (theirs over ours, at least `bound`), "share" (ours over theirs, at
        least), "cost" (ours over theirs, at most), or "part": as "times", of a part of
        our own work alone. bound None: no bound is set.
    """
    ratio = theirs / ours if kind == "times" else ours / theirs
    reached = None
    if bound is not None:
        reached = ratio <= bound if kind == "cost" else ratio >= bound
    values = {"ours": ours, "theirs": theirs, "ratio": ratio, "bound": bound}
    return {"what": what, "than": than, "unit": unit, **values, "kind": kind} | {
        "reached": reached,
        **more,
    }


def times(what, than, ours, theirs, bound):
    """`row` of two sides' (CPU seconds, seconds) of one."""
    more = {"ours, wall s": ours[1], "theirs, wall s": theirs[1]}
    more["ratio, wall"] = theirs[1] / ours[1]
    return row(what, than, "CPU s", ours[0], theirs[0], bound, **more)
