"""Save and resume, in the reference's own format.

A checkpoint is what `tf.train.Saver` wrote in 2018: tensors by TF 1 name in
`model.ckpt-STEP.{index,data-00000-of-00001}`. A text file `checkpoint` lists the
checkpoints of a folder. The networks' variables have those names already (see
specgan.py); an optimizer's slots are named after the variable: `<var>/Adam`,
`<var>/Adam_1`, `<var>/RMSProp`, ...
[train_specgan.py:273-283]
"""

import logging
import os
import re

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import tf1
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import UPSAMPLE_ALIASES, UPSAMPLES, SpecGANGenerator
from specgan_tf.weights import bundled, folders, tensors
from specgan_tf.weights.tensors import (
    D_ITERATIONS,
    DATA,
    LOSS,
    SEED_STATE,
    Checkpoint,
)

KEEP = 5  # newest checkpoints; tf.train.Saver's default

log = logging.getLogger("specgan_tf")


def step_of(path: StrPath) -> int:
    """Updates of G when a checkpoint, or a generator in one file, was written."""
    if bundled.find(path):
        return bundled.read_card(path)["step"]
    return Checkpoint.open(path).step


def load_generator(
    path: StrPath | None = None, upsample: str | None = None, average: bool = True
) -> SpecGANGenerator:
    """Load a trained generator.

    Args:
      path: a training folder or the prefix of a checkpoint, written by this package or
        by the original; a generator in one file (.npz); the name of a bundled model,
        "drums" or "digits"; None for the default one, "drums".
      upsample: "nn", "lin" or "cub", which a checkpoint alone cannot tell apart; None
        takes the value in the folder's args.txt.
      average: use the moving average of the weights where the checkpoint has one
        (--train_ema, `ema_momentum`); False uses the weights themselves.

    Returns:
      `SpecGANGenerator` with the checkpoint's weights.

    Raises:
      InputError: no checkpoint there, or none of a SpecGAN; `upsample` is needed and
        neither given nor recorded.
    """
    if bundled.find(path):
        return bundled.load(path).G
    ckpt = Checkpoint.open(folders.require(path))
    args = folders.read_args(os.path.dirname(ckpt.prefix))
    upsample = upsample or args.get("specgan_genr_upsample")
    options = {"upsample": upsample, **ckpt.options}
    if options["upsample"] not in {*UPSAMPLES, *UPSAMPLE_ALIASES}:
        raise InputError(
            f"{ckpt.prefix} has upsample nn, lin or cub, and nothing says which: "
            "pass --specgan_genr_upsample"
        )
    G = SpecGANGenerator(**options)
    ckpt.assign(_averages(G) if average and ckpt.has_average else _named(G))
    return G


def save(
    gan: keras.Model,
    train_dir: StrPath,
    data: dict[str, np.ndarray] | None = None,
    keep: int = KEEP,
    moments: tuple | None = None,
) -> str:
    """Write a checkpoint of a compiled `SpecGAN`, and remove old ones.

    `restore` reads it. With moments beside it, so do generate and export.py. A crash
    at any point leaves the previous checkpoint the latest.

    Args:
      gan: a compiled `SpecGAN`.
      train_dir: the folder, which is made if need be.
      data: the data position, arrays by name: `Checkpoint.data` returns it.
      keep: how many checkpoints stay, the newest. Only those that the folder's list
        names count, and are removed.
      moments: `moments.Moments` of the spectrograms, or (mean, std) alone, to write
        to moments.pkl in the folder.

    Returns:
      The prefix of the checkpoint.

    Raises:
      InputError: `gan` is not compiled, or the folder has other moments.
      TypeError: the format cannot hold these optimizers.
      FloatingPointError: a variable holds NaN or infinity. Nothing is written.
      OSError: the checkpoint cannot be written. The earlier ones stay as they were.
    """
    _require_compiled(gan)
    tensors.check_name(train_dir)
    prefix = os.path.join(train_dir, f"model.ckpt-{gan.global_step}")
    for v in [*gan.G.variables, *gan.D.variables, *_averages(gan.G_ema).values()]:
        if not np.isfinite(v.numpy()).all():
            raise FloatingPointError(f"{v.path} is not finite")
    data = {DATA + name: np.asarray(v) for name, v in (data or {}).items()}
    values = _values(gan) | data
    os.makedirs(train_dir, exist_ok=True)
    if moments is not None:
        folders.save_moments(train_dir, moments)
    _write(prefix, values)
    # As tf.train.Saver does: what the list does not name is somebody's, and stays.
    kept = [p for p in folders.named_in_list(train_dir) if p != prefix] + [prefix]
    folders.write_list(train_dir, [os.path.basename(p) for p in kept[-keep:]])
    for old in kept[:-keep]:
        folders.remove(old)
    return prefix


