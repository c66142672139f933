"""Checks of the arguments of a `SpecGAN`: networks, optimizers, data."""

import types
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import losses, spectral

# Attributes that SpecGAN uses of its networks.
GENERATOR = "latent_dim", "use_batchnorm"
DISCRIMINATOR = "features", "logits", "use_batchnorm"


class Optimizers:
    """Both optimizers of a compiled `SpecGAN`, as the one that Keras expects.

    `LearningRateScheduler` and `ReduceLROnPlateau` read and set `learning_rate`. It is
    G's rate, and D's rate keeps its ratio to it. For rates that change independently,
    give each optimizer a schedule (`keras.optimizers.schedules`) instead.
    """

    built = True

    def __init__(
        self, G: keras.optimizers.Optimizer, D: keras.optimizers.Optimizer
    ) -> None:
        self.G, self.D, self.ratio = G, D, None

    @property
    def learning_rate(self) -> tf.Variable:
        return self.G.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        before, D = (float(o.learning_rate.numpy()) for o in (self.G, self.D))
        if before:
            self.ratio = D / before
        self.G.learning_rate = value
        self.D.learning_rate = value if self.ratio is None else value * self.ratio

    @property
    def iterations(self) -> tf.Variable:
        return self.G.iterations

    @property
    def variables(self) -> list:
        return self.G.variables + self.D.variables


def require_training(
    loss: str | losses.Loss, ema_momentum: float, G: keras.Model, D: keras.Model
) -> None:
    """Refuse arguments and settings with which `compile` cannot work."""
    if not isinstance(loss, losses.Loss) and loss not in losses.LOSSES:
        raise ValueError(
            f"loss must be one of {sorted(losses.LOSSES)}, or a losses.Loss. "
            f"Received: {loss!r}"
        )
    if keras.config.floatx() != "float32":
        raise ValueError(
            "a SpecGAN trains in float32: call keras.config.set_floatx('float32') "
            f"first. Received: floatx {keras.config.floatx()}"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1 and (G.use_batchnorm or D.use_batchnorm):
        raise ValueError(
            "networks with batch norm must be trained by one replica, which sees "
            f"whole batches. Received: a strategy of {replicas}"
        )
    if not 0.0 <= ema_momentum < 1.0:
        raise ValueError(f"ema_momentum must be in [0, 1). Received: {ema_momentum!r}")


def get_optimizer(
    name: str, optimizer: object, loss: losses.Loss
) -> keras.optimizers.Optimizer:
    """The Keras optimizer that `compile` was given; for None, the loss's own."""
    try:
        optimizer = keras.optimizers.get(optimizer)
    except (ValueError, TypeError):
        raise ValueError(
            f"{name} must be a Keras optimizer, or the name of one. "
            f"Received: {optimizer!r}"
        ) from None
    return optimizer or loss.optimizer()


def require_network(
    name: str, net: object, kind: str, attributes: Sequence[str]
) -> None:
    """Refuse a network without these attributes."""
    missing = [a for a in attributes if not hasattr(net, a)]
    if missing:
        raise ValueError(
            f"{name} must be a {kind}, or have its {', '.join(attributes)}: "
            f"SpecGAN(G, D). Received: {net!r}, without {', '.join(missing)}"
        )


def require_positive_integer(name: str, value: object) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"{name} must be a positive integer. Received: {value!r}")


def frames(G: keras.Model, D: keras.Model) -> int:
    """Frames of the spectrograms that both networks have; a ValueError if they differ.

    A network without a slice_len has the reference's.
    """
    lengths = [getattr(net, "slice_len", spectral.SLICE_LEN) for net in (G, D)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"G and D must have one slice_len. Received: {lengths[0]}, {lengths[1]}"
        )
    return lengths[0] // spectral.NHOP


def refuse_array(x: object, n: int, frames: int) -> None:
    """Refuse an array or a generator in place of a dataset; tell how to make one."""
    if isinstance(x, (np.ndarray, tf.Tensor)):
        received, make = f"an array of shape {tuple(x.shape)}", "from_tensor_slices"
    elif isinstance(x, (list, tuple)):
        received, make = f"a {type(x).__name__}", "from_tensor_slices"
    elif isinstance(x, types.GeneratorType):
        received, make = "a generator", "from_generator"
    else:
        return
    raise ValueError(
        f"fit takes a tf.data.Dataset of iterations, {wanted(n, frames)}; "
        f"tf.data.Dataset.{make} makes one. Received: {received}"
    )


def wanted(n: int, frames: int) -> str:
    """Shape and dtype of a dataset's elements."""
    return (
        f"float32 [disc_nupdates, b, {frames}, 128, 1], here [{n}, b, {frames}, 128, 1]"
    )


def incomplete(n: int, frames: int) -> str:
    """The error for an element that holds another number of batches than `n`."""
    return (
        f"each element of the dataset must be {wanted(n, frames)}. Received: another "
        "number of batches; if Dataset.batch makes the elements, it needs "
        "drop_remainder=True"
    )


def checked(x: tf.Tensor, n: int, frames: int) -> tf.Tensor:
    """`x`, an element of a dataset, if it is `n` real batches; else a ValueError."""
    shape = tf.TensorShape([n, None, frames, 128, 1])
    if x.dtype != tf.float32 or not shape.is_compatible_with(x.shape):
        raise ValueError(
            f"each element of the dataset must be {wanted(n, frames)}. "
            f"Received: {tf.as_dtype(x.dtype).name} {x.shape}"
        )
    if x.shape[0] is None:  # known only when the step runs
        right = tf.debugging.assert_equal(tf.shape(x)[0], n, incomplete(n, frames))
        with tf.control_dependencies([right]):
            x = tf.reshape(x, [n, -1, frames, 128, 1])
    return x
