"""Serve a bundled model by its name, a generator's .npz, or what export.py wrote.

    specgan-serve drums
    python -m specgan_tf.serve drums --port 8501

A model is exported to a temporary folder first. `serving`, which does the rest, also
runs where this package is not.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from specgan_tf.serving import __main__ as serving

COMMAND = "specgan-serve"
MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "models")


def make_parser() -> serving.Parser:
    command = os.path.basename(sys.argv[0])
    prog = command if command == COMMAND else "python -m specgan_tf.serve"
    names = ", ".join(sorted(os.listdir(MODELS)))
    return serving.make_parser(
        prog, f"{names}, a model in an .npz, or {serving.FOLDER}"
    )


def is_model(path: str) -> bool:
    """Whether `path` is a generator, not an export."""
    from specgan_tf.serving.versions import scan

    named = path in os.listdir(MODELS) and not scan(path)  # an export comes first
    return named or (path.endswith(".npz") and os.path.isfile(path))


@contextlib.contextmanager
def opened(path: str) -> Iterator[str]:
    """The folder of numbered SavedModels that `path` names, or is exported to.

    Raises:
      OSError: what export.py refuses.
    """
    if not is_model(path):
        yield path
        return
    # Until the server handles it, SIGTERM would leave the folder and the export behind.
    # It is noted only: an exception while they begin could leave one that nobody knows.
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    with tempfile.TemporaryDirectory(prefix="specgan.") as folder:
        print(f"Exporting {path}", flush=True)
        export = [sys.executable, "-m", "specgan_tf.cli.export", path]
        # In a process of its own, or the server could not set up TensorFlow any more.
        with subprocess.Popen(
            [*export, "--formats", "saved_model", "--out_dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            stderr = None
            try:
                while stderr is None and not asked:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        _, stderr = process.communicate(timeout=0.1)
            finally:
                if stderr is None:
                    process.kill()
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        if asked:
            sys.exit(128 + asked[0])
        if process.returncode:
            said = (stderr.strip().splitlines() or ["it ended early"])[-1]
            said = said.partition("error: ")[2] or said
            raise OSError(f"{path} cannot be exported: {said}")
        yield os.path.join(folder, "specgan")


def main(argv: list[str] | None = None) -> int:
    return serving.main(argv, make_parser(), opened)


if __name__ == "__main__":
    sys.exit(main())
