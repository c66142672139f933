"""Atomic writes, and locks."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO

import filelock

from specgan_tf.errors import InputError

StrPath = str | os.PathLike

UMASK = os.umask(0)  # reading it means setting it: here, before threads start
os.umask(UMASK)


@contextlib.contextmanager
def replacing(path: StrPath, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file beside `path` that becomes `path` when the block succeeds.

    A crash, a full disk or an exception leaves whatever was at `path` as it was.
    """
    named, path = path, os.path.abspath(os.fspath(path))
    with naming(named):
        fd, tmp = tempfile.mkstemp(
            dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}."
        )
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape"}
        with os.fdopen(fd, mode, **text) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.chmod(tmp, 0o666 & ~UMASK)  # mkstemp's 0600 is for secrets
        os.replace(tmp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(tmp)
        raise


@contextlib.contextmanager
def naming(path: StrPath) -> Iterator[None]:
    """Make errors name `path`, the file that the caller gave, not a temporary one."""
    try:
        yield
    except OSError as e:
        raise OSError(e.errno, e.strerror, os.fspath(path)) from None


def require_no_file(path: StrPath) -> None:
    """Raise `InputError` if `path`, or a path above it, is a file."""
    above = os.path.abspath(os.fspath(path))
    while not os.path.lexists(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    if os.path.lexists(above) and not os.path.isdir(above):
        raise InputError(f"{above} is not a folder: choose another folder to write to")


def require_folder(path: StrPath, what: str = "", hint: str = "") -> None:
    """Raise `InputError` unless `path` is a folder.

    Args:
      what: words before the path: "train_dir ".
      hint: words after the message: "; choose another".
    """
    if not os.path.isdir(path):
        wrong = "is not a folder" if os.path.lexists(path) else "does not exist"
        raise InputError(f"{what}{path} {wrong}{hint}")


@contextlib.contextmanager
def making_dir(path: StrPath) -> Iterator[None]:
    """Make a folder and its parents; if the block fails, remove those still empty.

    Folders that existed before stay.

    Raises:
      InputError: the path, or a path above it, is a file.
      OSError: the folder cannot be made.
    """
    require_no_file(path)
    path, made = os.path.abspath(os.fspath(path)), []
    while not os.path.isdir(path) and made[-1:] != [path]:
        made.append(path)
        path = os.path.dirname(path)
    try:
        if made:
            os.makedirs(made[0], exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty, or never made
            for folder in made:
                os.rmdir(folder)
        raise


@contextlib.contextmanager
def only_training(folder: StrPath) -> Iterator[None]:
    """Lock a folder against other trainings; the lock ends with the process.

    The lock file stays, unless the block fails and the folder has no other file.

    Raises:
      InputError: another training uses the folder.
    """
    lock = filelock.FileLock(os.path.join(folder, ".lock"))
    new = not os.path.exists(lock.lock_file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"another training is running in {folder}: stop it, or use another "
            "train_dir"
        ) from None
    try:
        yield
    except BaseException:
        if new and os.listdir(folder) == [".lock"]:
            with contextlib.suppress(OSError):  # Windows keeps files that are open
                os.remove(lock.lock_file)
        raise
    finally:
        lock.release()


@contextlib.contextmanager
def replacing_dir(path: StrPath) -> Iterator[str]:
    """Yield an empty folder that becomes `path` when the block succeeds."""
    named, path = path, os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    with making_dir(folder):
        with naming(named):
            tmp = tempfile.mkdtemp(dir=folder, prefix=f".{os.path.basename(path)}.")
        try:
            os.chmod(tmp, 0o777 & ~UMASK)
            yield tmp
            put_in_place(tmp, path)
        except BaseException:
            shutil.rmtree(tmp, ignore_errors=True)
            raise


def put_in_place(new: StrPath, path: StrPath) -> None:
    """Rename the file or folder `new` to `path`, and remove a folder already there."""
    if not os.path.isdir(path):
        os.replace(new, path)
        return
    aside = tempfile.mkdtemp(dir=os.path.dirname(path), prefix=".old.")
    old = os.path.join(aside, "old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    finally:
        shutil.rmtree(aside)
