"""The audio files, slices and moments that the data flags ask for.

The modes moments and merge.
"""

import contextlib
import itertools
import logging
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import specgan_tf
from specgan_tf import loader, moments, shards, spectral
from specgan_tf.cli.flags import Settings
from specgan_tf.cli.settings import analysis, load_moments
from specgan_tf.errors import InputError
from specgan_tf.files import making_dir, require_folder
from specgan_tf.weights import folders

log = logging.getLogger("specgan_tf")


def find_files(args: Settings) -> list[str]:
    """The audio files: those of data_dir, or the embedded drums."""
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
        log.info("--data_normalize is the default: files are normalized without it")
    return fps


@contextlib.contextmanager
def making_dirs(args: Settings) -> Iterator[None]:
    """`files.making_dir` of the training folder, and of --data_cache's."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(making_dir(args.train_dir))
        if args.data_cache not in (None, "memory"):
            stack.enter_context(making_dir(args.data_cache))
        yield


def slicing(args: Settings) -> dict[str, Any]:
    """How files are cut, as arguments of the loader."""
    first = args.data_first_slice or args.data_dir is None  # the embedded drums
    return {
        "slice_len": args.data_slice_len,
        "slice_randomize_offset": not first,
        "slice_first_only": first,
        "slice_overlap_ratio": 0.0 if first else args.data_overlap_ratio,
        "slice_pad_end": True if first else args.data_pad_end,
    }


def decoding(args: Settings) -> dict[str, Any]:
    """How files are read, as arguments of the loader.  [train_specgan.py:106-122]"""
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


def decode(fps: list[str], args: Settings, **kwargs: Any) -> tf.data.Dataset:
    """Batches of waveforms [b, 16384, 1]."""
    dataset = loader.decode_extract_and_batch(
        fps, **decoding(args), **slicing(args), **kwargs
    )
    return dataset.map(lambda x: x[:, :, 0])


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """Raise the `InputError` inside an error of a dataset."""
    try:
        yield
    except tf.errors.OpError as e:
        raise loader.input_error(e) or e from None


def read_real(args: Settings) -> np.ndarray:
    """Real clips to compare with, float32 [n, 16384], cut as a training cuts them."""
    fps = find_files(args)
    random.Random(0).shuffle(fps)
    slices = loader.decode_and_extract(
        fps, **decoding(args), **slicing(args), seed=args.seed or 0
    )
    clips = [x[:, 0, 0] for x in itertools.islice(slices, args.score_real_n)]
    if not clips:
        raise InputError(loader.no_slices(len(fps), args.data_slice_len))
    real = np.zeros([len(clips), args.data_slice_len], np.float32)
    for row, clip in zip(real, clips, strict=True):
        row[: len(clip)] = clip
    return real


def compute_sums(
    fps: list[str], args: Settings, lengths: np.ndarray | None = None
) -> moments.Sums:
    """The sums over all slices, as `moments.merge` returns them.

    Args:
      lengths: int64 [len(fps)]; `loader.decode_and_extract` fills it in.

    [train_specgan.py:575-610]
    """

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
    how = args.specgan_log_eps, args.specgan_pad_front, args.data_slice_len
    return moments.merge(moments.sums_of_one(x, *how) for x in shown(slices))


def compute_moments(
    fps: list[str], args: Settings, lengths: np.ndarray | None = None
) -> moments.Moments:
    """The moments of all slices; `lengths` is as in `compute_sums`."""
    sums = compute_sums(fps, args, lengths)
    found, n = moments.whole(sums, args.specgan_moments, analysis(args))
    if not n:
        raise InputError(loader.no_slices(len(fps), args.data_slice_len))
    moments.check(found.mean, found.std, "moments of these files")
    log.info("Moments of %s", counted(n, args))
    return found


def counted(n: int, args: Settings) -> str:
    """The number of slices, from the moments' count, which is of 16384 samples each.

    Shards do not record the length of slices, so `merge` takes it from the flag.
    """
    slices = n * spectral.SLICE_LEN // args.data_slice_len
    return f"{slices} slices of {args.data_slice_len} samples"


def training_moments(
    fps: list[str], args: Settings, lengths: np.ndarray
) -> moments.Moments:
    """The folder's moments, the given ones, those of --train_from, or new ones.

    The folder keeps a copy.
    """
    own = os.path.join(args.train_dir, "moments.pkl")
    prefix = folders.latest(args.train_dir)
    begun_with = args.train_from if not (prefix or args.data_moments_fp) else None
    if begun_with:
        found = load_moments(begun_with, args)
    elif os.path.isfile(own) or args.data_moments_fp or prefix:
        found = load_moments(args.train_dir, args)
        recorded = folders.read_args(args.train_dir).get("data_dir", "None")
        if prefix and recorded != str(args.data_dir and os.path.abspath(args.data_dir)):
            log.info(
                "The data changed (before: %s); the moments stay as they are", recorded
            )
    else:
        found = compute_moments(fps, args, lengths)
    if not os.path.isfile(own):
        moments.save(own, *found)
    elif begun_with and not found.equals(moments.load(own)):
        raise InputError(
            f"{own} already exists and differs from the moments of {begun_with}: pass "
            f"--data_moments_fp {own} to use it, or remove it"
        )
    elif not found.equals(moments.load(own)):
        raise InputError(
            f"{args.data_moments_fp} differs from {own}, which this training uses; "
            "leave --data_moments_fp out, or use another train_dir"
        )
    return found


def run_moments(args: Settings) -> None:
    """[train_specgan.py:572-613]"""
    fp = args.data_moments_fp or os.path.join(args.train_dir, "moments.pkl")
    if args.shard:
        fp = os.path.join(args.train_dir, "moments-{}-of-{}.pkl".format(*args.shard))
    if os.path.exists(fp) and not args.overwrite:
        raise InputError(f"{fp} exists; --overwrite replaces it")
    fps = find_files(args)
    with making_dirs(args):
        if args.shard:
            i, n = args.shard
            sums = compute_sums(fps[i - 1 :: n], args)
            shards.save(fp, *sums, *analysis(args).values())
        else:
            moments.save(fp, *compute_moments(fps, args))
    log.info("Wrote %s", fp)


def run_merge(args: Settings) -> None:
    """Combine the shards of `moments --shard I/N` into moments.pkl."""
    require_folder(args.train_dir, "train_dir ")
    fp = args.data_moments_fp or os.path.join(args.train_dir, "moments.pkl")
    if os.path.exists(fp) and not args.overwrite:
        raise InputError(f"{fp} exists; --overwrite replaces it")
    found, n = shards.merge(args.train_dir, args.specgan_moments)
    moments.require_analysis(found, analysis(args), f"what {args.train_dir} holds")
    moments.save(fp, *found)
    log.info("Moments of %s. Wrote %s", counted(n, args), fp)
