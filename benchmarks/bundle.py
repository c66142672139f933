"""A bundled model: python -m benchmarks.bundle NAME TRAIN_DIR --sounds metadata.csv

Takes that checkpoint of a training whose sounds are nearest to the real ones, by the
Frechet distance of log-mel features, and writes specgan_tf/data/models/NAME:
generator.npz (see specgan_tf/weights/bundled.py), sounds.csv with whose sounds it
learned from, and CARD.md with what it is and how good. Writes what the cards of all
models say into docs/SOUNDS.md, too; `python -m benchmarks.bundle document` does only
that.

Every figure is of latents that the choice was not made with.
"""

import argparse
import collections
import csv
import glob
import hashlib
import io
import logging
import os
import sys

from benchmarks import description, sections
from specgan_tf.cli.flags import FLAGS, RECORDED
from specgan_tf.cli.run import run

log = logging.getLogger("specgan_tf")

# Of sounds that may be learned from; the last ask that their authors be named.
LICENCES = "CC0-1.0", "MIT", "CC-BY-3.0", "CC-BY-SA-4.0"
MAX_BYTES = 4_000_000
COLUMNS = {  # of a card's tables
    "real": "real",
    "round trip": "there and back",
    "model": "this model",
    "noise": "shaped noise",
    "untrained": "untrained",
}
# Of a spectrogram in [-1, 1], by float16 weights: half a step of its picture's 256.
FLOAT16_ERROR = 1 / 256
CHOSEN_BY, MEASURED_BY = 256, 512  # clips, at most
FILES = GENERATOR, SOUNDS, ABOUT = "generator.npz", "sounds.csv", "CARD.md"
CHOOSE, MEASURE, COMPARE = 0, 1, 2  # seeds of latents


def make_parser():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("name", choices=["drums", "digits", "document"])
    p.add_argument("train_dir", nargs="?")
    p.add_argument(
        "--sounds",
        default="specgan_tf/data/provenance.csv",
        help="CSV of file, licence, attribution and origin of each sound trained on, "
        "and of others (default: of the embedded drums)",
    )
    p.add_argument("--out_dir", help="default specgan_tf/data/models/NAME")
    p.add_argument("--classifier", help="of these sounds, for an inception score")
    p.add_argument("--classifier_command", help="that made it, for the card")
    p.add_argument(
        "--overwrite", action="store_true", help="replace what this made before"
    )
    p.add_argument("--specgan_ngl", type=int, help="as recorded, or what is better")
    p.add_argument("--specgan_gl_window", choices=["hann", "dual"])
    p.add_argument("--specgan_gl_momentum", type=float)
    return p


def document(path="docs/SOUNDS.md"):
    """Write the section of a document that shows the cards of all bundled models."""
    from specgan_tf.eval import comparison
    from specgan_tf.weights import bundled

    lines = ["## The bundled models", "", "Written by `python -m benchmarks.bundle`."]
    for name in bundled.MODELS:
        card = bundled.read_card(bundled.path_of(name))
        measures = {**comparison.MEASURES, **{k: k for k in card["sound"]["real"]}}
        numbers = {c: card["scores"][c] | card["sound"][c] for c in COLUMNS}
        lines += ["", f"### {name}", "", f"Step {card['step']}. "]
        card_fp = f"../specgan_tf/data/models/{name}/CARD.md"
        lines[-1] += f"[Its card]({card_fp}) has the details."
        lines += ["", *table(measures, numbers), "", *classes(card)]
    sections.write(path, "benchmarks.bundle", "\n".join(lines))


def default_dir(name):
    return f"specgan_tf/data/models/{name}"


