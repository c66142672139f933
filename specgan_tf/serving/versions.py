"""The versions in a folder: SavedModels, which are loaded as they come and go."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .protocol import Refused

log = logging.getLogger("specgan_tf")


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
            self.metrics.load_failures.inc()
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
