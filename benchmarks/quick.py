"""Speed and memory at a glance: python -m benchmarks.quick [--demo]

Prints a table and writes benchmarks/out/quick.json. Each figure is taken in a process
of its own; the two sides of a ratio are interleaved and their medians compared. --demo
also times `make demo` in a fresh clone, installation included.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENV = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
DRUMS = os.path.join(ROOT, "specgan_tf", "data", "drums")


def python(code, *argv):
    """Run `code` in a fresh interpreter: CPU seconds, and the JSON it printed last."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, **ENV},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, json.loads(out.splitlines()[-1]) if out else None


def import_ratio(repeats=5):
    """CPU seconds of importing the networks over those of importing what they need."""
    ours, theirs = [], []
    for _ in range(repeats + 1):
        ours.append(python("from specgan_tf import *")[0])
        theirs.append(python("import tensorflow, keras")[0])
    ours, theirs = (statistics.median(t[1:]) for t in (ours, theirs))
    return {
        "from specgan_tf import *, CPU s": ours,
        "import tensorflow, keras, CPU s": theirs,
        "ratio": ours / theirs,
    }


PEAK = """
import json, resource
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB -> GiB
"""

MOMENTS = (
    PEAK
    + """
import sys, time
from specgan_tf import loader, moments, spectral
fps = loader.find_audio(sys.argv[1]) * int(sys.argv[2])
start, cpu = peak(), time.process_time()
x = loader.decode_extract_and_batch(fps, 1, spectral.SLICE_LEN, 16000, 1,
    decode_parallel_calls=4, slice_first_only=True, slice_pad_end=True)
x = x.unbatch().batch(64).prefetch(2)
n = moments.moments(b[:, :, 0, 0] for b in x)[2]
cpu = time.process_time() - cpu
print(json.dumps({"clips": n, "peak GiB": peak() - start, "clips/CPU s": n / cpu}))
"""
)


def moments_memory():
    """Peak memory above the imports, of the embedded drums once and 40 times over."""
    return {
        f"{m['clips']} clips, {key}": m[key]
        for m in (python(MOMENTS, DRUMS, k)[1] for k in (1, 40))
        for key in ("peak GiB", "clips/CPU s")
    }


PIPELINE = (
    PEAK
    + """
import sys
from specgan_tf import loader, spectral
fps = loader.find_audio(sys.argv[1])
start = peak()
x = loader.decode_extract_and_batch(fps, 16, spectral.SLICE_LEN, 16000, 1,
    decode_parallel_calls=4, slice_first_only=True, slice_pad_end=True, repeat=True,
    shuffle=True, shuffle_buffer_size=4096).batch(5).prefetch(2)
for _ in x.take(20):
    pass
print(json.dumps({"peak GiB": peak() - start, "of it the buffer": 4096 / 2**14}))
"""
)


def pipeline_memory():
    """Peak memory above the imports of what feeds a training of batch 16."""
    return python(PIPELINE, DRUMS)[1]


ITERATION = (
    PEAK
    + """
import sys, time
import keras, tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
dim, batch = int(sys.argv[1]), int(sys.argv[2])
gan = SpecGAN(SpecGANGenerator(dim=dim), SpecGANDiscriminator(dim=dim), seed=0)
gan.compile()
x = tf.random.uniform([5, batch, 128, 128, 1], -1, 1)
step = tf.function(gan.train_step)
seconds = []
for _ in range(int(sys.argv[3])):
    wall, cpu = time.monotonic(), time.process_time()
    step(x)
    seconds.append((time.process_time() - cpu, time.monotonic() - wall))
cpu, wall = min(seconds)
print(json.dumps({"CPU s": cpu, "s": wall, "peak GiB": peak()}))
"""
)


def iteration(dim, batch, repeats):
    """One whole 5:1 iteration of wgan-gp: the best of `repeats`, peak memory of all."""
    return python(ITERATION, dim, batch, repeats)[1]


def demo():
    """`make demo` in a fresh clone of HEAD, with its own virtual environment."""
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["git", "clone", "-q", ROOT, d + "/clone"], check=True)
        start = time.monotonic()
        with open(d + "/log", "w") as log:
            subprocess.run(
                ["make", "demo"], cwd=d + "/clone", check=True, stdout=log, stderr=log
            )
        return {"min": (time.monotonic() - start) / 60}


def report(jobs, name, results):
    """Do all jobs; put what they measured into `results`, print and write it."""
    for what, job in jobs.items():
        results[what] = job()
        print(what)
        for key, value in results[what].items():
            print(f"  {value:10.3f}  {key}", flush=True)
    out = os.path.join(ROOT, "benchmarks", "out")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, name), "w") as f:
        json.dump(results, f, indent=2)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--demo", action="store_true", help="time make demo too")
    args = p.parse_args()
    jobs = {
        "import (bound: ratio 1.2)": import_ratio,
        "moments, embedded drums": moments_memory,
        "training's data, batch 16": pipeline_memory,
        "iteration, dim 16, batch 8": lambda: iteration(16, 8, 5),
        "iteration, dim 64, batch 64 (bound: 12 GiB)": lambda: iteration(64, 64, 1),
    }
    if args.demo:
        jobs["make demo, fresh clone (bound: 8 min)"] = demo
    report(jobs, "quick.json", {})


if __name__ == "__main__":
    main()
