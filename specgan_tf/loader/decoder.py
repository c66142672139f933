"""Decoding a folder's files: what cannot be used is named, skipped and counted."""

import atexit
import logging
import os
import threading
import time

import numpy as np

from specgan_tf.files import InputError
from specgan_tf.loader.cache import Cache
from specgan_tf.loader.decode import UnreadableError
from specgan_tf.loader.slices import extract_slices, no_slices

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
        self.bad, self.fruitless = {}, 0
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
            if fp in self.bad:
                return
            self.bad[fp] = str(reason)
            if fp not in Decoder.named:  # moments and training read the same folder
                Decoder.named.add(fp)
                n = len(self.bad)
                log.warning("Skipped %s: %s (%d of %d)", fp, reason, n, self.nfiles)
            if len(self.bad) == self.nfiles:
                raise InputError(f"none of the {self.nfiles} audio files can be read")
            if len(self.bad) > MAX_BAD * self.nfiles:
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
