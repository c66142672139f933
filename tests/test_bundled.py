"""A generator in one file: exact, bounded, and nothing in it is run."""

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import sys
import zipfile

import keras
import numpy as np
import pytest
import soundfile
from conftest import DRUMS, ROOT

from specgan_tf import SpecGANGenerator, generate, load_generator, load_moments, moments
from specgan_tf.cli import settings
from specgan_tf.cli.train import build
from specgan_tf.errors import InputError
from specgan_tf.export import tflite, verify
from specgan_tf.moments import Moments
from specgan_tf.spectral import GriffinLim
from specgan_tf.weights import bundled, checkpoint

sys.path.insert(0, ROOT)
from benchmarks import bundle, description, listen
from specgan_tf.cli import flags

CARD = {"step": 3, "sample_rate": 16000, "seed": 1}


@pytest.fixture(scope="module", params=["zeros", "cub"])
def made(request):
    """A generator, its moments; its variables, moving averages too, are random."""
    rs = np.random.RandomState(0)
    G = SpecGANGenerator(
        dim=2,
        latent_dim=3,
        upsample=request.param,
        use_batchnorm=request.param == "cub",
    )
    for v in G.variables:
        v.assign(rs.uniform(0.1, 1.0, v.shape) * rs.choice([-1, 1], v.shape) * 0.3)
        if v.path.endswith("moving_variance"):
            v.assign(np.abs(v))
    mean, std = rs.normal(-5, 1, 129).astype("f4"), rs.uniform(1, 2, 129).astype("f4")
    return G, Moments(mean, std)


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("box") / "a.npz")
    bundled.save(path, *made, CARD)
    return path


def test_what_is_saved_is_what_is_loaded(made, saved, measured):
    G, moments = made
    again = bundled.load(saved)
    options = {name: getattr(G, name) for name in bundled.OPTIONS}
    assert (
        again.card
        == CARD | {"options": options} | moments.analysis
        == bundled.read_card(saved)
    )
    assert again.moments.equals(moments)
    assert load_moments(saved).equals(moments)
    for ours, theirs in zip(again.G.variables, G.variables, strict=True):
        want = theirs.numpy().astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(ours.numpy(), want, ours.path)
    z = generate.sample_z(4, 3, seed=0)
    error = np.abs(again.G(z) - G(z)).max()
    assert error > 0
    # Half a step of the picture's 256; tanh is steepest about zero.
    measured("spectrogram, float16 weights", error, 4e-3)
    np.testing.assert_array_equal(load_generator(saved)(z), again.G(z))


