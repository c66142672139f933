"""The two networks, in the order of the original.

Port of specgan.py (chrisdonahue/wavegan 40e85e8).

Every `tf.variable_scope` of the original is an attribute of the same name, holding
layers with TF 1's default names, so `variable.path` *is* the name of that variable in
a TF 1.12 checkpoint: `G/upconv_0/conv2d_transpose/kernel`. Layout is NHWC: time is the
second axis of a spectrogram, frequency the third.
"""

import contextlib
import math
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow.types.experimental import TensorLike

from specgan_tf import kernels, tf1

Shape = tuple[int | None, ...]
UPSAMPLES = {
    "zeros": None,
    "nn": tf1.resize_nearest_neighbor,
    "lin": tf1.resize_bilinear,
    "cub": tf1.resize_bicubic,
}
# differs: the flag offers lin and cub, the model tests linear and cubic, so in the
# original both fail. Here each has both names.
# [specgan.py:18-30, train_specgan.py:660]
UPSAMPLE_ALIASES = {"linear": "lin", "cubic": "cub"}


@contextlib.contextmanager
def float32_channels_last() -> Iterator[None]:
    """Context: layers made in it are float32 and NHWC, whatever the global settings."""
    config = keras.config
    dtype_policy, floatx = config.dtype_policy(), config.floatx()
    data_format = config.image_data_format()
    try:
        config.set_dtype_policy("float32")
        config.set_floatx("float32")
        config.set_image_data_format("channels_last")
        yield
    finally:
        config.set_dtype_policy(dtype_policy)
        config.set_floatx(floatx)
        config.set_image_data_format(data_format)


class Scope(keras.Sequential):
    """A `tf.variable_scope`: layers in a row under one name."""

    @property
    def input_dtype(self) -> str:
        # Sequential's would cast to float32, in half precision too
        return self.compute_dtype

    def call(
        self, inputs: TensorLike, training: bool | None = None, mask: object = None
    ) -> tf.Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


def scope(name: str, *layers: keras.layers.Layer | None) -> Scope:
    """The `Scope` of these layers; None is left out."""
    return Scope([layer for layer in layers if layer], name=name)


def batchnorm(use_batchnorm: bool, track: bool) -> tf1.BatchNormalization | None:
    """The original's `batchnorm` closure.  [specgan.py:56-59, 130-133]"""
    if not use_batchnorm:
        return None
    return tf1.BatchNormalization(track=track, name="batch_normalization")


def conv2d_transpose(
    filters: int, kernel_len: int, stride: int = 2, upsample: str = "zeros"
) -> list[keras.layers.Layer]:
    """[b, h, w, c] -> [b, h * stride, w * stride, filters].  [specgan.py:4-39]

    A transposed convolution, or for `upsample` nn, lin, cub a resize and a convolution.
    Returns the layers, in order.
    """
    if upsample == "zeros":
        return [
            kernels.Conv2DTranspose(
                filters, kernel_len, stride, padding="same", name="conv2d_transpose"
            )
        ]
    return [
        Upsample(stride, upsample, name="upsample"),
        kernels.Conv2D(filters, kernel_len, 1, padding="same", name="conv2d"),
    ]


def conv2d(filters: int, kernel_len: int, stride: int = 2) -> kernels.Conv2D:
    """[b, h, w, c] -> [b, h / stride, w / stride, filters]."""
    return kernels.Conv2D(filters, kernel_len, stride, padding="same", name="conv2d")


@keras.saving.register_keras_serializable(package="specgan_tf")
class Upsample(keras.layers.Layer):
    """[b, h, w, c] -> [b, h * stride, w * stride, c], as TF 1.12 resized."""

    def __init__(self, stride: int, upsample: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.stride, self.upsample = stride, upsample

    def call(self, x: tf.Tensor) -> tf.Tensor:
        _, h, w, _ = x.shape
        return UPSAMPLES[self.upsample](x, [h * self.stride, w * self.stride])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        b, h, w, c = input_shape
        return (b, h * self.stride, w * self.stride, c)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "stride": self.stride,
            "upsample": self.upsample,
        }


# differs: the original makes the first of these only. A longer sound is more frames:
# the first grid is [4 * m, 4], the last [128 * m, 128].  [specgan.py:63-65, 171]
SLICE_LENS = tuple(16384 * m for m in (1, 2, 4, 8))  # samples
LARGEST = 2**31  # weights in one layer: 8 GiB


