"""Save and resume, in the reference's own format.

A checkpoint is what `tf.train.Saver` wrote in 2018: tensors by TF 1 name in
`model.ckpt-STEP.{index,data-00000-of-00001}`, and a text file `checkpoint` that lists
them. The networks' variables have those names already (see specgan.py); an optimizer's
slots are named after the variable: `<var>/Adam`, `<var>/Adam_1`, `<var>/RMSProp`, ...
[train_specgan.py:273-283]
"""

import contextlib
import errno
import functools
import glob
import json
import logging
import math
import os
import re
import shutil

import numpy as np
import tensorflow as tf

from specgan_tf import box, moments, tf1
from specgan_tf.files import InputError, replacing
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import (
    UPSAMPLE_ALIASES,
    UPSAMPLES,
    SpecGANGenerator,
    generator_options,
    is_wavegan,
)

# What TensorFlow's reader raises for a damaged file depends on where the damage is.
READ_ERRORS = tf.errors.OpError, ValueError, IndexError, RuntimeError, MemoryError
KEEP = 5  # checkpoints; tf.train.Saver's default

log = logging.getLogger("specgan_tf")


def folder_of(path):
    """The training folder: `path`, or where it lies if it is a checkpoint's prefix (or
    a generator's .npz)."""
    path = os.fspath(path)
    if box.is_one(path) or os.path.isfile(path.removesuffix(".index") + ".index"):
        return os.path.dirname(path) or "."
    return path


def latest(path):
    """The prefix of a checkpoint: a folder's newest, or `path` itself if it is one.

    None where a folder holds none. A damaged one is said, and the one before it taken:
    in a folder, every tensor is held against its checksum.

    Raises:
      InputError: `path` is neither a folder nor a checkpoint, or all are damaged.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        first = None
        for prefix in reversed(_listed(path)):
            damage = _damage(prefix, *_stamps(prefix))
            if damage is None:
                return prefix
            if was_deleted(prefix):  # since the folder was listed
                return latest(path)
            first = first or damage
        if first:
            raise InputError(f"{first}; no other in {path} is intact")
        return None
    prefix = path.removesuffix(".index")
    if os.path.isfile(prefix + ".index"):
        return prefix
    if os.path.isfile(path) and path.endswith((".keras", ".h5")):
        raise InputError(
            f"{path} is a Keras model, which holds no moments: in Python, load it "
            "(keras.models.load_model) and save a training folder "
            "(specgan_tf.checkpoint.save(gan, FOLDER, moments=moments))"
        )
    raise InputError(
        f"{path} is neither a training folder nor a checkpoint (a prefix such as "
        "TRAIN_DIR/model.ckpt-1000)"
    )


def require(path):
    """As `latest`, but a folder without a checkpoint is an `InputError`.

    A generator in one file (see box.py) is taken too, and for None the one that comes
    along.
    """
    if box.is_one(path):
        return os.fspath(path or box.PATH)
    prefix = latest(path)
    if prefix is None:
        raise InputError(f"no checkpoint in {path} yet: train first")
    return prefix


def read_latest(path, read, find=require):
    """Return `read(prefix)` for the newest checkpoint of a training.

    A training may delete the checkpoint meanwhile. Then the one that is the newest by
    now is read.

    Args:
      path: as in `require`.
      read: prefix -> anything; it reads all that it needs before it returns.
      find: path -> prefix: `require`, or `latest` where there may be no checkpoint.
    """
    while True:
        prefix = find(path)
        try:
            return read(prefix)
        except (InputError, OSError):
            if not was_deleted(prefix):
                raise
        log.info("%s was deleted while it was read: taking the next", prefix)


def was_deleted(prefix):
    """Whether a checkpoint that was found is gone: its index, which goes first."""
    if prefix is None or box.is_one(prefix):
        return False
    return not os.path.isfile(f"{prefix}.index")


def check_name(path):
    """Refuse names of which TensorFlow writes checkpoints that it cannot read again."""
    if set(os.fspath(path)) & set("*?[]\\"):
        raise InputError(
            f"{path}: TensorFlow takes * ? [ ] \\ for patterns; rename the folder"
        )


def reader(prefix):
    """A `tf.train.CheckpointReader`; damage to the index is an `InputError`."""
    check_name(prefix)
    try:
        ckpt = tf.train.load_checkpoint(prefix)
        dtypes = ckpt.get_variable_to_dtype_map()
        shapes = ckpt.get_variable_to_shape_map()
        claimed = sum(math.prod(s) * dtypes[n].size for n, s in shapes.items())
    except READ_ERRORS as e:
        raise InputError(f"{prefix} is not a readable checkpoint: {_line(e)}") from None
    # An index of some bytes may claim tensors of any size, and reading would make room.
    if claimed > (size := sum(map(os.path.getsize, _shards(prefix)))):
        raise InputError(
            f"{prefix} is damaged: its tensors are of {claimed} bytes, its files hold "
            f"{size}"
        )
    return ckpt


def _shards(prefix):
    return glob.glob(f"{glob.escape(prefix)}.data-?????-of-?????")


def _stamps(prefix):
    """Changes when the files of a checkpoint do."""
    with contextlib.suppress(FileNotFoundError):  # a training may be deleting it
        stats = map(os.stat, [f"{prefix}.index", *_shards(prefix)])
        return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)
    return ()


@functools.lru_cache(maxsize=100)
def _damage(prefix, *stamps):
    """What is wrong with the files of a checkpoint, or None; said once."""
    try:
        ckpt = reader(prefix)
        for name in ckpt.get_variable_to_shape_map():
            _tensor(ckpt, name, prefix)  # TensorFlow compares its CRC-32C
    except InputError as e:
        if not was_deleted(prefix):
            log.warning("%s", e)
        return str(e)
    return None


def step_of(prefix):
    """Updates of G when the checkpoint was written (0 if it does not say)."""
    if box.is_one(prefix):
        return box.read_card(prefix)["step"]
    ckpt = reader(prefix)
    return (
        int(_tensor(ckpt, "global_step", prefix))
        if ckpt.has_tensor("global_step")
        else 0
    )


def options_of(prefix):
    """The generator's options, as `specgan.generator_options` has them."""
    shapes = reader(prefix).get_variable_to_shape_map()
    options = generator_options(shapes)
    if options is None and is_wavegan(shapes):
        raise InputError(
            f"{prefix} holds a WaveGAN, which makes waveforms without spectrograms. "
            "This program reads SpecGAN checkpoints only"
        )
    if options is None:
        raise InputError(f"{prefix} holds no SpecGAN generator")
    return options


