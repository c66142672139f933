"""Trains a `Classifier` on a folder of labelled sounds.

Port of eval/inception/train.py (chrisdonahue/wavegan 40e85e8).
"""

import collections
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from specgan_tf import loader, spectral
from specgan_tf.errors import InputError
from specgan_tf.eval import classifier
from specgan_tf.files import replacing

TRAINING = "training.npz"  # the state from which a training resumes
SEPARATORS = "_- ."  # end the label in a file's name
HELD_OUT = 0.1  # share of each label's clips that decides when to stop
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-3),
    "sgd": lambda: keras.optimizers.SGD(1e-4),  # the original's  [train.py:242]
}

log = logging.getLogger("specgan_tf")


def label_of(fp: str, data_dir: str) -> str:
    """A file's label: its sub-folder of `data_dir`, or else the start of its name.

    The label in a name ends before one of SEPARATORS: `7_speaker_3.wav`, `kick__x.wav`.
    """
    folder = os.path.relpath(os.path.dirname(fp), data_dir)
    if folder != os.curdir:
        return folder.split(os.sep)[0]
    return re.split(f"[{re.escape(SEPARATORS)}]", os.path.basename(fp))[0]


def require_classes(labels: Iterable[str], data_dir: str) -> list[str]:
    """The different labels, sorted.

    Raises:
      InputError: all labels are the same, or a label has one sound only.
    """
    counts = collections.Counter(map(str, labels))
    how = (
        "name sub-folders after the labels, or begin each file's name with its label "
        "and an underscore"
    )
    if len(counts) < 2:
        raise InputError(
            f"all sounds in {data_dir} have one label, {min(counts)!r}: {how}"
        )
    alone = sorted(label for label, n in counts.items() if n < 2)
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise InputError(
            f"{data_dir}: {alone[0]!r}{more} is the label of one sound only; each "
            f"label needs two or more. If these are not labels, {how}"
        )
    return sorted(counts)


def read_clips(fps: Sequence[str], **decoding) -> tuple[np.ndarray, np.ndarray]:
    """Read the first slice of each file, padded with zeros.

    Args:
      decoding: as `loader.decode_and_extract` takes it.

    Returns:
      (clips, indices): float32 [n, 16384], and int [n] into `fps`: the files that could
      be read.
    """
    lengths = np.full(len(fps), -1)
    slices = loader.decode_and_extract(
        fps,
        spectral.SLICE_LEN,
        spectral.MEL_RATE,
        1,
        slice_first_only=True,
        slice_pad_end=True,
        lengths=lengths,
        **decoding,
    )
    clips = np.zeros([len(fps), spectral.SLICE_LEN], np.float32)
    n = 0
    for n, x in enumerate(slices, 1):
        clips[n - 1, : len(x)] = x[:, 0, 0]
    return clips[:n], np.flatnonzero(lengths > 0)


