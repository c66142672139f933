import collections
import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from conftest import DRUMS, ROOT, shared
from scipy.io import wavfile

from specgan_tf import loader
from specgan_tf.errors import InputError


def batches(fps, batch_size=1, slice_len=16384, fs=16000, **kwargs):
    return loader.decode_extract_and_batch(fps, batch_size, slice_len, fs, 1, **kwargs)


def slices(fps, **kwargs):
    return np.concatenate(list(batches(fps, **kwargs).as_numpy_iterator()))


def tone(fs, seconds=1.0, hz=440.0):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(fs * seconds)) / fs)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_resampling_keeps_a_tone(tmp_path, measured, rate):
    fp = str(tmp_path / "tone.wav")
    soundfile.write(fp, tone(rate), rate, subtype="FLOAT")
    got = loader.decode_audio(fp, 16000)[:, 0, 0]
    assert len(got) == 16000
    error = np.abs(got - tone(16000))[500:-500].max()
    measured(f"tone from {rate} Hz", error, 1e-3)


@pytest.mark.parametrize(
    "name, subtype, bound",
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_U8", 1e-2),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "ULAW", 5e-2),
        ("a.flac", "PCM_16", 1e-4),
        ("a.aiff", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 5e-2),
        ("a.mp3", "MPEG_LAYER_III", 5e-2),
    ],
)
def test_formats(tmp_path, name, subtype, bound):
    fp = str(tmp_path / name)
    soundfile.write(fp, np.stack([tone(16000)] * 2, 1), 16000, subtype=subtype)
    got = loader.decode_audio(fp, 16000)
    assert got.shape[1:] == (1, 1) and got.dtype == np.float32
    assert np.abs(got[2000:14000, 0, 0] - tone(16000)[2000:14000]).max() < bound


def test_channels(tmp_path):
    stereo, mono = str(tmp_path / "stereo.wav"), str(tmp_path / "mono.wav")
    samples = np.float32([[0.5, -0.25], [0.25, 0.75], [0, 0]])
    wavfile.write(stereo, 16000, samples)
    wavfile.write(mono, 16000, samples[:, 0])
    for fast in (False, True):
        got = loader.decode_audio(stereo, fast_wav=fast)
        np.testing.assert_array_equal(got[:, 0, 0], [0.125, 0.5, 0])
        assert loader.decode_audio(stereo, num_channels=2, fast_wav=fast).shape == (
            3,
            1,
            2,
        )
        doubled = loader.decode_audio(mono, num_channels=2, fast_wav=fast)
        np.testing.assert_array_equal(doubled[:, 0], samples[:, [0, 0]])
    with pytest.raises(InputError, match="has 2 channels, not 3"):
        loader.decode_audio(stereo, num_channels=3)
    # normalised after averaging
    peak = np.abs(loader.decode_audio(stereo, normalize=True)).max()
    assert peak == 1.0


def test_normalizing_silence_leaves_it(tmp_path):
    fp = str(tmp_path / "silence.wav")
    wavfile.write(fp, 16000, np.zeros(100, np.int16))
    assert not loader.decode_audio(fp, normalize=True).any()


def test_fast_wav_refuses_and_says_what(tmp_path):
    fp = str(tmp_path / "a.wav")
    wavfile.write(fp, 22050, np.zeros(100, np.int16))
    with pytest.raises(
        InputError, match=r"a\.wav is at 22050 Hz, not 16000; .*leave it"
    ):
        loader.decode_audio(fp, 16000, fast_wav=True)
    wavfile.write(fp, 16000, np.zeros(100, np.int32))
    with pytest.raises(
        InputError, match=r"a\.wav is PCM_32 WAV; .* 16-bit PCM or 32-bit"
    ):
        loader.decode_audio(fp, 16000, fast_wav=True)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [0, 1, 1001])
