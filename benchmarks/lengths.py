"""What longer slices cost: memory, and CPU seconds of an iteration; docs/TRAINING.md.

    python -m benchmarks.lengths [--dims 16,32,64] [--batch 16] [--document]

An iteration is the default's: five updates of D and one of G, wgan-gp. Each case runs
in a process of its own, whose first updates, which compile, are not counted. With
--document the table of docs/TRAINING.md is rewritten.
"""

import argparse
import json
import os
import subprocess
import sys

from benchmarks import sections
from benchmarks.quick import ENV, ROOT
from benchmarks.speed import cpu
from specgan_tf.specgan import SLICE_LENS

NAME = "benchmarks.lengths"  # of its section
CASE = """
import json, resource, statistics, sys, time
import tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
slice_len, dim, batch, mixed = map(int, sys.argv[1:])
nets = (kind(dim=dim, slice_len=slice_len)
        for kind in (SpecGANGenerator, SpecGANDiscriminator))
gan = SpecGAN(*nets, seed=0)
gan.compile(mixed_precision=bool(mixed))
x = tf.random.uniform([batch, slice_len // 128, 128, 1], -1, 1)
D = tf.function(lambda x: gan.update_D(x, gan.draw_z(batch), gan.draw_alpha(x)))
G = tf.function(lambda: gan.update_G(gan.draw_z(batch)))
def seconds(job, turns=3):
    job()
    taken = []
    for _ in range(turns):
        began = time.process_time()
        job()
        taken.append(time.process_time() - began)
    return statistics.median(taken)
cpu = 5 * seconds(lambda: D(x)) + seconds(G)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds": cpu, "memory": peak}))
"""


def measure(slice_len, dim, batch, mixed):
    argv = map(str, (slice_len, dim, batch, int(mixed)))
    command = [sys.executable, "-c", CASE, *argv]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **ENV}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: dim {dim}, {slice_len} samples: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def table(found, dims, batch, mixed):
    """found: (slice_len, dim) -> seconds and memory."""
    precision = "`--mixed_precision`" if mixed else "float32"
    lines = [
        "CPU seconds of an iteration (five updates of D and one of G), and the most "
        f"memory a process took; wgan-gp, batch {batch}, {precision}, {cpu()}. "
        "By `python -m benchmarks.lengths --document`.\n",
        "| `--data_slice_len` | at 16 kHz | " + " | ".join(f"dim {d}" for d in dims),
        "|---|---|" + "---|" * len(dims),
    ]
    for slice_len in SLICE_LENS:
        cells = (found[slice_len, dim] for dim in dims)
        cells = (f"{c['seconds']:.2g} s, {c['memory']:.1f} GiB" for c in cells)
        row = [str(slice_len), f"{slice_len / 16000:.1f} s", *cells]
        lines.append("| " + " | ".join(row) + " |")
    lines[1] += " |"
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dims", default="16,32,64")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--float32", action="store_true", help="not half precision")
    p.add_argument("--document", action="store_true")
    args = p.parse_args()
    dims = [int(dim) for dim in args.dims.split(",")]
    found = {}
    for dim in dims:
        for slice_len in SLICE_LENS:
            case = measure(slice_len, dim, args.batch, not args.float32)
            found[slice_len, dim] = case
            print(f"dim {dim}, {slice_len} samples: {case}", flush=True)
    made = table(found, dims, args.batch, not args.float32)
    print(made)
    if args.document:
        sections.write(os.path.join(ROOT, "docs", "TRAINING.md"), NAME, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
