"""Measure what sounds lose on the way to a spectrogram and back.

    python -m benchmarks.inversion [--data_dir FOLDER] [--document docs/SOUNDS.md]

For each synthesis window, momentum, number of Griffin-Lim steps, `log_eps`, `pad_front`
and `clip_nstd`: real sounds become normalised spectrograms, by moments of these sounds,
and sounds again. Prints a table, writes benchmarks/out/inversion.json, and rewrites the
section of the document that lies between its two marks.
"""

import argparse
import datetime
import itertools
import json
import os
import random
import statistics
import sys
import time

import numpy as np

from benchmarks import sections
from specgan_tf.errors import InputError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "benchmarks", "out", "inversion.json")
WINDOWS, MOMENTA, STEPS = ("hann", "dual"), (0.0, 0.99), (16, 32)
MANY = 128  # steps, of the reference's spectrograms only
LOG_EPS, PAD_FRONT, CLIP_NSTD = (1e-6, 1e-3), (False, True), (3.0, 5.0)
REFERENCE = {"window": "hann", "momentum": 0.0, "ngl": 16}
BETTER = {"window": "dual", "momentum": 0.99, "ngl": 32}
PLAIN = {"log_eps": 1e-6, "pad_front": False, "clip_nstd": 3.0}
BATCH = 16  # clips inverted at a time
NFFT, NHOP = 1024, 256  # samples, of the frames for the log-spectral distance
FLOOR = -80.0  # dB below a clip's loudest bin: less is silence
SOUND = -60.0  # dB: frames count whose loudest bin is above
ATTACK = 16  # samples
LOUD = 0.05  # RMS of an attack at the first sample, of full scale
NAME = "benchmarks.inversion"  # of its section
COLUMNS = {
    "spectral convergence": "{:.3f}",
    "log-spectral distance, dB": "{:.2f}",
    "tremolo, dB": "{:.1f}",
    "first 16 samples, dB": "{:.1f}",
    "CPU ms a clip": "{:.1f}",
}
ANALYSIS = {"6 dB are": "{:.3f}", "clipped, %": "{:.1f}"}


# Sounds


def read_sounds(data_dir, n):
    """The first second of at most `n` sounds, drawn by chance: float32 [n, 16384]."""
    from specgan_tf import loader, spectral

    fps = loader.find_audio(data_dir)
    fps = sorted(random.Random(0).sample(list(fps), min(n, len(fps))))
    slices = loader.decode_and_extract(
        fps,
        slice_len=spectral.SLICE_LEN,
        decode_fs=16000,
        decode_num_channels=1,
        slice_randomize_offset=False,
        slice_first_only=True,
        slice_pad_end=True,
    )
    sounds = [np.asarray(x)[:, 0, 0] for x in slices]
    return np.stack([np.pad(x, (0, spectral.SLICE_LEN - len(x))) for x in sounds])


def spectrograms(x, log_eps, pad_front, clip_nstd):
    """(moments of these sounds, their spectrograms [n, 128, 128, 1])."""
    from specgan_tf import moments

    mean, std, _ = moments.moments([x], log_eps, pad_front)
    found = moments.Moments(mean, std, log_eps, pad_front, clip_nstd)
    return found, found.t_to_f(x[:, :, np.newaxis]).numpy()


def resolution(moments, X):
    """(What 6 dB are in a spectrogram, % of bins with sound that are clipped)."""
    mean, std = (np.float64(m[:-1]) for m in moments[:2])
    level = X[..., 0] * moments.clip_nstd * std + mean
    sound = level > np.log(moments.log_eps) + 1  # else the logarithm is of log_eps
    decibels = float(np.log(2) / np.mean(moments.clip_nstd * std))
    return decibels, float(100 * np.mean(X[..., 0][sound] >= 1))