def check_options(
    kernel_len: int, dim: int, latent_dim: int = 1, slice_len: int = SLICE_LENS[0]
) -> None:
    """Raise a ValueError for options that no network can have."""
    if slice_len not in SLICE_LENS:
        raise ValueError(
            f"slice_len must be one of {list(SLICE_LENS)}. Received: {slice_len!r}"
        )
    options = {"kernel_len": kernel_len, "dim": dim, "latent_dim": latent_dim}
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer. Received: {value!r}")
    largest = max(
        kernel_len**2 * (16 * dim) * (8 * dim), latent_dim * dim * slice_len // 64
    )
    if largest > LARGEST:  # asked for by a typing error, or by a stranger's file
        asked = ", ".join(f"{name} {value}" for name, value in options.items())
        made = f"a layer of {largest} weights; at most {LARGEST} are allowed"
        raise ValueError(f"{asked} would make {made}")


@keras.saving.register_keras_serializable(package="specgan_tf")
class SpecGANGenerator(keras.Model):
    """Latents [b, latent_dim] -> spectrograms [b, 128, 128, 1], both in [-1, 1].

    With slice_len 16384 * m the spectrogram has 128 * m frames.

    It is built on construction, on its own: inside another model its variables' paths
    would change, and they are the names in a checkpoint.

    Args:
      kernel_len: side of the square kernels.
      dim: channels of the last hidden layer; the first has 16 times as many.
      use_batchnorm: normalise after every layer but the last.
      upsample: "zeros" (transposed convolution), "nn", "lin" or "cub".
      latent_dim: length of z.
      slice_len: samples of the sounds, one of `SLICE_LENS`.

    Raises:
      ValueError: an option has another value, or the network would be too large.

    [specgan.py:42-111]
    """

    def __init__(
        self,
        kernel_len: int = 5,
        dim: int = 64,
        use_batchnorm: bool = False,
        upsample: str = "zeros",
        latent_dim: int = 100,
        slice_len: int = SLICE_LENS[0],
        name: str = "G",
        **kwargs,
    ) -> None:
        with float32_channels_last():
            super().__init__(name=name, **kwargs)
        check_options(kernel_len, dim, latent_dim, slice_len)
        upsample = UPSAMPLE_ALIASES.get(upsample, upsample)
        if upsample not in UPSAMPLES:
            raise ValueError(
                f"upsample must be one of {list(UPSAMPLES)}. Received: {upsample!r}"
            )
        self.kernel_len, self.dim, self.use_batchnorm = kernel_len, dim, use_batchnorm
        self.upsample, self.latent_dim, self.slice_len = upsample, latent_dim, slice_len

        def upconv(i, filters, *after):
            layers = conv2d_transpose(filters, kernel_len, 2, upsample)
            return scope(f"upconv_{i}", *layers, *after)

        def bn():
            return batchnorm(use_batchnorm, track=True)

        rows = slice_len // 4096  # 4
        with float32_channels_last():
            self.z_project = scope(
                "z_project",
                keras.layers.Dense(rows * 4 * dim * 16, name="dense"),
                keras.layers.Reshape((rows, 4, dim * 16), name="reshape"),
                bn(),
            )
            self.upconv_0 = upconv(0, dim * 8, bn())
            self.upconv_1 = upconv(1, dim * 4, bn())
            self.upconv_2 = upconv(2, dim * 2, bn())
            self.upconv_3 = upconv(3, dim, bn())
            self.upconv_4 = upconv(4, 1)
            self.build((None, latent_dim))

    def build(self, input_shape: Shape) -> None:
        shape = input_shape
        for block in (self.z_project, *self.upconvs):
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.built = True

    @property
    def upconvs(self) -> list[Scope]:
        return [getattr(self, f"upconv_{i}") for i in range(5)]

    def call(self, z: TensorLike, training: bool = False) -> tf.Tensor:
        # FC and reshape for convolution
        # [100] -> [4, 4, 1024]  [specgan.py:61-68]
        output = self.z_project(z, training=training)
        output = tf.nn.relu(output)

        # Layer 0: [4, 4, 1024] -> [8, 8, 512]  [specgan.py:70-75]
        output = self.upconv_0(output, training=training)
        output = tf.nn.relu(output)

        # Layer 1: [8, 8, 512] -> [16, 16, 256]  [specgan.py:77-82]
        output = self.upconv_1(output, training=training)
        output = tf.nn.relu(output)

        # Layer 2: [16, 16, 256] -> [32, 32, 128]  [specgan.py:84-89]
        output = self.upconv_2(output, training=training)
        output = tf.nn.relu(output)

        # Layer 3: [32, 32, 128] -> [64, 64, 64]  [specgan.py:91-96]
        output = self.upconv_3(output, training=training)
        output = tf.nn.relu(output)

        # Layer 4: [64, 64, 64] -> [128, 128, 1]  [specgan.py:98-102]
        output = self.upconv_4(output, training=training)
        return tf.cast(tf.nn.tanh(output), self.variable_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.slice_len // 128, 128, 1)

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "kernel_len": self.kernel_len,
            "dim": self.dim,
            "use_batchnorm": self.use_batchnorm,
            "upsample": self.upsample,
            "latent_dim": self.latent_dim,
            "slice_len": self.slice_len,
        }


