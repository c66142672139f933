"""The server over HTTP, against TensorFlow and TensorFlow Serving's own messages."""

import base64
import collections
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from concurrent import futures

import numpy as np
import pytest
import server_process
import tensorflow as tf
from conftest import ROOT
from server_process import (
    LATENTS,
    MODEL,
    MODULE,
    PREDICT,
    columns,
    running,
    steps_per_second,
    wait_for,
    work,
)

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from specgan_tf import generate, serve
from specgan_tf.export import verify
from specgan_tf.serving import __main__ as serving
from specgan_tf.serving import batching, connections, protocol
from specgan_tf.serving.signature import Signature
from specgan_tf.weights import bundled


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return server_process.save_two(tmp_path_factory)


@pytest.fixture(scope="module")
def signatures(saved):
    loaded = tf.saved_model.load(saved[0])

    def call(name, **inputs):
        made = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        return {k: v.numpy() for k, v in made.items()}

    call.loaded = loaded
    return call


@pytest.fixture(scope="module")
def server(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("specgan")
    shutil.copytree(saved[0], folder / "1")
    flags = "--max_batch 4 --max_ngl 40 --max_body 300000 --batch_delay 4".split()
    with running(str(folder), *flags) as server:
        yield server
        assert server.end() == 0


# TensorFlow Serving's forms


def test_status_and_metadata_are_tensorflow_servings_messages(server, saved):
    apis = pytest.importorskip("tensorflow_serving.apis")
    assert apis
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
    )

    for path in (MODEL, MODEL + "/versions/1", "/V1/Models/specgan"):
        status, content = server.ask("GET", path)
        parsed = json_format.ParseDict(
            content, get_model_status_pb2.GetModelStatusResponse()
        )
        (version,) = parsed.model_version_status
        assert status == 200 and version.version == 1
        assert version.state == version.AVAILABLE
        assert version.status.error_code == 0 and version.status.error_message == ""

    proto = saved_model_pb2.SavedModel()
    with open(saved[0] + "/saved_model.pb", "rb") as f:
        proto.ParseFromString(f.read())
    for path in ("/metadata", "/versions/1/metadata"):
        status, content = server.ask("GET", MODEL + path)
        assert status == 200 and content.keys() == {"model_spec", "metadata"}
        spec = json_format.ParseDict(content["model_spec"], model_pb2.ModelSpec())
        assert (spec.name, spec.version.value) == ("specgan", 1)
        definitions = json_format.ParseDict(
            content["metadata"]["signature_def"],
            get_model_metadata_pb2.SignatureDefMap(),
        )
        assert definitions.signature_def == proto.meta_graphs[0].signature_def


def test_an_answers_body_does_not_wait_for_word_of_its_headers():
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(connections.listen("127.0.0.1", 0))
        stack.enter_context(socket.create_connection(listening.getsockname()))
        connection = stack.enter_context(listening.accept()[0])
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_warm_up_requests_are_a_prediction_log(server, saved):
    prediction_log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2"
    )
    path = saved[0] + "/assets.extra/tf_serving_warmup_requests"
    names = []
    for record in tf.data.TFRecordDataset(path):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "specgan"
        names.append(request.model_spec.signature_name)
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        status, _ = server.ask("POST", PREDICT, columns(names[-1], **inputs))
        assert status == 200
    assert names == ["serving_default", "generate", "wav"]


# What it computes


def test_every_signature(server, signatures):
    z, n = LATENTS[:2], np.int32
    X = np.round(256 * signatures("generate", z=z)["G_z_norm"]) / 256  # short in JSON
    for name, inputs in {
        "serving_default": {"z": z, "ngl": n(2)},
        "synthesize": {"z": z, "ngl": n(0)},
        "generate": {"z": z},
        "flatten": {"z": z, "ngl": n(2), "flat_pad": n(7)},
        "sample": {"samp_z_n": n(3), "seed": n(5)},
        "wav": {"z": z, "ngl": n(2)},
        "invert": {"G_z_norm": X[:1], "ngl": n(2)},
    }.items():
        wanted = signatures(name, **inputs)
        got = server.predict(columns(name, **inputs))
        got = got if len(wanted) > 1 else {next(iter(wanted)): got}
        assert got.keys() == wanted.keys()
        for output, value in wanted.items():
            if value.dtype == object:
                made = [base64.b64decode(v["b64"], validate=True) for v in got[output]]
                assert made == value.tolist()
            else:
                made = np.array(got[output], value.dtype)
                np.testing.assert_array_equal(made, value, f"{name} {output}")


