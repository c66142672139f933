import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import SpecGANDiscriminator, losses, specgan, tf1


def test_rmsprop_steps_like_tf1(measured):
    """The mean square starts at one; epsilon 1e-10 is inside the root."""
    v, ms = np.array([1.0, -2.0, 0.5]), np.ones(3)
    variable = keras.Variable(v.astype(np.float32))
    optimizer = tf1.RMSProp(1e-2)
    for g in ([0.5, -1e-6, 3.0], [0.1, 2e-6, -1.0]):
        g = np.array(g)
        ms += (g**2 - ms) * (1 - 0.9)
        v -= 1e-2 * g / np.sqrt(ms + 1e-10)
        optimizer.apply([tf.constant(g, tf.float32)], [variable])
    measured("RMSProp, 2 steps", np.abs(variable.numpy() - v).max(), 2e-7)


def test_adam_steps_like_tf1(measured):
    """Gradients near epsilon, where 1e-8 and Keras' 1e-7 part."""
    v, m, s = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    variable = keras.Variable(v.astype(np.float32))
    optimizer = tf1.Adam(1e-2, beta_1=0.5, beta_2=0.9)
    for t, g in enumerate(([3e-8, 1.0], [2e-8, -0.5]), 1):
        g = np.array(g)
        m += (g - m) * 0.5
        s += (g**2 - s) * (1 - 0.9)
        rate = 1e-2 * np.sqrt(1 - 0.9**t) / (1 - 0.5**t)
        v -= rate * m / (np.sqrt(s) + 1e-8)
        optimizer.apply([tf.constant(g, tf.float32)], [variable])
    measured("Adam, 2 steps", np.abs(variable.numpy() - v).max(), 5e-7)


def test_batch_norm_feeds_the_unbiased_variance_to_its_average():
    x = np.random.RandomState(0).randn(2, 3, 3, 4).astype(np.float32)
    layer = tf1.BatchNormalization()
    y = layer(x, training=True)
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(
        layer.moving_variance, 0.99 + 0.01 * flat.var(0, ddof=1), rtol=1e-6
    )
    np.testing.assert_allclose(layer.moving_mean, 0.01 * flat.mean(0), atol=1e-7)
    want = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3)
    np.testing.assert_allclose(y, want, atol=1e-5)


@pytest.fixture
def float64(monkeypatch):
    """Networks of float64, which are float32 everywhere else."""
    monkeypatch.setattr(specgan, "float32_channels_last", contextlib.nullcontext)
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


def penalty_derivative_errors():
    """The gradient penalty's derivative against finite differences: relative errors.

    For every variable of D, along a random direction.
    """
    rs = np.random.RandomState(0)
    D = SpecGANDiscriminator(kernel_len=3, dim=1, use_batchnorm=True)
    for v in D.trainable_variables:
        v.assign(v + 0.1 * rs.randn(*v.shape))
    x = tf.constant(rs.randn(3, 128, 128, 1))
    G_z = tf.constant(rs.randn(3, 128, 128, 1))
    alpha = tf.constant(rs.rand(3, 1, 1, 1))
    assert D(x).dtype == tf.float64

    penalty = tf.function(lambda: losses.gradient_penalty(D, x, G_z, alpha)[0])
    with tf.GradientTape() as tape:
        value = penalty()
    gradients = tape.gradient(value, D.trainable_variables)
    eps, errors = 1e-6, []
    for v, gradient in zip(D.trainable_variables, gradients, strict=True):
        direction, at = rs.randn(*v.shape), v.numpy()
        v.assign(at + eps * direction)
        above = penalty()
        v.assign(at - eps * direction)
        difference = float(above - penalty()) / (2 * eps)
        v.assign(at)
        # None: what only adds to the last pre-activation has no part in the slope.
        analytic = 0.0 if gradient is None else float(np.sum(gradient * direction))
        errors.append(abs(analytic - difference) / max(1.0, abs(difference)))
    return errors


def test_second_derivatives_through_batch_norm(float64, measured):
    error = max(penalty_derivative_errors())
    measured("d penalty, analytic - finite differences", error, 1e-5)


def test_that_check_finds_keras_own_layer_wrong(float64, monkeypatch):
    def keras_layer(track, name):
        return keras.layers.BatchNormalization(name=name)

    monkeypatch.setattr(tf1, "BatchNormalization", keras_layer)
    assert max(penalty_derivative_errors()) > 0.1


def resized(kind, x):
    size = [2 * n for n in x.shape[1:3]]
    return getattr(tf1, f"resize_{kind}")(x, size)


@pytest.mark.parametrize("kind", ["nearest_neighbor", "bilinear", "bicubic"])
def test_resizes_are_the_raw_ops(measured, kind):
    """Without half-pixel centres, unlike tf.image.resize and UpSampling2D."""
    x = np.random.RandomState(0).randn(2, 5, 4, 3).astype(np.float32)
    raw = getattr(tf.raw_ops, "Resize" + kind.title().replace("_", ""))
    error = np.abs(resized(kind, x) - raw(images=x, size=[10, 8])).max()
    measured(f"resize {kind}", error, 1e-6)


def test_resizing_to_other_than_twice_is_refused():
    with pytest.raises(ValueError, match="size must be twice"):
        tf1.resize_bicubic(tf.zeros([1, 4, 4, 1]), [12, 12])
