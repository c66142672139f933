"""Convolutions of stride 2 that are fast at both ends of a network, on a CPU.

Where images are small and channels many, TensorFlow's kernels mostly reorder weights:
the same sums as matrix products are up to three times as fast. Where there is a single
channel, so is the transposed convolution as a plain one that makes four pixels at once.
(`python -m benchmarks.kernels` shows it.) In float32, on a CPU, these layers take that;
everywhere else the Keras layers are what they were.

x is [b, 2h, 2w, c], y [b, h, w, d], w [k, k, c, d]; padding is "same". Each of the
three functions is linear in both arguments, and its derivatives are the other two: so
a gradient penalty's second derivatives are right by construction.
"""

import keras
import tensorflow as tf

# Channels c from which on the product is faster, as measured.
FILTER, INPUT, FORWARD = 256, 512, 512


@keras.saving.register_keras_serializable(package="specgan_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras', with this module's kernels where they are faster."""

    def convolution_op(self, inputs, kernel):
        if not _suits(self, inputs, inputs.shape[-1]):
            return super().convolution_op(inputs, kernel)
        return conv2d(inputs, tf.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable(package="specgan_tf")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras', with this module's kernels where they are faster, for training only:
    what is exported keeps the op that every runtime knows."""

    def call(self, inputs, training=False):
        if not training or not _suits(self, inputs, self.filters):
            return super().call(inputs)
        outputs = conv2d_input(tf.convert_to_tensor(self.kernel), inputs)
        return self.activation(tf.nn.bias_add(outputs, self.bias))


def _suits(layer, inputs, channels):
    return (
        (channels == 1 or channels >= min(FILTER, INPUT, FORWARD))
        and layer.strides == (2, 2)
        and layer.padding == "same"
        and min(layer.kernel_size) > 1  # each quarter of x has a tap
        and layer.use_bias
        and (inputs.shape[1] % 2, inputs.shape[2] % 2) == (0, 0)
        and inputs.dtype == tf.float32
        and not tf.config.list_physical_devices("GPU")
    )


@tf.custom_gradient
def conv2d(x, w):
    """y: the convolution of x with w."""
    k, _, c, d = w.shape
    if c >= FORWARD:
        y = tf.matmul(_patches(x, k), tf.reshape(w, [k * k * c, d]))
    else:
        y = tf.nn.conv2d(x, w, 2, "SAME")
    return y, lambda dy: (conv2d_input(w, dy), conv2d_filter(x, dy, k))


@tf.custom_gradient
def conv2d_input(w, y):
    """x: the transposed convolution, which takes y where `conv2d` came from."""
    k, _, c, _ = w.shape
    if c >= INPUT:
        x = _conv2d_input_by_taps(w, y)
    elif c == 1:
        x = _conv2d_input_by_fours(w, y)
    else:
        b, (h, width) = tf.shape(y)[0], y.shape[1:3]
        x = tf.nn.conv2d_transpose(y, w, [b, 2 * h, 2 * width, c], 2, "SAME")
    return x, lambda dx: (conv2d_filter(dx, y, k), conv2d(dx, w))


def conv2d_filter(x, y, k):
    """w: how `conv2d` of x changes along y with each weight."""

    @tf.custom_gradient
    def of(x, y):
        c, d = x.shape[-1], y.shape[-1]
        if c >= FILTER:
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


def _patches(x, k):
    """[b, h, w, k * k * c]: what each output of a convolution sees."""
    ones = [1, 1, 1, 1]
    return tf.image.extract_patches(x, [1, k, k, 1], [1, 2, 2, 1], ones, "SAME")


def _cut(k):
    """Pixels that "same" cuts before the first; the rest it cuts behind the last."""
    return (k - 2) // 2


def _conv2d_input_by_fours(w, y):
    """A convolution of stride 1 whose channels are the four pixels of a square."""
    k, _, c, d = w.shape
    odd = _cut(k) % 2  # then a tap more in front, or squares would begin between pixels
    most = (k + odd + 1) // 2
    w = tf.pad(w, [[odd, 2 * most - k - odd]] * 2 + [[0, 0]] * 2)
    w = tf.transpose(tf.reshape(w, [most, 2, most, 2, c, d]), [0, 2, 5, 1, 3, 4])
    w = tf.reshape(tf.reverse(w, [0, 1]), [most, most, d, 4 * c])
    behind = (_cut(k) + odd) // 2
    around = [most - 1 - behind, behind]
    fours = tf.nn.conv2d(y, w, 1, [[0, 0], around, around, [0, 0]])
    return tf.nn.depth_to_space(fours, 2)


def _conv2d_input_by_taps(w, y):
    """One product for each of the k * k taps, summed where they meet.

    Taps of one parity, in rows and in columns, land on the same quarter of x's pixels.
    """
    k, _, c, d = w.shape
    b, (h, width) = tf.shape(y)[0], y.shape[1:3]
    rows = tf.reshape(y, [-1, d])
    most = -(-k // 2)  # taps of one parity, in a row
    quarters = []
    for i in range(2):
        for j in range(2):
            parts = []
            for m in range(i, k, 2):
                for n in range(j, k, 2):
                    tap = tf.matmul(rows, w[m, n], transpose_b=True)
                    tap = tf.reshape(tap, [-1, h, width, c])
                    up, left = m // 2, n // 2
                    around = [[up, most - 1 - up], [left, most - 1 - left]]
                    parts.append(tf.pad(tap, [[0, 0], *around, [0, 0]]))
            quarters.append(tf.add_n(parts))
    x = tf.reshape(tf.stack(quarters, 3), [b, h + most - 1, width + most - 1, 2, 2, c])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
    x = tf.reshape(x, [b, 2 * (h + most - 1), 2 * (width + most - 1), c])
    first = _cut(k)
    return x[:, first : first + 2 * h, first : first + 2 * width]
