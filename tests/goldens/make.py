"""Make the reduced goldens in this folder from the full set.

    python tests/goldens/make.py SRC [--original CHECKOUT --python PYTHON_WITH_TF1]

SRC holds what chrisdonahue/wavegan 40e85e8 computed, unmodified, under TensorFlow
1.12.0 (numpy 1.16.6, scipy 1.0.0, librosa 0.6.2, Python 3.6.15, on a CPU) from weights
and inputs drawn with numpy's RandomState(20181122). Reduced means:

* large results that are only compared, never replayed, keep every 7th value;
* slices, compared bit for bit, are kept as the SHA-256 of their bytes;
* recorded batches of real audio (`wav`, int16) are kept as FLAC, which is lossless;
* for upsample lin and cub, whose discriminator is that of zeros, only G is kept.

With --original, each training also gets `x`: the first batch's spectrogram as the
reference's own t_to_f computes it, by running the checkout under its TensorFlow. Near
the log floor float32 rounding of the two FFTs shows (see specgan_tf/crosscheck);
from the same `x` losses and gradients must agree far more closely than from the same
audio. And a few small records (kernel 3, dim 1, 10 latents) are computed, which SRC
lacks: layer by layer, initial values, optimizers alone, a slope by finite differences,
trainings whose checkpoint, by the reference's Saver, lies beside them, and an iteration
with pre-activations within rounding of zero.
"""

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile

import numpy as np
import soundfile

HERE = os.path.dirname(os.path.abspath(__file__))
STRIDE = 7
FILES = {
    "model_k5_dim2_bn0_zeros": "",
    "model_k5_dim2_bn1_nn": "",
    "model_k5_dim2_bn0_lin": "w/D x D D_grad_x",
    "model_k5_dim2_bn0_cub": "w/D x D D_grad_x",
    "spectral": "",
    "data": "",
    "infer": "G_z_flat",  # G_z_flat_int16 is kept
    "train_dcgan_bn0_zeros": "",
    "train_lsgan_bn0_zeros": "",
    "train_wgan_bn0_zeros": "",
    "train_wgan-gp_bn0_zeros": "",
    "train_wgan-gp_bn1_nn": "grad final",
}
SMALL = {  # name here -> name among the records of crosscheck.inputs
    "model_small": "model_k3_dim1_bn1_lin",
    "init_small": "init_k3_dim1_bn1_lin",
    "derivative_small": "derivative_wgan-gp_k3_dim1_bn1_lin",
    "optimizer_dcgan": "optimizer_dcgan",
    "optimizer_lsgan": "optimizer_lsgan",
    "optimizer_wgan": "optimizer_wgan",
    "optimizer_wgan-gp": "optimizer_wgan-gp",
    "continue_lsgan": "train_lsgan_k3_dim1_bn1_lin",
    "continue_wgan-gp": "train_wgan-gp_k3_dim1_bn0_zeros",
}
THINNED = "layer/ G_infer G_train D_grad_x audio_ G_z grad/ final/".split()

T_TO_F = """
import sys
import numpy as np, tensorflow as tf
sys.path.insert(0, sys.argv[1])
import train_specgan
d = np.load(sys.argv[2])
wav = tf.constant(d['wav'][0][:, :, np.newaxis].astype(np.float32) / 32768.)
x = train_specgan.t_to_f(wav, d['mean'], d['std'])
np.save(sys.argv[3], tf.Session().run(x))
"""


def reduce(name, golden, dropped):
    kept = {}
    for key, value in golden.items():
        if any(key == d or key.startswith(d + "/") for d in dropped.split()):
            continue
        if key.startswith("slices_"):
            digest = hashlib.sha256(value.tobytes()).hexdigest()
            kept[f"sha256/{key}"] = np.array([str(value.shape), digest])
        elif key.startswith(tuple(THINNED)) and value.size > 100:
            kept[key] = value.ravel()[::STRIDE]
        elif name == "train_wgan-gp_bn1_nn" and key in ("wav", "alpha"):
            kept[key] = value[:1]
        else:
            kept[key] = value
    if "wav" in kept:
        kept["wav.shape"] = np.array(kept["wav"].shape)
        kept["wav.flac"] = to_flac(kept.pop("wav"))
    return kept


def to_flac(samples):
    encoded = io.BytesIO()
    soundfile.write(encoded, samples.ravel(), 16000, format="FLAC", subtype="PCM_16")
    return np.frombuffer(encoded.getvalue(), np.uint8)


