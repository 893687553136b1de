"""Protobuf's text format, read into a tree that knows where each part stands in the text.

    name: "digits"  model_version_policy { specific { versions: [1, 2] } }  # a comment

Nothing here knows which fields there are: that is `models_config`'s. The places are what an editor needs that changes
one number and leaves comments and layout alone.

Source: protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import InvalidArgument

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[-+]?[A-Za-z0-9_.][A-Za-z0-9_.+-]*)|(?P<sign>[{}<>\[\]:,;])"""
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[xX][0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_NAMED_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_COMMENT = re.compile(r"#[^\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A value that is no message.

    Attributes:
        text: What it says: a string without its quotation marks, or the word of a number or an enum's value.
        is_string: Whether it stood in quotation marks.
        start: Where it begins in the text.
        end: Where it has ended.
    """

    text: str
    is_string: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Fields in braces, or the whole text.

    Attributes:
        fields: In the order of the text.
        start: Where the opening brace is; for the whole text 0.
        end: Where the closing brace has ended.
    """

    fields: tuple[Field, ...]
    start: int
    end: int

    def named(self, name: str) -> tuple[Field, ...]:
        """List the fields of a name; a repeated one may come several times."""
        return tuple(field for field in self.fields if field.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field's name and what follows it.

    Attributes:
        name: Its name.
        values: One value, or those of a list in brackets.
        is_list: Whether it was written with brackets.
        line: The line of its name, from 1.
        start: Where its name begins.
        end: Where its value has ended, and a comma or semicolon after it.
    """

    name: str
    values: tuple[Scalar | Message, ...]
    is_list: bool
    line: int
    start: int
    end: int


def parse_text(text: str) -> Message:
    """Read a text.

    Raises:
        InvalidArgument: It is no text format; the message says in which line.
    """
    return _Parser(text).message("", 0)


def find_comments(text: str, start: int, end: int) -> list[str]:
    """List the comments in a part of a text, each from its # on; a # inside of a string begins none."""
    found = []
    for kind, token, _, at in _tokens(text):
        if kind == "space":
            comments = [each for each in _COMMENT.finditer(token) if start <= at + each.start() < end]
            found += [each[0].rstrip() for each in comments]
    return found


def quote(text: str) -> str:
    """Write a string as a value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def refused(why: str) -> InvalidArgument:
    """Make the error of a text that is none; nothing was sent."""
    return InvalidArgument(f"models config: {why}", attempts=0)


#: Kind, text, line and offset.
_Token = tuple[str, str, int, int]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: Iterator[_Token] = (token for token in _tokens(text) if token[0] != "space")
        self._next: _Token = next(self._tokens)
        self._end = 0

    def message(self, closing: str, start: int) -> Message:
        """Read fields up to a closing brace, "" for the end of the text."""
        fields = []
        while self._next[:2] != ("sign", closing) and (closing or self._next[0] != "end"):
            kind, name, line, at = self._take()
            if kind != "word":
                raise refused(f"line {line}: expected a field's name, got {name or 'the end'!r}")
            values, is_list = self._field_value(line)
            if self._is_sign(",") or self._is_sign(";"):
                self._take()
            fields.append(Field(name=name, values=values, is_list=is_list, line=line, start=at, end=self._end))
        self._take()
        return Message(fields=tuple(fields), start=start, end=self._end)

    def _take(self) -> _Token:
        taken = self._next
        self._end = taken[3] + len(taken[1])
        if taken[0] != "end":
            self._next = next(self._tokens)
        return taken

    def _is_sign(self, sign: str) -> bool:
        return self._next[:2] == ("sign", sign)

    def _field_value(self, line: int) -> tuple[tuple[Scalar | Message, ...], bool]:
        has_colon = self._is_sign(":")
        if has_colon:
            self._take()
        elif not (self._is_sign("{") or self._is_sign("<") or self._is_sign("[")):
            raise refused(f"line {line}: expected ':' or '{{', got {self._next[1] or 'the end'!r}")
        if not self._is_sign("["):
            return (self._value(),), False
        self._take()
        values: list[Scalar | Message] = []
        while not self._is_sign("]"):
            values.append(self._value())
            if not has_colon and isinstance(values[-1], Scalar):
                raise refused(f"line {line}: expected ':' before a list of values")
            if self._is_sign(","):
                self._take()
                if not self._is_sign("]"):
                    continue
            elif self._is_sign("]"):
                continue
            raise refused(f"line {self._next[2]}: expected ',' or ']', got {self._next[1] or 'the end'!r}")
        self._take()
        return tuple(values), True

    def _value(self) -> Scalar | Message:
        kind, text, line, at = self._take()
        if kind == "sign" and text in "{<":
            return self.message("}" if text == "{" else ">", at)
        if kind == "word":
            return Scalar(text=text, is_string=False, start=at, end=self._end)
        if kind != "string":
            raise refused(f"line {line}: expected a value, got {text or 'the end'!r}")
        parts = [_unquote(text)]
        while self._next[0] == "string":  # strings side by side are one
            parts.append(_unquote(self._take()[1]))
        joined = b"".join(parts).decode("utf-8", "surrogateescape")
        return Scalar(text=joined, is_string=True, start=at, end=self._end)


def _tokens(text: str) -> Iterator[_Token]:
    """Cut the text into tokens, spaces and comments included; the end is a token of its own."""
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise refused(f"line {line}: {text[at : at + 20]!r} is not text format")
        yield str(found.lastgroup), found[0], line, at
        line += found[0].count("\n")
        at = found.end()
    yield "end", "", line, at


def _unquote(text: str) -> bytes:
    """Read a string with its quotation marks; escapes may stand for single bytes."""
    out, at, inner = b"", 0, text[1:-1]
    for found in _ESCAPE.finditer(inner):
        out += inner[at : found.start()].encode("utf-8", "surrogateescape") + _escaped(found[1])
        at = found.end()
    return out + inner[at:].encode("utf-8", "surrogateescape")


def _escaped(escape: str) -> bytes:
    if escape[0] in "xX" and len(escape) > 1:
        return bytes([int(escape[1:], 16)])
    if escape[0] in "uU" and len(escape) > 1:
        number = int(escape[1:], 16)
        if number > 0x10FFFF:
            raise refused(f"\\{escape} is no character")
        return chr(number).encode("utf-8", "surrogatepass")
    if escape[0] in "01234567":
        return bytes([int(escape, 8) & 0xFF])
    return _NAMED_ESCAPES.get(escape, escape).encode()
