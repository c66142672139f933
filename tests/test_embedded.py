"""examples/embedded.py runs where TensorFlow is not."""

import importlib.metadata
import os
import re
import subprocess
import sys
import wave

import numpy as np
import pytest
from conftest import ROOT, installed
from test_export import MOMENTS, generator

from specgan_tf.export import tflite

SCRIPT = os.path.join(ROOT, "examples", "embedded.py")
LITERT = "ai-edge-litert"
LOUD = MOMENTS._replace(mean=MOMENTS.mean + 2)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """The two files that it takes, with neither the usual latents nor rate."""
    folder = tmp_path_factory.mktemp("export")
    about = {"sample_rate": 22050, "latent_dim": 9, "ngl": 5}
    with tflite.converting(generator(), LOUD, about=about) as convert:
        convert(str(folder / "generator.dr8.tflite"), ["generate"], "dr8")
        convert(str(folder / "invert.f32.tflite"), ["invert"])
    return str(folder)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python with nothing but the example's two packages."""
    folder = str(tmp_path_factory.mktemp("bare"))
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = os.path.join(folder, "bin", "python")
    version = importlib.metadata.version(LITERT)
    install = "-m pip install --quiet --disable-pip-version-check".split()
    for _ in range(3):  # an index may be out of reach for a moment
        done = subprocess.run(
            [python, *install, f"{LITERT}=={version}", "numpy"],
            capture_output=True,
            text=True,
        )
        if not done.returncode:
            break
    installed(not done.returncode, f"pip could not install {LITERT}: {done.stderr}")
    return python


def run(python, *args):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [python, SCRIPT, *args], capture_output=True, text=True, env=env
    )


@pytest.mark.slow
def test_the_same_wav_without_tensorflow(export, bare_python, tmp_path):
    code = "import importlib.util as u; print([u.find_spec(n) for n in {!r}])"
    modules = ["tensorflow", "keras", "specgan_tf", "librosa"]
    found = subprocess.check_output(
        [bare_python, "-c", code.format(modules)], cwd=tmp_path, text=True
    )
    assert found.split() == str([None] * 4).split()

    out, here = str(tmp_path / "bare.wav"), str(tmp_path / "here.wav")
    done = run(bare_python, export, out, "--n", "3", "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{out}: 3 sounds, \d+\.\d ms each\n", done.stdout)
    assert run(sys.executable, export, here, "--n", "3", "--seed", "5").returncode == 0
    with open(out, "rb") as a, open(here, "rb") as b:
        assert a.read() == b.read()

    with wave.open(out) as w:
        assert w.getparams()[:4] == (1, 2, 22050, 3 * 16384)
        samples = np.frombuffer(w.readframes(3 * 16384), "<i2")
    z = np.random.default_rng(5).uniform(-1, 1, (3, 9)).astype(np.float32)
    generate = tflite.interpreter(f"{export}/generator.dr8.tflite")
    invert = tflite.interpreter(f"{export}/invert.f32.tflite")
    for row, clip in zip(z, samples.reshape(3, -1), strict=True):
        G_z_norm = generate.get_signature_runner("generate")(z=row[None])["G_z_norm"]
        want = invert.get_signature_runner("invert")(
            G_z_norm=G_z_norm, ngl=np.array(5, np.int32)
        )["G_z"]
        assert np.abs(clip).max() > 1000
        want = want[0, :, 0] / max(np.float32(1), np.abs(want).max())
        np.testing.assert_array_equal(clip, (want * 32767).astype(np.int16))


@pytest.mark.slow
def test_what_a_user_does_wrong_is_one_line(export, tmp_path):
    there = tmp_path / "there.wav"
    there.write_bytes(b"mine")
    done = run(sys.executable, export, str(there))
    assert done.returncode and there.read_bytes() == b"mine"
    assert done.stderr.splitlines()[-1].startswith(
        "embedded.py: [Errno 17] File exists"
    )
    (tmp_path / "generator.dr8.tflite").write_bytes(b"not one")
    for folder in (tmp_path, tmp_path / "nowhere"):
        done = run(sys.executable, str(folder), str(tmp_path / "new.wav"))
        model = re.escape(str(folder / "generator.dr8.tflite"))
        assert re.fullmatch(f"embedded.py: {model}: .+\n", done.stderr), done.stderr
        assert done.returncode and not (tmp_path / "new.wav").exists()
