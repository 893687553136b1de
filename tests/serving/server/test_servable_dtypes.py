"""The dtypes that numpy lacks, from a request's bytes through a graph to a reply's bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.predict import decode_predict_request
from tfbundle_serving.apis.tensor_proto import decode_tensor, encode_tensor
from tfbundle_serving.apis.wire import length_field, string_field
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.settings import LoadSettings

RARE = [
    dtype for dtype in dtypes.BY_NUMBER.values() if dtype.packing is not dtypes.Packing.NONE and not dtype.numpy_name
]
BY_DTYPE = pytest.mark.parametrize("dtype", RARE, ids=lambda dtype: dtype.name)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    """A version with a signature a dtype, named after it, that returns x of any shape as y."""
    module, signatures = tf.Module(), {}
    for dtype in RARE:
        spec = tf.TensorSpec(None, tf.as_dtype(dtype.number), name="x")
        function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec], autograph=False)
        setattr(module, f"f_{dtype.name}", function)
        signatures[dtype.name] = function
    folder = tmp_path_factory.mktemp("rare") / "1"
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return Servable(folder, LoadSettings())


def numbers(dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Make an array of small numbers, negative ones among them where the dtype has some."""
    plain = np.resize(np.array([1, 0, 3, 2, 5], np.int8), shape)
    if dtype.name[0] != "u" and dtype.name[1] != "u":
        plain = -plain
    to = dtype.to_numpy()
    return plain.astype(dtype.storage).view(to) if dtype.storage else plain.astype(to)


def values(dtype: DType, array: NDArray[Any]) -> list[Any]:
    """List an array's values; the upper bits of a 4-bit number are nobody's."""
    flat = array.ravel()
    listed: list[Any] = (flat.astype(np.float32) if dtype.is_ml else flat.view(dtype.storage)).tolist()
    return listed


def request(tensor: bytes) -> bytes:
    """Write a PredictRequest with this tensor as x."""
    return length_field(2, string_field(1, "x") + length_field(2, tensor))


@BY_DTYPE
@pytest.mark.parametrize("typed", [False, True], ids=["content", "typed"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)], ids=str)
def test_there_and_back(identities: Servable, dtype: DType, typed: bool, shape: tuple[int, ...]) -> None:
    """Both forms of a tensor reach the graph, and its reply is the official class's tensor of the same values."""
    array = numbers(dtype, shape)
    inputs = decode_predict_request(request(encode_tensor(array, typed=typed))).inputs
    reply = identities.run(dtype.name, inputs, ("y",))["y"]
    message = encode_tensor(reply, typed=typed)
    parsed = tf.io.parse_tensor(message, tf.as_dtype(dtype.number)).numpy()
    assert (parsed.shape, values(dtype, parsed)) == (array.shape, values(dtype, array))
    assert tensor_pb2.TensorProto.FromString(message).dtype == dtype.number


@BY_DTYPE
def test_what_tensorflow_writes_we_read(dtype: DType) -> None:
    """tf.make_tensor_proto's bytes hold the same values for us; a single one for many is repeated."""
    array = numbers(dtype, (2, 2))
    made = tf.make_tensor_proto(array, dtype=dtype.number, shape=[2, 2])
    assert decode_tensor(made.SerializeToString()).tobytes() == array.tobytes()
    assert dtypes.of_numpy(array.dtype) is dtype
    one = tensor_pb2.TensorProto.FromString(encode_tensor(array[:1, :1], typed=True))
    one.tensor_shape.dim[1].size = 3
    assert decode_tensor(one.SerializeToString()).tobytes() == array[:1, :1].tobytes() * 3


@pytest.mark.parametrize("number", [0, 20, 21, 99, 101])
def test_what_no_tensor_can_be(number: int) -> None:
    """A dtype that has no values, or is none, is a tensor that cannot be parsed, as in TensorFlow Serving."""
    tensor = tensor_pb2.TensorProto(float_val=[1.0])
    tensor.dtype = number
    with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x$"):
        decode_predict_request(request(tensor.SerializeToString()))


def test_a_foreign_dtype_is_named_by_the_graph(identities: Servable) -> None:
    """Nothing looks at a dtype before the graph does."""
    inputs = {"x": numbers(dtypes.BY_ENUM_NAME["DT_QINT8"], (2,))}
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[0\] to be quint8 but qint8 is provided$"):
        identities.run("quint8", inputs, ("y",))
