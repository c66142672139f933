"""The order of files and slices, and how workers divide it."""

import functools

import numpy as np


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
