"""Rows of benchmarks.speed: what comes before and after a training's iterations.

The data are the embedded drums. Sides imported, built their graphs and filled their
buffers before their first turn.
"""

import functools
import json
import os
import sys
import time

from benchmarks.quick import DRUMS, PEAK, python
from benchmarks.turns import Side, medians, row, times

TURNS = 5
SUMMARY_SECS = 120  # --train_summary_secs by default
MORE = 1.02  # memory of more clips: as much, but for a list of their names

# The original's modules, before any of ours with the same names.
THEIR_PATH = "sys.path.insert(0, argv.pop(0))\n"

MOMENTS = """
import glob, types
fps = sorted(glob.glob(argv[0] + "/*")) * 16
args = types.SimpleNamespace(data_dir=argv[0], data_sample_rate=16000,
    data_fast_wav=True, data_first_slice=True, data_overlap_ratio=0.0,
    data_pad_end=True, data_prefetch_gpu_num=-1, data_moments_fp="/dev/null",
    data_no_normalize=False, data_resample="soxr_hq", data_cache=None, seed=0)
def job():
    {job}
    return len(fps)
serve(int(argv[1]), job=job)
"""

LOADER = """
import glob, loader
x = loader.decode_extract_and_batch(sorted(glob.glob(argv[0] + "/*")), slice_len=16384,
    decode_fs=16000, decode_num_channels=1, slice_first_only=True, slice_pad_end=True,
    repeat=True, decode_parallel_calls=4, shuffle=True, **json.loads(argv[1]))
{batches}
serve(2, job=lambda: sum(len(next(batches)) for _ in range(int(argv[2]))))
"""

F_TO_T = """
random = np.random.RandomState(0)
X_norm = random.uniform(-1, 1, (64, 128, 128, 1)).astype(np.float32)
mean, std = random.randn(129).astype(np.float32), np.ones(129, np.float32)
"""

