"""The modes and flags of train_specgan.py, and how their values are read.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 616-762.
"""

import argparse

from specgan_tf.cli.modes import ABOUT, MODES
from specgan_tf.cli.parser import (
    Parser,
    above_0,
    clip_nstd,
    count,
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
from specgan_tf.specgan import SLICE_LENS

# Modes that cut files into slices, decode files, make sounds, need moments.
SLICES = "train moments report incept score to_tf1"
DECODE = "train moments report incept score classifier"
SOUNDS = "train preview generate report infer incept score"
MOMENTS = f"{SOUNDS} moments merge to_tf1"


def make_parser():
    """The reference's flags and defaults, and ours.  [train_specgan.py:621-712]"""
    p = Parser(description="Train a SpecGAN, hear it, make sound with it.")
    p.add_argument(
        "mode",
        choices=list(MODES),
        help="; ".join(f"{mode}: {about}" for mode, about in ABOUT.items()),
    )
    p.add_argument(
        "train_dir",
        nargs="?",
        default=argparse.SUPPRESS,
        help="training folder; of classifier the sounds; of score WAV files too; of "
        "generate and infer a checkpoint's prefix, a model in an .npz, drums or digits "
        "(the bundled models), or nothing: drums",
    )
    p.add_argument(
        "out_dir",
        nargs="?",
        default=argparse.SUPPRESS,
        help="of to_tf1 a new folder; of classifier where it goes",
    )

    flag = p.group("Data", SLICES)
    flag("--data_dir", None, "folder of audio files; without it, embedded drums")
    flag(
        "--data_moments_fp",
        None,
        "moments file; default TRAIN_DIR/moments.pkl",
        modes=MOMENTS,
    )
    flag(
        "--data_sample_rate",
        16000,
        "audio samples per second",
        type=positive,
        modes=f"{SOUNDS} moments to_tf1",
    )
    flag(
        "--data_slice_len",
        SLICE_LENS[0],
        "samples in a slice, and in each sound made: 65536 are 4 s at 16 kHz; a "
        "checkpoint says its own",
        choices=[*SLICE_LENS],
        type=integer,
        modes=f"{SOUNDS} moments to_tf1",
    )
    flag("--data_overlap_ratio", 0.0, "overlap of slices, [0, 1)", type=ratio)
    flag("--data_first_slice", False, "use only the first slice of each file")
    flag("--data_pad_end", False, "use zero-padded partial slices at file ends")
    # differs: the reference prefetches to GPU 0, and fails where there is none. fit
    # moves batches there.  [loader.py:189-193]
    flag(
        "--data_prefetch_gpu_num",
        0,
        "changes nothing: Keras finds the device and moves batches there",
        type=integer,
        modes="",
    )

    flag = p.group("Decoding", DECODE)
    either = p.one_of(flag)
    either(
        "--data_normalize",
        False,
        "bring each file's peak to 1: the default, unless --data_no_normalize is "
        "recorded",
        action="store_true",
    )
    either(
        "--data_no_normalize",
        False,
        "do not normalize each file's peak to 1",
        action="store_true",
    )
    flag(
        "--data_fast_wav",
        False,
        "files are 16-bit or float WAV at the rate",
        modes=f"{SLICES} classifier",
    )
    flag("--data_recursive", False, "look into sub-folders of data_dir too")
    flag(
        "--data_resample",
        "soxr_hq",
        "resampler; kaiser_best is the reference's and needs resampy",
        choices=["soxr_hq", "kaiser_best"],
    )
    flag(
        "--data_cache",
        None,
        'decode each file once: "memory" keeps the audio there, else a folder for it',
    )

    flag = p.group("SpecGAN", "train to_tf1")
    flag("--specgan_latent_dim", 100, "length of latent vectors", type=positive)
    flag("--specgan_kernel_len", 5, "side of square kernels", type=positive)
    flag("--specgan_dim", 64, "channels, as a multiplier, in G and D", type=positive)
    flag("--specgan_batchnorm", False, "use batch normalization")
    flag("--specgan_disc_nupdates", 5, "D updates per G update", type=positive)
    flag(
        "--specgan_loss",
        "wgan-gp",
        "GAN loss",
        choices=["dcgan", "lsgan", "wgan", "wgan-gp"],
    )
    flag(
        "--specgan_genr_upsample",
        "zeros",
        "upsampling in G; linear and cubic are lin and cub",
        choices=["zeros", "nn", "lin", "cub", "linear", "cubic"],
        modes=f"{SOUNDS} to_tf1",
    )

    flag = p.group("Spectrograms", MOMENTS)
    flag(
        "--specgan_log_eps",
        1e-6,
        "added to magnitudes before their logarithm, [1e-10, 1]; more than the "
        "reference's 1e-06 suits short sounds and sounds with silence in them",
        type=log_eps,
    )
    flag(
        "--specgan_pad_front",
        False,
        "spectrograms begin 128 samples before the sound: keeps the attack of sounds "
        "that begin at once",
    )
    flag(
        "--specgan_clip_nstd",
        3.0,
        "standard deviations of log magnitudes that reach the ends of spectrograms, "
        "[1, 20]; what is beyond is clipped; 5 suits a larger --specgan_log_eps",
        type=clip_nstd,
    )
    flag(
        "--specgan_moments",
        "std",
        "what spectrograms are scaled by where moments are computed: each frequency "
        "bin's deviations from its mean, or the range from silence to its loudest "
        "value, which suits a larger --specgan_log_eps",
        choices=["std", "range"],
        modes="train moments merge",
    )

    flag = p.group("Griffin-Lim", SOUNDS)
    flag("--specgan_ngl", 16, "Griffin-Lim iterations", type=count, short="--ngl")
    flag(
        "--specgan_gl_window",
        "hann",
        "synthesis window; dual inverts exactly, hann is the reference's",
        short="--gl_window",
        choices=["hann", "dual"],
    )
    flag(
        "--specgan_gl_momentum",
        0.0,
        "of fast Griffin-Lim, [0, 1)",
        short="--gl_momentum",
        type=ratio,
    )

    flag = p.group("Train", "train")
    flag(
        "--train_batch_size",
        64,
        "slices in a batch",
        type=positive,
        modes="train to_tf1 classifier",
    )
    flag("--train_save_secs", 300, "seconds between checkpoints", type=positive)
    flag("--train_keep", 5, "checkpoints to keep, the newest", type=positive)
    flag(
        "--train_backup_mins",
        None,
        "minutes between copies that stay, in TRAIN_DIR/backup",
        type=above_0,
        modes="train backup",
    )
    flag("--train_summary_secs", 120, "seconds between summaries", type=positive)
    flag("--train_max_steps", None, "stop at this step", type=positive, recorded=False)
    flag(
        "--train_lr_G",
        None,
        "learning rate of G; default the loss's",
        type=above_0,
        modes="train to_tf1",
    )
    flag(
        "--train_lr_D",
        None,
        "learning rate of D; default the loss's",
        type=above_0,
        modes="train to_tf1",
    )
    flag(
        "--train_ema",
        0.0,
        "average G's weights over steps, and generate with the average: how much of it "
        "each step keeps, [0, 1), as 0.999; 0 is off",
        type=ratio,
        metavar="DECAY",
    )
    flag(
        "--mixed_precision",
        False,
        "convolutions in bfloat16, where that is fast (AMX, GPUs from Ampere on)",
    )
    flag("--jit_compile", False, "compile a step with XLA; for GPUs")
    flag(
        "--train_distribute",
        "none",
        "over the devices of this machine, or the workers that TF_CONFIG names",
        choices=["none", "mirrored", "multiworker"],
        recorded=False,
    )
    flag(
        "--seed",
        None,
        "of everything random; default unseeded",
        type=seed32,
        modes="train moments preview generate incept score classifier",
    )

    flag = p.group("Preview", "preview")
    flag("--preview_n", 32, "clips in a preview", type=positive)
    flag(
        "--once",
        False,
        "the newest checkpoint and end; of incept, backup too",
        modes="preview incept backup",
        recorded=False,
    )

    flag = p.group("Generate", "generate", recorded=False)
    flag(
        "--generate_n",
        None,
        "clips to generate (default: 16); latents to go through with --interpolate "
        "(default: 2)",
        type=positive,
    )
    flag(
        "--generate_dir",
        None,
        "folder for them; default TRAIN_DIR/generate, without TRAIN_DIR ./generated",
    )
    flag(
        "--normalize",
        False,
        "bring each clip's peak to full scale; without it only clips that exceed full "
        "scale are changed: they are turned down",
    )
    flag("--generate_format", "wav", "of the sounds", choices=["wav", "flac"])
    flag("--z_fp", None, "latents to use if the file exists, else to save there")
    way = p.one_of(flag)
    way(
        "--interpolate",
        None,
        "STEPS clips on the line from each latent to the next, both included",
        type=two_or_more,
        metavar="STEPS",
    )
    way(
        "--walk",
        None,
        "a random walk from the first latent, whose coordinates move by at most STEP "
        "from clip to clip, (0, 2]",
        type=stride,
        metavar="STEP",
    )
    way(
        "--grid",
        None,
        "a sheet of clips between four latents, its corners",
        type=sheet,
        metavar="ROWSxCOLUMNS",
    )
    flag(
        "--truncation",
        1.0,
        "scale latents by this: clips are more alike, (0, 1]",
        type=share,
    )
    flag(
        "--shard",
        None,
        "of moments: every Nth file only; then merge",
        type=shard,
        modes="moments",
    )
    flag(
        "--overwrite",
        False,
        "replace files that are there already",
        modes="moments merge preview generate infer score",
    )

    flag = p.group("Report", "report", recorded=False)
    flag("--report_n", 8, "clips of each kind in a report", type=positive)
    flag("--report_fp", None, "HTML file; default TRAIN_DIR/report.html")
    add_score_flags(p)
    return p


def add_score_flags(p):
    """Of incept, score and classifier.  [train_specgan.py:682-691, 707-710]"""
    flag = p.group("Incept", "incept score", recorded=False)
    flag(
        "--incept_metagraph_fp",
        "./eval/inception/infer.meta",
        "a classifier as the reference has it: x:0 [n, 16384] to scores:0",
    )
    flag(
        "--incept_ckpt_fp",
        "./eval/inception/best_acc-103005",
        "checkpoint of that MetaGraph",
    )
    flag("--incept_n", 5000, "generated clips to score", type=positive, modes="incept")
    flag(
        "--incept_k",
        10,
        "groups of an inception score",
        type=positive,
        modes="incept score classifier",
    )
    flag("--incept_classifier", None, "what the classifier mode made, instead")
    flag(
        "--incept_measure",
        "inception",
        "what the best checkpoint is kept by; frechet_log_mel needs no classifier",
        choices=["inception", "frechet_log_mel"],
        modes="incept",
    )

    flag = p.group("Score", "score", recorded=False)
    flag(
        "--score_n",
        None,
        "clips: generated (default: 512), or WAV files (default: all)",
        type=positive,
    )
    flag(
        "--score_real_n",
        5000,
        "real clips, at most",
        type=positive,
        modes="incept score",
    )
    flag("--score_fp", None, "JSON file; default in TRAIN_DIR/score, or the folder")
    flag("--fix_length", False, "cut WAV files to 16384 samples, or add zeros")

    flag = p.group("Classifier", "classifier", recorded=False)
    flag("--classifier_dim", 128, "channels of each convolution", type=positive)
    flag(
        "--classifier_optimizer",
        "adam",
        "sgd, at 1e-4, is the reference's",
        choices=["adam", "sgd"],
    )
    flag("--classifier_epochs", 100, "times through the sounds", type=positive)
    flag(
        "--classifier_patience", 5, "epochs no better: slower; then end", type=positive
    )
    flag(
        "--classifier_test",
        None,
        "files to test with and not train on: a regular expression, found in their "
        "names",
    )
