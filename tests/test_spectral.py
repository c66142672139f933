import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import spectral


def t_to_f64(x, mean, std):
    """`t_to_f` in float64 numpy, and its linear magnitudes."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    x = np.pad(x[:, :, 0].astype(np.float64), [[0, 0], [0, 256]])
    frames = np.stack([x[:, i * 128 : i * 128 + 256] for i in range(128)], 1)
    X_mag = np.abs(np.fft.rfft(frames * window))[:, :, :-1]
    X_norm = (np.log(X_mag + 1e-6) - mean[:-1]) / std[:-1] / 3
    return np.clip(X_norm, -1, 1)[..., np.newaxis], X_mag


def test_t_to_f(golden, measured):
    """Near the log floor the rounding of a float32 FFT shows, ours and the reference's;
    ours must be no farther from float64 than the reference's."""
    d = golden("spectral")
    got = spectral.t_to_f(d["x"], d["mean"], d["std"]).numpy()
    exact, X_mag = t_to_f64(d["x"], d["mean"], d["std"])
    reference = np.abs(d["X_norm"] - exact)
    measured("t_to_f - float64, max", np.abs(got - exact).max(), reference.max())
    measured("t_to_f - float64, mean", np.abs(got - exact).mean(), reference.mean())
    error = np.abs(got - d["X_norm"])
    measured("t_to_f, mean", error.mean(), 2e-5)  # measured 7e-6
    unclipped = np.abs(got) < 1
    to_mag = np.exp(got * 3 * d["std"][:-1, None] + d["mean"][:-1, None]) - 1e-6
    error = np.abs(to_mag[..., 0] - X_mag)[unclipped[..., 0]].max() / X_mag.max()
    measured("t_to_f, linear, of the peak", error, 3e-6)  # measured 1e-6


@pytest.mark.parametrize("ngl, bound", [(0, 1e-6), (1, 2e-5), (16, 4e-5)])
def test_f_to_t(golden, measured, ngl, bound):
    d = golden("spectral")
    got = spectral.f_to_t(d["X_norm"], d["mean"], d["std"], ngl)
    assert got.shape == (3, 16384, 1)
    # measured 2e-7, 4e-6, 8e-6; the peak is 0.2
    measured(f"f_to_t, {ngl} iterations", d.error(f"audio_ngl{ngl}", got), bound)


def test_f_to_t_of_noise_and_with_a_tensor_for_ngl(golden, measured):
    d = golden("spectral")
    f = tf.function(lambda ngl: spectral.f_to_t(d["S"], d["mean"], d["std"], ngl))
    measured("f_to_t, noise", d.error("audio_noise_ngl1", f(tf.constant(1))), 4e-5)


def test_f_to_img(golden):
    d = golden("spectral")
    np.testing.assert_array_equal(spectral.f_to_img(d["X_norm"]), d["img"])


def test_f_to_img_clips_and_has_low_frequencies_at_the_bottom():
    X_norm = np.full((1, 128, 128, 1), -1, np.float32)
    X_norm[0, :, 0] = 1.0  # the lowest bin, always
    img = spectral.f_to_img(X_norm).numpy()
    assert (img[0, -1] == 255).all() and (img[0, :-1] == 0).all()


def test_inference_graph_audio(golden, measured):
    d = golden("infer")
    if d["G_z_norm"].ndim != 4:
        pytest.skip("thinned here; test_generate compares it from the weights on")
    G_z = spectral.f_to_t(d["G_z_norm"], d["mean"], d["std"], int(d["ngl"]))
    measured("G_z from G_z_norm", d.error("G_z", G_z), 4e-5)
    flat = spectral.flatten(G_z, int(d["flat_pad"]))
    assert flat.shape == (3 * (16384 + 100), 1)
    off = d.error("G_z_flat_int16", spectral.float_to_int16(flat))
    measured("G_z_flat_int16, LSB", off, 1)


def test_int16_truncates_and_clips():
    x = tf.constant([0.0, 0.9999, -0.9999, 1.0, -1.0, 2.0, -2.0])
    want = [0, 32763, -32763, 32767, -32767, 32767, -32767]
    assert spectral.float_to_int16(x).numpy().tolist() == want


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
