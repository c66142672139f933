"""Per-bin mean and standard deviation of log magnitudes: one streaming pass.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 572-613 and 724-729.
"""

import math
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import TensorLike

from specgan_tf import spectral
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.pickles import read_pickle, write_pickle

HANN = np.hanning(spectral.NFFT + 1)[:-1].astype(np.float32)  # periodic
RANGES = {"log_eps": (1e-10, 1.0), "clip_nstd": (1.0, 20.0)}
SCALES = "std", "range"
# Slices of 128 frames; each bin's mean, squared distances from it, and largest value.
Sums = tuple[int, np.ndarray, np.ndarray, np.ndarray]


class Moments(NamedTuple):
    """Mean and deviation of log magnitudes, and the options of their spectrograms.

    The moments depend on `log_eps` and `pad_front`, and the spectrograms on all five,
    so they are kept together.

    Attributes:
      mean: float32 [129], the mean log magnitude of each frequency bin.
      std: float32 [129], its standard deviation.
      log_eps: as in `spectral.t_to_f`; the defaults are the original's.
      pad_front: as in `spectral.t_to_f`.
      clip_nstd: as in `spectral.t_to_f`.
    """

    mean: np.ndarray
    std: np.ndarray
    log_eps: float = spectral.LOG_EPS
    pad_front: bool = False
    clip_nstd: float = spectral.CLIP_NSTD

    @property
    def analysis(self) -> dict[str, float | bool]:
        """The options: all but mean and std, by name."""
        return {name: getattr(self, name) for name in self._fields[2:]}

    def t_to_f(self, x: TensorLike) -> tf.Tensor:
        """`spectral.t_to_f` with these moments."""
        return spectral.t_to_f(x, self.mean, self.std, **self.analysis)

    def f_to_t(
        self,
        X_norm: TensorLike,
        griffin_lim: spectral.GriffinLim = spectral.GRIFFIN_LIM,
    ) -> tf.Tensor:
        """`spectral.f_to_t` with these moments."""
        return spectral.f_to_t(
            X_norm, self.mean, self.std, *griffin_lim, **self.analysis
        )

    def equals(self, other: "Moments") -> bool:
        return self.analysis == other.analysis and np.array_equal(self[:2], other[:2])


