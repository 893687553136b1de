"""What export_model is given, read into what the steps take; what cannot be meant is refused before any work."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tfbundle_serving.apis.errors import ExportError

from .settings import ALLOWANCES, Allowance, Gate, Keras, Naming
from .signatures.ready_made import ReadyMade, parse_ready_made

#: Arguments that take one of a few texts; another one must not pass for the default.
_CHOICES: dict[str, tuple[str, ...]] = {
    "names": get_args(Naming),
    "keras": get_args(Keras),
    "gate": get_args(Gate),
    "allow": ALLOWANCES,
}


def check_choices(argument: str, given: Collection[str]) -> None:
    """Refuse what an argument does not take.

    Args:
        argument: "names", "keras", "gate" or "allow".
        given: What it got.

    Raises:
        ExportError: One of them is unknown; the message says which and what there is.
    """
    known = _CHOICES[argument]
    for choice in given:
        if choice not in known:
            raise ExportError(f"{argument} takes {', '.join(filter(None, known))}; got {choice!r}")


def read_base_path(given: str | os.PathLike[str]) -> Path:
    """Read where the versions go.

    Raises:
        ExportError: It is empty, or has no name that a model could be called by.
    """
    base = Path(os.path.abspath(given))  # noqa: PTH100  # resolve() would follow the user's own symbolic links
    if not os.fspath(given) or not base.name:
        # Nothing is no working directory: a shell variable is not set.
        raise ExportError(
            f"the base path is {os.fspath(given)!r}; expected the folder of the model's versions, named after the "
            "model, such as models/digits"
        )
    return base


def read_allowances(allow: Collection[str]) -> frozenset[Allowance]:
    """Read what is to be let pass.

    Raises:
        ExportError: One of it is no allowance.
    """
    given = (allow,) if isinstance(allow, str) else tuple(allow)
    check_choices("allow", given)
    return frozenset(name for name in ALLOWANCES if name in given)


def read_ready(ready: Sequence[ReadyMade | str] | ReadyMade | str) -> tuple[ReadyMade, ...]:
    """Read ready-made signatures, some of them written as on the command line.

    Raises:
        ExportError: One is no ready-made signature.
    """
    given = (ready,) if isinstance(ready, str) or not isinstance(ready, Sequence) else ready
    made = tuple(parse_ready_made(each) if isinstance(each, str) else each for each in given)
    for each in made:
        # A class has `build`, too, and is what one gets by leaving out the parentheses.
        if isinstance(each, type) or not hasattr(each, "build"):
            raise ExportError(
                "ready takes ready-made signatures, such as Image(size=(224, 224)) or 'image:size=224x224'; "
                f"got {each!r:.80}"
            )
    return made


def read_custom_objects(given: Mapping[str, Any] | Collection[str] | str | None) -> dict[str, Any]:
    """Read custom objects, given themselves or as the modules where they are found, into fields of SourceSettings."""
    if isinstance(given, Mapping):
        return {"custom_objects": dict(given)}
    return {"modules": (given,) if isinstance(given, str) else tuple(given or ())}
