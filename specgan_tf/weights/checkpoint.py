"""Save and resume, in the reference's own format.

A checkpoint is what `tf.train.Saver` wrote in 2018: tensors by TF 1 name in
`model.ckpt-STEP.{index,data-00000-of-00001}`, and a text file `checkpoint` that lists
them. The networks' variables have those names already (see specgan.py); an optimizer's
slots are named after the variable: `<var>/Adam`, `<var>/Adam_1`, `<var>/RMSProp`, ...
[train_specgan.py:273-283]
"""

import logging
import os
import re

import keras
import numpy as np
import tensorflow as tf

from specgan_tf import tf1
from specgan_tf.files import InputError, StrPath
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import (
    UPSAMPLE_ALIASES,
    UPSAMPLES,
    SpecGANGenerator,
    generator_options,
    is_wavegan,
)
from specgan_tf.weights import bundled, folders, tensors

KEEP = 5  # checkpoints; tf.train.Saver's default

log = logging.getLogger("specgan_tf")


def step_of(prefix: StrPath) -> int:
    """Updates of G when the checkpoint was written (0 if it does not say)."""
    if bundled.find(prefix):
        return bundled.read_card(prefix)["step"]
    ckpt = tensors.reader(prefix)
    return (
        int(tensors.read(ckpt, "global_step", prefix))
        if ckpt.has_tensor("global_step")
        else 0
    )


def options_of(prefix: StrPath) -> dict:
    """The generator's options, as `specgan.generator_options` has them."""
    shapes = tensors.reader(prefix).get_variable_to_shape_map()
    options = generator_options(shapes)
    if options is None and is_wavegan(shapes):
        raise InputError(
            f"{prefix} holds a WaveGAN, which makes waveforms without spectrograms. "
            "This program reads SpecGAN checkpoints only"
        )
    if options is None:
        raise InputError(f"{prefix} holds no SpecGAN generator")
    return options


def loss_of(prefix: StrPath) -> str | None:
    """The loss a checkpoint was trained with, as far as its tensors tell; or None.

    A `losses.Loss` of one's own is recorded. RMSProp's slots are of lsgan, or of
    wgan if all of D lies within the clip. Adam's are of dcgan or wgan-gp, by the power
    to which G's beta2 was raised.
    """
    ckpt = tensors.reader(prefix)
    shapes = ckpt.get_variable_to_shape_map()
    if LOSS in shapes:
        return tensors.read(ckpt, LOSS, prefix).decode()
    step = step_of(prefix)
    if "D/output/dense/kernel/RMSProp" in shapes and step > 0:
        bound = np.float32(LOSSES["wgan"].clip)
        D = [n for n in shapes if re.fullmatch(r"D/.*/(kernel|bias|gamma|beta)", n)]
        largest = max(np.abs(tensors.read(ckpt, name, prefix)).max() for name in D)
        return "wgan" if largest <= bound else "lsgan"
    if "beta2_power" in shapes:
        power = float(tensors.read(ckpt, "beta2_power", prefix))
        for loss in ("dcgan", "wgan-gp"):
            expected = LOSSES[loss].optimizer().beta_2 ** (step + 1)
            # After some hundred updates a power is too small for a float32.
            if expected > 1e-30 and abs(power / expected - 1) < 0.01:
                return loss
        if power < 1e-30 and step < 50_000:  # 0.999 ** 50000 is 2e-22
            return "wgan-gp"
    return None


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
    prefix = folders.require(path)
    recorded = folders.read_args(os.path.dirname(prefix)).get("specgan_genr_upsample")
    options = {"upsample": upsample or recorded, **options_of(prefix)}
    if options["upsample"] not in {*UPSAMPLES, *UPSAMPLE_ALIASES}:
        raise InputError(
            f"{prefix} has upsample nn, lin or cub, and nothing says which: "
            "pass --specgan_genr_upsample"
        )
    G = SpecGANGenerator(**options)
    _assign(_averages(G) if average and _has_average(prefix) else _named(G), prefix)
    return G


