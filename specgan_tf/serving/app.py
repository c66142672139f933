"""The ASGI application: paths, answers, metrics."""

import asyncio
import contextlib
import io
import logging
import random
import re
import time
import wave
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio
import numpy as np
import orjson
import prometheus_client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .batching import Queue
from .bodies import Bodies
from .connections import exception_handler
from .metrics import Metrics
from .origins import refuse_foreign_page
from .protocol import (
    Refused,
    brief,
    check,
    find_signature,
    make_job,
    read_predict,
    write_predict,
)
from .versions import Versions

log = logging.getLogger("specgan_tf")


WHICH = r"/v1/models/([^/:]+)(?:/versions/(\d{1,18})|/labels/([^/:]+))?"
POSTED = re.compile(WHICH + ":(classify|regress|predict)", re.IGNORECASE)
GOT = re.compile(WHICH + "(?:/(metadata|wav))?", re.IGNORECASE)
SEEDS = -(2**31), 2**31 - 1
GONE = 499  # nginx's status: the client disconnected, and gets no answer


class Server:
    """The ASGI application, and its background tasks.

    Args:
      args: the flags, as __main__ parses them.
    """

    def __init__(self, args: Any) -> None:
        self.name, self.limits, self.poll = args.model_name, vars(args), args.poll
        self.metrics = Metrics()
        self.versions = Versions(args.folder, self.metrics)
        self.queue = Queue(
            self.limits, args.batch_rows, args.batch_delay / 1000, self.metrics
        )
        self.bodies = Bodies(args.max_body)
        self.cors = args.cors
        self.failure = None  # why no version could be loaded at the start
        self.end = lambda: None  # stops the server; set by `serve`
        self.app = Starlette(
            # With a function instead of an object, Route would allow GET alone.
            routes=[Route("/{path:path}", self)],
            lifespan=self.lifespan,
            middleware=[cors(self.cors)] if self.cors else [],
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Run the background tasks while the application runs."""
        asyncio.get_running_loop().set_exception_handler(exception_handler())
        tasks = [asyncio.create_task(f()) for f in (self.queue.work, self.watch)]
        yield
        for task in tasks:
            task.cancel()

    async def watch(self) -> None:
        """Look for new versions every `poll` seconds."""
        versions, trouble = self.versions, None
        while True:
            tried = len(versions.failed)
            try:
                await versions.look()
                trouble = None
            except OSError as e:
                if e.strerror != trouble:  # once, not every second
                    trouble = e.strerror
                    log.error("%s cannot be read: %s", versions.folder, trouble)
            if versions.current is None:
                if len(versions.failed) > tried:
                    continue  # try a lower one
                states = versions.states.items()
                if all(state != "LOADING" for _, (state, _) in states):
                    errors = [f"version {n}: {error}" for n, (_, error) in states]
                    self.failure = "; ".join(errors)
                    self.end()
            await asyncio.sleep(self.poll)

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive)
        began = time.monotonic()
        request.state.signature, request.state.arrived = "-", False
        try:
            with anyio.fail_after(self.limits["timeout"]):
                response = await self.route(request)
        except Exception as e:
            response = self.failed(request, e)
            forget(e)
        self.metrics.count(
            request.state.signature, response.status_code, time.monotonic() - began
        )
        if response.status_code != GONE:
            await response(scope, receive, send)

    def failed(self, request: Request, e: Exception) -> Response:
        """The answer to a request that raised `e`."""
        if isinstance(e, Refused):
            return error(e.status, e.reason, e.headers)
        if isinstance(e, ClientDisconnect):
            return Response(status_code=GONE)
        if isinstance(e, TimeoutError):
            limit = f"within {self.limits['timeout']:g} s (--timeout)"
            if request.state.arrived:
                return error(504, f"not done {limit}")
            return error(408, f"the request did not arrive {limit}")
        log.error("%s %s", request.method, request.url.path, exc_info=e)
        return error(500, "the server failed; its log has the error")

    async def route(self, request: Request) -> Response:
        """The answer to a request; raises Refused for an error of its client."""
        path, method = request.url.path, request.method
        if method == "OPTIONS":
            return options(path)
        if (method, path) == ("GET", "/metrics"):
            content_type = prometheus_client.CONTENT_TYPE_LATEST
            page = prometheus_client.generate_latest(self.metrics.registry)
            return Response(page, media_type=content_type)
        if (method, path) == ("GET", "/readyz"):
            with self.versions.using() as version:
                return respond({"ready": True, "version": version.number})
        if not path.lower().startswith("/v1/"):
            raise Refused(404, f"nothing at {brief(path)}")
        pattern = {"GET": GOT, "POST": POSTED}.get(method)
        matched = pattern and pattern.fullmatch(path)
        if not matched:
            raise Refused(400, f"malformed request: {method} {brief(path)}")
        name, number, label, verb = matched.groups()
        verb = (verb or "status").lower()
        if name != self.name:
            raise Refused(404, f"no model {brief(name)}. This server has: {self.name}")
        if label is not None:
            raise Refused(400, f"unrecognized version label {brief(label)}")
        number = None if number is None else int(number)
        if verb == "predict":
            return await self.predict(request, number)
        if verb == "wav":
            return await self.wav(request, number)
        if verb == "metadata":
            return self.metadata(number)
        if verb == "status":
            status = self.versions.status(number)
            if number is not None and not status["model_version_status"]:
                raise Refused(404, f"no version {number} of model {name}")
            return respond(status)
        raise Refused(400, f"a SpecGAN has no {verb}, only predict")

    def metadata(self, number: int | None) -> Response:
        """GetModelMetadataResponse, as TensorFlow Serving writes it."""
        with self.versions.using(number) as version:
            return respond(
                {
                    "model_spec": {
                        "name": self.name,
                        "signature_name": "",
                        "version": str(version.number),
                    },
                    "metadata": {
                        "signature_def": {"signature_def": version.signature_def}
                    },
                }
            )

    async def predict(self, request: Request, number: int | None) -> Response:
        """PredictResponse: the outputs of a signature."""
        refuse_foreign_page(request, self.cors)
        async with self.bodies.receive(request) as body, while_connected(request):
            request.state.arrived = True
            with self.versions.using(number) as version:
                job = await body.read(
                    lambda text: read_predict(text, version.signatures, self.limits)
                )
                request.state.signature = job.signature.name
                made = await self.queue.run(job)
                return Response(
                    await asyncio.to_thread(write_predict, made, job),
                    media_type="application/json",
                )

    async def wav(self, request: Request, number: int | None) -> Response:
        """One WAV file with `n` sounds, one after the other."""
        refuse_foreign_page(request, self.cors)
        request.state.arrived = True
        query = request.query_params
        for key in query.keys() - {"n", "seed", "ngl"}:
            raise Refused(400, f"unknown {brief(key)}. Known: n, seed, ngl")

        def asked(key, default):
            text = query.get(key, str(default))
            if not re.fullmatch(r"-?[0-9]{1,18}", text):
                raise Refused(
                    400, f"{key} must be a whole number. Received: {brief(text)}"
                )
            return int(text)

        with self.versions.using(number) as version:
            sample, wav = (
                find_signature(version.signatures, name) for name in ("sample", "wav")
            )
            n, seed = asked("n", 1), asked("seed", random.randrange(2**31))
            ngl = asked("ngl", version.about.get("ngl", 16))
            check("n", n, 1, self.limits, "max_batch")
            check("ngl", ngl, 0, self.limits, "max_ngl")
            if not SEEDS[0] <= seed <= SEEDS[1]:
                raise Refused(400, f"seed must be in {[*SEEDS]}. Received: {seed}")
            request.state.signature = "wav"
            n, seed, ngl = np.array([n, seed, ngl], np.int32)
            async with while_connected(request):
                job = make_job(sample, {"samp_z_n": n, "seed": seed}, self.limits)
                made = await self.queue.run(job)
                inputs = {"z": made["samp_z"], "ngl": ngl}
                made = await self.queue.run(make_job(wav, inputs, self.limits))
        (files,) = made.values()
        name = f"{self.name}-seed{seed}-n{n}.wav"
        return Response(
            join_wav(files),
            media_type="audio/wav",
            headers={"Content-Disposition": f'inline; filename="{name}"'},
        )


def cors(origins: list[str]) -> Middleware:
    """Middleware that lets web pages of these origins use the server."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Encoding"],
        allow_private_network=True,
        expose_headers=["Content-Disposition", "Retry-After"],
    )