def invert(moments, X, window, momentum, ngl):
    """(waveforms float32 [n, 16384], CPU ms for each, tracing not included)."""
    import tensorflow as tf

    from specgan_tf.spectral import GriffinLim

    griffin_lim = GriffinLim(ngl, window, momentum)
    f_to_t = tf.function(
        lambda X: moments.f_to_t(X, griffin_lim),
        input_signature=[tf.TensorSpec([None, 128, 128, 1])],
    )
    batches = [X[i : i + BATCH] for i in range(0, len(X), BATCH)]
    f_to_t(tf.constant(batches[0]))
    start = time.process_time()
    made = [f_to_t(tf.constant(batch)).numpy() for batch in batches]
    milliseconds = 1000 * (time.process_time() - start) / len(X)
    return np.concatenate(made)[:, :, 0], milliseconds


# Measures


def spectral_convergence(got, want, pad_front):
    """Error of the magnitudes that were inverted, over their size; mean over clips."""
    from specgan_tf import spectral

    X, Y = (
        np.exp(spectral.log_magnitude(x, 1e-10, pad_front), dtype=np.float64)
        for x in (want, got)
    )
    error, size = (np.sqrt(np.square(a).sum(axis=(1, 2))) for a in (X - Y, X))
    return float(np.mean(error / size))


def log_spectral_distance(got, want):
    """dB: RMS over bins, mean over frames that hold sound, mean over clips."""
    X, Y = magnitudes(want), magnitudes(got)
    peak = X.max(axis=(1, 2), keepdims=True)
    levels = (20 * np.log10(np.maximum(A / peak, 10 ** (FLOOR / 20))) for A in (X, Y))
    frames = np.sqrt(np.square(next(levels) - next(levels)).mean(axis=2))
    sound = (X / peak).max(axis=2) > 10 ** (SOUND / 20)
    return float(np.mean((frames * sound).sum(axis=1) / sound.sum(axis=1)))


def magnitudes(x):
    """Waveforms [n, samples] -> [n, frames, bins]."""
    frames = np.lib.stride_tricks.sliding_window_view(x, NFFT, axis=1)[:, ::NHOP]
    return np.abs(np.fft.rfft(frames * np.hanning(NFFT + 1)[:-1]))


def tremolo(x, nhop=128):
    """dB by which the level fluctuates more at the hop's rate than beside it.

    125 Hz at 16 kHz. Of the log power: of the power itself, the decay of a hit would
    hide it. Median over clips [n, samples].
    """
    level = np.log(np.square(x, dtype=np.float64) + 10 ** (FLOOR / 10))
    level -= level.mean(axis=1, keepdims=True)
    spectrum = np.square(np.abs(np.fft.rfft(level)))
    at = x.shape[1] // nhop
    beside = np.r_[at - 32 : at - 2, at + 3 : at + 33]
    there = spectrum[:, at] / np.median(spectrum[:, beside], axis=1)
    return float(np.median(10 * np.log10(there)))


def attack(got, want):
    """Median dB of the first samples beside the real ones, where a sound begins there.

    None where no sound does.
    """
    loud = begins_at_once(want)
    if not loud.any():
        return None
    energy = [np.square(x[loud, :ATTACK]).sum(axis=1) for x in (got, want)]
    energy = np.maximum(energy, 1e-20)
    return float(np.median(10 * np.log10(energy[0] / energy[1])))


def begins_at_once(x):
    return np.sqrt(np.square(x[:, :ATTACK]).mean(axis=1)) > LOUD


def measure(x):
    """A row for each way of analysis and inversion."""
    rows = []
    for values in itertools.product(LOG_EPS, PAD_FRONT, CLIP_NSTD):
        analysis = dict(zip(PLAIN, values, strict=True))
        moments, X = spectrograms(x, **analysis)
        known = dict(zip(ANALYSIS, resolution(moments, X), strict=True))
        steps = (*STEPS, MANY) if analysis == PLAIN else STEPS
        for window, momentum, ngl in itertools.product(WINDOWS, MOMENTA, steps):
            how = {"window": window, "momentum": momentum, "ngl": ngl}
            got, milliseconds = invert(moments, X, **how)
            values = (
                spectral_convergence(got, x, analysis["pad_front"]),
                log_spectral_distance(got, x),
                tremolo(got),
                attack(got, x),
                milliseconds,
            )
            row = analysis | how
            rows.append(row | known | dict(zip(COLUMNS, values, strict=True)))
            print(line(rows[-1], [*row], COLUMNS), flush=True)
    return rows


