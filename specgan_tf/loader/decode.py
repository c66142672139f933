"""One audio file -> samples.

Port of `decode_audio` in loader.py (chrisdonahue/wavegan 40e85e8). Decoded audio is
float32 [nsamps, 1, nch].
"""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.loader import read
from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.long import Long
from specgan_tf.loader.resample import RESAMPLERS, KaiserBest, Soxr

RATES = 100, 1_000_000  # Hz; any other rate means a wrong header
MAX_SAMPLES = 1 << 30  # in the result: 4 GiB
# A mono mix below this share of the loudest channel means that channels cancel out.
CANCELS = 1e-3
FAINT = 1 / 32768  # one step of 16-bit PCM

log = logging.getLogger("specgan_tf")


def decode_audio(
    fp: StrPath,
    fs: int | None = None,
    num_channels: int = 1,
    normalize: bool = False,
    fast_wav: bool = False,
    resample: str = "soxr_hq",
    note: Callable[[str], None] | None = None,
    reserve: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Decode one audio file.

    Mixing and resampling go block by block, so decoding takes little more memory than
    the result.

    Args:
      fp: path.
      fs: rate to resample to, Hz; None keeps the file's rate.
      num_channels: 1 averages all channels of the file; 2 doubles a mono file; any
        other count must be the file's own.
      normalize: divide by the largest absolute sample.
        differs: not if the channels cancel out, because what remains would become
        full-scale noise.  [loader.py:60-63]
      fast_wav: take only WAV files, 16-bit PCM or 32-bit float, whose rate is `fs`.
      resample: "soxr_hq", or "kaiser_best" (needs the resampy package).
        differs: the original's librosa 0.6.2 has kaiser_best.  [loader.py:36]
      note: called with a remark about a file that is odd but usable ("is silent");
        None logs it.
      reserve: called with the number of bytes that the result needs, before memory for
        them is taken.

    Returns:
      float32 [nsamps, 1, num_channels].

    Raises:
      InputError: with fast_wav, another rate or sample format; or another number of
        channels than `num_channels`.
      UnreadableError: an InputError. The file is missing, is not audio, is truncated
        or empty, holds NaN or infinity, or is too large for the memory.
      ValueError: an unknown `resample`.

    [loader.py:9-65]
    """
    return decode(fp, fs, num_channels, normalize, fast_wav, resample, note, reserve)


def decode(
    fp: StrPath,
    fs: int | None = None,
    num_channels: int = 1,
    normalize: bool = False,
    fast_wav: bool = False,
    resample: str = "soxr_hq",
    note: Callable[[str], None] | None = None,
    reserve: Callable[[int], None] | None = None,
    limit: int | None = None,
) -> np.ndarray | Long:
    """`decode_audio`, but a recording of more than `limit` bytes is not held."""
    fp = os.fsdecode(fp)
    if resample not in RESAMPLERS:
        raise ValueError(
            f"resample must be one of {RESAMPLERS}. Received: {resample!r}"
        )
    if note is None:

        def note(text):
            log.warning("%s %s", fp, text)

    def blocks(mix, note):
        rate = fs
        for found, _, recording in read.recordings(fp, fast_wav, note):
            rate = found if rate is None else rate
            if fast_wav and found != rate:
                raise InputError(
                    f"{fp} is at {found} Hz, not {rate}; --data_fast_wav cannot "
                    "resample: leave it out, or set --data_sample_rate"
                )
            mixed = map(mix, recording)
            same = found == rate
            yield from mixed if same else resampled(mixed, found, rate, resample)

    mix = Mix(fp, num_channels)
    sound = Samples(reserve, limit)
    try:
        sound.extend(blocks(mix, note))
        if not sound.n:
            raise UnreadableError("it holds no samples")
        scale = 1.0
        if mix.cancels:
            note("cancels out in mono: its channels are opposites, and it stays silent")
        elif mix.peak == 0:
            note("is silent")
        elif normalize:
            if mix.peak <= FAINT:
                note("is almost silent, and is amplified to full scale")
            scale = sound.peak or 1.0
        if sound.held is None:
            again = functools.partial(blocks, Mix(fp, num_channels), lambda text: None)
            return Long(fp, sound.n, scale, again)
        _wav = sound.take()
        _wav = _wav[:, np.newaxis, :]  # mimics the 2D shape of spectral features
        if scale != 1:
            _wav /= scale
    except MemoryError:
        reason = "not enough memory to decode it: split it into shorter files"
        raise UnreadableError(reason, fp) from None
    except UnreadableError as e:
        raise UnreadableError(e.reason, fp) from None
    return _wav


class Mix:
    """Averages (mono) or doubles (stereo) channels, block by block.  [loader.py:51-58]

    Attributes:
      peak: the largest absolute sample so far, in any channel of the file.
      mixed: the largest absolute sample so far in the mix.
    """

    def __init__(self, fp, num_channels):
        self.fp, self.num_channels = fp, num_channels
        self.peak = self.mixed = 0.0

    def __call__(self, block):
        nch = block.shape[1]
        loudest = peak(block)
        if not np.isfinite(loudest):
            raise UnreadableError("it holds NaN or infinite samples")
        self.peak = max(self.peak, loudest)
        if nch != self.num_channels:
            if self.num_channels == 1:
                block = np.mean(block, 1, keepdims=True)
                loudest = peak(block)
            elif nch == 1 and self.num_channels == 2:
                block = np.concatenate([block, block], axis=1)
            else:
                raise InputError(
                    f"{self.fp} has {nch} channels, not {self.num_channels}"
                )
        self.mixed = max(self.mixed, loudest)
        return block

    @property
    def cancels(self) -> bool:
        """True if the channels cancel out in the mix."""
        return self.peak > 0 and self.mixed <= CANCELS * self.peak


def peak(samples: np.ndarray) -> float:
    """Return the largest absolute sample, NaN if any is NaN; makes no copy."""
    if not samples.size:
        return 0.0
    return np.maximum(samples.max(), -samples.min())


def resampled(
    blocks: Iterable[np.ndarray], fs: int, target: int, kind: str
) -> Iterator[np.ndarray]:
    """Blocks [n, nch] at `fs` Hz -> blocks at `target` Hz.

    N samples in all become ceil(N * target / fs) samples.
    """
    if not RATES[0] <= fs <= RATES[1]:
        raise UnreadableError(f"its header gives a sample rate of {fs} Hz")
    resampler, n, made = None, 0, 0
    for block in blocks:
        if resampler is None:
            make = {"soxr_hq": Soxr, "kaiser_best": KaiserBest}[kind]
            resampler = make(fs, target, block.shape[1])
        n += len(block)
        found = resampler(block)
        made += len(found)
        yield found
    if resampler is None:
        return
    found = resampler(block[:0], last=True)[: max(0, resampler.size(n) - made)]
    yield found
    missing = resampler.size(n) - made - len(found)
    yield np.zeros([missing, block.shape[1]], np.float32)


class Samples:
    """A float32 array [n, nch] that grows by blocks, in place if the system can.

    Attributes:
      n: number of samples so far.
      peak: the largest absolute sample so far.
      held: the array; None without a sample, and after more than `limit` bytes.
    """

    def __init__(self, reserve=None, limit=None):
        self.held, self.n, self.peak = None, 0, 0.0
        self.reserve, self.limit = reserve or (lambda size: None), limit

    def extend(self, blocks: Iterable[np.ndarray]) -> None:
        """Append blocks of float32 [n, nch]."""
        for block in blocks:
            if not len(block):
                continue
            n = self.n + len(block)
            if n * block.shape[1] > MAX_SAMPLES:
                raise UnreadableError(
                    f"it is longer than {MAX_SAMPLES} samples: split it"
                )
            self.peak = max(self.peak, peak(block))
            if self.limit is not None and 4 * n * block.shape[1] > self.limit:
                self.held = None
                self.reserve(block.nbytes)
            elif self.n == 0:  # often the only block: kept without a copy
                self.reserve(block.nbytes)
                self.held = block
            else:
                if n > len(self.held):
                    self.grow(n + n // 16)
                self.held[self.n : n] = block
            self.n = n

    def grow(self, n: int) -> None:
        """Make room for `n` samples."""
        nch = self.held.shape[1]
        self.reserve(4 * n * nch)
        if not self.held.flags.owndata:
            self.held = self.held.copy()
        self.held.resize((n, nch), refcheck=False)

    def take(self) -> np.ndarray:
        """Return all samples, and empty this object."""
        held, n, self.held = self.held, self.n, None
        if len(held) > n:
            held.resize((n, held.shape[1]), refcheck=False)
        self.reserve(held.nbytes)
        return held
