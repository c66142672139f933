"""What a training folder records, and what else is read from it."""

import contextlib
import dataclasses
import os
import re
import sys
import typing

import numpy as np
import pytest
from conftest import ROOT
from scipy.io import wavfile

sys.path.insert(0, ROOT)
import train_specgan
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator
from specgan_tf import moments as moments_file
from specgan_tf.cli import callbacks, settings, train
from specgan_tf.cli import export as export_script
from specgan_tf.cli import run as command
from specgan_tf.cli.data import find_files
from specgan_tf.cli.flags import FLAGS, Settings, make_parser
from specgan_tf.cli.help import document
from specgan_tf.cli.modes import ARGUMENTS, MODES
from specgan_tf.losses import LOSSES
from specgan_tf.specgan import SLICE_LENS, UPSAMPLE_ALIASES
from specgan_tf.weights import checkpoint, folders


@pytest.mark.parametrize(
    "value",
    [
        "/clips",
        "/a,b",
        "/ends with \r",
        "/two\nlines\nspecgan_dim,7",
        "/\udcff\n",
        '"',
        '"/in quotes"',
        '"/in\\nquotes"',
        '"\\"twice\\""',
        "C:\\new\\folder",
        "",
    ],
)
def test_every_value_survives_args_txt(tmp_path, value):
    lines = [folders.args_line(*pair) for pair in (("a", value), ("b", 1))]
    content = ("\n".join(lines) + "\n").encode(errors="surrogateescape")
    (tmp_path / "args.txt").write_bytes(content)
    assert folders.read_args(tmp_path) == {"a": value, "b": "1"}


def test_an_old_args_txt_reads_as_ever(tmp_path):
    """Values that look like escapes: the reference and earlier versions had none."""
    old = {
        "data_dir": "/a\\nb",
        "data_cache": '"/quoted"',
        "data_moments_fp": '"/a, "b"',
        "x": '"',
    }
    lines = "".join(f"{name},{value}\n" for name, value in old.items())
    (tmp_path / "args.txt").write_text(lines)
    assert folders.read_args(tmp_path) == old
    assert [folders.args_line(*pair) + "\n" for pair in old.items()] == [
        *lines.splitlines(keepends=True)
    ]


def test_a_training_finds_folders_of_any_name_again(tmp_path, monkeypatch):
    """A newline ends no line of args.txt, and `memory` means memory to the cache alone;
    recorded paths hold from anywhere."""
    for i, name in enumerate(("two\nlines,specgan_dim,7", "memory")):
        data, train = tmp_path / name, tmp_path / str(i)
        data.mkdir()
        train.mkdir()
        wavfile.write(data / "a.wav", 16000, np.zeros(9, np.int16))
        monkeypatch.chdir(tmp_path)
        given = {"data_dir": name, "data_moments_fp": name, "data_cache": "memory"}
        given |= {"mode": "train", "train_dir": str(train), "specgan_dim": 1}
        settings.write_args(settings.resolve_settings(given))
        monkeypatch.chdir(data)
        again = {"mode": "train", "train_dir": str(train)}
        again = settings.resolve_settings(again)
        assert (again.data_dir, again.specgan_dim) == (str(data), 1)
        assert again.data_cache == "memory" and len(find_files(again)) == 1
        assert folders.read_args(train)["data_moments_fp"] == str(data)


