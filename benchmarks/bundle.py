"""The model in the box: python -m benchmarks.bundle TRAIN_DIR --sounds metadata.csv

Takes that checkpoint of a training whose sounds are nearest to the real ones, by the
Frechet distance of log-mel features, and writes specgan_tf/data/models/NAME:
generator.npz (see specgan_tf/weights/bundled.py), sounds.csv with whose sounds it heard,
and CARD.md with what it is.

Every figure is of latents that the choice was not made with.
"""

import argparse
import csv
import glob
import hashlib
import io
import logging
import os
import sys

from specgan_tf.cli import flags
from specgan_tf.cli.run import run

log = logging.getLogger("specgan_tf")

LICENCES = "CC0-1.0", "MIT"  # of sounds that what is made of them may go anywhere
MAX_BYTES = 3_000_000
# Of a spectrogram in [-1, 1], by float16 weights: half a step of its picture's 256.
FLOAT16_ERROR = 1 / 256
FILES = GENERATOR, SOUNDS, ABOUT = "generator.npz", "sounds.csv", "CARD.md"
CHOOSE, MEASURE, COMPARE = 0, 1, 2  # seeds of latents


def make_parser():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("train_dir")
    p.add_argument(
        "--sounds",
        default="specgan_tf/data/provenance.csv",
        help="CSV of file, licence, attribution and origin of each sound trained on, "
        "and of others (default: of the embedded drums)",
    )
    p.add_argument("--out_dir", default="specgan_tf/data/models/drums")
    p.add_argument(
        "--overwrite", action="store_true", help="replace what this made before"
    )
    p.add_argument("--specgan_ngl", type=int, help="as recorded, or what is better")
    p.add_argument("--specgan_gl_window", choices=["hann", "dual"])
    p.add_argument("--specgan_gl_momentum", type=float)
    return p


