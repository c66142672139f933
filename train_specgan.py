#!/usr/bin/env python
"""Train a SpecGAN, hear it, make sound with it.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 616-762: its modes and
flags. What they do lives in specgan_tf; this file turns flags into arguments.
"""

import argparse
import contextlib
import logging
import os
import random
import sys
import tempfile
import time

START = """SpecGAN learns to make one-second sounds from a folder of sounds:

  python train_specgan.py generate
      makes drum sounds, with the small model that comes along
  python train_specgan.py train ./train --specgan_dim 8 --train_batch_size 16
      learns from the drum sounds that come along, or your own: --data_dir FOLDER;
      Ctrl-C saves and ends, the same command goes on
  python train_specgan.py generate ./train
      makes new sounds: WAV files and a picture of them
  python export.py ./train
      a SavedModel and a .tflite, to make sound elsewhere

Every mode and flag: python train_specgan.py --help"""

log = logging.getLogger("specgan_tf")


# Flags


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and which knows its defaults.

    No default reaches the result: there, what is absent was not given.
    """

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)
        self.defaults, self.types, self.choices = {}, {}, {}

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists every flag)\n")

    def flag(self, group, name, default, help, short=None, **kwargs):
        dest = name.removeprefix("--")
        self.defaults[dest] = default
        self.types[dest] = kwargs.get("type", str)
        self.choices[dest] = kwargs.get("choices")
        if isinstance(default, bool):
            self.types[dest] = boolean
            kwargs["action"] = argparse.BooleanOptionalAction
        elif default is not None:
            help += f" (default: {default})"
        names = [name]
        if short:
            names, kwargs["action"] = [name, short], TwoNames
        kwargs |= {"dest": dest, "default": argparse.SUPPRESS, "help": help}
        group.add_argument(*names, **kwargs)

    def parse_recorded(self, name, text):
        """The value that `text` gives a flag; ValueError if it gives none."""
        try:
            value = self.types[name](text)
        except (KeyError, argparse.ArgumentTypeError):
            raise ValueError from None
        if self.choices[name] and value not in self.choices[name]:
            raise ValueError
        return value


class TwoNames(argparse.Action):
    """Stores, but not one value by one name and another by the other."""

    def __call__(self, parser, namespace, value, option_string=None):
        if (had := getattr(namespace, self.dest, value)) != value:
            names = " and ".join(self.option_strings)
            parser.error(f"{names} are the same; which is it: {had} or {value}?")
        setattr(namespace, self.dest, value)


def number(kind, says, accepts):
    def parse(text):
        try:
            value = kind(text)
            if accepts(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"must be {says}. Received: {text!r}")

    return parse


positive = number(int, "a whole number of at least 1", lambda n: n >= 1)
count = number(int, "a whole number of at least 0", lambda n: n >= 0)
integer = number(int, "a whole number", lambda n: True)
seed32 = number(int, "a whole number in [0, 2^31)", lambda n: 0 <= n < 2**31)
minutes = number(float, "a number above 0", lambda n: 0.0 < n < 1e9)
shard = number(
    lambda text: tuple(map(int, text.split("/"))),
    "I/N, as 1/8 to 8/8",
    lambda s: len(s) == 2 and 1 <= s[0] <= s[1],
)
ratio = number(float, "in [0, 1)", lambda r: 0.0 <= r < 1.0)
two_or_more = number(int, "a whole number of at least 2", lambda n: n >= 2)
stride = number(float, "in (0, 2]", lambda s: 0.0 < s <= 2.0)
share = number(float, "in (0, 1]", lambda t: 0.0 < t <= 1.0)
sheet = number(
    lambda text: tuple(map(int, text.split("x"))),
    "ROWSxCOLUMNS, each at least 2, as 5x5",
    lambda s: len(s) == 2 and min(s) >= 2,
)


def boolean(text):
    return {"True": True, "False": False}[text]


def make_parser():
    """The reference's flags and defaults, and ours.  [train_specgan.py:621-712]"""
    p = Parser(description=__doc__.splitlines()[0])
    p.add_argument(
        "mode",
        choices=list(MODES),
        help="train also computes moments if there are none",
    )
    p.add_argument(
        "train_dir",
        nargs="?",
        default=argparse.SUPPRESS,
        help="training folder; of classifier the sounds; of score WAV files too; of "
        "generate and infer a checkpoint's prefix, a model in an .npz, or nothing: the "
        "one that comes along",
    )
    p.add_argument(
        "out_dir",
        nargs="?",
        default=argparse.SUPPRESS,
        help="of to_tf1 a new folder; of classifier where it goes",
    )

    # differs: the reference prefetches to GPU 0, and fails where there is none. fit
    # moves batches there.  [loader.py:189-193]
    g = p.add_argument_group("Data")
    p.flag(g, "--data_dir", None, "folder of audio files; without it, embedded drums")
    p.flag(g, "--data_moments_fp", None, "moments file; default TRAIN_DIR/moments.pkl")
    p.flag(g, "--data_sample_rate", 16000, "audio samples per second", type=positive)
    p.flag(g, "--data_overlap_ratio", 0.0, "overlap of slices, [0, 1)", type=ratio)
    p.flag(g, "--data_first_slice", False, "use only the first slice of each file")
    p.flag(g, "--data_pad_end", False, "use zero-padded partial slices at file ends")
    p.flag(g, "--data_normalize", False, "changes nothing: files always are normalized")
    p.flag(g, "--data_no_normalize", False, "do not normalize each file's peak to 1")
    p.flag(g, "--data_fast_wav", False, "files are 16-bit or float WAV at the rate")
    p.flag(g, "--data_recursive", False, "look into sub-folders of data_dir too")
    p.flag(
        g,
        "--data_resample",
        "soxr_hq",
        "resampler; kaiser_best is the reference's and needs resampy",
        choices=["soxr_hq", "kaiser_best"],
    )
    p.flag(
        g,
        "--data_cache",
        None,
        'decode each file once: "memory" keeps the audio there, else a folder for it',
    )
    p.flag(
        g,
        "--data_prefetch_gpu_num",
        0,
        "changes nothing: Keras finds the device and moves batches there",
        type=integer,
    )

    g = p.add_argument_group("SpecGAN")
    p.flag(g, "--specgan_latent_dim", 100, "length of latent vectors", type=positive)
    p.flag(g, "--specgan_kernel_len", 5, "side of square kernels", type=positive)
    p.flag(
        g, "--specgan_dim", 64, "channels, as a multiplier, in G and D", type=positive
    )
    p.flag(g, "--specgan_batchnorm", False, "use batch normalization")
    p.flag(g, "--specgan_disc_nupdates", 5, "D updates per G update", type=positive)
    p.flag(
        g,
        "--specgan_loss",
        "wgan-gp",
        "GAN loss",
        choices=["dcgan", "lsgan", "wgan", "wgan-gp"],
    )
    p.flag(
        g,
        "--specgan_genr_upsample",
        "zeros",
        "upsampling in G; linear and cubic are lin and cub",
        choices=["zeros", "nn", "lin", "cub", "linear", "cubic"],
    )
    p.flag(g, "--specgan_ngl", 16, "Griffin-Lim iterations", type=count, short="--ngl")
    p.flag(
        g,
        "--specgan_gl_window",
        "hann",
        "synthesis window; dual inverts exactly, hann is the reference's",
        short="--gl_window",
        choices=["hann", "dual"],
    )
    p.flag(
        g,
        "--specgan_gl_momentum",
        0.0,
        "of fast Griffin-Lim, [0, 1)",
        short="--gl_momentum",
        type=ratio,
    )

    g = p.add_argument_group("Train")
    p.flag(g, "--train_batch_size", 64, "slices in a batch", type=positive)
    p.flag(g, "--train_save_secs", 300, "seconds between checkpoints", type=positive)
    p.flag(g, "--train_keep", 5, "checkpoints to keep, the newest", type=positive)
    p.flag(
        g,
        "--train_backup_mins",
        None,
        "minutes between copies that stay, in TRAIN_DIR/backup",
        type=minutes,
    )
    p.flag(g, "--train_summary_secs", 120, "seconds between summaries", type=positive)
    p.flag(g, "--train_max_steps", None, "stop at this step", type=positive)
    p.flag(g, "--mixed_precision", False, "bfloat16 where it is safe; for GPUs")
    p.flag(g, "--jit_compile", False, "compile a step with XLA; for GPUs")
    p.flag(
        g,
        "--train_distribute",
        "none",
        "over the devices of this machine, or the workers that TF_CONFIG names",
        choices=["none", "mirrored", "multiworker"],
    )
    p.flag(g, "--seed", None, "of everything random; default unseeded", type=seed32)

    g = p.add_argument_group("Preview")
    p.flag(g, "--preview_n", 32, "clips in a preview", type=positive)
    p.flag(g, "--once", False, "the newest checkpoint and end; of incept, backup too")

    g = p.add_argument_group("Generate")
    p.flag(
        g,
        "--generate_n",
        None,
        "clips to generate (default: 16); latents to go through with --interpolate "
        "(default: 2)",
        type=positive,
    )
    p.flag(
        g,
        "--generate_dir",
        None,
        "folder for them; default TRAIN_DIR/generate, without TRAIN_DIR ./generated",
    )
    p.flag(g, "--generate_format", "wav", "of the sounds", choices=["wav", "flac"])
    p.flag(g, "--z_fp", None, "latents to use if the file exists, else to save there")
    ways = g.add_mutually_exclusive_group()
    p.flag(
        ways,
        "--interpolate",
        None,
        "STEPS clips on the line from each latent to the next, both included",
        type=two_or_more,
        metavar="STEPS",
    )
    p.flag(
        ways,
        "--walk",
        None,
        "a random walk from the first latent, whose coordinates move by at most STEP "
        "from clip to clip, (0, 2]",
        type=stride,
        metavar="STEP",
    )
    p.flag(
        ways,
        "--grid",
        None,
        "a sheet of clips between four latents, its corners",
        type=sheet,
        metavar="ROWSxCOLUMNS",
    )
    p.flag(
        g,
        "--truncation",
        1.0,
        "scale latents by this: clips are more alike, (0, 1]",
        type=share,
    )
    p.flag(
        g, "--shard", None, "of moments: every Nth file only; then merge", type=shard
    )
    p.flag(g, "--overwrite", False, "replace files that are there already")

    g = p.add_argument_group("Report")
    p.flag(g, "--report_n", 8, "clips of each kind in a report", type=positive)
    p.flag(g, "--report_fp", None, "HTML file; default TRAIN_DIR/report.html")
    add_score_flags(p)
    return p