def make(args):
    """Choose, measure, and write everything beside OUT_DIR before it moves in."""
    import numpy as np

    from specgan_tf import generate
    from specgan_tf.cli.data import find_files
    from specgan_tf.cli.settings import (
        INVERSION,
        griffin_lim,
        load_moments,
        resolve_settings,
    )
    from specgan_tf.errors import InputError
    from specgan_tf.files import replacing_dir
    from specgan_tf.weights import bundled, checkpoint

    args.out_dir = args.out_dir or default_dir(args.name)
    there = set(os.listdir(args.out_dir)) if os.path.isdir(args.out_dir) else set()
    if there and not args.overwrite:
        raise InputError(f"{args.out_dir} is not empty; --overwrite replaces it")
    if there - set(FILES):
        raise InputError(
            f"{args.out_dir} holds {min(there - set(FILES))}, which is none of "
            f"{', '.join(FILES)}: choose another --out_dir"
        )
    given = {"mode": "moments", "train_dir": args.train_dir}
    given |= {k: v for k in INVERSION if (v := getattr(args, k)) is not None}
    settings = resolve_settings(given)
    inversion = griffin_lim(settings)
    fps = find_files(settings)
    rows = provenance(fps, args.sounds)
    real = slices(fps, settings)
    moments = load_moments(args.train_dir, settings)
    prefix, scores = choose(args.train_dir, moments, inversion, real)
    G = checkpoint.load_generator(prefix)

    sounds_csv = as_csv(rows)
    card = {
        "name": args.name,
        "step": checkpoint.step_of(prefix),
        "sample_rate": settings.data_sample_rate,
        "ngl": inversion.ngl,
        "gl_window": inversion.window,
        "gl_momentum": inversion.momentum,
        "seed": settings.seed,
        "command": command(args.name, settings, checkpoint.step_of(prefix)),
        "parameters": G.count_params(),
        "sounds": {
            "files": len(fps),
            "slices": len(real),
            "licences": dict(collections.Counter(r["licence"] for r in rows)),
            "sounds.csv sha256": hashlib.sha256(sounds_csv).hexdigest(),
        },
        "checkpoints": scores,
    }
    with replacing_dir(args.out_dir) as new:
        path = os.path.join(new, GENERATOR)
        bundled.save(path, G, moments, card)
        small = bundled.load(path)
        z = generate.sample_z(64, G.latent_dim, COMPARE)
        error = float(np.abs(small.G(z) - G(z)).max())
        if error > FLOAT16_ERROR:
            raise InputError(
                f"float16 weights change spectrograms by {error:.2g}, more than "
                f"{FLOAT16_ERROR:.2g}"
            )
        log.info("float16 weights change spectrograms by %.2g of 2 at most", error)
        card |= measure(small, real, settings.seed, args)
        card["float16"] = {"largest error of spectrograms": error, "latents": len(z)}
        bundled.save(path, G, moments, card)
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise InputError(f"{GENERATOR} has {size} bytes, more than {MAX_BYTES}")
        with open(os.path.join(new, SOUNDS), "wb") as f:
            f.write(sounds_csv)
        with open(os.path.join(new, ABOUT), "w", encoding="utf-8") as f:
            f.write(about(path, bundled.read_card(path), rows))
    log.info("Wrote %s: step %d, %d bytes", args.out_dir, card["step"], size)


