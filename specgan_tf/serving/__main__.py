"""A SpecGAN over HTTP, as TensorFlow Serving has it, for those without that.

    python -m specgan_tf.serving OUT/specgan --port 8501

OUT/specgan is a folder of numbered SavedModels, as export.py writes. Answered are
TensorFlow Serving's paths for status, metadata and predict, with its JSON, and two
more: .../wav, sounds as one WAV file, and /metrics. docs/SERVING.md says it all.
"""

import argparse
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import tempfile

try:
    import uvicorn

    from .app import Server
    from .versions import scan
except ImportError as e:
    if __name__ != "__main__":
        raise
    print(f"{e.name} is not installed: pip install '.[serve]'", file=sys.stderr)
    sys.exit(2)

log = logging.getLogger("specgan_tf")


def number(kind, least, most):
    def parse(text):
        with contextlib.suppress(ValueError):
            if least <= (value := kind(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(
            f"must be a number in [{least}, {most}]. Received: {text!r}"
        )

    return parse


def word(text):
    if not re.fullmatch(r"[\w.-]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"must be of letters, digits and ._-. Received: {text!r}"
        )
    return text


def make_parser():
    p = argparse.ArgumentParser(
        prog="python -m specgan_tf.serving",
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
    )
    p.add_argument("folder", help="of numbered SavedModels: OUT/specgan of export.py")

    def flag(name, default, help, kind=str, least=None, most=2**31 - 1):
        kind = kind if least is None else number(kind, least, most)
        help += f" (default: {default})"
        p.add_argument(f"--{name}", type=kind, default=default, help=help)

    flag("port", 8501, "0 for any that is free", int, 0, 65535)
    flag("host", "127.0.0.1", "0.0.0.0 to be reached from other machines")
    flag("model_name", "specgan", "in the paths", word)
    flag("poll", 1.0, "seconds between looks for new versions", float, 0.05)
    flag("threads", 0, "of TensorFlow's, 0 for one per core", int, 0)
    flag("batch_rows", 32, "rows that requests are joined to; 0: never", int, 0)
    flag("batch_delay", 0.0, "ms to wait for others to join", float, 0)
    flag("max_batch", 64, "rows of a request", int, 1)
    flag("max_ngl", 256, "Griffin-Lim steps", int, 0)
    flag("max_pad", 16384, "samples of flat_pad", int, 0)
    flag("max_body", 16 << 20, "bytes of a request", int, 1)
    flag("max_queue", 128, "requests that wait", int, 1)
    flag("timeout", 60.0, "seconds for a request", float, 0.01)
    return p


def listen(host, port):
    """A socket, or an OSError whose message says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
    except OSError as e:  # the system's word for it, without the address once more
        said = os.strerror(e.errno) if e.errno and e.errno > 0 else e.strerror
        raise OSError(f"cannot listen on {host}:{port}: {said}; try --port") from None
    # Inherited by connections. asyncio asks for it only of sockets that name their
    # protocol; without it an answer's body waits 40 ms for word of its headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@contextlib.contextmanager
def quiet():
    """Keep what is written to stderr, by C++ too, unless it ends in an exception."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def import_tensorflow(threads):
    """Fast kernels, no greetings, these threads, and GPU memory as it is needed."""
    # Off by default on CPUs without AVX-512, where they halve the time.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow as tf

        tf.config.list_physical_devices()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):  # others may want some of it
        tf.config.experimental.set_memory_growth(gpu, True)


def main(argv=None):
    args = make_parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stdout, force=True)
    log.setLevel(logging.INFO)
    try:
        folder = os.path.abspath(args.folder)
        if os.path.isfile(os.path.join(folder, "saved_model.pb")):
            raise OSError(
                f"{folder} is one version: give the folder above, "
                f"{os.path.dirname(folder)}"
            )
        if not scan(folder):
            raise OSError(f"no numbered SavedModels in {folder}: export.py writes them")
        with listen(args.host, args.port) as listener:
            return serve(args, listener)
    except KeyboardInterrupt:
        print("\nInterrupted", file=sys.stderr)
        return 130
    except OSError as e:
        print(f"{make_parser().prog}: error: {e}", file=sys.stderr)
        return 2


def serve(args, listener):
    """Answer on a listening socket until SIGTERM or Ctrl-C; the exit status."""
    import_tensorflow(args.threads)
    server = Server(args)
    uvicorn_server = uvicorn.Server(
        uvicorn.Config(
            server.app,
            http="h11",  # bounds the size of headers
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Closed after 5 s, a connection is often closed as its client asks again.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(args.timeout) + 1,
        )
    )

    def end():
        uvicorn_server.should_exit = True

    server.end = end
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    log.info("http://%s:%d/v1/models/%s", host, port, args.model_name)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends in good order, and then raises them once more.
        signal.signal(number, lambda *_: None)
    uvicorn_server.run(sockets=[listener])
    if server.failure is not None:
        raise OSError(f"nothing to serve in {args.folder}: {server.failure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
