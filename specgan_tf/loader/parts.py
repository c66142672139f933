"""A file put together from ranges of another file and from bytes of ours.

So a header that lies can be corrected for a library without touching the file.
"""

import bisect
import io
import os


class Parts(io.RawIOBase):
    """A read-only binary file that joins its parts.

    Args:
      f: an open binary file; `close` leaves it open.
      parts: each is `bytes`, or (first, last + 1), a range of bytes in `f`.
      samples: how many it holds, if that is known better than to the library.
      endless: pretend to be a file of 1 TiB to who looks for the end, so that a length
        guessed from the size does not end the reading too early.
    """

    ENDLESS = 1 << 40

    def __init__(self, f, parts, samples=None, endless=False):
        super().__init__()
        self.samples, self.endless = samples, endless
        self.f, self.parts, self.starts, self.size, self.at = f, [], [], 0, 0
        for part in parts:
            size = len(part) if isinstance(part, bytes) else part[1] - part[0]
            if size > 0:
                self.parts.append(part)
                self.starts.append(self.size)
                self.size += size

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=os.SEEK_SET):
        end = self.ENDLESS if self.endless else self.size
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: end}[whence]
        self.at = max(0, base + offset)
        return self.at

    def readinto(self, buffer):
        view, done = memoryview(buffer).cast("B"), 0
        if self.at > self.size:  # nothing but the search for a tag at the end
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