def loss_of(prefix):
    """The loss a checkpoint was trained with, as far as its tensors tell; or None.

    A `losses.Loss` of one's own is recorded. RMSProp's slots are of lsgan, or of
    wgan if all of D lies within the clip. Adam's are of dcgan or wgan-gp, by the power
    to which G's beta2 was raised.
    """
    ckpt = reader(prefix)
    shapes = ckpt.get_variable_to_shape_map()
    if LOSS in shapes:
        return _tensor(ckpt, LOSS, prefix).decode()
    step = step_of(prefix)
    if "D/output/dense/kernel/RMSProp" in shapes and step > 0:
        bound = np.float32(LOSSES["wgan"].clip)
        D = [n for n in shapes if re.fullmatch(r"D/.*/(kernel|bias|gamma|beta)", n)]
        largest = max(np.abs(_tensor(ckpt, name, prefix)).max() for name in D)
        return "wgan" if largest <= bound else "lsgan"
    if "beta2_power" in shapes:
        power = float(_tensor(ckpt, "beta2_power", prefix))
        for loss in ("dcgan", "wgan-gp"):
            expected = LOSSES[loss].optimizer().beta_2 ** (step + 1)
            # After some hundred updates a power is too small for a float32.
            if expected > 1e-30 and abs(power / expected - 1) < 0.01:
                return loss
        if power < 1e-30 and step < 50_000:  # 0.999 ** 50000 is 2e-22
            return "wgan-gp"
    return None


def load_generator(path=None, upsample=None, average=True):
    """The generator of a training, alone.

    Everything that generates from a training loads its generator here.

    Args:
      path: a training folder or the prefix of a checkpoint, ours or the original's; a
        generator in one file (.npz), or None for the one that comes along.
      upsample: "nn", "lin" or "cub", which a checkpoint alone cannot tell apart; None
        takes what the folder's args.txt says.
      average: take the moving average of its weights where the checkpoint has one
        (--train_ema, `ema_momentum`); False takes the weights themselves.

    Returns:
      `SpecGANGenerator`, restored.

    Raises:
      InputError: no checkpoint there, not one of a SpecGAN, or no word of `upsample`.
    """
    if box.is_one(path):
        return box.load(path).G
    prefix = require(path)
    recorded = read_args(os.path.dirname(prefix)).get("specgan_genr_upsample")
    options = {"upsample": upsample or recorded, **options_of(prefix)}
    if options["upsample"] not in {*UPSAMPLES, *UPSAMPLE_ALIASES}:
        raise InputError(
            f"{prefix} has upsample nn, lin or cub, and nothing says which: "
            "pass --specgan_genr_upsample"
        )
    G = SpecGANGenerator(**options)
    _assign(_averages(G) if average and _has_average(prefix) else _named(G), prefix)
    return G


