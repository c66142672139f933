import os
import pickle
import subprocess

import numpy as np
import pytest
import scipy.signal

from specgan_tf import files, moments, pickles, shards, spectral
from specgan_tf.crosscheck import stages
from specgan_tf.errors import InputError

OTHERS = (
    {"log_eps": 1e-3, "pad_front": False},
    {"log_eps": 1e-6, "pad_front": True},
    {"log_eps": 1e-2, "pad_front": True},
)


def exact(x):
    """Moments of waveforms [n, 16384] in float64."""
    X_lmag = stages.log_magnitude64(x)[1].reshape(-1, 129)
    return X_lmag.mean(0), X_lmag.std(0)


def test_one_pass_is_the_whole(measured):
    rs = np.random.RandomState(0)
    x = (rs.randn(7, 16384) * rs.rand(7, 1)).astype(np.float32)
    whole = moments.moments([x])
    parts = moments.moments([x[:1], x[1:3], x[3:]])
    for name, a, b, want in zip(("mean", "std"), whole, parts, exact(x), strict=False):
        measured(f"{name}, parts - whole", np.abs(a - b).max(), 1e-6)
        measured(f"{name} - float64", np.abs(a - want).max(), 1e-5)
    assert whole[2] == parts[2] == 7


def test_spectra_are_those_of_t_to_f(measured):
    """And of a short sound, with the zeros that follow it."""
    x = (np.random.RandomState(0).randn(2, 16384) * 0.1).astype(np.float32)
    x[1, 5000:] = 0
    want = spectral.log_magnitude(x)
    for clip, size in ((0, 16384), (1, 16384), (1, 5000)):
        error = np.abs(moments.log_magnitude(x[clip, :size]) - want[clip]).mean()
        measured(f"{size} samples, mean", error, 1e-6)
    for how in OTHERS:
        want = spectral.log_magnitude(x, **how)
        for clip, size in ((0, 16384), (1, 16384), (1, 5000)):
            got = moments.log_magnitude(x[clip, :size], **how)
            assert got.shape == (128, 129)
            error = np.abs(got - want[clip]).mean()
            measured(f"{size} samples, {how}, mean", error, 1e-6)


def test_silence_is_the_same_in_numpy_and_beyond_the_end():
    """Or moments of silence would have a deviation, and not be refused."""
    silence = [moments.log_magnitude(np.zeros(n, np.float32)) for n in (1, 9999, 16384)]
    assert len(np.unique(silence)) == 1
    _, _, m2, _ = moments.merge(moments.sums_of_one(x) for x in np.zeros((3, 999), "f"))
    assert not m2.any()
    for how in OTHERS:
        _, _, m2, _ = moments.merge([moments.sums(np.zeros((3, 999), "f"), **how)])
        assert not m2.any()


def some():
    rs = np.random.RandomState(0)
    return rs.randn(129).astype(np.float32), rs.rand(129).astype(np.float32) + 0.1


def write_shards(folder, x, n):
    for i in range(n):
        part = moments.merge([moments.sums(x[i::n])]) if len(x[i::n]) else EMPTY
        shards.save(folder / f"moments-{i + 1}-of-{n}.pkl", *part)


EMPTY = moments.merge([])