def save(
    gan: keras.Model,
    train_dir: StrPath,
    data: dict[str, np.ndarray] | None = None,
    keep: int = KEEP,
    moments: tuple | None = None,
) -> str:
    """Write a checkpoint of a compiled `SpecGAN`, keep the newest; its prefix.

    `restore` reads it, and with moments beside it so do generate and export.py. A crash
    at any point leaves the previous checkpoint the latest.

    Args:
      train_dir: the folder, a new one or that of earlier checkpoints.
      data: where the training is in its data: arrays by name, for `data_of`.
      keep: how many of those that its list names stay.
      moments: `moments.Moments` of the spectrograms, or (mean, std) alone, for
        moments.pkl in the folder.

    Raises:
      InputError: a gan that is not compiled, or other moments in the folder.
      TypeError: optimizers of which the format knows nothing.
      FloatingPointError: NaN or infinity in a variable: nothing is written.
      OSError: it cannot be written; the earlier ones are as they were.
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
    # As tf.train.Saver: what the list does not name is somebody's, and stays.
    kept = [p for p in folders.named_in_list(train_dir) if p != prefix] + [prefix]
    folders.write_list(train_dir, [os.path.basename(p) for p in kept[-keep:]])
    for old in kept[:-keep]:
        folders.remove(old)
    return prefix


def data_of(prefix: StrPath) -> dict[str, np.ndarray]:
    """What `save` was told of the data: arrays by name; {} if nothing."""
    ckpt = tensors.reader(prefix)
    names = [n for n in ckpt.get_variable_to_shape_map() if n.startswith(DATA)]
    return {n.removeprefix(DATA): tensors.read(ckpt, n, prefix) for n in names}


def to_tf1(prefix: StrPath, out_dir: StrPath) -> str:
    """Write a checkpoint of a training into a folder, for the original to continue.

    It holds what the original's Saver would have written, and nothing else: weights,
    slots, beta powers, global_step. Returns its prefix.

    Raises:
      InputError: the checkpoint has no optimizer's slots: it cannot be continued.
    """
    ckpt = tensors.reader(prefix)
    names = {n for n in ckpt.get_variable_to_shape_map() if not _is_ours(n)}
    if not any(re.fullmatch(r"D/.*/(Adam|RMSProp)", name) for name in names):
        raise InputError(f"{prefix} holds no optimizers: nothing there to continue")
    new = os.path.join(out_dir, f"model.ckpt-{step_of(prefix)}")
    _write(new, {name: tensors.read(ckpt, name, prefix) for name in sorted(names)})
    folders.write_list(out_dir, [os.path.basename(new)])
    return new


def _write(prefix, values):
    """A checkpoint of these values, by name."""
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
    # SaveV2 does not: after a loss of power the list could name what never came to be.
    for fp in [*tensors.shards(prefix), f"{prefix}.index"]:
        with open(fp, "rb") as f:
            os.fsync(f.fileno())


def restore(gan: keras.Model, path: StrPath) -> str:
    """Restore all that `save` wrote, or all that the original's Saver wrote.

    Every variable of the model is restored. What else the checkpoint holds, and this
    training therefore would lose, is named in a warning. An average of G's weights
    (`ema_momentum`) that the checkpoint does not hold starts from the weights restored.

    Args:
      gan: a compiled `SpecGAN` with the networks and the loss of the checkpoint.
      path: the folder that `save` was given, whose newest is taken, or the prefix that
        `save` returned.

    Returns:
      The prefix of the checkpoint.

    Raises:
      InputError: no checkpoint there; a variable missing from it, or of another shape;
        a gan that is not compiled.
    """
    _require_compiled(gan)
    prefix = folders.require(path)
    ckpt = tensors.reader(prefix)
    named = _named(gan.G) | _named(gan.D)
    for optimizer, net in _optimizers(gan):
        named |= slots(optimizer, net)
    averaged = _has_average(prefix)
    if gan.G_ema is not None and averaged:
        named |= _averages(gan.G_ema)
    _assign(named, prefix)
    if gan.G_ema is not None and not averaged:
        gan.average.reset(gan.G)
        log.info("The moving average of G's weights starts from those of %s", prefix)
    names = {n for n in ckpt.get_variable_to_shape_map() if not _is_ours(n)}
    if gan.G_ema is None and averaged:
        log.warning(
            "%s holds a moving average of G's weights, which is dropped: go on with it "
            "by --train_ema (ema_momentum in compile)",
            prefix,
        )
        names -= _averages(gan.G).keys()
    left = sorted(names - set(_values(gan)))
    if left:
        names = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        log.warning("Not restored from %s (%d): %s", prefix, len(left), names)

    step = step_of(prefix)
    gan.G_optimizer.iterations.assign(step)
    # The original has no such counts. Its beta powers underflow after some hundred
    # updates, but D's count follows from G's.
    D_step = step * gan.disc_nupdates
    if ckpt.has_tensor(D_ITERATIONS):
        D_step = int(tensors.read(ckpt, D_ITERATIONS, prefix))
    gan.D_optimizer.iterations.assign(D_step)
    if ckpt.has_tensor(SEED_STATE):
        gan.seed_generator.state.assign(tensors.read(ckpt, SEED_STATE, prefix))
    return prefix


def _require_compiled(gan):
    if not gan.compiled:
        raise InputError("compile the SpecGAN first: a checkpoint holds its optimizers")


# Ours: the original neither has nor misses them.
D_ITERATIONS, SEED_STATE, LOSS = "D_iterations", "seed_generator/state", "loss"
DATA = "data/"  # what begins so


def _is_ours(name):
    return name in (D_ITERATIONS, SEED_STATE, LOSS) or name.startswith(DATA)


def _named(net):
    """Name in a checkpoint -> variable."""
    return {v.path: v for v in net.variables}


def _averages(net):
    """Name in a checkpoint -> variable, of a network of averages; {} of None."""
    name = tf1.ExponentialMovingAverage.average_name
    return {name(v.path): v for v in net.variables} if net else {}


def _has_average(prefix):
    """Whether a checkpoint holds an average of the generator's weights."""
    name = tf1.ExponentialMovingAverage.average_name("G/z_project/dense/kernel")
    return tensors.reader(prefix).has_tensor(name)


