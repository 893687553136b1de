"""Labels in the way of a rollout: of versions whose folder is gone, and of canaries that are given up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.rollout_site import FIRST_IS_STABLE, Site, answers
from tests.servers import RunningServer, running_server
from tfbundle_client import Client, State
from tfbundle_client.rollout.addresses import open_fleet
from tfbundle_client.rollout.change import changed_label
from tfbundle_client.rollout.config_file import open_config
from tfbundle_client.rollout.dropping import carry_out_drop, plan_drop, prepare_drop
from tfbundle_client.rollout.fleet import Fleet
from tfbundle_client.rollout.history import read_history
from tfbundle_client.rollout.preparation import Settings, prepare_change
from tfbundle_client.rollout.sending import without_dead_labels
from tfbundle_serving.apis.errors import RolloutError
from tfbundle_serving.apis.models_config_edit import read_models
from tfbundle_serving.apis.version_folder import METADATA

_LABELS = "--allow_version_labels_for_unavailable_models=true"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, RunningServer]]:
    """Versions 1 to 3, and a server that takes labels of AVAILABLE versions alone."""
    site = Site(tmp_path_factory.mktemp("site"))
    for version in (1, 2, 3):
        site.publish(version)
    site.write()
    flags = ("--max_num_load_retries=0", "--file_system_poll_wait_seconds=1")
    with running_server(f"--model_config_file={site.config}", *flags) as server:
        yield site, server


@pytest.fixture
def site(shared: tuple[Site, RunningServer]) -> Site:
    """The site as at the beginning: version 1 is stable, nothing else is loaded."""
    site, server = shared
    text = site.write(FIRST_IS_STABLE)
    with Client(server.grpc_url, timeout=30) as client:
        client.reload_config(text)
    _wait(lambda: _loaded(server) == {1})
    return site


@pytest.fixture
def server(shared: tuple[Site, RunningServer]) -> RunningServer:
    """The server."""
    return shared[1]


def _loaded(server: RunningServer) -> set[int]:
    with Client(server.grpc_url, timeout=30) as client:
        return {each.version for each in client.status("m") if each.state is not State.END}


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_labelled_folder_is_gone(site: Site, server: RunningServer) -> None:
    """A rollback, and a promotion, work where the version that the label means has lost its folder."""
    site.succeed("promote", "m", 2, servers=(server,))
    aside = site.root / "aside"
    (site.base / "2").rename(aside)
    try:
        _wait(lambda: _loaded(server) == {1})
        done = site.succeed("rollback", "m", servers=(server,))
        assert "label stable of m (version 2) is left out there" in done.stderr
        assert answers(server) == {"none": 1, "stable": 1, "canary": None}
        (model,) = read_models(site.config.read_text())
        assert (model.labels, model.policy.choose([1, 2, 3])) == ({"stable": 1}, [1])
    finally:
        aside.rename(site.base / "2")


def test_a_version_that_only_a_label_remembers(site: Site, server: RunningServer) -> None:
    """What is said to be loaded is what the server has: not a version whose folder is gone."""
    site.succeed("promote", "m", 2, "--label", "canary", servers=(server,))
    site.succeed("promote", "m", 2, servers=(server,))
    aside = site.root / "aside"
    (site.base / "2").rename(aside)
    try:
        _wait(lambda: _loaded(server) == {1})
        preview = site.succeed("rollback", "m", "--dry-run", servers=(server,))
        asked = "; not loaded, though the models.config asks for it: 2 (label canary, "
        assert f"loaded: 1 (label stable){asked}its folder is gone)" in preview.stdout
        done = site.succeed("rollback", "m", servers=(server,))
        assert "2 stays loaded" not in done.stderr
        assert "reach version 2" not in done.stderr
        assert f"loaded: 1 (label stable){asked}END at {server.grpc_url})" in done.stdout
    finally:
        aside.rename(site.base / "2")


def test_a_canary_that_is_given_up(site: Site, server: RunningServer) -> None:
    """After a rollback to what it took the place of, a canary's label is what holds it; --drop takes it away, once."""
    before = site.config.read_text()
    dropping = f"next: tfbundle canary m --drop --server {server.grpc_url} --config {site.config}"
    assert "next:" not in site.succeed("promote", "m", 2, "--label", "canary", servers=(server,)).stdout
    for number in range(2):
        done = site.succeed("promote", "m", 2, servers=(server,))
        assert ("m version 2 is loaded already" in done.stderr, "loading m" in done.stderr) == (number == 0, False)
        *_, why, following = done.stdout.splitlines()
        assert "label canary of m still means version 2, as stable does" in why
        assert following == dropping
    for dry_run in (("--dry-run",), ()):
        back = site.succeed("rollback", "m", *dry_run, servers=(server,))
        assert "version 2 stays loaded: label canary means it and callers without a label reach it" in back.stderr
        assert "`tfbundle canary m --drop --server ...` takes that label away" in back.stderr
        assert "loaded: 2 (label canary), 1 (label stable)" in back.stdout
    *_, why, following = back.stdout.splitlines()
    assert "version 2 and keeps it loaded, and callers without a label reach it; if nobody asks for it:" in why
    assert following == dropping
    again = json.loads(site.succeed("rollback", "m", "--json", servers=(server,)).stdout)
    assert (again["already"], again["next"]) == (True, [following.removeprefix("next: ")])
    line = site.fail("rollback", "m", "--label", "canary", servers=(server,))
    assert "`tfbundle canary m --drop --server ...` takes the label away" in line
    assert "means version 2, not 3; nothing was changed" in site.fail("canary", "m", 3, "--drop", servers=(server,))

    preview = site.succeed("canary", "m", "--drop", "--dry-run", servers=(server,))
    assert "unloading version 2\nloaded: 1 (label stable)" in preview.stdout
    assert answers(server) == {"none": 2, "stable": 1, "canary": 2}
    done = site.succeed("canary", "m", "--drop", servers=(server,))
    assert "label canary of m is gone at 1 server (before: 2); unloading version 2" in done.stdout
    _wait(lambda: _loaded(server) == {1})
    assert answers(server) == {"none": 1, "stable": 1, "canary": None}
    assert site.config.read_text() == before
    again = site.succeed("canary", "m", "--drop", "--json", servers=(server,))
    assert json.loads(again.stdout)["already"]
    assert [(each.label, each.version) for each in read_history(site.config)] == [
        ("canary", 2),
        ("stable", 2),
        ("stable", 1),
        ("canary", None),
    ]
    line = site.fail("rollback", "m", "--label", "canary", servers=(server,))
    assert "label canary of m was taken away; it meant version 2" in line


