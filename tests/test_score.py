"""Scores, against a closed form, plain numpy, or what the reference's eval/ says."""

import json
import os
import re
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import DRUMS, RECORDED
from recorded.make_scores import K, N, random_weights
from scipy import fft, linalg, spatial
from scipy.io import wavfile

import train_specgan
from specgan_tf import (
    SpecGAN,
    SpecGANDiscriminator,
    SpecGANGenerator,
    generate,
    moments,
    spectral,
    tf1,
)
from specgan_tf.errors import InputError
from specgan_tf.eval import classifier, comparison, fit, score
from specgan_tf.eval.classifier import Classifier
from specgan_tf.eval.metagraph import MetaGraph
from specgan_tf.spectral import GriffinLim
from specgan_tf.weights import checkpoint, folders


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(os.path.join(RECORDED, "scores.npz")))


@pytest.fixture(scope="module")
def drums():
    """int16 [77, 16384], by name."""
    clips = {}
    for name in sorted(os.listdir(DRUMS)):
        _, x = wavfile.read(os.path.join(DRUMS, name))
        clips[name] = np.pad(x[:16384], (0, 16384 - len(x[:16384])))
    return clips


def of(drums, kind):
    kinds = {"all": "", "kicks": "kick", "hihats": "hihat"}
    return np.stack([x for name, x in drums.items() if name.startswith(kinds[kind])])


def noise(n, seed=0, level=0.1):
    rng = np.random.default_rng(seed)
    return level * rng.standard_normal([n, 16384], np.float32)


# Inception score


def test_inception_scores_in_closed_form():
    one_hot = np.tile(np.eye(7), [3, 1])
    assert score.inception_score(one_hot, 1) == (pytest.approx(7), 0)
    assert score.inception_score(np.full([12, 5], 0.2), 4) == (pytest.approx(1), 0)
    # one class, then two: 1 and 2; the last row is left over
    p = np.eye(3)[[0, 0, 0, 0, 0, 1, 0, 1, 2]]
    assert score.inception_score(p, 2) == (pytest.approx(1.5), pytest.approx(0.5))
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    mean = p.mean(axis=0)
    want = np.exp(np.mean(np.sum(p * np.log(p / mean), axis=1)))
    assert score.inception_score(p, 1)[0] == pytest.approx(want, rel=1e-12)
    np.testing.assert_array_equal(
        score.class_counts(one_hot[:9]), [2, 2, 1, 1, 1, 1, 1]
    )


def test_what_has_no_inception_score():
    with pytest.raises(InputError, match="9 clips are too few for 10 groups"):
        score.inception_score(np.full([9, 2], 0.5), 10)
    for p in (np.full([9, 2], 0.6), np.full(9, 1.0), np.full([9, 2], np.nan)):
        with pytest.raises(ValueError, match="probabilities must be"):
            score.inception_score(p, 1)


# Similarity


