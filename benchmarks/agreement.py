"""Do two recognisers hear the same digit? python -m benchmarks.agreement --help

An inception score depends on one network, which may recognise digits where there are
none. Here two recognisers are compared that share neither network nor speakers: a
`Classifier`, trained on the speakers of the bundled model `digits`, and networks that
this command trains on other voices. The agreement is the share of clips for which both
name the same digit, and each gives it a probability of 0.5 or more. If pocketsphinx is
installed, it is the third: an independent speech recogniser.

    python -m benchmarks.agreement --voices VOICES --real DIGITS --classifier FILE

writes the section of docs/SOUNDS.md; --json keeps the figures, too. Files of both
folders begin with their digit: 7_somebody_3.wav.
"""

import argparse
import json
import logging
import os
import re
import sys
import tempfile

import keras
import numpy as np

from benchmarks import bundle, sections
from specgan_tf import loader
from specgan_tf.cli.run import run
from specgan_tf.errors import InputError
from specgan_tf.eval import fit
from specgan_tf.eval.classifier import Classifier
from specgan_tf.files import replacing
from specgan_tf.weights import bundled

log = logging.getLogger("specgan_tf")

NAME = "benchmarks.agreement"  # of its section
RATE = 16000
CONFIDENT = 0.5
GENERATED = 512  # clips of the model, and of an untrained one
SEEDS, EPOCHS, BATCH = (0, 1), 25, 32
# Of the log-mel spectra. The Free Spoken Digit Dataset was recorded at 8 kHz.
NFFT, HOP, MELS, LOWEST, HIGHEST, RANGE_DB = 512, 160, 32, 100.0, 3800.0, 50.0
SPEED, LATER = 0.5, 0.2  # octaves, either way; seconds, at most
WORDS = "zero one two three four five six seven eight nine".split()
GRAMMAR = f"#JSGF V1.0;\ngrammar digits;\npublic <digit> = {' | '.join(WORDS)};\n"
PAUSE = 3200  # samples of faint noise around a word, for pocketsphinx
ROWS = {
    "real": "real",
    "round trip": "there and back",
    "model": "the bundled model",
    "noise": "shaped noise",
    "untrained": "untrained",
}


def read(folder, pattern=""):
    """Digits of a folder: float32 [n, 16384] of peak 1, and which they are, int [n].

    Args:
      pattern: regular expression that the names of files must match.

    Raises:
      InputError: no such file, or one whose name does not begin with a digit.
    """
    fps = [fp for fp in loader.find_audio(folder) if re.search(pattern, fp)]
    if not fps:
        raise InputError(f"{folder} holds no file that {pattern!r} matches")
    labels = [fit.label_of(fp, folder) for fp in fps]
    for fp, label in zip(fps, labels, strict=True):
        if label not in list("0123456789"):
            raise InputError(f"{fp} must begin with a digit, as 7_somebody_3.wav does")
    x, kept = fit.read_clips(fps, decode_fast_wav=True)
    return x, np.array(labels, int)[kept]


# The second recogniser


def log_mel(x):
    """Waveforms float32 [n, 16384] -> log-mel spectra, float32 [n, 103, 32].

    Levels in dB of 32 mel bands, cut off 50 dB below the clip's loudest, minus the mean
    of each band where there is sound: the microphone makes little difference.
    """
    import librosa

    power = librosa.feature.melspectrogram(
        y=x,
        sr=RATE,
        n_fft=NFFT,
        hop_length=HOP,
        n_mels=MELS,
        fmin=LOWEST,
        fmax=HIGHEST,
    )
    level = 10 * np.log10(power + 1e-10).transpose(0, 2, 1)
    level -= level.max(axis=(1, 2), keepdims=True) - RANGE_DB
    level = np.maximum(level, 0.0)
    sounds = level.max(axis=2, keepdims=True) > RANGE_DB / 5
    colour = (level * sounds).sum(axis=1, keepdims=True)
    colour /= sounds.sum(axis=1, keepdims=True)
    return ((level - colour) / 15).astype(np.float32)