def options(path: str) -> Response:
    """Answer with a path's methods. (`cors` answers browsers' preflight requests.)"""
    paths = {"GET": GOT, "POST": POSTED}
    methods = [method for method, of in paths.items() if of.fullmatch(path)]
    if path in ("/metrics", "/readyz"):
        methods = ["GET"]
    if not methods:
        raise Refused(404, f"nothing at {brief(path)}")
    return Response(status_code=204, headers={"Allow": f"{methods[0]}, OPTIONS"})


@contextlib.asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, which no longer needs the result.

    Raises:
      ClientDisconnect: the client disconnected.
    """

    async def watch():
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    with anyio.CancelScope() as scope:
        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
    if scope.cancelled_caught:
        raise ClientDisconnect


def forget(e: BaseException) -> None:
    """Free the frames that raised an exception, with the body and tensors in them.

    A future holds its exception, whose frames hold the future. Python's collector finds
    such cycles late, or never, among as many objects as TensorFlow makes.
    """
    while e is not None:
        e.__traceback__ = None
        chained = e.__cause__ or e.__context__
        e.__cause__ = e.__context__ = None
        e = chained


def join_wav(files: Iterable[bytes]) -> bytes:
    """Join WAV files of one format: a list of bytes -> bytes."""
    joined = io.BytesIO()
    with wave.open(joined, "wb") as out:
        for i, content in enumerate(files):
            with wave.open(io.BytesIO(content)) as sound:
                if not i:
                    out.setparams(sound.getparams())
                out.writeframes(sound.readframes(sound.getnframes()))
    return joined.getvalue()


def respond(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A JSON response."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_INDENT_2),
        status,
        headers,
        media_type="application/json",
    )


def error(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    """An error response in TensorFlow Serving's form."""
    reason = reason.encode(errors="replace").decode()
    if status == 503:
        headers = {"Retry-After": "1", **(headers or {})}
    return respond({"error": reason}, status, headers)
