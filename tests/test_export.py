import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import SpecGANGenerator, export, generate, spectral

MEAN, STD = np.full(129, -3, np.float32), np.ones(129, np.float32)


def generator(**options):
    G = SpecGANGenerator(dim=2, latent_dim=9, **options)
    rs = np.random.RandomState(0)
    for v in G.trainable_variables:  # loud enough for errors to show
        v.assign(v * 2 + 0.05 * rs.randn(*v.shape))
    return G


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    G, path = generator(use_batchnorm=True), str(tmp_path_factory.mktemp("m") / "1")
    errors = export.save_saved_model(G, MEAN, STD, path)
    assert max(errors.values()) <= 1e-5
    return G, path, tf.saved_model.load(path).signatures


def test_signatures_have_the_references_names(saved):
    G, _, signatures = saved
    i32 = tf.constant
    z = signatures["sample"](samp_z_n=i32(3), seed=i32(7))["samp_z"]
    np.testing.assert_array_equal(z, generate.sample_z(3, 9, 7))
    want = generate.synthesize(G, MEAN, STD, z, 5)
    got = signatures["serving_default"](z=z, ngl=i32(5))
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert value.dtype == want[name].dtype and value.shape == want[name].shape
        error = np.abs(value.numpy().astype(float) - want[name].numpy()).max()
        assert error <= (1 if value.dtype.is_integer else 1e-5)
    norm = signatures["generate"](z=z)["G_z_norm"]
    np.testing.assert_allclose(norm, want["G_z_norm"], atol=1e-6)
    flat = signatures["flatten"](z=z, ngl=i32(5), flat_pad=i32(100))
    assert flat["G_z_flat"].shape == (3 * 16484, 1)
    padded = spectral.flatten(want["G_z"], 100)
    np.testing.assert_allclose(flat["G_z_flat"], padded, atol=1e-5)
    assert flat["G_z_flat_int16"].dtype == tf.int16


def test_a_loud_and_inconsistent_generator_is_exported_too(tmp_path):
    """Griffin-Lim makes 0.1 of rounding there; that is no fault of the artefact."""
    G = generator(use_batchnorm=True, upsample="cub")
    for v in G.trainable_variables:
        v.assign(v * 3)
    mean, std = np.zeros(129, np.float32), np.ones(129, np.float32)
    errors = export.save_saved_model(G, mean, std, str(tmp_path / "m"), "dual", 0.9)
    assert max(errors.values()) <= 1e-5


def test_every_weight_is_stored_once(saved):
    G, path, _ = saved
    data = os.path.getsize(
        os.path.join(path, "variables/variables.data-00000-of-00001")
    )
    assert data < 4 * G.count_params() * 1.02 + 5000  # an index of names


def test_loads_without_this_package(saved):
    _, path, _ = saved
    code = (
        "import sys, tensorflow as tf; s = tf.saved_model.load(sys.argv[1]).signatures;"
        "x = s['serving_default'](z=tf.zeros([2, 9]), ngl=tf.constant(16))['G_z'];"
        "assert x.shape == (2, 16384, 1); assert 'specgan_tf' not in sys.modules"
    )
    cwd = os.path.dirname(path)
    subprocess.run([sys.executable, "-c", code, path], check=True, cwd=cwd)


@pytest.mark.parametrize("upsample", ["zeros", "nn", "lin", "cub"])
def test_tflite(tmp_path, upsample):
    G, path = generator(upsample=upsample), str(tmp_path / "g.tflite")
    errors = export.save_tflite(G, path)
    assert errors["G_z_norm"] <= 1e-5
    assert os.path.getsize(path) > 0.9 * 4 * G.count_params()
    interpreter = export._interpreter(path)
    ops = {op["op_name"] for op in interpreter._get_ops_details()}
    assert not any(name.startswith(("Flex", "CUSTOM")) for name in ops), ops
    (z,), (G_z_norm,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    assert z["shape"].tolist() == [1, 9]
    assert G_z_norm["shape"].tolist() == [1, 128, 128, 1]


def test_an_artefact_that_differs_is_an_error():
    good, bad = np.zeros(3), np.array([0.0, 2e-4, 0.0])
    assert export._compare("a", {"x": (good, good)}) == {"x": 0.0}
    assert export._compare("a", {"x": (good + 9, bad + 9)})["x"] < 1e-4  # of the peak
    with pytest.raises(
        export.ExportError, match="a does not reproduce Keras: x differs"
    ):
        export._compare("a", {"x": (good, bad)})
    with pytest.raises(export.ExportError):
        export._compare("a", {"x": (good, good * np.nan)})


def test_lost_weights_are_an_error(tmp_path, monkeypatch):
    class Empty:
        def convert(self):
            return b"\0" * 12_100

    monkeypatch.setattr(
        tf.lite.TFLiteConverter, "from_concrete_functions", lambda *_: Empty()
    )
    with pytest.raises(export.ExportError, match="without its weights: 12100 bytes"):
        export.save_tflite(generator(), str(tmp_path / "g.tflite"))
    assert not os.listdir(tmp_path)
