"""Examples as a caller has them become serialized tf.train.Examples.

    {"age": 5, "words": ["a", "b"], "weights": np.array([0.5, 1])}

A feature is a value or a flat list of values: str and bytes become a bytes_list, numbers of which one has a fraction
a float_list, whole numbers and bools an int64_list. An example may also come serialized, or as a protobuf message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.example_proto import Feature, Kind, encode_example
from tfbundle_serving.apis.input_proto import Input

#: {feature: value or list of values}, serialized bytes, or a protobuf message.
Example = Mapping[str, Any] | bytes | Any

_INT64 = np.iinfo(np.int64)


def as_input(examples: Iterable[Example], context: Example | None = None) -> Input:
    """Serialize examples and their context.

    Raises:
        InvalidArgument: There are none, or one is none; nothing was sent, so attempts is 0.
    """
    if isinstance(examples, Mapping | bytes | str):
        raise InvalidArgument("expected a list of examples, got one; put it into a list", attempts=0)
    if hasattr(examples, "to_dict"):  # a pandas DataFrame: a row each
        examples = examples.to_dict("records")
    found = [_serialize(example, f"example {place}") for place, example in enumerate(examples)]
    if not found:
        raise InvalidArgument("there are no examples, and servers refuse an empty list", attempts=0)
    return Input(found, None if context is None else _serialize(context, "context"))


def _serialize(example: Example, where: str) -> bytes:
    if isinstance(example, Mapping):
        return encode_example({str(name): _feature(value, f"{where}, {name!r}") for name, value in example.items()})
    if isinstance(example, bytes | bytearray | memoryview):
        return bytes(example)
    if hasattr(example, "SerializeToString"):
        return bytes(example.SerializeToString())
    raise InvalidArgument(
        f"{where} is neither a mapping from feature to value nor a serialized tf.train.Example, but {type(example)}",
        attempts=0,
    )


def _feature(value: Any, where: str) -> Feature:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    values: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    if not values:
        return Feature(None)
    plain = [each.item() if isinstance(each, np.generic) else each for each in values]
    kinds = set(map(type, plain))
    if kinds <= {str, bytes}:
        encoded = [each if isinstance(each, bytes) else each.encode("utf-8", "surrogateescape") for each in plain]
        return Feature(Kind.BYTES, encoded)
    if kinds <= {int, bool}:
        if min(plain) < _INT64.min or max(plain) > _INT64.max:
            raise InvalidArgument(f"{where} has a whole number that does not fit into int64", attempts=0)
        return Feature(Kind.INT64, [int(each) for each in plain])
    if kinds <= {int, bool, float}:
        return Feature(Kind.FLOAT, [float(each) for each in plain])
    if kinds & {list, tuple, np.ndarray}:
        raise InvalidArgument(
            f"{where} wants numbers or strings, one or a flat list, got {_describe_nested(plain)}; "
            "a feature has no shape: flatten it (numpy.ravel) and let the model reshape it",
            attempts=0,
        )
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InvalidArgument(f"{where} wants numbers or strings, one or a flat list, got {names}", attempts=0)


def _describe_nested(values: Sequence[Any]) -> str:
    try:
        return f"shape {np.shape(values)}"
    except ValueError:  # rows of different lengths
        return "a list of lists"