def test_a_drop_that_fails(site: Site, server: RunningServer, free_port: int) -> None:
    """Where one server dies in between, the file and the others are put back; a server that is not there stops it."""
    site.succeed("promote", "m", 2, "--label", "canary", servers=(server,))
    before = site.config.read_bytes()
    gone = f"grpc://127.0.0.1:{free_port}"
    assert "nothing was changed" in site.fail("canary", "m", "--drop", "--server", gone, servers=(server,))
    with (
        running_server(f"--model_config_file={site.config}", _LABELS) as doomed,
        open_fleet([server.grpc_url, doomed.grpc_url]) as fleet,
        open_config(site.config) as config,
    ):
        drop = prepare_drop(config, fleet, "m", "canary", settings=Settings(timeout_s=20))
        doomed.process.kill()
        doomed.process.wait()
        with pytest.raises(RolloutError, match=f"NOT put back: {doomed.grpc_url}"):
            carry_out_drop(config, fleet, drop)
    assert site.config.read_bytes() == before
    assert answers(server) == {"none": 2, "stable": 1, "canary": 2}


@pytest.mark.parametrize(
    ("versions", "labels", "own", "others", "loaded", "leaving"),
    [
        ((1, 2), {"stable": 1, "canary": 2}, (), (), (1,), (2,)),
        # Another label means it, or may go back to it.
        ((1, 2), {"stable": 2, "canary": 2}, (), (1,), (1, 2), ()),
        ((1, 2, 3), {"stable": 3, "canary": 2}, (), (2,), (1, 2, 3), ()),
        # What was kept for the canary goes with it, and what is nobody's stays.
        ((1, 2, 3, 4), {"stable": 1, "canary": 3}, (2,), (), (1, 4), (2, 3)),
        # A model keeps its last version.
        ((2,), {"canary": 2}, (), (), (2,), ()),
    ],
)
def test_what_goes_with_a_label(
    versions: tuple[int, ...],
    labels: dict[str, int],
    own: tuple[int, ...],
    others: tuple[int, ...],
    loaded: tuple[int, ...],
    leaving: tuple[int, ...],
) -> None:
    """A version leaves with its label, unless something else needs it; its label goes first, with all loaded."""
    entries = " ".join(f'version_labels {{ key: "{key}" value: {value} }}' for key, value in labels.items())
    policy = f"model_version_policy {{ specific {{ versions: {list(versions)} }} }}"
    text = f'model_config_list {{ config {{ name: "m" base_path: "/m" {policy} {entries} }} }}'
    plan = plan_drop(text, "m", "canary", own_kept=own, others_kept=others)
    (model,) = read_models(plan.new)
    assert (plan.loaded, plan.leaving) == (loaded, leaving)
    assert tuple(model.policy.choose(range(9))) == loaded
    assert "canary" not in model.labels
    (first,) = read_models(plan.unlabelled)
    assert (tuple(first.policy.choose(range(9))), first.labels) == (versions, model.labels)
    for last in ({"live": [loaded, leaving]}, {"there": leaving}):
        kept = plan_drop(text, "m", "canary", own_kept=own, others_kept=others, **last)
        assert (kept.loaded, kept.leaving) == (versions, ())
        assert kept.notes or not leaving
    again = plan_drop(plan.new, "m", "canary", own_kept=own, others_kept=others)
    assert again.new == plan.new
    kept_under_all = plan_drop(text.replace(policy, "model_version_policy { all {} }"), "m", "canary")
    assert (kept_under_all.loaded, kept_under_all.leaving) == (None, ())


