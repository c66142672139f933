"""Per-bin mean and standard deviation of log magnitudes: one streaming pass.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 572-613 and 724-729.
"""

import os
import re

import numpy as np

from specgan_tf import spectral
from specgan_tf.files import InputError, read_pickle, write_pickle

HANN = np.hanning(spectral.NFFT + 1)[:-1].astype(np.float32)  # periodic
SILENCE = np.log(np.float32(spectral.LOG_EPS))


def moments(batches):
    """Mean and standard deviation per frequency bin, over every frame of every slice.

    differs: the original holds all log magnitudes in memory, and a bare `except` ends
    its loop on any error, leaving moments of what came before. Here sums in float64 are
    held, and errors are errors.  [train_specgan.py:599-610]

    Args:
      batches: iterable of waveforms float32 [b, 16384].

    Returns:
      (mean, std, count): float32 [129] twice, and the number of slices.
    """
    return finish(*merge(sums(x) for x in batches))


def sums(x):
    """What `merge` takes, of waveforms float32 [b, 16384]."""
    return merge(map(sums_of_one, np.asarray(x)))


def sums_of_one(x):
    """`sums` of one waveform float32 [n], n <= 16384: zeros follow."""
    X_lmag = log_magnitude(x).astype(np.float64)
    mean = X_lmag.mean(axis=0)
    X_lmag -= mean
    return 1, mean, np.einsum("ij,ij->j", X_lmag, X_lmag)


def log_magnitude(x):
    """As `spectral.log_magnitude`, of one waveform [n], n <= 16384, in numpy.

    One clip at a time stays in the cache, and the zeros that fill short sounds cost
    nothing: half the time of TensorFlow's passes over a batch.

    [train_specgan.py:595-597]
    """
    from scipy import fft

    n = -(-len(x) // spectral.NHOP)
    rows = np.zeros((n + 1, spectral.NHOP), np.float32)  # a frame is two of them
    rows.reshape(-1)[: len(x)] = x
    frames = np.concatenate([rows[:-1], rows[1:]], axis=1)
    X_mag = np.abs(fft.rfft(frames * HANN))
    X_lmag = np.full((spectral.NFRAMES, spectral.NBINS), SILENCE)
    np.log(X_mag + np.float32(spectral.LOG_EPS), out=X_lmag[:n])
    return X_lmag


def merge(parts):
    """The sums of a whole from those of its parts, in float64.

    Each is (slices, mean, sum of the frames' squared distances from it); the parts may
    be batches of one process or shards of many. [Chan et al., 1979]
    """
    count, mean, m2 = 0, np.zeros(spectral.NBINS), np.zeros(spectral.NBINS)
    for n, part_mean, part_m2 in parts:
        if n:
            delta, total = part_mean - mean, count + n
            mean = mean + delta * n / total
            m2 = m2 + part_m2 + delta**2 * count * n / total * spectral.NFRAMES
            count = total
    return count, mean, m2


def finish(count, mean, m2):
    """(mean, std, count) of merged sums: float32 [129] twice, slices."""
    std = np.sqrt(m2 / max(1, count * spectral.NFRAMES))
    return mean.astype(np.float32), std.astype(np.float32), count


def check(mean, std, where="moments"):
    """Refuse moments that would make NaN or infinity of every spectrogram.

    differs: the original has no guard.  [train_specgan.py:38]

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


def load(fp):
    """(mean, std), float32 [129] each, from a moments file of ours or the original's.

    Nothing the file names is imported or run.

    Raises:
      InputError: missing, not a moments file, or moments that `check` refuses.
    """
    if not os.path.isfile(fp):
        raise InputError(
            f"no moments file at {fp}: make one with the moments mode, or name another "
            "with --data_moments_fp"
        )
    arrays = read_pickle(fp)
    if not isinstance(arrays, tuple) or len(arrays) != 2:
        raise InputError(f"{fp} is not a moments file: it must hold (mean, std)")
    mean, std = (np.asarray(a, np.float32) for a in arrays)
    check(mean, std, where=str(fp))
    return mean, std


def save(fp, mean, std):
    """Write (mean, std) so that the original reads them too.

    [train_specgan.py:612-613]
    """
    check(mean, std)
    os.makedirs(os.path.dirname(os.path.abspath(fp)), exist_ok=True)
    write_pickle(fp, (np.asarray(mean, np.float32), np.asarray(std, np.float32)))


def save_shard(fp, count, mean, m2):
    """Write the sums of one shard, for `merge_shards`."""
    write_pickle(fp, (np.array([count], np.float64), mean, m2))


def merge_shards(folder):
    """Merge the shards in a folder: `moments-I-of-N.pkl`.

    Returns:
      (mean, std, count), as `moments` of all their files together.

    Raises:
      InputError: none there, one missing, of several N, or not a shard.
    """
    found = {}
    for name in sorted(os.listdir(folder)):
        if numbers := re.fullmatch(r"moments-(\d+)-of-(\d+)\.pkl", name):
            found[tuple(map(int, numbers.groups()))] = os.path.join(folder, name)
    shards = {n for _, n in found}
    if len(shards) != 1:
        what = f"shards of {sorted(shards)}" if shards else "no moments-I-of-N.pkl"
        raise InputError(
            f"{folder} holds {what}: make all of one N with --shard I/N, remove others"
        )
    missing = set(range(1, shards.pop() + 1)) - {i for i, _ in found}
    if missing:
        raise InputError(f"{folder} lacks shard {', '.join(map(str, sorted(missing)))}")
    return finish(*merge(map(_load_shard, found.values())))


def _load_shard(fp):
    arrays = read_pickle(fp)
    shapes = [np.shape(a) for a in arrays] if isinstance(arrays, tuple) else None
    if shapes != [(1,), (spectral.NBINS,), (spectral.NBINS,)]:
        raise InputError(f"{fp} is not a shard of moments")
    (count,), mean, m2 = arrays
    if not (0 <= count < 2**53 and np.isfinite([mean, m2]).all() and (m2 >= 0).all()):
        raise InputError(f"{fp} is not a shard of moments")
    return int(count), mean, m2
