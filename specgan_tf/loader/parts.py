"""A file that joins ranges of another file and bytes from memory.

A library can then read a corrected header, and the file on disk stays as it is.
"""

import bisect
import io
import os
from collections.abc import Iterable
from typing import BinaryIO

Buffer = bytearray | memoryview


class Parts(io.RawIOBase):
    """A read-only binary file that joins its parts.

    Args:
      f: an open binary file; `close` does not close it.
      parts: each part is `bytes`, or (first, last + 1), a range of bytes in `f`.
      samples: the number of samples, if the library would find a wrong number.
      endless: claim a size of 1 TiB, so that a library that guesses the length from the
        size does not stop too early.
    """

    ENDLESS = 1 << 40

    def __init__(
        self,
        f: BinaryIO,
        parts: Iterable[bytes | tuple[int, int]],
        samples: int | None = None,
        endless: bool = False,
    ):
        super().__init__()
        self.samples, self.endless = samples, endless
        self.f, self.parts, self.starts, self.size, self.at = f, [], [], 0, 0
        for part in parts:
            size = len(part) if isinstance(part, bytes) else part[1] - part[0]
            if size > 0:
                self.parts.append(part)
                self.starts.append(self.size)
                self.size += size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = self.ENDLESS if self.endless else self.size
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: end}[whence]
        self.at = max(0, base + offset)
        return self.at

    def readinto(self, buffer: Buffer) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        if self.at > self.size:  # a library looks for a tag at the end
            done = min(len(view), max(0, self.ENDLESS - self.at))
            view[:done] = bytes(done)
            self.at += done
            return done
        while done < len(view) and self.at < self.size:
            i = bisect.bisect_right(self.starts, self.at) - 1
            part, skip = self.parts[i], self.at - self.starts[i]
            if isinstance(part, bytes):
                content = part[skip : skip + len(view) - done]
            else:
                self.f.seek(part[0] + skip)
                content = self.f.read(min(part[1] - part[0] - skip, len(view) - done))
            if not content:  # the file has become shorter
                break
            view[done : done + len(content)] = content
            done += len(content)
            self.at += len(content)
        return done
