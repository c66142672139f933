import keras
import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import SpecGANDiscriminator, SpecGANGenerator


def test_discriminators_moving_averages_never_move():
    D = SpecGANDiscriminator(dim=2, use_batchnorm=True)
    before = [v.numpy() for v in D.non_trainable_variables]
    D(tf.random.normal([3, 128, 128, 1]), training=True)
    after = [v.numpy() for v in D.non_trainable_variables]
    assert before and all((a == b).all() for a, b in zip(before, after, strict=True))


def test_parameter_counts_at_the_defaults():
    assert SpecGANGenerator().count_params() == 19_065_345
    assert SpecGANDiscriminator().count_params() == 17_427_969


@pytest.mark.parametrize("upsample", ["zeros", "nn", "lin", "cub"])
@pytest.mark.parametrize("kernel_len", [1, 3, 4, 7])
def test_every_kernel_and_upsampling_has_the_same_shapes(kernel_len, upsample):
    G = SpecGANGenerator(kernel_len, dim=1, upsample=upsample, latent_dim=7)
    D = SpecGANDiscriminator(kernel_len, dim=1)
    x = G(tf.zeros([2, 7]))
    assert x.shape == G.compute_output_shape((2, 7)) == (2, 128, 128, 1)
    assert D(x).shape == D.compute_output_shape(x.shape) == (2,)


@pytest.mark.parametrize("kernel_len", [3, 4, 5, 7])
def test_transposed_convolution_is_the_gradient_of_the_convolution(kernel_len):
    """tf.nn's SAME padding, which for even kernels is lopsided."""
    layer = SpecGANGenerator(kernel_len, dim=1).upconv_3.layers[0]
    kernel = np.random.RandomState(0).randn(*layer.kernel.shape).astype(np.float32)
    layer.kernel.assign(kernel)
    x = np.random.RandomState(1).randn(1, 32, 32, kernel.shape[3]).astype(np.float32)
    want = tf.nn.conv2d_transpose(x, kernel, [1, 64, 64, kernel.shape[2]], 2, "SAME")
    np.testing.assert_allclose(layer(x), want, atol=1e-5)


def test_initial_distributions():
    """Glorot uniform kernels, zero biases, as tf.layers draws them."""
    keras.utils.set_random_seed(0)
    for net in (SpecGANGenerator(dim=8), SpecGANDiscriminator(dim=8)):
        for v in net.trainable_variables:
            value = v.numpy()
            if v.name == "bias":
                assert not value.any()
                continue
            area = np.prod(value.shape[:-2])
            limit = np.sqrt(6 / (area * (value.shape[-2] + value.shape[-1])))
            assert np.abs(value).max() <= limit
            if value.size > 3000:
                assert np.abs(value).max() > 0.99 * limit
                assert abs(value.var() / (limit**2 / 3) - 1) < 0.1
                assert abs(value.mean()) < 0.05 * limit


@pytest.mark.parametrize("upsample", ["zeros", "cubic"])
def test_keras_file_round_trip(tmp_path, upsample):
    G = SpecGANGenerator(4, dim=2, use_batchnorm=True, upsample=upsample, latent_dim=9)
    D = SpecGANDiscriminator(4, dim=2, use_batchnorm=True)
    z, x = tf.random.uniform([3, 9], -1, 1), tf.random.normal([3, 128, 128, 1])
    G(z, training=True)
    for net, argument in ((G, z), (D, x)):
        path = str(tmp_path / f"{net.name}.keras")
        net.save(path)
        loaded = keras.models.load_model(path)
        assert loaded.get_config() == net.get_config()
        assert [v.path for v in loaded.variables] == [v.path for v in net.variables]
        np.testing.assert_array_equal(loaded(argument), net(argument))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"upsample": "sinc"}, r"upsample must be one of .*'cub'.* Received: 'sinc'"),
        ({"dim": 10**5}, "kernel_len 5, dim 100000, .* at most 2147483648 are allowed"),
        ({"latent_dim": 10**9}, "latent_dim 1000000000 would make a layer of"),
        ({"dim": 0}, "dim must be a positive integer. Received: 0"),
        ({"kernel_len": 2.5}, "kernel_len must be a positive integer. Received: 2.5"),
        ({"latent_dim": -1}, "latent_dim must be a positive integer. Received: -1"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        SpecGANGenerator(**options)
