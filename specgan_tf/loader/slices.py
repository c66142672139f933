"""Cut files into slices, and put the slices of many files in order."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.loader.budget import MemoryBudget

QUICK, GROUP = 0.001, 32  # files that decode in QUICK seconds: GROUP per task

# (file, first sample, number of its first slice or None, count of its slices or -1)
Task = tuple[int, int, int | None, int]


def slice_hop_len(slice_len: int, slice_overlap_ratio: float) -> int:
    """Return the number of samples from one slice to the next.  [loader.py:146-151]

    Raises:
      InputError: an overlap below 0, or so high that the hop is 0.
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


def slice_count(
    nsamps: np.ndarray,
    slice_len: int,
    slice_hop: int,
    first_only: bool = False,
    pad_end: bool = False,
) -> np.ndarray:
    """Return the number of slices that `extract_slices` makes of `nsamps` samples."""
    nsamps = np.maximum(nsamps, 0)
    if pad_end:
        n = -(-nsamps // slice_hop)
    else:
        n = np.maximum(0, 1 + (nsamps - slice_len) // slice_hop)
    return np.minimum(n, 1) if first_only else n


def extract_slices(
    audio: np.ndarray,
    slice_len: int,
    slice_hop: int,
    first_only: bool = False,
    pad_end: bool = False,
) -> list[np.ndarray]:
    """[nsamps, 1, nch] -> list of slices [n, 1, nch], views of it.

    n is slice_len, or less if the caller has to fill the slice with zeros.

    [loader.py:158-171]
    """
    end = len(audio) if pad_end else len(audio) - slice_len + 1
    starts = range(0, end, slice_hop)[: 1 if first_only else None]
    return [audio[i : i + slice_len] for i in starts]


def no_slices(nfiles: int, slice_len: int) -> str:
    """Return the error for a folder of `nfiles` files that yields no slice."""
    return (
        f"the {nfiles} audio files are too short for random slices of {slice_len} "
        "samples; for short sounds use --data_first_slice --data_pad_end"
    )


def require_slices(fruitless: int, nfiles: int, slice_len: int) -> None:
    """Raise `InputError` after too many files in a row without a slice."""
    # Two epochs, and at least 100 files, so that bad luck cannot be the cause: a file
    # of 1.2 slices yields a slice for one random start in five.
    if fruitless >= max(100, 2 * nfiles):
        raise InputError(no_slices(nfiles, slice_len))


class Slices:
    """The slices of many files, decoded ahead by threads, in the order of `order`.

    Args:
      decoder: a `Decoder`.
      order: an `Order`.
      repeat: repeat the files without end.
      parallel: files to decode in parallel.
      skip: begin at this place in the stream; needs `repeat`.
      batch: slices in a batch of all workers together.
      rows: (first, last + 1), the rows of each batch to deliver here.
    """

    def __init__(
        self, decoder, order, repeat, parallel=1, skip=0, batch=1, rows=(0, 1)
    ):
        self.decoder, self.order, self.repeat = decoder, order, repeat
        self.parallel, self.skip = parallel or 1, skip
        self.batch, self.rows = batch, rows
        self.window = functools.lru_cache(maxsize=4)(self.window)

    def window(self, window: int) -> dict[int, int]:
        """Return {number of a slice: its place in the stream}, in the stream's order.

        It holds the slices of a window that are delivered here. The number counts
        slices in reading order. The place counts them in the order in which all workers
        together receive them.
        """
        first, size = window * self.order.size, self.order.size
        places = np.arange(first, first + size)
        row = (places - self.skip) % self.batch
        here = (places >= self.skip) & (self.rows[0] <= row) & (row < self.rows[1])
        numbers = self.order.window(window)[here]
        return dict(zip(numbers.tolist(), places[here].tolist(), strict=True))

    def is_delivered(self, number: int) -> bool:
        """Return True if the slice with this number is delivered here."""
        return number in self.window(number // self.order.size)

    def __iter__(self):
        """Yield slices, see `extract_slices`.

        The first slice is yielded when its window is full. From then on one slice is
        read for each slice yielded, so the next window is full when this window is
        empty, and both together hold `size` slices.
        """
        size, held = self.order.size, {}
        windows = map(self.window, itertools.count(self.skip // size))
        stream = itertools.chain.from_iterable(window.items() for window in windows)
        number, place = next(stream)
        for newest, newest_slice in self.read():
            held[newest] = newest_slice
            while newest + 1 >= place + size:
                # A file that was shortened after its slices were counted lacks some.
                # The newest slice replaces them, so that all workers stay in step.
                yield held.pop(number, newest_slice)
                number, place = next(stream)
        while held:
            if number in held:
                yield held.pop(number)
            number, _ = next(stream)

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, slice) of each slice delivered here, in reading order."""
        following = 0
        for (_, _, number, count), cut in self.decoded(self.tasks()):
            number = following if number is None else number
            count = len(cut) if count < 0 else count
            for k in range(min(count, len(cut))):
                if self.is_delivered(number + k):
                    yield number + k, cut[k]
            following, cut = number + count, None  # not held during the next wait

    def tasks(self) -> Iterator[Task]:
        """Yield a task for each file with slices to deliver here.

        The number of the first slice and the count of slices are None and -1 while they
        are unknown. Decoding a file makes its count known. Until all counts are known,
        all files are decoded.
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

    def decoded(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Sequence]]:
        """Yield (task, its `Cut`) in order; slow files are decoded ahead."""
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
    def threads(self) -> Iterator[Callable]:
        """Yield a function that starts threads: start(tasks) -> a context manager.

        Its value is the decoder's result for the tasks. At its end the result no longer
        counts as held. Enter the contexts in the order of the calls.
        """
        pool = concurrent.futures.ThreadPoolExecutor(self.parallel)

        def start(tasks):
            number = budget.enter()
            reserve = functools.partial(
                budget.reserve, number, ending=self.decoder.is_ending
            )
            return result(number, [pool.submit(self.decoder, tasks, reserve)])

        @contextlib.contextmanager
        def result(number, future):
            yield future.pop().result()
            budget.leave(number)

        with MemoryBudget().closing() as budget:
            try:
                yield start
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def counts(self, files: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the number of slices in each file from sample `starts` on, or -1."""
        lengths = self.decoder.lengths[files]
        counts = slice_count(lengths - starts, *self.decoder.slicing)
        return np.where(lengths < 0, -1, counts)

    def epochs(
        self, number: int
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (number of an epoch, its files, their first samples, `counts`)."""
        fruitless = 0
        for epoch in itertools.count(number) if self.repeat else [number]:
            files, starts = self.order.epoch(epoch)
            counts = self.counts(files, starts)
            fruitless = 0 if counts.any() else fruitless + len(files)
            require_slices(fruitless, len(files), self.decoder.slice_len)
            yield epoch, files, starts, counts

    def locate(self, number: int) -> tuple[int, int, int]:
        """Find the file that holds the slice with this number.

        Returns:
          (epoch, the file's place in it, number of the file's first slice); (0, 0, 0),
          the very first file, if any file's length is unknown.
        """
        lengths = self.decoder.lengths
        if not number or (lengths < 0).any():
            return 0, 0, 0
        before = 0  # epochs to jump over
        total = int(slice_count(lengths, *self.decoder.slicing).sum())
        if total and not self.order.offsets:  # every epoch has `total` slices
            before = number // total
        first = before * total
        for epoch, _, _, counts in self.epochs(before):
            ends = first + np.cumsum(counts)
            if number < ends[-1]:
                place = int(np.searchsorted(ends, number, side="right"))
                return epoch, place, int(ends[place] - counts[place])
            first = int(ends[-1])
