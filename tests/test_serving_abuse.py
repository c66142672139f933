"""Careless and hostile clients cost the server little, and other clients nothing.

Each test is a small version of what once took gigabytes, or minutes, or for good.
"""

import contextlib
import functools
import gzip
import http.client
import json
import os
import shutil
import socket
import threading
import time
from concurrent import futures

import numpy as np
import pytest
import server_process
from server_process import (
    LATENTS,
    MODEL,
    PREDICT,
    columns,
    running,
    steps_per_second,
    wait_for,
    work,
)

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")

MIB = 2**20
HEAD_TIMEOUT = 5
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specgan")
    server_process.save(str(folder / "1"), seed=0)
    return str(folder)


@pytest.fixture(scope="module")
def server(folder):
    flags = f"--max_ngl 1000000 --max_body 5000000 --head_timeout {HEAD_TIMEOUT}"
    with running(folder, *flags.split()) as server:
        yield server
        assert "Traceback" not in server.log()
        assert server.end() == 0


@pytest.fixture(scope="module")
def poor(folder, tmp_path_factory):
    """A server with little time and few descriptors, and pages of others. It runs from
    a copy of its folder, where the rest of the package is not."""
    resource = pytest.importorskip("resource", reason="no such limit here")
    there = tmp_path_factory.mktemp("alone")
    source = os.path.join(server_process.ROOT, "specgan_tf", "serving")
    compiled = shutil.ignore_patterns("__pycache__")  # another worker writes there
    shutil.copytree(source, there / "server", ignore=compiled)
    options = {
        "command": ("-m", "server"),
        "cwd": there,
        "env": {**os.environ, "PYTHONPATH": ""},
        "preexec_fn": functools.partial(
            resource.setrlimit, resource.RLIMIT_NOFILE, (256, 256)
        ),
    }
    flags = "--timeout 10 --cors http://localhost:3000 --cors http://localhost:4000"
    with running(folder, *flags.split(), **options) as server:
        assert "Only 64 connections at once" in server.log()
        yield server
        assert "Traceback" not in server.log() and len(server.log()) < 10_000
        assert server.end() == 0


@contextlib.contextmanager
def client(server, sent=b""):
    """A connection on which something has been sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        yield connection


def is_closed(connection):
    """By the server, be it in the middle of something."""
    connection.setblocking(False)
    try:
        return not connection.recv(MIB)
    except BlockingIOError:
        return False
    except OSError:
        return True


def request(method, path, body=b"", *headers, version="1.1"):
    """The bytes of one."""
    lines = [f"{method} {path} HTTP/{version}", "Host: 127.0.0.1", *headers]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def answer(connection):
    """(status, headers, body) of the next answer on a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.headers, response.read()


# Memory


def refused_body(n):
    """Three bytes of JSON for 72 of Python's, which is refused for what is in it."""
    rows = ",".join(["{}"] * n)
    return f'{{"instances":[{rows}],"signature_name":"generate"}}'


def rss(server):
    return server.metric("process_resident_memory_bytes") / MIB


def settles_below(server, bound):
    """Memory is given back in pieces, some of it when others run."""
    wait_for(lambda: rss(server) < bound, seconds=60)


def test_memory_of_refused_bodies_is_given_back(server):
    """Python 3.11's `wait_for` left 58 MB of each."""
    body = refused_body(800_000)
    for _ in range(3):
        assert "instances[0] must be" in server.predict(body)
    before = rss(server)
    for _ in range(20):
        assert "instances[0] must be" in server.predict(body)
    settles_below(server, before + 300)


def test_memory_of_clients_that_went_away_is_given_back(server):
    """In the middle of their bodies, and while these wait to be computed."""
    body = json.dumps(columns(z=LATENTS[:1], ngl=1)).encode() + b" " * 4_000_000
    head = request("POST", PREDICT, b"").replace(b": 0", b": %d" % len(body))

    def come_and_go(sent):
        for _ in range(40):
            with client(server, head + body[:sent]):
                pass
        wait_for(lambda: server.metric("specgan_connections") == 1)

    come_and_go(3_500_000)
    come_and_go(len(body))
    before = rss(server)
    come_and_go(3_500_000)
    come_and_go(len(body))
    settles_below(server, before + 150)


