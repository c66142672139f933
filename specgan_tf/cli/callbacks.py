"""When to do things during `fit`: progress, checkpoints, summaries, the end.

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

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_plugin

from specgan_tf import generate, losses, spectral
from specgan_tf.eval import health, score
from specgan_tf.weights import checkpoint, folders

log = logging.getLogger("specgan_tf")


class Progress(keras.callbacks.Callback):
    """A line every `secs` seconds: step, means since the last line, speed, and time."""

    def __init__(self, max_steps=None, secs=5.0, file=None):
        super().__init__()
        self.max_steps, self.secs, self.file = max_steps, secs, file or sys.stdout

    def on_train_begin(self, logs=None):
        self.began, self.first, self.shown = time.monotonic(), None, None
        self.since = []

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.monotonic(), self.model.global_step
        # Not the model's metrics: of several workers only the chief shows, and reading
        # them would wait for the others.
        self.since.append(logs)
        if self.first is None:
            # Filling the shuffle buffer and tracing: no measure of the others.
            self.first = now, step
            self.show(now, step, f"first step: {now - self.began:.0f} s")
        elif now - self.shown >= self.secs or step == self.max_steps:
            start, first = self.first
            per_step = (now - start) / (step - first)
            rate = f"{1 / per_step:.2f} steps/s"
            self.show(now, step, rate if per_step < 10 else f"{per_step:.1f} s/step")

    def show(self, now, step, speed):
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
    """Warn once how long a step takes, after the second: the first one traces too.

    Args:
      advice: what makes steps faster, a sentence.
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
    """Raises FloatingPointError when a loss is NaN or infinite."""

    def on_train_batch_end(self, batch, logs=None):
        for name, value in logs.items():
            # A norm's squares overflow where no gradient does.
            if not name.endswith("_gradient_norm") and not np.isfinite(value):
                raise FloatingPointError(f"{name} is {float(value)}")


