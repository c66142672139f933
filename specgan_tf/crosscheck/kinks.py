"""Which side of its kink each activation is on, in the reference and here.

The slopes of lrelu and relu jump at zero. Rounding decides on which side a
pre-activation near zero falls, and every gradient through that unit depends on its
slope. With a few thousand units this is common. So a record holds the sides in the
reference, and the values near zero. Where a unit is on the other side here and the two
values agree to rounding, our network continues with the reference's value, and our
activation takes the reference's slope. Where they do not agree, our value stays, and
the check `farthest` fails.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import TensorLike

from specgan_tf import specgan
from specgan_tf.crosscheck.records import Check, Record, tally

# The largest difference of a unit's two values, relative to the largest value in its
# layer. Measured 1.4e-7; 4.7e-6 with batch norm.
ROUNDING = 1e-4


def recorded(r: Record, who: str) -> dict[str, np.ndarray]:
    """The reference's pre-activations in the updates of `who`, "D" or "G", by layer.

    Returns:
      dict of name -> float32 [updates, n, h, w, c]: values near zero; for the others
      infinity with the value's sign. Empty if the record has none.
    """
    found = {}
    for key in r.group(f"kinks/{who}/"):
        layer, _, part = key.partition("/")
        if part != "above":
            continue
        prefix = f"kinks/{who}/{layer}"
        shape = r[f"{prefix}/shape"]
        above = np.unpackbits(r[f"{prefix}/above"], count=np.prod(shape))
        values = np.where(above, np.float32(np.inf), np.float32(-np.inf))
        values[r[f"{prefix}/near"]] = r[f"{prefix}/value"]
        found[layer] = values.reshape(shape)
    return found


@contextlib.contextmanager
def sided(theirs: dict[str, np.ndarray], met: list) -> Iterator[None]:
    """Context: activations take the reference's side where only rounding decides.

    Args:
      theirs: one update's part of `recorded`; {} changes nothing.
      met: a list to which each activation appends [number of units on the other side,
        the largest difference of their two values, relative to the layer's largest].
    """
    begun = {}

    def with_sides(activation, name):
        calls = []

        def call(x):
            layer = f"{name}_{len(calls) % 5}"
            calls.append(layer)
            if layer not in theirs:
                return activation(x)
            # One call may see several batches, which the reference runs one by one.
            start = begun.get(layer, 0)
            begun[layer] = start + tf.shape(x)[0]
            x, *found = on_their_side(x, theirs[layer][start : begun[layer]])
            met.append(tf.stack(found))
            return activation(x)

        return call

    with (
        mock.patch.object(specgan, "lrelu", with_sides(specgan.lrelu, "lrelu")),
        mock.patch.object(tf.nn, "relu", with_sides(tf.nn.relu, "relu")),
    ):
        yield


def on_their_side(x: tf.Tensor, theirs: tf.Tensor) -> tuple:
    """Replace values of x across zero from the reference's, if only rounding differs.

    Returns:
      x with these values; the number of units on the other side; the largest difference
      of their two values.
    """
    ours, theirs = tf.stop_gradient(x), tf.cast(theirs, x.dtype)
    across = (ours > 0) != (theirs > 0)
    apart = tf.abs(ours - theirs) / tf.reduce_max(tf.abs(ours))
    tossed = across & (apart <= ROUNDING)
    # x - ours is zero, and carries the gradient.
    x = tf.where(tossed, theirs + (x - ours), x)
    count = tf.reduce_sum(tf.cast(across, x.dtype))
    return x, count, tf.reduce_max(tf.where(across, apart, 0.0))


def farthest(stage: str, met: TensorLike) -> Check:
    """A check of what `sided` met: the largest difference of two values across zero."""
    error = np.reshape(met, [-1, 2])[:, 1].max(initial=0)
    what, by = "pre-activations across zero", "of the largest"
    return tally(stage, "specgan.py 68-167", what, error, ROUNDING, by)
