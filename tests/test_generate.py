import os
import pickle

import keras
import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from specgan_tf import SpecGANGenerator, generate, spectral
from specgan_tf.errors import InputError
from specgan_tf.moments import Moments
from specgan_tf.spectral import GriffinLim


def test_render_in_chunks_is_synthesize(monkeypatch):
    keras.utils.set_random_seed(0)
    G = SpecGANGenerator(dim=1, latent_dim=3)
    moments = Moments(np.full(129, 5, np.float32), np.ones(129, np.float32))
    z = generate.sample_z(5, 3, seed=0)
    # Griffin-Lim's iterations enlarge rounding, which depends on the batch, without
    # bound; what chunks could get wrong shows without them.
    whole = generate.synthesize(G, moments, z, GriffinLim(0))
    monkeypatch.setattr(generate, "CHUNK", 2)
    parts = generate.render(G, moments, z, GriffinLim(0))
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


def test_wav_files(tmp_path):
    samples = np.arange(-50, 50, dtype=np.int16)[:, np.newaxis] * 300
    generate.write_wav(str(tmp_path / "a.wav"), samples, 16000)
    rate, got = wavfile.read(tmp_path / "a.wav")
    assert rate == 16000 and got.dtype == np.int16
    np.testing.assert_array_equal(got, samples[:, 0])
    assert os.listdir(tmp_path) == ["a.wav"]


# Ways between latents


def test_interpolate_is_a_straight_line_with_its_ends():
    z = generate.sample_z(2, 5, seed=0).numpy()
    got = generate.interpolate(*z, 4)
    assert got.shape == (4, 5) and got.dtype == np.float32
    np.testing.assert_array_equal(got[[0, -1]], z)
    thirds = np.linspace(z[0].astype(float), z[1], 4)
    np.testing.assert_array_max_ulp(got, thirds.astype(np.float32), 1)


def test_path_goes_through_every_latent():
    z = generate.sample_z(3, 5, seed=0).numpy()
    got = generate.path(z, 4)
    assert got.shape == (2 * 3 + 1, 5)
    np.testing.assert_array_equal(got[::3], z)
    np.testing.assert_array_equal(got[3:], generate.interpolate(z[1], z[2], 4))
    np.testing.assert_array_equal(generate.path(z, 2), z)


def test_walk_stays_within_the_cube_everywhere_equally():
    z0 = generate.sample_z(1, 100, seed=0)[0].numpy()
    got = generate.walk(z0, 4000, 0.3, seed=2)
    assert got.shape == (4000, 100) and got.dtype == np.float32
    np.testing.assert_array_equal(got[0], z0)
    moves = np.abs(np.diff(got, axis=0))
    assert 0.29 < moves.max() <= 0.3 * (1 + 1e-6) and abs(moves.mean() - 0.15) < 0.01
    assert np.abs(got).max() <= 1
    # 100 walks over 4000 steps: uniform, walls too; clipped, a tenth would stick there
    shares = np.histogram(got, 10, (-1, 1))[0] / got.size
    assert np.abs(shares - 0.1).max() < 0.01
    assert (np.abs(got) == 1).mean() < 1e-4


def test_walks_begin_alike_and_differ_by_seed_and_from_the_latents():
    z0 = np.zeros(7, np.float32)
    long, other = generate.walk(z0, 50, 0.5, 1), generate.walk(z0, 50, 0.5, 2)
    np.testing.assert_array_equal(generate.walk(z0, 9, 0.5, 1), long[:9])
    np.testing.assert_array_equal(generate.walk(z0, 1, 0.5, 1), [z0])
    assert (long[1:] != other[1:]).all()
    drawn = generate.sample_z(1, 7, seed=1).numpy()
    assert np.abs(generate.walk(z0, 2, 1.0, 1)[1] - drawn).min() > 1e-3


