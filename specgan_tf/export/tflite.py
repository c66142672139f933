"""Convert a trained generator and Griffin-Lim to TFLite, with builtin ops only.

`tf.signal` does not convert (Complex, IRFFT), so here the DFT is a product with a real
matrix. The batch size is one: with a dynamic one, TRANSPOSE_CONV would not use TFLite's
fast kernels.
"""

import contextlib
import copy
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import generate, spectral
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.moments import Moments
from specgan_tf.spectral import (
    GRIFFIN_LIM,
    NBINS,
    NFFT,
    NHOP,
    GriffinLim,
)

# How the generator's weights are stored; see `converting`.
VARIANTS = ("f32", "f16", "dr8", "int8")
TANH_REACH = 4.0  # tanh(4) is 0.9993
CALIBRATION = 100  # latents from which int8's scales are taken
METADATA = "specgan"  # name of the JSON in each file


class Conversion(InputError):
    """The converted file cannot be used."""


def dft_matrices(window: str) -> tuple[np.ndarray, np.ndarray]:
    """(analysis [256, 258], synthesis [258, 256]), float32, windows folded in.

    A spectrum is [re | im] with 129 bins each. `spectral` uses `tf.signal` instead.
    """
    n, k = np.arange(NFFT), np.arange(NBINS)
    angle = 2 * np.pi / NFFT * (np.outer(n, k) % NFFT)
    with tf.init_scope():  # numbers, even while a graph is traced
        windows = spectral.GL_WINDOWS["hann"], spectral.GL_WINDOWS[window]
        hann, synthesis_window = (w(NFFT, dtype=tf.float64).numpy() for w in windows)
    analysis = np.concatenate([np.cos(angle), -np.sin(angle)], 1)
    # Each bin also counts for its mirror image.
    twice = np.where((k == 0) | (k == NBINS - 1), 1, 2)
    synthesis = np.concatenate([np.cos(angle) * twice, -np.sin(angle) * twice], 1).T
    analysis = analysis * hann[:, None]
    synthesis = synthesis / NFFT * synthesis_window
    return analysis.astype(np.float32), synthesis.astype(np.float32)


def f_to_t(
    X_norm: tf.Tensor, moments: Moments, griffin_lim: GriffinLim = GRIFFIN_LIM
) -> tf.Tensor:
    """`Moments.f_to_t` for spectrograms [b, 128, 128, 1], with real numbers only.

    A batch of one is computed with products of two matrices, which TFLite does fast.
    """
    ngl, window, momentum = griffin_lim
    analysis, synthesis = map(tf.constant, dft_matrices(window))
    batch = [] if X_norm.shape[0] == 1 else [slice(None)]
    X_norm = X_norm[(*(batch or [0]), slice(None), slice(None), 0)]

    def cut(x, rows=slice(None), columns=slice(None)):
        return x[(*batch, rows, columns)]

    def pad(x, *ends):
        return tf.pad(x, [[0, 0] for _ in batch] + [*ends])

    X_norm = pad(X_norm, [0, 0], [0, 1])
    X_norm = X_norm * moments.clip_nstd
    X_mag = tf.exp(X_norm * moments.std + moments.mean)  # [..., 128, 129]
    if spectral.subtracts_log_eps(moments.log_eps):
        X_mag = tf.maximum(X_mag - moments.log_eps, 0.0)

    def inverse_stft(X):
        """[..., 128, 258] -> hops [..., 129, 128]."""
        frames = tf.matmul(X, synthesis)
        first = cut(frames, columns=slice(NHOP))
        second = cut(frames, columns=slice(NHOP, None))
        return pad(first, [0, 1], [0, 0]) + pad(second, [1, 0], [0, 0])

    def step(i, X_best, X_prev):
        x = inverse_stft(X_best)
        frames = tf.concat([cut(x, slice(-1)), cut(x, slice(1, None))], axis=-1)
        X_est = tf.matmul(frames, analysis)
        ahead = X_est + momentum * (X_est - X_prev) if momentum else X_est
        re = cut(ahead, columns=slice(NBINS))
        im = cut(ahead, columns=slice(NBINS, None))
        gain = X_mag / tf.sqrt(tf.maximum(re * re + im * im, 1e-16))
        X_next = ahead * tf.concat([gain, gain], axis=-1)
        return i + 1, X_next, X_est if momentum else X_prev

    X = tf.concat([X_mag, tf.zeros_like(X_mag)], axis=-1)
    _, X, _ = tf.while_loop(
        lambda i, *_: i < ngl, step, [tf.constant(0), X, X if momentum else 0.0]
    )
    first = 1 if moments.pad_front else 0  # of 129 hops; the padding is cut off
    frames = X_mag.shape[-2]
    hops = cut(inverse_stft(X), slice(first, first + frames))
    return tf.reshape(hops, [-1, frames * NHOP, 1])


