"""Messages like one before are the same, to the byte, as those of the codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.transports.repeated_predicts import read_predict, write_predict
from tfbundle_client.transports.transport import PredictCall
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import (
    PredictRequest,
    PredictResponse,
    decode_predict_response,
    encode_predict_request,
    encode_predict_response,
)

RANDOM = np.random.default_rng(0)


def arrays() -> list[NDArray[Any]]:
    """Arrays of several dtypes and shapes, and awkward ones."""
    found: list[NDArray[Any]] = [
        RANDOM.integers(-200, 200, shape).astype(dtype)
        for dtype in ("f4", "f8", "f2", "c8", "i4", "i8", "u1", ">f4", bool)
        for shape in ((3,), (2, 5), (), (0, 4))
    ]
    found += [np.zeros(4, np.float32), np.ones((4, 6), np.float32)[:, ::2], np.asfortranarray(np.ones((2, 3), "f4"))]
    return [*found, np.array([b"a\0", b""], object), RANDOM.standard_normal(40_000).astype("f4")]


@pytest.mark.parametrize("output_filter", [(), ("y", "z")])
def test_requests(output_filter: tuple[str, ...]) -> None:
    """Whatever was written before, a request is what the codec writes."""
    for turn in range(3):
        for array in arrays():
            for version in (None, 3):
                spec = ModelSpec("m", version)
                call = PredictCall(
                    spec=spec, deadline=Deadline.after(None), inputs={"x": array}, output_filter=output_filter
                )
                expected = encode_predict_request(PredictRequest(spec, {"x": array}, output_filter))
                assert write_predict(call) == expected, (turn, array.dtype, array.shape)


@pytest.mark.parametrize("typed", [True, False])
def test_replies(typed: bool) -> None:
    """Whatever was read before, a reply is what the codec reads; replies of the same size do not mix."""
    call = PredictCall(spec=ModelSpec("m"), deadline=Deadline.after(None), inputs={})
    for _ in range(3):
        for array in arrays():
            for spec in (ModelSpec("m", 1), ModelSpec("m", 2)):
                for outputs in ({"y": array}, {"z": array}, {"y": array, "b": array}):
                    body = encode_predict_response(PredictResponse(spec, outputs), typed=typed)
                    found, expected = read_predict(body, call), decode_predict_response(body)
                    assert found.model_spec == expected.model_spec
                    assert list(found.outputs) == list(expected.outputs)
                    for name, wanted in expected.outputs.items():
                        got = found.outputs[name]
                        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
                        assert _values(got) == _values(wanted)


def _values(array: NDArray[Any]) -> Any:
    return array.tolist() if array.dtype == object else array.tobytes()


def test_a_changed_byte_is_not_overlooked() -> None:
    """Of a reply that differs in any byte from one before, the codec's word counts."""
    call = PredictCall(spec=ModelSpec("m"), deadline=Deadline.after(None), inputs={})
    body = encode_predict_response(PredictResponse(ModelSpec("m", 1), {"y": np.arange(6, dtype="f4").reshape(2, 3)}))
    read_predict(body, call)
    for place in range(len(body)):
        for flip in (1, 0x80):
            changed = body[:place] + bytes([body[place] ^ flip]) + body[place + 1 :]
            assert _outcome(read_predict, changed, call) == _outcome(decode_predict_response, changed)


def _outcome(read: Any, *arguments: Any) -> Any:
    try:
        response = read(*arguments)
    except Exception as error:
        return type(error), str(error)
    outputs = {name: (str(each.dtype), each.shape, _values(each)) for name, each in response.outputs.items()}
    return response.model_spec, outputs
