"""What callers may send, and what they are told when it does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfbundle_client import SignatureMismatch
from tfbundle_client.calls.input_fitting import fit_inputs
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.signatures import Shape, Signature, TensorSpec


def _signature(dtype: dtypes.DType = dtypes.FLOAT, shape: Shape = (None, 2)) -> Signature:
    return Signature({"x": TensorSpec(dtype, shape)}, {"y": TensorSpec(dtype, shape)})


def _fit(value: Any, dtype: dtypes.DType = dtypes.FLOAT, shape: Shape = None, **options: Any) -> Any:
    return fit_inputs({"x": value}, _signature(dtype, shape), **options)["x"]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([0.1, 2], dtypes.FLOAT, np.array([0.1, 2], np.float32)),
        ([1, 2], dtypes.FLOAT, np.array([1, 2], np.float32)),
        (0.5, dtypes.DOUBLE, np.array(0.5)),
        ([1, -2], dtypes.INT8, np.array([1, -2], np.int8)),
        ([2**64 - 1], dtypes.UINT64, np.array([2**64 - 1], np.uint64)),
        ([True, False], dtypes.BOOL, np.array([True, False])),
        ([True], dtypes.FLOAT, np.array([1], np.float32)),
        ([1.5], dtypes.COMPLEX64, np.array([1.5], np.complex64)),
        ([0.1], dtypes.HALF, np.array([0.1], np.float16)),
        ([], dtypes.INT32, np.array([], np.int32)),
        (np.array([1, 2], np.uint8), dtypes.FLOAT, np.array([1, 2], np.float32)),
        (np.array([1], np.float32), dtypes.DOUBLE, np.array([1.0])),
        (np.float32(3), dtypes.FLOAT, np.array(3, np.float32)),
    ],
)
def test_casts_that_lose_nothing_are_done(value: Any, dtype: dtypes.DType, expected: Any) -> None:
    """Python numbers take the signature's dtype where they fit; arrays do where no value can change."""
    fitted = _fit(value, dtype)
    assert fitted.dtype == expected.dtype
    assert fitted.shape == expected.shape
    assert fitted.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.array([1.0]), dtypes.FLOAT, r"wants float32 .*got float64 \(1,\).*astype\('float32'\)"),
        (np.array([1]), dtypes.INT32, r"wants int32 .*got int64"),
        (np.array([1], np.int32), dtypes.UINT8, r"wants uint8 .*got int32"),
        ([0.5], dtypes.INT32, r"wants int32 .*got float64"),
        ([1], dtypes.BOOL, r"wants bool .*got int64"),
        ([True], dtypes.INT32, r"wants int32 .*got bool"),
        ([300], dtypes.UINT8, r"got 300, which does not fit into uint8"),
        ([-1], dtypes.UINT64, r"got -1, which does not fit into uint64"),
        ([1e300], dtypes.FLOAT, r"got values up to 1e\+300, too large for float32"),
        (["a"], dtypes.FLOAT, r"wants float32 .*got string"),
        ([1], dtypes.STRING, r"wants string .*Python objects such as int"),
        ([1j], dtypes.FLOAT, r"got complex128"),
        ([[1], [2, 3]], dtypes.FLOAT, r"got something that is no array"),
        ([None], dtypes.FLOAT, r"Python objects such as NoneType"),
        ({"a": 1}, dtypes.FLOAT, r"Python objects such as dict"),
    ],
)
def test_values_that_would_change_are_refused(value: Any, dtype: dtypes.DType, message: str) -> None:
    """What would be rounded, cut or misread is refused in one line: the input, what it wants, what came."""
    with pytest.raises(SignatureMismatch, match=message) as caught:
        _fit(value, dtype)
    assert "'x'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rounding_can_be_asked_for() -> None:
    """With casting="same_kind" a float64 array becomes float32; a float array still never becomes an integer."""
    assert _fit(np.array([0.1]), casting="same_kind").dtype == np.float32
    with pytest.raises(SignatureMismatch):
        _fit(np.array([0.1]), dtypes.INT32, casting="same_kind")


def test_bfloat16_takes_python_numbers_and_asked_for_rounding() -> None:
    """bfloat16 (`ml_dtypes`) follows the same rules as numpy's own floats."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert _fit([1.5, 2], dtypes.BFLOAT16).dtype == ml_dtypes.bfloat16
    assert _fit(np.array([1.5], np.float32), dtypes.BFLOAT16, casting="same_kind").tolist() == [1.5]
    assert _fit(np.array([1.5], ml_dtypes.bfloat16), dtypes.FLOAT).tolist() == [1.5]
    with pytest.raises(SignatureMismatch, match="wants bfloat16"):
        _fit(np.array([1.5], np.float32), dtypes.BFLOAT16)


def test_strings_keep_their_nuls() -> None:
    """Byte strings in lists do not pass through numpy's fixed width, which would cut NULs at the end."""
    assert _fit([b"a\0", b"bc"], dtypes.STRING).tolist() == [b"a\0", b"bc"]
    assert _fit([["a"], ["b"]], dtypes.STRING).shape == (2, 1)
    assert _fit("a", dtypes.STRING).shape == ()
    assert _fit(np.array(["ä", "b"]), dtypes.STRING).shape == (2,)