def test_large_bodies_are_read_one_at_a_time(server, measured):
    """Eight at once take little more than one."""
    status = f"/proc/{server.process.pid}/status"
    if not os.path.exists(status):
        pytest.skip("peaks of memory are read from /proc")

    def peak_of(n):
        """MiB, above what there is now."""
        with open(f"/proc/{server.process.pid}/clear_refs", "w") as f:
            f.write("5")  # the peak is now
        before = rss(server)
        with futures.ThreadPoolExecutor(n) as pool:
            for refused in pool.map(lambda _: send(), range(n)):
                assert "instances[0] must be" in refused
        with open(status) as f:
            (line,) = [line for line in f if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024 - before

    def send():
        with contextlib.closing(server.connect()) as connection:
            return server.predict(body, connection=connection)

    body = refused_body(1_500_000)
    peak_of(1)
    one, eight = peak_of(1), peak_of(8)
    bodies = 8 * 2 * len(body) / MIB
    measured("MiB for eight bodies at once", eight, 2 * max(one, 110) + bodies)


# Time


def test_no_work_is_done_for_clients_that_have_gone(server):
    """They ask for 160 rows while another request is computed, and leave."""
    steps = steps_per_second(server)
    with contextlib.ExitStack() as stack:
        begun = server.metric("specgan_batch_rows_count")
        body = json.dumps(work(5 * steps)).encode()
        stack.enter_context(client(server, request("POST", PREDICT, body)))
        wait_for(lambda: server.metric("specgan_batch_rows_count") > begun)
        before = server.metric("specgan_batch_rows_sum")
        path = f"{MODEL}/wav?n=4&ngl={int(steps)}"
        for _ in range(40):
            with client(server, request("GET", path)):
                pass
        status, _ = server.ask("GET", f"{MODEL}/wav?n=1&ngl=0")
        assert status == 200
        assert server.metric("specgan_batch_rows_sum") - before < 80
        assert server.metric("specgan_queue_length") == 0
    gone = 'specgan_requests_total{signature="wav",status="499"}'
    wait_for(lambda: server.metric(gone) >= 20)


def test_a_client_that_does_not_read_its_answer_is_closed(poor):
    name = 'specgan_requests_total{signature="serving_default",status="200"}'
    body = json.dumps(columns(z=np.zeros((64, 100)), ngl=0)).encode()
    before = poor.metric(name)
    with client(poor, request("POST", PREDICT, body)):  # the answer is of 30 MB
        wait_for(lambda: poor.metric(name) == before + 1)
        wait_for(lambda: poor.metric("specgan_connections") == 1)


def test_a_body_must_arrive_in_time(poor):
    sent = request("POST", PREDICT).replace(b": 0", b": 9")
    with client(poor, sent) as connection:
        status, _, said = answer(connection)
        says = "the request did not arrive within 10 s (--timeout)"
        assert (status, json.loads(said)) == (408, {"error": says})


# Connections


def test_a_request_must_begin_and_its_head_must_end(server):
    """The time counts from the first byte of it, on a connection of any age."""
    status = request("GET", MODEL)
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(client(server))
        half = stack.enter_context(client(server, status[:20]))
        again = stack.enter_context(client(server, status))
        used = stack.enter_context(client(server, status))
        for connection in (again, used):
            assert answer(connection)[0] == 200
        again.sendall(status[:20])
        dribble = stack.enter_context(client(server, status[:-2]))
        closed = []

        def send_on():
            try:
                for _ in range(600):
                    dribble.sendall(b"x: y\r\n"[:1])
                    time.sleep(0.1)
            except OSError:
                closed.append(True)

        thread = threading.Thread(target=send_on)
        thread.start()
        for connection in (silent, half, again):
            wait_for(lambda c=connection: is_closed(c), seconds=60)
        thread.join()
        assert closed == [True]
        used.sendall(status)  # this one may wait for longer
        assert answer(used)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v1/mod", request("POST", PREDICT).replace(b": 0", b": 9")],
    ids=["silent", "half a head", "no body"],
)
def test_idle_connections_do_not_block_others(poor, sent):
    """More of them than there are descriptors."""
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(60)
            connection.connect(("127.0.0.1", poor.port))
            connection.sendall(sent)
        late = stack.enter_context(contextlib.closing(poor.connect()))
        status, _ = poor.ask("GET", f"{MODEL}/wav?ngl=0", connection=late)
        assert status == 200
        poor.connection.close()  # it has been, for those that came later
        assert poor.metric("specgan_connections") <= 65
    wait_for(lambda: poor.metric("specgan_connections") == 1)


