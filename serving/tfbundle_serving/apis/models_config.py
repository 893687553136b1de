"""A models.config as a client writes it: its text or nested mappings become the bytes that a reload request carries.

    model_config_list { config { name: "digits" base_path: "/models/digits" model_platform: "tensorflow" } }
    {"model_config_list": {"config": [{"name": "digits", "base_path": "/models/digits"}]}}

Whether a server can serve that is the server's to say. There is no protobuf here, so that a client needs none.

Source: tensorflow_serving/config/model_server_config.proto; protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import InvalidArgument
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

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[-+]?[A-Za-z0-9_.][A-Za-z0-9_.+-]*)|(?P<sign>[{}<>\[\]:,;])"""
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_NAMED_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


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
        config = _Reader(config).read()
    elif hasattr(config, "SerializeToString"):
        return bytes(config.SerializeToString())
    if not isinstance(config, Mapping):
        raise _refused(f"expected text, mappings or bytes, got {type(config).__name__}")
    return _encode(config, "ModelServerConfig", "")


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(f"models config: {why}", attempts=0)


def _encode(message: Any, name: str, where: str) -> bytes:
    if not isinstance(message, Mapping):
        raise _refused(f"{where} is a {name}, got {message!r:.80}")
    known = _MESSAGES[name]
    out = b""
    for field, value in message.items():
        if field not in known:
            names = ", ".join(known) or "none"
            raise _refused(f"{where or name} has no field {field!r}; its fields are {names}")
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
        raise _refused(f"{where} is a {kind}, got {value!r:.80}") from None


def _encode_string(number: int, value: Any) -> bytes:
    if not isinstance(value, str) or isinstance(value, _Word):
        raise TypeError
    return string_field(number, value)


def _encode_integer(number: int, value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | _Word):
        raise TypeError
    whole = int(value, 0) if isinstance(value, _Word) else value
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


class _Reader:
    """Reads protobuf's text format into mappings; a field that comes twice becomes a list."""

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[tuple[str, str, int]] = _tokens(text)
        self._next: tuple[str, str, int] = next(self._tokens)

    def read(self) -> dict[str, Any]:
        """Read the whole text."""
        return self._message("")

    def _take(self) -> tuple[str, str, int]:
        taken = self._next
        if taken[0] != "end":
            self._next = next(self._tokens)
        return taken

    def _message(self, end: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._next[1] != end:
            kind, name, line = self._take()
            if kind != "word":
                raise _refused(f"line {line}: expected a field's name, got {name or 'the end'!r}")
            value = self._field_value(line)
            if name in found:
                before = found[name]
                values = value if isinstance(value, list) else [value]
                found[name] = [*(before if isinstance(before, list) else [before]), *values]
            else:
                found[name] = value
            if self._next[1] in (",", ";") and self._next[0] == "sign":
                self._take()
        self._take()
        return found

    def _field_value(self, line: int) -> Any:
        has_colon = self._next[:2] == ("sign", ":")
        if has_colon:
            self._take()
        if not has_colon and self._next[1] not in ("{", "<"):
            raise _refused(f"line {line}: expected ':' or '{{', got {self._next[1] or 'the end'!r}")
        if self._next[:2] != ("sign", "["):
            return self._value()
        self._take()
        values: list[Any] = []
        while self._next[:2] != ("sign", "]"):
            values.append(self._value())
            if self._next[:2] == ("sign", ","):
                self._take()
            elif self._next[:2] != ("sign", "]"):
                raise _refused(f"line {self._next[2]}: expected ',' or ']', got {self._next[1] or 'the end'!r}")
        self._take()
        return values

    def _value(self) -> Any:
        kind, text, line = self._take()
        if kind == "sign" and text in "{<":
            return self._message("}" if text == "{" else ">")
        if kind == "word":
            return _Word(text)
        if kind != "string":
            raise _refused(f"line {line}: expected a value, got {text or 'the end'!r}")
        parts = [_unquote(text)]
        while self._next[0] == "string":  # strings side by side are one
            parts.append(_unquote(self._take()[1]))
        return b"".join(parts).decode("utf-8", "surrogateescape")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Cut the text into (kind, text, line); the end is a token of its own."""
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _refused(f"line {line}: {text[at : at + 20]!r} is not text format")
        kind = str(found.lastgroup)
        if kind != "space":
            yield kind, found[0], line
        line += found[0].count("\n")
        at = found.end()
    yield "end", "", line


def _unquote(text: str) -> bytes:
    """Read a string with its quotation marks; escapes may stand for single bytes."""
    out, at, inner = b"", 0, text[1:-1]
    for found in _ESCAPE.finditer(inner):
        out += inner[at : found.start()].encode("utf-8", "surrogateescape") + _escaped(found[1])
        at = found.end()
    return out + inner[at:].encode("utf-8", "surrogateescape")


def _escaped(escape: str) -> bytes:
    if escape[0] == "x" and len(escape) > 1:
        return bytes([int(escape[1:], 16)])
    if escape[0] in "01234567":
        return bytes([int(escape, 8) & 0xFF])
    return _NAMED_ESCAPES.get(escape, escape).encode()
