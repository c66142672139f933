import os
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.io import wavfile

from specgan_tf import SpecGANGenerator, generate
from specgan_tf.files import InputError


def test_render_in_chunks_is_synthesize(monkeypatch):
    keras.utils.set_random_seed(0)
    G = SpecGANGenerator(dim=1, latent_dim=3)
    mean, std = np.full(129, 5, np.float32), np.ones(129, np.float32)
    z = generate.sample_z(5, 3, seed=0)
    # Griffin-Lim's iterations enlarge rounding, which depends on the batch, without
    # bound; what chunks could get wrong shows without them.
    whole = generate.synthesize(G, mean, std, z, ngl=0)
    monkeypatch.setattr(generate, "CHUNK", 2)
    parts = generate.render(G, mean, std, z, ngl=0)
    assert parts.keys() == whole.keys()
    assert parts["G_z_int16"].shape == (5, 16384, 1)
    assert np.abs(parts["G_z"]).max() > 0.05
    for name, part in parts.items():
        want = whole[name].numpy().astype(float)
        # measured 8e-6, and a step of an integer where that crosses a half
        np.testing.assert_allclose(part, want, atol=1 if "int" in name else 5e-5)


def test_latents():
    z = generate.sample_z(500, 100, seed=4).numpy()
    assert z.dtype == np.float32 and -1 <= z.min() < -0.999 and 0.999 < z.max() <= 1
    assert abs(z.var() - 1 / 3) < 5e-3  # uniform
    np.testing.assert_array_equal(generate.sample_z(5, 100, 4), z[:5])
    assert (generate.sample_z(5, 100, 5).numpy() != z[:5]).any()


@pytest.mark.parametrize("name", ["z.npy", "z.pkl"])
def test_latents_file_round_trip(tmp_path, name):
    fp, z = str(tmp_path / name), generate.sample_z(3, 7, seed=0)
    generate.save_z(fp, z)
    np.testing.assert_array_equal(generate.load_z(fp, 7), z)
    with pytest.raises(InputError, match="latents of 7 dimensions, .* takes 100"):
        generate.load_z(fp, 100)


def npy(header):
    """A .npy file of 2 * 7 float32 under any header."""
    header = header.encode()
    length = len(header).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + length + header + bytes(56)


CLAIM = "{'descr': '<f4', 'fortran_order': False"


@pytest.mark.parametrize(
    "name, content",
    [
        ("z.npy", b"nonsense"),
        ("z.npy", b""),
        ("z.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 7), ")),
        ("z.npy", npy(f"{CLAIM}, 'shape': ({10**12}, 7)}}")),
        ("z.npy", npy(f"{CLAIM}, 'shape': ({10**30}, 7)}}")),
        ("z.pkl", b"nonsense"),
        ("z.pkl", pickle.dumps(np.zeros(7, np.float32))),
        ("z.pkl", pickle.dumps(np.full((2, 7), np.nan, np.float32))),
        ("z.pkl", pickle.dumps((np.zeros((2, 7)), np.zeros((2, 7))))),
    ],
)
def test_what_is_not_latents_is_refused(tmp_path, name, content):
    fp = tmp_path / name
    fp.write_bytes(content)
    with pytest.raises(InputError, match=name):
        generate.load_z(str(fp), 7)


def test_no_latents_file(tmp_path):
    with pytest.raises(InputError, match="no latents at"):
        generate.load_z(str(tmp_path / "z.npy"), 7)


def test_wav_and_png_files(tmp_path):
    samples = np.arange(-50, 50, dtype=np.int16)[:, np.newaxis] * 300
    generate.write_wav(str(tmp_path / "a.wav"), samples, 16000)
    rate, got = wavfile.read(tmp_path / "a.wav")
    assert rate == 16000 and got.dtype == np.int16
    np.testing.assert_array_equal(got, samples[:, 0])
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] + np.zeros(
        (3, 128, 128, 1), np.uint8
    )
    sheet = generate.contact_sheet(images, columns=2)
    assert sheet.shape == (2 * 132 + 4, 2 * 132 + 4, 1)
    assert (sheet[4:132, 4:132] == 0).all() and (sheet[4:132, 136:264] == 1).all()
    assert (sheet[136:264, 4:132] == 2).all() and (sheet[136:264, 136:264] == 255).all()
    generate.write_png(str(tmp_path / "a.png"), sheet)
    png = tf.io.decode_png((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(png, sheet)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.wav"]