def varied(x, rs):
    """Vary the voice and the recording of clips [n, 16384]: float32 like `x`.

    Up to half an octave higher and faster, or lower and slower; duller or brighter;
    up to 0.2 s later; over noise of -70 to -25 dB.
    """
    import librosa

    out = np.zeros_like(x)
    for row, clip in zip(out, x, strict=True):
        clip = np.trim_zeros(clip, "b")
        octaves, tilt = rs.uniform(-SPEED, SPEED), rs.uniform(-0.5, 0.9)
        at = round(RATE * 2.0**octaves)
        clip = librosa.resample(clip, orig_sr=at, target_sr=RATE, res_type="soxr_qq")
        clip = librosa.effects.preemphasis(clip, coef=tilt)[: len(row)]
        room = min(len(row) - len(clip), round(LATER * RATE))
        later = rs.randint(room + 1)
        row[later : later + len(clip)] = clip / max(np.abs(clip).max(), 1e-9)
    noise = 10 ** (rs.uniform(-70, -25, [len(x), 1]) / 20)
    return (out + noise * rs.standard_normal(x.shape)).astype(np.float32)


def network(shape, classes):
    """Convolutions over time, their largest and mean values: probabilities."""
    layers = keras.layers
    X = keras.Input(shape)
    x = layers.SpatialDropout1D(0.1)(X)
    for channels, pool in ((64, 2), (96, 2), (128, 1)):
        x = layers.Conv1D(channels, 5, padding="same")(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling1D(pool)(layers.ReLU()(x))
    x = layers.Concatenate()(
        [layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)]
    )
    x = layers.Dropout(0.4)(x)
    return keras.Model(X, layers.Dense(classes, activation="softmax")(x))


