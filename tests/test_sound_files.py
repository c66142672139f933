"""The files people have: headers that lie, joined files, what only ffmpeg reads; and
that nothing is left out without a word."""

import collections
import logging
import os
import re
import struct
import threading
import time

import librosa
import numpy as np
import pytest
import soundfile
from conftest import installed, shared
from scipy.io import wavfile

from specgan_tf import loader
from specgan_tf.errors import InputError
from specgan_tf.loader import budget, ffmpeg, long, mpeg

N = 48000


def noise(n=N, seed=0):
    return np.random.RandomState(seed).uniform(-0.5, 0.5, n).astype(np.float32)


@pytest.fixture(autouse=True)
def nothing_said_before(monkeypatch):
    monkeypatch.setattr(loader.decoder.Decoder, "named", set())


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(ffmpeg, "find", lambda: None)


def wav_bytes(riff=None, data=None, n=N, after=b"", width=2):
    """A WAV file of `n` 16-bit samples with these sizes in its header."""
    sound = (noise(n) * 32767).astype("<i2").tobytes()
    data = len(sound) if data is None else data
    riff = 36 + len(sound) + len(after) if riff is None else riff
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1,
                       16000, 32000, 2, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", data) + sound + after


BIG = 0xFFFFFFFF
SIZES = {
    "to a pipe, 0": (0, 0),
    "to a pipe, 0 and 36": (36, 0),
    "to a pipe, SoX": (0x7FFFF024, 0x7FFFF000),
    "to a pipe, ffmpeg": (BIG, BIG),
    "to a pipe, arecord": (0x80000024, 0x80000000),
    "to a pipe, less a header": (BIG - 8, BIG - 44),
    "a RIFF field 8 too large": (2 * N + 44, 2 * N),
    "a RIFF field 8 too small": (2 * N + 28, 2 * N),
    "a RIFF field of 0": (0, 2 * N),
    "a RIFF field of a pipe": (BIG, 2 * N),
}


@pytest.mark.parametrize("fast_wav", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_data_chunk_of_a_wav_is_believed(tmp_path, sizes, fast_wav, caplog):
    fp = tmp_path / "a.wav"
    fp.write_bytes(wav_bytes(*sizes))
    got = loader.decode_audio(fp, 16000, fast_wav=fast_wav)
    want = (noise() * 32767).astype(np.int16) / np.float32(32768)
    np.testing.assert_array_equal(got[:, 0, 0], want)
    assert not caplog.records


@pytest.mark.parametrize("fast_wav", [False, True])
def test_sound_ends_where_its_chunk_does(tmp_path, fast_wav):
    fp, names = tmp_path / "a.wav", b"LIST\4\0\0\0INFO"
    fp.write_bytes(wav_bytes(after=names))
    assert len(loader.decode_audio(fp, fast_wav=fast_wav)) == N
    fp.write_bytes(wav_bytes(0, n=100, after=names))
    assert len(loader.decode_audio(fp, fast_wav=fast_wav)) == 100
    fp.write_bytes(wav_bytes(n=0, after=names))
    with pytest.raises(loader.UnreadableError, match="no samples"):
        loader.decode_audio(fp, fast_wav=fast_wav)


@pytest.mark.parametrize("fast_wav", [False, True])
@pytest.mark.parametrize("riff", [2 * N + 36, 36, 4 * N + 36])
def test_a_data_chunk_beyond_the_end_is_truncated(tmp_path, riff, fast_wav):
    (tmp_path / "a.wav").write_bytes(wav_bytes(riff, 4 * N))
    with pytest.raises(loader.UnreadableError, match=f"truncated: {2 * N} of {4 * N}"):
        loader.decode_audio(tmp_path / "a.wav", fast_wav=fast_wav)


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "ULAW", "PCM_U8"])
def test_streamed_wavs_of_every_sample_format(tmp_path, subtype):
    fp = tmp_path / "a.wav"
    soundfile.write(fp, noise(), 16000, subtype)
    want, content = loader.decode_audio(fp), bytearray(fp.read_bytes())
    at = content.index(b"data") + 4
    end = at + 4 + struct.unpack("<I", content[at : at + 4])[0]
    content[4:8] = content[at : at + 4] = bytes(4)
    fp.write_bytes(content[:end])
    np.testing.assert_array_equal(loader.decode_audio(fp), want)


