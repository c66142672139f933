"""SpecGAN in TensorFlow 2 and Keras 3: a port of chrisdonahue/wavegan's.

What is in it is imported when it is first asked for: TensorFlow takes seconds, reads
its environment as it is imported, and not every module needs it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
_HOMES = {
    "SpecGAN": "gan",
    "SpecGANDiscriminator": "specgan",
    "SpecGANGenerator": "specgan",
    "load_generator": "checkpoint",
    "load_moments": "checkpoint",
}


def __getattr__(name):
    """A public name, or a module."""
    module = f"{__name__}.{_HOMES.get(name, name)}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(found, name) if name in _HOMES else found


def __dir__():
    return sorted({*globals(), *__all__})
