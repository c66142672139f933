"""Training on several devices or machines, on `tf.distribute`. Nothing about SpecGAN.

A batch is the joint one, of all replicas: each takes its rows of it, of the data and
of every random draw, and gradients and values are means over all. So several replicas
train as one process with the joint batch does, and go on with its checkpoints.

Workers are processes, each with the same number of devices; the chief is the first.
"""

import contextlib
import json
import logging
import os
import signal

import numpy as np
import tensorflow as tf

from specgan_tf.files import InputError

log = logging.getLogger("specgan_tf")

KINDS = ("none", "mirrored", "multiworker")
EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# What the survivors are told, of a worker that ended. Which of them depends on what
# they were waiting for.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class LostWorker(ConnectionError):
    """Another worker has ended, and none can go on without it."""


def create(kind):
    """A strategy: of one device, all of this machine, or those of all in TF_CONFIG.

    "multiworker" has to come before TensorFlow does anything else, and waits until all
    workers are there.

    Raises:
      InputError: TF_CONFIG does not say who is who, or its address cannot be had.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}. Received: {kind!r}")
    if kind == "none":
        return tf.distribute.get_strategy()
    if kind == "mirrored":
        list_devices = tf.config.list_logical_devices
        devices = list_devices("GPU") or list_devices("CPU")
        return tf.distribute.MirroredStrategy([d.name for d in devices])
    own = check_config(os.environ.get("TF_CONFIG", ""))
    log.info("Worker at %s: waiting for all that TF_CONFIG names", own)
    # TensorFlow waits outside of Python, whose own handler would wait with it.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as e:
        reason = str(e).strip().splitlines()[0]
        raise InputError(f"TF_CONFIG: could not join as {own}: {reason}") from None
    finally:
        signal.signal(signal.SIGINT, handler)


def check_config(text):
    """This worker's address in TF_CONFIG, which must name it and all others."""
    if not text.strip():
        raise InputError(
            "multiworker needs TF_CONFIG in the environment of each worker, such as "
            f"'{EXAMPLE}'"
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
        for addresses in cluster.values():
            for address in addresses:
                host, _, port = address.rpartition(":")
                if isinstance(addresses, str) or not host or not 0 < int(port) < 65536:
                    raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"TF_CONFIG must be like '{EXAMPLE}'. Received: {text!r}"
        ) from None
    if not cluster or not cluster.keys() <= {"chief", "worker"}:
        raise InputError(
            "TF_CONFIG: a cluster is of worker and chief tasks. "
            f"Received: {', '.join(cluster) or 'none'}"
        )
    if len(cluster.get("chief", [0])) != 1:
        raise InputError("TF_CONFIG: there must be one chief, or none")
    tasks = [f"{k} {i}" for k, v in cluster.items() for i in range(len(v))]
    if f"{kind} {index}" not in tasks:
        raise InputError(
            f"TF_CONFIG: task must be one of {', '.join(tasks)}. "
            f"Received: {kind} {index}"
        )
    return cluster[kind][index]


# Of a strategy


def is_distributed(strategy):
    mirrored = tf.distribute.MirroredStrategy
    return isinstance(strategy, (mirrored, tf.distribute.MultiWorkerMirroredStrategy))


def has_workers(strategy):
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy):
    """Whether this process is the one that saves and speaks."""
    if not has_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def from_chief(strategy, value):
    """The chief's `value`, in every worker: an array of the same shape and type there.

    All workers must call this, in the same order.
    """
    if not has_workers(strategy):
        return value
    with strategy.scope():  # where variables begin with the chief's value
        return np.array(tf.Variable(value, trainable=False).numpy())


def anywhere(strategy):
    """A function of a flag: whether it is set in any worker.

    All workers must call it as often; it waits for them.
    """
    if not has_workers(strategy):
        return bool

    @tf.function
    def count(flag):
        flags = strategy.run(lambda: tf.cast(flag, tf.float32))
        return strategy.reduce("SUM", flags, axis=None)

    return lambda flag: bool(count(tf.constant(bool(flag))) > 0)


def require_same(strategy, number, what):
    """An `InputError`, in all workers, if one has another `number` than the chief."""
    differs = number != from_chief(strategy, np.int64(number))
    if anywhere(strategy)(differs):
        raise InputError(f"the workers do not have the same {what}")


def feed(strategy, make):
    """What `fit` takes, of `make(i, n)`: the i-th of n equal parts of every batch.

    make: -> `tf.data.Dataset`, endless, of [updates, b / n, ...]. Called once in each
      worker, for its part; each of its devices takes an equal part of that.
    """
    if not is_distributed(strategy):
        return make(0, 1)

    def of_worker(context):
        workers = context.num_input_pipelines
        devices = context.num_replicas_in_sync // workers
        x = make(context.input_pipeline_id, workers)
        if devices > 1:
            split = lambda x: tf.stack(tf.split(x, devices, axis=1))  # noqa: E731
            x = x.map(split).unbatch()
        # Said, or a strategy would ask all workers at each step whether there is more.
        return x.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )

    return strategy.distribute_datasets_from_function(of_worker)


@contextlib.contextmanager
def partners(strategy):
    """Makes `LostWorker` of what TensorFlow raises when another worker has ended."""
    try:
        yield
    except LOST as e:
        if not has_workers(strategy):
            raise
        raise LostWorker(
            "another worker has ended or cannot be reached: see what it said, then "
            "start all again; they go on from the last checkpoint"
        ) from e


# Of the replica in which they are called


def rows(draw, n):
    """This replica's `n` rows of what `draw(rows)` draws for all replicas together.

    All of them draw the same, from the same state of the generator.
    """
    here = tf.distribute.get_replica_context()
    if here.num_replicas_in_sync == 1:
        return draw(n)
    first = n * here.replica_id_in_sync_group
    return draw(n * here.num_replicas_in_sync)[first : first + n]


def shares(gradients):
    """Gradients of a mean over this replica's rows, as shares of that over all.

    Keras' optimizers add up what the replicas hand them.
    """
    n = tf.distribute.get_replica_context().num_replicas_in_sync
    return gradients if n == 1 else [None if g is None else g / n for g in gradients]


def returned(values):
    """What a `train_step` may return: `fit` takes means over axis 0 of the workers'."""
    if not has_workers(tf.distribute.get_strategy()):
        return values
    return {name: tf.reshape(value, [1]) for name, value in values.items()}
