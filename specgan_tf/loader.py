"""Audio files -> `tf.data` of waveforms.

Port of loader.py (chrisdonahue/wavegan 40e85e8), and of how train_specgan.py finds
files (lines 745-754). Decoded audio is float32 [nsamps, 1, nch]; a slice is
[slice_len, 1, nch].
"""

import atexit
import collections
import concurrent.futures
import contextlib
import functools
import glob
import hashlib
import itertools
import logging
import os
import random
import re
import secrets
import struct
import threading
import time
import warnings

import numpy as np
import tensorflow as tf

from specgan_tf.files import InputError, replacing

SUFFIXES = tuple(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split()
)
RESAMPLERS = ("soxr_hq", "kaiser_best")
RATES = 100, 1_000_000  # Hz; beyond, the header is wrong
BLOCK = 1 << 20  # samples of each channel read at a time
QUICK, GROUP = 0.001, 32  # s; files that take less are decoded so many at a time
MAX_SAMPLES = 1 << 30  # of all channels, or resampled: 4 GiB
TOO_LONG = f"longer than {MAX_SAMPLES} samples: split it"
MAX_BAD = 0.1  # of the files; more than that is a wrong folder, not a few bad files

log = logging.getLogger("specgan_tf")


def find_audio(data_dir, recursive=False):
    """Paths of the audio files in a folder, sorted; what is not audio is named once.

    Sub-folders are looked into if `recursive`, or if there is no audio beside them.

    differs: the original takes an unsorted glob of everything, folders and text files
    too.  [train_specgan.py:745, 752]

    Raises:
      InputError: no such folder, nothing in it, or no audio in it.
    """
    if not os.path.isdir(data_dir):
        if os.path.exists(data_dir):
            what = "is not a folder; name the folder that holds the files"
        elif glob.has_magic(os.fspath(data_dir)):
            what = "is a pattern; name the folder that holds the files"
        else:
            what = "does not exist"
        raise InputError(f"data_dir {data_dir} {what}")
    found = [os.path.join(data_dir, name) for name in os.listdir(data_dir)]
    if recursive:
        found = []
        for root, folders, names in os.walk(data_dir):
            folders[:] = [f for f in folders if not f.startswith(".")]
            found += [os.path.join(root, name) for name in names]
    found = sorted(p for p in found if not os.path.basename(p).startswith("."))
    audio = [p for p in found if p.lower().endswith(SUFFIXES) and os.path.isfile(p)]
    if not audio:
        if not recursive and any(map(os.path.isdir, found)):
            log.info("No audio in %s itself: looking into its sub-folders", data_dir)
            return find_audio(data_dir, recursive=True)
        what = f"holds no audio ({' '.join(SUFFIXES)})" if found else "is empty"
        raise InputError(f"data_dir {data_dir} {what}")
    known = set(audio)
    other = [os.path.basename(p) for p in found if p not in known]
    if other:
        names = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
        log.warning("Not audio, left out (%d): %s", len(other), names)
    return audio


def decode_audio(
    fp, fs=None, num_channels=1, normalize=False, fast_wav=False, resample="soxr_hq"
):
    """Decodes one audio file.

    Args:
      fp: path.
      fs: rate to resample to, Hz; None keeps the file's.
      num_channels: 1 averages whatever the file has; 2 doubles a mono file; otherwise
        the file must have exactly as many.
      normalize: divide by the largest absolute sample.
      fast_wav: the file is a WAV, 16-bit PCM or 32-bit float, at `fs` already.
      resample: "soxr_hq", or "kaiser_best" (needs the resampy package).
        differs: the original's librosa 0.6.2 has kaiser_best.  [loader.py:36]

    Returns:
      float32 [nsamps, 1, num_channels].

    Raises:
      InputError: with fast_wav, a rate or sample format it does not take; a channel
        count that does not fit.
      UnreadableError: not an audio file, truncated, empty, or holding NaN or infinity.

    [loader.py:9-65]
    """
    fp = os.fsdecode(fp)
    if resample not in RESAMPLERS:
        raise ValueError(
            f"resample must be one of {RESAMPLERS}. Received: {resample!r}"
        )
    if fast_wav:
        _wav, _fs = _read_fast_wav(fp, fs)
    else:
        _wav, _fs = _read(fp)
    if _wav.size > MAX_SAMPLES:
        raise UnreadableError(TOO_LONG)
    if not len(_wav):
        raise UnreadableError("it holds no samples")
    if not np.isfinite(_wav).all():
        raise UnreadableError("it holds NaN or infinite samples")
    if fs is not None and fs != _fs:
        if not RATES[0] <= _fs <= RATES[1]:
            raise UnreadableError(f"a sample rate of {_fs} Hz")
        if _wav.size * fs / _fs > MAX_SAMPLES:
            raise UnreadableError(TOO_LONG)
        _wav = _resample(_wav, _fs, fs, resample)

    # [nsamps, 1, nch] mimics the 2D shape of spectral features
    _wav = _wav[:, np.newaxis, :]

    # Average (mono) or expand (stereo) channels  [loader.py:51-58]
    nch = _wav.shape[2]
    if nch != num_channels:
        if num_channels == 1:
            _wav = np.mean(_wav, 2, keepdims=True)
        elif nch == 1 and num_channels == 2:
            _wav = np.concatenate([_wav, _wav], axis=2)
        else:
            raise InputError(f"{fp} has {nch} channels, not {num_channels}")

    if normalize:
        factor = np.max(np.abs(_wav))
        if factor > 0:
            _wav /= factor

    return _wav