def test_plain_wav_is_read_as_libraries_read_it(tmp_path, subtype, channels, size):
    fp = str(tmp_path / "a.wav")
    samples = np.random.RandomState(0).uniform(-1, 1, (size, channels))
    soundfile.write(fp, samples, 22050, subtype=subtype)
    got = loader.read.read_plain_wav(fp)
    assert (got is not None) == (subtype == "PCM_16" and size > 0)
    if got:
        want, fs = soundfile.read(fp, dtype="float32", always_2d=True)
        np.testing.assert_array_equal(got[0], want)
        assert got[1] == fs and got[0].dtype == np.float32


@pytest.mark.parametrize("at", [*range(16), *range(16, 24), *range(32, 44)])
def test_any_other_header_is_left_to_libraries(tmp_path, at):
    fp = tmp_path / "a.wav"
    soundfile.write(fp, tone(16000), 16000)
    content = bytearray(fp.read_bytes())
    content[at] ^= 0x80
    fp.write_bytes(content)
    assert loader.read.read_plain_wav(fp) is None


def cut(fp, keep):
    with open(fp, "rb") as f:
        data = f.read()
    with open(fp, "wb") as f:
        f.write(data[: int(len(data) * keep)])


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.mp3"])
def test_a_truncated_file_is_refused(tmp_path, name):
    fp = str(tmp_path / name)
    soundfile.write(fp, np.random.RandomState(0).uniform(-0.5, 0.5, 40000), 16000)
    cut(fp, 0.5)
    for fast in (False, True) if name == "a.wav" else (False,):
        with pytest.raises(loader.UnreadableError):
            loader.decode_audio(fp, 16000, fast_wav=fast)


def test_no_samples_in_two_channels(tmp_path):
    fp, nothing = str(tmp_path / "a.wav"), np.zeros((0, 2), np.float32)
    wavfile.write(fp, 16000, nothing)
    for fast_wav in (False, True):
        with pytest.raises(loader.UnreadableError):
            loader.decode_audio(fp, 16000, fast_wav=fast_wav)


NO_DATA = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0"


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF", b"RIFF\x04\0\0\0WAVE", NO_DATA + b"junk\0\0\0\0", b"not audio" * 99],
)
@pytest.mark.parametrize("fast_wav", [False, True])
def test_what_is_not_audio_is_refused(tmp_path, content, fast_wav):
    fp = tmp_path / "a.wav"
    fp.write_bytes(content)
    with pytest.raises(loader.UnreadableError):
        loader.decode_audio(str(fp), 16000, fast_wav=fast_wav)


def test_a_sample_or_two_cannot_be_resampled_by_resampy(tmp_path):
    pytest.importorskip("resampy")
    fp = str(tmp_path / "a.wav")
    soundfile.write(fp, np.ones(1), 44100)
    assert len(loader.decode_audio(fp, 16000)) == 1
    with pytest.raises(loader.UnreadableError, match="cannot be resampled"):
        loader.decode_audio(fp, 16000, resample="kaiser_best")


def test_nan_and_empty_are_refused(tmp_path):
    fp = str(tmp_path / "a.wav")
    for samples, message in (
        ([0, np.nan], "NaN"),
        ([np.inf, 0], "NaN"),
        ([], "no sam"),
    ):
        wavfile.write(fp, 16000, np.float32(samples))
        with pytest.raises(loader.UnreadableError, match=message):
            loader.decode_audio(fp, 16000)


# Many files


KINDS = {
    "a.wav": "PCM_16",
    "b.wav": "FLOAT",
    "c.wav": "ULAW",
    "d.wav": "PCM_24",
    "e.flac": "PCM_16",
    "f.ogg": "VORBIS",
    "g.mp3": "MPEG_LAYER_III",
    "h.aiff": "PCM_16",
    "i.au": "PCM_16",
    "j.caf": "PCM_16",
    "k.w64": "PCM_16",
}


