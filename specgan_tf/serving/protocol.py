"""TensorFlow Serving's JSON: requests to tensors, and tensors to answers."""

import base64
import binascii
import contextlib
import dataclasses
import itertools
import reprlib
import time

import numpy as np
import orjson

from .signature import Signature

# Signatures with one row of outputs per row of inputs: their requests can be joined,
# and the answers split again.
JOINED = {"serving_default", "synthesize", "generate", "wav", "invert"}
# Inputs that bound the work -> the minimum, and the flag that sets the maximum.
LIMITED = {
    "ngl": (0, "max_ngl"),
    "flat_pad": (0, "max_pad"),
    "samp_z_n": (1, "max_batch"),
}


class Refused(Exception):
    """Answers a request with an HTTP error: a status other than 200, and the reason."""

    def __init__(
        self, status: int, reason: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


# Requests: JSON -> tensors


def read_json(body: bytes) -> dict:
    """Parse the JSON object in a request's body.

    NaN and Infinity, which TensorFlow Serving accepts, are not JSON and are refused.
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


BRIEF = reprlib.Repr()  # stops at a few levels of a stranger's nesting
BRIEF.maxstring = BRIEF.maxother = 60


def brief(value: object) -> str:
    """A shortened part of a request, for an error message."""
    if isinstance(value, bytes | bytearray):
        return value[:60].decode(errors="replace")
    return BRIEF.repr(value)


def is_b64(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def read_tensor(
    name: str, value: object, dtype: np.dtype, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Nested lists -> array; None in the shape stands for any size but zero."""
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
        raise Refused(400, f"{name} must have shape {wanted}. Received: {sizes}")
    return read_values(name, values, dtype).reshape(sizes)


def read_values(name: str, values: list, dtype: np.dtype) -> np.ndarray:
    """A list -> array. As in TensorFlow Serving, true is no number, and 1.0 no int."""

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


def objects(values: list) -> np.ndarray:
    """A list as an object array [n], even if its elements are lists."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def read_string(name: str, value: object) -> bytes:
    """A string, or {"b64": "..."} -> bytes."""
    if isinstance(value, str):
        return value.encode()
    if is_b64(value) and isinstance(value["b64"], str):
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(value["b64"], validate=True)
    raise Refused(400, f'{name} must be a string or {{"b64": "..."}}, base64')


def read_rows(signature: Signature, instances: object) -> dict[str, list]:
    """The row form, a list of rows -> dict of input name -> nested lists."""
    if not isinstance(instances, list) or not instances:
        raise Refused(400, "'instances' must be a list of at least one row")
    alone = [name for name, (_, shape) in signature.inputs.items() if not shape]
    if alone:
        raise Refused(
            400,
            f"signature {signature.name!r} takes one {', '.join(alone)} for all rows: "
            "use 'inputs' instead of 'instances'",
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


def read_columns(signature: Signature, inputs: object) -> dict[str, object]:
    """The columnar form, rows by input -> dict of input name -> nested lists."""
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


def read_outputs(signature: Signature, names: object) -> list[str]:
    """The outputs that PredictRequest's output_filter selects; None selects all."""
    if names is None:
        return signature.outputs
    if not isinstance(names, list) or not names:
        raise Refused(400, "'output_filter' must be a list of outputs' names")
    for name in names:
        if name not in signature.outputs:
            raise Refused(
                400,
                f"signature {signature.name!r} has no output {brief(name)}. It has: "
                f"{', '.join(signature.outputs)}",
            )
    return [name for name in signature.outputs if name in names]


def find_signature(signatures: dict[str, Signature], name: object) -> Signature:
    if not isinstance(name, str):
        raise Refused(400, "'signature_name' must be a string")
    try:
        return signatures[name or "serving_default"]
    except KeyError:
        raise Refused(
            400,
            f"no signature {brief(name)}. The model has: {', '.join(signatures)}",
        ) from None


def read_predict(
    body: bytes, signatures: dict[str, Signature], limits: dict[str, float]
) -> "Job":
    """The body of a predict request -> Job.

    Raises:
      Refused: the body is not such a request, or exceeds a limit.
    """
    request = read_json(body)
    known = "signature_name", "instances", "inputs", "output_filter"
    for key in request.keys() - {*known}:
        raise Refused(400, f"unknown key {brief(key)}. Known: {', '.join(known)}")
    forms = request.keys() & {"instances", "inputs"}
    if len(forms) != 1:
        raise Refused(400, "a request must have either 'instances' or 'inputs'")
    signature = find_signature(signatures, request.get("signature_name", ""))
    outputs = read_outputs(signature, request.get("output_filter"))
    read = read_rows if "instances" in forms else read_columns
    values = read(signature, request[forms.pop()])
    tensors = {
        name: read_tensor(name, values[name], dtype, shape)
        for name, (dtype, shape) in signature.inputs.items()
    }
    return make_job(signature, tensors, limits, outputs, read is read_rows)


def make_job(
    signature: Signature,
    tensors: dict[str, np.ndarray],
    limits: dict[str, float],
    outputs: list[str] | None = None,
    by_row: bool = False,
) -> "Job":
    """A job, if it is within the limits; otherwise raises Refused."""
    for name, (least, flag) in LIMITED.items():
        if name in tensors:
            check(name, int(tensors[name]), least, limits, flag)
    rows = [len(t) for t in tensors.values() if t.ndim]
    for n in rows:
        check("the number of rows", n, 1, limits, "max_batch")
    if len({*rows}) > 1:
        raise Refused(400, f"inputs must have equally many rows. Received: {rows}")
    return Job(signature, tensors, outputs or signature.outputs, by_row)


def check(
    what: str, value: int, least: int, limits: dict[str, float], flag: str
) -> None:
    """Raise Refused unless the value is in [least, the limit that the flag sets]."""
    most = limits[flag]
    if not least <= value <= most:
        raise Refused(
            400, f"{what} must be in [{least}, {most}] (--{flag}). Received: {value}"
        )


@dataclasses.dataclass(eq=False)
class Job:
    """A parsed request, which waits to be computed."""

    signature: Signature
    tensors: dict[str, np.ndarray]
    outputs: list[str]  # the names to answer with
    by_row: bool = False  # whether the request has the row form

    def __post_init__(self):
        self.rows = max([len(t) for t in self.tensors.values() if t.ndim], default=0)
        self.done, self.arrived = None, time.monotonic()

    def joins(self, other: "Job") -> bool:
        """Whether both can be computed in one call: the same signature and scalars."""
        return (
            self.signature is other.signature
            and self.signature.name in JOINED
            and all(
                t.ndim or t == other.tensors[name] for name, t in self.tensors.items()
            )
        )


# Answers: tensors -> JSON


def write_predict(made: dict[str, np.ndarray], job: Job) -> bytes:
    """The body of the answer. A single output appears without its name."""
    outputs, by_row = job.outputs, job.by_row
    values = {name: jsonable(name, made[name]) for name in outputs}
    for name in outputs if by_row else ():
        if made[name].shape[:1] != (job.rows,):
            raise Refused(400, f"{name} has no rows: use 'inputs', not 'instances'")
    if len(outputs) == 1:
        answer = values[outputs[0]]
    elif by_row:
        rows = zip(*values.values(), strict=True)
        answer = [dict(zip(values, row, strict=True)) for row in rows]
    else:
        answer = values
    answer = {"predictions" if by_row else "outputs": answer}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def jsonable(name: str, array: np.ndarray) -> object:
    """What orjson can write: an array, a number, or nested lists of strings."""
    if array.dtype.kind == "O":
        return jsonable_strings(name, array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused(400, f"{name} has NaN or infinite values, which JSON cannot hold")
    return np.ascontiguousarray(array) if array.ndim else array.item()


def jsonable_strings(name: str, array: np.ndarray) -> list:
    """Nested lists of text, or of {"b64": "..."} if the name ends in _bytes.

    Bytes that are not text become base64 too. (TensorFlow Serving writes them as they
    are, and its answer is not valid JSON then.)
    """
    values = array.ravel().tolist()
    try:
        if name.endswith("_bytes"):
            raise UnicodeError
        values = [value.decode() for value in values]
    except UnicodeError:
        values = [{"b64": base64.b64encode(value).decode()} for value in values]
    return objects(values).reshape(array.shape).tolist()