def test_garbage_is_neither_logged_nor_an_error(server):
    before = len(server.log())
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    for sent in (b"\x16\x03\x01" * 99, b"GET\r\n\r\n", b"A" * 99_999, upgrade):
        with client(server, sent) as connection:
            assert answer(connection)[0] in (400, 404)
    # Garbage for a chunk, when the refusal has been sent.
    head = request("POST", "/", b"").replace(b"Content-Length: 0", b"%s")
    chunked = head % b"Transfer-Encoding: chunked"
    with client(server, chunked) as connection:
        assert answer(connection)[0] == 404
        connection.sendall(b"no number\r\n" * 9)
        wait_for(lambda: is_closed(connection))
    assert server.log()[before:] == ""


@pytest.mark.parametrize("length", ["Content-Length: 999999999999", "chunked"])
def test_an_endless_body_is_refused_and_closed(server, length):
    if length == "chunked":
        length, begin = "Transfer-Encoding: chunked", b"%x\r\n" % 10**12
    else:
        begin = b""
    head = request("POST", PREDICT).replace(b"Content-Length: 0", length.encode())
    chunk, sent = b" " * MIB, 0
    with client(server, head + begin) as connection:
        with pytest.raises(OSError):
            while sent < 1000 * MIB:
                connection.sendall(chunk)
                sent += MIB
        assert sent < 500 * MIB  # 64 and what the system holds
    # Slowly: closed after a while, and the refusal can be read.
    with client(server, head + begin + b" " * 5_000_001) as connection:
        assert answer(connection)[0] == 413
        with pytest.raises(OSError):
            for _ in range(600):
                connection.sendall(b" ")
                time.sleep(0.1)


def test_a_refused_body_that_ends_leaves_the_connection_usable(server):
    with client(server, request("POST", PREDICT, b" " * 5_000_001)) as connection:
        status, _, said = answer(connection)
        assert (status, json.loads(said)["error"]) == (
            413,
            "the body has more than 5000000 bytes (--max_body)",
        )
        connection.sendall(request("GET", MODEL))
        assert answer(connection)[0] == 200


def test_http_1_0_may_keep_its_connection(server):
    keep = functools.partial(request, "GET", MODEL, b"", version="1.0")
    with client(server) as connection:
        for _ in range(3):
            connection.sendall(keep("Connection: Keep-Alive"))
            status, headers, _ = answer(connection)
            assert (status, headers["connection"]) == (200, "keep-alive")
        connection.sendall(keep())
        status, headers, _ = answer(connection)
        assert (status, headers["connection"]) == (200, "close")
        wait_for(lambda: is_closed(connection))


# Bodies


def test_packed_bodies_are_unpacked_within_bounds(server):
    body = columns(outputs=["G_z_int16"], z=LATENTS[:1], ngl=1)
    plain = json.dumps(body).encode()

    def ask(body, encoding="gzip"):
        status, content = server.ask(
            "POST", PREDICT, body, headers={"Content-Encoding": encoding}
        )
        return status, content.get("error", content)

    wanted = server.predict(body)
    for packed in (
        gzip.compress(plain),
        gzip.compress(plain[:99]) + gzip.compress(plain[99:]),
    ):
        assert ask(packed) == ask(packed, "x-gzip") == (200, {"outputs": wanted})
    longer = 413, "the body has more than 5000000 bytes (--max_body)"
    assert ask(gzip.compress(plain + b" " * 5_000_000)) == longer
    before = rss(server)
    assert ask(gzip.compress(bytes(3 * 10**8), 1)) == longer
    settles_below(server, before + 200)
    for broken in (plain, gzip.compress(plain)[:-20], b"\x1f\x8b" + b"x" * 99):
        status, said = ask(broken)
        assert (status, said[:20]) == (400, "the body is not gzip")
    for encoding in ("br", "deflate", "gzip, gzip"):
        says = "Content-Encoding must be gzip or absent. Received: "
        assert ask(plain, encoding) == (415, f"{says}{encoding!r}")


