"""Files cut into slices, and the slices of many files in their order."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import random

import numpy as np

from specgan_tf.files import InputError
from specgan_tf.loader.order import Order
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
        pending, running = collections.deque(), 0
        with self.threads() as start:
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
                    future = start([task])
                    running += 1
                pending.append((task, size, future))
                while running > self.parallel:
                    _, size, future = pending.popleft()
                    if future is None:
                        for _ in range(first, size):
                            yield None
                        number, first = number + size, 0
                        continue
                    running -= 1
                    with future as ((cut,), _):
                        n = len(cut)
                        if n != size:
                            upcoming = None
                        takes = part.takes(np.arange(number, number + n))
                        for k in range(first, n):
                            yield cut[k] if takes[k] else None
                    number, first, cut, future = number + n, 0, None, None

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
        for cut in self.decoded(self.tasks(epoch, position)):
            for k in range(first, len(cut)):
                yield cut[k]
            first, cut = 0, None  # not held while the next one is waited for

    def decoded(self, tasks):
        """The `Cut` of each task, in order; a few tasks ahead where they take long."""
        pending, tasks, size = collections.deque(), iter(tasks), 1
        with self.threads() as start:
            while group := list(itertools.islice(tasks, size)):
                pending.append(start(group))
                # Threads that read short files wait for one another, not for the disk.
                while len(pending) > (self.parallel if size == 1 else 0):
                    with pending.popleft() as (cuts, seconds):
                        size = min(2 * size, GROUP) if seconds < QUICK else 1
                        while cuts:
                            yield cuts.pop(0)
            while pending:
                with pending.popleft() as (cuts, _):
                    while cuts:
                        yield cuts.pop(0)

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
        for cut, into in zip(self.decoded(tasks), wanted.values(), strict=True):
            for i, k in into:
                found[i] = cut[k] if k < len(cut) else None
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