# What is written


def line(row, settings, columns):
    cells = [
        f"{row[name]:g}" if type(row[name]) is float else row[name] for name in settings
    ]
    for name, form in columns.items():
        cells.append("-" if row[name] is None else form.format(row[name]))
    return f"| {' | '.join(map(str, cells))} |"


def table(rows, settings, columns, **only):
    """The rows that are as `only` says, in Markdown."""
    kept = [row for row in rows if only.items() <= row.items()]
    head = [*settings, *columns]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(line(row, settings, columns) for row in kept)])


def section(found):
    """The document's section."""
    rows, analysis, both = found["rows"], [*PLAIN], ANALYSIS | COLUMNS
    return TEXT.format(
        **found["sounds"],
        date=found["date"],
        real=found["real"]["tremolo, dB"],
        inversions=table(rows, [*REFERENCE], COLUMNS, **PLAIN),
        reference=table(rows, analysis, both, **REFERENCE),
        better=table(rows, analysis, both, **BETTER),
    )


TEXT = """## There and back: what a spectrogram and its inversion lose

Written by `python -m benchmarks.inversion --document docs/SOUNDS.md` on {date}:
{clips} sounds ({name}) are turned into spectrograms, normalised by their own
moments, and back into sounds. No generator takes part: a generator cannot sound better
than this.

- *Spectral convergence*: the error of the result's magnitudes, relative to the norm of
  the magnitudes that were inverted; 0 is perfect.
- *Log-spectral distance*: over frames of 1024 samples that are not silent, down to 80
  dB below the clip's loudest bin; 0 is perfect.
- *Tremolo*: how much more the level fluctuates at the hop rate (125 Hz) than at
  neighbouring rates. It sounds like a buzz. In the real sounds it is {real:.1f} dB.
- *First 16 samples*: their level relative to the real sound's; median over the
  {share} % of sounds that begin at their first sample.

The reference inverts with window `hann`, momentum 0 and 16 steps (`ngl`):

{inversions}

`--specgan_pad_front` restores the attack at no cost. A larger `--specgan_log_eps`
helps the networks: less of their range is spent on digital silence. *6 dB are*: how
much of the range [-1, 1] a change of 6 dB takes. But a larger `--specgan_log_eps` also
makes the standard deviation smaller, and the reference clips at three standard
deviations, so loud sounds are cut off. *Clipped* is the share of bins with sound that
are. With `--specgan_clip_nstd 5` almost none are. With the reference's inversion:

{reference}

And with `--specgan_gl_window dual --specgan_gl_momentum 0.99 --specgan_ngl 32`:

{better}

Starting from phase-gradient heap integration (PGHI) would save steps. It is not
offered, because it visits bins in the order of a heap, which neither a SavedModel nor
TFLite can do.
"""


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data_dir", help="folder of sounds (default: the embedded drums)")
    p.add_argument("--clips", type=int, default=64, help="sounds, at most")
    p.add_argument("--document", help="rewrite its section of figures")
    p.add_argument("--json", default=OUT, help="the figures")
    args = p.parse_args(argv)
    if args.document:
        sections.around(args.document, NAME)  # refused before the work
    drums = os.path.join(ROOT, "specgan_tf", "data", "drums")
    x = read_sounds(args.data_dir or drums, args.clips)
    name = "of the embedded drums"
    if args.data_dir:
        name = f"of `{os.path.basename(os.path.abspath(args.data_dir))}`"
    share = round(100 * statistics.fmean(map(float, begins_at_once(x))))
    found = {
        "date": datetime.date.today().isoformat(),
        "sounds": {"name": name, "clips": len(x), "share": share},
        "real": {"tremolo, dB": tremolo(x)},
        "rows": measure(x),
    }
    os.makedirs(os.path.dirname(os.path.abspath(args.json)), exist_ok=True)
    with open(args.json, "w") as f:
        json.dump(found, f, indent=1)
    if args.document:
        sections.write(args.document, NAME, section(found))


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as e:
        sys.exit(f"inversion.py: {e}")
