"""One server of a fleet: what it has loaded, and what its labels mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tfbundle_serving.apis.errors import ApiError, InvalidArgument, NotFound, Unavailable
from tfbundle_serving.apis.model_status import State, VersionStatus

from ..client import Client

#: Version number to its status, of one model at one server.
States = Mapping[int, VersionStatus]

#: States in which a version holds memory, or is about to.
LIVE = frozenset({State.START, State.LOADING, State.AVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server.

    Attributes:
        url: Its own address; messages name it.
        client: Asks it alone.
    """

    url: str
    client: Client

    def states(self, model: str) -> dict[int, VersionStatus]:
        """Ask for the states of a model's versions; none where the server does not know the model."""
        try:
            return {each.version: each for each in self.client.status(model)}
        except NotFound:
            return {}

    def served(self, guesses: Collection[str] = ()) -> frozenset[str]:
        """Ask which models there are; of a server that does not tell, as TensorFlow Serving, those that are guessed.

        Args:
            guesses: Names that it may have.
        """
        names: Iterable[str]
        try:
            names = self.client.health_list()
        except ApiError:
            names = guesses
        # A service has a health, too, and is no model.
        return frozenset(
            name for name in names if name and any(each.state in LIVE for each in self.states(name).values())
        )

    def labelled(self, model: str, label: str) -> int | None:
        """Ask which version a label means now; None where there is no such label, or no such model."""
        try:
            return self.client.metadata(model, label=label).version
        except (InvalidArgument, NotFound):
            return None
        except Unavailable as error:
            # TensorFlow Serving's words where no list of models was accepted so far.
            if "labels does not init" in error.message:
                return None
            raise

    def labels(self, model: str, labels: Iterable[str]) -> dict[str, int]:
        """Ask which versions some labels mean now; those that mean none are left out."""
        return {label: version for label in labels if (version := self.labelled(model, label)) is not None}
