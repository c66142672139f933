"""SpecGAN in TensorFlow 2 and Keras 3: a port of chrisdonahue/wavegan's."""

from specgan_tf.checkpoint import load_generator, load_moments
from specgan_tf.gan import SpecGAN
from specgan_tf.specgan import SpecGANDiscriminator, SpecGANGenerator

__version__ = "0.1.0"
__all__ = [
    "SpecGAN",
    "SpecGANDiscriminator",
    "SpecGANGenerator",
    "load_generator",
    "load_moments",
]
