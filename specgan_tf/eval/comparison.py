"""Every measure of some sounds beside the same of real ones, and the table of them."""

import os
import random
import warnings

import numpy as np

from specgan_tf import spectral
from specgan_tf.eval import score
from specgan_tf.files import InputError


def measure(generated, real, classifier=None, k=10):
    """Every measure of generated sounds, and the same of real ones beside them.

    Of the real sounds as many are taken as there are generated ones, and (Frechet, half
    of them at most) compared with the others: what a perfect generator would reach.

    Args:
      generated, real: waveforms float32 [n, 16384(, 1)] and [m, 16384(, 1)].
      classifier: with `probabilities`, `features` and `labels`; None leaves out what
        needs one.
      k: groups of the inception score.

    Returns:
      {"generated": numbers, "real": numbers}, by the names in `MEASURES`; `classes` are
      a dict of label -> clips.

    Raises:
      InputError: too few clips; a clip that is not finite.
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
        parts = (features[1][i] for i in parts)
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


def caution(measures):
    """What to heed when reading what `measure` returns, as a line; or None."""
    n, m = (measures[of]["clips"] for of in ("generated", "real"))
    half = min(n, m // 2)
    if half == n:
        return None
    return (
        f"Caution: of {m} real clips, {half} are compared with the other {m - half} in "
        f"the column real, but {n} generated clips with all {m}. Fewer clips make a "
        "Frechet distance larger, so these two cannot be compared: take --score_n "
        f"{half}, or more real sounds"
    )


def table(measures):
    """What `measure` returns, as lines of text."""

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


def read_folder(folder, n=None, fix_length=False):
    """The WAV files of a folder, as the original scores them: float32 [n, 16384].

    In an order that is shuffled but always the same; the first `n`, or all.

    Args:
      fix_length: cut or fill with zeros what is not of 16384 samples.

    Raises:
      InputError: fewer than `n` files; one that is not mono, at 16 kHz, 16-bit or
        float, or of another length.

    [score.py:49-69, 134-140]
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(".wav"))
    random.Random(0).shuffle(names)
    if len(names) < (n or 1):
        raise InputError(f"{folder} holds {len(names)} WAV files, not {n or 1}")
    return np.stack(
        [_read_wav(os.path.join(folder, name), fix_length) for name in names[:n]]
    )


def _read_wav(fp, fix_length):
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Chunks that are not audio do not matter; missing audio does.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", "Reached EOF prematurely")
            fs, x = wavfile.read(fp)
    except wavfile.WavFileWarning:
        raise InputError(f"{fp} is truncated: make it again, or remove it") from None
    except Exception as e:  # scipy raises whatever an odd header makes it stumble over
        raise InputError(f"{fp} cannot be read: {e}") from None
    if fs != score.RATE:
        raise InputError(f"{fp} is at {fs} Hz, not {score.RATE}")
    if x.ndim != 1 or x.dtype not in (np.int16, np.float32):
        raise InputError(
            f"{fp} is {x.dtype} {list(x.shape)}; scores take mono WAV, 16-bit or float"
        )
    if x.dtype == np.int16:
        # original: 32767 here, though decoding divides by 32768.  [score.py:54-56]
        x = x.astype(np.float32) / 32767.0
    if fix_length:
        x = x[: spectral.SLICE_LEN]
        x = np.pad(x, (0, spectral.SLICE_LEN - len(x)))
    if len(x) != spectral.SLICE_LEN:
        raise InputError(
            f"{fp} has {len(x)} samples, not {spectral.SLICE_LEN}; --fix_length cuts, "
            "or adds zeros"
        )
    return x
