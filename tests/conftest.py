"""Where things are, and measured errors for every test."""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the scripts do
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.path.join(ROOT, "..", "shared")
REDUCED = os.path.join(ROOT, "tests", "goldens")
FULL = os.path.join(SHARED, "golden")
DRUMS = os.path.join(ROOT, "specgan_tf", "data", "drums")

MEASURED = []


def shared(*path):
    """A path of the shared folder, or skip."""
    path = os.path.join(SHARED, *path)
    if not os.path.exists(path):
        pytest.skip("the shared data folder is not on this machine")
    return path


@pytest.fixture
def measured(request):
    """Assert an error is within its bound, and put both in the closing table."""

    def check(what, error, bound):
        MEASURED.append((request.node.nodeid, what, float(error), float(bound)))
        assert error <= bound, f"{what}: {error:.3g} > {bound:.3g}"

    return check


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
