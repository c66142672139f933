"""Rows of benchmarks.speed: one 5:1 iteration of wgan-gp.

In each turn a side does one update of D and one of G; an iteration is five of the first
and one of the second. The share of the machine's peak counts the multiply-adds of the
convolutions alone, and takes as peak the faster of both libraries' products of two
matrices, in the same turns.
"""

import os
import sys

from benchmarks.quick import ROOT
from benchmarks.turns import Side, medians, row, times

# (dim, batch, turns, times the original, times PyTorch)
CASES = (16, 64, 9, 3.0, 1.6), (64, 16, 7, 2.3, 1.7), (64, 64, 5, 2.5, 1.7)
SHARE = 0.85  # of the peak, at dim 64 and batch 64
PRODUCT = 3072  # rows and columns of the matrices

OURS = f"""
import tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
dim, batch = map(int, argv)
gan = SpecGAN(SpecGANGenerator(dim=dim), SpecGANDiscriminator(dim=dim), seed=0)
gan.compile()
x = tf.random.uniform([batch, 128, 128, 1], -1, 1)
a = tf.random.normal([{PRODUCT}, {PRODUCT}])
D = tf.function(lambda x: gan.update_D(x, gan.draw_z(batch), gan.draw_alpha(x)))
G = tf.function(lambda: gan.update_G(gan.draw_z(batch)))
product = tf.function(lambda: tf.matmul(a, a))
serve(D=lambda: D(x), G=G, product=product)
"""

TORCH = f"""
import torch
from benchmarks.torch_twin import Twin
dim, batch = map(int, argv)
twin = Twin(dim)
x, a = torch.rand(batch, 1, 128, 128) * 2 - 1, torch.randn({PRODUCT}, {PRODUCT})
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


def rows(dim, batch, turns, than_original, than_torch, original=None, python=None):
    sides = {
        "PyTorch": Side(sys.executable, TORCH, dim, batch),
        "us": Side(sys.executable, OURS, dim, batch),
    }
    if original:
        script = os.path.join(ROOT, "specgan_tf", "crosscheck", "original.py")
        argv = script, os.path.abspath(original), dim, batch
        sides["the original"] = Side(python, ORIGINAL, *argv)
    for _ in range(turns):
        for name, side in sides.items():
            for job in ("D", "G", *["product"] * (name != "the original")):
                side.turn(job)
    seconds = {}
    for name, side in sides.items():
        both = zip(medians(side.seconds["D"]), medians(side.seconds["G"]), strict=True)
        seconds[name] = tuple(5 * d + g for d, g in both)
        side.end()
    what = f"5:1 iteration, wgan-gp, dim {dim}, batch {batch}"
    ours = seconds.pop("us")
    bounds = {"the original": than_original, "PyTorch": than_torch}
    for than in bounds.keys() & seconds.keys():
        yield times(what, than, ours, seconds[than], bounds[than])
    if (dim, batch) == (64, 64):
        products = (medians(sides[s].seconds["product"])[0] for s in ("us", "PyTorch"))
        peak = 2 * PRODUCT**3 / min(products) / 1e9
        rate = operations(dim, batch) / ours[0] / 1e9
        yield row(what, "sgemm", "GFLOP/CPU s", rate, peak, SHARE, "share")
