"""A SpecGAN over HTTP, as TensorFlow Serving has it, for those without that.

    python -m specgan_tf.serve OUT/specgan --port 8501

OUT/specgan is a folder of numbered SavedModels, as export.py writes. Answered are
TensorFlow Serving's paths for status, metadata and predict, with its JSON, and two
more: .../wav, sounds as one WAV file, and /metrics. docs/SERVING.md says it all.

Knows the artefact, and nothing of the package: like `artefact`, it runs where that is
not. An event loop reads and answers; one thread computes, request by request, or those
that may be joined together; another one loads new versions.
"""

import argparse
import asyncio
import base64
import binascii
import contextlib
import dataclasses
import gc
import io
import itertools
import json
import logging
import os
import random
import re
import reprlib
import signal
import socket
import sys
import tempfile
import time
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np

try:
    import orjson
    import prometheus_client
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as e:
    if __name__ != "__main__":
        raise
    print(f"{e.name} is not installed: pip install '.[serve]'", file=sys.stderr)
    sys.exit(2)

log = logging.getLogger("specgan_tf")

# Of each of these a row of the outputs belongs to a row of the inputs: requests can be
# joined, and their answers taken apart.
JOINED = {"serving_default", "synthesize", "generate", "wav", "invert"}
# Inputs that say how much work it is -> the least, and the flag with the most.
LIMITED = {
    "ngl": (0, "max_ngl"),
    "flat_pad": (0, "max_pad"),
    "samp_z_n": (1, "max_batch"),
}


class Refused(Exception):
    """A request that is answered with another HTTP status than 200."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status, self.reason = status, reason


# Requests: JSON -> tensors


def read_json(body):
    """The object in a request.

    NaN and Infinity, which TensorFlow Serving takes, are no JSON, and are refused.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        raise Refused(400, f"JSON parse error: {e}") from None
    if not isinstance(request, dict):
        raise Refused(
            400, f"the request must be a JSON object. Received: {brief(body)}"
        )
    return request


BRIEF = reprlib.Repr()  # does not follow a stranger's nesting to the end
BRIEF.maxstring = BRIEF.maxother = 60


def brief(value):
    """A part of a request, for a message about it."""
    if isinstance(value, bytes):
        return value[:60].decode(errors="replace")
    return BRIEF.repr(value)


def is_b64(value):
    return isinstance(value, dict) and value.keys() == {"b64"}


def read_tensor(name, value, dtype, shape):
    """Nested lists of JSON -> array; None in the shape stands for any size but zero."""
    sizes, values = [], [value]
    while values and {*map(type, values)} == {list} and len(sizes) <= len(shape):
        lengths = {*map(len, values)}
        if len(lengths) > 1:
            raise Refused(
                400, f"{name} is ragged: lists of {min(lengths)} and {max(lengths)}"
            )
        sizes += lengths
        values = [*itertools.chain.from_iterable(values)]
    fits = len(sizes) == len(shape) and all(
        n == m or (m is None and n) for n, m in zip(sizes, shape, strict=True)
    )
    if not fits:
        wanted = str(["b" if n is None else n for n in shape]).replace("'", "")
        raise Refused(400, f"{name} must be of shape {wanted}. Received: {sizes}")
    return read_values(name, values, dtype).reshape(sizes)


def read_values(name, values, dtype):
    """As TensorFlow Serving takes them: no true among numbers, no 1.0 among ints."""

    def refuse(what, value):
        raise Refused(400, f"{name} must be {what}. Received: {brief(value)}")

    def of_kinds(what, *kinds):
        if {*map(type, values)} - {*kinds}:
            refuse(what, next(v for v in values if type(v) not in kinds))

    if dtype.kind == "O":
        of_kinds("strings", str, dict)
        return objects([read_string(name, value) for value in values])
    if dtype.kind == "b":
        of_kinds("true or false", bool)
    elif dtype.kind in "iu":
        of_kinds(f"{dtype} numbers", int)
        limits = np.iinfo(dtype)
        for value in (min(values), max(values)):
            if not limits.min <= value <= limits.max:
                refuse(f"{dtype} numbers", value)
    else:
        of_kinds(f"{dtype} numbers", int, float)
        largest = max(values, key=abs)
        if abs(largest) > np.finfo(dtype).max:
            refuse(f"{dtype} numbers", largest)
    return np.array(values, dtype)