def test_bodies_are_json_by_their_type(server):
    """What curl -d and urllib say by default is taken too; not what any page can send
    that needs no leave."""
    body = json.dumps(columns("generate", z=LATENTS[:1])).encode()

    def status(kind):
        headers = {"Content-Type": kind} if kind is not None else {}
        return server.ask("POST", PREDICT, body, headers=headers)

    for kind in (
        None,
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ):
        assert status(kind)[0] == 200
    for kind in ("text/plain", "Text/Plain;charset=UTF-8", "multipart/form-data; b=c"):
        refused, content = status(kind)
        assert refused == 415
        assert content["error"].startswith("a body must be JSON, with Content-Type")


# Pages

EVIL = {"Origin": "http://evil.example"}
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}
LINKED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
EMBEDDED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "audio"}


def test_foreign_pages_compute_nothing(server):
    own = {"Origin": f"http://127.0.0.1:{server.port}"}
    post = functools.partial(
        server.ask, "POST", PREDICT, columns("generate", z=LATENTS[:1])
    )
    get = functools.partial(server.ask, "GET", f"{MODEL}/wav?ngl=0")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    says = "pages of 'http://evil.example' may not use this server (--cors ORIGIN)"
    before = server.metric("specgan_batch_rows_count")
    for headers in (EVIL, EVIL | form, EVIL | LINKED):
        assert post(headers=headers) == (403, {"error": says})
    assert post(headers={"Origin": "null"})[0] == 403
    assert get(headers=EVIL | EMBEDDED) == (403, {"error": says})
    assert get(headers=EMBEDDED)[0] == 403
    assert server.metric("specgan_batch_rows_count") == before
    for headers in (own, own | {"Sec-Fetch-Site": "same-origin"}, {}):
        assert post(headers=headers)[0] == get(headers=headers)[0] == 200
    for headers in (TYPED, LINKED):
        assert get(headers=headers)[0] == 200


def test_cors(server, poor):
    """Off by default; for the origins that are named."""
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    page = {"Origin": "http://localhost:3000"}

    def headers_of(server, method, path, headers, body=None):
        with contextlib.closing(server.connect()) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            return response.status, response.headers

    status, headers = headers_of(server, "OPTIONS", PREDICT, page | preflight)
    assert (status, headers["Allow"]) == (204, "POST, OPTIONS")
    assert "Access-Control-Allow-Origin" not in headers
    _, headers = headers_of(server, "GET", MODEL, page)
    assert "Access-Control-Allow-Origin" not in headers
    for path in (MODEL, f"{MODEL}/wav", "/metrics", "/readyz"):
        status, headers = headers_of(server, "OPTIONS", path, {})
        assert (status, headers["Allow"]) == (204, "GET, OPTIONS")
    assert headers_of(server, "OPTIONS", "/", {})[0] == 404

    body = json.dumps(columns("generate", z=LATENTS[:1]))
    for path in (PREDICT, f"{MODEL}/wav"):
        status, headers = headers_of(poor, "OPTIONS", path, page | preflight)
        assert status == 200 and "POST" in headers["Access-Control-Allow-Methods"]
        assert headers["Access-Control-Allow-Origin"] == page["Origin"]
    status, headers = headers_of(poor, "OPTIONS", PREDICT, EVIL | preflight)
    assert status == 400 and "Access-Control-Allow-Origin" not in headers
    for allowed in (page, page | {"Sec-Fetch-Site": "cross-site"}):
        status, headers = headers_of(poor, "POST", PREDICT, allowed | JSON, body)
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == page["Origin"]
    # An <audio> element names its page in another way.
    embedded = EMBEDDED | {"Referer": page["Origin"] + "/"}
    assert headers_of(poor, "GET", f"{MODEL}/wav?ngl=0", embedded)[0] == 200
    status, headers = headers_of(poor, "POST", PREDICT, EVIL | JSON, body)
    assert status == 403 and "Access-Control-Allow-Origin" not in headers
    plain = page | {"Content-Type": "text/plain"}
    status, headers = headers_of(poor, "POST", PREDICT, plain, body)
    assert status == 415
    assert headers["Access-Control-Allow-Origin"] == page["Origin"]


# How it is


def test_it_says_when_it_is_ready(server):
    assert server.ask("GET", "/readyz") == (200, {"ready": True, "version": 1})