def test_models_that_the_file_does_not_list(site: Site, tmp_path: Path) -> None:
    """A server that names its models is not given a list that would unload one, unless told to."""
    config = tmp_path / "both.config"
    text = site.config.read_text()
    end = text.rindex("}")
    other = text[text.index("config {\n") : end].replace('"m"', '"theirs"')
    config.write_text(f"{text[:end]}{other}}}\n")
    with running_server(f"--model_config_file={config}", _LABELS) as server:
        for dry_run in (("--dry-run",), ()):
            line = site.fail("promote", "m", 2, *dry_run, servers=(server,))
            assert f"{server.grpc_url} serves theirs, too, which the file does not list" in line
        done = site.run("promote", "m", 9, "--json", servers=(server,))
        assert json.loads(done.stdout)["model"] == "m"
        assert "has no version 9" in json.loads(done.stdout)["error"]
        done = site.succeed("promote", "m", 2, "--unload-others", "--json", servers=(server,))
        assert f"using {site.config} (models: m)" in done.stderr
        found = json.loads(done.stdout)
        assert found["staying"] == {"2": ["label stable"], "1": ["kept to go back to"]}
        assert set(found["parity"][0]["transports"][0]["runs"][0]["latency_s"]) == {"p50", "p99"}


def test_a_version_that_was_damaged(site: Site, server: RunningServer) -> None:
    """Where metadata.json says what the files were, a file that changed is named before anything is loaded."""
    folder = site.base / "3"
    metadata = folder / METADATA
    metadata.write_text(json.dumps({"files": {"saved_model.pb": "0" * 64, "gone": "0" * 64}}))
    try:
        line = site.fail("promote", "m", 3, servers=(server,))
    finally:
        metadata.unlink()
    assert "is not what was exported: gone is missing, saved_model.pb has changed" in line
    assert "nothing was changed" in line
    assert "--base-path nowhere: no such folder" in site.fail(
        "promote", "m", 3, "--base-path", "nowhere", servers=(server,)
    )