def test_rows_and_columns_and_outputs(server, signatures):
    z = LATENTS[:2]
    wanted = signatures("generate", z=z)["G_z_norm"]
    rows = {"signature_name": "generate", "instances": z.tolist()}
    named = {"signature_name": "generate", "instances": [{"z": r} for r in z.tolist()]}
    plain = {"signature_name": "generate", "inputs": z.tolist()}
    for body, key in (
        (rows, "predictions"),
        (named, "predictions"),
        (plain, "outputs"),
    ):
        for path in (PREDICT, MODEL + "/versions/1:predict"):
            status, content = server.ask("POST", path, body)
            assert status == 200 and content.keys() == {key}
            got = np.array(content[key], np.float32)
            np.testing.assert_array_equal(got, wanted)
    body = columns(outputs=["G_z_int16", "G_z"], z=z, ngl=1)
    assert server.predict(body).keys() == {"G_z", "G_z_int16"}
    body["output_filter"].pop()
    assert np.shape(server.predict(body)) == (2, 16384, 1)


def test_wav(server, signatures):
    def sound(query):
        status, content = server.ask("GET", f"{MODEL}/wav{query}")
        assert status == 200
        with wave.open(io.BytesIO(content)) as f:
            assert (f.getframerate(), f.getnchannels()) == (16000, 1)
            return np.frombuffer(f.readframes(f.getnframes()), "<i2")

    z = signatures("sample", samp_z_n=np.int32(3), seed=np.int32(7))["samp_z"]
    wanted = signatures("synthesize", z=z, ngl=np.int32(2))["G_z"]
    wanted = wanted / np.maximum(1, np.abs(wanted).max(axis=1, keepdims=True))
    wanted = (wanted * np.float32(32767)).astype(np.int16).ravel()
    assert np.abs(wanted).max() > 1000
    np.testing.assert_array_equal(sound("?n=3&seed=7&ngl=2"), wanted)
    once, again = sound(""), sound("")  # of ngl 3, as model.json says
    assert once.shape == (16384,) and (once != again).any()
    np.testing.assert_array_equal(sound("?seed=7&ngl=3"), sound("?seed=7"))
    for query, says in {
        "?n=5": "n must be in [1, 4] (--max_batch). Received: 5",
        "?n=0": "n must be in [1, 4] (--max_batch). Received: 0",
        "?ngl=41": "ngl must be in [0, 40] (--max_ngl). Received: 41",
        "?n=x": "n must be a whole number. Received: 'x'",
        "?n=2147483648": "n must be in [1, 4] (--max_batch). Received: 2147483648",
        "?seed=2147483648": "seed must be in [-2147483648, 2147483647]. Received: "
        "2147483648",
        "?m=1": "unknown 'm'. Known: n, seed, ngl",
    }.items():
        assert server.ask("GET", f"{MODEL}/wav{query}") == (400, {"error": says})


def test_joined_requests_are_computed_together(server, saved, tmp_path):
    """Eight clients at once: one computation, the same answers."""
    bodies = [columns(outputs=["G_z"], z=LATENTS[i : i + 1], ngl=3) for i in range(4)]
    alone = [server.predict(body) for body in bodies]
    shutil.copytree(saved[0], tmp_path / "1")
    answers = {}
    # It waits until all are there, however long they take, and then no longer.
    flags = "--batch_rows 8 --batch_delay 300000 --timeout 300".split()
    with running(str(tmp_path), *flags) as joining:
        before = [joining.metric(f"specgan_batch_rows_{s}") for s in ("count", "sum")]

        def ask(i):
            connection = joining.connect()
            answers[i] = joining.predict(bodies[i % 4], connection=connection)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = [joining.metric(f"specgan_batch_rows_{s}") for s in ("count", "sum")]
    count, rows = np.subtract(after, before)
    assert (rows, count, len(answers)) == (8, 1, 8)
    for i, answer in answers.items():
        np.testing.assert_allclose(answer, alone[i % 4], atol=1e-6)


