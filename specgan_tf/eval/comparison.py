"""Measures generated sounds and real ones, and tabulates both."""

import os
import random
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from specgan_tf import spectral
from specgan_tf.errors import InputError
from specgan_tf.eval import score
from specgan_tf.eval.classifier import Classifier
from specgan_tf.eval.metagraph import MetaGraph


def measure(
    generated: ArrayLike,
    real: ArrayLike,
    classifier: Classifier | MetaGraph | None = None,
    k: int = 10,
) -> dict[str, dict[str, Any]]:
    """Measure generated sounds, and as many real ones beside them.

    The real sounds are compared with each other: for a Frechet distance, as many of
    them as there are generated ones (half of them at most) with the rest. That is what
    a perfect generator would reach.

    Args:
      generated, real: waveforms float32 [n, 16384(, 1)] and [m, 16384(, 1)].
      classifier: None leaves out the measures that need one.
      k: number of groups for the inception score.

    Returns:
      {"generated": measures, "real": measures}. Measures have the names in `MEASURES`;
      "classes" is a dict of label -> number of clips.

    Raises:
      InputError: there are fewer than 4 clips, or a clip is not finite.
    """
    generated, real = (score.flat(np.asarray(x, np.float32)) for x in (generated, real))
    for name, x in (("generated", generated), ("real", real)):
        if len(x) < 4:
            raise InputError(f"too few {name} clips to measure: {len(x)}, at least 4")
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise InputError(f"{name} clip {bad[0]} holds NaN or infinite samples")
    order = np.random.default_rng(0).permutation(len(real))
    some, half = order[: len(generated)], min(len(generated), len(real) // 2)
    parts = order[:half], order[half:]
    made = {"clips": len(generated)}
    true = {"clips": len(real)}

    features = [score.features_log_mel(x) for x in (generated, real)]
    made["frechet_log_mel"] = score.frechet_distance(*features)
    true["frechet_log_mel"] = score.frechet_distance(*(features[1][i] for i in parts))
    features = [score.similarity_features(score.to_int16(x)) for x in (generated, real)]
    made["similarity_self"] = score.nn_dist(features[0], features[0], True)
    true["similarity_self"] = score.nn_dist(features[1][some], features[1][some], True)
    made["similarity_train"] = score.nn_dist(features[1], features[0], False)
    made["log_spectral_distance"] = score.diversity(generated)
    true["log_spectral_distance"] = score.diversity(real[some])
    if classifier is None:
        return {"generated": made, "real": true}

    p = [classifier.probabilities(generated), classifier.probabilities(real[some])]
    for numbers, of in zip((made, true), p, strict=True):
        numbers["inception_score"] = score.inception_score(of, k)
        counts = zip(classifier.labels, score.class_counts(of), strict=True)
        numbers["classes"] = {label: int(n) for label, n in counts}
    features = [classifier.features(x) for x in (generated, real)]
    if features[0] is not None:
        made["frechet_classifier"] = score.frechet_distance(*features)
        # A longer clip has several rows of features: see `classifier.chunks`.
        by_clip = features[1].reshape(len(real), -1, features[1].shape[1])
        parts = (np.concatenate(by_clip[i]) for i in parts)
        true["frechet_classifier"] = score.frechet_distance(*parts)
    return {"generated": made, "real": true}


MEASURES = {
    "clips": "clips",
    "inception_score": "inception score",
    "similarity_self": "|D|self",
    "similarity_train": "|D|train",
    "frechet_log_mel": "Frechet distance, log-mel",
    "frechet_classifier": "Frechet distance, classifier",
    "log_spectral_distance": "diversity, dB",
}


def caution(measures: dict[str, dict[str, Any]]) -> str | None:
    """A warning if the two columns of `measure` cannot be compared, else None."""
    n, m = (measures[of]["clips"] for of in ("generated", "real"))
    half = min(n, m // 2)
    if half == n:
        return None
    return (
        f"Caution: the column real compares {half} real clips with the other "
        f"{m - half}, the column generated {n} clips with all {m} real ones. Fewer "
        "clips make a Frechet distance larger, so the two columns cannot be compared. "
        f"Use --score_n {half}, or more real sounds"
    )


def table(measures: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of text: a row for each measure that `measure` returns."""

    def shown(value):
        if value is None:
            return ""
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return f"{value:.2f}"
        return "{:.2f} +- {:.2f}".format(*value)

    lines = [("", *measures)]
    lines += [
        (says, *(shown(numbers.get(name)) for numbers in measures.values()))
        for name, says in MEASURES.items()
        if any(name in numbers for numbers in measures.values())
    ]
    classes = [numbers.get("classes", {}) for numbers in measures.values()]
    lines += [
        (f"  of class {label}", *(str(c.get(label, "")) for c in classes))
        for label in classes[0]
    ]
    return [f"{name:30}{made:>18}{true:>18}".rstrip() for name, made, true in lines]


def read_folder(
    folder: str,
    n: int | None = None,
    fix_length: bool = False,
    slice_len: int = spectral.SLICE_LEN,
) -> np.ndarray:
    """Read the WAV files of a folder as the original does: float32 [n, slice_len].

    The order is shuffled, but the same every time.

    Args:
      n: read the first `n`; None reads all.
      fix_length: cut files to slice_len samples, or pad them with zeros.

    Raises:
      InputError: there are fewer than `n` files, or a file is not mono, not at 16 kHz,
        neither 16-bit nor float, or not slice_len samples long.

    [score.py:49-69, 134-140]
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(".wav"))
    random.Random(0).shuffle(names)
    if len(names) < (n or 1):
        raise InputError(
            f"{folder} holds {len(names)} WAV files; {n or 1} or more are needed"
        )
    return np.stack(
        [
            _read_wav(os.path.join(folder, name), fix_length, slice_len)
            for name in names[:n]
        ]
    )


def _read_wav(fp, fix_length, slice_len):
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Ignore chunks that are not audio; refuse missing audio.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", "Reached EOF prematurely")
            fs, x = wavfile.read(fp)
    except wavfile.WavFileWarning:
        raise InputError(f"{fp} is truncated: make it again, or remove it") from None
    except Exception as e:  # whatever scipy raises on an odd header
        raise InputError(f"{fp} cannot be read: {e}") from None
    if fs != score.RATE:
        raise InputError(f"{fp} is at {fs} Hz, not {score.RATE}: resample it")
    if x.ndim != 1 or x.dtype not in (np.int16, np.float32):
        raise InputError(
            f"{fp} must be a mono WAV, 16-bit or float. Received: {x.dtype} "
            f"{list(x.shape)}"
        )
    if x.dtype == np.int16:
        # original: 32767 here, though decoding divides by 32768.  [score.py:54-56]
        x = x.astype(np.float32) / 32767.0
    if fix_length:
        x = x[:slice_len]
        x = np.pad(x, (0, slice_len - len(x)))
    if len(x) != slice_len:
        raise InputError(
            f"{fp} has {len(x)} samples, not {slice_len}; --fix_length cuts it or pads "
            "it with zeros"
        )
    return x
