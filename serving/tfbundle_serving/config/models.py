"""models.config: which models a server serves, from where, which of their versions, under which labels.

    model_config_list {
      config {
        name: "digits"
        base_path: "/models/digits"
        model_platform: "tensorflow"
        model_version_policy { latest { num_versions: 2 } }
        version_labels { key: "stable" value: 1 }
      }
    }

Source: tensorflow_serving/config/model_server_config.proto; the checks and their texts from
tensorflow_serving/model_servers/server_core.cc.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError

from tfbundle_serving.apis.errors import DecodeError, InvalidArgument
from tfbundle_serving.apis.version_policy import All, Latest, Specific, VersionPolicy

from .schema import message_class, read_text

#: The only platform that there is.
TENSORFLOW_PLATFORM = "tensorflow"

_URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")
#: ModelType.TENSORFLOW, the old way of asking for the platform.
_TENSORFLOW_TYPE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        name: The name that requests carry.
        base_path: Absolute path of the folder whose numbered children are versions.
        policy: Which versions are served.
        labels: Version label to version number.
    """

    name: str
    base_path: str
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)


def read_models(path: Path) -> tuple[ModelConfig, ...]:
    """Read a models.config; an empty file means no models.

    Raises:
        NotFound: The file is missing.
        InvalidArgument: It is no ModelServerConfig, or a model in it is configured wrongly.
    """
    parsed: Any = read_text(path, "ModelServerConfig")
    if parsed.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument(f"{path}: custom_model_config is not supported, expected model_config_list")
    return check_models(_model(each) for each in parsed.model_config_list.config)


def parse_models(data: bytes | None, *, served: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """Read the binary form of a models.config, as HandleReloadConfigRequest carries it.

    Args:
        data: A serialized ModelServerConfig; None where the request has none.
        served: Names of the models that are served now, all of them TensorFlow models.

    Raises:
        InvalidArgument: It is no list of models, or a model in it is configured wrongly; TensorFlow Serving's texts.
        DecodeError: The bytes are no ModelServerConfig.
    """
    message: Any = message_class("ModelServerConfig")
    try:
        parsed = message.FromString(data or b"")
    except ProtobufDecodeError as error:
        raise DecodeError(f"no ModelServerConfig: {error}") from error
    if parsed.WhichOneof("config") != "model_config_list":
        raise InvalidArgument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    listed = parsed.model_config_list.config
    check_models(ModelConfig(name=each.name, base_path=each.base_path) for each in listed)
    for each in listed:
        platform = each.model_platform
        if each.name in served and not each.model_type and platform not in ("", TENSORFLOW_PLATFORM):
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {each.name} platform was {TENSORFLOW_PLATFORM} "
                f"and new platform requested is {platform}"
            )
    return tuple(_model(each) for each in listed)


def _model(parsed: Any) -> ModelConfig:
    """Turn a parsed ModelConfig into ours.

    Raises:
        InvalidArgument: Its platform is none or an unknown one, or it asks for request logs.
    """
    platform = parsed.model_platform
    if parsed.model_type and platform:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {parsed.name}"
        )
    if parsed.model_type == _TENSORFLOW_TYPE:
        platform = TENSORFLOW_PLATFORM
    if not platform:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {parsed.name}"
        )
    if platform != TENSORFLOW_PLATFORM:
        raise InvalidArgument(f"Model {parsed.name} requests unsupported platform {platform}")
    if parsed.HasField("logging_config"):
        raise InvalidArgument("No request-logger-creator provided.")
    return ModelConfig(
        name=parsed.name,
        base_path=parsed.base_path,
        policy=_policy(parsed.model_version_policy),
        labels=dict(sorted(parsed.version_labels.items())),
    )


def _policy(parsed: Any) -> VersionPolicy:
    choice = parsed.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(versions=tuple(parsed.specific.versions))
    return Latest(num_versions=parsed.latest.num_versions or 1)


def check_models(models: Iterable[ModelConfig]) -> tuple[ModelConfig, ...]:
    """Check what a list of models must fulfil as a whole.

    Raises:
        InvalidArgument: A name occurs twice, or a base path is relative; TensorFlow Serving's texts.
    """
    checked: dict[str, ModelConfig] = {}
    for model in models:
        if model.name in checked:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        if not (Path(model.base_path).is_absolute() or _URI.match(model.base_path)):
            raise InvalidArgument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        checked[model.name] = model
    return tuple(checked.values())