class UnreadableError(Exception):
    """One file cannot be used; the others can."""


def _read_plain_wav(fp):
    """What `_read` returns, of 16-bit PCM with the shortest header; None of others.

    Such files are most of what there is, and libraries take longer than reading does.
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
        whole = size + 36 <= length <= room + 36 and size <= 2 * MAX_SAMPLES
        if plain and whole and size % align == 0:
            content = f.read(size)
            if len(content) == size:
                wav = np.frombuffer(content, "<i2").astype(np.float32)
                wav /= 32768.0
                return wav.reshape(-1, nch), fs
    return None


def _read(fp):
    """Samples float32 [nsamps, nch] and rate of anything libsndfile reads."""
    if plain := _read_plain_wav(fp):
        return plain
    import soundfile

    _check_length(fp)
    try:
        # As bytes: on POSIX a name need not be UTF-8.
        name = os.fsencode(fp) if os.name == "posix" else fp
        with soundfile.SoundFile(name) as f:
            expected, fs = f.frames, f.samplerate
            if expected == 2**63 - 1:  # libsndfile's SF_COUNT_MAX
                raise UnreadableError("it does not say its length: encode it again")
            # In blocks: f.read() makes room for as much as the header claims.
            blocks, size = [], 0
            while len(block := f.read(BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
                size += block.size
                if size > MAX_SAMPLES:  # and maybe without end
                    raise UnreadableError(TOO_LONG)
            wav = blocks[0] if len(blocks) == 1 else np.concatenate([*blocks, block])
    except (soundfile.LibsndfileError, OSError) as e:
        reason = getattr(e, "error_string", None) or str(e)
        raise UnreadableError(reason.rstrip(": .") or "not an audio file") from None
    if len(wav) < expected:
        raise UnreadableError(f"truncated: {len(wav)} of {expected} samples")
    return wav, fs


def _read_fast_wav(fp, fs):
    """Samples float32 [nsamps, nch] and rate of a standard WAV file, through scipy."""
    wav, _fs = _read_plain_wav(fp) or _read_scipy(fp)
    if fs is not None and fs != _fs:
        raise InputError(
            f"{fp} is at {_fs} Hz, not {fs}; --data_fast_wav cannot resample: leave it "
            "out, or set --data_sample_rate"
        )
    return wav, _fs


def _read_scipy(fp):
    from scipy.io import wavfile

    _check_length(fp)
    try:
        # Chunks that are not audio are no matter. (catch_warnings is not for threads.)
        warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
        _fs, wav = wavfile.read(fp)
    except Exception as e:  # scipy raises whatever an odd header makes it stumble over
        raise UnreadableError(str(e).rstrip(".") or "not a WAV file") from None
    if wav.dtype == np.int16:
        wav = wav.astype(np.float32) / 32768.0
    elif wav.dtype != np.float32:
        raise InputError(
            f"{fp} is {wav.dtype} WAV; --data_fast_wav takes 16-bit PCM or 32-bit "
            "float only: leave it out"
        )
    return wav if wav.ndim == 2 else wav[:, np.newaxis], _fs


def _resample(wav, fs, target, resampler):
    """[nsamps, nch] at `fs` Hz -> [ceil(nsamps * target / fs), nch] at `target` Hz."""
    import librosa

    if resampler == "soxr_hq":
        return librosa.resample(
            wav, orig_sr=fs, target_sr=target, res_type="soxr_hq", axis=0
        )
    try:
        import resampy
    except ImportError:
        raise InputError(
            "kaiser_best needs the resampy package: pip install resampy"
        ) from None
    from scipy.signal import windows

    # kaiser_best as it was before resampy 0.4 changed the filter of that name.
    try:
        resampled = resampy.resample(
            wav,
            fs,
            target,
            axis=0,
            filter="sinc_window",
            num_zeros=64,
            precision=9,
            rolloff=0.9475937167399596,
            window=lambda n: windows.kaiser(n, 14.769656459379492),
        )
    except ValueError as e:  # a sample or two
        raise UnreadableError(f"cannot be resampled: {e}") from None
    size = int(np.ceil(len(wav) * target / fs))
    return librosa.util.fix_length(resampled, size=size, axis=0)


def _check_length(fp):
    """Refuse a truncated WAV or AIFF; libsndfile and scipy read what is left."""
    try:
        with open(fp, "rb") as f:
            head, size = f.read(8), os.fstat(f.fileno()).st_size
    except OSError as e:
        raise UnreadableError(e.strerror or str(e)) from None
    order = {b"RIFF": "<I", b"FORM": ">I"}.get(head[:4])
    if order is None or len(head) < 8:
        return
    (length,) = struct.unpack(order, head[4:])
    streamed = length in (0, 0xFFFFFFFF)  # the writer could not know it
    if not streamed and length + 8 > size + 1:  # + 1: a missing pad byte is harmless
        raise UnreadableError(f"truncated: {size} of {length + 8} bytes")


def slice_hop_len(slice_len, slice_overlap_ratio):
    """Samples from one slice to the next.  [loader.py:146-151]

    Raises:
      InputError: an overlap below 0, or so high that slices would not advance.
    """
    if slice_overlap_ratio < 0:
        raise InputError(
            f"slice_overlap_ratio must be 0 or more. Received: {slice_overlap_ratio}"
        )
    # original: the 1e-4 is added after rounding, so it does nothing.
    hop = int(round(slice_len * (1.0 - slice_overlap_ratio)) + 1e-4)
    if hop < 1:
        raise InputError(
            f"slice_overlap_ratio is too high for slices of {slice_len} samples. "
            f"Received: {slice_overlap_ratio}"
        )
    return hop


def slice_count(nsamps, slice_len, slice_hop, first_only=False, pad_end=False):
    """How many slices `extract_slices` makes of that many samples; of arrays."""
    nsamps = np.maximum(nsamps, 0)
    if pad_end:
        n = -(-nsamps // slice_hop)
    else:
        n = np.maximum(0, 1 + (nsamps - slice_len) // slice_hop)
    return np.minimum(n, 1) if first_only else n


def extract_slices(audio, slice_len, slice_hop, first_only=False, pad_end=False):
    """[nsamps, 1, nch] -> list of slices [n, 1, nch], views of it.

    n is slice_len, or less where a slice is still to be filled with zeros.

    [loader.py:158-171]
    """
    end = len(audio) if pad_end else len(audio) - slice_len + 1
    starts = range(0, end, slice_hop)[: 1 if first_only else None]
    return [audio[i : i + slice_len] for i in starts]


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

    def __call__(self, fp):
        if self.where is None:
            return decode_audio(fp, **self.decode)
        if self.where == "memory":
            if fp not in self.held:
                self.held[fp] = decode_audio(fp, **self.decode)
            return self.held[fp]
        if fp not in self.held:
            self.held[fp] = self.path(fp)
        path = self.held[fp]
        with contextlib.suppress(FileNotFoundError, ValueError):  # not there, damaged
            audio = np.frombuffer(self.read(path), np.float32)
            if len(audio):
                return audio.reshape(-1, 1, self.decode["num_channels"])
        audio = decode_audio(fp, **self.decode)
        if not self.full:
            try:
                with replacing(path) as f:
                    f.write(audio.tobytes())
                self.sizes[path] = audio.nbytes
            except OSError as e:
                self.full = True
                log.warning("No more is cached in %s: %s", self.where, e.strerror)
        return audio

    def read(self, path):
        """All of a file. In as few calls as can be: after each of them a thread waits
        for the others, which takes longer than the call."""
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            size = self.sizes.get(path)
            if size is None:
                size = self.sizes[path] = os.fstat(fd).st_size
            content = os.read(fd, size)
        finally:
            os.close(fd)
        if len(content) != size:  # it was cut since, or is of more than 2 GiB
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


class Decoder:
    """Decodes and slices one file after another, and keeps the account of a folder.

    differs: in the original one unreadable file ends training, unnamed, and a folder
    that yields no slice hangs it for ever. Here a bad file is named, skipped and
    counted; too many, or no slice at all, is an error.  [loader.py:122-171]
    """

    def __init__(self, fps, lengths, slicing, cache=None, **decode):
        self.fps, self.nfiles, self.lengths = fps, len(fps), lengths
        self.slicing, self.slice_len = slicing, slicing[0]
        self.decode, self.nch = Cache(cache, **decode), decode["num_channels"]
        self.bad, self.fruitless, self.failed = {}, 0, False
        self.lock = threading.Lock()

    # Of all decoders in this process: calls so far, calls under way, no more of them
    calls, under_way, ending = 0, 0, False
    named = set()  # files already said to be bad
    ledger = threading.Lock()

    def __call__(self, tasks):
        """[(a file's number, first sample)] -> (slices of each, seconds per file).

        A slice is [n, 1, nch], n <= slice_len: see `extract_slices`.
        """
        start = time.monotonic()
        with Decoder.ledger:
            Decoder.calls += 1
            Decoder.under_way += 1
        try:
            slices = [self.slices(*task) for task in tasks]
            return slices, (time.monotonic() - start) / len(tasks)
        finally:
            with Decoder.ledger:
                Decoder.under_way -= 1

    def slices(self, file, start):
        if Decoder.ending:
            raise RuntimeError("the interpreter is ending")
        fp = os.fsdecode(self.fps[file])
        try:
            audio = self.decode(fp)
        except UnreadableError as e:
            audio = np.zeros((0, 1, self.nch), np.float32)
            self.skip(fp, e)
        self.lengths[file] = len(audio)
        slices = extract_slices(audio[start:], *self.slicing)
        self.count(len(slices))
        if self.decode.where == "memory":
            return slices
        # In a buffer, a view would keep the whole file.
        return [s if len(s) == len(audio) else s.copy() for s in slices]

    def skip(self, fp, reason):
        with self.lock:
            if fp in self.bad or self.failed:  # the error comes last
                return
            self.bad[fp] = str(reason)
            if fp not in Decoder.named:  # moments and training read the same folder
                Decoder.named.add(fp)
                n = len(self.bad)
                log.warning("Skipped %s: %s (%d of %d)", fp, reason, n, self.nfiles)
            self.failed = len(self.bad) > MAX_BAD * self.nfiles
            if len(self.bad) == self.nfiles:
                raise InputError(f"none of the {self.nfiles} audio files can be read")
            if self.failed:
                raise InputError(
                    f"{len(self.bad)} of {self.nfiles} audio files cannot be read "
                    f"(last: {fp}: {reason}), more than a tenth: remove or repair them"
                )

    def count(self, nslices):
        with self.lock:
            self.fruitless = 0 if nslices else self.fruitless + 1
            # Twice through everything, and often enough that luck is no explanation:
            # a file of 1.2 slices yields one for every fifth random start.
            if self.fruitless >= max(100, 2 * self.nfiles):
                raise InputError(no_slices(self.nfiles, self.slice_len))


@atexit.register
def _finish_decoding():
    """Wait until no dataset decodes any more.

    One that is still alive when the interpreter ends (`it = iter(dataset)` in a script)
    has threads that would wait for Python for ever, and the process with them.
    """
    Decoder.ending, calls = True, -1
    deadline = time.monotonic() + 60  # a very long file may take that
    while time.monotonic() < deadline:
        if calls == Decoder.calls and not Decoder.under_way:
            break
        calls = Decoder.calls
        time.sleep(0.1)  # lets calls that wait for Python come in, and fail


def no_slices(nfiles, slice_len):
    return (
        f"the {nfiles} audio files are too short for random slices of {slice_len} "
        "samples; for short sounds use --data_first_slice --data_pad_end"
    )


class Order:
    """Which file comes when, from which sample, and who leaves the shuffle buffer next.

    original: every file once an epoch, each time from a new random sample, and slices
    through a buffer of fixed size.  [loader.py:118-184]

    differs: all of it is a function of the seed and of where one is, so that a training
    can go on from any point.  [loader.py:119]
    """

    BLOCK = 4096  # numbers drawn at a time

    def __init__(self, nfiles, shuffle, offsets, seed):
        self.nfiles, self.shuffle, self.offsets = nfiles, shuffle, offsets
        self.seed = seed

    def epoch(self, number):
        """Files of an epoch in their order, and the first sample of each."""
        rng = np.random.default_rng([self.seed, 0, number])
        files = rng.permutation(self.nfiles) if self.shuffle else range(self.nfiles)
        starts = np.zeros(self.nfiles, np.int64)
        if self.offsets:
            starts = rng.integers(self.offsets, size=self.nfiles)
        return np.asarray(files), starts

    def leaving(self, block, size):
        """Places in a buffer of `size`: of those who leave in this block of BLOCK."""
        rng = np.random.default_rng([self.seed, 1, block])
        return rng.integers(size, size=self.BLOCK)

    def buffered(self, skip, size):
        """What each place of the buffer holds when `skip` slices have left: numbers of
        slices, in the order in which they came in."""
        held = np.arange(size)
        for first in range(0, skip, self.BLOCK):
            places = self.leaving(first // self.BLOCK, size)[: skip - first]
            # Of several who came to one place, the last is there still.
            held[places] = size + first + np.arange(len(places))
        return held


class Part:
    """What one of several workers takes of the slices: some rows of every batch.

    Slices have numbers in the order in which they come into the buffer. When each will
    leave it is known by then, and so is who takes it.

    Args:
      order, size: an `Order`, and the size of its buffer.
      batch: slices in a batch of all workers.
      rows: (first, last + 1) of this worker's rows.
      skip: slices that had left before the first batch.
    """

    def __init__(self, order, size, batch, rows, skip=0):
        self.order, self.size, self.batch, self.rows = order, size, batch, rows
        self.skip = skip
        self.departures = functools.lru_cache(maxsize=32)(self.departures)

    def has(self, departure):
        """Of the slices that leave as these ones; of numbers or arrays."""
        row = (departure - self.skip) % self.batch
        return (self.rows[0] <= row) & (row < self.rows[1])

    def takes(self, numbers):
        """Bool, of the slices that come as these ones; True too if it is not known."""
        numbers = np.asarray(numbers)
        after = numbers - self.size  # so many had left when they came
        blocks = np.where(after < 0, -1, after // Order.BLOCK)
        departure = np.empty_like(numbers)
        for block in np.unique(blocks):
            here = blocks == block
            came = numbers[here] if block < 0 else after[here] % Order.BLOCK
            departure[here] = self.departures(int(block))[came]
        return (departure < 0) | self.has(departure)

    def departures(self, block):
        """When those leave who come in this block, or (-1) begin in the buffer; -1 for
        the few who stay for very long."""
        came = self.order.leaving(block, self.size) if block >= 0 else range(self.size)
        n, following = len(came), 2 + 12 * self.size // Order.BLOCK
        blocks = range(block + 1, block + 1 + following)
        places = [self.order.leaving(b, self.size) for b in blocks]
        places = np.concatenate([came, *places])
        at = np.argsort(places, kind="stable")  # place by place, in time
        again = places[at[1:]] == places[at[:-1]]
        departure = np.full(len(places), -1)
        departure[at[:-1][again]] = at[1:][again] - n + (block + 1) * Order.BLOCK
        return departure[:n]


class Slices:
    """The slices of many files, decoded ahead by threads, in the order of `order`."""

    def __init__(
        self, decoder, order, repeat, buffer_size, parallel, skip=0, part=None
    ):
        self.decoder, self.order, self.repeat = decoder, order, repeat
        self.buffer_size, self.parallel = buffer_size, parallel or 1
        self.skip, self.part = skip, part

    def of_part(self, part):
        """Yields the slices of `part` alone, in the same order.

        If files became shorter since they were measured, others take the place of what
        they lack: the parts of the other workers must not move.
        """
        size, skip = self.buffer_size, part.skip
        if skip:
            held = self.order.buffered(skip, size)
            *places, next_place = self.locate([*held, skip + size])
            taken, buffer = np.flatnonzero(part.takes(held)), [None] * size
            for i, slice_ in zip(
                taken, self.these([places[i] for i in taken]), strict=True
            ):
                buffer[i] = slice_
            arriving = self.arriving_for(part, next_place, skip + size)
        else:
            arriving = self.arriving_for(part, (0, 0, 0), 0)
            buffer = list(itertools.islice(arriving, size))
        spare = next((s for s in buffer if s is not None), None)
        for departure, new in enumerate(arriving, skip):
            if departure == skip or departure % Order.BLOCK == 0:
                leaving = self.order.leaving(departure // Order.BLOCK, size)
            place = leaving[departure % Order.BLOCK]
            leaver, buffer[place] = buffer[place], new
            spare = spare if new is None else new
            if part.has(departure):
                yield spare if leaver is None else leaver

    def arriving_for(self, part, place, number):
        """As `arriving`, for a part, from the slice of that number on; None for others'
        slices. A file that is all theirs is not decoded, if its length is known.
        """
        epoch, position, first = place
        number -= first
        upcoming = number  # of the next file's first slice; None if that is not known
        pool = concurrent.futures.ThreadPoolExecutor(self.parallel)
        pending, running = collections.deque(), 0
        try:
            for task in self.tasks(epoch, position):
                if upcoming is None:
                    sizes = [self.size_of(*t) for t, _, _ in pending]
                    upcoming = None if None in sizes else number + sum(sizes)
                size, future = self.size_of(*task), None
                if upcoming is None or size is None:
                    upcoming, taken = None, True
                else:
                    taken = part.takes(np.arange(upcoming, upcoming + size)).any()
                    upcoming += size
                if taken:
                    future = pool.submit(self.decoder, [task])
                    running += 1
                pending.append((task, size, future))
                while running > self.parallel:
                    _, size, future = pending.popleft()
                    slices = [None] * size if future is None else future.result()[0][0]
                    running -= future is not None
                    if len(slices) != size:
                        upcoming = None
                    takes = part.takes(np.arange(number, number + len(slices)))
                    for one, taken in [*zip(slices, takes, strict=True)][first:]:
                        yield one if taken else None
                    number, first = number + len(slices), 0
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def size_of(self, file, start):
        """How many slices a file has from a sample on; None if that is not known."""
        length = self.decoder.lengths[file]
        slicing = self.decoder.slicing
        return None if length < 0 else int(slice_count(length - start, *slicing))

    def __iter__(self):
        """Slices, see `extract_slices`: those after the first `skip`."""
        size, skip = self.buffer_size, self.skip
        if self.part:
            yield from self.of_part(self.part)
            return
        if not size:
            yield from self.arriving(*self.locate([skip]))
            return
        if skip:
            held = self.order.buffered(skip, size)
            *places, next_place = self.locate([*held, skip + size])
            buffer, arriving = self.these(places), self.arriving(next_place)
            # Files that have become shorter, or bad, since their slices were counted
            buffer = [next(arriving) if s is None else s for s in buffer]
        else:
            arriving = self.arriving((0, 0, 0))
            buffer = list(itertools.islice(arriving, size))
        places = iter(())
        for number, new in enumerate(arriving, skip):
            if number == skip or number % Order.BLOCK == 0:
                places = self.order.leaving(number // Order.BLOCK, size)
            place = places[number % Order.BLOCK]
            leaver, buffer[place] = buffer[place], new
            yield leaver
        random.Random(self.order.seed).shuffle(buffer)
        yield from buffer

    def arriving(self, place):
        """Slices as the files yield them, from a place (see `locate`) on."""
        epoch, position, first = place
        for slices in self.decoded(self.tasks(epoch, position)):
            yield from slices[first:]
            first = 0

    def decoded(self, tasks):
        """The slices of each task, in order; a few tasks ahead where they take long."""
        pool = concurrent.futures.ThreadPoolExecutor(self.parallel)
        pending, tasks, size = collections.deque(), iter(tasks), 1
        try:
            while group := list(itertools.islice(tasks, size)):
                pending.append(pool.submit(self.decoder, group))
                # Threads that read short files wait for one another, not for the disk.
                while len(pending) > (self.parallel if size == 1 else 0):
                    slices, seconds = pending.popleft().result()
                    size = min(2 * size, GROUP) if seconds < QUICK else 1
                    yield from slices
            while pending:
                yield from pending.popleft().result()[0]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def tasks(self, epoch, place=0):
        """(file, first sample) of one file after another."""
        for number in itertools.count(epoch) if self.repeat else [epoch]:
            files, starts = self.order.epoch(number)
            yield from zip(files[place:], starts[place:], strict=True)
            place = 0

    def these(self, places):
        """The slices at these places, or None; each file decoded once."""
        wanted, found = collections.defaultdict(list), [None] * len(places)
        for i, (epoch, position, k) in enumerate(places):
            wanted[epoch, position].append((i, k))
        epochs = {e: self.order.epoch(e) for e in {e for e, _ in wanted}}
        tasks = ((epochs[e][0][p], epochs[e][1][p]) for e, p in wanted)
        for slices, into in zip(self.decoded(tasks), wanted.values(), strict=True):
            for i, k in into:
                found[i] = slices[k] if k < len(slices) else None
        return found

    def leaving(self, skip, n):
        """Numbers of the `n` slices that come after the first `skip`."""
        numbers, size = np.arange(skip, skip + n), self.buffer_size
        if size:
            held = self.order.buffered(skip, size)
            for i, number in enumerate(range(skip, skip + n)):
                places = self.order.leaving(number // Order.BLOCK, size)
                place = places[number % Order.BLOCK]
                numbers[i], held[place] = held[place], size + number
        return numbers

    def locate(self, numbers):
        """Where slices are, by their numbers: (epoch, position of the file in it, which
        of its slices)."""
        numbers = np.asarray(numbers)
        if not numbers.any():
            return [(0, 0, 0)] * len(numbers)
        into = np.argsort(numbers)
        found, left = [], numbers[into]
        lengths, epoch, base = self.decoder.lengths, 0, 0
        if (lengths >= 0).all():
            size = int(slice_count(lengths, *self.decoder.slicing).sum())
            if not size:
                raise InputError(no_slices(len(lengths), self.decoder.slice_len))
            if not self.order.offsets:  # all epochs are as large
                epoch = int(left[0]) // size
                base = epoch * size
        while len(left):
            counts = self.counts(epoch, left[-1] - base + 1)
            ends = base + np.cumsum(counts)
            inside, left = np.split(left, [np.searchsorted(left, ends[-1])])
            places = np.searchsorted(ends, inside, side="right")
            which = inside - (ends - counts)[places]
            found += [(epoch, *p) for p in zip(places, which, strict=True)]
            epoch, base = epoch + 1, ends[-1]
        return [found[i] for i in np.argsort(into)]

    def counts(self, epoch, enough):
        """Slices of each file of an epoch, in its order: right for `enough` slices."""
        files, starts = self.order.epoch(epoch)
        lengths = self.decoder.lengths
        while True:
            counts = slice_count(lengths[files] - starts, *self.decoder.slicing)
            unknown = np.flatnonzero(lengths[files] < 0)[:1]
            if not unknown.size or counts[: unknown[0]].sum() >= enough:
                return counts
            self.decoder([(files[unknown[0]], 0)])


def aligned_zeros(shape):
    """Float32 zeros at a multiple of 64 bytes: TensorFlow takes them uncopied."""
    size = 4 * int(np.prod(shape))
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(np.float32).reshape(shape)


def decode_extract_and_batch(
    fps,
    batch_size,
    slice_len,
    decode_fs,
    decode_num_channels,
    decode_normalize=True,
    decode_fast_wav=False,
    decode_parallel_calls=1,
    slice_randomize_offset=False,
    slice_first_only=False,
    slice_overlap_ratio=0,
    slice_pad_end=False,
    repeat=False,
    shuffle=False,
    shuffle_buffer_size=None,
    prefetch_size=None,
    prefetch_gpu_num=None,
    decode_resample="soxr_hq",
    decode_cache=None,
    seed=None,
    skip=0,
    lengths=None,
    part=(0, 1),
):
    """Decodes audio files into batches of slices.

    Args:
      fps: paths.
      batch_size: slices in a batch; what is left over is dropped.
      slice_len: samples.
      decode_fs, decode_num_channels, decode_normalize, decode_fast_wav,
        decode_resample: as in `decode_audio`.
      decode_parallel_calls: files decoded at a time; their order is kept.
      decode_cache: decode each file once: "memory" keeps all that was decoded, anything
        else is a folder to keep it in; None keeps nothing.
      slice_randomize_offset: start each file at a random sample below `slice_len`.
      slice_first_only: only the first slice of each file.
      slice_overlap_ratio: in [0, 1), of adjacent slices.
      slice_pad_end: fill a last partial slice with zeros.
      repeat: go on for ever.
      shuffle: files every epoch, and slices through a buffer of shuffle_buffer_size.
      prefetch_size: batches to have ready; None for none.
      prefetch_gpu_num: have them ready on this GPU, where there is such a GPU.
      seed: of offsets and orders; None draws one.
      skip: begin after so many slices, as if they had been taken; of the endless
        (`repeat`) and seeded.
      lengths: int64 [len(fps)], what is known of the files' samples at decode_fs, -1
        where nothing is. Filled in while decoding; to `skip`, those of the files
        decoded so far spare decoding them again.
      part: (i, n): the i-th of n equal parts of each batch, for n workers; of the
        endless, shuffled and seeded. Where `lengths` are known, a file is decoded by
        those alone who take slices of it.

    Returns:
      `tf.data.Dataset` of float32 [batch_size / n, slice_len, 1, nch]. Iterating it
      raises `tf.errors.OpError` for bad input; `input_error` says it in one line.

    [loader.py:68-198]
    """
    i, parts = part
    own = batch_size // parts
    slices = decode_and_extract(
        fps,
        slice_len,
        decode_fs,
        decode_num_channels,
        decode_normalize=decode_normalize,
        decode_fast_wav=decode_fast_wav,
        decode_parallel_calls=decode_parallel_calls,
        slice_randomize_offset=slice_randomize_offset,
        slice_first_only=slice_first_only,
        slice_overlap_ratio=slice_overlap_ratio,
        slice_pad_end=slice_pad_end,
        repeat=repeat,
        shuffle_buffer_size=shuffle_buffer_size if shuffle else None,
        decode_resample=decode_resample,
        decode_cache=decode_cache,
        seed=seed,
        skip=skip,
        lengths=lengths,
        part=(batch_size, (i * own, (i + 1) * own)) if parts > 1 else None,
    )

    # Make batches
    shape = [own, slice_len, 1, decode_num_channels]

    def batches():
        found = iter(slices)
        while len(batch := list(itertools.islice(found, own))) == own:
            whole = aligned_zeros(shape)
            for into, x in zip(whole, batch, strict=True):
                into[: len(x)] = x
            yield whole

    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=tf.TensorSpec(shape, tf.float32)
    )

    # Prefetch a number of batches
    if prefetch_size is not None:
        dataset = dataset.prefetch(prefetch_size)
        gpus = tf.config.list_logical_devices("GPU")
        if prefetch_gpu_num is not None and 0 <= prefetch_gpu_num < len(gpus):
            dataset = dataset.apply(
                tf.data.experimental.prefetch_to_device(gpus[prefetch_gpu_num].name)
            )
    return dataset


def timed(dataset, add):
    """The same dataset; `add(seconds)` hears how long each element was waited for.

    That is the time until what comes before had it ready, to be measured behind a
    `prefetch`, in the process that calls `add`.
    """
    # Components of a zip are asked for one after another.
    clock = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

    def tell(before, x, after):
        tf.numpy_function(lambda s: add(float(s)) or s, [after - before], tf.float64)
        return x

    # Prefetched again, the waiting would be that of a thread that nobody waits for.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    timed = tf.data.Dataset.zip((clock, dataset, clock)).map(tell)
    return timed.with_options(options)


def decode_and_extract(
    fps,
    slice_len,
    decode_fs,
    decode_num_channels,
    decode_normalize=True,
    decode_fast_wav=False,
    decode_parallel_calls=1,
    slice_randomize_offset=False,
    slice_first_only=False,
    slice_overlap_ratio=0,
    slice_pad_end=False,
    repeat=False,
    shuffle_buffer_size=None,
    decode_resample="soxr_hq",
    decode_cache=None,
    seed=None,
    skip=0,
    lengths=None,
    part=None,
):
    """The slices of `decode_extract_and_batch`, one by one.

    Args:
      shuffle_buffer_size: None does not shuffle.
      part: (n, (first, last + 1)): of every n slices those in these places alone.
      The others as there.

    Returns:
      An iterable of numpy float32 [n, 1, nch]. n is slice_len, or less where a slice is
      still to be filled with zeros. Iterating it raises `InputError` for bad input.
    """
    slice_hop = slice_hop_len(slice_len, slice_overlap_ratio)
    if lengths is None:
        lengths = np.full(len(fps), -1)
    decoder = Decoder(
        fps,
        lengths,
        (slice_len, slice_hop, slice_first_only, slice_pad_end),
        fs=decode_fs,
        num_channels=decode_num_channels,
        normalize=decode_normalize,
        fast_wav=decode_fast_wav,
        resample=decode_resample,
        cache=decode_cache,
    )
    seed = secrets.randbits(63) if seed is None else seed
    offsets = slice_len if slice_randomize_offset else 0
    order = Order(len(fps), shuffle_buffer_size is not None, offsets, seed)
    size, parallel = shuffle_buffer_size or 0, decode_parallel_calls
    part = Part(order, size, *part, skip) if part else None
    return Slices(decoder, order, repeat, size, parallel, skip, part)


def origins(
    skip,
    n,
    lengths,
    seed,
    shuffle_buffer_size,
    slice_len,
    slice_randomize_offset=False,
    slice_first_only=False,
    slice_overlap_ratio=0,
    slice_pad_end=False,
):
    """Where `n` slices of a shuffled, endless `decode_extract_and_batch` were from.

    Args:
      skip: how many came before them.
      lengths: as that left them.
      The others as it was given them.

    Returns:
      [(index of the file, its first sample in the slice)], in the order of the slices.
    """
    hop = slice_hop_len(slice_len, slice_overlap_ratio)
    decoder = Decoder(
        range(len(lengths)),
        lengths,
        (slice_len, hop, slice_first_only, slice_pad_end),
        num_channels=1,
    )
    order = Order(len(lengths), True, slice_len * slice_randomize_offset, seed)
    slices = Slices(decoder, order, True, shuffle_buffer_size, 1)
    found = []
    for epoch, place, k in slices.locate(slices.leaving(skip, n)):
        files, starts = order.epoch(epoch)
        found.append((int(files[place]), int(starts[place] + k * hop)))
    return found


def input_error(error):
    """The `InputError` inside a `tf.errors.OpError` raised by a dataset, or None."""
    said = re.search(r"InputError: (.*)", str(error))
    return InputError(said.group(1)) if said else None