def to_tf1(prefix: StrPath, out_dir: StrPath) -> str:
    """Copy a checkpoint to a folder, in a form that the original can continue.

    The copy holds what the original's Saver would have written, and nothing else:
    weights, slots, beta powers, global_step.

    Returns:
      The prefix of the copy.

    Raises:
      InputError: the checkpoint has no slots of optimizers: nothing can continue it.
    """
    ckpt = Checkpoint.open(prefix)
    names = ckpt.of_original
    if not any(re.fullmatch(r"D/.*/(Adam|RMSProp)", name) for name in names):
        raise InputError(f"{prefix} holds no optimizers: it cannot be continued")
    new = os.path.join(out_dir, f"model.ckpt-{ckpt.step}")
    _write(new, {name: ckpt[name] for name in sorted(names)})
    folders.write_list(out_dir, [os.path.basename(new)])
    return new


def _write(prefix, values):
    """Write a checkpoint; `values` are named."""
    named = {name: tf.convert_to_tensor(v) for name, v in values.items()}
    try:
        tf.raw_ops.SaveV2(  # writes under temporary names and renames, the index last
            prefix=prefix,
            tensor_names=list(named),
            shape_and_slices=[""] * len(named),
            tensors=list(named.values()),
        )
    except tf.errors.OpError as e:  # disk full, no permission
        folders.remove_unfinished(os.path.dirname(prefix))
        reason = tensors.first_line(e).rpartition("; ")[2]
        raise OSError(f"could not write {prefix}: {reason}") from None
    # SaveV2 does not sync: after a power failure the list could name an empty file.
    for fp in [*tensors.shards(prefix), f"{prefix}.index"]:
        with open(fp, "rb") as f:
            os.fsync(f.fileno())


def restore(gan: keras.Model, path: StrPath) -> str:
    """Restore a training from a checkpoint of `save`, or of the original's Saver.

    Every variable of the model is restored. A warning names the tensors that the model
    has no use for, because the training would lose them. If the checkpoint holds no
    average of G's weights (`ema_momentum`), the average starts from the weights.

    Args:
      gan: a compiled `SpecGAN` with the networks and the loss of the checkpoint.
      path: the folder that `save` was given, to restore its newest checkpoint, or the
        prefix that `save` returned.

    Returns:
      The prefix of the checkpoint.

    Raises:
      InputError: no checkpoint there; it lacks a variable, or has one of another shape;
        `gan` is not compiled.
    """
    _require_compiled(gan)
    ckpt = Checkpoint.open(folders.require(path))
    named = _named(gan.G) | _named(gan.D)
    for optimizer, net in _optimizers(gan):
        named |= slots(optimizer, net)
    if gan.G_ema is not None and ckpt.has_average:
        named |= _averages(gan.G_ema)
    ckpt.assign(named)
    names = ckpt.of_original - set(_values(gan))
    if gan.G_ema is not None and not ckpt.has_average:
        gan.average.reset(gan.G)
        log.info(
            "The moving average of G's weights starts from those of %s", ckpt.prefix
        )
    if gan.G_ema is None and ckpt.has_average:
        log.warning(
            "%s holds a moving average of G's weights, which is dropped: to keep it, "
            "pass --train_ema (ema_momentum in compile)",
            ckpt.prefix,
        )
        names -= _averages(gan.G).keys()
    if names:
        some = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
        log.warning("Not restored from %s (%d): %s", ckpt.prefix, len(names), some)

    gan.G_optimizer.iterations.assign(ckpt.step)
    # The original counts no updates of D, and its beta powers underflow after some
    # hundred updates. But D's count follows from G's.
    D_step = ckpt.step * gan.disc_nupdates
    if D_ITERATIONS in ckpt:
        D_step = int(ckpt[D_ITERATIONS])
    gan.D_optimizer.iterations.assign(D_step)
    if SEED_STATE in ckpt:
        gan.seed_generator.state.assign(ckpt[SEED_STATE])
    return ckpt.prefix


