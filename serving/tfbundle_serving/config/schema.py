"""TensorFlow Serving's configuration messages, declared here and read from protobuf text.

The official Python package lacks half of these files and brings TensorFlow along, so the messages are built from the
tables below, in a descriptor pool of their own where they cannot clash with TensorFlow's. Names of the messages, names
and numbers of the fields are TensorFlow Serving's; a text file that its server reads is read here.

Source: tensorflow_serving/config/model_server_config.proto, logging_config.proto, log_collector_config.proto,
monitoring_config.proto, platform_config.proto, ssl_config.proto;
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto;
tensorflow_serving/servables/tensorflow/session_bundle_config.proto, saved_model_bundle_source_adapter.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from tfbundle_serving.apis.errors import InvalidArgument, NotFound

_PACKAGE = "tensorflow.serving"
#: The text form `[type.googleapis.com/NAME] { ... }` is read into a message of this name alone.
_ANY = "google.protobuf.Any"
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
        _Field(2, "custom_model_config", _ANY, oneof="config"),
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
        _Field(3, "custom_logging_config", _ANY),
    ),
    "LogCollectorConfig": (_Field(1, "type", "string"), _Field(2, "filename_prefix", "string")),
    "SamplingConfig": (_Field(1, "sampling_rate", "double"), _Field(2, "attributes", "int32")),
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
    "SessionBundleConfig": (
        # session_config is TensorFlow's own message; see config/platform.py.
        _Field(1, "session_target", "string"),
        _Field(3, "batching_parameters", "BatchingParameters"),
        _Field(4, "session_run_load_threadpool_index", "Int64Value"),
        _Field(5, "experimental_transient_ram_bytes_during_load", "int64"),
        _Field(6, "saved_model_tags", "string", repeated=True),
        _Field(779, "enable_model_warmup", "bool"),
        _Field(780, "model_warmup_options", "ModelWarmupOptions"),
        _Field(781, "enable_session_metadata", "bool"),
        _Field(782, "remove_unused_fields_from_bundle_metagraph", "bool"),
        _Field(783, "prefer_tflite_model", "bool"),
        _Field(784, "num_tflite_interpreters_per_pool", "int32"),
        _Field(785, "resource_estimation_uses_validation_result", "bool"),
        _Field(786, "num_tflite_pools", "int32"),
        _Field(787, "wrap_session_with_no_threading_params", "bool"),
        _Field(788, "enable_per_model_batching_params", "bool"),
        _Field(789, "mixed_precision", "string"),
    ),
    "ModelWarmupOptions": (_Field(1, "num_request_iterations", "Int64Value"),),
    # saved_model_bundle_source_adapter.proto
    "SavedModelBundleSourceAdapterConfig": (_Field(1000, "legacy_config", "SessionBundleConfig"),),
    # platform_config.proto
    "PlatformConfigMap": (_Field(1, "platform_configs", "PlatformConfigsEntry", repeated=True),),
    "PlatformConfigsEntry": (_Field(1, "key", "string"), _Field(2, "value", "PlatformConfig")),
    "PlatformConfig": (_Field(1, "source_adapter_config", _ANY),),
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
_MAP_ENTRIES = {"VersionLabelsEntry": "ModelConfig", "PlatformConfigsEntry": "PlatformConfigMap"}


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
        return parse_text(read_file(path), message)
    except text_format.ParseError as error:
        raise invalid_file(path, error) from error


def read_file(path: Path) -> str:
    """Read a text file.

    Raises:
        NotFound: The file is missing or cannot be read; the message names it.
        InvalidArgument: It is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise invalid_file(path, error) from error


def invalid_file(path: Path, error: Exception) -> InvalidArgument:
    """Say in TensorFlow Serving's words, and where, that a file is not the message it should be."""
    return InvalidArgument(f"Invalid protobuf file: '{path}': {error}")


def parse_text(text: str, message: str) -> Message:
    """Read a message from protobuf text.

    Raises:
        google.protobuf.text_format.ParseError: The text is not such a message; line and column are said.
    """
    parsed: Message = text_format.Parse(text, message_class(message)(), descriptor_pool=_pool())
    return parsed


@cache
def message_class(name: str) -> type[Message]:
    """Give the class of a message of the table above."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(_full_name(name)))


def _full_name(name: str) -> str:
    if name == _ANY:
        return name
    owner = _MAP_ENTRIES.get(name)
    return f"{_PACKAGE}.{owner}.{name}" if owner else f"{_PACKAGE}.{name}"


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    any_file = descriptor_pb2.FileDescriptorProto()
    any_pb2.DESCRIPTOR.CopyToProto(any_file)
    file = descriptor_pb2.FileDescriptorProto(name="tfbundle_serving_config.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(any_file.name)
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
    for each in (any_file, file):
        pool.AddSerializedFile(each.SerializeToString())
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
            added.type_name = f".{_full_name(field.type)}"
        if field.oneof:
            added.oneof_index = groups.index(field.oneof)
