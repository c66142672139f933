"""Convolutions of stride 2 that are fast on a CPU, at both ends of a network.

For small images with many channels, TensorFlow's kernels mostly reorder weights. Matrix
products compute the same sums up to three times as fast in float32, and up to five
times in bfloat16. With a single channel, a transposed convolution is faster as a plain
convolution that computes four pixels at once. `python -m benchmarks.kernels` measures
both. On a CPU, in float32 and bfloat16, the layers here choose the fastest kernel;
everywhere else they are Keras' own.

x is [b, 2h, 2w, c], y [b, h, w, d], w [k, k, c, d]; padding is "same". Each of the
three functions `conv2d`, `conv2d_input` and `conv2d_filter` is linear in both
arguments, and the other two are its derivatives. So the second derivatives of a
gradient penalty are correct by construction.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf

# With this many channels c or more, the product is faster, as measured on AVX2.
FILTER, INPUT, FORWARD = 256, 512, 512
# In bfloat16, with this many channels c for each row h of y, as measured on AMX: there
# TensorFlow's kernels are fast for many pixels, so the number of pixels also decides.
BFLOAT16_FILTER, BFLOAT16_INPUT, BFLOAT16_FORWARD = 32, 64, 64
CPUINFO = "/proc/cpuinfo"

log = logging.getLogger("specgan_tf")


@keras.saving.register_keras_serializable(package="specgan_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras', with this module's kernels where they are faster."""

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if _suits(self, inputs):
            return conv2d(inputs, kernel)
        return super().convolution_op(inputs, kernel)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        half = inputs.dtype == tf.bfloat16 and self.use_bias
        if not half and not _suits(self, inputs):
            return super().call(inputs)
        outputs = self.convolution_op(inputs, _cast_once(self.kernel))
        return self.activation(add_bias(outputs, tf.convert_to_tensor(self.bias)))


@keras.saving.register_keras_serializable(package="specgan_tf")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras', with this module's kernels where they are faster, for training only:
    exported models keep the op that every runtime has."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not _suits(self, inputs):
            return super().call(inputs)
        outputs = conv2d_input(_cast_once(self.kernel), inputs)
        return self.activation(add_bias(outputs, tf.convert_to_tensor(self.bias)))


def fast_bfloat16() -> tuple[bool, str]:
    """Whether networks with these layers train faster in bfloat16 on this machine.

    `ONEDNN_MAX_CPU_ISA=... python -m benchmarks.speed --only mixed` shows why AMX
    decides: with AVX512_CORE_BF16 or AVX512_CORE, bfloat16 takes longer than float32.
    GPUs are fast at it since Ampere.

    Returns:
      (bool, str): the answer, and the reason in words.
    """
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        oldest = min(d.get("compute_capability", (0, 0)) for d in details)
        if oldest >= (8, 0):
            return True, "this GPU has bfloat16 tensor cores"
        return False, "bfloat16 needs a GPU of compute capability 8.0 or above"
    try:
        with open(CPUINFO) as f:
            flags = f.read().split()
    except OSError:
        return False, "only Linux shows whether a CPU has AMX"
    if "amx_bf16" in flags:
        return True, "this CPU has AMX"
    return False, "this CPU has no AMX, and bfloat16 is slower without it"


def warn_if_slow() -> None:
    """Log a warning if bfloat16 takes longer than float32 on this machine."""
    fast, reason = fast_bfloat16()
    if not fast:
        log.warning(
            "mixed_precision=True makes training slower on this machine: %s", reason
        )


_casts = threading.local()  # each replica of a strategy is traced in its own thread


@contextlib.contextmanager
def shared_casts() -> Iterator[None]:
    """Context: cast each kernel only once. The block must not change variables.

    In half precision a cast reads every weight, and so does the cast of its gradient.
    """
    _casts.tensors = {}
    try:
        yield
    finally:
        del _casts.tensors


def _cast_once(kernel):
    """The kernel in the layer's compute dtype, as the layers' autocast converts it."""
    tensors = getattr(_casts, "tensors", {})
    if kernel.path not in tensors:
        tensors[kernel.path] = tf.convert_to_tensor(kernel)
    return tensors[kernel.path]


def _suits(layer, inputs):
    return (
        layer.strides == (2, 2)
        and layer.padding == "same"
        and min(layer.kernel_size) > 1  # each quarter of x has a tap
        and layer.use_bias
        and (inputs.shape[1] % 2, inputs.shape[2] % 2) == (0, 0)
        and inputs.dtype in (tf.float32, tf.bfloat16)
        and not tf.config.list_physical_devices("GPU")
    )


def _is_product(channels, rows, dtype, limit, bfloat16_limit):
    """Whether the matrix product is faster, for c `channels` and h `rows`."""
    if dtype == tf.bfloat16:
        return channels >= bfloat16_limit * rows
    return channels >= limit