def add_score_flags(p):
    """Of incept, score and classifier.  [train_specgan.py:682-691, 707-710]"""
    g = p.add_argument_group("Incept")
    p.flag(
        g,
        "--incept_metagraph_fp",
        "./eval/inception/infer.meta",
        "a classifier as the reference has it: x:0 [n, 16384] to scores:0",
    )
    p.flag(
        g,
        "--incept_ckpt_fp",
        "./eval/inception/best_acc-103005",
        "checkpoint of that MetaGraph",
    )
    p.flag(g, "--incept_n", 5000, "generated clips to score", type=positive)
    p.flag(g, "--incept_k", 10, "groups of an inception score", type=positive)
    p.flag(g, "--incept_classifier", None, "what the classifier mode made, instead")
    p.flag(
        g,
        "--incept_measure",
        "inception",
        "what the best checkpoint is kept by; frechet_log_mel needs no classifier",
        choices=["inception", "frechet_log_mel"],
    )

    g = p.add_argument_group("Score")
    p.flag(
        g,
        "--score_n",
        None,
        "clips: generated (default: 512), or WAV files (default: all)",
        type=positive,
    )
    p.flag(g, "--score_real_n", 5000, "real clips, at most", type=positive)
    p.flag(
        g, "--score_fp", None, "JSON file; default in TRAIN_DIR/score, or the folder"
    )
    p.flag(g, "--fix_length", False, "cut WAV files to 16384 samples, or add zeros")

    g = p.add_argument_group("Classifier")
    p.flag(g, "--classifier_dim", 128, "channels of each convolution", type=positive)
    p.flag(
        g,
        "--classifier_optimizer",
        "adam",
        "sgd, at 1e-4, is the reference's",
        choices=["adam", "sgd"],
    )
    p.flag(g, "--classifier_epochs", 100, "times through the sounds", type=positive)
    p.flag(
        g,
        "--classifier_patience",
        5,
        "epochs no better: slower; then end",
        type=positive,
    )
    p.flag(
        g,
        "--classifier_test",
        None,
        "files to test with and not train on: a regular expression, found in their "
        "names",
    )


# What a folder records outranks a default; what is given outranks what is recorded, but
# cannot contradict what the networks are.
STRUCTURE = {
    "specgan_kernel_len": "kernel_len",
    "specgan_dim": "dim",
    "specgan_batchnorm": "use_batchnorm",
    "specgan_latent_dim": "latent_dim",
    "specgan_genr_upsample": "upsample",
}
# Of one run, not of the folder:
MOMENTARY = {
    "mode",
    "settle",
    "strategy",
    "train_dir",
    "out_dir",
    "train_max_steps",
    "train_distribute",
    "once",
    "generate_n",
    "generate_dir",
    "generate_format",
    "z_fp",
    "interpolate",
    "walk",
    "grid",
    "truncation",
    "report_n",
    "report_fp",
    "shard",
    "overwrite",
    "incept_metagraph_fp",
    "incept_ckpt_fp",
    "incept_n",
    "incept_k",
    "incept_classifier",
    "incept_measure",
    "score_n",
    "score_real_n",
    "score_fp",
    "fix_length",
    "classifier_dim",
    "classifier_optimizer",
    "classifier_epochs",
    "classifier_patience",
    "classifier_test",
}


def settle(parser, given):
    """Every setting: flags given, then the folder's args.txt, then defaults.

    differs: the reference's every mode rewrites args.txt; here train does, and a flag
    that contradicts the networks in the folder is refused.  [train_specgan.py:720-722]
    """
    from specgan_tf import box, checkpoint
    from specgan_tf.files import InputError
    from specgan_tf.specgan import UPSAMPLE_ALIASES

    path, mode = given.setdefault("train_dir", None), given["mode"]
    upsample = given.get("specgan_genr_upsample")
    if upsample in UPSAMPLE_ALIASES:
        given["specgan_genr_upsample"] = UPSAMPLE_ALIASES[upsample]
    if box.is_one(path):
        return settle_box(parser, given)
    folder = checkpoint.folder_of(path)
    if folder != path and mode not in ("generate", "infer", "score", "to_tf1"):
        raise InputError(f"{path} is a checkpoint; {mode} takes its folder, {folder}")
    if mode == "train":
        checkpoint.check_name(path)
    recorded, source = {}, os.path.join(folder, "args.txt")
    for name, text in checkpoint.read_args(folder).items():
        if name in MOMENTARY or name not in parser.types or text == "None":
            continue
        try:
            recorded[name] = parser.parse_recorded(name, text)
        except ValueError:
            raise InputError(f"{source}: {name} cannot be {text!r}") from None
    upsample = recorded.get("specgan_genr_upsample")
    if upsample in UPSAMPLE_ALIASES:
        recorded["specgan_genr_upsample"] = UPSAMPLE_ALIASES[upsample]

    prefix = checkpoint.latest(path) if os.path.exists(folder) else None
    if prefix:
        options = checkpoint.options_of(prefix)
        recorded |= {f: options[o] for f, o in STRUCTURE.items() if o in options}
        loss = checkpoint.loss_of(prefix)
        recorded |= {"specgan_loss": loss} if loss else {}
        # 16384 samples at another rate are another sound, and so are their moments.
        fixed = [*STRUCTURE, "data_sample_rate"]
        if mode == "train":
            fixed.append("specgan_loss")
            require_known(prefix, os.path.isfile(source), {**recorded, **given})
        source = f"{source} and {os.path.basename(prefix)}"
        refuse_contradictions(given, recorded, fixed, source)
    # Not inherited: the moments in the folder come first, and a training's seed is not
    # for what is made with it.
    recorded.pop("data_moments_fp", None)
    if mode not in ("moments", "train"):
        recorded.pop("seed", None)
    kept = {
        name: value
        for name, value in recorded.items()
        if name not in given and value != parser.defaults[name]
    }
    if kept and mode == "train":
        settings = ", ".join(f"{k} {v}" for k, v in sorted(kept.items()))
        log.info("As recorded in %s: %s", folder, settings)
    again = {"settle": lambda: settle(parser, dict(given))}
    return argparse.Namespace(**{**parser.defaults, **recorded, **given, **again})


