"""When is a product of matrices the faster convolution? python -m benchmarks.kernels

For layers of the networks, GFLOP per CPU second of each of the three sums in
`specgan_tf.kernels`: with TensorFlow's own op, and as a product. The limits in that
module (FORWARD, INPUT, FILTER) are the channels from which on the product wins.
"""

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


def compare(k, batch, size, channels):
    x = tf.random.normal([batch, size, size, channels])
    y = tf.random.normal([batch, size // 2, size // 2, channels * 2])
    w = tf.random.normal([k, k, channels, channels * 2])
    gflop = 2 * y[..., 0].shape.num_elements() * w.shape.num_elements() / 1e9
    graphs, seconds = {}, {}
    for limit in (10**9, 1):
        kernels.FORWARD = kernels.INPUT = kernels.FILTER = limit
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
    print("kernel  batch  size  channels     forward       input        filter")
    for k in (3, 5):
        for batch in (16, 64):
            for size, channels in ((16, 128), (8, 256), (16, 256), (8, 512)):
                rates = compare(k, batch, size, channels)
                columns = (
                    f"{rates[name, 10**9]:5.1f} {rates[name, 1]:5.1f}"
                    for name in ("forward", "input", "filter")
                )
                print(f"{k:6} {batch:6} {size:5} {channels:9}  ", *columns, flush=True)
    print("Each pair: TensorFlow's op, product; GFLOP per CPU second.")


if __name__ == "__main__":
    main()
