"""Where things are, and measured errors for every test."""

import logging
import os
import signal
import sys

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the scripts do
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from scipy.io import wavfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.path.join(ROOT, "..", "shared")
REDUCED = os.path.join(ROOT, "tests", "goldens")  # what the cross-check replays
RECORDED = os.path.join(ROOT, "tests", "recorded")  # other results to hold ours against
FULL = os.path.join(SHARED, "golden")
DRUMS = os.path.join(ROOT, "specgan_tf", "data", "drums")
BUFFER = "specgan_tf.cli.train.BUFFER"  # 4096 slices take seconds to shuffle
# train_specgan.py in a process of its own, with a small one.
MAIN = """
import sys, train_specgan
from specgan_tf.cli import run as command
command.import_tensorflow()
from specgan_tf.cli import train
train.BUFFER = 64
sys.exit(train_specgan.main())
"""
# Before it, for a training that is to be killed: a step takes 50 ms or more, however
# fast the machine.
SLOWLY = """
import time, train_specgan
from specgan_tf.cli import run as command
command.import_tensorflow()
from specgan_tf.cli import callbacks
end = callbacks.Stop.on_train_batch_end
def end_slowly(*args, **kwargs):
    time.sleep(0.05)
    end(*args, **kwargs)
callbacks.Stop.on_train_batch_end = end_slowly
"""

sys.path.insert(0, ROOT)
import train_specgan


@pytest.fixture(scope="module")
def small_buffer():
    """What runs in a process of its own has the large one."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr(BUFFER, 64)
        yield


def shared(*path):
    """A path of the shared folder, or skip."""
    path = os.path.join(SHARED, *path)
    if not os.path.exists(path):
        pytest.skip("the shared data folder is not on this machine")
    return path


def installed(there, reason):
    """Skip where something from outside is not `there`; in CI that is a failure."""
    if not there and os.environ.get("CI"):
        pytest.fail(reason)
    if not there:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve seconds of sound in six files."""
    folder = tmp_path_factory.mktemp("clips")
    rs = np.random.RandomState(0)
    for i in range(6):
        sound = rs.randn(32000) * np.exp(-np.arange(32000) / 4000) * 3000
        wavfile.write(folder / f"{i}.wav", 16000, sound.astype(np.int16))
    return folder


@pytest.fixture(autouse=True)
def same_dice():
    """What a test draws without a seed of its own is the same in any order, anywhere:
    of a few random channels all may be dead. Fixtures of a module come before this."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def log_again():
    yield
    logging.getLogger().handlers.clear()


@pytest.fixture
def run(capfd):
    """Run a script in this process: (status, stdout, stderr)."""

    def call(*argv, script=train_specgan):
        try:
            status = script.main([str(a) for a in argv])
        except SystemExit as e:
            status = e.code
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def refused(run):
    """A user's mistake: status 2, one line on stderr; returns the line."""

    def call(*argv, **kwargs):
        status, _, err = run(*argv, **kwargs)
        lines = [line for line in err.splitlines() if line]
        assert status == 2 and len(lines) == 1, (status, err)
        assert "error: " in lines[0] and "Traceback" not in err
        return lines[0]

    return call


@pytest.fixture
def measured(request):
    """Note an error and its bound for the closing table, and assert it is within."""

    def check(what, error, bound):
        note(request, what, error, bound)
        assert error <= bound, f"{what}: {error:.3g} > {bound:.3g}"

    return check


def note(request, what, error, bound):
    request.node.user_properties.append(
        ("measured", (what, float(error), float(bound)))
    )


@pytest.fixture
def small_disk():
    """Call it with the bytes from which on files cannot grow, until the test ends."""
    yield from limit("RLIMIT_FSIZE", lambda: 0)


@pytest.fixture
def small_memory():
    """Call it with the bytes that may be allocated from now on in this test."""
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        pytest.skip("no such limit here")

    def now():
        with open(statm) as f:
            return int(f.read().split()[0]) * os.sysconf("SC_PAGESIZE")

    yield from limit("RLIMIT_AS", now)


def limit(name, used):
    resource = pytest.importorskip("resource", reason="no such limit here")
    which = getattr(resource, name)
    _, hard = was = resource.getrlimit(which)
    yield lambda n: resource.setrlimit(which, (used() + n, hard))
    resource.setrlimit(which, was)


def pytest_terminal_summary(terminalreporter):
    worst = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports(
        "failed"
    ):
        node = (
            report.nodeid.split("/")[-1].replace("[reduced", "[").replace("[full", "[")
        )
        for name, (what, error, bound) in getattr(report, "user_properties", []):
            if name == "measured" and error >= worst.get((node, what), (0, 0))[0]:
                worst[node, what] = error, bound
    if worst:
        terminalreporter.section("measured errors: largest, bound")
    for (node, what), (error, bound) in sorted(worst.items()):
        terminalreporter.write_line(f"{error:9.2e} {bound:9.2e}  {what}  ({node})")