@pytest.mark.parametrize(
    ("shape", "wanted", "hint"),
    [
        ((3, 3), (None, 2), r"wants float32 \(\?, 2\), got float32 \(3, 3\)$"),
        ((2,), (None, 2), r"array\[None\]"),
        ((5, 8, 8), (None, 8, 8, 1), r"array\[\.\.\., None\]"),
        ((), (None,), r"got float32 \(\); a single example needs a batch dimension"),
    ],
)
def test_wrong_shapes_are_refused_with_a_hint(shape: tuple[int, ...], wanted: Shape, hint: str) -> None:
    """A shape that disagrees with a known size is refused, with the usual slip named."""
    with pytest.raises(SignatureMismatch, match=hint):
        fit_inputs(np.zeros(shape, np.float32), _signature(shape=wanted))


def test_unknown_rank_takes_any_shape() -> None:
    """Where the signature says nothing of the rank, neither do we."""
    assert _fit(np.zeros((1, 2, 3), np.float32)).shape == (1, 2, 3)


_TWO = Signature(
    {"a": TensorSpec(dtypes.FLOAT, (None, 3)), "b": TensorSpec(dtypes.FLOAT, (None, 3))},
    {"sum": TensorSpec(dtypes.FLOAT, (None, 3))},
)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"a": [[1, 2, 3]], "c": [[1, 2, 3]]},
            r"no input 'c': the inputs are a: float32 \(\?, 3\), b: float32 \(\?, 3\)",
        ),
        ({"a": [[1, 2, 3]]}, r"input 'b' is missing: the inputs are a: "),
        ([[1, 2, 3]], r"one array without a name, but the inputs are a: .*give \{name: array\}"),
        ({}, r"input 'a' is missing"),
    ],
)
def test_wrong_names_are_refused_with_those_that_exist(inputs: Any, message: str) -> None:
    """Unknown, missing and absent names show every input with dtype and shape."""
    with pytest.raises(SignatureMismatch, match=message):
        fit_inputs(inputs, _TWO)


def test_a_close_name_is_suggested() -> None:
    """A slip in an input's name is met with the nearest one."""
    signature = Signature({"image": TensorSpec(dtypes.FLOAT, None)}, {})
    with pytest.raises(SignatureMismatch, match="did you mean 'image'"):
        fit_inputs({"imgae": 1.0}, signature)


def test_inputs_with_defaults_may_be_left_out() -> None:
    """An input that the signature has a default for is not missed, and one array goes to the input without one."""
    signature = Signature(dict(_TWO.inputs), dict(_TWO.outputs), defaults={"b": b""})
    assert list(fit_inputs({"a": [[1, 2, 3]]}, signature)) == ["a"]
    assert list(fit_inputs([[1, 2, 3]], signature)) == ["a"]


def test_a_data_frame_has_a_column_for_each_input() -> None:
    """Columns go to the inputs of their names; their plain numbers and strings are like those of a list."""
    pandas = pytest.importorskip("pandas")
    signature = Signature(
        {
            "age": TensorSpec(dtypes.INT32, (None,)),
            "weight": TensorSpec(dtypes.FLOAT, (None, 1)),
            "city": TensorSpec(dtypes.STRING, (None,)),
        },
        {},
    )
    frame = pandas.DataFrame({"city": ["a", "b"], "weight": [0.5, 1.5], "age": [3, 4]})
    fitted = fit_inputs(frame, signature)
    assert {name: (array.dtype.name, array.tolist()) for name, array in fitted.items()} == {
        "age": ("int32", [3, 4]),
        "weight": ("float32", [[0.5], [1.5]]),
        "city": ("object", ["a", "b"]),
    }
    assert fit_inputs(frame.iloc[:0], signature)["weight"].shape == (0, 1)
    with pytest.raises(SignatureMismatch, match="input 'city' is missing"):
        fit_inputs(frame[["age", "weight"]], signature)
    with pytest.raises(SignatureMismatch, match="no input 'nope'"):
        fit_inputs(frame.assign(nope=1), signature)


def test_a_data_frame_is_the_one_input() -> None:
    """Of a signature with one input, all columns in their order are the input, unless one has its name."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.0, 1.5]})
    fitted = fit_inputs(frame, _signature())["x"]
    assert fitted.dtype == np.float32
    assert fitted.tolist() == [[1, 0.5], [2, 1], [3, 1.5]]
    assert fit_inputs(frame.iloc[:0], _signature())["x"].shape == (0, 2)
    assert fit_inputs(frame.rename(columns={"a": "x"})[["x"]], _signature(shape=(None,)))["x"].tolist() == [1, 2, 3]
    assert fit_inputs(frame["a"], _signature(shape=(None,)))["x"].tolist() == [1, 2, 3]
    with pytest.raises(SignatureMismatch, match=r"wants float32 \(\?, 2\), got int64 \(3, 1\)"):
        fit_inputs(frame[["a"]], _signature())


def test_what_pandas_did_not_choose_itself_keeps_its_dtype() -> None:
    """A column cast on purpose is held to the rules for arrays; numbers of pandas' own dtypes are plain numbers."""
    pandas = pytest.importorskip("pandas")
    with pytest.raises(SignatureMismatch, match="got float32"):
        _fit(pandas.Series([1.0], dtype="float32"), dtypes.INT32)
    assert _fit(pandas.Series([1, 2], dtype="Int64"), dtypes.INT32).tolist() == [1, 2]
    with pytest.raises(SignatureMismatch, match=r"NAType|got float64"):
        _fit(pandas.Series([1, None], dtype="Int64"), dtypes.INT32)
    with pytest.raises(SignatureMismatch, match="does not fit into int8"):
        _fit(pandas.Series([300]), dtypes.INT8)
    with pytest.raises(SignatureMismatch, match="such as float"):
        _fit(pandas.Series(["a", None]), dtypes.STRING)
