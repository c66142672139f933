"""The modes incept and score: measure how good a checkpoint's sounds are."""

import json
import logging
import os
import zlib
from typing import Any

import numpy as np
import tensorflow as tf

from specgan_tf import generate, spectral
from specgan_tf.cli.data import read_real
from specgan_tf.cli.flags import Settings
from specgan_tf.cli.follow import follow
from specgan_tf.cli.generate import render_clips
from specgan_tf.cli.settings import draw_seed, resolve_settings
from specgan_tf.errors import InputError
from specgan_tf.eval import comparison, score
from specgan_tf.eval.classifier import Classifier
from specgan_tf.eval.metagraph import MetaGraph
from specgan_tf.files import replacing
from specgan_tf.weights import folders
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")


def run_incept(args: Settings) -> None:
    """Score each checkpoint, and keep a copy of the best.

    differs: the best score is remembered from run to run; the original forgets it, and
    replaces the best by whatever comes next.  [train_specgan.py:518, 557-559]

    [train_specgan.py:463-569]
    """
    judge = None

    def incept(prefix):
        nonlocal judge
        now = resolve_settings(args.given)
        judge = judge or JUDGES[args.incept_measure](now)
        incept_checkpoint(prefix, now, judge)

    follow(args, incept)


class InceptionJudge:
    """Scores clips by their inception score: a larger one is better."""

    folder, name, better = "incept", "inception score", "larger"

    def __init__(self, args: Settings):
        self.k, self.classifier = args.incept_k, load_classifier(args)
        if self.classifier is None:
            raise InputError(
                "an inception score needs a classifier: train one with the classifier "
                "mode for --incept_classifier, or use --incept_measure frechet_log_mel"
            )
        if args.incept_n < self.k:
            raise InputError(
                f"--incept_n {args.incept_n} is less than --incept_k {self.k}"
            )
        self.by = {"k": self.k, "classifier": self.classifier.digest()}

    def __call__(self, x: np.ndarray) -> dict[str, float]:
        mean, std = score.inception_score(self.classifier.probabilities(x), self.k)
        return {"incept_mean": mean, "incept_std": std}


class FrechetJudge:
    """Scores clips by their log-mel Frechet distance: a smaller one is better."""

    folder, name, better = "frechet", "log-mel Frechet distance", "smaller"

    def __init__(self, args: Settings):
        real = read_real(args)
        self.real = score.features_log_mel(real)
        self.by = {"real": f"{len(real)} clips, {zlib.crc32(real):08x}"}

    def __call__(self, x: np.ndarray) -> dict[str, float]:
        features = score.features_log_mel(spectral.turn_down(x))
        return {"frechet_log_mel": score.frechet_distance(features, self.real)}


JUDGES = {"inception": InceptionJudge, "frechet_log_mel": FrechetJudge}


def incept_checkpoint(
    prefix: str, args: Settings, judge: InceptionJudge | FrechetJudge
) -> None:
    """Score one checkpoint, from the folder's fixed latents."""
    folder = os.path.join(args.train_dir, judge.folder)
    os.makedirs(folder, exist_ok=True)
    ckpt, z_fp = Checkpoint.open(prefix), os.path.join(folder, "z.pkl")
    step = ckpt.step
    if not os.path.exists(z_fp):
        latent_dim = ckpt.options["latent_dim"]
        z = generate.sample_z(args.incept_n, latent_dim, draw_seed(args))
        generate.save_z(z_fp, z)
    z = generate.load_z(z_fp, args.specgan_latent_dim)
    if len(z) != args.incept_n:
        log.info("Scoring the %d latents that %s holds", len(z), z_fp)
    scores = judge(render_clips(prefix, z, args))
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step):
        for tag, value in scores.items():
            tf.summary.scalar(tag, value)
    writer.close()

    best_fp, by = os.path.join(folder, "best_score.json"), {"n": len(z), **judge.by}
    best = {}
    if os.path.isfile(best_fp):
        try:
            with open(best_fp) as f:
                best = json.load(f)
            was = next(float(best[tag]) for tag in scores)
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{best_fp} is damaged: remove it") from None
    value = next(iter(scores.values()))
    line = f"Step {step}: {judge.name} {value:.3f}"
    if best and best.get("by") != by:
        log.info("The best so far was scored by other means, so it is dropped")
        best = {}
    if best and (value <= was if judge.better == "larger" else value >= was):
        log.info("%s; the best is %.3f, of step %s", line, was, best.get("step"))
        return
    old = folders.latest(folder)
    new = folders.copy(prefix, folder, f"best_score-{step}")
    with replacing(best_fp, "w") as f:
        json.dump({"step": step, **scores, "by": by}, f)
    if old and old != new:
        folders.remove(old)
    log.info("%s; the best so far, kept as %s", line, new)


