"""MP3 files: count their frames, and correct wrong headers.

libmpg123 believes the header of an MP3 (a frame marked Xing or Info). Without a header
it guesses the length from the first frame's bit rate, and libsndfile stops reading
there. This module counts the frames instead. It corrects a wrong header, and a file
without a header is read to its end. Two joined files are two recordings.
"""

import mmap
import re
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.parts import Parts

RATES = 44100, 48000, 32000  # Hz, MPEG 1; MPEG 2 halves them, 2.5 quarters them
# kbit/s, Layer III
BITRATES_1 = 0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320
BITRATES_2 = 0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")  # Layer III


class Frame(NamedTuple):
    """What a frame's header tells.

    Attributes:
      size: bytes.
      samples: samples in each channel.
      rate: Hz.
      mono: True for one channel.
      side: bytes of side information, without a checksum.
    """

    size: int
    samples: int
    rate: int
    mono: bool
    side: int


def parse(header: bytes) -> Frame | None:
    """Return the `Frame` that these four bytes begin, or None."""
    if len(header) < 4 or header[0] != 0xFF or not SYNC.match(header):
        return None
    version = header[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if bitrate in (0, 15) or rate == 3 or version == 1:
        return None
    hertz = RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    mono = header[3] >> 6 == 3
    if version == 3:
        kilobits, samples, side = BITRATES_1[bitrate], 1152, 17 if mono else 32
    else:
        kilobits, samples, side = BITRATES_2[bitrate], 576, 9 if mono else 17
    size = samples // 8 * 1000 * kilobits // hertz + padding
    return Frame(size, samples, hertz, mono, side)


class Recording:
    """Frames of one rate that follow each other.

    Attributes:
      kind: the `Frame` that begins it.
      tag: the bytes of its header frame, or None.
      ranges: [[first, last + 1]], the bytes of its frames in the file.
      frames: the number of frames, without `tag`.
    """

    def __init__(self, kind: Frame, tag: bytes | None = None):
        self.kind, self.tag = kind, tag
        self.ranges, self.frames = [], 0

    def add(self, first: int, end: int) -> None:
        """Add the frame in the bytes from `first` to before `end`."""
        if self.ranges and self.ranges[-1][1] == first:
            self.ranges[-1][1] = end
        else:
            self.ranges.append([first, end])
        self.frames += 1

    @property
    def claimed(self) -> int | None:
        """The number of frames that its header claims, or None."""
        if self.tag is None:
            return None
        at = _tag_at(self.tag, self.kind)
        if self.tag[at : at + 4] == b"VBRI":
            return int.from_bytes(self.tag[at + 14 : at + 18], "big") or None
        if not self.tag[at + 7] & 1:
            return None
        return int.from_bytes(self.tag[at + 8 : at + 12], "big") or None

    def begun(self, data: bytes | mmap.mmap) -> list[bytes | tuple[int, int]]:
        """Return the parts of the recording; frames without all their bytes are silent.

        A frame's sound may begin some bytes before it, in earlier frames. In a
        recording cut out of another one, the first frames lack them. libmpg123 would
        make these frames silent too, and write an error to stderr, without the name of
        the file.
        """
        (at, end), *others = self.ranges
        bits = 9 if self.kind.samples == 1152 else 8  # of the number of those bytes
        most = (1 << bits) - 1
        parts, held = [], 0  # bytes of sound so far
        while at < end and held < most:
            kind = parse(bytes(data[at : at + 4]))
            side = at + (4 if data[at + 1] & 1 else 6)  # after header and checksum
            main, stop = side + kind.side, at + kind.size
            parts.append((at, stop))
            if int.from_bytes(data[side : side + 2], "big") >> 16 - bits > held:
                # Silence is zeros, after the number of bytes to keep for later frames.
                keep = (held << 16 - bits).to_bytes(2, "big").ljust(kind.side, b"\0")
                parts[-1] = data[at:side] + keep + data[main:stop]
            held, at = held + stop - main, stop
        return [*parts, (at, end), *map(tuple, others)]

    def parts(self, f: BinaryIO, data: bytes | mmap.mmap) -> Parts:
        """Return these frames of the file `f`, with a correct header if there is one.

        Without a header the result is endless, so that libmpg123 cannot guess its end.

        Args:
          data: the bytes of `f`.
        """
        ranges = [tuple(r) for r in self.ranges]
        if self.claimed == self.frames:
            return Parts(f, [self.tag, *ranges])
        if self.claimed is None or self.tag[36:40] == b"VBRI":
            samples = self.frames * self.kind.samples
            return Parts(f, self.begun(data), samples, endless=True)
        tag, at = bytearray(self.tag), _tag_at(self.tag, self.kind)
        tag[at + 8 : at + 12] = self.frames.to_bytes(4, "big")
        flags = tag[at + 7]  # which fields follow: frames, bytes, table, quality
        sizes = {1: 4, 2: 4, 4: 100, 8: 4}
        lame = at + 8 + sum(size for flag, size in sizes.items() if flags & flag)
        if self.frames > self.claimed and len(tag) >= lame + 24:
            # The padding (12 bits) belongs to the claimed end, not to the real one.
            tag[lame + 22] &= 0xF0
            tag[lame + 23] = 0
        return Parts(f, [bytes(tag), *ranges])


def _tag_at(frame, kind):
    """Return the place of Xing, Info or VBRI in a header frame; None: a sound frame."""
    at = 4 + kind.side
    if frame[at : at + 4] in (b"Xing", b"Info") and len(frame) >= at + 12:
        return at
    return 36 if frame[36:40] == b"VBRI" and len(frame) >= 54 else None


def scan(data: bytes | mmap.mmap) -> list[Recording]:
    """Find the recordings in an MP3 file's bytes; none if there is no frame.

    A header frame begins a recording. So does a frame with another rate or another
    number of channels.
    """
    found, known, at, size = [], {}, 0, len(data)

    def frame(at):
        head = bytes(data[at : at + 4])
        if head not in known:
            known[head] = parse(head)
        return known[head]

    def follows(kind, at):
        """Return True if a frame like `kind`, a tag or the end is at this place."""
        other = frame(at)
        same = other and (other.rate, other.mono) == (kind.rate, kind.mono)
        return same or at == size or data[at : at + 3] in (b"ID3", b"TAG", b"APE")

    while at < size:
        kind, now = frame(at), found[-1] if found else None
        alike = (
            now and kind and (kind.rate, kind.mono) == (now.kind.rate, now.kind.mono)
        )
        if not kind or not (alike or follows(kind, at + kind.size)):
            at = _resync(data, at, frame, follows)
            continue
        end = at + kind.size
        if end > size:  # the last frame is incomplete
            break
        content = data[at:end] if _maybe_tag(data, at, kind) else b""
        if content and _tag_at(content, kind) is not None:
            found.append(Recording(kind, content))
        else:
            if not alike:
                found.append(Recording(kind))
            found[-1].add(at, end)
        at = end
    return [r for r in found if r.frames]


def _maybe_tag(data, at, kind):
    first = at + 4 + kind.side
    return data[first : first + 4] in (b"Xing", b"Info") or (
        data[at + 36 : at + 40] == b"VBRI"
    )


def _resync(data, at, frame, follows):
    """Return the place of the next frame, after a tag or damaged bytes."""
    if data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        a, b, c, d = data[at + 6 : at + 10]
        return at + 10 + (a << 21 | b << 14 | c << 7 | d)
    for match in SYNC.finditer(data, at + 1):
        kind = frame(match.start())
        if kind and follows(kind, match.start() + kind.size):
            return match.start()
    return len(data)


def recordings(
    f: BinaryIO, data: bytes | mmap.mmap, note: Callable[[str], None]
) -> list[Parts] | None:
    """Find the recordings in an MP3 file, usually one.

    Args:
      f: the open file.
      data: its bytes.
      note: called with a remark about a file that is odd but usable.

    Returns:
      [`Parts`], or None if the file can be read as it is.

    Raises:
      UnreadableError: the file has fewer frames than its header claims.
    """
    found = scan(data)
    for r in found:
        if not r.claimed or abs(r.frames - r.claimed) <= 1:  # some count the header
            continue
        if r.frames < r.claimed and r is found[-1]:
            raise UnreadableError(f"truncated: {r.frames} of {r.claimed} MP3 frames")
        note(f"has {r.frames} MP3 frames, its header claims {r.claimed}: all are read")
    if not found:
        return None
    if len(found) == 1 and found[0].claimed == found[0].frames:
        return None
    return [r.parts(f, data) for r in found]
