"""An export in OpenVINO, or converted by tf2onnx: run by benchmarks/readers.py.

    PYTHON benchmarks/foreign_reader.py SIGNATURE FILE IN.npz OUT.npz

SIGNATURE is the only one that FILE, a .tflite or an .onnx, has; a converted file tells
its own. IN and OUT are those of specgan_tf/export/artefact.py. The package itself is
not imported.
"""

import subprocess
import sys

import numpy as np

SIGNATURES = {
    "generate": ["z"],
    "invert": ["G_z_norm", "ngl"],
    "synthesize": ["z", "ngl"],
}
OUTPUTS = {"generate": "G_z_norm", "invert": "G_z", "synthesize": "G_z"}


def load(path, signature):
    """(signature, a function of inputs in order that returns the first output)."""
    try:
        import openvino
    except ImportError:
        return load_converted(path)
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", precision)
    return signature, lambda inputs: model(inputs)[0]


def load_converted(path):
    """As `load`, for a .tflite: tf2onnx converts its first signature."""
    import onnxruntime

    convert = [sys.executable, "-m", "tf2onnx.convert", "--tflite", path]
    subprocess.run([*convert, "--output", "converted.onnx"], check=True)
    cpu = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession("converted.onnx", providers=cpu)
    names = [x.name for x in session.get_inputs()]  # generate_z:0
    signature = names[0].partition("_")[0]
    return signature, lambda x: session.run(None, dict(zip(names, x, strict=True)))[0]


def main(signature, path, inputs, outputs):
    given, made = dict(np.load(inputs)), {}
    signature, call = load(path, signature)
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
