"""What a library raised is told in one line."""

from __future__ import annotations

from tfbundle_exporter.reasons import reason_of


def test_one_line_without_colours() -> None:
    """Line breaks and the bold type of Keras 3 go, the text stays."""
    error = ValueError('Exception.\n\n\x1b[1mLayer "dense" expects 1 input\x1b[0m\n  got 2')
    assert reason_of(error) == 'Exception. Layer "dense" expects 1 input got 2'

    assert reason_of(KeyError("first\n\x1b[1msecond\x1b[0m")) == "first second"


def test_long_texts() -> None:
    """A printed tensor is cut off, and that it was is seen."""
    assert reason_of(ValueError("x" * 50), length=10) == "x" * 10 + "..."
    assert reason_of(ValueError("x" * 10), length=10) == "x" * 10
