"""Rows of benchmarks.speed: a 5:1 iteration of wgan-gp, in float32 and bfloat16.

In each turn a side does one update of D and one of G; an iteration is five of the first
and one of the second. The share of the machine's peak counts the multiply-adds of the
convolutions alone, and takes as peak the faster of both libraries' products of two
matrices of the same precision, in the same turns.
"""

import os
import sys

from benchmarks.quick import ROOT
from benchmarks.turns import Side, medians, row, times
from specgan_tf import kernels

# (dim, batch, turns, times the original, times PyTorch)
CASES = (16, 64, 9, 3.0, 1.6), (64, 16, 7, 2.3, 1.7), (64, 64, 5, 2.5, 1.7)
# (dim, batch, turns, times float32)
MIXED_CASES = (
    (16, 16, 15, 2.0),
    (16, 64, 9, 2.0),
    (32, 16, 11, 2.5),
    (64, 16, 9, 3.5),
    (64, 64, 5, 3.5),
)
THAN_AUTOCAST = 1.5  # times PyTorch's half precision, at dim 64 and batch 64
SHARE, MIXED_SHARE = 0.85, 0.5  # of the peak, at dim 64 and batch 64
PRODUCT = 3072  # rows and columns of the matrices

OURS = f"""
import tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
dim, batch, mixed = map(int, argv)
gan = SpecGAN(SpecGANGenerator(dim=dim), SpecGANDiscriminator(dim=dim), seed=0)
gan.compile(mixed_precision=bool(mixed))
x = tf.random.uniform([batch, 128, 128, 1], -1, 1)
a = tf.random.normal([{PRODUCT}, {PRODUCT}])
a = tf.cast(a, tf.bfloat16) if mixed else a
D = tf.function(lambda x: gan.update_D(x, gan.draw_z(batch), gan.draw_alpha(x)))
G = tf.function(lambda: gan.update_G(gan.draw_z(batch)))
product = tf.function(lambda: tf.matmul(a, a))
serve(D=lambda: D(x), G=G, product=product)
"""

TORCH = f"""
import torch
from benchmarks.torch_twin import Twin
dim, batch, mixed = map(int, argv)
twin = Twin(dim, mixed_precision=bool(mixed))
x, a = torch.rand(batch, 1, 128, 128) * 2 - 1, torch.randn({PRODUCT}, {PRODUCT})
a = a.bfloat16() if mixed else a
serve(D=lambda: twin.update_D(x), G=lambda: twin.update_G(batch),
      product=lambda: torch.matmul(a, a))
"""

ORIGINAL = """
import contextlib, importlib.util, io
spec = importlib.util.spec_from_file_location("original", argv.pop(0))
original = importlib.util.module_from_spec(spec)
spec.loader.exec_module(original)
original.load(argv.pop(0))
dim, batch = map(int, argv)
with contextlib.redirect_stdout(io.StringIO()):
    net = original.training({"batch_size": batch, "dim": dim, "loss": "wgan-gp"})
ops = {update.who: op for op, update in net.updates.items()}
s = original.tf.Session()
s.run(original.tf.global_variables_initializer())
x = np.random.uniform(-1, 1, (batch, 128, 128, 1)).astype("f4")
serve(D=lambda: s.run(ops["D"], {net.x: x}), G=lambda: s.run(ops["G"]))
"""


def operations(dim, batch):
    """Multiplications and additions of an iteration's convolutions.

    In passes of one network (G's is as long as D's): for each update of D one of G,
    three of D on what is real, three on what is generated, four between; for the update
    of G three of G and two of D. The first layer, and four that take as long as each
    other: k * k * c * d for each of h * w outputs.
    """
    layers = 64 * 64 * 25 * dim + 4 * 32 * 32 * 25 * dim * (2 * dim)
    return (5 * 11 + 5) * 2 * batch * layers


def take_turns(sides, turns, jobs):
    """Side name -> (CPU seconds, seconds) of an iteration; ends the sides.

    jobs: side name -> which of its jobs to time, D and G among them.
    """
    for _ in range(turns):
        for name, side in sides.items():
            for job in jobs[name]:
                side.turn(job)
    seconds = {}
    for name, side in sides.items():
        both = zip(medians(side.seconds["D"]), medians(side.seconds["G"]), strict=True)
        seconds[name] = tuple(5 * d + g for d, g in both)
        side.end()
    return seconds


def share(what, than, dim, batch, sides, ours, bound):
    """The row of our part of the machine's peak, which the sides' products show."""
    products = (medians(side.seconds["product"])[0] for side in sides)
    peak = 2 * PRODUCT**3 / min(products) / 1e9
    rate = operations(dim, batch) / ours[0] / 1e9
    return row(what, than, "GFLOP/CPU s", rate, peak, bound, "share")


def rows(dim, batch, turns, than_original, than_torch, original=None, python=None):
    sides = {
        "PyTorch": Side(sys.executable, TORCH, dim, batch, 0),
        "us": Side(sys.executable, OURS, dim, batch, 0),
    }
    if original:
        script = os.path.join(ROOT, "specgan_tf", "crosscheck", "original.py")
        argv = script, os.path.abspath(original), dim, batch
        sides["the original"] = Side(python, ORIGINAL, *argv)
    jobs = {name: ["D", "G", "product"] for name in sides}
    jobs["the original"] = ["D", "G"]
    seconds = take_turns(sides, turns, jobs)
    what = f"5:1 iteration, wgan-gp, dim {dim}, batch {batch}"
    ours = seconds.pop("us")
    bounds = {"the original": than_original, "PyTorch": than_torch}
    for than in bounds.keys() & seconds.keys():
        yield times(what, than, ours, seconds[than], bounds[than])
    if (dim, batch) == (64, 64):
        both = sides["us"], sides["PyTorch"]
        yield share(what, "sgemm", dim, batch, both, ours, SHARE)


def mixed_rows(dim, batch, turns, than_float32):
    """Half precision beside float32, and in the largest case beside PyTorch's."""
    fast, reason = kernels.fast_bfloat16()
    if not fast:
        print(f"(no rows of half precision: {reason})")
        return
    largest = (dim, batch) == (64, 64)
    sides = {
        "float32": Side(sys.executable, OURS, dim, batch, 0),
        "us": Side(sys.executable, OURS, dim, batch, 1),
    }
    if largest:
        sides["PyTorch"] = Side(sys.executable, TORCH, dim, batch, 1)
    jobs = {name: ["D", "G", *["product"] * largest] for name in sides}
    seconds = take_turns(sides, turns, jobs)
    what = f"5:1 iteration, wgan-gp, dim {dim}, batch {batch}"
    yield times(what, "float32", seconds["us"], seconds["float32"], than_float32)
    if largest:
        than = "PyTorch, autocast"
        yield times(what, than, seconds["us"], seconds["PyTorch"], THAN_AUTOCAST)
        both = sides["us"], sides["PyTorch"]
        than = "bfloat16 product"
        yield share(what, than, dim, batch, both, seconds["us"], MIXED_SHARE)
