"""The Python API, as somebody who knows Keras would try it."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from scipy.io import wavfile

from specgan_tf import (
    GriffinLim,
    SpecGAN,
    SpecGANDiscriminator,
    SpecGANGenerator,
    decode_audio,
    f_to_t,
    load_generator,
    load_griffin_lim,
    load_moments,
    losses,
    render,
    spectral,
    t_to_f,
    tf1,
)
from specgan_tf.errors import InputError
from specgan_tf.moments import Moments
from specgan_tf.weights import bundled, checkpoint


def make(cls=SpecGAN, disc_nupdates=1, **options):
    nets = SpecGANGenerator(dim=1, latent_dim=5), SpecGANDiscriminator(dim=1)
    gan = cls(*nets, disc_nupdates=disc_nupdates, seed=0)
    gan.compile(**{"loss": "lsgan", **options})
    return gan


def array(*shape, dtype=np.float32):
    return np.random.RandomState(0).uniform(-1, 1, [*shape, 128, 128, 1]).astype(dtype)


def dataset(*shape, dtype=np.float32):
    return tf.data.Dataset.from_tensor_slices(array(*shape, dtype=dtype))


def rates(gan):
    return [float(o.learning_rate.numpy()) for o in (gan.G_optimizer, gan.D_optimizer)]


@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {"metrics": ["mae"]}])
def test_keras_own_arguments_are_not_ignored(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"no {name}: .*G_optimizer and D_optimizer"):
        make(**options)


def test_optimizers_by_name_and_configuration():
    D_optimizer = {"class_name": "SGD", "config": {"learning_rate": 0.5}}
    gan = make(G_optimizer="adam", D_optimizer=D_optimizer)
    assert isinstance(gan.G_optimizer, keras.optimizers.Adam)
    assert isinstance(gan.D_optimizer, keras.optimizers.SGD)
    assert rates(gan) == [pytest.approx(1e-3), 0.5]
    with pytest.raises(ValueError, match="D_optimizer must be .* Received: 'adma'"):
        make(D_optimizer="adma")
    one = keras.optimizers.SGD()
    with pytest.raises(ValueError, match="must be two optimizers"):
        make(G_optimizer=one, D_optimizer=one)


@keras.saving.register_keras_serializable(package="test_python")
def hinge(D_x, D_G_z):
    return tf.reduce_mean(tf.nn.relu(1.0 - D_x) + tf.nn.relu(1.0 + D_G_z))


def test_a_loss_of_ones_own(tmp_path, refused):
    loss = losses.Loss(D=hinge, G=losses.wgan_G, name="hinge")
    gan = make(loss=loss)
    (x,) = dataset(1, 1, 2)
    z = gan.draw_z(2)
    want = hinge(gan.D(x[0]), gan.D(gan.G(z)))
    np.testing.assert_allclose(gan.D_loss(x[0], z, None)[0], want, rtol=1e-5)
    assert isinstance(gan.G_optimizer, tf1.Adam) and rates(gan)[0] == np.float32(1e-4)
    assert gan.fit(dataset(1, 1, 2), verbose=0).history.keys() >= {"D_loss", "G_loss"}

    # It is saved by name, and nothing takes it for one of the original's.
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert loaded.loss_name == "hinge" and loaded.loss_spec.D is hinge
    prefix = checkpoint.save(gan, tmp_path, moments=(np.zeros(129), np.ones(129)))
    assert checkpoint.Checkpoint(prefix).loss == "hinge"
    line = refused("train", tmp_path)
    assert "was trained in Python with a loss of its own, 'hinge': continue it" in line


class TwiceG(SpecGAN):
    def update_G(self, z):
        values = super().update_G(z)
        return {**values, "twice": 2.0 * values["G_loss"]}


def test_what_an_update_returns_is_a_metric():
    gan = make(TwiceG)
    history = gan.fit(dataset(3, 1, 2), epochs=2, verbose=0).history
    np.testing.assert_allclose(history["twice"], 2 * np.array(history["G_loss"]))
    assert "twice" in {metric.name for metric in gan.metrics}


@pytest.mark.slow
def test_what_an_update_returns_is_a_metric_on_two_devices():
    code = (
        "import tensorflow as tf\n"
        "cpu, = tf.config.list_physical_devices('CPU')\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(cpu, two)\n"
        "import sys; sys.path.insert(0, 'tests')\n"
        "from specgan_tf import distribute\n"
        "from test_python import TwiceG, dataset, make\n"
        "strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])\n"
        "with strategy.scope():\n"
        "    gan = make(TwiceG)\n"
        "data = distribute.feed(strategy, lambda i, n: dataset(1, 1, 4).repeat())\n"
        "history = gan.fit(data, steps_per_epoch=2, epochs=2, verbose=0).history\n"
        "for a, b in zip(history['twice'], history['G_loss'], strict=True):\n"
        "    assert abs(a - 2 * b) < 1e-5, (a, b)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_keras_callbacks_reach_both_learning_rates():
    """D's keeps its ratio to G's."""
    gan = make(G_optimizer=tf1.Adam(1e-3), D_optimizer=tf1.Adam(4e-3))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = gan.fit(dataset(1, 1, 2), epochs=2, verbose=0, callbacks=[halve]).history
    np.testing.assert_allclose(rates(gan), [2.5e-4, 1e-3], rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], [5e-4, 2.5e-4], rtol=1e-6)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "D_loss", mode="min", factor=0.1, patience=1, min_delta=1e9
    )
    gan.fit(dataset(1, 1, 2), epochs=2, verbose=0, callbacks=[plateau])
    np.testing.assert_allclose(rates(gan), [2.5e-5, 1e-4], rtol=1e-6)


def test_a_schedule_for_each_network():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.01])
    gan = make(G_optimizer=tf1.Adam(schedule))
    gan.fit(dataset(3, 1, 2), verbose=0)
    assert rates(gan) == [pytest.approx(0.01), np.float32(1e-4)]


def test_networks_in_the_wrong_order():
    G, D = SpecGANGenerator(dim=1), SpecGANDiscriminator(dim=1)
    with pytest.raises(ValueError, match=r"G must be a SpecGANGen.*SpecGAN\(G, D"):
        SpecGAN(D, G)
    with pytest.raises(ValueError, match="D must be a SpecGANDiscriminator"):
        SpecGAN(G, G)


@pytest.mark.parametrize("nupdates", [2.5, 0, True, "5"])
def test_impossible_disc_nupdates(nupdates):
    with pytest.raises(ValueError, match="disc_nupdates must be a positive integer"):
        make(disc_nupdates=nupdates)


@pytest.mark.parametrize(
    "data, said",
    [
        (lambda: dataset(1, 1, 2, dtype=np.float64), r"Received: float64 \(1, 2, 128"),
        (lambda: dataset(1, 3, 2), r"Received: float32 \(3, 2, 128, 128, 1\)"),
        (lambda: dataset(1, 2), r"Received: float32 \(2, 128, 128, 1\)"),
        (
            lambda: array(4, 5, 2),
            r"fit takes a tf.data.Data.* shape \(4, 5, 2, 128",
        ),
        (
            lambda: dataset(3, 2).batch(2),
            "Received: another number of batches; if",
        ),
        (
            lambda: tf.data.Dataset.zip(dataset(1, 1, 2), dataset(1, 1, 2)),
            r"must yield x or \(x,\). Received: 2 values",
        ),
    ],
)
def test_data_that_are_no_iterations(data, said):
    with pytest.raises(ValueError, match=said):
        make().fit(data(), verbose=0)


def test_batches_of_several_sizes_one_after_another():
    gan = make()
    for b in (2, 3):
        gan.fit(dataset(1, 1, b), verbose=0)
    gan.fit(dataset(1, 3).batch(1), verbose=0)  # of no known number of updates
    assert gan.global_step == 3


MOMENTS = np.zeros(129, np.float32), np.ones(129, np.float32)


def test_checkpoints_are_saved_and_restored_by_folder(tmp_path, run):
    gan = make()
    gan.fit(dataset(1, 1, 2), verbose=0)
    folder = tmp_path / "train"
    prefix = checkpoint.save(gan, folder, moments=MOMENTS)
    assert checkpoint.save(gan, folder, moments=MOMENTS) == prefix
    other = np.ones(129), np.ones(129)
    with pytest.raises(InputError, match="holds other moments; use another folder"):
        checkpoint.save(gan, folder, moments=other)
    for path in (folder, prefix):
        again = make()
        assert checkpoint.restore(again, path) == prefix
        for a, b in zip(again.weights, gan.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(load_moments(folder)[0], MOMENTS[0])
    assert load_generator(folder).latent_dim == 5
    status, _, err = run("generate", folder, "--generate_n", 1)
    assert status == 0 and (folder / "generate" / "0000.wav").exists(), err
    with pytest.raises(InputError, match="no checkpoint in .* yet"):
        checkpoint.restore(again, tmp_path)
    bare = SpecGAN(again.G, again.D)
    for call in (checkpoint.save, checkpoint.restore):
        with pytest.raises(InputError, match="compile the SpecGAN first"):
            call(bare, folder)


def test_a_keras_file_in_place_of_a_folder(tmp_path, refused):
    gan = make()
    gan.save(tmp_path / "gan.keras")
    line = refused("generate", tmp_path / "gan.keras")
    assert "gan.keras is a Keras model, which holds no moments" in line
    assert "checkpoint.save(gan, FOLDER, moments=moments)" in line


def test_keras_export(tmp_path):
    """Of the generator: the averaged one, where there is one."""
    gan = make(ema_momentum=0.5)
    gan.export(tmp_path / "saved", verbose=False)
    z = np.ones([3, 5], np.float32)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.serve(z), gan.G_ema(z), atol=1e-6)


@pytest.fixture
def odd_settings():
    config = keras.config
    before = config.dtype_policy(), config.floatx(), config.image_data_format()
    yield
    config.set_dtype_policy(before[0])
    config.set_floatx(before[1])
    config.set_image_data_format(before[2])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_networks_do_not_depend_on_keras_settings(odd_settings, policy):
    z = np.ones([2, 100], np.float32)
    G = load_generator()
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_array_equal(load_generator()(z), G(z))
    gan = make(ema_momentum=0.9)
    gan.fit(dataset(1, 1, 2), verbose=0)
    assert {v.dtype for v in gan.weights if "seed" not in v.path} == {"float32"}
    assert gan(np.ones([2, 5], np.float32)).dtype == tf.float32
    for floatx in ("float64", "float16"):
        keras.config.set_floatx(floatx)
        np.testing.assert_array_equal(load_generator()(z), G(z))
        with pytest.raises(ValueError, match=f"trains in float32.*floatx {floatx}"):
            make()
    assert keras.config.dtype_policy().name == policy
    assert keras.config.image_data_format() == "channels_first"


ODD = {
    "backend": "jax",
    "floatx": "float16",
    "dtype_policy": "mixed_float16",
    "image_data_format": "channels_first",
}


def python(*argv, **env):
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def test_scripts_set_keras_up_for_themselves(tmp_path, run):
    (tmp_path / "keras.json").write_text(json.dumps(ODD))
    argv = ["generate", "--generate_n", 1, "--seed", 1, "--generate_dir"]
    env = {"KERAS_HOME": str(tmp_path), "TF_USE_LEGACY_KERAS": "1"}
    env["KERAS_BACKEND"] = "torch"
    done = python("train_specgan.py", *argv, tmp_path / "odd", **env)
    assert done.returncode == 0, done.stderr
    assert run(*argv, tmp_path / "even")[0] == 0
    odd, even = (tmp_path / name / "0000.wav" for name in ("odd", "even"))
    assert odd.read_bytes() == even.read_bytes()


def test_another_backend_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(ODD))
    for env in ({"KERAS_BACKEND": "jax"}, {"KERAS_HOME": str(tmp_path)}):
        env = {"KERAS_BACKEND": "", **env}
        done = python("-c", "import specgan_tf", **env)
        last = done.stderr.splitlines()[-1]
        assert last == (
            "ImportError: specgan_tf runs on Keras' TensorFlow backend, and Keras is "
            "set to jax: set KERAS_BACKEND=tensorflow before Keras is imported"
        )


def test_readmes_snippet_makes_the_sounds_of_the_command_line(tmp_path, run):
    """README.md, "In Python": load_griffin_lim inverts as the model recorded."""
    with open(os.path.join(ROOT, "README.md")) as f:
        part = f.read().partition("## In Python")[2]
    (snippet, *_) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    names = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert run("generate", "--seed", 0, "--generate_dir", tmp_path)[0] == 0
    want = spectral.float_to_int16(spectral.turn_down(names["audio"])).numpy()
    for i in range(16):
        _, got = wavfile.read(tmp_path / f"{i:04d}.wav")
        # The same but for the order of sums: the command line draws chunks alike.
        np.testing.assert_allclose(got, want[i, :, 0], atol=1)


def test_griffin_lim_is_the_one_that_was_recorded(tmp_path, run, refused):
    assert load_griffin_lim("digits") == bundled.load("digits").griffin_lim
    assert load_griffin_lim("digits") != GriffinLim()
    assert load_griffin_lim(bundled.path_of("drums")) == load_griffin_lim()
    prefix = checkpoint.save(make(), tmp_path, moments=MOMENTS)
    assert load_griffin_lim(tmp_path) == GriffinLim()  # recorded by nobody
    args = tmp_path / "args.txt"
    args.write_text("specgan_gl_momentum,0.5\nspecgan_gl_window,dual\nspecgan_ngl,3\n")
    assert load_griffin_lim(tmp_path) == load_griffin_lim(prefix)
    assert load_griffin_lim(prefix) == GriffinLim(3, "dual", 0.5)
    for line in ("specgan_ngl,x", "specgan_gl_window,hamming", "specgan_ngl,-1"):
        args.write_text(line)
        name, _, value = line.partition(",")
        with pytest.raises(InputError, match=f"args.txt: {name} cannot be '{value}'"):
            load_griffin_lim(tmp_path)
    with pytest.raises(InputError, match="neither a training folder nor a checkpoint"):
        load_griffin_lim("drumz")


G = SpecGANGenerator(dim=1, latent_dim=5)
GIVEN = Moments(np.zeros(129, np.float32), np.ones(129, np.float32))
Z = np.zeros([2, 5], np.float32)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((G, GIVEN, np.zeros([2, 100])), r"z must have shape \[any, 5\].*\(2, 100\)"),
        ((G, GIVEN, Z[0]), r"z must have shape \[any, 5\]. Received: \(5,\)"),
        ((G, GIVEN, Z[:0]), "z must hold at least one latent"),
        ((G, tuple(GIVEN[:2]), Z), r"or Moments\(mean, std\): .* Received: a tuple"),
        ((GIVEN, G, Z), r"G must be a generator: render\(G, moments, z, griffin_lim\)"),
        ((G, Z, GIVEN), "moments must be a moments.Moments.* Received: a ndarray"),
        ((G, GIVEN, Z, 16), "griffin_lim must be a GriffinLim. Received: 16"),
        ((G, GIVEN, Z, GriffinLim(-1)), "ngl must be 0 or more. Received: -1"),
    ],
)
def test_arguments_that_render_cannot_use(arguments, said):
    with pytest.raises(ValueError, match=said):
        render(*arguments)


def test_render_takes_lists_and_other_floats():
    want = render(G, GIVEN, Z, GriffinLim(0))
    for z in (Z.tolist(), Z.astype(np.float64), tf.constant(Z)):
        got = render(G, GIVEN, z, GriffinLim(0))
        np.testing.assert_array_equal(got["G_z"], want["G_z"])


def test_shapes_that_cannot_be_converted():
    mean, std = GIVEN[:2]
    with pytest.raises(ValueError, match=r"x must have shape \[any, any, any\]"):
        t_to_f(np.zeros([2, 100], np.float32), mean, std)
    with pytest.raises(ValueError, match=r"X_norm must have shape .* \(2, 128, 128\)"):
        f_to_t(np.zeros([2, 128, 128], np.float32), mean, std)
    with pytest.raises(ValueError, match=r"X_std must have shape \[129\]"):
        t_to_f(np.zeros([2, 16384, 1], np.float32), mean, std[:-1])


def test_unreadable_audio_is_an_input_error_with_its_name(tmp_path):
    with pytest.raises(InputError, match="^no.wav: No such file or directory$"):
        decode_audio("no.wav")
    (tmp_path / "a.wav").write_text("hello, this is no sound")
    with pytest.raises(InputError, match=r"a\.wav: not an audio file .*text"):
        decode_audio(tmp_path / "a.wav")


def batches():
    yield array(1, 2)


@pytest.mark.parametrize("data", [batches(), [array(1, 2)]])
def test_a_generator_or_a_list_in_place_of_a_dataset(data):
    kind = type(data).__name__
    with pytest.raises(ValueError, match=f"fit takes a tf.data.*Received: a {kind}$"):
        make().fit(data, verbose=0)


@pytest.mark.slow
def test_the_documents_snippets_run_as_they_stand(tmp_path, clips, monkeypatch):
    """docs/PYTHON.md, from top to bottom, in one namespace; but for sizes."""
    with open(os.path.join(ROOT, "docs", "PYTHON.md")) as f:
        text = f.read()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) >= 6
    (tmp_path / "my_sounds").symlink_to(clips)
    monkeypatch.chdir(tmp_path)
    names = {}
    smaller = {
        "dim=16": "dim=1",
        "batch_size=16": "batch_size=2",
        "steps_per_epoch=100": "steps_per_epoch=1",
        "buffer_size=4096": "buffer_size=8",
    }
    for snippet in snippets:
        for was, now in smaller.items():
            snippet = snippet.replace(was, now)
        exec(compile(snippet, "docs/PYTHON.md", "exec"), names)
    commands = re.findall(r"^python (.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        argv = command.partition("#")[0].split()
        if argv[0] == "export.py":
            argv += ["--formats", "saved_model"]
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, argv[0]), *argv[1:]],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "my_training" / "generate" / "0000.wav").exists()
    assert (tmp_path / "my_training" / "export" / "specgan" / "1").is_dir()


def test_the_readmes_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open(os.path.join(ROOT, "README.md")) as f:
        snippets = re.findall(
            r"^```python\n(.*?)^```", f.read(), re.MULTILINE | re.DOTALL
        )
    names = {"iterations": tf.data.Dataset.from_tensors(tf.zeros([5, 2, 128, 128, 1]))}
    for snippet in (s for s in snippets if "127.0.0.1" not in s):
        snippet = snippet.replace("dim=16", "dim=1").replace("=1000", "=1")
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["audio"].shape == (16, 16384, 1) and names["z"].shape == (8, 100)
    checkpoint.restore(names["gan"], "./mine")