def objects(values):
    """A list as an array [n] of just these, whatever they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def read_string(name, value):
    """Text, or {"b64": "..."}, -> bytes."""
    if isinstance(value, str):
        return value.encode()
    if is_b64(value) and isinstance(value["b64"], str):
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(value["b64"], validate=True)
    raise Refused(400, f'{name} must be a string or {{"b64": "..."}}, base64')


def read_rows(signature, instances):
    """The row form, a list of rows -> value by input."""
    if not isinstance(instances, list) or not instances:
        raise Refused(400, "'instances' must be a list of at least one")
    alone = [name for name, (_, shape) in signature.inputs.items() if not shape]
    if alone:
        raise Refused(
            400,
            f"signature {signature.name!r} takes one {', '.join(alone)} for all rows: "
            "give 'inputs' in place of 'instances'",
        )
    names = signature.inputs.keys()
    named = [isinstance(row, dict) and not is_b64(row) for row in instances]
    if any(named):
        for i, row in enumerate(instances):
            if not named[i] or row.keys() != names:
                raise Refused(400, f"instances[{i}] must be an object of {list(names)}")
        return {name: [row[name] for row in instances] for name in names}
    if len(names) > 1:
        raise Refused(400, f"'instances' must be objects of {list(names)}")
    return dict.fromkeys(names, instances)


def read_columns(signature, inputs):
    """The columnar form, all rows of each input -> value by input."""
    names = signature.inputs.keys()
    if not isinstance(inputs, dict) or is_b64(inputs):
        if len(names) > 1:
            raise Refused(400, f"'inputs' must be an object of {list(names)}")
        return dict.fromkeys(names, inputs)
    if inputs.keys() != names:
        raise Refused(
            400,
            f"'inputs' of signature {signature.name!r} must be {list(names)}. "
            f"Received: {brief(list(inputs))}",
        )
    return inputs


def read_outputs(signature, names):
    """Of PredictRequest's output_filter: the outputs that are asked for."""
    if names is None:
        return signature.outputs
    if not isinstance(names, list) or not names:
        raise Refused(400, "'output_filter' must be a list of outputs")
    for name in names:
        if name not in signature.outputs:
            raise Refused(
                400,
                f"signature {signature.name!r} has no output {brief(name)}. It has: "
                f"{', '.join(signature.outputs)}",
            )
    return [name for name in signature.outputs if name in names]


def find_signature(signatures, name):
    if not isinstance(name, str):
        raise Refused(400, "'signature_name' must be a string")
    try:
        return signatures[name or "serving_default"]
    except KeyError:
        raise Refused(
            400,
            f"no signature {brief(name)}. There are: {', '.join(signatures)}",
        ) from None


def read_predict(body, signatures, limits):
    """The body of a predict request -> Job.

    Raises:
      Refused: it is not one, or beyond the limits.
    """
    request = read_json(body)
    known = "signature_name", "instances", "inputs", "output_filter"
    for key in request.keys() - {*known}:
        raise Refused(400, f"unknown key {brief(key)}. Known: {', '.join(known)}")
    forms = request.keys() & {"instances", "inputs"}
    if len(forms) != 1:
        raise Refused(400, "either 'instances' or 'inputs' must be there, not both")
    signature = find_signature(signatures, request.get("signature_name", ""))
    outputs = read_outputs(signature, request.get("output_filter"))
    read = read_rows if "instances" in forms else read_columns
    values = read(signature, request[forms.pop()])
    tensors = {
        name: read_tensor(name, values[name], dtype, shape)
        for name, (dtype, shape) in signature.inputs.items()
    }
    return make_job(signature, tensors, limits, outputs, read is read_rows)


def make_job(signature, tensors, limits, outputs=None, by_row=False):
    """A job, if it is within the limits."""
    for name, (least, flag) in LIMITED.items():
        if name in tensors:
            check(name, int(tensors[name]), least, limits, flag)
    rows = [len(t) for t in tensors.values() if t.ndim]
    for n in rows:
        check("the rows of a request", n, 1, limits, "max_batch")
    if len({*rows}) > 1:
        raise Refused(400, f"inputs must have equally many rows. Received: {rows}")
    return Job(signature, tensors, outputs or signature.outputs, by_row)


