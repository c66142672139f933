"""The two scripts as their users meet them."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from conftest import DRUMS, MAIN, ROOT, SLOWLY, shared
from scipy.io import wavfile

sys.path.insert(0, ROOT)
import train_specgan
from specgan_tf import SpecGANGenerator, generate, moments, spectral
from specgan_tf.cli import callbacks, flags
from specgan_tf.cli import export as export_script
from specgan_tf.export import tflite
from specgan_tf.files import only_training
from specgan_tf.moments import Moments
from specgan_tf.report import gather
from specgan_tf.weights import bundled, checkpoint, folders

TINY = ["--specgan_dim", "1", "--train_batch_size", "2"]
SHORT = ["--data_first_slice", "--data_pad_end"]
pytestmark = pytest.mark.usefixtures("small_buffer")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clips):
    """A folder trained for two steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained") / "train"
    argv = ["train", folder, "--data_dir", clips, "--seed", 1, "--train_max_steps", 2]
    assert train_specgan.main([str(a) for a in [*argv, *TINY]]) == 0
    return folder


@pytest.fixture
def opened(monkeypatch):
    """The checkpoints that TensorFlow's reader opens, in order."""
    prefixes, load = [], tf.train.load_checkpoint

    def counted(prefix):
        prefixes.append(prefix)
        return load(prefix)

    monkeypatch.setattr(tf.train, "load_checkpoint", counted)
    return prefixes


@pytest.mark.parametrize(
    "mode, argv",
    [
        ("train", ["--train_max_steps", 3]),
        ("generate", ["--generate_n", 1]),
        ("preview", ["--once"]),
    ],
)
def test_a_run_opens_a_checkpoint_once(run, trained, tmp_path, opened, mode, argv):
    folder = copy_of(trained, tmp_path)
    status, _, err = run(mode, folder, *argv)
    assert status == 0, err
    assert opened == [str(folder / "model.ckpt-2")]


