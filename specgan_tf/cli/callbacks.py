"""What happens during `fit`: progress lines, checkpoints, summaries, the end.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 145-158 and 278-284.
"""

import contextlib
import datetime
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_plugin

from specgan_tf import generate, losses, spectral
from specgan_tf.eval import health, score
from specgan_tf.files import StrPath
from specgan_tf.moments import Moments
from specgan_tf.weights import checkpoint, folders

log = logging.getLogger("specgan_tf")


class Progress(keras.callbacks.Callback):
    """A line every `secs` seconds: step, means since the last line, speed, time left.

    Args:
      max_steps: the step to end at, or None.
      secs: seconds between lines.
      file: what to print to; stdout by default.
    """

    def __init__(
        self,
        max_steps: int | None = None,
        secs: float = 5.0,
        file: TextIO | None = None,
    ):
        super().__init__()
        self.max_steps, self.secs, self.file = max_steps, secs, file or sys.stdout

    def on_train_begin(self, logs=None):
        self.began, self.first, self.shown = time.monotonic(), None, None
        self.since = []

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.monotonic(), self.model.global_step
        # Not the model's metrics: only the chief prints, and reading them would wait
        # for the other workers.
        self.since.append(logs)
        if self.first is None:
            # It fills the shuffle window and traces, so it does not count for speed.
            self.first = now, step
            self.show(now, step, f"first step: {now - self.began:.0f} s")
        elif now - self.shown >= self.secs or step == self.max_steps:
            start, first = self.first
            per_step = (now - start) / (step - first)
            rate = f"{1 / per_step:.2f} steps/s"
            self.show(now, step, rate if per_step < 10 else f"{per_step:.1f} s/step")

    def show(self, now: float, step: int, speed: str) -> None:
        names = ["D_loss", "G_loss"]
        names += ["gradient_penalty"] * ("slopes" in self.since[0])
        means = [np.mean([logs[name] for logs in self.since]) for name in names]
        self.since = []
        parts = [
            f"step {step:6d}",
            *(f"{n} {mean:.3f}" for n, mean in zip(names, means, strict=True)),
            speed,
        ]
        start, first = self.first
        if self.max_steps and step > first:
            left = (now - start) / (step - first) * (self.max_steps - step)
            parts.append(f"{datetime.timedelta(seconds=round(left))} left")
        print("  ".join(parts), file=self.file, flush=True)
        self.shown = now


class SlowSteps(keras.callbacks.Callback):
    """Warn once how long a step takes, after the second: the first one also traces.

    Args:
      advice: a sentence that says what makes steps faster.
    """

    def __init__(self, advice: str):
        super().__init__()
        self.advice, self.steps = advice, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 2:
            secs = time.monotonic() - self.began
            log.warning("A step takes %.1f s without a GPU. %s", secs, self.advice)


class Divergence(keras.callbacks.Callback):
    """Raise FloatingPointError when a loss is NaN or infinite."""

    def on_train_batch_end(self, batch, logs=None):
        for name, value in logs.items():
            # The squares in a norm may overflow although no gradient does.
            if not name.endswith("_gradient_norm") and not np.isfinite(value):
                raise FloatingPointError(f"{name} is {float(value)}")


class Save(keras.callbacks.Callback):
    """Save when a new training starts, every `secs` seconds, and at the end.

    If a checkpoint cannot be written (a full disk), a warning is logged and training
    continues. At the start and at the end it is an OSError.

    Args:
      train_dir: the training folder.
      secs: seconds between checkpoints.
      data: () -> the data position, as `checkpoint.save` takes it.
      backup_mins: minutes between backups (`folders.back_up`), or None. [backup.py]
      keep: how many checkpoints stay.
    """

    def __init__(
        self,
        train_dir: StrPath,
        secs: float = 300,
        data: Callable[[], dict[str, np.ndarray]] = dict,
        backup_mins: float | None = None,
        keep: int = checkpoint.KEEP,
    ):
        super().__init__()
        self.train_dir, self.secs, self.data, self.keep = train_dir, secs, data, keep
        self.backup_secs = 60 * backup_mins if backup_mins else math.inf

    def on_train_begin(self, logs=None):
        self.saved = None
        if self.model.global_step == 0:
            self.save()
        self.last = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self.last >= self.secs:
            try:
                self.save()
                self.back_up()
            except OSError as e:
                log.warning("%s. Training continues, and will try again", e)
            self.last = time.monotonic()

    def on_train_end(self, logs=None):
        if self.saved != self.model.global_step:
            self.save()
        self.back_up()

    def save(self) -> None:
        checkpoint.save(self.model, self.train_dir, self.data(), self.keep)
        self.saved = self.model.global_step

    def back_up(self) -> None:
        """Write a backup if one is due, by file times: trainings are interrupted."""
        with contextlib.suppress(OSError):
            made = os.path.getmtime(os.path.join(self.train_dir, "backup/checkpoint"))
            if time.time() - made < self.backup_secs:
                return
        if self.backup_secs < math.inf:
            folders.back_up(self.train_dir)


