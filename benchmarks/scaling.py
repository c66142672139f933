"""Figures of docs/SCALING.md: python -m benchmarks.scaling

Prints a table and writes benchmarks/out/scaling.json. Two workers over loopback, each
on a core of its own, beside one process with the joint batch on both cores, and one
with a worker's part of it on one core; best steps are compared. Needs two cores and
taskset.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile

from benchmarks.quick import ENV, ROOT, python

STEP = """
import json, sys, time
import numpy as np
from specgan_tf import distribute
kind, dim, batch, steps = sys.argv[1], *map(int, sys.argv[2:])
strategy = distribute.create(kind)
import keras, tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
def data(i, n):
    x = tf.random.stateless_uniform([5, batch // n, 128, 128, 1], [i, 0], -1.0, 1.0)
    return tf.data.Dataset.from_tensors(x).repeat()
with strategy.scope():
    gan = SpecGAN(SpecGANGenerator(dim=dim), SpecGANDiscriminator(dim=dim), seed=0)
    gan.compile()
anywhere, seconds, flags = distribute.anywhere(strategy), [], []
class Watch(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.monotonic()
    def on_train_batch_end(self, batch, logs=None):
        float(logs["G_loss"])
        seconds.append(time.monotonic() - self.began)
        began = time.monotonic()
        anywhere(False)
        flags.append(time.monotonic() - began)
x = distribute.feed(strategy, data)
gan.fit(x, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[Watch()])
sizes = [sum(int(np.prod(v.shape)) for v in net.variables) for net in (gan.D, gan.G)]
@tf.function
def reduce(n):
    def both(n):
        here = tf.distribute.get_replica_context()
        return here.all_reduce("SUM", tf.zeros([n]))
    return strategy.run(both, args=(n,))
once = []
for _ in range(5 if kind == "multiworker" else 0):
    began = time.monotonic()
    np.asarray(reduce(sizes[0]))
    once.append(time.monotonic() - began)
print(json.dumps({"s": min(seconds), "flag ms": 1000 * min(flags),
                  "of D": sizes[0], "of G": sizes[1], "once": min(once, default=0)}))
"""


def on_cores(cores, argv, **env):
    return subprocess.Popen(
        ["taskset", "-c", cores, sys.executable, "-c", STEP, *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, **ENV, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def result(process):
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"a worker ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])


def two_workers(dim, batch, steps):
    with socket.socket() as a, socket.socket() as b:
        for s in (a, b):
            s.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b)]}
    argv = "multiworker", dim, batch, steps
    configs = [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
        for i in (0, 1)
    ]
    both = [on_cores(str(i), argv, TF_CONFIG=c) for i, c in enumerate(configs)]
    chief, _ = map(result, both)
    return chief


def scaling(dim, batch, steps):
    """An iteration of wgan-gp, in seconds, and what of it is communication."""
    joint = result(on_cores("0,1", ("none", dim, batch, steps)))["s"]
    part = result(on_cores("0", ("none", dim, batch // 2, steps)))["s"]
    two = two_workers(dim, batch, steps)
    return {
        f"one process, batch {batch}, two cores, s": joint,
        f"one process, batch {batch // 2}, one core, s": part,
        f"two workers, batch {batch // 2} each, s": two["s"],
        "of it more than one core alone, s": two["s"] - part,
        "agreeing whether to end, ms": two["flag ms"],
        "gradients reduced, MB": 4e-6 * (5 * two["of D"] + two["of G"]),
        "one all-reduce as large as D, s": two["once"],
        "one all-reduce as large as D, MB/s": 4e-6 * two["of D"] / two["once"],
    }


GRADIENTS = """
import json
from specgan_tf import SpecGANDiscriminator, SpecGANGenerator
D, G = (sum(v.value.shape.num_elements() for v in net(dim=64).variables)
        for net in (SpecGANDiscriminator, SpecGANGenerator))
print(json.dumps({"D, variables": D, "G, variables": G, "D, MB": 4e-6 * D,
                  "G, MB": 4e-6 * G, "an iteration, MB": 4e-6 * (5 * D + G)}))
"""

DECODE = """
import json, os, sys, time
import numpy as np
import soundfile
from specgan_tf import loader, spectral
folder = sys.argv[1]
audio = np.random.RandomState(0).randn(44100 * 30).astype(np.float32) / 10
rates = {}
for name, fs, subtype, fast in (("16 kHz WAV, --data_fast_wav", 16000, "PCM_16", True),
                                ("16 kHz FLAC", 16000, None, False),
                                ("44.1 kHz FLAC", 44100, None, False),
                                ("44.1 kHz MP3", 44100, None, False)):
    kind = name.split()[2].strip(",").lower()
    fps = [os.path.join(folder, f"{fs}-{i}.{kind}") for i in range(4)]
    for fp in fps:
        soundfile.write(fp, audio[:30 * fs], fs, subtype)
    def passed(n):
        x = loader.decode_extract_and_batch(fps * n, 16, spectral.SLICE_LEN, 16000, 1,
            decode_fast_wav=fast, decode_parallel_calls=2)
        zero, one = np.zeros(129, np.float32), np.ones(129, np.float32)
        return sum(len(spectral.t_to_f(b[:, :, 0], zero, one)) for b in x)
    passed(1)
    cpu = time.process_time()
    rates[name + ", slices/CPU s"] = passed(6) / (time.process_time() - cpu)
print(json.dumps(rates))
"""

SHARED = """
import json, time
import numpy as np
from specgan_tf.loader import Order, Part
shares = {}
for slices in (1, 10, 180):
    for workers in (8, 64):
        part = Part(Order(1, True, 0, 0), 4096, 64 * workers, (0, 64))
        taken = part.takes(np.arange(8192, 8192 + 18000)).reshape(-1, slices).any(1)
        shares[f"{workers} workers, files of {slices} slices, decoded by one"] = (
            taken.mean())
began = time.process_time()
Order(1, True, 0, 0).buffered(4096 * 2000, 4096)
shares["seconds to go on after 10^9 slices"] = (
    (time.process_time() - began) * 1e9 / (4096 * 2000))
print(json.dumps(shares))
"""


def main():
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "gradients, dim 64": lambda: python(GRADIENTS)[1],
            "reading, decoding, resampling, spectrograms": lambda: python(
                DECODE, folder
            )[1],
            "the data's order": lambda: python(SHARED)[1],
            "dim 16, batch 8": lambda: scaling(16, 8, 12),
            "dim 4, batch 4": lambda: scaling(4, 4, 30),
        }
        results = {}
        for name, job in jobs.items():
            results[name] = job()
            print(name)
            for key, value in results[name].items():
                print(f"  {value:14.3f}  {key}", flush=True)
    out = os.path.join(ROOT, "benchmarks", "out")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "scaling.json"), "w") as f:
        json.dump(results, f, indent=2)


if __name__ == "__main__":
    main()
