"""The order of files and slices."""

import numpy as np


class Order:
    """The order of files in each epoch, and of slices in each window.

    Args:
      nfiles: files in an epoch.
      window: slices that are shuffled together; None shuffles neither files nor slices.
      offsets: each file begins at a random sample below this; 0: at its first.
      seed: everything here is a function of it.

    original: every file once an epoch, each time from a new random sample.
    [loader.py:118-184]

    differs: the order is a function of the seed and the place, so that a training can
    resume anywhere.  [loader.py:119]
    """

    def __init__(self, nfiles, window, offsets, seed):
        self.nfiles, self.offsets, self.seed = nfiles, offsets, seed
        self.shuffle, self.size = window is not None, window or 1

    def epoch(self, number):
        """Files of an epoch in their order, and the first sample of each."""
        rng = np.random.default_rng([self.seed, 0, number])
        files = rng.permutation(self.nfiles) if self.shuffle else range(self.nfiles)
        starts = np.zeros(self.nfiles, np.int64)
        if self.offsets:
            starts = rng.integers(self.offsets, size=self.nfiles)
        return np.asarray(files), starts

    def window(self, number):
        """Numbers of a window's slices, int64 [size], in the order of their delivery.

        Slices are numbered as they are read. With windows of four:

            read        0  1  2  3 | 4  5  6  7 | 8 ...
            delivered   2  0  3  1 | 5  7  4  6 | 9 ...

        differs: the original draws each slice from a buffer, which can only be resumed
        by replaying all draws. Windows are as large as that buffer. A training begun
        with such a buffer resumes at its place, with other slices.  [loader.py:182]
        """
        first = number * self.size
        if not self.shuffle:
            return np.arange(first, first + self.size)
        rng = np.random.default_rng([self.seed, 1, number])
        return first + rng.permutation(self.size)
