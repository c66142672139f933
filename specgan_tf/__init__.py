"""SpecGAN in TensorFlow 2 and Keras 3: a port of chrisdonahue/wavegan's.

What is in it is imported when it is first asked for: TensorFlow takes seconds, reads
its environment as it is imported, and not every module needs it.
"""

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specgan_tf.gan import SpecGAN
    from specgan_tf.specgan import SpecGANDiscriminator, SpecGANGenerator
    from specgan_tf.weights.checkpoint import load_generator
    from specgan_tf.weights.folders import load_moments

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
    "load_generator": "weights.checkpoint",
    "load_moments": "weights.folders",
}
# Of ours, which choose the backend themselves; -m is python -m specgan_tf.something.
_COMMANDS = {
    *("-m", "train_specgan.py", "export.py"),
    *("specgan", "specgan-export", "specgan-serve"),
}


def _require_tensorflow():
    """Refuse Keras with another backend than TensorFlow, before it is imported."""
    if keras := sys.modules.get("keras"):
        backend = keras.config.backend()
    elif os.path.basename(sys.argv[0]) in _COMMANDS:
        os.environ["KERAS_BACKEND"] = backend = "tensorflow"
    else:
        backend = os.environ.get("KERAS_BACKEND") or _recorded_backend()
    if backend != "tensorflow":
        raise ImportError(
            f"specgan_tf runs on Keras' TensorFlow backend, and Keras is set to "
            f"{backend}: set KERAS_BACKEND=tensorflow before Keras is imported"
        )


def _recorded_backend():
    """The backend in keras.json, where Keras looks for it."""
    folder = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        with open(os.path.join(folder, "keras.json")) as f:
            return json.load(f).get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


_require_tensorflow()


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
