"""Errors in the port, each of which the cross-check must find out.

Each is a function of a pytest.MonkeyPatch, which puts it in place.
"""

import functools

import keras
import tensorflow as tf

from specgan_tf import gan, generate, kernels, losses, moments, specgan, spectral, tf1


def swap_two_taps(patch):
    class Swapped(kernels.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, tf.gather(kernel, [1, 0, 2, 3, 4]))

    patch.setattr(kernels, "Conv2D", Swapped)


def normal_z(patch):
    def sample_z(n, latent_dim, seed):
        return tf.random.stateless_normal([n, latent_dim], [seed, 0])

    patch.setattr(generate, "sample_z", sample_z)


def normal_z_in_training(patch):
    def draw_z(self, n):
        return keras.random.normal((n, self.G.latent_dim), seed=self.seed_generator)

    patch.setattr(gan.SpecGAN, "draw_z", draw_z)


def initial_kernels(patch):
    """Keras' own glorot_normal in place of glorot_uniform."""
    for where, name in ((kernels, "Conv2D"), (keras.layers, "Dense")):
        layer = functools.partial(
            getattr(where, name), kernel_initializer="glorot_normal"
        )
        patch.setattr(where, name, layer)


def adams_epsilon(patch):
    patch.setattr(tf1, "Adam", keras.optimizers.Adam)


def mean_square_from_zero(patch):
    class Zero(tf1.RMSProp):
        def build(self, var_list):
            keras.optimizers.RMSprop.build(self, var_list)

    patch.setattr(tf1, "RMSProp", Zero)


def half_pixels(method, patch):
    def resize(x, size):
        return tf.image.resize(x, size, method)

    name = {"bilinear": "lin", "bicubic": "cub"}[method]
    patch.setitem(specgan.UPSAMPLES, name, resize)


def symmetric_hann(patch):
    window = functools.partial(tf.signal.hann_window, periodic=False)
    stft = functools.partial(tf.signal.stft, window_fn=window)
    patch.setattr(tf.signal, "stft", stft)
    patch.setattr(moments, "HANN", window(256).numpy())
    patch.setitem(spectral.GL_WINDOWS, "hann", window)


def one_batch_for_five_updates(patch):
    train_step = gan.SpecGAN.train_step
    patch.setattr(
        gan.SpecGAN, "train_step", lambda self, x: train_step(self, x * 0 + x[:1])
    )


def biased_moving_variance(patch):
    def move(self, mean, variance, count):
        self.moving_mean.assign_sub((self.moving_mean - mean) * 0.01)
        self.moving_variance.assign_sub((self.moving_variance - variance) * 0.01)

    patch.setattr(tf1.BatchNormalization, "_move_averages", move)


def averages_only_in_gs_update(patch):
    def D_loss(self, x, z, alpha, D_loss=gan.SpecGAN.D_loss):
        kept = [tf.identity(v) for v in self.G.non_trainable_variables]
        result = D_loss(self, x, z, alpha)
        for v, value in zip(self.G.non_trainable_variables, kept, strict=True):
            v.assign(value)
        return result

    patch.setattr(gan.SpecGAN, "D_loss", D_loss)


def nyquist_kept_and_dc_dropped(patch):
    def log_magnitude(*args, original=spectral.log_magnitude):
        return tf.roll(original(*args), -1, axis=2)

    patch.setattr(spectral, "log_magnitude", log_magnitude)


def nyquist_silent(patch):
    def invert(X_mag, *args, original=spectral.invert_spectra_griffin_lim):
        silent = tf.concat([X_mag[..., :-1], X_mag[..., -1:] * 0], -1)
        return original(silent, *args)

    patch.setattr(spectral, "invert_spectra_griffin_lim", invert)


def int16_rounded(patch):
    def float_to_int16(x):
        x = tf.round(tf.clip_by_value(x * 32767.0, -32767.0, 32767.0))
        return tf.cast(x, tf.int16)

    patch.setattr(spectral, "float_to_int16", float_to_int16)


def int16_of_32768(patch):
    def float_to_int16(x):
        return tf.cast(tf.clip_by_value(x * 32768.0, -32768.0, 32767.0), tf.int16)

    patch.setattr(spectral, "float_to_int16", float_to_int16)


