"""The moving average of the generator's weights: its numbers, and where it is used."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import BUFFER
from test_checkpoint import everything, trained

from specgan_tf import (
    SpecGAN,
    SpecGANDiscriminator,
    SpecGANGenerator,
    load_generator,
    sheet,
)
from specgan_tf.cli import callbacks
from specgan_tf.weights import checkpoint
from specgan_tf.weights.tensors import Checkpoint

SUFFIX = "/ExponentialMovingAverage"


def make(momentum, use_batchnorm=False, **options):
    keras.utils.set_random_seed(0)
    G = SpecGANGenerator(dim=1, latent_dim=5, use_batchnorm=use_batchnorm)
    D = SpecGANDiscriminator(dim=1, use_batchnorm=use_batchnorm)
    gan = SpecGAN(G, D, disc_nupdates=1, seed=0)
    gan.compile(ema_momentum=momentum, **options)
    return gan


def batches(n, seed=0):
    rs = np.random.RandomState(seed)
    return [rs.uniform(-1, 1, [1, 2, 128, 128, 1]).astype("f4") for _ in range(n)]


def weights(net):
    return [v.numpy() for v in net.variables]


@pytest.mark.parametrize(
    "options", [{}, {"use_batchnorm": True}, {"mixed_precision": True}]
)
def test_the_average_equals_numpys(options, measured):
    """With TF 1's warm-up; of batch norm's moving statistics too."""
    gan = make(0.3, **options)
    want = [w.astype("f8") for w in weights(gan.G)]
    step = tf.function(gan.train_step)
    for n, x in enumerate(batches(6), 1):
        step(x)
        decay = min(0.3, (1 + n) / (10 + n))
        want = [
            decay * a + (1 - decay) * w
            for a, w in zip(want, weights(gan.G), strict=True)
        ]
    assert (1 + n) / (10 + n) > 0.3 > 2 / 11
    assert [v.path for v in gan.G_ema.variables] == [v.path for v in gan.G.variables]
    errors = [
        np.abs(a - w).max() for a, w in zip(weights(gan.G_ema), want, strict=True)
    ]
    measured("average", max(errors), 2e-7)
    pairs = zip(weights(gan.G_ema), weights(gan.G), strict=True)
    assert max(np.abs(average - w).max() for average, w in pairs) > 1e-5


def test_the_average_changes_no_training_and_is_no_weight_of_the_model():
    with_it, without = make(0.9), make(0.0)
    for x in batches(2):
        with_it.train_step(x)
        without.train_step(x)
    for a, b in zip(everything(with_it), everything(without), strict=True):
        np.testing.assert_array_equal(a, b)
    assert without.G_ema is None and without.generator is without.G
    assert with_it.generator is with_it.G_ema
    assert with_it.count_params() == without.count_params()
    assert not with_it.G_ema.trainable_variables
    z = np.zeros([2, 5], "f4")
    np.testing.assert_array_equal(with_it.predict(z, verbose=0), with_it.G_ema(z))
    with_it.compile(ema_momentum=0.0)
    assert with_it.G_ema is None


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan")])
def test_impossible_momentum(momentum):
    with pytest.raises(ValueError, match=r"ema_momentum must be in \[0, 1\). Received"):
        make(momentum)


def test_resumes_exactly(tmp_path, caplog):
    whole, half, other = make(0.9), make(0.9), make(0.9)
    first, second = batches(3), batches(3, seed=1)
    for x in [*first, *second]:
        whole.train_step(x)
    for x in first:
        half.train_step(x)
    prefix = checkpoint.save(half, tmp_path)
    checkpoint.restore(other, prefix)
    for x in second:
        other.train_step(x)
    for a, b in zip(
        everything(whole) + weights(whole.G_ema),
        everything(other) + weights(other.G_ema),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert not caplog.records


def test_a_checkpoint_holds_it_under_tf1s_names(tmp_path):
    gan = make(0.9, use_batchnorm=True)
    gan.train_step(batches(1)[0])
    prefix = checkpoint.save(gan, tmp_path / "a")
    ckpt = Checkpoint(prefix)
    names = set(ckpt.shapes)
    paths = {v.path for v in gan.G.variables}
    assert "G/z_project/batch_normalization/moving_variance" in paths
    assert {n for n in names if n.endswith(SUFFIX)} == {p + SUFFIX for p in paths}
    for v in gan.G_ema.variables:
        np.testing.assert_array_equal(ckpt[v.path + SUFFIX], v.numpy())

    # What is handed to the reference has its own weights, and the averages beside them.
    tf1 = Checkpoint(checkpoint.to_tf1(prefix, tmp_path / "b"))
    for v, average in zip(gan.G.variables, gan.G_ema.variables, strict=True):
        np.testing.assert_array_equal(tf1[v.path], v.numpy())
        np.testing.assert_array_equal(tf1[v.path + SUFFIX], average.numpy())

    # Whoever loads a generator gets the average.
    z = np.ones([1, 5], "f4")
    np.testing.assert_array_equal(load_generator(prefix)(z), gan.G_ema(z))
    raw = load_generator(prefix, average=False)
    np.testing.assert_array_equal(raw(z), gan.G(z))
    assert np.abs(raw(z) - gan.G_ema(z)).max() > 1e-6


def test_it_can_be_turned_on_and_off(tmp_path, caplog):
    caplog.set_level("INFO")
    prefix = checkpoint.save(trained(steps=1), tmp_path / "off")  # dim 1, latent_dim 5
    gan = make(0.9)
    checkpoint.restore(gan, prefix)
    assert "average of G's weights starts from those of" in caplog.text
    for average, v in zip(gan.G_ema.variables, gan.G.variables, strict=True):
        np.testing.assert_array_equal(average, v)
    caplog.clear()
    prefix = checkpoint.save(gan, tmp_path / "on")
    checkpoint.restore(make(0.0), prefix)
    (record,) = caplog.records
    assert "average of G's weights, which is dropped" in record.getMessage()


def test_keras_file_round_trip(tmp_path):
    gan = make(0.9, use_batchnorm=True)
    for x in batches(2):
        gan.train_step(x)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert loaded.average.decay == 0.9
    for g in (gan, loaded):
        g.average.apply(g.G, 2)
    for a, b in zip(weights(gan.G_ema), weights(loaded.G_ema), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (gan.G_ema.variables[0].numpy() != gan.G.variables[0].numpy()).any()


def test_the_scripts_generate_with_the_average(run, clips, tmp_path, monkeypatch):
    """Summaries and whatever loads a checkpoint; the averages are spoilt to show it."""
    monkeypatch.setattr(BUFFER, 64)
    argv = ["--data_dir", clips, "--seed", 1, "--specgan_dim", 1]
    argv += ["--train_batch_size", 2, "--train_ema", 0.9]
    averaged = []

    def write(self, tag, X_norm, _):
        if tag == "G_z":
            averaged.append(np.array_equal(X_norm, self.model.G_ema(self.z)))
            averaged.append(not np.array_equal(X_norm, self.model.G(self.z)))

    monkeypatch.setattr(callbacks.Summaries, "write", write)
    folder = tmp_path / "t"
    assert run("train", folder, *argv, "--train_max_steps", 1)[0] == 0
    assert "train_ema,0.9\n" in (folder / "args.txt").read_text()
    assert averaged == [True, True]
    monkeypatch.undo()
    monkeypatch.setattr(BUFFER, 64)
    status, out, _ = run("train", folder, "--train_max_steps", 2)
    assert status == 0 and "train_ema 0.9" in out and "starts from" not in out
    prefix = str(folder / "model.ckpt-2")
    ckpt = Checkpoint(prefix)
    values = {n: ckpt[n] for n in ckpt.shapes}
    assert sum(n.endswith(SUFFIX) for n in values) == 12
    made = []
    for factor in (1, 0):  # as averaged; then a flat spectrum, from averages of zero
        for name in values:
            if name.endswith(SUFFIX):
                values[name] = values[name] * factor
        checkpoint._write(prefix, values)
        argv = ["--seed", 1, "--generate_n", 1, "--overwrite"]
        assert run("generate", folder, *argv)[0] == 0
        (tile,) = sheet.first_row(folder / "generate" / "sheet.png")
        made.append(tile.std(axis=(0, 1)).max())
    assert made[0] > 0 and made[1] == 0
