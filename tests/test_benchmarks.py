"""What the benchmarks compare with computes the same."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from benchmarks import speed, torch_twin  # noqa: E402


@pytest.fixture(scope="module")
def pair():
    keras.utils.set_random_seed(0)
    gan = SpecGAN(SpecGANGenerator(dim=4), SpecGANDiscriminator(dim=4), seed=0)
    gan.compile()
    twin = torch_twin.Twin(dim=4)
    torch_twin.copy_weights(gan, twin)
    rs = np.random.RandomState(0)
    x = rs.uniform(-1, 1, (3, 128, 128, 1)).astype("f4")
    z = rs.uniform(-1, 1, (3, 100)).astype("f4")
    alpha = rs.uniform(size=(3, 1, 1, 1)).astype("f4")
    return gan, twin, (x, z, alpha)


def test_the_twin_has_as_many_parameters(pair):
    gan, twin, _ = pair
    for ours, theirs in ((gan.G, twin.G), (gan.D, twin.D)):
        assert sum(p.numel() for p in theirs.parameters()) == ours.count_params()


@pytest.mark.parametrize("net", ["D", "G"])
def test_the_twin_has_the_same_losses_and_gradients(pair, net, measured):
    gan, twin, (x, z, alpha) = pair
    with tf.GradientTape() as tape:
        loss = gan.D_loss(x, z, alpha)[0] if net == "D" else gan.G_loss(z)
    variables = getattr(gan, net).trainable_variables
    gradients = dict(
        zip([v.path for v in variables], tape.gradient(loss, variables), strict=True)
    )
    x, z, alpha = map(torch.from_numpy, (x.transpose(0, 3, 1, 2), z, alpha))
    theirs = twin.D_loss(x, z, alpha) if net == "D" else twin.G_loss(z)
    # Fresh networks: G's loss is a sum of cancelling terms, D's is 10 of the penalty.
    error = abs(float(theirs.detach()) - float(loss))
    measured(f"{net}_loss", error, {"D": 1e-5, "G": 1e-8}[net])
    twin.D.zero_grad(), twin.G.zero_grad()
    theirs.backward()
    parameters = torch_twin.named(twin)
    for name, gradient in gradients.items():
        ours, grad = torch_twin.to_torch(gradient), parameters[name].grad.numpy()
        scale = np.abs(ours).max()
        if name == "D/output/dense/bias":  # -1 + 1: none
            scale = 1.0
        measured("gradients, of the largest", np.abs(ours - grad).max() / scale, 1e-4)


def test_a_step_moves_both_networks(pair):
    _, _, (x, *_) = pair
    torch.manual_seed(0)
    twin = torch_twin.Twin(dim=4)  # of fewer channels, all of one may be dead
    before = [p.detach().clone() for p in (*twin.G.parameters(), *twin.D.parameters())]
    twin.update_D(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    twin.update_G(3)
    after = [*twin.G.parameters(), *twin.D.parameters()]
    # The critic's last bias has no gradient: it is added to both of its terms.
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(same) <= 1
    assert all(p.grad is not None for p in after)


def test_the_picture_of_speed_has_six_bars(tmp_path):
    """From the numbers that the document prints; a headline names a row of it."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    ratios = speed.ratios_in(os.path.join(ROOT, "docs", "SPEED.md"))
    assert ratios.keys() == {(what, than) for what, than, _ in speed.HEADLINES}
    assert len(ratios) == 6 and all(ratio > 1 for ratio in ratios.values())
    speed.picture(ratios, tmp_path / "speed.png")
    image = tf.io.decode_png((tmp_path / "speed.png").read_bytes()).numpy()
    bars = (image[..., :3] == [0x2B, 0x67, 0x77]).all(-1).any(1)
    assert np.sum(np.diff(bars.astype(int)) == 1) == 6  # five, and one in the legend
