"""What says which class a sound is of: the network behind the inception score.

Port of eval/inception/train.py (chrisdonahue/wavegan 40e85e8). `Classifier` is that
network, `Training` teaches it the labels of any folder of sounds, and `MetaGraph` is
one in the original's files.

differs: the original learns from TFRecords, whose maker is gone, for ever, by SGD, and
another process keeps the best. Here it is one process that ends.  [train.py:75-258]

Waveforms are float32 [n, 16384, 1] or [n, 16384], full scale at +-1.
"""

import collections
import json
import logging
import os
import re
import time
import zipfile
import zlib

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import checkpoint, loader, spectral
from specgan_tf.files import InputError, replacing

NFFT = 1024  # samples; of the log-mel spectrogram that the network sees
CHUNK = 100  # clips classified at a time  [train_specgan.py:529, score.py:13]
MAX_BYTES = 2 << 30  # of a classifier's file
BEST, TRAINING = "classifier.npz", "training.npz"
SEPARATORS = "_- ."  # a label in a file's name ends before one of these
HELD_OUT = 0.1  # of the clips of each label, to know when to stop
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-3),
    "sgd": lambda: keras.optimizers.SGD(1e-4),  # the original's  [train.py:242]
}
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
        """Waveforms [n, 16384(, 1)] -> float32 [n, classes]."""
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

    Raises:
      InputError: clips that are not finite.
      ValueError: of another length.
    """
    x = np.asarray(x, np.float32)
    x = x[:, :, 0] if x.ndim == 3 else x
    if x.ndim != 2 or x.shape[1] != spectral.SLICE_LEN or not len(x):
        raise ValueError(
            f"clips must be [n, {spectral.SLICE_LEN}], of any n but 0. "
            f"Received: {x.shape}"
        )
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


class MetaGraph:
    """A classifier as the original has it: a MetaGraph, and a checkpoint.

    differs: the original runs whatever the two files say. Here what leads from `x:0`
    [n, 16384] to `scores:0` [n, classes] is taken, with the checkpoint's values in the
    place of variables, and what has effects is refused.  [train_specgan.py:497-503]
    """

    def __init__(self, graph_def, graph, labels, has_features):
        self.graph_def, self.graph = graph_def, graph
        self.labels, self.has_features = labels, has_features

    @classmethod
    def load(cls, metagraph_fp, ckpt_fp):
        """From the two files, as the original's --incept_... flags name them.

        Raises:
          InputError: one of the files is missing or damaged; no `x` or `scores`; a
            variable that the checkpoint lacks; an operation that could do more than
            compute.

        [score.py:27-40]
        """
        if not os.path.isfile(metagraph_fp):
            raise InputError(
                f"no MetaGraph at {metagraph_fp}; a classifier of one's own (the "
                "classifier mode) goes to --incept_classifier"
            )
        try:
            with open(metagraph_fp, "rb") as f:
                said = tf.compat.v1.MetaGraphDef.FromString(f.read()).graph_def
        except Exception:  # protobuf's, of several kinds
            raise InputError(f"{metagraph_fp} is not a MetaGraph") from None
        nodes = {node.name: node for node in said.node}
        missing = [f"{name}:0" for name in ("x", "scores") if name not in nodes]
        if missing:
            raise InputError(
                f"{metagraph_fp} has no {' and no '.join(missing)}: it must lead from "
                "x:0 [n, 16384] to scores:0 [n, classes]"
            )
        ckpt = checkpoint.reader(checkpoint.require(ckpt_fp))
        graph_def = tf.compat.v1.GraphDef(versions=said.versions)
        names = upstream(nodes, "scores")
        graph_def.node.extend(frozen(nodes[name], ckpt, ckpt_fp) for name in names)
        has_features = FEATURES in names
        outputs = ["scores:0"] + [f"{FEATURES}:0"] * has_features
        try:
            whole = tf.compat.v1.wrap_function(
                lambda: tf.compat.v1.import_graph_def(graph_def, name=""), []
            )
            ops = whole.graph.get_operations()
            effects = {op.type for op in ops if op.op_def.is_stateful}
            if effects:
                raise InputError(
                    f"{metagraph_fp} holds {', '.join(sorted(effects))}: only what "
                    "computes scores of x is run"
                )
            graph = whole.prune("x:0", outputs)
            scores = graph(tf.zeros([1, spectral.SLICE_LEN]))[0]
        except (ValueError, TypeError, tf.errors.OpError) as e:
            if isinstance(e, InputError):
                raise
            reason = str(e).strip().splitlines()[0]
            raise InputError(f"{metagraph_fp} cannot be run: {reason}") from None
        labels = map(str, range(scores.shape[-1]))
        if "labels" in nodes and nodes["labels"].op == "Const":
            named = tf.make_ndarray(nodes["labels"].attr["value"].tensor)
            labels = (label.decode(errors="replace") for label in named)
        return cls(graph_def, graph, list(labels), has_features)

    def probabilities(self, x):
        """Waveforms [n, 16384(, 1)] -> float32 [n, classes]."""
        return np.concatenate([self.graph(tf.constant(c))[0] for c in chunks(x)])

    def features(self, x):
        """As `Classifier.features`; None if the graph is not the original's."""
        if not self.has_features:
            return None
        made = [self.graph(tf.constant(c))[1] for c in chunks(x)]
        return np.concatenate(made).mean(axis=(1, 2))

    def digest(self):
        """As `Classifier.digest`."""
        return digest([self.graph_def.SerializeToString(deterministic=True)])