def test_no_arguments_print_four_commands_without_tensorflow():
    out = subprocess.run(
        [sys.executable, "-X", "importtime", "train_specgan.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sum(line.startswith("  python ") for line in out.stdout.splitlines()) == 4
    assert "tensorflow" not in out.stderr


EXPORTED = {"specgan", "report.json", "report.md", "spectrograms.png"} | {
    f"{name}.tflite"
    for name in "generator.f32 generator.f16 generator.dr8 synthesize.f32 "
    "invert.f32".split()
}


def test_the_whole_way_on_the_embedded_drums(run, tmp_path):
    train = tmp_path / "train"
    argv = ["train", train, "--train_max_steps", 2, "--seed", 1, *TINY]
    status, out, _ = run(*argv)
    assert status == 0
    assert "using the 77 embedded drum sounds" in out
    assert "[100, 256] (25600): G/z_project/dense/kernel" in out
    assert "Total params: " in out and "step      2" in out and "steps/s" in out
    assert {"args.txt", "moments.pkl", "checkpoint"} <= set(os.listdir(train))
    status, out, _ = run(*argv)
    assert status == 0 and "Step 2 of 2 has been reached already" in out

    # the settings are the folder's now
    status, out, _ = run("train", train, "--train_max_steps", 3)
    assert status == 0 and "Resuming from" in out and "specgan_dim 1" in out

    status, out, _ = run("preview", train, "--once", "--preview_n", 3)
    assert status == 0
    found = summaries(train)  # of the training's own run: preview/ is none
    assert found.items() >= {f"preview/{k}": v for k, v in SHOWN.items()}.items()
    assert not [name for name in os.listdir(train / "preview") if "tfevents" in name]
    rate, wav = wavfile.read(train / "preview" / "00000003.wav")
    assert (
        rate == 16000 and wav.dtype == np.int16 and wav.shape == (3 * (16384 + 8192),)
    )
    assert not wav[16384 : 16384 + 8192].any()
    png = tf.io.decode_png((train / "preview" / "00000003.png").read_bytes()).numpy()
    assert png.std() > 1

    made = tmp_path / "made"
    argv = ["generate", train, "--generate_dir", made, "--generate_n", 2, "--seed", 5]
    status, out, _ = run(*argv, "--z_fp", tmp_path / "z.npy")
    assert status == 0
    assert sorted(os.listdir(made)) == ["0000.wav", "0001.wav", "sheet.png"]
    rate, first = wavfile.read(made / "0000.wav")
    assert rate == 16000 and first.shape == (16384,) and first.dtype == np.int16
    again = tmp_path / "again"
    argv = ["generate", train, "--generate_dir", again, "--z_fp", tmp_path / "z.npy"]
    assert run(*argv)[0] == 0
    for name in os.listdir(made):
        assert (again / name).read_bytes() == (made / name).read_bytes()

    status, out, _ = run("infer", train)
    assert status == 0
    signature = tf.saved_model.load(str(train / "infer")).signatures["serving_default"]
    z = np.load(tmp_path / "z.npy")
    got = signature(z=tf.constant(z), ngl=tf.constant(16))["G_z_int16"][0, :, 0]
    assert np.abs(got.numpy().astype(int) - first).max() <= 2

    # Three steps of training are too few for int8.
    argv = [train, "--tflite", "dr8,f16,f32", "--version", 3]
    status, out, err = run(*argv, script=export_script)
    assert status == 0, err
    assert set(os.listdir(train / "export")) == EXPORTED
    assert os.listdir(train / "export" / "specgan") == ["3"]
    about = json.loads((train / "export" / "specgan" / "3" / "model.json").read_text())
    assert (about["step"], about["sample_rate"], about["dim"]) == (3, 16000, 1)
    about |= {"weights": "f16"}
    assert tflite.metadata(train / "export" / "generator.f16.tflite") == about


@pytest.mark.slow
def test_the_demo_has_sound_in_it(run, tmp_path):
    """As `make demo`, with fewer steps: drums begin with a bang and fade."""
    with open(os.path.join(ROOT, "Makefile")) as f:
        small = re.search(r"^SMALL = (.*?[^\\])\n", f.read(), re.DOTALL | re.MULTILINE)[
            1
        ]
    argv = ["train", tmp_path, "--seed", 1, *small.replace("\\\n", "").split()]
    assert "--specgan_moments" in argv
    assert run(*argv, "--train_max_steps", 100)[0] == 0
    assert run("generate", tmp_path, "--generate_n", 8, "--seed", 1)[0] == 0
    made = tmp_path / "generate"
    wavs = [wavfile.read(made / f"{i:04d}.wav")[1] / 32768.0 for i in range(8)]
    rms = np.sqrt(np.mean(np.square(wavs), axis=1))
    assert (rms > 1e-3).all(), rms  # silence is 0; the embedded drums' median is 0.1
    clipped = np.sum(np.abs(wavs) > 0.9999, axis=1)
    assert (clipped <= 1).all(), clipped  # a peak turned down to full scale, at most
    energy = np.square(wavs).reshape(8, 4, -1).sum(-1)
    assert (energy[:, 0] > 2 * energy[:, 3]).all(), energy
    png = tf.io.decode_png((made / "sheet.png").read_bytes()).numpy()
    assert png[4:132, 4:132].std() > 10


def test_the_references_commands_run_as_they_stand(run, tmp_path):
    """Its README's SpecGAN section, on real drums, some steps long."""
    data = shared("data", "drums", "wav16k")
    train = tmp_path / "train"
    moments = ["--data_moments_fp", train / "moments.pkl"]
    # These clips are shorter than the slices these commands ask for at random, which
    # hangs the reference.
    status, _, err = run("moments", train, "--data_dir", data, *moments)
    assert status == 2 and "--data_first_slice --data_pad_end" in err
    argv = ["--data_dir", data, *moments, "--data_fast_wav", *SHORT]
    assert run("moments", train, *argv)[0] == 0
    status, out, _ = run("train", train, *argv, *TINY, "--train_max_steps", 1)
    assert status == 0 and "Found 1268 audio files" in out
    status, out, _ = run("preview", train, *moments, "--once")
    assert status == 0 and (train / "preview" / "00000001.wav").exists()


def test_recordings_of_every_format(run, tmp_path):
    data = shared("data", "drums", "original")
    argv = ["--data_dir", data, "--data_recursive", *SHORT]
    status, out, _ = run("moments", tmp_path, *argv)
    assert status == 0 and "Moments of 313 slices of 16384 samples" in out
    assert "Skipped" in out and "lmms_kick04_malformed.ogg" in out


SHOWN = {"audio": "audio", "image": "images"}  # end of a tag -> TensorBoard's plugin


def summaries(folder):
    """Of a folder's event files: {tag: its TensorBoard plugin}; a tag has but one."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = {
        (value.tag, value.metadata.plugin_data.plugin_name)
        for name in os.listdir(folder)
        if name.startswith("events")
        for event in EventFileLoader(str(folder / name)).Load()
        for value in event.summary.value
    }
    assert len(found) == len(dict(found)), found
    return dict(found)


def test_summaries(trained):
    """The reference's tags, and ours."""
    from tensorboard.plugins.hparams import metadata

    tags = summaries(trained)
    shown = {tag for tag, plugin in tags.items() if plugin in ("audio", "images")}
    assert shown == {"x_wav/audio", *(f"{t}/{k}" for t in ("x", "G_z") for k in SHOWN)}
    assert all(SHOWN[tag.partition("/")[2]] == tags[tag] for tag in shown)
    scalars = {tag for tag, plugin in tags.items() if plugin == "scalars"}
    assert scalars == set(
        "D_loss G_loss D_x D_G_z D_x_minus_D_G_z gradient_penalty slopes x_rms G_z_rms "
        "D_gradient_norm G_gradient_norm G_z_diversity".split()
    )
    histograms = {tag for tag, plugin in tags.items() if plugin == "histograms"}
    assert histograms == {"x_rms_batch", "G_z_rms_batch", "slopes_batch"}
    assert tags[metadata.SESSION_START_INFO_TAG] == metadata.PLUGIN_NAME


def test_summaries_change_no_training_and_say_its_pace(run, clips, tmp_path):
    """Bit for bit, with summaries at every step, of weights and random state."""
    argv = ["--data_dir", clips, "--seed", 1, "--train_max_steps", 4, *TINY]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(callbacks.Summaries, "on_train_batch_end", lambda *_, **__: None)
        assert run("train", tmp_path / "none", *argv)[0] == 0
    end = callbacks.Summaries.on_train_batch_end

    def every_step(self, *args, **kwargs):
        self.secs = 0
        end(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as m:
        m.setattr(callbacks.Summaries, "on_train_batch_end", every_step)
        assert run("train", tmp_path / "all", *argv)[0] == 0
    name = "model.ckpt-4.data-00000-of-00001"
    assert (tmp_path / "none" / name).read_bytes() == (
        tmp_path / "all" / name
    ).read_bytes()
    assert not summaries(tmp_path / "none")
    series, images = gather.read_events(tmp_path / "all")
    assert series["D_loss"][0].tolist() == [1, 2, 3, 4] and [*images] == [1, 2, 3, 4]
    for tag, (low, high) in {"steps_per_second": (0, 1e3), "data_wait": (0, 1)}.items():
        steps, values = series[tag]
        assert steps.tolist() == [2, 3, 4]
        assert (values > low).all() and (values < high).all()
    gap = series["D_x"][1] - series["D_G_z"][1]
    np.testing.assert_allclose(series["D_x_minus_D_G_z"][1], gap, atol=1e-6)


def test_a_seed_repeats_a_training(run, trained, clips, tmp_path):
    argv = ["train", tmp_path, "--data_dir", clips, "--seed", 1, "--train_max_steps", 2]
    assert run(*argv, *TINY)[0] == 0
    for name in ("model.ckpt-2.data-00000-of-00001", "moments.pkl"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_learning_rates(run, refused, clips, tmp_path):
    """Adam's first update moves what has a gradient by the learning rate. Another one
    is allowed on resume; the same one resumes bit for bit."""
    argv = ["--data_dir", clips, "--seed", 1, *TINY, "--specgan_disc_nupdates", 1]
    rates = ["--train_lr_G", 3e-3, "--train_lr_D", 0.02]
    halves, whole = tmp_path / "halves", tmp_path / "whole"
    assert run("train", halves, *argv, *rates, "--train_max_steps", 1)[0] == 0
    before, after = (tensors(halves / f"model.ckpt-{step}") for step in (0, 1))

    def moved(net, before, after):
        kernels = [n for n in after if n.startswith(net) and n.endswith("kernel")]
        return max(np.abs(after[n] - before[n]).max() for n in kernels)

    assert moved("G", before, after) == pytest.approx(3e-3, rel=1e-3)
    assert moved("D", before, after) == pytest.approx(0.02, rel=1e-3)
    status, out, _ = run("train", halves, "--train_max_steps", 2)
    assert status == 0 and "train_lr_D 0.02, train_lr_G 0.003" in out
    assert run("train", whole, *argv, *rates, "--train_max_steps", 2)[0] == 0
    name = "model.ckpt-2.data-00000-of-00001"
    assert (halves / name).read_bytes() == (whole / name).read_bytes()
    argv = ["train", whole, "--train_max_steps", 3]
    status, out, _ = run(*argv, "--train_lr_G", 1e-9)
    assert status == 0
    assert "Changed: train_lr_G is 1e-09 from now on, was 0.003" in out
    assert moved("G", tensors(halves), tensors(whole)) < 1e-7
    assert "train_lr_G,1e-09\n" in (whole / "args.txt").read_text()
    line = refused("train", tmp_path / "t", "--train_lr_G", 0)
    assert "--train_lr_G: must be a number above 0. Received: '0'" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_and_the_next_run_resumes(run, tmp_path, clips, number):
    argv = [sys.executable, "-u", "train_specgan.py", "train", str(tmp_path / "t")]
    argv += ["--data_dir", str(clips), *TINY]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if line.startswith("step"):
                    break
            process.send_signal(number)
            rest = process.stdout.read()
            assert process.wait(300) == 0
        finally:
            process.kill()
    assert f"{number.name}: finishing this step, then saving" in rest
    saved = tf.train.latest_checkpoint(str(tmp_path / "t"))
    step = int(saved.rpartition("-")[2])
    assert step >= 1 and f"Saved step {step} in" in rest
    status, out, _ = run("train", tmp_path / "t", "--train_max_steps", step + 1)
    assert status == 0 and f"Resuming from {saved}" in out
    assert f"Saved step {step + 1} in" in out


def tensors(train_dir):
    ckpt = tf.train.load_checkpoint(str(train_dir))
    return {n: ckpt.get_tensor(n) for n in ckpt.get_variable_to_shape_map()}


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["wgan-gp", "lsgan"])
def test_a_killed_training_resumes_bit_for_bit(run, tmp_path, clips, loss):
    """SIGKILL at random moments, of saving too: in the end the weights, optimizers,
    latents and data of a training that was left alone."""
    argv = ["--data_dir", str(clips), *TINY, "--specgan_loss", loss, "--seed", "4"]
    # 6 s or more where it is killed; two kills wait for 3 at most.
    argv += ["--train_max_steps", "120", "--train_save_secs", "1"]
    assert run("train", tmp_path / "whole", *argv)[0] == 0
    killed = [sys.executable, "-c", SLOWLY + MAIN, "train"]
    rs, kills = np.random.RandomState(), 0
    while True:
        with subprocess.Popen(
            [*killed, str(tmp_path / "killed"), *argv],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout:
                if line.startswith("step") and kills < 3:
                    time.sleep(rs.uniform(0, 1.5))
                    process.kill()
                    break
        if process.wait() == 0:
            break
        kills += 1
        assert kills <= 3
    assert kills >= 2
    got, want = (tensors(tmp_path / name) for name in ("killed", "whole"))
    assert got.keys() == want.keys()
    for name in want.keys() - {"data/lengths"}:  # how far ahead decoding was
        np.testing.assert_array_equal(got[name], want[name], name)


def test_a_training_that_diverges(run, refused, trained, tmp_path, clips):
    """Names the loss, the step and the files used; saves no bad weights."""
    folder = copy_of(trained, tmp_path)
    prefix = folders.latest(folder)
    step = checkpoint.step_of(prefix)
    values = tensors(folder)
    values["D/output/dense/kernel"] *= np.float32(1e38)
    checkpoint._write(prefix, values)
    before = sorted(folder.glob("model.ckpt-*"))
    line = refused("train", folder)
    assert re.search(
        rf"(loss|D_x|D_G_z|penalty|slopes) is -?(nan|inf) at step {step + 1}", line
    )
    assert f"{prefix} is the last checkpoint before" in line
    assert sorted(folder.glob("model.ckpt-*")) == before
    report = (folder / f"diverged-{step + 1}.txt").read_text()
    assert report.startswith(line.partition("error: ")[2].partition(":")[0])
    heard = re.findall(r"^ *\d+  (.*)$", report, re.MULTILINE)
    assert len(heard) == 5 * 2 and set(heard) <= {str(fp) for fp in clips.iterdir()}


def test_a_disk_that_fills_up_while_training(
    run, tmp_path, clips, small_disk, monkeypatch
):
    """Training goes on, and ends with an error; the checkpoint there is stays."""
    begin = callbacks.Save.on_train_begin

    def then_fill(self, logs=None):
        begin(self)
        self.secs = 0
        small_disk(20_000)

    monkeypatch.setattr(callbacks.Save, "on_train_begin", then_fill)
    argv = ["train", tmp_path, "--data_dir", clips, *TINY, "--train_max_steps", 3]
    status, out, err = run(*argv)
    assert status == 2
    assert (
        f"could not write {tmp_path}/model.ckpt-2: File too large. Training continues"
        in out
    )
    assert f"Summaries could not be written to {tmp_path}: File too large" in out
    assert err.splitlines()[-1].endswith(
        f"could not write {tmp_path}/model.ckpt-3: File too large"
    )
    monkeypatch.undo()
    assert folders.latest(tmp_path) == str(tmp_path / "model.ckpt-0")
    assert not [name for name in os.listdir(tmp_path) if "temp" in name]


def test_moments_in_shards(run, refused, tmp_path, clips):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = ["--data_dir", clips, *SHORT]
    assert run("moments", whole, *argv)[0] == 0
    for i in (1, 2, 3, 4):
        assert run("moments", parts, *argv, "--shard", f"{i}/4")[0] == 0
    assert "exists; --overwrite" in refused("moments", parts, *argv, "--shard", "1/4")
    status, out, _ = run("merge", parts)
    said = f"Moments of 6 slices of 16384 samples. Wrote {parts}/moments.pkl"
    assert status == 0 and said in out
    for ours, theirs in zip(
        *(moments.load(p / "moments.pkl")[:2] for p in (parts, whole)), strict=True
    ):
        np.testing.assert_array_max_ulp(ours, theirs, 1)
    assert "moments.pkl exists; --overwrite" in refused("merge", parts)
    assert "must be I/N" in refused("moments", parts, *argv, "--shard", "5/4")
    assert "--shard belongs to the mode moments" in refused(
        "train", parts, "--shard", "1/4"
    )


OTHERWISE = ["--specgan_log_eps", "1e-3", "--specgan_pad_front"]
OTHERWISE += ["--specgan_clip_nstd", "4.5"]
ANALYSIS = {"log_eps": 1e-3, "pad_front": True, "clip_nstd": 4.5}


@pytest.fixture(scope="module")
def otherwise(tmp_path_factory, clips):
    """A training of other spectrograms than the reference's."""
    folder = tmp_path_factory.mktemp("otherwise")
    argv = [folder, "--data_dir", clips, *TINY, *OTHERWISE, "--train_max_steps", 1]
    argv += ["--seed", 1]
    assert train_specgan.main(["train", *map(str, argv)]) == 0
    return folder


def test_other_spectrograms_all_the_way(run, refused, otherwise, clips, tmp_path):
    """What a training was begun with is what all modes and exports go on with."""
    folder = copy_of(otherwise, tmp_path)
    recorded = (folder / "args.txt").read_text().splitlines()
    assert {f"specgan_{name},{value}" for name, value in ANALYSIS.items()} <= {
        *recorded
    }
    found = moments.load(folder / "moments.pkl")
    assert found.analysis == ANALYSIS
    status, out, _ = run("train", folder, "--train_max_steps", 2)
    assert status == 0 and "specgan_log_eps 0.001, specgan_pad_front True" in out
    assert "specgan_clip_nstd 4.5" in out

    z = tmp_path / "z.npy"
    argv = ["--generate_n", 2, "--z_fp", z, "--ngl", 0]
    assert run("generate", folder, *argv)[0] == 0
    G, z = checkpoint.load_generator(folder), np.load(z)
    G_z = generate.render(G, found, z, spectral.GriffinLim(0))["G_z"]
    want = spectral.float_to_int16(spectral.turn_down(G_z)).numpy()
    for i in range(2):
        _, got = wavfile.read(folder / "generate" / f"{i:04d}.wav")
        # The reference's synthesis of the same is another sound.
        theirs = spectral.f_to_t(G(z), *found[:2], 0)[i, :, 0]
        assert np.abs(got - want[i, :, 0]).max() <= 1
        assert np.abs(got - 32767 * theirs).max() > 5
    assert run("preview", folder, "--once")[0] == 0
    assert run("infer", folder)[0] == 0
    assert run("report", folder)[0] == 0
    argv = [folder, "--formats", "saved_model"]
    assert run(*argv, script=export_script)[0] == 0
    with open(folder / "export" / "specgan" / "1" / "model.json") as f:
        about = json.load(f)
    assert ANALYSIS.items() <= about.items()
    line = refused("to_tf1", folder, tmp_path / "out")
    assert "specgan_log_eps 0.001, specgan_pad_front True, specgan_clip" in line
    assert not (tmp_path / "out").exists()


def test_spectrograms_of_a_folder_cannot_be_changed(
    run, refused, trained, otherwise, tmp_path
):
    for mode in ("train", "generate", "moments", "report"):
        line = refused(mode, otherwise, "--overwrite", "--specgan_log_eps", 1e-2)
        assert "log_eps 0.01 contradicts specgan_log_eps 0.001 of" in line
        line = refused(mode, otherwise, "--overwrite", "--no-specgan_pad_front")
        assert "contradicts specgan_pad_front True" in line
        line = refused(mode, otherwise, "--overwrite", "--specgan_clip_nstd", 3)
        assert "contradicts specgan_clip_nstd 4.5" in line
    # A folder that is older than the flags has the reference's.
    folder = copy_of(trained, tmp_path)
    lines = (folder / "args.txt").read_text().splitlines()
    kept = [x for x in lines if not any(name in x for name in ANALYSIS)]
    (folder / "args.txt").write_text("\n".join(kept))
    line = refused("train", folder, "--specgan_log_eps", 1e-3)
    assert "contradicts specgan_log_eps 1e-06" in line
    assert run("generate", folder, "--generate_n", 1, "--ngl", 0)[0] == 0


def test_moments_of_other_spectrograms_are_refused(
    run, refused, trained, otherwise, clips, tmp_path
):
    given = ["--data_moments_fp", trained / "moments.pkl"]
    said = (
        f"{trained}/moments.pkl was computed with --specgan_log_eps 1e-06, and this "
        "run has --specgan_log_eps 0.001: use moments computed with "
        "--specgan_log_eps 0.001, or for a new training pass --specgan_log_eps 1e-06"
    )
    for mode in ("train", "generate", "infer"):
        argv = [otherwise, *given, *(["--overwrite"] * (mode == "generate"))]
        assert said in refused(mode, *argv)
    assert said in refused(otherwise, *given, script=export_script)
    new = ["train", tmp_path / "new", "--data_dir", clips, *TINY]
    assert said in refused(*new, *given, "--specgan_log_eps", 1e-3)
    line = refused(*new, *given, "--specgan_pad_front")
    assert "with --no-specgan_pad_front, and this run has --specgan_pad_front:" in line
    assert "for a new training pass --specgan_pad_front" in refused(
        *new, "--data_moments_fp", otherwise / "moments.pkl", *OTHERWISE[:2]
    )
    # Given to a training, and to the modes that go on with it
    given = ["--data_moments_fp", otherwise / "moments.pkl", *OTHERWISE]
    assert run(*new, *given, "--train_max_steps", 1)[0] == 0
    assert "computed with --specgan_log_eps 0.001" in refused(
        "generate", trained, "--generate_dir", tmp_path / "g", *given[:2]
    )


def test_a_bare_checkpoint_has_the_spectrograms_of_its_moments(
    run, otherwise, tmp_path
):
    for name in os.listdir(otherwise):
        if name.startswith("model.ckpt") or name == "moments.pkl":
            shutil.copy(otherwise / name, tmp_path)
    argv = ["generate", tmp_path / "model.ckpt-1", "--generate_n", 1, "--ngl", 0]
    assert run(*argv)[0] == 0


def test_shards_of_other_spectrograms(run, refused, tmp_path, clips):
    argv = [tmp_path, "--data_dir", clips, *SHORT, "--shard"]
    assert run("moments", *argv, "1/2", *OTHERWISE)[0] == 0
    assert run("moments", *argv, "2/2")[0] == 0
    assert "compute all shards with the same options" in refused("merge", tmp_path)
    assert run("moments", *argv, "2/2", *OTHERWISE, "--overwrite")[0] == 0
    assert "this run has --specgan_log_eps 1e-06" in refused("merge", tmp_path)
    assert run("merge", tmp_path, *OTHERWISE)[0] == 0
    assert moments.load(tmp_path / "moments.pkl").pad_front


def test_backups(run, tmp_path, clips, monkeypatch):
    monkeypatch.setattr(callbacks.Save, "on_train_begin", at_every_step)
    argv = ["train", tmp_path, "--data_dir", clips, *TINY, "--train_max_steps", 2]
    assert run(*argv, "--train_backup_mins", "1e-6", "--train_keep", 1)[0] == 0
    monkeypatch.undo()
    assert [p.stem for p in tmp_path.glob("*.index")] == ["model.ckpt-2"]
    assert run("generate", tmp_path / "backup", "--generate_n", 1)[0] == 0
    kept = {p.stem for p in (tmp_path / "backup").glob("*.index")}
    assert kept == {"model.ckpt-1", "model.ckpt-2"}


def at_every_step(self, logs=None):
    self.last = self.saved = self.secs = 0


def test_one_training_a_folder(refused, trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    with only_training(folder):
        assert f"another training is running in {folder}" in refused("train", folder)


def test_preview_waits_for_checkpoints(tmp_path, trained):
    """Started before there is one; writes it once it is there; Ctrl-C ends it."""
    argv = [sys.executable, "-u", "train_specgan.py", "preview", str(tmp_path)]
    argv += ["--seed", "1"]  # of sounds of which none is nearly silent
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert "Waiting for checkpoints" in process.stdout.readline()
            folders.copy(str(trained / "model.ckpt-2"), tmp_path)
            assert "00000002.wav" in process.stdout.readline()
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130 and err.strip() == "Interrupted"
    assert (tmp_path / "preview" / "00000002.png").exists()


# Mistakes


@pytest.mark.parametrize(
    "argv, said",
    [
        (
            ["--formats", "coreml"],
            "must be of saved_model,tflite,onnx. Received: 'coreml'",
        ),
        (["--tflite", "f32,int4"], "must be of f32,f16,dr8,int8. Received: 'f32,int4'"),
        (["--version", "0"], "at least 1. Received: '0'"),
        (["--checkpoint", "model.ckpt-9"], "model.ckpt-9"),
    ],
)
def test_mistakes_in_exporting(refused, trained, tmp_path, argv, said):
    argv = [trained, "--out_dir", tmp_path / "new", *argv]
    assert said in refused(*argv, script=export_script)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "argv, said",
    [
        (["fly", "T"], "invalid choice: 'fly'"),
        (["train"], "required: train_dir"),
        (["train", "T", "--specgan_loss", "hinge"], "invalid choice: 'hinge'"),
        (["train", "T", "--specgan_dim", "0"], "at least 1. Received: '0'"),
        (["train", "T", "--specgan_dim", "many"], "whole number of at least 1"),
        (["train", "T", "--train_batch_size", "-3"], "Received: '-3'"),
        (["train", "T", "--data_overlap_ratio", "1"], "in [0, 1). Received: '1'"),
        (["train", "T", "--data_overlap_ratio", "nan"], "in [0, 1). Received: 'nan'"),
        (["train", "T", "--specgan_ngl", "-1"], "at least 0. Received: '-1'"),
        (["train", "T", "--data_dri", "x"], "unrecognized arguments: --data_dri x"),
        (["train", "T", "--data_dir", "nowhere"], "data_dir nowhere does not exist"),
        (["train", "t[1]"], "for patterns; rename the folder"),
        (["generate", "nowhere"], "nowhere is neither a training folder nor a check"),
        (["preview", "nowhere", "--once"], "nowhere does not exist"),
        (["infer", "."], "no checkpoint in . yet: train first"),
        (["generate", "x.npz"], "x.npz is neither a training folder nor a check"),
        (["generate", "--interpolate", "1"], "at least 2. Received: '1'"),
        (["generate", "--interpolate", "3", "--generate_n", "1"], "of at least 2"),
        (["generate", "--walk", "0"], "in (0, 2]. Received: '0'"),
        (["generate", "--grid", "5"], "ROWSxCOLUMNS, each at least 2, as 5x5. Rec"),
        (["generate", "--grid", "1x5"], "each at least 2, as 5x5. Received: '1x5'"),
        (["generate", "--grid", "2x2", "--generate_n", "4"], "leave --generate_n out"),
        (["generate", "--grid", "2x2", "--walk", "1"], "not allowed with argument"),
        (["generate", "--truncation", "0"], "in (0, 1]. Received: '0'"),
        (["generate", "--truncation", "nan"], "in (0, 1]. Received: 'nan'"),
        (["generate", "--generate_format", "mp3"], "invalid choice: 'mp3'"),
        (["generate", "--ngl", "4", "--specgan_ngl", "8"], "Received: 4 and 8"),
        (["preview", "T", "--walk", "1"], "--walk belongs to the mode generate"),
        (["infer", "--truncation", "1"], "--truncation belongs to the mode generate"),
    ],
)
def test_mistakes_are_one_line(refused, monkeypatch, tmp_path, argv, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*argv)
    assert not os.listdir(tmp_path)


def test_mistaken_data(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("data")
    argv = ["train", "t", "--data_dir", "data", *TINY]
    assert "data is empty" in refused(*argv)
    (tmp_path / "data" / "notes.txt").write_text("x")
    assert "holds no audio" in refused(*argv)
    (tmp_path / "data" / "a.wav").write_bytes(b"x")
    assert "none of the 1 audio files can be read" in refused(*argv)
    wavfile.write("data/a.wav", 16000, np.ones(9000, np.int16))
    assert "too short for random slices of 16384 samples" in refused(*argv)
    line = refused(*argv, "--data_overlap_ratio", "0.99999")
    assert "slice_overlap_ratio is too high for slices of 16384 samples" in line
    wavfile.write("data/a.wav", 8000, np.ones(9000, np.int16))
    line = refused(*argv, *SHORT, "--data_fast_wav")
    assert "a.wav is at 8000 Hz, not 16000" in line
    wavfile.write("data/a.wav", 16000, np.zeros(40000, np.int16))
    assert "std is zero or less in bin 0" in refused(*argv, *SHORT)
    assert os.listdir() == ["data"]


def test_mistaken_moments(refused, clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["train", "t", "--data_dir", clips, *TINY, "--data_moments_fp", "m.pkl"]
    assert "no moments file at m.pkl" in refused(*argv)
    (tmp_path / "m.pkl").write_text("hello")
    assert "m.pkl is not a pickle of float arrays" in refused(*argv)
    nan = np.full(129, np.nan, np.float32)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps((nan, nan)))
    assert "m.pkl: mean is not finite" in refused(*argv)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps((nan * 0, nan)))
    assert "not finite" in refused(*argv)
    assert not os.path.exists("t")
    assert "m.pkl exists; --overwrite" in refused(
        "moments", "t", "--data_dir", clips, "--data_moments_fp", "m.pkl"
    )


@pytest.mark.parametrize(
    "flag, value, recorded",
    [
        ("--specgan_dim", "3", "1"),
        ("--specgan_kernel_len", "4", "5"),
        ("--specgan_latent_dim", "9", "100"),
        ("--specgan_genr_upsample", "nn", "zeros"),
        ("--specgan_loss", "dcgan", "wgan-gp"),
        ("--data_sample_rate", "8000", "16000"),
    ],
)
def test_flags_that_contradict_the_folder(refused, trained, flag, value, recorded):
    line = refused("train", trained, flag, value)
    assert f"{flag} {value} contradicts {flag[2:]} {recorded} of" in line
    assert "args.txt" in line


def test_a_batchnorm_flag_that_contradicts_the_folder(refused, trained):
    line = refused("train", trained, "--specgan_batchnorm")
    assert "--specgan_batchnorm True contradicts specgan_batchnorm False" in line


def test_other_moments_contradict_the_folder(refused, trained, tmp_path):
    other = np.zeros(129, np.float32), np.ones(129, np.float32)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(other))
    line = refused("train", trained, "--data_moments_fp", tmp_path / "m.pkl")
    assert "m.pkl differs from" in line


def copy_of(trained, tmp_path):
    for name in os.listdir(trained):
        if os.path.isfile(trained / name):
            (tmp_path / name).write_bytes((trained / name).read_bytes())
    return tmp_path


def test_a_folder_within_a_training_is_its_own(run, trained, tmp_path, clips):
    folder = copy_of(trained, tmp_path)
    before = (folder / "moments.pkl").read_bytes()
    assert run("moments", folder / "sub", "--data_dir", clips)[0] == 0
    assert (folder / "sub" / "moments.pkl").exists()
    assert (folder / "moments.pkl").read_bytes() == before
    argv = ["train", folder / "sub", "--data_dir", clips, "--train_max_steps", 1]
    status, out, _ = run(*argv, "--specgan_dim", 2, "--train_batch_size", 1)
    assert status == 0 and "Saved step 1" in out and "As recorded" not in out


def test_a_checkpoint_instead_of_a_folder(run, refused, trained, tmp_path):
    prefix = trained / "model.ckpt-2"
    line = refused("train", prefix)
    assert f"model.ckpt-2 is a checkpoint; train takes its folder, {trained}" in line
    argv = ["--generate_n", 1, "--generate_dir", tmp_path / "made"]
    assert run("generate", prefix, *argv)[0] == 0
    assert (tmp_path / "made" / "0000.wav").exists()


@pytest.mark.parametrize("loss", ["wgan-gp", "lsgan"])
def test_to_tf1_and_on_from_a_bare_checkpoint(run, refused, clips, tmp_path, loss):
    """What the reference is handed, and what it hands us: tensors by name, alone."""
    folder, out = tmp_path / "t", tmp_path / "out"
    argv = ["train", folder, "--data_dir", clips, *TINY, "--specgan_loss", loss]
    argv += ["--specgan_genr_upsample", "nn", "--train_max_steps", 1]
    assert run(*argv)[0] == 0
    assert run("preview", folder, "--once", "--preview_n", 2)[0] == 0
    status, said, _ = run("to_tf1", folder, out)
    assert status == 0 and "model.ckpt-1. The original continues it with" in said
    assert f"--data_dir {clips} --specgan_dim 1" in said
    assert (f"--specgan_loss {loss}" in said) == (loss != "wgan-gp")
    assert "exists; choose a new folder" in refused("to_tf1", folder, out)
    names = {name for name, _ in tf.train.list_variables(str(out))}
    theirs = {name for name, _ in tf.train.list_variables(str(folder))}
    data = {f"data/{name}" for name in ("files", "seed", "slices", "lengths")}
    assert theirs - names == {"D_iterations", "seed_generator/state"} | data
    assert "global_step" in names and names < theirs
    for name in ("moments.pkl", "preview/z.pkl"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()

    # Nothing but tensors: what they do not say has to be given.
    line = refused("train", out, "--data_dir", clips)
    assert "does not tell its specgan_genr_upsample" in line
    argv = ["train", out, "--specgan_genr_upsample", "nn", "--train_batch_size", 2]
    assert "does not tell its data_dir" in refused(*argv)
    argv += ["--data_dir", clips, "--train_max_steps", 2]
    other = {"wgan-gp": "dcgan", "lsgan": "wgan"}[loss]
    line = refused(*argv, "--specgan_loss", other)
    assert f"contradicts specgan_loss {loss}" in line
    status, said, _ = run(*argv)
    assert status == 0 and "Resuming from" in said and "Saved step 2" in said
    assert "Not restored" not in said
    assert f"specgan_loss,{loss}\n" in (out / "args.txt").read_text()


def test_to_tf1_takes_a_checkpoint_with_optimizers_and_two_folders(
    refused, trained, tmp_path
):
    assert "takes TRAIN_DIR and OUT_DIR" in refused("to_tf1", trained)
    assert "generate takes TRAIN_DIR alone" in refused("generate", trained, tmp_path)
    folder = copy_of(trained, tmp_path)
    prefix = str(folder / "model.ckpt-2")
    values = tf.train.load_checkpoint(prefix)
    names = [n for n in values.get_variable_to_shape_map() if "Adam" not in n]
    tensors = [tf.constant(values.get_tensor(n)) for n in names]
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=tensors,
    )
    assert "holds no optimizers" in refused("to_tf1", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_data_keep_the_moments(run, trained, clips, tmp_path):
    folder = copy_of(trained, tmp_path)
    before = (folder / "moments.pkl").read_bytes()
    argv = ["train", folder, "--train_max_steps", 3]
    status, out, _ = run(*argv, "--data_dir", DRUMS, *SHORT)
    assert status == 0 and f"The data changed (before: {clips})" in out
    assert (folder / "moments.pkl").read_bytes() == before


def images(fp):
    png = tf.io.decode_png(fp.read_bytes()).numpy()
    return [(n - 4) // 132 for n in png.shape[:2]]


def test_ways_between_latents(run, trained, tmp_path):
    """Each from the latents that --seed draws; what was rendered lies beside it."""
    z = generate.sample_z(4, 100, seed=5).numpy()

    def made(*flags):
        argv = ["generate", trained, "--ngl", 0, "--seed", 5, "--overwrite"]
        status, out, err = run(*argv, "--generate_dir", tmp_path / "made", *flags)
        assert status == 0 and "Drawn with --seed 5" in out, err
        names = set(os.listdir(tmp_path / "made")) - {"sheet.png", "latents.npy"}
        latents = np.load(tmp_path / "made" / "latents.npy")
        assert f"Wrote {len(latents)} " in out and latents.dtype == np.float32
        kind = "flac" if "flac" in flags else "wav"
        assert names == {f"{i:04d}.{kind}" for i in range(len(latents))}
        return latents, images(tmp_path / "made" / "sheet.png")

    latents, sheet = made("--interpolate", 5)
    np.testing.assert_array_equal(latents, generate.interpolate(z[0], z[1], 5))
    assert sheet == [1, 5]
    latents, _ = made("--interpolate", 3, "--generate_n", 3)
    np.testing.assert_array_equal(latents, generate.path(z[:3], 3))
    latents, _ = made("--walk", 0.25, "--generate_n", 3)
    np.testing.assert_array_equal(latents, generate.walk(z[0], 3, 0.25, 5))
    latents, sheet = made("--grid", "3x2", "--generate_format", "flac")
    np.testing.assert_array_equal(latents, generate.grid(z, 3, 2))
    assert sheet == [3, 2]
    latents, _ = made("--generate_n", 2, "--truncation", 0.5)
    np.testing.assert_array_equal(latents, z[:2] / 2)
    argv = ["generate", trained, "--ngl", 0, "--overwrite", "--generate_n", 1]
    assert run(*argv, "--generate_dir", tmp_path / "made")[0] == 0
    assert sorted(os.listdir(tmp_path / "made")) == ["0000.wav", "sheet.png"]


def test_the_same_latents_again(run, refused, trained, tmp_path):
    """--z_fp keeps what a way begins with, so that the same command goes the same."""
    argv = ["generate", trained, "--ngl", 0, "--z_fp", tmp_path / "z.npy"]
    walk = ["--walk", 0.1, "--generate_n", 2, "--seed", 3]
    sounds = []
    for name in ("a", "b"):
        assert run(*argv, *walk, "--generate_dir", tmp_path / name)[0] == 0
        sounds.append((tmp_path / name / "0001.wav").read_bytes())
    assert sounds[0] == sounds[1] and len(np.load(tmp_path / "z.npy")) == 1
    made = ["--generate_dir", tmp_path / "c"]
    line = refused(*argv, *made, "--grid", "2x2")
    assert "z.npy holds 1 latents; 4 are needed" in line
    line = refused(*argv, *made, "--interpolate", 2)
    assert "z.npy holds 1 latents; 2 are needed" in line
    # latents.npy, of the sounds themselves, makes them once more
    z_fp = ["--z_fp", tmp_path / "a" / "latents.npy"]
    line = refused("generate", trained, *z_fp, "--generate_dir", tmp_path / "a")
    assert "a is not empty" in line
    again = ["generate", trained, "--ngl", 0, *z_fp, "--overwrite"]
    line = refused(*again, "--generate_dir", tmp_path / "a")
    assert "latents.npy is a file that generate may replace" in line
    assert run(*again, *made)[0] == 0
    assert (tmp_path / "c" / "0001.wav").read_bytes() == sounds[0]


def test_short_names_of_the_inversion_mean_the_same(run, trained, tmp_path):
    argv = ["generate", trained, "--generate_n", 1, "--seed", 1, "--generate_dir"]
    for name, prefix in (("a", "--"), ("b", "--specgan_")):
        given = [f"{prefix}ngl", 2, f"{prefix}gl_window", "dual"]
        given += [f"{prefix}gl_momentum", 0.5]
        assert run(*argv, tmp_path / name, *given)[0] == 0
    assert run(*argv, tmp_path / "c", "--ngl", 2)[0] == 0
    a, b, c = ((tmp_path / name / "0000.wav").read_bytes() for name in "abc")
    assert a == b != c
    argv = ["train", "T", "--ngl", "3", "--specgan_ngl", "3"]
    given = vars(flags.make_parser().parse_args(argv))
    assert given == {"mode": "train", "train_dir": "T", "specgan_ngl": 3}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """An untrained model in place of the bundled one, which has loud sounds;
    the working folder is empty."""
    (tmp_path / "box").mkdir()
    (tmp_path / "here").mkdir()
    fp = tmp_path / "box" / "generator.npz"
    keras.utils.set_random_seed(0)
    G = SpecGANGenerator(dim=1, latent_dim=3, upsample="nn")
    # Not flat: that is an impulse where a frame's window is zero, and of what is left
    # of it most is rounding.
    mean, std = np.linspace(3, -3, 129, dtype=np.float32), np.ones(129, np.float32)
    bundled.save(fp, G, Moments(mean, std), {"step": 7, "sample_rate": 8000})
    monkeypatch.setattr(bundled, "path_of", lambda name: str(fp))
    monkeypatch.chdir(tmp_path / "here")
    return fp


def test_the_bundled_model_generates(run, refused, stand_in):
    argv = ["--ngl", 2, "--generate_n", 1, "--seed", 0]
    status, out, _ = run("generate", *argv)
    assert (
        status == 0 and "Wrote 1 WAV files and sheet.png to generated (step 7)" in out
    )
    rate, sound = wavfile.read("generated/0000.wav")
    assert rate == 8000 and np.abs(sound).max() > 1000
    assert "generated is not empty; choose another" in refused("generate", *argv)
    assert run("generate", stand_in, *argv)[0] == 0
    beside = stand_in.parent / "generate" / "0000.wav"
    with open("generated/0000.wav", "rb") as f:
        assert beside.read_bytes() == f.read()

    assert run("infer")[0] == 0
    signature = tf.saved_model.load("infer").signatures["generate"]
    assert signature(z=tf.zeros([2, 3]))["G_z_norm"].shape == (2, 128, 128, 1)
    assert "infer exists; --overwrite replaces it" in refused("infer")
    assert sorted(os.listdir()) == ["generated", "infer"]

    line = refused("generate", "--specgan_dim", 64, "--overwrite")
    assert f"--specgan_dim 64 contradicts specgan_dim 1 of {stand_in}" in line
    for mode in ("train", "moments", "preview", "merge"):
        assert "required: train_dir" in refused(mode)
        assert f"is a model alone; {mode} takes a training" in refused(mode, stand_in)
    stand_in.write_bytes(b"PK")
    assert "is not a generator's .npz: it is damaged" in refused(
        "generate", "--overwrite"
    )


@pytest.mark.slow
def test_the_bundled_model_can_be_exported(run, refused, stand_in):
    argv = ["--formats", "tflite", "--tflite", "f32"]
    status, out, err = run(*argv, script=export_script)
    assert status == 0 and f"Exporting {stand_in}" in out, err
    about = tflite.metadata("exported/generator.f32.tflite")
    assert (about["step"], about["sample_rate"], about["upsample"]) == (7, 8000, "nn")
    assert "exists; choose another --out_dir" in refused(*argv, script=export_script)
    line = refused("--checkpoint", "model.ckpt-1", script=export_script)
    assert "--checkpoint names one in TRAIN_DIR: pass TRAIN_DIR too" in line


def test_near_silence_is_reported(run, trained, tmp_path):
    quiet = np.full(129, -30, np.float32), np.full(129, 0.1, np.float32)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(quiet))
    argv = ["--generate_n", 3, "--generate_dir", tmp_path / "made"]
    argv += ["--data_moments_fp", tmp_path / "m.pkl"]
    status, out, _ = run("generate", trained, *argv)
    assert status == 0 and "3 of 3 clips are nearly silent" in out


def test_given_moments_count(run, refused, trained, tmp_path):
    quiet = np.full(129, -9, np.float32), np.ones(129, np.float32)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(quiet))
    made = []
    for i, more in enumerate(([], ["--data_moments_fp", tmp_path / "m.pkl"])):
        argv = ["--generate_dir", tmp_path / str(i), "--generate_n", 1, "--seed", 1]
        assert run("generate", trained, *argv, *more)[0] == 0
        made.append((tmp_path / str(i) / "0000.wav").read_bytes())
    assert made[0] != made[1]
    argv = ["generate", trained, "--generate_dir", tmp_path / "2"]
    assert "no moments file at no.pkl" in refused(*argv, "--data_moments_fp", "no.pkl")


def test_a_training_resumes_without_the_moments_it_was_given(
    run, trained, clips, tmp_path
):
    (tmp_path / "m.pkl").write_bytes((trained / "moments.pkl").read_bytes())
    folder, fp = tmp_path / "t", tmp_path / "m.pkl"
    argv = ["train", folder, "--data_dir", clips, "--data_moments_fp", fp, *TINY]
    assert run(*argv, "--train_max_steps", 1)[0] == 0
    fp.unlink()
    assert run("train", folder, "--train_max_steps", 2)[0] == 0


def test_a_recorded_flag_can_be_turned_off(run, trained, clips, tmp_path):
    folder = copy_of(trained, tmp_path)
    for flag in ("--data_pad_end", "--no-data_pad_end"):
        step = tf.train.latest_checkpoint(str(folder)).rpartition("-")[2]
        assert run("train", folder, flag, "--train_max_steps", int(step) + 1)[0] == 0
        said = f"data_pad_end,{flag == '--data_pad_end'}"
        assert said in (folder / "args.txt").read_text().splitlines()


@pytest.mark.parametrize("loss", ["dcgan", "lsgan", "wgan"])
def test_other_networks_and_losses_all_the_way(run, clips, tmp_path, loss):
    upsample = {"dcgan": "cubic", "lsgan": "lin", "wgan": "nn"}[loss]
    argv = ["train", tmp_path, "--data_dir", clips, *TINY, "--train_max_steps", 1]
    argv += ["--specgan_loss", loss, "--specgan_genr_upsample", upsample]
    argv += [
        "--specgan_batchnorm",
        "--specgan_latent_dim",
        7,
        "--specgan_kernel_len",
        4,
    ]
    argv += ["--specgan_disc_nupdates", 2, "--data_overlap_ratio", 0.5]
    assert run(*argv)[0] == 0
    status, out, _ = run(*argv[:-4], "--train_max_steps", 2)
    assert status == 0 and "Resuming from" in out
    flags = ["--specgan_ngl", 0, "--specgan_gl_window", "dual"]
    assert run("preview", tmp_path, "--once", *flags)[0] == 0
    assert run("generate", tmp_path, "--specgan_gl_momentum", 0.9)[0] == 0
    assert run("infer", tmp_path, "--specgan_gl_window", "dual")[0] == 0
    argv = [tmp_path, "--formats", "saved_model"]
    status, _, err = run(*argv, script=export_script)
    assert status == 0, err


def test_a_preview_keeps_the_trainings_settings(run, trained, tmp_path):
    """The reference's preview rewrites args.txt."""
    folder = copy_of(trained, tmp_path)
    before = (folder / "args.txt").read_bytes()
    assert run("preview", folder, "--once", "--specgan_ngl", 0)[0] == 0
    assert (folder / "args.txt").read_bytes() == before


def test_nothing_is_overwritten_unasked(run, refused, trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    assert run("generate", folder, "--generate_n", 1)[0] == 0
    before = (folder / "generate" / "0000.wav").read_bytes()
    assert "generate is not empty" in refused("generate", folder)
    argv = ["--generate_dir", folder / "args.txt"]
    assert "args.txt is not a folder" in refused("generate", folder, *argv)
    assert (folder / "generate" / "0000.wav").read_bytes() == before
    (folder / "generate" / "mine.wav").write_text("mine")
    (folder / "generate" / "0007.wav").write_text("of an earlier, larger set")
    status, *_ = run("generate", folder, "--generate_n", 1, "--overwrite")
    assert status == 0 and (folder / "generate" / "0000.wav").read_bytes() != before
    names = {"0000.wav", "mine.wav", "sheet.png"}
    assert set(os.listdir(folder / "generate")) == names
    assert "moments.pkl exists; --overwrite" in refused("moments", folder)

    assert run("preview", folder, "--once")[0] == 0
    status, out, _ = run("preview", folder, "--once")
    assert status == 0 and "exists already; --overwrite" in out
    (folder / "infer").mkdir()
    (folder / "infer" / "infer.meta").write_text("the reference's")
    for _ in range(2):
        assert run("infer", folder)[0] == 0
    assert (folder / "infer" / "infer.meta").read_text() == "the reference's"
    assert tf.saved_model.contains_saved_model(str(folder / "infer"))

    (folder / "export").mkdir()
    (folder / "export" / "mine.txt").write_text("mine")
    argv = [folder, "--tflite", "f32"]
    assert run(*argv, script=export_script)[0] == 0
    want = (EXPORTED | {"mine.txt"}) - {f"generator.{w}.tflite" for w in ("f16", "dr8")}
    assert set(os.listdir(folder / "export")) == want
    assert "exists; choose another --out_dir" in refused(*argv, script=export_script)
    # int8 fails after the others were made: all that was there stays as it was.
    before = {p: p.stat().st_mtime_ns for p in (folder / "export").rglob("*")}
    said = refused(folder, "--overwrite", script=export_script)
    assert "generator.int8.tflite: generate (int8) differs from Keras" in said
    assert "it is hardly trained" in said and "Nothing was written" in said
    assert {p: p.stat().st_mtime_ns for p in (folder / "export").rglob("*")} == before
    assert run(*argv, "--overwrite", script=export_script)[0] == 0
    assert set(os.listdir(folder / "export")) == want


def test_damaged_settings_and_latents(refused, trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    (folder / "z.pkl").write_bytes(pickle.dumps(np.zeros((2, 7), np.float32)))
    line = refused("generate", folder, "--z_fp", folder / "z.pkl")
    assert "latents of 7 dimensions, the generator takes 100" in line
    for name, value in (
        ("specgan_ngl", "lots"),
        ("specgan_loss", "hinge"),
        ("specgan_gl_window", "square"),
        ("data_pad_end", "perhaps"),
    ):
        (folder / "args.txt").write_text(f"{name},{value}\n")
        assert f"args.txt: {name} cannot be '{value}'" in refused("generate", folder)


def test_kernels_that_crash_tensorflow(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    line = refused("train", tmp_path / "t", *TINY, "--specgan_kernel_len", 1)
    assert "set TF_ENABLE_ONEDNN_OPTS=0" in line and not (tmp_path / "t").exists()


def test_a_folder_that_cannot_be_written(refused, tmp_path, clips):
    (tmp_path / "file").write_text("")
    line = refused("train", tmp_path / "file" / "t", "--data_dir", clips, *TINY)
    assert f"{tmp_path / 'file'} is not a folder" in line


@pytest.mark.slow
def test_a_folder_of_hostile_files(run, tmp_path):
    """The bad are named, once each; the odd are heard; training goes on."""
    data = tmp_path / "data"
    data.mkdir()
    rs = np.random.RandomState(0)

    def write(name, shape=4000, fs=16000, subtype="PCM_16"):
        soundfile.write(data / name, rs.uniform(-0.5, 0.5, shape), fs, subtype)
        return (data / name).read_bytes()

    for i in range(200):
        write(f"{i:03d}.wav")
    write("eight_channels.wav", (4000, 8), 44100)
    write("24_bit.wav", subtype="PCM_24")
    write("mu_law.wav", subtype="ULAW")
    write("\u9f13 \u0531\u200f \n.wav")
    write("n" * 246 + ".wav")
    with soundfile.SoundFile(data / "an_hour.flac", "w", 8000, 1) as f:
        for _ in range(60):
            f.write(np.zeros(60 * 8000, np.float32))
    bad = {
        "truncated.wav": write("truncated.wav")[:2000],
        "truncated.flac": write("truncated.flac")[:2000],
        "empty.wav": b"",
        "header.wav": write("header.wav")[:44],
        "text.wav": b"Not a sound.\n" * 100,
        "zeros.mp3": bytes(5000),
        "noise.ogg": rs.bytes(5000),
        "no_rate.wav": write("no_rate.wav").replace(b"\x80\x3e\0\0", bytes(4)),
    }
    for name, content in bad.items():
        (data / name).write_bytes(content)
    for name, value in (("nan.wav", np.nan), ("inf.wav", -np.inf)):
        sound = np.append(np.zeros(999), value).astype(np.float32)
        wavfile.write(data / name, 16000, sound)
        bad[name] = None
    (data / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")
    (data / "folder.wav").mkdir()
    os.mkfifo(data / "fifo.wav")

    argv = ["train", tmp_path / "t", "--data_dir", data, *SHORT, *TINY]
    status, out, err = run(*argv, "--train_max_steps", 2, "--seed", 0)
    assert status == 0 and "Traceback" not in err
    for name in bad:
        assert out.count(f"Skipped {data / name}: ") == 1, name
    assert out.count("Skipped") == len(bad)
    assert "Broken links, left out (1): dangling.wav" in out
    assert "Not audio, left out (2): fifo.wav, folder.wav" in out
    assert f"Moments of {200 + 6} slices" in out


def test_data_that_goes_bad_while_training_costs_no_step(tmp_path, clips):
    """The error is one line, and what was learned until then is saved."""
    for fp in os.listdir(clips):
        (tmp_path / fp).write_bytes((clips / fp).read_bytes())
    argv = [sys.executable, "-u", "train_specgan.py", "train", str(tmp_path / "t")]
    argv += ["--data_dir", str(tmp_path), *TINY]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("step"):
                    break
            for fp in tmp_path.glob("*.wav"):
                fp.write_bytes(b"gone")
            _, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 2 and len(err.strip().splitlines()) == 1
    assert "audio files cannot be read" in err and "Skipped" not in err
    saved = tf.train.latest_checkpoint(str(tmp_path / "t"))
    assert int(saved.rpartition("-")[2]) >= 1


def test_flags_and_defaults_are_the_references():
    """[train_specgan.py:627-712], by name, default and choices."""
    defaults = {name: flag.default for name, flag in flags.FLAGS.items()}
    want = {
        "data_dir": None,
        "data_moments_fp": None,
        "data_sample_rate": 16000,
        "data_overlap_ratio": 0.0,
        "data_first_slice": False,
        "data_pad_end": False,
        "data_normalize": False,
        "data_fast_wav": False,
        "data_prefetch_gpu_num": 0,
        "specgan_latent_dim": 100,
        "specgan_kernel_len": 5,
        "specgan_dim": 64,
        "specgan_batchnorm": False,
        "specgan_disc_nupdates": 5,
        "specgan_loss": "wgan-gp",
        "specgan_genr_upsample": "zeros",
        "specgan_ngl": 16,
        "train_batch_size": 64,
        "train_save_secs": 300,
        "train_summary_secs": 120,
        "preview_n": 32,
        "incept_metagraph_fp": "./eval/inception/infer.meta",
        "incept_ckpt_fp": "./eval/inception/best_acc-103005",
        "incept_n": 5000,
        "incept_k": 10,
    }
    assert want.items() <= defaults.items()
    argv = ["train", "T", "--data_prefetch_gpu_num", "-1", "--data_normalize"]
    given = vars(flags.make_parser().parse_args(argv))
    assert given["data_prefetch_gpu_num"] == -1 and given["data_normalize"] is True


def test_embedded_drums_are_the_default_data():
    assert len(os.listdir(DRUMS)) == 77
