"""What weights belong to: a text that describes a model, code that builds one, or the model itself."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import BundleError, ExportError

from ..settings import SourceSettings
from .architecture_text import family_of_text, parse_text, read_text
from .artefacts import Artefact, Family
from .configuration import with_plain_functions, without_training
from .custom_objects import custom_objects, explain_unknown, known_names
from .families import FAMILY_OF_OPTION, IMPORTERS, SPOKEN, live_family
from .keras_errors import unknown_name
from .recurrent_stand_ins import stand_ins
from .security import find_code, refuse, scan
from .sniffing import HDF5_MAGIC, ZIP_MAGIC, identify
from .user_code import explain_failure, import_code, parse_reference
from .whole_model import load_whole

logger = logging.getLogger(__name__)

OPTION = "--architecture (architecture=)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """An architecture that is not built yet.

    Attributes:
        origin: Where it comes from, in messages.
        config: Its configuration, where it has one; what code builds is known only afterwards.
        family: The Keras of the configuration; None for code.
        factory: Builds the model, loads it or gives it; None for a text.
    """

    origin: str
    config: Mapping[str, Any] | None = None
    family: Family | None = None
    factory: Callable[[], Any] | None = None


def is_code(architecture: Any) -> bool:
    """Tell whether an architecture is given as code on the command line: "module:factory" or "file.py:factory"."""
    return (
        isinstance(architecture, str)
        and ":" in architecture
        and not architecture.lstrip().startswith("{")
        and not Path(architecture).exists()
    )


def read_architecture(reading: SourceSettings) -> Architecture:
    """Find out what is meant by an architecture; a text is scanned, code is imported, neither is built.

    Raises:
        ExportError: It is none, holds code, or is for another Keras than was asked for.
        OSError: A file cannot be read.
    """
    given = reading.architecture
    if live_family(given):
        return Architecture(origin="the given model", factory=lambda: given)
    if is_code(given):
        return _from_code(given)
    if isinstance(given, (str, os.PathLike)):
        found = _from_text(given, reading)
        _check_text(found, reading)
        return found
    if callable(given):
        name = getattr(given, "__name__", type(given).__name__)
        return Architecture(origin=f"{name}()", factory=lambda: _call(given, name))
    raise ExportError(
        f"{OPTION}: expected a JSON or YAML text, module:factory, file.py:factory, a function or a model; "
        f"got a {type(given).__name__}"
    )


def build(architecture: Architecture, reading: SourceSettings, *, config: Mapping[str, Any] | None = None) -> Any:
    """Build the model of an architecture.

    Args:
        architecture: The architecture.
        reading: The custom objects, and whether a text may hold code.
        config: A text's configuration where it is to be built otherwise than it stands.

    Returns:
        A live model of either Keras, perhaps without weights yet.

    Raises:
        ExportError: It cannot be built; the message names the architecture and gives the reason in a line.
    """
    if architecture.factory is not None:
        model = architecture.factory()
        if live_family(model) is None:
            raise ExportError(f"{OPTION}: {architecture.origin} gives {_describe(model)}; expected a Keras model")
        return model
    assert architecture.config is not None
    config = without_training(architecture.config if config is None else config)
    assert architecture.family is not None
    keras = IMPORTERS[architecture.family]()
    known = custom_objects(reading, architecture.family, architecture=config)
    if architecture.family == "tf_keras":
        known = stand_ins(keras, config) | known
        config = with_plain_functions(config)
    try:
        with _safe_mode(architecture.family, not reading.allow_unsafe):
            return keras.models.model_from_json(json.dumps(config), custom_objects=known)
    except BundleError:
        raise
    except Exception as error:
        missing = unknown_name(error)
        if missing:
            raise ExportError(explain_unknown(missing, config, architecture.origin)) from error
        raise ExportError(
            f"{architecture.origin} cannot be built by {SPOKEN[architecture.family]}: {explain_failure(error)}"
        ) from error


def _safe_mode(family: Family, safe: bool) -> Any:
    """Set whether byte code may run, for as long as the context lasts; model_from_json has no argument for it."""
    if family == "keras":
        from keras.src.saving.serialization_lib import SafeModeScope
    else:
        from tf_keras.src.saving.serialization_lib import SafeModeScope
    return SafeModeScope(safe)


def _from_text(given: str | os.PathLike[str], reading: SourceSettings) -> Architecture:
    if isinstance(given, str) and given.lstrip().startswith("{"):
        config, origin = parse_text(given, "the architecture"), "the architecture"
        return Architecture(origin=origin, config=config, family=family_of_text(config, origin))
    path = Path(given)
    if path.suffix == ".py" and path.is_file():
        raise ExportError(f"{OPTION}: {path} is code; name the function in it that builds the model: {path}:build")
    if path.is_dir():
        raise ExportError(f"{OPTION}: {path} is a folder; expected a JSON or YAML text, or module:factory")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except (FileNotFoundError, NotADirectoryError):
        raise ExportError(
            f"{OPTION}: there is no file {path}; expected a JSON or YAML text, module:factory or file.py:factory"
        ) from None
    if head.startswith((HDF5_MAGIC, ZIP_MAGIC)):
        return _from_model_file(identify(path), reading)
    config = read_text(path)
    return Architecture(origin=str(path), config=config, family=family_of_text(config, str(path)))


def _from_model_file(artefact: Artefact, reading: SourceSettings) -> Architecture:
    """Take a full model for its architecture; it is loaded whole and then gets other weights."""
    if artefact.architecture is None:
        raise ExportError(f"{OPTION}: {artefact} holds no architecture")
    if not reading.allow_unsafe:
        refuse(artefact, scan(artefact, known_names=known_names(reading)))
    return Architecture(
        origin=str(artefact.path),
        config=artefact.architecture,
        family=artefact.family,
        factory=lambda: load_whole(artefact, reading),
    )


def _check_text(found: Architecture, reading: SourceSettings) -> None:
    wanted = FAMILY_OF_OPTION.get(reading.keras)
    if found.family is not None and wanted not in (None, found.family):
        raise ExportError(f"{found.origin} was written by {SPOKEN[found.family]}; --keras {reading.keras} does not fit")
    if reading.allow_unsafe or found.config is None or found.factory is not None:
        return
    findings = list(find_code(found.config, known_names=known_names(reading)))
    if findings:
        raise ExportError(
            f"{found.origin} is refused before building: {'; '.join(map(str, findings[:3]))}. "
            "Classes of your own are supplied with --custom-objects MODULE (custom_objects=). "
            "If you trust where it comes from: --allow-unsafe (allow_unsafe=True)"
        )


def _from_code(given: str) -> Architecture:
    reference = parse_reference(given, option=OPTION)
    if not reference.name:
        raise ExportError(f"{OPTION}: {given!r} names no function; expected {reference}:build")
    found = import_code(reference)
    if live_family(found):
        return Architecture(origin=str(reference), factory=lambda: found)
    if not callable(found):
        raise ExportError(f"{OPTION}: {reference} is {_describe(found)}; expected a function that builds the model")
    return Architecture(origin=f"{reference}()", factory=lambda: _call(found, str(reference)))


def _call(factory: Callable[..., Any], name: str) -> Any:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # a builtin
        signature = inspect.Signature()
    try:
        signature.bind()
    except TypeError:
        needed = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        raise ExportError(
            f"{OPTION}: {name} needs arguments ({', '.join(needed)}); give a function that takes none and calls it"
        ) from None
    try:
        return factory()
    except BundleError:
        raise
    except (Exception, SystemExit) as error:
        source = inspect.getsourcefile(factory) if inspect.isroutine(factory) or inspect.isclass(factory) else ""
        raise ExportError(f"{OPTION}: {name} fails: {explain_failure(error, within=source or '')}") from error


def _describe(value: object) -> str:
    kind = type(value)
    if isinstance(value, (tuple, list)) and any(live_family(each) for each in value):
        return f"a {kind.__name__} with a model in it"
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return "None" if value is None else f"a {name}"