def test_interrupted(site: Site, server: RunningServer) -> None:
    """Who presses Ctrl-C while a version is looked at is told that everything was put back."""
    said: list[str] = []

    def prove(_: Fleet) -> None:
        raise KeyboardInterrupt

    with open_fleet([server.grpc_url]) as fleet, open_config(site.config) as config:
        prepared = prepare_change(config, fleet, "m", 2, "canary", settings=Settings(timeout_s=20))
        with pytest.raises(KeyboardInterrupt), changed_label(config, fleet, prepared, say=said.append, prove=prove):
            pass
    assert said[-2:] == ["putting everything back", f"{site.config} and every server are as before"]


def test_servers_that_differed(site: Site, server: RunningServer) -> None:
    """A promotion at a further server says what the label meant at each."""
    with running_server(f"--model_config_file={site.config}") as other:
        site.succeed("promote", "m", 2, servers=(server,))
        done = site.succeed("promote", "m", 2, servers=(server, other))
        assert "the servers differed before: " in done.stdout
        assert f"1 at {other.grpc_url}" in done.stdout
        assert answers(other)["stable"] == 2


def test_dead_labels() -> None:
    """Labels whose version does not answer stay at one that does, or are taken away, but for the one that is needed."""
    text = (
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "/m" version_labels {{ key: "a" value: 1 }} '
            "model_version_policy { specific { versions: [1, 2] } } "
            'version_labels { key: "b" value: 2 } } '
            for name in ("m", "n")
        )
        + "}"
    )
    cut, changed = without_dead_labels(text, {"m": {2, 7}}, {"m": {"a": 7}}, ("n", "a"))
    m, n = read_models(cut)
    assert [dict(each.labels) for each in (m, n)] == [{"a": 7, "b": 2}, {"a": 1}]
    assert [tuple(each.policy.choose(range(9))) for each in (m, n)] == [(1, 2, 7), (1, 2)]
    assert changed == (
        "label a of m (version 1) stays at version 7 there",
        "label b of n (version 2) is left out there",
    )
    assert without_dead_labels(text, {"m": {1, 2}, "n": {1, 2}}, {}) == (text, ())


def test_a_label_that_the_file_moves_too_early(site: Site, server: RunningServer) -> None:
    """What somebody wrote into the file, and no server can give, keeps nobody from the version that answers."""
    text = site.config.read_text()
    end = text.rindex("}")
    other = text[text.index("config {\n") : end].replace('"m"', '"other"')
    ahead = other.replace("versions: 1", "versions: 1 versions: 9").replace("value: 1", "value: 9")
    with Client(server.grpc_url, timeout=30) as client:
        client.reload_config(f"{text[:end]}{other.replace('version_labels', '# version_labels')}}}\n")
        client.reload_config(f"{text[:end]}{other}}}\n")
        site.config.write_text(f"{text[:end]}{ahead}}}\n")
        done = site.succeed("promote", "m", 2, servers=(server,))
        assert "label stable of other (version 9) stays at version 1 there" in done.stderr
        assert client.predict("other", [0.0], label="stable").version == 1


def test_a_drop_keeps_the_last_version_that_answers(site: Site, server: RunningServer) -> None:
    """Where the folder of what is stable is gone, the canary answers on, without its label."""
    site.succeed("promote", "m", 2, "--label", "canary", servers=(server,))
    aside = site.root / "aside"
    (site.base / "1").rename(aside)
    try:
        _wait(lambda: _loaded(server) == {2})
        done = site.succeed("canary", "m", "--drop", servers=(server,))
        assert "version 2 stays loaded: no other version of m would answer" in done.stderr
        assert answers(server) == {"none": 2, "stable": None, "canary": None}
        again = site.succeed("canary", "m", "--drop", servers=(server,))
        assert "already" in again.stdout
    finally:
        aside.rename(site.base / "1")
