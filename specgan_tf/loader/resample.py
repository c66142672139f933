"""Resample block by block, with the same result as all at once."""

import math

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.loader.errors import UnreadableError

RESAMPLERS = ("soxr_hq", "kaiser_best")


class Soxr:
    """librosa's soxr_hq as a stream, with bit-identical output.

    Call it with blocks of float32 [n, nch], the last of them with `last=True`.
    """

    def __init__(self, fs: int, target: int, channels: int):
        import soxr

        self.ratio = float(target) / fs
        self.stream = soxr.ResampleStream(
            fs, target, channels, dtype="float32", quality="soxr_hq"
        )

    def __call__(self, samples, last=False):
        return self.stream.resample_chunk(np.ascontiguousarray(samples), last=last)

    def size(self, n: int) -> int:
        """Return the number of output samples for `n` input samples."""
        return math.ceil(n * self.ratio)


class KaiserBest:
    """resampy's kaiser_best with the filter that it had before version 0.4.

    Blocks overlap by the filter's length. A block begins at a time at which both input
    and output have a sample.
    """

    ZEROS = 64  # zero crossings of the filter, on either side
    BLOCK = 1 << 20

    def __init__(self, fs: int, target: int, channels: int):
        try:
            import resampy
        except ImportError:
            raise InputError(
                "kaiser_best needs the resampy package: pip install resampy"
            ) from None
        self.resample, self.fs, self.target = resampy.resample, fs, target
        common = math.gcd(fs, target)
        self.step, self.step_out = fs // common, target // common
        margin = math.ceil(self.ZEROS * max(1, fs / target)) + 1
        self.margin = -(-margin // self.step) * self.step
        self.block = max(1, self.BLOCK // self.step) * self.step
        self.held, self.size_held = [], 0  # input still needed, and its samples
        self.before = 0  # how many of these samples are only margin

    def __call__(self, samples, last=False):
        self.held.append(samples)
        self.size_held += len(samples)
        found = []
        if self.size_held >= self.before + self.block + self.margin or last:
            x = np.concatenate(self.held)
            while len(x) >= self.before + self.block + self.margin:
                end = self.before + self.block
                found.append(self._filter(x[: end + self.margin], self.block))
                x = x[max(0, end - self.margin) :]
                self.before = min(end, self.margin)
            if last and len(x) > self.before:
                found.append(self._filter(x, None))
            self.held, self.size_held = [x], len(x)
        if found:
            return np.concatenate(found)
        return samples[:0]

    def _filter(self, x, n):
        """Return the output for `n` samples after the margin; None: for all."""
        from scipy.signal import windows

        try:
            y = self.resample(
                x,
                self.fs,
                self.target,
                axis=0,
                filter="sinc_window",
                num_zeros=self.ZEROS,
                precision=9,
                rolloff=0.9475937167399596,
                window=lambda n: windows.kaiser(n, 14.769656459379492),
            )
        except ValueError as e:  # the input has only a sample or two
            raise UnreadableError(f"it cannot be resampled: {e}") from None
        first = self.before // self.step * self.step_out
        return (
            y[first:]
            if n is None
            else y[first : first + n // self.step * self.step_out]
        )

    def size(self, n: int) -> int:
        """Return the number of output samples for `n` input samples."""
        return math.ceil(n * self.target / self.fs)
