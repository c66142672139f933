import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import spectral


def test_f_to_img_clips_and_has_low_frequencies_at_the_bottom():
    X_norm = np.full((1, 128, 128, 1), -1, np.float32)
    X_norm[0, :, 0] = 1.0  # the lowest bin, always
    img = spectral.f_to_img(X_norm).numpy()
    assert (img[0, -1] == 255).all() and (img[0, :-1] == 0).all()


def test_int16_truncates_and_clips():
    x = tf.constant([0.0, 0.9999, -0.9999, 1.0, -1.0, 2.0, -2.0])
    want = [0, 32763, -32763, 32767, -32767, 32767, -32767]
    assert spectral.float_to_int16(x).numpy().tolist() == want


def griffin_lim(X_mag, ngl, window, momentum):
    """The steps in the words of tf.signal, which knows any hop."""

    def inverse_stft(X):
        window_fn = spectral.GL_WINDOWS[window]
        return tf.signal.inverse_stft(X, 256, 128, window_fn=window_fn)

    X = X_prev = tf.complex(X_mag, tf.zeros_like(X_mag))
    for _ in range(ngl):
        X_est = tf.signal.stft(inverse_stft(X), 256, 128)
        ahead = X_est + momentum * (X_est - X_prev)
        floored = tf.cast(tf.maximum(1e-8, tf.abs(ahead)), tf.complex64)
        X, X_prev = tf.cast(X_mag, tf.complex64) * ahead / floored, X_est
    return inverse_stft(X)[:, :16384]


@pytest.mark.parametrize("window", ["hann", "dual"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_griffin_lim_is_that_of_tf_signal(measured, window, momentum):
    """Also where frames are silent, or so quiet that the floor of 1e-8 shows."""
    sounds = tf.cast(tf.range(128)[:, tf.newaxis] % 64 < 48, tf.float32)
    scale = tf.constant([[[1.0]], [[1e-9]]]) * sounds
    X_mag = tf.random.stateless_uniform([2, 128, 129], [0, 0]) * scale
    want = griffin_lim(X_mag, 3, window, momentum)
    args = (X_mag, 256, 128, 3, window, momentum)
    got = spectral.invert_spectra_griffin_lim(*args)
    for clip, what in enumerate(("loud", "quiet")):
        off, peak = (np.abs(x[clip]).max() for x in (got - want, want))
        measured(f"{what}, {window}, {momentum}", off / peak, 1e-4)


def spectral_error(window, ngl, momentum=0.0):
    """How far from its own magnitudes a harmonic tone is after Griffin-Lim."""
    t = np.arange(16384) / 16000
    tone = sum(np.sin(2 * np.pi * 220.5 * k * t) / k for k in range(1, 9))
    x = tf.constant(0.2 * tone[np.newaxis], tf.float32)
    X_mag = tf.abs(tf.signal.stft(x, 256, 128, pad_end=True))
    args = (X_mag, 256, 128, ngl, window, momentum)
    y = spectral.invert_spectra_griffin_lim(*args)
    Y_mag = tf.abs(tf.signal.stft(y, 256, 128, pad_end=True))
    return float(tf.norm(X_mag - Y_mag) / tf.norm(X_mag))


def test_dual_window_and_momentum_come_closer():
    original = spectral_error("hann", 64)
    dual = spectral_error("dual", 64)
    fast = spectral_error("dual", 64, 0.99)
    assert fast < dual < 0.7 * original, (fast, dual, original)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"window": "hamming"}, "window must be one of .* Received: 'hamming'"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\). Received: 1.0"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        spectral.f_to_t(tf.zeros([1, 128, 128, 1]), 0.0, 1.0, **options)


def test_another_hop_is_refused():
    with pytest.raises(ValueError, match="nfft must be 2 . nhop. .* 256, 64"):
        spectral.invert_spectra_griffin_lim(tf.zeros([1, 128, 129]), 256, 64, 1)
