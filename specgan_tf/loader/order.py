"""The order of files in epochs, and of slices in windows."""

import numpy as np


class Order:
    """The order of files in each epoch, and of slices in each window.

    Args:
      nfiles: files in an epoch.
      window: the number of slices to shuffle together; None shuffles neither files nor
        slices.
      offsets: each file begins at a random sample below this; 0: at its first sample.
      seed: seed for all random numbers here.

    original: each epoch reads every file once, from a new random sample.
    [loader.py:118-184]

    differs: the order depends only on the seed and the place in the stream, so that a
    training can resume anywhere.  [loader.py:119]
    """

    def __init__(self, nfiles: int, window: int | None, offsets: int, seed: int):
        self.nfiles, self.offsets, self.seed = nfiles, offsets, seed
        self.shuffle, self.size = window is not None, window or 1

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an epoch's files in order, and the first sample of each file.

        Both are int64 [nfiles].
        """
        rng = np.random.default_rng([self.seed, 0, number])
        files = rng.permutation(self.nfiles) if self.shuffle else range(self.nfiles)
        starts = np.zeros(self.nfiles, np.int64)
        if self.offsets:
            starts = rng.integers(self.offsets, size=self.nfiles)
        return np.asarray(files), starts

    def window(self, number: int) -> np.ndarray:
        """Return the numbers of a window's slices, int64 [size], in delivery order.

        A slice's number is its place in reading order. With windows of four:

            read        0  1  2  3 | 4  5  6  7 | 8 ...
            delivered   2  0  3  1 | 5  7  4  6 | 9 ...

        differs: the original draws each slice from a buffer, which can only be resumed
        by replaying all draws. A window is as large as that buffer. A training that
        began with such a buffer resumes at its place, with other slices.
        [loader.py:182]
        """
        first = number * self.size
        if not self.shuffle:
            return np.arange(first, first + self.size)
        rng = np.random.default_rng([self.seed, 1, number])
        return first + rng.permutation(self.size)