@tf.custom_gradient
def add_bias(y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """y [b, h, w, d] + bias [d], with a bias gradient that is summed in float32.

    TensorFlow sums a bfloat16 gradient in bfloat16, which is far off for 100,000
    pixels. A matrix product sums in float32, and is faster.
    """

    def grad(dy):
        if dy.dtype != tf.bfloat16:
            return dy, tf.reduce_sum(dy, [0, 1, 2])
        rows = tf.reshape(dy, [-1, dy.shape[-1]])
        ones = tf.ones([1, tf.shape(rows)[0]], dy.dtype)
        return dy, tf.matmul(ones, rows)[0]

    return tf.nn.bias_add(y, bias), grad


@tf.custom_gradient
def conv2d(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """y: the convolution of x with w."""
    k, _, c, d = w.shape
    if _is_product(c, x.shape[1] // 2, x.dtype, FORWARD, BFLOAT16_FORWARD):
        y = tf.matmul(_patches(x, k), tf.reshape(w, [k * k * c, d]))
    else:
        y = tf.nn.conv2d(x, w, 2, "SAME")
    return y, lambda dy: (conv2d_input(w, dy), conv2d_filter(x, dy, k))


@tf.custom_gradient
def conv2d_input(w: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x: the transposed convolution of y with w, the gradient of `conv2d` by x."""
    k, _, c, _ = w.shape
    if _is_product(c, y.shape[1], y.dtype, INPUT, BFLOAT16_INPUT):
        x = _conv2d_input_by_taps(w, y)
    elif c == 1:
        x = _conv2d_input_by_fours(w, y)
    else:
        b, (h, width) = tf.shape(y)[0], y.shape[1:3]
        x = tf.nn.conv2d_transpose(y, w, [b, 2 * h, 2 * width, c], 2, "SAME")
    return x, lambda dx: (conv2d_filter(dx, y, k), conv2d(dx, w))


def conv2d_filter(x: tf.Tensor, y: tf.Tensor, k: int) -> tf.Tensor:
    """w [k, k, c, d]: gradient of sum(conv2d(x, w) * y) with respect to w."""

    @tf.custom_gradient
    def of(x, y):
        c, d = x.shape[-1], y.shape[-1]
        if _is_product(c, y.shape[1], y.dtype, FILTER, BFLOAT16_FILTER):
            rows = tf.reshape(_patches(x, k), [-1, k * k * c])
            w = tf.matmul(rows, tf.reshape(y, [-1, d]), transpose_a=True)
            w = tf.reshape(w, [k, k, c, d])
        else:
            w = tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=[k, k, c, d],
                out_backprop=y,
                strides=[1, 2, 2, 1],
                padding="SAME",
            )
        return w, lambda dw: (conv2d_input(dw, y), conv2d(x, dw))

    return of(x, y)


def _cut(k):
    """The number of pixels that "same" cuts off in front; it cuts the rest behind."""
    return (k - 2) // 2


def _patches(x, k):
    """[b, h, w, k * k * c]: the input pixels of each output of a convolution.

    Rows and columns of x come in pairs, so a tap of the kernel is a slice of one half
    of each pair. This takes half the time of `tf.image.extract_patches`.
    """
    _, height, width, c = x.shape
    h, w, pairs = height // 2, width // 2, -(-k // 2)
    front = _cut(k)
    around = [[front, 2 * (h + pairs - 1) - height - front]]
    around += [[front, 2 * (w + pairs - 1) - width - front]]
    x = tf.pad(x, [[0, 0], *around, [0, 0]])
    # [b, 2h', w', 2c] -> [b, 2h', w, k * c]: the taps of one row, side by side
    x = tf.reshape(x, [-1, 2 * (h + pairs - 1), w + pairs - 1, 2 * c])
    taps = [x[:, :, n : n + w] for n in range(pairs)]
    taps[-1] = taps[-1][..., : (k - 2 * (pairs - 1)) * c]
    x = tf.concat(taps, axis=-1)
    # [b, h', 2, w, k * c] -> [b, h, w, k * k * c]: the rows likewise
    x = tf.reshape(x, [-1, h + pairs - 1, 2, w, k * c])
    return tf.concat([x[:, m // 2 : m // 2 + h, m % 2] for m in range(k)], axis=-1)


def _conv2d_input_by_fours(w, y):
    """A convolution of stride 1 whose channels are the four pixels of a square."""
    k, _, c, d = w.shape
    odd = (
        _cut(k) % 2
    )  # then one more tap in front: squares must not begin between pixels
    most = (k + odd + 1) // 2
    w = tf.pad(w, [[odd, 2 * most - k - odd]] * 2 + [[0, 0]] * 2)
    w = tf.transpose(tf.reshape(w, [most, 2, most, 2, c, d]), [0, 2, 5, 1, 3, 4])
    w = tf.reshape(tf.reverse(w, [0, 1]), [most, most, d, 4 * c])
    behind = (_cut(k) + odd) // 2
    around = [most - 1 - behind, behind]
    fours = tf.nn.conv2d(y, w, 1, [[0, 0], around, around, [0, 0]])
    return tf.nn.depth_to_space(fours, 2)


def _conv2d_input_by_taps(w, y):
    """One product computes what each pixel of y adds to x through each of k * k taps.

    Taps with the same parity, in rows and in columns, add to the same quarter of x's
    pixels, and are summed there.
    """
    k, _, c, d = w.shape
    b, (h, width) = tf.shape(y)[0], y.shape[1:3]
    w = tf.reshape(w, [k * k * c, d])
    taps = tf.matmul(tf.reshape(y, [-1, d]), w, transpose_b=True)
    taps = tf.reshape(taps, [-1, h, width, k, k, c])
    most = -(-k // 2)  # taps of one parity, in a row
    quarters = []
    for i in range(2):
        for j in range(2):
            parts = []
            for m in range(i, k, 2):
                for n in range(j, k, 2):
                    up, left = m // 2, n // 2
                    around = [[up, most - 1 - up], [left, most - 1 - left]]
                    parts.append(tf.pad(taps[:, :, :, m, n], [[0, 0], *around, [0, 0]]))
            quarters.append(tf.add_n(parts))
    x = tf.reshape(tf.stack(quarters, 3), [b, h + most - 1, width + most - 1, 2, 2, c])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
    x = tf.reshape(x, [b, 2 * (h + most - 1), 2 * (width + most - 1), c])
    first = _cut(k)
    return x[:, first : first + 2 * h, first : first + 2 * width]