def moments(
    batches: Iterable[np.ndarray],
    log_eps: float = spectral.LOG_EPS,
    pad_front: bool = False,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation per frequency bin, over every frame of every slice.

    differs: the original holds all log magnitudes in memory, and on any error its bare
    `except` ends the loop, so that the moments lack the rest of the data. This function
    holds sums in float64, and raises errors.  [train_specgan.py:599-610]

    Args:
      batches: iterable of waveforms float32 [b, 16384], or longer ones.
      log_eps, pad_front: as in `spectral.log_magnitude`.

    Returns:
      (mean, std, count): float32 [129] twice, and the number of slices; a longer one
        counts as several.
    """
    return finish(*merge(sums(x, log_eps, pad_front) for x in batches))


def of_range(
    top: np.ndarray, mean: np.ndarray, std: np.ndarray, log_eps: float, clip_nstd: float
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) that map silence to -1 and a bin's loudest value to 1.

    A frequency bin's log magnitudes range from log(log_eps), digital silence, to its
    loudest value. Three deviations around the mean spend part of [-1, 1] on values that
    do not occur, and amplify inaudible noise in bins with hardly any sound, such as
    those above half the original rate of resampled sounds. So no bin's range is less
    than 0.6 of the widest one.

    Args:
      top: float32 [129], each bin's largest log magnitude.
      mean, std: float32 [129], as `finish` returns them. The Nyquist bin keeps them:
        spectrograms lack it, and `f_to_t` inserts its mean.  [train_specgan.py:57]
    """
    low = np.log(log_eps)
    span = top - low
    span = np.maximum(span, 0.6 * span.max())
    scaled = low + span / 2, span / 2 / clip_nstd
    both = zip(scaled, (mean, std), strict=True)
    return tuple(np.append(new[:-1], old[-1]).astype(np.float32) for new, old in both)


def sums(
    x: np.ndarray, log_eps: float = spectral.LOG_EPS, pad_front: bool = False
) -> Sums:
    """The sums of waveforms float32 [b, 16384] or longer, for `merge`."""
    x = np.asarray(x)
    slice_len = max(x.shape[1], spectral.SLICE_LEN)
    return merge(sums_of_one(one, log_eps, pad_front, slice_len) for one in x)


def sums_of_one(
    x: np.ndarray,
    log_eps: float = spectral.LOG_EPS,
    pad_front: bool = False,
    slice_len: int = spectral.SLICE_LEN,
) -> Sums:
    """The sums of one waveform float32 [n], n <= slice_len, padded with zeros."""
    X_lmag = log_magnitude(x, log_eps, pad_front, slice_len).astype(np.float64)
    mean, top = X_lmag.mean(axis=0), X_lmag.max(axis=0)
    X_lmag -= mean
    m2 = np.einsum("ij,ij->j", X_lmag, X_lmag)
    return slice_len // spectral.SLICE_LEN, mean, m2, top


def log_magnitude(
    x: np.ndarray,
    log_eps: float = spectral.LOG_EPS,
    pad_front: bool = False,
    slice_len: int = spectral.SLICE_LEN,
) -> np.ndarray:
    """`spectral.log_magnitude` of one waveform [n], n <= slice_len, in numpy.

    A single clip stays in the cache, and padding takes no time: this needs half the
    time of TensorFlow's passes over a batch.

    [train_specgan.py:595-597]
    """
    from scipy import fft

    first = spectral.NHOP if pad_front else 0
    frames = slice_len // spectral.NHOP
    n = min(-(-(first + len(x)) // spectral.NHOP), frames)
    rows = np.zeros((n + 1, spectral.NHOP), np.float32)  # a frame is two rows
    rows.reshape(-1)[first : first + len(x)] = x
    windowed = np.concatenate([rows[:-1], rows[1:]], axis=1) * HANN
    X_mag = np.abs(fft.rfft(windowed))
    log_eps = np.float32(log_eps)
    X_lmag = np.full((frames, spectral.NBINS), np.log(log_eps))
    np.log(X_mag + log_eps, out=X_lmag[:n])
    return X_lmag


def merge(parts: Iterable[Sums]) -> Sums:
    """Merge the sums of parts of the data, in float64.

    Parts are batches or shards. Sums are (number of slices, mean, the frames' summed
    squared distances from the mean, largest value).  [Chan et al., 1979]
    """
    count, mean, m2 = 0, np.zeros(spectral.NBINS), np.zeros(spectral.NBINS)
    top = np.full(spectral.NBINS, np.log(RANGES["log_eps"][0]))
    for n, part_mean, part_m2, part_top in parts:
        if n:
            delta, total = part_mean - mean, count + n
            mean = mean + delta * n / total
            m2 = m2 + part_m2 + delta**2 * count * n / total * spectral.NFRAMES
            top = np.maximum(top, part_top)
            count = total
    return count, mean, m2, top


def finish(
    count: int, mean: np.ndarray, m2: np.ndarray, top: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """(mean, std, count) from merged sums: float32 [129] twice, number of slices."""
    std = np.sqrt(m2 / max(1, count * spectral.NFRAMES))
    return mean.astype(np.float32), std.astype(np.float32), count


def whole(merged: Sums, scale: str, analysis: dict) -> tuple[Moments, int]:
    """(`Moments`, number of slices) from merged sums.

    Args:
      merged: as `merge` returns them.
      scale: one of `SCALES`: "std" as in the original, "range" as in `of_range`.
      analysis: dict, as `Moments.analysis`.
    """
    mean, std, count = finish(*merged)
    if scale == "range" and count:
        how = analysis["log_eps"], analysis["clip_nstd"]
        mean, std = of_range(merged[-1], mean, std, *how)
    return Moments(mean, std, **analysis), count


def check(mean: np.ndarray, std: np.ndarray, where: str = "moments") -> None:
    """Refuse moments with which spectrograms would be NaN or infinite.

    differs: the original does not check them.  [train_specgan.py:38]

    Raises:
      InputError: not 129 bins; NaN or infinite; a standard deviation not above zero.
    """
    for name, values in (("mean", mean), ("std", std)):
        if np.shape(values) != (spectral.NBINS,):
            raise InputError(
                f"{where}: {name} must have shape ({spectral.NBINS},). "
                f"Received: {np.shape(values)}"
            )
        if not np.isfinite(values).all():
            raise InputError(
                f"{where}: {name} is not finite in bin "
                f"{int(np.flatnonzero(~np.isfinite(values))[0])}; compute them again"
            )
    if not (np.asarray(std) > 0).all():
        raise InputError(
            f"{where}: std is zero or less in bin {int(np.argmin(std))}: the audio is "
            "silent or constant there; compute them on audio with sound in it"
        )


def check_analysis(analysis: dict, where: str = "moments") -> None:
    """Refuse options, as in `Moments.analysis`, that are out of range.

    Raises:
      InputError: log_eps or clip_nstd out of range; pad_front is not true or false.
    """
    for name, (low, high) in RANGES.items():
        value = analysis[name]
        number = type(value) in (int, float) and math.isfinite(value)
        if not number or not low <= value <= high:
            raise InputError(
                f"{where}: {name} must be in [{low:g}, {high:g}]. Received: {value!r}"
            )
    if type(analysis["pad_front"]) is not bool:
        raise InputError(
            f"{where}: pad_front must be True or False. "
            f"Received: {analysis['pad_front']!r}"
        )


def require_analysis(found: Moments, analysis: dict, where: StrPath) -> None:
    """Refuse moments that were computed with other options than a run's spectrograms.

    Args:
      found: `Moments`.
      analysis: the run's options, as `Moments.analysis`.
      where: the name of the file that holds `found`.

    Raises:
      InputError: they differ.
    """
    for name, value in analysis.items():
        theirs = found.analysis[name]
        if theirs != value:
            theirs, ours = (_flag(name, v) for v in (theirs, value))
            raise InputError(
                f"{where} was computed with {theirs}, and this run has {ours}: use "
                f"moments computed with {ours}, or for a new training pass {theirs}"
            )


def _flag(name, value):
    if type(value) is bool:
        return f"--{'' if value else 'no-'}specgan_{name}"
    return f"--specgan_{name} {value}"


def load(fp: StrPath) -> Moments:
    """Read `Moments` from a file of ours or the original's.

    Nothing that the file names is imported or run.

    Raises:
      InputError: missing, not a moments file, or moments that `check` refuses.
    """
    if not os.path.isfile(fp):
        raise InputError(
            f"no moments file at {fp}: make one with the moments mode, or name another "
            "with --data_moments_fp"
        )
    arrays, analysis = read_arrays(fp)
    if len(arrays) != 2:
        raise InputError(f"{fp} is not a moments file: it must hold (mean, std)")
    mean, std = (np.asarray(a, np.float32) for a in arrays)
    check(mean, std, where=str(fp))
    return Moments(mean, std, **analysis)


def read_arrays(fp: StrPath) -> tuple[tuple[np.ndarray, ...], dict]:
    """Return (arrays, analysis) of a moments file or a shard; no array of another."""
    content = read_pickle(fp, options=True)
    arrays = content if isinstance(content, tuple) else ()
    analysis = Moments(None, None).analysis
    if arrays and isinstance(arrays[-1], dict):
        *arrays, given = arrays
        if unknown := given.keys() - analysis.keys():
            raise InputError(
                f"{fp} was computed with options that are not known here: "
                f"{', '.join(sorted(unknown))}"
            )
        analysis |= given
    check_analysis(analysis, where=str(fp))
    if any(isinstance(a, dict) for a in arrays):
        arrays = ()
    return tuple(arrays), analysis


def recorded(*analysis) -> tuple[dict, ...]:
    """Return the options to write after arrays: none if they are the original's."""
    options = Moments(None, None, *analysis).analysis
    check_analysis(options)
    return (options,) if options != Moments(None, None).analysis else ()


def save(fp: StrPath, mean: np.ndarray, std: np.ndarray, *analysis) -> None:
    """Write the fields of `Moments` to a file.

    The original can read moments with its own options. For other options it fails, at
    unpacking (mean, std): it could only compute spectrograms with its own.

    [train_specgan.py:612-613]
    """
    check(mean, std)
    arrays = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    options = recorded(*analysis)
    os.makedirs(os.path.dirname(os.path.abspath(fp)), exist_ok=True)
    write_pickle(fp, arrays + options)
