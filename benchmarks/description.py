"""Audible properties of sounds, as medians: the second table of a card."""

import numpy as np

FRAME, SHORT = 256, 64  # samples
NEAR = 20.0  # Hz, either side of the strongest partial
DOWN = 20.0  # dB
FLOOR = 60.0  # dB below a clip's loudest bin; what is softer is not looked at
SMALL = 1e-12


def describe(x, rate=16000):
    """Medians over clips float32 [n, 16384] at `rate` Hz: what it is -> its value.

    "nearly silent" alone is a count of clips.
    """
    from specgan_tf.eval import health

    power, short = (
        np.square(x.reshape(len(x), -1, frame)).mean(axis=2) for frame in (FRAME, SHORT)
    )
    loudest = power.argmax(axis=1)
    spectrum = np.square(np.abs(np.fft.rfft(x, axis=1)))
    hertz = np.arange(spectrum.shape[1]) * rate / x.shape[1]
    total = np.maximum(spectrum.sum(axis=1), SMALL)
    centroid = (spectrum * hertz).sum(axis=1) / total
    heard = spectrum[:, 1:] + SMALL  # without what is constant
    flatness = np.exp(np.log(heard).mean(axis=1)) / heard.mean(axis=1)
    peak, level = np.abs(x).max(axis=1), levels(x)
    clip, ms = x.shape[1], 1000.0 / rate
    medians = {
        "peak": peak,
        "loudest at, of the clip": loudest * FRAME / clip,
        "attack, ms": attack(short) * SHORT * ms,
        "20 dB down after, ms": fade(power) * FRAME * ms,
        "centroid, Hz": centroid,
        "flatness of the spectrum": flatness,
        "energy near the strongest partial": near_strongest(spectrum, hertz),
        "roughness from bin to bin, dB": roughness(level),
        **{
            f"checkerboard, period of {period} bins, dB": checkerboard(level, period)
            for period in (2, 4, 8)
        },
    }
    made = {name: float(np.median(values)) for name, values in medians.items()}
    return made | {"nearly silent": int((peak < health.SILENCE).sum())}


def attack(power):
    """Frames from the first within 20 dB of the loudest to the loudest: int [n].

    power: of the frames of each clip, [n, frames].
    """
    loud = power >= power.max(axis=1, keepdims=True) / 10 ** (DOWN / 10)
    return power.argmax(axis=1) - loud.argmax(axis=1)


def fade(power):
    """Frames from the loudest to the first that is 20 dB below it, or to the end."""
    loudest = power.argmax(axis=1)
    after = np.arange(power.shape[1]) >= loudest[:, np.newaxis]
    soft = power < power.max(axis=1, keepdims=True) / 10 ** (DOWN / 10)
    faded = after & soft
    end = np.where(faded.any(axis=1), faded.argmax(axis=1), power.shape[1])
    return end - loudest


def near_strongest(spectrum, hertz):
    """Share of a clip's energy within 20 Hz of its strongest frequency: [n].

    spectrum: power [n, bins] at `hertz` [bins].
    """
    strongest = hertz[spectrum.argmax(axis=1)]
    near = np.abs(hertz - strongest[:, np.newaxis]) <= NEAR
    return (spectrum * near).sum(axis=1) / np.maximum(spectrum.sum(axis=1), SMALL)


def levels(x):
    """Waveforms -> the model's spectrogram in dB above a floor, float [n, 128, 128].

    The floor is 60 dB below the clip's loudest bin.
    """
    from specgan_tf import spectral

    chunks = (x[i : i + 64] for i in range(0, len(x), 64))
    parts = [spectral.log_magnitude(np.float32(part)).numpy() for part in chunks]
    level = np.concatenate(parts)[..., :-1] * (20 / np.log(10))
    return np.maximum(level - level.max(axis=(1, 2), keepdims=True) + FLOOR, 0.0)


def roughness(level):
    """Mean difference of neighbouring bins that both hold sound, dB: [n]."""
    both = (level[..., 1:] > 0) & (level[..., :-1] > 0)
    steps = np.abs(np.diff(level, axis=2)) * both
    return steps.sum(axis=(1, 2)) / np.maximum(both.sum(axis=(1, 2)), 1)


def checkerboard(level, period):
    """How far a pattern that repeats every `period` bins stands out, dB: [n].

    Power of a spectrogram's own spectrum, along frequency, at that period, over the
    median of periods beside it. A layer of stride 2 that leaves gaps makes it large.
    """
    bins = level.shape[2]
    flat = level - level.mean(axis=2, keepdims=True)
    window = np.sin(np.pi * (np.arange(bins) + 0.5) / bins) ** 2
    power = np.square(np.abs(np.fft.rfft(flat * window, axis=2))).mean(axis=1)
    at = bins // period
    beside = [i for d in (3, 4, 5, 6) for i in (at - d, at + d) if i <= bins // 2]
    over = np.median(power[:, beside], axis=1)
    return 10 * np.log10((power[:, at] + SMALL) / (over + SMALL))
