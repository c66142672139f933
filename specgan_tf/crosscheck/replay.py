"""Every check of every record."""

import dataclasses
import glob
import os

import numpy as np

from specgan_tf.crosscheck.derivative import derivative
from specgan_tf.crosscheck.records import Record
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
from specgan_tf.files import InputError

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


TRIES, NUDGED = 8, ("model", "train")


def nudged(r, number):
    """The record, what goes into its networks moved by one rounding, up or down.

    Where a pre-activation is within rounding of zero, the slope of the lrelu or relu is
    a toss of a coin, in the reference as here, and every gradient before it follows. An
    error of ours stays when that coin is tossed again; a toss does not.
    """
    if number == 0:
        return r
    rs, moved = np.random.RandomState(number), Record(r, r.path)
    for key in [k for k in ("mean", "x", "z") if k in r]:
        towards = rs.choice([-np.inf, np.inf], r[key].shape)
        moved[key] = np.nextafter(r[key], towards.astype(r[key].dtype))
    return moved


def run(records, tries=TRIES):
    """Every check of every record, as it is made.

    A stage of which a check fails is tried again, up to `tries` in all, each time
    `nudged` otherwise. The first try without a failure counts; if there is none, the
    first.
    """
    for record in records:
        if record.kind not in STAGES:
            raise InputError(
                f"{record.path} is of kind {record.kind}, not {', '.join(STAGES)}"
            )
        for stage in STAGES[record.kind]:
            first = None
            for number in range(tries if record.kind in NUDGED else 1):
                checks = list(stage(nudged(record, number)))
                if all(c.verdict != "FAIL" for c in checks):
                    break
                first = first or checks
            else:
                checks, number = first, 0
            for check in checks:
                yield dataclasses.replace(check, record=record.name, nudges=number)


def load(folder):
    """The records in a folder, in the order of the stages, one at a time."""
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
