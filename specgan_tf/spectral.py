"""Audio <-> normalised log-spectrogram, Griffin-Lim, images, 16-bit samples; mel bands.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 19-98 and 351-363, and of
the mel spectrograms in eval/.

Waveforms are float32 [b, 16384, 1] with full scale at +-1, which the output of `f_to_t`
may exceed. Spectrograms are float32 [b, 128, 128, 1] in [-1, 1], time before frequency.
Longer slices, of 16384 * m samples, have 128 * m frames.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import TensorLike

from specgan_tf import tf1

NFFT, NHOP = 256, 128  # samples
NBINS = NFFT // 2 + 1  # 129, with the Nyquist bin
SLICE_LEN = 16384  # samples, unless more are asked for; 1.024 s at 16 kHz
NFRAMES = SLICE_LEN // NHOP  # 128
CLIP_NSTD = 3.0  # standard deviations that reach +-1
LOG_EPS = 1e-6
NMELS, MEL_HZ, MEL_RATE = 128, (40.0, 7800.0), 16000  # Hz; other rates as if at it

GL_WINDOWS = {
    # original: the synthesis window is the analysis window itself, not its dual, so the
    # overlap gain swings between 0.5 and 1 at 125 Hz.  [train_specgan.py:55]
    "hann": tf.signal.hann_window,
    "dual": tf.signal.inverse_stft_window_fn(NHOP),
}


class GriffinLim(NamedTuple):
    """Options of Griffin-Lim, which finds a phase for every magnitude.

    Attributes:
      ngl: number of steps, an int or an int32 scalar tensor; 0 inverts with zero phase.
      window: synthesis window, "hann" (the original's) or "dual", which inverts more
        exactly.
      momentum: in [0, 1): the momentum of fast Griffin-Lim (Perraudin et al. 2013),
        which needs fewer steps; 0 is the original's.
    """

    ngl: int = 16
    window: str = "hann"
    momentum: float = 0.0


GRIFFIN_LIM = GriffinLim()  # the original's


def check_griffin_lim(griffin_lim: GriffinLim) -> None:
    """Raise a ValueError for impossible options of Griffin-Lim."""
    if not isinstance(griffin_lim, GriffinLim):
        raise ValueError(f"griffin_lim must be a GriffinLim. Received: {griffin_lim!r}")
    ngl, window, momentum = griffin_lim
    if isinstance(ngl, (int, np.integer)) and ngl < 0:
        raise ValueError(f"ngl must be 0 or more. Received: {ngl!r}")
    if window not in GL_WINDOWS:
        raise ValueError(
            f"window must be one of {list(GL_WINDOWS)}. Received: {window!r}"
        )
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must be in [0, 1). Received: {momentum!r}")


def require_shape(name: str, x: TensorLike, *shape: int | None) -> None:
    """Raise a ValueError unless `x` has this shape; None stands for any size."""
    found = x.shape if hasattr(x, "shape") else np.shape(x)
    if not tf.TensorShape(shape).is_compatible_with(found):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape [{wanted}]. Received: {found}")


def log_magnitude(
    x: TensorLike, log_eps: float = LOG_EPS, pad_front: bool = False
) -> tf.Tensor:
    """Waveform [b, 16384] -> log magnitude [b, 128, 129], natural log.

    Args:
      log_eps: float, added to magnitudes before the logarithm.
      pad_front: put one hop of zeros before the waveform, and none behind it. The
        window is zero at a frame's edges, so without the padding the first samples
        of a waveform hardly count, and an attack there is lost.

    [train_specgan.py:33-37, 595-597]
    """
    if pad_front:
        # [128 + 16384]: 128 frames too, which end where the waveform does.
        X = tf.signal.stft(tf.pad(x, [[0, 0], [NHOP, 0]]), NFFT, NHOP)
    else:
        X = tf.signal.stft(x, NFFT, NHOP, pad_end=True)  # [b, 128, 129] complex64
    return tf.math.log(tf.abs(X) + log_eps)


def t_to_f(
    x: TensorLike,
    X_mean: TensorLike,
    X_std: TensorLike,
    *,
    log_eps: float = LOG_EPS,
    pad_front: bool = False,
    clip_nstd: float = CLIP_NSTD,
) -> tf.Tensor:
    """Waveform [b, 16384, 1] -> normalised spectrogram [b, 128, 128, 1] in [-1, 1].

    Args:
      x: float32 [b, 16384, 1], full scale at +-1.
      X_mean, X_std: float32 [129], mean and standard deviation of each bin's log
        magnitudes.
      log_eps: float, added to magnitudes before the logarithm. X_mean and X_std must
        have been computed with the same value.
      pad_front: put one hop of zeros before the waveform, which keeps an attack at its
        first sample. X_mean and X_std must have been computed with the same value.
      clip_nstd: number of standard deviations that become +-1; values beyond are
        clipped. A larger log_eps makes deviations smaller, so more of loud sounds is
        clipped.

    Returns:
      float32 [b, 128, 128, 1].

    Raises:
      ValueError: x, X_mean or X_std has another shape.

    [train_specgan.py:28-45]
    """
    require_shape("x", x, None, None, None)
    for name, values in (("X_mean", X_mean), ("X_std", X_std)):
        require_shape(name, values, NBINS)
    X_lmag = log_magnitude(x[:, :, 0], log_eps, pad_front)
    X_lmag = X_lmag[:, :, :-1]  # Nyquist dropped
    X_norm = (X_lmag - X_mean[:-1]) / X_std[:-1]
    X_norm /= clip_nstd
    X_norm = tf.clip_by_value(X_norm, -1.0, 1.0)
    return tf.stop_gradient(X_norm[:, :, :, tf.newaxis])


def invert_spectra_griffin_lim(
    X_mag: TensorLike,
    nfft: int,
    nhop: int,
    ngl: int | tf.Tensor,
    window: str = "hann",
    momentum: float = 0.0,
    pad_front: bool = False,
) -> tf.Tensor:
    """Magnitudes [b, 128, 129] -> waveform [b, 16384], by `ngl` Griffin-Lim steps.

    Args:
      nfft, nhop: samples in a frame and in a hop; nfft must be 2 * nhop.
      ngl, window, momentum: as in `GriffinLim`.
      pad_front: cut off the first hop, which `log_magnitude` padded; otherwise the
        last.

    Raises:
      ValueError: nfft is not 2 * nhop; unknown window; momentum outside [0, 1); a
        negative ngl.

    [train_specgan.py:48-68]
    """
    check_griffin_lim(GriffinLim(ngl, window, momentum))
    if nfft != 2 * nhop:
        raise ValueError(f"nfft must be 2 * nhop. Received: {nfft}, {nhop}")
    synthesis = GL_WINDOWS[window](nfft, dtype=tf.float32)
    length = X_mag.shape[1] * nhop

    def inverse_stft(X):
        # tf.signal's takes longer, as it allows any hop.
        frames = tf.signal.irfft(X) * synthesis
        first, second = frames[:, :, :nhop], frames[:, :, nhop:]
        overlapping = first[:, 1:] + second[:, :-1]
        rows = tf.concat([first[:, :1], overlapping, second[:, -1:]], axis=1)
        return tf.reshape(rows, [-1, length + nhop])

    def b(i, X_best, X_prev):
        # original: no pad_end here, unlike t_to_f; 128 frames either way.
        X_est = tf.signal.stft(inverse_stft(X_best), nfft, nhop)
        ahead = X_est
        if momentum:
            ahead = X_est + momentum * (X_est - X_prev)
        # X_mag * ahead / max(1e-8, |ahead|), which takes longer with complex numbers.
        re, im = tf.math.real(ahead), tf.math.imag(ahead)
        gain = X_mag * tf.math.rsqrt(tf.maximum(1e-16, re * re + im * im))
        X_next = tf.complex(re * gain, im * gain)
        return i + 1, X_next, X_est if momentum else X_prev

    # original: zero initial phase.  [train_specgan.py:52]
    X = tf.complex(X_mag, tf.zeros_like(X_mag))
    _, X, _ = tf.while_loop(
        lambda i, *_: i < ngl, b, [tf.constant(0), X, X if momentum else tf.constant(0)]
    )
    x = inverse_stft(X)  # 16512 samples
    return tf.stop_gradient(x[:, nhop:] if pad_front else x[:, :length])


def f_to_t(
    X_norm: TensorLike,
    X_mean: TensorLike,
    X_std: TensorLike,
    ngl: int | tf.Tensor = 16,
    window: str = "hann",
    momentum: float = 0.0,
    *,
    log_eps: float = LOG_EPS,
    pad_front: bool = False,
    clip_nstd: float = CLIP_NSTD,
) -> tf.Tensor:
    """Spectrogram [b, 128, 128, 1] in [-1, 1] -> waveform [b, 16384, 1].

    The inverse of `t_to_f`, up to clipping and the phase, which Griffin-Lim estimates.

    Args:
      X_norm: float32 [b, 128, 128, 1] in [-1, 1].
      X_mean, X_std: float32 [129], as in `t_to_f`.
      ngl, window, momentum: as in `GriffinLim`.
      log_eps, pad_front, clip_nstd: as in `t_to_f`.

    Returns:
      float32 [b, 16384, 1], which may exceed 1.

    Raises:
      ValueError: unknown window; momentum outside [0, 1); an argument of another shape.

    [train_specgan.py:71-84]
    """
    check_griffin_lim(GriffinLim(ngl, window, momentum))
    require_shape("X_norm", X_norm, None, None, NBINS - 1, 1)
    for name, values in (("X_mean", X_mean), ("X_std", X_std)):
        require_shape(name, values, NBINS)
    # original: the Nyquist bin returns as a normalised zero: its mean, not silence.
    X_norm = tf.pad(X_norm[:, :, :, 0], [[0, 0], [0, 0], [0, 1]])
    X_lmag = X_norm * clip_nstd * X_std + X_mean
    X_mag = tf.exp(X_lmag)
    if subtracts_log_eps(log_eps):
        X_mag = tf.maximum(X_mag - log_eps, 0.0)
    x = invert_spectra_griffin_lim(X_mag, NFFT, NHOP, ngl, window, momentum, pad_front)
    return x[:, :, tf.newaxis]


def subtracts_log_eps(log_eps: float) -> bool:
    """Whether synthesis subtracts `log_eps` from magnitudes again.

    original: it does not, which is inaudible with the original's 1e-6. A larger value
    would remain as hiss in silence.  [train_specgan.py:79]
    """
    return log_eps != LOG_EPS


def f_to_img(X_norm: TensorLike) -> tf.Tensor:
    """Spectrogram [b, 128, 128, 1] in [-1, 1] -> image uint8 [b, 128, 128, 1].

    Low frequencies at the bottom, time to the right.  [train_specgan.py:87-98]
    """
    # original: 128, not 127.5, so +1 reaches 256 and the clip matters.
    X_uint8 = tf.clip_by_value((X_norm + 1.0) * 128.0, 0.0, 255.0)
    X_uint8 = tf.cast(X_uint8, tf.uint8)
    # rot90, without the original's map_fn
    return tf.reverse(tf.transpose(X_uint8, [0, 2, 1, 3]), [1])


def float_to_int16(x: TensorLike) -> tf.Tensor:
    """Samples, clipped to [-1, 1] -> int16, truncating.  [train_specgan.py:356-361]"""
    x_int16 = tf.clip_by_value(x * 32767.0, -32767.0, 32767.0)
    return tf.cast(x_int16, tf.int16)


def turn_down(x: TensorLike) -> tf.Tensor:
    """Divide those of the waveforms [n, ...] that exceed 1 by their peaks.

    differs: in the original's 16-bit samples those peaks are clipped. The tensors that
    the original names stay so; everything else is turned down: files that `generate`
    writes, the signature `wav`, the server's /wav, the web page, examples/embedded.py.
    [train_specgan.py:356-361]
    """
    return x / tf.maximum(1.0, _peaks(x))


def normalize(x: TensorLike) -> tf.Tensor:
    """Divide each of the waveforms [n, ...] by its peak; silence stays silence."""
    return tf.math.divide_no_nan(x, _peaks(x))


def _peaks(x):
    return tf.reduce_max(tf.abs(x), axis=list(range(1, len(x.shape))), keepdims=True)


def flatten(G_z: TensorLike, flat_pad: int | tf.Tensor) -> tf.Tensor:
    """Clips [b, n, 1] -> one waveform [b * (n + flat_pad), 1], silence after each clip.

    [train_specgan.py:351-354]
    """
    return tf.reshape(tf.pad(G_z, [[0, 0], [0, flat_pad], [0, 0]]), [-1, G_z.shape[-1]])


def mel_magnitude(x: TensorLike, nfft: int) -> tf.Tensor:
    """Waveform [b, 16384] -> magnitudes in mel bands [b, 128, 128], time then band.

    Args:
      nfft: samples in a frame: 1024 for the original's classifier, 2048 for its
        measure of similarity.

    [train.py:23-37, feats.py:35-46]
    """
    X_mag = tf.abs(tf.signal.stft(x, nfft, NHOP, pad_end=True))
    W = tf1.linear_to_mel_weight_matrix(NMELS, nfft // 2 + 1, MEL_RATE, *MEL_HZ)
    return tf.matmul(X_mag, W)


def log_mel(x: TensorLike, nfft: int) -> tf.Tensor:
    """Natural log of `mel_magnitude`.  [train.py:38, feats.py:47]"""
    return tf.math.log(mel_magnitude(x, nfft) + LOG_EPS)
