"""The signatures that are made around the plain one on request, by name or from a line of text.

image                                       JPEG and PNG in, at the model's size, pixels 0 to 255
image:low=-1,high=1,resize=bicubic          scaled to [-1, 1]
image:mean=123.7/116.3/103.5,std=58.4       each channel less its mean, all divided by one number
top_k:labels=classes.txt,top_k=3,around=image
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol

from tfbundle_serving.apis.errors import ExportError

from ..models.source_model import SourceModel
from .classify_regress import Classify, Regress
from .endpoint import Endpoint
from .example import Example
from .image import Image
from .raw import Raw
from .top_k import Labels


class ReadyMade(Protocol):
    """A ready-made signature before there is a model."""

    @property
    def signature(self) -> str:
        """Its name."""

    @property
    def around(self) -> str:
        """The signature it is built around; "" is the main one."""

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:
        """Build it around a signature of a loaded model.

        Raises:
            ExportError: It does not fit the signature.
        """


READY_MADE: dict[str, type[ReadyMade]] = {
    "image": Image,
    "example": Example,
    "classify": Classify,
    "regress": Regress,
    "raw": Raw,
    "top_k": Labels,
}


def parse_ready_made(text: str) -> ReadyMade:
    """Read a ready-made signature from "KIND" or "KIND:SETTING=VALUE,SETTING=VALUE".

    Raises:
        ExportError: The kind or a setting is unknown, or a value is not of its kind; the message says what there is.
    """
    kind, _, rest = text.partition(":")
    if kind not in READY_MADE:
        raise ExportError(f"there is no ready-made signature {kind!r}; there are {', '.join(READY_MADE)}")
    made = READY_MADE[kind]
    readers = {field.name: _READERS.get(field.name, str) for field in fields(made)}  # type: ignore[arg-type]
    settings: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        name, _, value = pair.partition("=")
        if name not in readers:
            raise ExportError(f"{kind} has no setting {name!r}; it has {', '.join(readers)}")
        try:
            settings[name] = readers[name](value)
        except (ValueError, KeyError):
            raise ExportError(f"{kind}: {name} cannot be {value!r}; write {_SAMPLES.get(name, 'a text')}") from None
    try:
        return made(**settings)
    except TypeError as error:
        raise ExportError(f"{text}: {error.args[0].rpartition('() ')[2]}") from error


def _read_size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _read_numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split("/")))


def _read_switch(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False, "": True}[text.lower()]


#: Settings that are no texts, under the names that they have in every ready-made signature.
_READERS: dict[str, Callable[[str], Any]] = {
    "size": _read_size,
    "low": float,
    "high": float,
    "mean": _read_numbers,
    "std": _read_numbers,
    "bgr": _read_switch,
    "antialias": _read_switch,
    "top_k": int,
}
_SAMPLES = {
    "size": "height x width, such as 224x224",
    "low": "a number",
    "high": "a number",
    "mean": "numbers, such as 123.7/116.3/103.5",
    "std": "numbers, such as 58.4/57.1/57.4",
    "bgr": "true or false",
    "antialias": "true or false",
    "top_k": "a whole number",
}
