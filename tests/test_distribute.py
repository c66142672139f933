"""Several devices, and several processes, train as one does."""

import contextlib
import functools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import BUFFER, MAIN, ROOT, SLOWLY

sys.path.insert(0, ROOT)
import train_specgan
from specgan_tf import distribute
from specgan_tf.errors import InputError

TINY = ["--specgan_dim", "1", "--train_batch_size", "4", "--seed", "4"]
TINY += ["--train_ema", "0.9"]
DEVICES = """
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory, clips):
    """Call it with a loss and a step: what one process' training has by then."""

    def train(loss, step, *flags):
        folder = tmp_path_factory.mktemp("alone")
        one(folder, clips, "--specgan_loss", loss, "--train_max_steps", step, *flags)
        return tensors(folder)

    return functools.cache(train)


def one(folder, clips, *flags):
    """A training in this process, that ends well."""
    argv = ["train", folder, "--data_dir", clips, *TINY, *flags]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(BUFFER, 64)
        assert train_specgan.main([str(a) for a in argv]) == 0
    logging.getLogger().handlers.clear()


def two_devices(folder, clips, *flags):
    """A training on two devices of a process of its own, which has ended."""
    argv = [sys.executable, "-c", DEVICES + MAIN, "train", folder, "--data_dir", clips]
    argv += ["--train_distribute", "mirrored", *TINY, *flags]
    argv = [str(a) for a in argv]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600)