@pytest.mark.parametrize("nfft", [1024, 2048])
def test_mel_bands_are_tensorflow_1s(golden, nfft):
    W = tf1.linear_to_mel_weight_matrix(128, nfft // 2 + 1, 16000, 40.0, 7800.0)
    assert W.dtype == np.float32
    np.testing.assert_array_equal(W, golden[f"W{nfft}"])


@pytest.mark.parametrize("pair", ["all/all", "kicks/kicks", "kicks/hihats"])
def test_similarity_is_the_references(golden, drums, pair, measured):
    """TensorFlow 1.12's float32 FFT is the less exact of the two: in quiet bins beside
    loud ones its logarithms are up to 0.6 from those in float64, ours up to 0.014."""
    a, b = (of(drums, kind) for kind in pair.split("/"))
    got = score.similarity(a, None if pair in ("all/all", "kicks/kicks") else b)
    mean, std = abs(np.divide(got, golden[f"similarity/{pair}"]) - 1)
    measured("|D|, mean, relative to the reference", mean, 2e-4)  # measured 7.9e-5
    measured("|D|, deviation, relative", std, 5e-4)  # measured 2.3e-4


def plain_features(x):
    """In float64, with numpy's FFT."""
    x = np.pad(x.astype(float), [(0, 0), (0, 2048)])
    frames = np.lib.stride_tricks.sliding_window_view(x, 2048, axis=1)[:, :16384:128]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    W = tf1.linear_to_mel_weight_matrix(128, 1025, 16000, 40.0, 7800.0)
    return np.log(np.abs(fft.rfft(frames * window)) @ W + 1e-6).reshape(len(x), -1)


def test_similarity_is_that_of_float64(drums, monkeypatch, measured):
    """And the search by products finds the neighbours that differences find."""
    monkeypatch.setattr(score, "CHUNK", 3)
    a, b = of(drums, "kicks"), of(drums, "hihats")
    features = [plain_features(x) for x in (a, b)]
    distances = spatial.distance.cdist(features[0], features[0])
    np.fill_diagonal(distances, np.inf)
    own = distances.min(axis=1)
    error = np.subtract(score.similarity(a), (own.mean(), own.std())) / own.mean()
    # float32 spectra: a mean, and a clip alone
    measured("|D|self, relative to float64", abs(error).max(), 1e-5)  # 1.4e-6
    distances = spatial.distance.cdist(*features)
    index, distance = score.nearest(a[:, :, np.newaxis], b)
    np.testing.assert_array_equal(index, distances.argmin(axis=1))
    error = abs(distance / distances.min(axis=1) - 1).max()
    measured("distance to the nearest, relative", error, 5e-5)  # measured 1.1e-5


def test_only_a_distance_of_exactly_zero_is_ones_own():
    x = score.to_int16(noise(4)[..., np.newaxis])
    twins = np.concatenate([x, x[:1]])
    mean, _ = score.similarity(x)
    assert mean > 10
    features = score.similarity_features(x)
    distances = spatial.distance.cdist(features, features)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(mean, distances.min(axis=1).mean(), rtol=1e-6)
    assert score.nn_dist(features, features, False) == (0, 0)
    # a twin is at zero, too, and by the reference's rule that is the nearest
    features = score.similarity_features(twins)
    features[4] = features[0]
    _, distances = score._nearest(features, features, 2)
    np.testing.assert_array_equal(distances[[0, 4]], 0)
    np.testing.assert_allclose(
        score.similarity(x, x[:1])[0], score.nearest(x, x[:1])[1].mean()
    )


def test_similarity_takes_int16_and_enough_clips():
    x = score.to_int16(noise(2))
    with pytest.raises(ValueError, match="samples must be int16. Received: float32"):
        score.similarity(noise(2))
    with pytest.raises(InputError, match="too few clips for nearest neighbours: 1 amo"):
        score.similarity(x[:1])
    with pytest.raises(InputError, match="too few clips"):
        score.similarity(x, x[:0])
    short = np.pad(x[:, :100], [(0, 0), (0, 16284)])
    assert score.similarity(x[:, :100]) == score.similarity(short)


# Frechet distance


def test_frechet_distances_in_closed_form(measured):
    rng = np.random.default_rng(0)
    # samples with exactly these means and covariances
    x = rng.standard_normal([400, 6])
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    s, t = rng.uniform(0.5, 3, [2, 6])
    want = np.sum((s - t) ** 2) + 6 * 2.0**2
    error = abs(score.frechet_distance(x * s, x * t + 2.0) / want - 1)
    measured("Gaussians on the axes, relative", error, 1e-12)
    A, B = rng.standard_normal([2, 6, 6])
    covariances = A.T @ A, B.T @ B
    want = sum(map(np.trace, covariances))
    want -= 2 * np.trace(linalg.sqrtm(covariances[0] @ covariances[1]).real)
    error = abs(score.frechet_distance(x @ A, x @ B) / want - 1)
    measured("any Gaussians, relative to scipy's sqrtm", error, 1e-9)


@pytest.mark.parametrize("n, d", [(50, 8), (8, 50), (2, 3)])
def test_the_frechet_distance_of_a_set_from_itself(n, d, measured):
    """Singular covariances, too."""
    x = np.random.default_rng(n).standard_normal([n, d]) * np.logspace(0, 4, d)
    scale = np.sum(np.var(x, axis=0))
    measured("of trace", score.frechet_distance(x, x[::-1]) / scale, 1e-13)
    moved = score.frechet_distance(x, x + 3.0)
    np.testing.assert_allclose(moved, 9.0 * d, rtol=1e-6)


def test_few_clips_make_a_frechet_distance_too_large():
    x = np.random.default_rng(0).standard_normal([2000, 64])
    few, more, many = (
        score.frechet_distance(x[:n], x[1000 : 1000 + n]) for n in (100, 300, 1000)
    )
    assert few > 2 * more > 4 * many > 0


def test_what_has_no_frechet_distance():
    x = np.zeros([3, 2])
    with pytest.raises(InputError, match="at least two clips in each set"):
        score.frechet_distance(x, x[:1])
    with pytest.raises(ValueError, match="must be .n, d. and .m, d.. Received: .3, 2."):
        score.frechet_distance(x, x.T)
    with pytest.raises(ValueError, match="must be finite"):
        score.frechet_distance(x, x + np.nan)


def test_log_mel_features():
    x = noise(3, level=0.5)
    features = score.features_log_mel(x)
    assert features.shape == (3, 64) and features.dtype == np.float64
    np.testing.assert_array_equal(score.features_log_mel(x[..., np.newaxis]), features)
    lower = (features - score.features_log_mel(x / 10)).reshape(3, 4, 16)
    # where the floor is far: not at the very end, nor in the narrowest bands
    np.testing.assert_allclose(lower[:, :3, 4:], 20, atol=1e-4)
    np.testing.assert_allclose(score.features_log_mel(x * 0), -80, atol=1e-4)
    # later parts: 16 bands each
    x[:, 4096 + 1024 :] = 0
    part = score.features_log_mel(x).reshape(3, 4, 16)
    assert (part[:, :2] > -60).all() and (abs(part[:, 3] + 80) < 1e-4).all()
    # a sine at full scale: 0 dB in a bin, of which the band of 1 kHz adds up some
    sine = np.sin(2 * np.pi * 1000 * np.arange(16384) / 16000, dtype=np.float32)
    levels = score._levels(sine[np.newaxis]).reshape(128, 128)[40]
    assert 0 < levels.max() < 6
    edges = np.linspace(*(1127 * np.log(1 + np.array([40, 7800]) / 700)), 130)
    centre = 700 * np.expm1(edges[1:-1] / 1127)[levels.argmax()]
    assert 950 < centre < 1050


def test_log_spectral_distances():
    x = noise(5, level=np.linspace(0.05, 0.3, 5, dtype=np.float32)[:, None])
    got = score.log_spectral_distances(x)
    levels = score._levels(x).astype(float)
    want = spatial.distance.cdist(levels, levels) / np.sqrt(levels.shape[1])
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert (got.diagonal() == 0).all()
    # twice as loud, but for the last frame, which fades below the floor
    twice = score.log_spectral_distances(np.stack([x[0], 2 * x[0]]))[0, 1]
    np.testing.assert_allclose(twice, 20 * np.log10(2), rtol=1e-3)
    assert score.diversity(x) == pytest.approx(want[np.triu_indices(5, 1)].mean())
    assert score.diversity(np.stack([x[0]] * 3)) == pytest.approx(0, abs=1e-6)


# The classifier


@pytest.fixture(scope="module")
def weighted():
    """The reference's network, with the weights that the golden was made with."""
    one = Classifier([str(i) for i in range(10)])
    shapes = {name: tuple(v.shape) for name, v in one.values().items()}
    classifier.assign(one.values(), random_weights(shapes), "random_weights")
    return one


def test_classifier_and_inception_score_are_the_references(golden, weighted, measured):
    """Its score.py, infer.meta and all, on embedded drums."""
    x = comparison.read_folder(DRUMS, N, fix_length=True)
    p = weighted.probabilities(x)
    np.testing.assert_array_equal(p.argmax(axis=1), golden["labels"])
    got = np.array(score.inception_score(p, K))
    error = abs(got - golden["inception_score"]).max()
    measured("inception score of 1.7", error, 5e-4)  # measured 6e-5, see |D|
    assert set(golden["files"]) < set(os.listdir(DRUMS))


def test_a_classifiers_file(tmp_path):
    one = Classifier(["a", "b", "ç d"], dim=2)
    for v in one.net.variables:
        v.assign(tf.random.stateless_uniform(v.shape, [len(v.path), 1], 0.1, 1))
    one.save(tmp_path / "classifier.npz")
    other = Classifier.load(tmp_path)
    assert other.labels == one.labels and other.dim == 2
    assert other.digest() == one.digest() != Classifier("abc", 2).digest()
    x = noise(3)
    np.testing.assert_array_equal(other.probabilities(x), one.probabilities(x))
    assert other.features(x[..., np.newaxis]).shape == (3, 2)
    names = set(np.load(tmp_path / "classifier.npz"))
    assert {"labels", "classifier/batch_normalization_4/moving_variance"} < names


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda a: a.pop("labels"), "is not a classifier"),
        (lambda a: a.update(labels=np.array([b"a", b"b"])), "is not a classifier"),
        (lambda a: a.pop("classifier/dense/bias"), "is not a classifier"),
        (lambda a: a.pop("classifier/dense/kernel"), "dense/kernel is missing"),
        (lambda a: a["classifier/dense/bias"].fill(np.nan), "bias is not finite"),
        (lambda a: a.update(labels=np.array(["a", "b"])), "is not a classifier"),
        (lambda a: a.update(labels=np.array([{}, {}])), "not a classifier, or damaged"),
    ],
)
def test_what_is_not_a_classifier(tmp_path, change, said):
    fp = tmp_path / "c.npz"
    Classifier("abc", dim=2).save(fp)
    arrays = dict(np.load(fp))
    change(arrays)
    np.savez(fp, **arrays)
    with pytest.raises(InputError, match=said):
        Classifier.load(fp)


