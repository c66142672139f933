"""Speed of training: python -m benchmarks.iteration [--original DIR --python PY]

One 5:1 iteration of wgan-gp, against PyTorch (`pip install 'specgan_tf[torch]'`) and
the original under TensorFlow 1.12: DIR is its checkout, PY a Python that has it (see
the README). Every contender is a process of its own that waits while the others work;
in each round each does one update of D and one of G, an iteration is five of the first
and one of the second, and medians of the rounds are compared. The share of the
machine's peak counts the multiply-adds of the convolutions alone, and takes as peak the
faster of both libraries' products of two matrices, in the same rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmarks.quick import ENV, ROOT

# (dim, batch, rounds, times the original, times PyTorch)
CASES = (64, 64, 3, 2.5, 1.7), (64, 16, 5, 2.3, 1.7), (16, 64, 7, 3.0, 1.6)
SHARE = 0.85  # of the peak, at dim 64 and batch 64

# What every contender does when asked; `act` maps what may be asked to a function.
SERVE = """
import json, sys, time
def serve(act):
    for f in act.values():
        f()
    print("ready", flush=True)
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        act[line.strip()]()
        seconds = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps(seconds), flush=True)
dim, batch = int(sys.argv[1]), int(sys.argv[2])
"""

OURS = (
    SERVE
    + """
import tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
gan = SpecGAN(SpecGANGenerator(dim=dim), SpecGANDiscriminator(dim=dim), seed=0)
gan.compile()
x, a = tf.random.uniform([batch, 128, 128, 1], -1, 1), tf.random.normal([3072, 3072])
D = tf.function(lambda x: gan.update_D(x, gan.draw_z(batch), gan.draw_alpha(x)))
G = tf.function(lambda: gan.update_G(gan.draw_z(batch)))
product = tf.function(lambda: tf.matmul(a, a))
serve({"D": lambda: D(x), "G": G, "product": lambda: product().numpy()})
"""
)

TORCH = (
    SERVE
    + """
import torch
from benchmarks.torch_twin import Twin
twin = Twin(dim)
x, a = torch.rand(batch, 1, 128, 128) * 2 - 1, torch.randn(3072, 3072)
serve({
    "D": lambda: twin.update_D(x), "G": lambda: twin.update_G(batch),
    "product": lambda: torch.matmul(a, a),
})
"""
)

ORIGINAL = (
    SERVE
    + """
import importlib.util
spec = importlib.util.spec_from_file_location("original", sys.argv[3])
original = importlib.util.module_from_spec(spec)
spec.loader.exec_module(original)
original.load(sys.argv[4])
import contextlib, io
import numpy as np
with contextlib.redirect_stdout(io.StringIO()):
    net = original.training({"batch_size": batch, "dim": dim, "loss": "wgan-gp"})
ops = {update.who: op for op, update in net.updates.items()}
s = original.tf.Session()
s.run(original.tf.global_variables_initializer())
x = np.random.uniform(-1, 1, (batch, 128, 128, 1)).astype("f4")
serve({"D": lambda: s.run(ops["D"], {net.x: x}), "G": lambda: s.run(ops["G"])})
"""
)


class Contender:
    """A process that times what it is asked to do."""

    def __init__(self, python, code, *argv):
        self.process = subprocess.Popen(
            [python, "-c", code, *map(str, argv)],
            cwd=ROOT,
            env={**os.environ, **ENV},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{python} could not run this:\n{code}")
        self.seconds = {}  # what was done -> [(CPU, wall)]

    def do(self, what):
        print(what, file=self.process.stdin, flush=True)
        seconds = json.loads(self.process.stdout.readline())
        self.seconds.setdefault(what, []).append(seconds)

    def median(self, what, which=0):
        return statistics.median(s[which] for s in self.seconds[what])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def operations(dim, batch):
    """Multiplications and additions of an iteration's convolutions.

    In passes of one network (G's is as long as D's): for each update of D one of G,
    three of D on what is real, three on what is generated, four between; for the update
    of G three of G and two of D. The first layer, and four that take as long as each
    other: k * k * c * d for each of h * w outputs.
    """
    layers = 64 * 64 * 25 * dim + 4 * 32 * 32 * 25 * dim * (2 * dim)
    return (5 * 11 + 5) * 2 * batch * layers


def measure(dim, batch, rounds, original=None, python=None, torch=True):
    """Seconds of an iteration for each contender, and ours over the peak."""
    contenders = {"ours": Contender(sys.executable, OURS, dim, batch)}
    if torch:
        contenders["torch"] = Contender(sys.executable, TORCH, dim, batch)
    if original:
        script = os.path.join(ROOT, "specgan_tf", "original.py")
        contenders["original"] = Contender(
            python, ORIGINAL, dim, batch, script, os.path.abspath(original)
        )
    for _ in range(rounds):
        for name, contender in contenders.items():
            for what in ("D", "G", *["product"] * (name != "original")):
                contender.do(what)
    result = {"dim": dim, "batch": batch, "rounds": rounds}
    for name, c in contenders.items():
        for i, kind in enumerate(("CPU s", "s")):
            result[f"{name}, {kind}"] = 5 * c.median("D", i) + c.median("G", i)
        c.end()
    peak = max(
        2 * 3072**3 / c.median("product")
        for c in contenders.values()
        if "product" in c.seconds
    )
    rate = operations(dim, batch) / result["ours, CPU s"]
    result |= {"GFLOP per CPU s": rate / 1e9, "of the peak": rate / peak}
    for name in contenders.keys() - {"ours"}:
        result[f"times {name}"] = result[f"{name}, CPU s"] / result["ours, CPU s"]
        result[f"times {name}, wall"] = result[f"{name}, s"] / result["ours, s"]
    return result


def rows(original=None, python=None, torch=True):
    """(what, ratio, bound, measured) of each case, slowest last."""
    for dim, batch, rounds, than_original, than_torch in reversed(CASES):
        m = measure(dim, batch, rounds, original, python, torch)
        what = f"5:1 iteration, wgan-gp, dim {dim}, batch {batch}"
        if original:
            yield f"{what}, than the original", m["times original"], than_original, m
        if torch:
            yield f"{what}, than PyTorch", m["times torch"], than_torch, m
        if (dim, batch) == (64, 64):
            yield f"{what}, of the machine's peak", m["of the peak"], SHARE, m


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--original", help="checkout of chrisdonahue/wavegan")
    p.add_argument("--python", help="a Python with TensorFlow 1.12")
    p.add_argument("--no-torch", action="store_true")
    args = p.parse_args()
    if bool(args.original) != bool(args.python):
        p.error("--original and --python go together")
    for what, ratio, bound, measured in rows(
        args.original, args.python, not args.no_torch
    ):
        print(f"{ratio:6.2f}  (to reach: {bound})  {what}")
        print("       ", ", ".join(f"{k} {v:.4g}" for k, v in measured.items()))


if __name__ == "__main__":
    main()