def mp3(tmp_path, samples, rate=16000, name="whole.mp3"):
    soundfile.write(tmp_path / name, samples, rate)
    return (tmp_path / name).read_bytes()


def without_header(content):
    """An MP3's frames of sound alone."""
    (recording,) = mpeg.scan(content)
    assert recording.claimed == recording.frames
    return b"".join(content[a:b] for a, b in recording.ranges)


def test_an_mp3_without_a_header_is_read_to_its_end(tmp_path, caplog):
    """The length guessed from a first frame of many bits is too small."""
    whole = mp3(tmp_path, np.concatenate([noise(), np.zeros(9 * N, np.float32)]))
    fp = tmp_path / "a.mp3"
    fp.write_bytes(without_header(whole))
    guessed = soundfile.info(fp).frames
    got = loader.decode_audio(fp)[:, 0, 0]
    assert guessed < 8 * N and 10 * N <= len(got) < 10 * N + 3000
    assert len(got) % 576 == 0 and not caplog.records
    # The same sound, later by what a header would have cut away
    want = loader.decode_audio(tmp_path / "whole.mp3")[:N, 0, 0]
    assert np.abs(got[1105 : 1105 + N] - want)[2000:].max() < 1e-4


@pytest.mark.parametrize("cut_at", [5000, 5001, 12345])
@pytest.mark.parametrize("rate, size", [(16000, 576), (44100, 1152)])  # MPEG 2, 1
def test_an_mp3_cut_out_of_another(tmp_path, cut_at, rate, size, caplog, capfd):
    """libmpg123 writes errors to stderr about frames that lack their first bytes."""
    whole = mp3(tmp_path, noise(4 * N), rate)
    fp = tmp_path / "a.mp3"
    fp.write_bytes(whole[cut_at:-1000])
    got = loader.decode_audio(fp)[:, 0, 0]
    frames = [a for r in mpeg.scan(whole) for a in range(r.frames)]
    assert 0.6 * len(frames) < len(got) / size < len(frames)
    assert len(got) % size == 0 and not caplog.records
    assert capfd.readouterr().err == ""
    # Its end is somewhere in the whole
    fp.write_bytes(without_header(whole))
    whole, end = loader.decode_audio(fp)[:, 0, 0], got[-5000:]
    starts = range(-5000 % size, len(whole) - 4999, size)
    assert any(np.abs(whole[i : i + 5000] - end).max() < 1e-4 for i in starts)


def test_a_truncated_mp3_with_a_header_is_refused(tmp_path):
    whole = mp3(tmp_path, noise(4 * N))
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(loader.UnreadableError, match=r"truncated: \d+ of \d+ MP3"):
        loader.decode_audio(tmp_path / "a.mp3")


