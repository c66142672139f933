"""The order of slices; nothing is decoded here."""

import itertools

import numpy as np
import pytest

from specgan_tf.loader.dataset import Origins
from specgan_tf.loader.decoder import Decoder
from specgan_tf.loader.order import Order

LENGTHS = np.array([600, 3000, 900, 200, 5000, 513, 0, 1100])  # of no slice and of many
SLICE, SIZE, BATCH = 512, 30, 12


def stream(lengths=LENGTHS, size=SIZE, offsets=SLICE, seed=3, repeat=True, **how):
    """An endless stream of (file, first sample), one of each slice."""
    slicing = SLICE, SLICE // 2, False, False
    decoder = Decoder(range(len(lengths)), lengths.copy(), slicing, num_channels=1)
    order = Order(len(lengths), size, offsets, seed)
    return Origins(decoder, order, repeat, **how)


def take(n, **how):
    return list(itertools.islice(stream(**how), n))


def test_a_window_holds_each_of_its_slices_once():
    order = Order(1, SIZE, 0, seed=3)
    windows = [order.window(i) for i in range(20)]
    for i, window in enumerate(windows):
        assert sorted(window) == [*range(i * SIZE, (i + 1) * SIZE)]
    assert len({tuple(w % SIZE) for w in windows}) == 20
    assert (order.window(5) == windows[5]).all()
    assert (Order(1, SIZE, 0, seed=4).window(5) != windows[5]).any()
    assert [int(*Order(1, None, 0, seed=3).window(i)) for i in range(3)] == [0, 1, 2]


def test_slices_are_shuffled_within_their_window():
    shuffled = take(20 * SIZE)
    read = [x for _, x in itertools.islice(stream().read(), 20 * SIZE)]
    for i in range(0, len(read), SIZE):
        window, delivered = read[i : i + SIZE], shuffled[i : i + SIZE]
        assert sorted(window) == sorted(delivered) and window != delivered
    assert take(100, seed=4) != shuffled[:100]


@pytest.mark.parametrize("size", [None, 1, SIZE])
def test_an_endless_stream_resumes_at_every_slice(size):
    whole = take(240, size=size)
    for skip in range(200):
        assert take(40, size=size, skip=skip) == whole[skip : skip + 40]


@pytest.mark.parametrize("size", [7, SIZE, 4096])
def test_what_ends_delivers_each_slice_once(size):
    """Also where the last window is not full."""
    whole = list(stream(size=None, offsets=0, repeat=False))
    shuffled = list(stream(size=size, offsets=0, repeat=False))
    assert len(whole) > SIZE
    assert sorted(shuffled) == whole != shuffled


@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("skip", [0, 1, 500])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_the_rows_of_all_workers_are_the_batches_of_one(size, skip, workers):
    rows = BATCH // workers
    parts = [
        take(20 * rows, size=size, skip=skip, batch=BATCH, rows=(i, i + rows))
        for i in range(0, BATCH, rows)
    ]
    batches = [
        x
        for first in range(0, 20 * rows, rows)
        for part in parts
        for x in part[first : first + rows]
    ]
    assert batches == take(20 * BATCH, size=size, skip=skip)


@pytest.mark.parametrize("skip", [0, 100])
def test_one_slice_is_read_for_each_that_leaves(skip):
    """So nothing waits for a whole window but the first slice."""
    slices, newest = stream(skip=skip), []
    read = slices.read()
    slices.read = lambda: (newest.append(x[0]) or x for x in read)
    for place, _ in enumerate(itertools.islice(slices, 300), skip):
        assert newest[-1] == place + SIZE - 1


def test_resuming_replays_no_slices():
    """However many were delivered: this takes as long as a window."""
    skip = 10**15 + 7
    whole = take(400, offsets=0, skip=skip)
    assert take(300, offsets=0, skip=skip + 100) == whole[100:]


def test_batches_are_mixed():
    """Each is of as many files as if its slices were drawn at random from a window."""
    size, batch, each = 4096, 64, 45  # slices of a file
    lengths = np.full(1000, (each + 1) * SLICE // 2)
    how = {"lengths": lengths, "size": size, "offsets": 0}
    places = {x: i for i, x in enumerate(take(4 * size, **how))}
    read = [x for _, x in itertools.islice(stream(**how).read(), 4 * size)]
    apart = [abs(places[x] - places[y]) for x, y in itertools.pairwise(read)]
    assert abs(np.mean(apart) / (size / 3) - 1) < 0.05

    delivered = np.array([file for file, _ in places]).reshape(-1, batch)
    files = [len({*x}) for x in delivered]
    n = size / each
    assert abs(np.mean(files) - n * (1 - (1 - 1 / n) ** batch)) < 1
