"""Modes that hand a generator on: infer writes a SavedModel, to_tf1 a checkpoint."""

import logging
import os
import shutil
from collections.abc import Iterator

from specgan_tf import generate
from specgan_tf.cli.flags import FLAGS, Settings
from specgan_tf.cli.generate import read_generator
from specgan_tf.cli.settings import griffin_lim, load_moments, unasked_dir
from specgan_tf.errors import InputError
from specgan_tf.export import verify
from specgan_tf.export.saved_model import save_saved_model
from specgan_tf.files import replacing_dir
from specgan_tf.moments import Moments
from specgan_tf.moments import save as save_moments
from specgan_tf.weights import bundled, checkpoint, folders

log = logging.getLogger("specgan_tf")


def run_infer(args: Settings) -> None:
    """Write the inference SavedModel, weights included.

    differs: the reference writes a MetaGraph, without weights.
    [train_specgan.py:370-378]
    """
    step, G, moments = read_generator(args)
    infer_dir = unasked_dir(args, "infer", "infer")
    if os.path.isdir(infer_dir):  # as the reference does: it can be made again
        if bundled.find(args.train_dir) and not args.overwrite:
            raise InputError(f"{infer_dir} exists; --overwrite replaces it")
        log.info("Replacing %s", infer_dir)
    with replacing_dir(infer_dir) as new:
        save_saved_model(G, moments, new, griffin_lim(args), args.data_sample_rate)
        numbers, _ = verify.Reference(G, moments, griffin_lim(args)).compare(new)
        if os.path.isdir(infer_dir):  # keep other files, as the reference's MetaGraph
            for entry in set(os.listdir(infer_dir)) - set(os.listdir(new)):
                path = os.path.join(infer_dir, entry)
                copy = shutil.copytree if os.path.isdir(path) else shutil.copy2
                copy(path, os.path.join(new, entry))
    log.info(
        "Wrote %s (step %d); largest difference of spectrograms from Keras: %.1g",
        infer_dir,
        step,
        numbers["synthesize"]["spectrogram, max error"],
    )


def run_to_tf1(args: Settings) -> None:
    """Write checkpoint, moments and latents for the original under TF 1.12."""
    folders.require(args.train_dir)
    moments = load_moments(args.train_dir, args)
    if moments.analysis != Moments(None, None).analysis:
        raise InputError(
            "the original computes spectrograms with its defaults only; this training "
            "has " + ", ".join(f"specgan_{k} {v}" for k, v in moments.analysis.items())
        )
    if args.data_slice_len != Settings.data_slice_len:
        raise InputError(
            f"the original makes sounds of {Settings.data_slice_len} samples only; "
            f"this training has data_slice_len {args.data_slice_len}"
        )
    if os.path.exists(args.out_dir):
        raise InputError(f"{args.out_dir} exists; choose a new folder")
    z_fp = os.path.join("preview", "z.pkl")
    z_here = os.path.join(folders.folder_of(args.train_dir), z_fp)
    with replacing_dir(args.out_dir) as new:
        written = folders.read_latest(
            args.train_dir, lambda prefix: checkpoint.to_tf1(prefix, new)
        )
        save_moments(os.path.join(new, "moments.pkl"), *moments)
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
    rates = {name: getattr(args, name) for name in ("train_lr_G", "train_lr_D")}
    if given := [f"--{name} {rate}" for name, rate in rates.items() if rate]:
        log.warning("The original uses its own learning rates, not %s", " ".join(given))


ORIGINAL = (
    "data_dir data_sample_rate data_overlap_ratio data_first_slice data_pad_end "
    "data_fast_wav specgan_latent_dim specgan_kernel_len specgan_dim specgan_batchnorm "
    "specgan_disc_nupdates specgan_loss specgan_genr_upsample train_batch_size"
).split()


def original_flags(args: Settings) -> Iterator[str]:
    """The settings that are not the reference's defaults, as flags of its own."""
    if args.data_dir is None:
        yield "--data_dir FOLDER --data_first_slice --data_pad_end"
    for name in ORIGINAL:
        value = getattr(args, name)
        if value is True:
            yield f"--{name}"
        elif value != FLAGS[name].default:
            yield f"--{name} {value}"
