"""Where things are, and measured errors for every test."""

import os
import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the scripts do
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.path.join(ROOT, "..", "shared")
REDUCED = os.path.join(ROOT, "tests", "goldens")
FULL = os.path.join(SHARED, "golden")
DRUMS = os.path.join(ROOT, "specgan_tf", "data", "drums")


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
