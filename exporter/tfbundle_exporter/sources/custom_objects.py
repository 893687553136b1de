"""Classes and functions of the user's own that a model refers to by name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..settings import SourceSettings
from .artefacts import Family
from .configuration import mentioned_names, users_of
from .families import FAMILIES, SPOKEN
from .user_code import import_code, parse_reference

logger = logging.getLogger(__name__)

OPTION = "--custom-objects MODULE (custom_objects=)"

#: What a configuration may name, by its place in either Keras; a Model is a Layer.
_KINDS = (
    ("layers", "Layer"),
    ("losses", "Loss"),
    ("metrics", "Metric"),
    ("regularizers", "Regularizer"),
    ("constraints", "Constraint"),
    ("initializers", "Initializer"),
)
#: Kinds that a model needs for its answers; one of the other Keras cannot do their work.
_WORKING_KINDS = tuple(kind for kind in _KINDS if kind[0] not in ("losses", "metrics"))

#: Packages whose own classes and functions every model knows without being told.
_OWN_PACKAGES = frozenset({"keras", "tf_keras", "tensorflow", "numpy"})


def known_names(reading: SourceSettings) -> frozenset[str]:
    """Give all names that the user vouches for: supplied, in a module that was named, or registered in this process.

    Modules are imported, which is what they were named for; nothing is imported for objects from Python.

    Raises:
        ExportError: A module cannot be imported or holds nothing that a model could use.
    """
    supplied = _supplied(reading)
    registered = [name for keras in _loaded_kerases() for name in keras.saving.get_custom_objects()]
    full = [keras.saving.get_registered_name(each) for keras in _loaded_kerases() for each in supplied.values()]
    return frozenset((*supplied, *registered, *(name for name in full if isinstance(name, str))))


def custom_objects(
    reading: SourceSettings, family: Family, *, architecture: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Give the user's objects under every name that a model's configuration calls them by.

    Args:
        reading: What the user supplies.
        family: The Keras that will use them; it has been imported.
        architecture: The configuration; None where there is none.

    Raises:
        ExportError: A module cannot be imported, or a class that the model names is made for the other Keras.
    """
    found = _supplied(reading)
    mentioned = mentioned_names(architecture) if architecture else frozenset[str]()
    for name in mentioned:
        bare = name.rpartition(">")[2]
        if name not in found and bare in found:
            found[name] = found[bare]
    for name in mentioned & found.keys():
        _check_family(name, found[name], family)
    return found


def explain_unknown(name: str, architecture: Mapping[str, Any] | None, where: str) -> str:
    """Say which custom object is missing, which layer needs it, and how to supply it."""
    layers = users_of(architecture, name) if architecture else []
    needed_by = f" (in {', '.join(layers[:3])})" if layers else ""
    bare = name.rpartition(">")[2]
    return (
        f"{where} uses {name!r}{needed_by}, which Keras does not know: supply it with "
        f"--custom-objects MODULE:{bare} (custom_objects={{{bare!r}: ...}})"
    )


def _supplied(reading: SourceSettings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in reading.modules:
        reference = parse_reference(text, option=OPTION)
        value = import_code(reference)
        if isinstance(value, ModuleType):
            found |= _objects_of(value)
        elif isinstance(value, Mapping):
            found |= value
        elif callable(value):
            found[reference.name.rpartition(".")[2]] = value
        else:
            raise ExportError(
                f"{OPTION}: {reference} is a {type(value).__name__}; expected a class, a function or a mapping of them"
            )
    for name, value in reading.custom_objects.items():
        if not callable(value):
            raise ExportError(
                f"{OPTION}: {name!r} is a {type(value).__name__}; expected a class or function for each name"
            )
    return found | dict(reading.custom_objects)


def _objects_of(module: ModuleType) -> dict[str, Any]:
    """Collect what a model may refer to in a module; what the module itself took from Keras is no object of its own."""
    return {
        name: value
        for name, value in vars(module).items()
        if str(getattr(value, "__module__", "")).partition(".")[0] not in _OWN_PACKAGES
        and (isinstance(value, FunctionType) or (isinstance(value, type) and any(_families_of(value, _KINDS))))
    }


def _check_family(name: str, value: Any, family: Family) -> None:
    if not isinstance(value, type):
        return
    families = set(_families_of(value, _WORKING_KINDS))
    if not families or family in families:
        return
    other = next(iter(families))
    hint = (
        " (tf_keras); derive it from tf_keras, or from tf.keras and name its module with --custom-objects: "
        "it is imported where tf.keras is tf_keras"
        if family == "tf_keras"
        else " (keras); derive it from keras"
    )
    raise ExportError(f"custom object {name!r} is made for {SPOKEN[other]}, but the model needs {SPOKEN[family]}{hint}")


def _families_of(value: type, kinds: tuple[tuple[str, str], ...]) -> Iterator[Family]:
    """Name the Kerases that a class derives from."""
    for family in FAMILIES:
        keras = sys.modules.get(family)
        if keras is None:
            continue
        bases = tuple(getattr(getattr(keras, room), base) for room, base in kinds)
        if issubclass(value, bases):
            yield family


def _loaded_kerases() -> list[Any]:
    return [sys.modules[family] for family in FAMILIES if family in sys.modules]
