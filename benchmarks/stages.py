"""Each stage against the original: python -m benchmarks.stages [--original DIR --python PY]

DIR is an unmodified checkout, PY a Python with what original-requirements.txt lists;
without them only this port and librosa are measured. Sides take turns, each a process
of its own that imported, built its graph and filled its buffers before; medians of five
turns, in CPU seconds (user and system). The data are the embedded drums. Prints a table
and writes benchmarks/out/stages.json.
"""  # noqa: E501

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.quick import DRUMS, ENV, PEAK, ROOT, python, report

TURNS = 5

# What every side begins with, for Python 3.6 too. A job returns how many it did.
SERVE = """
import glob, json, resource, sys, time, types
import numpy as np
argv, sys.argv = sys.argv[1:], [""]
sys.path.insert(0, argv.pop(0))

def cpu():
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)

def serve(job, warm_up=1):
    for _ in range(warm_up):
        job()
    for _ in sys.stdin:
        start = cpu(), time.time()
        n = job()
        used = cpu() - start[0], time.time() - start[1]
        print(json.dumps([n / t for t in used]), flush=True)
"""

MOMENTS = """
fps = sorted(glob.glob(argv[0] + "/*")) * 16
args = types.SimpleNamespace(data_dir=argv[0], data_sample_rate=16000,
    data_fast_wav=True, data_first_slice=True, data_overlap_ratio=0.0,
    data_pad_end=True, data_prefetch_gpu_num=-1, data_moments_fp="/dev/null",
    data_no_normalize=False, data_resample="soxr_hq", data_cache=None, seed=0)
import train_specgan
def job():
    {job}
    return len(fps)
serve(job, int(argv[1]))
"""

LOADER = """
import loader
x = loader.decode_extract_and_batch(sorted(glob.glob(argv[0] + "/*")), slice_len=16384,
    decode_fs=16000, decode_num_channels=1, slice_first_only=True, slice_pad_end=True,
    repeat=True, decode_parallel_calls=4, shuffle=True, **json.loads(argv[1]))
{batches}
serve(lambda: sum(len(next(batches)) for _ in range(int(argv[2]))), 2)
"""

F_TO_T = """
random = np.random.RandomState(0)
X_norm = random.uniform(-1, 1, (64, 128, 128, 1)).astype(np.float32)
mean, std = random.randn(129).astype(np.float32), np.ones(129, np.float32)
"""

THEIRS = {
    "moments": "import tensorflow as tf"
    + MOMENTS.format(job="tf.reset_default_graph(); train_specgan.moments(fps, args)"),
    "loader": LOADER.format(
        batches="import tensorflow as tf\ns = tf.Session()\n"
        "batches = (s.run(x) for _ in iter(int, 1))"
    ),
    "f_to_t": F_TO_T
    + """
import tensorflow as tf, train_specgan
fed = tf.placeholder(tf.float32, X_norm.shape)
x = train_specgan.f_to_t(fed, mean, std, 16)
session = tf.Session()
serve(lambda: len(session.run(x, {fed: X_norm})))
""",
}

OURS = {
    "moments": "from specgan_tf import loader, moments\nfrom scipy import fft"
    + MOMENTS.format(job="train_specgan.compute_moments(fps, args)"),
    "loader": "from specgan_tf import loader\nsys.modules['loader'] = loader"
    + LOADER.format(batches="batches = iter(x)"),
    "f_to_t": F_TO_T
    + """
import tensorflow as tf
from specgan_tf import spectral
f_to_t = tf.function(lambda X_norm: spectral.f_to_t(X_norm, mean, std, 16))
serve(lambda: len(f_to_t(tf.constant(X_norm)).numpy()))
""",
    "librosa": F_TO_T
    + """
import librosa
X_mag = np.exp(np.pad(X_norm[..., 0] * 3, [(0, 0), (0, 0), (0, 1)]) + mean)
X_mag = X_mag.transpose(0, 2, 1)
def job():
    for clip in [X_mag] if argv[0] == "batch" else X_mag:
        librosa.griffinlim(clip, n_iter=16, hop_length=128, n_fft=256, momentum=0,
            init=None)
    return len(X_mag)
serve(job)
""",
    "memory": f"""{PEAK}
import glob, sys
import tensorflow
from specgan_tf import loader, moments
fps, n = glob.glob(sys.argv[1] + "/*"), int(sys.argv[2])
fps = (fps * (n // len(fps) + 1))[:n]
start = peak()
slices = loader.decode_and_extract(fps, 16384, 16000, 1, decode_fast_wav=True,
    decode_parallel_calls=4, slice_first_only=True, slice_pad_end=True)
assert moments.merge(moments.sums_of_one(x[:, 0, 0]) for x in slices)[0] == n
print(json.dumps(peak() - start))
""",
    "untrained": """
import sys
import numpy as np
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
from specgan_tf import checkpoint, moments
gan = SpecGAN(SpecGANGenerator(), SpecGANDiscriminator())
gan.compile()
moments.save(sys.argv[1] + "/moments.pkl", np.zeros(129), np.ones(129))
checkpoint.save(gan, sys.argv[1])
""",
    "generate": """
import sys, train_specgan
argv = "generate", sys.argv[1], "--generate_n", "1", "--overwrite"
assert train_specgan.main(argv) == 0
print("null")
""",
    "load": """
import sys, tensorflow, specgan_tf
specgan_tf.load_generator(sys.argv[1])
""",
}