class Voices:
    """Networks trained on the digits of some voices; their mean is the answer.

    Args:
      x, y: as `read` returns them.
      seeds: of each network: its weights, order and variations.
    """

    def __init__(self, x, y, seeds=SEEDS, epochs=EPOCHS):
        self.nets = [self.taught(x, y, seed, epochs) for seed in seeds]

    def taught(self, x, y, seed, epochs):
        keras.utils.set_random_seed(seed)
        net, rs = network(log_mel(x[:1]).shape[1:], 10), np.random.RandomState(seed)
        rate = keras.optimizers.schedules.CosineDecay(
            2e-3, epochs * -(-len(x) // BATCH), alpha=0.02
        )
        net.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        for epoch in range(epochs):
            loss = net.fit(log_mel(varied(x, rs)), y, BATCH, verbose=0).history["loss"]
            log.info("network %d, epoch %d: loss %.3f", seed, epoch + 1, *loss)
        return net

    def probabilities(self, x):
        """Waveforms float32 [n, 16384] -> [n, 10]."""
        parts = [log_mel(x[i : i + 64]) for i in range(0, len(x), 64)]
        X = np.concatenate(parts)
        return np.mean([net.predict(X, verbose=0) for net in self.nets], axis=0)


# The third


def by_pocketsphinx(x):
    """The digits that pocketsphinx hears: int [n], -1 for none; None without it."""
    try:
        import pocketsphinx
    except ImportError:
        return None
    heard, noise = [], np.random.RandomState(0).standard_normal(2 * PAUSE + x.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.gram")
        with open(path, "w") as f:
            f.write(GRAMMAR)
        decoder = pocketsphinx.Decoder(jsgf=path, samprate=RATE, loglevel="FATAL")
    for clip in x:
        sound = np.pad(0.8 * clip, PAUSE) + 1e-3 * noise
        decoder.start_utt()
        samples = np.int16(np.clip(sound, -1, 1) * 32767)
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        word = decoder.hyp() and decoder.hyp().hypstr
        heard.append(WORDS.index(word) if word in WORDS else -1)
    return np.array(heard)


# Figures


def agreement(p, q):
    """Where two recognisers name the same class, both confidently: bool [n].

    p, q: probabilities [n, classes].
    """
    confident = np.minimum(p.max(axis=1), q.max(axis=1)) >= CONFIDENT
    return confident & (p.argmax(axis=1) == q.argmax(axis=1))


def figures(p, q, third=None, y=None):
    """Shares of some clips, and how many of each digit are agreed on.

    Args:
      p, q: probabilities [n, 10] of the classifier, and of the networks of this module.
      third: what pocketsphinx hears, int [n].
      y: what was said, int [n], where it is known.
    """
    both, digit = agreement(p, q), p.argmax(axis=1)
    found = {"clips": len(p), "agreement": float(both.mean())}
    heard = {"classifier": digit, "voices": q.argmax(axis=1)}
    if third is not None:
        heard["pocketsphinx"] = third
        found["all three"] = float((both & (third == digit)).mean())
    if y is not None:
        found["right"] = {name: float((h == y).mean()) for name, h in heard.items()}
        found["agreed and right"] = float((both & (digit == y)).mean())
    found["digits"] = np.bincount(digit[both], minlength=10).tolist()
    return found


def percent(share):
    return "" if share is None else f"{100 * share:.1f}"


def section(found):
    """The document's section, of what `measure` returns."""
    sets, three = found["sets"], "all three" in found["sets"]["real"]
    head = ["", "clips", "classifier right", "other network right"]
    head += ["pocketsphinx right"] * three + ["agreement", "agreed and right"]
    head += ["all three agree"] * three
    rows = [head, ["---"] * len(head)]
    for name, words in ROWS.items():
        of = sets[name]
        right = of.get("right", {})
        cells = [right.get("classifier"), right.get("voices")]
        cells += [right.get("pocketsphinx")] * three
        cells += [of["agreement"], of.get("agreed and right")]
        cells += [of.get("all three")] * three
        rows.append([words, str(of["clips"]), *map(percent, cells)])
    counts = ", ".join(f"{i} {n}" for i, n in enumerate(sets["model"]["digits"]))
    text = TEXT.format(**found, confident=CONFIDENT, networks=len(SEEDS))
    lines = [text, *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines.append(f"Digits agreed on in the bundled model's clips: {counts}.")
    if three:
        lines += ["", SPHINX]
    return "\n".join(lines)


TEXT = """## Agreement: do two recognisers hear the same digit?

Written by `python -m benchmarks.agreement`, for step {step} of the bundled model
`digits`. An inception score depends on one network, which may recognise digits where
there are none. Here it is compared with a second recogniser: the mean of {networks}
small convolutional networks that were trained on
{voices} digits of {speakers} synthetic voices. The model and the classifier were
trained on six speakers.

*Agreement* is the share of clips, in percent, for which both name the same digit and
each gives it a probability of {confident} or more. *Real* are recordings that neither
recogniser was trained on; *there and back* are the same recordings after this model's
spectrograms and inversion. Their agreement is the best that a generator can reach,
because the second recogniser does not know these speakers. Shaped noise and the sounds
of an untrained generator contain no digit.
"""
SPHINX = """*pocketsphinx* is an independent speech recogniser. Its grammar is the ten
words, and it gives no probability. *All three agree* is the share of clips for which it
names the digit that the other two agree on."""


def measure(args):
    x, y = read(args.voices)
    speakers = {os.path.basename(fp).split("_")[1] for fp in os.listdir(args.voices)}
    real, digits = read(args.real, args.test)
    first = Classifier.load(args.classifier)
    if first.labels != list("0123456789"):
        raise InputError(f"{args.classifier} knows {first.labels}, not ten digits")
    model = bundled.load(args.model)
    sets = {"real": real}
    sets |= bundle.beside(model, real, "digits", GENERATED, model.card.get("seed"))
    second = Voices(x, y)
    found = {"step": model.card["step"], "voices": len(x), "speakers": len(speakers)}
    found["sets"] = {}
    for name, clips in sets.items():
        said = digits if name in ("real", "round trip") else None
        found["sets"][name] = figures(
            first.probabilities(clips),
            second.probabilities(clips),
            by_pocketsphinx(clips),
            said,
        )
        log.info("%s: agreement %.3f", name, found["sets"][name]["agreement"])
    return found


def make(args):
    if args.document:
        sections.around(args.document, NAME)  # refused before the work
    found = measure(args)
    if args.json:
        with replacing(args.json, "w") as f:
            json.dump(found, f, indent=1)
    if args.document:
        sections.write(args.document, NAME, section(found))


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--voices", required=True, help="digits to teach the second network")
    p.add_argument("--classifier", required=True, help="that the classifier mode made")
    p.add_argument("--real", required=True, help="digits that the model learned from")
    p.add_argument(
        "--test",
        default=r"_(george|jackson|lucas|nicolas|theo|yweweler)_[0-4]\.wav$",
        help="regular expression: files of --real that no recogniser learned from",
    )
    p.add_argument("--model", default="digits", help="bundled model, or its .npz")
    p.add_argument("--document", default="docs/SOUNDS.md", help="'' writes none")
    p.add_argument("--json", help="keep the figures")
    args = p.parse_args(argv)
    return run("benchmarks.agreement", lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
