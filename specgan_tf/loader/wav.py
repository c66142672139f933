"""WAV and AIFF headers: find the real length of the sound.

The size of the sound's own chunk counts. The size of the whole file, in the first
bytes, does not: recorders in browsers write it wrong, and a program that writes to a
pipe does not know it. Such a program writes a placeholder as the size of the sound's
chunk too: 0, or nearly the largest number that fits. Then the sound ends with the file.
"""

import struct
from typing import BinaryIO

from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.parts import Parts

KINDS = {  # first four bytes -> (byte order, the sound's chunk)
    b"RIFF": ("<", b"data"),
    b"RIFX": (">", b"data"),
    b"FORM": (">", b"SSND"),
}
TYPES = {b"WAVE", b"AIFF", b"AIFC"}
LONGEST = 2**32 - 2**20  # most bytes of sound that a corrected header can claim
SLACK = 0x2000  # how far a placeholder may be from the largest 31- or 32-bit number


def is_placeholder(size: int) -> bool:
    """Return True if programs write this size when they do not know the real size."""
    return size == 0 or abs(size - 2**31) <= SLACK or size >= 2**32 - SLACK


def recordings(f: BinaryIO, size: int) -> list[Parts] | None:
    """Find the recordings in a WAV or AIFF file, usually one.

    Args:
      f: the open file.
      size: its size in bytes.

    Returns:
      [`Parts` with a correct header], or None if the file can be read as it is.

    Raises:
      UnreadableError: the file is shorter than its header claims, or longer than 4 GiB
        with a placeholder for its length.
    """
    found, first, as_it_is = [], 0, True
    while first + 12 <= size:
        recording = _recording(f, first, size)
        if recording is None:
            break
        parts, end, same = recording
        found.append(parts)
        as_it_is = as_it_is and same
        first = end
    return None if not found or (as_it_is and len(found) == 1) else found


def _recording(f, first, size):
    """Return (`Parts`, end, whether the header is right) of the recording at `first`.

    Returns None if no recording begins there.
    """
    f.seek(first)
    head = f.read(12)
    if head[:4] not in KINDS or head[8:] not in TYPES:
        return None
    order, wanted = KINDS[head[:4]]
    (whole,) = struct.unpack(order + "I", head[4:8])
    at, chunk = first + 12, b""
    while at + 8 <= size:
        f.seek(at)
        chunk, length = struct.unpack(order + "4sI", f.read(8))
        if chunk == wanted:
            break
        at += 8 + length + length % 2
    if chunk != wanted or at + 8 > size:
        return None
    start, real = at + 8, length
    room = size - start
    unknown = is_placeholder(length) or (is_placeholder(whole) and length > room)
    if length == 0 and _chunks_until(f, start, size, order):
        unknown = False
    if unknown or length == room + 1:  # a missing pad byte is harmless
        real = room
    elif length > room:
        raise UnreadableError(f"truncated: {room} of {length} bytes of sound")
    if real > LONGEST and real != length:
        raise UnreadableError("longer than 4 GiB, and its header gives no length")
    end = start + real + real % 2
    if end < size:
        f.seek(end)
        following = f.read(12)
        another = following[:4] in KINDS and following[8:] in TYPES
    else:
        another = False
    same = real == length and (another or first + whole + 8 in (size, size + 1))
    f.seek(first)
    header = bytearray(f.read(start - first))
    header[-4:] = struct.pack(order + "I", real)
    header[4:8] = struct.pack(order + "I", min(len(header) - 8 + real, 2**32 - 1))
    # Chunks after the sound (names, pictures) are left out.
    parts = Parts(f, [bytes(header), (start, start + real)])
    return parts, end if another else size, same


def _chunks_until(f, at, size, order):
    """Return True if only whole chunks, or nothing, lie between `at` and `size`.

    Then a length of 0 is the real length.
    """
    while at + 8 <= size:
        f.seek(at)
        chunk, length = struct.unpack(order + "4sI", f.read(8))
        if not all(32 <= c < 127 for c in chunk):
            return False
        at += 8 + length + length % 2
    return at in (size, size + 1)
