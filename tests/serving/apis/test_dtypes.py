"""The dtype table against TensorFlow's own."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tests.serving.apis.arrays import EVERY_DTYPE
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import InvalidArgument, Unimplemented

#: Where TensorFlow's Python name is not the one that its C++ messages use.
PYTHON_NAMES = {"float": "float32", "double": "float64", "half": "float16"}


@pytest.mark.parametrize("dtype", dtypes.BY_NUMBER.values(), ids=lambda dtype: dtype.name)
def test_numbers_and_names_are_tensorflows(dtype: DType) -> None:
    """Every number in the table is the enum value of that name, and prints as TensorFlow prints it."""
    assert types_pb2.DataType.Value(dtype.enum_name) == dtype.number
    if dtype.number:
        assert tf.dtypes.as_dtype(dtype.number).name == PYTHON_NAMES.get(dtype.name, dtype.name)


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
def test_numpy_dtypes_are_tensorflows(dtype: DType) -> None:
    """The numpy form is the one that TensorFlow uses, and leads back to the dtype."""
    assert dtype.to_numpy() == tf.dtypes.as_dtype(dtype.number).as_numpy_dtype
    assert dtypes.of_numpy(dtype.to_numpy()) is dtype


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
def test_the_value_field_is_the_one_tensorflow_fills(dtype: DType) -> None:
    """The typed field's number belongs to the field that TensorFlow's Tensor::AsProtoField writes."""
    value: Any = b"a" if dtype.is_string else np.ones((), dtype.to_numpy())
    single = tf.make_tensor_proto(value, dtype=dtype.number, shape=[1])
    filled = {field.number for field, _ in single.ListFields()} - {1, 2, 4}
    described = {field.number for field in tensor_pb2.TensorProto.DESCRIPTOR.fields}
    assert dtype.field in described
    assert not filled or filled == {dtype.field}


@pytest.mark.parametrize("numpy_dtype", ["datetime64[s]", [("a", "i4")], "longdouble"])
def test_dtypes_without_counterpart_are_refused(numpy_dtype: Any) -> None:
    """A dtype that TensorFlow does not have is named in the error."""
    with pytest.raises(InvalidArgument, match="no TensorFlow counterpart"):
        dtypes.of_numpy(np.dtype(numpy_dtype))


def test_dtypes_without_numpy_form_are_refused() -> None:
    """A resource is no array."""
    with pytest.raises(Unimplemented, match="DT_RESOURCE has no numpy form"):
        dtypes.by_number(20).to_numpy()


def test_bfloat16_says_which_package_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without ml_dtypes learns its name."""
    original = builtins.__import__

    def without_ml_dtypes(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ml_dtypes":
            raise ModuleNotFoundError("No module named 'ml_dtypes'", name="ml_dtypes")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ml_dtypes)
    with pytest.raises(Unimplemented, match="pip install ml_dtypes"):
        dtypes.BFLOAT16.to_numpy()
