"""How long the codecs take, next to what they replace: pytest tests/benchmarks -m benchmark."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2

from tests.benchmarks.conftest import Report, medians
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_reply import read_outputs, write_outputs
from tfbundle_serving.apis.json_request import read_inputs, write_inputs
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import (
    PredictRequest,
    PredictResponse,
    decode_predict_request,
    decode_predict_response,
    encode_predict_request,
    encode_predict_response,
)
from tfbundle_serving.apis.signatures import Signature, TensorSpec

pytestmark = pytest.mark.benchmark

SPEC = ModelSpec("digits", 3)
SIGNATURE = Signature(
    {"x": TensorSpec(dtypes.FLOAT, (None, 256))},
    {"y": TensorSpec(dtypes.FLOAT, (None, 256))},
)
#: 10 MB of float32.
ROWS = 10_240


def normal(rows: int = ROWS, dtype: Any = np.float32) -> NDArray[Any]:
    """Normally distributed values, the worst case for text."""
    return np.random.default_rng(0).standard_normal((rows, 256)).astype(dtype)


def official_reply(array: NDArray[Any], field: str) -> bytes:
    """Serialise a PredictResponse with typed values through the official class."""
    message = predict_pb2.PredictResponse()
    message.model_spec.name = "digits"
    tensor = message.outputs["y"]
    tensor.dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    getattr(tensor, field).extend(array.view(np.uint16).ravel() if field == "half_val" else array.ravel())
    data: bytes = message.SerializeToString()
    return data


def with_tensorflow(data: bytes) -> NDArray[Any]:
    """Read a reply the way a client of tensorflow-serving-api does."""
    array: NDArray[Any] = tf.make_ndarray(predict_pb2.PredictResponse.FromString(data).outputs["y"])
    return array


def test_encode_of_a_request(report: Report) -> None:
    """Writing a request of 10 MB costs little more than one copy of its bytes."""
    array = normal()
    request = PredictRequest(SPEC, {"x": array})
    took = medians({"copy": array.tobytes, "ours": lambda: encode_predict_request(request)}, rounds=41)
    report.time("one copy of 10 MB", took["copy"])
    report.ratio("gRPC request 10 MB float32, of one copy", took["ours"] / took["copy"], 1.3, at_most=True)


def test_decode_of_a_float_val_reply(report: Report) -> None:
    """TensorFlow Serving's default reply of 10 MB is read without touching the values."""
    array = normal()
    data = official_reply(array, "float_val")
    np.testing.assert_array_equal(decode_predict_response(data).outputs["y"], with_tensorflow(data))
    theirs = medians({"theirs": lambda: with_tensorflow(data)}, rounds=3)["theirs"]
    ours = medians({"ours": lambda: decode_predict_response(data)}, rounds=9, calls=20)["ours"]
    report.time("float_val reply 10 MB, tf.make_ndarray", theirs)
    report.time("float_val reply 10 MB, ours", ours)
    report.ratio("float_val reply 10 MB, times faster than tf.make_ndarray", theirs / ours, 100, at_most=False)


def test_decode_of_content(report: Report) -> None:
    """A reply with tensor_content is read faster than by TensorFlow, too."""
    data = encode_predict_response(PredictResponse(SPEC, {"y": normal()}), typed=False)
    took = medians({"theirs": lambda: with_tensorflow(data), "ours": lambda: decode_predict_response(data)})
    report.ratio("tensor_content reply 10 MB, times faster", took["theirs"] / took["ours"], 10, at_most=False)


@pytest.mark.parametrize(
    ("what", "field", "dtype", "times"),
    [
        ("half", "half_val", np.float16, 5),
        ("int64, classes and ids", "int64_val", np.int64, 5),
        ("int64, half of them negative", "int64_val", np.int64, 2),
        ("int32, half of them negative", "int_val", np.int32, 2),
        ("bool", "bool_val", bool, 5),
    ],
)
def test_replies_of_varints(report: Report, what: str, field: str, dtype: Any, times: float) -> None:
    """Half, integers and bools come as one varint a value, and are read several times faster than TensorFlow does.

    A negative number takes ten bytes, of which protobuf's own reader makes a number faster than numpy can.
    """
    values = normal(1024) * (1 if field == "half_val" else 1000)
    if "ids" in what:
        values = abs(values) * 10
    array = (values > 0) if dtype is bool else values.astype(dtype)
    data = official_reply(array, field)
    reply = PredictResponse(SPEC, {"y": array})
    np.testing.assert_array_equal(decode_predict_response(data).outputs["y"], array)
    took = medians(
        {
            "theirs": lambda: with_tensorflow(data),
            "read": lambda: decode_predict_response(data),
            "write": lambda: encode_predict_response(reply),
        },
        rounds=5,
    )
    report.time(f"{what}: reply of 262144 values, read", took["read"])
    report.time(f"{what}: reply of 262144 values, written", took["write"])
    faster = took["theirs"] / took["read"]
    report.ratio(f"{what}: reply, times faster than tf.make_ndarray", faster, times, at_most=False)


