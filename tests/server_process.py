"""A server in a process of its own, and how tests talk to it."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
from conftest import ROOT

from specgan_tf import SpecGANGenerator, generate
from specgan_tf.export import saved_model
from specgan_tf.moments import Moments

# A busy machine may take minutes from one test to the next that uses a connection.
DEFAULTS = "--port 0 --poll 0.1 --idle_timeout 100000".split()
MODULE = "-m", "specgan_tf.serving"
MOMENTS = Moments(np.full(129, -3, np.float32), np.ones(129, np.float32))
MODEL = "/v1/models/specgan"
PREDICT = MODEL + ":predict"
LATENTS = generate.sample_z(4, 100, 0).numpy()


class Running:
    """A server process, and one connection to it."""

    def __init__(self, output, folder, *flags, command=MODULE, **options):
        self.output = output  # a file
        self.process = subprocess.Popen(
            [sys.executable, *command, folder, *DEFAULTS, *flags],
            stdout=output,
            stderr=subprocess.STDOUT,
            **{"cwd": ROOT, **options},
        )

    def wait_until_ready(self):
        wait_for(lambda: "/v1/" in self.log() or self.process.poll() is not None)
        found = re.search(
            r"^http://127.0.0.1:(\d+)/v1/models/specgan$", self.log(), re.MULTILINE
        )
        assert found, self.log()
        self.port = int(found[1])
        self.connection = self.connect()
        wait_for(lambda: self.state(1) == "AVAILABLE")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def ask(self, method, path, body=None, connection=None, headers=()):
        """(status, content), of JSON where it is JSON."""
        connection = connection or self.connection
        if isinstance(body, dict):
            body = json.dumps(body)
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
        if response.headers["content-type"] == "application/json":
            content = strict_json(content)
        return response.status, content

    def predict(self, body, **kwargs):
        """The only value of the answer, or its error."""
        status, content = self.ask("POST", PREDICT, body, **kwargs)
        (value,) = content.values()
        assert ("error" in content) == (status != 200)
        return value

    def state(self, number):
        _, status = self.ask("GET", MODEL)
        states = {int(v["version"]): v for v in status["model_version_status"]}
        return states.get(number, {"state": None})["state"]

    def metric(self, name):
        _, page = self.ask("GET", "/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", page.decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def log(self):
        return os.pread(self.output.fileno(), 1 << 24, 0).decode()

    def end(self):
        self.process.terminate()
        return self.process.wait(300)


def strict_json(content):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    return json.loads(content, parse_constant=refuse)


def wait_for(what, seconds=300):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextlib.contextmanager
def running(*args, **kwargs):
    with tempfile.TemporaryFile() as output:
        server = Running(output, *args, **kwargs)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.process.kill()
            server.process.wait()


def save(path, seed):
    """A SavedModel; others have other weights."""
    keras.utils.set_random_seed(seed)
    G = SpecGANGenerator(dim=1)
    rs = np.random.RandomState(seed)
    for v in G.trainable_variables:  # loud enough for differences to show
        v.assign(v * 2 + 0.05 * rs.randn(*v.shape))
    saved_model.save_saved_model(G, MOMENTS, path, about={"ngl": 3})
    return path


def save_two(tmp_path_factory):
    """Two of them, each in a folder of its own."""
    return [save(str(tmp_path_factory.mktemp("saved") / "1"), seed) for seed in (0, 1)]


def columns(signature=None, outputs=None, **inputs):
    body = {"inputs": {k: np.asarray(v).tolist() for k, v in inputs.items()}}
    body |= {"signature_name": signature} if signature else {}
    return body | ({"output_filter": outputs} if outputs else {})


def work(ngl):
    return columns(outputs=["G_z_int16"], z=LATENTS[:1], ngl=int(ngl))


def steps_per_second(server):
    """Of Griffin-Lim, on this machine now."""
    server.predict(work(500))
    began = time.monotonic()
    server.predict(work(500))
    return 500 / (time.monotonic() - began)
