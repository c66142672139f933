"""Read the recordings in an audio file in blocks, even if its header is wrong."""

import contextlib
import functools
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.loader import chains, ffmpeg, mpeg, sniff, wav
from specgan_tf.loader.errors import UnreadableError

BLOCK = 1 << 20  # samples to read at a time, all channels together
UNKNOWN = 2**63 - 1  # libsndfile's SF_COUNT_MAX: the file gives no length
FAST = {"WAV": ("PCM_16", "FLOAT"), "WAVEX": ("PCM_16", "FLOAT")}


def recordings(
    fp: str, fast_wav: bool = False, note: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[int, int, Iterable[np.ndarray]]]:
    """Read an audio file in blocks.

    Args:
      fp: path.
      fast_wav: take only WAV files, 16-bit PCM or 32-bit float.
      note: called with a remark about a file that is odd but usable, without its
        subject: "is damaged: ...".

    Yields:
      (rate, channels, blocks) for each recording in the file, usually one. `blocks`
      yields float32 [n, channels]. Use it up before the next recording.

    Raises:
      InputError: with fast_wav, a WAV file with another sample format.
      UnreadableError: the file is not audio, or is truncated.
    """
    import soundfile

    if plain := read_plain_wav(fp):
        samples, rate = plain
        yield rate, samples.shape[1], [samples]
        return
    remarks = []
    try:
        f = open(fp, "rb")  # noqa: SIM115
    except OSError as e:
        raise UnreadableError(e.strerror or str(e)) from None
    with f:
        try:
            if kind := sniff.look(f):
                raise UnreadableError(f"not an audio file (it looks like {kind})")
            found = _split(f, fp, remarks.append)
        except OSError as e:
            raise UnreadableError(e.strerror or str(e)) from None
        if found and len(found) > 1:
            remarks.append(f"holds {len(found)} recordings in a row: all are read")
        # Bytes on POSIX, where a name need not be UTF-8.
        name = os.fsencode(fp) if os.name == "posix" else fp
        for i, source in enumerate(found or [name]):
            try:
                opened = _stream()(source)
            except (soundfile.LibsndfileError, OSError, TypeError) as e:
                reason = _reason(e, "not an audio file")
                if i:
                    reason = f"recording {i + 1} of {len(found)}: {reason}"
                    raise UnreadableError(reason) from None
            else:
                with opened as sound:
                    if fast_wav:
                        _check_fast(sound, fp)
                    expected = getattr(source, "samples", None)
                    blocks = _blocks(sound, expected, note)
                    yield sound.samplerate, sound.channels, blocks
                continue
            rate, channels, blocks = _read_otherwise(fp, reason, fast_wav, note)
            with contextlib.closing(blocks):
                yield rate, channels, blocks
            return
        for remark in remarks:  # true only now that all is read
            note(remark)


def read_plain_wav(fp: str) -> tuple[np.ndarray, int] | None:
    """Read 16-bit PCM with the shortest header and at most BLOCK samples.

    Most files are like this, and a library takes longer than reading the bytes.

    Returns:
      (float32 [nsamps, nch], rate), or None for any other file.
    """
    with contextlib.suppress(OSError), open(fp, "rb", buffering=0) as f:
        head, room = f.read(44), os.fstat(f.fileno()).st_size - 44
        if room < 0 or len(head) < 44:
            return None
        riff, length, wave, fmt, n, kind, nch, fs, _, align, bits, data, size = (
            struct.unpack("<4sI4s4sIHHIIHH4sI", head)
        )
        plain = (riff, wave, fmt, data) == (b"RIFF", b"WAVE", b"fmt ", b"data")
        plain = plain and (n, kind, bits, align) == (16, 1, 16, 2 * nch) and nch and fs
        whole = size + 36 <= length <= room + 36 and 0 < size <= 2 * BLOCK
        if plain and whole and size % align == 0:
            content = f.read(size)
            another = room > size and f.read(4) in wav.KINDS
            if len(content) == size and not another:
                samples = np.frombuffer(content, "<i2").astype(np.float32)
                samples /= 32768.0
                return samples.reshape(-1, nch), fs
    return None


def _split(f, fp, note):
    """Return [`Parts`] of an open file, or None if it can be read as it is."""
    size = os.fstat(f.fileno()).st_size
    head = f.read(12)
    if head[:4] in wav.KINDS:
        return wav.recordings(f, size)
    chained = head[:4] in (b"OggS", b"fLaC")
    mp3 = head[:3] == b"ID3" or mpeg.SYNC.match(head) or fp.lower().endswith(".mp3")
    if not chained and not mp3:
        return None
    with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if chained:
            return chains.recordings(f, data)
        return mpeg.recordings(f, data, note)


@functools.cache
def _stream():
    import soundfile

    class Stream(soundfile.SoundFile):
        """A `SoundFile` to read from beginning to end.

        A `SoundFile` seeks after every block, which fails if the length is unknown.
        """

        def seekable(self):
            return False

    return Stream


def _reason(error, otherwise):
    """Return the message of libsndfile or of the system, or else `otherwise`."""
    reason = getattr(error, "error_string", None) or str(error)
    return reason.rstrip(": .") or otherwise


def _read_otherwise(fp, reason, fast_wav, note):
    """Return `ffmpeg.read` of a file; `reason` is why libsndfile cannot open it."""
    if fast_wav:
        raise UnreadableError(f"not a WAV file ({reason})")
    program = ffmpeg.find()
    if program is None:
        raise UnreadableError(
            f"{reason}; ffmpeg may read it, but is not installed: {ffmpeg.HOW}"
        )
    return ffmpeg.read(fp, program, note)


def _check_fast(sound, fp):
    if sound.format not in FAST:
        raise UnreadableError(
            f"{sound.format}, not WAV; leave out --data_fast_wav to read it"
        )
    if sound.subtype not in FAST[sound.format]:
        raise InputError(
            f"{fp} is {sound.subtype} WAV; --data_fast_wav takes 16-bit PCM or 32-bit "
            "float only: leave it out"
        )


def _blocks(sound, expected, note):
    """Yield blocks of float32 [n, channels], at most BLOCK samples each.

    Args:
      expected: the number of samples, if libsndfile would find a wrong number.
    """
    import soundfile

    # No larger than the file: libsndfile fills the rest of a block with zeros.
    n, size = 0, max(1, min(BLOCK // sound.channels, sound.frames + 1))
    try:
        # In blocks: one read() of all allocates what the header claims.
        while len(block := sound.read(size, dtype="float32", always_2d=True)):
            n += len(block)
            ended = len(block) < size
            yield block
            if ended:
                break
    except (soundfile.LibsndfileError, OSError) as e:
        raise UnreadableError(_reason(e, "damaged")) from None
    if expected is not None:
        if n < expected:
            note(f"is damaged: {n} of {expected} samples are read")
    elif sound.frames != UNKNOWN and n < sound.frames:
        raise UnreadableError(f"truncated: {n} of {sound.frames} samples")
