"""A models.config as a client writes it: its text or nested mappings become the bytes that a reload request carries.

    model_config_list { config { name: "digits" base_path: "/models/digits" model_platform: "tensorflow" } }
    {"model_config_list": {"config": [{"name": "digits", "base_path": "/models/digits"}]}}

Whether a server can serve that is the server's to say. There is no protobuf here, so that a client needs none.

Source: tensorflow_serving/config/model_server_config.proto; protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from .text_format import Message, Scalar, parse_text, refused
from .wire import FIXED64, length_field, string_field, tag, varint, varint_field

#: Message to the number and type of each of its fields; a type in brackets is repeated, one in braces a map.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelServerConfig": {"model_config_list": (1, "ModelConfigList")},
    "ModelConfigList": {"config": (1, "[ModelConfig]")},
    "ModelConfig": {
        "name": (1, "string"),
        "base_path": (2, "string"),
        "model_type": (3, "ModelType"),
        "model_platform": (4, "string"),
        "logging_config": (6, "LoggingConfig"),
        "model_version_policy": (7, "ServableVersionPolicy"),
        "version_labels": (8, "{LabelEntry}"),
    },
    "LabelEntry": {"key": (1, "string"), "value": (2, "int64")},
    "ServableVersionPolicy": {"latest": (100, "Latest"), "all": (101, "All"), "specific": (102, "Specific")},
    "Latest": {"num_versions": (1, "int64")},
    "All": {},
    "Specific": {"versions": (1, "[int64]")},
    "LoggingConfig": {
        "log_collector_config": (1, "LogCollectorConfig"),
        "sampling_config": (2, "SamplingConfig"),
    },
    "LogCollectorConfig": {"type": (1, "string"), "filename_prefix": (2, "string")},
    "SamplingConfig": {"sampling_rate": (1, "double"), "attributes": (2, "int64")},
}
_MODEL_TYPES = {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}


def encode_models_config(config: str | bytes | Mapping[str, Any] | Any) -> bytes:
    """Write a ModelServerConfig.

    Args:
        config: The text of a models.config, nested mappings with the same names, a protobuf message, or bytes that are
            a serialized one already.

    Raises:
        InvalidArgument: It is none of these; the message names the field. Nothing was sent, so attempts is 0.
    """
    if isinstance(config, bytes):
        return config
    if isinstance(config, str):
        document = parse_text(config)
        _check_names(document, "ModelServerConfig", "")
        config = as_mapping(document)
    elif hasattr(config, "SerializeToString"):
        return bytes(config.SerializeToString())
    if not isinstance(config, Mapping):
        raise refused(f"expected text, mappings or bytes, got {type(config).__name__}")
    return _encode(config, "ModelServerConfig", "")


def _check_names(message: Message, name: str, where: str) -> None:
    """Refuse a field that there is not, by the line on which it stands."""
    for field in message.fields:
        if field.name not in _MESSAGES[name]:
            raise refused(f"line {field.line}: {_say_unknown(field.name, name, where)}")
        kind = _MESSAGES[name][field.name][1].strip("[]{}")
        for value in field.values:
            if kind in _MESSAGES and isinstance(value, Message):
                _check_names(value, kind, f"{where}.{field.name}" if where else field.name)


def _say_unknown(field: object, name: str, where: str) -> str:
    return f"{where or name} has no field {field!r}; its fields are {', '.join(_MESSAGES[name]) or 'none'}"


def _encode(message: Any, name: str, where: str) -> bytes:
    if not isinstance(message, Mapping):
        raise refused(f"{where} is a {name}, got {message!r:.80}")
    known = _MESSAGES[name]
    out = b""
    for field, value in message.items():
        if field not in known:
            raise refused(_say_unknown(field, name, where))
        number, kind = known[field]
        path = f"{where}.{field}" if where else str(field)
        out += b"".join(_encode_value(number, kind.strip("[]{}"), each, path) for each in _values(kind, value))
    return out


def _values(kind: str, value: Any) -> list[Any]:
    """List the values of a field, as many as the wire has."""
    if kind[0] == "{" and isinstance(value, Mapping) and not value.keys() <= {"key", "value"}:
        return [{"key": key, "value": each} for key, each in value.items()]
    return list(value) if isinstance(value, list | tuple) and kind[0] in "[{" else [value]


def _encode_value(number: int, kind: str, value: Any, where: str) -> bytes:
    if kind in _MESSAGES:
        return length_field(number, _encode(value, kind, where))
    try:
        return _SCALARS[kind](number, value)
    except (KeyError, TypeError, ValueError, struct.error):
        raise refused(f"{where} is a {kind}, got {value!r:.80}") from None


def _encode_string(number: int, value: Any) -> bytes:
    if not isinstance(value, str) or isinstance(value, _Word):
        raise TypeError
    return string_field(number, value)


def _encode_integer(number: int, value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | _Word):
        raise TypeError
    whole = read_integer(value) if isinstance(value, _Word) else value
    if not -(1 << 63) <= whole < 1 << 63:
        raise ValueError
    return tag(number, 0) + varint(whole & 0xFFFFFFFFFFFFFFFF)


def _encode_double(number: int, value: Any) -> bytes:
    if isinstance(value, str) and not isinstance(value, _Word):
        raise TypeError
    return tag(number, FIXED64) + struct.pack("<d", float(value))


def _encode_model_type(number: int, value: Any) -> bytes:
    return varint_field(number, _MODEL_TYPES[value] if isinstance(value, str) else int(value))


_SCALARS: dict[str, Callable[[int, Any], bytes]] = {
    "string": _encode_string,
    "int64": _encode_integer,
    "double": _encode_double,
    "ModelType": _encode_model_type,
}


class _Word(str):
    """A value without quotation marks: a number or the name of an enum's value."""

    __slots__ = ()


def as_mapping(message: Message) -> dict[str, Any]:
    """Turn a text that was read into mappings; a field that comes twice, or as a list, becomes a list."""
    found: dict[str, Any] = {}
    for field in message.fields:
        values = [_plain(value) for value in field.values]
        if field.name in found:
            before = found[field.name]
            found[field.name] = [*(before if isinstance(before, list) else [before]), *values]
        else:
            found[field.name] = values if field.is_list else values[0]
    return found


def _plain(value: Scalar | Message) -> Any:
    if isinstance(value, Message):
        return as_mapping(value)
    return value.text if value.is_string else _Word(value.text)


def read_integer(text: str) -> int:
    """Read a number as text format writes it: decimal, 0x10 or 010.

    Raises:
        ValueError: It is none.
    """
    sign, digits = (text[0], text[1:]) if text[:1] in "+-" else ("", text)
    is_octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
    return int(sign + digits, 8 if is_octal else 0)