def _optimizers(gan):
    return (gan.G_optimizer, gan.G), (gan.D_optimizer, gan.D)


def slots(optimizer, net):
    """TF 1 name -> variable of an optimizer's slots."""
    if isinstance(optimizer, tf1.Adam):
        slots = {"Adam": optimizer._momentums, "Adam_1": optimizer._velocities}
    elif isinstance(optimizer, tf1.RMSProp):
        slots = {"RMSProp": optimizer._velocities}
    else:
        raise TypeError(
            "only tf1.Adam and tf1.RMSProp have a TF 1 checkpoint; gan.save writes a "
            f".keras file of any. Received: {type(optimizer).__name__}"
        )
    return {
        f"{v.path}/{slot}": value
        for slot, values in slots.items()
        for v, value in zip(net.trainable_variables, values, strict=True)
    }


def _values(gan):
    """TF 1 name -> value: all that the original's Saver saves, averages, and ours."""
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


def _assign(named, prefix):
    """Every variable of `named` from the checkpoint, all checked before any is set."""
    ckpt = tensors.reader(prefix)
    shapes = ckpt.get_variable_to_shape_map()
    missing = [name for name in named if name not in shapes]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{prefix} lacks {missing[0]}{more}: it was trained with other options, or "
            "another loss"
        )
    for name, v in named.items():
        if tuple(shapes[name]) != tuple(v.shape):
            raise InputError(
                f"{prefix}: {name} has shape {tuple(shapes[name])}, this model's has "
                f"{tuple(v.shape)}"
            )
    values = {name: tensors.read(ckpt, name, prefix) for name in named}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"{prefix}: {name} is not finite, the training had diverged; remove "
                "this checkpoint to take the one before it"
            )
    for name, v in named.items():
        v.assign(values[name])
