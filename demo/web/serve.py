"""Serve the page to this machine alone: python demo/web/serve.py PORT"""

import contextlib
import functools
import http.server
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main(port):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=HERE)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
    except (OSError, OverflowError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        sys.exit(f"Port {port} cannot be used ({reason}); try: make web PORT=8001")
    print(f"Open http://127.0.0.1:{server.server_port}    (Ctrl-C ends)", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
