"""The kernels are TensorFlow's own, to rounding, and so are two derivatives of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import SpecGANDiscriminator, SpecGANGenerator, kernels

LIMITS = ("FILTER", "INPUT", "FORWARD")
BFLOAT16_LIMITS = tuple(f"BFLOAT16_{name}" for name in LIMITS)


@pytest.fixture
def every_product(monkeypatch):
    """As if all layers were deep."""
    for name in (*LIMITS, *BFLOAT16_LIMITS):
        monkeypatch.setattr(kernels, name, 0)


def plain_transpose(w, y):
    b, h, width, _ = y.shape
    return tf.nn.conv2d_transpose(y, w, [b, 2 * h, 2 * width, w.shape[2]], 2, "SAME")


def everything(conv2d, transpose, x, w, u):
    """Outputs, first and second derivatives."""
    with tf.GradientTape() as outer:
        outer.watch([x, w, u])
        with tf.GradientTape() as tape:
            tape.watch([x, u])
            y, t = conv2d(x, w), transpose(w, u)
            total = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(tf.cos(t))
        first = tape.gradient(total, [x, u])
        total += sum(tf.reduce_sum(tf.square(g)) for g in first)
    return [y, t, *first, *outer.gradient(total, [x, w, u])]


@pytest.mark.parametrize("few", [None, *LIMITS])
@pytest.mark.parametrize("kernel_len", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("channels", [1, 4])
def test_values_and_derivatives(few, kernel_len, channels, monkeypatch, measured):
    for name in LIMITS:  # all of them products, or all but one
        monkeypatch.setattr(kernels, name, 10**9 if name == few else 1)
    draw = tf.random.Generator.from_seed(kernel_len)
    x, u = draw.normal([3, 8, 6, channels]), draw.normal([3, 4, 3, 5])
    w = draw.normal([kernel_len, kernel_len, channels, 5])
    ours = everything(kernels.conv2d, kernels.conv2d_input, x, w, u)
    plain = everything(
        lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"), plain_transpose, x, w, u
    )
    for a, b in zip(ours, plain, strict=True):
        error = tf.reduce_max(tf.abs(a - b)) / tf.reduce_max(tf.abs(b))
        # Sums of up to 196 terms in another order, squared twice.
        measured("of the largest", float(error), 1e-4)


def test_networks_are_the_same_with_them(every_product, monkeypatch, measured):
    keras.utils.set_random_seed(0)
    G, D = SpecGANGenerator(dim=2), SpecGANDiscriminator(dim=2)
    z = tf.random.stateless_uniform([2, 100], [0, 1], -1.0, 1.0)
    with_them = G(z, training=True), D(G(z))
    for name in LIMITS:
        monkeypatch.setattr(kernels, name, 10**9)
    for a, b in zip(with_them, (G(z, training=True), D(G(z))), strict=True):
        measured("difference", np.abs(a - b).max(), 1e-6)


def ops(f, *shape):
    spec = tf.TensorSpec(shape, tf.float32)
    graph = tf.function(f, autograph=False).get_concrete_function(spec).graph
    return {op.type for op in graph.get_operations()}


def test_only_training_takes_them(every_product):
    """What is exported must keep to ops that every runtime knows."""
    G, D = SpecGANGenerator(dim=1), SpecGANDiscriminator(dim=1)
    assert "Conv2D" not in ops(D, None, 128, 128, 1)
    assert "Conv2DBackpropInput" not in ops(lambda z: G(z, training=True), None, 100)
    assert "Conv2DBackpropInput" in ops(lambda z: G(z, training=False), None, 100)


@pytest.mark.parametrize("options", [{"padding": "valid"}, {"strides": 1}])
def test_other_convolutions_are_keras_own(every_product, options, measured):
    options = {"strides": 2, "padding": "same", **options}
    x = tf.random.stateless_normal([1, 8, 8, 3], [0, 1])
    for name in ("Conv2D", "Conv2DTranspose"):
        ours = getattr(kernels, name)(4, 3, **options)
        keras_own = getattr(keras.layers, name)(4, 3, **options)
        ours.build(x.shape), keras_own.build(x.shape)
        keras_own.set_weights(ours.get_weights())
        both = ours(x, **{"training": True} if "Tr" in name else {}), keras_own(x)
        measured("difference", np.abs(both[0] - both[1]).max(), 0)


@pytest.mark.parametrize("few", [None, *BFLOAT16_LIMITS])
@pytest.mark.parametrize("kernel_len", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("channels", [1, 4])
def test_bfloat16(few, kernel_len, channels, monkeypatch, measured):
    """Each of the three sums, of what is already rounded, is that of float32."""
    for name in BFLOAT16_LIMITS:  # all of them products, or all but one
        monkeypatch.setattr(kernels, name, 10**9 if name == few else 0)
    draw = tf.random.Generator.from_seed(kernel_len)
    x, y = draw.normal([3, 8, 6, channels]), draw.normal([3, 4, 3, 5])
    w = draw.normal([kernel_len, kernel_len, channels, 5])
    x, y, w = (tf.cast(tensor, tf.bfloat16) for tensor in (x, y, w))

    def sums(x, y, w):
        return (
            kernels.conv2d(x, w),
            kernels.conv2d_input(w, y),
            kernels.conv2d_filter(x, y, kernel_len),
        )

    full = sums(*(tf.cast(tensor, tf.float32) for tensor in (x, y, w)))
    for a, b in zip(sums(x, y, w), full, strict=True):
        assert a.dtype == tf.bfloat16
        error = tf.reduce_max(tf.abs(tf.cast(a, tf.float32) - b))
        # A rounding of the result; of a sum over taps, one of each part too.
        measured("of the largest", float(error / tf.reduce_max(tf.abs(b))), 2.0**-7)


def test_the_gradient_of_a_bias_is_summed_in_float32(measured):
    """A sum of 2^16 ones in bfloat16 ends at 256."""
    y, bias = tf.ones([4, 128, 128, 3], tf.bfloat16), tf.zeros([3], tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        total = tf.reduce_sum(tf.cast(kernels.add_bias(y, bias), tf.float32))
    gradient = tf.cast(tape.gradient(total, bias), tf.float32)
    measured("error", np.abs(gradient / 2.0**16 - 1.0).max(), 2.0**-8)


def test_layers_compute_in_the_policys_precision(every_product):
    for layer in kernels.Conv2D, kernels.Conv2DTranspose:
        half = layer(4, 3, 2, padding="same", dtype="mixed_bfloat16")
        half.build((None, 8, 8, 3))
        assert half(tf.zeros([1, 8, 8, 3], tf.bfloat16)).dtype == tf.bfloat16
        assert half.kernel.dtype == "float32"
