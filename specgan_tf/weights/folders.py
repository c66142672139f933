"""The training folder: its checkpoints, args.txt and moments.pkl.

The file `checkpoint` lists the checkpoints, as `tf.train.Saver` wrote it.
[train_specgan.py:273-283, 720-729; backup.py:1-38]
"""

import contextlib
import errno
import functools
import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from specgan_tf import moments
from specgan_tf.errors import InputError
from specgan_tf.files import StrPath, replacing
from specgan_tf.moments import Moments
from specgan_tf.spectral import GriffinLim, check_griffin_lim
from specgan_tf.weights import bundled, tensors
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")

T = TypeVar("T")

# Field of `GriffinLim` -> its name in args.txt.
GL_FLAGS = {
    "ngl": "specgan_ngl",
    "window": "specgan_gl_window",
    "momentum": "specgan_gl_momentum",
}


def folder_of(path: StrPath) -> str:
    """The training folder: `path`, or the folder of a checkpoint's prefix or of a
    generator's .npz."""
    path = os.fspath(path)
    if bundled.find(path) or os.path.isfile(path.removesuffix(".index") + ".index"):
        return os.path.dirname(path) or "."
    return path


def latest(path: StrPath) -> str | None:
    """The prefix of a folder's newest checkpoint, or `path` if it is a prefix itself.

    In a folder the checksum of every tensor is compared. A damaged checkpoint is
    reported in the log, and the one before it is used.

    Returns:
      The prefix; None if the folder holds no checkpoint.

    Raises:
      InputError: `path` is neither a folder nor a checkpoint, or all are damaged.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        first = None
        for prefix in reversed(listed(path)):
            damage = _damage(prefix, *tensors.stamps(prefix))
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
            "(specgan_tf.weights.checkpoint.save(gan, FOLDER, moments=moments))"
        )
    raise InputError(
        f"{path} is neither a training folder nor a checkpoint (a prefix such as "
        f"TRAIN_DIR/model.ckpt-1000), nor a bundled model ({', '.join(bundled.MODELS)})"
    )


def require(path: StrPath | None) -> str:
    """As `latest`, but also for a generator in one file, whose path it returns.

    Args:
      path: as in `latest` or `bundled.find`; None for the default bundled model.

    Raises:
      InputError: as in `latest`; the folder holds no checkpoint.
    """
    if generator := bundled.find(path):
        return generator
    prefix = latest(path)
    if prefix is None:
        raise InputError(f"no checkpoint in {path} yet: train first")
    return prefix


def read_latest(
    path: StrPath | None,
    read: Callable[[Any], T],
    find: Callable[[Any], str | None] = require,
) -> T:
    """Return `read(prefix)` for the newest checkpoint of a training.

    If the training deletes that checkpoint meanwhile, the next newest one is read.

    Args:
      path: as in `require`.
      read: reads all that it needs of a prefix before it returns.
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


def was_deleted(prefix: str | None) -> bool:
    """Whether a checkpoint that was found is gone. Its index is deleted first."""
    if prefix is None or bundled.find(prefix):
        return False
    return not os.path.isfile(f"{prefix}.index")


@functools.lru_cache(maxsize=100)
def _damage(prefix, *stamps):
    """What is wrong with the files of a checkpoint, or None; logged once."""
    try:
        Checkpoint.open(prefix).verify()
    except InputError as e:
        if not was_deleted(prefix):
            log.warning("%s", e)
        return str(e)
    return None


def read_args(train_dir: StrPath) -> dict[str, str]:
    """What `args.txt` in a training folder records, name -> text; {} if it is missing.

    [train_specgan.py:720-722]
    """
    fp = os.path.join(train_dir, "args.txt")
    if not os.path.isfile(fp):
        return {}
    with open(fp, encoding="utf-8", errors="surrogateescape") as f:
        pairs = (line.rstrip("\n").partition(",") for line in f)
        return {name: _unquoted(value) for name, comma, value in pairs if comma}


def args_line(name: str, value: Any) -> str:
    """A line of `args.txt`, without its end: `name,value`.

    A value that would end the line (a folder's name may hold a newline) is written as a
    JSON string, which `read_args` decodes.

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


def load_moments(path: StrPath | None = None, given: StrPath | None = None) -> Moments:
    """The moments of a training: mean, std, and how its spectrograms are computed.

    differs: without --data_moments_fp the original fails.  [train_specgan.py:725-729]

    Args:
      path: as in `load_generator`.
      given: a moments file to read instead. None reads moments.pkl in the training
        folder, or else the file that its args.txt names.

    Returns:
      `moments.Moments`, whose mean and std are float32 [129], per frequency bin.

    Raises:
      InputError: there is no such file, or it does not hold moments.
    """
    if given:
        return moments.load(given)
    if bundled.find(path):
        return bundled.load_moments(path)
    return moments.load(moments_fp(path))


def load_griffin_lim(path: StrPath | None = None) -> GriffinLim:
    """The Griffin-Lim options that a training recorded; `render` takes them.

    The modes of the command line use the same. A training that recorded none, such as
    one in Python, has the original's.

    Args:
      path: as in `load_generator`.

    Raises:
      InputError: no checkpoint there, or its args.txt holds impossible options.
    """
    prefix = require(path)
    if bundled.find(prefix):
        return bundled.griffin_lim_of(bundled.read_card(prefix))
    fp = os.path.join(folder_of(prefix), "args.txt")
    recorded, values = read_args(os.path.dirname(fp)), {}
    for (field, name), parse in zip(GL_FLAGS.items(), (int, str, float), strict=True):
        try:
            if name in recorded:
                values[field] = parse(recorded[name])
            check_griffin_lim(GriffinLim(**values))
        except ValueError:
            raise InputError(f"{fp}: {name} cannot be {recorded[name]!r}") from None
    return GriffinLim(**values)


def moments_fp(path: StrPath | None) -> str:
    """The file with a training's moments: moments.pkl, or the file args.txt names."""
    if generator := bundled.find(path):
        return generator
    folder = folder_of(path)
    own = os.path.join(folder, "moments.pkl")
    recorded = read_args(folder).get("data_moments_fp", "None")
    return own if recorded == "None" or os.path.isfile(own) else recorded