def split(y: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a fraction of each label: (indices of the rest, of the held out)."""
    rng, held = np.random.default_rng([seed, 0]), []
    for label in np.unique(y):
        of = rng.permutation(np.flatnonzero(y == label))
        held.extend(of[: max(1, round(fraction * len(of)))])
    return np.setdiff1d(np.arange(len(y)), held), np.sort(held)


def augmented(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary clips float32 [n, 16384] in time, level and noise.

    Up to 0.1 s later and up to 12 dB quieter. Every other clip gets noise of -100 to
    -40 dB: generated clips have no digital silence, unlike real ones, which are padded
    with zeros.
    """
    out = np.zeros_like(x)
    for row, clip, shift in zip(out, x, rng.integers(1600, size=len(x)), strict=True):
        row[shift:] = clip[: len(clip) - shift]
    gain, noise = (
        np.float32(10 ** (rng.uniform(low, high, [len(x), 1]) / 20))
        for low, high in ((-12.0, 0.0), (-100.0, -40.0))
    )
    noise *= rng.integers(2, size=[len(x), 1])
    return out * gain + rng.standard_normal(x.shape, np.float32) * noise


class Training:
    """Trains a `Classifier`, keeps the best one, and resumes where it was interrupted.

    After each epoch, `folder` holds `classifier.npz`, the best so far by accuracy on
    the clips held out, and `training.npz`, the state from which to resume.

    Keras' `fit` with EarlyStopping and BackupAndRestore would not resume exactly: the
    best score and the epochs without a better one are not in the backup.

    Args:
      x, y: waveforms float32 [n, 16384] and the indices of their labels, int [n].
      labels: names of the classes.
      folder: an existing folder.
      dim: as in `classifier.model`.
      optimizer: "adam" (learning rate 1e-3), or the original's "sgd" (1e-4).
      batch_size: clips.
      seed: for weights, order, augmentation, and the choice of clips to hold out.

    Raises:
      InputError: the folder holds a training with other clips or settings.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: ArrayLike,
        labels: Sequence[str],
        folder: str,
        dim: int = 128,
        optimizer: str = "adam",
        batch_size: int = 64,
        seed: int = 0,
    ):
        self.x, self.y, self.folder, self.seed = x, np.asarray(y), folder, seed
        self.batch_size = batch_size
        keras.utils.set_random_seed(seed)
        self.classifier = classifier.Classifier(labels, dim)
        self.net = keras.Model(
            self.classifier.net.inputs, self.classifier.net.outputs[0]
        )
        self.net.compile(
            optimizer=OPTIMIZERS[optimizer](),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self.net.optimizer.build(self.net.trainable_variables)
        self.log_mel = tf.function(lambda x: spectral.log_mel(x, classifier.NFFT))
        self.rest, self.held = split(self.y, HELD_OUT, seed)
        self.epoch, self.since, self.best = 0, 0, (-1.0, 0.0)
        self.slowed, self.seconds = False, 0.0
        self.settings = {
            "clips": f"{len(x)} ({classifier.digest([self.y, self.x])})",
            "dim": dim,
            "optimizer": optimizer,
            "batch size": batch_size,
            "seed": seed,
        }
        self.fp = os.path.join(folder, TRAINING)
        if os.path.isfile(self.fp):
            self.restore()

    def values(self) -> dict[str, keras.Variable]:
        """The variables to save, by name: the classifier's and the optimizer's."""
        slots = enumerate(self.net.optimizer.variables)
        return self.classifier.values() | {f"optimizer/{i}": v for i, v in slots}

    def restore(self) -> None:
        """Read what `save` wrote."""
        arrays = classifier.read_arrays(self.fp)
        try:
            state = json.loads(str(arrays["state"]))
            settings, numbers = state["settings"], state["numbers"]
            self.epoch, self.since, self.best, self.slowed, self.seconds = numbers
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self.fp} is damaged: remove it to start over") from None
        for name, value in self.settings.items():
            if settings.get(name) != value:
                raise InputError(
                    f"{self.folder} holds a training with {name} {settings.get(name)}, "
                    f"not {value}; use another folder"
                )
        classifier.assign(self.values(), arrays, self.fp)
        log.info("Resuming after epoch %d", self.epoch)

    def save(self) -> None:
        """Write the state from which to resume."""
        numbers = [self.epoch, self.since, self.best, self.slowed, self.seconds]
        state = json.dumps({"settings": self.settings, "numbers": numbers})
        arrays = {name: np.asarray(v) for name, v in self.values().items()}
        with replacing(self.fp) as f:
            np.savez(f, state=np.array(state), **arrays)

    def run(self, epochs: int = 100, patience: int = 5) -> classifier.Classifier:
        """Train, and return the best classifier.

        After `patience` epochs in a row without a better one, training goes back to the
        best, at a tenth of the learning rate; after as many again, it ends.
        """
        while self.epoch < epochs:
            if self.since >= patience:
                if self.slowed:
                    break
                self.slow_down()
            began = time.process_time()
            loss = self.run_epoch()
            accuracy, xent = self.evaluate(self.held)
            self.epoch += 1
            self.since += 1
            self.seconds += time.process_time() - began
            if (accuracy, -xent) > tuple(self.best):
                self.best, self.since = (accuracy, -xent), 0
                self.classifier.save(
                    os.path.join(self.folder, classifier.BEST), epoch=self.epoch
                )
            self.save()
            log.info(
                "epoch %3d  loss %.4f  held out %.4f, accuracy %.2f%%%s  %.0f CPU s",
                *(self.epoch, loss, xent, 100 * accuracy),
                "" if self.since else " (best)",
                self.seconds,
            )
        return classifier.Classifier.load(self.folder)

    def slow_down(self) -> None:
        """Go back to the best weights, at a tenth of the learning rate."""
        log.info(
            "No better for %d epochs: back to the best, at a tenth of the rate",
            self.since,
        )
        best_fp = os.path.join(self.folder, classifier.BEST)
        classifier.assign(
            self.classifier.values(), classifier.read_arrays(best_fp), best_fp
        )
        rate = self.net.optimizer.learning_rate
        rate.assign(0.1 * rate)  # saved with the optimizer's other variables
        self.since, self.slowed = 0, True

    def run_epoch(self) -> float:
        """Train on every clip once; return the mean loss."""
        rng, losses = np.random.default_rng([self.seed, 1, self.epoch]), []
        order = rng.permutation(self.rest)
        for i in range(0, len(order), self.batch_size):
            batch = order[i : i + self.batch_size]
            X_lmel = self.log_mel(tf.constant(augmented(self.x[batch], rng)))
            self.net.reset_metrics()
            losses.append(self.net.train_on_batch(X_lmel, self.y[batch]))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the classifier's loss is {losses[-1]} in epoch {self.epoch + 1}"
                )
        return float(np.mean(losses))

    def evaluate(self, indices: np.ndarray) -> tuple[float, float]:
        """(accuracy, mean cross entropy) on the clips at `indices`."""
        logits, y = self.classifier.logits(self.x[indices]), self.y[indices]
        xent = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        return float(np.mean(logits.argmax(axis=1) == y)), float(np.mean(xent))


def confusion(y: np.ndarray, predicted: np.ndarray, n: int) -> np.ndarray:
    """Confusion matrix of `n` classes, int [n, n]: row y, column predicted."""
    matrix = np.zeros([n, n], int)
    np.add.at(matrix, (y, predicted), 1)
    return matrix
