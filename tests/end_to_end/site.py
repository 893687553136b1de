"""One embedded server over one folder of models, and what both transports answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.models import save_half_plus
from tests.servers import RunningServer, running_server
from tfbundle_client import Client, ParityReport, check_parity

#: A version is found within a second and then loaded, on a machine that has other things to do.
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """A folder of models and the server that follows it.

    Attributes:
        models: The folder; a model's base path lies in it under the model's name.
        server: The server.
        clients: One for each transport.
    """

    models: Path
    server: RunningServer
    clients: tuple[Client, ...]

    def answers(
        self, model: str, inputs: Any, *, version: int | None = None, signature: str = "serving_default"
    ) -> list[NDArray[Any]]:
        """Ask over each transport for a model's only output, once the version is there."""
        found = []
        for client in self.clients:
            client.wait_until_available(model, version=version, timeout=_WAIT_S)
            found.append(client.predict(model, inputs, version=version, signature=signature).output)
        return found

    def expect(self, model: str, inputs: Any, wanted: Any, *, version: int, atol: float = 1e-6) -> None:
        """Expect these answers over each transport, and parity with what was recorded beside the version."""
        for answer in self.answers(model, inputs, version=version):
            np.testing.assert_allclose(answer, np.asarray(wanted), rtol=1e-5, atol=atol)
        assert self.parity(model, version).is_equal

    def parity(self, model: str, version: int) -> ParityReport:
        """Compare what is served with the golden outputs of a version folder, over both transports."""
        for client in self.clients:
            client.wait_until_available(model, version=version, timeout=_WAIT_S)
        return check_parity(self.clients, model, self.models / model / str(version))


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Run a server over a folder of models to which more will be added."""
    models = folder / "models"
    save_half_plus(models / "half_plus_two" / "1")  # a server refuses a folder without any model
    with (
        running_server(str(models), "--file_system_poll_wait_seconds=1") as server,
        Client(server.grpc_url, timeout=_WAIT_S) as over_grpc,
        Client(server.rest_url, timeout=_WAIT_S) as over_rest,
    ):
        yield Site(models, server, (over_grpc, over_rest))
