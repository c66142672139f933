"""How good sounds are, in numbers: inception score, similarity, Frechet distance.

Port of eval/inception/score.py, eval/similarity/feats.py and sim.py
(chrisdonahue/wavegan 40e85e8), and of train_specgan.py, lines 538-550.

Waveforms are float32 [n, 16384, 1] or [n, 16384], full scale at +-1, unless a function
takes int16. Scores are computed in float64 from float32 spectra.
"""

import itertools
import math

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from specgan_tf import spectral
from specgan_tf.errors import InputError
from specgan_tf.specgan import SLICE_LENS

RATE = spectral.MEL_RATE  # Hz, of the sounds that classifiers take
CHUNK = 64  # clips whose spectra are in memory at a time
CLASSIFIER_NFFT, SIMILARITY_NFFT = 1024, 2048
# A full-scale sine peaks at half the sum of the window. Levels 80 dB below it count as
# silence: the logarithms of padding zeros and of inaudible noise are far apart.
FULL_SCALE, FLOOR_DB = CLASSIFIER_NFFT / 4, -80.0
BANDS, PARTS = 16, (0, 16, 32, 64, 128)  # of 8 mels each; frames, finer at the start


# Inception score


def inception_score(probabilities: np.ndarray, k: int) -> tuple[float, float]:
    """exp of the mean KL divergence of p(y|x) from p(y), over k groups.

    differs: where a probability is zero, the original's logarithm makes NaN; here
    0 log 0 is 0.  [train_specgan.py:545]

    Args:
      probabilities: [n, classes], a row for each clip.
      k: number of groups of n // k consecutive rows; the rest is not used.

    Returns:
      (mean, standard deviation) over the groups; between 1 and the number of classes.

    Raises:
      InputError: there are fewer rows than groups.
      ValueError: rows are not probabilities.

    [score.py:80-88]
    """
    from scipy.special import rel_entr

    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not (
        (p >= 0).all() and np.allclose(p.sum(axis=1), 1.0, rtol=0, atol=1e-3)
    ):
        raise ValueError(
            "probabilities must be [n, classes], at least 0, and each row must sum to "
            f"1. Received: {p.shape}"
        )
    size = len(p) // k
    if not size:
        raise InputError(
            f"{len(p)} clips are too few for {k} groups of an inception score"
        )
    scores = []
    for group in p[: k * size].reshape(k, size, -1):
        kl = rel_entr(group, group.mean(axis=0)).sum(axis=1)
        scores.append(np.exp(kl.mean()))
    return float(np.mean(scores)), float(np.std(scores))


def class_counts(probabilities: ArrayLike) -> np.ndarray:
    """Number of clips of each likeliest class: int [classes].  [score.py:76-78]"""
    p = np.asarray(probabilities)
    return np.bincount(p.argmax(axis=1), minlength=p.shape[1])


# Similarity


def similarity(
    a_int16: np.ndarray, b_int16: np.ndarray | None = None
) -> tuple[float, float]:
    """|D|self or |D|train: mean distance of a set's clips to their nearest neighbours.

    Args:
      a_int16: int16 [n, samples(, 1)]; cut to a slice's length, or padded with zeros:
        16384, or twice, four or eight times as many.
      b_int16: the set of the neighbours, likewise; None: the other clips of `a_int16`.

    Returns:
      (mean, standard deviation) over the clips of `a_int16`. A small |D|self means that
      the clips are alike; a |D|train below that of real sounds, that they are copies.

    Raises:
      InputError: a set is empty, or `a_int16` has one clip and `b_int16` is None.

    [feats.py:33-57, sim.py:53-61]
    """
    a = similarity_features(a_int16)
    return nn_dist(
        a if b_int16 is None else similarity_features(b_int16), a, b_int16 is None
    )


