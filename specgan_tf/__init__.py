"""SpecGAN in TensorFlow 2 and Keras 3: a port of chrisdonahue/wavegan's.

>>> from specgan_tf import generate, render
>>> from specgan_tf import load_generator, load_griffin_lim, load_moments
>>> G, moments = load_generator("drums"), load_moments("drums")
>>> z = generate.sample_z(16, G.latent_dim, seed=0)
>>> audio = render(G, moments, z, load_griffin_lim("drums"))["G_z"]
>>> audio.shape  # float32, 16 kHz
(16, 16384, 1)

The names below are public. docs/PYTHON.md shows them at work, and docs/ARCHITECTURE.md
maps the modules: networks in `specgan`, one training step in `gan`, losses in `losses`,
spectrograms and Griffin-Lim in `spectral`, latents and sounds in `generate`, audio
files in `loader`, checkpoints in `weights`.
"""

# Names and modules are imported when they are first asked for: TensorFlow takes
# seconds, reads its environment as it is imported, and not every module needs it.

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specgan_tf.errors import InputError
    from specgan_tf.gan import SpecGAN
    from specgan_tf.generate import render
    from specgan_tf.loader.decode import decode_audio
    from specgan_tf.specgan import SpecGANDiscriminator, SpecGANGenerator
    from specgan_tf.spectral import GriffinLim, f_to_t, t_to_f
    from specgan_tf.weights.checkpoint import load_generator
    from specgan_tf.weights.folders import load_griffin_lim, load_moments

__version__ = "0.1.0"
__all__ = [
    "GriffinLim",
    "InputError",
    "SpecGAN",
    "SpecGANDiscriminator",
    "SpecGANGenerator",
    "decode_audio",
    "f_to_t",
    "load_generator",
    "load_griffin_lim",
    "load_moments",
    "render",
    "t_to_f",
]
_HOMES = {
    "GriffinLim": "spectral",
    "InputError": "errors",
    "SpecGAN": "gan",
    "SpecGANDiscriminator": "specgan",
    "SpecGANGenerator": "specgan",
    "decode_audio": "loader.decode",
    "f_to_t": "spectral",
    "load_generator": "weights.checkpoint",
    "load_griffin_lim": "weights.folders",
    "load_moments": "weights.folders",
    "render": "generate",
    "t_to_f": "spectral",
}
# Our commands, which choose the backend themselves; -m: python -m specgan_tf.something.
_COMMANDS = {
    *("-m", "train_specgan.py", "export.py"),
    *("specgan", "specgan-export", "specgan-serve"),
}


def _require_tensorflow():
    """Refuse other Keras backends than TensorFlow, before Keras is imported."""
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
    """The backend in keras.json, in the folder where Keras looks for it."""
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
