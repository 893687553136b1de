"""The version folder: what the exporter writes, TensorFlow Serving loads and the client proves.

    models/digits/                         base path
    models/digits/3/                       version folder
        saved_model.pb  variables/  assets/  fingerprint.pb
        metadata.json                      who, from what, which signatures, parity when exported
        assets.extra/tf_serving_warmup_requests
        assets.extra/golden.npz            reference inputs and the source model's outputs

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc (which children are versions).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .errors import DecodeError

SAVED_MODEL = "saved_model.pb"
METADATA = "metadata.json"
ASSETS_EXTRA = "assets.extra"
WARMUP_REQUESTS = f"{ASSETS_EXTRA}/tf_serving_warmup_requests"
GOLDEN = f"{ASSETS_EXTRA}/golden.npz"

#: The JSON Schema of metadata.json, beside this module.
METADATA_SCHEMA = Path(__file__).with_name("metadata.schema.json")

#: absl::SimpleAtoi: ASCII white space around it, one sign, decimal digits, nothing else.
_INT64 = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)
#: Longer digit strings are no int64 unless they are padded, and Python refuses to read very long ones.
_INT64_DIGITS = 19


def parse_version(name: str) -> int | None:
    """Read a folder's name as a version number; None where TensorFlow Serving would look past it.

    The whole name must parse as an int64: "3", "007" and "20170111173521" do, "tmp-5", "5.denied" and "1_0" do not.
    """
    match = _INT64.fullmatch(name)
    if match is None:
        return None
    text = match[1]
    if len(text.lstrip("+-").lstrip("0")) > _INT64_DIGITS:
        return None
    number = int(text[:1].strip("0123456789") + (text.lstrip("+-").lstrip("0") or "0"))
    return number if -(1 << 63) <= number < 1 << 63 else None


def list_versions(base_path: str | os.PathLike[str]) -> dict[int, Path]:
    """List the versions that TensorFlow Serving sees below a base path, lowest first.

    Like TensorFlow Serving this goes by names alone and does not look whether a child is a directory or complete.
    Where two names give one number ("1" and "001") the last in sorted order counts, which is the one with fewer zeros.

    Raises:
        OSError: The base path is missing or cannot be read.
    """
    found: dict[int, Path] = {}
    for path in sorted(Path(base_path).iterdir(), key=lambda path: path.name):
        version = parse_version(path.name)
        if version is not None:
            found[version] = path
    return dict(sorted(found.items()))


def read_metadata(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read a version folder's metadata.json; None where there is none, as in a folder that tfbundle did not make.

    Raises:
        DecodeError: The file is not a JSON object; the message names it.
        OSError: It is there and cannot be read.
    """
    path = Path(folder, METADATA)
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DecodeError(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content


def golden_path(folder: str | os.PathLike[str]) -> Path:
    """Name the file of a version folder's reference inputs and outputs, whether it exists or not."""
    return Path(folder, GOLDEN)
