"""What inputs and outputs may be called, and how they are renamed."""

from __future__ import annotations

from typing import Any

import pytest

from tfbundle_exporter.signatures.names import check_distinct_inputs, check_legal, choose_names, nearest_legal, uniquify
from tfbundle_serving.apis.errors import ExportError

NEAREST = {
    "a b": "a_b",
    "a/b:c": "a_b_c",
    "1x": "x_1x",
    "": "x",
    "é": "e",
    "日本": "x",
    "self": "x_self",
    "-x": "x",
    "dense 1/": "dense_1",
    "_ _": "x",
    "__saved_model_init_op": "saved_model_init_op",
}


@pytest.mark.parametrize("name", ["x", "_", "image", "a-b", "a.b", "Dense_1", "training"])
def test_legal(name: str) -> None:
    """These pass as they are."""
    assert check_legal("the input", name) == name


@pytest.mark.parametrize("name", NEAREST)
def test_illegal(name: str) -> None:
    """These do not; the nearest legal name is said, and is legal."""
    with pytest.raises(ExportError, match="the input cannot be called") as caught:
        check_legal("the input", name)
    assert str(caught.value).endswith(repr(NEAREST[name]))
    assert check_legal("it", nearest_legal(name), is_input=True) == NEAREST[name]


def test_inputs_begin_with_a_letter() -> None:
    """An underscore in front is fine for an output; TensorFlow cannot export an input of that name."""
    assert check_legal("the output", "_x") == "_x"
    with pytest.raises(ExportError, match=r"a name is a letter, then .* try 'x'"):
        check_legal("the input", "_x", is_input=True)


@pytest.mark.parametrize("names", [("a", "A"), ("a-b", "a_b"), ("x.1", "y", "X_1")])
def test_inputs_that_tensorflow_takes_for_one(names: tuple[str, ...]) -> None:
    """Both are named before TensorFlow fails on them with words about something else."""
    with pytest.raises(ExportError, match=f"cannot tell the inputs '{names[0]}' and '{names[-1]}' apart"):
        check_distinct_inputs("serving_default", names)


def test_equal_names_are_told_apart() -> None:
    """As Keras 2 did, also where the numbered name is taken."""
    assert uniquify(["a", "b", "a", "a_1", "a"]) == ("a", "b", "a_1", "a_1_1", "a_2")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, ("p", "q")),
        ({}, ("p", "q")),
        ({"new": "q"}, ("p", "new")),
        ({"q": "new"}, ("p", "new")),
        ({"p": "q", "q": "p"}, ("q", "p")),
        (["one", "two"], ("one", "two")),
    ],
)
def test_choices(wanted: Any, chosen: tuple[str, ...]) -> None:
    """A mapping renames some, either way round where only one fits; a list renames all."""
    assert choose_names("output", ["p", "q"], wanted) == chosen


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"new": "r"}, "the model has no output 'r' to call 'new'; it has p, q"),
        ({"q": "p"}, "two outputs are called 'q'"),
        (["one"], "the model has 2 outputs (p, q); got the names ['one']"),
        ("pq", "got the names 'pq'"),
        ({"a b": "p"}, "--output NAME=p renames it, for example to 'a_b'"),
    ],
)
def test_bad_choices(wanted: Any, expected: str) -> None:
    """A choice that fits nothing is refused with what there is."""
    with pytest.raises(ExportError) as caught:
        choose_names("output", ["p", "q"], wanted)
    assert expected in str(caught.value)


def test_two_names_for_one() -> None:
    """The second does not silently take the place of the first, in whichever way round they are written."""
    with pytest.raises(ExportError, match="the input 'image' cannot be called both 'a' and 'b'"):
        choose_names("input", ("image",), {"a": "image", "b": "image"})
    assert choose_names("input", ("left", "right"), {"left": "right", "right": "left"}) == ("right", "left")
