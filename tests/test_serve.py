"""The server over HTTP, against TensorFlow and TensorFlow Serving's own messages."""

import base64
import collections
import contextlib
import http.client
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

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from specgan_tf import SpecGANGenerator, export, generate
from specgan_tf.moments import Moments

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from specgan_tf import serve

SCRIPT = os.path.join(ROOT, "specgan_tf", "serve.py")
MOMENTS = Moments(np.full(129, -3, np.float32), np.ones(129, np.float32))
MODEL = "/v1/models/specgan"
PREDICT = MODEL + ":predict"
LATENTS = generate.sample_z(4, 100, 0).numpy()


class Running:
    """A server process, and one connection to it."""

    def __init__(self, folder, *flags, command=(SCRIPT,)):
        self.process = subprocess.Popen(
            [sys.executable, *command, folder, "--port", "0", "--poll", "0.1", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        said = self.process.stdout.readline()
        found = re.fullmatch(r"http://127.0.0.1:(\d+)/v1/models/specgan\n", said)
        assert found, said
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
    server = Running(*args, **kwargs)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of two SavedModels with different weights."""
    paths = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        G = SpecGANGenerator(dim=1)
        rs = np.random.RandomState(seed)
        for v in G.trainable_variables:  # loud enough for differences to show
            v.assign(v * 2 + 0.05 * rs.randn(*v.shape))
        paths.append(str(tmp_path_factory.mktemp("saved") / "1"))
        export.save_saved_model(G, MOMENTS, paths[-1], about={"ngl": 3})
    return paths


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


def columns(signature=None, outputs=None, **inputs):
    body = {"inputs": {k: np.asarray(v).tolist() for k, v in inputs.items()}}
    body |= {"signature_name": signature} if signature else {}
    return body | ({"output_filter": outputs} if outputs else {})


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


# The examples of TensorFlow Serving's page on its REST API, as PredictRequest has them.
ANYTHING = {
    "tag": (np.dtype(object), (None,)),
    "signal": (np.dtype("f4"), (None, 5)),
    "sensor": (np.dtype("f4"), (None, 2, 2)),
}
ROWS = [
    {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
    {"tag": {"b64": "YmFy"}, "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
]


def test_an_answers_body_does_not_wait_for_word_of_its_headers():
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(serve.listen("127.0.0.1", 0))
        stack.enter_context(socket.create_connection(listening.getsockname()))
        connection = stack.enter_context(listening.accept()[0])
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_requests_become_the_tensors_of_a_predict_request():
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    wanted = predict_pb2.PredictRequest()
    wanted.inputs["tag"].CopyFrom(tf.make_tensor_proto(["foo", "bar"]))
    signal = tf.make_tensor_proto([[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]], tf.float32)
    wanted.inputs["signal"].CopyFrom(signal)
    sensor = tf.make_tensor_proto([[[1, 2], [3, 4]], [[4, 5], [6, 8]]], tf.float32)
    wanted.inputs["sensor"].CopyFrom(sensor)
    wanted.output_filter.extend(["b"])

    signature = serve.Signature("serving_default", None, ANYTHING, ["a", "b"])
    given = {"serving_default": signature}
    by_column = {name: [row[name] for row in ROWS] for name in ANYTHING}
    for form in ({"instances": ROWS}, {"inputs": by_column}):
        body = json.dumps(form | {"output_filter": ["b"]})
        job = serve.read_predict(body, given, {"max_batch": 2})
        assert job.outputs == list(wanted.output_filter) and job.rows == 2
        got = predict_pb2.PredictRequest(output_filter=job.outputs)
        for name, array in job.tensors.items():
            got.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        assert got.inputs == wanted.inputs

    # One input: its name may be left out.
    one = {
        "serving_default": serve.Signature(
            "serving_default", None, {"s": ANYTHING["tag"]}, ["a"]
        )
    }
    for form in ("instances", "inputs"):
        for values in (["foo", "bar", "baz"], [{"b64": "Zm9v"}, "bar", "baz"]):
            body = json.dumps({form: values})
            job = serve.read_predict(body, one, {"max_batch": 3})
            assert job.tensors["s"].tolist() == [b"foo", b"bar", b"baz"]


def test_answers_are_of_tensorflow_servings_form():
    """Row or columnar, the name of a single output left out, _bytes in base64."""
    signature = serve.Signature("s", None, {"x": (np.dtype("f4"), (None,))}, [])
    made = {
        "a": np.array([0.2, 3], np.float32),
        "n": np.array([[1], [-2]], np.int16),
        "text": np.array([b"x", b"\xc3\xa9"], object),
        "jpeg_bytes": np.array([b"x", b"\xff"], object),
    }
    x = {"x": np.zeros(2, np.float32)}

    def written(by_row, *outputs):
        job = serve.Job(signature, x, outputs, by_row)
        return serve.write_predict(made, job).decode()

    a_row = '{"a":0.2,"n":[1],"text":"x","jpeg_bytes":{"b64":"eA=="}}'
    another = '{"a":3.0,"n":[-2],"text":"é","jpeg_bytes":{"b64":"/w=="}}'
    assert written(True, *made) == f'{{"predictions":[{a_row},{another}]}}'
    assert written(True, "n") == '{"predictions":[[1],[-2]]}'
    assert written(False, "a") == '{"outputs":[0.2,3.0]}'
    assert written(False, "a", "n") == '{"outputs":{"a":[0.2,3.0],"n":[[1],[-2]]}}'
    # As bytes of any name that are no text, for which there is no other JSON.
    made["text"][1] = b"\xff"
    assert written(False, "text") == '{"outputs":[{"b64":"eA=="},{"b64":"/w=="}]}'


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
        "?n=5": "samp_z_n must be in [1, 4] (--max_batch). Received: 5",
        "?n=0": "samp_z_n must be in [1, 4] (--max_batch). Received: 0",
        "?ngl=41": "ngl must be in [0, 40] (--max_ngl). Received: 41",
        "?n=x": "n must be a whole number. Received: 'x'",
        "?n=2147483648": "n must be int32 numbers. Received: 2147483648",
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
    function = serve.Signature.of(name, signatures.loaded.signatures[name])
    X = signatures("generate", z=LATENTS)["G_z_norm"]
    # A few steps: of 3e-8, as AVX2's kernels round other batches otherwise, three make
    # 2e-7 and sixteen 9e-6.
    inputs = {"z": LATENTS, "ngl": np.array(3, np.int32), "G_z_norm": X}

    def jobs(*parts):
        for part in parts:
            tensors = {k: inputs[k] for k in function.inputs}
            yield serve.Job(
                function,
                {k: v[part] if v.ndim else v for k, v in tensors.items()},
                function.outputs,
            )

    parts = slice(0, 1), slice(1, 3), slice(3, 4)
    alone = [serve.compute([job])[0] for job in jobs(*parts)]
    joined = serve.compute([*jobs(*parts)])
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


def test_one_that_fails_does_not_take_the_others_along():
    def function(x):
        if (x.numpy() < 0).any():
            raise tf.errors.InvalidArgumentError(None, None, "negative\nin node y")
        return {"y": x}

    function = serve.Signature(
        "generate", function, {"x": (np.dtype("f4"), (None,))}, []
    )
    jobs = [
        serve.Job(function, {"x": np.array(x, np.float32)}, ["y"])
        for x in ([1, 2], [-1], [3])
    ]
    first, failed, last = serve.compute(jobs)
    assert first["y"].tolist() == [1, 2] and last["y"].tolist() == [3]
    assert (failed.status, failed.reason) == (400, "negative")


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
    ("{}", "either 'instances' or 'inputs' must be there, not both"),
    (
        {"inputs": {"z": Z, "ngl": 1}, "instances": Z},
        "either 'instances' or 'inputs' must be there, not both",
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
        "signature 'serving_default' takes one ngl for all rows: give 'i",
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
    ({"signature_name": "nope", "inputs": Z}, "no signature 'nope'. There are: "),
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
    (columns(z=[[0.0]], ngl=1), "z must be of shape [b, 100]. Received: [1, 1]"),
    (columns(z=Z[0], ngl=1), "z must be of shape [b, 100]. Received: [100]"),
    (columns(z=[Z], ngl=1), "z must be of shape [b, 100]. Received: [1, 1, 100]"),
    (columns(z=[], ngl=1), "z must be of shape [b, 100]. Received: [0]"),
    (columns(z=[[]], ngl=1), "z must be of shape [b, 100]. Received: [1, 0]"),
    (columns(z=Z, ngl=[1]), "ngl must be of shape []. Received: [1]"),
    ({"inputs": {"z": [Z[0], [1]], "ngl": 1}}, "z is ragged: lists of 1 and 100"),
    (
        {"inputs": {"z": [Z[0], 1], "ngl": 1}},
        "z must be of shape [b, 100]. Received: [2]",
    ),
    (columns(z=[[True] * 100], ngl=1), "z must be float32 numbers. Received: True"),
    (columns(z=[["1"] * 100], ngl=1), "z must be float32 numbers. Received: '1'"),
    (
        {"inputs": {"z": [[{}] * 100], "ngl": 1}},
        "z must be float32 numbers. Received: {}",
    ),
    (
        {"inputs": {"z": {"b64": "eA=="}, "ngl": 1}},
        "z must be of shape [b, 100]. Received",
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
        "the rows of a request must be in [1, 4] (--max_batch). Received: 5",
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
        "G_z is NaN or infinite, which is no JSON",
    ),
]
PATHS = [
    ("GET", "/", 404, "nothing at '/'"),
    ("POST", "/metrics", 404, "nothing at '/metrics'"),
    ("GET", "/v1/models", 400, "malformed request: GET '/v1/models'"),
    ("GET", "/v1/models/other", 404, "no model 'other'. There is: specgan"),
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
        "version 2 is not served, version 1 is",
    ),
    (
        "POST",
        MODEL + "/versions/2:predict",
        404,
        "version 2 is not served, version 1 is",
    ),
    ("GET", MODEL + "/labels/stable", 400, "unrecognized version label 'stable'"),
    (
        "POST",
        MODEL + "/labels/stable:predict",
        400,
        "unrecognized version label 'stable",
    ),
]


def test_what_is_wrong_is_said(server):
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


def test_bodies_that_are_too_long_or_encoded(server):
    says = {"error": "the body is of more than 300000 bytes (--max_body)"}
    for body in (
        b" " * 300_001,
        iter([b" " * 100_000] * 4),
        iter([b" " * 1000] * 2000),
    ):
        with contextlib.closing(server.connect()) as connection:
            connection.request("POST", PREDICT, body)
            response = connection.getresponse()
            assert (response.status, json.load(response)) == (413, says)
    status, content = server.ask(
        "POST", PREDICT, b"\x1f\x8b", headers={"Content-Encoding": "gzip"}
    )
    assert (status, content["error"]) == (
        415,
        "a body must come as it is, without Content-Encoding",
    )


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
    module = "-m", "specgan_tf.serve"
    with running(str(tmp_path), "--max_ngl", "1000000", command=module) as server:
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

        wait_for(refused)
        thread.join()
        ((status, content),) = answers
        assert status == 200 and np.shape(content["outputs"]) == (1, 16384, 1)
        assert server.process.wait(300) == 0
        assert "Traceback" not in server.process.stdout.read()


def work(ngl):
    return columns(outputs=["G_z_int16"], z=LATENTS[:1], ngl=int(ngl))


def steps_per_second(server):
    """Of Griffin-Lim, on this machine now."""
    server.predict(work(500))
    began = time.monotonic()
    server.predict(work(500))
    return 500 / (time.monotonic() - began)


def command(*args):
    """(status, last line of stderr) of a command that ends by itself."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, args)], capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


def test_help_comes_without_tensorflow():
    argv = [sys.executable, "-X", "importtime", "-m", "specgan_tf.serve", "--help"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--max_ngl" in done.stdout and "starlette" in done.stderr
    assert "tensorflow" not in done.stderr


def test_mistakes_are_one_line(saved, tmp_path):
    prog = "python -m specgan_tf.serve: error: "
    status, line = command(tmp_path / "none")
    assert status == 2
    assert (
        line
        == f"{prog}no numbered SavedModels in {tmp_path}/none: export.py writes them"
    )
    status, line = command(saved[0])
    folder = os.path.dirname(saved[0])
    says = f"{saved[0]} is one version: give the folder above, {folder}"
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
        ("--model_name", "a/b", "must be of letters, digits and ._-. Received: 'a/b'"),
    ):
        status, line = command(folder, flag, value)
        assert (status, line) == (2, f"{prog}argument {flag}: {says}")


def test_nothing_that_can_be_loaded(tmp_path):
    for name in ("1", "2"):
        os.mkdir(tmp_path / name)
        (tmp_path / name / "saved_model.pb").write_bytes(b"no SavedModel")
    status, line = command(tmp_path, "--port", "0")
    assert status == 2
    assert f"error: nothing to serve in {tmp_path}: version 2: " in line
    assert "; version 1: " in line


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
            # One that cannot be loaded is said; the old one goes on.
            os.mkdir(folder / "7")
            (folder / "7" / "saved_model.pb").write_bytes(b"no SavedModel")
            wait_for(lambda: server.state(7) == "END")
            _, status = server.ask("GET", MODEL + "/versions/7")
            (version,) = status["model_version_status"]
            assert version["status"]["error_code"] == "UNKNOWN"
            assert version["status"]["error_message"]
            assert server.state(1) == "AVAILABLE" and server.state(3) is None
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
                "version 1 is not served, version 4 is",
            )
            assert server.metric("specgan_version") == 4
            (new,) = asked_since(switched)
            # Taken away again: back to the first.
            taken = time.monotonic()
            os.rename(folder / "4", tmp_path / "4")
            wait_for(lambda: server.state(1) == "AVAILABLE")
            assert asked_since(time.monotonic()) == {old}
            # Replaced in place, as export.py --overwrite does.
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
    versions = serve.Versions("nowhere", serve.Metrics())
    with pytest.raises(serve.Refused) as e, versions.using():
        pass
    assert (e.value.status, e.value.reason) == (503, "no version is loaded yet")


def test_weights_of_nan_are_not_served(tmp_path):
    G = SpecGANGenerator(dim=1)
    G.trainable_variables[0].assign(G.trainable_variables[0] * np.nan)
    export.save_saved_model(G, MOMENTS, str(tmp_path / "1"))
    with pytest.raises(ValueError, match=r"^its \w+ makes a G_z\w* of NaN$"):
        serve.Version(1, str(tmp_path / "1"))


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
def test_thirty_thousand_malformed_requests(server, measured):
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
    parser = serve.make_parser()
    text = read("docs/SERVING.md") + read("README.md")
    lines = re.findall(r"python -m specgan_tf.serve (.*)", text)
    for line in lines:
        args = parser.parse_args(line.split())
        assert (args.host, args.port) == ("127.0.0.1", 8501)
    assert len(lines) == 2
    flags = {a.option_strings[0]: a.default for a in parser._actions if a.default}
    for flag, default in re.findall(r"\| `(--\w+)` \| (\S+) \|", text):
        if flag.startswith(("--max_", "--batch_", "--timeout", "--threads", "--poll")):
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
