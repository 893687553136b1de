"""What a version must not do unless somebody said that it may: keep state, draw numbers, demand one batch size.

Each of them works on the trainer's desk and fails, or lies, in a server that many callers share.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from tfbundle_serving.apis.errors import GateError

from ..settings import Allowance

#: What is wrong with each in a server, and how to do without.
_WHY: dict[Allowance, str] = {
    "stateful": "state in a server leaks between its callers; build the model with stateful=False",
    "random": "a client could never tell a fault from chance; leave random layers off in inference (training=False)",
    "fixed-batch": "a server's callers send as many rows as they have; build the model with a free batch dimension",
    "ops": "a stock server cannot run it",
    "unproven": "nobody knows what it answers; give example inputs that it takes",
}


class Allowances:
    """What is let pass, and what of it was really needed.

    Args:
        allow: What the user lets pass.
    """

    def __init__(self, allow: Iterable[Allowance] = ()) -> None:
        self._allow = frozenset(allow)
        self._needed: set[Allowance] = set()

    @property
    def needed(self) -> tuple[Allowance, ...]:
        """What would have been refused, in the order of the alphabet."""
        return tuple(sorted(self._needed))

    def need(self, allowance: Allowance, finding: str, *, why: str = "") -> None:
        """Say what was found.

        Args:
            allowance: What it takes to let it pass.
            finding: What was found and where.
            why: What is wrong with it and what to do; "" for what is always said of this kind.

        Raises:
            GateError: It is not allowed.
        """
        if allowance not in self._allow:
            _refuse(allowance, finding, why or _WHY[allowance])
        self._needed.add(allowance)


def _refuse(allowance: Allowance, finding: str, why: str) -> NoReturn:
    raise GateError(
        f"{finding}: {why}, or let it pass and have it marked in metadata.json: "
        f"--allow {allowance} (allow=[{allowance!r}])"
    )


def check_stateful(signature: str, layers: tuple[str, ...], allowances: Allowances) -> None:
    """Refuse layers that remember the request before.

    Raises:
        GateError: There are some, and they are not allowed.
    """
    if layers:
        named = ", ".join(layers)
        allowances.need("stateful", f"signature {signature!r}: {named} keeps state from one request to the next")


def check_batched(signature: str, described_inputs: str, allowances: Allowances, *, batched: bool) -> None:
    """Refuse a signature that takes one number of rows only.

    Raises:
        GateError: It does, and that is not allowed.
    """
    if not batched:
        allowances.need(
            "fixed-batch", f"signature {signature!r} takes one number of rows and no other ({described_inputs})"
        )