def test_grid_has_its_latents_in_the_corners():
    z = generate.sample_z(4, 5, seed=0).numpy()
    got = generate.grid(z, 3, 6)
    assert got.shape == (18, 5) and got.dtype == np.float32
    sheet = got.reshape(3, 6, 5)
    np.testing.assert_array_equal(sheet[[0, 0, -1, -1], [0, -1, 0, -1]], z)
    middle = (
        generate.interpolate(z[0], z[2], 3)[1],
        generate.interpolate(z[1], z[3], 3)[1],
    )
    np.testing.assert_array_equal(sheet[1], generate.interpolate(*middle, 6))


def test_truncated_latents_are_those_of_a_smaller_cube():
    z = generate.sample_z(500, 100, seed=4).numpy()
    got = generate.truncate(z, 0.5)
    assert got.dtype == np.float32 and 0.499 < got.max() <= 0.5
    assert abs(got.var() - 0.5**2 / 3) < 2e-3  # uniform, there
    np.testing.assert_array_equal(got * 2, z)
    np.testing.assert_array_equal(generate.truncate(z, 1), z)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda z: generate.interpolate(*z[:2], 1), "steps must be at least 2. Re"),
        (lambda z: generate.path(z[:1], 3), "latents in a path must be at least 2. Re"),
        (lambda z: generate.walk(z[0], 0, 0.1, 0), "n must be at least 1. Received: 0"),
        (lambda z: generate.walk(z[0], 5, 0.0, 0), r"in \(0, 2\]. Received: 0.0"),
        (lambda z: generate.walk(z[0], 5, 2.1, 0), r"in \(0, 2\]. Received: 2.1"),
        (lambda z: generate.grid(z[:3], 2, 2), "the corners. Received: 3"),
        (lambda z: generate.grid(z, 1, 2), "steps must be at least 2. Received: 1"),
        (lambda z: generate.grid(z, 2, 1), "steps must be at least 2. Received: 1"),
        (lambda z: generate.truncate(z, 0.0), r"in \(0, 1\]. Received: 0.0"),
        (lambda z: generate.truncate(z, 1.5), r"in \(0, 1\]. Received: 1.5"),
        (lambda z: generate.truncate(z, np.nan), r"in \(0, 1\]. Received: nan"),
    ],
)
def test_ways_that_are_none(call, said):
    with pytest.raises(ValueError, match=said):
        call(np.zeros((4, 5), np.float32))


def test_flac_holds_the_same_samples(tmp_path):
    samples = np.random.RandomState(0).randint(-32767, 32767, (999, 1)).astype("i2")
    for name, write in generate.WRITERS.items():
        fp = str(tmp_path / f"a.{name}")
        write(fp, samples, 16000)
        assert soundfile.info(fp).subtype == "PCM_16"
        got, rate = soundfile.read(fp, dtype="int16")
        assert rate == 16000 and soundfile.info(fp).format == name.upper()
        np.testing.assert_array_equal(got, samples[:, 0])
    with pytest.raises(InputError, match="FLAC cannot hold 700000 Hz; WAV can"):
        generate.write_flac(str(tmp_path / "b.flac"), samples, 700000)
    assert sorted(os.listdir(tmp_path)) == ["a.flac", "a.wav"]


def test_what_is_too_loud_is_turned_down_as_a_whole():
    x = np.float32([[0.5, -0.25], [1.0, 0.0], [1.0, -4.0]])[:, :, np.newaxis]
    made = spectral.turn_down(x).numpy()
    assert made.dtype == np.float32 and made.shape == (3, 2, 1)
    np.testing.assert_array_equal(made[:2], x[:2])
    assert made[2, :, 0].tolist() == [0.25, -1.0]
    full = spectral.normalize(np.concatenate([x, x * 0])).numpy()
    assert full[:3, :, 0].tolist() == [[1.0, -0.5], [1.0, 0.0], [0.25, -1.0]]
    assert not full[3:].any()
