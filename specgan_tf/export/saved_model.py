"""Write a trained generator as a SavedModel, for TensorFlow Serving.

The SavedModel replaces the original's MetaGraph; its signatures use the names of that
graph's tensors. Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 298-363.
"""

import json
import os

import keras
import tensorflow as tf

from specgan_tf import generate, spectral
from specgan_tf.export.tflite import quiet
from specgan_tf.export.verify import ExportError
from specgan_tf.files import StrPath
from specgan_tf.moments import Moments
from specgan_tf.spectral import GRIFFIN_LIM, GriffinLim

NAME = "specgan"  # the model's name on a server


class SpecGANModule(tf.Module):
    """The signatures of a SavedModel, for a generator and its moments.

    It tracks the generator's raw `tf.Variable`s; the Keras model is only in a closure.
    If it tracked the model too, every weight would be stored twice. If it tracked
    Keras' variables instead, a `.tflite` made of it would silently lack the weights.
    """

    def __init__(
        self,
        G: keras.Model,
        moments: Moments,
        griffin_lim: GriffinLim = GRIFFIN_LIM,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        latents = tf.TensorSpec([None, G.latent_dim], tf.float32, name="z")
        spectrograms = tf.TensorSpec(
            G.compute_output_shape([None, G.latent_dim]), tf.float32, name="G_z_norm"
        )

        def scalar(name):
            return tf.TensorSpec([], tf.int32, name=name)

        def synthesize(z, ngl):
            return generate.synthesize(G, moments, z, griffin_lim._replace(ngl=ngl))

        def generate_(z):
            return {"G_z_norm": G(z, training=False)}

        def flatten(z, ngl, flat_pad):
            G_z_flat = spectral.flatten(synthesize(z, ngl)["G_z"], flat_pad)
            G_z_flat_int16 = spectral.float_to_int16(G_z_flat)
            return {"G_z_flat": G_z_flat, "G_z_flat_int16": G_z_flat_int16}

        def sample(samp_z_n, seed):
            return {"samp_z": generate.sample_z(samp_z_n, G.latent_dim, seed)}

        def wav(z, ngl):
            def encode(
                G_z_int16,
            ):  # encode_wav multiplies by 2^15 and rounds: the same integers
                return tf.audio.encode_wav(
                    tf.cast(G_z_int16, tf.float32) / 32768, sample_rate
                )

            # Not G_z_int16, which clips peaks.
            G_z = spectral.turn_down(synthesize(z, ngl)["G_z"])
            G_z_int16 = spectral.float_to_int16(G_z)
            files = tf.map_fn(encode, G_z_int16, fn_output_signature=tf.string)
            return {"wav_bytes": files}  # _bytes: TensorFlow Serving makes it base64

        def invert(G_z_norm, ngl):
            return {"G_z": moments.f_to_t(G_z_norm, griffin_lim._replace(ngl=ngl))}

        def function(f, *specs):
            return tf.function(f, input_signature=specs)

        self._variables = [v.value for v in G.variables]
        self.synthesize = function(synthesize, latents, scalar("ngl"))
        self.generate = function(generate_, latents)
        self.flatten = function(flatten, latents, scalar("ngl"), scalar("flat_pad"))
        self.sample = function(sample, scalar("samp_z_n"), scalar("seed"))
        self.wav = function(wav, latents, scalar("ngl"))
        self.invert = function(invert, spectrograms, scalar("ngl"))


def save_saved_model(
    G: keras.Model,
    moments: Moments,
    path: StrPath,
    griffin_lim: GriffinLim = GRIFFIN_LIM,
    sample_rate: int = 16000,
    about: dict | None = None,
) -> None:
    """Write a SavedModel to the folder `path`, which TensorFlow Serving can load.

    Args:
      G: generator.
      moments: its `moments.Moments`.
      griffin_lim: window and momentum; the signatures have an input for ngl.
      sample_rate: Hz, for `wav`.
      about: dict to write to model.json in the folder.

    Signatures (their inputs; their outputs are dicts by these names):
      serving_default, synthesize: z float32 [b, latent_dim], ngl int32 [] -> G_z_norm,
        G_z, G_z_norm_uint8, G_z_int16, as in `generate.synthesize`: G_z may exceed 1
      generate: z -> G_z_norm
      flatten: z, ngl, flat_pad int32 [] -> G_z_flat, G_z_flat_int16 [n, 1]
      sample: samp_z_n int32 [], seed int32 [] -> samp_z [samp_z_n, latent_dim]
      wav: z, ngl -> wav_bytes string [b], 16-bit WAV files; a sound whose G_z exceeds
        1 is turned down
      invert: G_z_norm float32 [b, 128, 128, 1], ngl -> G_z float32 [b, 16384, 1]

    Raises:
      ExportError: weights are missing, or stored twice.
    """
    module = SpecGANModule(G, moments, griffin_lim, sample_rate)
    names = "synthesize", "generate", "flatten", "sample", "wav", "invert"
    signatures = {name: getattr(module, name) for name in names}
    with quiet():
        tf.saved_model.save(
            module, path, {"serving_default": module.synthesize, **signatures}
        )

    saved = tf.train.list_variables(os.path.join(path, "variables", "variables"))
    stored = sum(shape != [] for _, shape in saved)
    if stored != len(G.variables):
        raise ExportError(f"{path} holds {stored} variables, not {len(G.variables)}")
    _write_warm_up(path, generate.sample_z(1, G.latent_dim, seed=0))
    if about is not None:
        with open(os.path.join(path, "model.json"), "w") as f:
            json.dump(about, f, indent=2)


def _write_warm_up(path, z):
    """Write requests that TensorFlow Serving runs before it reports a model ready."""
    folder = os.path.join(path, "assets.extra")
    os.makedirs(folder)
    requests = (
        ("serving_default", {"z": z, "ngl": tf.constant(1)}),
        ("generate", {"z": z}),
        ("wav", {"z": z, "ngl": tf.constant(1)}),
    )
    with tf.io.TFRecordWriter(os.path.join(folder, "tf_serving_warmup_requests")) as f:
        for signature, inputs in requests:
            f.write(_prediction_log(signature, inputs))


def _prediction_log(signature, inputs):
    """A PredictionLog, encoded here so that tensorflow-serving-api is not needed."""

    def field(number, content):  # a length-delimited field of a protocol buffer
        length, varint = len(content), []
        while length > 127:
            varint.append(length & 127 | 128)
            length >>= 7
        return bytes([number << 3 | 2, *varint, length]) + content

    request = field(1, field(1, NAME.encode()) + field(3, signature.encode()))
    for name, tensor in inputs.items():
        proto = tf.make_tensor_proto(tensor).SerializeToString()
        request += field(2, field(1, name.encode()) + field(2, proto))
    return field(6, field(1, request))  # predict_log { request }
