"""Bodies of requests: how they are received, unpacked, and read, within bounds.

`{}`, of three bytes with its comma, takes 72 bytes as a dict in a list. So the server
receives a few bodies above LARGE bytes at a time, and parses one of them at a time.
"""

import asyncio
import contextlib
import gzip
import io
import zlib
from concurrent.futures import ThreadPoolExecutor

from .protocol import Refused, brief

LARGE = 1 << 18  # bytes; 64 latents are half of it
LARGE_AT_ONCE = 8
# What a page of any site can make a browser send without asking the server first. The
# third such type, application/x-www-form-urlencoded, is what curl -d sends: `origins`
# refuses it from pages.
NOT_JSON = {"text/plain", "multipart/form-data"}


class Bodies:
    """What the bodies of all requests share."""

    def __init__(self, max_body):
        self.max_body = max_body
        self.places = asyncio.Semaphore(LARGE_AT_ONCE)
        self.turn = asyncio.Semaphore(1)
        self.thread = ThreadPoolExecutor(1, "large")

    @contextlib.asynccontextmanager
    async def receive(self, request):
        """The body of a request; a large one has a place until it has been read.

        Raises:
          Refused: it is too long, of the wrong type or encoding.
          ClientDisconnect: its client went away.
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

    def too_long(self):
        return Refused(
            413, f"the body is of more than {self.max_body} bytes (--max_body)"
        )

    def unpack(self, content):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as f:
                unpacked = f.read(self.max_body + 1)
        except (EOFError, OSError, zlib.error) as e:
            raise Refused(400, f"the body is no gzip: {e}") from None
        if len(unpacked) > self.max_body:
            raise self.too_long()
        return unpacked

    async def in_turn(self, work):
        """work(), in a thread, when no other one is under way."""
        await self.turn.acquire()
        loop = asyncio.get_running_loop()
        future = self.thread.submit(work)

        def over(_):
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self.turn.release)

        # Not when this coroutine ends: its client may go away before the work is done.
        future.add_done_callback(over)
        return await asyncio.wrap_future(future)


class Body:
    """One that has arrived."""

    def __init__(self, bodies, content, packed, place):
        self.bodies, self.content, self.packed = bodies, content, packed
        self.place = place

    async def read(self, parse):
        """parse(content), once: then the content and its place are free."""
        content, self.content = self.content, None
        async with self.place:
            if self.packed:
                bodies = self.bodies
                return await bodies.in_turn(lambda: parse(bodies.unpack(content)))
            if len(content) > LARGE:
                return await self.bodies.in_turn(lambda: parse(content))
            return await asyncio.to_thread(parse, content)


def encoding_of(headers):
    """The Content-Encoding of a body that is JSON, as far as its headers say."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if kind.lower() in NOT_JSON:
        raise Refused(
            415,
            "a body must be JSON, of Content-Type application/json. "
            f"Received: {brief(kind)}",
        )
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Refused(
            415,
            f"Content-Encoding must be gzip, or not be there. Received: "
            f"{brief(encoding)}",
            {"Accept-Encoding": "gzip"},
        )
    return encoding
