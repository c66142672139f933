"""An export in OpenVINO, on its own: run by benchmarks/readers.py.

    PYTHON benchmarks/foreign_reader.py SIGNATURE FILE IN.npz OUT.npz

SIGNATURE is the only one that FILE, a .tflite or an .onnx, has. IN and OUT are those of
specgan_tf/export/artefact.py. Nothing of the package is imported.
"""

import sys

import numpy as np
import openvino

SIGNATURES = {
    "generate": ["z"],
    "invert": ["G_z_norm", "ngl"],
    "synthesize": ["z", "ngl"],
}
OUTPUTS = {"generate": "G_z_norm", "invert": "G_z", "synthesize": "G_z"}


def load(path):
    """A function of inputs in order that returns the first output."""
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", precision)
    return lambda inputs: model(inputs)[0]


def main(signature, path, inputs, outputs):
    given, made = dict(np.load(inputs)), {}
    call = load(path)
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