def test_no_classifier(tmp_path):
    with pytest.raises(InputError, match="no classifier at .*: train one with"):
        Classifier.load(tmp_path)
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match="not a classifier, or damaged"):
        Classifier.load(tmp_path / "c.npz")


def test_clips_that_cannot_be_classified():
    one, x = Classifier("ab", dim=1), noise(3)
    x[1, 5] = np.nan
    with pytest.raises(InputError, match="clip 1 of 3 holds NaN or infinite samples"):
        one.probabilities(x)
    with pytest.raises(ValueError, match="Received: .3, 100."):
        one.probabilities(x[:, :100])


def metagraph(folder, resource=False, scores="scores", effect=False):
    """A MetaGraph and checkpoint of TensorFlow 1's kind; its scores of `noise(5)`."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
        tf.compat.v1.set_random_seed(0)
        x = tf.compat.v1.placeholder(tf.float32, [None, 16384], name="x")
        tf.constant(["Zero", "One", "Two"], name="labels")
        with tf.compat.v1.variable_scope("classifier", use_resource=resource):
            W = tf.compat.v1.get_variable("dense/kernel", [128, 3])
            b = tf.compat.v1.get_variable("dense/bias", [3])
        levels = tf.reduce_mean(spectral.log_mel(x, 1024), axis=1)
        if effect:
            levels += tf.cast(tf.timestamp(), tf.float32)
        with tf.control_dependencies([tf.debugging.assert_all_finite(x, "finite")]):
            logits = tf.matmul(levels, W) + b
        scores = tf.nn.softmax(logits, name=scores)
        tf.compat.v1.train.get_or_create_global_step()
        sess.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        saver.save(sess, os.path.join(folder, "best_acc"), 7, write_meta_graph=False)
        saver.export_meta_graph(os.path.join(folder, "infer.meta"))
        return sess.run(scores, {x: noise(5)})


@pytest.mark.parametrize("resource", [False, True])
def test_a_classifier_of_tensorflow_1(tmp_path, resource, measured):
    want = metagraph(tmp_path, resource)
    one = MetaGraph.load(tmp_path / "infer.meta", tmp_path / "best_acc-7")
    assert one.labels == ["Zero", "One", "Two"] and one.features(noise(5)) is None
    error = abs(one.probabilities(noise(5)) - want).max()
    measured("scores, from a session's", error, 1e-6)
    assert (
        one.digest()
        == MetaGraph.load(tmp_path / "infer.meta", tmp_path / "best_acc-7").digest()
    )


@pytest.mark.parametrize("name", ["infer", "infer_legacy"])
def test_the_references_metagraphs(tmp_path, weighted, name, measured):
    """They run here, and do what our network does with the same weights."""
    original = os.environ.get("SPECGAN_ORIGINAL")
    if not original:
        pytest.skip("live reference: SPECGAN_ORIGINAL is not set")
    metagraph_fp = os.path.join(original, "eval", "inception", f"{name}.meta")
    values = {n: v.numpy() for n, v in weighted.values().items()}
    checkpoint._write(str(tmp_path / "weights"), values)
    one = MetaGraph.load(metagraph_fp, tmp_path / "weights")
    assert one.labels == "Zero One Two Three Four Five Six Seven Eight Nine".split()
    x = comparison.read_folder(DRUMS, 4, fix_length=True)
    error = abs(one.probabilities(x) - weighted.probabilities(x)).max()
    measured("scores", error, 2e-5)
    features = weighted.features(x)
    error = abs(one.features(x) - features).max() / features.max()
    measured("features, relative", error, 2e-5)


def test_metagraphs_that_are_refused(tmp_path):
    meta, ckpt = tmp_path / "infer.meta", tmp_path / "best_acc-7"
    with pytest.raises(InputError, match="no MetaGraph at .*--incept_classifier"):
        MetaGraph.load(meta, ckpt)
    meta.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="infer.meta is not a MetaGraph"):
        MetaGraph.load(meta, ckpt)
    metagraph(tmp_path, scores="preds")
    with pytest.raises(InputError, match="infer.meta has no scores:0: it must lead"):
        MetaGraph.load(meta, ckpt)
    metagraph(tmp_path, effect=True)
    with pytest.raises(InputError, match="holds Timestamp: only operations w"):
        MetaGraph.load(meta, ckpt)
    metagraph(tmp_path)
    with pytest.raises(InputError, match="neither a training folder nor a checkpoint"):
        MetaGraph.load(meta, tmp_path / "best_acc-8")
    checkpoint._write(str(tmp_path / "other"), {"classifier/dense/bias": np.zeros(3)})
    with pytest.raises(
        InputError, match="lacks classifier/dense/kernel, or is damaged"
    ):
        MetaGraph.load(meta, tmp_path / "other")


# Modes


def tones(folder, per_class=12, named=False):
    """Three classes of tones: labels are sub-folders, or in the names of files."""
    rng, time = np.random.default_rng(0), np.arange(16384) / 16000
    for hertz in (300, 1000, 3000):
        for i in range(per_class):
            tone = np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time)
            tone *= rng.uniform(0.2, 0.9) * np.exp(-time * rng.uniform(1, 5))
            tone += 0.005 * rng.standard_normal(
                16384
            )  # or rounding is all between them
            fp = folder / (f"{hertz}_x_{i}.wav" if named else f"{hertz}/{i}.wav")
            fp.parent.mkdir(exist_ok=True, parents=True)
            wavfile.write(fp, 16000, (tone * 32767).astype(np.int16))
    return folder


SMALL = ["--train_batch_size", 4, "--classifier_dim"]


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A folder of tones, and a classifier of them."""
    folder = tmp_path_factory.mktemp("classifier")
    tones(folder / "tones", named=True)
    argv = ["classifier", folder / "tones", folder / "made", *SMALL, 8, "--seed", 1]
    argv += ["--classifier_test", r"_[0-3]\.wav$", "--classifier_epochs", 40]
    argv += ["--classifier_patience", 40]
    assert train_specgan.main([str(a) for a in argv]) == 0
    return folder