def upstream(nodes, name):
    """Names of the nodes that a tensor is computed from, its own first."""
    found, waiting = {}, [name]
    while waiting:
        name = waiting.pop()
        if name not in found and name in nodes:  # import_graph_def says what is missing
            found[name] = True
            waiting += [data.partition(":")[0] for data in data_inputs(nodes[name])]
    return list(found)


def data_inputs(node):
    """Without those that only come before it: checks, prints, assignments."""
    return [name for name in node.input if not name.startswith("^")]


def frozen(node, ckpt, prefix):
    """A node as it is, or a constant in the place of a variable."""
    new = tf.compat.v1.NodeDef()
    new.CopyFrom(node)
    new.ClearField("input")
    new.input.extend(data_inputs(node))
    if node.op == "ReadVariableOp":
        new.op = "Identity"
        new.attr["T"].CopyFrom(node.attr["dtype"])
        del new.attr["dtype"]
    elif node.op in ("Variable", "VariableV2", "VarHandleOp"):
        try:
            value = ckpt.get_tensor(node.name)
        except checkpoint.READ_ERRORS:
            raise InputError(
                f"{prefix} lacks {node.name}, or is damaged: it is not a checkpoint of "
                "this MetaGraph"
            ) from None
        new = tf.compat.v1.NodeDef(name=node.name, op="Const")
        new.attr["dtype"].CopyFrom(node.attr["dtype"])
        new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return new


# Training


def label_of(fp, data_dir):
    """What a file is a sound of: its sub-folder of `data_dir`, or where there is none
    how its name begins, up to one of SEPARATORS: `7_speaker_3.wav`, `kick__x.wav`."""
    folder = os.path.relpath(os.path.dirname(fp), data_dir)
    if folder != os.curdir:
        return folder.split(os.sep)[0]
    return re.split(f"[{re.escape(SEPARATORS)}]", os.path.basename(fp))[0]


def require_classes(labels, data_dir):
    """The different labels, sorted.

    Raises:
      InputError: there is one alone, or one of a single sound.
    """
    counts = collections.Counter(map(str, labels))
    how = (
        "name sub-folders after the labels, or begin each file's name with its label "
        "and an underscore"
    )
    if len(counts) < 2:
        raise InputError(f"{data_dir} has one label, {min(counts)!r}, for all: {how}")
    alone = sorted(label for label, n in counts.items() if n < 2)
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise InputError(
            f"{data_dir}: {alone[0]!r}{more} is the label of one sound only, and at "
            f"least two are needed. If these are no labels, {how}"
        )
    return sorted(counts)


