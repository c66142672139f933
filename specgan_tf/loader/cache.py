"""A cache for decoded files, in memory or in a folder."""

import contextlib
import hashlib
import logging
import mmap
import os
from collections.abc import Callable

import numpy as np

from specgan_tf.files import replacing
from specgan_tf.loader import budget
from specgan_tf.loader.decode import decode
from specgan_tf.loader.errors import UnreadableError

MAPPED = 64 << 20  # bytes; larger files are memory-mapped

log = logging.getLogger("specgan_tf")


class Cache:
    """`decode_audio` with a cache: none, in memory, or in a folder.

    Without a cache, a recording of more than `budget.AHEAD` bytes becomes a `Long`.

    A file in that folder holds float32 samples and nothing else. Its name is a hash of
    the source's path, size and modification time, and of the arguments of
    `decode_audio`. Size and time are read once, before the first use of the source.

    Args:
      where: None, "memory", or the folder, which is made if it does not exist.
      decode: arguments of `decode_audio`.
    """

    def __init__(self, where, **decode):
        self.where, self.decode, self.held, self.full = where, decode, {}, False
        self.sizes = {}  # path in the folder -> bytes
        if where not in (None, "memory"):
            os.makedirs(where, exist_ok=True)

    def __call__(self, fp, note=None, reserve=None):
        """Return `decode_audio(fp)`; it describes `note` and `reserve`."""
        told = {"note": note, "reserve": reserve}
        if self.where is None:
            return decode(fp, **told, limit=budget.AHEAD, **self.decode)
        if self.where == "memory":
            if fp not in self.held:
                self.held[fp] = decode(fp, **told, **self.decode)
            return self.held[fp]
        if fp not in self.held:
            self.held[fp] = self.path(fp)
        path = self.held[fp]
        with contextlib.suppress(FileNotFoundError, ValueError):  # missing, damaged
            audio = np.frombuffer(self.read(path, reserve), np.float32)
            if len(audio):
                return audio.reshape(-1, 1, self.decode["num_channels"])
        audio = decode(fp, **told, **self.decode)
        if not self.full:
            try:
                with replacing(path) as f:
                    f.write(memoryview(audio).cast("B"))
                self.sizes[path] = audio.nbytes
            except OSError as e:
                self.full = True
                log.warning("Stopped caching in %s: %s", self.where, e.strerror)
        return audio

    def read(
        self, path: str, reserve: Callable[[int], None] | None = None
    ) -> bytes | mmap.mmap:
        """Return a file's contents.

        This makes as few system calls as possible: after each call a thread waits for
        the other threads, and that wait is longer than the call.

        Raises:
          ValueError: the file's size has changed.
          FileNotFoundError: there is no such file.
        """
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            size = self.sizes.get(path)
            if size is None:
                size = self.sizes[path] = os.fstat(fd).st_size
            if reserve is not None:
                reserve(size)
            if size > MAPPED:
                return mmap.mmap(fd, size, access=mmap.ACCESS_READ)
            content = os.read(fd, size)
        finally:
            os.close(fd)
        if len(content) != size:  # the file has changed since
            raise ValueError(f"{len(content)} of {size} bytes")
        return content

    def path(self, fp: str) -> str:
        """Return the path in the folder for the decoded samples of `fp`."""
        try:
            stat = os.stat(fp)
        except OSError as e:
            raise UnreadableError(e.strerror or str(e)) from None
        key = os.path.abspath(fp), stat.st_size, stat.st_mtime_ns, self.decode
        name = hashlib.sha256(repr(key).encode(errors="surrogateescape")).hexdigest()
        return os.path.join(self.where, f"{name[:32]}.f32")
