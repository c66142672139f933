"""Moments computed in parts, on several machines: a file for each part."""

import os
import re

import numpy as np

from specgan_tf import moments, spectral
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.pickles import write_pickle


def save(
    fp: StrPath, count: int, mean: np.ndarray, m2: np.ndarray, top: np.ndarray, *options
) -> None:
    """Write the sums of one shard, for `merge`.

    Args:
      count, mean, m2, top: as `moments.merge` returns them.
      options: values as in `moments.Moments.analysis`.
    """
    arrays = np.array([count], np.float64), mean, m2, top
    write_pickle(fp, arrays + moments.recorded(*options))


def merge(folder: StrPath, scale: str = "std") -> tuple[moments.Moments, int]:
    """Merge the shards in a folder: `moments-I-of-N.pkl`.

    Args:
      scale: one of `moments.SCALES`, as in `moments.whole`.

    Returns:
      (`Moments`, number of slices), as computed from all the data at once.

    Raises:
      InputError: shards are missing, damaged, or differ in N or in options.
    """
    found = {}
    for name in sorted(os.listdir(folder)):
        if numbers := re.fullmatch(r"moments-(\d+)-of-(\d+)\.pkl", name):
            found[tuple(map(int, numbers.groups()))] = os.path.join(folder, name)
    shards = {n for _, n in found}
    if len(shards) != 1:
        what = f"shards of {sorted(shards)}" if shards else "no moments-I-of-N.pkl"
        raise InputError(
            f"{folder} holds {what}: make all shards with one N (--shard I/N), and "
            "remove others"
        )
    missing = set(range(1, shards.pop() + 1)) - {i for i, _ in found}
    if missing:
        raise InputError(f"{folder} lacks shard {', '.join(map(str, sorted(missing)))}")
    loaded = [_load(fp) for fp in found.values()]
    analysis = loaded[0][1]
    for fp, (_, other) in zip(found.values(), loaded, strict=True):
        if other != analysis:
            raise InputError(
                f"{fp} was computed with {other}, another shard with {analysis}: "
                "compute all shards with the same options"
            )
    return moments.whole(moments.merge(sums for sums, _ in loaded), scale, analysis)


def _load(fp):
    """Read a shard: ((count, mean, m2, top), analysis)."""
    arrays, analysis = moments.read_arrays(fp)
    shapes = [np.shape(a) for a in arrays]
    if shapes != [(1,), *[(spectral.NBINS,)] * 3]:
        raise InputError(f"{fp} is not a shard of moments")
    (count,), *sums = arrays
    if not (0 <= count < 2**53 and np.isfinite(sums).all() and (sums[1] >= 0).all()):
        raise InputError(f"{fp} is not a shard of moments")
    return (int(count), *sums), analysis
