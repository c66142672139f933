"""Every exported artefact, run in a process of its own and held against Keras."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from specgan_tf import generate, sheet, spectral
from specgan_tf.files import InputError
from specgan_tf.spectral import GRIFFIN_LIM

ROWS = 8  # latents compared
# What each must reach, in dB: noise 20 dB below is a tenth of the spectrogram.
SPECTROGRAM = {"f32": 90.0, "f16": 50.0, "dr8": 25.0, "int8": 20.0}
# Of audio before any Griffin-Lim step: the steps enlarge rounding, by any factor where
# a spectrogram is inconsistent.
AUDIO = 90.0
INT8_STEP = 1 / 128  # of a tanh in int8, fixed by TFLite

NUMBERS = {
    "size, MB": "{:.2f}",
    "latency, ms": "{:.1f}",
    "spectrogram, max error": "{:.1e}",
    "spectrogram, SNR dB": "{:.1f}",
    "audio at ngl 0, SNR dB": "{:.1f}",
    "audio, SNR dB": "{:.1f}",
    "audio, log-spectral distance dB": "{:.2f}",
}


class ExportError(InputError):
    """An artefact does not do what the Keras model does."""


class Reference:
    """What Keras makes of some latents.

    Args:
      G: generator.
      moments: its `moments.Moments`.
      griffin_lim: `spectral.GriffinLim`.
      seed: of the latents.
    """

    def __init__(self, G, moments, griffin_lim=GRIFFIN_LIM, seed=0):
        self.ngl = griffin_lim.ngl
        self.z = generate.sample_z(ROWS, G.latent_dim, seed).numpy()
        self.f_to_t = tf.function(
            lambda X, ngl: moments.f_to_t(X, griffin_lim._replace(ngl=ngl))
        )
        self.G_z_norm = G(self.z, training=False).numpy()
        self.audio = {n: self.invert(self.G_z_norm, n) for n in (0, self.ngl)}

    def invert(self, G_z_norm, ngl):
        return self.f_to_t(tf.constant(G_z_norm), tf.constant(ngl)).numpy()

    def compare(self, path, weights="f32"):
        """Run the artefact at `path` in a fresh process.

        Args:
          weights: how it stores them, on which its bounds depend.

        Returns:
          signature -> numbers, by the names in NUMBERS; spectrograms float32
          [8, 128, 128, 1], or None if it makes none.

        Raises:
          ExportError: it does not run, or misses a bound.
        """
        made = self.run(path)
        rows = {
            name: {"size, MB": size(path) / 1e6} | self.measure(name, made, weights)
            for name in sorted({key.split("/")[0] for key in made})
        }
        return rows, made.get(f"generate/G_z_norm/{self.ngl}")

    def run(self, path):
        script = os.path.join(os.path.dirname(__file__), "artefact.py")
        with tempfile.TemporaryDirectory() as folder:
            given, made = (os.path.join(folder, f"{n}.npz") for n in ("given", "made"))
            ngl = np.array(sorted({0, self.ngl}), np.int32)
            np.savez(given, z=self.z, G_z_norm=self.G_z_norm, ngl=ngl)
            done = subprocess.run(
                [sys.executable, script, path, given, made],
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                cwd=folder,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise ExportError(f"{path} does not run: {said}")
            return dict(np.load(made))

    def measure(self, signature, made, weights):
        """Of one signature; raises ExportError where a bound is not met."""
        row = {"latency, ms": float(np.median(made[f"{signature}/ms"]))}
        G_z_norm = made.get(f"{signature}/G_z_norm/{self.ngl}")
        audio = {n: made.get(f"{signature}/G_z/{n}") for n in self.audio}
        if G_z_norm is not None:
            row["spectrogram, max error"] = float(
                np.abs(G_z_norm - self.G_z_norm).max()
            )
            row["spectrogram, SNR dB"] = snr(G_z_norm, self.G_z_norm)
        if audio[0] is None:  # a generator alone: the sound that its spectrograms make
            audio = {self.ngl: self.invert(G_z_norm, self.ngl)}
        else:
            row["audio at ngl 0, SNR dB"] = snr(audio[0], self.audio[0])
        row["audio, SNR dB"] = snr(audio[self.ngl], self.audio[self.ngl])
        row["audio, log-spectral distance dB"] = log_spectral_distance(
            audio[self.ngl], self.audio[self.ngl]
        )
        bounds = {
            "spectrogram, SNR dB": SPECTROGRAM[weights],
            "audio at ngl 0, SNR dB": AUDIO,
        }
        for what in bounds.keys() & row.keys():
            if not row[what] >= bounds[what]:  # NaN fails too
                raise ExportError(
                    f"{signature} ({weights}) is not what Keras makes: {what} is "
                    f"{row[what]:.1f}, not {bounds[what]:g} or more"
                    + self.collapse(weights)
                )
        return row

    def collapse(self, weights):
        """Why int8 fails where a generator has learned little."""
        rms = float(np.sqrt(np.mean(np.square(self.G_z_norm))))
        if weights != "int8" or rms > 10 * INT8_STEP:
            return ""
        return (
            f". int8 spectrograms have steps of 1/128, and those of this generator an "
            f"RMS of {rms:.2g}: it has hardly been trained. Train on, or leave int8 out"
        )


def write_report(folder, about, ngl, rows, pictures):
    """report.json, report.md and spectrograms.png, of everything exported.

    Args:
      about: what was exported, a dict.
      rows: (file, signature, numbers) of each signature.
      pictures: (what, spectrograms [8, 128, 128, 1]), the first of them Keras'.
    """
    machine = {"cpu": _cpu(), "date": datetime.date.today().isoformat()}
    versions = {"python": platform.python_version(), "tensorflow": tf.__version__}
    machine |= versions | {"tflite": _litert(), "threads": 1}
    if any(file.endswith(".onnx") for file, _, _ in rows):
        machine["onnxruntime"] = importlib.metadata.version("onnxruntime")
    with open(os.path.join(folder, "report.json"), "w") as f:
        measured = [{"file": file, "signature": s, **row} for file, s, row in rows]
        json.dump({"model": about, "machine": machine, "rows": measured}, f, indent=2)
    images = np.concatenate([spectral.f_to_img(x) for _, x in pictures])
    names = [what for what, x in pictures for _ in x]
    rate = about.get("sample_rate", 16000)
    made = sheet.contact_sheet(images, names, rate, columns=ROWS)
    sheet.write_png(os.path.join(folder, "spectrograms.png"), made)
    with open(os.path.join(folder, "report.md"), "w") as f:
        f.write(_markdown(about, machine, ngl, rows, [what for what, _ in pictures]))


def _markdown(about, machine, ngl, rows, pictures):
    head = ["file", "signature", *NUMBERS]
    lines = [head, ["---"] * len(head)]
    for file, signature, row in rows:
        numbers = (NUMBERS[n].format(row[n]) if n in row else "" for n in NUMBERS)
        lines.append([f"`{file}`", signature, *numbers])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    listed = "\n".join(f"- {name}: {value}" for name, value in about.items())
    said = ", ".join(f"{name} {value}" for name, value in machine.items())
    return TEXT.format(
        verdict=_verdict(rows),
        listed=listed,
        rows=ROWS,
        ngl=ngl,
        said=said,
        table=table,
        bounds=", ".join(f"{v:g} dB ({k})" for k, v in SPECTROGRAM.items()),
        audio=f"{AUDIO:g}",
        pictures=", ".join(pictures),
    )


def _verdict(rows):
    """The first sentences: a report is only written of artefacts that all passed."""
    files = {file for file, _, _ in rows}
    text = f"**Passed.** All artefacts ({len(files)}) compute what Keras computes."
    for title, name in (
        ("Least exact spectrograms", "spectrogram, SNR dB"),
        ("Smallest", "size, MB"),
        ("Fastest", "latency, ms"),
    ):
        known = [(row[name], file) for file, _, row in rows if name in row]
        if known:
            value, file = min(known)
            text += f" {title}: `{file}`, {value:.3g} {name.split()[-1]}."
    return text


TEXT = """# Export

