"""Behaviour of TensorFlow 1.12 that Keras 3 lacks. Nothing about SpecGAN.

Each item was measured against TensorFlow 1.12.0; parity tests check it.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from tensorflow.types.experimental import TensorLike

Rate = float | keras.optimizers.schedules.LearningRateSchedule
Shape = tuple[int | None, ...]
Size = Sequence[int]  # [height, width]


@keras.saving.register_keras_serializable(package="specgan_tf")
class Adam(keras.optimizers.Adam):
    """`tf.train.AdamOptimizer`: Keras' Adam with epsilon 1e-8 instead of 1e-7."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        epsilon: float = 1e-8,
        name: str = "Adam",
        **kwargs,
    ) -> None:
        super().__init__(learning_rate, epsilon=epsilon, name=name, **kwargs)

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: TensorLike
    ) -> None:
        """Keras' arithmetic in TensorFlow's one op, which reads each array once."""
        if self.amsgrad or tf.distribute.has_strategy():
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.value.handle,
            v=v.value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable(package="specgan_tf")
class RMSProp(keras.optimizers.RMSprop):
    """`tf.train.RMSPropOptimizer`: Keras', with the mean square starting at one (Keras:
    zero) and epsilon 1e-10 (Keras: 1e-7) inside the root."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        epsilon: float = 1e-10,
        name: str = "RMSProp",
        **kwargs,
    ) -> None:
        super().__init__(learning_rate, epsilon=epsilon, name=name, **kwargs)

    def build(self, var_list: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(var_list)
        for mean_square in self._velocities:
            mean_square.assign(keras.ops.ones_like(mean_square))


@keras.saving.register_keras_serializable(package="specgan_tf")
class BatchNormalization(keras.layers.Layer):
    """`tf.layers.batch_normalization` on the last axis of [b, h, w, c].

    Keras' own layer differs twice: it feeds the *biased* batch variance to the moving
    average, and `tf.nn.moments` inside it carries a `stop_gradient` that makes second
    derivatives wrong, which a gradient penalty takes.

    differs: TF 1.12's own fused op has wrong second derivatives too, once batch norms
    are stacked. Here they are right, so wgan-gp with batch norm trains differently.
    [specgan.py:130]

    Args:
      momentum: the share of a moving average that an update keeps.
      epsilon: added to the variance, inside the root.
      track: whether training moves the moving averages. The reference's discriminator
        never runs its update ops, so its averages stay at 0 and 1.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        track: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon, self.track = momentum, epsilon, track

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        # autocast=False: with mixed precision too, statistics are float32.
        full = {"shape": shape, "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **full)
        self.beta = self.add_weight(name="beta", initializer="zeros", **full)
        self.moving_mean = self.add_weight(
            name="moving_mean", initializer="zeros", trainable=False, **full
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", initializer="ones", trainable=False, **full
        )

    def call(self, x: TensorLike, training: bool = False) -> tf.Tensor:
        x = tf.cast(x, self.variable_dtype)
        if training:
            # Not tf.nn.moments: its stop_gradient is right for first derivatives only.
            mean = tf.reduce_mean(x, axis=[0, 1, 2])
            variance = tf.reduce_mean(tf.square(x - mean), axis=[0, 1, 2])
            if self.track:
                self._move_averages(mean, variance, count=tf.size(x[..., 0]))
        else:
            mean = tf.convert_to_tensor(self.moving_mean)
            variance = tf.convert_to_tensor(self.moving_variance)
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(x * scale + (self.beta - mean * scale), self.compute_dtype)

    def _move_averages(self, mean, variance, count):
        # TF 1.12's fused op hands out the unbiased variance.
        count = tf.cast(count, variance.dtype)
        unbiased = variance * (count / tf.maximum(count - 1.0, 1.0))
        for moving, batch in (
            (self.moving_mean, mean),
            (self.moving_variance, unbiased),
        ):
            moving.assign_sub((moving - batch) * (1.0 - self.momentum))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "track": self.track,
        }


