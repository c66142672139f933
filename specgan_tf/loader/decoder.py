"""Decoding a folder's files: what cannot be used is named, skipped and counted."""

import atexit
import collections.abc
import functools
import logging
import os
import threading
import time

import numpy as np

from specgan_tf.files import InputError
from specgan_tf.loader.cache import Cache
from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.slices import extract_slices, require_slices

MAX_BAD = 0.1  # of the files; more than that is a wrong folder, not a few bad files

log = logging.getLogger("specgan_tf")


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
        self.noted = collections.defaultdict(set)  # what is odd -> files
        self.unknown, self.told = int(np.sum(np.less(lengths, 0))), False
        self.lock = threading.Lock()

    # Of all decoders in this process: calls so far, calls under way, no more of them
    calls, under_way, ending = 0, 0, False
    named = set()  # (file, what was logged of it); and of how many that are short
    ledger = threading.Lock()

    def __call__(self, tasks, reserve=None):
        """[(a file's number, first sample)] -> ([`Cut`] of each, seconds per file).

        `reserve` is called with the bytes to be held for all of them, before they are.
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

    def slices(self, file, start, reserve=None):
        if Decoder.ending:
            raise RuntimeError("the interpreter is ending")
        fp = os.fsdecode(self.fps[file])
        try:
            audio = self.decode(fp, functools.partial(self.note, fp), reserve)
        except UnreadableError as e:
            audio = np.zeros((0, 1, self.nch), np.float32)
            self.skip(fp, e)
        views = extract_slices(audio[start:], *self.slicing)
        self.count(file, len(audio), len(views))
        whole = len(views) == 1 and len(views[0]) == len(audio)
        return Cut(views, audio.nbytes, whole or self.decode.where == "memory")

    def skip(self, fp, reason):
        with self.lock:
            if fp in self.bad or self.failed:  # the error comes last
                return
            self.bad[fp] = str(reason)
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
    def is_ending():
        return Decoder.ending

    @staticmethod
    def first_time(*what):
        """Whether this was not logged yet: moments and training read one folder."""
        with Decoder.ledger:
            new = what not in Decoder.named
            Decoder.named.add(what)
        return new

    def note(self, fp, text):
        """A file that is used has something odd."""
        with self.lock:
            self.noted[text].add(fp)
            n = len(self.noted[text])
        if self.first_time(fp, text):
            log.warning("%s %s (%d such of %d files)", fp, text, n, self.nfiles)

    def count(self, file, length, nslices):
        with self.lock:
            self.unknown -= bool(self.lengths[file] < 0)
            self.lengths[file] = length
            if not self.unknown and not self.told:
                self.told = True
                self.tell_short()
            self.fruitless = 0 if nslices else self.fruitless + 1
            require_slices(self.fruitless, self.nfiles, self.slice_len)

    def tell_short(self):
        """How many files never yield a slice, once the lengths of all are known."""
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

    Each is copied when it is asked for, unless `stays`: in a buffer, a view would keep
    the whole file, of `nbytes`.
    """

    def __init__(self, views, nbytes, stays):
        self.views, self.nbytes, self.stays = views, nbytes, stays

    def __len__(self):
        return len(self.views)

    def __getitem__(self, i):
        return self.views[i] if self.stays else self.views[i].copy()


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