@pytest.mark.slow
def test_mutated_files_are_audio_or_refused(tmp_path, small_memory, monkeypatch):
    """2,200 files with wrong bytes, most of them in the header, some cut off."""
    monkeypatch.setattr(loader.ffmpeg, "find", lambda: None)  # a process for each file
    whole = {}
    for name, subtype in KINDS.items():
        soundfile.write(tmp_path / name, tone(16000, 0.5), 16000, subtype)
        whole[name] = (tmp_path / name).read_bytes()
    rs, outcomes = np.random.RandomState(0), collections.Counter()
    small_memory(4 << 30)
    for i, name in itertools.product(range(200), whole):
        content = bytearray(whole[name])
        for _ in range(rs.randint(1, 9)):
            end = 128 if rs.rand() < 0.7 else len(content)
            content[rs.randint(min(end, len(content)))] = rs.randint(256)
        if rs.rand() < 0.1:
            content = content[: rs.randint(len(content))]
        fp = tmp_path / f"{i}-{name}"
        fp.write_bytes(content)
        for fast_wav in (False, True) if name.endswith(".wav") else (False,):
            try:
                audio = loader.decode_audio(fp, 16000, 1, True, fast_wav)
            except (loader.UnreadableError, InputError) as e:
                assert str(e)
                outcomes["refused"] += 1
                continue
            assert audio.dtype == np.float32 and audio.shape[1:] == (1, 1)
            assert np.isfinite(audio).all() and np.abs(audio).max() <= 1
            outcomes["read"] += 1
        fp.unlink()
    assert min(outcomes.values()) > 500


def test_what_a_header_claims_is_not_allocated(tmp_path, small_memory):
    fp = tmp_path / "a.flac"
    soundfile.write(fp, np.zeros(8000), 16000)
    content = bytearray(fp.read_bytes())
    content[21] |= 8  # highest bit of how many samples it says to hold
    fp.write_bytes(content)
    assert soundfile.info(fp).frames == 2**35 + 8000
    small_memory(1 << 30)
    with pytest.raises(loader.UnreadableError):
        loader.decode_audio(fp)


def test_a_flac_of_unknown_length(tmp_path):
    fp = tmp_path / "a.flac"
    soundfile.write(fp, np.zeros(8000), 16000)
    content = bytearray(fp.read_bytes())
    content[22:26] = bytes(4)  # what an encoder leaves that writes to a pipe
    fp.write_bytes(content)
    assert loader.decode_audio(fp).shape == (8000, 1, 1)


@pytest.mark.parametrize("rate", [1, 99])
def test_an_impossible_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.ones(8000) / 2, rate)
    with pytest.raises(loader.UnreadableError, match=f"a sample rate of {rate} Hz"):
        loader.decode_audio(tmp_path / "a.wav", 16000)


def test_too_long_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(loader.decode, "MAX_SAMPLES", 10000)
    monkeypatch.setattr(loader.read, "BLOCK", 1000)
    soundfile.write(tmp_path / "a.wav", np.ones((9000, 2)) / 2, 8000)
    assert len(loader.decode_audio(tmp_path / "a.wav")) == 9000
    for size, fs, fast_wav in (
        (9000, 16000, False),
        (11000, 8000, False),
        (11000, 8000, True),
    ):
        soundfile.write(tmp_path / "a.wav", np.ones((size, 2)) / 2, 8000)
        with pytest.raises(loader.UnreadableError, match="longer than .* split it"):
            loader.decode_audio(tmp_path / "a.wav", fs, fast_wav=fast_wav)


@pytest.fixture
def folder(tmp_path):
    """Twenty short clips, each of its own value, so slices tell where they are from."""
    for i in range(20):
        samples = np.full(600, (i + 1) / 32, np.float32)
        wavfile.write(str(tmp_path / f"{i:02d}.wav"), 16000, samples)
    return tmp_path


SHORT = {
    "slice_len": 512,
    "slice_first_only": True,
    "slice_pad_end": True,
    "decode_normalize": False,
}