def run_score(args: Settings) -> None:
    """Compare a generator's sounds, or WAV files, with real sounds by all measures."""
    classifier = load_classifier(args)
    fp, made, of = folders.read_latest(
        args.train_dir, lambda prefix: sounds(prefix, args), folders.latest
    )
    real = read_real(args)
    measures = comparison.measure(made, real, classifier, args.incept_k)
    if classifier is None:
        log.info("No --incept_classifier: the measures that need one are left out")
    for line in comparison.table(measures):
        log.info("%s", line)
    if line := comparison.caution(measures):
        log.warning("%s", line)
    of |= {"data_dir": args.data_dir or "embedded drums", "incept_k": args.incept_k}
    os.makedirs(os.path.dirname(os.path.abspath(fp)), exist_ok=True)
    with replacing(fp, "w") as f:
        json.dump({**of, **measures}, f, indent=1)
        f.write("\n")
    log.info("Wrote %s", fp)


def sounds(
    prefix: str | None, args: Settings
) -> tuple[str, np.ndarray, dict[str, Any]]:
    """The sounds to score: a checkpoint's, or for None those of the folder's WAV files.

    Returns:
      The path of the result; waveforms float32 [n, 16384]; and their origin, for the
      result.
    """
    folder = folders.folder_of(args.train_dir)
    name = "score.json"
    if prefix:
        name = os.path.join("score", f"{Checkpoint.open(prefix).step:08d}.json")
    fp = args.score_fp or os.path.join(folder, name)
    if os.path.exists(fp) and not args.overwrite:
        raise InputError(f"{fp} exists; --overwrite replaces it")
    if prefix:
        n = args.score_n or 512
        latent_dim = Checkpoint.open(prefix).options["latent_dim"]
        z = generate.sample_z(n, latent_dim, args.seed or 0).numpy()
        made = render_clips(prefix, z, args)
        made = spectral.turn_down(made).numpy()  # as files have them
        of = {"checkpoint": os.path.basename(prefix), "seed": args.seed or 0}
    elif not any(name.endswith(".wav") for name in os.listdir(folder)):
        raise InputError(f"{folder} holds neither a checkpoint nor WAV files")
    else:
        made = comparison.read_folder(
            args.train_dir, args.score_n, args.fix_length, args.data_slice_len
        )
        of = {"folder": os.path.abspath(folder)}
    return fp, made, of


def load_classifier(args: Settings) -> Classifier | MetaGraph | None:
    """The classifier that --incept_classifier or the MetaGraph flags name, if any."""
    fp = args.incept_metagraph_fp
    default = fp == Settings.incept_metagraph_fp
    if not args.incept_classifier and default and not os.path.exists(fp):
        return None
    if args.data_sample_rate != score.RATE:
        raise InputError(
            f"classifiers take sounds of {score.RATE} Hz. "
            f"Received: --data_sample_rate {args.data_sample_rate}"
        )
    if args.incept_classifier:
        return Classifier.load(args.incept_classifier)
    return MetaGraph.load(fp, args.incept_ckpt_fp)
