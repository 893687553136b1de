"""A client's methods look like what they ask: name, docstring, arguments, result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .calls.flows import Flow


def dress(function: Callable[..., Any], asked: Callable[..., Flow[Any]], result: str | None = None) -> None:
    """Give a client's method the name, the docstring and the arguments of what it asks, and its result.

    Args:
        function: The method.
        asked: What it asks.
        result: What it gives; None means what the flow does.
    """
    function.__doc__ = asked.__doc__
    function.__name__ = asked.__name__.removeprefix("_ask_")
    function.__module__ = asked.__module__
    signature = inspect.signature(asked)
    result = result or str(signature.return_annotation).removeprefix("Flow[").removesuffix("]")
    function.__annotations__ = {**asked.__annotations__, "return": result}
    function.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
