"""Longer sounds: slices of 2, 4 and 8 times 16384 samples, through every room."""

import io
import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
import server_process
import soundfile
import tensorflow as tf
from conftest import ROOT
from PIL import Image
from scipy.io import wavfile

import export
import train_specgan
from specgan_tf import (
    SpecGAN,
    SpecGANDiscriminator,
    SpecGANGenerator,
    moments,
    sheet,
    spectral,
)
from specgan_tf.errors import InputError
from specgan_tf.eval import classifier, comparison, health, score
from specgan_tf.export import tflite
from specgan_tf.specgan import SLICE_LENS
from specgan_tf.weights import bundled, checkpoint, tensors

TWICE = 32768
TINY = ["--specgan_dim", 1, "--train_batch_size", 2, "--data_slice_len", TWICE]
pytestmark = pytest.mark.usefixtures("small_buffer")


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory):
    """Sixteen seconds of sound in four files."""
    folder = tmp_path_factory.mktemp("long")
    rs = np.random.RandomState(0)
    fade = np.exp(-np.arange(64000) / 16000)
    for i in range(4):
        sound = rs.randn(64000) * fade * 3000
        wavfile.write(folder / f"{i}.wav", 16000, sound.astype(np.int16))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, long_clips):
    """A folder trained for two steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained") / "train"
    argv = ["train", folder, "--data_dir", long_clips, "--seed", 1]
    argv += ["--train_max_steps", 2, *TINY]
    assert train_specgan.main([str(a) for a in argv]) == 0
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of `trained` that a test may change."""
    for fp in trained.iterdir():
        (tmp_path / fp.name).write_bytes(fp.read_bytes())
    return tmp_path


def shapes(*nets):
    return {v.path: tuple(v.shape) for net in nets for v in net.variables}


@pytest.mark.parametrize("slice_len", SLICE_LENS)
def test_only_the_dense_layers_change_shape(slice_len):
    m = slice_len // 16384
    one = shapes(SpecGANGenerator(dim=1), SpecGANDiscriminator(dim=1))
    G = SpecGANGenerator(dim=1, slice_len=slice_len)
    D = SpecGANDiscriminator(dim=1, slice_len=slice_len)
    many = shapes(G, D)
    assert list(many) == list(one)
    changed = {name: many[name] for name in one if many[name] != one[name]}
    wanted = {
        "G/z_project/dense/kernel": (100, 256 * m),
        "G/z_project/dense/bias": (256 * m,),
        "D/output/dense/kernel": (256 * m, 1),
    }
    assert changed == (wanted if m > 1 else {})
    G_z = G(tf.zeros([3, 100]))
    assert G_z.shape == (3, 128 * m, 128, 1)
    assert G.compute_output_shape((3, 100)) == (3, 128 * m, 128, 1)
    assert D(G_z).shape == (3,)
    assert tensors.generator_options(shapes(G))["slice_len"] == slice_len


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"slice_len must be one of .*Received: 16000"):
        SpecGANGenerator(dim=1, slice_len=16000)
    G, D = SpecGANGenerator(dim=1, slice_len=TWICE), SpecGANDiscriminator(dim=1)
    with pytest.raises(ValueError, match="one slice_len. Received: 32768, 16384"):
        SpecGAN(G, D)


def test_a_network_saved_without_a_length_is_of_the_reference_s():
    for kind in (SpecGANGenerator, SpecGANDiscriminator):
        config = kind(dim=1).get_config()
        assert config.pop("slice_len") == 16384
        assert kind.from_config(config).slice_len == 16384


def test_a_batch_of_another_length_is_refused():
    G = SpecGANGenerator(dim=1, slice_len=TWICE)
    gan = SpecGAN(G, SpecGANDiscriminator(dim=1, slice_len=TWICE), 1)
    gan.compile()
    data = tf.data.Dataset.from_tensors(tf.zeros([1, 2, 128, 128, 1]))
    with pytest.raises(ValueError, match=r"\[1, b, 256, 128, 1\]"):
        gan.fit(data, verbose=0)


