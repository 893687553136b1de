"""The text of an architecture, as `model.to_json()` or the `to_yaml()` of old wrote it; nothing of it is executed.

{"class_name": "Sequential", "config": {...}, "keras_version": "2.4.0", "backend": "tensorflow"}      Keras 2
{"module": "keras", "class_name": "Functional", "config": {...}, "registered_name": "Functional"}     Keras 3
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..reasons import reason_of
from .artefacts import Family, family_of

#: A longer text describes no model.
_MAX_BYTES = 1 << 28
#: And no model has more values in its configuration.
_MAX_NODES = 2_000_000
_TUPLE_TAG = "tag:yaml.org,2002:python/tuple"
_FIRST_OF_JSON = ("{", "[", '"')


def read_text(path: Path) -> dict[str, Any]:
    """Read the text of an architecture from a file.

    Raises:
        ExportError: It is no text of an architecture.
        OSError: It cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ExportError(f"{path} is too large ({path.stat().st_size} bytes) for the text of an architecture")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ExportError(
            f"{path} is no text: expected what model.to_json() or to_yaml() writes, or file.py:factory "
            "for --architecture (architecture=)"
        ) from None
    return parse_text(text, str(path))


def parse_text(text: str, origin: str) -> dict[str, Any]:
    """Read the text of an architecture.

    Args:
        text: JSON or YAML.
        origin: What it is called in messages.

    Raises:
        ExportError: It is neither, or describes no model.
    """
    stripped = text.lstrip()
    if stripped.startswith(_FIRST_OF_JSON):
        content = _parse_json(stripped, origin)
        if isinstance(content, str):  # json.dump(model.to_json(), file) packs it twice
            content = _parse_json(content, origin)
    else:
        content = _parse_yaml(text, origin)
    if not isinstance(content, dict) or not isinstance(content.get("class_name"), str) or "config" not in content:
        raise ExportError(
            f"{origin} describes no model: expected an object with class_name and config, as model.to_json() writes it"
        )
    return content


def family_of_text(config: Mapping[str, Any], origin: str) -> Family:
    """Tell which Keras wrote a configuration.

    Keras 2 records its version beside the model. Keras 3 does not, but says of each object which module it is from;
    Keras 1 and the first of Keras 2 say neither.

    Raises:
        ExportError: It records a version that no package here can read.
    """
    if "keras_version" in config:
        return family_of(Path(origin), config["keras_version"])
    return "keras" if "module" in config and "registered_name" in config else "tf_keras"


def _parse_json(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{origin} is not the JSON text of an architecture: {error}") from error


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ExportError(
            f"{origin} is YAML, which needs PyYAML: pip install 'tfbundle[export]'; or convert it to JSON"
        ) from None

    def construct(loader: Any, node: Any) -> Any:
        return loader.construct_sequence(node, deep=True)

    # It builds plain values only. to_yaml() wrote shapes as tuples of Python, which are lists in JSON.
    loader: Any = type("ArchitectureLoader", (yaml.SafeLoader,), {})
    loader.add_constructor(_TUPLE_TAG, construct)
    try:
        content = yaml.load(text, loader)
    except yaml.constructor.ConstructorError as error:
        raise ExportError(f"{origin} is refused: {error.problem}; only plain values are read from YAML") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = reason_of(error, length=200)
        raise ExportError(f"{origin} is not the JSON or YAML text of an architecture: {reason}") from error
    _refuse_expansion(content, origin)
    return content


def _refuse_expansion(content: Any, origin: str) -> None:
    """Stop where aliases of YAML stand for more than any model has."""
    waiting, count = [content], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > _MAX_NODES:
            raise ExportError(f"{origin} is refused: its aliases expand to more than {_MAX_NODES} values")
        if isinstance(node, (list, dict)):
            waiting += node.values() if isinstance(node, dict) else node