def provenance(fps, path):
    """A row for each file: its row in the CSV at `path`, and its digest."""
    from specgan_tf.errors import InputError

    with open(path, encoding="utf-8", newline="") as f:
        known = {os.path.basename(row["file"]): row for row in csv.DictReader(f)}
    rows = []
    for fp in fps:
        name = os.path.basename(fp)
        if name not in known:
            raise InputError(f"{path} does not say whose {name} is")
        row = known[name]
        if row["licence"] not in LICENCES:
            raise InputError(
                f"{name} is under {row['licence']}; only what is under "
                f"{', '.join(LICENCES)} may be learned from here"
            )
        with open(fp, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        kept = {k: row[k] for k in ("licence", "attribution", "origin")}
        rows.append({"file": name, **kept, "sha256": digest})
    return rows


def as_csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def slices(fps, settings):
    """The training sounds, float32 [n, 16384]."""
    import numpy as np

    from specgan_tf import loader, spectral
    from specgan_tf.cli.data import decoding, slicing

    made = loader.decode_and_extract(
        fps, **decoding(settings), **slicing(settings), seed=settings.seed
    )
    made = [np.asarray(x)[:, 0, 0] for x in made]
    return np.stack([np.pad(x, (0, spectral.SLICE_LEN - len(x))) for x in made])


def sounds(G, moments, inversion, n, seed):
    """As `generate` writes them: float32 [n, 16384], too loud ones turned down."""
    from specgan_tf import generate, spectral

    z = generate.sample_z(n, G.latent_dim, seed)
    x = generate.render(G, moments, z, inversion)["G_z"]
    return spectral.turn_down(x).numpy()[:, :, 0]


def choose(train_dir, moments, inversion, real):
    """The checkpoint nearest to the real sounds, and the distances by name."""
    from specgan_tf.errors import InputError
    from specgan_tf.eval import score
    from specgan_tf.weights import checkpoint

    found = glob.glob(os.path.join(glob.escape(train_dir), "model.ckpt-*.index"))
    prefixes = [fp.removesuffix(".index") for fp in found]
    prefixes.sort(key=checkpoint.step_of)
    if not prefixes:
        raise InputError(f"no checkpoint in {train_dir} yet: train first")
    features, distances = score.features_log_mel(real), {}
    for prefix in prefixes:
        G = checkpoint.load_generator(prefix)
        x = sounds(G, moments, inversion, min(len(real), CHOSEN_BY), CHOOSE)
        distance = score.frechet_distance(score.features_log_mel(x), features)
        distances[prefix] = distance
        log.info("%s: Frechet distance %.1f", os.path.basename(prefix), distance)
    best = min(distances, key=distances.get)
    return best, {os.path.basename(p): round(d, 2) for p, d in distances.items()}


def beside(model, real, name, n, seed):
    """The sets of sounds that `COLUMNS` names, but for the real ones: [m, 16384] each.

    Args:
      model: `bundled.Box`.
      real: float32 [m, 16384], which went through the model's spectrograms, and whose
        spectrum the noise has.
      name: "drums" or "digits": how the noise is shaped.
      n: clips of the model, and of the same network with fresh weights.
      seed: of those weights.
    """
    import keras
    import numpy as np

    from specgan_tf import SpecGANGenerator, spectral

    keras.utils.set_random_seed(seed or 0)
    untrained = SpecGANGenerator(**model.card["options"])
    inversion = model.griffin_lim
    chunks = [real[i : i + 64, :, None] for i in range(0, len(real), 64)]
    back = [model.moments.f_to_t(model.moments.t_to_f(x), inversion) for x in chunks]
    return {
        "round trip": spectral.turn_down(np.concatenate(back)).numpy()[:, :, 0],
        "model": sounds(model.G, model.moments, inversion, n, MEASURE),
        "noise": shaped_noise(real, name),
        "untrained": sounds(untrained, model.moments, inversion, n, MEASURE),
    }


def measure(model, real, seed, args):
    """Scores and descriptions of the sounds of each of `COLUMNS`."""
    import numpy as np

    from specgan_tf.eval import comparison
    from specgan_tf.eval.classifier import Classifier

    n = min(len(real), MEASURED_BY)
    some = real[np.random.RandomState(0).permutation(len(real))[:n]]
    made = beside(model, some, args.name, n, seed)
    judge = args.classifier and Classifier.load(args.classifier)
    scores = {name: comparison.measure(x, real, judge, 1) for name, x in made.items()}
    scores = {"real": scores["model"]["real"]} | {
        name: both["generated"] for name, both in scores.items()
    }
    rate = model.card["sample_rate"]
    sound = {
        name: description.describe(x, rate)
        for name, x in {"real": some, **made}.items()
    }
    found = {"scores": scores, "sound": sound}
    if judge:
        found["classifier"] = args.classifier_command
    return found


def shaped_noise(real, name, seed=0):
    """What a trivial generator makes: noise, float32 [n, 16384], with a peak of 1.

    drums: an octave of noise around 60 to 6000 Hz, which fades by e in 20 to 300 ms.
    digits: noise with the mean spectrum and the mean envelope of the real ones.
    """
    import numpy as np

    rs, (n, length) = np.random.RandomState(seed), real.shape
    spectrum = np.fft.rfft(rs.randn(n, length))
    if name == "drums":
        octaves = np.log2(np.maximum(np.fft.rfftfreq(length, 1 / 16000), 1.0))
        centre = rs.uniform(np.log2(60), np.log2(6000), [n, 1])
        spectrum = spectrum * np.exp(-2 * np.square(octaves - centre))
        fade = np.exp(rs.uniform(np.log(0.02), np.log(0.3), [n, 1]))
        envelope = np.exp(-np.arange(length) / 16000 / fade)
    else:
        spectrum = spectrum * np.abs(np.fft.rfft(real)).mean(axis=0)
        power = np.square(real).reshape(n, -1, description.FRAME).mean(axis=(0, 2))
        envelope = np.repeat(np.sqrt(power), description.FRAME)
    x = np.fft.irfft(spectrum, length) * envelope
    return (x / np.abs(x).max(axis=1, keepdims=True)).astype(np.float32)


TRAIN = "python train_specgan.py train ./train"
# Changes nothing in what is learned.
ASIDE = "train_save_secs train_summary_secs train_keep train_backup_mins".split()


def command(name, settings, step):
    """The command that made these weights, without the paths of one machine.

    If it began with the weights of another training (--train_from), that one's command
    is the line before it; and so on.
    """
    from specgan_tf.cli.settings import INVERSION, PATHS

    lines, source = before(name, settings.train_from)
    words = [f"{TRAIN}{1 + number_of(lines)}" if lines else TRAIN]
    for flag in FLAGS:
        value = getattr(settings, flag)
        if flag == "data_dir" and value:
            value = f"./{name}"
        elif flag == "train_from":
            value = source
        elif flag not in RECORDED - {*PATHS, *INVERSION, *ASIDE}:
            continue
        if value == FLAGS[flag].default:
            continue
        words.append(f"--{flag}" if value is True else f"--{flag} {value}")
    return "\n".join([*lines, " ".join([*words, f"--train_max_steps {step}"])])


def number_of(lines):
    """The number of trainings among commands."""
    return sum(line.startswith(TRAIN) for line in lines)


def before(name, source):
    """The commands that made what `--train_from source` took, and what it is there.

    A bundled model's are on its card. To bundle a training again that began with it,
    put back the model that it began with, or its own command is read twice.
    """
    from specgan_tf.cli.settings import resolve_settings
    from specgan_tf.weights import bundled, checkpoint, folders

    if source is None:
        return [], None
    if bundled.is_name(source):  # a generator alone
        lines = bundled.read_card(bundled.path_of(source))["command"].splitlines()
        out = f"./bundled{number_of(lines)}"
        folder = lines[-1].split()[3]
        lines.append(f"python -m benchmarks.bundle {name} {folder} --out_dir {out}")
        return lines, f"{out}/{GENERATOR}"
    settings = resolve_settings({"mode": "moments", "train_dir": source})
    step = checkpoint.step_of(folders.latest(source))
    lines = command(name, settings, step).splitlines()
    return lines, lines[-1].split()[3]


def cell(value):
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, list):
        return "{:.2f} ± {:.2f}".format(*value)
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def table(says, numbers):
    """Lines of a table: a row for each of `says`, a column for each of COLUMNS."""
    yield f"| | {' | '.join(COLUMNS.values())} |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for key, words in says.items():
        cells = [cell(numbers[name].get(key)) for name in COLUMNS]
        if any(cells):
            escaped = words.replace("|", "\\|")
            yield f"| {escaped} | {' | '.join(cells)} |"


