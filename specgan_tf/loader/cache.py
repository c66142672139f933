"""Decoded files, kept in memory or in a folder."""

import contextlib
import hashlib
import logging
import mmap
import os

import numpy as np

from specgan_tf.files import replacing
from specgan_tf.loader.decode import decode_audio
from specgan_tf.loader.errors import UnreadableError

MAPPED = 64 << 20  # bytes; larger files are not read at once

log = logging.getLogger("specgan_tf")


class Cache:
    """`decode_audio`, remembering: nothing, everything, or as files in a folder.

    A file there holds float32 samples and nothing else. It is named after the path,
    size and time of change (when first asked for) of what it was decoded from, and
    after how.
    """

    def __init__(self, where, **decode):
        self.where, self.decode, self.held, self.full = where, decode, {}, False
        self.sizes = {}  # of the files there
        if where not in (None, "memory"):
            os.makedirs(where, exist_ok=True)

    def __call__(self, fp, note=None, reserve=None):
        """`decode_audio(fp)`; `note` and `reserve` as there."""
        told = {"note": note, "reserve": reserve}
        if self.where is None:
            return decode_audio(fp, **told, **self.decode)
        if self.where == "memory":
            if fp not in self.held:
                self.held[fp] = decode_audio(fp, **told, **self.decode)
            return self.held[fp]
        if fp not in self.held:
            self.held[fp] = self.path(fp)
        path = self.held[fp]
        with contextlib.suppress(FileNotFoundError, ValueError):  # not there, damaged
            audio = np.frombuffer(self.read(path, reserve), np.float32)
            if len(audio):
                return audio.reshape(-1, 1, self.decode["num_channels"])
        audio = decode_audio(fp, **told, **self.decode)
        if not self.full:
            try:
                with replacing(path) as f:
                    f.write(memoryview(audio).cast("B"))
                self.sizes[path] = audio.nbytes
            except OSError as e:
                self.full = True
                log.warning("No more is cached in %s: %s", self.where, e.strerror)
        return audio

    def read(self, path, reserve=None):
        """All of a file. In as few calls as can be: after each of them a thread waits
        for the others, which takes longer than the call."""
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
        if len(content) != size:  # it was cut since
            raise ValueError(f"{len(content)} of {size} bytes")
        return content

    def path(self, fp):
        try:
            stat = os.stat(fp)
        except OSError as e:
            raise UnreadableError(e.strerror or str(e)) from None
        of = os.path.abspath(fp), stat.st_size, stat.st_mtime_ns, self.decode
        name = hashlib.sha256(repr(of).encode(errors="surrogateescape")).hexdigest()
        return os.path.join(self.where, f"{name[:32]}.f32")
