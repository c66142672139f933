"""When is a product of matrices the faster convolution? python -m benchmarks.kernels

For layers of the networks, GFLOP per CPU second of each of the three sums in
`specgan_tf.kernels`: with TensorFlow's own op, and as a product; in float32 and, where
that is fast, in bfloat16. The limits in that module come from this table: in float32
the channels from which on the product wins, in bfloat16 the channels per row of y.
"""

import itertools
import os
import statistics
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from specgan_tf import kernels

REPEATS = 5


def three(x, y, w):
    return {
        "forward": lambda: kernels.conv2d(x, w),
        "input": lambda: kernels.conv2d_input(w, y),
        "filter": lambda: kernels.conv2d_filter(x, y, w.shape[0]),
    }


def compare(dtype, k, batch, size, channels):
    x = tf.random.normal([batch, size, size, channels])
    y = tf.random.normal([batch, size // 2, size // 2, channels * 2])
    w = tf.random.normal([k, k, channels, channels * 2])
    x, y, w = (tf.cast(tensor, dtype) for tensor in (x, y, w))
    gflop = 2 * y[..., 0].shape.num_elements() * w.shape.num_elements() / 1e9
    graphs, seconds = {}, {}
    for limit in (10**9, 0):
        for name in ("FORWARD", "INPUT", "FILTER"):
            setattr(kernels, name, limit)
            setattr(kernels, f"BFLOAT16_{name}", limit)
        for name, f in three(x, y, w).items():
            graphs[name, limit] = graph = tf.function(f, autograph=False)
            graph()  # traced under this limit
    for _ in range(REPEATS):
        for key, graph in graphs.items():
            start = time.process_time()
            graph()
            seconds.setdefault(key, []).append(time.process_time() - start)
    return {key: gflop / statistics.median(s) for key, s in seconds.items()}


def main():
    dtypes = [tf.float32, *[tf.bfloat16] * kernels.fast_bfloat16()[0]]
    layers = (16, 64), (8, 128), (16, 128), (8, 256), (16, 256), (8, 512)
    print("dtype     kernel  batch  size  channels    forward      input       filter")
    for dtype, k, batch in itertools.product(dtypes, (3, 5), (16, 64)):
        for size, channels in layers:
            rates = compare(dtype, k, batch, size, channels)
            columns = (
                f"{rates[name, 10**9]:5.0f} {rates[name, 0]:5.0f}"
                for name in ("forward", "input", "filter")
            )
            first = f"{dtype.name:9} {k:6} {batch:6} {size:5} {channels:9}  "
            print(first, *columns, flush=True)
    print("Each pair: TensorFlow's op, product; GFLOP per CPU second.")


if __name__ == "__main__":
    main()
