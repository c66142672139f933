"""Figures of docs/SCALING.md: python -m benchmarks.scaling

Prints what is measured here, and a plan for very much audio made of that and of what it
assumes; writes benchmarks/out/scaling.json. Two workers over loopback, each on a core
of its own, beside one process with the joint batch on both cores, and one with a
worker's part of it on one core; best steps are compared. Needs two cores and taskset.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile

from benchmarks.iteration import operations
from benchmarks.quick import DRUMS, ENV, ROOT, python, report

# Of the plan; not measured here. A GPU's rate is what its convolutions keep up, far
# below what its maker prints.
ASSUMED = {
    "hours of audio": 1e6,
    "slices per file": 10,
    "batch per GPU": 64,
    "GPUs": 64,
    "TFLOP/s per GPU": 100,
    "Gbit/s of network per GPU": 50,
    "$ per GPU hour": 3,
    "$ per core hour": 0.05,
    "$ per TB and month": 20,
    "iterations per training": 200_000,
}

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
any_worker, seconds, flags = distribute.any_worker_of(strategy), [], []
class Watch(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.monotonic()
    def on_train_batch_end(self, batch, logs=None):
        float(logs["G_loss"])
        seconds.append(time.monotonic() - self.began)
        began = time.monotonic()
        any_worker(False)
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
        "more than one process on one core, s": two["s"] - part,
        "agreeing whether to stop, ms": two["flag ms"],
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
                  "G, MB": 4e-6 * G, "per iteration, MB": 4e-6 * (5 * D + G)}))
"""

DECODE = """
import json, os, sys, time
import numpy as np
import soundfile
from specgan_tf import loader, spectral
folder = sys.argv[1]
drums = sys.argv[2]
sizes = np.zeros(2)
for name in os.listdir(drums):
    fp = os.path.join(folder, name[:-3] + "flac")
    soundfile.write(fp, *soundfile.read(os.path.join(drums, name)), "PCM_16")
    sizes += os.path.getsize(fp), os.path.getsize(os.path.join(drums, name))
audio = np.random.RandomState(0).randn(44100 * 30).astype(np.float32) / 10
rates = {"FLAC over WAV, embedded drums": sizes[0] / sizes[1]}
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
import itertools, json, sys, time
import numpy as np
from specgan_tf.loader.decoder import Decoder
from specgan_tf.loader.order import Order
from specgan_tf.loader.slices import Slices
def stream(files, slices, offsets=0, **how):
    slicing = 16384, 16384, False, False
    lengths = np.full(files, 16384 * slices + offsets // 2)
    decoder = Decoder(range(files), lengths, slicing, num_channels=1)
    return Slices(decoder, Order(files, 4096, offsets, 0), repeat=True, **how)
shares = {}
for slices in (1, 10, 180):
    for workers in (8, 64):
        files = 180_000 // slices
        tasks = stream(files, slices, batch=64 * workers, rows=(0, 64)).tasks()
        decoded = itertools.takewhile(lambda task: task[2] < 180_000, tasks)
        shares[f"{workers} workers, files of {slices} slices, share decoded by one"] = (
            sum(1 for _ in decoded) / files)
names = [f"/data/audio/{i // 1000:06}/{i % 1000:03}-of-a-recording.wav"
         for i in range(1000)]
shares["bytes per file name"] = sum(map(sys.getsizeof, names)) / 1000 + 2 * 8
began = time.process_time()
stream(100_000, 10, offsets=16384).locate(10**8)
shares["seconds to find the position after 10^9 slices"] = (
    10 * (time.process_time() - began))
print(json.dumps(shares))
"""


def plan(measured, of=ASSUMED):
    """What `of["hours of audio"]` take, from storage to dollars."""
    seconds = of["hours of audio"] * 3600
    slices = seconds * 16000 / 16384
    data, order = measured["data"], measured["the data's order"]
    wav, mp3 = (
        data[f"{kind}, slices/CPU s"]
        for kind in ("16 kHz WAV, --data_fast_wav", "44.1 kHz MP3")
    )
    batch = of["batch per GPU"]
    compute = operations(64, batch) / of["TFLOP/s per GPU"] / 1e12
    # A ring: each sends and receives everything about twice.
    reduced = measured["gradients, dim 64"]["per iteration, MB"]
    network = 2 * reduced * 8e-3 / of["Gbit/s of network per GPU"]
    heard = 5 * batch / (compute + network)  # slices a second, a GPU
    workers, length = of["GPUs"], of["slices per file"]
    share = order[f"{workers} workers, files of {length} slices, share decoded by one"]
    decoded = heard * share * workers
    training = of["iterations per training"] * (compute + network) / 3600
    gpu_hours, tera = training * of["GPUs"], seconds * 32000 / 1e12
    names = slices / of["slices per file"] * order["bytes per file name"] / 1e9
    cores = decoded / wav
    return {
        "slices, 10^9": slices / 1e9,
        "16-bit WAV, TB": tera,
        "FLAC, TB": tera * data["FLAC over WAV, embedded drums"],
        "log-spectrograms, float32, TB": slices * 4 * 128**2 / 1e12,
        "names of all files, in memory, GB": names,
        "all moments from WAV, core hours": slices / wav / 3600,
        "all moments from 44.1 kHz MP3, core hours": slices / mp3 / 3600,
        "arithmetic per iteration, ms": 1000 * compute,
        "all-reduces per iteration, ms": 1000 * network,
        "slices per second that a GPU trains on": heard,
        "slices per second decoded for it": decoded,
        "cores per GPU to decode WAV": cores,
        "cores per GPU to decode 44.1 kHz MP3": decoded / mp3,
        "read from storage per GPU, MB/s": decoded * 32768 / 1e6,
        "hours per training": training,
        "hours of audio per training": of["iterations per training"]
        * 5
        * batch
        * of["GPUs"]
        * 16384
        / 16000
        / 3600,
        "storage as FLAC, $ per month": tera
        * data["FLAC over WAV, embedded drums"]
        * of["$ per TB and month"],
        "all moments from WAV, $": slices / wav / 3600 * of["$ per core hour"],
        "GPUs per training, $": gpu_hours * of["$ per GPU hour"],
        "cores per training, $": gpu_hours * cores * of["$ per core hour"],
    }


def main():
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "gradients, dim 64": lambda: python(GRADIENTS)[1],
            "data": lambda: python(DECODE, folder, DRUMS)[1],
            "the data's order": lambda: python(SHARED)[1],
            "dim 16, batch 8": lambda: scaling(16, 8, 12),
            "dim 4, batch 4": lambda: scaling(4, 4, 30),
            "assumed": lambda: ASSUMED,
            "the plan": lambda: plan(measured),
        }
        report(jobs, "scaling.json", measured)


if __name__ == "__main__":
    main()
