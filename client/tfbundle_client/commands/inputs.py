"""What `tfbundle predict --input` takes: arrays and JSON, from files, from the command line, from standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import BundleError, InvalidArgument
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_request import read_inputs, signature_name
from tfbundle_serving.apis.signatures import Signature

#: The keys of a REST predict body; a JSON object without them is taken as {input name: values}.
_BODY_KEYS = ("instances", "inputs")
_EXPECTED = "--input takes .npy, .npz, .json or JSON itself, with --output also .csv, .parquet and .jsonl"


class Document:
    """A REST predict body, to be read when the signature is known."""

    def __init__(self, origin: str, body: dict[str, Any]) -> None:
        self._origin = origin
        self._body = body

    @property
    def signature(self) -> str:
        """The signature that the body names, or "".

        Raises:
            InvalidArgument: The name is not a string.
        """
        return signature_name(self._body)

    def read(self, signature: Signature, name: str) -> dict[str, NDArray[Any]]:
        """Read the inputs by the rules of TensorFlow Serving's REST API, whatever transport they will travel over.

        Raises:
            InvalidArgument: They do not fit; the message names the origin.
        """
        try:
            return read_inputs(self._body, signature, name)[0]
        except BundleError as error:
            wanted = ", ".join(f"{alias} {spec}" for alias, spec in signature.inputs.items())
            given = self._body.get("inputs")
            names = f", got {', '.join(given)}" if isinstance(given, dict) else ""
            raise InvalidArgument(
                f"{self._origin}: {error} (signature {name} takes {wanted}{names})", attempts=0
            ) from error


#: Inputs ready to send, or to be read with the signature at hand.
Given = Document | dict[str, Any] | NDArray[Any]


def read_given(options: Sequence[str]) -> Given:
    """Read the values of --input.

    Args:
        options: Each is a .npy, .npz or .json file, JSON, or "-" for JSON on standard input; NAME=FILE names the input
            that a .npy file is for.

    Raises:
        click.UsageError: They are none of these, or do not go together.
        InvalidArgument: A file is not what its name says.
        OSError: A file cannot be read.
    """
    if not options:
        raise click.UsageError("say what to send: --input FILE|JSON (or - for JSON on standard input)")
    if len(options) == 1 and not _is_named_file(options[0]):
        return _read_one(options[0])
    named: dict[str, Any] = {}
    for option in options:
        if not _is_named_file(option):
            raise click.UsageError(f"several inputs are given as NAME=FILE.npy each, got {option!r:.80}")
        name, _, file = option.partition("=")
        named[name] = _load(Path(file))
    return named


def _is_named_file(option: str) -> bool:
    name, found, file = option.partition("=")
    return bool(found) and name.isidentifier() and file.endswith(".npy")


def _read_one(option: str) -> Given:
    if option == "-":
        return _document("standard input", sys.stdin.buffer.read())
    if option.lstrip()[:1] in ("{", "[", '"') or _is_number(option):
        return _document("--input", option.encode("utf-8", "surrogateescape"))
    path = Path(option)
    if path.suffix == ".npz":
        loaded = _load(path)
        return {name: loaded[name] for name in loaded.files}
    if path.suffix == ".npy":
        array: NDArray[Any] = _load(path)
        return array
    if path.suffix in (".json", ".jsn"):
        check_is_there(path)
        return _document(option, path.read_bytes())
    raise click.UsageError(f"{_EXPECTED}, got {option!r:.80}")


def check_is_there(path: Path) -> None:
    """Refuse a file that is missing.

    Raises:
        InvalidArgument: It is; the message says what was expected.
    """
    if not path.exists():
        raise InvalidArgument(f"No such file or directory: {path}; {_EXPECTED}", attempts=0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _document(origin: str, text: bytes) -> Document:
    try:
        # A bare value is a whole input; wrapped, it has the form of a body.
        body = parse(text) if text.lstrip()[:1] == b"{" else parse(b'{"inputs": ' + text + b"}")
    except InvalidArgument as error:
        raise InvalidArgument(f"{origin}: {error}", attempts=0) from error
    return Document(origin, body if any(key in body for key in _BODY_KEYS) else {"inputs": body})


def _load(path: Path) -> Any:
    check_is_there(path)
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidArgument(
            f"{path} is not a {path.suffix} file without Python objects: {error}", attempts=0
        ) from error
