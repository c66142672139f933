"""The ASGI application: paths, answers, metrics."""

import asyncio
import contextlib
import io
import logging
import random
import re
import time
import wave

import numpy as np
import orjson
import prometheus_client
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .batching import Queue
from .protocol import (
    Refused,
    brief,
    find_signature,
    make_job,
    read_predict,
    read_tensor,
    write_predict,
)
from .versions import Versions

log = logging.getLogger("specgan_tf")


class Metrics:
    """What /metrics tells."""

    def __init__(self):
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)

        def made(kind, name, about, *labels, **kwargs):
            return kind(
                f"specgan_{name}", about, labels, registry=self.registry, **kwargs
            )

        self.requests = made(
            prometheus_client.Counter, "requests", "Requests.", "signature", "status"
        )
        self.seconds = made(
            prometheus_client.Histogram,
            "request_seconds",
            "From a request to its answer.",
            "signature",
        )
        self.batch_rows = made(
            prometheus_client.Histogram,
            "batch_rows",
            "Rows computed at a time.",
            buckets=[2**i for i in range(9)],
        )
        self.queue = made(
            prometheus_client.Gauge, "queue_length", "Requests that wait."
        )
        self.version = made(
            prometheus_client.Gauge, "version", "The version that is served, or 0."
        )

    def count(self, signature, status, seconds):
        self.requests.labels(signature, status).inc()
        self.seconds.labels(signature).observe(seconds)


WHICH = r"/v1/models/([^/:]+)(?:/versions/(\d{1,18})|/labels/([^/:]+))?"
POSTED = re.compile(WHICH + ":(classify|regress|predict)", re.IGNORECASE)
GOT = re.compile(WHICH + "(?:/(metadata|wav))?", re.IGNORECASE)


class Server:
    """The ASGI application, and what goes on behind it."""

    def __init__(self, args):
        self.name, self.limits, self.poll = args.model_name, vars(args), args.poll
        self.metrics = Metrics()
        self.versions = Versions(args.folder, self.metrics)
        self.queue = Queue(
            self.limits, args.batch_rows, args.batch_delay / 1000, self.metrics
        )
        self.failure = None  # of the first load: why there is nothing to serve
        self.end = lambda: None  # set by `main`
        self.app = Starlette(
            routes=[Route("/{path:path}", self)],  # no function: of any method
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app):
        tasks = [asyncio.create_task(f()) for f in (self.queue.work, self.watch)]
        yield
        for task in tasks:
            task.cancel()

    async def watch(self):
        """Look for versions, again and again."""
        versions, trouble = self.versions, None
        while True:
            tried = len(versions.failed)
            try:
                await versions.look()
                trouble = None
            except OSError as e:
                if e.strerror != trouble:  # not every second
                    trouble = e.strerror
                    log.error("%s cannot be read: %s", versions.folder, trouble)
            if versions.current is None:
                if len(versions.failed) > tried:
                    continue  # there may be a lower one
                states = versions.states.items()
                if all(state != "LOADING" for _, (state, _) in states):
                    said = [f"version {n}: {error}" for n, (_, error) in states]
                    self.failure = "; ".join(said)
                    self.end()
            await asyncio.sleep(self.poll)

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive)
        began = time.monotonic()
        request.state.signature = "-"
        try:
            response = await asyncio.wait_for(
                self.route(request), self.limits["timeout"]
            )
        except asyncio.TimeoutError:
            limit = self.limits["timeout"]
            response = error(504, f"not done within {limit:g} s (--timeout)")
        except Refused as e:
            response = error(e.status, e.reason)
        except ClientDisconnect:
            response = error(400, "the client has gone")
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            response = error(500, "an error of the server; its log says which")
        self.metrics.count(
            request.state.signature, response.status_code, time.monotonic() - began
        )
        await response(scope, receive, send)

    async def route(self, request):
        path, method = request.url.path, request.method
        if (method, path) == ("GET", "/metrics"):
            content_type = prometheus_client.CONTENT_TYPE_LATEST
            page = prometheus_client.generate_latest(self.metrics.registry)
            return Response(page, media_type=content_type)
        if not path.lower().startswith("/v1/"):
            raise Refused(404, f"nothing at {brief(path)}")
        pattern = {"GET": GOT, "POST": POSTED}.get(method)
        matched = pattern and pattern.fullmatch(path)
        if not matched:
            raise Refused(400, f"malformed request: {method} {brief(path)}")
        name, number, label, verb = matched.groups()
        verb = (verb or "status").lower()
        if name != self.name:
            raise Refused(404, f"no model {brief(name)}. There is: {self.name}")
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

    def metadata(self, number):
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

    async def predict(self, request, number):
        body = await self.body(request)
        with self.versions.using(number) as version:
            job = await asyncio.to_thread(
                read_predict, body, version.signatures, self.limits
            )
            request.state.signature = job.signature.name
            made = await self.queue.run(job)
            return Response(
                await asyncio.to_thread(write_predict, made, job),
                media_type="application/json",
            )

    async def body(self, request):
        """All of it, or a refusal.

        What is too long is read to the end, within reason: a connection that is closed
        before has the refusal thrown away.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "a body must come as it is, without Content-Encoding")
        most, length, chunks = self.limits["max_body"], 0, []
        async for chunk in request.stream():
            length += len(chunk)
            chunks.append(chunk)
            if length > most:
                chunks.clear()
            if length > 4 * most:
                break
        if length > most:
            raise Refused(413, f"the body is of more than {most} bytes (--max_body)")
        return b"".join(chunks)

    async def wav(self, request, number):
        """Sounds one after the other, as one WAV file."""
        query = request.query_params
        for key in query.keys() - {"n", "seed", "ngl"}:
            raise Refused(400, f"unknown {brief(key)}. Known: n, seed, ngl")

        def asked(key, default):
            text = query.get(key, str(default))
            if not re.fullmatch(r"-?[0-9]{1,10}", text):
                raise Refused(
                    400, f"{key} must be a whole number. Received: {brief(text)}"
                )
            return read_tensor(key, int(text), np.dtype(np.int32), ())

        with self.versions.using(number) as version:
            sample, wav = (
                find_signature(version.signatures, name) for name in ("sample", "wav")
            )
            n, seed = asked("n", 1), asked("seed", random.randrange(2**31))
            ngl = asked("ngl", version.about.get("ngl", 16))
            request.state.signature = "wav"
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


def join_wav(files):
    """WAV files of one format -> one."""
    joined = io.BytesIO()
    with wave.open(joined, "wb") as out:
        for i, content in enumerate(files):
            with wave.open(io.BytesIO(content)) as sound:
                if not i:
                    out.setparams(sound.getparams())
                out.writeframes(sound.readframes(sound.getnframes()))
    return joined.getvalue()


def respond(content, status=200, headers=None):
    return Response(
        orjson.dumps(content, option=orjson.OPT_INDENT_2),
        status,
        headers,
        media_type="application/json",
    )


def error(status, reason):
    """As TensorFlow Serving words it."""
    reason = reason.encode(errors="replace").decode()
    return respond(
        {"error": reason}, status, {"Retry-After": "1"} if status == 503 else None
    )