def test_a_classifier_learns_tones(heard):
    report = json.loads((heard / "made" / "report.json").read_text())
    assert report["labels"] == ["1000", "300", "3000"]
    assert report["clips"] == {"trained": 21, "held out": 3}
    tested = report["tested"]
    assert tested["clips"] == 12 and tested["accuracy"] == 1.0
    np.testing.assert_array_equal(tested["confusion"], 4 * np.eye(3))
    assert 2.5 < tested["inception score, k 1"][0] <= 3
    assert tested["inception score of their labels, k 1"] == pytest.approx(3)
    assert report["settings"]["dim"] == 8 and report["epochs"] == 40
    one = Classifier.load(heard / "made")
    x = comparison.read_folder(heard / "tones")
    assert (score.class_counts(one.probabilities(x)) == 12).all()


def test_a_classifiers_training_resumes(run, refused, tmp_path):
    """Interrupted or not: the same bits."""
    data = tones(tmp_path / "tones", 4)
    argv = ["classifier", data, tmp_path / "a", *SMALL, 1, "--classifier_epochs"]
    status, out, _ = run(*argv, 1)
    assert status == 0 and "12 sounds of 3 labels: 1000, 300, 3000" in out
    assert re.search(r"epoch   1  loss \d\.\d+  held out .* \(best\)", out)
    status, out, _ = run(*argv, 3)
    assert status == 0 and "Resuming after epoch 1" in out and "epoch   3" in out
    argv[2] = tmp_path / "b"
    assert run(*argv, 3)[0] == 0
    a, b = (dict(np.load(tmp_path / d / fit.TRAINING)) for d in "ab")
    for name in a.keys() - {"state"}:
        np.testing.assert_array_equal(a[name], b[name], name)
    line = refused(*argv, 3, "--classifier_optimizer", "sgd")
    assert "holds a training with optimizer adam, not sgd" in line
    tones(tmp_path / "tones", 5)
    assert "holds a training with clips 12 (" in refused(*argv, 3)


