"""A client while versions come and go: real folders, a real server that polls them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import save_half_plus
from tests.servers import RunningServer, running_server
from tfbundle_client import Client

_WAIT_S = 60.0


def _publish(source: Path, target: Path) -> None:
    """Make a version appear at once, as the exporter does."""
    staged = target.parent / f".staging-{target.name}"
    shutil.copytree(source, staged)
    staged.rename(target)


@pytest.fixture
def rolling(tiny_models: Path, tmp_path: Path) -> Iterator[tuple[RunningServer, Path]]:
    """A server that looks every second for versions of a model `m`, whose version 1 is half_plus_two."""
    base = tmp_path / "models" / "m"
    base.mkdir(parents=True)
    _publish(tiny_models / "half_plus_two" / "123", base / "1")
    with running_server(str(base.parent), "--file_system_poll_wait_seconds=1") as server:
        yield server, base


def test_clients_follow_versions_without_a_failure(
    rolling: tuple[RunningServer, Path], tiny_models: Path, tmp_path: Path
) -> None:
    """Calls go on during a change from version 1 to 2: none fails, each answer is that of the version it names.

    Then version 3 changes the signature, and clients that knew the old one neither refuse the new inputs nor decode
    the new outputs by the old names.
    """
    server, base = rolling
    with Client(server.grpc_url, timeout=_WAIT_S) as over_grpc, Client(server.rest_url, timeout=_WAIT_S) as over_rest:
        clients = (over_grpc, over_rest)
        for client in clients:
            client.wait_until_available("m")
        stop = threading.Event()
        seen: list[tuple[int, float]] = []
        failures: list[Exception] = []

        def call(client: Client) -> None:
            while not stop.is_set():
                try:
                    answer = client.predict("m", [1.0])
                    seen.append((answer.version, float(answer.output[0])))
                except Exception as error:
                    failures.append(error)
                stop.wait(0.005)

        threads = [threading.Thread(target=call, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        save_half_plus(tmp_path / "next", addend=3.0)
        _publish(tmp_path / "next", base / "2")
        for client in clients:
            client.wait_until_available("m", version=2)
            assert client.predict("m", [1.0]).version == 2
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert set(seen) == {(1, 2.5), (2, 3.5)}

        _publish(tiny_models / "two_inputs" / "1", base / "3")
        for client in clients:
            client.wait_until_available("m", version=3)
            answer = client.predict("m", {"a": [[1, 2, 3]], "b": [[1, 1, 1]]})
            assert (answer.version, sorted(answer)) == (3, ["product", "sum"])
