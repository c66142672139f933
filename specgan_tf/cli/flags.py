"""The modes and flags of train_specgan.py, each declared once: a field of `Settings`.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 616-762.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from specgan_tf.cli.modes import ABOUT, MODES
from specgan_tf.cli.parser import (
    Parser,
    above_0,
    clip_nstd,
    count,
    flags_of,
    group,
    integer,
    log_eps,
    positive,
    ratio,
    seed32,
    shard,
    share,
    sheet,
    stride,
    two_or_more,
)

# The modes that cut files into slices, decode files, make sounds, and use moments.
SLICES = "train moments report incept score to_tf1"
DECODE = "train moments report incept score classifier"
SOUNDS = "train preview generate report infer incept score"
MOMENTS = f"{SOUNDS} moments merge to_tf1"

DATA = group("Data", SLICES)
DECODING = group("Decoding", DECODE)
SPECGAN = group("SpecGAN", "train to_tf1")
SPECTROGRAMS = group("Spectrograms", MOMENTS)
GRIFFIN_LIM = group("Griffin-Lim", SOUNDS)
TRAIN = group("Train", "train")
PREVIEW = group("Preview", "preview")
GENERATE = group("Generate", "generate", recorded=False)
REPORT = group("Report", "report", recorded=False)
INCEPT = group("Incept", "incept score", recorded=False)
SCORE = group("Score", "score", recorded=False)
CLASSIFIER = group("Classifier", "classifier", recorded=False)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run: the reference's flags and defaults, and ours.

    `settings.resolve_settings` makes them from given and recorded flags.

    Attributes:
      mode: one of `MODES`.
      train_dir: the training folder, or what a mode takes in its place: see --help.
      out_dir: the folder that to_tf1 and classifier write.
      strategy: the `tf.distribute.Strategy` of a training.
      given: what `resolve_settings` was given, to call it again.

    [train_specgan.py:621-712]
    """

    mode: str
    train_dir: str | None = None
    out_dir: str | None = None
    strategy: Any = None
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    data_dir: str | None = DATA(
        None, "folder of audio files; default: the embedded drum sounds"
    )
    data_moments_fp: str | None = DATA(
        None, "moments file; default TRAIN_DIR/moments.pkl", modes=MOMENTS
    )
    data_sample_rate: int = DATA(
        16000,
        "audio samples per second",
        type=positive,
        modes=f"{SOUNDS} moments to_tf1",
    )
    data_slice_len: int = DATA(
        16384,
        "samples in a slice and in each sound made; a checkpoint has its own",
        choices=[16384, 32768, 65536, 131072],
        type=integer,
        modes=MOMENTS,
    )
    data_overlap_ratio: float = DATA(0.0, "overlap of slices, [0, 1)", type=ratio)
    data_first_slice: bool = DATA(False, "use only the first slice of each file")
    data_pad_end: bool = DATA(False, "use zero-padded partial slices at file ends")
    # differs: the reference prefetches to GPU 0, and fails where there is none. fit
    # moves batches there.  [loader.py:189-193]
    data_prefetch_gpu_num: int = DATA(
        0,
        "has no effect: Keras finds the device and moves batches there",
        type=integer,
        modes="",
    )

    data_normalize: bool = DECODING(
        False,
        "scale each file so that its peak is 1: the default, unless args.txt "
        "records --data_no_normalize",
        one_of="normalize",
    )
    data_no_normalize: bool = DECODING(
        False, "keep each file's level", one_of="normalize"
    )
    data_fast_wav: bool = DECODING(
        False,
        "all files are 16-bit or float WAV at --data_sample_rate (faster)",
        modes=f"{SLICES} classifier",
    )
    data_recursive: bool = DECODING(False, "also search the sub-folders of data_dir")
    data_resample: str = DECODING(
        "soxr_hq",
        "resampler; kaiser_best is the reference's and needs resampy",
        choices=["soxr_hq", "kaiser_best"],
    )
    data_cache: str | None = DECODING(
        None,
        'decode each file once: "memory" keeps the audio there, else a folder for it',
    )

    specgan_latent_dim: int = SPECGAN(100, "length of latent vectors", type=positive)
    specgan_kernel_len: int = SPECGAN(5, "side of square kernels", type=positive)
    specgan_dim: int = SPECGAN(
        64, "channels, as a multiplier, in G and D", type=positive
    )
    specgan_batchnorm: bool = SPECGAN(False, "use batch normalization")
    specgan_disc_nupdates: int = SPECGAN(5, "D updates per G update", type=positive)
    specgan_loss: str = SPECGAN(
        "wgan-gp", "GAN loss", choices=["dcgan", "lsgan", "wgan", "wgan-gp"]
    )
    specgan_genr_upsample: str = SPECGAN(
        "zeros",
        "upsampling in G; linear and cubic are lin and cub",
        choices=["zeros", "nn", "lin", "cub", "linear", "cubic"],
        modes=f"{SOUNDS} to_tf1",
    )

    specgan_log_eps: float = SPECTROGRAMS(
        1e-6,
        "added to magnitudes before their logarithm, [1e-10, 1]; more than the "
        "reference's 1e-06 suits short sounds and sounds with silence in them",
        type=log_eps,
    )
    specgan_pad_front: bool = SPECTROGRAMS(
        False,
        "spectrograms begin 128 samples before the sound: keeps the attack of sounds "
        "that begin at once",
    )
    specgan_clip_nstd: float = SPECTROGRAMS(
        3.0,
        "standard deviations of log magnitudes that reach the ends of spectrograms, "
        "[1, 20]; larger deviations are clipped; 5 suits a larger --specgan_log_eps",
        type=clip_nstd,
    )
    specgan_moments: str = SPECTROGRAMS(
        "std",
        "how computed moments scale a spectrogram: by each frequency bin's "
        "deviation from its mean (std), or by the range from silence to its loudest "
        "value (range), which suits a larger --specgan_log_eps",
        choices=["std", "range"],
        modes="train moments merge",
    )

    specgan_ngl: int = GRIFFIN_LIM(
        16, "Griffin-Lim iterations", type=count, short="--ngl"
    )
    specgan_gl_window: str = GRIFFIN_LIM(
        "hann",
        "synthesis window; dual inverts exactly, hann is the reference's",
        short="--gl_window",
        choices=["hann", "dual"],
    )
    specgan_gl_momentum: float = GRIFFIN_LIM(
        0.0, "momentum of fast Griffin-Lim, [0, 1)", short="--gl_momentum", type=ratio
    )

    train_from: str | None = TRAIN(
        None,
        "begin a new training with these weights: a training folder, a checkpoint's "
        "prefix, a generator's .npz, drums or digits",
    )
    train_batch_size: int = TRAIN(
        64, "slices in a batch", type=positive, modes="train to_tf1 classifier"
    )
    train_save_secs: int = TRAIN(300, "seconds between checkpoints", type=positive)
    train_keep: int = TRAIN(5, "newest checkpoints to keep", type=positive)
    train_backup_mins: float | None = TRAIN(
        None,
        "minutes between permanent copies in TRAIN_DIR/backup",
        type=above_0,
        modes="train backup",
    )
    train_summary_secs: int = TRAIN(120, "seconds between summaries", type=positive)
    train_max_steps: int | None = TRAIN(
        None, "stop at this step", type=positive, recorded=False
    )
    train_lr_G: float | None = TRAIN(
        None,
        "learning rate of G; default the loss's",
        type=above_0,
        modes="train to_tf1",
    )
    train_lr_D: float | None = TRAIN(
        None,
        "learning rate of D; default the loss's",
        type=above_0,
        modes="train to_tf1",
    )
    train_ema: float = TRAIN(
        0.0,
        "average G's weights over steps, and generate with the average: the share "
        "of the average that each step keeps, [0, 1), such as 0.999; 0 is off",
        type=ratio,
        metavar="DECAY",
    )
    mixed_precision: bool = TRAIN(
        False,
        "compute convolutions in bfloat16 where that is fast (AMX, GPUs from Ampere "
        "on)",
    )
    jit_compile: bool = TRAIN(False, "compile the training step with XLA; for GPUs")
    train_distribute: str = TRAIN(
        "none",
        "train on all devices of this machine (mirrored), or on the workers that "
        "TF_CONFIG names (multiworker)",
        choices=["none", "mirrored", "multiworker"],
        recorded=False,
    )
    seed: int | None = TRAIN(
        None,
        "seed of all random numbers; default: unseeded",
        type=seed32,
        modes="train moments preview generate incept score classifier",
    )

    preview_n: int = PREVIEW(32, "clips in a preview", type=positive)
    once: bool = PREVIEW(
        False,
        "process the newest checkpoint, then exit",
        modes="preview incept backup",
        recorded=False,
    )

    generate_n: int | None = GENERATE(
        None,
        "clips to generate (default: 16); with --interpolate, latents to pass "
        "through (default: 2)",
        type=positive,
    )
    generate_dir: str | None = GENERATE(
        None, "output folder; default TRAIN_DIR/generate, without TRAIN_DIR ./generated"
    )
    normalize: bool = GENERATE(
        False,
        "scale each clip to full scale; without it, only clips that exceed full "
        "scale are changed: they are turned down",
    )
    generate_format: str = GENERATE(
        "wav", "file format of the clips", choices=["wav", "flac"]
    )
    z_fp: str | None = GENERATE(
        None, "file of latents: read if it exists, else written"
    )
    interpolate: int | None = GENERATE(
        None,
        "STEPS clips on the line from each latent to the next, both ends included",
        type=two_or_more,
        metavar="STEPS",
        one_of="way",
    )
    walk: float | None = GENERATE(
        None,
        "a random walk from the first latent: from clip to clip each coordinate "
        "moves by at most STEP, (0, 2]",
        type=stride,
        metavar="STEP",
        one_of="way",
    )
    grid: tuple[int, int] | None = GENERATE(
        None,
        "a sheet of clips between four latents at its corners",
        type=sheet,
        metavar="ROWSxCOLUMNS",
        one_of="way",
    )
    truncation: float = GENERATE(
        1.0,
        "scale latents by this factor, (0, 1]; a small one makes clips more alike",
        type=share,
    )
    shard: tuple[int, int] | None = GENERATE(
        None,
        "use every Nth file only; the merge mode combines the shards",
        type=shard,
        modes="moments",
    )
    overwrite: bool = GENERATE(
        False,
        "replace existing files",
        modes="moments merge preview generate infer score",
    )

    report_n: int = REPORT(8, "clips of each kind in the report", type=positive)
    report_fp: str | None = REPORT(None, "HTML file; default TRAIN_DIR/report.html")

    # [train_specgan.py:682-691, 707-710]
    incept_metagraph_fp: str = INCEPT(
        "./eval/inception/infer.meta",
        "MetaGraph of a classifier, as the reference's: x:0 [n, 16384] to scores:0",
    )
    incept_ckpt_fp: str = INCEPT(
        "./eval/inception/best_acc-103005", "checkpoint of that MetaGraph"
    )
    incept_n: int = INCEPT(
        5000, "generated clips to score", type=positive, modes="incept"
    )
    incept_k: int = INCEPT(
        10,
        "groups of clips in an inception score",
        type=positive,
        modes="incept score classifier",
    )
    incept_classifier: str | None = INCEPT(
        None, "classifier made by the classifier mode, used instead of the MetaGraph"
    )
    incept_measure: str = INCEPT(
        "inception",
        "score that decides which checkpoint is kept; frechet_log_mel needs no "
        "classifier",
        choices=["inception", "frechet_log_mel"],
        modes="incept",
    )

    score_n: int | None = SCORE(
        None,
        "clips: generated (default: 512), or WAV files (default: all)",
        type=positive,
    )
    score_real_n: int = SCORE(
        5000, "real clips, at most", type=positive, modes="incept score"
    )
    score_fp: str | None = SCORE(
        None, "JSON file; default in TRAIN_DIR/score, or the folder"
    )
    fix_length: bool = SCORE(False, "cut WAV files to --data_slice_len, or add zeros")

    classifier_dim: int = CLASSIFIER(128, "channels of each convolution", type=positive)
    classifier_optimizer: str = CLASSIFIER(
        "adam", "optimizer; the reference's is sgd, at 1e-4", choices=["adam", "sgd"]
    )
    classifier_epochs: int = CLASSIFIER(100, "epochs, at most", type=positive)
    classifier_patience: int = CLASSIFIER(
        5,
        "epochs without improvement until the learning rate drops, and after that "
        "until the training ends",
        type=positive,
    )
    classifier_test: str | None = CLASSIFIER(
        None,
        "regular expression: files whose name it matches are tested with, not "
        "trained on",
    )


FLAGS = flags_of(Settings)
RECORDED = frozenset(name for name, flag in FLAGS.items() if flag.recorded)


def make_parser() -> Parser:
    """The parser of train_specgan.py's command line."""
    p = Parser(description="Train a SpecGAN, hear it, make sound with it.")
    p.add_argument(
        "mode",
        choices=list(MODES),
        help="; ".join(f"{mode}: {about}" for mode, about in ABOUT.items()),
    )
    for name in ("train_dir", "out_dir"):  # `ARGUMENTS` has a help for each mode
        p.add_argument(name, nargs="?", default=argparse.SUPPRESS)
    p.add_flags(FLAGS)
    return p
