"""The tensors in a checkpoint, by name: read, and refused where they are damaged."""

import glob
import math
import os
import re

import tensorflow as tf

from specgan_tf.files import InputError

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
