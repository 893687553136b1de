"""platform.config: sessions, batching and warm-up of a whole platform, in place of the flags for them.

    platform_configs {
      key: "tensorflow"
      value { source_adapter_config {
        [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
          legacy_config {
            session_config { intra_op_parallelism_threads: 2 }
            batching_parameters { max_batch_size { value: 32 } }
            enable_model_warmup: true
          }
        }
      } }
    }

The session's ConfigProto stays text here: it is TensorFlow's message, and TensorFlow's own class reads it.

Source: tensorflow_serving/config/platform_config.proto;
tensorflow_serving/servables/tensorflow/saved_model_bundle_source_adapter.proto, session_bundle_config.proto.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tfbundle_serving.apis.errors import InvalidArgument

from .batching import BatchingParameters, batching_parameters
from .models import TENSORFLOW_PLATFORM
from .schema import invalid_file, message_class, parse_text, read_file

_SESSION_CONFIG = "session_config"
#: What protobuf text is made of, as far as finding a message's end needs it.
_TOKENS = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|[A-Za-z_]\w*|[{}<>:]|[^\S\n]+|\n|.")
_OPENING, _CLOSING = "{<", "}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformConfig:
    """What the file says of SavedModels; it counts in place of the flags of the same purpose.

    Attributes:
        session_config: Text of a ConfigProto for the sessions.
        batching: How requests are joined; None = not at all.
        per_model_batching: Whether each version brings its own parameters.
        warm_up: Whether warm-up requests are replayed; not unless the file says so.
        warm_up_iterations: How often each is run.
        tags: Tags of the meta graph to load; empty = those of the default.
    """

    session_config: str = ""
    batching: BatchingParameters | None = None
    per_model_batching: bool = False
    warm_up: bool = False
    warm_up_iterations: int = 1
    tags: frozenset[str] = frozenset()


def read_platform(path: Path) -> PlatformConfig:
    """Read a platform.config.

    Raises:
        NotFound: The file is missing.
        InvalidArgument: It holds no PlatformConfigMap, or none for the platform "tensorflow", or impossible batching
            parameters.
    """
    text, sessions = cut_messages(read_file(path), _SESSION_CONFIG)
    try:
        parsed: Any = parse_text(text, "PlatformConfigMap")
    except text_format.ParseError as error:
        raise invalid_file(path, error) from error
    if TENSORFLOW_PLATFORM not in parsed.platform_configs:
        raise InvalidArgument(f'{path}: there is no config for the platform "{TENSORFLOW_PLATFORM}"')
    adapter: Any = message_class("SavedModelBundleSourceAdapterConfig")()
    packed = parsed.platform_configs[TENSORFLOW_PLATFORM].source_adapter_config
    if packed.type_url and not packed.Unpack(adapter):
        raise InvalidArgument(f"{path}: expected a {adapter.DESCRIPTOR.full_name}, got {packed.type_url}")
    given = adapter.legacy_config
    return PlatformConfig(
        session_config="\n".join(sessions),
        batching=batching_parameters(given.batching_parameters) if given.HasField("batching_parameters") else None,
        per_model_batching=given.enable_per_model_batching_params,
        warm_up=given.enable_model_warmup,
        warm_up_iterations=max(given.model_warmup_options.num_request_iterations.value, 1),
        tags=frozenset(given.saved_model_tags),
    )


def cut_messages(text: str, field: str) -> tuple[str, list[str]]:
    """Cut the messages of one field out of protobuf text.

    Args:
        text: Protobuf text.
        field: The field's name, wherever it stands.

    Returns:
        The text with blanks in their place, so that lines and columns stay, and what stood between their braces.
    """
    kept: list[str] = []
    cut: list[str] = []
    depth = 0
    is_named = False
    for match in _TOKENS.finditer(text):
        token = match[0]
        if depth:
            depth += (token in _OPENING) - (token in _CLOSING)
            if depth:
                cut[-1] += token
            kept.append(_blank(token))
        elif token == field:
            is_named = True
            kept.append(_blank(token))
        elif is_named and token in _OPENING:
            is_named, depth = False, 1
            cut.append("")
            kept.append(_blank(token))
        else:
            # A colon and comments may stand between the name and the brace.
            kept.append(_blank(token) if is_named else token)
    return "".join(kept), cut


def _blank(token: str) -> str:
    return token if token == "\n" else " " * len(token)