def read_args(train_dir):
    """What `args.txt` in a training folder says, name -> text; {} if there is none.

    [train_specgan.py:720-722]
    """
    fp = os.path.join(train_dir, "args.txt")
    if not os.path.isfile(fp):
        return {}
    with open(fp, encoding="utf-8", errors="surrogateescape") as f:
        pairs = (line.rstrip("\n").partition(",") for line in f)
        return {name: _unquoted(value) for name, comma, value in pairs if comma}


def args_line(name, value):
    """The line of `args.txt`, without its end, from which `read_args` reads `value`.

    It is `name,value`. A value that would end the line (a folder's name may hold a
    newline) is written as a JSON string instead.

    differs: the original writes every value as it is.  [train_specgan.py:720-722]
    """
    text = str(value)
    return f"{name},{json.dumps(text) if _needs_quotes(text) else text}"


def _needs_quotes(text):
    return not set(text).isdisjoint("\n\r") or _unquoted(text) != text


def _unquoted(text):
    """The value that `args_line` quoted as `text`; other text as it is."""
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            value = json.loads(text)
            if _needs_quotes(value):
                return value
    return text


def load_moments(path=None, given=None):
    """`Moments` of a training: those `given`, its folder's own, or those it records.

    differs: without --data_moments_fp the original fails.  [train_specgan.py:725-729]

    Args:
      path: as in `load_generator`.
      given: a moments file, or None.
    """
    if given:
        return moments.load(given)
    if box.is_one(path):
        return box.load_moments(path)
    return moments.load(moments_fp(path))


def moments_fp(path):
    """The file that holds a training's moments: the folder's own, or one it records."""
    if box.is_one(path):
        return os.fspath(path or box.PATH)
    folder = folder_of(path)
    own = os.path.join(folder, "moments.pkl")
    recorded = read_args(folder).get("data_moments_fp", "None")
    return own if recorded == "None" or os.path.isfile(own) else recorded


def save(gan, train_dir, data=None, keep=KEEP, moments=None):
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
    check_name(train_dir)
    prefix = os.path.join(train_dir, f"model.ckpt-{gan.global_step}")
    for v in [*gan.G.variables, *gan.D.variables, *_averages(gan.G_ema).values()]:
        if not np.isfinite(v.numpy()).all():
            raise FloatingPointError(f"{v.path} is not finite")
    data = {DATA + name: np.asarray(v) for name, v in (data or {}).items()}
    values = _values(gan) | data
    os.makedirs(train_dir, exist_ok=True)
    if moments is not None:
        _save_moments(train_dir, moments)
    _write(prefix, values)
    # As tf.train.Saver: what the list does not name is somebody's, and stays.
    kept = [p for p in _said(train_dir) if p != prefix] + [prefix]
    _write_list(train_dir, [os.path.basename(p) for p in kept[-keep:]])
    for old in kept[:-keep]:
        remove(old)
    return prefix


def _save_moments(train_dir, given):
    """Write moments.pkl, unless these are there."""
    fp = os.path.join(train_dir, "moments.pkl")
    mean, std, *analysis = given
    given = moments.Moments(np.float32(mean), np.float32(std), *analysis)
    if not os.path.exists(fp):
        moments.save(fp, *given)
    elif not given.equals(moments.load(fp)):
        raise InputError(f"{fp} holds other moments; use another folder")


def back_up(train_dir):
    """Copy the newest checkpoint, and what belongs to it, to TRAIN_DIR/backup.

    It is a training folder itself, whose list names the newest alone: a training that
    goes on in it removes none of the others.

    differs: the original copies with a separate script, which sleeps two seconds in the
    hope that a checkpoint is complete by then.  [backup.py:23-34]
    """
    return copy(require(train_dir), os.path.join(train_dir, "backup"))


def copy(prefix, folder, name=None):
    """Copy a checkpoint, and what belongs to it, to a folder; returns its prefix there.

    The folder's list names it alone.

    Args:
      name: of the copy; its own by default.

    Raises:
      FileNotFoundError: it is gone; a training keeps the newest alone.
    """
    os.makedirs(folder, exist_ok=True)
    new = os.path.join(folder, name or os.path.basename(prefix))
    train_dir = os.path.dirname(prefix)
    for beside in ("args.txt", "moments.pkl"):
        if os.path.isfile(fp := os.path.join(train_dir, beside)):
            _copy_file(fp, os.path.join(folder, beside))
    if not (shards := _shards(prefix)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), prefix)
    for fp in [*shards, f"{prefix}.index"]:  # the index last: then it is whole
        _copy_file(fp, new + fp.removeprefix(prefix))
    _write_list(folder, [os.path.basename(new)])
    return new


def _copy_file(fp, new):
    with open(fp, "rb") as source, replacing(new) as target:
        shutil.copyfileobj(source, target)


