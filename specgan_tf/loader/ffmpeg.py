"""Read files that libsndfile cannot, with the program ffmpeg if it is installed.

differs: the original passes all files but WAV to librosa, which runs ffmpeg through
audioread.  [loader.py:33-37]
"""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator

import numpy as np

from specgan_tf.files import StrPath
from specgan_tf.loader.errors import UnreadableError

SUFFIXES = tuple(".m4a .m4b .mp4 .aac .wma .webm .mka .ac3 .amr .3gp .ape .wv".split())
HOW = "apt install ffmpeg, brew install ffmpeg or winget install ffmpeg"
# Containers of sound. Playlists are excluded: they name other files.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,caf,dts,eac3,flac,matroska,webm,mov,mp4,m4a,3gp,mp3,"
    "ogg,tta,w64,wav,wv"
)
BYTES = 2 << 20  # read at a time
SECONDS = 60  # time limit for each read
CPU_SECONDS = 3600
MEMORY = 2 << 30  # bytes of address space
PADDING = 4096  # samples: two frames of the longest kind
ERRORS = 1 << 20  # bytes of messages


def find() -> str | None:
    """Return the path of ffmpeg, or None."""
    found = shutil.which("ffmpeg")
    return found and os.path.abspath(found)


def read(
    fp: StrPath, program: str, note: Callable[[str], None]
) -> tuple[int, int, Iterator[np.ndarray]]:
    """Read the first sound track of a file.

    Args:
      fp: path.
      program: ffmpeg's path.
      note: called with a remark if ffmpeg complains but goes on.

    Returns:
      (rate, channels, blocks): an iterator of float32 [n, channels].

    Raises:
      UnreadableError: ffmpeg cannot read the file. The iterator raises it too.
    """
    # With this prefix ffmpeg takes no name for an option or a protocol.
    source = "file:" + os.path.abspath(fp)
    safe = ["-hide_banner", "-loglevel", "error", "-max_alloc", str(MEMORY // 4)]
    safe += ["-protocol_whitelist", "file", "-format_whitelist", FORMATS]
    command = [program, "-nostdin", *safe, "-threads", "1", "-i", source]
    command += ["-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"]
    command += ["-c:a", "pcm_f32be", "-f", "au", "-"]
    blocks = _blocks(command, note)
    rate, channels = next(blocks)
    n = _length(program, safe, source, rate)
    return rate, channels, without_padding(blocks, n) if n else blocks


def _length(program, safe, source, rate):
    """Return the number of samples that an MP4 container gives, or None."""
    folder, name = os.path.split(program)
    command = [os.path.join(folder, name.replace("ffmpeg", "ffprobe")), *safe]
    command += ["-select_streams", "a:0", "-of", "json"]
    command += ["-show_entries", "stream=duration_ts,time_base", source]
    try:
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
        )
        (stream,) = json.loads(run.stdout)["streams"]
        # Other containers round or estimate the length.
        exact = stream["time_base"] == f"1/{rate}"
        return int(stream["duration_ts"]) if exact else None
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired):
        return None  # no ffprobe, or it does not know


def without_padding(
    blocks: Generator[np.ndarray, None, None], n: int
) -> Iterator[np.ndarray]:
    """Cut the padding that an encoder added after `n` samples to fill its last frame.

    More than PADDING samples after `n` mean that `n` is wrong: then nothing is cut.
    ffmpeg before version 7 does not cut the padding.
    """
    with contextlib.closing(blocks):
        beyond = []
        for block in blocks:
            inside, n = block[:n], n - min(n, len(block))
            if len(inside):
                yield inside
            beyond.append(block[len(inside) :])
            if sum(map(len, beyond)) > PADDING:
                yield from beyond
                yield from blocks


def _blocks(command, note):
    """Yield (rate, channels), then blocks of float32 [n, channels]."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        )
        stack.callback(process.kill)  # if the caller drops the generator
        _limit(process)
        late = threading.Event()

        def read(n):
            def kill():
                late.set()
                process.kill()

            timer = threading.Timer(SECONDS, kill)
            timer.start()
            try:
                return process.stdout.read(n)
            finally:
                timer.cancel()

        head = read(24)
        if len(head) == 24:
            _, start, _, _, rate, channels = struct.unpack(">4s5I", head)
            read(start - 24)
            yield rate, channels
            frame = 4 * channels
            size = max(1, BYTES // frame) * frame
            while content := read(size):
                samples = np.frombuffer(
                    content, ">f4", len(content) // frame * channels
                )
                yield samples.astype(np.float32).reshape(-1, channels)
        status = process.wait()
        errors.seek(0)
        complaints = errors.read(4096).decode(errors="replace").splitlines()
        if late.is_set():
            raise UnreadableError(f"ffmpeg took more than {SECONDS} s")
        if status or len(head) < 24:
            reason = complaints[-1] if complaints else f"status {status}"
            if any("matches no streams" in line for line in complaints):
                reason = "it has no sound track"
            raise UnreadableError(f"ffmpeg cannot read it: {reason}")
        if complaints:
            note(f"has errors: all that ffmpeg could read is used ({complaints[0]})")


def _limit(process):
    """Bound a process's memory, time and messages, if the system can (Linux)."""
    try:
        import resource
    except ImportError:
        return
    limits = {"AS": MEMORY, "CPU": CPU_SECONDS, "FSIZE": ERRORS}
    for name, limit in limits.items():
        with contextlib.suppress(AttributeError, OSError, ValueError):
            which = getattr(resource, f"RLIMIT_{name}")
            resource.prlimit(process.pid, which, (limit, limit))
