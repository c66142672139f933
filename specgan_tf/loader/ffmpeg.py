"""What libsndfile cannot read, through the program ffmpeg where it is installed.

differs: the original hands everything but WAV to librosa, which runs ffmpeg through
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

import numpy as np

from specgan_tf.loader.errors import UnreadableError

SUFFIXES = tuple(".m4a .m4b .mp4 .aac .wma .webm .mka .ac3 .amr .3gp .ape .wv".split())
HOW = "apt install ffmpeg, brew install ffmpeg or winget install ffmpeg"
# Containers of sound; not playlists, which name other files.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,caf,dts,eac3,flac,matroska,webm,mov,mp4,m4a,3gp,mp3,"
    "ogg,tta,w64,wav,wv"
)
BYTES = 2 << 20  # read at a time, at least
SECONDS = 60  # it may take for those
CPU_SECONDS = 3600
MEMORY = 2 << 30  # bytes of address space
PADDING = 4096  # samples: two frames of the longest kind
ERRORS = 1 << 20  # bytes of messages


def find():
    """The program's path, or None."""
    found = shutil.which("ffmpeg")
    return found and os.path.abspath(found)


def read(fp, program, note):
    """The first sound track of a file.

    Args:
      fp: path.
      program: ffmpeg's path.
      note: called with what it complains about, if it could go on.

    Returns:
      (rate, channels, blocks): an iterator of float32 [n, channels].

    Raises:
      UnreadableError: it cannot read the file; also from the iterator.
    """
    # The prefix keeps a name from being an option or a protocol.
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
    """How many samples the container of an MP4 says its sound has, or None."""
    folder, name = os.path.split(program)
    command = [os.path.join(folder, name.replace("ffmpeg", "ffprobe")), *safe]
    command += ["-select_streams", "a:0", "-of", "json"]
    command += ["-show_entries", "stream=duration_ts,time_base", source]
    try:
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
        )
        (stream,) = json.loads(run.stdout)["streams"]
        exact = stream["time_base"] == f"1/{rate}"  # others round it, or estimate it
        return int(stream["duration_ts"]) if exact else None
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired):
        return None  # no ffprobe there, or nothing known


def without_padding(blocks, n):
    """Blocks without what an encoder added to fill its last frame after `n` samples.

    If there is more than PADDING, the length is wrong, and all is sound. ffmpeg before
    version 7 does not take the padding away.
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
    """(rate, channels), then float32 [n, channels]."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        )
        stack.callback(process.kill)  # if nobody wants the rest
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
            note(f"was read as far as ffmpeg could ({complaints[0]})")


def _limit(process):
    """Bound its memory, time and messages, where the system can (Linux)."""
    try:
        import resource
    except ImportError:
        return
    limits = {"AS": MEMORY, "CPU": CPU_SECONDS, "FSIZE": ERRORS}
    for name, limit in limits.items():
        with contextlib.suppress(AttributeError, OSError, ValueError):
            which = getattr(resource, f"RLIMIT_{name}")
            resource.prlimit(process.pid, which, (limit, limit))