def remove(prefix):
    """Remove the files of a checkpoint."""
    files = glob.glob(f"{glob.escape(prefix)}.*")  # `.`: not model.ckpt-660 for -66
    # The index first: see `was_deleted`.
    for fp in sorted(files, key=lambda fp: not fp.endswith(".index")):
        with contextlib.suppress(FileNotFoundError):
            os.remove(fp)


def data_of(prefix):
    """What `save` was told of the data: arrays by name; {} if nothing."""
    ckpt = reader(prefix)
    names = [n for n in ckpt.get_variable_to_shape_map() if n.startswith(DATA)]
    return {n.removeprefix(DATA): _tensor(ckpt, n, prefix) for n in names}


def to_tf1(prefix, out_dir):
    """Write a checkpoint of a training into a folder, for the original to continue.

    It holds what the original's Saver would have written, and nothing else: weights,
    slots, beta powers, global_step. Returns its prefix.

    Raises:
      InputError: the checkpoint has no optimizer's slots: it cannot be continued.
    """
    ckpt = reader(prefix)
    names = {n for n in ckpt.get_variable_to_shape_map() if not _is_ours(n)}
    if not any(re.fullmatch(r"D/.*/(Adam|RMSProp)", name) for name in names):
        raise InputError(f"{prefix} holds no optimizers: nothing there to continue")
    new = os.path.join(out_dir, f"model.ckpt-{step_of(prefix)}")
    _write(new, {name: _tensor(ckpt, name, prefix) for name in sorted(names)})
    _write_list(out_dir, [os.path.basename(new)])
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
        remove_unfinished(os.path.dirname(prefix))
        reason = _line(e).rpartition("; ")[2]
        raise OSError(f"could not write {prefix}: {reason}") from None
    # SaveV2 does not: after a loss of power the list could name what never came to be.
    for fp in [*_shards(prefix), f"{prefix}.index"]:
        with open(fp, "rb") as f:
            os.fsync(f.fileno())


def remove_unfinished(train_dir):
    """Remove what TensorFlow was writing when it failed or was killed."""
    unfinished = "model.ckpt-*.tempstate*"
    for fp in glob.glob(os.path.join(glob.escape(train_dir), unfinished)):
        with contextlib.suppress(OSError):
            os.remove(fp)


def _listed(train_dir):
    """Prefixes of all checkpoints in a folder, the latest last.

    Those of `_said` come last, in its order; those it does not name before them, by
    step: the list may be missing or damaged.
    """
    said = [os.path.basename(p) for p in _said(train_dir)]
    steps = {}
    for fp in os.listdir(train_dir):
        if found := re.fullmatch(r"(model\.ckpt-(\d+))\.index", fp):
            steps[found[1]] = int(found[2])
    others = sorted(steps.keys() - set(said), key=steps.get)
    return [os.path.join(train_dir, name) for name in [*others, *said]]


def _said(train_dir):
    """Prefixes of the checkpoints which the file `checkpoint` lists and that are there.

    It is a CheckpointState in protobuf's text form. Only their names count: folders are
    moved.
    """
    try:
        with open(os.path.join(train_dir, "checkpoint"), errors="replace") as f:
            said = re.findall(r'^\s*(\w+): "(.*)"\s*$', f.read(), re.MULTILINE)
    except OSError:
        said = []
    newest = [p for key, p in said if key == "model_checkpoint_path"]
    paths = [p for key, p in said if key == "all_model_checkpoint_paths"] + newest
    names = dict.fromkeys(os.path.basename(p) for p in reversed(paths))
    prefixes = [os.path.join(train_dir, name) for name in reversed(names)]
    return [p for p in prefixes if os.path.isfile(f"{p}.index")]


def _write_list(train_dir, names):
    """The file `checkpoint`, for `_listed` and for the original."""
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with replacing(os.path.join(train_dir, "checkpoint"), "w") as f:
        f.write("\n".join(lines) + "\n")


def restore(gan, path):
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
    prefix = require(path)
    ckpt = reader(prefix)
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
        D_step = int(_tensor(ckpt, D_ITERATIONS, prefix))
    gan.D_optimizer.iterations.assign(D_step)
    if ckpt.has_tensor(SEED_STATE):
        gan.seed_generator.state.assign(_tensor(ckpt, SEED_STATE, prefix))
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
    return reader(prefix).has_tensor(name)


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
    ckpt = reader(prefix)
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
    values = {name: _tensor(ckpt, name, prefix) for name in named}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"{prefix}: {name} is not finite, the training had diverged; remove "
                "this checkpoint to take the one before it"
            )
    for name, v in named.items():
        v.assign(values[name])


def _tensor(ckpt, name, prefix):
    try:
        return ckpt.get_tensor(name)
    except READ_ERRORS as e:
        raise InputError(f"{prefix} is damaged at {name}: {_line(e)}") from None


def _line(error):
    """The first line of a TensorFlow error, without the names of its innards."""
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", str(error).strip().splitlines()[0])