@pytest.mark.parametrize("clip_nstd", [3.0, 5.0])
def test_range_moments_reach_from_silence_to_the_loudest(clip_nstd):
    """-1 is silence, 1 each bin's loudest value; quiet bins are not enlarged."""
    rs = np.random.RandomState(0)
    x = rs.randn(4, 16384).astype("f") * 0.1
    x[:, 8000:] = 0
    analysis = {"log_eps": 1e-3, "pad_front": True, "clip_nstd": clip_nstd}
    sums = moments.merge([moments.sums(x, 1e-3, True)])
    found, count = moments.whole(sums, "range", analysis)
    assert count == 4 and found.analysis == analysis
    X = found.t_to_f(x[:, :, np.newaxis]).numpy()[..., 0]
    np.testing.assert_allclose(X[:, 80:], -1, atol=1e-6)
    np.testing.assert_allclose(X.max(axis=(0, 1)), 1, atol=1e-6)
    deviations, _ = moments.whole(sums, "std", analysis)
    assert found.mean[-1] == deviations.mean[-1] != found.mean[-2]

    quiet = scipy.signal.sosfilt(
        scipy.signal.butter(8, 0.4, output="sos"), x, axis=1
    ).astype("f")
    found, _ = moments.whole(
        moments.merge([moments.sums(quiet, 1e-3, True)]), "range", analysis
    )
    X = found.t_to_f(quiet[:, :, np.newaxis]).numpy()[..., 0]
    assert X[:, :, 10].max() > 0.9 and X[:, :, 100].max() < -0.9
    spans = found.std * 2 * clip_nstd
    assert spans[:-1].min() >= 0.6 * spans[:-1].max() * (1 - 1e-6)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_shards_merge_to_the_whole(tmp_path, n):
    """Also where a shard is empty."""
    x = (np.random.RandomState(0).randn(6, 16384) * 0.1).astype(np.float32)
    write_shards(tmp_path, x, n)
    (mean, std, *_), count = shards.merge(tmp_path)
    whole = moments.moments([x])
    assert count == whole[2] == 6
    # float64 sums in another order: the last bit of a float32 at most
    np.testing.assert_array_max_ulp(mean, whole[0], 1)
    np.testing.assert_array_max_ulp(std, whole[1], 1)


def test_shards_that_do_not_fit(tmp_path):
    with pytest.raises(InputError, match="holds no moments-I-of-N.pkl: make all"):
        shards.merge(tmp_path)
    x = np.random.RandomState(0).randn(3, 16384).astype(np.float32)
    write_shards(tmp_path, x, 3)
    (tmp_path / "moments-2-of-3.pkl").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="lacks shard 2$"):
        shards.merge(tmp_path)
    moments.save(tmp_path / "moments-2-of-3.pkl", x[0, :129], x[1, :129] ** 2 + 1)
    with pytest.raises(InputError, match="moments-2-of-3.pkl is not a shard"):
        shards.merge(tmp_path)
    shards.save(tmp_path / "moments-2-of-3.pkl", -1, *EMPTY[1:])
    with pytest.raises(InputError, match="moments-2-of-3.pkl is not a shard"):
        shards.merge(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "moments-2-of-4.pkl")
    with pytest.raises(InputError, match=r"holds shards of \[3, 4\]"):
        shards.merge(tmp_path)


def test_file_round_trip(tmp_path):
    fp = str(tmp_path / "new" / "moments.pkl")
    moments.save(fp, *some())
    for got, want in zip(moments.load(fp)[:2], some(), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want)
    with open(fp, "rb") as f:  # as the reference reads it
        mean, _ = pickle.load(f)
    np.testing.assert_array_equal(mean, some()[0])
    assert os.listdir(tmp_path / "new") == ["moments.pkl"]


@pytest.mark.parametrize(
    "how", [*OTHERS, {"clip_nstd": 5.0}, {"log_eps": 1e-3, "clip_nstd": 4.5}]
)
def test_moments_of_other_spectrograms_say_so(tmp_path, how):
    """And the reference, which would take them for its own, cannot read them."""
    fp = str(tmp_path / "moments.pkl")
    want = moments.Moments(*some(), **how)
    moments.save(fp, *want)
    got = moments.load(fp)
    assert got.analysis == want.analysis and how.items() <= got.analysis.items()
    assert got.equals(want)
    assert not got.equals(moments.Moments(*some()))
    with open(fp, "rb") as f, pytest.raises(ValueError, match="too many values"):
        _mean, _std = pickle.load(f)  # [train_specgan.py:727]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"log_eps": 0.0, "pad_front": False}, r"log_eps must be in \[1e-10, 1\]"),
        ({"log_eps": 1.5, "pad_front": False}, r"Received: 1\.5"),
        ({"log_eps": float("nan"), "pad_front": False}, "Received: nan"),
        ({"log_eps": True, "pad_front": False}, "Received: True"),
        ({"log_eps": 1e-3, "pad_front": 1}, "pad_front must be True or False"),
        ({"clip_nstd": 0.5}, r"clip_nstd must be in \[1, 20\]. Received: 0.5"),
        ({"clip_nstd": 1e400}, "Received: inf"),
        ({"log_eps": 1e-3, "pad_front": True, "x": 1}, "not known here: x"),
        ({"log_eps": "1e-3", "pad_front": True}, "something other than numbers"),
        ({1: 1e-3}, "something other than numbers"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    fp = tmp_path / "m.pkl"
    fp.write_bytes(pickle.dumps((*some(), options)))
    with pytest.raises(InputError, match=message) as e:
        moments.load(fp)
    assert str(fp) in str(e.value)


@pytest.mark.parametrize(
    "content",
    [
        ({"log_eps": 1e-3, "pad_front": True}, *some()),
        (some()[0], {"log_eps": 1e-3, "pad_front": True}),
        (*some(), *some()),
    ],
)
def test_three_things_that_are_no_moments(tmp_path, content):
    fp = tmp_path / "m.pkl"
    fp.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="is not a moments file"):
        moments.load(fp)


