import os
import re
import shutil
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from specgan_tf import (
    SpecGAN,
    SpecGANDiscriminator,
    SpecGANGenerator,
    load_generator,
    moments,
)
from specgan_tf.errors import InputError
from specgan_tf.weights import checkpoint, folders, tensors
from specgan_tf.weights.tensors import Checkpoint

DATA = ".data-00000-of-00001"


def build(loss="wgan-gp", seed=0, dim=1, **options):
    G = SpecGANGenerator(dim=dim, latent_dim=options.pop("latent_dim", 5), **options)
    options.pop("upsample", None)
    gan = SpecGAN(G, SpecGANDiscriminator(dim=dim, **options), 2, seed=seed)
    gan.compile(loss)
    return gan


def trained(loss="wgan-gp", steps=2, **options):
    keras.utils.set_random_seed(0)
    gan = build(loss, **options)
    rs = np.random.RandomState(0)
    for _ in range(steps):
        gan.train_step(tf.constant(rs.uniform(-1, 1, [2, 2, 128, 128, 1]), tf.float32))
    return gan


def everything(gan):
    optimizers = gan.G_optimizer.variables + gan.D_optimizer.variables
    variables = gan.G.variables + gan.D.variables + optimizers
    return [np.array(v) for v in [*variables, gan.seed_generator.state]]