@pytest.mark.parametrize("argv", [["./clips/*.wav"], ["clips/a.wav"]])
def test_a_pattern_or_a_file_is_no_folder(refused, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    os.mkdir("clips")
    for name in "abcd":
        (tmp_path / "clips" / f"{name}.wav").write_bytes(b"")
    line = refused("train", "t", "--data_dir", *argv)
    assert f"data_dir {argv[0]} is " in line
    assert "name the folder that holds the files" in line
    # As a shell hands on a pattern without quotes
    for files in (2, 3, 4):
        files = [f"clips/{name}.wav" for name in "abcd"[:files]]
        line = refused("train", "t", "--data_dir", *files)
        assert "--data_dir takes a folder, not files" in line and files[-1] in line
    assert os.listdir() == ["clips"]


def wavegan(upsample):
    """Some variables of the reference's WaveGAN, --wavegan_dim 2."""
    shapes = {
        "G/z_project/dense/kernel": [100, 4 * 4 * 2 * 16],
        "G/z_project/dense/bias": [4 * 4 * 2 * 16],
        "D/downconv_0/conv1d/kernel": [25, 1, 2],
    }
    kernel = {
        "zeros": {"G/upconv_0/conv2d_transpose/kernel": [1, 25, 16, 32]},
        "nn": {"G/upconv_0/conv1d/kernel": [25, 32, 16]},
    }
    return shapes | kernel[upsample]


@pytest.mark.parametrize("upsample", ["zeros", "nn"])
@pytest.mark.parametrize("discriminator", [True, False])
def test_a_wavegan_is_recognised(refused, tmp_path, upsample, discriminator):
    shapes = wavegan(upsample)
    if not discriminator:
        del shapes["D/downconv_0/conv1d/kernel"]
    prefix = str(tmp_path / "model.ckpt-0")
    values = {n: np.zeros(shape, np.float32) for n, shape in shapes.items()}
    checkpoint._write(prefix, values | {"global_step": np.int64(0)})
    said = f"{prefix} holds a WaveGAN, which makes waveforms without spectrograms"
    assert said in refused("generate", tmp_path)
    assert said in refused("train", tmp_path, "--specgan_loss", "wgan-gp")
    assert said in refused(tmp_path, script=export_script)


def test_the_two_flags_of_normalization_turn_each_other_off(refused, tmp_path):
    parser = make_parser()

    def settled(*flags):
        given = vars(parser.parse_args(["train", str(tmp_path), *flags]))
        args = settings.resolve_settings(given)
        settings.write_args(args)
        return args.data_normalize, args.data_no_normalize

    assert settled() == (False, False)
    assert settled("--data_no_normalize") == (False, True) == settled()
    assert settled("--data_normalize") == (True, False) == settled()
    assert settled("--data_no_normalize") == (False, True)
    flags = "--data_no_normalize", "--data_normalize"
    assert "not allowed with argument" in refused("train", tmp_path, *flags)
    for flag in flags:
        line = refused("train", tmp_path, f"--no-{flag.removeprefix('--')}")
        assert "unrecognized arguments" in line
    assert "--no-data_no" not in parser.format_help()


# Checkpoints that a training deletes while they are read


@pytest.fixture
def training(tmp_path):
    """A folder with the checkpoint of step 0, and a function that goes on to step 1."""
    gan = SpecGAN(SpecGANGenerator(dim=1), SpecGANDiscriminator(dim=1))
    gan.compile("wgan-gp")
    train = tmp_path / "train"
    train.mkdir()
    moments_file.save(train / "moments.pkl", np.zeros(129), np.ones(129))
    first = checkpoint.save(gan, train)

    def go_on():
        gan.G_optimizer.iterations.assign(1)
        checkpoint.save(gan, train, keep=1)
        assert not os.path.exists(f"{first}.index")

    return train, go_on


SCORE = ["score", "--score_n", 8, "--incept_k", 2]
EXPORT = ["--formats", "tflite", "--tflite", "f32"]


@pytest.mark.parametrize(
    "argv, script, made, when",
    [
        (["generate", "--generate_n", 1], train_specgan, "generate/0000.wav", "listed"),
        (["generate", "--generate_n", 1], train_specgan, "generate/0000.wav", "read"),
        (["preview", "--once"], train_specgan, "preview/00000001.wav", "read"),
        (SCORE, train_specgan, "score/00000001.json", "read"),
        (EXPORT, export_script, "export/report.json", "read"),
    ],
)
def test_a_checkpoint_that_is_deleted_gives_way_to_the_next(
    run, training, monkeypatch, argv, script, made, when
):
    """Deleted before its tensors are read, or after the folder was listed."""
    train, go_on = training
    name = {"read": "load_generator", "listed": "_damage"}[when]
    module = {"read": checkpoint, "listed": folders}[when]
    call, calls = getattr(module, name), []

    def late(*args):
        calls.append(args)
        if len(calls) == 1:
            go_on()
        return call(*args)

    monkeypatch.setattr(module, name, late)
    mode = argv[:1] if script is train_specgan else []
    status, out, err = run(*mode, train, *argv[len(mode) :], script=script)
    assert status == 0 and (train / made).exists(), err
    assert "model.ckpt-0" not in err and "damaged" not in out
    if when == "read":
        assert "model.ckpt-0 was deleted while it was read: taking the next" in out


def test_what_is_wrong_with_a_checkpoint_that_is_there_is_an_error(training):
    train, _ = training

    def read(prefix):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        folders.read_latest(train, read)


@pytest.mark.parametrize("mode", MODES)
def test_the_help_of_a_mode_shows_its_flags_alone(mode, capsys):
    assert command.main([mode, "--help"]) == 0
    said = capsys.readouterr().out
    for name, flag in FLAGS.items():
        shown = re.search(rf"^  --{name}\b", said, re.MULTILINE) is not None
        assert shown is (mode in flag.modes), name


@pytest.mark.parametrize("mode", MODES)
def test_the_help_of_a_mode_shows_what_it_takes(mode, capsys):
    command.main([mode, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    usage = f"{mode} {' '.join(ARGUMENTS[mode])} [--FLAG ...]"
    assert usage in said
    for name, text in ARGUMENTS[mode].items():
        assert f" {name.strip('[]')} {text}" in said
    optional = [name for name in ARGUMENTS[mode] if name.startswith("[")]
    assert optional == ["[TRAIN_DIR]"] * (mode in ("generate", "infer"))
    assert ("drums" in said and ".npz" in said) >= (mode in ("generate", "infer"))
    assert "a folder of WAV files" in said or mode != "score"


def test_the_help_without_a_mode_names_the_modes(capsys):
    assert command.main(["--help"]) == 0
    said = capsys.readouterr().out
    for mode in MODES:
        assert re.search(rf"^  {mode} ", said, re.MULTILINE), mode
    assert "generate --help" in said and "--preview_n" not in said


def test_every_flag_is_of_a_mode_and_in_the_document():
    for name, flag in FLAGS.items():
        # This one does nothing, as --help says.
        assert flag.modes or name == "data_prefetch_gpu_num"
        assert {*flag.modes} <= MODES.keys(), name
    with open(os.path.join(ROOT, "docs", "FLAGS.md"), encoding="utf-8") as f:
        assert f.read() == document(), "write it anew"


def test_given_flags_that_a_mode_does_not_use_are_named(run, training):
    """The reference takes every flag in every mode; the networks' own are compared."""
    train, _ = training
    unused = "--preview_n", 3, "--specgan_loss", "lsgan"
    status, out, err = run("backup", train, "--once", "--specgan_dim", 1, *unused)
    assert status == 0, err
    assert "backup does not use --preview_n, --specgan_loss\n" in out
    status, out, _ = run("backup", train, "--once", "--train_backup_mins", 1)
    assert status == 0 and "does not use" not in out


def test_flags_offer_what_the_networks_know():
    """flags.py names what there is itself: it runs without TensorFlow."""
    choices = {name: flag.choices for name, flag in FLAGS.items()}
    assert choices["specgan_loss"] == [*LOSSES]
    assert choices["data_slice_len"] == [*SLICE_LENS]
    known = {*UPSAMPLE_ALIASES, *UPSAMPLE_ALIASES.values(), "zeros", "nn"}
    assert {*choices["specgan_genr_upsample"]} == known


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_gives_values_of_its_annotated_type(name):
    """What a user can give, and the default, are of the type that `Settings` states."""
    flag, hint = FLAGS[name], typing.get_type_hints(Settings)[name]
    types = {typing.get_origin(t) or t for t in typing.get_args(hint) or [hint]}
    texts = [*(flag.choices or ()), "True", "1", "3", "0.5", "2/3", "2x3", "word"]
    values = [flag.default]
    for text in texts:
        with contextlib.suppress(ValueError):
            values.append(flag.parse(text))
    assert len(values) > 1 and {type(value) for value in values[1:]} <= types, values
    assert type(flag.default) in types and getattr(Settings, name) == flag.default


def test_settings_cannot_be_changed_and_hold_no_others():
    args = settings.resolve_settings({"mode": "train", "train_dir": "no such folder"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        args.specgan_dim = 1
    with pytest.raises(TypeError, match="specgan_dimm"):
        settings.resolve_settings(
            {"mode": "train", "train_dir": "x", "specgan_dimm": 1}
        )
    assert settings.resolve_settings(args.given) == args


# The warning of a training that has no GPU


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("gpus", [[], ["a GPU"]])
def test_large_networks_without_a_gpu_get_advice(monkeypatch, gpus, fast):
    monkeypatch.setattr(train.tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(train.kernels, "fast_bfloat16", lambda: (fast, ""))

    def advice(*flags):
        parser = make_parser()
        args = vars(parser.parse_args(["train", "no such folder", *flags]))
        return train.advice_without_gpu(settings.resolve_settings(args))

    assert advice("--specgan_dim", "63") is None
    if gpus:
        assert advice() is None
        return
    assert "--specgan_dim 16" in advice() and "--train_batch_size" in advice()
    assert ("--mixed_precision" in advice()) is fast
    assert "--mixed_precision" not in advice("--mixed_precision")


def test_a_training_without_a_gpu_tells_the_time_of_a_step_once(caplog, monkeypatch):
    times = iter([0, 100, 103.25, 200])  # of each step's begin, and the second's end
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(times))
    slow = callbacks.SlowSteps("Be patient.")
    with caplog.at_level("WARNING", "specgan_tf"):
        for step in range(3):
            slow.on_train_batch_begin(step)
            slow.on_train_batch_end(step)
    assert caplog.messages == ["A step takes 3.2 s without a GPU. Be patient."]
