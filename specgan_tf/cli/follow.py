"""Modes that follow a training, checkpoint by checkpoint: preview and backup."""

import logging
import os
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from specgan_tf import generate, sheet, spectral
from specgan_tf.cli.flags import Settings
from specgan_tf.cli.generate import load_generator, warn_of_silence
from specgan_tf.cli.settings import (
    draw_seed,
    griffin_lim,
    load_moments,
    resolve_settings,
)
from specgan_tf.errors import InputError
from specgan_tf.files import require_folder
from specgan_tf.weights import checkpoint, folders

log = logging.getLogger("specgan_tf")


def follow(args: Settings, process: Callable[[str], None]) -> None:
    """Call `process(prefix)` for each new checkpoint; --once, only for the newest.

    A checkpoint that the training deletes while it is processed is skipped.
    """
    require_folder(args.train_dir, "train_dir ")
    if args.once:
        folders.read_latest(args.train_dir, process)
        return
    log.info("Waiting for checkpoints in %s; Ctrl-C ends", args.train_dir)
    done = None
    while True:
        prefix = folders.latest(args.train_dir)
        if prefix and prefix != done:
            try:
                process(prefix)
            except (InputError, OSError):
                if not folders.was_deleted(prefix):
                    raise
                log.warning(
                    "%s was deleted; a larger --train_keep keeps more checkpoints",
                    prefix,
                )
            done = prefix
        time.sleep(1)


def run_preview(args: Settings) -> None:
    """[train_specgan.py:384-460]"""
    # Settled again: when this began, there may have been no training yet.
    follow(
        args, lambda prefix: preview_checkpoint(prefix, resolve_settings(args.given))
    )


def preview_checkpoint(prefix: str, args: Settings) -> None:
    """Write sound, picture and summary of one checkpoint, from the folder's latents."""
    preview_dir = os.path.join(args.train_dir, "preview")
    step = checkpoint.step_of(prefix)
    name = os.path.join(preview_dir, f"{step:08d}")
    if os.path.exists(f"{name}.wav") and not args.overwrite:
        log.info("%s.wav exists already; --overwrite renders it again", name)
        return
    G = load_generator(prefix, args)
    moments = load_moments(prefix, args)
    os.makedirs(preview_dir, exist_ok=True)
    z_fp = os.path.join(preview_dir, "z.pkl")
    if not os.path.exists(z_fp):
        z = generate.sample_z(args.preview_n, G.latent_dim, draw_seed(args))
        generate.save_z(z_fp, z)
    z = generate.load_z(z_fp, G.latent_dim)
    if len(z) != args.preview_n:
        log.info("Previewing the %d latents that %s holds", len(z), z_fp)

    made = generate.render(G, moments, z, griffin_lim(args))
    # original: half a slice of silence after each clip.  [train_specgan.py:423]
    pad = G.slice_len // 2
    flat = spectral.flatten(made["G_z"], pad)
    every = (G.slice_len + pad) / args.data_sample_rate
    starts = [f"{i}: at {i * every:.1f} s" for i in range(len(z))]
    picture = sheet.contact_sheet(made["G_z_norm_uint8"], starts, args.data_sample_rate)
    # differs: the training's own run in TensorBoard shows the preview; the reference
    # writes a second run, named preview.  [train_specgan.py:435]
    writer = tf.summary.create_file_writer(args.train_dir, filename_suffix=".preview")
    with writer.as_default(step):
        tf.summary.audio("preview/audio", flat[tf.newaxis], args.data_sample_rate)
        tf.summary.image("preview/image", picture[tf.newaxis])
    writer.close()
    sheet.write_png(f"{name}.png", picture)
    flat_int16 = spectral.float_to_int16(flat)
    generate.write_wav(
        f"{name}.wav", flat_int16, args.data_sample_rate
    )  # last: it marks the preview as done
    warn_of_silence(np.abs(made["G_z"]).max(axis=(1, 2)))
    log.info("Wrote %s.wav and .png", name)


def run_backup(args: Settings) -> None:
    """Copy the newest checkpoint at intervals, as backup.py does.  [backup.py:17-38]"""
    mins = args.train_backup_mins or 60.0
    if not args.once:
        log.info("A copy every %g minutes; Ctrl-C ends", mins)

    def copy(prefix):
        log.info("Wrote %s", folders.back_up(args.train_dir))
        if not args.once:
            time.sleep(60 * mins)

    follow(args, copy)
