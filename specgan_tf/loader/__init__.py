"""Audio files -> `tf.data` of waveforms.

Port of loader.py (chrisdonahue/wavegan 40e85e8). `find` lists a folder's files,
`decode` reads one file, and `decoder` reads all files through `cache`. `order` and
`slices` decide the order of slices. `dataset` makes batches.
"""

from specgan_tf.loader.dataset import (
    aligned_zeros,
    decode_and_extract,
    decode_extract_and_batch,
    input_error,
    origins,
    timed,
)
from specgan_tf.loader.decode import decode_audio
from specgan_tf.loader.errors import UnreadableError
from specgan_tf.loader.find import find_audio
from specgan_tf.loader.order import Order
from specgan_tf.loader.slices import (
    extract_slices,
    no_slices,
    slice_count,
    slice_hop_len,
)

__all__ = [
    "Order",
    "UnreadableError",
    "aligned_zeros",
    "decode_and_extract",
    "decode_audio",
    "decode_extract_and_batch",
    "extract_slices",
    "find_audio",
    "input_error",
    "no_slices",
    "origins",
    "slice_count",
    "slice_hop_len",
    "timed",
]