def test_latents_hold_no_options(tmp_path):
    fp = tmp_path / "z.pkl"
    fp.write_bytes(pickle.dumps((some()[0], {"a": 1})))
    with pytest.raises(InputError, match="it holds a dict"):
        pickles.read_pickle(fp)


@pytest.mark.parametrize("how", OTHERS)
def test_shards_of_other_spectrograms(tmp_path, how):
    x = (np.random.RandomState(0).randn(4, 16384) * 0.1).astype(np.float32)
    for i in range(2):
        part = moments.merge([moments.sums(x[i::2], **how)])
        fp = tmp_path / f"moments-{i + 1}-of-2.pkl"
        shards.save(fp, *part, *how.values(), 4.0)
    found, count = shards.merge(tmp_path)
    mean, std, n = moments.moments([x], **how)
    assert count == n == 4 and found.analysis == how | {"clip_nstd": 4.0}
    np.testing.assert_array_max_ulp(found.mean, mean, 1)
    np.testing.assert_array_max_ulp(found.std, std, 1)
    part = moments.merge([moments.sums(x[:2])])
    shards.save(tmp_path / "moments-2-of-2.pkl", *part)
    with pytest.raises(InputError, match=r"2-of-2.pkl was computed with .* another"):
        shards.merge(tmp_path)


def test_written_for_every_numpy(tmp_path):
    """Only names that numpy 1 has too; numpy 2's own pickles name numpy._core."""
    fp = str(tmp_path / "m.pkl")
    moments.save(fp, *some())
    with open(fp, "rb") as f:
        content = f.read()
    assert content[:2] == b"\x80\x02" and b"_core" not in content
    named = {line for line in content.split(b"c") if line.startswith(b"numpy\n")}
    assert {n.split(b"\n")[1] for n in named} == {b"frombuffer", b"reshape"}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
def test_reads_every_numpy_pickle(tmp_path, protocol, order, dtype):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    fp = tmp_path / "a.pkl"
    fp.write_bytes(pickle.dumps(array, protocol))
    got = pickles.read_pickle(fp)
    np.testing.assert_array_equal(got, array)
    assert got.dtype == np.dtype(dtype).newbyteorder("=")


# As the reference wrote it under Python 3.6 and numpy 1.16, of two arrays [2] float32
NUMPY_1 = (
    b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00"
    b"\x85q\x02C\x01bq\x03\x87q\x04Rq\x05(K\x01K\x02\x85q\x06cnumpy\ndtype\nq\x07X\x02"
    b"\x00\x00\x00f4q\x08K\x00K\x01\x87q\tRq\n(K\x03X\x01\x00\x00\x00<q\x0bNNNJ\xff\xff"
    b"\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89C\x08\x00\x00\x80?\x00\x00\x00@q\rtq\x0eb."
)


