"""A trained generator as SavedModel and TFLite, each loaded again and compared.

The SavedModel stands where the original had a MetaGraph; its signatures carry the names
of that graph's tensors. Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines
298-363.
"""

import contextlib
import os
import warnings

import numpy as np
import tensorflow as tf

from specgan_tf import generate, spectral
from specgan_tf.files import InputError

TOLERANCE = 1e-4  # largest difference from Keras that an artefact may show


class ExportError(InputError):
    """An artefact does not do what the Keras model does."""


class SpecGANModule(tf.Module):
    """What is saved: signatures over a generator and its moments.

    Holds the generator's raw `tf.Variable`s and hides the Keras model in a closure.
    Tracking the model as well would store every weight twice; tracking Keras' variables
    instead would convert to a `.tflite` without weights, silently.
    """

    def __init__(self, G, X_mean, X_std, window="hann", momentum=0.0):
        super().__init__()
        latents = tf.TensorSpec([None, G.latent_dim], tf.float32, name="z")

        def scalar(name):
            return tf.TensorSpec([], tf.int32, name=name)

        def synthesize(z, ngl):
            return generate.synthesize(G, X_mean, X_std, z, ngl, window, momentum)

        def generate_(z):
            return {"G_z_norm": G(z, training=False)}

        def flatten(z, ngl, flat_pad):
            G_z_flat = spectral.flatten(synthesize(z, ngl)["G_z"], flat_pad)
            G_z_flat_int16 = spectral.float_to_int16(G_z_flat)
            return {"G_z_flat": G_z_flat, "G_z_flat_int16": G_z_flat_int16}

        def sample(samp_z_n, seed):
            return {"samp_z": generate.sample_z(samp_z_n, G.latent_dim, seed)}

        def function(f, *specs):
            return tf.function(f, input_signature=specs)

        self._variables = [v.value for v in G.variables]
        self.synthesize = function(synthesize, latents, scalar("ngl"))
        self.generate = function(generate_, latents)
        self.flatten = function(flatten, latents, scalar("ngl"), scalar("flat_pad"))
        self.sample = function(sample, scalar("samp_z_n"), scalar("seed"))
        # Static batch: a dynamic one keeps TRANSPOSE_CONV out of TFLite's fast kernels.
        self.generate_one = tf.function(generate_).get_concrete_function(
            tf.TensorSpec([1, G.latent_dim], tf.float32, name="z")
        )


def save_saved_model(G, X_mean, X_std, path, window="hann", momentum=0.0):
    """Write a SavedModel to the folder `path` and compare it with Keras.

    Audio is compared before any Griffin-Lim step, relative to its peak if that is above
    one: the steps enlarge rounding, by any factor where a spectrogram is inconsistent.

    Args:
      G: generator; X_mean, X_std: its moments, float32 [129].
      window, momentum: of its Griffin-Lim, as in `spectral`.

    Signatures (their inputs; their outputs are dicts by these names):
      serving_default: z float32 [b, latent_dim], ngl int32 [] -> G_z_norm, G_z,
        G_z_norm_uint8, G_z_int16, as in `generate.synthesize`
      generate: z -> G_z_norm
      flatten: z, ngl, flat_pad int32 [] -> G_z_flat, G_z_flat_int16 [n, 1]
      sample: samp_z_n int32 [], seed int32 [] -> samp_z [samp_z_n, latent_dim]

    Returns:
      dict of the largest differences from Keras, per tensor.

    Raises:
      ExportError: what was written does not reproduce Keras.
    """
    module = SpecGANModule(G, X_mean, X_std, window, momentum)
    signatures = {
        "serving_default": module.synthesize,
        "generate": module.generate,
        "flatten": module.flatten,
        "sample": module.sample,
    }
    with _quiet():
        tf.saved_model.save(module, path, signatures=signatures)

    saved = tf.train.list_variables(os.path.join(path, "variables", "variables"))
    stored = sum(shape != [] for _, shape in saved)
    if stored != len(G.variables):
        raise ExportError(f"{path} holds {stored} variables, not {len(G.variables)}")
    loaded = tf.saved_model.load(path)
    z = generate.sample_z(4, G.latent_dim, seed=0)
    want = generate.synthesize(G, X_mean, X_std, z, 0, window)
    got = loaded.signatures["serving_default"](z=z, ngl=tf.constant(0))
    return _compare(path, {k: (got[k], want[k]) for k in ("G_z_norm", "G_z")})


def save_tflite(G, path):
    """Write the generator as float32 TFLite, builtin ops only; compare it with Keras.

    Input z float32 [1, latent_dim], output G_z_norm float32 [1, 128, 128, 1].

    Returns, raises: as `save_saved_model`.
    """
    # Any moments: this signature makes no audio.
    module = SpecGANModule(G, np.zeros(129, np.float32), np.ones(129, np.float32))
    with _quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [module.generate_one], module
        )
        content = converter.convert()
    if len(content) < 0.9 * 4 * G.count_params():
        raise ExportError(f"{path} came out without its weights: {len(content)} bytes")
    with open(path, "wb") as f:
        f.write(content)

    runner = _interpreter(path).get_signature_runner()
    z = generate.sample_z(4, G.latent_dim, seed=0).numpy()
    got = np.concatenate([runner(z=z[i : i + 1])["G_z_norm"] for i in range(len(z))])
    return _compare(path, {"G_z_norm": (got, G(z, training=False))})


def _interpreter(path):
    try:
        from ai_edge_litert.interpreter import Interpreter  # tf.lite's successor
    except ImportError:
        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tf.lite announcing its successor
        return Interpreter(path)


def _compare(path, tensors):
    errors = {}
    for name, (got, want) in tensors.items():
        got, want = np.asarray(got), np.asarray(want)
        peak = max(1.0, np.abs(want).max())
        errors[name] = float(np.abs(got - want).max() / peak)
    for name, error in errors.items():
        if not error <= TOLERANCE:  # NaN fails too
            raise ExportError(
                f"{path} does not reproduce Keras: {name} differs by {error:.2g}, more "
                f"than {TOLERANCE:.0e}"
            )
    return errors


@contextlib.contextmanager
def _quiet():
    """Without the converter's and saver's chatter about what they skip."""
    import absl.logging

    level = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        yield
    finally:
        absl.logging.set_verbosity(level)
