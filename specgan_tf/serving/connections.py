"""Connections: how many may be open, and how long each phase of one may take.

uvicorn limits only how long a connection stays open after an answer. Here each
connection is always in one phase, and each phase has its own time limit.
"""

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import socket
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("specgan_tf")

BACKLOG = 128  # connections accepted at a time, before any is counted
SPARE = 64  # file descriptors for the rest: SavedModels, the log, ...
REST_BYTES = 64 << 20  # of a refused body, read so that the client gets the answer

HEAD, BODY, WORK, REST, IDLE, CLOSING = "head body work rest idle closing".split()
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Content-Length: 35\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"error": "too many connections"}\r\n'
)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. An OSError's message says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as e:  # create_server appends the address to its message
        reason = os.strerror(e.errno) if e.errno and e.errno > 0 else e.strerror
        raise OSError(f"cannot listen on {host}:{port}: {reason}; try --port") from None
    # Connections inherit this option. asyncio sets it only on sockets that name their
    # protocol. Without it an answer's body waits 40 ms until its headers are confirmed.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def room_for(connections: int) -> int:
    """How many connections, at most this number, have file descriptors.

    Raises the soft limit if necessary and allowed.
    """
    try:
        import resource
    except ImportError:  # Windows: no such limit
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + BACKLOG + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        if soft < needed:
            connections = max(soft - BACKLOG - SPARE, 1)
            log.warning(
                "Only %d connections at once: this process may open only %d files "
                "(ulimit -n)",
                connections,
                soft,
            )
    return connections


def exception_handler() -> Callable[[asyncio.AbstractEventLoop, dict], None]:
    """A handler for event loops; logs a lack of descriptors only once a minute."""
    quiet_until = 0

    def handle(loop, context):
        nonlocal quiet_until
        e = context.get("exception")
        scarce = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM
        if not isinstance(e, OSError) or e.errno not in scarce:
            loop.default_exception_handler(context)
        elif loop.time() >= quiet_until:
            quiet_until = loop.time() + 60
            log.error("New connections have to wait: %s", e.strerror)

    return handle


@dataclasses.dataclass
class Limits:
    """Limits, and the waiting list, that all connections share."""

    connections: int
    head: float  # seconds for a request's head, and for the rest of a refused body
    idle: float  # seconds between two requests
    stalled: float  # seconds in which a client reads nothing of its answer
    # Connections without a complete request, the longest waiting first -> their phases.
    waiting: dict["Connection", str] = dataclasses.field(default_factory=dict)


class Http(h11.Connection):
    """Keeps the connections of HTTP/1.0 clients that ask for it, such as ab -k."""

    keeps_10 = False

    def next_event(self) -> h11.Event | type:
        event = super().next_event()
        if isinstance(event, h11.Request):
            tokens = {
                token.strip().lower()
                for name, value in event.headers
                if name == b"connection"
                for token in value.split(b",")
            }
            old = event.http_version == b"1.0"
            self.keeps_10 = old and b"keep-alive" in tokens and b"close" not in tokens
            if self.keeps_10:
                self._cstate.keep_alive = True  # h11 has no public name for it
        return event

    def send(self, event: h11.Event) -> bytes | None:
        if self.keeps_10 and isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code,
                headers=[*event.headers, (b"connection", b"keep-alive")],
                reason=event.reason,
            )
        return super().send(event)


class Connection(H11Protocol):
    """One client's connection."""

    def __init__(self, *args, limits: Limits, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Http(h11.SERVER)
        self.limits, self.phase, self.asked, self.rest = limits, None, False, 0
        self.timer = self.stalled = None

    def phase_now(self) -> str:
        if self.transport.is_closing():
            return CLOSING
        if self.conn.their_state is h11.IDLE:
            # A new connection without a request, or one whose next request has begun.
            head = not self.asked or self.conn.trailing_data[0]
            return HEAD if head else IDLE
        self.asked = True
        if self.conn.their_state is h11.SEND_BODY:
            return REST if self.conn.our_state is h11.DONE else BODY
        return WORK

    def update(self) -> None:
        """After anything that may change the phase: start a new phase's time limit."""
        phase, waiting = self.phase_now(), self.limits.waiting
        if phase == self.phase:
            return
        self.forget()
        self.phase, self.rest = phase, 0
        if phase != WORK:
            waiting[self] = phase
        seconds = {
            HEAD: self.limits.head,
            REST: self.limits.head,
            IDLE: self.limits.idle,
            CLOSING: self.limits.stalled,
        }.get(phase)  # the application limits the others
        if seconds is not None:
            self.timer = self.loop.call_later(seconds, self.drop)

    def forget(self) -> None:
        """Stop the time limit, and leave the waiting list."""
        self.limits.waiting.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()

    def drop(self) -> None:
        """Close the connection at once, even if data is unsent."""
        self.forget()
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            # Close the connection that has waited longest without a complete request.
            for longest in self.limits.waiting:
                longest.drop()
                break
            else:
                transport.write(BUSY)
                transport.close()
        self.update()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.forget()
        if self.stalled is not None:
            self.stalled.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.update()
        if self.phase == REST:
            self.rest += len(data)
            if self.rest > REST_BYTES:
                self.drop()

    def on_response_complete(self):
        super().on_response_complete()
        self.update()

    def send_400_response(self, msg: str) -> None:
        """Invalid HTTP ends the connection, and the request in progress on it."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # the answer has been sent
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch_progress(None)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stalled is not None:
            self.stalled.cancel()

    def watch_progress(self, before: int | None) -> None:
        """Close the connection if the client reads nothing for `stalled` seconds."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == before:
            self.drop()
        else:
            self.stalled = self.loop.call_later(
                self.limits.stalled, self.watch_progress, unsent
            )
