"""Clips that exceed full scale: turned down alike by whatever makes them.

The web page's are in test_web.py.
"""

import importlib.util
import io
import json
import os
import wave

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from scipy.io import wavfile
from server_process import MODEL, running
from test_export import generator

import train_specgan
from specgan_tf import generate, spectral
from specgan_tf.export import saved_model, tflite
from specgan_tf.moments import Moments
from specgan_tf.weights import bundled

N, SEED, RATE = 6, 7, 22050
# Steps enlarge rounding, by any factor where spectrograms are inconsistent.
HOW = {"ngl": 0, "gl_window": "dual", "gl_momentum": 0.9}
LSB = 1  # rounding


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    """(path, its `Box`, what it makes): some of its clips exceed 1, and some do not."""
    path = str(tmp_path_factory.mktemp("loud") / "model.npz")
    mean = np.linspace(1, -6, 129, dtype=np.float32) - np.float32(np.log(5.3))
    std = np.full(129, 3, np.float32)
    moments = Moments(mean, std, log_eps=1e-3, pad_front=True, clip_nstd=2.0)
    G = generator()
    G.z_project.layers[0].kernel.assign(4 * G.z_project.layers[0].kernel)
    bundled.save(path, G, moments, {"step": 1, "sample_rate": RATE, **HOW})
    model = bundled.load(path)
    z = generate.sample_z(N, G.latent_dim, SEED)
    made = generate.synthesize(model.G, model.moments, z, model.griffin_lim)
    return path, model, made


@pytest.fixture(scope="module")
def served(loud, tmp_path_factory):
    _, model, _ = loud
    folder = tmp_path_factory.mktemp("served")
    about = {"ngl": 0, "sample_rate": RATE}
    where = str(folder / "1")
    saved_model.save_saved_model(
        model.G, model.moments, where, model.griffin_lim, RATE, about
    )
    return folder


@pytest.fixture(scope="module")
def written(loud, tmp_path_factory):
    """The clips that `generate` writes, int16 [n, 16384]."""
    return clips(loud[0], tmp_path_factory.mktemp("cli") / "g")


def clips(path, folder, *flags):
    argv = ["generate", path, "--seed", SEED, "--generate_n", N, *flags]
    argv += ["--generate_dir", folder]
    assert train_specgan.main([str(a) for a in argv]) == 0
    read = [wavfile.read(os.path.join(folder, f"{i:04d}.wav")) for i in range(N)]
    assert {rate for rate, _ in read} == {RATE}
    return np.stack([x for _, x in read])


def samples(content):
    with wave.open(io.BytesIO(content)) as f:
        assert f.getframerate() == RATE
        return np.frombuffer(f.readframes(f.getnframes()), "<i2").reshape(-1, 16384)


def is_the_same(got, want):
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() <= LSB


def test_generate(loud, written):
    _, _, made = loud
    peaks = np.abs(made["G_z"]).max(axis=(1, 2))
    assert (peaks > 1.05).any() and (peaks < 0.95).any(), peaks
    # What the reference makes of them is clipped, and stays so.
    clipped = (np.abs(made["G_z_int16"][:, :, 0]) == 32767).sum(axis=1)
    assert clipped[peaks > 1.05].all() and not clipped[peaks < 0.95].any()
    assert ((np.abs(written) >= 32766).sum(axis=1) <= 2).all()
    want = spectral.float_to_int16(made["G_z"][:, :, 0])
    is_the_same(written[peaks < 0.95], want.numpy()[peaks < 0.95])
    # The same shape: they are turned down as a whole.
    loudest = made["G_z"][int(peaks.argmax()), :, 0] * 32767 / peaks.max()
    is_the_same(written[peaks.argmax()], loudest.numpy().astype(int))


def test_normalized(loud, written, tmp_path, capsys):
    full = clips(loud[0], tmp_path / "g", "--normalize")
    assert (np.abs(full).max(axis=1) >= 32766).all()
    for a, b in zip(full, written, strict=True):
        gain = 32767 / np.abs(b).max()
        assert np.abs(a - gain * b).max() <= 1 + gain
    with pytest.raises(SystemExit):
        train_specgan.main(["train", str(tmp_path / "t"), "--normalize"])
    assert "--normalize belongs to the mode generate" in capsys.readouterr().err


def test_saved_model(loud, written, served):
    signatures = tf.saved_model.load(str(served / "1")).signatures
    z = generate.sample_z(N, loud[1].G.latent_dim, SEED)
    files = signatures["wav"](z=z, ngl=tf.constant(0))["wav_bytes"].numpy()
    is_the_same(np.concatenate([samples(f) for f in files]), written)
    # Tensors that the reference names are the reference's.
    made = signatures["synthesize"](z=z, ngl=tf.constant(0))
    assert np.abs(made["G_z"]).max() > 1.05
    is_the_same(made["G_z_int16"].numpy(), loud[2]["G_z_int16"].numpy())


def test_server(written, served):
    with running(str(served), "--max_batch", str(N)) as server:
        status, content = server.ask("GET", f"{MODEL}/wav?n={N}&seed={SEED}")
    assert status == 200, content
    is_the_same(samples(content), written)


def test_embedded(loud, written, tmp_path):
    """What examples/embedded.py does with its two files, by its own functions."""
    path = os.path.join(ROOT, "examples", "embedded.py")
    spec = importlib.util.spec_from_file_location("embedded", path)
    embedded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(embedded)
    _, model, _ = loud
    how = model.griffin_lim
    with tflite.converting(model.G, model.moments, how, {"ngl": 0}) as convert:
        convert(str(tmp_path / "g.tflite"), ["generate"])
        convert(str(tmp_path / "i.tflite"), ["invert"])
    make, about = embedded.load(str(tmp_path / "g.tflite"), "generate")
    invert, _ = embedded.load(str(tmp_path / "i.tflite"), "invert")
    assert about["ngl"] == 0
    z = generate.sample_z(N, model.G.latent_dim, SEED).numpy()
    made = []
    for row in z:
        G_z = invert(G_z_norm=make(z=row[None])["G_z_norm"], ngl=np.int32(0))["G_z"]
        made.append(embedded.to_int16(G_z).ravel())
    is_the_same(np.stack(made), written)


def test_the_card_of_an_export_is_that_of_the_model(run, loud, tmp_path):
    """Also how its sounds are inverted, unless flags say otherwise."""
    from specgan_tf.cli import export as export_script

    argv = [loud[0], "--formats", "saved_model", "--out_dir", tmp_path]
    assert run(*argv, script=export_script)[0] == 0
    about = json.loads((tmp_path / "specgan" / "1" / "model.json").read_text())
    assert HOW.items() <= about.items()
    assert loud[1].moments.analysis.items() <= about.items()
    argv = ["--specgan_gl_window", "hann", "--specgan_gl_momentum", 0]
    other = clips(loud[0], tmp_path / "g", *argv)
    assert np.abs(other - clips(loud[0], tmp_path / "h").astype(int)).max() > 100
