"""A checkpoint, opened once: its tensors by name, and what they tell of a training.

TensorFlow's reader checks every tensor against its CRC-32C.
"""

import functools
import glob
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from specgan_tf import tf1
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import SLICE_LENS

# What TensorFlow's reader raises for a damaged file depends on where the damage is.
READ_ERRORS = tf.errors.OpError, ValueError, IndexError, RuntimeError, MemoryError
# Tensors that only this program writes. The original neither has nor misses them.
D_ITERATIONS, SEED_STATE, LOSS = "D_iterations", "seed_generator/state", "loss"
DATA = "data/"  # begins the names of the data position


class Checkpoint:
    """A checkpoint, opened once. `ckpt[name]` reads a tensor, `name in ckpt` does not.

    Attributes:
      prefix: the path of its files, without their endings.
      shapes: name -> shape of each tensor, a list of ints.

    Raises:
      InputError: its index is damaged, or its files are smaller than its tensors.
    """

    def __init__(self, prefix: StrPath):
        self.prefix = os.fspath(prefix)
        check_name(self.prefix)
        try:
            self._reader = tf.train.load_checkpoint(self.prefix)
            dtypes = self._reader.get_variable_to_dtype_map()
            self.shapes = self._reader.get_variable_to_shape_map()
            claimed = sum(math.prod(s) * dtypes[n].size for n, s in self.shapes.items())
        except READ_ERRORS as e:
            raise InputError(
                f"{prefix} is not a readable checkpoint: {first_line(e)}"
            ) from None
        # A damaged index may claim tensors of any size, and reading one allocates it.
        if claimed > (size := sum(map(os.path.getsize, shards(prefix)))):
            raise InputError(
                f"{prefix} is damaged: its tensors are of {claimed} bytes, its files "
                f"hold {size}"
            )

    @staticmethod
    def open(prefix: StrPath) -> "Checkpoint":
        """Return the last checkpoint opened if `prefix` is that one, or open it.

        A checkpoint whose files have changed is opened anew. Only the last one stays
        open, because a deleted file takes room on the disk while it is open.
        """
        prefix = os.fspath(prefix)
        return _open(prefix, stamps(prefix))

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def __getitem__(self, name: str) -> Any:
        """The value of a tensor: a numpy array, a numpy scalar, or bytes."""
        try:
            return self._reader.get_tensor(name)
        except READ_ERRORS as e:
            raise InputError(
                f"{self.prefix} is damaged at {name}: {first_line(e)}"
            ) from None

    def verify(self) -> None:
        """Read every tensor.

        Raises:
          InputError: a tensor is damaged.
        """
        for name in self.shapes:
            self[name]

    @functools.cached_property
    def step(self) -> int:
        """Updates of G when the checkpoint was written (0 if it does not say)."""
        return int(self["global_step"]) if "global_step" in self else 0

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """The generator's options, as `generator_options` returns them.

        Raises:
          InputError: the checkpoint holds a WaveGAN, or no generator.
        """
        if is_wavegan(self.shapes):
            raise InputError(
                f"{self.prefix} holds a WaveGAN, which makes waveforms without "
                "spectrograms. This program reads SpecGAN checkpoints only"
            )
        options = generator_options(self.shapes)
        if options is None:
            raise InputError(f"{self.prefix} holds no SpecGAN generator")
        return options

    @functools.cached_property
    def loss(self) -> str | None:
        """The loss of the training, as far as the tensors tell; else None.

        The name of a `losses.Loss` of one's own is recorded. RMSProp's slots mean
        lsgan, or wgan if all weights of D lie within its clip. Adam's slots mean dcgan
        or wgan-gp: the power to which G's beta2 was raised tells which.
        """
        if LOSS in self:
            return self[LOSS].decode()
        if "D/output/dense/kernel/RMSProp" in self and self.step > 0:
            bound = np.float32(LOSSES["wgan"].clip)
            weights = re.compile(r"D/.*/(kernel|bias|gamma|beta)")
            D = filter(weights.fullmatch, self.shapes)
            largest = max(np.abs(self[name]).max() for name in D)
            return "wgan" if largest <= bound else "lsgan"
        if "beta2_power" in self:
            power = float(self["beta2_power"])
            for loss in ("dcgan", "wgan-gp"):
                expected = LOSSES[loss].optimizer().beta_2 ** (self.step + 1)
                # After some hundred updates a power is too small for a float32.
                if expected > 1e-30 and abs(power / expected - 1) < 0.01:
                    return loss
            if power < 1e-30 and self.step < 50_000:  # 0.999 ** 50000 is 2e-22
                return "wgan-gp"
        return None

    @property
    def data(self) -> dict[str, np.ndarray]:
        """The data position that `checkpoint.save` was given, by name; {} if none."""
        names = [name for name in self.shapes if name.startswith(DATA)]
        return {name.removeprefix(DATA): self[name] for name in names}

    @property
    def of_original(self) -> set[str]:
        """Names of the tensors that the original's Saver writes too."""
        ours = {D_ITERATIONS, SEED_STATE, LOSS}
        return {n for n in self.shapes if n not in ours and not n.startswith(DATA)}

    @property
    def has_average(self) -> bool:
        """Whether it holds a moving average of the generator's weights."""
        average_name = tf1.ExponentialMovingAverage.average_name
        return average_name("G/z_project/dense/kernel") in self

    def assign(self, variables: dict[str, Any]) -> None:
        """Set variables, given by name, to the values here; first check all of them.

        Raises:
          InputError: a tensor is missing, has another shape, or is not finite.
        """
        missing = [name for name in variables if name not in self]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(
                f"{self.prefix} lacks {missing[0]}{more}: it was trained with other "
                "options, or another loss"
            )
        for name, v in variables.items():
            if tuple(self.shapes[name]) != tuple(v.shape):
                raise InputError(
                    f"{self.prefix}: {name} has shape {tuple(self.shapes[name])}, this "
                    f"model's has {tuple(v.shape)}"
                )
        values = {name: self[name] for name in variables}
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise InputError(
                    f"{self.prefix}: {name} is not finite, the training had diverged; "
                    "remove this checkpoint to take the one before it"
                )
        for name, v in variables.items():
            v.assign(values[name])


