"""Everything that a source holds: its variables and look-up tables, found through what it tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..runtime import import_tensorflow


def walk(root: Any, *, beside: tuple[type, ...] = ()) -> Iterator[tuple[str, Any]]:
    """List all that an object tracks, itself first, the nearest before the farther.

    Args:
        root: A trackable.
        beside: Kinds that are passed by with all they hold, such as optimizers.

    Yields:
        The attributes on the way ("tower/layers/0/kernel") and the trackable.
    """
    seen: set[int] = set()
    waiting = [("", root)]
    for path, trackable in waiting:
        if id(trackable) in seen or (path and isinstance(trackable, beside)):
            continue
        seen.add(id(trackable))
        yield path, trackable
        waiting += [(f"{path}/{name}" if path else name, child) for name, child in _children(trackable)]


def _children(trackable: Any) -> Iterable[tuple[str, Any]]:
    return trackable._trackable_children().items() if hasattr(trackable, "_trackable_children") else ()


def find_variables(root: Any, *, beside: tuple[type, ...] = ()) -> dict[str, Any]:
    """Find the tf.Variables among what an object tracks, by the attributes on the way."""
    kind = import_tensorflow().Variable
    return {path: trackable for path, trackable in walk(root, beside=beside) if isinstance(trackable, kind)}


def find_resources(root: Any) -> tuple[Any, ...]:
    """Find the tables, their files, and what fills them; a SavedModel that lacks one cannot be written."""
    tf = import_tensorflow()
    # The base of TrackableResource, which has no public name: what fills the tables of a TensorFlow 1 model is one.
    from tensorflow.python.trackable.resource import CapturableResource

    kinds = (CapturableResource, tf.saved_model.Asset)
    return tuple(trackable for _, trackable in walk(root) if isinstance(trackable, kinds))


def join_variables(*parts: Iterable[Any]) -> tuple[Any, ...]:
    """Put variables together, each once."""
    return tuple({id(variable): variable for part in parts for variable in part}.values())


def refuse_untracked(what: str, function: Any, variables: Iterable[Any], resources: Iterable[Any]) -> None:
    """Check that a traced function uses nothing but what the source is known to hold.

    A variable in a closure or in a plain list is in no file of Keras and in no checkpoint: after loading it has the
    value that it began with, and not the trained one.

    Args:
        what: The model or signature, for the message.
        function: The ConcreteFunction.
        variables: The source's tf.Variables.
        resources: Its tables.

    Raises:
        ExportError: It uses another variable or table; the message names it.
    """
    tf = import_tensorflow()
    known = {id(variable.handle) for variable in variables if hasattr(variable, "handle")}
    known |= {id(table.resource_handle) for table in resources if hasattr(table, "resource_handle")}
    used = {id(variable.handle): variable.name for variable in function.graph.variables}
    for capture in function.captured_inputs:
        if getattr(capture, "dtype", None) != tf.resource or id(capture) in known:
            continue
        name = used.get(id(capture))
        thing = f"the variable {name.removesuffix(':0')!r}" if name else "a look-up table"
        raise ExportError(
            f"{what} uses {thing}, which no layer tracks, so that no file of the model ever holds it: "
            "make it an attribute of its layer (self.add_weight(...) for a variable), not a global or an entry of a "
            "plain list or dict"
        )
