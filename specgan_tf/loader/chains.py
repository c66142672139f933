"""Ogg and FLAC files joined one after another: libsndfile reads the first."""

import re

from specgan_tf.loader.parts import Parts

# An Ogg page that begins a stream, at the granule position 0.
FIRST_PAGE = re.compile(rb"OggS\0[\x02\x06]\0{8}")
FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # and the size of its first block


def recordings(f, data):
    """The recordings in an Ogg or FLAC file, usually one.

    Args:
      f: the open file.
      data: its bytes.

    Returns:
      [`Parts`], or None for the file as it is.
    """
    if data[:4] == b"OggS":
        starts, after = [], None
        for match in FIRST_PAGE.finditer(data):
            # Streams that begin together are one recording.
            if match.start() != after:
                starts.append(match.start())
            after = match.start() + page_size(data, match.start())
    else:
        starts = [match.start() for match in FLAC.finditer(data)]
    if len(starts) < 2:
        return None
    ends = [*starts[1:], len(data)]
    return [Parts(f, [(a, b)]) for a, b in zip(starts, ends, strict=True)]


def page_size(data, at):
    """Bytes of the Ogg page at a place."""
    header = data[at + 26 : at + 27]
    segments = header[0] if header else 0
    return 27 + segments + sum(data[at + 27 : at + 27 + segments])
