"""The classifier of sounds behind the inception score.

Port of eval/inception/train.py (chrisdonahue/wavegan 40e85e8). `Classifier` is that
network, `fit.Training` trains it on a folder of labelled sounds, and
`metagraph.MetaGraph` runs a classifier from the original's files.

differs: the original trains without end, by SGD, on TFRecords that nothing here can
make, while another process keeps the best weights. Here one process trains, keeps the
best, and ends.  [train.py:75-258]

Waveforms are float32 [n, 16384, 1] or [n, 16384], full scale at +-1.
"""

import logging
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from specgan_tf import spectral
from specgan_tf.errors import InputError
from specgan_tf.files import replacing
from specgan_tf.specgan import SLICE_LENS

NFFT = 1024  # samples: window of the log-mel spectrogram that the network gets
CHUNK = 100  # clips classified at a time  [train_specgan.py:529, score.py:13]
MAX_BYTES = 2 << 30  # limit of the arrays in a classifier's file
BEST = "classifier.npz"
# The features in the original's graph; they are the second output of `model`.
FEATURES = "classifier/max_pooling2d_4/MaxPool"

log = logging.getLogger("specgan_tf")


def model(nlogits: int, dim: int = 128) -> keras.Model:
    """Log-mel spectrograms [b, 128, 128] -> logits [b, nlogits], features [b, dim].

    Features are the last hidden layer's values, averaged over its 8 x 8 positions, as
    in the Inception network.

    Args:
      nlogits: classes.
      dim: channels of each convolution; the original has 128.

    Variables have the original's names, without its `classifier/`.

    original: defines a dropout of 0.5 and does not use it.  [train.py:42]

    differs: moving averages have momentum 0.9, not 0.99, because an epoch of a small
    folder has only a few dozen steps.  [train.py:44]

    [train.py:9-72]
    """

    def batchnorm(i):
        name = "batch_normalization" + (f"_{i}" if i else "")
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=name)

    X_lmel = keras.Input([spectral.NFRAMES, spectral.NMELS])
    x = batchnorm(0)(X_lmel)  # of each mel band
    x = keras.layers.Reshape([spectral.NFRAMES, spectral.NMELS, 1])(x)
    for i in range(4):  # [128, 128, 1] -> [8, 8, dim]
        name = "conv2d" + (f"_{i}" if i else "")
        x = batchnorm(i)(x) if i else x
        x = keras.layers.Conv2D(dim, 5, padding="same", activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(2, 2)(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    x = batchnorm(4)(keras.layers.Flatten()(x))
    return keras.Model(X_lmel, [keras.layers.Dense(nlogits, name="dense")(x), features])


class Classifier:
    """A network, and the names of its classes.

    Args:
      labels: names of the classes, in the order of the network's outputs.
      dim: as in `model`.
    """

    def __init__(self, labels: Sequence[str], dim: int = 128):
        self.labels, self.dim = list(labels), dim
        self.net = model(len(self.labels), dim)
        self.graph = tf.function(
            lambda x: self.net(spectral.log_mel(x, NFFT), training=False),
            input_signature=[tf.TensorSpec([None, spectral.SLICE_LEN], tf.float32)],
        )

    def logits(self, x: ArrayLike) -> np.ndarray:
        """Waveforms [n, 16384(, 1)] -> float32 [n, classes]."""
        return self._run(x)[0]

    def probabilities(self, x: ArrayLike) -> np.ndarray:
        """Waveforms [n, 16384(, 1)] -> float32 [n, classes]; see `chunks`."""
        return tf.nn.softmax(self.logits(x)).numpy()

    def features(self, x: ArrayLike) -> np.ndarray:
        """Waveforms [n, 16384(, 1)] -> float32 [n, dim], for a Frechet distance."""
        return self._run(x)[1]

    def _run(self, x):
        parts = [self.graph(part) for part in chunks(x)]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def values(self) -> dict[str, keras.Variable]:
        """The variables by the original's names."""
        return {f"classifier/{v.path}": v for v in self.net.variables}

    def save(self, fp: str, **more: ArrayLike) -> None:
        """Write the classifier, and `more` arrays, to one .npz file."""
        arrays = {name: v.numpy() for name, v in self.values().items()}
        with replacing(fp) as f:
            np.savez(f, labels=np.array(self.labels), **arrays, **more)

    def digest(self) -> str:
        """Checksum of the weights, which tells one classifier from another."""
        return digest(v.numpy() for v in self.net.variables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Classifier":
        """Read what `save` wrote.

        Args:
          path: the file, or the folder of a training.

        Raises:
          InputError: the file is missing, damaged, or not a classifier.
        """
        path = os.fspath(path)
        fp = os.path.join(path, BEST) if os.path.isdir(path) else path
        if not os.path.isfile(fp):
            raise InputError(
                f"no classifier at {fp}: train one with the classifier mode"
            )
        return cls.of(read_arrays(fp), fp)

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], fp: str) -> "Classifier":
        """Make a classifier of the arrays of the file `fp`."""
        labels, kernel = arrays.get("labels"), arrays.get("classifier/conv2d/kernel")
        named = getattr(labels, "ndim", 0) == 1 and labels.dtype.kind == "U"
        fits = named and np.shape(arrays.get("classifier/dense/bias")) == labels.shape
        if not fits or len(labels) < 2 or np.ndim(kernel) != 4:
            raise InputError(f"{fp} is not a classifier")
        if not 1 <= kernel.shape[3] <= 1024:
            raise InputError(
                f"{fp}: dim must be from 1 to 1024. Received: {kernel.shape[3]}"
            )
        self = cls([str(label) for label in labels], kernel.shape[3])
        assign(self.values(), arrays, fp)
        return self


def digest(parts: Iterable[bytes | np.ndarray]) -> str:
    """CRC-32 of some buffers, as text."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def chunks(x: ArrayLike) -> Iterator[np.ndarray]:
    """Waveforms [n, 16384(, 1)] -> `CHUNK` of them at a time, float32 [m, 16384].

    Longer slices are cut into clips of this length.

    Raises:
      InputError: a clip is not finite.
      ValueError: clips have another length, or there are none.
    """
    x = np.asarray(x, np.float32)
    x = x[:, :, 0] if x.ndim == 3 else x
    if x.ndim != 2 or x.shape[1] not in SLICE_LENS or not len(x):
        raise ValueError(
            f"clips must be [n, {SLICE_LENS[0]}] or longer slices, n at least 1. "
            f"Received: {x.shape}"
        )
    x = x.reshape(-1, SLICE_LENS[0])
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise InputError(f"clip {bad[0]} of {len(x)} holds NaN or infinite samples")
    return (x[i : i + CHUNK] for i in range(0, len(x), CHUNK))


def read_arrays(fp: str) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file. No code in the file is run.

    Raises:
      InputError: the file is damaged, too large, or no .npz.
    """
    try:
        with zipfile.ZipFile(fp) as z:
            if sum(info.file_size for info in z.infolist()) > MAX_BYTES:
                raise InputError(f"{fp} is too large to be a classifier")
        with np.load(fp, allow_pickle=False) as arrays:
            return dict(arrays)
    except (InputError, OSError):
        raise
    except Exception:  # whatever the parser raises on a hostile file
        raise InputError(f"{fp} is not a classifier, or damaged") from None


def assign(
    variables: dict[str, keras.Variable], arrays: dict[str, np.ndarray], fp: str
) -> None:
    """Set every variable from the array of its name; check all before setting any.

    Raises:
      InputError: an array is missing, not finite, or has another shape.
    """
    for name, v in variables.items():
        got = arrays.get(name)
        if got is None or got.shape != tuple(v.shape) or got.dtype.kind not in "fiu":
            raise InputError(
                f"{fp}: {name} is missing, or not of shape {tuple(v.shape)}"
            )
        if not np.isfinite(got).all():
            raise InputError(f"{fp}: {name} is not finite")
    for name, v in variables.items():
        v.assign(arrays[name])
