"""Decode the files of a folder; name, skip and count the files that cannot be used."""

import atexit
import collections.abc
import functools
import logging
import os
import threading
import time
from collections.abc import Callable

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.loader.cache import Cache
from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.long import Long, LongCut
from specgan_tf.loader.slices import extract_slices, require_slices

MAX_BAD = 0.1  # share of the files; more bad files mean a wrong folder

log = logging.getLogger("specgan_tf")


class Decoder:
    """Decodes and slices the files of a folder, and counts its bad and short files.

    Args:
      fps: paths.
      lengths: int64 [len(fps)], see `decode_extract_and_batch`; filled in here.
      slicing: (slice_len, slice_hop, first_only, pad_end), see `extract_slices`.
      cache: see `Cache`.
      decode: arguments of `decode_audio`.

    differs: in the original one unreadable file ends training, unnamed, and a folder
    that yields no slice hangs it for ever. Here a bad file is named, skipped and
    counted; too many, or no slice at all, is an error.  [loader.py:122-171]
    """

    def __init__(self, fps, lengths, slicing, cache=None, **decode):
        self.fps, self.nfiles, self.lengths = fps, len(fps), lengths
        self.slicing, self.slice_len = slicing, slicing[0]
        self.decode, self.nch = Cache(cache, **decode), decode["num_channels"]
        self.bad, self.fruitless, self.failed = {}, 0, False
        self.long = {}  # file -> its `Long`
        self.noted = collections.defaultdict(set)  # remark -> files
        self.unknown, self.told = int(np.sum(np.less(lengths, 0))), False
        self.lock = threading.Lock()

    # Shared by all decoders in this process: calls begun, calls now running, and
    # whether the interpreter is ending.
    calls, under_way, ending = 0, 0, False
    named = set()  # what was logged: (file, remark), and counts of short files
    ledger = threading.Lock()

    def __call__(self, tasks, reserve=None):
        """[(index of a file, first sample)] -> ([`Cut` of each], seconds per file).

        It calls `reserve` with the number of bytes that all files so far need, before
        it takes memory for them.
        """
        start = time.monotonic()
        with Decoder.ledger:
            Decoder.calls += 1
            Decoder.under_way += 1
        try:
            found, held = [], 0
            for task in tasks:
                more = reserve and (lambda n, held=held: reserve(held + n))
                found.append(self.slices(*task, more))
                held += found[-1].nbytes
            return found, (time.monotonic() - start) / len(tasks)
        finally:
            with Decoder.ledger:
                Decoder.under_way -= 1

    def slices(
        self, file: int, start: int, reserve: Callable[[int], None] | None = None
    ) -> "Cut | LongCut":
        """Return the slices of a file, from sample `start` on; none of a bad file.

        Raises:
          InputError: too many bad files, or too many files in a row without a slice.
        """
        if Decoder.ending:
            raise RuntimeError("the interpreter is ending")
        fp = os.fsdecode(self.fps[file])
        try:
            note = functools.partial(self.note, fp)
            audio = self.long.get(file) or self.decode(fp, note, reserve)
        except UnreadableError as e:
            audio = np.zeros((0, 1, self.nch), np.float32)
            self.skip(fp, e.reason)
        if isinstance(audio, Long):
            self.long[file] = audio
            cut = LongCut(audio, start, self.slicing)
            self.count(file, len(audio), len(cut))
            return cut
        views = extract_slices(audio[start:], *self.slicing)
        self.count(file, len(audio), len(views))
        whole = len(views) == 1 and len(views[0]) == len(audio)
        return Cut(views, audio.nbytes, whole or self.decode.where == "memory")

    def skip(self, fp: str, reason: str) -> None:
        """Count a bad file and log it; raise `InputError` if there are too many."""
        with self.lock:
            if fp in self.bad or self.failed:  # log nothing after the error
                return
            self.bad[fp] = reason
            if self.first_time(fp, "skipped"):
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

    @staticmethod
    def is_ending() -> bool:
        """Return True once the interpreter is ending."""
        return Decoder.ending

    @staticmethod
    def first_time(*what: object) -> bool:
        """Return True on the first call with these arguments.

        Moments and training read the same folder, and log each remark once.
        """
        with Decoder.ledger:
            new = what not in Decoder.named
            Decoder.named.add(what)
        return new

    def note(self, fp: str, text: str) -> None:
        """Log a remark about a file that is odd but usable."""
        with self.lock:
            self.noted[text].add(fp)
            n = len(self.noted[text])
        if self.first_time(fp, text):
            such = "such file" if n == 1 else "such files"
            log.warning("%s %s (%d %s of %d)", fp, text, n, such, self.nfiles)

    def count(self, file: int, length: int, nslices: int) -> None:
        """Note a file's length; raise `InputError` if no file yields a slice."""
        with self.lock:
            self.unknown -= bool(self.lengths[file] < 0)
            self.lengths[file] = length
            if not self.unknown and not self.told:
                self.told = True
                self.tell_short()
            self.fruitless = 0 if nslices else self.fruitless + 1
            require_slices(self.fruitless, self.nfiles, self.slice_len)

    def tell_short(self) -> None:
        """Log how many files are too short for a slice; all lengths must be known."""
        slice_len, _, _, pad_end = self.slicing
        lengths = np.asarray(self.lengths)
        n = 0 if pad_end else int(np.sum((lengths > 0) & (lengths < slice_len)))
        if n and self.first_time(n, self.nfiles, slice_len):
            log.warning(
                "%d of %d files are shorter than a slice of %d samples and are not "
                "used; --data_pad_end uses them, and for short sounds "
                "--data_first_slice --data_pad_end",
                n,
                self.nfiles,
                slice_len,
            )


class Cut(collections.abc.Sequence):
    """The slices of a file, [n, 1, nch], n <= slice_len: see `extract_slices`.

    Args:
      views: the slices, as views of the whole file.
      nbytes: bytes of the whole file.
      stays: True if the whole file stays in memory anyway. If False, indexing copies a
        slice: a view in a buffer would keep the whole file.
    """

    def __init__(self, views, nbytes, stays):
        self.views, self.nbytes, self.stays = views, nbytes, stays

    def __len__(self):
        return len(self.views)

    def __getitem__(self, i):
        return self.views[i] if self.stays else self.views[i].copy()


@atexit.register
def _finish_decoding():
    """Wait until no dataset decodes.

    A dataset that is still alive when the interpreter ends (`it = iter(dataset)` in a
    script) has threads that would wait for Python for ever. The process would not end.
    """
    Decoder.ending, calls, quiet = True, -1, 0
    deadline = time.monotonic() + 60  # a very long file may take as long
    while quiet < 3 and time.monotonic() < deadline:
        time.sleep(0.1)  # lets waiting threads call, and fail
        idle = calls == Decoder.calls and not Decoder.under_way
        quiet, calls = quiet + 1 if idle else 0, Decoder.calls
