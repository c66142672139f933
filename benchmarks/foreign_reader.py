"""A .tflite file in another runtime, on its own: run by benchmarks/readers.py.

    PYTHON benchmarks/foreign_reader.py RUNTIME SIGNATURE FILE IN.npz OUT.npz

RUNTIME is openvino or onnx; SIGNATURE, generate or invert, is the only one that FILE
has. IN and OUT are those of specgan_tf/export/artefact.py. Nothing of the package is
imported.
"""

import subprocess
import sys

import numpy as np

SIGNATURES = {"generate": ["z"], "invert": ["G_z_norm", "ngl"]}
OUTPUTS = {"generate": "G_z_norm", "invert": "G_z"}


def openvino(path):
    import openvino

    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", precision)
    return lambda inputs: model(inputs)[0]


def onnx(path):
    import onnxruntime

    argv = ["-m", "tf2onnx.convert", "--tflite", path, "--output", f"{path}.onnx"]
    done = subprocess.run(
        [sys.executable, *argv, "--opset", "18"], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    session = onnxruntime.InferenceSession(f"{path}.onnx")
    names = [x.name for x in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def main(runtime, signature, path, inputs, outputs):
    given, made = dict(np.load(inputs)), {}
    call = {"openvino": openvino, "onnx": onnx}[runtime](path)
    takes = SIGNATURES[signature]
    for ngl in given["ngl"]:
        rows = []
        for i in range(len(given["z"])):
            row = [given[k][i : i + 1] if k != "ngl" else np.array(ngl) for k in takes]
            rows.append(call(row))
        made[f"{signature}/{OUTPUTS[signature]}/{ngl}"] = np.concatenate(rows)
    np.savez(outputs, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
