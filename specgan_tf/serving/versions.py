"""Numbered SavedModels in a folder: loads new versions, and unloads old ones."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .metrics import Metrics
from .protocol import Refused
from .signature import Signature

log = logging.getLogger("specgan_tf")


class Version:
    """A loaded SavedModel, each of whose signatures has run once."""

    def __init__(self, number: int, path: str) -> None:
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

    def warm_up(self) -> None:
        """Call each signature once: the first call is the slowest."""
        for signature in self.signatures.values():
            inputs = signature.example_inputs()
            for name, made in (signature(inputs) if inputs else {}).items():
                if made.dtype.kind == "f" and not np.isfinite(made).all():
                    raise ValueError(f"its {signature.name} makes NaN in {name}")


def scan(folder: str) -> dict[int, tuple[str, tuple]]:
    """Number -> (path, `contents`) of each version in a folder."""
    found = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            has_model = os.path.isfile(os.path.join(path, "saved_model.pb"))
            if re.fullmatch(r"[0-9]{1,18}", name) and has_model:
                found.setdefault(int(name), (path, contents(path)))
    return found


def contents(path: str) -> tuple:
    """Names, sizes and times of a folder's files: equal only if nothing has changed."""
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(os.path.join(folder, name))
                where = os.path.relpath(os.path.join(folder, name), path)
                files.append((where, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(sorted(files))


class Versions:
    """The highest version in a folder that loads, and the states of the others."""

    def __init__(self, folder: str, metrics: Metrics) -> None:
        self.folder, self.metrics = folder, metrics
        self.states = {}  # number -> (state, error)
        self.current, self.contents = None, None  # the version served, its `contents`
        self.before = None  # the result of the previous scan
        self.failed = set()  # (number, contents) that failed to load
        self.thread = ThreadPoolExecutor(1, "load")

    def candidate(self, found: dict[int, tuple[str, tuple]]) -> int | None:
        """The number to load now, or None.

        A version is ready when two scans in a row find it unchanged. A lower version
        replaces the current one only after two scans without the current one.
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

    async def look(self) -> None:
        """Scan the folder, load a new version, and unload the one that it replaces."""
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

    async def load(self, number: int, path: str, there: tuple) -> None:
        loop = asyncio.get_running_loop()
        replaced = self.current is not None and self.current.number == number
        if not replaced:
            self.states[number] = "LOADING", ""
        try:
            version = await loop.run_in_executor(self.thread, Version, number, path)
            if contents(path) != there:  # changed meanwhile: try again when it is ready
                return
        except Exception as e:
            reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
            log.error("Version %d cannot be loaded: %s", number, reason)
            self.failed.add((number, there))
            self.metrics.load_failures.inc()
            self.states[number] = "AVAILABLE" if replaced else "END", reason
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
    def using(self, number: int | None = None) -> Iterator[Version]:
        """Context: the current version, which stays loaded until the block ends."""
        version = self.current
        if version is None:
            raise Refused(503, "no version is loaded yet")
        if number not in (None, version.number):
            raise Refused(
                404, f"version {number} is not served; version {version.number} is"
            )
        version.users += 1
        try:
            yield version
        finally:
            version.users -= 1
            if version.retired and not version.users:
                self.let_go(version)

    def let_go(self, version: Version) -> None:
        version.signatures.clear()
        version.loaded = None
        self.thread.submit(gc.collect)  # functions and their graphs are cycles
        if self.states.get(version.number, [""])[0] == "UNLOADING":
            self.states[version.number] = "END", ""
        log.info("Version %d is unloaded", version.number)

    def status(self, number: int | None = None) -> dict:
        """GetModelStatusResponse, the newest version first."""
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
