"""Half precision: as near to float32 as bfloat16's roundings allow, and it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator, kernels
from specgan_tf.weights import checkpoint

B = 4
ROUNDING = 2.0**-8  # bfloat16's largest relative error


def spectrograms(rs, n=B):
    """Smooth shapes with some noise, float32 [n, 128, 128, 1] in [-1, 1]."""
    shapes = tf.image.resize(rs.normal(size=(n, 8, 8, 1)), [128, 128])
    return np.clip(0.5 * shapes + 0.2 * rs.normal(size=shapes.shape), -1, 1).astype(
        "f4"
    )


def draws(rs):
    """z and alpha of an update of D."""
    z = rs.uniform(-1, 1, (B, 100)).astype("f4")
    return z, rs.uniform(size=(B, 1, 1, 1)).astype("f4")


def networks(use_batchnorm=False, upsample="zeros", dim=4):
    keras.utils.set_random_seed(2)
    G = SpecGANGenerator(dim=dim, use_batchnorm=use_batchnorm, upsample=upsample)
    return G, SpecGANDiscriminator(dim=dim, use_batchnorm=use_batchnorm)


def compiled(G, D, **options):
    gan = SpecGAN(G, D, seed=0)
    gan.compile(**options)
    return gan


def iterations(gan, n, rs, after=lambda: None):
    """n iterations of 5:1, `after` called after each; the losses, [n, 2]."""
    update_D, update_G = tf.function(gan.update_D), tf.function(gan.update_G)
    losses = []
    for _ in range(n):
        for _ in range(5):
            D = update_D(spectrograms(rs), *draws(rs))
        losses.append((D["D_loss"], update_G(draws(rs)[0])["G_loss"]))
        after()
    return np.array(losses)


def gradients(gan, x, z, alpha):
    """The values of D's update, and every gradient by its variable's path."""
    with tf.GradientTape(persistent=True) as tape:
        loss, values = gan.D_loss(x, z, alpha)
        G_loss = gan.G_loss(z)
    values["G_loss"] = G_loss
    assert {v.dtype for v in values.values()} == {tf.float32}
    found = {}
    for net, own in ((gan.D, loss), (gan.G, G_loss)):
        variables = net.trainable_variables
        for v, g in zip(variables, tape.gradient(own, variables), strict=True):
            found[v.path] = np.zeros(v.shape) if g is None else np.ravel(g)
    return values, found


def rounded(x):
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float32)


def with_rounded_weights(G, D, f):
    """f() while every kernel is rounded to bfloat16."""
    kept = {v.path: v.numpy() for net in (G, D) for v in net.trainable_variables}
    for net in (G, D):
        for v in net.trainable_variables:
            if len(v.shape) > 1:
                v.assign(rounded(v))
    result = f()
    for net in (G, D):
        for v in net.trainable_variables:
            v.assign(kept[v.path])
    return result


def distance(a, b):
    return np.linalg.norm(np.ravel(a) - np.ravel(b)) / np.linalg.norm(np.ravel(a))


CASES = [
    (0, use_batchnorm, upsample)
    for use_batchnorm in (False, True)
    for upsample in ("zeros", "nn", "lin", "cub")
] + [(10, False, "zeros"), (10, True, "nn")]


# Of other losses, and with the matrix products, which otherwise wide networks have.
CASES = [(*case, "wgan-gp", False) for case in CASES] + [
    (0, False, "zeros", loss, products)
    for loss in ("dcgan", "lsgan", "wgan", "wgan-gp")
    for products in (False, True)
    if (loss, products) != ("wgan-gp", False)
]
CASES += [(10, False, "zeros", "wgan-gp", True), (0, True, "nn", "wgan-gp", True)]
BFLOAT16_LIMITS = "BFLOAT16_FILTER", "BFLOAT16_INPUT", "BFLOAT16_FORWARD"


@pytest.mark.parametrize("trained, use_batchnorm, upsample, loss, products", CASES)
def test_gradients(
    trained, use_batchnorm, upsample, loss, products, measured, monkeypatch
):
    """Each is about as far from float32's as float32 is from itself, with kernels and
    inputs rounded to bfloat16. (That is more than a rounding: activations within it of
    a relu's kink change sides.)"""
    used = count_products(monkeypatch)
    if products:  # as if all layers were deep
        for name in BFLOAT16_LIMITS:
            monkeypatch.setattr(kernels, name, 0)
    G, D = networks(use_batchnorm, upsample)
    plain = compiled(G, D, loss=loss)
    mixed = compiled(G, D, loss=loss, mixed_precision=True)
    iterations(plain, trained, np.random.RandomState(1))
    rs = np.random.RandomState(0)
    x, (z, alpha) = spectrograms(rs), draws(rs)
    values, exact = gradients(plain, x, z, alpha)
    assert not used, "float32's own limits are far"
    near, found = gradients(mixed, x, z, alpha)
    on_gpu = bool(tf.config.list_physical_devices("GPU"))  # where they never run
    assert bool(used) is (products and not on_gpu)
    _, noisy = with_rounded_weights(
        G, D, lambda: gradients(plain, rounded(x), rounded(z), alpha)
    )
    assert near["D_x"] != values["D_x"], "it has not rounded anything"
    if loss == "wgan-gp":
        measured("slopes", abs(near["slopes"] / values["slopes"] - 1.0), 0.02)
    for name in judged(exact):
        error = distance(exact[name], found[name])
        # A bias' gradient is a few sums over all pixels, some of which nearly cancel:
        # hold each against the largest of its network's.
        peers = [n for n in judged(exact) if is_bias(n) and n[0] == name[0]]
        peers = peers if is_bias(name) else [name]
        noise = max(distance(exact[n], noisy[n]) for n in peers)
        measured("times the noise", error / max(noise, ROUNDING), 4.0)


def count_products(monkeypatch):
    """A list that gets an entry for each use of `kernels._patches`."""
    used, patches = [], kernels._patches

    def counted(x, k):
        used.append(x.dtype)
        return patches(x, k)

    monkeypatch.setattr(kernels, "_patches", counted)
    return used


def is_bias(name):
    return name.endswith(("/bias", "/beta"))


def judged(names):
    """Without the gradients that are zero: of a bias that batch norm subtracts again,
    and of D's last, where real and generated cancel."""
    for name in names:
        block = "/".join(name.split("/")[:2])
        cancelled = name.endswith("/bias") and f"{block}/batch_normalization/beta"
        if name != "D/output/dense/bias" and cancelled not in names:
            yield name


@pytest.mark.slow
def test_a_hundred_iterations(measured):
    """Half precision drifts no farther from float32 than float32 does from itself, with
    weights moved by up to a bfloat16 rounding after each iteration."""
    rs = np.random.RandomState(3)

    def nudge(G, D):
        for v in (*G.trainable_variables, *D.trainable_variables):
            v.assign(v * (1 + rs.uniform(-ROUNDING, ROUNDING, v.shape)))

    def train(mixed_precision, after=lambda G, D: None):
        G, D = networks()
        gan = compiled(G, D, mixed_precision=mixed_precision)
        losses = iterations(gan, 100, np.random.RandomState(1), lambda: after(G, D))
        z = np.random.RandomState(2).uniform(-1, 1, (64, 100)).astype("f4")
        return losses, G(z).numpy()

    losses, made = train(False)
    noisy_losses, noisy = train(False, nudge)
    mixed_losses, mixed = train(True)
    assert made.std() > 0.05, "it has not learned anything"
    for what, plain, other, noise in (
        ("losses", losses, mixed_losses, noisy_losses),
        ("spectrograms", made, mixed, noisy),
    ):
        measured(what, distance(plain, other) / distance(plain, noise), 1.5)


@pytest.mark.parametrize("loss", ["dcgan", "lsgan", "wgan", "wgan-gp"])
@pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
def test_every_loss_trains(loss, options):
    gan = compiled(*networks(dim=1), loss=loss, mixed_precision=True, **options)
    before = [[v.numpy() for v in net.variables] for net in (gan.G, gan.D)]
    x = spectrograms(np.random.RandomState(0), 10).reshape(1, 5, 2, 128, 128, 1)
    data = tf.data.Dataset.from_tensor_slices(x)
    logs = gan.fit(data, shuffle=False, verbose=0).history
    assert np.isfinite([v for values in logs.values() for v in values]).all()
    for net, was in zip((gan.G, gan.D), before, strict=True):
        assert {v.dtype for v in net.variables} == {"float32"}
        pairs = zip(net.variables, was, strict=True)
        assert any((v.numpy() != b).any() for v, b in pairs), net.name


def test_resumes_as_if_never_interrupted(tmp_path):
    """Bit for bit, from a checkpoint of float32 weights; and so does one that is
    restored without half precision, from the same checkpoint, in float32."""
    x = spectrograms(np.random.RandomState(0), 10).reshape(5, 2, 128, 128, 1)
    gan = compiled(*networks(dim=1), mixed_precision=True)
    gan.train_step(tf.constant(x))
    prefix = checkpoint.save(gan, tmp_path)
    other = compiled(*networks(dim=1), mixed_precision=True)
    plain = compiled(*networks(dim=1))
    for g in (other, plain):
        checkpoint.restore(g, prefix)
        assert all(
            (np.array(a) == np.array(b)).all()
            for a, b in zip(gan.D.variables, g.D.variables, strict=True)
        )
    for g in (gan, other, plain):
        g.train_step(tf.constant(x))
    for net in ("G", "D"):
        for a, b, c in zip(
            *(getattr(g, net).variables for g in (gan, other, plain)), strict=True
        ):
            np.testing.assert_array_equal(a, b, a.path)
            assert {v.dtype for v in (a, b, c)} == {"float32"}
    a, c = (g.D.trainable_variables[0].numpy() for g in (gan, plain))
    assert 0 < np.abs(a - c).max() < 2e-3, "one in half precision, one in float32"


def test_kernels_are_cast_once():
    gan = compiled(*networks(dim=1), mixed_precision=True)
    x, z, alpha = (tf.zeros(s) for s in ([2, 128, 128, 1], [2, 100], [2, 1, 1, 1]))
    graph = tf.function(gan.D_loss).get_concrete_function(x, z, alpha).graph
    casts = [op.inputs[0] for op in graph.get_operations() if op.type == "Cast"]
    kernels_cast = [t for t in casts if t.dtype == tf.float32 and t.shape[:1] == [5]]
    assert len(kernels_cast) == 10, "five of each network"
    activations = [t for t in casts if t.shape.rank == 4 and t.shape[1] in (8, 16, 32)]
    assert not activations, "cast between two convolutions"


@pytest.mark.parametrize(
    "flags, fast, why",
    [
        (
            "flags : avx2 avx512f avx512_bf16 amx_bf16 amx_tile",
            True,
            "this CPU has AMX",
        ),
        ("flags : avx2 avx512f avx512_bf16", False, "has no AMX"),
        (None, False, "only Linux"),
    ],
)
def test_where_it_is_fast(flags, fast, why, tmp_path, monkeypatch, caplog):
    from specgan_tf.cli import train

    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(flags)
    monkeypatch.setattr(kernels, "CPUINFO", cpuinfo)
    caplog.set_level("INFO")
    assert kernels.fast_bfloat16()[0] is fast
    assert train.half_precision(True) is fast
    name = "bfloat16" if fast else "float32"
    assert f"Precision: {name}" in caplog.text and why in caplog.text
    caplog.clear()
    assert train.half_precision(False) is False
    assert "Precision: float32" in caplog.text
    assert ("--mixed_precision" in caplog.text) is fast