@pytest.mark.parametrize("name", ["generate", "synthesize", "wav", "invert"])
def test_joining_changes_no_more_than_rounding(name, signatures, measured):
    function = Signature.of(name, signatures.loaded.signatures[name])
    X = signatures("generate", z=LATENTS)["G_z_norm"]
    # A few steps: of 3e-8, as AVX2's kernels round other batches otherwise, three make
    # 2e-7 and sixteen 9e-6.
    inputs = {"z": LATENTS, "ngl": np.array(3, np.int32), "G_z_norm": X}

    def jobs(*parts):
        for part in parts:
            tensors = {k: inputs[k] for k in function.inputs}
            yield protocol.Job(
                function,
                {k: v[part] if v.ndim else v for k, v in tensors.items()},
                function.outputs,
            )

    parts = slice(0, 1), slice(1, 3), slice(3, 4)
    alone = [batching.compute([job])[0] for job in jobs(*parts)]
    joined = batching.compute([*jobs(*parts)])
    for a, b in zip(alone, joined, strict=True):
        assert a.keys() == b.keys()
        for output, value in a.items():
            assert b[output].shape == value.shape
            if value.dtype == object:
                read = [np.frombuffer(v[44:], "<i2") for v in (value[0], b[output][0])]
                error = np.abs(np.subtract(*read, dtype=int)).max()
            else:
                error = np.abs(value.astype(float) - b[output]).max()
            integer = value.dtype.kind in "iuO"
            # Bit-equal here; where kernels depend on the batch's size, a rounding.
            measured(f"{name} {output}", error, 1 if integer else 1e-5)


# What it refuses

