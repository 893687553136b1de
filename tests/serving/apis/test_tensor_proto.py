"""Our TensorProto bytes against the official class, tf.make_ndarray and TensorFlow's own C++ parser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2

from tests.serving.apis.arrays import EVERY_DTYPE, array_of, same_bits
from tfbundle_serving.apis import dtypes, wire
from tfbundle_serving.apis.dtypes import DType, Packing
from tfbundle_serving.apis.errors import DecodeError, InvalidArgument, Unimplemented
from tfbundle_serving.apis.tensor_proto import MAX_EXPANDED_BYTES, decode_tensor, encode_tensor

SHAPES = [(), (1,), (6,), (2, 3), (0,), (3, 0), (1, 2, 1, 3)]
BY_DTYPE = pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)


def cpp_parse(message: bytes, dtype: DType) -> NDArray[Any]:
    """Parse with tensorflow::Tensor::FromProto, the code that TensorFlow Serving runs."""
    return np.asarray(tf.io.parse_tensor(message, tf.dtypes.as_dtype(dtype.number)).numpy(), dtype.to_numpy())


def parts(array: NDArray[Any]) -> tuple[bytes, bytes]:
    """Split a typed TensorProto into dtype with shape, and values."""
    dtype = dtypes.of_numpy(array.dtype)
    whole = encode_tensor(array, typed=True)
    head = tensor_pb2.TensorProto(dtype=dtype.number, tensor_shape={"dim": [{"size": size} for size in array.shape]})
    described: bytes = head.SerializeToString()
    assert whole.startswith(described)
    return described, whole[len(described) :]


def numbers_of(dtype: DType, array: NDArray[Any]) -> list[Any]:
    """List what the official class takes for an array's typed field."""
    flat: NDArray[Any] = array.ravel()
    if dtype.packing is Packing.BITS_AS_VARINT:
        flat = flat.view(np.uint16)
    elif array.dtype.kind == "c":
        flat = flat.view(np.float32 if dtype is dtypes.COMPLEX64 else np.float64)
    return list(flat.tolist())


def official(dtype: DType, array: NDArray[Any], values: list[Any]) -> bytes:
    """Serialise a TensorProto with typed values through the official class."""
    proto = tensor_pb2.TensorProto(dtype=dtype.number, tensor_shape={"dim": [{"size": size} for size in array.shape]})
    name = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_number[dtype.field].name
    getattr(proto, name).extend(values)
    message: bytes = proto.SerializeToString()
    return message


