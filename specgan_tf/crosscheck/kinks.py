"""On which side of its kink each activation was in the reference, and is here.

The slopes of lrelu and relu jump at zero. A pre-activation within rounding of zero may
be on either side, in the reference as here, and every gradient that passes that unit
follows its slope: with a few thousand units such a toss of a coin is common. So a
record holds the sides in the reference, and the values near zero. Where a unit is on
the other side here, and the two values agree to rounding, our network goes on with the
reference's value: our own activation then takes the slope that the reference had.
Where they do not agree, ours stays, and the check `farthest` falls short.
"""

import contextlib
from unittest import mock

import numpy as np
import tensorflow as tf

from specgan_tf import specgan
from specgan_tf.crosscheck.records import tally

# How far two values of a unit may be apart, of the largest in its layer. Measured
# 1.4e-7; 4.7e-6 with batch norm.
ROUNDING = 1e-4


def recorded(r, who):
    """The reference's pre-activations in the updates of `who`, by layer.

    Returns:
      dict of name -> float32 [updates, n, h, w, c]: the value where it is near zero,
      elsewhere infinity with the value's sign. Empty if the record has none.
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
def sided(theirs, met):
    """Activations called in the block take the reference's side where they may.

    theirs: one update's part of `recorded`; {} changes nothing.
    met: list; each activation appends [units on the other side, how far apart the two
      values of these are at most, of the layer's largest].
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


def on_their_side(x, theirs):
    """x with the reference's values where only rounding separates them across zero.

    Returns:
      that; the number of units on the other side; how far these are apart at most.
    """
    ours, theirs = tf.stop_gradient(x), tf.cast(theirs, x.dtype)
    across = (ours > 0) != (theirs > 0)
    apart = tf.abs(ours - theirs) / tf.reduce_max(tf.abs(ours))
    tossed = across & (apart <= ROUNDING)
    # x - ours is zero, and carries the gradient.
    x = tf.where(tossed, theirs + (x - ours), x)
    count = tf.reduce_sum(tf.cast(across, x.dtype))
    return x, count, tf.reduce_max(tf.where(across, apart, 0.0))


def farthest(stage, met):
    """The check of what `sided` met: how far apart two values across zero are."""
    error = np.reshape(met, [-1, 2])[:, 1].max(initial=0)
    what, by = "pre-activations across zero", "of the largest"
    return tally(stage, "specgan.py 68-167", what, error, ROUNDING, by)