def check(what, value, least, limits, flag):
    most = limits[flag]
    if not least <= value <= most:
        raise Refused(
            400, f"{what} must be in [{least}, {most}] (--{flag}). Received: {value}"
        )


# Answers: tensors -> JSON


def write_predict(made, job):
    """The body of the answer. Of a single output the name is left out."""
    outputs, by_row = job.outputs, job.by_row
    values = {name: jsonable(name, made[name]) for name in outputs}
    for name in outputs if by_row else ():
        if made[name].shape[:1] != (job.rows,):
            raise Refused(400, f"{name} has no rows: give 'inputs', not 'instances'")
    if len(outputs) == 1:
        answer = values[outputs[0]]
    elif by_row:
        rows = zip(*values.values(), strict=True)
        answer = [dict(zip(values, row, strict=True)) for row in rows]
    else:
        answer = values
    answer = {"predictions" if by_row else "outputs": answer}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def jsonable(name, array):
    """An array, or nested lists of strings."""
    if array.dtype.kind == "O":
        return jsonable_strings(name, array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused(400, f"{name} is NaN or infinite, which is no JSON")
    return np.ascontiguousarray(array) if array.ndim else array.item()


def jsonable_strings(name, array):
    """As base64 where the name ends in _bytes; and where it is no text, which
    TensorFlow Serving writes as it is, making the answer no JSON."""
    values = array.ravel().tolist()
    try:
        if name.endswith("_bytes"):
            raise UnicodeError
        values = [value.decode() for value in values]
    except UnicodeError:
        values = [{"b64": base64.b64encode(value).decode()} for value in values]
    return objects(values).reshape(array.shape).tolist()


# What computes


@dataclasses.dataclass(eq=False)
class Signature:
    """One of a SavedModel's functions."""

    name: str
    function: object
    inputs: dict  # name -> (dtype, shape with None for the rows)
    outputs: list

    @classmethod
    def of(cls, name, function):
        _, specs = function.structured_input_signature
        inputs = {
            key: (np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list()))
            for key, spec in sorted(specs.items())
        }
        return cls(name, function, inputs, sorted(function.structured_outputs))

    def __call__(self, tensors):
        """Arrays by name -> arrays by name."""
        import tensorflow as tf

        made = self.function(**{k: tf.constant(v) for k, v in tensors.items()})
        return {name: np.array(tensor) for name, tensor in made.items()}

    def smallest(self):
        """Inputs of one row, or None if it takes strings."""
        if any(dtype.kind == "O" for dtype, _ in self.inputs.values()):
            return None
        return {
            name: (np.zeros if shape else np.ones)([n or 1 for n in shape], dtype)
            for name, (dtype, shape) in self.inputs.items()
        }


@dataclasses.dataclass(eq=False)
class Job:
    """A request that is understood, and waits to be computed."""

    signature: Signature
    tensors: dict
    outputs: list
    by_row: bool = False

    def __post_init__(self):
        self.rows = max([len(t) for t in self.tensors.values() if t.ndim], default=0)
        self.done, self.arrived = None, time.monotonic()

    def joins(self, other):
        """Do both ask for the same, of other rows?"""
        return (
            self.signature is other.signature
            and self.signature.name in JOINED
            and all(
                t.ndim or t == other.tensors[name] for name, t in self.tensors.items()
            )
        )


def compute(jobs):
    """All in one call; what each one makes, or its exception."""
    try:
        first = jobs[0]
        if len(jobs) == 1:
            return [first.signature(first.tensors)]
        tensors = {
            name: np.concatenate([job.tensors[name] for job in jobs]) if t.ndim else t
            for name, t in first.tensors.items()
        }
        ends = np.cumsum([job.rows for job in jobs])[:-1]
        parts = {k: np.split(v, ends) for k, v in first.signature(tensors).items()}
        return [{k: v[i] for k, v in parts.items()} for i in range(len(jobs))]
    except Exception as e:
        if len(jobs) > 1:  # it may be the fault of one
            return [compute([job])[0] for job in jobs]
        return [refusal(e)]


