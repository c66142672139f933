"""The tensors in a checkpoint, by name: read, and refused where they are damaged."""

import glob
import math
import os
import re

import tensorflow as tf

from specgan_tf.files import InputError
from specgan_tf.specgan import SLICE_LENS

# What TensorFlow's reader raises for a damaged file depends on where the damage is.
READ_ERRORS = tf.errors.OpError, ValueError, IndexError, RuntimeError, MemoryError


def check_name(path):
    """Refuse names of which TensorFlow writes checkpoints that it cannot read again."""
    if set(os.fspath(path)) & set("*?[]\\"):
        raise InputError(
            f"{path}: TensorFlow takes * ? [ ] \\ for patterns; rename the folder"
        )


def reader(prefix):
    """A `tf.train.CheckpointReader`; damage to the index is an `InputError`."""
    check_name(prefix)
    try:
        ckpt = tf.train.load_checkpoint(prefix)
        dtypes = ckpt.get_variable_to_dtype_map()
        shapes = ckpt.get_variable_to_shape_map()
        claimed = sum(math.prod(s) * dtypes[n].size for n, s in shapes.items())
    except READ_ERRORS as e:
        raise InputError(
            f"{prefix} is not a readable checkpoint: {first_line(e)}"
        ) from None
    # An index of some bytes may claim tensors of any size, and reading would make room.
    if claimed > (size := sum(map(os.path.getsize, shards(prefix)))):
        raise InputError(
            f"{prefix} is damaged: its tensors are of {claimed} bytes, its files hold "
            f"{size}"
        )
    return ckpt


def shards(prefix):
    return glob.glob(f"{glob.escape(prefix)}.data-?????-of-?????")


def read(ckpt, name, prefix):
    try:
        return ckpt.get_tensor(name)
    except READ_ERRORS as e:
        raise InputError(f"{prefix} is damaged at {name}: {first_line(e)}") from None


def first_line(error):
    """The first line of a TensorFlow error, without the names of its innards."""
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", str(error).strip().splitlines()[0])


def generator_options(shapes):
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
    if slice_len not in SLICE_LENS:
        return None
    options = {
        "kernel_len": conv[0],
        "dim": dim,
        "use_batchnorm": "G/z_project/batch_normalization/gamma" in shapes,
        "latent_dim": dense[0],
        "slice_len": slice_len,
    }
    return options | ({"upsample": "zeros"} if zeros else {})


def is_wavegan(shapes):
    """Whether these shapes, path -> shape, are the reference's WaveGAN's.

    Its scopes have the same names, but its kernels have one dimension: conv1d's, or
    those of a conv2d_transpose of height 1.  [wavegan.py:11-31]
    """
    if {"G/upconv_0/conv1d/kernel", "D/downconv_0/conv1d/kernel"} & set(shapes):
        return True
    kernel = shapes.get("G/upconv_0/conv2d_transpose/kernel", ())
    return len(kernel) == 4 and kernel[0] == 1 < kernel[1]
