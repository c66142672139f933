"""Peak memory while a folder of very long files is read as training reads it.

python -m benchmarks.long_files [--hours 3] [--rate 44100] [--files 4]
python -m benchmarks.long_files --document
Makes WAV files in a temporary folder, reads `--batches` batches through the
shuffle buffer of training with four decoders, and prints the peak of the process. With
--document the table of docs/FORMATS.md is written, each row by a process of its own.
"""

import argparse
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import sections
from specgan_tf import loader
from specgan_tf.cli.train import BUFFER
from specgan_tf.spectral import SLICE_LEN

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CASES = (44100, 16000), (44100, 44100), (96000, 48000)  # Hz: of the files, of training


def make(fp, hours, rate):
    """A 16-bit WAV file of a second of noise and then silence, which takes no disk.

    Stereo, or mono if that would be longer than a WAV file can be (4 GiB).
    """
    n = int(hours * 3600) * rate
    channels = 2 if 4 * n < 2**32 - 36 else 1
    size = 2 * channels * n
    noise = np.random.RandomState(0).randint(-9999, 9999, (rate, channels))
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16,
                       1, channels, rate, 2 * channels * rate, 2 * channels, 16,
                       b"data", size)  # fmt: skip
    with open(fp, "wb") as f:
        f.write(head + noise.astype("<i2").tobytes())
        f.truncate(len(head) + size)
    return channels


def peak_bytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(folder, batches, fs=16000):
    """(peak in bytes before, and after reading, seconds)."""
    before, start = peak_bytes(), time.monotonic()
    dataset = loader.decode_extract_and_batch(
        loader.find_audio(folder),
        64,
        SLICE_LEN,
        fs,
        1,
        decode_parallel_calls=4,
        slice_randomize_offset=True,
        repeat=True,
        shuffle=True,
        shuffle_buffer_size=BUFFER,
        seed=0,
    )
    for _ in dataset.take(batches):
        pass
    return before, peak_bytes(), time.monotonic() - start


def document(hours, files):
    rows = ["| files | training | peak |", "|---|---|---|"]
    for rate, sample_rate in CASES:
        argv = ["--hours", hours, "--files", files, "--rate", rate]
        argv += ["--sample_rate", sample_rate]
        command = [sys.executable, "-m", "benchmarks.long_files", *map(str, argv)]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        print(line := said.stdout.decode().strip())
        peak, before = re.search(r"peak (\S+ GiB) \((\S+ GiB) before\)", line).groups()
        rows.append(
            f"| {rate} Hz | {sample_rate} Hz | {peak}, {before} before reading |"
        )
    text = (
        f"Of the process, with {files} files of {hours:g} hours; by "
        f"`python -m benchmarks.long_files --document`.\n\n"
    )
    where = os.path.join(ROOT, "docs", "FORMATS.md")
    sections.write(where, "benchmarks.long_files", text + "\n".join(rows))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--hours", type=float, default=3)
    p.add_argument("--rate", type=int, default=44100)
    p.add_argument("--files", type=int, default=4)
    p.add_argument("--sample_rate", type=int, default=16000, help="rate of training")
    p.add_argument("--batches", type=int, default=150, help="batches of 64 slices")
    p.add_argument("--document", action="store_true", help="write docs/FORMATS.md")
    args = p.parse_args()
    if args.document:
        return document(args.hours, args.files)
    with tempfile.TemporaryDirectory() as folder:
        first = os.path.join(folder, "0.wav")
        channels = make(first, args.hours, args.rate)
        for i in range(1, args.files):
            os.link(first, os.path.join(folder, f"{i}.wav"))
        before, after, seconds = measure(folder, args.batches, args.sample_rate)
    print(
        f"{args.files} files, {args.hours:g} h, {args.rate} Hz, {channels} channels, "
        f"read at {args.sample_rate} Hz: {args.batches} batches in {seconds:.0f} s, "
        f"peak {after / 2**30:.2f} GiB ({before / 2**30:.2f} GiB before)"
    )


if __name__ == "__main__":
    main()
