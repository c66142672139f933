"""What a `SpecGAN` is given, checked: networks, optimizers, data."""

import keras
import tensorflow as tf

from specgan_tf import spectral

# What the networks have to have, for SpecGAN to train them.
GENERATOR = "latent_dim", "use_batchnorm"
DISCRIMINATOR = "features", "logits", "use_batchnorm"


class Optimizers:
    """Both optimizers of a compiled `SpecGAN`, where Keras looks for one.

    `LearningRateScheduler` and `ReduceLROnPlateau` read and set `learning_rate`: it is
    G's, and D's keeps its ratio to it. For a rate of each network over time, give each
    optimizer a `keras.optimizers.schedules` one instead.
    """

    built = True

    def __init__(self, G, D):
        self.G, self.D, self.ratio = G, D, None

    @property
    def learning_rate(self):
        return self.G.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        before, D = (float(o.learning_rate.numpy()) for o in (self.G, self.D))
        if before:
            self.ratio = D / before
        self.G.learning_rate = value
        self.D.learning_rate = value if self.ratio is None else value * self.ratio

    @property
    def iterations(self):
        return self.G.iterations

    @property
    def variables(self):
        return self.G.variables + self.D.variables


def get_optimizer(name, optimizer):
    """A Keras optimizer, of what `compile` takes; None of None."""
    try:
        return keras.optimizers.get(optimizer)
    except (ValueError, TypeError):
        raise ValueError(
            f"{name} must be a Keras optimizer, or the name of one. "
            f"Received: {optimizer!r}"
        ) from None


def require_network(name, net, kind, attributes):
    """Refuse a network that has not got these."""
    missing = [a for a in attributes if not hasattr(net, a)]
    if missing:
        raise ValueError(
            f"{name} must be a {kind}, or have its {', '.join(attributes)}: "
            f"SpecGAN(G, D). Received: {net!r}, without {', '.join(missing)}"
        )


def frames(G, D):
    """Frames of the spectrograms that both networks have; a ValueError if they differ.

    A network that does not say is of the reference's length.
    """
    lengths = [getattr(net, "slice_len", spectral.SLICE_LEN) for net in (G, D)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"G and D must have one slice_len. Received: {lengths[0]}, {lengths[1]}"
        )
    return lengths[0] // spectral.NHOP


def wanted(n, frames):
    """What a dataset's elements have to be."""
    return (
        f"float32 [disc_nupdates, b, {frames}, 128, 1], here [{n}, b, {frames}, 128, 1]"
    )


def incomplete(n, frames):
    """The error for an element that holds another number of batches than `n`."""
    return (
        f"each element of the dataset must be {wanted(n, frames)}. Received: another "
        "number of batches; if Dataset.batch makes the elements, it needs "
        "drop_remainder=True"
    )


def checked(x, n, frames):
    """`x`, an element of a dataset: `n` real batches. Else it is a ValueError."""
    shape = tf.TensorShape([n, None, frames, 128, 1])
    if x.dtype != tf.float32 or not shape.is_compatible_with(x.shape):
        raise ValueError(
            f"each element of the dataset must be {wanted(n, frames)}. "
            f"Received: {tf.as_dtype(x.dtype).name} {x.shape}"
        )
    if x.shape[0] is None:  # known when it is there
        right = tf.debugging.assert_equal(tf.shape(x)[0], n, incomplete(n, frames))
        with tf.control_dependencies([right]):
            x = tf.reshape(x, [n, -1, frames, 128, 1])
    return x
