"""Which model, version and signature a request means: ModelSpec on the wire and in REST paths.

    /v1/models/digits                    the highest version that is AVAILABLE
    /v1/models/digits/versions/3         exactly that one
    /v1/models/digits/labels/canary      the one that the label points at

Source: tensorflow_serving/apis/model.proto; tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from .errors import InvalidArgument
from .wire import Readable, as_int, as_text, as_view, fields, length_field, string_field, varint_field, view

#: The signature that is meant when none is named.
DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a request asks for.

    Attributes:
        name: Model name.
        version: Exact version, or None.
        label: Version label, or None; a request carries a version or a label, not both.
        signature: Signature name; empty means `serving_default`.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    def __post_init__(self) -> None:
        """Refuse a version beside a label."""
        if self.version is not None and self.label is not None:
            raise InvalidArgument(
                f"model {self.name}: ask for a version or for a label, not both "
                f"(got version {self.version} and label {self.label!r})"
            )

    @property
    def signature_key(self) -> str:
        """The signature that is meant."""
        return self.signature or DEFAULT_SIGNATURE

    @property
    def url_path(self) -> str:
        """The REST path up to the model or version, percent-encoded."""
        path = f"/v1/models/{quote(self.name, safe='')}"
        if self.version is not None:
            return f"{path}/versions/{self.version}"
        return f"{path}/labels/{quote(self.label, safe='')}" if self.label is not None else path

    def __str__(self) -> str:
        """Name the model as a message to a person does."""
        if self.version is not None:
            return f"{self.name} version {self.version}"
        return f"{self.name} label {self.label}" if self.label is not None else self.name


def encode_model_spec(spec: ModelSpec) -> bytes:
    """Write a tensorflow.serving.ModelSpec."""
    out = string_field(1, spec.name) if spec.name else b""
    if spec.version is not None:
        out += length_field(2, varint_field(1, spec.version) if spec.version else b"")
    if spec.signature:
        out += string_field(3, spec.signature)
    if spec.label is not None:
        out += string_field(4, spec.label)
    return out


def decode_model_spec(data: Readable) -> ModelSpec:
    """Read a tensorflow.serving.ModelSpec; of version and label, a oneof, the last on the wire counts.

    Raises:
        DecodeError: The bytes are not a ModelSpec.
    """
    name = signature = ""
    version: int | None = None
    label: str | None = None
    for field, _, value in fields(view(data)):
        if field == 1:
            name = as_text(value, "model_spec.name")
        elif field == 2:
            version, label = 0, None
            for inner, _, number in fields(as_view(value, "model_spec.version")):
                if inner == 1:
                    version = as_int(number, "model_spec.version")
        elif field == 3:
            signature = as_text(value, "model_spec.signature_name")
        elif field == 4:
            version, label = None, as_text(value, "model_spec.version_label")
    return ModelSpec(name, version, label, signature)