def test_a_bad_file_is_skipped_named_and_counted(folder, caplog):
    (folder / "07.wav").write_bytes(b"nonsense")
    cut(folder / "11.wav", 0.5)
    got = slices(loader.find_audio(folder), **SHORT)
    want = [(i + 1) / 32 for i in range(20) if i not in (7, 11)]
    assert got[:, 0, 0, 0].tolist() == want
    named = [r.getMessage() for r in caplog.records if "Skipped" in r.getMessage()]
    assert len(named) == 2 and "07.wav" in named[0] and "11.wav: truncated" in named[1]


def test_more_than_a_tenth_bad_is_an_error(folder):
    for i in range(3):
        (folder / f"{i:02d}.wav").write_bytes(b"nonsense")
    with pytest.raises(tf.errors.OpError) as e:
        slices(loader.find_audio(folder), **SHORT)
    assert "3 of 20 audio files cannot be read" in str(loader.input_error(e.value))
    assert loader.input_error(ValueError("other")) is None


def test_none_readable_is_an_error(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"nonsense")
    with pytest.raises(tf.errors.OpError) as e:
        slices(loader.find_audio(tmp_path), **SHORT)
    assert "none of the 1 audio files" in str(loader.input_error(e.value))


def test_all_too_short_is_an_error_not_a_hang(folder):
    dataset = batches(
        loader.find_audio(folder),
        slice_len=16384,
        slice_randomize_offset=True,
        repeat=True,
        shuffle=True,
        shuffle_buffer_size=64,
    )
    with pytest.raises(tf.errors.OpError) as e:
        next(dataset.as_numpy_iterator())
    message = str(loader.input_error(e.value))
    assert "too short" in message and "--data_first_slice --data_pad_end" in message


def test_random_offsets_are_uniform_and_seeded(tmp_path):
    ramp = np.arange(4 * 512, dtype=np.float32) / 4096
    wavfile.write(str(tmp_path / "ramp.wav"), 16000, ramp)

    def starts(seed):
        dataset = batches(
            [str(tmp_path / "ramp.wav")],
            slice_len=512,
            decode_normalize=False,
            slice_randomize_offset=True,
            slice_first_only=True,
            repeat=True,
            seed=seed,
        )
        return [
            int(x[0, 0, 0, 0] * 4096) for x in dataset.take(1000).as_numpy_iterator()
        ]

    got = starts(1)
    assert min(got) < 10 and max(got) > 500 and max(got) < 512
    assert abs(np.mean(got) - 255.5) < 4 * 512 / np.sqrt(12 * 1000)
    assert got == starts(1) != starts(2)