Z = np.zeros((1, 100)).tolist()
REFUSED = [
    # path or body, what is wrong with it
    ("", "JSON parse error: "),
    ("{", "JSON parse error: "),
    ("[1]", "the request must be a JSON object. Received: [1]"),
    ("null", "the request must be a JSON object. Received: null"),
    ("\xff", "JSON parse error: "),
    ('{"inputs": {"z": [[NaN]], "ngl": 1}}', "JSON parse error: "),
    ('{"inputs": {"z": [[Infinity]], "ngl": 1}}', "JSON parse error: "),
    ('{"inputs": {"z": [[1e999]], "ngl": 1}}', "JSON parse error: "),
    ('{"inputs": ' + "[" * 9999 + "]" * 9999 + "}", "JSON parse error: depth limit"),
    ("{}", "a request must have either 'instances' or 'inputs'"),
    (
        {"inputs": {"z": Z, "ngl": 1}, "instances": Z},
        "a request must have either 'instances' or 'inputs'",
    ),
    (
        {"inputs": {"z": Z, "ngl": 1}, "signature": "wav"},
        "unknown key 'signature'. Kno",
    ),
    (
        {"inputs": {"z": Z}},
        "'inputs' of signature 'serving_default' must be ['ngl', 'z']",
    ),
    (
        {"inputs": {"z": Z, "ngl": 1, "x": 1}},
        "'inputs' of signature 'serving_default' mu",
    ),
    ({"inputs": Z}, "'inputs' must be an object of ['ngl', 'z']"),
    ({"inputs": None}, "'inputs' must be an object of ['ngl', 'z']"),
    (
        {"instances": Z},
        "signature 'serving_default' takes one ngl for all rows: use 'i",
    ),
    ({"instances": []}, "'instances' must be a list of at least one"),
    ({"instances": {}}, "'instances' must be a list of at least one"),
    (
        {"signature_name": "generate", "instances": [{"z": Z[0]}, Z[0]]},
        "instances[1] must be an object of ['z']",
    ),
    (
        {"signature_name": "generate", "instances": [{"y": Z[0]}]},
        "instances[0] must be an object of ['z']",
    ),
    ({"signature_name": "nope", "inputs": Z}, "no signature 'nope'. The model has: "),
    ({"signature_name": 3, "inputs": Z}, "'signature_name' must be a string"),
    (
        columns(z=Z, ngl=1, outputs=["nope"]),
        "signature 'serving_default' has no output 'n",
    ),
    (
        columns(z=Z, ngl=1, outputs=[["G_z"]]),
        "signature 'serving_default' has no output [",
    ),
    (columns(z=Z, ngl=1, outputs="G_z"), "'output_filter' must be a list of outputs"),
    (columns(z=[[0.0]], ngl=1), "z must have shape [b, 100]. Received: [1, 1]"),
    (columns(z=Z[0], ngl=1), "z must have shape [b, 100]. Received: [100]"),
    (columns(z=[Z], ngl=1), "z must have shape [b, 100]. Received: [1, 1, 100]"),
    (columns(z=[], ngl=1), "z must have shape [b, 100]. Received: [0]"),
    (columns(z=[[]], ngl=1), "z must have shape [b, 100]. Received: [1, 0]"),
    (columns(z=Z, ngl=[1]), "ngl must have shape []. Received: [1]"),
    ({"inputs": {"z": [Z[0], [1]], "ngl": 1}}, "z is ragged: lists of 1 and 100"),
    (
        {"inputs": {"z": [Z[0], 1], "ngl": 1}},
        "z must have shape [b, 100]. Received: [2]",
    ),
    (columns(z=[[True] * 100], ngl=1), "z must be float32 numbers. Received: True"),
    (columns(z=[["1"] * 100], ngl=1), "z must be float32 numbers. Received: '1'"),
    (
        {"inputs": {"z": [[{}] * 100], "ngl": 1}},
        "z must be float32 numbers. Received: {}",
    ),
    (
        {"inputs": {"z": {"b64": "eA=="}, "ngl": 1}},
        "z must have shape [b, 100]. Received",
    ),
    (
        json.dumps(columns(z=Z, ngl=1)).replace("0.0]", "[" * 900 + "]" * 901, 1),
        "z must be float32 numbers. Received: [[[[[[[...]]]]]]]",
    ),
    (columns(z=[[1e39] * 100], ngl=1), "z must be float32 numbers. Received: 1e+39"),
    (columns(z=Z, ngl=1.0), "ngl must be int32 numbers. Received: 1.0"),
    (columns(z=Z, ngl=True), "ngl must be int32 numbers. Received: True"),
    (columns(z=Z, ngl=2**31), "ngl must be int32 numbers. Received: 2147483648"),
    ({"inputs": {"z": Z, "ngl": 10**30}}, "ngl must be int32 numbers. Received: 1e+30"),
    (columns(z=Z, ngl=-1), "ngl must be in [0, 40] (--max_ngl). Received: -1"),
    (columns(z=Z, ngl=41), "ngl must be in [0, 40] (--max_ngl). Received: 41"),
    (
        columns(z=Z * 5, ngl=1),
        "the number of rows must be in [1, 4] (--max_batch). Received: 5",
    ),
    (
        columns("sample", samp_z_n=5, seed=0),
        "samp_z_n must be in [1, 4] (--max_batch). Received: 5",
    ),
    (
        columns("flatten", z=Z, ngl=1, flat_pad=2**31 - 1),
        "flat_pad must be in [0, 16384] (--max_pad). Received: 2147483647",
    ),
    (
        columns("invert", G_z_norm=np.full((1, 128, 128, 1), 1e9), ngl=1),
        "G_z has NaN or infinite values, which JSON cannot hold",
    ),
]
PATHS = [
    ("GET", "/", 404, "nothing at '/'"),
    ("POST", "/metrics", 404, "nothing at '/metrics'"),
    ("GET", "/v1/models", 400, "malformed request: GET '/v1/models'"),
    ("GET", "/v1/models/other", 404, "no model 'other'. This server has: specgan"),
    ("GET", PREDICT, 400, "malformed request: GET '/v1/models/specgan:predict'"),
    ("POST", MODEL, 400, "malformed request: POST '/v1/models/specgan'"),
    ("DELETE", MODEL, 400, "malformed request: DELETE '/v1/models/specgan'"),
    ("POST", MODEL + ":classify", 400, "a SpecGAN has no classify, only predict"),
    ("POST", MODEL + ":regress", 400, "a SpecGAN has no regress, only predict"),
    ("GET", MODEL + "/versions/2", 404, "no version 2 of model specgan"),
    (
        "GET",
        MODEL + "/versions/x",
        400,
        "malformed request: GET '/v1/models/specgan/ver",
    ),
    (
        "GET",
        MODEL + "/versions/" + "9" * 19,
        400,
        "malformed request: GET '/v1/models/",
    ),
    (
        "GET",
        MODEL + "/versions/2/metadata",
        404,
        "version 2 is not served; version 1 is",
    ),
    (
        "POST",
        MODEL + "/versions/2:predict",
        404,
        "version 2 is not served; version 1 is",
    ),
    ("GET", MODEL + "/labels/stable", 400, "unrecognized version label 'stable'"),
    (
        "POST",
        MODEL + "/labels/stable:predict",
        400,
        "unrecognized version label 'stable",
    ),
]


