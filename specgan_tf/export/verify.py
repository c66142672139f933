"""Run every exported artefact in its own process, and compare it with Keras."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import generate, sheet, spectral
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.moments import Moments
from specgan_tf.spectral import GRIFFIN_LIM, GriffinLim

ROWS = 8  # latents compared
# The SNR that each must reach, in dB; at 20 dB the error is a tenth of the values.
SPECTROGRAM = {"f32": 90.0, "f16": 50.0, "dr8": 25.0, "int8": 20.0}
# For audio before any Griffin-Lim step. The steps enlarge rounding errors, without
# limit for an inconsistent spectrogram.
AUDIO = 90.0
INT8_STEP = 1 / 128  # TFLite's step for the output of an int8 tanh

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
    """An artefact does not compute what the Keras model computes."""


class Reference:
    """Keras' results for ROWS latents, to compare artefacts with.

    Args:
      G: generator.
      moments: its `moments.Moments`.
      griffin_lim: `spectral.GriffinLim`.
      seed: seed for the latents.
    """

    def __init__(
        self,
        G: keras.Model,
        moments: Moments,
        griffin_lim: GriffinLim = GRIFFIN_LIM,
        seed: int = 0,
    ) -> None:
        self.ngl = griffin_lim.ngl
        self.z = generate.sample_z(ROWS, G.latent_dim, seed).numpy()
        self.f_to_t = tf.function(
            lambda X, ngl: moments.f_to_t(X, griffin_lim._replace(ngl=ngl))
        )
        self.G_z_norm = G(self.z, training=False).numpy()
        self.audio = {n: self.invert(self.G_z_norm, n) for n in (0, self.ngl)}

    def invert(self, G_z_norm: np.ndarray, ngl: int) -> np.ndarray:
        return self.f_to_t(tf.constant(G_z_norm), tf.constant(ngl)).numpy()

    def compare(
        self, path: str, weights: str = "f32"
    ) -> tuple[dict[str, dict[str, float]], np.ndarray | None]:
        """Run the artefact at `path` in a new process, and measure its errors.

        Args:
          weights: how it stores weights, a key of SPECTROGRAM; selects the bounds.

        Returns:
          (signature -> numbers, by the names in NUMBERS; its spectrograms float32
          [8, 128, 128, 1], or None if it makes none).

        Raises:
          ExportError: the artefact does not run, or misses a bound.
        """
        made = self.run(path)
        rows = {
            name: {"size, MB": size(path) / 1e6} | self.measure(name, made, weights)
            for name in sorted({key.split("/")[0] for key in made})
        }
        return rows, made.get(f"generate/G_z_norm/{self.ngl}")

    def run(self, path: str) -> dict[str, np.ndarray]:
        """The outputs of artefact.py for the artefact at `path`."""
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
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise ExportError(f"{path} does not run: {reason}")
            return dict(np.load(made))

    def measure(self, signature: str, made: dict, weights: str) -> dict[str, float]:
        """The numbers of one signature; ExportError if it misses a bound."""
        row = {"latency, ms": float(np.median(made[f"{signature}/ms"]))}
        G_z_norm = made.get(f"{signature}/G_z_norm/{self.ngl}")
        audio = {n: made.get(f"{signature}/G_z/{n}") for n in self.audio}
        if G_z_norm is not None:
            row["spectrogram, max error"] = float(
                np.abs(G_z_norm - self.G_z_norm).max()
            )
            row["spectrogram, SNR dB"] = snr(G_z_norm, self.G_z_norm)
        if audio[0] is None:  # a generator alone: Keras inverts its spectrograms
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
                    f"{signature} ({weights}) differs from Keras: {what} is "
                    f"{row[what]:.1f}; it must be at least {bounds[what]:g}"
                    + self.collapse(weights)
                )
        return row

    def collapse(self, weights: str) -> str:
        """The reason why int8 fails if the generator is hardly trained, or ""."""
        rms = float(np.sqrt(np.mean(np.square(self.G_z_norm))))
        if weights != "int8" or rms > 10 * INT8_STEP:
            return ""
        return (
            f". int8 spectrograms have steps of 1/128, and this generator's have an "
            f"RMS of {rms:.2g}: it is hardly trained. Continue training, or leave out "
            "int8"
        )


def write_report(
    folder: StrPath,
    about: dict,
    ngl: int,
    rows: list[tuple[str, str, dict]],
    pictures: list[tuple[str, np.ndarray]],
) -> None:
    """Write report.json, report.md and spectrograms.png on everything exported.

    Args:
      folder: where to write them.
      about: facts about the model, by name.
      ngl: Griffin-Lim steps of the measurements.
      rows: (file, signature, numbers) of each signature.
      pictures: (name, spectrograms [8, 128, 128, 1]); the first ones are Keras'.
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
    versions = ", ".join(f"{name} {value}" for name, value in machine.items())
    return TEXT.format(
        verdict=_verdict(rows),
        listed=listed,
        rows=ROWS,
        ngl=ngl,
        versions=versions,
        table=table,
        bounds=", ".join(f"{v:g} dB ({k})" for k, v in SPECTROGRAM.items()),
        audio=f"{AUDIO:g}",
        pictures=", ".join(pictures),
    )


def _verdict(rows):
    """The first sentences. (If an artefact fails, no report is written.)"""
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
there is audio. Measured with: {versions}; XNNPACK on, as by default.

{table}

SNR compares the artefact's output with Keras'. To pass, spectrograms must reach
{bounds}, and audio {audio} dB before any Griffin-Lim iteration. With quantised weights
the audio's SNR means nothing: for a slightly different spectrogram the iterations find
other phases, which sound the same. There the log-spectral distance counts: the RMS
difference of log spectra, in dB. For a file that makes spectrograms only, Keras inverts
them to audio.

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


def snr(got: np.ndarray, want: np.ndarray) -> float:
    """Signal-to-noise ratio in dB; infinite if the arrays are equal."""
    error = np.mean(np.square(np.subtract(got, want, dtype=np.float64)))
    signal = np.mean(np.square(want, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(signal / error)) if error else float("inf")


def log_spectral_distance(got: np.ndarray, want: np.ndarray) -> float:
    """dB between waveforms [b, 16384, 1]: RMS over bins, mean over frames and clips."""
    got, want = (spectral.log_magnitude(x[:, :, 0]).numpy() for x in (got, want))
    decibels = 20 / np.log(10) * (got - want)
    return float(np.mean(np.sqrt(np.mean(np.square(decibels), axis=-1))))


def size(path: StrPath) -> int:
    """Bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(root, name))
        for root, _, names in os.walk(path)
        for name in names
    )