def save_moments(train_dir: StrPath, given: tuple) -> None:
    """Write moments.pkl, unless it holds these already.

    Args:
      given: `Moments`, or (mean, std).

    Raises:
      InputError: moments.pkl holds others.
    """
    fp = os.path.join(train_dir, "moments.pkl")
    mean, std, *analysis = given
    given = moments.Moments(np.float32(mean), np.float32(std), *analysis)
    if not os.path.exists(fp):
        moments.save(fp, *given)
    elif not given.equals(moments.load(fp)):
        raise InputError(f"{fp} holds other moments; use another folder")


def back_up(train_dir: StrPath) -> str:
    """Copy the newest checkpoint, args.txt and moments.pkl to TRAIN_DIR/backup.

    The backup is a training folder itself. Its list names only the newest copy, so a
    training that continues there removes none of the others.

    Returns:
      The prefix of the copy.

    differs: the original copies with a separate script, which sleeps two seconds in the
    hope that a checkpoint is complete by then.  [backup.py:23-34]
    """
    return copy(require(train_dir), os.path.join(train_dir, "backup"))


def copy(prefix: StrPath, folder: StrPath, name: str | None = None) -> str:
    """Copy a checkpoint, args.txt and moments.pkl to a folder that lists it alone.

    Args:
      name: the name of the copy; by default, that of the checkpoint.

    Returns:
      The prefix of the copy.

    Raises:
      FileNotFoundError: the checkpoint is gone. A training keeps only the newest.
    """
    os.makedirs(folder, exist_ok=True)
    new = os.path.join(folder, name or os.path.basename(prefix))
    train_dir = os.path.dirname(prefix)
    for beside in ("args.txt", "moments.pkl"):
        if os.path.isfile(fp := os.path.join(train_dir, beside)):
            _copy_file(fp, os.path.join(folder, beside))
    if not (shards := tensors.shards(prefix)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), prefix)
    for fp in [*shards, f"{prefix}.index"]:  # the index last: it completes the copy
        _copy_file(fp, new + fp.removeprefix(prefix))
    write_list(folder, [os.path.basename(new)])
    return new


def _copy_file(fp, new):
    with open(fp, "rb") as source, replacing(new) as target:
        shutil.copyfileobj(source, target)


def remove(prefix: str) -> None:
    """Remove the files of a checkpoint."""
    tensors.close()
    files = glob.glob(f"{glob.escape(prefix)}.*")  # `.`: not model.ckpt-660 for -66
    # The index first, for `was_deleted`.
    for fp in sorted(files, key=lambda fp: not fp.endswith(".index")):
        with contextlib.suppress(FileNotFoundError):
            os.remove(fp)


def remove_unfinished(train_dir: StrPath) -> None:
    """Remove the files that TensorFlow was writing when it failed or was killed."""
    unfinished = "model.ckpt-*.tempstate*"
    for fp in glob.glob(os.path.join(glob.escape(train_dir), unfinished)):
        with contextlib.suppress(OSError):
            os.remove(fp)


def listed(train_dir: StrPath) -> list[str]:
    """Prefixes of all checkpoints in a folder, the latest last.

    Those in `named_in_list` come last, in its order. Before them come the others, by
    step, because the list may be missing or damaged.
    """
    named = [os.path.basename(p) for p in named_in_list(train_dir)]
    steps = {}
    for fp in os.listdir(train_dir):
        if found := re.fullmatch(r"(model\.ckpt-(\d+))\.index", fp):
            steps[found[1]] = int(found[2])
    others = sorted(steps.keys() - set(named), key=steps.get)
    return [os.path.join(train_dir, name) for name in [*others, *named]]


def named_in_list(train_dir: StrPath) -> list[str]:
    """Prefixes of the existing checkpoints that the file `checkpoint` names.

    The file is a CheckpointState in protobuf's text form. Of each path in it only the
    last part counts, because a training folder may have been moved.
    """
    try:
        with open(os.path.join(train_dir, "checkpoint"), errors="replace") as f:
            lines = re.findall(r'^\s*(\w+): "(.*)"\s*$', f.read(), re.MULTILINE)
    except OSError:
        lines = []
    newest = [p for key, p in lines if key == "model_checkpoint_path"]
    paths = [p for key, p in lines if key == "all_model_checkpoint_paths"] + newest
    names = dict.fromkeys(os.path.basename(p) for p in reversed(paths))
    prefixes = [os.path.join(train_dir, name) for name in reversed(names)]
    return [p for p in prefixes if os.path.isfile(f"{p}.index")]


def write_list(train_dir: StrPath, names: list[str]) -> None:
    """Write the file `checkpoint`, which `listed` and the original read."""
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with replacing(os.path.join(train_dir, "checkpoint"), "w") as f:
        f.write("\n".join(lines) + "\n")