def read_clips(fps, **decoding):
    """The first slice of each file, filled with zeros: float32 [n, 16384], and which.

    Returns:
      (clips, indices into `fps` of those that could be read).
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


def split(y, fraction, seed):
    """Indices of the rest, and of the held out: that fraction of each label."""
    rng, held = np.random.default_rng([seed, 0]), []
    for label in np.unique(y):
        of = rng.permutation(np.flatnonzero(y == label))
        held.extend(of[: max(1, round(fraction * len(of)))])
    return np.setdiff1d(np.arange(len(y)), held), np.sort(held)


def augmented(x, rng):
    """Clips as they could have been recorded too, and as Griffin-Lim could make them.

    Up to 0.1 s later and up to 12 dB quieter; every other one over noise of -100 to
    -40 dB, since what is made has no such silence as the zeros that fill real clips.
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
    """Trains a `Classifier` and keeps the best one; goes on where it was interrupted.

    After each epoch, `folder` has `classifier.npz`, the best by its accuracy on clips
    held out, and `training.npz`, all that it takes to go on.

    Args:
      x, y: waveforms float32 [n, 16384] and the indices of their labels, int [n].
      labels: names of the classes.
      folder: exists.
      dim: as in `model`.
      optimizer: "adam" (1e-3), or "sgd" (1e-4), the original's.
      batch_size: clips.
      seed: of weights, order, augmentation, and which clips are held out.

    Raises:
      InputError: the folder has a training of other clips or settings.
    """

    def __init__(
        self, x, y, labels, folder, dim=128, optimizer="adam", batch_size=64, seed=0
    ):
        self.x, self.y, self.folder, self.seed = x, np.asarray(y), folder, seed
        self.batch_size = batch_size
        keras.utils.set_random_seed(seed)
        self.classifier = Classifier(labels, dim)
        self.net = keras.Model(
            self.classifier.net.inputs, self.classifier.net.outputs[0]
        )
        self.net.compile(
            optimizer=OPTIMIZERS[optimizer](),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self.net.optimizer.build(self.net.trainable_variables)
        self.log_mel = tf.function(lambda x: spectral.log_mel(x, NFFT))
        self.rest, self.held = split(self.y, HELD_OUT, seed)
        self.epoch, self.since, self.best = 0, 0, (-1.0, 0.0)
        self.slowed, self.seconds = False, 0.0
        self.settings = {
            "clips": f"{len(x)} ({digest([self.y, self.x])})",
            "dim": dim,
            "optimizer": optimizer,
            "batch size": batch_size,
            "seed": seed,
        }
        self.fp = os.path.join(folder, TRAINING)
        if os.path.isfile(self.fp):
            self.restore()

    def values(self):
        slots = enumerate(self.net.optimizer.variables)
        return self.classifier.values() | {f"optimizer/{i}": v for i, v in slots}

    def restore(self):
        arrays = read_arrays(self.fp)
        try:
            state = json.loads(str(arrays["state"]))
            settings, numbers = state["settings"], state["numbers"]
            self.epoch, self.since, self.best, self.slowed, self.seconds = numbers
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self.fp} is damaged: remove it to begin anew") from None
        for name, value in self.settings.items():
            if settings.get(name) != value:
                raise InputError(
                    f"{self.folder} holds a training with {name} {settings.get(name)}, "
                    f"not {value}; use another folder"
                )
        assign(self.values(), arrays, self.fp)
        log.info("Going on after epoch %d", self.epoch)

    def save(self):
        numbers = [self.epoch, self.since, self.best, self.slowed, self.seconds]
        state = json.dumps({"settings": self.settings, "numbers": numbers})
        arrays = {name: np.asarray(v) for name, v in self.values().items()}
        with replacing(self.fp) as f:
            np.savez(f, state=np.array(state), **arrays)

    def run(self, epochs=100, patience=5):
        """Train until `patience` epochs in a row are no better, and from the best again
        at a tenth of the rate; returns the best."""
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
                self.classifier.save(os.path.join(self.folder, BEST), epoch=self.epoch)
            self.save()
            log.info(
                "epoch %3d  loss %.4f  held out %.4f, accuracy %.2f%%%s  %.0f CPU s",
                *(self.epoch, loss, xent, 100 * accuracy),
                "" if self.since else " (best)",
                self.seconds,
            )
        return Classifier.load(self.folder)

    def slow_down(self):
        log.info("No better for %d epochs: on from the best, slower", self.since)
        best_fp = os.path.join(self.folder, BEST)
        assign(self.classifier.values(), read_arrays(best_fp), best_fp)
        rate = self.net.optimizer.learning_rate
        rate.assign(0.1 * rate)  # saved with the optimizer's other variables
        self.since, self.slowed = 0, True

    def run_epoch(self):
        """Every clip once; the mean loss."""
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

    def evaluate(self, indices):
        """(accuracy, mean cross entropy) of some of the clips."""
        logits, y = self.classifier.logits(self.x[indices]), self.y[indices]
        xent = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        return float(np.mean(logits.argmax(axis=1) == y)), float(np.mean(xent))


def confusion(y, predicted, n):
    """int [n, n]: clips of each label (row) that were taken for each (column)."""
    matrix = np.zeros([n, n], int)
    np.add.at(matrix, (y, predicted), 1)
    return matrix