def test_one_kilobyte(report: Report) -> None:
    """Small messages cost some millionths of a second, no more than with TensorFlow."""
    array = normal(1)
    request, reply = PredictRequest(SPEC, {"x": array}), PredictResponse(SPEC, {"y": array})
    request_data, reply_data = encode_predict_request(request), encode_predict_response(reply)
    json_request, json_reply = write_inputs({"x": array}, SIGNATURE), write_outputs({"y": array}, rows=True)
    took = medians(
        {
            "gRPC request 1 KB, written": lambda: encode_predict_request(request),
            "gRPC request 1 KB, read": lambda: decode_predict_request(request_data),
            "gRPC reply 1 KB, written": lambda: encode_predict_response(reply),
            "gRPC reply 1 KB, read": lambda: decode_predict_response(reply_data),
            "tf.make_ndarray reply 1 KB, read": lambda: with_tensorflow(reply_data),
            "JSON request 1 KB, written": lambda: write_inputs({"x": array}, SIGNATURE),
            "JSON request 1 KB, read": lambda: read_inputs(parse(json_request), SIGNATURE, ""),
            "JSON reply 1 KB, written": lambda: write_outputs({"y": array}, rows=True),
            "JSON reply 1 KB, read": lambda: read_outputs(json_reply, SIGNATURE),
        },
        calls=500,
    )
    for what, seconds in took.items():
        report.time(what, seconds)
    theirs, ours = took["tf.make_ndarray reply 1 KB, read"], took["gRPC reply 1 KB, read"]
    report.ratio("gRPC reply 1 KB, times faster than tf.make_ndarray", theirs / ours, 1, at_most=False)


def test_json_request(report: Report) -> None:
    """Writing a JSON request costs what orjson takes for the bare array; reading it, little more than orjson."""
    array = normal()
    body = write_inputs({"x": array}, SIGNATURE)
    took = medians(
        {
            "bare": lambda: orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY),
            "write": lambda: write_inputs({"x": array}, SIGNATURE),
            "loads": lambda: np.array(json.loads(body)["inputs"]["x"], np.float32),
            "read": lambda: read_inputs(parse(body), SIGNATURE, ""),
        },
        rounds=5,
    )
    report.time("JSON request 10 MB float32, written", took["write"])
    report.time("JSON request 10 MB float32, read", took["read"])
    report.ratio("JSON request written, of orjson's bare array", took["write"] / took["bare"], 1.2, at_most=True)
    report.ratio("JSON request read, of json.loads and np.array", took["read"] / took["loads"], 1.2, at_most=True)


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "columns"])
def test_json_reply(report: Report, rows: bool) -> None:
    """Reading a JSON reply is several times faster than Python's own parser and numpy."""
    array = normal()
    body = write_outputs({"y": array}, rows=rows)
    key = "predictions" if rows else "outputs"
    took = medians(
        {
            "bare": lambda: orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY),
            "write": lambda: write_outputs({"y": array}, rows=rows),
            "json": lambda: np.array(json.loads(body)[key], np.float32),
            "orjson": lambda: np.array(orjson.loads(body)[key], np.float32),
            "read": lambda: read_outputs(body, SIGNATURE),
        },
        rounds=15,
    )
    report.time(f"JSON reply 10 MB ({key}), written", took["write"])
    report.time(f"JSON reply 10 MB ({key}), read", took["read"])
    report.ratio(f"JSON reply ({key}) written, of orjson's bare array", took["write"] / took["bare"], 1.2, at_most=True)
    report.ratio(
        f"JSON reply ({key}) read, times faster than orjson", took["orjson"] / took["read"], 1.3, at_most=False
    )
    report.ratio(f"JSON reply ({key}) read, times faster than json", took["json"] / took["read"], 3, at_most=False)


def test_json_reply_with_nan(report: Report) -> None:
    """A NaN among the values does not throw the reader back to the slow way."""
    array = normal()
    array[::100, 7] = np.nan
    body = write_outputs({"y": array}, rows=True)
    took = medians(
        {
            "bare": lambda: orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY),
            "write": lambda: write_outputs({"y": array}, rows=True),
            "json": lambda: np.array(json.loads(body)["predictions"], np.float32),
            "read": lambda: read_outputs(body, SIGNATURE),
        },
        rounds=5,
    )
    report.ratio("JSON reply with NaN written, of orjson's bare array", took["write"] / took["bare"], 2, at_most=True)
    report.ratio("JSON reply with NaN read, times faster than json", took["json"] / took["read"], 1, at_most=False)
