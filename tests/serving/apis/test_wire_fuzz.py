"""Arbitrary and damaged bytes: an answer or an error of ours, soon, and in little memory."""

from __future__ import annotations

import contextlib
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from tests.serving.apis.arrays import EVERY_DTYPE, array_of
from tfbundle_serving.apis import wire
from tfbundle_serving.apis.classification import (
    ClassificationResponse,
    Classifications,
    decode_classification_response,
    encode_classification_response,
)
from tfbundle_serving.apis.errors import ApiError, DecodeError
from tfbundle_serving.apis.example_proto import Feature, Kind, decode_example, encode_example
from tfbundle_serving.apis.health import (
    ServingStatus,
    decode_health_request,
    decode_health_response,
    encode_health_request,
    encode_health_response,
)
from tfbundle_serving.apis.input_proto import (
    ExamplesRequest,
    Input,
    decode_examples_request,
    encode_examples_request,
)
from tfbundle_serving.apis.model_metadata import (
    MetadataRequest,
    ModelMetadata,
    decode_metadata_request,
    decode_metadata_response,
    encode_metadata_request,
    encode_metadata_response,
)
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import (
    State,
    VersionStatus,
    decode_status_request,
    decode_status_response,
    encode_status_request,
    encode_status_response,
)
from tfbundle_serving.apis.multi_inference import (
    InferenceResult,
    InferenceTask,
    MultiInferenceRequest,
    decode_multi_inference_request,
    decode_multi_inference_response,
    encode_multi_inference_request,
    encode_multi_inference_response,
)
from tfbundle_serving.apis.predict import (
    PredictRequest,
    PredictResponse,
    decode_predict_request,
    decode_predict_response,
    encode_predict_request,
    encode_predict_response,
)
from tfbundle_serving.apis.regression import (
    RegressionResponse,
    Regressions,
    decode_regression_response,
    encode_regression_response,
)
from tfbundle_serving.apis.reload_config import (
    ReloadReply,
    ReloadRequest,
    decode_reload_reply,
    decode_reload_request,
    encode_reload_reply,
    encode_reload_request,
)
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import Signature, TensorSpec
from tfbundle_serving.apis.tensor_proto import MAX_EXPANDED_BYTES, decode_tensor, encode_tensor

SPEC = ModelSpec("digits", 3, signature="embed")
ARRAYS = {dtype.name: array_of(dtype) for dtype in EVERY_DTYPE}
SIGNATURE = Signature(
    {name: TensorSpec(dtype, (None, 3), f"{name}:0") for name, dtype in zip(ARRAYS, EVERY_DTYPE, strict=True)},
    {"y": TensorSpec(EVERY_DTYPE[0], None)},
)

FEATURES = {
    "name": Feature(Kind.BYTES, [b"a", b""]),
    "size": Feature(Kind.FLOAT, [0.5, -1.0]),
    "age": Feature(Kind.INT64, [1, -(2**63)]),
    "none": Feature(None),
}
EXAMPLES = ExamplesRequest(SPEC, Input([encode_example(FEATURES), b""], encode_example(FEATURES)))
CLASSES = Classifications(np.array([[b"a", b"b"]], object), np.array([[0.25, 0.75]], np.float32))
NUMBERS = Regressions(np.array([0.5, 0.0], np.float32))


