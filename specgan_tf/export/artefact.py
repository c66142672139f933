"""Run an exported generator on its own; `specgan_tf.export.verify` starts this script.

    PYTHON specgan_tf/export/artefact.py ARTEFACT IN.npz OUT.npz

ARTEFACT is a SavedModel, a .tflite or an .onnx file. The script imports nothing of the
package, because artefacts are used without it. IN has z [n, latent_dim], G_z_norm
[n, 128, 128, 1] and ngl [m]. For each signature of the artefact, OUT gets the outputs
for all rows, under the name signature/output/ngl, and signature/ms, the milliseconds of
each row at the last ngl. Where the batch is free, the second half of the rows is
computed at once.
"""

import os
import sys
import time
from collections.abc import Callable

import numpy as np

SIGNATURES = {
    "generate": ["z"],
    "synthesize": ["z", "ngl"],
    "invert": ["G_z_norm", "ngl"],
}


def saved_model(path: str) -> dict[str, Callable]:
    """Signature name -> function: takes arrays by name, returns a dict of arrays."""
    import tensorflow as tf

    def of(signature):
        def call(**inputs):
            tensors = {name: tf.constant(x) for name, x in inputs.items()}
            return {name: t.numpy() for name, t in signature(**tensors).items()}

        return call

    signatures = tf.saved_model.load(path).signatures
    return {name: of(s) for name, s in signatures.items()}


def tflite(path: str) -> dict[str, Callable]:
    """As `saved_model`, for a .tflite file."""
    try:
        from ai_edge_litert.interpreter import Interpreter  # tf.lite's successor
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # loaded late: it cannot be imported by name
    interpreter = Interpreter(path, num_threads=1)
    names = interpreter.get_signature_list()
    return {name: interpreter.get_signature_runner(name) for name in names}


def onnx(path: str) -> dict[str, Callable]:
    """A file has one signature. Its inputs tell which."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    takes = [x.name for x in session.get_inputs()]
    names = [x.name for x in session.get_outputs()]

    def call(**inputs):
        made = session.run(None, {name: np.array(x) for name, x in inputs.items()})
        return dict(zip(names, made, strict=True))

    return {name: call for name, inputs in SIGNATURES.items() if inputs == takes}


def main(path: str, inputs: str, outputs: str) -> None:
    given = dict(np.load(inputs))
    load = onnx if path.endswith(".onnx") else tflite
    if os.path.isdir(path):
        load = saved_model
    signatures, free = load(path), load is not tflite
    n = len(given["z"])
    made = {}
    for name in SIGNATURES.keys() & signatures.keys():
        call, takes = signatures[name], SIGNATURES[name]
        for ngl in given["ngl"]:
            fixed = {"ngl": ngl} if "ngl" in takes else {}
            rows, milliseconds = [], []
            half = n - n // 2 if free else n
            parts = [slice(0, 1), *(slice(i, i + 1) for i in range(half))]
            if half < n:
                parts.append(slice(half, n))
            for part in parts:  # the first row runs twice, to warm up
                row = {k: given[k][part] for k in takes if k != "ngl"}
                start = time.perf_counter()
                rows.append(call(**row, **fixed))
                milliseconds.append(1000 * (time.perf_counter() - start))
            for output in rows[0]:
                values = np.concatenate([row[output] for row in rows[1:]])
                made[f"{name}/{output}/{ngl}"] = values
            made[f"{name}/ms"] = milliseconds[1 : 1 + half]
    np.savez(outputs, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
