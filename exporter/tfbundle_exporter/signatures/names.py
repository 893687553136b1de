"""What inputs and outputs are called by clients: the layers' names, or names that the user gives."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE

#: Other names export with TensorFlow and then fail in a URL, in JSON tools or as a keyword in somebody's client.
_LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RULE = "a letter or underscore, then letters, digits, underscores, dots and hyphens"
#: TensorFlow makes a graph node of each input, and no node's name begins with an underscore.
_LEGAL_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_INPUT_RULE = "a letter, then letters, digits, underscores, dots and hyphens"
#: A keyword argument of that name cannot be passed to a signature; a signature of the other name is hidden.
_RESERVED = frozenset({"self", INIT_OP_SIGNATURE})

#: New names: {public name: layer's name}, or public names in the model's order.
Names = Mapping[str, str] | Sequence[str]


def check_legal(what: str, name: str, *, remedy: str = "", is_input: bool = False) -> str:
    """Check a signature's, an input's or an output's name.

    Args:
        what: What is called so, for the message.
        name: The name.
        remedy: What to do, before the nearest legal name.
        is_input: Whether it is an input's, for which the rule is stricter.

    Returns:
        The name.

    Raises:
        ExportError: It is illegal; the message gives the rule and the nearest legal name.
    """
    if is_legal(name, is_input=is_input):
        return name
    near = nearest_legal(name)
    if name in _RESERVED:
        raise ExportError(
            f"{what} cannot be called {name!r}: TensorFlow needs the name itself; {remedy or 'try'} {near!r}"
        )
    rule = _INPUT_RULE if is_input else _RULE
    raise ExportError(f"{what} cannot be called {name!r}: a name is {rule}; {remedy or 'try'} {near!r}")


def is_legal(name: str, *, is_input: bool = False) -> bool:
    """Tell whether a signature or an output may be called that, or an input."""
    return (_LEGAL_INPUT if is_input else _LEGAL).fullmatch(name) is not None and name not in _RESERVED


def nearest_legal(name: str) -> str:
    """Turn any text into a name that looks like it and is legal for inputs, too."""
    # Accents go, what has no plain letter becomes an underscore with everything else.
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    legal = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")
    return legal if is_legal(legal, is_input=True) else f"x_{legal}".rstrip("_")


def check_distinct_inputs(signature: str, names: Iterable[str]) -> None:
    """Check that TensorFlow can tell the inputs of a signature apart.

    Raises:
        ExportError: It takes two for one; the message names both.
    """
    seen: dict[str, str] = {}
    for name in names:
        node = re.sub(r"[.-]", "_", name).lower()
        if node in seen:
            raise ExportError(
                f"signature {signature!r}: TensorFlow cannot tell the inputs {seen[node]!r} and {name!r} apart: they "
                "differ in case or in a sign between words alone; rename one: --input NAME=LAYER (input_names=)"
            )
        seen[node] = name


def uniquify(names: Sequence[str]) -> tuple[str, ...]:
    """Tell equal names apart as Keras 2 did: lstm, lstm_1, lstm_2."""
    unique: list[str] = []
    for name in names:
        candidate, count = name, 0
        while candidate in unique:
            count += 1
            candidate = f"{name}_{count}"
        unique.append(candidate)
    return tuple(unique)


def choose_names(what: str, own: Sequence[str], wanted: Names | None) -> tuple[str, ...]:
    """Find the public name of each input or output.

    Args:
        what: "input" or "output", for messages and the option's name.
        own: The layers' names, unique, in the model's order.
        wanted: The user's choice. A mapping may leave some out, and may be written either way round where only one
            way fits the model.

    Returns:
        One legal, unique name for each of `own`.

    Raises:
        ExportError: A wanted name belongs to nothing, or a name is illegal or used twice.
    """
    chosen = dict(zip(own, own, strict=True))
    if wanted is not None and not isinstance(wanted, Mapping):
        if isinstance(wanted, str) or len(wanted) != len(own):
            raise ExportError(f"the model has {len(own)} {what}s ({', '.join(own)}); got the names {wanted!r}")
        wanted = dict(zip(wanted, own, strict=True))
    for public, layer in (wanted or {}).items():
        if layer not in chosen and public in chosen:
            public, layer = layer, public
        if layer not in chosen:
            raise ExportError(f"the model has no {what} {layer!r} to call {public!r}; it has {', '.join(own)}")
        if chosen[layer] not in (layer, public):
            raise ExportError(f"the {what} {layer!r} cannot be called both {chosen[layer]!r} and {public!r}")
        chosen[layer] = public
    for layer, public in chosen.items():
        remedy = f"--{what} NAME={layer} renames it, for example to"
        check_legal(f"the {what} {layer!r}", public, remedy=remedy, is_input=what == "input")
    names = tuple(chosen.values())
    for name in names:
        if names.count(name) > 1:
            raise ExportError(f"two {what}s are called {name!r}; the layers are {', '.join(own)}")
    return names
