"""Audio files -> `tf.data` of waveforms.

Port of `decode_extract_and_batch` in loader.py (chrisdonahue/wavegan 40e85e8). A slice
is [slice_len, 1, nch].
"""

import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from specgan_tf.errors import InputError
from specgan_tf.files import StrPath
from specgan_tf.loader.decoder import Decoder
from specgan_tf.loader.order import Order
from specgan_tf.loader.slices import Slices, Task, slice_hop_len


def aligned_zeros(shape: Sequence[int]) -> np.ndarray:
    """Return float32 zeros aligned to 64 bytes, which TensorFlow does not copy."""
    size = 4 * int(np.prod(shape))
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(np.float32).reshape(shape)


def decode_extract_and_batch(
    fps: Sequence[StrPath],
    batch_size: int,
    slice_len: int,
    decode_fs: int,
    decode_num_channels: int,
    decode_normalize: bool = True,
    decode_fast_wav: bool = False,
    decode_parallel_calls: int = 1,
    slice_randomize_offset: bool = False,
    slice_first_only: bool = False,
    slice_overlap_ratio: float = 0,
    slice_pad_end: bool = False,
    repeat: bool = False,
    shuffle: bool = False,
    shuffle_buffer_size: int | None = None,
    prefetch_size: int | None = None,
    prefetch_gpu_num: int | None = None,
    decode_resample: str = "soxr_hq",
    decode_cache: StrPath | None = None,
    seed: int | None = None,
    skip: int = 0,
    lengths: np.ndarray | None = None,
    worker: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Decode audio files into batches of slices.

    Args:
      fps: paths.
      batch_size: slices in a batch; an incomplete last batch is dropped.
      slice_len: samples.
      decode_fs: sample rate of the slices, Hz; files at other rates are resampled.
      decode_num_channels: nch, see `decode_audio`.
      decode_normalize: see `decode_audio`.
      decode_fast_wav: see `decode_audio`.
      decode_resample: see `decode_audio`.
      decode_parallel_calls: files to decode in parallel; their order is kept.
      decode_cache: decode each file once. "memory" keeps decoded files in memory, any
        other value is a folder to keep them in; None keeps nothing.
      slice_randomize_offset: start each file at a random sample below `slice_len`.
      slice_first_only: use only the first slice of each file.
      slice_overlap_ratio: the share of a slice that the next slice repeats, in [0, 1).
      slice_pad_end: fill a last partial slice with zeros.
      repeat: repeat the files without end.
      shuffle: shuffle files in every epoch, and slices within windows of
        `shuffle_buffer_size` slices (see `Order.window`). The first slice is delivered
        when a window of slices has been read.
      shuffle_buffer_size: slices in a window.
      prefetch_size: batches to prepare ahead; None: none.
      prefetch_gpu_num: prepare batches on this GPU, if it exists.
      seed: seed for offsets and orders; None draws one.
      skip: the number of slices to leave out at the beginning. This needs `repeat` and
        `seed`. At most one window of slices is decoded to find the place.
      lengths: int64 [len(fps)], each file's samples at decode_fs, or -1 if unknown.
        Decoding fills this array in. A file of known length is not decoded if `skip`
        or `worker` leaves all its slices out.
      worker: (i, n): deliver only the rows of worker i of n in each batch. This needs
        `repeat` and `seed`.

    Returns:
      `tf.data.Dataset` of float32 [batch_size / n, slice_len, 1, nch]. Iterating it
      raises `tf.errors.OpError` for bad input; `input_error` finds the message in it.

    [loader.py:68-198]
    """
    rows = batch_size // worker[1]
    slices = decode_and_extract(
        fps,
        slice_len,
        decode_fs,
        decode_num_channels,
        decode_normalize=decode_normalize,
        decode_fast_wav=decode_fast_wav,
        decode_parallel_calls=decode_parallel_calls,
        slice_randomize_offset=slice_randomize_offset,
        slice_first_only=slice_first_only,
        slice_overlap_ratio=slice_overlap_ratio,
        slice_pad_end=slice_pad_end,
        repeat=repeat,
        shuffle_buffer_size=shuffle_buffer_size if shuffle else None,
        decode_resample=decode_resample,
        decode_cache=decode_cache,
        seed=seed,
        skip=skip,
        lengths=lengths,
        batch=batch_size,
        rows=(worker[0] * rows, (worker[0] + 1) * rows),
    )

    # Make batches
    shape = [rows, slice_len, 1, decode_num_channels]

    def batches():
        found = iter(slices)
        while len(batch := list(itertools.islice(found, rows))) == rows:
            whole = aligned_zeros(shape)
            for into, x in zip(whole, batch, strict=True):
                into[: len(x)] = x
            yield whole

    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=tf.TensorSpec(shape, tf.float32)
    )

    # Prefetch a number of batches
    if prefetch_size is not None:
        dataset = dataset.prefetch(prefetch_size)
        gpus = tf.config.list_logical_devices("GPU")
        if prefetch_gpu_num is not None and 0 <= prefetch_gpu_num < len(gpus):
            dataset = dataset.apply(
                tf.data.experimental.prefetch_to_device(gpus[prefetch_gpu_num].name)
            )
    return dataset


def timed(dataset: tf.data.Dataset, add: Callable[[float], None]) -> tf.data.Dataset:
    """Return the same dataset, which calls `add` with the seconds spent waiting.

    It calls `add` once per element, with the time that the stage before it took to
    deliver the element. Put it behind a `prefetch`, and iterate it in the process
    that made it.
    """
    # A zip asks its components one after another.
    clock = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

    def tell(before, x, after):
        tf.numpy_function(lambda s: add(float(s)) or s, [after - before], tf.float64)
        return x

    # Behind another prefetch this would measure a background thread's waiting.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    timed = tf.data.Dataset.zip((clock, dataset, clock)).map(tell)
    return timed.with_options(options)


def decode_and_extract(
    fps: Sequence[StrPath],
    slice_len: int,
    decode_fs: int,
    decode_num_channels: int,
    decode_normalize: bool = True,
    decode_fast_wav: bool = False,
    decode_parallel_calls: int = 1,
    slice_randomize_offset: bool = False,
    slice_first_only: bool = False,
    slice_overlap_ratio: float = 0,
    slice_pad_end: bool = False,
    repeat: bool = False,
    shuffle_buffer_size: int | None = None,
    decode_resample: str = "soxr_hq",
    decode_cache: StrPath | None = None,
    seed: int | None = None,
    skip: int = 0,
    lengths: np.ndarray | None = None,
    batch: int = 1,
    rows: tuple[int, int] = (0, 1),
) -> Slices:
    """Return the slices of `decode_extract_and_batch`, one by one.

    `decode_extract_and_batch` describes the other arguments.

    Args:
      shuffle_buffer_size: slices in a window; None does not shuffle.
      batch: slices in a batch of all workers together.
      rows: (first, last + 1), the rows of each batch to deliver.

    Returns:
      An iterable of numpy float32 [n, 1, nch]. n is slice_len, or less if the caller
      has to fill the slice with zeros. Iterating it raises `InputError` for bad input.
    """
    slice_hop = slice_hop_len(slice_len, slice_overlap_ratio)
    if lengths is None:
        lengths = np.full(len(fps), -1)
    decoder = Decoder(
        fps,
        lengths,
        (slice_len, slice_hop, slice_first_only, slice_pad_end),
        fs=decode_fs,
        num_channels=decode_num_channels,
        normalize=decode_normalize,
        fast_wav=decode_fast_wav,
        resample=decode_resample,
        cache=decode_cache,
    )
    seed = secrets.randbits(63) if seed is None else seed
    offsets = slice_len if slice_randomize_offset else 0
    order = Order(len(fps), shuffle_buffer_size, offsets, seed)
    return Slices(decoder, order, repeat, decode_parallel_calls, skip, batch, rows)


class Origins(Slices):
    """`Slices` that delivers (file's index, first sample in it) instead of a slice."""

    def decoded(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Sequence]]:
        hop = self.decoder.slicing[1]
        for file, start, number, count in tasks:
            origins = [(int(file), int(start + k * hop)) for k in range(count)]
            yield (file, start, number, count), origins


def origins(
    skip: int,
    n: int,
    lengths: np.ndarray,
    seed: int,
    shuffle_buffer_size: int,
    slice_len: int,
    slice_randomize_offset: bool = False,
    slice_first_only: bool = False,
    slice_overlap_ratio: float = 0,
    slice_pad_end: bool = False,
) -> list[tuple[int, int]]:
    """Find the sources of `n` slices of a shuffled `decode_extract_and_batch`.

    Pass the other arguments of `decode_extract_and_batch` as they were; `repeat` is
    True.

    Args:
      skip: the number of slices delivered before these.
      n: the number of slices.
      lengths: int64, the files' lengths as `decode_extract_and_batch` filled them in.

    Returns:
      [(index of the file, first sample of the slice in it)], in the slices' order.
    """
    hop = slice_hop_len(slice_len, slice_overlap_ratio)
    slicing = slice_len, hop, slice_first_only, slice_pad_end
    decoder = Decoder(range(len(lengths)), lengths, slicing, num_channels=1)
    offsets = slice_len if slice_randomize_offset else 0
    order = Order(len(lengths), shuffle_buffer_size, offsets, seed)
    return list(itertools.islice(Origins(decoder, order, repeat=True, skip=skip), n))


def input_error(error: tf.errors.OpError) -> InputError | None:
    """Return the `InputError` that made a dataset raise `error`, or None."""
    found = re.search(r"InputError: (.*)", str(error))
    return InputError(found.group(1)) if found else None
