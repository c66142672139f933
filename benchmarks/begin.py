"""Does a training of few sounds gain from beginning with a trained model?

    python -m benchmarks.begin --own FOLDER --rest FOLDER [--train_from drums]
        [--steps 0,300,1000,2600] [--out DIR] [--document]

Trains with the sounds of --own, say 20 of one kind, three times, with the settings of
the bundled models: from nothing, with --train_from, and with --train_from and moments
of the own sounds. After the same steps, which take the same time, it holds what each
generates against --rest: other sounds of that kind, which no training used. Trainings
that are finished in --out are kept; --document rewrites the section of
docs/TRAINING.md.
"""

import argparse
import os
import subprocess
import sys

import numpy as np

from benchmarks import sections
from benchmarks.quick import ENV, ROOT
from specgan_tf import generate, load_generator, load_moments, spectral
from specgan_tf.cli.data import read_real
from specgan_tf.cli.settings import griffin_lim, resolve_settings
from specgan_tf.eval import score

NAME = "benchmarks.begin"  # of its section
CLIPS = 256
DATA = "--data_first_slice --data_pad_end".split()
HOW = (
    "--specgan_log_eps 1e-3 --specgan_pad_front --specgan_gl_window dual "
    "--specgan_gl_momentum 0.99 --specgan_ngl 32"
).split()
TRAIN = (
    "--specgan_dim 16 --train_batch_size 16 --specgan_disc_nupdates 2 "
    "--train_lr_G 2e-4 --train_lr_D 4e-4 --train_ema 0.999 --mixed_precision --seed 1 "
    "--train_keep 1000 --train_save_secs 100000 --train_summary_secs 100000"
).split()
TEXT = """Written by `python -m benchmarks.begin --document`: trainings on {own} sounds,
with the settings of the bundled models, compared with {rest} held-out sounds of the
same kind. {clips} sounds are generated each time. A *copy* is nearer to one of the
{own} training sounds than half of these are to their nearest neighbour.
"""


def command(*argv):
    argv = [sys.executable, "train_specgan.py", *map(str, argv)]
    subprocess.run(argv, cwd=ROOT, env={**os.environ, **ENV}, check=True)


def sides(args):
    """Name -> flags of each training, besides the common ones."""
    moments = os.path.join(args.out, "own", "moments.pkl")
    if not os.path.exists(moments):
        argv = ["moments", os.path.dirname(moments), "--data_dir", args.own]
        command(*argv, *DATA, *HOW[:3], "--specgan_moments", "range")
    own = ["--data_moments_fp", moments]
    begin = ["--train_from", args.train_from]
    return {
        "from nothing": [*HOW, *own],
        f"from {args.train_from}": begin,
        f"from {args.train_from}, own moments": [*begin, *own],
    }


def clips(folder):
    """float32 [n, 16384]: the sounds of a folder, each as a training cuts it."""
    given = {"mode": "moments", "train_dir": folder, "data_dir": folder}
    given |= {"data_first_slice": True, "data_pad_end": True}
    return read_real(resolve_settings(given))


def made(train_dir, step):
    """float32 [CLIPS, 16384] of a checkpoint, turned down as files are."""
    prefix = os.path.join(train_dir, f"model.ckpt-{step}")
    G, moments = load_generator(prefix), load_moments(prefix)
    z = generate.sample_z(CLIPS, G.latent_dim, 0)
    how = griffin_lim(resolve_settings({"mode": "generate", "train_dir": train_dir}))
    G_z = generate.render(G, moments, z, how)["G_z"]
    return spectral.turn_down(G_z).numpy()[:, :, 0]


def measure(x, own, rest):
    """Frechet distance from `rest`, diversity in dB, share of copies of `own`."""
    features = (score.features_log_mel(clips) for clips in (x, rest))
    _, apart = score.nearest(x, own)
    among = [
        score.nearest(own[[i]], np.delete(own, i, 0))[1][0] for i in range(len(own))
    ]
    return (
        score.frechet_distance(*features),
        score.diversity(x),
        float(np.mean(apart < np.median(among))),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--own", required=True)
    p.add_argument("--rest", required=True)
    p.add_argument("--train_from", default="drums")
    p.add_argument("--steps", default="0,300,1000,2600")
    p.add_argument("--out", default=os.path.join(ROOT, "benchmarks", "out", "begin"))
    p.add_argument("--document", action="store_true")
    args = p.parse_args()
    steps = [int(step) for step in args.steps.split(",")]
    own, rest = clips(args.own), clips(args.rest)
    _, diversity, copies = measure(rest, own, rest)
    rows = [
        ("the own sounds", "", *measure(own, own, rest)[:2], ""),
        ("the other sounds", "", 0, diversity, f"{copies:.0%}"),
    ]
    for name, flags in sides(args).items():
        folder = os.path.join(args.out, name.replace(" ", "-").replace(",", ""))
        for step in steps:
            if not os.path.exists(os.path.join(folder, f"model.ckpt-{step}.index")):
                argv = ["train", folder, "--data_dir", args.own, *DATA, *TRAIN, *flags]
                command(*argv, "--train_max_steps", max(step, 1))
            frechet, diversity, copies = measure(made(folder, step), own, rest)
            rows.append((name, step, frechet, diversity, f"{copies:.0%}"))
            print(rows[-1], flush=True)
    head = ["", "step", "Frechet distance, log-mel", "diversity, dB", "copies"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, step, frechet, diversity, copies in rows:
        lines.append(
            f"| {name} | {step} | {frechet:.0f} | {diversity:.1f} | {copies} |"
        )
    counts = {"own": len(own), "rest": len(rest), "clips": CLIPS}
    text = TEXT.format(**counts) + "\n" + "\n".join(lines)
    print(text)
    if args.document:
        sections.write(os.path.join(ROOT, "docs", "TRAINING.md"), NAME, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