def test_repeat_and_shuffle_use_every_file_once_an_epoch(folder):
    fps = loader.find_audio(folder)
    dataset = batches(
        fps, **SHORT, repeat=True, shuffle=True, shuffle_buffer_size=1, seed=0
    )
    got = [int(x[0, 0, 0, 0] * 32) for x in dataset.take(60).as_numpy_iterator()]
    epochs = [got[i : i + 20] for i in (0, 20, 40)]
    assert all(sorted(e) == list(range(1, 21)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.fixture
def recordings(tmp_path):
    """Files of no slice, of one and of several, one of them broken."""
    for i, size in enumerate([600, 3000, 900, 200, 5000, 513] * 2):
        samples = (np.arange(size) + 10000 * i).astype(np.float32) / 2**17
        wavfile.write(str(tmp_path / f"{i:02d}.wav"), 16000, samples)
    (tmp_path / "05.wav").write_bytes(b"nonsense")
    return loader.find_audio(tmp_path)


LONG = {"slice_len": 512, "decode_normalize": False, "repeat": True, "seed": 3}


@pytest.mark.parametrize(
    "flags",
    [
        {"slice_randomize_offset": True, "slice_overlap_ratio": 0.5},
        {"slice_first_only": True, "slice_pad_end": True},
    ],
)
@pytest.mark.parametrize("buffer_size", [0, 1, 30])
@pytest.mark.parametrize("skip", [1, 29, 500, 9001])
def test_the_order_resumes_at_any_slice(recordings, flags, buffer_size, skip):
    """Over several epochs and blocks, whether or not the files' lengths are known."""
    shuffle = {"shuffle": buffer_size > 0, "shuffle_buffer_size": buffer_size}
    options = {**LONG, **flags, **shuffle, "decode_parallel_calls": 3}
    known = np.full(len(recordings), -1)
    n = skip + 40
    whole = batches(recordings, lengths=known, **options).take(n)
    want = np.stack(list(whole.skip(skip).as_numpy_iterator()))
    if skip > 400:  # all have been seen
        assert (known >= 0).all() and (known == 0).sum() == 1
    for lengths in (None, known):
        rest = batches(recordings, skip=skip, lengths=lengths, **options).take(40)
        np.testing.assert_array_equal(list(rest.as_numpy_iterator()), want)
    if buffer_size:
        found = loader.origins(skip, 40, known, LONG["seed"], buffer_size, 512, **flags)
        first = np.array([10000 * file + sample for file, sample in found])
        np.testing.assert_array_equal(first, want[:, 0, 0, 0, 0] * 2**17)


def test_resuming_decodes_at_most_one_window(recordings, monkeypatch):
    """Not the files of all epochs before."""
    options = {**LONG, "shuffle": True, "shuffle_buffer_size": 5}
    known = np.full(len(recordings), -1)
    list(batches(recordings, lengths=known, **options).take(60))
    decoded, decode = [], loader.decode.decode
    monkeypatch.setattr(
        loader.cache,
        "decode",
        lambda fp, **kw: decoded.append(fp) or decode(fp, **kw),
    )
    options |= {"skip": 100_000, "lengths": known}
    next(iter(batches(recordings, **options)))
    assert 0 < len(decoded) <= 10


def test_files_that_became_shorter_do_not_stop_a_resumed_training(recordings):
    options = {**LONG, "shuffle": True, "shuffle_buffer_size": 30}
    known = np.full(len(recordings), -1)
    list(batches(recordings, lengths=known, **options).take(500))
    samples = np.full(700, 0.5, np.float32)
    wavfile.write(recordings[4], 16000, samples)
    rest = batches(recordings, skip=500, lengths=known, **options).take(100)
    got = np.stack(list(rest.as_numpy_iterator()))
    assert got.shape == (100, 1, 512, 1, 1)
    assert known[4] == 700 and (got == 0.5).all(axis=(1, 2, 3, 4)).any()


@pytest.mark.parametrize("quick", [0, 1000])
def test_the_order_is_the_same_however_many_are_decoded_at_a_time(
    recordings, monkeypatch, quick
):
    options = {**LONG, "slice_randomize_offset": True, "decode_parallel_calls": 3}
    options |= {"shuffle": True, "shuffle_buffer_size": 30}
    want = list(batches(recordings, **options).take(500).as_numpy_iterator())
    monkeypatch.setattr(loader.slices, "QUICK", quick)
    got = list(batches(recordings, **options).take(500).as_numpy_iterator())
    np.testing.assert_array_equal(got, want)


def test_slices_are_those_of_the_batches(recordings):
    options = {**LONG, "slice_pad_end": True, "repeat": False}
    want = slices(recordings, **options)
    del options["slice_len"]
    found = loader.decode_and_extract(recordings, 512, 16000, 1, **options)
    for _ in range(2):  # every pass begins anew
        got = list(found)
        assert [len(x) for x in got].count(512) < len(got) == len(want)
        for x, whole in zip(got, want, strict=True):
            np.testing.assert_array_equal(x, whole[: len(x)])
            assert not whole[len(x) :].any()


@pytest.mark.parametrize("flags", [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize("hop", [1, 100, 512, 600])
def test_slices_are_as_many_as_are_counted(flags, hop):
    for size in (0, 1, 511, 512, 513, 1112, 3000):
        found = loader.extract_slices(np.zeros((size, 1, 1)), 512, hop, *flags)
        assert len(found) == loader.slice_count(size, 512, hop, *flags)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_cache_decodes_each_file_once(
    recordings, tmp_path, monkeypatch, where, caplog
):
    options = LONG | {"slice_randomize_offset": True, "decode_parallel_calls": 3}
    before = {*threading.enumerate()}

    def settle():
        """Threads of a dataset that has ended may still be at a file."""
        for thread in {*threading.enumerate()} - before:
            if thread.name.startswith("ThreadPoolExecutor"):
                thread.join(60)

    want = list(batches(recordings, **options).take(200).as_numpy_iterator())
    settle()
    folder = tmp_path / "cache"
    cache = where if where == "memory" else str(folder)
    decoded, decode = [], loader.decode.decode
    monkeypatch.setattr(
        loader.cache,
        "decode",
        lambda fp, **kw: decoded.append(fp) or decode(fp, **kw),
    )

    def check():
        """The readable files that are decoded for the same slices as ever."""
        decoded.clear()
        dataset = batches(recordings, decode_cache=cache, **options)
        got = list(dataset.take(200).as_numpy_iterator())
        np.testing.assert_array_equal(got, want)
        settle()
        return [fp for fp in decoded if not fp.endswith("05.wav")]

    assert sorted(check()) == sorted(set(recordings) - {recordings[5]})
    if where == "memory":
        return
    assert check() == []
    for fp, damage in zip(sorted(folder.iterdir()), (b"", b"odd"), strict=False):
        fp.write_bytes(damage)
    assert len(check()) == 2
    found = len([*folder.iterdir()])
    os.utime(recordings[0], (1, 1))  # not now: a disk's clock may tick in seconds
    assert check() == recordings[:1]
    assert len([*folder.iterdir()]) == found + 1
    # A folder that cannot be written to: said, and gone on without
    monkeypatch.setattr(loader.cache, "replacing", full_disk)
    os.utime(recordings[1], (1, 1))
    assert set(check()) == {recordings[1]}
    assert caplog.text.count(f"Stopped caching in {folder}: No space left") == 1


def full_disk(path):
    raise OSError(28, "No space left on device")


def test_names_that_are_not_utf8(tmp_path):
    fp = os.fsencode(tmp_path) + b"/\xe9.wav"
    with open(fp, "wb") as f:
        wavfile.write(f, 16000, np.ones(600, np.int16))
    assert slices(loader.find_audio(tmp_path), **SHORT).shape == (1, 512, 1, 1)


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_dataset_in_use_does_not_hang_the_end_of_the_interpreter(seconds):
    code = (
        "import sys, time; from specgan_tf import loader;"
        "read = loader.read.recordings;"
        f"loader.read.recordings = lambda *args: time.sleep({seconds}) or read(*args);"
        "it = iter(loader.decode_extract_and_batch(loader.find_audio(sys.argv[1]), 16,"
        "16384, 16000, 1, decode_parallel_calls=4, slice_pad_end=True, repeat=True,"
        "shuffle=True, shuffle_buffer_size=2, prefetch_size=20)); next(it)"
    )
    run = [sys.executable, "-c", code, DRUMS]
    subprocess.run(run, cwd=ROOT, check=True, timeout=600)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5, 1), (64, 16384, 1, 1)])
def test_a_batch_is_handed_over_without_a_copy(shape):
    given = []

    def arrays():
        given.append(loader.aligned_zeros(shape))
        yield given[0]

    signature = tf.TensorSpec(shape, tf.float32)
    (x,) = tf.data.Dataset.from_generator(arrays, output_signature=signature)
    assert given[0].shape == shape and not x.numpy().any()
    assert np.shares_memory(np.asarray(memoryview(x)), given[0])


@pytest.mark.parametrize("slow, asked", [(0.05, 0.0), (0.0, 0.2)])
def test_waiting_for_data_is_timed(slow, asked):
    """All the time for a slow dataset; next to none for a fast one."""
    ready = []

    def make():
        for i in range(10):
            time.sleep(slow)
            ready.append(time.time())
            yield i

    signature = tf.TensorSpec([], tf.int64)
    dataset = tf.data.Dataset.from_generator(make, output_signature=signature)
    waits = []
    timed = loader.timed(dataset.prefetch(2), waits.append)
    assert timed.element_spec == dataset.element_spec
    got, began, ended = [], [], []
    elements = iter(timed)
    for _ in range(10):
        began.append(time.time())
        got.append(int(next(elements)))
        ended.append(time.time())
        time.sleep(asked)
    assert next(elements, None) is None
    assert got == [*range(10)] and len(waits) == 10
    if slow:
        # Not of `slow` alone: a machine that is busy is late with either side.
        owed = np.maximum(0, np.subtract(ready, began))[1:].sum()
        assert 8 / 9 * owed < sum(waits[1:]) < np.subtract(ended, began)[1:].sum()
    else:
        assert min(waits) >= 0 and np.median(waits[1:]) < asked / 5


def test_batches_drop_the_remainder(folder):
    fps = loader.find_audio(folder)
    got = list(batches(fps, batch_size=8, prefetch_size=2, **SHORT).as_numpy_iterator())
    assert [x.shape for x in got] == [(8, 512, 1, 1)] * 2


@pytest.mark.parametrize("overlap, hop", [(0.0, 512), (0.5, 256), (0.999, 1)])
def test_hop(overlap, hop):
    assert loader.slice_hop_len(512, overlap) == hop


@pytest.mark.parametrize("overlap", [-0.1, 0.9999])
def test_impossible_overlap(overlap):
    with pytest.raises(ValueError, match="slice_overlap_ratio .* Received"):
        loader.slice_hop_len(512, overlap)


# Finding files


def test_find_audio(tmp_path, caplog):
    for name in ("b.WAV", "a.flac", "notes.txt", ".hidden.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.mp3").write_bytes(b"x")
    names = [os.path.relpath(p, tmp_path) for p in loader.find_audio(tmp_path)]
    assert names == ["a.flac", "b.WAV"]
    assert "Not audio, left out (2): notes.txt, sub" in caplog.text
    names = [os.path.relpath(p, tmp_path) for p in loader.find_audio(tmp_path, True)]
    assert names == ["a.flac", "b.WAV", os.path.join("sub", "c.mp3")]


def test_find_audio_finds_none(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        loader.find_audio(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is empty"):
        loader.find_audio(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    for _ in range(2):  # without and with a sub-folder
        with pytest.raises(InputError, match="holds no audio"):
            loader.find_audio(tmp_path)
        (tmp_path / "sub").mkdir(exist_ok=True)
    (tmp_path / "sub" / "a.wav").write_bytes(b"x")
    assert loader.find_audio(tmp_path) == [str(tmp_path / "sub" / "a.wav")]
    with pytest.raises(InputError, match="is not a folder"):
        loader.find_audio(tmp_path / "notes.txt")


@pytest.mark.parametrize("program", ["/usr/bin/ffmpeg", None])
def test_the_suffixes_that_are_read_depend_on_ffmpeg(tmp_path, monkeypatch, program):
    (tmp_path / "notes.txt").write_text("x")
    monkeypatch.setattr(loader.ffmpeg, "find", lambda: program)
    with pytest.raises(InputError, match=r"holds no audio \(\.wav ") as e:
        loader.find_audio(tmp_path)
    assert (".m4a" in str(e.value)) == bool(program)


def test_embedded_drums():
    fps = [os.path.join(DRUMS, name) for name in sorted(os.listdir(DRUMS))]
    assert len(fps) == 77 and fps == loader.find_audio(DRUMS)
    fast = slices(fps, decode_fast_wav=True, slice_first_only=True, slice_pad_end=True)
    slow = slices(fps, slice_first_only=True, slice_pad_end=True)
    np.testing.assert_array_equal(fast, slow)
    assert (np.abs(fast).max(axis=(1, 2, 3)) == 1.0).all()
    with open(os.path.join(DRUMS, "..", "provenance.csv")) as f:
        rows = f.read().splitlines()[1:]
    listed = {os.path.basename(row.split(",")[0]) for row in rows}
    assert listed == {os.path.basename(fp) for fp in fps}
    assert all(row.split(",")[1] == "CC0-1.0" for row in rows)


def test_real_recordings_of_every_format():
    """313 drum sounds as recorded: 8 to 24 bits, 22 to 192 kHz, one of them broken."""
    fps = loader.find_audio(shared("data", "drums", "original"), recursive=True)
    assert any(fp.endswith("malformed.ogg") for fp in fps)
    good = bad = 0
    for fp in fps:
        try:
            audio = loader.decode_audio(fp, 16000, normalize=True)
        except loader.UnreadableError:
            bad += 1
            continue
        good += 1
        assert audio.ndim == 3 and 0 < np.abs(audio).max() <= 1
    assert (good, bad) == (313, 1)


def joint(fps, n, **kwargs):
    """Batches of 12 of `n` workers, put together again."""
    parts = [batches(fps, 12, worker=(i, n), **kwargs).take(40) for i in range(n)]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


SHARED = {
    **LONG,
    "shuffle": True,
    "shuffle_buffer_size": 30,
    "decode_parallel_calls": 3,
}


@pytest.mark.parametrize(
    "flags",
    [
        {"slice_randomize_offset": True, "slice_overlap_ratio": 0.5},
        {"slice_first_only": True, "slice_pad_end": True},
    ],
)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("skip", [0, 4000])
def test_the_parts_of_workers_are_the_batches_of_one(recordings, flags, n, skip):
    """Whether or not the files' lengths are known; from anywhere."""
    options = {**SHARED, **flags, "skip": skip}
    known = np.full(len(recordings), -1)
    whole = batches(recordings, 12, lengths=known, **options).take(40)
    want = list(whole.as_numpy_iterator())
    assert (known >= 0).all()
    for lengths in (None, known):
        got = joint(recordings, n, lengths=lengths, **options)
        np.testing.assert_array_equal(got, want)


def test_workers_share_the_decoding(folder, monkeypatch):
    """Of files of one slice, and of known length: each is decoded by one of them."""
    decoded, decode = collections.Counter(), loader.decode.decode
    monkeypatch.setattr(
        loader.cache,
        "decode",
        lambda fp, **kw: decoded.update([fp]) or decode(fp, **kw),
    )
    monkeypatch.setattr(loader.slices, "QUICK", 0)  # not many ahead on a quick machine
    fps = loader.find_audio(folder)
    options = {**SHARED, **SHORT, "lengths": np.full(len(fps), 600)}
    list(batches(fps, 12, **options).take(40))
    alone = decoded.total()
    for i in range(4):
        decoded.clear()
        list(batches(fps, 12, worker=(i, 4), **options).take(40))
        # A quarter; what is decoded ahead, and whose turn it is, make the difference.
        assert decoded.total() < 0.3 * alone


def test_a_part_of_files_that_became_shorter(recordings):
    """As many batches, of what is there."""
    known = np.full(len(recordings), -1)
    list(batches(recordings, 12, lengths=known, **SHARED).take(40))
    for skip in (0, 500):
        wavfile.write(recordings[4], 16000, np.full(5000, 0.25, np.float32))
        lengths = known.copy()
        rest = batches(
            recordings, 12, worker=(1, 2), skip=skip, lengths=lengths, **SHARED
        )
        wavfile.write(recordings[4], 16000, np.full(700, 0.5, np.float32))
        got = np.stack(list(rest.take(40).as_numpy_iterator()))
        assert got.shape == (40, 6, 512, 1, 1)
        assert lengths[4] == 700 and (got == 0.5).all(axis=(2, 3, 4)).any()
        assert not (got == 0.25).any()