def test_mistakes_are_reported(server):
    for body, says in REFUSED:
        if isinstance(body, str):
            body = body.encode("latin1")
        status, content = server.ask("POST", PREDICT, body)
        assert content.keys() == {"error"}, says
        assert status == 400 and content["error"].startswith(says), content
    for method, path, status, says in PATHS:
        got, content = server.ask(method, path, b"{}" if method == "POST" else None)
        assert got == status and content["error"].startswith(says), content
    assert server.state(1) == "AVAILABLE"


def test_bodies_that_are_too_long(server):
    says = {"error": "the body has more than 300000 bytes (--max_body)"}
    for body in (
        b" " * 300_001,
        iter([b" " * 100_000] * 4),
        iter([b" " * 1000] * 2000),
    ):
        with contextlib.closing(server.connect()) as connection:
            connection.request("POST", PREDICT, body)
            response = connection.getresponse()
            assert (response.status, json.load(response)) == (413, says)


def test_metrics(server):
    def counted(signature, status):
        name = f'specgan_requests_total{{signature="{signature}",status="{status}"}}'
        return server.metric(name)

    before = counted("generate", 200), counted("-", 400)
    seconds = server.metric('specgan_request_seconds_count{signature="generate"}')
    rows = server.metric("specgan_batch_rows_sum")
    server.predict(columns("generate", z=LATENTS[:3]))
    server.predict({})
    assert (counted("generate", 200), counted("-", 400)) == tuple(n + 1 for n in before)
    name = 'specgan_request_seconds_count{signature="generate"}'
    assert server.metric(name) == seconds + 1
    assert server.metric("specgan_batch_rows_sum") == rows + 3
    assert server.metric("specgan_queue_length") == 0
    assert server.metric("specgan_version") == 1
    assert server.metric("process_resident_memory_bytes") > 1e8


# Limits in time, and the end


def test_queue_and_timeout(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "1")
    flags = "--max_ngl 1000000 --max_queue 2 --timeout 10".split()
    with running(str(tmp_path), *flags) as server:
        # Not to be done in 10 s by any machine; the server is killed over it.
        long, short, answers = work(1_000_000), work(1), []
        begun = server.metric("specgan_batch_rows_count")

        def ask(body):
            connection = server.connect()
            answers.append(server.ask("POST", PREDICT, body, connection))

        threads = [threading.Thread(target=ask, args=(long,))]
        threads[0].start()
        wait_for(lambda: server.metric("specgan_batch_rows_count") > begun)
        # While it is computed, two may wait and a third may not.
        for _ in range(2):
            threads.append(threading.Thread(target=ask, args=(short,)))
            threads[-1].start()
        wait_for(lambda: server.metric("specgan_queue_length") == 2)
        full = "2 requests wait already (--max_queue)"
        assert server.ask("POST", PREDICT, short) == (503, {"error": full})
        for thread in threads:
            thread.join()
        assert answers == [(504, {"error": "not done within 10 s (--timeout)"})] * 3
        assert server.metric("specgan_queue_length") == 0


def test_sigterm_lets_a_request_finish(saved, tmp_path):
    """Of a server that is started as users do: python -m."""
    shutil.copytree(saved[0], tmp_path / "1")
    with running(str(tmp_path), "--max_ngl", "1000000") as server:
        body = work(3 * steps_per_second(server))
        begun, answers = server.metric("specgan_batch_rows_count"), []

        def ask():
            answers.append(server.ask("POST", PREDICT, body, server.connect()))

        thread = threading.Thread(target=ask)
        thread.start()
        wait_for(lambda: server.metric("specgan_batch_rows_count") > begun)
        server.process.send_signal(signal.SIGTERM)

        def refused():
            try:
                server.connect().connect()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:  # it closed at that moment
                return False

        wait_for(refused)
        thread.join()
        ((status, content),) = answers
        assert status == 200 and np.shape(content["outputs"]) == (1, 16384, 1)
        assert server.process.wait(300) == 0
        assert "Traceback" not in server.log()