def loss_not_halved(loss, patch):
    right = losses.LOSSES[loss]
    wrong = losses.Loss(lambda *D: 2 * right.D(*D), right.G, right.optimizer)
    patch.setitem(losses.LOSSES, loss, wrong)


def stale_z(patch):
    """G is updated on the latents of D's last update."""
    update_D, update_G = gan.SpecGAN.update_D, gan.SpecGAN.update_G
    last = []

    def remember(self, x, z, alpha):
        last[:] = [z]
        return update_D(self, x, z, alpha)

    patch.setattr(gan.SpecGAN, "update_D", remember)
    patch.setattr(gan.SpecGAN, "update_G", lambda self, z: update_G(self, *last))


def no_clipping(patch):
    right = losses.LOSSES["wgan"]
    wrong = losses.Loss(right.D, right.G, right.optimizer)
    patch.setitem(losses.LOSSES, "wgan", wrong)


def blunt_kink(patch):
    """Units up to 0.01 below zero take the slope above it; values are right."""

    @tf.custom_gradient
    def lrelu(x):
        slope = tf.where(tf.stop_gradient(x) > -0.01, 1.0, 0.2)
        return tf.maximum(0.2 * x, x), lambda upstream: upstream * slope

    patch.setattr(specgan, "lrelu", lrelu)


def stopped_gradients_in_batch_norm(patch):
    """tf.nn.moments, as in Keras' own layer: wrong second derivatives."""

    def call(self, x, training=False):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return x * scale + (self.beta - mean * scale)

    patch.setattr(tf1.BatchNormalization, "call", call)


def with_(error, argument):
    named = functools.partial(error, argument)
    named.__name__ = f"{error.__name__}-{argument}"
    return named


# Each with a golden in which it must be found out, and the stage that finds it.
ERRORS = [
    (swap_two_taps, "model_k5_dim2_bn0_zeros", "discriminator"),
    (normal_z, "infer", "inference"),
    (normal_z_in_training, "train_wgan_bn0_zeros", "draws"),
    (initial_kernels, "init_small", "initial"),
    (adams_epsilon, "optimizer_wgan-gp", "optimizers"),
    (adams_epsilon, "optimizer_dcgan", "optimizers"),
    (mean_square_from_zero, "optimizer_lsgan", "optimizers"),
    (mean_square_from_zero, "train_lsgan_bn0_zeros", "iterations"),
    (with_(half_pixels, "bilinear"), "model_k5_dim2_bn0_lin", "generator"),
    (with_(half_pixels, "bicubic"), "model_k5_dim2_bn0_cub", "generator"),
    (symmetric_hann, "spectral", "t_to_f"),
    (symmetric_hann, "spectral", "f_to_t"),
    (symmetric_hann, "data", "moments"),
    (one_batch_for_five_updates, "train_lsgan_bn0_zeros", "iterations"),
    (one_batch_for_five_updates, "continue_wgan-gp", "checkpoints"),
    (biased_moving_variance, "model_k5_dim2_bn1_nn", "generator"),
    (averages_only_in_gs_update, "continue_lsgan", "iterations"),
    (nyquist_kept_and_dc_dropped, "spectral", "t_to_f"),
    (nyquist_silent, "spectral", "f_to_t"),
    (int16_rounded, "infer", "int16"),
    (int16_of_32768, "infer", "int16"),
    (with_(loss_not_halved, "lsgan"), "train_lsgan_bn0_zeros", "losses"),
    (with_(loss_not_halved, "dcgan"), "train_dcgan_bn0_zeros", "gradients"),
    (stale_z, "train_lsgan_bn0_zeros", "gradients"),
    (stale_z, "continue_lsgan", "checkpoints"),
    (no_clipping, "train_wgan_bn0_zeros", "iterations"),
    (stopped_gradients_in_batch_norm, "derivative_small", "second derivatives"),
    (stale_z, "train_wgan-gp_at_kinks", "updates"),
    (one_batch_for_five_updates, "train_wgan-gp_at_kinks", "updates"),
    (blunt_kink, "train_wgan-gp_at_kinks", "updates"),
]
