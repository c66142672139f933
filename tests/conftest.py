"""Goldens and measured errors for every test."""

import io
import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the scripts do
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.path.join(ROOT, "..", "shared")
REDUCED = os.path.join(ROOT, "tests", "goldens")
FULL = os.path.join(SHARED, "golden")
DRUMS = os.path.join(ROOT, "specgan_tf", "data", "drums")
STRIDE = 7  # of what tests/goldens/make.py thins

MEASURED = []


def shared(*path):
    """A path of the shared folder, or skip."""
    path = os.path.join(SHARED, *path)
    if not os.path.exists(path):
        pytest.skip("the shared data folder is not on this machine")
    return path


class Golden(dict):
    """The arrays of one golden file, reduced or full, by name."""

    def group(self, prefix):
        """Arrays under `prefix`, by the rest of their names."""
        return {k[len(prefix) :]: v for k, v in self.items() if k.startswith(prefix)}

    def error(self, key, got, relative=False, mean=False):
        """Largest (or mean) absolute difference of `got` from what is stored."""
        want = self[key].astype(np.float64)
        got = np.asarray(got, np.float64)
        if want.size != got.size:
            assert want.size == -(-got.size // STRIDE), (key, want.shape, got.shape)
            got = got.ravel()[::STRIDE]
        error = np.abs(got.reshape(want.shape) - want)
        error = error.mean() if mean else error.max()
        if relative:
            error /= max(np.abs(want).mean() if mean else np.abs(want).max(), 1e-12)
        return float(error)


@pytest.fixture(params=["reduced", "full"])
def golden(request):
    """Load a golden file by name: the repo's reduced copy; the full set if there."""
    folder = REDUCED if request.param == "reduced" else shared("golden")

    def load(name):
        arrays = Golden(np.load(os.path.join(folder, f"{name}.npz")))
        if name.startswith("train_"):  # the reference's own spectrogram: only kept here
            arrays["x"] = np.load(os.path.join(REDUCED, f"{name}.npz"))["x"]
        if "wav.flac" in arrays:
            import soundfile

            flac = io.BytesIO(arrays["wav.flac"].tobytes())
            wav = soundfile.read(flac, dtype="int16")[0]
            arrays["wav"] = wav.reshape(arrays["wav.shape"])
        return arrays

    return load


@pytest.fixture
def measured(request):
    """Assert an error is within its bound, and put both in the closing table."""

    def check(what, error, bound):
        MEASURED.append((request.node.nodeid, what, float(error), float(bound)))
        assert error <= bound, f"{what}: {error:.3g} > {bound:.3g}"

    return check


def pytest_terminal_summary(terminalreporter):
    if not MEASURED:
        return
    terminalreporter.section("measured errors: largest, bound")
    worst = {}
    for node, what, error, bound in MEASURED:
        key = (node.split("/")[-1].replace("[reduced", "[").replace("[full", "["), what)
        if key not in worst or error > worst[key][0]:
            worst[key] = error, bound
    for (node, what), (error, bound) in worst.items():
        terminalreporter.write_line(f"{error:9.2e} {bound:9.2e}  {what}  ({node})")


def assign(net, arrays):
    """Set every variable of a network by its TF 1 name."""
    for v in net.variables:
        v.assign(arrays[v.path])
