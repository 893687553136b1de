"""`tfbundle promote` and `rollback` against real servers, two at once: what changes, and that all comes back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.rollout_site import FIRST_IS_STABLE, LATEST, Site, answers
from tests.nursery import NURSERY
from tests.servers import RunningServer, running_server
from tfbundle.cli import main
from tfbundle_client import Client, State
from tfbundle_client.rollout.addresses import open_fleet
from tfbundle_client.rollout.change import changed_label
from tfbundle_client.rollout.config_file import open_config
from tfbundle_client.rollout.fleet import Fleet
from tfbundle_client.rollout.history import read_history
from tfbundle_client.rollout.preparation import Settings, prepare_change
from tfbundle_serving.apis.errors import RolloutError
from tfbundle_serving.apis.models_config_edit import read_models

Servers = tuple[RunningServer, ...]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Servers]]:
    """Versions 1 to 3, a version 4 whose golden.npz tells otherwise, a version 5 that does not load; two servers."""
    site = Site(tmp_path_factory.mktemp("site"))
    for version in (1, 2, 3):
        site.publish(version)
    site.publish(4, golden_of=4.5)
    site.publish(5)
    (site.base / "5" / "saved_model.pb").write_bytes(b"no model")
    site.write()
    flags = (f"--model_config_file={site.config}", "--max_num_load_retries=0")
    with running_server(*flags) as one, running_server(*flags) as other:
        yield site, (one, other)


@pytest.fixture
def site(shared: tuple[Site, Servers]) -> Site:
    """The site as at the beginning: version 1 is stable, nothing else is loaded."""
    _begin(*shared)
    return shared[0]


@pytest.fixture
def servers(shared: tuple[Site, Servers]) -> Servers:
    """The two servers."""
    return shared[1]


def _begin(site: Site, servers: Servers, policy: str = FIRST_IS_STABLE) -> str:
    text = site.write(policy)
    for server in servers:
        with Client(server.grpc_url, timeout=30) as client:
            client.reload_config(text)
            deadline = time.monotonic() + 30
            while policy == FIRST_IS_STABLE and _loaded(client) != {1} and time.monotonic() < deadline:
                time.sleep(0.02)
    return text


def _loaded(client: Client) -> set[int]:
    return {each.version for each in client.status("m") if each.state is not State.END}


def test_there_and_back(site: Site, servers: Servers) -> None:
    """A label moves at every server and in the file, comments stay, and both commands are done when done twice."""
    before = site.config.read_text()
    done = site.succeed("promote", "m", 2, servers=servers)
    assert "label stable of m means version 2 at 2 servers (before: 1" in done.stdout
    assert "callers without a label reach version 2" in done.stderr
    assert [answers(server) for server in servers] == [{"none": 2, "stable": 2, "canary": None}] * 2
    assert site.config.read_text() == before.replace("value: 1", "value: 2").replace(
        "versions: 1 }", "versions: 1 versions: 2 }"
    )
    assert "already" in site.succeed("promote", "m", 2, servers=servers).stdout

    site.succeed("promote", "m", 3, servers=servers)
    (model,) = read_models(site.config.read_text())
    assert (model.policy.choose([1, 2, 3, 4]), model.labels) == ([2, 3], {"stable": 3})
    assert "version 2 at 2 servers" in site.succeed("rollback", "m", servers=servers).stdout
    assert [answers(server) for server in servers] == [{"none": 2, "stable": 2, "canary": None}] * 2
    again = site.succeed("rollback", "m", servers=servers)
    assert "already: label stable of m means version 2" in again.stdout
    assert "further back goes --to" in again.stderr
    site.succeed("rollback", "m", "--to", 1, servers=servers)
    moves = [(each.command, each.before, each.version) for each in read_history(site.config)]
    assert moves == [("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2), ("rollback", 2, 1)]


def test_a_model_without_labels(site: Site, servers: Servers) -> None:
    """The first promotion of a model under `latest` says that the policy changes, and keeps what was served."""
    (site.base / "5").rename(site.base / ".5")
    (site.base / "4").rename(site.base / ".4")
    try:
        _begin(site, servers, LATEST)
        for server in servers:
            with Client(server.grpc_url) as client:
                client.wait_until_available("m", version=3, timeout=30)
        done = site.succeed("promote", "m", 2, "--json", servers=servers)
    finally:
        (site.base / ".5").rename(site.base / "5")
        (site.base / ".4").rename(site.base / "4")
    assert json.loads(done.stdout)["loaded_versions"] == [2, 3]
    assert "changes from latest to specific" in done.stderr
    assert "reach version 3, the highest that is loaded, not 2" in done.stderr
    assert answers(servers[0]) == {"none": 3, "stable": 2, "canary": None}
    line = site.fail("rollback", "m", servers=servers)
    assert "label stable of m was new when it got version 2; --to VERSION names one: 5, 4, 3, 1" in line


def test_a_dry_run(site: Site, servers: Servers) -> None:
    """It prints the change of the file and the steps, and changes neither file nor servers."""
    before = site.config.read_bytes()
    (site.config.parent / ".models.config.lock").unlink(missing_ok=True)
    stood = site.config.stat()
    done = site.succeed("promote", "m", 2, "--dry-run", servers=servers)
    assert '+    version_labels { key: "stable" value: 2 }' in done.stdout
    assert f"{servers[0].grpc_url}: load version 2 beside 1" in done.stdout
    assert site.config.read_bytes() == before
    assert site.config.stat().st_mtime_ns == stood.st_mtime_ns
    assert [path.name for path in site.config.parent.iterdir()] == ["models.config"]
    assert answers(servers[0]) == {"none": 1, "stable": 1, "canary": None}


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (4, "does not answer like the model that was exported (4 rows): max abs difference 0.5"),
        (5, "version 5 could not be loaded there"),
    ],
)
def test_what_fails_is_put_back(site: Site, servers: Servers, version: int, reason: str) -> None:
    """A version that answers otherwise or does not load gets no label; file and servers are as before."""
    before = site.config.read_bytes()
    begun = time.monotonic()
    line = site.fail("promote", "m", version, servers=servers)
    assert reason in line
    assert "and every server are as before" in line
    assert time.monotonic() - begun < 20
    assert site.config.read_bytes() == before
    assert not read_history(site.config)
    for server in servers:
        assert answers(server) == {"none": 1, "stable": 1, "canary": None}


@pytest.mark.parametrize(
    ("arguments", "text", "reason"),
    [
        (("m", 2, "--label", ""), FIRST_IS_STABLE, "version label ''"),
        (("m", 9), FIRST_IS_STABLE, "has no version 9 in"),
        (("shoes", 1), FIRST_IS_STABLE, "has no model shoes; it has m"),
        (("m", "spring"), FIRST_IS_STABLE, "has no version of the tag spring"),
        (("m", 2), "logging_config {}", "logging_config"),
        (("m", 2), "model_type: TENSORFLOW", "both a model_platform and a model_type"),
        (("m", 2), "lable: 3", "has no field 'lable'"),
        (("m", 2), '} config { name: "n" base_path: "n" model_platform: "tensorflow"', "expected an absolute path"),
        (("m", 2), '} config { name: "m" base_path: "/m" model_platform: "tensorflow"', "is listed 2 times"),
        (("m", 2), '} config { name: "n" base_path: "/tmp/none-such" model_platform: "tensorflow"', "never end"),
    ],
)
def test_what_is_refused_before(
    site: Site, servers: Servers, arguments: tuple[object, ...], text: str, reason: str
) -> None:
    """What a server would refuse, or wait for without end, is refused before it gets there."""
    site.write(text)
    before = site.config.read_bytes()
    assert reason in site.fail("promote", *arguments, servers=servers[:1])
    assert site.config.read_bytes() == before
    assert answers(servers[0])["stable"] == 1


def test_servers_that_cannot_take_part(site: Site, servers: Servers, free_port: int) -> None:
    """REST has no reload, and with a server that is not there nothing is changed at the others."""
    over_rest = ("--server", servers[0].rest_url)
    assert "REST has no reload" in site.fail("promote", "m", 2, *over_rest, servers=())
    gone = ("--server", f"grpc://127.0.0.1:{free_port}")
    assert "nothing was changed" in site.fail("promote", "m", 2, *gone, servers=servers)
    assert answers(servers[0]) == {"none": 1, "stable": 1, "canary": None}


def test_a_server_that_dies_in_the_middle(site: Site, servers: Servers) -> None:
    """A server is killed while the version is proven: the others and the file are put back, and it is named."""
    before = site.config.read_bytes()
    flag = f"--model_config_file={site.config}"
    with running_server(flag) as doomed:
        urls = [f"{servers[0].grpc_url},{doomed.grpc_target}"]

        def kill(_: Fleet) -> None:
            os.kill(doomed.process.pid, signal.SIGKILL)
            doomed.process.wait()

        with open_fleet(urls) as fleet, open_config(site.config) as config:
            assert len(fleet.servers) == 2
            prepared = prepare_change(config, fleet, "m", 2, "stable", settings=Settings(timeout_s=20))
            with (
                pytest.raises(RolloutError, match=f"NOT put back: {doomed.grpc_url}"),
                changed_label(config, fleet, prepared, prove=kill),
            ):
                pass
    assert site.config.read_bytes() == before
    assert answers(servers[0]) == {"none": 1, "stable": 1, "canary": None}


def test_a_change_that_is_undone(site: Site, servers: Servers) -> None:
    """Who finds the version wanting after it has its label puts all back, and the history does not tell of it."""
    before = site.config.read_bytes()
    with open_fleet([server.grpc_url for server in servers]) as fleet, open_config(site.config) as config:
        prepared = prepare_change(config, fleet, "m", 2, "canary", settings=Settings(command="canary"))
        with changed_label(config, fleet, prepared) as change:
            assert answers(servers[1]) == {"none": 2, "stable": 1, "canary": 2}
            assert change.undo() == ()
        assert change.is_undone
    assert site.config.read_bytes() == before
    assert not read_history(site.config)
    assert answers(servers[1]) == {"none": 1, "stable": 1, "canary": None}


def test_killed_at_any_moment(site: Site, servers: Servers, tmp_path: Path) -> None:
    """The command is killed at random moments: the file is the old or the new one, and the next run ends the work."""
    old = site.config.read_bytes()
    site.succeed("promote", "m", 2, servers=servers)
    new = site.config.read_bytes()
    chance = random.Random(1)
    for round_ in range(4):
        _begin(site, servers)
        out = tmp_path / f"out-{round_}"
        process = NURSERY.start(site.words("promote", "m", 2, servers=servers), out, {})
        time.sleep(chance.uniform(0.15, 0.4))
        process.kill()
        process.wait(30)
        assert site.config.read_bytes() in (old, new)
    site.succeed("promote", "m", 2, servers=servers)
    assert site.config.read_bytes() == new
    assert [each["stable"] for each in map(answers, servers)] == [2, 2]
    site.succeed("rollback", "m", "--to", 1, servers=servers)


def test_under_load(site: Site, servers: Servers) -> None:
    """Calls with and without the label go on during a promotion and a rollback, and none fails."""
    stop, failures = threading.Event(), list[Exception]()
    seen: set[tuple[str | None, int]] = set()

    def ask(url: str, label: str | None) -> None:
        with Client(url, timeout=30, retry=None) as client:
            while not stop.is_set():
                try:
                    seen.add((label, client.predict("m", [1.0], label=label).version))
                except Exception as error:
                    failures.append(error)
                stop.wait(0.005)

    asking = [(servers[0].grpc_url, "stable"), (servers[0].rest_url, "stable"), (servers[1].grpc_url, None)]
    threads = [threading.Thread(target=ask, args=each) for each in asking]
    for thread in threads:
        thread.start()
    site.succeed("promote", "m", 2, servers=servers)
    site.succeed("rollback", "m", servers=servers)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen == {("stable", 1), ("stable", 2), (None, 1), (None, 2)}


def test_without_a_proof(site: Site, servers: Servers) -> None:
    """A version without golden.npz is promoted only by somebody who says so."""
    golden = site.base / "3" / "assets.extra"
    golden.rename(site.base / ".assets")
    try:
        assert "--skip-parity" in site.fail("promote", "m", 3, servers=servers)
        done = site.succeed("promote", "m", 3, "--skip-parity", servers=servers)
    finally:
        (site.base / ".assets").rename(golden)
    assert "warning: version 3 is not compared" in done.stderr


def test_one_at_a_time(site: Site, servers: Servers) -> None:
    """A second command waits for the first, and says so when it takes too long."""
    with open_config(site.config):
        line = site.fail("promote", "m", 2, "--timeout", 0.3, servers=servers)
    assert "is being changed by another command" in line


def test_a_server_that_reads_the_file_by_itself(site: Site) -> None:
    """It takes a version away that is not in its file; then the file says so before the label moves."""
    site.write()
    steps: list[str] = []

    def prove(fleet: Fleet) -> None:
        deadline = time.monotonic() + 30
        while len(steps) == 1 and not fleet.is_taken_away("m", 2):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with (
        running_server(f"--model_config_file={site.config}", "--model_config_file_poll_wait_seconds=1") as server,
        open_fleet([server.grpc_url]) as fleet,
        open_config(site.config) as config,
    ):
        prepared = prepare_change(config, fleet, "m", 2, "stable", settings=Settings(timeout_s=20))
        with changed_label(config, fleet, prepared, say=steps.append, prove=prove):
            assert answers(server)["stable"] == 2
    assert [step.partition(" ")[0] for step in steps] == ["loading", "a", "loading", "moving"]


def test_a_file_that_was_edited_by_hand(site: Site, servers: Servers) -> None:
    """What the file says and no server was told is no promotion yet: no call with the label fails on the way there."""
    text = site.config.read_text()
    site.config.write_text(text.replace("value: 1", "value: 4").replace("versions: 1", "versions: 4"))
    line = site.fail("promote", "m", 4, servers=servers)
    assert "max abs difference 0.5" in line
    assert [answers(server)["stable"] for server in servers] == [1, 1]
    site.config.write_text(text.replace("value: 1", "value: 2").replace("versions: 1", "versions: 2"))
    assert "(before: 1" in site.succeed("promote", "m", 2, servers=servers).stdout
    assert "version 1 at" in site.succeed("rollback", "m", servers=servers).stdout


def test_a_server_of_other_models(site: Site, servers: Servers, tmp_path: Path) -> None:
    """A server that serves none of the models is most likely another's, and keeps what it has."""
    other = Site(tmp_path)
    other.publish(1)
    other.write()
    other.config.write_text(other.config.read_text().replace('"m"', '"theirs"'))
    with running_server(f"--model_config_file={other.config}") as stranger:
        line = site.fail("promote", "m", 2, servers=(*servers, stranger))
        assert f"{stranger.grpc_url} serves none of its models (m)" in line
        with Client(stranger.grpc_url) as client:
            assert client.predict("theirs", [0.0]).version == 1
    assert answers(servers[0])["stable"] == 1


