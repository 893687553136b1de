"""The two sides of a parity check that can be asked: a version at an address, or the source model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from tfbundle_serving.apis.errors import NotFound, ParityError
from tfbundle_serving.apis.signatures import Signature

from ..calls.flows import find_signature
from ..calls.prediction import Prediction
from ..client import Client, Timeout

Arrays = Mapping[str, NDArray[Any]]


class ExpectedSide(Protocol):
    """Who knows the right answers."""

    @property
    def origin(self) -> str:
        """Where the answers come from, for reports."""

    def expected(self, inputs: Arrays, signature_name: str, outputs: Sequence[str], /) -> Arrays:
        """Answer; empty `outputs` means all."""

    def check_available(self, when: str) -> None:
        """Refuse to be compared with where the version went away.

        Args:
            when: "before" or "after", for the message.

        Raises:
            ParityError: It is not AVAILABLE.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSide:
    """One version of a model at one address, which is asked for by its number.

    Attributes:
        client: Asks.
        model: Model name there.
        version: The number.
        timeout: Seconds for each request.
    """

    client: Client
    model: str
    version: int
    timeout: Timeout

    @property
    def origin(self) -> str:
        """Name version and address."""
        return f"{self.model} version {self.version} at {self.client.url}"

    def signature(self, name: str | None) -> tuple[str, Signature]:
        """Find a signature: the one named, else serving_default, else the only one.

        Raises:
            SignatureMismatch: There is no such signature.
        """
        metadata = self.client.metadata(self.model, version=self.version, timeout=self.timeout)
        names = list(metadata.callable_signatures)
        chosen = name or (names[0] if len(names) == 1 else "serving_default")
        return chosen, find_signature(metadata, chosen)

    def ask(self, inputs: Arrays, signature_name: str, outputs: Sequence[str] = ()) -> Prediction:
        """Send one request.

        Raises:
            ParityError: Another version answered.
            ApiError: It could not be answered.
        """
        answer = self.client.predict(
            self.model,
            inputs,
            version=self.version,
            signature=signature_name,
            outputs=tuple(outputs),
            timeout=self.timeout,
        )
        if answer.version != self.version:
            raise ParityError(f"asked {self.origin}, and version {answer.version} answered")
        return answer

    def expected(self, inputs: Arrays, signature_name: str, outputs: Sequence[str], /) -> Arrays:
        """Answer; see `ExpectedSide`."""
        return self.ask(inputs, signature_name, outputs).outputs

    def check_available(self, when: str) -> None:
        """See `ExpectedSide`."""
        where = f"{self.model} version {self.version}"
        try:
            statuses = self.client.status(self.model, version=self.version, timeout=self.timeout)
        except NotFound as error:
            raise ParityError(f"{where} is not served at {self.client.url}: {error.message}") from error
        if not any(status.is_available for status in statuses):
            states = ", ".join(status.state.name for status in statuses) or "unknown"
            raise ParityError(f"{where} at {self.client.url} is {states}, not AVAILABLE, {when} the comparison")


def pin(client: Client, model: str, version: int | None, label: str | None, timeout: Timeout) -> int:
    """Find the number of what is asked for, so that all requests can name it: a label or the latest may move on.

    Raises:
        ApiError: There is no such version or label.
    """
    if version is not None and label is None:
        return version
    return client.metadata(model, version=version, label=label, timeout=timeout).version
