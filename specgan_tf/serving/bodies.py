"""Receive, unpack and parse the bodies of requests, within limits.

`{},` is three bytes of JSON, and 72 bytes as a dict in a list. So the server receives
only a few bodies above LARGE bytes at a time, and parses them one at a time.
"""

import asyncio
import contextlib
import gzip
import io
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from .protocol import Refused, brief

T = TypeVar("T")

LARGE = 1 << 18  # bytes; 64 latents take half of that
LARGE_AT_ONCE = 8
# Types that any web page can make a browser send without a preflight request. The third
# such type, application/x-www-form-urlencoded, is the default of curl -d: `origins`
# refuses it from web pages.
NOT_JSON = {"text/plain", "multipart/form-data"}


class Bodies:
    """Limits that the bodies of all requests share."""

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        self.places = asyncio.Semaphore(LARGE_AT_ONCE)
        self.turn = asyncio.Semaphore(1)
        self.thread = ThreadPoolExecutor(1, "large")

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator["Body"]:
        """Receive a request's body; a large one holds one of the places until parsed.

        Raises:
          Refused: the body is too long, or has the wrong type or encoding.
          ClientDisconnect: the client disconnected.
        """
        encoding = encoding_of(request.headers)
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.max_body:
            raise self.too_long()
        async with contextlib.AsyncExitStack() as place:
            content = bytearray()
            async with contextlib.aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    if len(content) <= LARGE < len(content) + len(chunk):
                        await place.enter_async_context(self.places)
                    content += chunk
                    if len(content) > self.max_body:
                        raise self.too_long()
            yield Body(self, content, encoding != "identity", place)

    def too_long(self) -> Refused:
        return Refused(
            413, f"the body has more than {self.max_body} bytes (--max_body)"
        )

    def unpack(self, content: bytes) -> bytes:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as f:
                unpacked = f.read(self.max_body + 1)
        except (EOFError, OSError, zlib.error) as e:
            raise Refused(400, f"the body is not gzip: {e}") from None
        if len(unpacked) > self.max_body:
            raise self.too_long()
        return unpacked

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Run work() in a thread, when no other large body is being parsed."""
        await self.turn.acquire()
        loop = asyncio.get_running_loop()
        future = self.thread.submit(work)

        def release(_):
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self.turn.release)

        # Not when this coroutine ends: the client may disconnect before work() is done.
        future.add_done_callback(release)
        return await asyncio.wrap_future(future)


class Body:
    """A body that has arrived."""

    def __init__(
        self,
        bodies: Bodies,
        content: bytearray,
        packed: bool,
        place: contextlib.AsyncExitStack,
    ) -> None:
        self.bodies, self.content, self.packed = bodies, content, packed
        self.place = place

    async def read(self, parse: Callable[[bytes], T]) -> T:
        """Return parse(content), and free the content and its place. Call it once."""
        content, self.content = self.content, None
        async with self.place:
            if self.packed:
                bodies = self.bodies
                return await bodies.in_turn(lambda: parse(bodies.unpack(content)))
            if len(content) > LARGE:
                return await self.bodies.in_turn(lambda: parse(content))
            return await asyncio.to_thread(parse, content)


def encoding_of(headers: Mapping[str, str]) -> str:
    """The Content-Encoding that a request's headers give for its JSON body."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if kind.lower() in NOT_JSON:
        raise Refused(
            415,
            "a body must be JSON, with Content-Type application/json. "
            f"Received: {brief(kind)}",
        )
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Refused(
            415,
            f"Content-Encoding must be gzip or absent. Received: {brief(encoding)}",
            {"Accept-Encoding": "gzip"},
        )
    return encoding