class _Left(io.TextIOBase):
    """A pipe that nobody reads."""

    def write(self, _: str, /) -> int:
        """Say so."""
        raise BrokenPipeError


def test_a_reader_that_has_left(site: Site, servers: Servers) -> None:
    """Where nobody reads the steps any more (`promote ... 2>&1 | head -1`), all is put back as ever."""
    before = site.config.read_bytes()
    with contextlib.redirect_stderr(_Left()), pytest.raises(BrokenPipeError):
        main(site.words("promote", "m", 4, servers=servers))
    assert site.config.read_bytes() == before
    assert [answers(server) for server in servers] == [{"none": 1, "stable": 1, "canary": None}] * 2


def test_back_to_a_version_in_the_trash(site: Site) -> None:
    """The message says how it comes back."""
    trash = site.base / ".trash"
    trash.mkdir()
    (trash / "8-20261121T134655Z").mkdir()
    try:
        line = site.fail("rollback", "m", "--to", 8, "--server", "grpc://127.0.0.1:1", servers=())
    finally:
        (trash / "8-20261121T134655Z").rmdir()
        trash.rmdir()
    assert "`tfbundle prune BASE_PATH --restore 8` brings it back" in line


def test_a_server_that_takes_no_list(site: Site) -> None:
    """A server of a models directory refuses, and is not said to have been left half changed."""
    before = site.config.read_bytes()
    (site.base / "5").rename(site.base / ".5")
    try:
        with running_server(str(site.base.parent)) as server:
            done = site.run("promote", "m", 2, servers=(server,))
    finally:
        (site.base / ".5").rename(site.base / "5")
    line = done.stderr.splitlines()[-1]
    assert "it was started with a models folder, and so takes no models.config" in line
    assert "start it with --model_config_file=... to use labels" in line
    assert "NOT put back" not in line
    assert "is left out there" not in done.stderr
    assert done.returncode == 1
    assert site.config.read_bytes() == before