@BY_DTYPE
@pytest.mark.parametrize("typed", [False, True], ids=["content", "typed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_we_write_tensorflow_reads(dtype: DType, typed: bool, shape: tuple[int, ...]) -> None:
    """Both forms of every dtype and shape come out of TensorFlow with the same bits."""
    array = array_of(dtype, shape)
    message = encode_tensor(array, typed=typed)
    assert same_bits(cpp_parse(message, dtype), array)
    made = tf.make_ndarray(tensor_pb2.TensorProto.FromString(message))
    assert made.tolist() == array.tolist() if dtype.is_string else same_bits(made, array)
    assert same_bits(decode_tensor(message), array)


@BY_DTYPE
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_tensorflow_writes_we_read(dtype: DType, shape: tuple[int, ...]) -> None:
    """tf.make_tensor_proto's and tf.io.serialize_tensor's bytes come out with the same bits."""
    array = array_of(dtype, shape)
    made = tf.make_tensor_proto(array.tolist() if dtype.is_string else array, dtype=dtype.number, shape=shape)
    assert same_bits(decode_tensor(made.SerializeToString()), array)
    as_tensor = tf.constant(array.tolist() if dtype.is_string else array, tf.dtypes.as_dtype(dtype.number), shape)
    assert same_bits(decode_tensor(tf.io.serialize_tensor(as_tensor).numpy()), array)


@BY_DTYPE
def test_typed_values_are_the_official_bytes(dtype: DType) -> None:
    """A typed message is, byte for byte, what the official class serialises."""
    array = array_of(dtype)
    assert encode_tensor(array, typed=True) == official(dtype, array, numbers_of(dtype, array))


@BY_DTYPE
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_shortened_values_repeat_the_last(dtype: DType, kept: int) -> None:
    """Fewer values than the shape has elements: the last one repeats, and none at all means zeros."""
    array = array_of(dtype)
    per_element = 2 if array.dtype.kind == "c" else 1
    message = official(dtype, array, numbers_of(dtype, array)[: kept * per_element])
    assert same_bits(decode_tensor(message), cpp_parse(message, dtype))


@BY_DTYPE
def test_unpacked_values(dtype: DType) -> None:
    """A repeated field may be written as one field per value, as protobuf 2 writers do."""
    array = array_of(dtype)
    head, values = parts(array)
    if dtype.packing is Packing.LITTLE_ENDIAN:
        scalar = array.ravel().view(array.real.dtype)
        kind = wire.FIXED32 if scalar.dtype.itemsize == 4 else wire.FIXED64
        unpacked = b"".join(wire.tag(dtype.field, kind) + value.tobytes() for value in scalar)
    elif dtype.packing is Packing.BYTES:
        unpacked = values
    else:
        ((_, _, packed),) = wire.fields(memoryview(values))
        numbers = wire.unpack_varints(wire.as_view(packed, "values")).tolist()
        unpacked = b"".join(wire.varint_field(dtype.field, number) for number in numbers)
    assert same_bits(cpp_parse(head + unpacked, dtype), array)
    assert same_bits(decode_tensor(head + unpacked), array)


@BY_DTYPE
def test_values_in_several_chunks(dtype: DType) -> None:
    """Packed values may come in several chunks, and a chunk may be empty."""
    array = array_of(dtype)
    head, _ = parts(array)
    empty = b"" if dtype.is_string else wire.length_field(dtype.field, b"")
    message = head + parts(array.ravel()[:2])[1] + empty + parts(array.ravel()[2:])[1]
    assert same_bits(cpp_parse(message, dtype), array)
    assert same_bits(decode_tensor(message), array)


@BY_DTYPE
def test_values_before_shape_and_unknown_fields(dtype: DType) -> None:
    """Fields come in any order, and fields that we do not know are stepped over."""
    array = array_of(dtype)
    head, values = parts(array)
    unknown = wire.varint_field(99, 7) + wire.length_field(100, b"new") + b"\xfb\x06\x08\x01\xfc\x06"
    for message in (values + head, unknown + head + values + unknown, head + unknown + values):
        assert same_bits(cpp_parse(message, dtype), array)
        assert same_bits(decode_tensor(message), array)


def test_absent_shape_is_a_scalar() -> None:
    """A tensor without tensor_shape has rank 0."""
    message = tensor_pb2.TensorProto(dtype=1, float_val=[2.5]).SerializeToString()
    assert same_bits(decode_tensor(message), np.array(2.5, np.float32))


@BY_DTYPE
def test_layouts_of_memory_do_not_matter(dtype: DType) -> None:
    """Strided, Fortran-ordered, big-endian and read-only arrays are written as what they hold."""
    array = array_of(dtype, (4, 6))
    for variant in (array[::2, ::-1], np.asfortranarray(array), array.T, np.broadcast_to(array[0], (3, 6))):
        assert same_bits(cpp_parse(encode_tensor(variant), dtype), np.ascontiguousarray(variant))
    if array.dtype.kind in "iufc" and array.dtype.itemsize > 1 and dtype is not dtypes.BFLOAT16:
        swapped = array.astype(array.dtype.newbyteorder(">"))
        assert same_bits(cpp_parse(encode_tensor(swapped), dtype), array)


@pytest.mark.parametrize("array", [np.array(["Grüße", ""]), np.array([b"x", b"yy"]), np.array(["Grüße", b""], object)])
def test_text_is_written_as_utf8(array: NDArray[Any]) -> None:
    """str, bytes and object arrays of either are strings."""
    expected = [each.encode() if isinstance(each, str) else each for each in array.tolist()]
    assert cpp_parse(encode_tensor(array), dtypes.STRING).tolist() == expected


def test_content_is_a_view_of_the_message() -> None:
    """Values that lie in the message as a block are not copied, and cannot be written to."""
    message = encode_tensor(np.arange(1000, dtype=np.float32), typed=True)
    array = decode_tensor(message)
    assert np.shares_memory(array, np.frombuffer(message, np.uint8))
    assert not array.flags.writeable


def test_bytes_that_are_no_bools_become_true() -> None:
    """A content byte of 2 is True, not a bool that equals neither True nor False."""
    message = tensor_pb2.TensorProto(dtype=10, tensor_shape={"dim": [{"size": 3}]}, tensor_content=b"\x00\x02\xff")
    array = decode_tensor(message.SerializeToString())
    assert array.view(np.uint8).tolist() == [0, 1, 1]


def test_string_content_is_read() -> None:
    """Strings as tensor_content are all lengths, then all bytes."""
    content = b"\x02\x00\x03" + b"hi" + b"you"
    message = tensor_pb2.TensorProto(dtype=7, tensor_shape={"dim": [{"size": 3}]}, tensor_content=content)
    array = decode_tensor(message.SerializeToString())
    assert array.tolist() == [b"hi", b"", b"you"]
    assert array.tolist() == cpp_parse(message.SerializeToString(), dtypes.STRING).tolist()


REFUSED = {
    "too many values": ({"dtype": 1, "tensor_shape": {"dim": [{"size": 1}]}, "float_val": [1, 2]}, "2 values"),
    "too many strings": ({"dtype": 7, "tensor_shape": {"dim": [{"size": 1}]}, "string_val": [b"", b""]}, "2 values"),
    "content too short": ({"dtype": 1, "tensor_shape": {"dim": [{"size": 2}]}, "tensor_content": b"1234"}, "4 bytes"),
    "content cut off": ({"dtype": 1, "tensor_shape": {"dim": [{"size": 1}]}, "tensor_content": b"123"}, "no whole"),
    "negative size": ({"dtype": 1, "tensor_shape": {"dim": [{"size": -1}]}}, "size -1"),
    "unknown rank": ({"dtype": 1, "tensor_shape": {"unknown_rank": True}}, "unknown rank"),
    "string content": ({"dtype": 7, "tensor_shape": {"dim": [{"size": 1}]}, "tensor_content": b"\x05a"}, "lengths"),
    "memory asked for": ({"dtype": 1, "tensor_shape": {"dim": [{"size": 1 << 40}]}, "float_val": [1]}, "refused"),
    "strings asked for": ({"dtype": 7, "tensor_shape": {"dim": [{"size": 1 << 40}]}}, "refused"),
    "hidden overflow": ({"dtype": 1, "tensor_shape": {"dim": [{"size": 1 << 62}] * 3 + [{"size": 0}]}}, "represented"),
    "too many dimensions": ({"dtype": 1, "tensor_shape": {"dim": [{"size": 1}] * 200}}, "represented"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_malformed_tensors_are_refused(case: str) -> None:
    """A tensor whose parts contradict each other, or that would eat all memory, is a DecodeError that says why."""
    fields, text = REFUSED[case]
    with pytest.raises(DecodeError, match=text):
        decode_tensor(tensor_pb2.TensorProto(**fields).SerializeToString())


def test_a_constant_tensor_may_grow_up_to_the_limit() -> None:
    """One value that stands for many is expanded as long as the result stays small."""
    size = MAX_EXPANDED_BYTES // 4
    shape = {"dim": [{"size": size // 16}]}
    message = tensor_pb2.TensorProto(dtype=1, tensor_shape=shape, float_val=[2.5]).SerializeToString()
    array = decode_tensor(message)
    assert array.shape == (size // 16,)
    assert (array == 2.5).all()


def test_resource_tensors_are_not_arrays() -> None:
    """A dtype without numpy form is named."""
    with pytest.raises(Unimplemented, match="DT_RESOURCE"):
        decode_tensor(tensor_pb2.TensorProto(dtype=20).SerializeToString())


def test_objects_that_are_no_strings_are_refused() -> None:
    """An object array of something else is the caller's mistake."""
    with pytest.raises(InvalidArgument, match="takes bytes or str, got float"):
        encode_tensor(np.array([b"x", 1.5], object))