def test_how_it_sounds_is_on_its_card(made, tmp_path):
    """And of a card that is older than these, the reference's."""
    G, moments = made
    moments = moments._replace(log_eps=1e-3, pad_front=True, clip_nstd=5.0)
    how = {"ngl": 32, "gl_window": "dual", "gl_momentum": 0.99}
    path = str(tmp_path / "a.npz")
    bundled.save(path, G, moments, CARD | how)
    assert bundled.load(path).griffin_lim == GriffinLim(32, "dual", 0.99)
    assert bundled.load(path).moments.equals(moments)
    assert bundled.load_moments(path).analysis == moments.analysis
    arrays = arrays_of(path)
    said = json.loads(arrays["card"].tobytes())
    for name in (*how, *moments.analysis):
        del said[name]
    arrays["card"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
    np.savez(path, **arrays)
    assert bundled.load(path).griffin_lim == GriffinLim(16, "hann", 0.0)
    of_the_reference = {"log_eps": 1e-6, "pad_front": False, "clip_nstd": 3.0}
    assert bundled.load(path).moments.analysis == of_the_reference


def test_the_same_is_written_again(made, saved, tmp_path):
    bundled.save(tmp_path / "b.npz", *made, CARD)
    with open(saved, "rb") as f:
        assert (tmp_path / "b.npz").read_bytes() == f.read()


def test_what_cannot_be_saved(made, tmp_path):
    G, moments = made
    with pytest.raises(ValueError, match=r"must end in \.npz\. Received: 'x'"):
        bundled.save("x", G, moments, CARD)
    path = str(tmp_path / "x.npz")
    with pytest.raises(InputError, match="std is zero or less in bin 0"):
        bundled.save(path, G, moments._replace(std=moments.std * 0), CARD)
    with pytest.raises(InputError, match="has no valid options, step and sample_rate"):
        bundled.save(path, G, moments, {"step": 1})
    huge = SpecGANGenerator(dim=1, latent_dim=3)
    huge.variables[0].assign(np.full(huge.variables[0].shape, 1e5))
    with pytest.raises(ValueError, match="dense/kernel holds values that float16"):
        bundled.save(path, huge, moments, CARD)
    assert not os.listdir(tmp_path)


def arrays_of(path):
    with np.load(path) as f:
        return dict(f)


def card(**kwargs):
    def spoil(arrays):
        said = {**json.loads(arrays["card"].tobytes()), **kwargs}
        arrays["card"] = np.frombuffer(json.dumps(said).encode(), np.uint8)

    return spoil


def without(name):
    return lambda arrays: arrays.pop(name)


def with_(name, value):
    return lambda arrays: arrays.update({name: value})


def long_kernel(arrays):
    """Of a network that would be a hundred thousand times as large as the file."""
    arrays["G/upconv_0/conv2d_transpose/kernel"] = np.ones((1500, 1, 1, 1), "f2")
    card(options=OPTIONS | {"kernel_len": 1500})(arrays)


DENSE = "G/z_project/dense/kernel"
OPTIONS = {"kernel_len": 5, "dim": 2, "use_batchnorm": False, "upsample": "zeros"}
OPTIONS |= {"latent_dim": 3}


@pytest.mark.parametrize(
    "spoil, said",
    [
        (without("card"), "it lacks card"),
        (without("moments/std"), "it lacks moments/std"),
        (without(DENSE), "not those of the options"),
        (without("G/upconv_4/conv2d_transpose/bias"), "bias is missing, or of another"),
        (with_("G/z_project/dense/bias", np.ones(3, "f2")), "of another shape"),
        (with_("G/z_project/dense/bias", np.full(512, np.nan, "f2")), "not finite"),
        (with_("moments/std", np.ones(12, "f4")), "std must have shape"),
        (with_("moments/std", np.zeros(129, "f4")), "std is zero or less"),
        (with_("more", np.ones(3, "f4")), "it also holds more"),
        (with_("more", np.ones(3, "f8")), "holds other types than float16"),
        (with_("more", np.array([None])), "holds other types than float16"),
        (with_("card", np.frombuffer(b"{", np.uint8)), "card has no valid"),
        (with_("card", np.frombuffer(b"[" * 99999, np.uint8)), "card has no valid"),
        (card(step=-1), "card has no valid"),
        (card(step=1.5), "card has no valid"),
        (card(sample_rate=True), "card has no valid"),
        (card(options=None), "card has no valid"),
        (card(options=OPTIONS | {"upsample": ["nn"]}), "card has no valid"),
        (card(options=OPTIONS | {"upsample": "nn"}), "not those of the options"),
        (card(log_eps=0.0), r"its card: log_eps must be in \[1e-10, 1\]"),
        (card(log_eps="1e-3"), "Received: '1e-3'"),
        (card(pad_front=1), "its card: pad_front must be True or False"),
        (card(clip_nstd="3"), "clip_nstd must be in"),
        (card(ngl=10**9), "card asks for Griffin-Lim with ngl 1000000000"),
        (card(ngl=True), "asks for Griffin-Lim with ngl True"),
        (card(gl_window=["dual"]), r"gl_window \['dual'\]"),
        (card(gl_window="hamming"), "gl_window 'hamming'"),
        (card(gl_momentum=1.0), "gl_momentum 1.0"),
        (card(gl_momentum=float("nan")), "gl_momentum nan"),
        (card(options=OPTIONS | {"dim": 3}), "not those of the options"),
        (card(options=OPTIONS | {"latent_dim": 10**9}), "not those of the options"),
        (long_kernel, "not those of the options"),
    ],
)
def test_what_is_no_generator_is_refused(tmp_path, spoil, said):
    keras.utils.set_random_seed(0)
    path = str(tmp_path / "a.npz")
    moments = Moments(np.zeros(129, "f4"), np.ones(129, "f4"))
    bundled.save(path, SpecGANGenerator(dim=2, latent_dim=3), moments, CARD)
    arrays = arrays_of(path)
    spoil(arrays)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=said) as e:
        bundled.load(path)
    assert path in str(e.value) and "\n" not in str(e.value)