def read_saved_model(data: bytes) -> Any:
    """Read a saved_model.pb, which is a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved_model.pb")
        path.write_bytes(data)
        return read_meta_graphs(path)


def a_saved_model() -> bytes:
    """A small but whole SavedModel message."""
    message = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = message.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.meta_info_def.tensorflow_version = "2.21.0"
    graph.signature_def["serving_default"].inputs["x"].dtype = 1
    data: bytes = message.SerializeToString()
    return data


#: Decoder and a valid message for it.
DECODERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "predict request": (decode_predict_request, encode_predict_request(PredictRequest(SPEC, ARRAYS, ["y"]))),
    "predict response": (decode_predict_response, encode_predict_response(PredictResponse(SPEC, ARRAYS))),
    "status request": (decode_status_request, encode_status_request(SPEC)),
    "status response": (
        decode_status_response,
        encode_status_response([VersionStatus(2, State.AVAILABLE), VersionStatus(1, State.END, 3, "no")]),
    ),
    "metadata request": (decode_metadata_request, encode_metadata_request(MetadataRequest(SPEC))),
    "metadata response": (
        decode_metadata_response,
        encode_metadata_response(ModelMetadata("digits", 3, {"serving_default": SIGNATURE})),
    ),
    "health request": (decode_health_request, encode_health_request("digits")),
    "health response": (decode_health_response, encode_health_response(ServingStatus.NOT_SERVING)),
    "example": (decode_example, encode_example(FEATURES)),
    "examples request": (decode_examples_request, encode_examples_request(EXAMPLES)),
    "classification response": (
        decode_classification_response,
        encode_classification_response(ClassificationResponse(SPEC, CLASSES)),
    ),
    "regression response": (
        decode_regression_response,
        encode_regression_response(RegressionResponse(SPEC, NUMBERS)),
    ),
    "inference request": (
        decode_multi_inference_request,
        encode_multi_inference_request(
            MultiInferenceRequest((InferenceTask(SPEC, "tensorflow/serving/classify"),), EXAMPLES.input)
        ),
    ),
    "inference response": (
        decode_multi_inference_response,
        encode_multi_inference_response([InferenceResult(SPEC, CLASSES), InferenceResult(SPEC, NUMBERS)]),
    ),
    "reload request": (decode_reload_request, encode_reload_request(ReloadRequest(b"\x0a\x00", ("name",)))),
    "reload reply": (decode_reload_reply, encode_reload_reply(ReloadReply(3, "no", {"name": 4}))),
    "saved_model.pb": (read_saved_model, a_saved_model()),
    **{f"tensor {name}": (decode_tensor, encode_tensor(array, typed=True)) for name, array in ARRAYS.items()},
    "tensor content": (decode_tensor, encode_tensor(ARRAYS["float"])),
}
BY_DECODER = pytest.mark.parametrize("name", DECODERS)


@st.composite
def damaged(draw: st.DrawFn, message: bytes) -> bytes:
    """Cut, change, repeat or insert a few bytes of a valid message."""
    data = bytearray(message)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(["set", "flip", "cut", "repeat", "insert"]))
        if kind == "cut":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        elif data:
            data[at] = (
                draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])) if kind == "set" else data[at] ^ (1 << length % 8)
            )
    return bytes(data)


def expect_answer_or_error(decode: Callable[[bytes], Any], data: bytes) -> None:
    """Decode; anything but an answer, a DecodeError or an ApiError escapes and fails the test."""
    with contextlib.suppress(DecodeError, ApiError):
        decode(data)


@BY_DECODER
@given(data=st.binary(max_size=200))
@example(data=b"\xff" * 11)
@example(data=b"\x0b" * 100_000)
def test_arbitrary_bytes(name: str, data: bytes) -> None:
    """Any bytes at all are an answer or an error of ours."""
    expect_answer_or_error(DECODERS[name][0], data)


@BY_DECODER
@given(data=st.data())
def test_damaged_messages(name: str, data: st.DataObject) -> None:
    """A valid message with a few bytes changed is an answer or an error of ours."""
    decode, message = DECODERS[name]
    expect_answer_or_error(decode, data.draw(damaged(message)))


@BY_DECODER
def test_every_prefix(name: str) -> None:
    """A valid message cut anywhere is an answer or an error of ours."""
    decode, message = DECODERS[name]
    for end in range(0, len(message), 1 if len(message) < 500 else 7):
        expect_answer_or_error(decode, message[:end])


HUNGRY = {
    "one float for 2^60": b"\x08\x01\x12\x0b\x12\x09\x08\x80\x80\x80\x80\x80\x80\x80\x80\x10\x2a\x04\x00\x00\x00\x00",
    "no string for 2^40": b"\x08\x07\x12\x09\x12\x07\x08" + wire.varint(1 << 40),
    "strings in content": b"\x08\x07\x12\x06\x12\x04\x08\xff\xff\x03\x22\x03\x00\x00\x00",
    "a field of 2^62 bytes": b"\x22" + wire.varint(1 << 62),
    "a thousand dimensions": b"\x08\x01" + b"\x12\x04\x12\x02\x08\x7f" * 1000,
}


@pytest.mark.parametrize("case", HUNGRY)
def test_few_bytes_do_not_ask_for_much_memory(case: str) -> None:
    """A message of some bytes that claims to be huge is refused before memory is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode_tensor(HUNGRY[case])
        assert tracemalloc.get_traced_memory()[1] < MAX_EXPANDED_BYTES // 100
    finally:
        tracemalloc.stop()


@given(st.integers(0, 2**64 - 1))
def test_a_varint_comes_back(value: int) -> None:
    """Every 64-bit number is read as it was written."""
    written = wire.varint(value)
    assert wire.read_varint(written, 0) == (value, len(written))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_packed_varints_are_single_varints_in_a_row(values: list[int]) -> None:
    """The vectorised varints are the plain ones, written and read."""
    array = np.array(values, np.uint64)
    packed = wire.pack_varints(array)
    assert packed == b"".join(map(wire.varint, values))
    assert wire.unpack_varints(memoryview(packed)).tolist() == values


@given(st.binary(max_size=60))
def test_packed_varints_are_read_as_single_ones_or_refused(data: bytes) -> None:
    """Over arbitrary bytes the vectorised reader gives what the plain reader gives."""

    def one_by_one() -> list[int] | None:
        values, at = [], 0
        while at < len(data):
            try:
                value, at = wire.read_varint(data, at)
            except DecodeError:
                return None
            values.append(value)
        return values

    try:
        assert wire.unpack_varints(memoryview(data)).tolist() == one_by_one()
    except DecodeError:
        assert one_by_one() is None


@pytest.mark.parametrize("bits", [7, 14, 28, 35, 63, 64])
def test_many_varints_are_read_block_by_block(bits: int) -> None:
    """More varints than a block holds come back, short and long ones mixed, also where one spans two blocks."""
    values = np.random.default_rng(bits).integers(0, 2**bits - 1, 150_000, np.uint64, endpoint=True)
    values >>= np.arange(values.size, dtype=np.uint64) % np.uint64(bits)
    packed = wire.pack_varints(values)
    np.testing.assert_array_equal(wire.unpack_varints(memoryview(packed)), values)
    np.testing.assert_array_equal(wire.unpack_varints(memoryview(packed), np.uint16), values.astype(np.uint16))
    with pytest.raises(DecodeError, match="ten bytes"):
        wire.unpack_varints(memoryview(packed + b"\xff" * (1 << 20) + b"\x01"))
