"""Losses, gradients by name, updates, whole 5:1 iterations, and the Keras surface."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assign

from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator, spectral, tf1
from specgan_tf.losses import LOSSES

TRAININGS = ["dcgan", "lsgan", "wgan", "wgan-gp"]


def build(d):
    bn, dim, k = bool(d["batchnorm"]), int(d["dim"]), int(d["kernel_len"])
    gan = SpecGAN(
        SpecGANGenerator(k, dim, bn, str(d["upsample"])),
        SpecGANDiscriminator(k, dim, bn),
        disc_nupdates=int(d["disc_nupdates"]),
    )
    gan.compile(str(d["loss"]))
    for net in (gan.G, gan.D):
        assign(net, d.group("init/"))
    return gan


def real(d, i):
    wav = d["wav"][i][:, :, np.newaxis].astype(np.float32) / 32768
    return spectral.t_to_f(wav, d["mean"], d["std"])


def alpha(d, i):
    return d["alpha"][i].reshape(-1, 1, 1, 1)


def gradient_errors(d, net, tape, loss):
    gradients = tape.gradient(loss, net.trainable_variables)
    return {
        v.path: d.error(f"grad/{v.path}", g, relative=True)
        for v, g in zip(net.trainable_variables, gradients, strict=True)
    }


@pytest.mark.parametrize("loss", TRAININGS)
def test_first_loss_and_gradients_by_name(golden, measured, loss):
    d = golden(f"train_{loss}_bn0_zeros")
    gan = build(d)
    # From the reference's own spectrogram. From the audio, the rounding of its FFT (up
    # to 0.03 from float64 near silence in these clips, ours 0.003) moves dcgan's
    # smallest gradient by 1.4e-2 and lsgan's loss by 3e-5.
    with tf.GradientTape() as tape:
        value, _ = gan.D_loss(d["x"], d["z"][0], alpha(d, 0))
    error = abs(float(value) / d["losses"][0] - 1)
    measured("D_loss, relative", error, 3e-6)  # measured 5e-7
    errors = gradient_errors(d, gan.D, tape, value)
    measured("D's gradients, relative", max(errors.values()), 2e-5)  # measured 3e-6


@pytest.mark.parametrize("loss", TRAININGS)
def test_two_whole_iterations(golden, measured, loss):
    """Ten updates of D, two of G, on recorded audio, z and alpha."""
    d = golden(f"train_{loss}_bn0_zeros")
    gan = build(d)
    update_D, update_G = tf.function(gan.update_D), tf.function(gan.update_G)
    values, batch = [], 0
    for i, who in enumerate(d["order"]):
        if who == "D":
            out = update_D(real(d, batch), d["z"][i], alpha(d, batch))
            values.append(float(out["D_loss"]))
            batch += 1
        else:
            if i == 5:
                with tf.GradientTape() as tape:
                    out = gan.G_loss(d["z"][i])
                errors = gradient_errors(d, gan.G, tape, out)
                # measured 1.2e-3 (dcgan), after five updates of D from the audio
                measured("G's first gradients, relative", max(errors.values()), 3e-3)
            values.append(float(update_G(d["z"][i])["G_loss"]))
    scale = np.maximum(np.abs(d["losses"]), 1e-3)  # wgan's losses after clipping: 1e-8
    error = np.max(np.abs(np.array(values) - d["losses"]) / scale)
    measured("losses along the way, relative", error, 4e-4)  # measured 3.3e-4

    variables = gan.G.variables + gan.D.variables
    if loss in ("wgan", "lsgan"):
        error = max(d.error(f"final/{v.path}", v) for v in variables)
        bound = {"wgan": 1e-9, "lsgan": 2e-6}[loss]  # measured 9.3e-10, 1.5e-6
        measured("variables", error, bound)
        for net in (gan.G, gan.D):  # and that is small beside how far they have moved
            paths = [v.path for v in net.variables]
            moved = max(np.abs(v - d[f"init/{v.path}"]).max() for v in net.variables)
            error = max(d.error(f"final/{v.path}", v) for v in net.variables)
            if loss == "wgan" and paths[0].startswith("G/"):
                assert moved == 0  # clipping leaves G no gradient, there and here
            else:
                # measured 2.6e-3, of D in lsgan
                measured(
                    f"{net.name}'s variables, of their movement", error / moved, 1e-2
                )
    else:
        # The mean: with Adam an entry whose gradient is near zero takes steps of full
        # size, in either direction.
        error = np.mean([d.error(f"final/{v.path}", v, mean=True) for v in variables])
        measured("variables, mean", error, 1e-5)  # measured 3e-6
    assert gan.global_step == int(d["final/global_step"]) == 2
    assert int(gan.D_optimizer.iterations) == 10


def test_batch_norm_with_penalty_first_loss(golden, measured):
    """Only the first loss: TF 1.12's second derivative of stacked batch norms is wrong
    (test_tf1.py shows ours by finite differences)."""
    d = golden("train_wgan-gp_bn1_nn")
    gan = build(d)
    value, _ = gan.D_loss(d["x"], d["z"][0], alpha(d, 0))
    error = abs(float(value) / d["losses"][0] - 1)
    measured("D_loss with batch norm, relative", error, 5e-6)  # measured 1.2e-6


def test_loss_formulas():
    D_x, D_G_z = tf.constant([2.0, -1.0]), tf.constant([0.5, -3.0])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x.numpy()))

    want = -np.mean(np.log(sigmoid(D_x))) - np.mean(np.log(1 - sigmoid(D_G_z)))
    np.testing.assert_allclose(LOSSES["dcgan"].D(D_x, D_G_z), want / 2, rtol=1e-6)
    want = -np.mean(np.log(sigmoid(D_G_z)))
    np.testing.assert_allclose(LOSSES["dcgan"].G(D_G_z), want, rtol=1e-6)
    assert float(LOSSES["lsgan"].D(D_x, D_G_z)) == ((1 + 4) / 2 + (0.25 + 9) / 2) / 2
    assert float(LOSSES["lsgan"].G(D_G_z)) == (0.25 + 16) / 2
    for loss in ("wgan", "wgan-gp"):
        assert float(LOSSES[loss].D(D_x, D_G_z)) == -1.25 - 0.5
        assert float(LOSSES[loss].G(D_G_z)) == 1.25


@pytest.mark.parametrize(
    "loss, kind, rate, betas",
    [
        ("dcgan", "Adam", 2e-4, (0.5, 0.999)),
        ("lsgan", "RMSProp", 1e-4, None),
        ("wgan", "RMSProp", 5e-5, None),
        ("wgan-gp", "Adam", 1e-4, (0.5, 0.9)),
    ],
)
def test_each_loss_has_the_references_optimizers(loss, kind, rate, betas):
    gan = tiny()
    gan.compile(loss)
    for optimizer in (gan.G_optimizer, gan.D_optimizer):
        assert type(optimizer).__name__ == kind
        assert float(optimizer.learning_rate) == pytest.approx(rate)
        if betas:
            assert (optimizer.beta_1, optimizer.beta_2) == betas
    assert gan.G_optimizer is not gan.D_optimizer


def tiny(**kwargs):
    return SpecGAN(SpecGANGenerator(dim=1), SpecGANDiscriminator(dim=1), **kwargs)


def noise(iterations, nupdates=5, batch=2):
    rs = np.random.RandomState(0)
    x = rs.uniform(-1, 1, [iterations, nupdates, batch, 128, 128, 1])
    return tf.data.Dataset.from_tensor_slices(x.astype(np.float32))


@pytest.mark.parametrize("loss", TRAININGS)
def test_fit_as_a_keras_user_would(loss):
    gan = tiny(seed=0)
    gan.compile(loss=loss)
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(dict(logs))
    )
    history = gan.fit(
        noise(3), epochs=2, shuffle=False, verbose=0, callbacks=[spy]
    ).history
    assert gan.global_step == 6 and len(seen) == 6
    expected = {"D_loss", "G_loss", "D_x", "D_G_z"}
    if loss == "wgan-gp":
        expected |= {"gradient_penalty", "slopes"}
    assert expected <= set(seen[0])
    assert all(np.isfinite(v) for logs in seen for v in logs.values())
    # an epoch's history is the mean over its steps
    means = [np.mean([s["D_loss"] for s in seen[i : i + 3]]) for i in (0, 3)]
    np.testing.assert_allclose(history["D_loss"], means, rtol=1e-5)
    if loss == "wgan":
        clipped = [np.abs(v).max() for v in gan.D.trainable_variables]
        assert max(clipped) <= np.float32(0.01)


def test_training_goes_down_on_one_batch():
    gan = tiny(seed=0)
    gan.compile(G_optimizer=keras.optimizers.Adam(1e-3))
    losses = [float(gan.train_step(x)["D_loss"]) for x in noise(1).repeat(15)]
    assert losses[-1] < losses[0]


def test_each_update_of_D_gets_its_own_batch_z_and_alpha_and_G_only_z(monkeypatch):
    gan = tiny(seed=0)
    gan.compile()
    calls = []
    D, G = gan.update_D, gan.update_G
    monkeypatch.setattr(
        gan, "update_D", lambda x, z, a: calls.append((x, z, a)) or D(x, z, a)
    )
    monkeypatch.setattr(gan, "update_G", lambda z: calls.append((z,)) or G(z))
    (x,) = noise(1)
    gan.train_step(x)
    assert [len(c) for c in calls] == [3, 3, 3, 3, 3, 1]
    for i, (x_i, z, a) in enumerate(calls[:5]):
        np.testing.assert_array_equal(x_i, x[i])
        assert z.shape == (2, 100) and a.shape == (2, 1, 1, 1)
        assert -1 <= np.min(z) < -0.9 and 0.9 < np.max(z) <= 1
        assert np.min(a) >= 0 and np.max(a) <= 1
    zs = [c[1] if len(c) == 3 else c[0] for c in calls]
    assert len({z.numpy().tobytes() for z in zs}) == 6
    assert len({c[2].numpy().tobytes() for c in calls[:5]}) == 5


def test_latents_are_uniform():
    z = tiny(seed=0).draw_z(2000).numpy().ravel()
    assert z.min() < -0.9999 and z.max() > 0.9999
    assert abs(z.var() - 1 / 3) < 2e-3 and abs(np.mean(z**4) - 1 / 5) < 2e-3


def test_generator_moves_its_averages_in_all_six_updates(monkeypatch):
    gan = SpecGAN(
        SpecGANGenerator(dim=1, use_batchnorm=True),
        SpecGANDiscriminator(dim=1, use_batchnorm=True),
        seed=0,
    )
    gan.compile("wgan")
    moved = []
    move = tf1.BatchNormalization._move_averages

    def spy(self, *args, **kwargs):
        moved.append(self.gamma.path)
        return move(self, *args, **kwargs)

    monkeypatch.setattr(tf1.BatchNormalization, "_move_averages", spy)
    (x,) = noise(1)
    gan.train_step(x)
    scopes = ["z_project", *(f"upconv_{i}" for i in range(4))]
    gammas = [f"G/{scope}/batch_normalization/gamma" for scope in scopes]
    assert sorted(moved) == sorted(gammas * 6)


def test_a_seed_repeats_a_training():
    def trained():
        keras.utils.set_random_seed(3)
        gan = tiny(seed=3)
        gan.compile()
        gan.fit(noise(2), shuffle=False, verbose=0)
        return np.concatenate([v.numpy().ravel() for v in gan.G.variables])

    np.testing.assert_array_equal(trained(), trained())


@pytest.mark.parametrize("loss", ["lsgan", "wgan-gp"])
def test_keras_file_round_trip(tmp_path, loss):
    """Networks, loss and optimizers: training goes on with the same weights."""
    (x,) = noise(1, nupdates=2)
    gan = tiny(disc_nupdates=2, seed=0)
    gan.compile(loss)
    gan.train_step(x)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert loaded.disc_nupdates == 2 and loaded.loss_name == loss
    assert loaded.global_step == 1
    z, a = tf.ones([2, 100]) / 3, tf.ones([2, 1, 1, 1]) / 3
    for g in (gan, loaded):
        g.update_D(x[0], z, a)
        g.update_G(z)
    for ours, theirs in zip(gan.weights, loaded.weights, strict=True):
        if "seed_generator" not in ours.path:
            assert ours.path == theirs.path
            np.testing.assert_array_equal(ours, theirs)


def test_impossible_options():
    with pytest.raises(ValueError, match="loss must be one of .* Received: 'hinge'"):
        tiny().compile("hinge")
    with pytest.raises(ValueError, match="disc_nupdates must be a positive integer"):
        tiny(disc_nupdates=0)