def settle_box(parser, given):
    """`settle`, of a model in one file: its card says what args.txt does elsewhere."""
    from specgan_tf import box
    from specgan_tf.files import InputError

    path, mode = given["train_dir"] or box.PATH, given["mode"]
    if mode not in ("generate", "infer"):
        raise InputError(f"{path} is a model alone; {mode} takes a training folder")
    card = box.read_card(path)
    recorded = {flag: card["options"][option] for flag, option in STRUCTURE.items()}
    recorded["data_sample_rate"] = card["sample_rate"]
    refuse_contradictions(given, recorded, recorded, path)
    return argparse.Namespace(**{**parser.defaults, **recorded, **given})


def refuse_contradictions(given, recorded, names, source):
    """Refuse a flag given that is not as `source` recorded it, among these."""
    from specgan_tf.files import InputError

    for name in names:
        if name in given and name in recorded and given[name] != recorded[name]:
            raise InputError(
                f"--{name} {given[name]} contradicts {name} {recorded[name]} of "
                f"{source}; leave the flag out, or use another train_dir"
            )


def require_known(prefix, has_args, settings):
    """Refuse to go on with a checkpoint, of defaults that it may not have had."""
    from specgan_tf.files import InputError

    names = ["specgan_loss", "specgan_genr_upsample", *(["data_dir"] * (not has_args))]
    for name in names:
        if settings.get(name) is None:
            raise InputError(
                f"{prefix} does not say its {name}, and no args.txt does: pass --{name}"
            )


PATHS = "data_dir", "data_moments_fp", "data_cache"


def settings(args):
    """The lines of args.txt; paths so that they hold from anywhere."""
    settings = {k: v for k, v in vars(args).items() if k not in MOMENTARY}
    for name in PATHS:
        if settings[name] not in (None, "memory"):
            settings[name] = os.path.abspath(settings[name])
    return [f"{k},{v}" for k, v in sorted(settings.items())]


def hparams(args):
    """The settings, but for paths, for TensorBoard's table of trainings."""
    settings = {k: v for k, v in vars(args).items() if k not in {*MOMENTARY, *PATHS}}
    return {k: v for k, v in settings.items() if isinstance(v, (int, float, str))}


