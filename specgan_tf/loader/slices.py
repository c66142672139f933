"""Files cut into slices, and the slices of many files in their order."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools

import numpy as np

from specgan_tf.files import InputError
from specgan_tf.loader.room import Room

QUICK, GROUP = 0.001, 32  # s; files that take less are decoded so many at a time


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


def no_slices(nfiles, slice_len):
    return (
        f"the {nfiles} audio files are too short for random slices of {slice_len} "
        "samples; for short sounds use --data_first_slice --data_pad_end"
    )


def require_slices(fruitless, nfiles, slice_len):
    """Refuse a folder after so many files in a row without a slice."""
    # Twice through everything, and often enough that luck is no explanation: a file of
    # 1.2 slices yields one for every fifth random start.
    if fruitless >= max(100, 2 * nfiles):
        raise InputError(no_slices(nfiles, slice_len))


class Slices:
    """The slices of many files, decoded ahead by threads, in the order of `order`.

    Args:
      decoder: a `Decoder`.
      order: an `Order`.
      repeat: go on for ever.
      parallel: files to decode at a time.
      skip: begin at this place in the stream; of the endless.
      batch, rows: of every `batch` slices deliver those of `rows`, (first, last + 1).
    """

    def __init__(
        self, decoder, order, repeat, parallel=1, skip=0, batch=1, rows=(0, 1)
    ):
        self.decoder, self.order, self.repeat = decoder, order, repeat
        self.parallel, self.skip = parallel or 1, skip
        self.batch, self.rows = batch, rows
        self.window = functools.lru_cache(maxsize=4)(self.window)

    def window(self, window):
        """{number of a slice: its place in the stream}, in the stream's order: those
        slices of a window that are delivered here.

        The number counts slices as they are read, the place as they are delivered to
        all workers together.
        """
        first, size = window * self.order.size, self.order.size
        places = np.arange(first, first + size)
        row = (places - self.skip) % self.batch
        here = (places >= self.skip) & (self.rows[0] <= row) & (row < self.rows[1])
        numbers = self.order.window(window)[here]
        return dict(zip(numbers.tolist(), places[here].tolist(), strict=True))

    def is_delivered(self, number):
        return number in self.window(number // self.order.size)

    def __iter__(self):
        """Slices, see `extract_slices`.

        The first slice leaves when its window is full. From then on one slice is read
        for each that leaves, so the next window is full when this one is empty, and
        both together hold `size` slices.
        """
        size, held = self.order.size, {}
        windows = map(self.window, itertools.count(self.skip // size))
        stream = itertools.chain.from_iterable(window.items() for window in windows)
        number, place = next(stream)
        for newest, newest_slice in self.read():
            held[newest] = newest_slice
            while newest + 1 >= place + size:
                # A file that has become shorter since its slices were counted lacks
                # some. The newest replaces them, so that all workers stay in step.
                yield held.pop(number, newest_slice)
                number, place = next(stream)
        while held:
            if number in held:
                yield held.pop(number)
            number, _ = next(stream)

    def read(self):
        """Yields (number, slice) of the slices delivered here, in the files' order."""
        following = 0
        for (_, _, number, count), cut in self.decoded(self.tasks()):
            number = following if number is None else number
            count = len(cut) if count < 0 else count
            for k in range(min(count, len(cut))):
                if self.is_delivered(number + k):
                    yield number + k, cut[k]
            following, cut = number + count, None  # not held during the next wait

    def tasks(self):
        """Yields (file, first sample, number of its first slice, how many slices) of
        each file to decode: those with slices to deliver here.

        The last two are None and -1 where they are not known yet: how many slices a
        file has is known once it was decoded. Until then all files are decoded.
        """
        begin = self.skip // self.order.size * self.order.size
        epoch, place, number = self.locate(begin)
        uncounted = collections.deque()
        for _, files, starts, counts in self.epochs(epoch):
            for i in range(place, len(files)):
                file, start, count = files[i], starts[i], int(counts[i])
                while uncounted and (n := self.counts(*uncounted[0])) >= 0:
                    number += int(n)
                    uncounted.popleft()
                if uncounted or count < 0:
                    yield file, start, None if uncounted else number, count
                    uncounted.append((file, start))
                else:
                    first, number = number, number + count
                    if any(map(self.is_delivered, range(max(first, begin), number))):
                        yield file, start, first, count
            place = 0

    def decoded(self, tasks):
        """Yields (task, its `Cut`), in order; some tasks ahead where they take long."""
        pending, size = collections.deque(), 1
        with self.threads() as start:
            while (group := list(itertools.islice(tasks, size))) or pending:
                if group:
                    pending.append((group, start([task[:2] for task in group])))
                # Threads that read short files wait for one another, not for the disk.
                ahead = self.parallel if group and size == 1 else 0
                while len(pending) > ahead:
                    done, result = pending.popleft()
                    with result as (cuts, seconds):
                        size = min(2 * size, GROUP) if seconds < QUICK else 1
                        for task in done:
                            yield task, cuts.pop(0)

    @contextlib.contextmanager
    def threads(self):
        """Yield start(tasks): a context whose value is what the decoder makes of them,
        and at whose end that may be forgotten. They end in the order they start in.
        """
        pool = concurrent.futures.ThreadPoolExecutor(self.parallel)

        def start(tasks):
            number = room.enter()
            reserve = functools.partial(
                room.reserve, number, ending=self.decoder.is_ending
            )
            return result(number, [pool.submit(self.decoder, tasks, reserve)])

        @contextlib.contextmanager
        def result(number, future):
            yield future.pop().result()
            room.leave(number)

        with Room().closing() as room:
            try:
                yield start
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def counts(self, files, starts):
        """How many slices files have, from a sample on; -1 where that is not known."""
        lengths = self.decoder.lengths[files]
        counts = slice_count(lengths - starts, *self.decoder.slicing)
        return np.where(lengths < 0, -1, counts)

    def epochs(self, number):
        """Yields (number of an epoch, its files, their first samples, `counts`)."""
        fruitless = 0
        for epoch in itertools.count(number) if self.repeat else [number]:
            files, starts = self.order.epoch(epoch)
            counts = self.counts(files, starts)
            fruitless = 0 if counts.any() else fruitless + len(files)
            require_slices(fruitless, len(files), self.decoder.slice_len)
            yield epoch, files, starts, counts

    def locate(self, number):
        """The file that holds a slice: (epoch, its place there, number of its first
        slice); the very first file while there are files of unknown length."""
        lengths = self.decoder.lengths
        if not number or (lengths < 0).any():
            return 0, 0, 0
        before = 0  # epochs that need not be counted through
        total = int(slice_count(lengths, *self.decoder.slicing).sum())
        if total and not self.order.offsets:  # every epoch has as many
            before = number // total
        first = before * total
        for epoch, _, _, counts in self.epochs(before):
            ends = first + np.cumsum(counts)
            if number < ends[-1]:
                place = int(np.searchsorted(ends, number, side="right"))
                return epoch, place, int(ends[place] - counts[place])
            first = int(ends[-1])