def npz(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as z:
        for name, data in members.items():
            z.writestr(f"{name}.npy", data)


def npy(header, data=b""):
    header = header.encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': "


@pytest.mark.parametrize(
    "content",
    [
        npy(FLOATS + f"({10**12}, 7)}}", bytes(56)),
        npy(FLOATS + "(2, 7), "),
        npy("__import__('os').abort()"),
        b"\x93NUMPY\x02\x00",
        b"nonsense",
        b"",
    ],
)
def test_hostile_files_are_refused_and_take_no_room(tmp_path, content, small_memory):
    path = str(tmp_path / "a.npz")
    npz(path, card=content)
    small_memory(64 << 20)
    with pytest.raises(InputError, match="is not a generator's .npz: it is damaged"):
        bundled.read_card(path)


def test_members_that_inflate(tmp_path, small_memory):
    """Beyond what is allowed, and beyond what they claim."""
    path, size = tmp_path / "a.npz", 200 << 20
    npz(path, card=bytes(size))
    small_memory(64 << 20)
    with pytest.raises(InputError, match="claims arrays of more than 67108864"):
        bundled.read_card(str(path))
    content = path.read_bytes()
    claim, less = (n.to_bytes(4, "little") for n in (size, 90))
    assert content.count(claim) == 2
    path.write_bytes(content.replace(claim, less))
    with pytest.raises(InputError, match="damaged"):
        bundled.read_card(str(path))


def test_other_compression_is_refused(tmp_path):
    """zipfile inflates LZMA all at once, whatever it was asked for."""
    path = str(tmp_path / "a.npz")
    npz(path, zipfile.ZIP_LZMA, card=bytes(9))
    with pytest.raises(InputError, match="not compressed as numpy compresses"):
        bundled.read_card(path)


def test_damaged_files_are_refused(saved, tmp_path):
    with open(saved, "rb") as f:
        whole = f.read()
    path = tmp_path / "a.npz"
    rs = np.random.RandomState(0)
    for at in [*rs.randint(len(whole), size=20), len(whole) - 30]:
        spoilt = bytearray(whole)
        spoilt[at] ^= 0x55
        for content in (bytes(spoilt), whole[:at]):
            path.write_bytes(content)
            try:
                arrays = bundled._read(str(path))
            except InputError as e:
                assert "is not a generator's .npz" in str(e)
            else:  # what no checksum covers, such as a member's date
                want = arrays_of(saved)
                for name in arrays:
                    np.testing.assert_array_equal(arrays[name], want[name])
                if arrays.keys() != want.keys():  # or its table of contents ends early
                    with pytest.raises(InputError, match="is not a generator's .npz"):
                        bundled.load(str(path))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no generator at"):
        bundled.load(str(tmp_path / "a.npz"))
    assert bundled.find(str(tmp_path / "a.npz")) is None and bundled.find(None)
    (tmp_path / "b.npz").mkdir()  # a training folder may have any name
    assert bundled.find(tmp_path / "b.npz") is None


# The bundled ones


def test_the_bundled_model_makes_sound():
    assert os.path.getsize(bundled.path_of(bundled.DEFAULT)) <= bundle.MAX_BYTES
    G, moments, card = bundled.load()
    assert card["sample_rate"] == 16000 and card["step"] > 0
    z = generate.sample_z(8, G.latent_dim, seed=0)
    sound = generate.render(G, moments, z)["G_z"]
    assert sound.shape == (8, 16384, 1) and np.isfinite(sound).all()
    peaks = np.abs(sound).max(axis=(1, 2))
    assert (peaks > 0.01).all(), peaks
    assert np.abs(sound[1:] - sound[:-1]).max(axis=(1, 2)).min() > 0.01
    np.testing.assert_array_equal(load_generator()(z), G(z))
    assert load_moments().equals(moments)


@pytest.mark.parametrize("name", bundled.MODELS)
def test_its_card_is_of_the_files_beside_it(name, measured):
    folder, card = os.path.dirname(bundled.path_of(name)), bundled.read_card(name)
    assert card["name"] == name
    assert sorted(os.listdir(folder)) == ["CARD.md", "generator.npz", "sounds.csv"]
    with open(os.path.join(folder, "CARD.md"), encoding="utf-8") as f:
        about = f.read()
    content = {}
    for name in ("generator.npz", "sounds.csv"):
        with open(os.path.join(folder, name), "rb") as f:
            content[name] = f.read()
    digest = {name: hashlib.sha256(c).hexdigest() for name, c in content.items()}
    assert f"sha256 `{digest['generator.npz']}`" in about
    assert f"Step {card['step']} of" in about and card["command"] in about
    assert f"--train_max_steps {card['step']}" in card["command"]
    assert card["sounds"]["sounds.csv sha256"] == digest["sounds.csv"]
    rows = list(csv.DictReader(io.StringIO(content["sounds.csv"].decode())))
    assert (
        len(rows) == card["sounds"]["files"] == sum(card["sounds"]["licences"].values())
    )
    assert {row["licence"] for row in rows} <= set(bundle.LICENCES)
    assert all(row["attribution"] and row["origin"] for row in rows)
    assert set(card["scores"]) == set(card["sound"]) == set(bundle.COLUMNS)
    measured(
        "spectrogram, float16 weights",
        card["float16"]["largest error of spectrograms"],
        1 / 256,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled.MODELS)
def test_it_can_be_exported_quantised(name, tmp_path, measured):
    model = bundled.load(name)
    z = generate.sample_z(8, model.G.latent_dim, 0).numpy()
    want = model.G(z).numpy()
    with tflite.converting(model.G, model.moments) as convert:
        for variant in ("dr8", "int8"):
            convert(tmp_path / "a.tflite", ["generate"], variant)
            run = tflite.interpreter(tmp_path / "a.tflite")
            run = run.get_signature_runner("generate")
            got = np.concatenate([run(z=row[None])["G_z_norm"] for row in z])
            least = verify.SPECTROGRAM[variant]
            measured(f"{variant}, dB of noise", -verify.snr(got, want), -least)


def test_names(tmp_path, monkeypatch):
    """A folder of sounds may have the name of a model; a training of it comes first."""
    monkeypatch.chdir(tmp_path)
    assert bundled.find() == bundled.find("drums") == bundled.path_of("drums")
    assert bundled.find("digits") == bundled.path_of("digits")
    assert bundled.find("trumpets") is bundled.find("./drums") is None
    (tmp_path / "drums").mkdir()
    assert bundled.find("drums") == bundled.path_of("drums")
    (tmp_path / "drums" / "args.txt").write_text("specgan_dim,16\n")
    assert bundled.find("drums") is None


# The command that makes one


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training folder with two checkpoints of networks that learned nothing."""
    folder = tmp_path_factory.mktemp("training")
    argv = ["train", str(folder), "--specgan_dim", "1", "--seed", "5"]
    argv += ["--data_cache", "memory", "--specgan_latent_dim", "4"]
    args = settings.resolve_settings(vars(flags.make_parser().parse_args(argv)))
    settings.write_args(args)
    gan = build(args)
    rs = np.random.RandomState(0)
    mean, std = rs.normal(-5, 1, 129).astype("f4"), np.full(129, 2, "f4")
    moments.save(folder / "moments.pkl", mean, std)
    for step in (3, 40):
        gan.G_optimizer.iterations.assign(step)
        checkpoint.save(gan, folder)
        for v in gan.G.variables:
            v.assign(rs.normal(0, 0.1, v.shape))
    return folder


@pytest.mark.slow
def test_the_command_makes_a_model(training, tmp_path, capsys):
    out = tmp_path / "box"
    argv = ["drums", str(training), "--out_dir", str(out)]
    assert bundle.main(argv) == 0
    said = capsys.readouterr().out
    distances = dict(re.findall(r"model.ckpt-(\d+): Frechet distance ([\d.]+)", said))
    assert list(distances) == ["3", "40"]
    model = bundled.load(out / "generator.npz")
    best = min(distances, key=lambda step: float(distances[step]))
    assert model.card["step"] == int(best) and model.card["seed"] == 5
    G = load_generator(training / f"model.ckpt-{best}")
    for ours, theirs in zip(model.G.variables, G.variables, strict=True):
        np.testing.assert_array_equal(ours, np.float32(np.float16(theirs)))
    assert model.card["command"] == (
        "python train_specgan.py train ./train --specgan_latent_dim 4 --specgan_dim 1 "
        f"--seed 5 --train_max_steps {best}"
    )
    assert model.card["sounds"]["licences"] == {"CC0-1.0": 77}
    about = (out / "CARD.md").read_text()
    assert "| Frechet distance, log-mel | " in about and str(tmp_path) not in about
    rows = list(csv.DictReader((out / "sounds.csv").open(newline="")))
    with open(os.path.join(DRUMS, rows[5]["file"]), "rb") as f:
        assert rows[5]["sha256"] == hashlib.sha256(f.read()).hexdigest()

    content = {name: (out / name).read_bytes() for name in os.listdir(out)}
    assert bundle.main(argv) == 2
    assert "box is not empty; --overwrite replaces it" in capsys.readouterr().err
    assert bundle.main([*argv, "--overwrite"]) == 0
    assert {name: (out / name).read_bytes() for name in os.listdir(out)} == content
    (out / "mine.txt").write_text("mine")
    assert bundle.main([*argv, "--overwrite"]) == 2
    assert "holds mine.txt, which is none of" in capsys.readouterr().err


def test_a_command_names_the_trainings_before_it(training, tmp_path, monkeypatch):
    """Of a bundled model, of a training that began with it, of one that went on."""
    first = {"command": f"{bundle.TRAIN} --seed 5 --train_max_steps 3"}
    monkeypatch.setattr(bundled, "read_card", lambda path: first)
    args = settings.resolve_settings({"mode": "moments", "train_dir": str(training)})
    second = tmp_path / "second"
    shutil.copytree(training, second)
    settings.write_args(
        dataclasses.replace(args, train_dir=str(second), train_from="drums")
    )
    args = dataclasses.replace(args, train_from=str(second))
    flags = "--specgan_latent_dim 4 --specgan_dim 1 --seed 5"
    lines = bundle.command("drums", args, 7).splitlines()
    assert [sorted(line.split()) for line in lines] == [
        sorted(line.split())
        for line in (
            first["command"],
            "python -m benchmarks.bundle drums ./train --out_dir ./bundled1",
            f"{bundle.TRAIN}2 {flags} --train_from ./bundled1/generator.npz "
            "--train_max_steps 40",
            f"{bundle.TRAIN}3 {flags} --train_from ./train2 --train_max_steps 7",
        )
    ]


def test_audible_measures(measured):
    t, rs = np.arange(16384), np.random.RandomState(0)
    fading = 100.0 ** -(t / 8192)  # 40 dB in half of the clip
    rising = np.minimum(1, t / 1600)  # the last 20 dB of 100 ms take 90
    sounds = {
        "tone": 0.5 * np.sin(2 * np.pi * t / 16) * fading,
        "noise": rs.uniform(-0.5, 0.5, t.shape) * fading,
        "swelling": 0.5 * np.sin(2 * np.pi * t / 16) * rising * fading**0.1,
        "silence": np.zeros(t.shape),
    }
    found = {
        name: description.describe(np.float32([sound] * 3))
        for name, sound in sounds.items()
    }
    tone, noise = found["tone"], found["noise"]
    assert [d["nearly silent"] for d in found.values()] == [0, 0, 0, 3]
    assert all(np.isfinite(list(d.values())).all() for d in found.values())
    measured("peak of the tone", abs(tone["peak"] - 0.5), 0.02)
    for d in (tone, noise):
        assert d["loudest at, of the clip"] <= 1 / 64  # which is one frame
        measured("20 dB down, ms", abs(d["20 dB down after, ms"] - 256), 32)
    assert tone["attack, ms"] == 0
    measured("attack, ms", abs(found["swelling"]["attack, ms"] - 90), 8)
    measured("centroid, Hz", abs(tone["centroid, Hz"] - 1000), 16)
    measured("centroid, Hz", abs(noise["centroid, Hz"] - 4000), 160)
    flat = "flatness of the spectrum"
    measured("flatness of a tone", tone[flat], 0.01)
    # Of noise, bins are exponentially distributed: exp(-gamma) of their mean.
    measured("of noise", abs(noise[flat] - np.exp(-np.euler_gamma)), 0.02)
    partial = "energy near the strongest partial"
    assert tone[partial] > 0.95 and noise[partial] < 0.1


def test_a_checkerboard_stands_out(measured):
    """A ripple of 4 dB every four bins of noise, and none at other periods."""
    rs = np.random.RandomState(0)
    plain = 30 + rs.normal(0, 4, [2, 128, 128])
    ripple = plain + 4 * np.cos(2 * np.pi * np.arange(128) / 4)
    # The ripple's amplitude is half of 4 dB times the window's sum, 64; the noise's
    # power is its variance times the sum of the window's squares, 48.
    expected = 10 * np.log10(1 + (4 / 2 * 64) ** 2 / (16 * 48))
    for period in (2, 4, 8):
        stands = np.median(description.checkerboard(ripple, period))
        measured(f"period {period}", abs(stands - (period == 4) * expected), 1.5)
        measured("noise", abs(np.median(description.checkerboard(plain, period))), 1.5)
    smooth = np.broadcast_to(np.arange(128.0), [1, 128, 128])
    assert description.roughness(smooth + 1) == pytest.approx(1)
    assert description.roughness(np.where(smooth < 64, 0, 50)) == 0


def test_sounds_that_may_not_be_learned_from(training, tmp_path, capsys):
    with open(os.path.join(os.path.dirname(DRUMS), "provenance.csv")) as f:
        known = f.read()
    listed, out = tmp_path / "list.csv", tmp_path / "box"
    argv = ["drums", str(training), "--out_dir", str(out), "--sounds", str(listed)]
    listed.write_text(known.replace("CC0-1.0", "GPL-2", 1))
    assert bundle.main(argv) == 2
    assert "is under GPL-2; only what is under CC0-1.0, MIT" in capsys.readouterr().err
    listed.write_text("\n".join(known.splitlines()[:-1]))
    assert bundle.main(argv) == 2
    assert "list.csv does not say whose " in capsys.readouterr().err
    assert not out.exists()


def test_sounds_to_hear_before_installing(tmp_path):
    """MP3 files of real and generated sounds, and all of them in one page."""
    sets = [f"drums:real={DRUMS}", "digits:the bundled model=digits"]
    listen.main([*sets, "--out_dir", str(tmp_path)])
    files = sorted(p.name for p in tmp_path.glob("*.mp3"))
    names = "digits-the-bundled-model", "drums-real"
    assert files == [f"{name}-{i + 1}.mp3" for name in names for i in range(8)]
    for name in files:
        x, rate = soundfile.read(tmp_path / name)
        assert rate == 16000 and np.abs(x).max() > 0.1, name
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:audio/mpeg;base64,") == page.count("data:image/png") == 16
    assert "<h2>drums, real</h2>" in page and "http" not in page