def refusal(e):
    """Of what TensorFlow says, the first line; the rest is about its graph."""
    import tensorflow as tf

    said = (str(e).strip().splitlines() or [type(e).__name__])[0]
    if isinstance(e, tf.errors.InvalidArgumentError):
        return Refused(400, said)
    if isinstance(e, tf.errors.ResourceExhaustedError | MemoryError):
        return Refused(503, "out of memory: ask for fewer rows")
    return e


class Queue:
    """Jobs, first come, first served, those that join with the first along with it."""

    def __init__(self, limits, batch_rows, delay, metrics):
        self.limits, self.batch_rows, self.delay = limits, batch_rows, delay
        self.metrics, self.waiting, self.came = metrics, [], asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "compute")
        metrics.queue.set_function(lambda: len(self.waiting))

    async def run(self, job):
        """What the job makes.

        Raises:
          Refused: too many wait already, or it cannot be computed.
        """
        most = self.limits["max_queue"]
        if len(self.waiting) >= most:
            raise Refused(503, f"{most} requests wait already (--max_queue)")
        job.done = asyncio.get_running_loop().create_future()
        self.waiting.append(job)
        self.came.set()
        try:
            return await job.done
        finally:  # out of time: nobody waits for it
            if job in self.waiting:
                self.waiting.remove(job)

    def joined(self):
        """The first job, and those that can be computed along with it."""
        jobs, rows = self.waiting[:1], self.waiting[0].rows
        for job in self.waiting[1:]:
            if rows + job.rows <= self.batch_rows and job.joins(jobs[0]):
                jobs.append(job)
                rows += job.rows
        return jobs, rows

    async def next(self):
        """Wait for a job, and up to `delay` seconds for others to join it."""
        while True:
            self.came.clear()
            if self.waiting:
                jobs, rows = self.joined()
                until = jobs[0].arrived + self.delay - time.monotonic()
                may_join = jobs[0].signature.name in JOINED and rows < self.batch_rows
                if not may_join or until <= 0:
                    self.waiting = [job for job in self.waiting if job not in jobs]
                    return jobs, rows
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(
                    self.came.wait(), until if self.waiting else None
                )

    async def work(self):
        loop = asyncio.get_running_loop()
        while True:
            jobs, rows = await self.next()
            self.metrics.batch_rows.observe(rows)
            made = await loop.run_in_executor(self.thread, compute, jobs)
            for job, result in zip(jobs, made, strict=True):
                if job.done.done():
                    continue
                if isinstance(result, Exception):
                    job.done.set_exception(result)
                else:
                    job.done.set_result(result)


# Versions


class Version:
    """A SavedModel that has been loaded and has answered once."""

    def __init__(self, number, path):
        import tensorflow as tf
        from google.protobuf import json_format
        from tensorflow.core.protobuf import saved_model_pb2

        self.number, self.users, self.retired = number, 0, False
        self.loaded = tf.saved_model.load(path)
        self.signatures = {
            name: Signature.of(name, function)
            for name, function in self.loaded.signatures.items()
        }
        if not self.signatures:
            raise ValueError("it has no signatures")
        proto = saved_model_pb2.SavedModel()
        with open(os.path.join(path, "saved_model.pb"), "rb") as f:
            proto.ParseFromString(f.read())
        self.signature_def = {
            name: json_format.MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in proto.meta_graphs[0].signature_def.items()
        }
        self.about = {}
        about = os.path.join(path, "model.json")
        if os.path.exists(about):
            with open(about) as f:
                self.about = json.load(f)
        if not isinstance(self.about, dict):
            raise ValueError(f"{about} must hold an object")
        self.warm_up()

    def warm_up(self):
        """The first call of each signature is the slowest."""
        for signature in self.signatures.values():
            inputs = signature.smallest()
            for name, made in (signature(inputs) if inputs else {}).items():
                if made.dtype.kind == "f" and not np.isfinite(made).all():
                    raise ValueError(f"its {signature.name} makes a {name} of NaN")


