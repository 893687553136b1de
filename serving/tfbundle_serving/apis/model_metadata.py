"""GetModelMetadata: the signatures of a version, on the wire and as JSON.

The JSON has `signature_def` inside `signature_def`; that is TensorFlow Serving's form, not a slip.

Source: tensorflow_serving/apis/get_model_metadata.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import DecodeError
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .signatures import (
    INIT_OP_SIGNATURE,
    Signature,
    decode_signature,
    encode_signature,
    signature_from_json,
    signature_to_json,
)
from .wire import Readable, as_text, as_view, fields, length_field, read_map_entry, string_field, view

#: The only metadata field that there is.
SIGNATURE_DEF_FIELD = "signature_def"
_TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a server says of one version.

    Attributes:
        name: Model name.
        version: The version that is meant.
        signatures: Name to signature, the init pseudo signature included as the server lists it.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature]

    @property
    def callable_signatures(self) -> dict[str, Signature]:
        """The signatures that can be called."""
        return {name: signature for name, signature in self.signatures.items() if name != INIT_OP_SIGNATURE}


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """A GetModelMetadataRequest: model_spec, None where absent, and the wanted fields."""

    model_spec: ModelSpec | None
    metadata_fields: Sequence[str] = (SIGNATURE_DEF_FIELD,)


def encode_metadata_request(request: MetadataRequest) -> bytes:
    """Write a GetModelMetadataRequest."""
    spec = b"" if request.model_spec is None else length_field(1, encode_model_spec(request.model_spec))
    return spec + b"".join(string_field(2, name) for name in request.metadata_fields)


def decode_metadata_request(data: Readable) -> MetadataRequest:
    """Read a GetModelMetadataRequest.

    Raises:
        DecodeError: The bytes are not one.
    """
    spec, names = None, []
    for number, _, value in fields(view(data)):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            names.append(as_text(value, "metadata_field"))
    return MetadataRequest(spec, names)


def encode_metadata_response(metadata: ModelMetadata) -> bytes:
    """Write a GetModelMetadataResponse."""
    signature_map = b"".join(
        length_field(1, string_field(1, name) + length_field(2, encode_signature(metadata.signatures[name])))
        for name in sorted(metadata.signatures)
    )
    packed = string_field(1, _TYPE_URL) + length_field(2, signature_map)
    spec = encode_model_spec(ModelSpec(metadata.name, metadata.version))
    return length_field(1, spec) + length_field(2, string_field(1, SIGNATURE_DEF_FIELD) + length_field(2, packed))


def decode_metadata_response(data: Readable) -> ModelMetadata:
    """Read a GetModelMetadataResponse.

    Raises:
        DecodeError: The bytes are not one.
    """
    spec = ModelSpec("")
    signatures: dict[str, Signature] = {}
    for number, _, value in fields(view(data)):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            name, packed = read_map_entry(as_view(value, "metadata"), "metadata")
            if name == SIGNATURE_DEF_FIELD:
                signatures |= _decode_any(packed)
    return ModelMetadata(spec.name, spec.version or 0, signatures)


def _decode_any(data: memoryview) -> dict[str, Signature]:
    for number, _, value in fields(data):
        if number == 2:
            return decode_signature_map(as_view(value, "signature_def"), entry_field=1)
    return {}


def decode_signature_map(data: memoryview, *, entry_field: int) -> dict[str, Signature]:
    """Read a map from name to SignatureDef that is spread over a message's fields of that number."""
    entries = (
        read_map_entry(as_view(value, "signature_def"), "signature_def")
        for number, _, value in fields(data)
        if number == entry_field
    )
    return {name: decode_signature(signature) for name, signature in entries}


def metadata_to_json(metadata: ModelMetadata) -> dict[str, Any]:
    """Give the REST body of a metadata request."""
    return {
        "model_spec": {"name": metadata.name, "signature_name": "", "version": str(metadata.version)},
        "metadata": {
            "signature_def": {
                "signature_def": {name: signature_to_json(each) for name, each in metadata.signatures.items()}
            }
        },
    }


def metadata_from_json(body: Mapping[str, Any]) -> ModelMetadata:
    """Read the REST body of a metadata request.

    Raises:
        DecodeError: It is not one.
    """
    try:
        signatures = body["metadata"]["signature_def"]["signature_def"]
        return ModelMetadata(
            str(body["model_spec"]["name"]),
            int(body["model_spec"]["version"]),
            {name: signature_from_json(each) for name, each in signatures.items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"not model metadata: {body!s:.200}") from error
