"""Inputs and outputs of a request against a signature's, in TensorFlow Serving's words."""

from __future__ import annotations

import pytest

from tfbundle_serving.apis.dtypes import FLOAT
from tfbundle_serving.apis.errors import ApiError, FailedPrecondition, Internal, InvalidArgument
from tfbundle_serving.apis.signatures import Signature, TensorSpec
from tfbundle_serving.server.predict_plan import check_inputs, choose_outputs, find_signature

SPECS = {name: TensorSpec(FLOAT, (None,), f"{name}_feed:0") for name in ("a", "b")}
PLAIN = Signature(SPECS, SPECS)
WITH_DEFAULT = Signature(SPECS, SPECS, defaults={"b": b""})


@pytest.mark.parametrize(
    ("signature", "given", "text"),
    [
        (
            PLAIN,
            {"a"},
            (
                "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
                "Missing but required: {b}."
            ),
        ),
        (
            PLAIN,
            {"a", "b", "c"},
            (
                "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. "
                "Missing but required: {}."
            ),
        ),
        (
            PLAIN,
            {"a", "c"},
            (
                "Signature input alias: b(feed name: b_feed:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {a,c}, or default input alias set: "
            ),
        ),
        (WITH_DEFAULT, {"a", "c"}, "Inputs contains invalid name. Used request inputs: a, request input: a,c"),
    ],
)
def test_wrong_inputs(signature: Signature, given: set[str], text: str) -> None:
    """Too few, too many and others each have their text."""
    with pytest.raises(InvalidArgument) as caught:
        check_inputs(signature, given)
    assert caught.value.message == text


def test_right_inputs() -> None:
    """Exactly the signature's, or without those that have a default."""
    check_inputs(PLAIN, {"a", "b"})
    check_inputs(WITH_DEFAULT, {"a"})


def test_output_filter() -> None:
    """All outputs without a filter, else those named, in that order."""
    assert choose_outputs(PLAIN, ()) == ("a", "b")
    assert choose_outputs(PLAIN, ("b", "a")) == ("b", "a")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["x"], "output tensor alias not found in signature: x Outputs expected to be in the set {a,b}."),
        (["a", "a"], "duplicate output tensor alias: a"),
    ],
)
def test_wrong_output_filter(names: list[str], text: str) -> None:
    """An unknown and a repeated output each have their text."""
    with pytest.raises(InvalidArgument) as caught:
        choose_outputs(PLAIN, names)
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("name", "check", "error", "text"),
    [
        ("nope", False, FailedPrecondition, 'Serving signature key "nope" not found.'),
        ("", False, FailedPrecondition, 'Serving signature key "serving_default" not found.'),
        (
            "other",
            True,
            Internal,
            (
                "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
                "tensorflow/serving/classify, tensorflow/serving/regress}. Was: mine"
            ),
        ),
    ],
)
def test_signatures(name: str, check: bool, error: type[ApiError], text: str) -> None:
    """An unknown signature, and on demand one for another API, is refused."""
    signatures = {"other": Signature(SPECS, SPECS, "mine")}
    assert find_signature(signatures, "other").method_name == "mine"
    with pytest.raises(error) as caught:
        find_signature(signatures, name, check_method=check)
    assert caught.value.message == text