class ExponentialMovingAverage:
    """`tf.train.ExponentialMovingAverage(decay, num_updates)`, for a whole network.

    The averages are the variables of a second network, which can be called and saved.

    All variables are averaged, including batch norm's moving statistics, so that they
    match the averaged weights. (TF 1's `apply()` averages trainable variables by
    default.)

    Args:
      network: a Keras model or layer that `get_config` and `from_config` rebuild.
      decay: float in [0, 1): the share of the average that an update keeps.

    Attributes:
      network: the network with the averages; at first it equals the one given.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        self.decay = decay
        self.network = type(network).from_config(network.get_config())
        self.network.trainable = False
        self.reset(network)

    @staticmethod
    def average_name(name: str) -> str:
        """The name that the average of the variable `name` has in a checkpoint."""
        return f"{name}/ExponentialMovingAverage"

    def reset(self, network: keras.Model) -> None:
        """Start anew, from the current variables of the network."""
        for average, v in self._pairs(network):
            average.assign(v)

    def apply(self, network: keras.Model, num_updates: TensorLike) -> None:
        """One update from the network's variables.

        Args:
          network: the network that is averaged.
          num_updates: int scalar, updates of the network so far. At first the decay is
            smaller, (1 + num_updates) / (10 + num_updates), so that the average does
            not stay near the initial values.
        """
        n = tf.cast(num_updates, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + n) / (10.0 + n))
        for average, v in self._pairs(network):
            average.assign_sub((average - v) * (1.0 - decay))

    def _pairs(self, network):
        return zip(self.network.variables, network.variables, strict=True)


def resize_nearest_neighbor(x: tf.Tensor, size: Size) -> tf.Tensor:
    """`tf.image.resize_nearest_neighbor`: [b, h, w, c] -> [b, *size, c]."""
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size)


def resize_bilinear(x: tf.Tensor, size: Size) -> tf.Tensor:
    """`tf.image.resize_bilinear`: [b, h, w, c] -> [b, *size, c].

    Without half-pixel centres, unlike Keras' UpSampling2D.
    """
    return tf.raw_ops.ResizeBilinear(images=x, size=size)


def resize_bicubic(x: tf.Tensor, size: Size) -> tf.Tensor:
    """`tf.image.resize_bicubic` to twice the size: [b, h, w, c] -> [b, 2h, 2w, c].

    Without half-pixel centres, every other output is an input. Those between are sums
    of four neighbours, weighted by the cubic kernel (A = -0.75) at one half; edges
    repeat. These are shifted sums because the op has no GPU kernel and no TFLite
    counterpart.
    """
    if [2 * n for n in x.shape[1:3]] != list(size):
        raise ValueError(
            f"size must be twice the input's {x.shape[1:3]}. Received: {size}"
        )
    return _double_bicubic(_double_bicubic(x, axis=1), axis=2)


def _double_bicubic(x, axis):
    n = x.shape[axis]
    shape = tf.shape(x)
    first = tf.gather(x, [0], axis=axis)
    last = tf.gather(x, [n - 1, n - 1], axis=axis)
    padded = tf.concat([first, x, last], axis)
    p0, p1, p2, p3 = (tf.gather(padded, range(k, k + n), axis=axis) for k in range(4))
    between = 0.59375 * (p1 + p2) - 0.09375 * (p0 + p3)
    doubled = tf.stack([x, between], axis=axis + 1)  # interleaved by the reshape
    target = [shape[0], *x.shape[1:]]
    target[axis] = 2 * n
    return tf.reshape(doubled, target)


# Coefficients of Eigen's float32 logarithm, from the Cephes library.
LOG = (
    (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1),
    (-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
    (2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)


def log(x: ArrayLike) -> np.ndarray:
    """TF 1.12's natural logarithm of normal float32 numbers, to the last bit."""
    m, e = np.frexp(np.asarray(x, np.float32))
    small = m < np.float32(0.5**0.5)
    x = np.where(small, m + m, m) - np.float32(1)
    e = e.astype(np.float32) - small
    y = np.float32(0)
    for a, b, c in np.float32(LOG):
        y = y * (x * x * x) + ((a * x + b) * x + c)
    y = y * (x * x * x) + e * np.float32(-2.12194440e-4)
    return x - x * x * np.float32(0.5) + y + e * np.float32(0.693359375)


def linear_to_mel_weight_matrix(
    num_mel_bins: int, num_spectrogram_bins: int, rate: float, low: float, high: float
) -> np.ndarray:
    """`tf.contrib.signal`'s matrix, to the last bit: float32 [spectrogram, mel bins].

    A mel band at low frequencies may contain only the edge of a single bin, whose
    weight is mostly rounding error, and TF 2's logarithm rounds differently.
    """

    def linspace(start, stop, n):
        return start + (stop - start) / np.float32(n - 1) * np.arange(n, dtype="f4")

    def hertz_to_mel(hertz):
        return np.float32(1127) * log(np.float32(1) + hertz / np.float32(700))

    rate, low, high = np.float32([rate, low, high])
    bins = linspace(np.float32(0), rate / 2, num_spectrogram_bins)[1:, np.newaxis]
    edges = linspace(hertz_to_mel(low), hertz_to_mel(high), num_mel_bins + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (hertz_to_mel(bins) - lower) / (centre - lower)
    falling = (upper - hertz_to_mel(bins)) / (upper - centre)
    weights = np.maximum(np.float32(0), np.minimum(rising, falling))
    return np.pad(weights, [[1, 0], [0, 0]])