def nearest(x: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest real clip of each clip of `x`, by the distance of `similarity`.

    Args:
      x, real: waveforms, float or int16.

    Returns:
      (index, distance): int64 [n] into `real`, float64 [n].
    """
    a, b = (similarity_features(to_int16(s)) for s in (x, real))
    index, distance = _nearest(b, a, 1)
    return index[:, 0], distance[:, 0]


def nn_dist(
    train_set: np.ndarray, query_set: np.ndarray, exclude_self: bool
) -> tuple[float, float]:
    """Mean and standard deviation of the distances to the nearest neighbours.

    original: skips the first of the two nearest only if its distance is exactly zero,
    as the distance of a clip to itself is.  [sim.py:25-33]

    Args:
      train_set, query_set: features, [m, ...] and [n, ...].
      exclude_self: both are the same set.

    [sim.py:9-37]
    """
    if len(train_set) < 1 + exclude_self or not len(query_set):
        raise InputError(
            f"too few clips for nearest neighbours: {len(query_set)} among "
            f"{len(train_set)}"
        )
    _, dists = _nearest(train_set, query_set, 1 + exclude_self)
    if exclude_self:
        dists = np.where(dists[:, 0] == 0, dists[:, 1], dists[:, 0])
    return float(np.mean(dists)), float(np.std(dists))


def similarity_features(x_int16: np.ndarray) -> np.ndarray:
    """int16 [n, samples(, 1)] -> log-mel spectra, float32 [n, 16384] or longer.

    original: does not scale samples to +-1.  [feats.py:54-56]
    """
    x = np.asarray(x_int16)
    if x.dtype != np.int16:
        raise ValueError(f"samples must be int16. Received: {x.dtype}")
    x = flat(x)
    length = max(n for n in SLICE_LENS if n <= max(x.shape[1], SLICE_LENS[0]))
    x = x[:, :length]
    x = np.pad(x, [(0, 0), (0, length - x.shape[1])])
    return _in_chunks(_similarity_spectra, x)


def _nearest(train_set, query_set, n, spare=3):
    """The `n` nearest of one set to each of another: indices and distances, [q, n].

    scikit-learn's matrix products find the nearest few, `spare` more than asked for;
    their distances are then computed as differences, which products would round.
    """
    from sklearn.neighbors import NearestNeighbors

    train, query = (np.reshape(s, [len(s), -1]) for s in (train_set, query_set))
    few = min(n + spare, len(train))
    search = NearestNeighbors(n_neighbors=few, algorithm="brute").fit(train)
    near = search.kneighbors(query, return_distance=False)
    exact = np.array(
        [
            np.linalg.norm(train[js].astype(np.float64) - x, axis=1)
            for js, x in zip(near, query, strict=True)
        ]
    )
    order = np.argsort(exact, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(near, order, 1), np.take_along_axis(exact, order, 1)


# Frechet distance


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Frechet distance of two sets, taken for samples of Gaussians.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^1/2), A and B the covariances.

    With X the centred features over the root of n - 1, A is X^T X, and tr (A B)^1/2 is
    the sum of the singular values of X Y^T: nothing is squared first, so that singular
    covariances (fewer clips than features) lose no digits, and equal sets have distance
    zero.

    Few clips make the distance too large: two sets of one kind are the further apart,
    the fewer clips they have. Compare sets of equal size, beside the distance of some
    real clips from the others, as `comparison.measure` does.

    Args:
      features_a, features_b: [n, d] and [m, d], n and m at least 2.

    Raises:
      InputError: a set has fewer than two clips.
      ValueError: features differ in their number, or are not finite.
    """
    sets = [np.asarray(f, np.float64) for f in (features_a, features_b)]
    if any(f.ndim != 2 for f in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(
            "features must be [n, d] and [m, d]. Received: "
            f"{sets[0].shape}, {sets[1].shape}"
        )
    if min(map(len, sets)) < 2:
        raise InputError("a Frechet distance needs at least two clips in each set")
    if not all(np.isfinite(f).all() for f in sets):
        raise ValueError("features must be finite")
    means, roots = zip(*map(_mean_and_root, sets), strict=True)
    distance = np.sum(np.square(means[0] - means[1]))
    distance += sum(np.sum(np.square(root)) for root in roots)
    distance -= 2.0 * np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(max(0.0, distance))


def _mean_and_root(features):
    """Mean [d], and R [min(n, d), d] with R^T R the covariance."""
    mean = features.mean(axis=0)
    root = (features - mean) / np.sqrt(len(features) - 1)
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return mean, root


def features_log_mel(x: np.ndarray) -> np.ndarray:
    """Waveforms -> features that need no classifier: float64 [n, 64].

    Levels in dB of 16 mel bands in four parts of a clip (0.13, 0.13, 0.26 and 0.51 s at
    16 kHz): how the timbre changes as the sound fades. Each band averages 8 mels of the
    classifier's spectra (STFT 1024/128), which end at -80 dB of a full-scale sine. A
    few hundred clips suffice for the covariance of 64 features.
    """
    levels = _levels(x).astype(np.float64)
    frames = levels.shape[1] // spectral.NMELS
    levels = levels.reshape(len(levels), frames, BANDS, -1).mean(axis=3)
    ends = [frames * part // spectral.NFRAMES for part in PARTS]
    parts = [levels[:, a:b].mean(axis=1) for a, b in itertools.pairwise(ends)]
    return np.concatenate(parts, axis=1)


# Diversity


def log_spectral_distances(x: np.ndarray) -> np.ndarray:
    """Distance of each two clips of a set, in dB: float64 [n, n].

    Root mean square difference of their levels in 128 mel bands and 128 frames, where
    levels below -80 dB of a full-scale sine count as -80 dB. The mean distance is a
    set's diversity; it falls when a generator collapses to few sounds.
    """
    levels = _levels(x).reshape(len(x), -1).astype(np.float64)
    levels -= levels.mean(axis=0)
    squares = np.einsum("ij,ij->i", levels, levels)
    distances = squares[:, None] + squares - 2.0 * (levels @ levels.T)
    np.fill_diagonal(distances, 0.0)
    return np.sqrt(np.maximum(distances, 0.0) / levels.shape[1])


def diversity(x: np.ndarray) -> float:
    """Mean of `log_spectral_distances` over the pairs of a set, in dB."""
    distances = log_spectral_distances(x)
    return float(distances.sum() / (len(x) * (len(x) - 1)))


def _levels(x):
    """Waveforms -> float32 [n, frames * 128], dB of a full-scale sine."""
    x = flat(np.asarray(x, np.float32))
    if x.shape[1] not in SLICE_LENS:
        raise ValueError(
            f"clips must have {list(SLICE_LENS)} samples. Received: {x.shape[1]}"
        )
    return _in_chunks(_level_spectra, x)


WAVEFORMS = tf.TensorSpec([None, None], tf.float32)


@tf.function(input_signature=[WAVEFORMS])
def _similarity_spectra(x):
    return spectral.log_mel(x, SIMILARITY_NFFT)


@tf.function(input_signature=[WAVEFORMS])
def _level_spectra(x):
    X_mel = spectral.mel_magnitude(x, CLASSIFIER_NFFT) / FULL_SCALE
    X_mel = tf.maximum(X_mel, 10 ** (FLOOR_DB / 20))
    return tf.math.log(X_mel) * (20 / math.log(10))  # dB


def _in_chunks(function, x):
    """Apply a function to `CHUNK` clips at a time, as tensors: float32 [n, m]."""
    parts = (x[i : i + CHUNK].astype(np.float32) for i in range(0, len(x), CHUNK))
    made = [function(tf.constant(part)).numpy() for part in parts]
    return np.concatenate(made).reshape(len(x), -1) if made else np.zeros([0, 1])


def flat(x: np.ndarray) -> np.ndarray:
    """[n, samples(, 1)] -> [n, samples]."""
    return x[:, :, 0] if x.ndim == 3 else x


def to_int16(x: ArrayLike) -> np.ndarray:
    """Convert waveforms to int16, as the original writes WAV files; keep int16."""
    x = np.asarray(x)
    return x if x.dtype == np.int16 else spectral.float_to_int16(x).numpy()