def make(args):
    """Choose, measure, and write everything beside OUT_DIR before it moves in."""
    import numpy as np

    from specgan_tf import generate
    from specgan_tf.cli.data import find_files
    from specgan_tf.cli.settings import INVERSION, griffin_lim, load_moments, settle
    from specgan_tf.files import InputError, replacing_dir
    from specgan_tf.weights import bundled, checkpoint

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
    settings = settle(flags.make_parser(), given)
    inversion = griffin_lim(settings)
    fps = find_files(settings)
    rows = provenance(fps, args.sounds)
    real = slices(fps, settings)
    moments = load_moments(args.train_dir, settings)
    prefix, scores = choose(args.train_dir, moments, inversion, real)
    G = checkpoint.load_generator(prefix)

    sounds_csv = as_csv(rows)
    card = {
        "name": "specgan",
        "step": checkpoint.step_of(prefix),
        "sample_rate": settings.data_sample_rate,
        "ngl": inversion.ngl,
        "gl_window": inversion.window,
        "gl_momentum": inversion.momentum,
        "seed": settings.seed,
        "command": command(settings, checkpoint.step_of(prefix)),
        "parameters": G.count_params(),
        "sounds": {
            "files": len(fps),
            "slices": len(real),
            "licences": {x: sum(r["licence"] == x for r in rows) for x in LICENCES},
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
        card |= measure(small, real, settings.seed)
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
    """A row for each file, of what the CSV at `path` says and what the file holds."""
    from specgan_tf.files import InputError

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
                f"{' or '.join(LICENCES)} may go into the box"
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
    """What the training heard, float32 [n, 16384]."""
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
    from specgan_tf.eval import score
    from specgan_tf.files import InputError
    from specgan_tf.weights import checkpoint

    found = glob.glob(os.path.join(glob.escape(train_dir), "model.ckpt-*.index"))
    prefixes = [fp.removesuffix(".index") for fp in found]
    prefixes.sort(key=checkpoint.step_of)
    if not prefixes:
        raise InputError(f"no checkpoint in {train_dir} yet: train first")
    features, distances = score.features_log_mel(real), {}
    for prefix in prefixes:
        G = checkpoint.load_generator(prefix)
        x = sounds(G, moments, inversion, len(real), CHOOSE)
        distance = score.frechet_distance(score.features_log_mel(x), features)
        distances[prefix] = distance
        log.info("%s: Frechet distance %.1f", os.path.basename(prefix), distance)
    best = min(distances, key=distances.get)
    return best, {os.path.basename(p): round(d, 2) for p, d in distances.items()}


def measure(model, real, seed):
    """Scores and descriptions of real sounds, the model's, and an untrained one's."""
    import keras

    from specgan_tf import SpecGANGenerator
    from specgan_tf.eval import comparison

    keras.utils.set_random_seed(seed or 0)
    untrained = SpecGANGenerator(**model.card["options"])
    made = {
        name: sounds(G, model.moments, model.griffin_lim, len(real), MEASURE)
        for name, G in (("box", model.G), ("untrained", untrained))
    }
    scores = {name: comparison.measure(x, real) for name, x in made.items()}
    scores = {"real": scores["box"]["real"]} | {
        name: both["generated"] for name, both in scores.items()
    }
    sound = {name: describe(x) for name, x in {"real": real, **made}.items()}
    return {"scores": scores, "sound": sound}


FRAME = 256  # samples


def describe(x):
    """Medians over clips float32 [n, 16384] of what an ear would say first."""
    import numpy as np

    from specgan_tf.eval import health

    power = np.square(x.reshape(len(x), -1, FRAME)).mean(axis=2)
    loudest = power.argmax(axis=1)
    after = np.arange(power.shape[1]) >= loudest[:, np.newaxis]
    faded = after & (power < power.max(axis=1, keepdims=True) / 100.0)
    fade = np.where(faded.any(axis=1), faded.argmax(axis=1), power.shape[1])
    spectrum = np.square(np.abs(np.fft.rfft(x, axis=1)))
    bins = np.arange(spectrum.shape[1]) / x.shape[1]
    centroid = (spectrum * bins).sum(axis=1) / np.maximum(spectrum.sum(axis=1), 1e-12)
    heard = spectrum[:, 1:] + 1e-12  # without what is constant
    flatness = np.exp(np.log(heard).mean(axis=1)) / heard.mean(axis=1)
    quiet = np.abs(x).max(axis=1) < health.SILENCE
    return {
        "peak": float(np.median(np.abs(x).max(axis=1))),
        "nearly silent": int(quiet.sum()),
        "loudest at, of the clip": float(np.median(loudest)) / power.shape[1],
        "20 dB down after, of the clip": float(np.median(fade - loudest))
        / power.shape[1],
        "centroid, of the sample rate": float(np.median(centroid)),
        "flatness of the spectrum": float(np.median(flatness)),
    }


# Changes nothing in what is learned.
ASIDE = "train_save_secs train_summary_secs train_keep train_backup_mins".split()


def command(settings, step):
    """The training's command line, without the paths of one machine."""
    from specgan_tf.cli.settings import INVERSION, MOMENTARY, PATHS

    words = ["python train_specgan.py train ./train"]
    for name, default in settings.defaults.items():
        value = getattr(settings, name)
        if name == "data_dir" and value:
            value = "./drums"
        elif name in {*MOMENTARY, *PATHS, *INVERSION, *ASIDE}:
            continue
        if value == default:
            continue
        words.append(f"--{name}" if value is True else f"--{name} {value}")
    return " ".join([*words, f"--train_max_steps {step}"])


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
    names = "real", "box", "untrained"
    head = ["| | real | this model | untrained |", "|---|---|---|---|"]

    def cell(value):
        if value is None:
            return ""
        if isinstance(value, list):
            return "{:.2f} ± {:.2f}".format(*value)
        return str(value) if isinstance(value, int) else f"{value:.2f}"

    def table(says, numbers):
        lines = [*head]
        for key, words in says.items():
            cells = [cell(numbers[name].get(key)) for name in names]
            if any(cells):
                escaped = words.replace("|", "\\|")
                lines.append(f"| {escaped} | {' | '.join(cells)} |")
        return lines

    distances = [
        f"{name.partition('-')[2]}: {d}" for name, d in card["checkpoints"].items()
    ]
    seconds = SLICE_LEN / card["sample_rate"]
    dB = {name: card["scores"][name]["log_spectral_distance"] for name in names}
    diverse = dB["box"] / dB["real"]
    lines = [
        "# The model in the box",
        "",
        f"`{GENERATOR}`, a generator of drum sounds: {options}; "
        f"{card['parameters']} weights, float16, with its moments. "
        f"{os.path.getsize(path)} bytes, sha256 `{digest}`.",
        "",
        "## How it was made",
        "",
        f"Step {card['step']} of",
        "",
        "```",
        card["command"],
        "```",
        "",
        f"with the {card['sounds']['files']} sounds of `{SOUNDS}` in `./drums`. That "
        "list names each with licence, author, origin and sha256:",
        "",
        *(
            f"- {n} under {licence}: {attribution}"
            for (licence, attribution), n in sorted(owners.items())
        ),
        "",
        "`python -m benchmarks.bundle ./train` chose the checkpoint that has the smallest "
        "Frechet distance of log-mel features from these sounds, and wrote this page. "
        "The distances, by step:",
        "",
        ", ".join(distances) + ".",
        "",
        f"Its sounds take {card['ngl']} Griffin-Lim steps with the window "
        f"`{card['gl_window']}` and momentum {card['gl_momentum']:g}, unless flags say "
        "otherwise.",
        "",
        "## How good it is",
        "",
        "As many clips as there are real ones, of latents that the choice did not see "
        "(`specgan_tf.eval.score`). Real sounds are compared among themselves, for the "
        "Frechet distance one half with the other. *Untrained*: the same network with "
        "fresh weights and these moments.",
        "",
        *table(comparison.MEASURES, card["scores"]),
        "",
        "In |D|self and diversity, less than real sounds have means that the clips are "
        "alike. |D|train is the distance to the nearest sound trained on: near zero "
        "they would be copies.",
        "",
        "Medians of what an ear notices first:",
        "",
        *table({key: key for key in card["sound"]["real"]}, card["sound"]),
        "",
        "Of a tone the spectrum's flatness is 0, of white noise 0.56.",
        "",
        f"Weights in float16 change a spectrogram, in [-1, 1], by at most "
        f"{card['float16']['largest error of spectrograms']:.1g}, over "
        f"{card['float16']['latents']} latents; {FLOAT16_ERROR:.1g} would be refused.",
        "",
        "## What to expect of it",
        "",
        f"Single hits of {seconds:.3f} s at {card['sample_rate']} Hz, mono. Nothing "
        f"says which drum: a latent is what it is. The clips are {diverse:.0%} as "
        "diverse as the sounds learned from. The network is small, and was trained on "
        "a CPU with few sounds; its phases are guessed by Griffin-Lim, which smears "
        "attacks and adds a metallic ring. It is here so that there is something to "
        "hear, to export and to test with at once.",
    ]
    return "\n".join(lines) + "\n"


def main(argv=None):
    args = make_parser().parse_args(argv)
    return run("benchmarks.bundle", lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