def test_a_training_that_is_no_better_slows_down_from_the_best_and_ends(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    x, y = noise(8), np.array([0, 1] * 4)
    training = fit.Training(x, y, ["a", "b"], str(tmp_path), dim=1, batch_size=4)
    found = iter(
        [(0.5, 1.0), (0.7, 1.0), (0.7, 1.0), (0.7, 1.1), (0.6, 0.1), (0.7, 0.9)]
    )
    weights, kernel = [], training.net.trainable_variables[2]
    kernel.assign(tf.zeros_like(kernel))

    def run_epoch():
        weights.append(kernel.numpy())
        kernel.assign_add(tf.ones_like(kernel))
        return 0.0

    monkeypatch.setattr(training, "run_epoch", run_epoch)
    monkeypatch.setattr(training, "evaluate", lambda held: next(found, (0.0, 9.0)))
    training.run(patience=2)
    # epoch 2 is best; 5 and 6 are from it, 6 is better; 7 and 8 are not
    assert training.epoch == 8 and training.best == (0.7, -0.9)
    for epoch, steps in enumerate([0, 1, 2, 3, 2, 3, 4, 5]):
        np.testing.assert_array_equal(weights[epoch], np.full(kernel.shape, steps))
    rate = float(training.net.optimizer.learning_rate.numpy())
    assert rate == pytest.approx(1e-4)
    assert caplog.text.count("No better for 2 epochs: back to the best") == 1
    assert int(np.load(tmp_path / classifier.BEST)["epoch"]) == 6
    # what was written remembers it
    again = fit.Training(x, y, ["a", "b"], str(tmp_path), dim=1, batch_size=4)
    assert again.slowed and again.epoch == 8 and again.since == 2
    assert float(again.net.optimizer.learning_rate.numpy()) == pytest.approx(1e-4)


def test_sounds_without_labels(refused, tmp_path):
    data, out = tones(tmp_path / "tones", 2), tmp_path / "out"
    line = refused("classifier", data / "300", out)
    assert "'0' and 1 more is the label of one sound only" in line
    assert "begin each file's name with its label" in line
    for i in range(2):
        (data / "300" / f"{i}.wav").rename(data / "300" / f"one_{i}.wav")
    line = refused("classifier", data / "300", out)
    assert "300 have one label, 'one': name sub-folders after the labels" in line
    line = refused("classifier", data, out, "--classifier_test", "nothing")
    assert "--classifier_test nothing matches no file" in line
    line = refused("classifier", data, out, "--classifier_test", "(")
    assert "is not a regular expression" in line
    line = refused("classifier", data, out, "--classifier_test", "one_")
    assert "--classifier_test leaves no sounds of 300 to train on" in line
    assert "does not exist" in refused("classifier", tmp_path / "none", out)
    assert "classifier takes DATA_DIR and OUT_DIR" in refused("classifier", data)
    assert not out.exists()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """A folder with two checkpoints, the first of them at step 3; not to be changed."""
    folder = tmp_path_factory.mktemp("training") / "train"
    folder.mkdir()
    keras.utils.set_random_seed(0)
    gan = SpecGAN(
        SpecGANGenerator(dim=1, latent_dim=5), SpecGANDiscriminator(dim=1), 2, seed=0
    )
    gan.compile("wgan-gp")
    moments.save(folder / "moments.pkl", np.full(129, -3.0), np.full(129, 2.0))
    for step in (3, 8):
        gan.G_optimizer.iterations.assign(step)
        gan.G.variables[-1].assign_add([step / 10])  # louder
        checkpoint.save(gan, folder)
    (folder / "args.txt").write_text("specgan_loss,wgan-gp\nspecgan_ngl,1\n")
    return folder


def with_checkpoints(trainings, tmp_path, *steps):
    """A copy of the folder, with these checkpoints only."""
    folder = tmp_path / "train"
    for step in steps:
        folders.copy(str(trainings / f"model.ckpt-{step}"), folder)
    return folder


def tags_of(folder):
    """(tag, step) of each summary there."""
    found = set()
    for name in os.listdir(folder):
        if name.startswith("events"):
            for record in tf.data.TFRecordDataset(os.path.join(folder, name)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                found |= {(v.tag, event.step) for v in event.summary.value}
    return found


def names(folder):
    return {n for n in os.listdir(folder) if n.endswith(".index")}


def test_the_best_checkpoint_is_kept_and_remembered(
    run, trainings, heard, tmp_path, monkeypatch
):
    train = with_checkpoints(trainings, tmp_path, 3)
    argv = ["incept", train, "--incept_n", 6, "--incept_k", 2, "--once"]
    argv += ["--incept_classifier", heard / "made"]
    scores = iter([(2.0, 0.1), (1.5, 0.2), (2.5, 0.3), (1.0, 0.0)])
    monkeypatch.setattr(score, "inception_score", lambda p, k: next(scores))
    status, out, _ = run(*argv)
    assert status == 0 and "Step 3: inception score 2.000; the best so far" in out
    assert names(train / "incept") == {"best_score-3.index"}
    latents = (train / "incept" / "z.pkl").read_bytes()

    folders.copy(str(trainings / "model.ckpt-8"), train)
    status, out, _ = run(*argv)
    assert "Step 8: inception score 1.500; the best is 2.000, of step 3" in out
    assert names(train / "incept") == {"best_score-3.index"}
    status, out, _ = run(*argv)
    assert "Step 8: inception score 2.500; the best so far, kept as" in out
    assert names(train / "incept") == {"best_score-8.index"}
    best = json.loads((train / "incept" / "best_score.json").read_text())
    assert (best["step"], best["incept_mean"], best["incept_std"]) == (8, 2.5, 0.3)
    want = {
        ("incept_mean", 3),
        ("incept_std", 3),
        ("incept_mean", 8),
        ("incept_std", 8),
    }
    assert want <= tags_of(train / "incept")

    # other means, other scores
    status, out, _ = run(*argv, "--incept_k", 3)
    assert "scored by other means, so it is dropped" in out
    assert "inception score 1.000; the best so far" in out
    assert (train / "incept" / "z.pkl").read_bytes() == latents
    # a training folder like any other
    assert run("generate", train / "incept", "--generate_n", 1)[0] == 0


def test_scores_of_checkpoints_as_they_come(
    run, trainings, heard, tmp_path, monkeypatch
):
    train = with_checkpoints(trainings, tmp_path, 3)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            folders.copy(str(trainings / "model.ckpt-8"), train)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    argv = ["incept", train, "--incept_n", 4, "--incept_k", 2]
    status, out, err = run(*argv, "--incept_classifier", heard / "made")
    assert status == 130 and err.strip() == "Interrupted"
    steps = re.findall(r"^Step (\d+): inception score ([\d.]+)", out, re.MULTILINE)
    assert [step for step, _ in steps] == ["3", "8"]
    # as computed by hand
    G = checkpoint.load_generator(train / "model.ckpt-8")
    z = generate.load_z(train / "incept" / "z.pkl", 5)
    x = generate.render(G, moments.load(train / "moments.pkl"), z, GriffinLim(1))["G_z"]
    p = Classifier.load(heard / "made").probabilities(x)
    assert f"{score.inception_score(p, 2)[0]:.3f}" == steps[1][1]


def test_the_best_checkpoint_without_a_classifier(run, trainings, heard, tmp_path):
    """The louder of two, by real sounds that are loud; by those heard last time."""
    train = with_checkpoints(trainings, tmp_path, 3)
    argv = ["incept", train, "--incept_measure", "frechet_log_mel", "--incept_n", 8]
    argv += ["--data_dir", heard / "tones", "--data_first_slice", "--data_pad_end"]
    status, out, _ = run(*argv, "--once")
    assert status == 0 and "Step 3: log-mel Frechet distance" in out
    assert names(train / "frechet") == {"best_score-3.index"}
    best = json.loads((train / "frechet" / "best_score.json").read_text())
    assert ("frechet_log_mel", 3) in tags_of(train / "frechet")
    best_fp = train / "frechet" / "best_score.json"
    best_fp.write_text(json.dumps(best | {"frechet_log_mel": 0.0}))
    folders.copy(str(trainings / "model.ckpt-8"), train)
    status, out, _ = run(*argv, "--once")
    assert "; the best is 0.000, of step 3" in out
    best_fp.write_text(json.dumps(best | {"frechet_log_mel": 1e9}))
    status, out, _ = run(*argv, "--once")
    assert names(train / "frechet") == {"best_score-8.index"}


def test_mistakes_in_incept(refused, trainings, heard, tmp_path):
    train = with_checkpoints(trainings, tmp_path, 3)
    argv = ["incept", train, "--once"]
    assert "--incept_measure frechet_log_mel" in refused(*argv)
    line = refused(*argv, "--incept_metagraph_fp", tmp_path / "none.meta")
    assert "no MetaGraph at" in line
    argv += ["--incept_classifier", heard / "made"]
    line = refused(*argv, "--incept_n", 5, "--incept_k", 6)
    assert "--incept_n 5 is less than --incept_k" in line
    line = refused(*argv, "--data_sample_rate", 8000)
    assert "take sounds of 16000 Hz. Received: --data_sample_rate 8000" in line
    (train / "incept").mkdir()
    (train / "incept" / "best_score.json").write_text("[]")
    argv += ["--incept_n", 4, "--incept_k", 1]
    assert "best_score.json is damaged: remove it" in refused(*argv)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no checkpoint in" in refused("incept", empty, "--once")
    assert "none does not exist" in refused("incept", tmp_path / "none", "--once")


def test_a_checkpoint_that_is_gone_before_it_is_scored(
    run, trainings, heard, tmp_path, monkeypatch
):
    train = with_checkpoints(trainings, tmp_path, 3)

    def gone(prefix, z, args):
        folders.remove(prefix)
        raise FileNotFoundError(prefix)

    def sleep(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("specgan_tf.cli.score.render_clips", gone)
    monkeypatch.setattr(time, "sleep", sleep)
    argv = ["incept", train, "--incept_n", 4, "--incept_k", 2]
    status, out, _ = run(*argv, "--incept_classifier", heard / "made")
    assert status == 130 and "model.ckpt-3 was deleted; a larger --train_keep" in out


def test_score_of_a_training(run, refused, trainings, heard, tmp_path):
    train = with_checkpoints(trainings, tmp_path, 3, 8)
    argv = ["score", train, "--data_dir", heard / "tones", "--score_n", 12]
    argv += ["--data_first_slice", "--data_pad_end", "--incept_k", 2]
    status, out, _ = run(*argv)
    assert status == 0 and "No --incept_classifier" in out
    made = json.loads((train / "score" / "00000008.json").read_text())
    assert made["checkpoint"] == "model.ckpt-8" and "classes" not in made["generated"]
    assert "exists; --overwrite replaces it" in refused(*argv)
    argv += ["--incept_classifier", heard / "made", "--score_fp", tmp_path / "s.json"]
    status, out, _ = run(*argv)
    full = json.loads((tmp_path / "s.json").read_text())
    made_score, real_score = (full[s]["inception_score"] for s in ("generated", "real"))
    assert status == 0 and 1 <= made_score[0] < 1.5 < real_score[0] <= 3
    shown = [f"{mean:.2f} +- {std:.2f}" for mean, std in (made_score, real_score)]
    assert re.search(rf"inception score +{' +'.join(map(re.escape, shown))}\n", out)
    both = {"clips", "similarity_self", "frechet_log_mel", "log_spectral_distance"}
    both |= {"inception_score", "classes", "frechet_classifier"}
    assert full["generated"].keys() == both | {"similarity_train"}
    assert full["real"].keys() == both
    assert (full["generated"]["clips"], full["real"]["clips"]) == (12, 36)
    assert sum(full["generated"]["classes"].values()) == 12
    # the same numbers, by a checkpoint's name
    argv[1:1], argv[1:2] = [], [train / "model.ckpt-8"]
    assert run(*argv, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "s.json").read_text()) == full
    for name in made["generated"]:
        assert full["generated"][name] == made["generated"][name], name


def test_a_training_scores_as_the_files_that_it_generates(
    run, trainings, heard, tmp_path
):
    """Those of loud sounds, too, which are turned down."""
    train = with_checkpoints(trainings, tmp_path, 3, 8)
    known = moments.load(train / "moments.pkl")
    moments.save(tmp_path / "loud.pkl", *known._replace(mean=known.mean + 5))
    argv = ["--data_moments_fp", tmp_path / "loud.pkl", "--seed", 0]
    files = ["--generate_n", 12, "--generate_dir", tmp_path / "made"]
    assert run("generate", train, *argv, *files)[0] == 0
    peaks = [
        np.abs(wavfile.read(fp)[1]).max()
        for fp in (tmp_path / "made").glob("*")
        if fp.suffix == ".wav"
    ]
    assert len(peaks) == 12 and min(peaks) == 32767
    scores = []
    for of in ([train, *argv, "--score_n", 12], [tmp_path / "made"]):
        real = ["--data_dir", heard / "tones", "--data_first_slice"]
        to = ["--score_fp", tmp_path / f"{len(scores)}.json"]
        assert run("score", *of, *real, *to)[0] == 0
        scores.append(json.loads((tmp_path / f"{len(scores)}.json").read_text()))
    assert scores[0]["generated"]["clips"] == scores[1]["generated"]["clips"] == 12
    for name in ("frechet_log_mel", "log_spectral_distance"):
        of_training, of_files = (s["generated"][name] for s in scores)
        assert of_training == pytest.approx(of_files, rel=1e-3)  # of 16 bits


def test_score_of_wav_files(run, refused, heard, tmp_path):
    """Real sounds against themselves: nothing between them, and copies of them."""
    argv = ["score", heard / "tones", "--data_dir", heard / "tones"]
    argv += ["--data_first_slice", "--data_no_normalize", "--incept_k", 3]
    argv += ["--incept_classifier", heard / "made", "--score_fp", tmp_path / "s.json"]
    status, out, _ = run(*argv)
    assert status == 0
    got = json.loads((tmp_path / "s.json").read_text())
    made, real = got["generated"], got["real"]
    # Not zero: 32767 here, 32768 there.
    assert made["frechet_log_mel"] < 1e-3 < real["frechet_log_mel"]
    assert made["similarity_train"][0] < 0.05 * real["similarity_self"][0]
    assert made["similarity_self"][0] == pytest.approx(real["similarity_self"][0], 1e-2)
    assert made["classes"] == real["classes"] == {"1000": 12, "300": 12, "3000": 12}
    assert "Caution: the column real compares 18 real clips with the other 18" in out

    wavs = tmp_path / "wavs"
    wavs.mkdir()
    argv = ["score", wavs, "--data_dir", heard / "tones", "--data_first_slice"]
    line = refused(*argv)
    assert "wavs holds neither a checkpoint nor WAV files" in line
    x = score.to_int16(noise(1))[0]
    for i in range(4):
        wavfile.write(wavs / f"{i}.wav", 16000, x)
    assert "holds 4 WAV files; 5 or more are needed" in refused(*argv, "--score_n", 5)
    wavfile.write(wavs / "1.wav", 16000, x[:999])
    assert "1.wav has 999 samples, not 16384; --fix_length" in refused(*argv)
    assert run(*argv, "--fix_length")[0] == 0 and (wavs / "score.json").exists()
    argv += ["--fix_length", "--overwrite"]
    wavfile.write(wavs / "1.wav", 8000, x)
    assert "1.wav is at 8000 Hz, not 16000" in refused(*argv)
    wavfile.write(wavs / "1.wav", 16000, np.stack([x, x], 1))
    assert "1.wav must be a mono WAV, 16-bit or float. Received: i" in refused(*argv)
    wavfile.write(wavs / "1.wav", 16000, np.full(16384, np.nan, np.float32))
    assert "generated clip" in (line := refused(*argv)) and "holds NaN" in line
    (wavs / "1.wav").write_bytes(b"RIFF")
    assert "1.wav cannot be read" in refused(*argv)
    (wavs / "1.wav").unlink()
    assert "too few generated clips to measure: 3, at least 4" in refused(*argv)


def test_what_scipy_warns_of_is_nothing_or_an_error(tmp_path):
    """No warning comes through, which would be two lines with our source in them."""
    whole = tmp_path / "0.wav"
    wavfile.write(whole, 16000, np.arange(16384, dtype=np.int16))
    content = whole.read_bytes()
    whole.write_bytes(content + b"odd_\x04\0\0\0note")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert comparison.read_folder(tmp_path).shape == (1, 16384)
        whole.write_bytes(content[:9000])
        with pytest.raises(InputError, match="0.wav is truncated: make it again"):
            comparison.read_folder(tmp_path, fix_length=True)


def test_a_caution_where_few_real_clips_are_compared_with_many():
    def measures(n, m):
        return {"generated": {"clips": n}, "real": {"clips": m}}

    assert comparison.caution(measures(512, 1024)) is None
    assert comparison.caution(measures(4, 8)) is None
    line = comparison.caution(measures(512, 55))
    assert line.startswith(
        "Caution: the column real compares 27 real clips with the other 28"
    )
    assert "generated 512 clips with all 55 real" in line and "--score_n 27" in line


def test_backup_copies_what_is_new(run, refused, trainings, tmp_path, monkeypatch):
    train = with_checkpoints(trainings, tmp_path, 3)
    assert run("backup", train, "--once")[0] == 0
    assert names(train / "backup") == {"model.ckpt-3.index"}
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            folders.copy(str(trainings / "model.ckpt-8"), train)
        if len(waits) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    status, out, _ = run("backup", train, "--train_backup_mins", 2)
    assert status == 130 and "A copy every 2 minutes" in out
    assert waits == [120, 1, 120, 1]
    assert names(train / "backup") == {"model.ckpt-3.index", "model.ckpt-8.index"}
    assert "no checkpoint in" in refused("backup", tmp_path, "--once")
    with pytest.raises(FileNotFoundError, match="model.ckpt-9"):
        folders.copy(str(train / "model.ckpt-9"), tmp_path / "other")