{verdict}

{listed}

Each artefact was loaded in a process of its own and given the same {rows} latents as
Keras, one at a time; a SavedModel and ONNX, which take any number, the second half at
once. Latency is the median of those alone, {ngl} Griffin-Lim iterations included where
there is audio. Measured with: {said}; XNNPACK as it is by default, on.

{table}

SNR is that of the artefact's output against Keras'. To pass, spectrograms must reach
{bounds}, and audio {audio} dB before any Griffin-Lim iteration. Of quantised weights
the audio's SNR means nothing: iterations find other phases for a slightly different
spectrogram, and sound the same. There the log-spectral distance counts: the RMS
difference of log spectra, in dB. Audio of a file that makes spectrograms only is what
Keras' own inversion makes of them.

![Spectrograms](spectrograms.png)

*From above: {pictures}. The same latents in each row; time runs to the right, frequency
upwards.*
"""


def _cpu():
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
        names = [line.split(": ")[1].strip() for line in f if line[:10] == "model name"]
        return f"{len(names)} x {names[0]}"
    return platform.machine()


def _litert():
    try:
        return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    except importlib.metadata.PackageNotFoundError:
        return "tf.lite"


def snr(got, want):
    """Signal over error, in dB, of arrays; infinite if they are equal."""
    error = np.mean(np.square(np.subtract(got, want, dtype=np.float64)))
    signal = np.mean(np.square(want, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(signal / error)) if error else float("inf")


def log_spectral_distance(got, want):
    """dB between waveforms [b, 16384, 1]: RMS over bins, mean over frames and clips."""
    got, want = (spectral.log_magnitude(x[:, :, 0]).numpy() for x in (got, want))
    decibels = 20 / np.log(10) * (got - want)
    return float(np.mean(np.sqrt(np.mean(np.square(decibels), axis=-1))))


def size(path):
    """Bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(root, name))
        for root, _, names in os.walk(path)
        for name in names
    )
