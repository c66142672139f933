#!/usr/bin/env python
"""Drums from an export's small generator, with numpy and ai-edge-litert alone.

pip install ai-edge-litert numpy
python embedded.py demo_out/export drums.wav
"""

import argparse
import json
import os
import statistics
import sys
import time
import wave

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter


def load(path, signature):
    """A function of a .tflite file, and what the file says of itself."""
    try:
        run = Interpreter(path).get_signature_runner(signature)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    with open(path, "rb") as f:
        model = schema.Model.GetRootAs(f.read())
    for entry in map(model.Metadata, range(model.MetadataLength())):
        if entry.Name() == b"specgan":
            about = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            return run, json.loads(about)
    raise ValueError(f"{path} was not written by export.py")


def to_int16(G_z):
    """A waveform as 16-bit samples; one that exceeds 1 is turned down, not clipped."""
    G_z = G_z / np.maximum(np.float32(1), np.abs(G_z).max())
    return (G_z * np.float32(32767)).astype("<i2")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "export", help="folder of generator.dr8.tflite and invert.f32.tflite"
    )
    p.add_argument("wav", help="file to write")
    p.add_argument("--n", type=int, default=8, help="sounds, one after the other")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    generate, about = load(
        os.path.join(args.export, "generator.dr8.tflite"), "generate"
    )
    invert, _ = load(os.path.join(args.export, "invert.f32.tflite"), "invert")
    z = np.random.default_rng(args.seed).uniform(-1, 1, (args.n, about["latent_dim"]))
    sounds, seconds = [], []
    for row in z.astype(np.float32):
        start = time.perf_counter()
        G_z_norm = generate(z=row[None])["G_z_norm"]
        made = invert(G_z_norm=G_z_norm, ngl=np.int32(about["ngl"]))
        sounds.append(to_int16(made["G_z"]))
        seconds.append(time.perf_counter() - start)
    with open(args.wav, "xb") as f, wave.open(f, "wb") as w:
        w.setparams((1, 2, about["sample_rate"], 0, "NONE", ""))
        w.writeframes(b"".join(sound.tobytes() for sound in sounds))
    print(
        f"{args.wav}: {args.n} sounds, {1000 * statistics.median(seconds):.1f} ms each"
    )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as e:
        sys.exit(f"embedded.py: {e}")