def test_an_mp3_whose_header_claims_too_little(tmp_path, caplog):
    content = bytearray(mp3(tmp_path, noise(4 * N)))
    want = loader.decode_audio(tmp_path / "whole.mp3")
    (recording,) = mpeg.scan(content)
    at = content.index(b"Info") if b"Info" in content else content.index(b"Xing")
    content[at + 8 : at + 12] = (recording.frames // 2).to_bytes(4, "big")
    (tmp_path / "a.mp3").write_bytes(content)
    got = loader.decode_audio(tmp_path / "a.mp3")
    assert 0 <= len(got) - len(want) < 1200  # its end is not cut to the sample
    np.testing.assert_allclose(got[: len(want)], want, atol=1e-5)
    assert "a.mp3 has" in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("between", [b"", b"TAG".ljust(128, b" "), bytes(700)])
def test_tags_and_rubbish_between_mp3_frames(tmp_path, between):
    content = without_header(mp3(tmp_path, noise(4 * N)))
    fp = tmp_path / "a.mp3"
    fp.write_bytes(content)
    want = loader.decode_audio(fp)
    picture = b"ID3\3\0\0" + bytes([0, 0, 8, 0]) + b"\xff\xfb\x90\0" * 256
    fp.write_bytes(picture + content + between + content + between)
    assert len(loader.decode_audio(fp)) == 2 * len(want)


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac", "wav", "opus"])
@pytest.mark.parametrize("rates", [(16000, 16000), (16000, 24000)])
def test_joined_files_are_all_read(tmp_path, kind, rates, caplog):
    options = {"format": "OGG", "subtype": "OPUS"} if kind == "opus" else {}
    parts = []
    for i, rate in enumerate(rates):
        fp = tmp_path / f"{i}.{kind}"
        soundfile.write(fp, noise(2 * rate, i), rate, **options)
        parts.append(loader.decode_audio(fp, rates[0]))
    joined = tmp_path / f"joined.{kind}"
    joined.write_bytes(
        b"".join((tmp_path / f"{i}.{kind}").read_bytes() for i in (0, 1))
    )
    assert not caplog.records
    np.testing.assert_array_equal(
        loader.decode_audio(joined, rates[0]), np.concatenate(parts)
    )
    (record,) = caplog.records
    assert f"joined.{kind} holds 2 recordings" in record.getMessage()


PAGES = {
    b"<!DOCTYPE html>\n<html>": "a web page",
    b"\xef\xbb\xbf \n<HTML lang='en'>": "a web page",
    b"<!-- sorry -->\n<html>": "a web page",
    b'{"error": "not found"}': "text",
    b"version https://git-lfs.github.com/spec/v1": "a Git LFS pointer",
    b"PK\3\4" + bytes(100): "a ZIP archive",
    b"%PDF-1.7": "a PDF document",
    b"": "an empty file",
}


@pytest.mark.parametrize("content", PAGES)
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac"])
def test_what_is_no_audio_is_called_what_it_is(tmp_path, content, name, capfd):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(loader.UnreadableError) as e:
        loader.decode_audio(tmp_path / name)
    assert f"not an audio file (it looks like {PAGES[content]}" in str(e.value)
    assert capfd.readouterr().err == ""  # libmpg123 writes there


# ffmpeg


def made_by_ffmpeg(fp, *options, n=N):
    program = ffmpeg.find()
    installed(program, "ffmpeg is not installed")
    wavfile.write(fp.parent / "from.wav.tmp", 16000, noise(n))
    command = [program, "-v", "error", "-y", "-f", "wav", "-i"]
    command += [str(fp.parent / "from.wav.tmp"), *options, f"file:{fp}"]
    ffmpeg.subprocess.run(command, check=True)


@pytest.mark.parametrize(
    "name, options, bound",
    [
        ("a.m4a", [], 0),
        ("a.mp4", [], 0),
        ("a.aac", [], 3000),
        ("a.wma", [], 3000),
        ("a.webm", ["-ar", "48000"], 3000),
        ("a.mka", ["-c:a", "pcm_s16le"], 0),
    ],
)
def test_what_only_ffmpeg_reads(tmp_path, name, options, bound):
    made_by_ffmpeg(tmp_path / name, *options)
    assert loader.find_audio(tmp_path) == [str(tmp_path / name)]
    got = loader.decode_audio(tmp_path / name, 16000, normalize=True)
    assert abs(len(got) - N) <= bound and np.abs(got).max() == 1


@pytest.mark.parametrize(
    "name", ["-i.m4a", "http:a.m4a", "concat:a|b.m4a", "%d 'x.m4a"]
)
def test_names_are_never_options_or_protocols(tmp_path, monkeypatch, name):
    made_by_ffmpeg(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(loader.decode_audio(name)) == N


def test_playlists_are_not_followed(tmp_path):
    made_by_ffmpeg(tmp_path / "secret.m4a")
    for i, content in enumerate((
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.m4a\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.m4a\n",
    )):  # fmt: skip
        fp = tmp_path / f"{i}.m4a"
        fp.write_text(content)
        with pytest.raises(loader.UnreadableError, match="looks like text"):
            loader.decode_audio(fp)
        # Nor where it does not look like one
        fp.write_bytes(content.encode() + b"\0")
        with pytest.raises(loader.UnreadableError, match="ffmpeg cannot read it"):
            loader.decode_audio(fp)


def test_what_ffmpeg_cannot_read_is_refused(tmp_path):
    made_by_ffmpeg(tmp_path / "a.m4a")
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(content[: len(content) // 2])  # its index is last
    with pytest.raises(loader.UnreadableError, match="ffmpeg cannot read it: "):
        loader.decode_audio(tmp_path / "a.m4a")


def test_ffmpeg_that_hangs_is_ended(tmp_path, monkeypatch):
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nexec sleep 600\n")
    fake.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "find", lambda: str(fake))
    monkeypatch.setattr(ffmpeg, "SECONDS", 0.2)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    start = time.monotonic()
    with pytest.raises(loader.UnreadableError, match="ffmpeg took more than"):
        loader.decode_audio(tmp_path / "a.m4a")
    assert time.monotonic() - start < 300


def test_without_ffmpeg_it_says_so_once(tmp_path, no_ffmpeg, caplog):
    for name in ("a.m4a", "b.m4a", "c.wma"):
        (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(
        InputError, match=r"3 files \(.m4a .wma\) that need ffmpeg.*apt"
    ):
        loader.find_audio(tmp_path)
    wavfile.write(tmp_path / "d.wav", 16000, noise())
    assert loader.find_audio(tmp_path) == [str(tmp_path / "d.wav")]
    (record,) = caplog.records
    assert "ffmpeg is needed (apt install" in record.getMessage()
    assert "(3): a.m4a, b.m4a, c.wma" in record.getMessage()
    with pytest.raises(loader.UnreadableError, match="is not installed: apt install"):
        loader.decode_audio(tmp_path / "a.m4a")


# Silence


def stereo(tmp_path, left, right):
    fp = tmp_path / "a.wav"
    soundfile.write(fp, np.stack([left, right], 1), 16000, "PCM_16")
    return fp


def test_channels_that_cancel_are_named_and_not_amplified(tmp_path, caplog):
    fp = stereo(tmp_path, noise(), -noise())
    assert np.abs(loader.decode_audio(fp, normalize=True)).max() < 1e-4
    (record,) = caplog.records
    assert "a.wav cancels out in mono" in record.getMessage()
    assert np.abs(loader.decode_audio(fp, num_channels=2, normalize=True)).max() == 1
    assert len(caplog.records) == 1
    # A quiet difference is sound
    fp = stereo(tmp_path, noise(), -0.9 * noise())
    assert np.abs(loader.decode_audio(fp, normalize=True)).max() == 1
    assert len(caplog.records) == 1


def test_silence_is_named(tmp_path, caplog):
    fp = stereo(tmp_path, np.zeros(N), np.zeros(N))
    assert not loader.decode_audio(fp, normalize=True).any()
    assert "a.wav is silent" in caplog.text
    fp = stereo(tmp_path, np.zeros(N), np.eye(1, N)[0] / 32768)
    assert loader.decode_audio(fp, normalize=True).max() == 1
    assert "a.wav is almost silent" in caplog.text


def extract(fps, **kwargs):
    return list(loader.decode_and_extract(fps, 16384, 16000, 1, **kwargs))


def test_silent_files_are_counted_once(tmp_path, caplog):
    for i in range(20):
        wavfile.write(tmp_path / f"{i:02}.wav", 16000, noise() * (i > 2))
    for _ in range(2):
        assert len(extract(loader.find_audio(tmp_path))) == 40
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 3 and all("is silent (" in line for line in said)
    assert "(1 such file of 20)" in said[0] and "(3 such files of 20)" in said[-1]


def test_a_skipped_file_is_named_once(tmp_path, caplog):
    """With fast_wav an MP3 of two recordings is skipped, so "all are read" is false."""
    song = mp3(tmp_path, noise())
    (tmp_path / "whole.mp3").write_bytes(song + song)
    for i in range(20):
        wavfile.write(tmp_path / f"{i:02}.wav", 16000, noise())
    assert len(extract(loader.find_audio(tmp_path), decode_fast_wav=True)) == 40
    (line,) = (r.getMessage() for r in caplog.records)
    assert "Skipped" in line and "leave out --data_fast_wav to read it" in line


# What is too short


def test_short_files_are_counted_with_the_flags_that_help(tmp_path, caplog):
    for i in range(56):
        wavfile.write(tmp_path / f"{i:02}.wav", 16000, noise(3000 if i > 12 else 20000))
    fps = loader.find_audio(tmp_path)
    for _ in range(2):
        assert len(extract(fps)) == 13
    (record,) = caplog.records
    assert "43 of 56 files are shorter than a slice of 16384" in record.getMessage()
    for flag in ("--data_pad_end", "--data_first_slice"):
        assert flag in record.getMessage()
    caplog.clear()
    assert len(extract(fps, slice_pad_end=True)) == 43 + 2 * 13
    assert not caplog.records


# Folders


@pytest.fixture
def linked(tmp_path):
    """A folder whose sub-folders are links: to one outside, twice, and to itself."""
    outside, data = tmp_path / "outside", tmp_path / "data"
    for folder in (outside, outside / "sub", data):
        folder.mkdir()
    wavfile.write(outside / "a.wav", 16000, noise())
    wavfile.write(outside / "sub" / "b.wav", 16000, noise())
    try:
        for name, to in (("one", outside), ("two", outside), ("self", data)):
            (data / name).symlink_to(to)
    except OSError:
        pytest.skip("no links here")
    return data


@pytest.mark.parametrize("recursive", [False, True])
def test_linked_folders_are_followed_once(linked, recursive):
    found = [os.path.relpath(p, linked) for p in loader.find_audio(linked, recursive)]
    assert found == [os.path.join("one", "a.wav"), os.path.join("one", "sub", "b.wav")]


def test_real_folders_keep_their_names(linked):
    """Links come second, whatever they are called."""
    (linked / "zzz").mkdir()
    wavfile.write(linked / "zzz" / "c.wav", 16000, noise())
    (linked / "aaa").symlink_to(linked / "zzz")
    found = [os.path.relpath(p, linked) for p in loader.find_audio(linked, True)]
    assert found[-1] == os.path.join("zzz", "c.wav") and len(found) == 3


def test_a_folder_of_links_is_not_called_empty(linked, caplog):
    for name in ("one", "two"):
        (linked / name).unlink()
    with pytest.raises(InputError, match="holds no audio"):
        loader.find_audio(linked)
    (linked / "gone.wav").symlink_to("nowhere.wav")
    wavfile.write(linked / "d.wav", 16000, noise())
    assert loader.find_audio(linked) == [str(linked / "d.wav")]
    assert "Broken links, left out (1): gone.wav" in caplog.text


def test_a_folder_that_cannot_be_read_is_named(linked, monkeypatch, caplog):
    listdir = os.listdir

    def refuse(folder):
        if os.path.basename(folder) in refused:
            raise PermissionError(13, "Permission denied", folder)
        return listdir(folder)

    refused = {"sub"}
    monkeypatch.setattr(os, "listdir", refuse)
    assert len(loader.find_audio(linked)) == 1
    folder = linked / "one" / "sub"
    assert f"Cannot read the folder {folder}: Permission denied" in caplog.text
    refused.add("data")
    with pytest.raises(InputError, match="data cannot be read: Permission denied"):
        loader.find_audio(linked)


# Memory


@pytest.mark.parametrize("resample", ["soxr_hq", "kaiser_best"])
@pytest.mark.parametrize("rate", [11025, 44100, 48000, 96000])
def test_blocks_give_what_all_at_once_gives(
    tmp_path, monkeypatch, resample, rate, measured
):
    if resample == "kaiser_best":
        pytest.importorskip("resampy")
    fp, samples = tmp_path / "a.wav", noise(60002).reshape(-1, 2)
    soundfile.write(fp, samples, rate, "FLOAT")
    at_once = loader.decode_audio(fp, 16000, resample=resample)[:, 0, 0]
    monkeypatch.setattr(loader.read, "BLOCK", 1000)
    monkeypatch.setattr(loader.resample.KaiserBest, "BLOCK", 1000)
    got = loader.decode_audio(fp, 16000, resample=resample)[:, 0, 0]
    measured(
        "blocks", np.abs(got - at_once).max(), 0 if resample == "soxr_hq" else 1e-6
    )
    if resample == "soxr_hq":
        # Channels mixed after resampling, as librosa users do
        want = librosa.resample(
            samples, orig_sr=rate, target_sr=16000, res_type="soxr_hq", axis=0
        ).mean(1)
        assert got.shape == want.shape
        measured("librosa", np.abs(got - want).max(), 5e-7)


def test_a_file_takes_little_more_memory_than_its_result(tmp_path, small_memory):
    """10 minutes of stereo at 48 kHz are 230 MB as float32, and 38 MB at 16 kHz."""
    fp = tmp_path / "a.wav"
    with soundfile.SoundFile(fp, "w", 48000, 2, "PCM_16") as f:
        for _ in range(60):
            f.write(np.stack([noise(480000)] * 2, 1))
    loader.decode_audio(fp, 16000)[:0]  # libraries are loaded
    small_memory(160 << 20)
    assert len(loader.decode_audio(fp, 16000, normalize=True)) == 600 * 16000


def test_too_little_memory_is_a_bad_file(tmp_path, monkeypatch, caplog):
    for i in range(20):
        wavfile.write(tmp_path / f"{i:02}.wav", 16000, noise(N + 2 * N * (i == 7)))
    grow = loader.decode.Samples.grow

    def fail(self, n):
        if n > 2 * N:
            raise MemoryError
        grow(self, n)

    monkeypatch.setattr(loader.decode.Samples, "grow", fail)
    monkeypatch.setattr(loader.read, "BLOCK", 10000)
    assert len(extract(loader.find_audio(tmp_path))) == 19 * 2
    assert "07.wav: not enough memory to decode it" in caplog.text


@pytest.mark.parametrize("limit", [0, 1 << 18, 1 << 30])
@pytest.mark.parametrize("worker", [(0, 1), (1, 2)])
def test_what_waits_is_bounded_and_the_order_is_the_same(
    tmp_path, monkeypatch, limit, worker
):
    for i in range(12):
        wavfile.write(tmp_path / f"{i:02}.wav", 16000, noise(N * (1 + i % 3), i))
    options = {"shuffle": True, "shuffle_buffer_size": 8, "repeat": True, "seed": 1}
    options |= {"decode_parallel_calls": 4, "worker": worker}
    fps, most = loader.find_audio(tmp_path), []
    reserve = budget.MemoryBudget.reserve

    def watched(self, number, nbytes, **kwargs):
        reserve(self, number, nbytes, **kwargs)
        if self.limit == limit:  # not threads of the dataset before
            with self.changed:
                most.append(sum(self.held.values()))

    monkeypatch.setattr(budget.MemoryBudget, "reserve", watched)
    monkeypatch.setattr("specgan_tf.loader.slices.QUICK", 0)  # one file a task

    def batches():
        dataset = loader.decode_extract_and_batch(fps, 2, 16384, 16000, 1, **options)
        return list(dataset.take(30).as_numpy_iterator())

    want = batches()
    monkeypatch.setattr(budget, "AHEAD", limit)
    np.testing.assert_array_equal(batches(), want)
    assert 0 < max(most) <= limit + 4 * 3 * N  # and the first one's


@pytest.mark.parametrize(
    "slicing",
    [
        {},
        {"slice_overlap_ratio": 0.6, "slice_pad_end": True},
        {"slice_first_only": True},
        {"slice_randomize_offset": True, "shuffle": True, "shuffle_buffer_size": 6},
    ],
)
@pytest.mark.parametrize("channels, normalize", [(1, True), (2, False)])
def test_long_recordings_are_cut_while_they_are_read(
    tmp_path, monkeypatch, slicing, channels, normalize
):
    """And each slice is that of the whole recording."""
    monkeypatch.setattr(loader.read, "BLOCK", 7000)
    for i, rate in enumerate((16000, 22050)):
        sound = np.stack([noise(N + 999 * i, i), noise(N + 999 * i, 9)], 1)
        soundfile.write(tmp_path / f"{i}.wav", sound, rate)
    mp3(tmp_path, noise(2 * N), name="2.mp3")
    fps = loader.find_audio(tmp_path)

    def batches():
        dataset = loader.decode_extract_and_batch(
            fps,
            1,
            16384,
            16000,
            channels,
            decode_normalize=normalize,
            repeat=True,
            seed=1,
            **slicing,
        )
        return list(dataset.take(25).as_numpy_iterator())

    want, made = batches(), []
    monkeypatch.setattr(budget, "AHEAD", 2 * 16384 * 4)  # of two slices
    init = long.Long.__init__
    monkeypatch.setattr(
        long.Long, "__init__", lambda self, *args: made.append(init(self, *args))
    )
    np.testing.assert_array_equal(batches(), want)
    assert len(made) == 3  # once each, not once an epoch


def test_a_long_recording_that_goes_away(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "AHEAD", 100000)
    monkeypatch.setattr(loader.read, "BLOCK", 7000)
    fp = tmp_path / "a.wav"
    soundfile.write(fp, noise(), 16000)
    sound = loader.decode.decode(fp, 16000, limit=budget.AHEAD)
    whole = loader.decode_audio(fp, 16000)
    cut = long.LongCut(sound, 1000, (16384, 16384, False, True))
    assert len(cut) == 3 and len(cut[2]) == N - 1000 - 2 * 16384
    cut = long.LongCut(sound, 0, (16384, 16384, False, True))
    soundfile.write(fp, noise(20000), 16000)  # shortened
    np.testing.assert_array_equal(cut[1], whole[16384:20000])
    assert len(cut[2]) == 0
    fp.unlink()
    cut = long.LongCut(sound, 0, (16384, 16384, False, True))
    with pytest.raises(InputError, match="a.wav cannot be read any more: No such"):
        cut[0]
    with pytest.raises(IndexError):
        cut[3]


def test_the_first_never_waits_and_others_do():
    here, done = budget.MemoryBudget(limit=10), []
    first, second = here.enter(), here.enter()
    here.reserve(first, 100)
    thread = threading.Thread(target=lambda: done.append(here.reserve(second, 1)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    here.leave(first)
    thread.join(60)
    assert done == [None]


def test_waiting_threads_are_released():
    with budget.MemoryBudget(limit=0).closing() as here:
        here.reserve(here.enter(), 5)
        number, failed = here.enter(), []

        def wait():
            with pytest.raises(RuntimeError):
                here.reserve(number, 5)
            failed.append(True)

        thread = threading.Thread(target=wait)
        thread.start()
    thread.join(60)
    assert failed == [True]
    with pytest.raises(RuntimeError):
        here.reserve(number, 5, ending=lambda: True)


# All of it


@pytest.mark.slow
def test_a_folder_of_every_case_trains(tmp_path, run, monkeypatch):
    """Beside twenty good files; each problem is named once."""
    cases = shared("cases", "audio")
    monkeypatch.setattr("specgan_tf.cli.train.BUFFER", 16)
    data = tmp_path / "data"
    data.mkdir()
    for name in os.listdir(cases):
        (data / name).symlink_to(os.path.join(cases, name))
    for i in range(20):
        wavfile.write(data / f"good{i:02}.wav", 16000, noise())
    status, out, err = run(
        "train", tmp_path / "train", "--data_dir", data, "--train_max_steps", "2",
        "--train_batch_size", "4", "--specgan_dim", "4", "--specgan_disc_nupdates", "1",
    )  # fmt: skip
    logging.getLogger().handlers.clear()
    assert status == 0, err
    lines, named = (out + err).splitlines(), collections.Counter()
    assert not [line for line in lines if line.startswith("[src/")]  # libmpg123's
    for name in os.listdir(data):
        named[name] = sum(bool(re.search(re.escape(name), line)) for line in lines)
    odd = {"antiphase_stereo.wav", "two_songs_in_one.mp3", "web_page.mp3"}
    odd |= set() if ffmpeg.find() else {"voice_memo.m4a"}
    assert {name: n for name, n in named.items() if n} == dict.fromkeys(odd, 1)


@pytest.mark.parametrize(
    "name, samples",
    [
        ("vbr_without_header.mp3", 883584),
        ("cut_out_of_a_song.mp3", 33408),
        ("two_songs_in_one.mp3", 96000),
        ("riff_7ffff024.wav", 48000),
        ("riff_8_too_large.wav", 48000),
        ("data_size_0.wav", 48000),
        ("flac_of_unknown_length.flac", 48000),
        ("antiphase_stereo.wav", 48000),
        ("voice_memo.m4a", 48000),
    ],
)
def test_reported_files(name, samples, capfd):
    fp = shared("cases", "audio", name)
    if name.endswith(".m4a"):
        installed(ffmpeg.find(), "ffmpeg is not installed")
    assert len(loader.decode_audio(fp)) == samples
    assert capfd.readouterr().err == ""
