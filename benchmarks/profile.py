"""Where an update of D spends its time: python -m benchmarks.profile [DIM BATCH]

By TensorFlow's profiler, in half precision, on one thread. Prints milliseconds by kind
of op: each op's time is the first quartile of its runs, so that other work on the
machine counts little. Default: dim 64, batch 16.
"""

import collections
import glob
import os
import sys
import tempfile

RUNS = 8
KINDS = {  # how names of ops begin, by what they do
    "convolutions and products": ("Conv2D", "MatMul", "BatchMatMul"),
    "gradients of leaky ReLUs": ("LeakyRelu",),
    "casts": ("Cast",),
    "slices, copies": ("StridedSlice", "Slice", "Concat", "Pack", "Pad", "Transpose"),
    "Adam": ("ResourceApply",),
    "sums": ("Sum", "Mean", "AddN", "BiasAdd"),
}


def kind_of(op):
    op = op.removeprefix("_Mkl").removeprefix("Native").removeprefix("_")  # oneDNN's
    for kind, begins in KINDS.items():
        if op.removeprefix("Fused").startswith(begins):
            return kind
    return "the rest"


def profiled(step):
    """Kind of op -> milliseconds of one call of `step`."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(RUNS):
            step()
        tf.profiler.experimental.stop()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        with open(path, "rb") as f:
            space = xplane_pb2.XSpace.FromString(f.read())
    runs = collections.defaultdict(list)
    for plane in (p for p in space.planes if "CPU" in p.name):
        for event in (e for line in plane.lines for e in line.events):
            name = plane.event_metadata[event.metadata_id].name.partition("#")[0]
            node, colon, _ = name.rpartition(":")  # an op is NODE:TYPE
            if colon and not node.endswith(":") and not name.startswith("EagerLocal"):
                runs[name].append(event.duration_ps / 1e9)
    total = collections.Counter()
    for name, times in runs.items():
        total[kind_of(name.rpartition(":")[2])] += sorted(times)[len(times) // 4]
    return total


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    dim, batch = map(int, argv or (64, 16))
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    gan = SpecGAN(SpecGANGenerator(dim=dim), SpecGANDiscriminator(dim=dim), seed=0)
    gan.compile(mixed_precision=True)
    x = tf.random.uniform([batch, 128, 128, 1], -1, 1, seed=0)
    update = tf.function(
        lambda: gan.update_D(x, gan.draw_z(batch), gan.draw_alpha(x))["D_loss"]
    )
    update()
    found = profiled(update)
    print(f"an update of D, dim {dim}, batch {batch}: {sum(found.values()):.0f} ms")
    for kind, ms in found.most_common():
        print(f"{ms:8.0f}  {kind}")


if __name__ == "__main__":
    main()
