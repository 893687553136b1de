"""Arguments and options that several of the client's commands have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from ..client_setup import DEFAULT_TIMEOUT_S
from ..transports.address import parse_address
from ..transports.connection import Tls

Function = TypeVar("Function", bound=Callable[..., Any])

url_argument = click.argument("url")
model_argument = click.argument("model")
label_option = click.option("--label", help="A version label instead of a number.")
signature_option = click.option("--signature", default="", help="Signature name.  [default: serving_default]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_ACCESS_OPTIONS = (
    click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Send this header, too; repeatable."),
    click.option("--token-file", type=_file, help="Send the bearer token that this file holds."),
    click.option("--ca", type=_file, help="Trust the authorities in this PEM file, for grpcs:// and https://."),
    click.option("--cert", type=_file, help="Our own certificate (PEM), for servers that ask for one."),
    click.option("--key", type=_file, help="Its private key (PEM)."),
)

#: Keyword arguments of `Client` and of `Connection`: headers, bearer_token and tls.
Access = Mapping[str, Any]


def access_options(command: Function) -> Function:
    """Add the options that say how a server lets one in; the command gets them read, as the argument `access`."""

    @wraps(command)
    def with_access(
        *,
        headers: Sequence[str],
        token_file: Path | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        **others: Any,
    ) -> Any:
        access = {
            "headers": read_headers(headers),
            "bearer_token": None if token_file is None else _read_token(token_file),
            "tls": None if ca is cert is key is None else Tls(ca=ca, cert=cert, key=key),
        }
        return command(access=access, **others)

    found: Any = with_access
    for option in reversed(_ACCESS_OPTIONS):
        found = option(found)
    typed: Function = found
    return typed


def access_of(url: str, access: Access, others: Sequence[str] = ()) -> Access:
    """Give what goes with one of several addresses: certificates are for those alone that are encrypted.

    Where no address is encrypted they stay, and the client refuses them.
    """
    if access["tls"] is None or parse_address(url).is_secure is not False:
        return access
    is_for_another = any(parse_address(other).is_secure is not False for other in others)
    return {**access, "tls": None} if is_for_another else access


def _read_token(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--token-file {path} is no file of a token: {error}") from error


class Number(click.FloatRange):
    """A number in a range; "nan", which float reads and which no bound holds back, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read one."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def timeout_option(help_text: str, default: float = DEFAULT_TIMEOUT_S) -> Callable[[Function], Function]:
    """Make a --timeout option; what the seconds are for differs from command to command."""
    return click.option("--timeout", type=Number(0, min_open=True), default=default, show_default=True, help=help_text)


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
