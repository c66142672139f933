"""Versions of a SavedModel come and go while requests are answered."""

import asyncio
import json
import os
import shutil
import threading
import time

import numpy as np
import pytest
import server_process
from server_process import (
    LATENTS,
    MODEL,
    PREDICT,
    columns,
    running,
    wait_for,
)

from specgan_tf import SpecGANGenerator
from specgan_tf.export import saved_model

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from specgan_tf.serving import __main__, app, protocol
from specgan_tf.serving import versions as serving_versions
from specgan_tf.serving.metrics import Metrics


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return server_process.save_two(tmp_path_factory)


# Versions


def test_versions_come_and_go_without_a_lost_request(saved, tmp_path):
    folder = tmp_path / "specgan"
    shutil.copytree(saved[0], folder / "1")
    body = columns("generate", z=LATENTS[:1])
    with running(str(folder), "--batch_rows", "0") as server:
        answers, over = [], threading.Event()

        def load():
            connection = server.connect()
            while not over.is_set():
                began = time.monotonic()
                status, content = server.ask("POST", PREDICT, body, connection)
                text = json.dumps(content)
                answers.append((began, time.monotonic(), status, text))
                time.sleep(0.02)

        def asked_since(moment):
            """What was answered to requests that were made after it, once there are."""
            since = lambda: {text for t, *_, text in answers if t > moment}  # noqa: E731
            wait_for(since)
            return since()

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            (old,) = asked_since(0)
            # No version at all, and half of one: nothing happens.
            os.mkdir(folder / "new")
            os.mkdir(folder / "3")
            (folder / "3" / "model.json").write_text("{}")
            # A version that cannot be loaded is reported; the old one stays.
            os.mkdir(folder / "7")
            (folder / "7" / "saved_model.pb").write_bytes(b"no SavedModel")
            wait_for(lambda: server.state(7) == "END")
            _, status = server.ask("GET", MODEL + "/versions/7")
            (version,) = status["model_version_status"]
            assert version["status"]["error_code"] == "UNKNOWN"
            assert version["status"]["error_message"]
            assert server.state(1) == "AVAILABLE" and server.state(3) is None
            assert server.metric("specgan_load_failures_total") == 1
            # Copied file by file, slowly: loaded once it is whole.
            (folder / "4" / "variables").mkdir(parents=True)
            names = "saved_model.pb", "variables/variables.index"
            for name in (*names, "variables/variables.data-00000-of-00001"):
                time.sleep(0.3)
                shutil.copy(f"{saved[1]}/{name}", folder / "4" / name)
            wait_for(lambda: server.state(4) == "AVAILABLE")
            switched = time.monotonic()
            wait_for(lambda: server.state(1) == "END")
            status, content = server.ask("POST", MODEL + "/versions/1:predict", body)
            assert (status, content["error"]) == (
                404,
                "version 1 is not served; version 4 is",
            )
            assert server.metric("specgan_version") == 4
            (new,) = asked_since(switched)
            # Taken away again: back to the first.
            taken = time.monotonic()
            os.rename(folder / "4", tmp_path / "4")
            wait_for(lambda: server.state(1) == "AVAILABLE")
            assert asked_since(time.monotonic()) == {old}
            # Replaced in place, as saved_model.py --overwrite does.
            os.rename(folder / "1", tmp_path / "1")
            os.rename(tmp_path / "4", folder / "1")
            replaced = time.monotonic()
            wait_for(lambda: new in asked_since(replaced))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert {status for *_, status, _ in answers} == {200}
        assert {text for *_, text in answers} == {old, new} and old != new
        meanwhile = {a[-1] for a in answers if switched < a[0] and a[1] < taken}
        assert meanwhile == {new}
        assert server.end() == 0


def test_nothing_is_served_before_it_is_loaded():
    versions = serving_versions.Versions("nowhere", Metrics())
    with pytest.raises(protocol.Refused) as e, versions.using():
        pass
    assert (e.value.status, e.value.reason) == (503, "no version is loaded yet")


def test_it_is_not_ready_before_it_is_loaded():
    server, sent = app.Server(__main__.make_parser().parse_args(["nowhere"])), []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/readyz", "headers": []}
    asyncio.run(server(scope, None, send))
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"]) == {"error": "no version is loaded yet"}


def test_weights_of_nan_are_not_served(tmp_path):
    G = SpecGANGenerator(dim=1)
    G.trainable_variables[0].assign(G.trainable_variables[0] * np.nan)
    saved_model.save_saved_model(G, server_process.MOMENTS, str(tmp_path / "1"))
    with pytest.raises(ValueError, match=r"^its \w+ makes NaN in G_z\w*$"):
        serving_versions.Version(1, str(tmp_path / "1"))
