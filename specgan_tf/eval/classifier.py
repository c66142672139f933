"""What says which class a sound is of: the network behind the inception score.

Port of eval/inception/train.py (chrisdonahue/wavegan 40e85e8). `Classifier` is that
network, `Training` teaches it the labels of any folder of sounds, and `MetaGraph` is
one in the original's files.

differs: the original learns from TFRecords, whose maker is gone, for ever, by SGD, and
another process keeps the best. Here it is one process that ends.  [train.py:75-258]

Waveforms are float32 [n, 16384, 1] or [n, 16384], full scale at +-1.
"""

import logging
import os
import zipfile
import zlib

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import spectral
from specgan_tf.files import InputError, replacing
from specgan_tf.specgan import SLICE_LENS

NFFT = 1024  # samples; of the log-mel spectrogram that the network sees
CHUNK = 100  # clips classified at a time  [train_specgan.py:529, score.py:13]
MAX_BYTES = 2 << 30  # of a classifier's file
BEST = "classifier.npz"
# The features of the original's graph; `model` has them as its second output.
FEATURES = "classifier/max_pooling2d_4/MaxPool"

log = logging.getLogger("specgan_tf")


def model(nlogits, dim=128):
    """Log-mel spectrograms [b, 128, 128] -> logits [b, nlogits], features [b, dim].

    The features are the last hidden layer's, averaged over its 8 x 8 places, as those
    of the Inception network are.

    Args:
      dim: channels of each convolution; the original's is 128.

    Variables have the original's names, without its `classifier/`.

    original: a dropout of 0.5 is defined and not used.  [train.py:42]

    differs: momentum .9 of the moving averages, not .99, since an epoch of a small
    folder is some dozen steps.  [train.py:44]

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
    """A network and what its classes are called.

    Args:
      labels: names of the classes, in the order of the network's outputs.
      dim: as in `model`.
    """

    def __init__(self, labels, dim=128):
        self.labels, self.dim = list(labels), dim
        self.net = model(len(self.labels), dim)
        self.graph = tf.function(
            lambda x: self.net(spectral.log_mel(x, NFFT), training=False),
            input_signature=[tf.TensorSpec([None, spectral.SLICE_LEN], tf.float32)],
        )

    def logits(self, x):
        return self._run(x)[0]

    def probabilities(self, x):
        """Waveforms [n, 16384(, 1)] -> float32 [n, classes]; see `chunks`."""
        return tf.nn.softmax(self.logits(x)).numpy()

    def features(self, x):
        """Waveforms [n, 16384(, 1)] -> float32 [n, dim], for a Frechet distance."""
        return self._run(x)[1]

    def _run(self, x):
        parts = [self.graph(part) for part in chunks(x)]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def values(self):
        """Variables by the original's names."""
        return {f"classifier/{v.path}": v for v in self.net.variables}

    def save(self, fp, **more):
        """Write it to one file that holds arrays and nothing else (.npz)."""
        arrays = {name: v.numpy() for name, v in self.values().items()}
        with replacing(fp) as f:
            np.savez(f, labels=np.array(self.labels), **arrays, **more)

    def digest(self):
        """Tells it from others: of its weights, as text."""
        return digest(v.numpy() for v in self.net.variables)

    @classmethod
    def load(cls, path):
        """What `save` wrote; `path` is the file, or the folder of a training.

        Raises:
          InputError: not there, not a classifier, or damaged.
        """
        path = os.fspath(path)
        fp = os.path.join(path, BEST) if os.path.isdir(path) else path
        if not os.path.isfile(fp):
            raise InputError(
                f"no classifier at {fp}: train one with the classifier mode"
            )
        return cls.of(read_arrays(fp), fp)

    @classmethod
    def of(cls, arrays, fp):
        """From the arrays of a file."""
        labels, kernel = arrays.get("labels"), arrays.get("classifier/conv2d/kernel")
        named = getattr(labels, "ndim", 0) == 1 and labels.dtype.kind == "U"
        fits = named and np.shape(arrays.get("classifier/dense/bias")) == labels.shape
        if not fits or len(labels) < 2 or np.ndim(kernel) != 4:
            raise InputError(f"{fp} is not a classifier")
        if not 1 <= kernel.shape[3] <= 1024:
            raise InputError(f"{fp}: a dim of {kernel.shape[3]} cannot be")
        self = cls([str(label) for label in labels], kernel.shape[3])
        assign(self.values(), arrays, fp)
        return self


def digest(parts):
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def chunks(x):
    """Waveforms, some at a time, as float32 [m, 16384].

    Of longer slices each is cut into as many of this length as it has.

    Raises:
      InputError: clips that are not finite.
      ValueError: of another length.
    """
    x = np.asarray(x, np.float32)
    x = x[:, :, 0] if x.ndim == 3 else x
    if x.ndim != 2 or x.shape[1] not in SLICE_LENS or not len(x):
        raise ValueError(
            f"clips must be [n, {SLICE_LENS[0]}] or longer slices, of any n but 0. "
            f"Received: {x.shape}"
        )
    x = x.reshape(-1, SLICE_LENS[0])
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise InputError(f"clip {bad[0]} of {len(x)} holds NaN or infinite samples")
    return (x[i : i + CHUNK] for i in range(0, len(x), CHUNK))


def read_arrays(fp):
    """The arrays of an .npz file, without running what it says."""
    try:
        with zipfile.ZipFile(fp) as z:
            if sum(info.file_size for info in z.infolist()) > MAX_BYTES:
                raise InputError(f"{fp} is too large to be a classifier")
        with np.load(fp, allow_pickle=False) as arrays:
            return dict(arrays)
    except (InputError, OSError):
        raise
    except Exception:  # whatever a hostile file makes the parser trip over
        raise InputError(f"{fp} is not a classifier, or damaged") from None


def assign(variables, arrays, fp):
    """Every variable by name, all checked before any is set."""
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


# fit.Training