class Save(keras.callbacks.Callback):
    """A checkpoint when a new training starts, every `secs` seconds, and at the end.

    One that cannot be written (a full disk) is said, and training goes on; at the
    start and at the end it is an OSError.

    Args:
      train_dir: where to.
      secs: between checkpoints.
      data: () -> where the training is in its data, as `checkpoint.save` takes it.
      backup_mins: minutes between `folders.back_up`; None for never. [backup.py]
      keep: how many checkpoints stay.
    """

    def __init__(
        self, train_dir, secs=300, data=dict, backup_mins=None, keep=checkpoint.KEEP
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
                log.warning("%s. Training goes on; the next try is in time", e)
            self.last = time.monotonic()

    def on_train_end(self, logs=None):
        if self.saved != self.model.global_step:
            self.save()
        self.back_up()

    def save(self):
        checkpoint.save(self.model, self.train_dir, self.data(), self.keep)
        self.saved = self.model.global_step

    def back_up(self):
        """If one is due. By the clock on the wall: trainings are interrupted."""
        with contextlib.suppress(OSError):
            made = os.path.getmtime(os.path.join(self.train_dir, "backup/checkpoint"))
            if time.time() - made < self.backup_secs:
                return
        if self.backup_secs < math.inf:
            folders.back_up(self.train_dir)


class Stop(keras.callbacks.Callback):
    """End after `max_steps` updates of G, or in order on SIGINT and SIGTERM.

    A step under way is finished first; a second Ctrl-C does not wait.

    Args:
      max_steps: the step to end at, or None.
      any_worker: of several workers, whether any of them wants to end: one that left
        while the others go on would keep them waiting. See `distribute.any_worker_of`.
    """

    def __init__(self, max_steps=None, any_worker=bool):
        super().__init__()
        self.max_steps, self.any_worker = max_steps, any_worker
        self.signalled, self.handlers = None, {}

    def on_train_begin(self, logs=None):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self.on_signal)

    def on_signal(self, number, frame):
        self.signalled = signal.Signals(number)
        print(
            f"\n{self.signalled.name}: finishing this step, then saving "
            "(a second one does not wait for the step)",
            flush=True,
        )
        signal.signal(number, self.handlers[number])

    def on_train_batch_end(self, batch, logs=None):
        if self.any_worker(self.signalled or self.model.global_step == self.max_steps):
            self.model.stop_training = True

    def restore_handlers(self):
        """Called once `fit` is over, however it ended."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


class Summaries(keras.callbacks.Callback):
    """TensorBoard summaries every `secs` seconds, under the original's tags.

    Those, and D_x, D_G_z and their difference, norms of gradients, slopes, how much
    clips differ from each other, steps a second, the share of time that waits for data.
    What cannot be written (a full disk) is said, and training goes on.

    differs: x_wav and x are one fixed batch of real clips, so they are written once,
    and G_z is of the same latents each time: what changes is G.
    [train_specgan.py:145-158]

    Args:
      train_dir: where the event files go.
      x_wav: real waveforms float32 [n, 16384, 1], n at least 2.
      moments: `moments.Moments`.
      sample_rate: Hz.
      griffin_lim: `spectral.GriffinLim` of the audio.
      hparams: the training's settings, name -> bool, number or text.

    Attributes:
      series: tag -> ([step], [value]) of the scalars of this run.
      clips: (real, generated), float32 [n, 16384, 1], of the last summaries.

    [train_specgan.py:240-241]
    """

    def __init__(
        self,
        train_dir,
        x_wav,
        moments,
        sample_rate,
        griffin_lim=spectral.GRIFFIN_LIM,
        secs=120,
        hparams=None,
    ):
        super().__init__()
        self.train_dir, self.x_wav, self.moments = train_dir, x_wav, moments
        self.sample_rate, self.griffin_lim, self.secs = sample_rate, griffin_lim, secs
        self.hparams = hparams or {}
        self.series, self.clips, self.waited = {}, None, None

    def add_wait(self, seconds):
        """To be told of waiting for data: see `loader.timed`."""
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
        with self.said():
            with self.writer.as_default(step=self.model.global_step):
                self.write_all(logs, self.rates(now))
            self.writer.flush()
        # Filling the shuffle buffer and tracing, of the first step, are no measure.
        self.last, self.last_step = time.monotonic(), self.model.global_step
        self.waited = None if self.waited is None else 0.0

    def on_train_end(self, logs=None):
        with self.said():
            self.writer.close()

    @contextlib.contextmanager
    def said(self):
        try:
            yield
        except tf.errors.OpError as e:
            if "OOM" in str(e):  # has the same type as a full disk
                raise
            reason = str(e).splitlines()[0].rpartition("; ")[2]
            log.warning(
                "Summaries could not be written to %s: %s", self.train_dir, reason
            )

    def rates(self, now):
        """Since the last summaries; {} at the first."""
        if self.last is None:
            return {}
        secs = now - self.last
        rates = {"steps_per_second": (self.model.global_step - self.last_step) / secs}
        return rates | (
            {} if self.waited is None else {"data_wait": self.waited / secs}
        )

    def write_all(self, logs, rates):
        if self.last is None:
            hparams_plugin.hparams(self.hparams)
            tf.summary.audio("x_wav/audio", self.x_wav, self.sample_rate)
            self.write("x", self.x, self.x_gl)
        # Not the model's own draws: summaries must not change a training.
        G_z = self.model.generator(self.z, training=False)
        G_z_gl = self.render(G_z).numpy()
        self.write("G_z", G_z, G_z_gl)
        self.clips = self.x_gl, G_z_gl
        values = {**logs, "x_rms": rms(self.x_gl).mean(), "G_z_rms": rms(G_z_gl).mean()}
        values["D_x_minus_D_G_z"] = logs["D_x"] - logs["D_G_z"]
        # Of two silent sets it would be NaN.
        values["G_z_diversity"] = score.diversity(G_z_gl) / max(self.apart, 1e-3)
        if self.model.loss_spec.penalty:
            D = self.model.D
            if self.model.G_ema is not None:  # D is trained against G, not its average
                G_z = self.model.G(self.z, training=False)
            _, slopes = losses.gradient_penalty(D, self.x, G_z, self.alpha)
            tf.summary.histogram("slopes_batch", slopes)
        for name, value in (values | rates).items():
            self.scalar(name, value)

    def scalar(self, tag, value):
        tf.summary.scalar(tag, value)
        steps, values = self.series.setdefault(tag, ([], []))
        steps.append(self.model.global_step)
        values.append(float(value))

    def to_audio(self, X_norm):
        return self.moments.f_to_t(X_norm, self.griffin_lim)

    def write(self, tag, X_norm, x_gl):
        # As TF 1 names them: TensorBoard shows one kind of thing under a tag.
        tf.summary.audio(f"{tag}/audio", x_gl, self.sample_rate)
        tf.summary.image(f"{tag}/image", spectral.f_to_img(X_norm))
        tf.summary.histogram(f"{tag}_rms_batch", rms(x_gl))


def rms(x):
    """Of each of [b, 16384, 1]."""
    return np.sqrt(np.mean(np.square(x[:, :, 0]), axis=1))


class Health(keras.callbacks.Callback):
    """Says in the log what is wrong with a training, when `summaries` are written.

    Each sign once, until it is gone.
    """

    def __init__(self, summaries):
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