def classes(card):
    """The number of clips in each class, if a classifier was used."""
    if "classes" in (counts := card["scores"]["model"]):
        kinds = ", ".join(f"{k} {n}" for k, n in counts["classes"].items())
        yield f"Classes that the classifier assigns to this model's clips: {kinds}."
        yield "The classifier was trained by"
        yield from ("", "```", card["classifier"] or "", "```", "")


CLIP = {  # what a clip is, and what you cannot choose
    "drums": ("a drum hit", "drum"),
    "digits": ("a spoken digit", "digit"),
}


def about(path, card, rows):
    """CARD.md, for people."""
    from specgan_tf.eval import comparison
    from specgan_tf.spectral import SLICE_LEN

    with open(path, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    options = ", ".join(f"{k} {v}" for k, v in card["options"].items())
    owners = {}
    for row in rows:
        owner = row["licence"], row["attribution"]
        owners[owner] = owners.get(owner, 0) + 1
    distances = [
        f"{name.partition('-')[2]}: {d}" for name, d in card["checkpoints"].items()
    ]
    seconds = SLICE_LEN / card["sample_rate"]
    dB = {name: card["scores"][name]["log_spectral_distance"] for name in COLUMNS}
    diverse = dB["model"] / dB["real"]
    folder = f"`./{card['name']}`"
    clip, kind = CLIP[card["name"]]
    lines = [
        f"# The bundled model `{card['name']}`",
        "",
        f"`{GENERATOR}`: {options}; "
        f"{card['parameters']} weights, float16, with its moments. "
        f"{os.path.getsize(path)} bytes, sha256 `{digest}`.",
        "",
        "## How it was made",
        "",
        f"Step {card['step']} of" + " the last training of" * ("\n" in card["command"]),
        "",
        "```",
        card["command"],
        "```",
        "",
        f"with the {card['sounds']['files']} sounds of `{SOUNDS}` in {folder}. That "
        "list has the licence, author, origin and sha256 of each:",
        "",
        *(
            f"- {n} under {licence}: {attribution}"
            for (licence, attribution), n in sorted(owners.items())
        ),
        "",
        f"`python -m benchmarks.bundle {card['name']} ./train` chose, of "
        "the checkpoints in that folder, the one with the smallest Frechet distance of "
        "log-mel features from these sounds, and wrote this page. The distances, by "
        "step:",
        "",
        ", ".join(distances) + ".",
        "",
        f"By default its sounds are inverted with {card['ngl']} Griffin-Lim steps, the "
        f"window `{card['gl_window']}` and momentum {card['gl_momentum']:g}.",
        "",
        "## How good it is",
        "",
        f"{card['scores']['model']['clips']} clips, from other latents than those used "
        "to choose the checkpoint (`specgan_tf.eval.comparison`). Real sounds are "
        "compared with each other, for a Frechet distance one part with the other. "
        "*There and back*: real sounds after this model's spectrograms and inversion; "
        "no generator can be better. *Shaped noise*: filtered noise that fades, or "
        "noise with the mean spectrum and envelope of real sounds; no generator should "
        "be worse. *Untrained*: the same network with its initial weights.",
        "",
        *table(comparison.MEASURES, card["scores"]),
        "",
        *classes(card),
        "If |D|self or diversity is smaller than for real sounds, the clips are alike. "
        "|D|train is the distance to the nearest training sound; copies would have "
        "nearly zero.",
        "",
        "Medians of audible properties:",
        "",
        *table({key: key for key in card["sound"]["real"]}, card["sound"]),
        "",
        "A tone's spectrum has a flatness of 0, white noise 0.56. The attack is the "
        "time from 20 dB below the loudest moment to that moment. The strongest "
        "partial is the strongest frequency, with 20 Hz on either side: a drum that "
        "rings has much of its energy there. Roughness is the mean difference of "
        "neighbouring bins of a spectrogram that both hold sound. A checkerboard "
        "shows how far a pattern stands out that repeats every 2, 4 or 8 bins; real "
        "sounds have none, 0 dB.",
        "",
        f"Storing the weights in float16 changes spectrograms, in [-1, 1], by at most "
        f"{card['float16']['largest error of spectrograms']:.1g} over "
        f"{card['float16']['latents']} latents (allowed: {FLOAT16_ERROR:.1g}).",
        "",
        "## What to expect of it",
        "",
        f"Each clip is {clip}. You cannot choose which {kind}: the random latent "
        f"decides. A clip lasts {seconds:.3f} s at {card['sample_rate']} Hz, mono. The "
        f"clips are {diverse:.0%} as diverse as the training sounds. The network is "
        "small and was trained on a CPU; Griffin-Lim estimates the phases.",
    ]
    return "\n".join(lines) + "\n"


def main(argv=None):
    args = make_parser().parse_args(argv)
    if args.name != "document":
        status = run("benchmarks.bundle", lambda: make(args))
        if status or args.out_dir != default_dir(args.name):
            return status
    return run("benchmarks.bundle", document)


if __name__ == "__main__":
    sys.exit(main())