def scan(folder):
    """Number -> (path, what is in it: names, sizes, times) of each version there."""
    found = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            is_one = os.path.isfile(os.path.join(path, "saved_model.pb"))
            if re.fullmatch(r"[0-9]{1,18}", name) and is_one:
                found.setdefault(int(name), (path, contents(path)))
    return found


def contents(path):
    """What tells a folder from the same one with other files in it."""
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(os.path.join(folder, name))
                where = os.path.relpath(os.path.join(folder, name), path)
                files.append((where, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(sorted(files))


class Versions:
    """The highest version in a folder that can be loaded, and what became of others."""

    def __init__(self, folder, metrics):
        self.folder, self.metrics = folder, metrics
        self.states = {}  # number -> (state, error)
        self.current, self.contents = None, None  # of the current one
        self.before = None  # what the last look found
        self.failed = set()  # (number, contents) that need not be tried again
        self.thread = ThreadPoolExecutor(1, "load")

    def candidate(self, found):
        """The number to load now, or None.

        A folder is ready once it has not changed from one look to the next. A version
        gives way to a lower one only after it has been missing twice.
        """
        before = found if self.before is None else self.before
        ready = {
            n
            for n, there in found.items()
            if before.get(n) == there and (n, there[1]) not in self.failed
        }
        if self.current is not None:
            number = self.current.number
            if number in found or number in before:
                ready = {n for n in ready if n >= number}
            if number in ready and found[number][1] == self.contents:
                ready.remove(number)
        return max(ready, default=None)

    async def look(self):
        """Load what is new in the folder; let go of what it replaces."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self.thread, scan, self.folder)
        if (number := self.candidate(found)) is not None:
            await self.load(number, *found[number])
        self.before = found
        self.failed = {(n, c) for n, c in self.failed if n in found}
        gone = self.states.keys() - found.keys()
        for number in gone:
            if self.states[number][0] == "END":
                del self.states[number]

    async def load(self, number, path, there):
        loop = asyncio.get_running_loop()
        replaced = self.current is not None and self.current.number == number
        if not replaced:
            self.states[number] = "LOADING", ""
        try:
            version = await loop.run_in_executor(self.thread, Version, number, path)
            if contents(path) != there:  # half of each: once more, when it is ready
                return
        except Exception as e:
            said = (str(e).strip().splitlines() or [type(e).__name__])[0]
            log.error("Version %d cannot be loaded: %s", number, said)
            self.failed.add((number, there))
            self.states[number] = "AVAILABLE" if replaced else "END", said
            return
        old, self.current, self.contents = self.current, version, there
        self.states[number] = "AVAILABLE", ""
        self.metrics.version.set(number)
        log.info("Version %d is served", number)
        if old is not None:
            old.retired = True
            if not replaced:
                self.states[old.number] = "UNLOADING", ""
            if not old.users:
                self.let_go(old)

    @contextlib.contextmanager
    def using(self, number=None):
        """The current version, which is kept until the block ends."""
        version = self.current
        if version is None:
            raise Refused(503, "no version is loaded yet")
        if number not in (None, version.number):
            raise Refused(
                404, f"version {number} is not served, version {version.number} is"
            )
        version.users += 1
        try:
            yield version
        finally:
            version.users -= 1
            if version.retired and not version.users:
                self.let_go(version)

    def let_go(self, version):
        version.signatures.clear()
        version.loaded = None
        self.thread.submit(gc.collect)  # functions and their graphs are cycles
        if self.states.get(version.number, [""])[0] == "UNLOADING":
            self.states[version.number] = "END", ""
        log.info("Version %d is unloaded", version.number)

    def status(self, number=None):
        """GetModelStatusResponse, newest first."""
        numbers = sorted(self.states, reverse=True)
        if number is not None:
            numbers = [n for n in numbers if n == number]
        return {
            "model_version_status": [
                {
                    "version": str(n),
                    "state": self.states[n][0],
                    "status": {
                        "error_code": "UNKNOWN" if self.states[n][1] else "OK",
                        "error_message": self.states[n][1],
                    },
                }
                for n in numbers
            ]
        }


# HTTP


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


# The command


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
        prog="python -m specgan_tf.serve",
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
