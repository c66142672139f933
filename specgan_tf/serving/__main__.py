"""Serve exported models over HTTP, with TensorFlow Serving's paths and JSON.

    python -m specgan_tf.serving OUT/specgan --port 8501

OUT/specgan is a folder of numbered SavedModels, which export.py writes. The server
answers TensorFlow Serving's paths for status, metadata and predict, and three more:
.../wav (sounds as one WAV file), /readyz and /metrics. docs/SERVING.md describes them.
"""

import argparse
import contextlib
import functools
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NoReturn

log = logging.getLogger("specgan_tf")


def number(kind: type, least: float, most: float) -> Callable[[str], float]:
    """An argparse type: a number in [least, most]."""

    def parse(text):
        with contextlib.suppress(ValueError):
            if least <= (value := kind(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(
            f"must be a number in [{least}, {most}]. Received: {text!r}"
        )

    return parse


def word(text: str) -> str:
    """An argparse type: a name that can be part of a path."""
    if not re.fullmatch(r"[\w.-]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"may have letters, digits and ._-. Received: {text!r}"
        )
    return text


def origin(text: str) -> str:
    """An argparse type: an origin, or *."""
    if text != "*" and not re.fullmatch(r"null|[a-z][a-z0-9+.-]*://[^\s/?#]+", text):
        raise argparse.ArgumentTypeError(
            f"must be an origin such as http://localhost:3000, or *. Received: {text!r}"
        )
    return text


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help lists every flag)\n")


FOLDER = "numbered SavedModels: OUT/specgan of export.py"


def make_parser(
    prog: str = "python -m specgan_tf.serving", folder: str = FOLDER
) -> Parser:
    """folder: what is served, for --help."""
    p = Parser(prog=prog, description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("folder", help=folder)

    def flag(name, default, help, kind=str, least=None, most=2**31 - 1):
        kind = kind if least is None else number(kind, least, most)
        help += f" (default: {default})"
        p.add_argument(f"--{name}", type=kind, default=default, help=help)

    flag("port", 8501, "port; 0 for any free one", int, 0, 65535)
    flag("host", "127.0.0.1", "address; 0.0.0.0 lets other machines in")
    flag("model_name", "specgan", "the name in the paths", word)
    flag("poll", 1.0, "seconds between two looks for new versions", float, 0.05)
    flag("threads", 0, "TensorFlow's threads; 0 for one per core", int, 0)
    flag("batch_rows", 32, "rows to which requests are joined; 0: never", int, 0)
    flag("batch_delay", 0.0, "ms that a request waits for others to join", float, 0)
    flag("max_batch", 64, "most rows of a request", int, 1)
    flag("max_ngl", 256, "most Griffin-Lim steps", int, 0)
    flag("max_pad", 16384, "most samples of flat_pad", int, 0)
    flag("max_body", 16 << 20, "most bytes of a request", int, 1)
    flag("max_queue", 128, "most requests that wait", int, 1)
    flag("max_connections", 512, "most open connections", int, 1)
    flag("timeout", 60.0, "seconds for a request", float, 0.01)
    flag("head_timeout", 10.0, "seconds for a request's head to arrive", float, 0.01)
    flag("idle_timeout", 75.0, "seconds a connection may wait unused", float, 0.01)
    p.add_argument(
        "--cors",
        type=origin,
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin, such as http://localhost:3000, use the server; "
        "* for all; may be repeated (default: only the server's own pages)",
    )
    return p


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard output to stderr, C++'s too, unless the block raises an exception."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except Exception:
            output.seek(0)
            os.write(stderr, output.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def import_tensorflow(threads: int) -> None:
    """Import TensorFlow quietly, with fast kernels; take GPU memory only as needed."""
    # TensorFlow disables these kernels on CPUs without AVX-512, where they halve times.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow as tf

        tf.config.list_physical_devices()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):  # others may need some of it
        tf.config.experimental.set_memory_growth(gpu, True)


def main(
    argv: list[str] | None = None,
    parser: Parser | None = None,
    opened: Callable = contextlib.nullcontext,
) -> int:
    """Run the server. Returns the exit status.

    opened: context manager of the argument; it returns a folder of SavedModels.
    """
    parser = parser or make_parser()
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stdout, force=True)
    log.setLevel(logging.INFO)
    try:
        try:
            from .connections import listen, room_for
            from .versions import scan
        except ImportError as e:
            raise OSError(
                f"{e.name} is not installed: pip install '.[serve]'"
            ) from None
        with opened(args.folder) as args.folder:
            check_folder(args.folder, scan)
            args.max_connections = room_for(args.max_connections)
            with listen(args.host, args.port) as listener:
                return serve(args, listener)
    except KeyboardInterrupt:
        print("\nInterrupted", file=sys.stderr)
        return 130
    except OSError as e:
        print(f"{parser.prog}: error: {e}", file=sys.stderr)
        return 2


def check_folder(folder: str, scan: Callable) -> None:
    """Raise an OSError if the folder holds nothing that can be served."""
    path = os.path.abspath(folder)
    if not os.path.exists(path):
        raise OSError(f"{path} does not exist: pass the folder that export.py wrote")
    if not os.path.isdir(path):
        raise OSError(f"{path} is not a folder: pass the one that export.py wrote")
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise OSError(
            f"{path} is one version: pass the folder above, {os.path.dirname(path)}"
        )
    if not scan(path):
        raise OSError(f"{path} holds no numbered SavedModels: export.py writes them")


def serve(args: argparse.Namespace, listener: socket.socket) -> int:
    """Serve on a listening socket until SIGTERM or Ctrl-C. Returns the exit status."""
    import uvicorn

    from .app import Server
    from .connections import BACKLOG, Connection, Limits

    import_tensorflow(args.threads)
    server = Server(args)
    limits = Limits(
        args.max_connections, args.head_timeout, args.idle_timeout, args.timeout
    )
    uvicorn_server = uvicorn.Server(
        uvicorn.Config(
            server.app,
            http=functools.partial(Connection, limits=limits),
            ws="none",
            loop="asyncio",
            log_config=None,
            log_level="error",  # it warns about every client's mistakes
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            # With uvicorn's 5 s, connections often close just as the client asks again.
            timeout_keep_alive=args.idle_timeout,
            timeout_graceful_shutdown=int(args.timeout) + 1,
        )
    )
    state = uvicorn_server.server_state
    server.metrics.connections.set_function(lambda: len(state.connections))

    def end():
        uvicorn_server.should_exit = True

    server.end = end
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    log.info("http://%s:%d/v1/models/%s", host, port, args.model_name)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn handles them, shuts down in order, and then raises them again.
        signal.signal(number, lambda *_: None)
    uvicorn_server.run(sockets=[listener])
    if server.failure is not None:
        raise OSError(f"nothing to serve in {args.folder}: {server.failure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
