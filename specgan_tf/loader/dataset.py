"""Audio files -> `tf.data` of waveforms.

Port of `decode_extract_and_batch` in loader.py (chrisdonahue/wavegan 40e85e8). A slice
is [slice_len, 1, nch].
"""

import itertools
import re
import secrets
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from specgan_tf.files import InputError, StrPath
from specgan_tf.loader.decoder import Decoder
from specgan_tf.loader.order import Order
from specgan_tf.loader.slices import Slices, slice_hop_len


def aligned_zeros(shape):
    """Float32 zeros at a multiple of 64 bytes: TensorFlow takes them uncopied."""
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
    """Decodes audio files into batches of slices.

    Args:
      fps: paths.
      batch_size: slices in a batch; what is left over is dropped.
      slice_len: samples.
      decode_fs, decode_num_channels, decode_normalize, decode_fast_wav,
        decode_resample: as in `decode_audio`.
      decode_parallel_calls: files decoded at a time; their order is kept.
      decode_cache: decode each file once: "memory" keeps all that was decoded, anything
        else is a folder to keep it in; None keeps nothing.
      slice_randomize_offset: start each file at a random sample below `slice_len`.
      slice_first_only: only the first slice of each file.
      slice_overlap_ratio: in [0, 1), of adjacent slices.
      slice_pad_end: fill a last partial slice with zeros.
      repeat: go on for ever.
      shuffle: files every epoch, and slices within windows of shuffle_buffer_size (see
        `Order.window`). As many slices are read before the first is delivered.
      prefetch_size: batches to have ready; None for none.
      prefetch_gpu_num: have them ready on this GPU, where there is such a GPU.
      seed: of offsets and orders; None draws one.
      skip: begin after so many slices, as if they had been taken; of the endless
        (`repeat`) and seeded. At most one window of slices is decoded for that.
      lengths: int64 [len(fps)], what is known of the files' samples at decode_fs, -1
        where nothing is. Filled in while decoding. Files of known length are not
        decoded for slices that `skip` or `worker` leave out.
      worker: (i, n): only the rows that the i-th of n workers takes of each batch; of
        the endless and seeded.

    Returns:
      `tf.data.Dataset` of float32 [batch_size / n, slice_len, 1, nch]. Iterating it
      raises `tf.errors.OpError` for bad input; `input_error` says it in one line.

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


def timed(dataset, add):
    """The same dataset; `add(seconds)` hears how long each element was waited for.

    That is the time until what comes before had it ready, to be measured behind a
    `prefetch`, in the process that calls `add`.
    """
    # Components of a zip are asked for one after another.
    clock = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

    def tell(before, x, after):
        tf.numpy_function(lambda s: add(float(s)) or s, [after - before], tf.float64)
        return x

    # Prefetched again, the waiting would be that of a thread that nobody waits for.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    timed = tf.data.Dataset.zip((clock, dataset, clock)).map(tell)
    return timed.with_options(options)


def decode_and_extract(
    fps,
    slice_len,
    decode_fs,
    decode_num_channels,
    decode_normalize=True,
    decode_fast_wav=False,
    decode_parallel_calls=1,
    slice_randomize_offset=False,
    slice_first_only=False,
    slice_overlap_ratio=0,
    slice_pad_end=False,
    repeat=False,
    shuffle_buffer_size=None,
    decode_resample="soxr_hq",
    decode_cache=None,
    seed=None,
    skip=0,
    lengths=None,
    batch=1,
    rows=(0, 1),
):
    """The slices of `decode_extract_and_batch`, one by one.

    Args:
      shuffle_buffer_size: None does not shuffle.
      batch, rows: of every `batch` slices only those of `rows`, (first, last + 1).
      The others as there.

    Returns:
      An iterable of numpy float32 [n, 1, nch]. n is slice_len, or less where a slice is
      still to be filled with zeros. Iterating it raises `InputError` for bad input.
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
    """In place of each slice: (index of its file, its first sample there)."""

    def decoded(self, tasks):
        hop = self.decoder.slicing[1]
        for file, start, number, count in tasks:
            origins = [(int(file), int(start + k * hop)) for k in range(count)]
            yield (file, start, number, count), origins


def origins(
    skip,
    n,
    lengths,
    seed,
    shuffle_buffer_size,
    slice_len,
    slice_randomize_offset=False,
    slice_first_only=False,
    slice_overlap_ratio=0,
    slice_pad_end=False,
):
    """Where `n` slices of a shuffled, endless `decode_extract_and_batch` were from.

    Args:
      skip: how many came before them.
      lengths: as that left them.
      The others as it was given them.

    Returns:
      [(index of the file, its first sample in the slice)], in the order of the slices.
    """
    hop = slice_hop_len(slice_len, slice_overlap_ratio)
    slicing = slice_len, hop, slice_first_only, slice_pad_end
    decoder = Decoder(range(len(lengths)), lengths, slicing, num_channels=1)
    offsets = slice_len if slice_randomize_offset else 0
    order = Order(len(lengths), shuffle_buffer_size, offsets, seed)
    return list(itertools.islice(Origins(decoder, order, repeat=True, skip=skip), n))


def input_error(error):
    """The `InputError` inside a `tf.errors.OpError` raised by a dataset, or None."""
    said = re.search(r"InputError: (.*)", str(error))
    return InputError(said.group(1)) if said else None
