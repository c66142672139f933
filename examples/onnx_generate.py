#!/usr/bin/env python
"""Eight sounds of a synthesize.onnx that export.py wrote, without TensorFlow.

pip install onnxruntime numpy
python onnx_generate.py exported/synthesize.onnx sounds.wav
"""

import json
import sys
import wave

import numpy as np
import onnxruntime


def main(path, wav):
    session = onnxruntime.InferenceSession(path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["specgan"])
    z = np.random.default_rng(0).uniform(-1, 1, (8, about["latent_dim"]))
    ngl = np.array(about["ngl"], np.int32)  # Griffin-Lim steps
    (G_z,) = session.run(["G_z"], {"z": z.astype(np.float32), "ngl": ngl})
    G_z /= np.maximum(1, np.abs(G_z).max(axis=1, keepdims=True))  # no clipping
    with open(wav, "xb") as f, wave.open(f, "wb") as w:
        w.setparams((1, 2, about["sample_rate"], 0, "NONE", ""))
        w.writeframes((G_z * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except Exception as e:  # those of onnxruntime have no other class in common
        sys.exit(f"onnx_generate.py: {e}")