@contextlib.contextmanager
def workers(folder, clips, *flags, each=("wgan-gp",) * 2, code=MAIN):
    """Processes that train together, of `each` loss; killed when the block ends."""
    with contextlib.ExitStack() as stack:
        # Bound here, too, until all has ended: until TensorFlow is imported, and takes
        # its port, another program might. Nobody listens at these.
        sockets = [stack.enter_context(socket.socket()) for _ in each]
        for s in sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            s.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in sockets]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        argv = [sys.executable, "-u", "-c", code, "train", folder, "--data_dir", clips]
        argv += ["--train_distribute", "multiworker", *TINY, *flags]
        processes = []
        for i, loss in enumerate(each):
            task = {"type": "worker", "index": i}
            config = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
            config |= {"TF_GRPC_REUSE_PORT": "1"}
            processes.append(
                subprocess.Popen(
                    [*map(str, argv), "--specgan_loss", loss],
                    cwd=ROOT,
                    env={**os.environ, **config},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        try:
            yield processes
        finally:
            for p in processes:
                p.kill()
                p.communicate()


def ended(process):
    """(status, stdout, stderr) of a process that ends by itself."""
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait_for_a_step(process):
    for line in process.stdout:
        if line.startswith("step"):
            return
    raise AssertionError(process.stderr.read())


def tensors(train_dir):
    ckpt = tf.train.load_checkpoint(str(train_dir))
    return {n: ckpt.get_tensor(n) for n in ckpt.get_variable_to_shape_map()}


def compare(measured, what, got, want, relative=1e-4):  # measured 8e-6 after 3 steps
    """All that a checkpoint holds but the lengths: how far ahead decoding was."""
    assert got.keys() == want.keys()
    exact = {"global_step", "D_iterations", "seed_generator/state"}
    exact |= {n for n in want if n.startswith("data/")} - {"data/lengths"}
    for name in exact:
        np.testing.assert_array_equal(got[name], want[name], name)
    ends = "kernel", "bias", "ExponentialMovingAverage"
    weights = [n for n in want if n.endswith(ends)]
    errors = [np.abs(got[n] - want[n]).max() for n in weights]
    # Sums over a batch are taken in another order. Adam divides by a gradient's own
    # size, and may make of that up to a learning rate, 1e-4, at each step.
    measured(f"weights, {what}", max(errors), 1e-5)  # measured 3e-8 after 3 steps
    # Adam hides a wrong factor of all gradients; its slots, and what little biases have
    # moved, do not: sums instead of means make 0.1 to 0.8 here.
    tensors = [n for n in want if want[n].ndim and np.abs(want[n]).max() > 0]
    tensors = set(tensors) - exact - {"data/lengths"}
    errors = [np.abs(got[n] - want[n]).max() / np.abs(want[n]).max() for n in tensors]
    measured(f"any tensor, relative, {what}", max(errors), relative)


@pytest.mark.parametrize(
    "loss", ["wgan-gp", pytest.param("lsgan", marks=pytest.mark.slow)]
)
def test_two_workers_train_as_one_process(tmp_path, clips, alone, measured, loss):
    """The same draws, data and weights."""
    flags = ["--train_max_steps", 3]
    with workers(tmp_path, clips, *flags, each=[loss] * 2) as (chief, other):
        status, out, err = ended(chief)
        assert status == 0, err
        assert "step      3" in out and f"Saved step 3 in {tmp_path}" in out
        status, out, err = ended(other)
        assert status == 0 and not err, err
        waiting, last = out.splitlines()
        assert "for the other" in waiting and last.startswith(
            "The chief worker reports"
        )
    compare(measured, f"2 workers, {loss}", tensors(tmp_path), alone(loss, 3))


@pytest.mark.parametrize(
    "loss", ["wgan", pytest.param("lsgan", marks=pytest.mark.slow)]
)
def test_two_devices_train_as_one(tmp_path, clips, alone, measured, loss):
    flags = ["--specgan_loss", loss, "--train_max_steps", 3]
    done = two_devices(tmp_path, clips, *flags)
    assert done.returncode == 0, done.stderr
    compare(measured, f"2 devices, {loss}", tensors(tmp_path), alone(loss, 3))


@pytest.mark.slow
def test_two_devices_train_as_one_in_half_precision(tmp_path, clips, alone, measured):
    """Each device rounds its own half batch's gradients to bfloat16, so the two sides
    differ by what rounding does to this small network in five updates of D. A sum
    instead of a mean, or a device left out, would be a relative error of 1 or 0.5. On a
    CPU where bfloat16 is slow, both train in float32."""
    flags = ["--mixed_precision", "--specgan_loss", "wgan-gp", "--train_max_steps", 1]
    done = two_devices(tmp_path, clips, *flags)
    assert done.returncode == 0, done.stderr
    got, want = tensors(tmp_path), alone("wgan-gp", 1, "--mixed_precision")
    for slot in "Adam", "Adam_1":
        names = [n for n in want if n.startswith("D/") and n.endswith(f"/{slot}")]
        a, b = (np.concatenate([t[n].ravel() for n in names]) for t in (got, want))
        error = np.linalg.norm(a - b) / np.linalg.norm(b)
        measured(f"D's {slot}, 2 devices, half precision", error, 0.2)


@pytest.mark.slow
def test_a_killed_worker_ends_all_and_all_resume(tmp_path, clips, alone, measured):
    """Once the chief, once the other: one line, and on from the last checkpoint. In the
    end one process goes on, with the weights of one that was alone all the time."""
    flags = ["--train_save_secs", 1, "--train_max_steps"]
    # Slowly: with thousands of steps rounding would be more than `compare` allows.
    killed = functools.partial(workers, code=SLOWLY + MAIN)
    for dies in (1, 0):
        saved = len(list(tmp_path.glob("*.index")))
        with killed(tmp_path, clips, *flags, 10_000) as processes:
            wait_for_a_step(processes[0])
            while len(list(tmp_path.glob("*.index"))) <= max(1, saved):
                assert processes[0].poll() is None
                time.sleep(0.05)
            processes[dies].kill()
            status, out, err = ended(processes[1 - dies])
        assert status == 2 and "Saved step" not in out
        assert len(err.strip().splitlines()) == 1, err
        assert "error: another worker has ended or cannot be reached" in err
    step = int(tf.train.latest_checkpoint(str(tmp_path)).rpartition("-")[2])
    with workers(tmp_path, clips, *flags, step + 1) as (chief, _):
        status, out, err = ended(chief)
        assert status == 0, err
        assert f"Resuming from {tmp_path}/model.ckpt-{step}" in out
    one(tmp_path, clips, "--train_max_steps", step + 2)
    compare(measured, "killed twice", tensors(tmp_path), alone("wgan-gp", step + 2))


@pytest.mark.slow
@pytest.mark.parametrize("number, asked", [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_to_one_worker_ends_all_at_the_same_step(
    tmp_path, clips, number, asked
):
    with workers(tmp_path, clips) as processes:
        wait_for_a_step(processes[0])
        processes[asked].send_signal(number)
        (status, out, err), other = map(ended, processes)
    assert (status, other[0]) == (0, 0), (err, other[2])
    step = int(tf.train.latest_checkpoint(str(tmp_path)).rpartition("-")[2])
    assert step >= 1 and f"Saved step {step} in" in out


@pytest.mark.slow
def test_workers_that_are_not_told_the_same(tmp_path, clips):
    """Another loss in one of them: an error in both, and no training."""
    with workers(tmp_path / "t", clips, each=["wgan", "wgan-gp"]) as processes:
        for status, _, err in map(ended, processes):
            assert status == 2 and len(err.strip().splitlines()) == 1, err
            assert "the workers do not have the same flags, files or checkpoint" in err
    assert not os.path.exists(tmp_path / "t"), "what fails leaves no folder"


def test_replicas_draw_rows_of_one_draw():
    """Each its own; all of them together, what one process draws. Batch norm, which
    would not be that of one process, is refused."""
    code = DEVICES + (
        "import keras\n"
        "from specgan_tf import SpecGAN, SpecGANDiscriminator, SpecGANGenerator\n"
        "def make():\n"
        "    nets = SpecGANGenerator(dim=1), SpecGANDiscriminator(dim=1)\n"
        "    return SpecGAN(*nets, seed=3)\n"
        "strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])\n"
        "with strategy.scope():\n"
        "    two = make()\n"
        "one = make()\n"
        "for _ in range(2):\n"
        "    parts = strategy.run(tf.function(lambda: two.draw_z(3)))\n"
        "    parts = strategy.experimental_local_results(parts)\n"
        "    assert (tf.concat(parts, 0).numpy() == one.draw_z(6).numpy()).all()\n"
        "    assert (parts[0].numpy() != parts[1].numpy()).any()\n"
        "G = SpecGANGenerator(dim=1, use_batchnorm=True)\n"
        "with strategy.scope():\n"
        "    try:\n"
        "        SpecGAN(G, SpecGANDiscriminator(dim=1)).compile()\n"
        "    except ValueError as e:\n"
        "        assert 'must be trained by one replica' in str(e), e\n"
        "    else:\n"
        "        raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


CLUSTER = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    "config, said",
    [
        ("", "multiworker needs TF_CONFIG in the environment"),
        ("{", "TF_CONFIG must be like .* Received: '{'"),
        ("[]", "TF_CONFIG must be like"),
        ("{}", "TF_CONFIG must be like"),
        ({"cluster": CLUSTER}, "TF_CONFIG must be like"),
        ({"cluster": {"worker": "a:1"}}, "TF_CONFIG must be like"),
        (
            {"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}},
            "like",
        ),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": "x"}}, "like"),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": 2}},
            "task must be one of worker 0, worker 1. Received: worker 2",
        ),
        (
            {"cluster": CLUSTER, "task": {"type": "chief", "index": 0}},
            "task must be one of worker 0, worker 1. Received: chief 0",
        ),
        (
            {"cluster": {**CLUSTER, "ps": ["c:3"]}, "task": {"type": "ps", "index": 0}},
            "worker and chief tasks only. Received: worker, ps",
        ),
        (
            {"cluster": {"chief": ["a:1"] * 2}, "task": {"type": "chief", "index": 0}},
            "there must be one chief, or none",
        ),
    ],
)
def test_mistakes_in_TF_CONFIG_are_one_line(monkeypatch, capfd, tmp_path, config, said):
    text = config if isinstance(config, str) else json.dumps(config)
    with pytest.raises(InputError, match=said):
        distribute.check_config(text)
    monkeypatch.setenv("TF_CONFIG", text)
    argv = ["train", str(tmp_path / "t"), "--train_distribute", "multiworker"]
    assert train_specgan.main(argv) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "error: " in line and not os.listdir(tmp_path)


def test_a_chief_is_the_first():
    config = {"cluster": {"chief": ["a:1"], "worker": ["b:2"]}}
    config["task"] = {"type": "worker", "index": 0}
    assert distribute.check_config(json.dumps(config)) == "b:2"


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="must be one of .* Received: 'horovod'"):
        distribute.create("horovod")


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--train_batch_size", "3"], "must be a multiple of the 2 replicas"),
        (["--specgan_batchnorm"], "--specgan_batchnorm needs the statistics of whole"),
    ],
)
def test_what_replicas_do_not_share_is_refused(tmp_path, clips, flags, said):
    done = two_devices(tmp_path / "t", clips, *flags)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and "error: " in lines[-1] and said in lines[-1]
    assert "Traceback" not in done.stderr and not (tmp_path / "t").exists()