@pytest.mark.parametrize("loss", ["dcgan", "lsgan", "wgan", "wgan-gp"])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_restores_everything(tmp_path, loss, batchnorm):
    gan = trained(loss, use_batchnorm=batchnorm)
    prefix = checkpoint.save(gan, tmp_path)
    assert prefix == str(tmp_path / "model.ckpt-2") == folders.latest(tmp_path)
    assert checkpoint.step_of(prefix) == 2
    other = build(loss, seed=9, use_batchnorm=batchnorm)
    checkpoint.restore(other, prefix)
    for a, b in zip(everything(gan), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resumes_as_if_never_interrupted(tmp_path):
    """Same data: the same weights, bit for bit, latents and alphas included."""
    x = tf.random.uniform([2, 2, 128, 128, 1], -1, 1, seed=0)
    gan = trained()
    checkpoint.save(gan, tmp_path)
    other = build(seed=9)
    checkpoint.restore(other, folders.latest(tmp_path))
    for g in (gan, other):
        g.train_step(x)
    for a, b in zip(everything(gan), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_are_tf1s(tmp_path):
    """Slots, powers and step under the names tf.train.Saver used in TF 1.12."""
    for loss, slots in (
        ("wgan-gp", ("Adam", "Adam_1")),
        ("lsgan", ("RMSProp", "RMSProp_1")),
    ):
        gan = trained(loss)
        names = set(Checkpoint(checkpoint.save(gan, tmp_path)).shapes)
        paths = [v.path for v in gan.G.variables + gan.D.variables]
        want = {*paths, *(f"{p}/{s}" for p in paths for s in slots), "global_step"}
        if loss == "wgan-gp":
            want |= {f"beta{i}_power{s}" for i in (1, 2) for s in ("", "_1")}
        assert names - want == {"D_iterations", checkpoint.SEED_STATE}
        assert want <= names
    ckpt = Checkpoint(checkpoint.save(trained("wgan-gp"), tmp_path))
    # G after 2 updates, D after 4: beta ** (updates + 1)
    assert ckpt["beta1_power"] == pytest.approx(0.5**3)
    assert ckpt["beta2_power_1"] == pytest.approx(0.9**5)
    assert ckpt["global_step"].dtype == np.int64


@pytest.mark.parametrize("keep", [1, 5])
def test_keeps_the_newest(tmp_path, keep):
    gan = build()
    (tmp_path / "model.ckpt-60.note").write_text("mine")
    for step in range(66, 74):
        gan.G_optimizer.iterations.assign(step)
        checkpoint.save(gan, tmp_path, keep=keep)
    steps = sorted(f for f in os.listdir(tmp_path) if f.endswith(".index"))
    assert steps == [f"model.ckpt-{n}.index" for n in range(74 - keep, 74)]
    assert (tmp_path / "model.ckpt-60.note").exists()
    state = tf.train.get_checkpoint_state(tmp_path)
    assert len(state.all_model_checkpoint_paths) == keep
    assert tf.train.latest_checkpoint(tmp_path).endswith("model.ckpt-73")


def test_a_moved_folder_is_still_resumable(tmp_path):
    """Older savers wrote absolute paths."""
    gan = trained(steps=1)
    checkpoint.save(gan, tmp_path)
    state = tmp_path / "checkpoint"
    state.write_text(state.read_text().replace("model.ckpt", "/gone/train/model.ckpt"))
    assert folders.latest(tmp_path) == str(tmp_path / "model.ckpt-1")


@pytest.mark.parametrize(
    "content", [None, "", "model_check", 'model_checkpoint_path: "x"']
)
def test_a_missing_or_damaged_list_does_not_hide_the_checkpoints(tmp_path, content):
    """Or else a training would start anew in the folder of another."""
    gan = trained(steps=1)
    for step in (9, 10):
        gan.G_optimizer.iterations.assign(step)
        checkpoint.save(gan, tmp_path)
    os.remove(tmp_path / "checkpoint")
    if content is not None:
        (tmp_path / "checkpoint").write_text(content)
    assert folders.latest(tmp_path) == str(tmp_path / "model.ckpt-10")


def test_names_that_tensorflow_takes_for_patterns_are_refused(tmp_path):
    with pytest.raises(InputError, match="for patterns; rename the folder"):
        tensors.check_name(tmp_path / "t[1]")


def test_moments_given_come_before_the_folders_before_the_recorded(tmp_path):
    def save(path, value):
        moments.save(path, np.full(129, value), np.ones(129))
        return str(path)

    def found(*args):
        return folders.load_moments(*args)[0][0]

    folder = tmp_path / "t"
    given, recorded = save(tmp_path / "given", 1), save(tmp_path / "recorded", 2)
    folder.mkdir()
    prefix = checkpoint.save(trained(steps=1), str(folder))
    (folder / "args.txt").write_text(f"data_moments_fp,{recorded}\n")
    assert found(folder) == found(prefix) == 2
    save(folder / "moments.pkl", 3)
    assert found(folder) == found(prefix) == 3
    assert found(folder, given) == 1
    with pytest.raises(InputError, match="no moments file at nowhere"):
        found(folder, "nowhere")


def test_an_interrupted_save_leaves_the_last_one(tmp_path, monkeypatch):
    gan = trained(steps=1)
    checkpoint.save(gan, tmp_path)

    def full(**kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.raw_ops, "SaveV2", full)
    gan.G_optimizer.iterations.assign(2)
    with pytest.raises(OSError, match="could not write .*model.ckpt-2: No space left"):
        checkpoint.save(gan, tmp_path)
    assert folders.latest(tmp_path).endswith("model.ckpt-1")


@pytest.mark.parametrize("upsample", ["zeros", "cub"])
def test_load_generator(tmp_path, upsample):
    options = {"upsample": upsample, "kernel_len": 3, "use_batchnorm": True}
    gan = trained(dim=2, **options)
    prefix = checkpoint.save(gan, tmp_path)
    if upsample == "cub":
        with pytest.raises(InputError, match="pass --specgan_genr_upsample"):
            load_generator(tmp_path)
        assert load_generator(tmp_path, "cubic").upsample == "cub"
    (tmp_path / "args.txt").write_text(f"specgan_genr_upsample,{upsample}\n")
    z = tf.random.uniform([2, 5], -1, 1)
    for path in (tmp_path, prefix, prefix + ".index"):
        G = load_generator(path)
        assert G.get_config() == gan.G.get_config()
        np.testing.assert_array_equal(G(z), gan.G(z))


def test_what_is_missing_or_of_another_shape_is_named(tmp_path):
    prefix = checkpoint.save(trained(), tmp_path)
    before = build(dim=2)
    values = everything(before)
    with pytest.raises(
        InputError, match=r"G/z_project/dense/kernel has shape \(5, 256\)"
    ):
        checkpoint.restore(before, prefix)
    for a, b in zip(values, everything(before), strict=True):
        np.testing.assert_array_equal(a, b)  # nothing half restored
    with pytest.raises(InputError, match="lacks G/.*batch_normalization/gamma and"):
        checkpoint.restore(build(use_batchnorm=True), prefix)
    with pytest.raises(InputError, match=r"lacks G/z_project/dense/kernel/RMSProp and"):
        checkpoint.restore(build("lsgan"), prefix)


def test_no_checkpoint(tmp_path):
    assert folders.latest(tmp_path) is None
    with pytest.raises(InputError, match="no checkpoint in .* yet: train first"):
        load_generator(tmp_path)
    with pytest.raises(InputError, match="neither a training folder nor a checkpoint"):
        load_generator(tmp_path / "nowhere")


def flip(fp, at):
    """Change one byte."""
    with open(fp, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


def test_damage_is_reported(tmp_path):
    prefix = checkpoint.save(trained(steps=1), tmp_path)
    shutil.copy(prefix + ".index", tmp_path / "index")
    with open(prefix + ".index", "r+b") as f:
        f.truncate(100)
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        load_generator(tmp_path)
    shutil.copy(tmp_path / "index", prefix + ".index")
    flip(prefix + DATA, 5000)
    with pytest.raises(InputError, match="is damaged at.*no other in .* is intact"):
        load_generator(tmp_path)
    with open(prefix + DATA, "r+b") as f:
        f.truncate(100)
    for path in (tmp_path, prefix):  # before there is room made for all it claims
        with pytest.raises(InputError, match=r"tensors are of \d+ bytes, .* hold 100"):
            load_generator(path)


def test_an_index_that_asks_for_all_memory(tmp_path):
    prefix = checkpoint.save(trained(steps=1), tmp_path)
    with open(prefix + ".index", "r+b") as f:
        footer = f.seek(-48, os.SEEK_END)  # two handles (offset, size), then magic
        magic = f.read()[40:]
        f.seek(footer)
        huge = b"\xff" * 8 + b"\x7f"  # 2^63 - 1
        f.write((bytes(3) + huge).ljust(40, b"\0") + magic)
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        load_generator(tmp_path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    gan = trained(steps=1)
    for step in (1, 2, 3):
        gan.G_optimizer.iterations.assign(step)
        checkpoint.save(gan, tmp_path)
    at = os.path.getsize(tmp_path / f"model.ckpt-3{DATA}") // 2
    flip(tmp_path / f"model.ckpt-3{DATA}", at)
    os.remove(tmp_path / f"model.ckpt-2{DATA}")
    for _ in range(2):
        assert folders.latest(tmp_path) == str(tmp_path / "model.ckpt-1")
    third, second = (r.getMessage() for r in caplog.records)  # each said once
    assert re.match(f"{tmp_path}/model.ckpt-3 is damaged at [GD]/.*Checksum", third)
    assert re.match(f"{tmp_path}/model.ckpt-2 is damaged: .*, its files hold 0", second)


def test_a_list_that_is_lost_costs_no_checkpoint(tmp_path):
    """What it does not name is not ours to remove."""
    gan = trained(steps=1)
    for step in range(1, 12):
        gan.G_optimizer.iterations.assign(step)
        checkpoint.save(gan, tmp_path)
        if step == 4:
            os.remove(tmp_path / "checkpoint")
    kept = sorted(int(p.stem[11:]) for p in tmp_path.glob("*.index"))
    assert kept == [1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert folders.latest(tmp_path) == str(tmp_path / "model.ckpt-11")


def test_what_was_being_written_is_removed(tmp_path):
    good = checkpoint.save(trained(steps=1), tmp_path)
    shutil.copy(good + DATA, tmp_path / f"model.ckpt-2{DATA}.tempstate123")
    folders.remove_unfinished(tmp_path)
    assert not [p for p in os.listdir(tmp_path) if "tempstate" in p]
    assert folders.latest(tmp_path) == good


def test_weights_that_are_not_finite_are_not_restored(tmp_path):
    gan = trained(steps=1)
    prefix = checkpoint.save(gan, tmp_path)
    values = {v.path: v.numpy() for v in gan.G.variables}
    values["G/z_project/dense/bias"][7] = np.inf
    checkpoint._write(prefix, values)
    with pytest.raises(InputError, match="z_project/dense/bias is not finite, the"):
        load_generator(tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    gan = trained(steps=1)
    good = checkpoint.save(gan, tmp_path)
    gan.G_optimizer.iterations.assign(2)
    v = gan.D.trainable_variables[3]
    v.assign(np.full(v.shape, np.nan))
    with pytest.raises(FloatingPointError, match=f"{v.path} is not finite"):
        checkpoint.save(gan, tmp_path)
    assert folders.latest(tmp_path) == good


def test_a_backup_is_a_training_folder(tmp_path):
    gan = trained(steps=1)
    for name in ("args.txt", "moments.pkl"):
        (tmp_path / name).write_text(f"{name},1\n")
    for step in range(1, 8):
        gan.G_optimizer.iterations.assign(step)
        prefix = checkpoint.save(gan, tmp_path)
        if step in (1, 6):
            folders.back_up(tmp_path)
    backup = tmp_path / "backup"
    assert folders.latest(backup) == str(backup / "model.ckpt-6")
    steps = {p.stem for p in backup.glob("*.index")}
    assert steps == {"model.ckpt-1", "model.ckpt-6"}  # the first is no longer there
    assert not os.path.exists(tmp_path / "model.ckpt-1.index")
    for name in ("args.txt", "moments.pkl"):
        assert (backup / name).read_text() == f"{name},1\n"
    theirs, ours = (tf.train.load_checkpoint(p) for p in (prefix, str(backup)))
    for name in theirs.get_variable_to_shape_map().keys() - {"global_step"}:
        if "power" not in name:
            np.testing.assert_array_equal(
                theirs.get_tensor(name), ours.get_tensor(name)
            )


def test_a_full_disk_costs_no_checkpoint(tmp_path, small_disk):
    gan = trained(steps=1)
    good = checkpoint.save(gan, tmp_path)
    files = sorted(os.listdir(tmp_path))
    gan.G_optimizer.iterations.assign(2)
    small_disk(10_000)
    with pytest.raises(
        OSError, match=r"could not write .*model.ckpt-2: File too large"
    ):
        checkpoint.save(gan, tmp_path)
    assert sorted(os.listdir(tmp_path)) == files
    assert folders.latest(tmp_path) == good


def test_only_the_references_optimizers_have_a_checkpoint(tmp_path):
    gan = build()
    gan.compile(G_optimizer=keras.optimizers.SGD())
    with pytest.raises(TypeError, match=r"only tf1.Adam .* Received: SGD"):
        checkpoint.save(gan, tmp_path)


@pytest.mark.parametrize("loss", ["dcgan", "lsgan", "wgan", "wgan-gp"])
def test_a_checkpoint_tells_its_loss(tmp_path, loss):
    prefix = checkpoint.save(trained(loss, dim=4), tmp_path)
    assert Checkpoint(prefix).loss == loss


@pytest.mark.parametrize("loss, step", [("wgan-gp", 2000), ("dcgan", 2000)])
def test_a_late_checkpoint_tells_its_loss(tmp_path, loss, step):
    """0.9 ** 2000 is no float32."""
    gan = trained(loss, steps=1)
    gan.G_optimizer.iterations.assign(step)
    assert Checkpoint(checkpoint.save(gan, tmp_path)).loss == loss


def test_a_checkpoint_that_cannot_tell(tmp_path):
    gan = build("lsgan")  # clipped or not, before the first step
    assert Checkpoint(checkpoint.save(gan, tmp_path)).loss is None
    gan = trained("dcgan", steps=1)
    gan.G_optimizer.iterations.assign(200_000)
    assert Checkpoint(checkpoint.save(gan, tmp_path)).loss is None


def test_what_is_left_over_is_named(tmp_path, caplog):
    prefix = checkpoint.save(trained(steps=1), tmp_path)
    checkpoint.restore(build(), prefix)
    assert not caplog.records
    ckpt = Checkpoint(prefix)
    values = {n: ckpt[n] for n in ckpt.shapes} | {"E/extra": np.zeros(3)}
    checkpoint._write(prefix, values)
    checkpoint.restore(build(), prefix)
    assert "Not restored from" in caplog.text and "(1): E/extra" in caplog.text


def test_a_checkpoint_stays_open_until_it_changes_or_goes(tmp_path):
    gan = trained(steps=1)
    prefix = checkpoint.save(gan, tmp_path)
    first = Checkpoint.open(prefix)
    assert Checkpoint.open(tmp_path / "model.ckpt-1") is first
    assert Checkpoint.open(folders.latest(tmp_path)) is first
    gan.G.variables[0].assign_add(tf.ones_like(gan.G.variables[0]))
    checkpoint.save(gan, tmp_path)  # of the same step, over the first
    changed = Checkpoint.open(prefix)
    name = gan.G.variables[0].path
    np.testing.assert_array_equal(changed[name], gan.G.variables[0])
    gone = weakref.ref(changed)
    del changed
    assert gone() is not None
    folders.remove(prefix)
    assert gone() is None  # else its files would take room until this process ends
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        Checkpoint.open(prefix)