def command(*args):
    """(status, only line of stderr) of a command that ends by itself."""
    done = subprocess.run(
        [sys.executable, *MODULE, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    return done.returncode, line


@pytest.mark.parametrize("name", ["specgan_tf.serving", "specgan_tf.serve"])
def test_help_comes_without_tensorflow(name):
    """Of the server, and of the command that takes models by name."""
    argv = [sys.executable, "-X", "importtime", "-m", name, "--help"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--max_ngl" in done.stdout and "argparse" in done.stderr
    for slow in ("tensorflow", "numpy", "starlette", "uvicorn"):
        assert slow not in done.stderr


def test_mistakes_are_one_line(saved, tmp_path):
    prog = "python -m specgan_tf.serving: error: "
    says = f"{tmp_path}/none does not exist: pass the folder that export.py wrote"
    assert command(tmp_path / "none") == (2, prog + says)
    (tmp_path / "a.txt").touch()
    says = f"{tmp_path}/a.txt is not a folder: pass the one that export.py wrote"
    assert command(tmp_path / "a.txt") == (2, prog + says)
    says = f"{tmp_path} holds no numbered SavedModels: export.py writes them"
    assert command(tmp_path) == (2, prog + says)
    status, line = command(saved[0])
    folder = os.path.dirname(saved[0])
    says = f"{saved[0]} is one version: pass the folder above, {folder}"
    assert (status, line) == (2, prog + says)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = command(folder, "--port", port)
    says = f"cannot listen on 127.0.0.1:{port}: Address already in use; try --port"
    assert (status, line) == (2, prog + says)
    for flag, value, says in (
        ("--max_batch", "0", "must be a number in [1, 2147483647]. Received: '0'"),
        ("--timeout", "nan", "must be a number in [0.01, 2147483647]. Received: 'nan'"),
        ("--port", "65536", "must be a number in [0, 65535]. Received: '65536'"),
        (
            "--cors",
            "localhost/",
            "must be an origin such as http://localhost:3000, or *. Received: "
            "'localhost/'",
        ),
        ("--model_name", "a/b", "may have letters, digits and ._-. Received: 'a/b'"),
    ):
        status, line = command(folder, flag, value)
        says = f"{prog}argument {flag}: {says} (--help lists every flag)"
        assert (status, line) == (2, says)


SERVE = "-m", "specgan_tf.serve"


@pytest.mark.slow
def test_a_model_by_its_name(tmp_path, measured):
    """Its sounds are those of Keras, inverted as its card says."""
    here = {"PYTHONPATH": ROOT, "TMPDIR": str(tmp_path)}
    with running(
        "digits", command=SERVE, cwd=tmp_path, env=os.environ | here
    ) as server:
        assert server.log().startswith("Exporting digits\nhttp://127.0.0.1:")
        outputs = server.predict(columns(outputs=["G_z"], z=LATENTS[:2], ngl=32))
        box = bundled.load("digits")
        assert box.griffin_lim.ngl == 32
        want = generate.render(box.G, box.moments, LATENTS[:2], box.griffin_lim)
        assert np.abs(want["G_z"]).max() > 0.1
        error = verify.log_spectral_distance(np.float32(outputs), want["G_z"])
        measured("log-spectral distance, dB", error, 0.5)
        (made,) = tmp_path.iterdir()
        assert server.end() == 0
    assert not made.exists()


def test_what_serve_takes_for_a_model(saved, tmp_path, monkeypatch):
    """Its name, unless an export is there, or an .npz."""
    monkeypatch.chdir(tmp_path)
    assert serve.is_model("drums") and serve.is_model("digits")
    os.makedirs("drums")  # a folder of sounds, say
    assert serve.is_model("drums")
    shutil.copytree(saved[0], "drums/1")
    assert not serve.is_model("drums")
    for other in ("guitars", "", ".", "drums/1", "none.npz"):
        assert not serve.is_model(other)
    with open("mine.npz", "w") as f:
        f.write("no model")
    done = subprocess.run(
        [sys.executable, *SERVE, "mine.npz"],
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == "Exporting mine.npz\n"
    assert done.stderr == (
        "python -m specgan_tf.serve: error: mine.npz cannot be exported: mine.npz is "
        "not a generator's .npz: it is damaged, or holds other types than float16, "
        "float32 and bytes\n"
    )


def test_nothing_that_can_be_loaded(tmp_path):
    for name in ("1", "2"):
        os.mkdir(tmp_path / name)
        (tmp_path / name / "saved_model.pb").write_bytes(b"no SavedModel")
    status, line = command(tmp_path, "--port", "0")
    assert status == 2
    assert f"error: nothing to serve in {tmp_path}: version 2: " in line
    assert "; version 1: " in line


# Thirty thousand requests of a stranger

ODD = 'null true -1 0 1e39 1e999 2147483648 NaN "" "x" [] {} [[]] [1] {"b64":"?"}'
ODD = [*ODD.split(), "9" * 400, "[" * 1000 + "]" * 1000, "-0.0", '{"b64": "eA=="}']


def malformed(rng):
    """(method, path, body): a valid request with something done to it."""
    z = (
        "["
        + ",".join(["[" + ",".join(["0.5"] * 100) + "]"] * rng.choice([1, 1, 2]))
        + "]"
    )
    outputs = '"output_filter":["G_z_int16"]'
    body, path, method = (
        rng.choice(
            [
                f'{{"inputs":{{"z":{z},"ngl":1}},{outputs}}}',
                f'{{"signature_name":"generate","instances":{z}}}',
                '{"signature_name":"sample","inputs":{"samp_z_n":2,"seed":1}}',
                f'{{"signature_name":"wav","inputs":{{"z":{z},"ngl":1}}}}',
                f'{{"signature_name":"invert","inputs":{{"G_z_norm":{z},"ngl":1}}}}',
            ]
        ),
        PREDICT,
        "POST",
    )
    how = rng.randrange(7)
    tokens = [m.span() for m in re.finditer(r'"\w*"|0\.5|[12]|[][{}:,]', body)]
    first, last = rng.choice(tokens)
    if how == 0:
        body = body[:first] + rng.choice(ODD) + body[last:]
    elif how == 1:
        body = body[:first] + body[last:]
    elif how == 2:
        body = body[: rng.randrange(len(body))]
    elif how == 3:
        body = body.replace(z, rng.choice(ODD))
    elif how == 4:
        start, end = rng.choice(tokens)
        body = body[:first] + body[start:end] + body[last:]
    elif how == 5:
        path = rng.choice([MODEL, PREDICT + "x", "/", "/v1/models/specgan/wav?n=-1"])
        path = rng.choice([path, f"{MODEL}/versions/{rng.choice('90x-')}:predict"])
        method = rng.choice(["POST", "GET", "PUT"])
    body = body.encode()
    if how == 6:
        at = rng.randrange(len(body))
        body = body[:at] + rng.randbytes(rng.randrange(1, 4)) + body[at + 1 :]
    return method, path, body


@pytest.mark.slow
def test_30000_malformed_requests(server, measured):
    """From eight clients at once. Memory is looked at in the second half: allocators
    settle in the first."""
    clients, each, memory = 8, 3750, []
    of_each = [collections.Counter() for _ in range(clients)]  # += is not for threads

    def client(seed):
        rng, connection = random.Random(seed), server.connect()
        statuses = of_each[seed]
        for i in range(each):
            status, content = server.ask(*malformed(rng), connection)
            statuses[status] += 1
            assert status in (200, 400, 404), content
            if status != 200:
                assert content.keys() == {"error"} and len(content["error"]) > 10
            if seed == 0 and i % 75 == 74:
                rss = server.metric("process_resident_memory_bytes")
                memory.append((sum(c.total() for c in of_each) / 1000, rss / 2**20))

    with futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    statuses = sum(of_each, collections.Counter())
    print(statuses, memory[::10])
    assert statuses.total() == clients * each and statuses[400] > 15_000
    thousands, mebibytes = np.transpose(memory[len(memory) // 2 :])
    slope = np.polyfit(thousands, mebibytes, 1)[0]
    measured("MiB per 1000 requests", slope, 1.0)


# What the documents say


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def blocks(path, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", read(path), re.DOTALL | re.MULTILINE)
    return [text for its, text in found if its == language]


def test_the_documents_examples_run(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = f"127.0.0.1:{server.port}"
    scripts = [*blocks("docs/SERVING.md", "python"), *blocks("README.md", "python")]
    scripts = [s for s in scripts if "127.0.0.1:8501" in s]
    made = {}
    for script in scripts:
        exec(script.replace("127.0.0.1:8501", here), made)
    assert len(scripts) == 3
    assert made["audio"].shape == (2, 16384, 1)
    assert np.shape(made["spectrograms"]) == (2, 128, 128, 1)
    assert np.shape(made["G_z"]) == (4, 16384, 1)
    commands = [*blocks("docs/SERVING.md", "sh"), *blocks("README.md", "")]
    commands = [c for c in commands if "curl" in c]
    said = []
    for text in commands:
        text = text[text.index("curl") :].replace("127.0.0.1:8501", here)
        done = subprocess.run(["bash", "-ec", text], capture_output=True, check=True)
        said.append(done.stdout)
    assert len(commands) == 4
    assert b'"AVAILABLE"' in said[0] and b'{"outputs":[[' in said[2]
    for name, sounds in {"sounds.wav": 4, **{f"{i}.wav": 1 for i in range(4)}}.items():
        with wave.open(name) as f:
            assert f.getnframes() == 16384 * sounds


def test_the_documents_commands_and_limits_are_the_parsers():
    parser = serving.make_parser()
    text = read("docs/SERVING.md") + read("README.md")
    lines = re.findall(r"python -m specgan_tf.serving (.*)", text)
    for line in lines:
        args = parser.parse_args(line.split())
        assert (args.host, args.port) == ("127.0.0.1", 8501)
    assert len(lines) == 2
    flags = {a.option_strings[0]: a.default for a in parser._actions if a.default}
    limits = read("docs/SERVING.md").partition("## Limits")[2].partition("\n## ")[0]
    for flag, default in re.findall(r"^\| `(--\w+)` \| (\S+) \|", limits, re.MULTILINE):
        assert flags.pop(flag, 0) == float(default), flag
    assert flags.keys() == {"-h", "--port", "--host", "--model_name"}


def test_the_compose_file_serves_the_export_read_only():
    text = read("docs/compose.yaml")
    assert "image: tensorflow/serving:" in text and "MODEL_NAME: specgan" in text
    assert re.search(r"target: /models/specgan\n +read_only: true", text)
    assert re.findall(r'- "(\S+)"', text) == [
        "127.0.0.1:8500:8500",
        "127.0.0.1:8501:8501",
    ]


@pytest.mark.slow
def test_saved_model_cli(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "out" / "specgan" / "1")
    (text,) = [b for b in blocks("docs/SERVING.md", "sh") if "saved_model_cli" in b]
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    subprocess.run(
        ["bash", "-ec", text],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=True,
    )
    assert np.load(tmp_path / "out" / "sounds" / "G_z.npy").shape == (4, 16384, 1)


@pytest.mark.slow
def test_the_load_test_runs(tmp_path):
    out = tmp_path / "out" / "serving.json"
    flags = ["--dim", "1", "--ngl", "1", "--seconds", "0.5", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(out.read_text())["rows"]
    assert [row["clients"] for row in rows] == [1, 1, 8, 8, 32, 32]
    assert all(row["requests"] > 0 and row["errors"] == 0 for row in rows)
    assert rows[-2]["rows at a time"] > rows[-1]["rows at a time"] == 1
    assert len(re.findall(r"^\| \d", done.stdout, re.MULTILINE)) == 6


def test_sigterm_during_an_export_leaves_nothing(tmp_path):
    argv = [sys.executable, "-m", "specgan_tf.serve", "drums", "--port", "0"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as server:
        try:
            while not list(tmp_path.glob("specgan.*")) and server.poll() is None:
                time.sleep(0.05)
            server.terminate()
            assert server.wait(120) == 128 + signal.SIGTERM
        finally:
            server.kill()
    assert not list(tmp_path.glob("specgan.*"))
