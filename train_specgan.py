#!/usr/bin/env python
"""Train a SpecGAN, hear it, make sound with it.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 616-762: its modes and
flags. What the modes do lives in specgan_tf/modes, room by room as MODES has them; this
file turns flags into their arguments.
"""

import argparse
import importlib
import logging
import os
import sys
import tempfile

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

# Of each mode, the module of specgan_tf.modes whose `run_MODE` it is.
MODES = {
    "train": "train",
    "moments": "data",
    "merge": "data",
    "preview": "follow",
    "generate": "generate",
    "report": "report",
    "infer": "export",
    "to_tf1": "export",
    "incept": "score",
    "score": "score",
    "classifier": "classifier",
    "backup": "follow",
}


# Flags


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and which knows its defaults.

    No default reaches the result: there, what is absent was not given.
    """

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)
        self.defaults, self.types, self.choices = {}, {}, {}

    def error(self, message):
        what, _, names = message.partition(": ")
        # A shell puts the names of files in the place of a pattern.
        files = what == "unrecognized arguments" and "data_dir" in self.defaults
        if files and any(map(os.path.isfile, names.split(" "))):
            message += ". --data_dir takes a folder, not files"
        self.exit(2, f"{self.prog}: error: {message} (--help lists every flag)\n")

    def flag(self, group, name, default, help, short=None, **kwargs):
        dest = name.removeprefix("--")
        self.defaults[dest] = default
        self.types[dest] = kwargs.get("type", str)
        self.choices[dest] = kwargs.get("choices")
        if isinstance(default, bool):
            self.types[dest] = boolean
            kwargs.setdefault("action", argparse.BooleanOptionalAction)
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
log_eps = number(float, "in [1e-10, 1]", lambda e: 1e-10 <= e <= 1.0)
clip_nstd = number(float, "in [1, 20]", lambda n: 1.0 <= n <= 20.0)
above_0 = number(float, "a number above 0", lambda n: 0.0 < n < 1e9)
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
    either = g.add_mutually_exclusive_group()
    p.flag(
        either,
        "--data_normalize",
        False,
        "bring each file's peak to 1: the default, unless --data_no_normalize is "
        "recorded",
        action="store_true",
    )
    p.flag(
        either,
        "--data_no_normalize",
        False,
        "do not normalize each file's peak to 1",
        action="store_true",
    )
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
    p.flag(
        g,
        "--specgan_log_eps",
        1e-6,
        "added to magnitudes before their logarithm, [1e-10, 1]; more than the "
        "reference's 1e-06 suits short sounds and sounds with silence in them",
        type=log_eps,
    )
    p.flag(
        g,
        "--specgan_pad_front",
        False,
        "spectrograms begin 128 samples before the sound: keeps the attack of sounds "
        "that begin at once",
    )
    p.flag(
        g,
        "--specgan_clip_nstd",
        3.0,
        "standard deviations of log magnitudes that reach the ends of spectrograms, "
        "[1, 20]; what is beyond is clipped; 5 suits a larger --specgan_log_eps",
        type=clip_nstd,
    )
    p.flag(
        g,
        "--specgan_moments",
        "std",
        "what spectrograms are scaled by where moments are computed: each frequency "
        "bin's deviations from its mean, or the range from silence to its loudest "
        "value, which suits a larger --specgan_log_eps",
        choices=["std", "range"],
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
        type=above_0,
    )
    p.flag(g, "--train_summary_secs", 120, "seconds between summaries", type=positive)
    p.flag(g, "--train_max_steps", None, "stop at this step", type=positive)
    p.flag(
        g, "--train_lr_G", None, "learning rate of G; default the loss's", type=above_0
    )
    p.flag(
        g, "--train_lr_D", None, "learning rate of D; default the loss's", type=above_0
    )
    p.flag(
        g,
        "--train_ema",
        0.0,
        "average G's weights over steps, and generate with the average: how much of it "
        "each step keeps, [0, 1), as 0.999; 0 is off",
        type=ratio,
        metavar="DECAY",
    )
    p.flag(
        g,
        "--mixed_precision",
        False,
        "convolutions in bfloat16, where that is fast (AMX, GPUs from Ampere on)",
    )
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
    p.flag(
        g,
        "--normalize",
        False,
        "bring each clip's peak to full scale; without it only clips that exceed full "
        "scale are changed: they are turned down",
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


# Running


def import_tensorflow():
    """Import TensorFlow with fast kernels and without its greetings on stderr.

    Keras is as the scripts need it, whatever the environment or a keras.json says.
    """
    # Off by default on CPUs without AVX-512, where they halve the time of a step.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(KERAS_BACKEND="tensorflow", TF_USE_LEGACY_KERAS="0")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as greetings:
        os.dup2(greetings.fileno(), 2)
        try:
            import keras
            import tensorflow as tf

            tf.config.list_physical_devices()
            keras.config.set_floatx("float32")
            keras.config.set_dtype_policy("float32")
            keras.config.set_image_data_format("channels_last")
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
        if os.path.isfile(file := given.get("out_dir", "")):
            takes += f", not {file} too. --data_dir takes a folder, not files"
        parser.error(f"{given['mode']} takes {takes}")
    if "train_dir" not in given and given["mode"] not in ("generate", "infer"):
        parser.error("the following arguments are required: train_dir")
    if "shard" in given and given["mode"] != "moments":
        parser.error("--shard is of the mode moments")
    check_generate(parser, given)
    return run(parser.prog, lambda: start(parser, given))


def check_generate(parser, given):
    """Refuse flags of generate that go nowhere, or against each other."""
    names = "interpolate", "walk", "grid", "truncation", "generate_format", "normalize"
    for name in names:
        if name in given and given["mode"] != "generate":
            parser.error(f"--{name} is of the mode generate")
    if "grid" in given and "generate_n" in given:
        parser.error("--grid says how many clips: leave --generate_n out")
    if "interpolate" in given and given.get("generate_n") == 1:
        parser.error("--interpolate needs a --generate_n of at least 2")


def start(parser, given):
    """The mode, with its settings; they may be read off a checkpoint, and by then
    TensorFlow has to know its workers."""
    from specgan_tf.modes.settings import settle

    if given["mode"] == "train":
        from specgan_tf import distribute

        given["strategy"] = distribute.create(given.get("train_distribute", "none"))
    args = settle(parser, given)
    function_of(given["mode"])(args)


def function_of(mode):
    """What does it. Its module is imported now: TensorFlow has to be set up before."""
    room = importlib.import_module(f"specgan_tf.modes.{MODES[mode]}")
    return getattr(room, f"run_{mode}")


if __name__ == "__main__":
    sys.exit(main())