class Stop(keras.callbacks.Callback):
    """End after `max_steps` updates of G, or on SIGINT and SIGTERM.

    The current step is finished first. A second signal does not wait for it.

    Args:
      max_steps: the step to end at, or None.
      any_worker: of several workers, whether any of them wants to end: one that left
        while the others go on would keep them waiting. See `distribute.any_worker_of`.
    """

    def __init__(
        self,
        max_steps: int | None = None,
        any_worker: Callable[[bool], bool] = bool,
    ):
        super().__init__()
        self.max_steps, self.any_worker = max_steps, any_worker
        self.signalled, self.handlers = None, {}

    def on_train_begin(self, logs=None):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: Any) -> None:
        self.signalled = signal.Signals(number)
        print(
            f"\n{self.signalled.name}: finishing this step, then saving. "
            "Press Ctrl-C again to save at once",
            flush=True,
        )
        signal.signal(number, self.handlers[number])

    def on_train_batch_end(self, batch, logs=None):
        if self.any_worker(self.signalled or self.model.global_step == self.max_steps):
            self.model.stop_training = True

    def restore_handlers(self) -> None:
        """Restore the signal handlers; call it however `fit` ended."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


class Summaries(keras.callbacks.Callback):
    """TensorBoard summaries every `secs` seconds, under the original's tags.

    Also D_x, D_G_z and their difference, norms of gradients, slopes, how much clips
    differ from each other, steps per second, and the share of time spent waiting for
    data. If summaries cannot be written (a full disk), a warning is logged and training
    continues.

    differs: x_wav and x are one fixed batch of real clips, so they are written once.
    G_z is made from the same latents each time, so only G changes it.
    [train_specgan.py:145-158]

    Args:
      train_dir: the folder for the event files.
      x_wav: real waveforms float32 [n, 16384, 1], n at least 2.
      moments: `moments.Moments`.
      sample_rate: Hz.
      griffin_lim: `spectral.GriffinLim` for the audio.
      secs: seconds between summaries.
      hparams: the training's settings, name -> bool, number or text.

    Attributes:
      series: tag -> ([step], [value]) of the scalars of this run.
      clips: (real, generated), float32 [n, 16384, 1], of the last summaries.

    [train_specgan.py:240-241]
    """

    def __init__(
        self,
        train_dir: StrPath,
        x_wav: np.ndarray,
        moments: Moments,
        sample_rate: int,
        griffin_lim: spectral.GriffinLim = spectral.GRIFFIN_LIM,
        secs: float = 120,
        hparams: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.train_dir, self.x_wav, self.moments = train_dir, x_wav, moments
        self.sample_rate, self.griffin_lim, self.secs = sample_rate, griffin_lim, secs
        self.hparams = hparams or {}
        self.series, self.clips, self.waited = {}, None, None

    def add_wait(self, seconds: float) -> None:
        """Add to the time spent waiting for data; `loader.timed` calls it."""
        self.waited = seconds + (self.waited or 0.0)

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(self.train_dir)
        self.render = tf.function(self.to_audio)
        self.x = self.moments.t_to_f(self.x_wav)
        self.x_gl = self.render(self.x).numpy()
        self.apart = score.diversity(self.x_gl)
        self.z = generate.sample_z(len(self.x_wav), self.model.G.latent_dim, 0)
        self.alpha = (
            generate.sample_z(len(self.x_wav), 1, 1)[:, :, None, None] / 2 + 0.5
        )
        self.last = None

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self.last is not None and now - self.last < self.secs:
            return
        with self.reporting_errors():
            with self.writer.as_default(step=self.model.global_step):
                self.write_all(logs, self.rates(now))
            self.writer.flush()
        # The first step fills a shuffle window and traces, so it does not count.
        self.last, self.last_step = time.monotonic(), self.model.global_step
        self.waited = None if self.waited is None else 0.0

    def on_train_end(self, logs=None):
        with self.reporting_errors():
            self.writer.close()

    @contextlib.contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Log that summaries could not be written."""
        try:
            yield
        except tf.errors.OpError as e:
            if "OOM" in str(e):  # the same type as for a full disk
                raise
            reason = str(e).splitlines()[0].rpartition("; ")[2]
            log.warning(
                "Summaries could not be written to %s: %s", self.train_dir, reason
            )

    def rates(self, now: float) -> dict[str, float]:
        """Rates since the last summaries; {} at the first ones."""
        if self.last is None:
            return {}
        secs = now - self.last
        rates = {"steps_per_second": (self.model.global_step - self.last_step) / secs}
        return rates | (
            {} if self.waited is None else {"data_wait": self.waited / secs}
        )

    def write_all(self, logs: Mapping[str, Any], rates: dict[str, float]) -> None:
        if self.last is None:
            hparams_plugin.hparams(self.hparams)
            tf.summary.audio("x_wav/audio", self.x_wav, self.sample_rate)
            self.write("x", self.x, self.x_gl)
        # Fixed latents: a draw of the model's would change the training.
        G_z = self.model.generator(self.z, training=False)
        G_z_gl = self.render(G_z).numpy()
        self.write("G_z", G_z, G_z_gl)
        self.clips = self.x_gl, G_z_gl
        values = {**logs, "x_rms": rms(self.x_gl).mean(), "G_z_rms": rms(G_z_gl).mean()}
        values["D_x_minus_D_G_z"] = logs["D_x"] - logs["D_G_z"]
        # At least 1e-3: two silent sets would give NaN.
        values["G_z_diversity"] = score.diversity(G_z_gl) / max(self.apart, 1e-3)
        if self.model.loss_spec.penalty:
            D = self.model.D
            if self.model.G_ema is not None:  # D is trained against G, not its average
                G_z = self.model.G(self.z, training=False)
            _, slopes = losses.gradient_penalty(D, self.x, G_z, self.alpha)
            tf.summary.histogram("slopes_batch", slopes)
        for name, value in (values | rates).items():
            self.scalar(name, value)

    def scalar(self, tag: str, value: float) -> None:
        """Write a value, and keep it in `series`."""
        tf.summary.scalar(tag, value)
        steps, values = self.series.setdefault(tag, ([], []))
        steps.append(self.model.global_step)
        values.append(float(value))

    def to_audio(self, X_norm: tf.Tensor) -> tf.Tensor:
        return self.moments.f_to_t(X_norm, self.griffin_lim)

    def write(self, tag: str, X_norm: tf.Tensor, x_gl: np.ndarray) -> None:
        # TF 1's names. TensorBoard shows one kind of summary under a tag.
        tf.summary.audio(f"{tag}/audio", x_gl, self.sample_rate)
        tf.summary.image(f"{tag}/image", spectral.f_to_img(X_norm))
        tf.summary.histogram(f"{tag}_rms_batch", rms(x_gl))


def rms(x: np.ndarray) -> np.ndarray:
    """Root mean square of each waveform: [b, 16384, 1] -> [b]."""
    return np.sqrt(np.mean(np.square(x[:, :, 0]), axis=1))


class Health(keras.callbacks.Callback):
    """Warn of signs of an unhealthy training, whenever `summaries` are written.

    Each sign is logged once, and again if it went away and came back.
    """

    def __init__(self, summaries: Summaries):
        super().__init__()
        self.summaries, self.written, self.shown = summaries, None, set()

    def on_train_batch_end(self, batch, logs=None):
        if self.summaries.last == self.written or self.summaries.clips is None:
            return
        self.written = self.summaries.last
        signs = health.of_training(self.model.loss_name, self.summaries.series)
        signs += health.of_clips(self.model.global_step, *self.summaries.clips)
        for sign in signs:
            if sign.name not in self.shown:
                log.warning("Step %d: %s", self.model.global_step, sign)
        self.shown = {sign.name for sign in signs}
