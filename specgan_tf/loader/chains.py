"""Ogg and FLAC files that hold several recordings: libsndfile reads only the first."""

import mmap
import re
from typing import BinaryIO

from specgan_tf.loader.parts import Parts

# The Ogg page that begins a stream: its granule position is 0.
FIRST_PAGE = re.compile(rb"OggS\0[\x02\x06]\0{8}")
FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # then the size of the first block, 34


def recordings(f: BinaryIO, data: bytes | mmap.mmap) -> list[Parts] | None:
    """Find the recordings in an Ogg or FLAC file, usually one.

    Args:
      f: the open file.
      data: its bytes.

    Returns:
      [`Parts`], or None if the file can be read as it is.
    """
    if data[:4] == b"OggS":
        starts, after = [], None
        for match in FIRST_PAGE.finditer(data):
            # Streams whose first pages follow each other are one recording.
            if match.start() != after:
                starts.append(match.start())
            after = match.start() + page_size(data, match.start())
    else:
        starts = [match.start() for match in FLAC.finditer(data)]
    if len(starts) < 2:
        return None
    ends = [*starts[1:], len(data)]
    return [Parts(f, [(a, b)]) for a, b in zip(starts, ends, strict=True)]


def page_size(data: bytes | mmap.mmap, at: int) -> int:
    """Return the size in bytes of the Ogg page that begins at byte `at`."""
    header = data[at + 26 : at + 27]
    segments = header[0] if header else 0
    return 27 + segments + sum(data[at + 27 : at + 27 + segments])
