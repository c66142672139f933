"""Recordings too long for memory: decoded anew at each use, block by block."""

import collections.abc
from collections.abc import Callable, Iterable

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.slices import slice_count


class Long:
    """A recording, without its samples.

    Args:
      fp: path.
      length: number of samples.
      scale: what samples are divided by.
      blocks: called without arguments, yields the samples, float32 [n, nch].
    """

    def __init__(
        self,
        fp: str,
        length: int,
        scale: float,
        blocks: Callable[[], Iterable[np.ndarray]],
    ):
        self.fp, self.length, self.scale, self.blocks = fp, length, scale, blocks

    def __len__(self) -> int:
        return self.length


class LongCut(collections.abc.Sequence):
    """The slices of a `Long`, [n, 1, nch], n <= slice_len: see `extract_slices`.

    Ask for slices in increasing order. Those of a recording that was shortened since
    its length was read are shorter too.

    Args:
      sound: a `Long`.
      start: first sample of the first slice.
      slicing: (slice_len, slice_hop, first_only, pad_end), see `extract_slices`.

    Raises:
      InputError: on asking, the file cannot be read any more.
    """

    nbytes = 0  # of samples that are held before a slice is asked for

    def __init__(self, sound: Long, start: int, slicing: tuple[int, int, bool, bool]):
        self.sound, self.start, self.slicing = sound, start, slicing
        self.n = int(slice_count(sound.length - start, *slicing))
        self.blocks, self.held, self.begin = None, None, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> np.ndarray:
        if not 0 <= i < self.n:
            raise IndexError(i)
        first = self.start + i * self.slicing[1]
        try:
            part = self.read(first, first + self.slicing[0])
        except UnreadableError as e:
            raise InputError(
                f"{self.sound.fp} cannot be read any more: {e.reason}"
            ) from None
        part = part[:, np.newaxis, :]
        return part / self.sound.scale if self.sound.scale != 1 else part.copy()

    def read(self, first: int, last: int) -> np.ndarray:
        """Return samples [first, last), or what there is of them."""
        if self.blocks is None:
            self.blocks = iter(self.sound.blocks())
            self.held = next(self.blocks)
        while self.begin + len(self.held) < last:
            if (block := next(self.blocks, None)) is None:
                break
            keep = self.held[max(0, first - self.begin) :]
            self.begin += len(self.held) - len(keep)
            self.held = np.concatenate([keep, block])
        return self.held[max(0, first - self.begin) : last - self.begin]
