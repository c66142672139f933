"""Which programs read what export.py writes?

    python -m benchmarks.readers docs/READERS.md

Each reader is installed into a virtual environment of its own, with pip, and given the
exported bundled model and latents. What it makes is held against Keras. It takes some
minutes and gigabytes; --only names some of the readers, and with --add their rows join
the table that is there.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from specgan_tf.cli import export as export_script
from specgan_tf.export import verify
from specgan_tf.files import replacing
from specgan_tf.weights import bundled

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ARTEFACT = os.path.join(ROOT, "specgan_tf", "export", "artefact.py")
FOREIGN = os.path.join(ROOT, "benchmarks", "foreign_reader.py")
FILES = ["generator.f32", "generator.f16", "generator.dr8", "generator.int8"]
FILES += ["synthesize.f32", "invert.f32"]
FILES = [f"{name}.tflite" for name in FILES]
ONNX = ["generator.onnx", "synthesize.onnx"]

# Reader -> (what pip installs, what it reads)
READERS = {
    "OpenVINO": (["openvino"], [f for f in FILES if f[0] != "s"] + ONNX),
    "ai-edge-litert 2.3.0": (["ai-edge-litert==2.3.0"], FILES),
    "ai-edge-litert 1.1.2": (["ai-edge-litert==1.1.2"], FILES),
    "ai-edge-litert 1.0.1": (["ai-edge-litert==1.0.1", "numpy<2"], FILES),
    "tf2onnx": (["tf2onnx==1.17.*", "onnxruntime", "tensorflow==2.21.*"], FILES),
    "onnxruntime": (["onnxruntime", "numpy"], ONNX),
    "onnxruntime 1.16": (["onnxruntime==1.16.*", "numpy<2"], ONNX),
    **{
        f"TensorFlow {v}": ([f"tensorflow=={v}.*"], ["specgan/1", *FILES])
        for v in ("2.18", "2.16", "2.21")
    },
}
RUNTIMES = "tf2onnx", "onnxruntime", "openvino", "ai-edge-litert", "tensorflow"


def read(reader, python, path, given, made):
    """Run a reader: the arrays it makes, or in a line why it makes none."""
    argv = [python, ARTEFACT]
    if reader in ("OpenVINO", "tf2onnx"):
        file = os.path.basename(path).partition(".")[0]
        argv = [python, FOREIGN, {"generator": "generate"}.get(file, file)]
    done = subprocess.run(
        [*argv, path, given, made],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        cwd=os.path.dirname(made),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    if done.returncode < 0:
        return f"crashes (signal {-done.returncode})"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it fails and says nothing"])[-1]
        last = re.sub(r" at 0x\w+|\(/.*?\)|\|", "", last)  # of this run alone
        return f"refuses: {last[:150].strip()}"
    return dict(np.load(made))


def judge(made, reference):
    """As a cell of the table: dB over the error, of each signature."""
    if isinstance(made, str):
        return made
    cells = []
    for signature in sorted({key.split("/")[0] for key in made}):
        got, want, what = made.get(f"{signature}/G_z/0"), reference.audio[0], "audio"
        if got is None:
            got = made[f"{signature}/G_z_norm/{reference.ngl}"]
            want, what = reference.G_z_norm, "spectrogram"
        cells.append(f"{signature} {verify.snr(got, want):.0f} dB ({what})")
    return ", ".join(cells)


def installed(python):
    """The versions of the packages that read, as installed."""
    argv = [python, "-m", "pip", "freeze", "--disable-pip-version-check"]
    done = subprocess.run(argv, capture_output=True, text=True)
    found = dict(line.split("==") for line in done.stdout.split() if "==" in line)
    return ", ".join(f"{name} {found[name]}" for name in RUNTIMES if name in found)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out", help="Markdown file to write")
    p.add_argument("--only", nargs="+", choices=READERS, default=[*READERS])
    p.add_argument("--add", action="store_true", help="keep the table's other rows")
    args = p.parse_args(argv)
    kept = rows_of(args.out) if args.add else []
    model = bundled.load()
    reference = verify.Reference(model.G, model.moments, model.griffin_lim)
    rows, tried = [], []
    with tempfile.TemporaryDirectory() as folder:
        exported = os.path.join(folder, "exported")
        formats = ",".join(export_script.FORMATS)
        if export_script.main(["--out_dir", exported, "--formats", formats]):
            sys.exit(1)
        given = os.path.join(folder, "given.npz")
        ngl = np.array(sorted({0, reference.ngl}), np.int32)
        np.savez(given, z=reference.z, G_z_norm=reference.G_z_norm, ngl=ngl)
        for reader in args.only:
            rows += of_reader(reader, folder, exported, given, reference)
            tried.append(reader)
            new = {row[:2] for row in rows}
            both = [row for row in kept if row[:2] not in new] + rows
            # Now, so that an interruption costs one reader.
            write(args.out, both, [*READERS] if args.add else tried)


def of_reader(reader, folder, exported, given, reference):
    """The rows of one reader: (its versions, the file, what it makes of it)."""
    requirements, files = READERS[reader]
    venv = os.path.join(folder, "venv")
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    python = os.path.join(venv, "bin", "python")
    pip = [python, "-m", "pip", "install", "--quiet", *requirements]
    if subprocess.run(pip).returncode:
        version = ".".join(map(str, sys.version_info[:2]))
        yield reader, "", f"pip does not install it for Python {version}"
        return
    for file in files:
        made = os.path.join(folder, "made.npz")
        got = read(reader, python, os.path.join(exported, file), given, made)
        row = installed(python), f"`{file}`", judge(got, reference)
        print(*row, sep=" | ", flush=True)
        yield row


def rows_of(path):
    """The rows of a table that `write` made."""
    with open(path) as f:
        table = f.read().partition("|---|---|---|\n")[2].partition("\n\n")[0]
    return [tuple(line.strip("| ").split(" | ")) for line in table.splitlines()]


def write(out, rows, tried):
    only = "".join(f' "{reader}"' for reader in tried)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    with replacing(out, "w") as f:
        f.write(
            TEXT.format(
                only=f" --only{only}" if len(tried) < len(READERS) else "",
                bounds=", ".join(f"{v:g} ({k})" for k, v in verify.SPECTROGRAM.items()),
                rows=table,
            )
        )


TEXT = f"""# Programs that read what export.py writes

This command made the table:

    python -m benchmarks.readers docs/READERS.md{{only}}

It exports the bundled model, installs each reader into an environment of its own, and
compares what the reader makes of eight latents with what Keras makes: signal over
error, in dB. Audio is compared before any Griffin-Lim iteration. Exports must reach
{verify.AUDIO:g} dB for audio, and for spectrograms {{bounds}}.

| reader | file | |
|---|---|---|
{{rows}}

In the `.tflite` files each ReLU behind a transposed convolution is an op of its own.
OpenVINO leaves out a ReLU that is fused into the convolution, and reports nothing.
`tf2onnx --tflite` converts the first signature of a file: `generate` of
`synthesize.f32.tflite`.
"""

if __name__ == "__main__":
    main()
