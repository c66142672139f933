"""What a step draws and updates, and the Keras surface."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator, kernels, tf1
from specgan_tf.losses import LOSSES

TRAININGS = ["dcgan", "lsgan", "wgan", "wgan-gp"]


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
    expected |= {"D_gradient_norm", "G_gradient_norm"}
    if loss == "wgan-gp":
        expected |= {"gradient_penalty", "slopes"}
    assert expected == set(seen[0]) == set(history)
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


def test_one_iteration_of_ones_own():
    gan = tiny(seed=0)
    gan.compile(loss="lsgan")
    (x,) = noise(1)
    values = gan.train_on_batch(x, return_dict=True)
    assert gan.global_step == 1 and 0 < values["D_loss"] < 2


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


@pytest.mark.parametrize("loss", ["wgan-gp", "dcgan"])
def test_norms_of_gradients(loss, measured):
    """Of all variables together, as they are before the update."""
    gan = tiny(seed=0)
    gan.compile(loss)
    (x,) = noise(1)
    z, alpha = gan.draw_z(2), gan.draw_alpha(x[0])
    for net, of_loss, update in (
        (
            "D",
            lambda: gan.D_loss(x[0], z, alpha)[0],
            lambda: gan.update_D(x[0], z, alpha),
        ),
        ("G", lambda: gan.G_loss(z), lambda: gan.update_G(z)),
    ):
        with tf.GradientTape() as tape:
            value = of_loss()
        gradients = tape.gradient(value, getattr(gan, net).trainable_variables)
        want = np.sqrt(
            sum(np.sum(np.square(g.numpy().astype("f8"))) for g in gradients)
        )
        norm = update()[f"{net}_gradient_norm"].numpy()
        assert norm > 0
        measured(f"norm of {net}'s gradient, relative", abs(norm / want - 1), 1e-6)


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


def test_there_is_no_evaluate():
    gan = tiny()
    gan.compile()
    with pytest.raises(NotImplementedError, match="has no evaluate"):
        gan.evaluate(noise(1), verbose=0)


def count_traces(gan, monkeypatch):
    traces, real = [], gan.train_step
    monkeypatch.setattr(gan, "train_step", lambda data: traces.append(1) or real(data))
    return traces


@pytest.mark.parametrize("options", [{}, {"mixed_precision": True}])
def test_a_training_is_traced_once(options, monkeypatch):
    gan = tiny(seed=0)
    gan.compile(**options)
    traces = count_traces(gan, monkeypatch)
    gan.fit(noise(3).repeat(2), epochs=2, steps_per_epoch=3, shuffle=False, verbose=0)
    assert gan.global_step == 6
    assert len(traces) == 1


@pytest.mark.slow
def test_jit_compile(measured):
    """XLA trains, and what it computes is the same but for its own random draws."""
    gan = tiny(seed=0)
    gan.compile(jit_compile=True, ema_momentum=0.9)
    before = gan.G_ema.variables[0].numpy()
    gan.fit(noise(1), shuffle=False, verbose=0)
    assert (gan.G_ema.variables[0].numpy() != before).any()
    assert gan.jit_compile and gan.global_step == 1
    rs = np.random.RandomState(0)
    x = rs.uniform(-1, 1, (2, 128, 128, 1)).astype("f4")
    z = rs.uniform(-1, 1, (2, 100)).astype("f4")
    alpha = rs.uniform(size=(2, 1, 1, 1)).astype("f4")

    def gradients():
        with tf.GradientTape() as tape:
            loss, _ = gan.D_loss(x, z, alpha)
        return loss, *tape.gradient(loss, gan.D.trainable_variables)

    plain, compiled = (tf.function(gradients, jit_compile=j)() for j in (False, True))
    for a, b in zip(plain, compiled, strict=True):
        error = np.abs(a - b).max() / max(1.0, np.abs(a).max())
        measured("losses, gradients", error, 1e-5)


def test_mixed_precision_trains_and_keeps_variables_in_float32(tmp_path):
    gan = tiny(seed=0)
    gan.compile(mixed_precision=True)
    gan.fit(noise(1), shuffle=False, verbose=0)
    assert {v.dtype for v in gan.G.variables + gan.D.variables} == {"float32"}
    gan.save(tmp_path / "gan.keras")
    again = keras.models.load_model(tmp_path / "gan.keras")
    assert again.mixed_precision and not again.jit_compile


@pytest.mark.parametrize("fast", [False, True])
def test_half_precision_where_it_is_slow_is_one_warning(fast, monkeypatch, caplog):
    monkeypatch.setattr(kernels, "fast_bfloat16", lambda: (fast, "this CPU is odd"))
    tiny(seed=0).compile()
    assert not caplog.records
    tiny(seed=0).compile(mixed_precision=True)
    want = "mixed_precision=True makes training slower on this machine: this CPU is odd"
    assert [r.getMessage() for r in caplog.records] == [want] * (not fast)


def test_a_strangers_keras_file_cannot_ask_for_all_memory_or_run_code(tmp_path):
    fp = tmp_path / "gan.keras"
    gan = tiny()
    gan.compile()
    gan.save(fp)
    with zipfile.ZipFile(fp) as z:
        parts = {name: z.read(name) for name in z.namelist()}
    config = parts["config.json"]
    huge = config.replace(b'"dim": 1,', b'"dim": 1000000,')
    assert huge != config
    layer = keras.layers.Lambda(lambda x: x)  # Keras saves its byte code
    code = keras.saving.serialize_keras_object(keras.Sequential([layer]))
    for changed, error in ((huge, "allowed"), (json.dumps(code).encode(), "unsafe")):
        parts["config.json"] = changed
        with zipfile.ZipFile(fp, "w") as z:
            for name, content in parts.items():
                z.writestr(name, content)
        with pytest.raises((ValueError, TypeError), match=error):
            keras.models.load_model(fp)