class Side:
    """One process of a comparison."""

    def __init__(self, python, code, *argv):
        self.process = subprocess.Popen(
            [python, "-c", SERVE + code, *map(str, argv)],
            cwd=ROOT,
            env={**os.environ, **ENV},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def turn(self):
        """How many a CPU second, and a second."""
        self.process.stdin.write("\n")
        while line := self.process.stdout.readline():
            if line.startswith("["):
                return json.loads(line)
        raise RuntimeError("a side has ended; it says why where stderr is not DEVNULL")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Stages:
    def __init__(self, original, python, folder):
        self.original, self.python, self.folder = original, python, folder

    def ours(self, stage, *argv):
        return functools.partial(Side, sys.executable, OURS[stage], ROOT, *argv)

    def theirs(self, stage, *argv):
        if self.original:
            code = THEIRS[stage]
            return functools.partial(Side, self.python, code, self.original, *argv)

    def compare(self, unit, bounds, fresh=False, **sides):
        """Medians of sides that take turns; `bounds` says over which ours to divide."""
        sides = {name: side for name, side in sides.items() if side}
        turns, running = {name: [] for name in sides}, {}
        for _ in range(TURNS):
            for name, start in sides.items():
                side = running.pop(name, None) or start()
                turns[name].append(side.turn())
                side.end() if fresh else running.update({name: side})
        for side in running.values():
            side.end()
        row = {}
        for name, taken in turns.items():
            cpu, wall = map(statistics.median, zip(*taken, strict=True))
            row |= {f"{name}, {unit}/CPU s": cpu, f"{name}, {unit}/s": wall}
        for name in bounds.keys() & sides:
            ratio = row[f"ours, {unit}/CPU s"] / row[f"{name}, {unit}/CPU s"]
            row |= {f"ratio to {name}": ratio, f"bound to {name}": bounds[name]}
        return row

    def moments(self, warm_up):
        """The mode without its imports; a process each turn, or the same again."""
        both = {"ours": self.ours, "theirs": self.theirs}
        sides = {name: side("moments", DRUMS, warm_up) for name, side in both.items()}
        return self.compare("clips", {"theirs": 20}, not warm_up, **sides)

    def memory(self):
        """Peak above the imports, of so many clips (the drums over and over)."""
        counts = 1000, 10_000, 100_000
        return {f"{n}, GiB": python(OURS["memory"], DRUMS, n)[1] for n in counts}

    def loader(self, bound, cache=None):
        """Training's slices, in batches of 64: shuffled, endless, from full buffers."""
        options = {"batch_size": 64, "shuffle_buffer_size": 1024, "prefetch_size": 4}
        options |= {"decode_fast_wav": True}
        ours = json.dumps(options | {"decode_cache": cache})
        return self.compare(
            "slices",
            {"theirs": bound},
            ours=self.ours("loader", DRUMS, ours, 20),
            theirs=self.theirs("loader", DRUMS, json.dumps(options), 20),
        )

    def decoding(self, bound, kind, rate):
        """Default decoding of one format. The original here opens WAV alone: it gets
        the same sounds as WAV."""
        import librosa
        import soundfile

        folders = {k: os.path.join(self.folder, f"{k}{rate}") for k in (kind, "wav")}
        for k, folder in folders.items():
            os.makedirs(folder, exist_ok=True)
            for name in os.listdir(DRUMS):
                x, _ = librosa.load(os.path.join(DRUMS, name), sr=rate)
                soundfile.write(os.path.join(folder, f"{name[:-4]}.{k}"), x, rate)
        few = {"batch_size": 4, "shuffle_buffer_size": 4, "prefetch_size": 1}
        return self.compare(
            "slices",
            {"theirs": bound},
            ours=self.ours("loader", folders[kind], json.dumps(few), 80),
            theirs=self.theirs("loader", folders["wav"], json.dumps(few), 4),
        )

    def f_to_t(self):
        """64 clips, 16 iterations; librosa is given one by one, as is usual, or all."""
        return self.compare(
            "clips",
            {"theirs": 25, "librosa": 6},
            ours=self.ours("f_to_t"),
            theirs=self.theirs("f_to_t"),
            librosa=self.ours("librosa", "one by one"),
            librosa_batched=self.ours("librosa", "batch"),
        )

    def cold(self):
        """A whole `generate` of one sound, dim 64, over imports and loading G."""
        python(OURS["untrained"], self.folder)
        turns = {"generate": [], "load": []}
        for _ in range(TURNS):
            for name, taken in turns.items():
                start = time.monotonic()
                cpu, _ = python(OURS[name], self.folder)
                taken.append((cpu, time.monotonic() - start))
        row = {"bound": 1.5}
        for i, unit in enumerate(("CPU s", "s")):
            ours, theirs = (statistics.median(t[i] for t in v) for v in turns.values())
            row |= {f"generate, {unit}": ours, f"import and load, {unit}": theirs}
            row[f"ratio, {unit}"] = ours / theirs
        return row


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--original", metavar="DIR", help="the original's checkout")
    p.add_argument("--python", metavar="PY", help="a Python with TensorFlow 1.12")
    p.add_argument("--only", default="", help="rows with this in their names")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(args.original, args.python, folder)
        jobs = {
            "moments, once in a process": lambda: stages.moments(0),
            "moments, again": lambda: stages.moments(1),
            "moments' memory": stages.memory,
            "loader, fast_wav": lambda: stages.loader(3),
            "loader, cache in memory": lambda: stages.loader(8, "memory"),
            "loader, cache in a folder": lambda: stages.loader(8, folder + "/cache"),
        }
        for rate, bound in ((16000, 50), (44100, 5)):
            for k in ("wav", "flac", "ogg", "mp3"):
                job = functools.partial(stages.decoding, bound, k, rate)
                jobs[f"loader, {k} at {rate} Hz"] = job
        jobs |= {"f_to_t": stages.f_to_t, "cold generate": stages.cold}
        jobs = {name: job for name, job in jobs.items() if args.only in name}
        report(jobs, "stages.json")


if __name__ == "__main__":
    main()