@functools.lru_cache(maxsize=1)
def _open(prefix, stamps):
    return Checkpoint(prefix)


def close() -> None:
    """Close the checkpoint that `Checkpoint.open` keeps, before its files go."""
    _open.cache_clear()


def stamps(prefix: StrPath) -> tuple:
    """Return what changes when the files of a checkpoint change; () if one is gone."""
    try:
        stats = [os.stat(fp) for fp in (f"{prefix}.index", *shards(prefix))]
    except FileNotFoundError:  # a training may be deleting them
        return ()
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)


def check_name(path: StrPath) -> None:
    """Refuse names that TensorFlow can write checkpoints to, but not read them from."""
    if set(os.fspath(path)) & set("*?[]\\"):
        raise InputError(
            f"{path}: TensorFlow takes * ? [ ] \\ for patterns; rename the folder"
        )


def shards(prefix: StrPath) -> list[str]:
    """The files that hold the tensors of a checkpoint."""
    return glob.glob(f"{glob.escape(os.fspath(prefix))}.data-?????-of-?????")


def first_line(error: Exception) -> str:
    """The first line of a TensorFlow error, without the names of its internals."""
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", str(error).strip().splitlines()[0])


def generator_options(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """A generator's options, as far as its variables' shapes tell them.

    Args:
      shapes: dict of variable path -> shape; others may be among them.

    Returns:
      dict of kernel_len, dim, use_batchnorm, latent_dim, slice_len, and upsample where
      it is "zeros": nn, lin and cub leave the same variables, so there it is missing.
      None if these are not the shapes of a generator.
    """
    dense = shapes.get("G/z_project/dense/kernel")
    zeros = shapes.get("G/upconv_0/conv2d_transpose/kernel")
    conv = zeros or shapes.get("G/upconv_0/conv2d/kernel")
    if is_wavegan(shapes) or not dense or not conv or (len(dense), len(conv)) != (2, 4):
        return None
    dim = max(conv[2:]) // 16
    slice_len = dense[1] * 64 // max(dim, 1)
    if slice_len not in SLICE_LENS or sorted(conv[2:]) != [8 * dim, 16 * dim]:
        return None
    options = {
        "kernel_len": conv[0],
        "dim": dim,
        "use_batchnorm": "G/z_project/batch_normalization/gamma" in shapes,
        "latent_dim": dense[0],
        "slice_len": slice_len,
    }
    return options | ({"upsample": "zeros"} if zeros else {})


def is_wavegan(shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether these shapes, path -> shape, are the reference's WaveGAN's.

    Its scopes have the same names, but its kernels have one dimension: conv1d's, or
    those of a conv2d_transpose of height 1.  [wavegan.py:11-31]
    """
    if {"G/upconv_0/conv1d/kernel", "D/downconv_0/conv1d/kernel"} & set(shapes):
        return True
    kernel = shapes.get("G/upconv_0/conv2d_transpose/kernel", ())
    return len(kernel) == 4 and kernel[0] == 1 < kernel[1]
