"""Training on several devices or machines, with `tf.distribute`. Nothing about SpecGAN.

Batches are global: each replica takes its rows of every batch of data and of every
random draw, and gradients and values are averaged over replicas. So several replicas
compute what one process with the whole batch computes, and continue its checkpoints.

Workers are processes, each with the same number of devices; the chief is the first.
"""

import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from specgan_tf.errors import InputError

log = logging.getLogger("specgan_tf")

KINDS = ("none", "mirrored", "multiworker")
EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# Errors that the other workers get when one has ended; which one they get depends on
# what they were waiting for.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class LostWorker(ConnectionError):
    """Another worker has ended, and training cannot continue without it."""


def create(kind: str) -> tf.distribute.Strategy:
    """A strategy: one device, all devices of this machine, or those in TF_CONFIG.

    Args:
      kind: one of KINDS. Create a "multiworker" strategy before TensorFlow does
        anything else; it waits until all workers have started.

    Raises:
      InputError: TF_CONFIG is missing or wrong, or this worker cannot use its address.
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
    log.info("Worker at %s: waiting for the other workers in TF_CONFIG", own)
    # TensorFlow waits outside of Python, so Python's own handler would not run.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as e:
        reason = str(e).strip().splitlines()[0]
        raise InputError(f"TF_CONFIG: could not join as {own}: {reason}") from None
    finally:
        signal.signal(signal.SIGINT, handler)


def check_config(text: str) -> str:
    """Check TF_CONFIG, which must name all workers. Returns this worker's address."""
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
            "TF_CONFIG: a cluster may have worker and chief tasks only. "
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


# Functions of a strategy


def is_distributed(strategy: tf.distribute.Strategy) -> bool:
    mirrored = tf.distribute.MirroredStrategy
    return isinstance(strategy, (mirrored, tf.distribute.MultiWorkerMirroredStrategy))


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that saves and logs."""
    if not has_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def from_chief(strategy: tf.distribute.Strategy, value: np.ndarray) -> np.ndarray:
    """Send the chief's `value` to every worker, and return it.

    All workers must call this in the same order, with arrays of the same shape and
    dtype.
    """
    if not has_workers(strategy):
        return value
    with strategy.scope():  # variables made in it get the chief's value
        return np.array(tf.Variable(value, trainable=False).numpy())


def any_worker_of(strategy: tf.distribute.Strategy) -> Callable[[bool], bool]:
    """Return any_worker(flag): True if any worker passes True.

    All workers must call it equally often; each call waits for all of them.
    """
    if not has_workers(strategy):
        return bool

    @tf.function
    def count(flag):
        flags = strategy.run(lambda: tf.cast(flag, tf.float32))
        return strategy.reduce("SUM", flags, axis=None)

    return lambda flag: bool(count(tf.constant(bool(flag))) > 0)


def require_same(strategy: tf.distribute.Strategy, number: int, what: str) -> None:
    """Raise InputError, in all workers, if one worker's `number` is not the chief's."""
    differs = number != from_chief(strategy, np.int64(number))
    if any_worker_of(strategy)(differs):
        raise InputError(f"the workers do not have the same {what}")


def feed(
    strategy: tf.distribute.Strategy, make: Callable[[int, int], tf.data.Dataset]
) -> tf.data.Dataset:
    """The dataset for `fit`, distributed over the replicas.

    Args:
      make: make(i, n) returns an endless dataset of [updates, b / n, ...]: the i-th of
        n equal parts of every batch. Each worker calls it once, for its own part, and
        divides that among its devices.
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
        # Otherwise a strategy asks all workers at each step whether data is left.
        return x.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )

    return strategy.distribute_datasets_from_function(of_worker)


@contextlib.contextmanager
def reporting_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Context: raise `LostWorker` instead of TensorFlow's errors for a lost worker."""
    try:
        yield
    except LOST as e:
        if not has_workers(strategy):
            raise
        raise LostWorker(
            "another worker has ended or cannot be reached: look at its log, then "
            "start all workers again; they continue from the last checkpoint"
        ) from e


# Functions to call in a replica


def rows(draw: Callable[[int], tf.Tensor], n: int | tf.Tensor) -> tf.Tensor:
    """This replica's `n` rows of the random values that `draw(rows)` returns.

    Every replica draws the same values for all replicas, from the same state of the
    random generator.
    """
    here = tf.distribute.get_replica_context()
    if here.num_replicas_in_sync == 1:
        return draw(n)
    first = n * here.replica_id_in_sync_group
    return draw(n * here.num_replicas_in_sync)[first : first + n]


def shares(gradients: list) -> list:
    """Divide gradients by the number of replicas.

    Keras' optimizers add up the replicas' gradients; so their sum becomes their mean.
    """
    n = tf.distribute.get_replica_context().num_replicas_in_sync
    return gradients if n == 1 else [None if g is None else g / n for g in gradients]


def returned(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The form in which a `train_step` must return scalars: with workers, as [1].

    Then `fit` concatenates the workers' values, and takes their mean.
    """
    if not has_workers(tf.distribute.get_strategy()):
        return values
    return {name: tf.reshape(value, [1]) for name, value in values.items()}
