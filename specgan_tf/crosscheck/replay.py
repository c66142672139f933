"""Run every check of every record."""

import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator

from specgan_tf.crosscheck.derivative import derivative
from specgan_tf.crosscheck.records import Check, Record
from specgan_tf.crosscheck.stages import (
    analysis,
    data_moments,
    discriminator,
    generator,
    image,
    inference,
    initial,
    names,
    resampling,
    slices,
    synthesis,
)
from specgan_tf.crosscheck.training import draws, optimizer, saved, training
from specgan_tf.errors import InputError

STAGES = {
    "model": (names, generator, discriminator),
    "init": (initial,),
    "spectral": (analysis, synthesis, image),
    "infer": (inference,),
    "data": (slices, data_moments, resampling),
    "optimizer": (optimizer,),
    "train": (draws, training, saved),
    "derivative": (derivative,),
}


def run(records: Iterable[Record]) -> Iterator[Check]:
    """Yield the checks of all records, one by one."""
    for record in records:
        if record.kind not in STAGES:
            raise InputError(
                f"{record.path} has kind {record.kind}, not one of {', '.join(STAGES)}"
            )
        for stage in STAGES[record.kind]:
            for check in stage(record):
                yield dataclasses.replace(check, record=record.name)


def load(folder: str) -> Iterator[Record]:
    """Read the records in a folder one at a time, in the order of STAGES."""
    if not os.path.isdir(folder):
        raise InputError(
            f"no goldens at {folder}: they come with a clone of the repository. Name "
            "their folder with --goldens, or compare with the reference itself: "
            "--original CHECKOUT --python PYTHON_WITH_TF1"
        )
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "*.npz")))
    if not paths:
        raise InputError(f"{folder} holds no records (*.npz)")
    kinds = list(STAGES)

    def order(path):
        kind = os.path.basename(path).removesuffix(".npz").partition("_")[0]
        return kinds.index(kind) if kind in kinds else len(kinds)

    return map(Record.read, sorted(paths, key=order))