@pytest.mark.parametrize("pad_front", [False, True])
def test_frames_are_those_of_the_short_slices(pad_front, measured):
    x = np.random.RandomState(0).randn(1, TWICE).astype("f4") / 4
    whole = spectral.log_magnitude(x, pad_front=pad_front).numpy()[0]
    assert whole.shape == (256, 129)
    halves = [
        spectral.log_magnitude(half, pad_front=pad_front).numpy()[0]
        for half in (x[:, :16384], x[:, 16384:])
    ]
    # A half lacks the samples after its last frame, or before its first.
    inner = slice(1, 128) if pad_front else slice(0, 127)
    for half, part in zip(halves, (whole[:128], whole[128:]), strict=True):
        error = np.abs(half[inner] - part[inner]).max()
        measured("frames of a longer slice", error, 0)
    own = moments.log_magnitude(x[0], pad_front=pad_front, slice_len=TWICE)
    measured("numpy's frames", np.abs(own - whole).max(), 1e-4)  # measured 2.6e-5


def test_moments_weigh_frames():
    rs = np.random.RandomState(0)
    long, short = rs.randn(2, TWICE).astype("f4"), rs.randn(3, 16384).astype("f4")
    mean, std, n = moments.finish(*moments.merge(map(moments.sums, (long, short))))
    assert n == 2 * 2 + 3
    frames = np.concatenate(
        [spectral.log_magnitude(x).numpy().reshape(-1, 129) for x in (long, short)]
    ).astype(np.float64)
    np.testing.assert_allclose(mean, frames.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(std, frames.std(axis=0), atol=1e-4)


def test_the_inversion_is_as_good_as_for_a_second():
    t = np.arange(TWICE) / 16000
    x = (np.sin(2 * np.pi * 440 * t) * np.exp(-2 * t) / 2).astype("f4")[None, :, None]
    found = moments.Moments(*moments.moments([x[..., 0]])[:2], clip_nstd=20.0)

    def error(x):
        back = found.f_to_t(found.t_to_f(x), spectral.GriffinLim(64, "dual", 0.99))
        assert back.shape == x.shape
        made, true = (np.exp(spectral.log_magnitude(w[..., 0])) for w in (back, x))
        return np.linalg.norm(made - true) / np.linalg.norm(true)

    assert error(x) < 1.2 * error(x[:, :16384])


def test_resuming_knows_the_length_and_is_exact(run, tmp_path, long_clips):
    for steps in ([4], [2, 4]):
        folder = tmp_path / f"in{len(steps)}"
        for i, n in enumerate(steps):
            more = TINY if i == 0 else []
            argv = ["train", folder, "--data_dir", long_clips, "--seed", 1, *more]
            status, _, err = run(*argv, "--train_max_steps", n)
            assert status == 0, err
    a, b = (checkpoint.load_generator(tmp_path / name) for name in ("in1", "in2"))
    for v, w in zip(a.variables, b.variables, strict=True):
        np.testing.assert_array_equal(v, w)


def test_another_length_is_refused(refused, trained):
    said = refused("train", trained, "--data_slice_len", 16384)
    assert "--data_slice_len 16384 contradicts data_slice_len 32768" in said
    assert "choose from 16384, 32768" in refused(
        "train", trained, "--data_slice_len", 7
    )


def test_every_mode_follows(run, trained, tmp_path, long_clips):
    before = {fp.name for fp in trained.iterdir()}
    status, _, err = run("generate", trained, "--generate_dir", tmp_path / "made")
    assert status == 0, err
    assert soundfile.info(tmp_path / "made" / "0000.wav").frames == TWICE
    picture = Image.open(tmp_path / "made" / "sheet.png")
    assert picture.size[0] == sheet.LEFT + 4 * (256 + sheet.GAP)  # 4 in a row
    argv = ["report", trained, "--report_fp", tmp_path / "report.html"]
    status, _, err = run(*argv, "--data_dir", long_clips, "--report_n", 2)
    assert status == 0, err
    page = (tmp_path / "report.html").read_text()
    assert "Listen" in page and "(2.05 s)" in page  # the pictures' width
    argv = ["score", trained, "--score_fp", tmp_path / "score.json", "--score_n", 4]
    status, _, err = run(*argv, "--data_dir", long_clips)
    assert status == 0, err
    scored = json.loads((tmp_path / "score.json").read_text())
    assert scored["generated"]["clips"] == 4
    assert {fp.name for fp in trained.iterdir()} == before


def test_previews_of_longer_sounds(run, copied):
    status, _, err = run("preview", copied, "--once", "--preview_n", 3)
    assert status == 0, err
    wav = copied / "preview" / "00000002.wav"
    assert soundfile.info(wav).frames == 3 * (TWICE + TWICE // 2)
    rows = sheet.first_row(wav.with_suffix(".png"), 256)
    assert [tile.shape for tile in rows] == [(128, 256, 3)] * 3


def test_infer_of_longer_sounds(run, copied):
    status, _, err = run("infer", copied)
    assert status == 0, err
    signatures = tf.saved_model.load(str(copied / "infer")).signatures
    made = signatures["serving_default"](z=tf.zeros([1, 100]), ngl=tf.constant(1))
    assert made["G_z"].shape == (1, TWICE, 1)
    assert made["G_z_norm"].shape == (1, 256, 128, 1)


def test_backups_and_scores_of_each_checkpoint(run, copied, long_clips):
    status, _, err = run("backup", copied, "--once")
    assert status == 0, err
    argv = ["generate", copied / "backup", "--generate_n", 1]
    assert run(*argv, "--generate_dir", copied / "made")[0] == 0
    assert soundfile.info(copied / "made" / "0000.wav").frames == TWICE
    argv = ["incept", copied, "--once", "--incept_measure", "frechet_log_mel"]
    status, out, err = run(*argv, "--data_dir", long_clips, "--incept_n", 4)
    assert status == 0 and "Step 2: " in out and "the best so far" in out, err


def test_moments_in_shards_are_those_of_longer_slices(run, tmp_path, long_clips):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = ["--data_dir", long_clips, "--data_slice_len", TWICE, "--data_first_slice"]
    status, out, err = run("moments", whole, *argv)
    assert status == 0 and "Moments of 4 slices of 32768 samples" in out, err
    for i in (1, 2):
        assert run("moments", parts, *argv, "--shard", f"{i}/2")[0] == 0
    status, out, _ = run("merge", parts, "--data_slice_len", TWICE)
    assert status == 0 and "Moments of 4 slices of 32768 samples. Wrote" in out
    status, out, _ = run("merge", parts, "--overwrite")
    assert status == 0 and "Moments of 8 slices of 16384 samples. Wrote" in out
    a, b = (moments.load(folder / "moments.pkl") for folder in (whole, parts))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-6)
    np.testing.assert_allclose(a.std, b.std, atol=1e-6)


def test_a_longer_generator_in_one_file(run, tmp_path):
    rs = np.random.RandomState(0)
    G = SpecGANGenerator(dim=1, latent_dim=3, slice_len=TWICE)
    given = moments.Moments(*rs.uniform(1, 2, [2, 129]).astype("f4"))
    path = str(tmp_path / "a.npz")
    bundled.save(path, G, given, {"step": 3, "sample_rate": 16000})
    box = bundled.load(path)
    assert box.G.slice_len == box.card["options"]["slice_len"] == TWICE
    for v, w in zip(box.G.variables, G.variables, strict=True):
        np.testing.assert_array_equal(v, w.numpy().astype("f2"))
    argv = ["generate", path, "--generate_n", 1, "--generate_dir", tmp_path / "made"]
    assert run(*argv)[0] == 0
    assert soundfile.info(tmp_path / "made" / "0000.wav").frames == TWICE
    # A card that claims another length does not fit the weights.
    with np.load(path) as f:
        arrays = dict(f)
    box.card["options"]["slice_len"] = 16384
    arrays["card"] = np.frombuffer(json.dumps(box.card).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="not those of the options on its card"):
        bundled.load(path)


def test_exports_of_longer_sounds(run, trained, tmp_path):
    argv = [trained, "--out_dir", tmp_path / "out", "--tflite", "f32,dr8"]
    status, _, err = run(*argv, script=export)
    assert status == 0, err
    out = tmp_path / "out"
    about = json.loads((out / "specgan" / "1" / "model.json").read_text())
    assert about["slice_len"] == TWICE
    for name in ("generator.dr8", "invert.f32", "synthesize.f32"):
        assert tflite.metadata(str(out / f"{name}.tflite"))["slice_len"] == TWICE
    script = os.path.join(ROOT, "examples", "embedded.py")
    argv = [sys.executable, script, out, out / "embedded.wav", "--n", "2"]
    done = subprocess.run(map(str, argv), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(out / "embedded.wav").frames == 2 * TWICE
    model = tf.saved_model.load(tmp_path / "out" / "specgan" / "1")
    made = model.signatures["synthesize"](z=tf.zeros([2, 100]), ngl=tf.constant(2))
    assert made["G_z"].shape == (2, TWICE, 1)
    wav = model.signatures["wav"](z=tf.zeros([1, 100]), ngl=tf.constant(1))
    assert tf.audio.decode_wav(wav["wav_bytes"][0])[0].shape == (TWICE, 1)
    both = os.path.join(tmp_path / "out", "synthesize.f32.tflite")
    runner = tflite.interpreter(both).get_signature_runner("synthesize")
    z = np.zeros([1, 100], np.float32)
    assert runner(z=z, ngl=np.int32(1))["G_z"].shape == (1, TWICE, 1)
    with server_process.running(str(tmp_path / "out" / "specgan")) as server:
        status, content = server.ask("GET", f"{server_process.MODEL}/wav?n=3&ngl=2")
        with wave.open(io.BytesIO(content)) as f:
            assert status == 200 and f.getnframes() == 3 * TWICE


def test_scores_of_longer_sounds():
    x = np.random.RandomState(0).randn(4, TWICE).astype("f4") / 8
    assert score.features_log_mel(x).shape == (4, 64)
    assert score.similarity_features(score.to_int16(x)).shape == (4, 256 * 128)
    assert score.diversity(x) > 0
    assert health.purity(x[..., None]).shape == (4,)
    # A classifier hears seconds.
    (whole,) = classifier.chunks(x)
    np.testing.assert_array_equal(whole, x.reshape(8, 16384))
    with pytest.raises(ValueError, match="or longer slices"):
        classifier.chunks(x[:, :20000])


def test_a_damaged_length_is_no_generator(tmp_path):
    found = shapes(SpecGANGenerator(dim=1))
    found["G/z_project/dense/kernel"] = (100, 300)
    assert tensors.generator_options(found) is None


def test_the_classifier_s_real_halves_are_of_whole_clips():
    """Each half has all pieces of its clips, and no other's."""

    class Hears:
        labels = "ab"
        heard = []

        def probabilities(self, x):
            return np.full([2 * len(x), 2], 0.5)

        def features(self, x):
            (pieces,) = classifier.chunks(x)
            return pieces[:, :3]

    rs = np.random.RandomState(0)
    made, real = (rs.randn(n, TWICE).astype("f4") / 8 for n in (4, 8))
    found = comparison.measure(made, real, Hears(), 1)
    order = np.random.default_rng(0).permutation(8)
    halves = [
        np.concatenate([[x[:3], x[16384:16387]] for x in real[some]])
        for some in (order[:4], order[4:])
    ]
    wanted = score.frechet_distance(*halves)
    assert found["real"]["frechet_classifier"] == pytest.approx(wanted)


def test_scores_of_a_folder_of_longer_sounds(run, refused, tmp_path, long_clips):
    folder = tmp_path / "made"
    folder.mkdir()
    for i in range(4):
        x = np.random.RandomState(i).randint(-999, 999, TWICE).astype(np.int16)
        wavfile.write(folder / f"{i}.wav", 16000, x)
    argv = [
        "score",
        folder,
        "--data_dir",
        long_clips,
        "--score_fp",
        tmp_path / "s.json",
    ]
    assert "has 32768 samples, not 16384" in refused(*argv)
    status, _, err = run(*argv, "--data_slice_len", TWICE)
    assert status == 0, err
    longer = 65536
    status, _, err = run(
        *argv,
        "--data_slice_len",
        longer,
        "--fix_length",
        "--overwrite",
        "--data_pad_end",
        "--data_first_slice",
    )
    assert status == 0, err


def test_the_original_cannot_continue_longer_sounds(refused, trained, tmp_path):
    said = refused("to_tf1", trained, tmp_path / "new")
    assert "16384 samples only; this training has data_slice_len 32768" in said
