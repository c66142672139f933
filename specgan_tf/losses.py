"""The four losses and their optimizers, in one table.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 181-271. Pure functions
of tensors: `gan.py` owns the variables, and draws z and alpha.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from specgan_tf import tf1


def _cross_entropy(logits, label):
    labels = tf.fill(tf.shape(logits), tf.cast(label, logits.dtype))
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    )


# original: D's losses are halved, and G's are not.  [train_specgan.py:183-206]
def dcgan_D(D_x: tf.Tensor, D_G_z: tf.Tensor) -> tf.Tensor:
    return (_cross_entropy(D_G_z, 0.0) + _cross_entropy(D_x, 1.0)) / 2.0


def dcgan_G(D_G_z: tf.Tensor) -> tf.Tensor:
    return _cross_entropy(D_G_z, 1.0)


def lsgan_D(D_x: tf.Tensor, D_G_z: tf.Tensor) -> tf.Tensor:
    real = tf.reduce_mean(tf.square(D_x - 1.0))
    return (real + tf.reduce_mean(tf.square(D_G_z))) / 2.0


def lsgan_G(D_G_z: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(D_G_z - 1.0))


def wgan_D(D_x: tf.Tensor, D_G_z: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(D_G_z) - tf.reduce_mean(D_x)


def wgan_G(D_G_z: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_mean(D_G_z)


def gradient_penalty(
    D: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, G_z: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """Mean squared distance of D's slope from one, between real and generated.

    Args:
      D: callable, spectrograms [b, 128, 128, 1] -> logits [b].
      x, G_z: real and generated spectrograms, [b, 128, 128, 1].
      alpha: [b, 1, 1, 1] in [0, 1]; 0 takes the slope at x, 1 at G_z.

    Returns:
      (penalty [], slopes [b, 1]): the mean of (slopes - 1)^2, and the slopes.

    [train_specgan.py:226-235]
    """
    interpolates = x + alpha * (G_z - x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(interpolates)
        D_interp = D(interpolates)
    gradients = tape.gradient(D_interp, interpolates)
    # original: no epsilon inside the root.
    slopes = tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=[1, 2]))
    return tf.reduce_mean(tf.square(slopes - 1.0)), slopes


def _wgan_gp_optimizer():
    return tf1.Adam(1e-4, beta_1=0.5, beta_2=0.9)


@keras.saving.register_keras_serializable(package="specgan_tf")
@dataclasses.dataclass(frozen=True)
class Loss:
    """The losses of both networks, and how to train with them.

    A .keras file stores D and G as names of functions. To load it, pass
    `custom_objects={"hinge": hinge}`, or register the functions with
    `keras.saving.register_keras_serializable`.

    Attributes:
      D: (D_x, D_G_z) -> loss []; D's logits [b] for real and for generated
        spectrograms.
      G: (D_G_z) -> loss [].
      optimizer: () -> a new Keras optimizer; by default that of wgan-gp.
      penalty: factor of the gradient penalty in D's loss (the original's LAMBDA).
      clip: every variable of D is clipped to [-clip, clip] after each of its updates;
        None: no clipping.
      name: appears in logs and configurations.

    Examples:
      >>> def hinge(D_x, D_G_z):
      ...     return tf.reduce_mean(tf.nn.relu(1.0 - D_x) + tf.nn.relu(1.0 + D_G_z))
      >>> gan.compile(loss=losses.Loss(D=hinge, G=losses.wgan_G, name="hinge"))
    """

    D: Callable
    G: Callable
    optimizer: Callable = _wgan_gp_optimizer
    penalty: float = 0.0
    clip: float | None = None
    name: str = "custom"

    def get_config(self) -> dict:
        functions = {"D": self.D, "G": self.G}
        serialize = keras.saving.serialize_keras_object
        return {
            **{name: serialize(f) for name, f in functions.items()},
            "penalty": self.penalty,
            "clip": self.clip,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Loss":
        for name in ("D", "G"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


LOSSES = {
    "dcgan": Loss(dcgan_D, dcgan_G, lambda: tf1.Adam(2e-4, beta_1=0.5, beta_2=0.999)),
    "lsgan": Loss(lsgan_D, lsgan_G, lambda: tf1.RMSProp(1e-4)),
    "wgan": Loss(wgan_D, wgan_G, lambda: tf1.RMSProp(5e-5), clip=0.01),
    "wgan-gp": Loss(wgan_D, wgan_G, penalty=10.0),
}
# So that .keras files can name them.
for _function in {f for loss in LOSSES.values() for f in (loss.D, loss.G)}:
    keras.saving.register_keras_serializable(package="specgan_tf")(_function)
