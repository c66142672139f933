import os

import numpy as np
import pytest
import tensorflow as tf
from conftest import DRUMS

from specgan_tf import loader, spectral


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


def hits(n):
    """Sounds whose attack is their first sample, peak 1, float32 [n, 16384, 1]."""
    rs = np.random.RandomState(0)
    x = rs.randn(n, 16384) * np.exp(-np.arange(16384) / 2000)
    x[:, :16] = rs.choice([-1, 1], (n, 16)) * rs.uniform(0.5, 1, (n, 16))
    x /= np.abs(x).max(axis=1, keepdims=True)
    return x[:, :, None].astype("f4")


GOOD = spectral.GriffinLim(32, "dual", 0.99)


def round_trip(x, griffin_lim=GOOD, **how):
    """Waveforms through their spectrograms; nothing of them is clipped there."""
    log_eps = how.get("log_eps", spectral.LOG_EPS)
    mean = np.zeros(129, "f4")
    mean[-1] = np.log(log_eps)  # all that is heard of the Nyquist bin is its mean
    std = np.full(129, 10, "f4")
    X = spectral.t_to_f(x, mean, std, **how)
    assert X.shape[1:] == (128, 128, 1)
    return spectral.f_to_t(X, mean, std, *griffin_lim, **how).numpy()


def decibels(got, want):
    energy = [np.square(x, dtype=np.float64).sum(axis=(1, 2)) for x in (got, want)]
    return 10 * np.log10(energy[0] / energy[1])


def drums(n):
    """Embedded sounds that begin at once, float32 [n, 16384, 1]."""
    made = []
    for fp in sorted(os.listdir(DRUMS)):
        x = loader.decode_audio(os.path.join(DRUMS, fp), 16000, normalize=True)
        x = np.ravel(x)[:16384]
        if np.sqrt(np.mean(x[:16] ** 2)) > 0.05:
            made.append(np.pad(x, (0, 16384 - len(x))))
        if len(made) == n:
            return np.stack(made)[:, :, None].astype("f4")


def test_one_hop_in_front_keeps_the_attack(measured):
    """Without it the first samples are under the window's edge, and come back 50 dB
    too quiet."""
    for name, x in (("drums", drums(24)), ("hits", hits(16))):
        lost = decibels(round_trip(x)[:, :16], x[:, :16])
        got = round_trip(x, pad_front=True)
        kept = decibels(got[:, :16], x[:, :16])
        assert lost.max() < -30 and np.median(lost) < -45
        measured(f"attack of {name}, median, dB", abs(np.median(kept)), 3.0)
        measured(f"attack of {name}, mean, dB", abs(kept.mean()), 3.0)
        first = decibels(got[:, :128], x[:, :128])
        measured(f"first hop of {name}, mean, dB", abs(first.mean()), 1.5)


def test_one_hop_in_front_moves_nothing(measured):
    """A click in the middle comes back where it was, and 128 frames are 16384 samples.
    The last samples are under a window's edge instead of the first."""
    x = np.zeros([2, 16384, 1], "f4")
    x[0, 5000], x[1, 15000] = 1, 1
    for pad_front in (False, True):
        got = round_trip(x, pad_front=pad_front)
        assert got.shape == x.shape
        for i, at in enumerate((5000, 15000)):
            assert abs(int(np.abs(got[i, :, 0]).argmax()) - at) <= 32
    X = spectral.log_magnitude(x[:, :, 0], pad_front=True)
    padded = np.pad(x[:, :, 0], [[0, 0], [128, 0]])
    want = tf.signal.stft(padded, 256, 128)
    assert X.shape == want.shape == (2, 128, 129)
    off = np.abs(X - np.log(np.abs(want) + np.float32(1e-6))).max()
    measured("log magnitude", off, 1e-6)


@pytest.mark.parametrize("nstd", [3.0, 5.0])
def test_deviations_beyond_the_range_are_clipped(nstd):
    """And what is within comes back as it was."""
    x = tf.sin(tf.range(16384, dtype=tf.float32)[None] * 0.3)
    X = spectral.log_magnitude(x)[0, 5, :128]
    for deviations, want in ((nstd - 0.5, 1 - 0.5 / nstd), (nstd + 1, 1.0)):
        mean = np.append(X - np.float32(deviations), 0).astype("f4")
        std = np.ones(129, "f4")
        X_norm = spectral.t_to_f(x[:, :, None], mean, std, clip_nstd=nstd)
        np.testing.assert_allclose(X_norm[0, 5, :, 0], want, rtol=1e-5)
    magnitudes = []

    def keep(X_mag, *args, original=spectral.invert_spectra_griffin_lim):
        magnitudes.append(X_mag)
        return original(X_mag, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectral, "invert_spectra_griffin_lim", keep)
        X_norm = tf.fill([1, 128, 128, 1], (nstd - 0.5) / nstd)
        mean = np.append(X - np.float32(nstd - 0.5), 0).astype("f4")
        spectral.f_to_t(X_norm, mean, std, 0, clip_nstd=nstd)
    np.testing.assert_allclose(magnitudes[0][0, 5, :128], np.exp(X), rtol=1e-4)


def test_what_is_added_is_taken_off_again():
    """Or silence would hiss. The reference's 1e-6 is not taken off, as there."""
    x = hits(4)
    x[:, 8000:] = 0
    for log_eps, quiet in ((1e-2, -120), (1e-3, -120)):
        got = round_trip(x, log_eps=log_eps)[:, 9000:]
        with np.errstate(divide="ignore"):
            level = 20 * np.log10(np.abs(got).max())
        assert level < quiet, (log_eps, level)
    mean, std = tf.zeros([129]), tf.ones([129])
    X = tf.fill([1, 128, 128, 1], tf.math.log(1e-3) / 3)
    magnitudes = []

    def keep(X_mag, *args, original=spectral.invert_spectra_griffin_lim):
        magnitudes.append(X_mag)
        return original(X_mag, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectral, "invert_spectra_griffin_lim", keep)
        spectral.f_to_t(X, mean, std, 0)
        spectral.f_to_t(X, mean, std, 0, log_eps=4e-4)
        spectral.f_to_t(X, mean, std, 0, log_eps=4e-3)
    for X_mag, want in zip(magnitudes, (1e-3, 6e-4, 0.0), strict=True):
        np.testing.assert_allclose(X_mag[:, :, :128], want, rtol=1e-5)


@pytest.mark.parametrize("log_eps", [1e-6, 1e-3])
@pytest.mark.parametrize("pad_front", [False, True])
def test_round_trip(measured, log_eps, pad_front):
    """Spectral convergence, of what every one of these hears alike."""
    x = hits(8)
    got = round_trip(x, log_eps=log_eps, pad_front=pad_front)
    X, Y = (np.abs(tf.signal.stft(a[:, 1024:15360, 0], 256, 128)) for a in (x, got))
    error = np.sqrt(np.square(X - Y).sum(axis=(1, 2)) / np.square(X).sum(axis=(1, 2)))
    measured(f"log_eps {log_eps}, pad_front {pad_front}", error.mean(), 0.15)
