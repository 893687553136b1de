"""TensorFlow Serving's configuration messages, declared here and read from protobuf text.

The official Python package lacks half of these files and brings TensorFlow along, so the messages are built from the
tables below, in a descriptor pool of their own where they cannot clash with TensorFlow's. Names and numbers of the
fields are TensorFlow Serving's; a text file that its server reads is read here.

Source: tensorflow_serving/config/model_server_config.proto, logging_config.proto, log_collector_config.proto,
monitoring_config.proto, ssl_config.proto;
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto;
tensorflow_serving/servables/tensorflow/session_bundle_config.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from tfbundle_serving.apis.errors import InvalidArgument, NotFound

_PACKAGE = "tfbundle.serving.config"
_Type = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Type.TYPE_STRING,
    "bytes": _Type.TYPE_BYTES,
    "bool": _Type.TYPE_BOOL,
    "int32": _Type.TYPE_INT32,
    "int64": _Type.TYPE_INT64,
    "uint32": _Type.TYPE_UINT32,
    "double": _Type.TYPE_DOUBLE,
}


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: its number, name and type; `oneof` names the group of which only one may be set."""

    number: int
    name: str
    type: str
    repeated: bool = False
    oneof: str = ""


_ENUMS: dict[str, dict[str, int]] = {"ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}}

_MESSAGES: dict[str, tuple[_Field, ...]] = {
    # model_server_config.proto
    "ModelServerConfig": (
        _Field(1, "model_config_list", "ModelConfigList", oneof="config"),
        _Field(2, "custom_model_config", "Any", oneof="config"),
    ),
    "ModelConfigList": (_Field(1, "config", "ModelConfig", repeated=True),),
    "ModelConfig": (
        _Field(1, "name", "string"),
        _Field(2, "base_path", "string"),
        _Field(3, "model_type", "ModelType"),
        _Field(4, "model_platform", "string"),
        _Field(7, "model_version_policy", "ServableVersionPolicy"),
        _Field(8, "version_labels", "VersionLabelsEntry", repeated=True),
        _Field(6, "logging_config", "LoggingConfig"),
    ),
    "VersionLabelsEntry": (_Field(1, "key", "string"), _Field(2, "value", "int64")),
    "Any": (_Field(1, "type_url", "string"), _Field(2, "value", "bytes")),
    # file_system_storage_path_source.proto
    "ServableVersionPolicy": (
        _Field(100, "latest", "Latest", oneof="policy_choice"),
        _Field(101, "all", "All", oneof="policy_choice"),
        _Field(102, "specific", "Specific", oneof="policy_choice"),
    ),
    "Latest": (_Field(1, "num_versions", "uint32"),),
    "All": (),
    "Specific": (_Field(1, "versions", "int64", repeated=True),),
    # logging_config.proto, log_collector_config.proto
    "LoggingConfig": (
        _Field(1, "log_collector_config", "LogCollectorConfig"),
        _Field(2, "sampling_config", "SamplingConfig"),
    ),
    "LogCollectorConfig": (_Field(1, "type", "string"), _Field(2, "filename_prefix", "string")),
    "SamplingConfig": (_Field(1, "sampling_rate", "double"),),
    # session_bundle_config.proto
    "BatchingParameters": (
        _Field(1, "max_batch_size", "Int64Value"),
        _Field(2, "batch_timeout_micros", "Int64Value"),
        _Field(3, "max_enqueued_batches", "Int64Value"),
        _Field(4, "num_batch_threads", "Int64Value"),
        _Field(5, "thread_pool_name", "StringValue"),
        _Field(6, "allowed_batch_sizes", "int64", repeated=True),
        _Field(7, "pad_variable_length_inputs", "bool"),
        _Field(8, "enable_large_batch_splitting", "BoolValue"),
        _Field(9, "max_execution_batch_size", "Int64Value"),
    ),
    # google/protobuf/wrappers.proto: "not set" and 0 are two things there
    "Int64Value": (_Field(1, "value", "int64"),),
    "StringValue": (_Field(1, "value", "string"),),
    "BoolValue": (_Field(1, "value", "bool"),),
    # ssl_config.proto
    "SSLConfig": (
        _Field(1, "server_key", "string"),
        _Field(2, "server_cert", "string"),
        _Field(3, "custom_ca", "string"),
        _Field(4, "client_verify", "bool"),
    ),
    # monitoring_config.proto
    "MonitoringConfig": (_Field(1, "prometheus_config", "PrometheusConfig"),),
    "PrometheusConfig": (_Field(1, "enable", "bool"), _Field(2, "path", "string")),
}

#: Messages that are a map's entries, and the message whose field they fill.
_MAP_ENTRIES = {"VersionLabelsEntry": "ModelConfig"}


def read_text(path: Path, message: str) -> Message:
    """Read a protobuf text file.

    Args:
        path: The file.
        message: Name of the message that it holds, one of the table above.

    Raises:
        NotFound: The file is missing or cannot be read; the message names it.
        InvalidArgument: It is not such a message; file, line and column are said.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"Invalid protobuf file: '{path}': {error}") from error
    try:
        return parse_text(text, message)
    except text_format.ParseError as error:
        raise InvalidArgument(f"Invalid protobuf file: '{path}': {error}") from error


def parse_text(text: str, message: str) -> Message:
    """Read a message from protobuf text.

    Raises:
        google.protobuf.text_format.ParseError: The text is not such a message; line and column are said.
    """
    parsed: Message = text_format.Parse(text, message_class(message)())
    return parsed


@cache
def message_class(name: str) -> type[Message]:
    """Give the class of a message of the table above."""
    owner = _MAP_ENTRIES.get(name)
    full_name = f"{_PACKAGE}.{owner}.{name}" if owner else f"{_PACKAGE}.{name}"
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full_name))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="tfbundle_serving_config.proto", package=_PACKAGE, syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value_name, number in values.items():
            enum.value.add(name=value_name, number=number)
    messages = {name: file.message_type.add(name=name) for name in _MESSAGES if name not in _MAP_ENTRIES}
    for name, owner in _MAP_ENTRIES.items():
        messages[name] = messages[owner].nested_type.add(name=name)
        messages[name].options.map_entry = True
    for name, declared in _MESSAGES.items():
        _declare(messages[name], declared)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _declare(message: descriptor_pb2.DescriptorProto, declared: tuple[_Field, ...]) -> None:
    groups = list(dict.fromkeys(field.oneof for field in declared if field.oneof))
    for group in groups:
        message.oneof_decl.add(name=group)
    for field in declared:
        added = message.field.add(
            name=field.name,
            number=field.number,
            label=_Type.LABEL_REPEATED if field.repeated else _Type.LABEL_OPTIONAL,
        )
        if field.type in _SCALARS:
            added.type = _SCALARS[field.type]
        else:
            added.type = _Type.TYPE_ENUM if field.type in _ENUMS else _Type.TYPE_MESSAGE
            owner = _MAP_ENTRIES.get(field.type)
            added.type_name = f".{_PACKAGE}.{owner}.{field.type}" if owner else f".{_PACKAGE}.{field.type}"
        if field.oneof:
            added.oneof_index = groups.index(field.oneof)
