"""Trainings that begin with the weights of another: --train_from."""

import numpy as np
import pytest

import train_specgan
from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator, moments
from specgan_tf.errors import InputError
from specgan_tf.weights import bundled, checkpoint, folders
from specgan_tf.weights.tensors import Checkpoint

TINY = ["--specgan_dim", 1, "--train_batch_size", 2, "--specgan_disc_nupdates", 1]
pytestmark = pytest.mark.usefixtures("small_buffer")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clips):
    """A folder trained for two steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained") / "train"
    argv = ["train", folder, "--data_dir", clips, "--seed", 1, "--train_max_steps", 2]
    argv += ["--specgan_log_eps", 1e-3, *TINY]
    assert train_specgan.main([str(a) for a in argv]) == 0
    return folder


def weights(folder, step):
    ckpt = Checkpoint(str(folder / f"model.ckpt-{step}"))
    return {n: ckpt[n] for n in ckpt.shapes if n[:2] in ("G/", "D/")}


def test_from_a_training(run, tmp_path, trained, clips):
    new = tmp_path / "new"
    argv = ["train", new, "--train_from", trained, "--data_dir", clips]
    argv += ["--train_max_steps", 1, "--train_batch_size", 2, "--seed", 2]
    status, out, err = run(*argv)
    assert status == 0, err
    assert f"Beginning with the weights of {trained}" in out + err
    theirs, ours = weights(trained, 2), weights(new, 0)
    networks = [n for n in theirs if "/Adam" not in n]
    assert networks
    for name in networks:
        np.testing.assert_array_equal(ours[name], theirs[name])
        slots = [f"{name}/Adam", f"{name}/Adam_1"]
        assert not any(np.any(ours[slot]) for slot in slots)  # fresh optimizers
    assert Checkpoint(str(new / "model.ckpt-0")).step == 0
    recorded = folders.read_args(new)
    assert recorded["train_from"] == str(trained)
    assert (recorded["specgan_dim"], recorded["specgan_log_eps"]) == ("1", "0.001")
    own, source = (moments.load(f / "moments.pkl") for f in (new, trained))
    assert own.equals(source)

    # The same command goes on, and another beginning is refused.
    status, out, err = run(*argv[:-4], "--train_max_steps", 2)
    assert status == 0, err
    assert "Resuming from" in out + err and "Beginning with" not in out + err


def test_across_lengths_dense_layers_start_anew(run, tmp_path, trained, clips):
    argv = ["train", tmp_path, "--train_from", trained, "--data_dir", clips]
    argv += ["--data_slice_len", 32768, "--data_pad_end", "--train_batch_size", 2]
    status, out, err = run(*argv, "--train_max_steps", 1)
    assert status == 0, err
    anew = "G/z_project/dense/kernel, G/z_project/dense/bias, D/output/dense/kernel"
    assert f"but for {anew}, which start anew" in out + err
    theirs, ours = weights(trained, 2), weights(tmp_path, 0)
    same = [n for n in theirs if "/Adam" not in n and ours[n].shape == theirs[n].shape]
    assert len(same) == len([n for n in theirs if "/Adam" not in n]) - 3
    for name in same:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_from_a_bundled_model(run, tmp_path, clips):
    argv = ["train", tmp_path, "--train_from", "drums", "--data_dir", clips]
    argv += ["--train_batch_size", 1, "--specgan_disc_nupdates", 1, "--train_ema", 0.9]
    status, _, err = run(*argv, "--train_max_steps", 1)
    assert status == 0, err
    box = bundled.load("drums")
    ours = weights(tmp_path, 0)
    for v in box.G.variables:
        np.testing.assert_array_equal(ours[v.path], v)
    average = checkpoint.load_generator(str(tmp_path / "model.ckpt-0"))
    for v, w in zip(average.variables, box.G.variables, strict=True):
        np.testing.assert_array_equal(v, w)
    assert moments.load(tmp_path / "moments.pkl").equals(box.moments)
    recorded = folders.read_args(tmp_path)
    assert recorded["train_from"] == "drums"
    assert recorded["specgan_ngl"] == str(box.griffin_lim.ngl)


def test_what_cannot_be_begun_with_is_refused(refused, tmp_path, trained):
    new = tmp_path / "new"
    said = refused("train", new, "--train_from", trained, "--specgan_dim", 2)
    assert "--specgan_dim 2 contradicts specgan_dim 1" in said
    assert "another --train_from" in said
    said = refused("train", new, "--train_from", trained, "--specgan_log_eps", 1e-6)
    assert "--specgan_log_eps 1e-06 contradicts specgan_log_eps 0.001" in said
    said = refused("train", new, "--train_from", tmp_path / "nothing")
    assert str(tmp_path / "nothing") in said
    said = refused("train", trained, "--train_from", "drums")
    assert "holds a training already" in said
    assert not new.exists()
    gan = SpecGAN(SpecGANGenerator(dim=2), SpecGANDiscriminator(dim=2))
    gan.compile()
    with pytest.raises(InputError, match="a different kernel length, width or upsampl"):
        checkpoint.begin(gan, trained)


def test_what_a_failed_start_left_comes_second(run, refused, tmp_path, trained, clips):
    """args.txt and moments without a checkpoint are not of the training begun with."""
    (tmp_path / "args.txt").write_text("specgan_log_eps,1e-05\nspecgan_dim,3\n")
    argv = ["train", tmp_path, "--train_from", trained, "--data_dir", clips]
    argv += ["--train_batch_size", 2, "--train_max_steps", 1]
    own = tmp_path / "moments.pkl"
    moments.save(own, np.zeros(129), np.ones(129), 1e-3)
    said = refused(*argv)
    assert f"{own} already exists and differs from the moments of {trained}" in said
    own.unlink()
    status, _, err = run(*argv)
    assert status == 0, err
    recorded = folders.read_args(tmp_path)
    assert (recorded["specgan_dim"], recorded["specgan_log_eps"]) == ("1", "0.001")
    assert moments.load(own).equals(moments.load(trained / "moments.pkl"))
