"""Requests and answers, against TensorFlow Serving's own messages; no server."""

import json

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from specgan_tf.serving import batching, protocol
from specgan_tf.serving.signature import Signature

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


def test_requests_become_the_tensors_of_a_predict_request():
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    wanted = predict_pb2.PredictRequest()
    wanted.inputs["tag"].CopyFrom(tf.make_tensor_proto(["foo", "bar"]))
    signal = tf.make_tensor_proto([[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]], tf.float32)
    wanted.inputs["signal"].CopyFrom(signal)
    sensor = tf.make_tensor_proto([[[1, 2], [3, 4]], [[4, 5], [6, 8]]], tf.float32)
    wanted.inputs["sensor"].CopyFrom(sensor)
    wanted.output_filter.extend(["b"])

    signature = Signature("serving_default", None, ANYTHING, ["a", "b"])
    given = {"serving_default": signature}
    by_column = {name: [row[name] for row in ROWS] for name in ANYTHING}
    for form in ({"instances": ROWS}, {"inputs": by_column}):
        body = json.dumps(form | {"output_filter": ["b"]})
        job = protocol.read_predict(body, given, {"max_batch": 2})
        assert job.outputs == list(wanted.output_filter) and job.rows == 2
        got = predict_pb2.PredictRequest(output_filter=job.outputs)
        for name, array in job.tensors.items():
            got.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        assert got.inputs == wanted.inputs

    # One input: its name may be left out.
    one = {
        "serving_default": Signature(
            "serving_default", None, {"s": ANYTHING["tag"]}, ["a"]
        )
    }
    for form in ("instances", "inputs"):
        for values in (["foo", "bar", "baz"], [{"b64": "Zm9v"}, "bar", "baz"]):
            body = json.dumps({form: values})
            job = protocol.read_predict(body, one, {"max_batch": 3})
            assert job.tensors["s"].tolist() == [b"foo", b"bar", b"baz"]


def test_answers_are_of_tensorflow_servings_form():
    """Row or columnar, the name of a single output left out, _bytes in base64."""
    signature = Signature("s", None, {"x": (np.dtype("f4"), (None,))}, [])
    made = {
        "a": np.array([0.2, 3], np.float32),
        "n": np.array([[1], [-2]], np.int16),
        "text": np.array([b"x", b"\xc3\xa9"], object),
        "jpeg_bytes": np.array([b"x", b"\xff"], object),
    }
    x = {"x": np.zeros(2, np.float32)}

    def written(by_row, *outputs):
        job = protocol.Job(signature, x, outputs, by_row)
        return protocol.write_predict(made, job).decode()

    a_row = '{"a":0.2,"n":[1],"text":"x","jpeg_bytes":{"b64":"eA=="}}'
    another = '{"a":3.0,"n":[-2],"text":"é","jpeg_bytes":{"b64":"/w=="}}'
    assert written(True, *made) == f'{{"predictions":[{a_row},{another}]}}'
    assert written(True, "n") == '{"predictions":[[1],[-2]]}'
    assert written(False, "a") == '{"outputs":[0.2,3.0]}'
    assert written(False, "a", "n") == '{"outputs":{"a":[0.2,3.0],"n":[[1],[-2]]}}'
    # As bytes of any name that are no text, for which there is no other JSON.
    made["text"][1] = b"\xff"
    assert written(False, "text") == '{"outputs":[{"b64":"eA=="},{"b64":"/w=="}]}'


def test_one_failure_does_not_fail_the_others():
    def function(x):
        if (x.numpy() < 0).any():
            raise tf.errors.InvalidArgumentError(None, None, "negative\nin node y")
        return {"y": x}

    function = Signature("generate", function, {"x": (np.dtype("f4"), (None,))}, [])
    jobs = [
        protocol.Job(function, {"x": np.array(x, np.float32)}, ["y"])
        for x in ([1, 2], [-1], [3])
    ]
    first, failed, last = batching.compute(jobs)
    assert first["y"].tolist() == [1, 2] and last["y"].tolist() == [3]
    assert (failed.status, failed.reason) == (400, "negative")