THEIRS = {
    "moments": "import tensorflow as tf, train_specgan"
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
serve(job=lambda: len(session.run(x, {fed: X_norm})))
""",
}

OURS = {
    "moments": "from specgan_tf.cli import data\nfrom scipy import fft"
    + MOMENTS.format(job="data.compute_moments(fps, args)"),
    "loader": "from specgan_tf import loader\nsys.modules['loader'] = loader"
    + LOADER.format(batches="batches = iter(x)"),
    "f_to_t": F_TO_T
    + """
import tensorflow as tf
from specgan_tf import spectral
f_to_t = tf.function(lambda X_norm: spectral.f_to_t(X_norm, mean, std, 16))
serve(job=lambda: len(f_to_t(tf.constant(X_norm)).numpy()))
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
serve(job=job)
""",
    "FFTs": F_TO_T
    + """
import tensorflow as tf
X = tf.complex(*[tf.random.normal([64, 128, 129]) for _ in range(2)])
def job():
    for _ in range(17):
        tf.signal.rfft(tf.signal.irfft(X))
    return len(X)
serve(job=job)
""",
    "libsndfile": """
import glob, soundfile
fps = sorted(glob.glob(argv[0] + "/*"))
def job():
    for fp in fps * 4:
        soundfile.read(fp, dtype="float32")
    return 4 * len(fps)
serve(job=job)
""",
    "summaries": """
import tensorflow as tf
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
from specgan_tf.cli import callbacks
gan = SpecGAN(SpecGANGenerator(), SpecGANDiscriminator(), seed=0)
gan.compile()
x_wav = np.random.uniform(-1, 1, (16, 16384, 1)).astype("f4")
from specgan_tf.moments import Moments
moments = Moments(np.zeros(129, "f4"), np.ones(129, "f4"))
c = callbacks.Summaries(argv[0], x_wav, moments, 16000)
c.set_model(gan)
c.secs = 0
c.on_train_begin()
h = callbacks.Health(c)
h.set_model(gan)
logs = dict.fromkeys(gan.trackers, 1.0)
serve(2, job=lambda: [w.on_train_batch_end(0, logs) for w in (c, h)])
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
print(json.dumps([peak(), start]))
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


class Stages:
    """Each method gives rows. Without `original` those of it are left out.

    Args:
      original: checkout of chrisdonahue/wavegan, or None.
      python: a Python with TensorFlow 1.12.
      folder: an empty one to work in.
    """

    def __init__(self, original, python, folder):
        self.original, self.python, self.folder = original, python, folder

    def ours(self, stage, *argv):
        return functools.partial(Side, sys.executable, OURS[stage], *argv)

    def theirs(self, stage, *argv):
        if self.original:
            code = THEIR_PATH + THEIRS[stage]
            return functools.partial(Side, self.python, code, self.original, *argv)

    def compare(self, what, sides, bounds, fresh=False):
        """Sides (name -> how to start it, or None) take turns; the first is ours.

        Args:
          bounds: name -> how many times faster ours is to be.
          fresh: a new process each turn.
        """
        sides = {name: start for name, start in sides.items() if start}
        seconds, running = {name: [] for name in sides}, {}
        for _ in range(TURNS):
            for name, start in sides.items():
                side = running.pop(name, None) or start()
                side.turn("job")
                seconds[name].append(side.seconds["job"][-1])
                side.end() if fresh else running.update({name: side})
        for side in running.values():
            side.end()
        ours, *others = sides
        ours = medians(seconds[ours])
        rows = [
            times(what, than, ours, medians(seconds[than]), bounds.get(than))
            for than in others
        ]
        # What is a part of our own work, no competitor.
        return [r | {"kind": "part"} if " alone" in r["than"] else r for r in rows]

    def moments(self, warm_up, what):
        """The mode without its imports; a process each turn, or the same again."""
        sides = {
            "ours": self.ours("moments", DRUMS, warm_up),
            "the original": self.theirs("moments", DRUMS, warm_up),
        }
        return self.compare(what, sides, {"the original": 20}, not warm_up)

    def memory(self):
        """Peak of the process, of so many clips (the drums over and over)."""
        peak = {n: python(OURS["memory"], DRUMS, n)[1] for n in (1000, 10**4, 10**5)}
        for n in (10**4, 10**5):
            above = f"{2**10 * (peak[n][0] - peak[n][1]):.0f} MiB above the imports"
            what = f"memory, moments of {n:,} clips ({above})"
            total = peak[n][0], peak[1000][0]
            yield row(what, "1,000 clips", "GiB", *total, MORE, "cost")

    def loader(self, what, bound, cache=None):
        """Training's slices, in batches of 64: shuffled, endless, from full buffers."""
        options = {"batch_size": 64, "shuffle_buffer_size": 1024, "prefetch_size": 4}
        options |= {"decode_fast_wav": True}
        cached = options | {"decode_cache": cache}
        sides = {
            "ours": self.ours("loader", DRUMS, json.dumps(cached), 20),
            "the original": self.theirs("loader", DRUMS, json.dumps(options), 20),
        }
        return self.compare(what, sides, {"the original": bound})

    def decoding(self, bound, kind, rate):
        """Default decoding of one format. The original here opens WAV alone: it gets
        the same sounds as WAV. libsndfile alone neither resamples nor slices."""
        import librosa
        import soundfile

        folders = {k: os.path.join(self.folder, f"{k}{rate}") for k in (kind, "wav")}
        for k, folder in folders.items():
            os.makedirs(folder, exist_ok=True)
            for name in os.listdir(DRUMS):
                x, _ = librosa.load(os.path.join(DRUMS, name), sr=rate)
                soundfile.write(os.path.join(folder, f"{name[:-4]}.{k}"), x, rate)
        few = {"batch_size": 4, "shuffle_buffer_size": 4, "prefetch_size": 1}
        sides = {
            "ours": self.ours("loader", folders[kind], json.dumps(few), 80),
            "the original": self.theirs("loader", folders["wav"], json.dumps(few), 4),
            "libsndfile alone": self.ours("libsndfile", folders[kind]),
        }
        what = f"a slice, default decoding, {kind.upper()} at {rate / 1000:g} kHz"
        return self.compare(what, sides, {"the original": bound})

    def f_to_t(self):
        """64 clips, 16 iterations; librosa is given one by one, as is usual, or all."""
        sides = {
            "ours": self.ours("f_to_t"),
            "the original": self.theirs("f_to_t"),
            "librosa.griffinlim": self.ours("librosa", "one by one"),
            "the same, all at once": self.ours("librosa", "batch"),
            "its FFTs alone": self.ours("FFTs"),
        }
        bounds = {"the original": 25, "librosa.griffinlim": 6}
        return self.compare("f_to_t of a clip, of 64, ngl 16", sides, bounds)

    def summaries(self):
        """Numbers, images, audio, health of a default training, over their interval."""
        side = Side(sys.executable, OURS["summaries"], self.folder)
        for _ in range(TURNS):
            side.turn("job")
        side.end()
        what, than = "summaries, dim 64, batch 64", "their interval"
        yield row(
            what,
            than,
            "CPU s",
            medians(side.seconds["job"])[0],
            SUMMARY_SECS,
            0.05,
            "cost",
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
        generate, load = (medians(taken) for taken in turns.values())
        what, than = (
            "cold generate, dim 64",
            "importing TensorFlow, loading the weights",
        )
        for i, unit in enumerate(("CPU s", "s")):
            yield row(what, than, unit, generate[i], load[i], 1.5, "cost")