class _Module(tf.Module):
    """Signatures with batch one. Like SpecGANModule, it tracks G's raw variables."""

    def __init__(self, G, moments, griffin_lim):
        super().__init__()
        z = tf.TensorSpec([1, G.latent_dim], tf.float32, name="z")
        shape = G.compute_output_shape([1, G.latent_dim])
        X_norm = tf.TensorSpec(shape, tf.float32, name="G_z_norm")
        ngl = tf.TensorSpec([], tf.int32, name="ngl")

        def audio(X_norm, ngl):
            return {"G_z": f_to_t(X_norm, moments, griffin_lim._replace(ngl=ngl))}

        def spectrogram(z):
            return {"G_z_norm": G(z, training=False)}

        def both(z, ngl):
            made = spectrogram(z)
            return made | audio(made["G_z_norm"], ngl)

        self._variables = [v.value for v in G.variables]
        self.functions = {
            name: tf.function(f, input_signature=specs, autograph=False)
            for name, f, specs in (
                ("generate", spectrogram, [z]),
                ("synthesize", both, [z, ngl]),
                ("invert", audio, [X_norm, ngl]),
            )
        }


def equalized(G: keras.Model, z: np.ndarray) -> keras.Model:
    """A generator that computes the same, suited to dr8 and int8: new, or G itself.

    There all channels of an activation share one scale. Channels that are much
    quieter than the loudest fall between two steps. ReLU(x / s) is ReLU(x) / s, so a
    channel can be divided by its own largest value, and the next kernel multiplied by
    it. With batch normalization G is returned unchanged.

    Args:
      z: float32 [n, latent_dim], latents that show how large each channel becomes.
    """
    if G.use_batchnorm:
        return G
    twin = type(G).from_config(G.get_config())
    for v, value in zip(twin.variables, G.variables, strict=True):
        v.assign(value)
    blocks, x = [twin.z_project, *twin.upconvs], tf.constant(z)
    for block, after in itertools.pairwise(blocks):
        x = tf.nn.relu(block(x))
        largest = tf.reduce_max(x, axis=[0, 1, 2])
        largest = tf.maximum(largest, 1e-3 * tf.reduce_max(largest))
        scale = largest / tf.exp(tf.reduce_mean(tf.math.log(largest)))
        x = x / scale
        kernel, bias = block.trainable_variables
        # [..., out, in] of a transposed convolution, else [..., in, out].
        transposed = G.upsample == "zeros"
        if block is twin.z_project:  # its outputs are a grid times the channels
            outputs = tf.tile(scale, [bias.shape[0] // scale.shape[0]])
            kernel.assign(kernel / outputs)
            bias.assign(bias / outputs)
        else:
            kernel.assign(kernel / (scale[:, tf.newaxis] if transposed else scale))
            bias.assign(bias / scale)
        kernel = after.trainable_variables[0]
        kernel.assign(kernel * (scale if transposed else scale[:, tf.newaxis]))
    return twin


@contextlib.contextmanager
def converting(
    G: keras.Model,
    moments: Moments,
    griffin_lim: GriffinLim = GRIFFIN_LIM,
    about: dict | None = None,
) -> Iterator[Callable]:
    """Context: a function of (path, signatures, variant) that writes .tflite files.

    Signatures, with batch one:
      generate: z float32 [1, latent_dim] -> G_z_norm float32 [1, 128, 128, 1]
      synthesize: z, ngl int32 [] -> G_z_norm, G_z float32 [1, 16384, 1]
      invert: G_z_norm, ngl -> G_z

    Args:
      G: generator.
      moments: its `moments.Moments`.
      griffin_lim: window and momentum; the signatures have an input for ngl.
      about: dict that is stored in the files as JSON, for `metadata`.

    The variant says how the generator's weights are stored: "f32", "f16", "dr8" (int8,
    with sums in float32) or "int8" (activations too; latents of this generator give
    their ranges). The function raises Conversion if weights are lost, or if ops are not
    builtin.
    """
    with tempfile.TemporaryDirectory() as folder:
        module = _Module(G, moments, griffin_lim)
        with quiet():
            tf.saved_model.save(module, folder, signatures=module.functions)

        def convert(path, signatures, variant="f32"):
            saved = folder
            if variant in ("dr8", "int8"):
                saved = os.path.join(folder, variant)
                z = generate.sample_z(CALIBRATION, G.latent_dim, seed=1).numpy()
                module = _Module(equalized(G, z), moments, griffin_lim)
                with quiet():
                    tf.saved_model.save(module, saved, signatures=module.functions)
            _convert(saved, G, about or {}, path, signatures, variant)

        yield convert


def _convert(saved_model, G, about, path, signatures, variant):
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant!r}")
    converter = tf.lite.TFLiteConverter.from_saved_model(
        saved_model, signature_keys=list(signatures)
    )
    if variant != "f32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "f16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        z = generate.sample_z(CALIBRATION, G.latent_dim, seed=1).numpy()
        converter.representative_dataset = lambda: ({"z": row[None]} for row in z)
        builtin = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [builtin]
    with quiet():
        content = converter.convert()
    content = _finished(content, about | {"weights": variant})
    width = {"f32": 4, "f16": 2}.get(variant, 1)
    if set(signatures) != {"invert"} and len(content) < 0.9 * width * G.count_params():
        raise Conversion(
            f"{path} was converted without its weights: {len(content)} bytes"
        )
    with open(path, "wb") as f:
        f.write(content)
    foreign = {op for op in ops(path) if op.startswith("CUSTOM")}
    if foreign:
        raise Conversion(f"{path} needs ops that are not builtin: {', '.join(foreign)}")


def _finished(content, about):
    """The converter's file with `about` added, and ops that every reader runs right."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    _unfuse_relu(model, schema)
    _narrow_tanh(model, schema)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(json.dumps(about).encode())
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _unfuse_relu(model, schema):
    """Give each ReLU within a TRANSPOSE_CONV its own op.

    OpenVINO silently ignores a ReLU there. XNNPACK fuses the two ops again, so they
    take no longer. In int8 the range of the output cuts off negative values anyway.
    """
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    if schema.BuiltinOperator.TRANSPOSE_CONV not in codes:
        return
    relu = schema.OperatorCodeT()
    relu.builtinCode = relu.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    relu.version = 1
    model.operatorCodes.append(relu)
    activation = schema.ActivationFunctionType
    for graph in model.subgraphs:
        operators, graph.operators = graph.operators, []
        for op in operators:
            graph.operators.append(op)
            output, options = graph.tensors[op.outputs[0]], op.builtinOptions
            if (
                codes[op.opcodeIndex] != schema.BuiltinOperator.TRANSPOSE_CONV
                or options.fusedActivationFunction != activation.RELU
                or output.type != schema.TensorType.FLOAT32
            ):
                continue
            between = copy.copy(output)
            between.name = output.name + b"/before_relu"
            graph.tensors.append(between)
            after = schema.OperatorT()
            after.opcodeIndex = len(codes)
            after.inputs, after.outputs = [len(graph.tensors) - 1], op.outputs
            op.outputs = after.inputs
            options.fusedActivationFunction = activation.NONE
            graph.operators.append(after)


def _narrow_tanh(model, schema):
    """In int8, limit the range of tanh's input to [-4, 4].

    Silence is -1, for which a generator learns inputs far below -4. Most of int8's 256
    steps would cover a range where tanh is -1 within its own step of 1/128.
    """
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    for graph in model.subgraphs:
        for op in graph.operators:
            tensor = graph.tensors[op.inputs[0]] if len(op.inputs) else None
            if (
                codes[op.opcodeIndex : op.opcodeIndex + 1]
                == [schema.BuiltinOperator.TANH]
                and tensor.type == schema.TensorType.INT8
                and tensor.quantization.scale[0] > TANH_REACH / 127
            ):
                tensor.quantization.scale = [TANH_REACH / 127]
                tensor.quantization.zeroPoint = [0]
                tensor.quantization.min = tensor.quantization.max = None


def metadata(path: StrPath) -> dict:
    """The dict `about` that `converting` stored in a file."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    for entry in model.metadata or []:
        if entry.name in (METADATA, METADATA.encode()):
            return json.loads(bytes(model.buffers[entry.buffer].data))
    raise InputError(f"{path} has no metadata of a SpecGAN")


def interpreter(path: StrPath, threads: int = 1) -> Any:
    """An interpreter of ai-edge-litert, tf.lite's successor, or else of tf.lite."""
    import warnings

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tf.lite announces its successor
        return Interpreter(os.fspath(path), num_threads=threads)


def ops(path: StrPath) -> set[str]:
    """Names of a file's ops, including those in the subgraphs of loops."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
    found = set()
    for code in model.operatorCodes:
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found.add(f"{name} {code.customCode}" if name == "CUSTOM" else name)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context: discard the messages of the converter and the saver."""
    import warnings

    import absl.logging

    level = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    sys.stderr.flush()
    stderr = os.dup(2)  # C++ writes there; errors are raised
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # int8: as in `interpreter`
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
        absl.logging.set_verbosity(level)
