"""A trained generator and Griffin-Lim as ONNX: one graph a file, of any batch size.

`tf.signal` does not convert here either; the inversion is that of `tflite.f_to_t`.
"""

import importlib.util
import json
import os

import keras
import tensorflow as tf

from specgan_tf.errors import InputError
from specgan_tf.export import tflite
from specgan_tf.export.verify import ExportError
from specgan_tf.files import StrPath
from specgan_tf.moments import Moments
from specgan_tf.spectral import GRIFFIN_LIM, GriffinLim

OPSET = 15  # of 2021: readers of any age take it
IR_VERSION = 8  # the file format of that year
PACKAGES = "tf2onnx", "onnx", "onnxruntime"  # the extra `onnx`
SIGNATURES = "generate", "synthesize"
METADATA = "specgan"  # key of the JSON among the file's properties


def require() -> None:
    """Check that the packages are installed that converting and checking need.

    Raises:
      InputError: which, and how to install it.
    """
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"ONNX needs {name}, which is not installed: pip install '.[onnx]'"
            )


def save_onnx(
    G: keras.Model,
    moments: Moments,
    path: StrPath,
    signature: str,
    griffin_lim: GriffinLim = GRIFFIN_LIM,
    about: dict | None = None,
) -> None:
    """Write one signature as an .onnx file.

    Signatures:
      generate: z float32 [b, latent_dim] -> G_z_norm float32
        [b, slice_len / 128, 128, 1]
      synthesize: z, ngl int32 [] -> G_z float32 [b, slice_len, 1], which may exceed 1,
        and G_z_norm

    Args:
      G: generator.
      moments: its `moments.Moments`.
      griffin_lim: `spectral.GriffinLim`, whose ngl the signature takes instead.
      about: dict that goes into the file as JSON, for `metadata`.

    Raises:
      ExportError: ONNX does not know an operation, or weights were lost.
    """
    if signature not in SIGNATURES:
        raise ValueError(
            f"signature must be one of {SIGNATURES}. Received: {signature!r}"
        )
    import onnx
    import tf2onnx

    z = tf.TensorSpec([None, G.latent_dim], tf.float32, name="z")
    ngl = tf.TensorSpec([], tf.int32, name="ngl")

    def generate(z):
        G_z_norm = G(z, training=False)
        G_z_norm.set_shape(G.compute_output_shape([None, G.latent_dim]))
        return {"G_z_norm": G_z_norm}

    def synthesize(z, ngl):
        made = generate(z)
        inversion = griffin_lim._replace(ngl=ngl)
        return made | {"G_z": tflite.f_to_t(made["G_z_norm"], moments, inversion)}

    function, specs = {
        "generate": (generate, [z]),
        "synthesize": (synthesize, [z, ngl]),
    }[signature]
    traced = tf.function(function, input_signature=specs, autograph=False)
    with tflite.quiet():
        model, _ = tf2onnx.convert.from_function(traced, specs, opset=OPSET)
    model.ir_version = IR_VERSION
    del model.opset_import[:]  # tf2onnx names one more domain, which nothing uses
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    _name_the_batch(model.graph)
    _read_from_outside(model.graph)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about or {})})
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as e:
        reason = str(e).splitlines()[0]
        raise ExportError(f"{path} is not valid ONNX: {reason}") from None
    content = model.SerializeToString()
    if len(content) < 0.9 * 4 * G.count_params():
        raise ExportError(f"{path} came out without its weights: {len(content)} bytes")
    with open(path, "wb") as f:
        f.write(content)


def _name_the_batch(graph):
    """Call the free dimension "batch", which tf2onnx gives a number for each tensor."""
    for tensor in (*graph.input, *graph.output):
        for dimension in tensor.type.tensor_type.shape.dim[:1]:
            dimension.dim_param = "batch"


def _read_from_outside(graph):
    """Let loops read what never changes from the graph around them.

    tf2onnx hands it from step to step, and OpenVINO refuses such loops.
    """
    for loop in (node for node in graph.node if node.op_type == "Loop"):
        (body,) = (a.g for a in loop.attribute if a.name == "body")
        for i in reversed(range(2, len(loop.input))):  # after the count and condition
            inside, outside = body.input[i].name, loop.input[i]
            if body.output[i - 1].name != inside:
                continue
            for node in body.node:
                for k, name in enumerate(node.input):
                    if name == inside:
                        node.input[k] = outside
            del loop.input[i], loop.output[i - 2], body.input[i], body.output[i - 1]


def metadata(path: StrPath) -> dict:
    """The dict that `save_onnx` was told to put into a file."""
    import onnx

    for entry in onnx.load(os.fspath(path)).metadata_props:
        if entry.key == METADATA:
            return json.loads(entry.value)
    raise InputError(f"{path} has no SpecGAN metadata: export.py did not write it")