def original_x(checkout, python, path):
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "x.npy")
        subprocess.run([python, "-c", T_TO_F, checkout, path, out], check=True)
        return np.load(out)


def make_small(checkout, python):
    """The records of SMALL, with results, by name; checkpoints are put in place."""
    from specgan_tf.crosscheck.matrix import LOSSES, Cell, compute, inputs

    cells = [Cell(3, 1, True, "lin", 10, loss) for loss in LOSSES]
    cells.append(Cell(3, 1, False, "zeros", 10, "wgan-gp"))
    with tempfile.TemporaryDirectory() as d:
        given = inputs(cells, 20181122, os.path.join(d, "in"), b=1)
        out = compute(checkout, python, given, d)
        for name, source in SMALL.items():
            if name.startswith("continue_"):
                to = os.path.join(HERE, name)
                shutil.rmtree(to, ignore_errors=True)
                shutil.copytree(os.path.join(out, source), to)
            yield name, np.load(os.path.join(out, f"{source}.npz"))


AT_KINKS = "train_wgan-gp_at_kinks"


def make_at_kinks(checkout, python):
    """An iteration in which rounding decides on which side of their kinks units are.

    Two of D's biases are such that a unit of G(z) is zero but for rounding. Units that
    see silence are equal, so they all are.
    """
    from specgan_tf.crosscheck.matrix import Cell, compute, inputs
    from specgan_tf.crosscheck.records import Record, assign, by_scope, networks

    cell = Cell(3, 1, False, "zeros", 10, "wgan-gp")
    with tempfile.TemporaryDirectory() as d:
        given = inputs([cell], 20181122, os.path.join(d, "in"), b=1)
        arrays = next(a for name, a in given if name.startswith("train_"))
        n = arrays["disc_nupdates"]
        arrays |= {key: arrays[key][:n] for key in ("wav", "alpha")}
        arrays |= {"z": arrays["z"][: n + 1]}
        del arrays["save_at"]
        for layer in (3, 4):
            r = Record(arrays, "")
            G, D = networks(r)
            assign(G, r, "init/")
            assign(D, r, "init/")
            layers, _ = by_scope(D, G(r["z"][0]))
            after = np.asarray(layers[f"downconv_{layer}"])
            before = np.where(after > 0, after, after / np.float32(0.2))
            nearest = np.argsort(np.abs(before).ravel())[3]
            bias = arrays[f"init/D/downconv_{layer}/conv2d/bias"]
            bias[nearest % bias.size] -= before.ravel()[nearest]
        out = compute(checkout, python, [(AT_KINKS, arrays)], d)
        record = np.load(os.path.join(out, f"{AT_KINKS}.npz"))
        # Its `x` is enough.
        yield AT_KINKS, {k: v for k, v in record.items() if k != "wav"}


def write(name, kept):
    kept["provenance"] = np.array(__doc__)
    out = os.path.join(HERE, f"{name}.npz")
    np.savez_compressed(out, **kept)
    print(f"{os.path.getsize(out) / 1e6:.2f} MB  {name}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("src")
    p.add_argument("--original")
    p.add_argument("--python")
    args = p.parse_args()
    for name, dropped in FILES.items():
        path = os.path.abspath(os.path.join(args.src, f"{name}.npz"))
        kept = reduce(name, np.load(path), dropped)
        if name.startswith("train_") and args.original:
            kept["x"] = original_x(os.path.abspath(args.original), args.python, path)
        write(name, kept)
    if args.original:
        for name, record in make_small(args.original, args.python):
            kind = SMALL[name].partition("_")[0]
            record = dict(record)
            dropped = [k for k in record if re.match("final/.*/(RMS|Ad)", k)]
            if kind == "train":  # of the updates, the first gradients
                first = {k: v[0] for k, v in record.items() if "updates/grad/" in k}
                record |= {k.replace("updates/", ""): v for k, v in first.items()}
                dropped += ["x", "updates", "kinks"]
            kept = reduce(name, record, " ".join(dropped))
            if kind == "optimizer":  # every variable is alike
                kept = {k: v[..., :100] if v.ndim else v for k, v in kept.items()}
            write(name, {**kept, "record": np.array(kind)})
        for name, record in make_at_kinks(args.original, args.python):
            write(name, record)


if __name__ == "__main__":
    main()
