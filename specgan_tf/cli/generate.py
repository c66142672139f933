"""The mode generate: sounds from latents that are drawn, read, or interpolated."""

import logging
import os
import re
from collections.abc import Sequence

import numpy as np

from specgan_tf import generate, sheet, spectral
from specgan_tf.cli.flags import Settings
from specgan_tf.cli.settings import (
    draw_seed,
    griffin_lim,
    load_moments,
    unasked_dir,
    upsample_of,
)
from specgan_tf.errors import InputError
from specgan_tf.eval.health import SILENCE
from specgan_tf.files import require_no_file
from specgan_tf.moments import Moments
from specgan_tf.specgan import SpecGANGenerator
from specgan_tf.weights import checkpoint, folders

log = logging.getLogger("specgan_tf")

LATENTS = "latents.npy"  # those of the sounds beside it, if --z_fp holds others


def run_generate(args: Settings) -> None:
    """Write sounds, and one picture of their spectrograms."""
    out_dir = args.generate_dir or unasked_dir(args, "generate", "generated")
    require_no_file(out_dir)
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
    step, G, moments = read_generator(args)
    drawn, z = latents(args, G.latent_dim)
    os.makedirs(out_dir, exist_ok=True)
    write = generate.WRITERS[args.generate_format]
    names, images, peaks = [], [], []
    for made in generate.render_chunks(G, moments, z, griffin_lim(args)):
        peaks += [*np.abs(made["G_z"]).max(axis=(1, 2))]
        # Not from G_z_int16, which clips peaks.
        level = spectral.normalize if args.normalize else spectral.turn_down
        G_z = level(made["G_z"])
        for x, image in zip(G_z, made["G_z_norm_uint8"], strict=True):
            samples = spectral.float_to_int16(x)
            names.append(f"{len(names):04d}.{args.generate_format}")
            write(os.path.join(out_dir, names[-1]), samples, args.data_sample_rate)
            images.append(image)
    columns = args.grid[1] if args.grid else None
    made = sheet.contact_sheet(images, names, args.data_sample_rate, columns)
    sheet.write_png(os.path.join(out_dir, "sheet.png"), made)
    if not np.array_equal(drawn, z):
        generate.save_z(latents_fp, z)
        names.append(LATENTS)
    formats = "|".join(generate.WRITERS)
    for name in os.listdir(out_dir):  # left from an earlier --overwrite
        ours = name == LATENTS or re.fullmatch(rf"\d{{4,}}\.({formats})", name)
        if ours and name not in names:
            os.remove(os.path.join(out_dir, name))
    warn_of_silence(peaks)
    log.info(
        "Wrote %d %s files and sheet.png to %s (step %d)",
        len(z),
        args.generate_format.upper(),
        out_dir,
        step,
    )


def latents(args: Settings, latent_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The latents drawn or read, and those to render: float32 [n, latent_dim] each."""
    n, need = args.generate_n or 16, 1  # clips; latents that they are made from
    if args.interpolate:
        n, need = args.generate_n or 2, 2
    if args.grid:
        n = need = 4
    seed, known = draw_seed(args), args.z_fp and os.path.exists(args.z_fp)
    if known:
        drawn = generate.load_z(args.z_fp, latent_dim)
        if len(drawn) < need:
            raise InputError(
                f"{args.z_fp} holds {len(drawn)} latents; {need} are needed"
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


def load_generator(prefix: str, args: Settings) -> SpecGANGenerator:
    return checkpoint.load_generator(prefix, upsample_of(args))


def read_generator(args: Settings) -> tuple[int, SpecGANGenerator, Moments]:
    """(step, G, moments) of the newest checkpoint."""

    def read(prefix):
        moments = load_moments(prefix, args)
        return checkpoint.step_of(prefix), load_generator(prefix, args), moments

    return folders.read_latest(args.train_dir, read)


def warn_of_silence(peaks: Sequence[float]) -> None:
    """Log how many clips are nearly silent, given each one's peak, if any are."""
    quiet = sum(peak < SILENCE for peak in peaks)
    if quiet:
        log.warning(
            "%d of %d clips are nearly silent (peak below %g of full scale): more "
            "training usually helps",
            quiet,
            len(peaks),
            SILENCE,
        )


def render_clips(prefix: str, z: np.ndarray, args: Settings) -> np.ndarray:
    """A checkpoint's waveforms float32 [n, 16384], from latents [n, latent_dim]."""
    G = load_generator(prefix, args)
    moments = load_moments(prefix, args)
    made = generate.render_chunks(G, moments, z, griffin_lim(args))
    return np.concatenate([chunk["G_z"][:, :, 0] for chunk in made])
