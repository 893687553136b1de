"""The version folder: what the exporter writes, TensorFlow Serving loads and the client proves.

    models/digits/                         base path
    models/digits/3/                       version folder
        saved_model.pb  variables/  assets/  fingerprint.pb
        metadata.json                      who, from what, which signatures, parity when exported
        assets.extra/tf_serving_warmup_requests
        assets.extra/golden.npz            reference inputs and the source model's outputs
        assets.extra/source/               the source artefact itself, where it was kept

A version may bear a tag of the user's own ("1.4.0", "spring"), beside the number that TensorFlow Serving needs.

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc (which children are versions).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .errors import DecodeError, InvalidArgument, NotFound

SAVED_MODEL = "saved_model.pb"
METADATA = "metadata.json"
ASSETS_EXTRA = "assets.extra"
WARMUP_REQUESTS = f"{ASSETS_EXTRA}/tf_serving_warmup_requests"
GOLDEN = f"{ASSETS_EXTRA}/golden.npz"
KEPT_SOURCE = f"{ASSETS_EXTRA}/source"

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
    return {version: paths[-1] for version, paths in find_versions(base_path).items()}


def find_versions(base_path: str | os.PathLike[str]) -> dict[int, list[Path]]:
    """List the versions below a base path with every name that means them, in sorted order, lowest version first.

    Raises:
        OSError: The base path is missing or cannot be read.
    """
    found: dict[int, list[Path]] = {}
    for path in sorted(Path(base_path).iterdir(), key=lambda path: path.name):
        version = parse_version(path.name)
        if version is not None:
            found.setdefault(version, []).append(path)
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


def check_tag(tag: str) -> None:
    """Refuse what cannot be told from a version number or from a path.

    Raises:
        InvalidArgument: It is empty, an integer, holds "/" or a character that does not print, or begins with a dot.
    """
    rule = 'a tag is a text such as 1.4.0 or spring: no integer, no "/", no dot in front, no spaces around it'
    if not tag or tag != tag.strip() or "/" in tag or tag.startswith(".") or not tag.isprintable():
        raise InvalidArgument(f"{tag!r} is no tag: {rule}")
    if parse_version(tag) is not None:
        raise InvalidArgument(f"{tag!r} is no tag, because it reads as a version number: {rule}")


def list_tags(base_path: str | os.PathLike[str]) -> dict[int, str]:
    """List the tags of the versions below a base path: number to tag, versions without one left out.

    A version whose metadata.json cannot be read has none.

    Raises:
        OSError: The base path is missing or cannot be read.
    """
    tags = {}
    for number, folder in list_versions(base_path).items():
        try:
            tag = (read_metadata(folder) or {}).get("tag")
        except (DecodeError, OSError):
            continue
        if isinstance(tag, str) and tag:
            tags[number] = tag
    return tags


def find_tag(base_path: str | os.PathLike[str], tag: str) -> int | None:
    """Find the version that bears a tag; the newest, should there be several, None where there is none.

    Raises:
        OSError: The base path is missing or cannot be read.
    """
    return max((number for number, each in list_tags(base_path).items() if each == tag), default=None)


def find_version(base_path: str | os.PathLike[str], wanted: str | int) -> tuple[int, Path]:
    """Find a version by its number or by its tag.

    Args:
        base_path: The folder of the model's versions.
        wanted: The number (3, "3") or the tag ("1.4.0").

    Returns:
        The number and the version folder.

    Raises:
        NotFound: There is no such version; the message lists those that there are.
        OSError: The base path is missing or cannot be read.
    """
    versions = list_versions(base_path)
    number = wanted if isinstance(wanted, int) else parse_version(wanted)
    if number is None:
        number = find_tag(base_path, str(wanted))
    if number is not None and number in versions:
        return number, versions[number]
    what = "number" if isinstance(wanted, int) or parse_version(wanted) is not None else "tag"
    raise NotFound(
        f"{base_path} has no version of the {what} {wanted}; it has {_say_versions(base_path, versions)}",
        version=wanted,
    )


def _say_versions(base_path: str | os.PathLike[str], versions: dict[int, Path]) -> str:
    tags = list_tags(base_path)
    said = [f"{number} (tag {tags[number]})" if number in tags else str(number) for number in versions]
    return ", ".join(said) or "none"