def begin(gan: keras.Model, path: StrPath) -> list[str]:
    """Start the networks of a new training from the weights of another.

    Copies G's weights, and D's if the source has them (an .npz has none). Optimizers
    and step stay as they are. Variables of other shapes keep their values: between
    slice lengths these are the dense layers'.

    Args:
      gan: a compiled `SpecGAN`.
      path: as in `load_generator`. Of a training the weights themselves are taken, not
        their moving average: D was trained against those.

    Returns:
      The names of the variables that start anew.

    Raises:
      InputError: `path` holds no generator, or one with other options than gan's.
    """
    _require_compiled(gan)
    named = _named(gan.G) | _named(gan.D)
    if file := bundled.find(path):
        theirs = _named(bundled.load(file).G)
        shapes = {name: tuple(v.shape) for name, v in theirs.items()}
    else:
        ckpt = Checkpoint.open(folders.require(path))
        shapes = {name: tuple(shape) for name, shape in ckpt.shapes.items()}
    same = {n: v for n, v in named.items() if shapes.get(n) == tuple(v.shape)}
    if "G/upconv_0" not in {
        name.rpartition("/")[0].rpartition("/")[0] for name in same
    }:
        raise InputError(
            f"{path} holds a generator with a different kernel length, width or "
            "upsampling; leave those flags out, or use another --train_from"
        )
    if file:
        for name, v in same.items():
            v.assign(theirs[name])
    else:
        ckpt.assign(same)
    if gan.average:
        gan.average.reset(gan.G)
    return [name for name in named if name not in same]


def _require_compiled(gan):
    if not gan.compiled:
        raise InputError("compile the SpecGAN first: a checkpoint holds its optimizers")


def _named(net):
    """Name in a checkpoint -> variable."""
    return {v.path: v for v in net.variables}


def _averages(net):
    """Name in a checkpoint -> variable of a network of averages; {} for None."""
    name = tf1.ExponentialMovingAverage.average_name
    return {name(v.path): v for v in net.variables} if net else {}


def _optimizers(gan):
    return (gan.G_optimizer, gan.G), (gan.D_optimizer, gan.D)


def slots(
    optimizer: keras.optimizers.Optimizer, net: keras.Model
) -> dict[str, keras.Variable]:
    """TF 1 name -> slot of an optimizer that trains `net`.

    Raises:
      TypeError: the format does not hold slots of such an optimizer.
    """
    if isinstance(optimizer, tf1.Adam):
        slots = {"Adam": optimizer._momentums, "Adam_1": optimizer._velocities}
    elif isinstance(optimizer, tf1.RMSProp):
        slots = {"RMSProp": optimizer._velocities}
    else:
        raise TypeError(
            "only tf1.Adam and tf1.RMSProp have slots in a TF 1 checkpoint; gan.save "
            "writes a .keras file with any optimizer. "
            f"Received: {type(optimizer).__name__}"
        )
    return {
        f"{v.path}/{slot}": value
        for slot, values in slots.items()
        for v, value in zip(net.trainable_variables, values, strict=True)
    }


def _values(gan):
    """Name -> value of all that `save` writes of a training, but the data position."""
    named = _named(gan.G) | _named(gan.D) | _averages(gan.G_ema)
    for (optimizer, net), suffix in zip(_optimizers(gan), ("", "_1"), strict=True):
        named |= slots(optimizer, net)
        if isinstance(optimizer, tf1.Adam):
            power = optimizer.iterations.numpy() + 1.0
            for i, beta in ((1, optimizer.beta_1), (2, optimizer.beta_2)):
                named[f"beta{i}_power{suffix}"] = np.float32(beta**power)
        else:  # momentum is 0, so this slot is multiplied by 0 before use
            for v in net.trainable_variables:
                named[f"{v.path}/RMSProp_1"] = np.zeros(v.shape, np.float32)
    named["global_step"] = np.int64(gan.global_step)
    named[D_ITERATIONS] = np.int64(gan.D_optimizer.iterations.numpy())
    named[SEED_STATE] = gan.seed_generator.state
    if gan.loss_spec not in LOSSES.values():
        named[LOSS] = gan.loss_name
    return named