def write_args(args):
    """Record the settings in args.txt."""
    from specgan_tf.files import replacing

    lines = settings(args)
    with replacing(os.path.join(args.train_dir, "args.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


# Data


def find_files(args):
    """The audio files: those of data_dir, or the embedded drums."""
    import specgan_tf
    from specgan_tf import loader

    if args.data_dir is None:
        drums = os.path.join(os.path.dirname(specgan_tf.__file__), "data", "drums")
        fps = loader.find_audio(drums)
        log.info(
            "No --data_dir: using the %d embedded drum sounds, with "
            "--data_first_slice --data_pad_end",
            len(fps),
        )
        return fps
    fps = loader.find_audio(args.data_dir, args.data_recursive)
    log.info("Found %d audio files in %s", len(fps), args.data_dir)
    if args.data_normalize:
        log.info("--data_normalize changes nothing: files are normalized without it")
    return fps


def slicing(args):
    from specgan_tf import spectral

    first = args.data_first_slice or args.data_dir is None  # the embedded drums
    return {
        "slice_len": spectral.SLICE_LEN,
        "slice_randomize_offset": not first,
        "slice_first_only": first,
        "slice_overlap_ratio": 0.0 if first else args.data_overlap_ratio,
        "slice_pad_end": True if first else args.data_pad_end,
    }


def decoding(args):
    """How files are read, as the data flags ask.  [train_specgan.py:106-122]"""
    return {
        "decode_fs": args.data_sample_rate,
        "decode_num_channels": 1,
        # original: --data_normalize is never passed on, and the default is True.
        "decode_normalize": not args.data_no_normalize,
        "decode_fast_wav": args.data_fast_wav,
        "decode_parallel_calls": 4,
        "decode_resample": args.data_resample,
        "decode_cache": args.data_cache,
    }


def decode(fps, args, **kwargs):
    """Batches of waveforms [b, 16384, 1]."""
    from specgan_tf import loader

    dataset = loader.decode_extract_and_batch(
        fps, **decoding(args), **slicing(args), **kwargs
    )
    return dataset.map(lambda x: x[:, :, 0])


def compute_sums(fps, args, lengths=None):
    """What `moments.merge` takes, of all slices.  [train_specgan.py:575-610]

    lengths: as `loader.decode_and_extract` fills them in.
    """
    from specgan_tf import loader, moments

    def shown(slices):
        told = time.monotonic()
        for n, x in enumerate(slices, 1):
            if time.monotonic() - told > 5:
                log.info("  %d slices", n)
                told = time.monotonic()
            yield x[:, 0, 0]

    log.info("Computing moments")
    slices = loader.decode_and_extract(
        fps, **decoding(args), **slicing(args), seed=args.seed, lengths=lengths
    )
    return moments.merge(map(moments.sums_of_one, shown(slices)))


def compute_moments(fps, args, lengths=None):
    """(mean, std), float32 [129] each."""
    from specgan_tf import moments
    from specgan_tf.files import InputError
    from specgan_tf.loader import no_slices
    from specgan_tf.spectral import SLICE_LEN

    mean, std, n = moments.finish(*compute_sums(fps, args, lengths))
    if not n:
        raise InputError(no_slices(len(fps), SLICE_LEN))
    moments.check(mean, std, "moments of these files")
    log.info("Moments of %d slices", n)
    return mean, std


def training_moments(fps, args, lengths):
    """The folder's moments, the given ones, or new ones; the folder keeps a copy."""
    import numpy as np

    from specgan_tf import checkpoint, moments
    from specgan_tf.files import InputError

    own = os.path.join(args.train_dir, "moments.pkl")
    prefix = checkpoint.latest(args.train_dir)
    if os.path.isfile(own) or args.data_moments_fp or prefix:
        mean, std = checkpoint.load_moments(args.train_dir, args.data_moments_fp)
        recorded = checkpoint.read_args(args.train_dir).get("data_dir", "None")
        if prefix and recorded != str(args.data_dir and os.path.abspath(args.data_dir)):
            log.info("Other data than before (%s): the moments stay", recorded)
    else:
        mean, std = compute_moments(fps, args, lengths)
    if not os.path.isfile(own):
        moments.save(own, mean, std)
    elif not np.array_equal((mean, std), moments.load(own)):
        raise InputError(
            f"{args.data_moments_fp} differs from {own}, which this training has; "
            "leave --data_moments_fp out, or use another train_dir"
        )
    return mean, std


# Modes


def moments(args):
    """[train_specgan.py:572-613]"""
    from specgan_tf import moments
    from specgan_tf.files import InputError

    fp = args.data_moments_fp or os.path.join(args.train_dir, "moments.pkl")
    if args.shard:
        fp = os.path.join(args.train_dir, "moments-{}-of-{}.pkl".format(*args.shard))
    if os.path.exists(fp) and not args.overwrite:
        raise InputError(f"{fp} exists; --overwrite replaces it")
    fps = find_files(args)
    os.makedirs(args.train_dir, exist_ok=True)
    if args.shard:
        i, n = args.shard
        moments.save_shard(fp, *compute_sums(fps[i - 1 :: n], args))
    else:
        moments.save(fp, *compute_moments(fps, args))
    log.info("Wrote %s", fp)


def merge(args):
    """The shards of `moments --shard I/N` into moments.pkl."""
    from specgan_tf import moments
    from specgan_tf.files import InputError

    if not os.path.isdir(args.train_dir):
        raise InputError(f"train_dir {args.train_dir} is not a folder")
    fp = args.data_moments_fp or os.path.join(args.train_dir, "moments.pkl")
    if os.path.exists(fp) and not args.overwrite:
        raise InputError(f"{fp} exists; --overwrite replaces it")
    mean, std, n = moments.merge_shards(args.train_dir)
    moments.save(fp, mean, std)
    log.info("Moments of %d slices. Wrote %s", n, fp)


BUFFER = 4096  # slices, shuffled
HEARD = 16  # real clips that summaries hold generated ones against


def train(args):
    """[train_specgan.py:101-295]

    differs: the original runs until killed, and loses what came after its last
    checkpoint; here --train_max_steps, Ctrl-C and SIGTERM save and end.
    [train_specgan.py:279-295]
    """
    from specgan_tf import distribute
    from specgan_tf.files import InputError, only_training

    if args.specgan_kernel_len == 1 and os.environ["TF_ENABLE_ONEDNN_OPTS"] != "0":
        raise InputError(
            "with --specgan_kernel_len 1 TensorFlow 2.21's oneDNN kernels crash; set "
            "TF_ENABLE_ONEDNN_OPTS=0 in the environment"
        )
    require_replicas(args.strategy.num_replicas_in_sync, args)
    chief = distribute.is_chief(args.strategy)
    if not chief:
        log.info("The chief says how the training goes, and saves it")
        log.setLevel(logging.WARNING)
    fps = find_files(args)
    with contextlib.ExitStack() as stack:
        stack.enter_context(distribute.partners(args.strategy))
        if chief:
            os.makedirs(args.train_dir, exist_ok=True)
            stack.enter_context(only_training(args.train_dir))
        train_on(fps, args)


def require_replicas(n, args):
    """Refuse what `n` replicas would not do as one does."""
    from specgan_tf.files import InputError

    if args.train_batch_size % n:
        raise InputError(
            f"--train_batch_size must be a multiple of the {n} replicas, which share "
            f"each batch. Received: {args.train_batch_size}"
        )
    if args.specgan_batchnorm and n > 1:
        raise InputError(
            f"--specgan_batchnorm takes the statistics of whole batches, of which each "
            f"of {n} replicas has a part: train it with --train_distribute none"
        )


def train_on(fps, args):
    """`train`, of these files."""
    import zlib

    import numpy as np

    from specgan_tf import callbacks, checkpoint, distribute, loader, spectral

    strategy, chief = args.strategy, distribute.is_chief(args.strategy)
    prefix = (
        checkpoint.latest(args.train_dir) if os.path.isdir(args.train_dir) else None
    )
    # Before the chief writes anything there.
    same = [prefix and os.path.basename(prefix), *map(os.path.basename, fps)]
    same += [s for s in settings(args) if s.partition(",")[0] not in PATHS]
    same = zlib.crc32(repr(same).encode(errors="surrogateescape"))
    distribute.require_same(strategy, same, "flags, files or checkpoint")

    lengths = np.full(len(fps), -1, np.int64)
    mean_std = np.zeros([2, spectral.NBINS], np.float32)
    if chief:
        mean_std = np.stack(training_moments(fps, args, lengths))
    mean, std = distribute.from_chief(strategy, mean_std)
    with strategy.scope():
        gan = build(args)
    if chief:
        checkpoint.remove_unfinished(args.train_dir)
        write_args(args)  # only now that such networks can be had
    if prefix:
        checkpoint.restore(gan, prefix)
        log.info("Resuming from %s", prefix)
    start = gan.global_step
    if args.train_max_steps and start >= args.train_max_steps:
        log.info("Step %d of %d is done already", start, args.train_max_steps)
        return

    data = data_state(prefix, fps, args, lengths)
    data = {k: distribute.from_chief(strategy, data[k]) for k in sorted(data)}
    seed, skip = int(data["seed"]), int(data["slices"])

    def batches(i, n):
        """Of one of n workers: [disc_nupdates, b / n, 128, 128, 1]."""
        x_wav = decode(
            fps,
            args,
            batch_size=args.train_batch_size,
            repeat=True,
            shuffle=True,
            shuffle_buffer_size=BUFFER,
            seed=seed,
            skip=skip,
            lengths=data["lengths"],
            part=(i, n),
        )
        # differs: the original holds 4 * batch_size batches ready.  [loader.py:188]
        x = x_wav.map(lambda x: spectral.t_to_f(x, mean, std), num_parallel_calls=2)
        return x.batch(args.specgan_disc_nupdates, drop_remainder=True).prefetch(2)

    per_step = args.specgan_disc_nupdates * args.train_batch_size

    def data_now():
        return data | {"slices": skip + (gan.global_step - start) * per_step}

    anywhere = distribute.anywhere(strategy)
    stop = callbacks.Stop(args.train_max_steps, anywhere)
    save = callbacks.Save(
        args.train_dir,
        args.train_save_secs,
        data_now,
        args.train_backup_mins,
        args.train_keep,
    )
    watch = [callbacks.Divergence(), stop]
    if chief:
        some = random.Random(seed).sample(fps, len(fps))
        with data_errors():
            some = decode(some, args, batch_size=HEARD, repeat=True, seed=seed)
            heard = next(iter(some))
        summaries = callbacks.Summaries(
            args.train_dir,
            heard,
            mean,
            std,
            args.data_sample_rate,
            griffin_lim(args),
            args.train_summary_secs,
            hparams(args),
        )
        health = callbacks.Health(summaries)
        progress = callbacks.Progress(args.train_max_steps)
        watch = [callbacks.Divergence(), progress, summaries, health, save, stop]
        log.info("-" * 80)
        log.info("Training has started. Ctrl-C saves and ends. To monitor it:")
        log.info("  tensorboard --logdir=%s", args.train_dir)
        log.info("The first step comes late: a buffer of %d slices fills first", BUFFER)
    try:
        x = distribute.feed(strategy, batches)
        if not distribute.is_distributed(strategy):  # which prefetches once more
            x = loader.timed(x, summaries.add_wait)
        with distribute.partners(strategy), data_errors():
            gan.fit(x, shuffle=False, verbose=0, callbacks=watch)
    except FloatingPointError as e:
        if not chief:
            raise FloatingPointError(f"{e}: the training has diverged") from None
        # The last of these batches, or the update after those before.
        n = min(2, gan.global_step - start) * per_step
        first = data_now()["slices"] - n
        sounds = loader.origins(
            first, n, data["lengths"], seed, BUFFER, **slicing(args)
        )
        sounds = [(fps[file], sample) for file, sample in sounds]
        raise diverged(e, gan.global_step, sounds, args) from None
    except distribute.LostWorker:  # amid an iteration: that would not go on exactly
        raise
    except BaseException:
        if chief and gan.global_step > start:
            try:
                save.save()
            except (OSError, FloatingPointError) as e:  # not what ended the training
                log.warning("%s", e)
        raise
    finally:
        stop.restore_handlers()
    anywhere(False)  # a worker that leaves early is missed by those that have to save
    log.info("Saved step %d in %s", gan.global_step, args.train_dir)


def build(args):
    """The networks and losses the flags ask for; their variables are listed."""
    import keras

    from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
    from specgan_tf.files import InputError

    if args.seed is not None:
        keras.utils.set_random_seed(args.seed)
    common = {
        "kernel_len": args.specgan_kernel_len,
        "dim": args.specgan_dim,
        "use_batchnorm": args.specgan_batchnorm,
    }
    try:
        G = SpecGANGenerator(
            **common,
            upsample=args.specgan_genr_upsample,
            latent_dim=args.specgan_latent_dim,
        )
        D = SpecGANDiscriminator(**common)
    except ValueError as e:  # networks too large
        raise InputError(str(e)) from None
    gan = SpecGAN(G, D, args.specgan_disc_nupdates, seed=args.seed)
    gan.compile(
        loss=args.specgan_loss,
        mixed_precision=args.mixed_precision,
        jit_compile=args.jit_compile,
    )
    print_vars("Generator", G)
    print_vars("Discriminator", D)
    return gan


def diverged(error, step, sounds, args):
    """The error to end a training with, and a report of what it last heard."""
    from specgan_tf import checkpoint
    from specgan_tf.files import replacing

    report = os.path.join(args.train_dir, f"diverged-{step}.txt")
    prefix = checkpoint.latest(args.train_dir)
    kept = f"{prefix} is the last checkpoint before"
    named = f"{report} names the sounds heard last"
    try:
        with replacing(report, "w") as f:
            f.write(f"{error} at step {step}; {kept}.\n\n")
            f.write("Heard in this step and the one before, first samples and files:\n")
            f.writelines(f"{sample:12d}  {fp}\n" for fp, sample in sounds)
    except OSError as e:
        named = f"{report} could not be written ({e.strerror})"
    return FloatingPointError(
        f"{error} at step {step}: the training has diverged. {kept}; {named}. From "
        "there the same command would go the same way: change --seed, the data, or "
        "begin another training"
    )


def data_state(prefix, fps, args, lengths):
    """Where a training is in its data: what a checkpoint says, or the beginning.

    lengths: what is known of the files' samples, at the beginning.

    original: unseeded, and shuffled anew after every interruption.  [loader.py:119]
    """
    import zlib

    import numpy as np

    from specgan_tf import checkpoint

    said = [sorted(slicing(args).items()), args.data_sample_rate, BUFFER]
    said += [args.data_no_normalize, args.data_resample]
    said += [(os.path.basename(fp), os.path.getsize(fp)) for fp in map(os.fspath, fps)]
    new = {
        "files": np.int64(zlib.crc32(repr(said).encode(errors="surrogateescape"))),
        "seed": np.int64(draw_seed(args)),
        "slices": np.int64(0),
        "lengths": lengths,
    }
    old = checkpoint.data_of(prefix) if prefix else {}
    if not old:
        return new
    other_seed = args.seed is not None and args.seed != old["seed"]
    if other_seed or old["files"] != new["files"]:
        log.info("Other files, data flags or seed than before: shuffling anew")
        return new
    return old


def print_vars(name, net):
    """The reference's table of variables.  [train_specgan.py:134-143, 165-175]"""
    log.info("-" * 80)
    log.info("%s vars", name)
    total = 0
    for v in net.trainable_variables:
        shape = list(v.shape)
        n = v.value.shape.num_elements()
        total += n
        log.info("%s (%d): %s", shape, n, v.path)
    log.info("Total params: %d (%.2f MB)", total, total * 4 / (1024 * 1024))


def load_generator(prefix, args):
    from specgan_tf import checkpoint

    return checkpoint.load_generator(prefix, upsample_of(args))


def upsample_of(args):
    # zeros shows in a checkpoint; the default must not hide that nothing was said.
    upsample = args.specgan_genr_upsample
    return None if upsample == "zeros" else upsample


def griffin_lim(args):
    return args.specgan_ngl, args.specgan_gl_window, args.specgan_gl_momentum


def draw_seed(args):
    return random.randrange(2**31) if args.seed is None else args.seed


def preview(args):
    """[train_specgan.py:384-460]"""
    for prefix in each_checkpoint(args):
        # Settings anew: when this began, there may have been no training yet.
        preview_checkpoint(prefix, args.settle())


def each_checkpoint(args):
    """Each new checkpoint of a training, as they come; or the newest `--once`."""
    from specgan_tf import checkpoint
    from specgan_tf.files import InputError

    if not os.path.isdir(args.train_dir):
        raise InputError(f"train_dir {args.train_dir} is not a folder")
    if args.once:
        yield checkpoint.require(args.train_dir)
        return
    log.info("Waiting for checkpoints in %s; Ctrl-C ends", args.train_dir)
    done = None
    while True:
        prefix = checkpoint.latest(args.train_dir)
        if prefix and prefix != done:
            yield prefix
            done = prefix
        time.sleep(1)


def preview_checkpoint(prefix, args):
    """Sound, picture and summary of one checkpoint, from the folder's fixed latents."""
    import numpy as np
    import tensorflow as tf

    from specgan_tf import checkpoint, generate, spectral

    preview_dir = os.path.join(args.train_dir, "preview")
    step = checkpoint.step_of(prefix)
    name = os.path.join(preview_dir, f"{step:08d}")
    if os.path.exists(f"{name}.wav") and not args.overwrite:
        log.info("%s.wav is there already; --overwrite renders it again", name)
        return
    G = load_generator(prefix, args)
    mean, std = checkpoint.load_moments(prefix, args.data_moments_fp)
    os.makedirs(preview_dir, exist_ok=True)
    z_fp = os.path.join(preview_dir, "z.pkl")
    if not os.path.exists(z_fp):
        z = generate.sample_z(args.preview_n, G.latent_dim, draw_seed(args))
        generate.save_z(z_fp, z)
    z = generate.load_z(z_fp, G.latent_dim)
    if len(z) != args.preview_n:
        log.info("Previewing the %d latents that %s holds", len(z), z_fp)

    made = generate.render(G, mean, std, z, *griffin_lim(args))
    # original: half a slice of silence after each clip.  [train_specgan.py:423]
    flat = spectral.flatten(made["G_z"], spectral.SLICE_LEN // 2)
    writer = tf.summary.create_file_writer(preview_dir)
    sheet = generate.contact_sheet(made["G_z_norm_uint8"])
    with writer.as_default(step):
        tf.summary.audio("preview/audio", flat[tf.newaxis], args.data_sample_rate)
        tf.summary.image("preview/image", sheet[tf.newaxis])
    writer.close()
    generate.write_png(f"{name}.png", sheet)
    flat_int16 = spectral.float_to_int16(flat)
    generate.write_wav(f"{name}.wav", flat_int16, args.data_sample_rate)  # last: done
    warn_of_silence(np.abs(made["G_z"]).max(axis=(1, 2)))
    log.info("Wrote %s.wav and .png", name)


def warn_of_silence(peaks):
    from specgan_tf.health import SILENCE

    quiet = sum(peak < SILENCE for peak in peaks)
    if quiet:
        log.warning(
            "%d of %d clips are nearly silent (peak below %g of full scale): more "
            "training usually mends that",
            quiet,
            len(peaks),
            SILENCE,
        )


LATENTS = "latents.npy"  # of the sounds beside it, where no --z_fp would be those


def generate(args):
    """N sounds and one picture of their spectrograms."""
    import re

    import numpy as np

    from specgan_tf import checkpoint, generate, spectral
    from specgan_tf.files import InputError

    prefix = checkpoint.require(args.train_dir)
    out_dir = args.generate_dir or unasked_dir(args, "generate", "generated")
    if os.path.exists(out_dir) and not os.path.isdir(out_dir):
        raise InputError(f"{out_dir} is a file; choose another --generate_dir")
    if os.path.isdir(out_dir) and os.listdir(out_dir) and not args.overwrite:
        raise InputError(
            f"{out_dir} is not empty; choose another --generate_dir, or --overwrite"
        )
    latents_fp = os.path.join(out_dir, LATENTS)
    if args.z_fp and os.path.abspath(args.z_fp) == os.path.abspath(latents_fp):
        raise InputError(
            f"--z_fp {args.z_fp} is a file that generate may replace; choose another "
            "--generate_dir"
        )
    G = load_generator(prefix, args)
    mean, std = checkpoint.load_moments(prefix, args.data_moments_fp)
    drawn, z = latents(args, G.latent_dim)
    os.makedirs(out_dir, exist_ok=True)
    write = generate.WRITERS[args.generate_format]
    names, images, peaks = [], [], []
    for made in generate.render_chunks(G, mean, std, z, *griffin_lim(args)):
        for G_z, image in zip(made["G_z"], made["G_z_norm_uint8"], strict=True):
            # A clip that is too loud is turned down; G_z_int16 would clip its peaks.
            peaks.append(np.abs(G_z).max())
            samples = spectral.float_to_int16(G_z / max(1.0, peaks[-1]))
            names.append(f"{len(names):04d}.{args.generate_format}")
            write(os.path.join(out_dir, names[-1]), samples, args.data_sample_rate)
            images.append(image)
    columns = args.grid[1] if args.grid else 8
    sheet = generate.contact_sheet(np.stack(images), columns)
    generate.write_png(os.path.join(out_dir, "sheet.png"), sheet)
    if not np.array_equal(drawn, z):
        generate.save_z(latents_fp, z)
        names.append(LATENTS)
    formats = "|".join(generate.WRITERS)
    for name in os.listdir(out_dir):  # of an earlier set, --overwrite
        ours = name == LATENTS or re.fullmatch(rf"\d{{4,}}\.({formats})", name)
        if ours and name not in names:
            os.remove(os.path.join(out_dir, name))
    warn_of_silence(peaks)
    log.info(
        "Wrote %d %s files and sheet.png to %s (step %d)",
        len(z),
        args.generate_format.upper(),
        out_dir,
        checkpoint.step_of(prefix),
    )


def unasked_dir(args, name, alone):
    """Where to write: in a training's folder; of the model that comes along, here."""
    from specgan_tf import checkpoint

    if args.train_dir is None:
        return alone
    return os.path.join(checkpoint.folder_of(args.train_dir), name)


def latents(args, latent_dim):
    """Those drawn or read, and those to make sound of: float32 [n, latent_dim] each."""
    from specgan_tf import generate
    from specgan_tf.files import InputError

    n, need = args.generate_n or 16, 1  # clips, and the latents that they begin with
    if args.interpolate:
        n, need = args.generate_n or 2, 2
    if args.grid:
        n = need = 4
    seed, known = draw_seed(args), args.z_fp and os.path.exists(args.z_fp)
    if known:
        drawn = generate.load_z(args.z_fp, latent_dim)
        if len(drawn) < need:
            raise InputError(
                f"{args.z_fp} holds {len(drawn)} of the {need} latents that it takes"
            )
        log.info("Using the %d latents of %s", len(drawn), args.z_fp)
    else:
        drawn = generate.sample_z(1 if args.walk else n, latent_dim, seed).numpy()
        if args.z_fp:
            generate.save_z(args.z_fp, drawn)
    if args.walk or not known:
        log.info("Drawn with --seed %d", seed)
    z = drawn
    if args.interpolate:
        z = generate.path(z, args.interpolate)
    if args.walk:
        z = generate.walk(z[0], n, args.walk, seed)
    if args.grid:
        z = generate.grid(z[:4], *args.grid)
    return drawn, generate.truncate(z, args.truncation)


def report(args):
    """TRAIN_DIR/report.html: curves, sounds, health, data and settings on one page."""
    from specgan_tf import checkpoint, report
    from specgan_tf.files import InputError

    if not os.path.isdir(args.train_dir):
        raise InputError(f"train_dir {args.train_dir} is not a folder")
    fp = args.report_fp or os.path.join(args.train_dir, "report.html")
    report.check_replaceable(fp)  # before the work
    try:
        fps = find_files(args)
        prefix = checkpoint.latest(args.train_dir)
        lengths = checkpoint.data_of(prefix).get("lengths") if prefix else None
        folder = os.path.dirname(fps[0]) if args.data_dir is None else args.data_dir
        sounds = report.read_sounds(folder, fps, decoding(args), slicing(args), lengths)
    except (InputError, OSError) as e:
        log.warning("Without the sounds: %s", e)
        sounds = str(e)
    defaults = make_parser().defaults
    settings = [
        (name, value, value == defaults[name])
        for name, value in sorted(vars(args).items())
        if name in defaults and name not in MOMENTARY
    ]
    training = report.Training(
        args.train_dir,
        settings,
        sounds,
        args.report_n,
        griffin_lim(args),
        upsample_of(args),
        args.data_moments_fp,
    )
    report.write(fp, training)
    log.info("Wrote %s (%.1f MB)", fp, os.path.getsize(fp) / 1e6)


def infer(args):
    """The inference SavedModel, weights included.

    differs: the reference writes a MetaGraph, without weights.
    [train_specgan.py:370-378]
    """
    import shutil

    from specgan_tf import checkpoint, verify
    from specgan_tf.export import save_saved_model
    from specgan_tf.files import InputError, replacing_dir

    prefix = checkpoint.require(args.train_dir)
    G = load_generator(prefix, args)
    mean, std = checkpoint.load_moments(prefix, args.data_moments_fp)
    infer_dir = unasked_dir(args, "infer", "infer")
    if os.path.isdir(infer_dir):  # as the reference does; it is made from the training
        if args.train_dir is None and not args.overwrite:
            raise InputError(f"{infer_dir} exists; --overwrite replaces it")
        log.info("Replacing %s", infer_dir)
    with replacing_dir(infer_dir) as new:
        ngl, *inversion = griffin_lim(args)
        save_saved_model(G, mean, std, new, *inversion, args.data_sample_rate)
        numbers, _ = verify.Reference(G, mean, std, ngl, *inversion).compare(new)
        if os.path.isdir(infer_dir):  # a MetaGraph of the reference stays
            for entry in set(os.listdir(infer_dir)) - set(os.listdir(new)):
                path = os.path.join(infer_dir, entry)
                copy = shutil.copytree if os.path.isdir(path) else shutil.copy2
                copy(path, os.path.join(new, entry))
    log.info(
        "Wrote %s (step %d); largest difference of spectrograms from Keras: %.1g",
        infer_dir,
        checkpoint.step_of(prefix),
        numbers["synthesize"]["spectrogram, max error"],
    )


def to_tf1(args):
    """The newest checkpoint, moments and latents, for the original under TF 1.12."""
    from specgan_tf import checkpoint, generate, moments
    from specgan_tf.files import InputError, replacing_dir

    prefix = checkpoint.require(args.train_dir)
    mean, std = checkpoint.load_moments(args.train_dir, args.data_moments_fp)
    if os.path.exists(args.out_dir):
        raise InputError(f"{args.out_dir} exists; name a folder that does not")
    z_fp = os.path.join("preview", "z.pkl")
    z_here = os.path.join(checkpoint.folder_of(args.train_dir), z_fp)
    with replacing_dir(args.out_dir) as new:
        written = checkpoint.to_tf1(prefix, new)
        moments.save(os.path.join(new, "moments.pkl"), mean, std)
        if os.path.exists(z_here):
            os.mkdir(os.path.join(new, "preview"))
            latents = generate.load_z(z_here, args.specgan_latent_dim)
            generate.save_z(os.path.join(new, z_fp), latents)
    log.info(
        "Wrote %s. The original continues it with\n  python train_specgan.py train %s "
        "--data_moments_fp %s %s",
        os.path.join(args.out_dir, os.path.basename(written)),
        args.out_dir,
        os.path.join(args.out_dir, "moments.pkl"),
        " ".join(original_flags(args)),
    )


ORIGINAL = (
    "data_dir data_sample_rate data_overlap_ratio data_first_slice data_pad_end "
    "data_fast_wav specgan_latent_dim specgan_kernel_len specgan_dim specgan_batchnorm "
    "specgan_disc_nupdates specgan_loss specgan_genr_upsample train_batch_size"
).split()


def original_flags(args):
    """The settings that are not the reference's defaults, as its command line."""
    defaults = make_parser().defaults
    if args.data_dir is None:
        yield "--data_dir FOLDER --data_first_slice --data_pad_end"
    for name in ORIGINAL:
        value = getattr(args, name)
        if value is True:
            yield f"--{name}"
        elif value != defaults[name]:
            yield f"--{name} {value}"


def backup(args):
    """Copy the newest checkpoint again and again, as backup.py.  [backup.py:17-38]"""
    from specgan_tf import checkpoint

    mins = args.train_backup_mins or 60.0
    if not args.once:
        log.info("A copy every %g minutes; Ctrl-C ends", mins)
    for _ in each_checkpoint(args):
        try:
            log.info("Wrote %s", checkpoint.back_up(args.train_dir))
        except FileNotFoundError:  # it was not the newest any more, and is gone
            if args.once:
                raise
            continue
        if not args.once:
            time.sleep(60 * mins)


def load_classifier(args):
    """What --incept_classifier or the MetaGraph flags name; None if nothing does."""
    from specgan_tf import score
    from specgan_tf.files import InputError

    fp = args.incept_metagraph_fp
    default = fp == make_parser().defaults["incept_metagraph_fp"]
    if not args.incept_classifier and default and not os.path.exists(fp):
        return None
    if args.data_sample_rate != score.RATE:
        raise InputError(
            f"classifiers hear {score.RATE} Hz, and this is --data_sample_rate "
            f"{args.data_sample_rate}"
        )
    if args.incept_classifier:
        return score.Classifier.load(args.incept_classifier)
    return score.MetaGraph.load(fp, args.incept_ckpt_fp)


def read_real(args):
    """Real clips to measure by, float32 [n, 16384]: as a training hears them."""
    import itertools

    import numpy as np

    from specgan_tf import loader, spectral
    from specgan_tf.files import InputError

    fps = find_files(args)
    random.Random(0).shuffle(fps)
    slices = loader.decode_and_extract(
        fps, **decoding(args), **slicing(args), seed=args.seed or 0
    )
    clips = [x[:, 0, 0] for x in itertools.islice(slices, args.score_real_n)]
    if not clips:
        raise InputError(loader.no_slices(len(fps), spectral.SLICE_LEN))
    real = np.zeros([len(clips), spectral.SLICE_LEN], np.float32)
    for row, clip in zip(real, clips, strict=True):
        row[: len(clip)] = clip
    return real


def render_clips(prefix, z, args):
    """Waveforms float32 [n, 16384] that a checkpoint makes of latents."""
    import numpy as np

    from specgan_tf import checkpoint, generate

    G = load_generator(prefix, args)
    mean, std = checkpoint.load_moments(prefix, args.data_moments_fp)
    made = generate.render_chunks(G, mean, std, z, *griffin_lim(args))
    return np.concatenate([chunk["G_z"][:, :, 0] for chunk in made])


def incept(args):
    """Score each checkpoint, and keep the best apart.

    differs: what was best is remembered when this begins again; the original forgets,
    and replaces the best by whatever comes next.  [train_specgan.py:518, 557-559]

    [train_specgan.py:463-569]
    """
    from specgan_tf.files import InputError

    judge = None
    for prefix in each_checkpoint(args):
        now = args.settle()
        judge = judge or JUDGES[args.incept_measure](now)
        try:
            incept_checkpoint(prefix, now, judge)
        except (InputError, FileNotFoundError):
            if os.path.exists(f"{prefix}.index"):
                raise
            log.warning("%s is gone: more of them stay with --train_keep", prefix)


class InceptionJudge:
    """Inception scores of clips: the more, the better."""

    folder, name, better = "incept", "inception score", "larger"

    def __init__(self, args):
        from specgan_tf.files import InputError

        self.k, self.classifier = args.incept_k, load_classifier(args)
        if self.classifier is None:
            raise InputError(
                "an inception score needs a classifier: make one with the classifier "
                "mode for --incept_classifier, or take --incept_measure frechet_log_mel"
            )
        if args.incept_n < self.k:
            raise InputError(f"--incept_n {args.incept_n} is less than --incept_k")
        self.by = {"k": self.k, "classifier": self.classifier.digest()}

    def __call__(self, x):
        from specgan_tf import score

        mean, std = score.inception_score(self.classifier.probabilities(x), self.k)
        return {"incept_mean": mean, "incept_std": std}


class FrechetJudge:
    """Frechet distances of clips from real ones, in log-mel: the less, the better."""

    folder, name, better = "frechet", "log-mel Frechet distance", "smaller"

    def __init__(self, args):
        import zlib

        from specgan_tf import score

        real = read_real(args)
        self.real = score.features_log_mel(real)
        self.by = {"real": f"{len(real)} clips, {zlib.crc32(real):08x}"}

    def __call__(self, x):
        from specgan_tf import score

        features = score.features_log_mel(x)
        return {"frechet_log_mel": score.frechet_distance(features, self.real)}


JUDGES = {"inception": InceptionJudge, "frechet_log_mel": FrechetJudge}


def incept_checkpoint(prefix, args, judge):
    """The score of one checkpoint, from the folder's fixed latents."""
    import json

    import tensorflow as tf

    from specgan_tf import checkpoint, generate
    from specgan_tf.files import InputError, replacing

    folder = os.path.join(args.train_dir, judge.folder)
    os.makedirs(folder, exist_ok=True)
    step, z_fp = checkpoint.step_of(prefix), os.path.join(folder, "z.pkl")
    if not os.path.exists(z_fp):
        latent_dim = checkpoint.options_of(prefix)["latent_dim"]
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
    said = f"Step {step}: {judge.name} {value:.3f}"
    if best and best.get("by") != by:
        log.info("The best so far was scored by other means: it counts no more")
        best = {}
    if best and (value <= was if judge.better == "larger" else value >= was):
        log.info("%s; the best is %.3f, of step %s", said, was, best.get("step"))
        return
    old = checkpoint.latest(folder)
    new = checkpoint.copy(prefix, folder, f"best_score-{step}")
    with replacing(best_fp, "w") as f:
        json.dump({"step": step, **scores, "by": by}, f)
    if old and old != new:
        checkpoint.remove(old)
    log.info("%s; the best so far, kept as %s", said, new)


def score(args):
    """All measures of a generator's sounds, or of WAV files, against real sounds."""
    import json

    from specgan_tf import checkpoint, generate, score
    from specgan_tf.files import InputError, replacing

    prefix = checkpoint.latest(args.train_dir)
    folder = checkpoint.folder_of(args.train_dir)
    name = "score.json"
    if prefix:
        name = os.path.join("score", f"{checkpoint.step_of(prefix):08d}.json")
    fp = args.score_fp or os.path.join(folder, name)
    if os.path.exists(fp) and not args.overwrite:
        raise InputError(f"{fp} exists; --overwrite replaces it")
    classifier = load_classifier(args)
    if prefix:
        n = args.score_n or 512
        latent_dim = checkpoint.options_of(prefix)["latent_dim"]
        z = generate.sample_z(n, latent_dim, args.seed or 0).numpy()
        made = render_clips(prefix, z, args)
        of = {"checkpoint": os.path.basename(prefix), "seed": args.seed or 0}
    elif not any(name.endswith(".wav") for name in os.listdir(folder)):
        raise InputError(f"{folder} holds neither a checkpoint nor WAV files")
    else:
        made = score.read_folder(args.train_dir, args.score_n, args.fix_length)
        of = {"folder": os.path.abspath(folder)}
    real = read_real(args)
    measures = score.measure(made, real, classifier, args.incept_k)
    if classifier is None:
        log.info("No --incept_classifier: what needs one is left out")
    for line in score.table(measures):
        log.info("%s", line)
    of |= {"data_dir": args.data_dir or "embedded drums", "incept_k": args.incept_k}
    os.makedirs(os.path.dirname(os.path.abspath(fp)), exist_ok=True)
    with replacing(fp, "w") as f:
        json.dump({**of, **measures}, f, indent=1)
        f.write("\n")
    log.info("Wrote %s", fp)


def classifier(args):
    """Train the classifier behind the inception score, on a folder of labelled sounds.

    [train.py:223-260]
    """
    import re

    import numpy as np

    from specgan_tf import classifier, loader
    from specgan_tf.files import InputError, only_training

    data_dir, out_dir = args.train_dir, args.out_dir
    fps = loader.find_audio(data_dir, args.data_recursive)
    try:
        test = re.compile(args.classifier_test or "(?!)")  # which nothing matches
    except re.error as e:
        raise InputError(f"--classifier_test is no regular expression: {e}") from None
    test = np.array([bool(test.search(os.path.basename(fp))) for fp in fps])
    if args.classifier_test and not test.any():
        raise InputError(f"--classifier_test {args.classifier_test} finds no file")
    labels = np.array([classifier.label_of(fp, data_dir) for fp in fps])
    classes = classifier.require_classes(labels[~test], data_dir)
    if unknown := set(labels[test]) - set(classes):
        raise InputError(f"--classifier_test takes all sounds of {min(unknown)}")
    log.info("%d sounds of %d labels: %s", len(fps), len(classes), ", ".join(classes))

    how = decoding(args)
    for name in ("decode_fs", "decode_num_channels"):  # the classifier's own
        del how[name]
    x, kept = classifier.read_clips(fps, **how)
    y, test = np.searchsorted(classes, labels[kept]), test[kept]
    classifier.require_classes(labels[kept][~test], data_dir)
    os.makedirs(out_dir, exist_ok=True)
    with only_training(out_dir):
        training = classifier.Training(
            x[~test],
            y[~test],
            classes,
            out_dir,
            args.classifier_dim,
            args.classifier_optimizer,
            args.train_batch_size,
            args.seed or 0,
        )
        best = training.run(args.classifier_epochs, args.classifier_patience)
        if not test.any():
            x, y, test = training.x, training.y, training.held
        report_classifier(best, x[test], y[test], training, args)


def report_classifier(best, x, y, training, args):
    """How well it does on clips that it was not trained on."""
    import json

    import numpy as np

    from specgan_tf import classifier, score
    from specgan_tf.files import replacing

    order = np.random.default_rng(0).permutation(len(x))  # groups of all classes
    p = best.probabilities(x[order])
    matrix = classifier.confusion(y[order], p.argmax(axis=1), len(best.labels))
    report = {
        "labels": best.labels,
        "clips": {"trained": len(training.rest), "held out": len(training.held)},
        "tested": {
            "clips": len(x),
            "held out while training": not args.classifier_test,
            "accuracy": float(np.trace(matrix) / len(x)),
            "confusion": matrix.tolist(),
        },
        "settings": training.settings,
        "epochs": training.epoch,
        "CPU seconds": round(training.seconds),
    }
    log.info("Accuracy on %d clips: %.2f%%", len(x), 100 * np.trace(matrix) / len(x))
    wrong = [
        (matrix[i, j], f"{matrix[i, j]} of {matrix[i].sum()} {a!r} taken for {b!r}")
        for i, a in enumerate(best.labels)
        for j, b in enumerate(best.labels)
        if i != j and matrix[i, j]
    ]
    for _, line in sorted(wrong, reverse=True)[:5]:
        log.info("  %s", line)
    for k in sorted({1, args.incept_k}):
        if len(x) >= k:
            mean, std = score.inception_score(p, k)
            right, _ = score.inception_score(np.eye(len(best.labels))[y[order]], k)
            report["tested"][f"inception score, k {k}"] = [mean, std]
            report["tested"][f"inception score of their labels, k {k}"] = right
            log.info(
                "Inception score of them, k %d: %.2f +- %.2f (of their labels: %.2f)",
                *(k, mean, std, right),
            )
    fp = os.path.join(args.out_dir, "report.json")
    with replacing(fp, "w") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    log.info("Wrote %s and %s", os.path.join(args.out_dir, classifier.BEST), fp)


MODES = {
    f.__name__: f
    for f in (
        *(train, moments, merge, preview, generate, report, infer, to_tf1),
        *(incept, score, classifier, backup),
    )
}


# Running


@contextlib.contextmanager
def data_errors():
    """What a dataset raises, as the `InputError` inside it."""
    import tensorflow as tf

    from specgan_tf import loader

    try:
        yield
    except tf.errors.OpError as e:
        raise loader.input_error(e) or e from None


def import_tensorflow():
    """Import TensorFlow with fast kernels and without its greetings on stderr."""
    # Off by default on CPUs without AVX-512, where they halve the time of a step.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as greetings:
        os.dup2(greetings.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except Exception:
            os.dup2(stderr, 2)
            greetings.seek(0)
            os.write(2, greetings.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def run(prog, job):
    """Call `job`; a user's mistake is one line on stderr. Returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # file names may be any bytes
        stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", stream=sys.stdout, force=True)
    logging.raiseExceptions = False  # a reader that has gone (| head) is no news
    log.setLevel(logging.INFO)
    try:
        import_tensorflow()
        job()
    except KeyboardInterrupt:
        print("\nInterrupted", file=sys.stderr)
        return 130
    except FloatingPointError as e:
        print(f"{prog}: error: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        print(f"{prog}: error: {e.strerror or e}{where}", file=sys.stderr)
        return 2
    except ValueError as e:
        from specgan_tf.files import InputError

        if not isinstance(e, InputError):
            raise
        print(f"{prog}: error: {e}", file=sys.stderr)
        return 2
    except Exception as e:
        import tensorflow as tf

        if not isinstance(e, tf.errors.ResourceExhaustedError):
            raise
        small = "a smaller --specgan_dim or --train_batch_size"
        print(f"{prog}: error: out of memory: try {small}", file=sys.stderr)
        return 2
    return 0


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(START)
        return 0
    parser = make_parser()
    given = vars(parser.parse_args(argv))
    folders = {"to_tf1": "TRAIN_DIR and OUT_DIR", "classifier": "DATA_DIR and OUT_DIR"}
    takes = folders.get(given["mode"], "TRAIN_DIR alone")
    if (given["mode"] in folders) != ("out_dir" in given):
        parser.error(f"{given['mode']} takes {takes}")
    if "train_dir" not in given and given["mode"] not in ("generate", "infer"):
        parser.error("the following arguments are required: train_dir")
    if "shard" in given and given["mode"] != "moments":
        parser.error("--shard is of the mode moments")
    check_generate(parser, given)
    return run(parser.prog, lambda: start(parser, given))


def check_generate(parser, given):
    """Refuse flags of generate that go nowhere, or against each other."""
    for name in ("interpolate", "walk", "grid", "truncation", "generate_format"):
        if name in given and given["mode"] != "generate":
            parser.error(f"--{name} is of the mode generate")
    if "grid" in given and "generate_n" in given:
        parser.error("--grid says how many clips: leave --generate_n out")
    if "interpolate" in given and given.get("generate_n") == 1:
        parser.error("--interpolate needs a --generate_n of at least 2")


def start(parser, given):
    """The mode, with its settings; they may be read off a checkpoint, and by then
    TensorFlow has to know its workers."""
    if given["mode"] == "train":
        from specgan_tf import distribute

        given["strategy"] = distribute.create(given.get("train_distribute", "none"))
    MODES[given["mode"]](settle(parser, given))


if __name__ == "__main__":
    sys.exit(main())
