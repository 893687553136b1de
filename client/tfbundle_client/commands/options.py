"""Arguments and options that several of the client's commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ..client import DEFAULT_TIMEOUT_S

Function = TypeVar("Function", bound=Callable[..., Any])

url_argument = click.argument("url")
model_argument = click.argument("model")
label_option = click.option("--label", help="A version label instead of a number.")
signature_option = click.option("--signature", default="", help="Signature name.  [default: serving_default]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
headers_option = click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Send this header, too; repeatable."
)


def timeout_option(help_text: str, default: float = DEFAULT_TIMEOUT_S) -> Callable[[Function], Function]:
    """Make a --timeout option; what the seconds are for differs from command to command."""
    return click.option(
        "--timeout", type=click.FloatRange(0, min_open=True), default=default, show_default=True, help=help_text
    )


def one_of(version: object, label: object, option: str = "--version") -> None:
    """Refuse a version together with a label.

    Args:
        version: What was given as the version.
        label: What was given as the label.
        option: How the version's option is called; that of the label is called alike.

    Raises:
        click.UsageError: Both were given.
    """
    if version is not None and label is not None:
        raise click.UsageError(f"give {option} or {option.replace('version', 'label')}, not both")


def read_headers(pairs: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE pairs.

    Raises:
        click.UsageError: One is none.
    """
    headers = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found or not name:
            raise click.UsageError(f"--header takes NAME=VALUE, got {pair!r}")
        headers[name] = value
    return headers