@tf.custom_gradient
def lrelu(inputs: TensorLike) -> tf.Tensor:
    """[specgan.py:114-115]"""
    # original: not tf.nn.leaky_relu, which TF 2's graph remapper fails to fuse, loudly.
    output = tf.maximum(0.2 * inputs, inputs)

    # The same gradient in one op instead of five. stop_gradient: its second derivative
    # is zero, and would be computed.
    def grad(upstream):
        return tf.raw_ops.LeakyReluGrad(
            gradients=upstream, features=tf.stop_gradient(output), alpha=0.2
        )

    return output, grad


@keras.saving.register_keras_serializable(package="specgan_tf")
class SpecGANDiscriminator(keras.Model):
    """Spectrograms [b, 128, 128, 1] -> logits [b], without an activation.

    It is built on construction, on its own, for the same reason as the generator.

    Args:
      kernel_len: side of the square kernels.
      dim: channels of the first layer; the last convolution has 16 times as many.
      use_batchnorm: normalise after every convolution but the first.
      slice_len: as in the generator.

    Raises:
      ValueError: an option is no positive integer, or the network would be too large.

    [specgan.py:118-178]
    """

    def __init__(
        self,
        kernel_len: int = 5,
        dim: int = 64,
        use_batchnorm: bool = False,
        slice_len: int = SLICE_LENS[0],
        name: str = "D",
        **kwargs,
    ) -> None:
        with float32_channels_last():
            super().__init__(name=name, **kwargs)
        check_options(kernel_len, dim, slice_len=slice_len)
        self.kernel_len, self.dim, self.use_batchnorm = kernel_len, dim, use_batchnorm
        self.slice_len = slice_len

        def bn():
            # original: moving averages exist and never move; nothing reads them.
            return batchnorm(use_batchnorm, track=False)

        with float32_channels_last():
            self.downconv_0 = scope("downconv_0", conv2d(dim, kernel_len))
            self.downconv_1 = scope("downconv_1", conv2d(dim * 2, kernel_len), bn())
            self.downconv_2 = scope("downconv_2", conv2d(dim * 4, kernel_len), bn())
            self.downconv_3 = scope("downconv_3", conv2d(dim * 8, kernel_len), bn())
            self.downconv_4 = scope("downconv_4", conv2d(dim * 16, kernel_len), bn())
            self.output_scope = scope("output", keras.layers.Dense(1, name="dense"))
            self.build((None, slice_len // 128, 128, 1))

    def build(self, input_shape: Shape) -> None:
        shape = input_shape
        for block in self.downconvs:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.output_scope.build((None, math.prod(shape[1:])))
        self.built = True

    @property
    def downconvs(self) -> list[Scope]:
        return [getattr(self, f"downconv_{i}") for i in range(5)]

    def call(self, x: TensorLike, training: bool = True) -> tf.Tensor:
        # original: batch statistics always; `training` is here for Keras' sake only.
        return self.logits(self.features(x))

    def features(self, x: TensorLike) -> tf.Tensor:
        """[b, 128, 128, 1] -> [b, 4 * 4 * dim * 16], what the logits see."""
        # Layer 0: [128, 128, 1] -> [64, 64, 64]  [specgan.py:134-139]
        output = self.downconv_0(x)
        output = lrelu(output)

        # Layer 1: [64, 64, 64] -> [32, 32, 128]  [specgan.py:141-146]
        output = self.downconv_1(output, training=True)
        output = lrelu(output)

        # Layer 2: [32, 32, 128] -> [16, 16, 256]  [specgan.py:148-153]
        output = self.downconv_2(output, training=True)
        output = lrelu(output)

        # Layer 3: [16, 16, 256] -> [8, 8, 512]  [specgan.py:155-160]
        output = self.downconv_3(output, training=True)
        output = lrelu(output)

        # Layer 4: [8, 8, 512] -> [4, 4, 1024]  [specgan.py:162-167]
        output = self.downconv_4(output, training=True)
        output = lrelu(output)

        # Flatten  [specgan.py:169-171]
        return tf.reshape(output, [-1, math.prod(output.shape[1:])])

    def logits(self, features: TensorLike) -> tf.Tensor:
        """[b, 4 * 4 * dim * 16] -> [b]."""
        # Connect to single logit  [specgan.py:173-174]
        return self.output_scope(features)[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0],)

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "kernel_len": self.kernel_len,
            "dim": self.dim,
            "use_batchnorm": self.use_batchnorm,
            "slice_len": self.slice_len,
        }
