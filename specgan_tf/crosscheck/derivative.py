"""Checks of the slope of D's loss along one direction per variable, in two ways.

They matter for batch norm with the gradient penalty, which is differentiated twice.
"""

import contextlib
from collections.abc import Iterator, Sequence
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import specgan
from specgan_tf.crosscheck.records import Check, Record, build_gan, networks, tally

STEPS = 1e-6, 1e-7


def smooth_lrelu(x: tf.Tensor, alpha: float = 0.2) -> tf.Tensor:
    """An lrelu without a kink, for float32 differences: see original.derivative."""
    return alpha * x + (1.0 - alpha) * tf.nn.softplus(x)


def slopes_along(
    r: Record,
    x: np.ndarray,
    z: np.ndarray,
    alpha: np.ndarray,
    directions: dict[str, np.ndarray],
    steps: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of D's loss along one direction per variable of D, in float64.

    Returns:
      (analytic [variables], central differences [steps, variables])
    """
    if not r.option("smooth", False):
        return _slopes_along(r, x, z, alpha, directions, steps)
    with mock.patch.object(specgan, "lrelu", smooth_lrelu):
        return _slopes_along(r, x, z, alpha, directions, steps)


def _slopes_along(r, x, z, alpha, directions, steps):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:  # elsewhere networks are float32 whatever the policy
        with mock.patch.object(
            specgan, "float32_channels_last", contextlib.nullcontext
        ):
            gan = build_gan(r)
    finally:
        keras.config.set_dtype_policy(policy)
    x, z, alpha = (tf.constant(a, tf.float64) for a in (x, z, alpha))
    D_vars = gan.D.trainable_variables

    @tf.function
    def loss():
        return gan.D_loss(x, z, alpha)[0]

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            value = gan.D_loss(x, z, alpha)[0]
        return tape.gradient(value, D_vars)

    def loss_at(v, value):
        kept = v.numpy()
        v.assign(value)
        result = float(loss())
        v.assign(kept)
        return result

    analytic, differences = [], []
    for v, gradient in zip(D_vars, gradients(), strict=True):
        at, along = v.numpy(), directions[v.path]
        analytic.append(np.sum(gradient * along))
        differences.append(
            [
                (loss_at(v, at + eps * along) - loss_at(v, at - eps * along)) / 2 / eps
                for eps in steps
            ]
        )
    return np.array(analytic), np.array(differences).T


def agreement(analytic: np.ndarray, differences: np.ndarray) -> Check:
    """A check that analytic slopes and finite differences, in float64, agree."""
    # The better of the steps: now and then one crosses a kink of the lrelu.
    off = np.abs(analytic - differences) / np.maximum(1.0, np.abs(analytic))
    what, error = "analytic - finite differences", off.min(axis=0).max()
    lines = "train_specgan.py 222-236"
    # measured 1.7e-7
    return tally("second derivatives", lines, what, error, 1e-5, "rel to 1")


def derivative(r: Record) -> Iterator[Check]:
    """The reference's slopes: its differences agree with ours, its gradients do not."""
    stage, lines = "second derivatives", "train_specgan.py 222-236"
    alpha, along = r["alpha"].reshape(-1, 1, 1, 1), r.group("dir/")
    smooth = r.option("smooth", False)
    steps = *STEPS, float(r["eps"])
    analytic, differences = slopes_along(r, r["x"], r["z"], alpha, along, steps)
    *exact, coarse = differences
    yield agreement(analytic, np.array(exact))
    paths = [v.path for v in networks(r)[1].trainable_variables]
    for what, key, want, bound in (
        # Steps of the same size have the same truncation error. In float32, over kinks,
        # differences are a rough measure nevertheless.
        # measured 1e-3; 4.8e-2 where not smooth
        ("the reference's differences", "difference", coarse, 5e-3 if smooth else 0.1),
        ("the reference's gradients", "analytic", analytic, None),  # measured 17
    ):
        theirs = np.array([float(r[f"{key}/{path}"]) for path in paths])
        error = np.max(np.abs(theirs - want) / np.maximum(1.0, np.abs(want)))
        yield tally(stage, lines, what, error, bound, "rel to 1")