def test_reads_the_references_pickle(tmp_path):
    fp = tmp_path / "a.pkl"
    fp.write_bytes(NUMPY_1)
    np.testing.assert_array_equal(pickles.read_pickle(fp), np.float32([1, 2]))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def crafted(shape, dtype, raw):
    """A pickle of an ndarray whose parts do not fit."""
    template = pickle.dumps(np.zeros(2, np.float32), 2)
    return template.replace(b"K\x02\x85", b"K" + bytes([shape]) + b"\x85").replace(
        b"f4", dtype
    ) + (b"" if raw is None else raw)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"mean": 1}),
        pickle.dumps((1.0, 2.0)),
        pickle.dumps(np.array([object()], dtype=object)),
        pickle.dumps(np.arange(3)),
        crafted(200, b"f4", None),
        crafted(2, b"O8", None),
        b"\x80\x04\x96\xff\xff\xff\xff\x00\x00\x00\x00.",  # a 4 GB bytearray
        b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        pickle.dumps(some())[:-10],
    ],
)
def test_hostile_files_are_refused(tmp_path, content):
    fp = tmp_path / "m.pkl"
    fp.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.pkl is not a (pickle|moments)"):
        moments.load(fp)


def test_a_malicious_pickle_does_not_run(tmp_path):
    fp, proof = tmp_path / "m.pkl", str(tmp_path / "ran")
    for evil in (Evil(proof), (Evil(proof), Evil(proof)), [Evil(proof)]):
        fp.write_bytes(pickle.dumps(evil))
        with pytest.raises(InputError, match="it asks for"):
            moments.load(fp)
    assert not os.path.exists(proof)
    with pytest.raises(FileExistsError):  # it would have, elsewhere
        os.mkdir(proof)
        pickle.loads(fp.read_bytes())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m, s: (m[:5], s), r"mean must have shape \(129,\). Received: \(5,\)"),
        (lambda m, s: (m, s * np.nan), "std is not finite in bin 0"),
        (
            lambda m, s: (m, np.where(np.arange(129) == 7, 0, s)),
            "zero or less in bin 7",
        ),
        (lambda m, s: (m, -s), "zero or less"),
    ],
)
def test_moments_that_explode_are_refused(tmp_path, change, message):
    fp = str(tmp_path / "m.pkl")
    pickles.write_pickle(fp, tuple(np.float32(a) for a in change(*some())))
    with pytest.raises(InputError, match=message):
        moments.load(fp)
    with pytest.raises(InputError, match=message):
        moments.save(fp, *change(*some()))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no moments file at .*m.pkl: make one"):
        moments.load(tmp_path / "m.pkl")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    fp = tmp_path / "a.txt"
    fp.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(fp) as f:
        f.write(b"half")
        raise RuntimeError
    assert fp.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with files.replacing(fp) as f:
        f.write(b"new")
    assert fp.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "d"
    for content in ("old", "new"):
        with files.replacing_dir(folder) as new, open(f"{new}/{content}", "w"):
            pass
        assert os.listdir(folder) == [content]
    with pytest.raises(RuntimeError), files.replacing_dir(folder) as new:
        raise RuntimeError
    assert os.listdir(folder) == ["new"] and os.listdir(tmp_path) == ["d"]


REFERENCE = os.environ.get("SPECGAN_REFERENCE_PYTHON")


@pytest.mark.skipif(
    not REFERENCE, reason="live reference: SPECGAN_REFERENCE_PYTHON is not set"
)
def test_exchange_with_the_references_numpy(tmp_path):
    """Its Python and numpy read our file, and write one that we read."""
    ours, theirs = str(tmp_path / "ours.pkl"), str(tmp_path / "theirs.pkl")
    moments.save(ours, *some())
    code = (
        "import pickle, sys; mean, std = pickle.load(open(sys.argv[1], 'rb')); "
        "assert mean.shape == std.shape == (129,) and mean.dtype == 'float32'; "
        "pickle.dump((mean + 1, std), open(sys.argv[2], 'wb'))"
    )
    subprocess.run([REFERENCE, "-c", code, ours, theirs], check=True)
    np.testing.assert_array_equal(moments.load(theirs)[0], some()[0] + 1)
