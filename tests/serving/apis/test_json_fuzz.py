"""Arbitrary and damaged JSON: an answer or an error of ours; and the fast ways give what the slow ways give."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.apis.arrays import same_bits
from tfbundle_serving.apis import dtypes, json_reader
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import ApiError, DecodeError, InvalidArgument
from tfbundle_serving.apis.json_document import only_numbers, parse
from tfbundle_serving.apis.json_dump import dump
from tfbundle_serving.apis.json_reply import read_error, read_outputs
from tfbundle_serving.apis.json_request import read_inputs, signature_name
from tfbundle_serving.apis.json_tensor import build, read_fitting, walk
from tfbundle_serving.apis.signatures import Signature, TensorSpec

DTYPES = [dtypes.FLOAT, dtypes.INT32, dtypes.UINT64, dtypes.BOOL, dtypes.STRING, dtypes.HALF]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([{"b64": "aGk="}, {"b64": 1}, {}]),
)
numbers = st.one_of(st.integers(-300, 300), st.floats(width=16))
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
regular = st.integers(0, 3).flatmap(
    lambda rows: st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=rows, max_size=rows)
)
values = st.one_of(nested, regular, st.lists(numbers, max_size=5))
objects = st.dictionaries(st.sampled_from(["a", "b", "b64"]), values, max_size=3)
documents = st.dictionaries(
    st.sampled_from(["inputs", "instances", "signature_name", "outputs", "predictions", "error"]),
    st.one_of(values, objects, st.lists(st.one_of(objects, values), max_size=4)),
    max_size=2,
)


def use(body: bytes, dtype: DType) -> None:
    """Do everything with a body that server and client do; only errors of ours may come out."""
    read_error(body, "?")
    for names in (["a"], ["a", "b"], []):
        specs = {name: TensorSpec(dtype, (None, 2)) for name in names}
        signature = Signature(specs, specs)
        with contextlib.suppress(DecodeError):
            read_outputs(body, signature)
        with contextlib.suppress(ApiError):
            document = parse(body)
            read_inputs(document, signature, signature_name(document))


@given(body=st.binary(max_size=120), dtype=st.sampled_from(DTYPES))
def test_arbitrary_bytes(body: bytes, dtype: DType) -> None:
    """Any bytes at all are an answer or an error of ours."""
    use(body, dtype)


@given(body=st.text('{}[]:,"\\ \n0123456789.eE+-NaInfitynulrsb\x00\x01é', max_size=60), dtype=st.sampled_from(DTYPES))
def test_text_that_looks_like_json(body: str, dtype: DType) -> None:
    """So is text made of JSON's own characters."""
    use(body.encode(), dtype)
    use(b'{"inputs":' + body.encode() + b"}", dtype)


@given(document=documents, dtype=st.sampled_from(DTYPES))
def test_documents_of_all_kinds(document: Any, dtype: DType) -> None:
    """So is JSON of any structure under the known keys."""
    use(json.dumps(document).encode(), dtype)


@given(document=documents, data=st.data())
def test_damaged_documents(document: Any, data: st.DataObject) -> None:
    """So is JSON with bytes changed, cut or put in."""
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    use(bytes(body), dtypes.FLOAT)


@given(documents)
def test_both_readers_agree(document: Any) -> None:
    """The fast way and the slow reader's way through one body end at the same document."""
    body = json.dumps(document).encode()
    assert repr(parse(body)) == repr(json_reader.read(body))


@given(st.text(max_size=20))
def test_any_text_survives(text: str) -> None:
    """Any string that JSON can hold comes back from both readers."""
    with contextlib.suppress(UnicodeEncodeError):
        body = json.dumps({"a": text}, ensure_ascii=False).encode()
        assert parse(body)["a"] == json_reader.read(body)["a"] == text


@given(value=values, dtype=st.sampled_from(DTYPES))
def test_the_fast_tensor_is_the_slow_tensor(value: Any, dtype: DType) -> None:
    """Where a value fits, level by level and element by element give the same array; where not, the walk says why."""
    fast = read_fitting(value, dtype)
    try:
        flat, shape = walk(value, dtype)
    except ApiError:
        assert fast is None
        return
    slow = build(flat, shape, dtype)
    if fast is not None:
        assert same_bits(fast, slow)
    else:
        assert dtype is dtypes.HALF, "the fast way missed a value that fits"


@given(value=values, other=values, dtype=st.sampled_from([dtypes.FLOAT, dtypes.DOUBLE, dtypes.INT32]))
def test_knowing_that_all_are_numbers_changes_nothing(value: Any, other: Any, dtype: DType) -> None:
    """A body whose characters say that its arrays hold numbers alone is read as if nobody had looked."""
    body = json.dumps({"context": other, "inputs": value}).encode()
    document = parse(body)
    signature = Signature({"a": TensorSpec(dtype, None)}, {})

    def outcome(known: bool) -> Any:
        try:
            return read_inputs(document, signature, "", only_numbers=known)[0]["a"]
        except ApiError as error:
            return type(error), error.message

    plain, quick = outcome(False), outcome(only_numbers(body))
    assert same_bits(plain, quick) if isinstance(plain, np.ndarray) else plain == quick


@given(values)
def test_any_value_can_be_shown(value: Any) -> None:
    """An error can show any value; without NaN and uncut the text is JSON of the value."""
    assert len(dump(value).encode("utf-8", "surrogateescape")) <= 256
    text = dump(value, 10**9)

    def is_finite(inner: Any) -> bool:
        if isinstance(inner, list):
            return all(map(is_finite, inner))
        return not isinstance(inner, float) or math.isfinite(inner)

    if isinstance(value, (list, dict)) and is_finite(value):
        assert json.loads(text) == value


@pytest.mark.timeout(30)
def test_hostile_bodies_do_not_take_long() -> None:
    """Bodies that make a careless reader go back again and again are refused in a time that grows with their length."""
    repeats = 200_000
    for body in (
        b'{"inputs": [' + b"1, " * repeats + b"x]}",
        b'{"inputs": [' + b"1 1, " * repeats,
        b'{"inputs": "' + b"\\u0041" * repeats + b"\xff",
        b'{"outputs": [' + b"]  " * repeats + b"]}",
        b'{"outputs": [' + b"[" * repeats + b"]" * repeats + b"x]}",
        b'{"a' + b'":"' * repeats + b'"}',
    ):
        with pytest.raises(InvalidArgument):
            parse(body)
        with pytest.raises(DecodeError):
            read_outputs(body, Signature({}, {"a": TensorSpec(dtypes.FLOAT, None)}))


def test_numbers_too_long_for_an_int_are_read() -> None:
    """A number of many digits is a double; one of too many is refused, not a crash of int()."""
    assert parse(b'{"a": ' + b"9" * 300 + b', "b": NaN}')["a"] == float("9" * 300)
    with pytest.raises(InvalidArgument, match="Number too big"):
        parse(b'{"a": ' + b"9" * 10_000 + b"}")
    assert np.isfinite(parse(b'{"a": 0.' + b"9" * 10_000 + b', "b": NaN}')["a"])
