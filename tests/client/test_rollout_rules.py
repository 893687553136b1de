"""What a rollout decides, as tables: which versions are loaded when, what is refused, where a label goes back to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tfbundle_client.rollout.addresses import open_fleet
from tfbundle_client.rollout.base_paths import look, neighbours
from tfbundle_client.rollout.config_file import find_config, open_config
from tfbundle_client.rollout.history import (
    Record,
    append_record,
    history_path,
    kept_versions,
    last_move,
    read_history,
)
from tfbundle_client.rollout.plan import as_labelled, plan_change
from tfbundle_client.rollout.rollback import choose_target
from tfbundle_client.rollout.rules import (
    Seen,
    check_base_paths,
    check_list,
    check_listed,
    check_unloaded,
    check_version,
    remarks,
)
from tfbundle_serving.apis.errors import InvalidArgument, RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel, read_models
from tfbundle_serving.apis.version_policy import All, Latest, Specific


def _text(policy: str, **labels: int) -> str:
    entries = "".join(f' version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
    return (
        'model_config_list { config { name: "m" base_path: "/models/m" model_platform: "tensorflow" '
        f"model_version_policy {{ {policy} }}{entries} }} }}"
    )


def _model(text: str) -> ConfiguredModel:
    (model,) = read_models(text)
    return model


_ONE = "specific { versions: 1 }"
_BOTH = "specific { versions: 1 versions: 2 }"


@pytest.mark.parametrize(
    ("policy", "labels", "arguments", "beside", "loaded", "kept", "leaving"),
    [
        # The version that the label leaves stays, so that going back takes no load ...
        (_ONE, {"stable": 1}, {"version": 2}, (1, 2), (1, 2), (1,), ()),
        # ... until the next move, unless told otherwise.
        (_BOTH, {"stable": 2}, {"version": 3, "kept_before": (1,)}, (1, 2, 3), (2, 3), (2,), (1,)),
        (_ONE, {"stable": 1}, {"version": 2, "unload_previous": True}, (1, 2), (2,), (), (1,)),
        # What the user configured and no label ever meant stays.
        (_BOTH, {"stable": 2}, {"version": 3}, (1, 2, 3), (1, 2, 3), (2,), ()),
        # What another label means stays, and what is to be kept.
        (_BOTH, {"stable": 1, "old": 1}, {"version": 2, "unload_previous": True}, (1, 2), (1, 2), (), ()),
        (_ONE, {"stable": 1}, {"version": 2, "unload_previous": True, "keep_loaded": (1,)}, (1, 2), (1, 2), (), ()),
        # Going back to the version that was kept.
        (_BOTH, {"stable": 2}, {"version": 1, "kept_before": (1,)}, (1, 2), (1, 2), (2,), ()),
        # Under latest that what is served stays beside.
        ("latest {}", {}, {"version": 2, "live": {5}}, (2, 5), (2, 5), (5,), ()),
        ("latest {}", {}, {"version": 5, "live": {5}}, (5,), (5,), (), ()),
        # Nothing moves, nothing leaves.
        (_BOTH, {"stable": 2}, {"version": 2, "kept_before": (1,)}, (1, 2), (1, 2), (1,), ()),
    ],
)
def test_which_versions_are_loaded(
    policy: str,
    labels: dict[str, int],
    arguments: dict[str, Any],
    beside: tuple[int, ...],
    loaded: tuple[int, ...],
    kept: tuple[int, ...],
    leaving: tuple[int, ...],
) -> None:
    """First the version is loaded beside what is served, with labels unmoved; at last what nobody needs has left."""
    text = _text(policy, **labels)
    plan = plan_change(text, "m", label="stable", **arguments)
    expected = [
        (plan.loading, beside, labels),
        (plan.moved, beside, {**labels, "stable": arguments["version"]}),
        (plan.new, loaded, {**labels, "stable": arguments["version"]}),
    ]
    for found, versions, meant in expected:
        model = _model(found)
        assert isinstance(model.policy, Specific)
        assert (tuple(sorted(model.policy.versions)), model.labels) == (versions, meant)
    assert (plan.loaded, plan.kept, plan.leaving) == (loaded, kept, leaving)


def test_all_stays_all() -> None:
    """Where the folder decides what is loaded, only the label changes."""
    plan = plan_change(_text("all {}", stable=1), "m", 2, "stable", live={1, 2})
    assert plan.loading == plan.old
    assert (_model(plan.new).policy, _model(plan.new).labels, plan.loaded) == (All(), {"stable": 2}, None)


def test_a_file_that_is_ahead_of_its_servers() -> None:
    """The label is moved in two steps all the same, since TensorFlow Serving would refuse it in one."""
    plan = plan_change(_text(_BOTH, stable=2), "m", 2, "stable", live={1}, labelled={1})
    loading = _model(as_labelled(plan.loading, "m", {"stable": 1}))
    assert (loading.labels, loading.policy) == ({"stable": 1}, Specific(versions=(1, 2)))
    assert plan.new == plan.old
    assert as_labelled(plan.old, "m", {"stable": 2}) == plan.old


def test_a_file_that_was_edited_by_hand() -> None:
    """The version that callers are served by stays loaded until the label has left it, though the file forgot it."""
    plan = plan_change(_text("specific { versions: 2 }", stable=2), "m", 2, "stable", live={1}, labelled={1})
    loading = _model(as_labelled(plan.loading, "m", {"stable": 1}))
    assert (loading.labels, loading.policy) == ({"stable": 1}, Specific(versions=(2, 1)))
    assert (plan.left, plan.loaded, plan.kept) == (1, (1, 2), (1,))
    before = _model(as_labelled(plan.old, "m", {"stable": 1}))
    assert (before.labels, before.policy) == ({"stable": 1}, Specific(versions=(2, 1)))


def test_what_is_worth_a_line() -> None:
    """Who calls without a label is told of, and that folders are not served by themselves any more."""
    latest = plan_change(_text("latest {}"), "m", 2, "stable", live={5}).notes
    assert any("from latest to specific" in note for note in latest)
    assert any("reach version 5, the highest that is loaded, not 2" in note for note in latest)
    higher = plan_change(_text(_ONE, stable=1), "m", 2, "stable", live={1}).notes
    assert higher == ("callers without a label reach version 2 as soon as it is loaded, as the highest",)


def _record(command: str, before: int | None, version: int, label: str = "stable") -> Record:
    return Record(model="m", label=label, before=before, version=version, kept=(), command=command)


_UP = [_record("promote", 1, 2), _record("promote", 2, 3)]


@pytest.mark.parametrize(
    ("records", "now", "expected"),
    [
        (_UP, 3, 2),
        # Called again: it is there.
        ([*_UP, _record("rollback", 3, 2)], 2, 2),
        # A rollback was killed before it wrote the history, and a promotion.
        (_UP, 2, 2),
        (_UP, 4, 3),
        ([*_UP, _record("rollback", 3, 2)], 4, 2),
        # Another label's moves do not count, and a promotion after a rollback does.
        ([*_UP, _record("canary", None, 4, "canary")], 3, 2),
        ([*_UP, _record("rollback", 3, 2), _record("promote", 2, 4)], 4, 2),
    ],
)
def test_where_a_label_goes_back_to(records: list[Record], now: int, expected: int) -> None:
    """The version before the last promotion, however often it is asked for."""
    assert choose_target(records, "m", "stable", now, [1, 2, 3, 4]) == expected


@pytest.mark.parametrize(
    ("records", "message"),
    [([], "knows of no move of label stable of m"), ([_record("promote", None, 2)], "was new when it got version 2")],
)
def test_nothing_to_go_back_to(records: list[Record], message: str) -> None:
    """The message says what could be chosen."""
    with pytest.raises(RolloutError, match=message) as caught:
        choose_target(records, "m", "stable", 2, [1, 2, 3])
    assert "--to VERSION names one: 3, 1" in str(caught.value)


def test_history(tmp_path: Path) -> None:
    """Lines come back as they were written; one that a crash cut short, or that is none, costs no other."""
    config = tmp_path / "models.config"
    assert read_history(config) == ()
    first = append_record(config, _record("promote", None, 1))
    with history_path(config).open("ab") as file:
        file.write(b'{"model": "m", "label": "stable", "from": 1, "to": 1e999}\n[]\n\xff\n')
        file.write(b'{"when": "2026-11-21T13:46:58Z", "model": "m", "la')
    second = append_record(config, _record("promote", 1, 2))
    assert read_history(config) == (first, second)
    assert last_move(read_history(config), "m", "stable") == second
    assert last_move(read_history(config), "m", "canary") is None
    assert first.when.endswith("Z")


def test_what_was_kept() -> None:
    """What a label left is its own to let go; what another may go back to stays."""
    moves = [
        Record(model="m", label=label, before=1, version=2, kept=kept, command="promote")
        for label, kept in (("stable", (7,)), ("stable", (1, 3)), ("canary", (3,)))
    ]
    assert [kept_versions(moves, "m", label) for label in ("stable", "canary", "other")] == [(1,), (), ()]


def _configured(name: str = "m", **labels: int) -> ConfiguredModel:
    return ConfiguredModel(
        name=name, base_path=f"/models/{name}", platform="tensorflow", policy=Latest(), labels=labels
    )


@pytest.mark.parametrize(
    ("seen", "unknown_at", "message"),
    [
        (Seen(), ["grpc://a:1"], None),
        (Seen(path="/m"), ["grpc://a:1"], "the base path of model m, /m, is missing: the reload of grpc://a:1 would"),
        (Seen(path="/m"), [], "is missing: no model of the server would change any more"),
        (Seen(path="/m", versions=frozenset()), ["grpc://a:1"], "model m is new to grpc://a:1 and has no versions in"),
        (Seen(path="/m", versions=frozenset()), [], None),
        (Seen(path="/m", versions=frozenset({1})), ["grpc://a:1"], None),
    ],
)
def test_base_paths(seen: Seen, unknown_at: list[str], message: str | None) -> None:
    """A reload that would hang is seen before, as far as the base path can be looked at."""
    found = list(check_base_paths([_configured()], {"m": seen}, {"m": unknown_at}))
    assert found == [] if message is None else message in found[0]


@pytest.mark.parametrize(
    ("listed", "at", "loaded", "message"),
    [
        ((7,), "new", None, "version 7 of model m is all that is listed of it, and is not in /m: the model is new to "),
        ((7, 8), "served", None, "version 7, 8 of model m is all that is listed of it"),
        ((7,), "served", None, "the reload would unload what grpc://a:1 serves of it"),
        # One that is there suffices, and so does one that comes; where nothing is served, nothing is lost.
        ((7, 2), "new", None, None),
        ((7,), "new", ("m", 2), None),
        ((7,), "new", ("n", 2), "would never end"),
        ((7,), "", None, None),
    ],
)
def test_versions_that_are_listed(
    listed: tuple[int, ...], at: str, loaded: tuple[str, int] | None, message: str | None
) -> None:
    """A list of nothing but missing versions hangs for a new model, and takes away what is served of another."""
    model = ConfiguredModel(
        name="m", base_path="/m", platform="tensorflow", policy=Specific(versions=listed), labels={}
    )
    seen = {"m": Seen(path="/m", versions=frozenset({1, 2}))}
    where = {name: {"m": ["grpc://a:1"] if at == name else []} for name in ("new", "served")}
    found = list(check_listed([model], seen, where["new"], where["served"], loaded))
    assert found == [] if message is None else message in found[0]
    assert not list(check_listed([model], {"m": Seen()}, where["new"], where["served"], loaded))


def test_version_folders() -> None:
    """A version that is not there or half there is refused; a label that means one which is gone is told of."""
    seen = Seen(path="/m", versions=frozenset({1, 2}), half=frozenset({2}))
    assert list(check_version(_configured(), 1, seen)) == []
    assert "has no saved_model.pb" in next(check_version(_configured(), 2, seen))
    assert "has no version 3 in /m; it has 1, 2" in next(check_version(_configured(), 3, seen))
    assert list(check_version(_configured(), 3, Seen())) == []
    assert "expected a number from 0" in next(check_version(_configured(), -1, Seen()))
    assert list(remarks([_configured(old=7, new=8)], {"m": seen}, ("m", "new"), {})) == [
        "label old of model m means version 7, which is not in /m"
    ]
    (line,) = remarks([_configured(old=1, now=2)], {"m": seen}, ("n", "new"), {})
    assert "label old of model m means version 1, which the list does not load" in line
    assert not list(remarks([_configured(old=1)], {"m": seen}, ("m", "new"), {}))
    (line,) = remarks([_configured()], {"m": Seen()}, ("n", "new"), {"m": ["grpc://a:1"]})
    assert "model m is new to grpc://a:1, and base path /models/m is not on this machine" in line


@pytest.mark.parametrize(
    ("platform", "others", "message"),
    [
        ("tensorflow", frozenset(), None),
        ("", frozenset({"model_type"}), None),
        ("", frozenset(), 'model m has no model_platform, expected model_platform: "tensorflow"'),
        ("tensorflow", frozenset({"model_type"}), "model m has both a model_platform and a model_type"),
        ("pytorch", frozenset(), "model m has the model_platform 'pytorch', expected \"tensorflow\""),
        ("tensorflow", frozenset({"logging_config"}), "model m has a logging_config"),
    ],
)
def test_platforms(platform: str, others: frozenset[str], message: str | None) -> None:
    """A server refuses a whole list for one model of which it does not know what it is."""
    model = ConfiguredModel(
        name="m", base_path="s3://bucket/m", platform=platform, policy=Latest(), labels={}, others=others
    )
    found = list(check_list([model]))
    assert found == [] if message is None else message in found[0]


def test_base_paths_of_a_container(tmp_path: Path) -> None:
    """--base-path says where a container's folder is here, and its neighbours are looked for beside it."""
    for name in ("m", "n"):
        (tmp_path / name / "1").mkdir(parents=True)
    models = [_configured("m"), _configured("n"), _configured("o")]
    assert {name: seen.versions for name, seen in look(models, "m").items()} == dict.fromkeys("mno")
    found = look(models, "m", tmp_path / "m")
    assert {name: seen.versions for name, seen in found.items()} == {
        "m": frozenset({1}),
        "n": frozenset({1}),
        "o": None,
    }


def test_models_that_may_be_served_besides(tmp_path: Path, official_server: str) -> None:
    """A server that names no models, as TensorFlow Serving, is asked for those whose base paths lie beside."""
    for name in ("m/1", "identities/7", "notes/drafts", ".trash/3"):
        (tmp_path / name).mkdir(parents=True)
    models = [_configured("m")]
    guesses = neighbours(models, look(models, "m", tmp_path / "m"))
    assert guesses == {"identities"}
    assert (
        neighbours(models, {"m": Seen()}) == neighbours(models, {"m": Seen(path=str(tmp_path / "no" / "m"))}) == set()
    )
    with open_fleet([official_server]) as fleet:
        served = fleet.served(guesses)
        assert served == {official_server: {"identities"}}
        assert "serves identities, too" in next(check_unloaded(models, served))
        assert fleet.served() == {official_server: frozenset()}


def test_each_server_is_asked_for_itself() -> None:
    """Several addresses in one are several servers, and so are those of a name; what has no reload is refused."""
    with open_fleet(["grpc://a:1,b:2", "grpc://a:1", "unix:/run/m.sock"]) as fleet:
        assert [server.url for server in fleet.servers] == ["grpc://a:1", "grpc://b:2", "unix:/run/m.sock"]
    with open_fleet(["dns:///localhost:8500"]) as fleet:
        urls = {server.url for server in fleet.servers}
        assert urls & {"grpc://127.0.0.1:8500", "grpc://[::1]:8500"} == urls
    for url in ("http://a:1", "local:models"):
        with pytest.raises(InvalidArgument, match="cannot be given another list of models"), open_fleet([url]):
            pass
    with pytest.raises(RolloutError, match="has no address"), open_fleet(["dns:///no-such-name.invalid:1"]):
        pass


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Its mode stays, a link stays a link, and what somebody else wrote meanwhile is not overwritten."""
    real = tmp_path / "real.config"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link = tmp_path / "models.config"
    link.symlink_to(real)
    with open_config(link) as config:
        config.replace(b"new")
        assert (real.read_bytes(), real.stat().st_mode & 0o777, link.is_symlink()) == (b"new", 0o640, True)
        real.write_bytes(b"theirs")
        with pytest.raises(RolloutError, match="was changed by somebody else meanwhile"):
            config.replace(b"ours")
    assert real.read_bytes() == b"theirs"
    assert sorted(each.name for each in tmp_path.iterdir()) == [".real.config.lock", "models.config", "real.config"]


def test_one_change_at_a_time(tmp_path: Path) -> None:
    """A second one says that it waits, and begins when the first has ended."""
    path = tmp_path / "models.config"
    path.write_bytes(b"")
    waits, said = threading.Event(), list[str]()

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    def second() -> None:
        with open_config(path, timeout_s=30, say=say) as config:
            said.append(config.text)

    with open_config(path) as config:
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        config.replace(b"first")
    thread.join()
    assert said == [f"waiting for another command that changes {path}", "first"]


def test_which_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named, or the one in the usual places."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RolloutError, match=r"neither models\.config nor serving/models\.config here"):
        find_config(None)
    with pytest.raises(RolloutError, match=r"there is no file other\.config"):
        find_config(Path("other.config"))
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "models.config").touch()
    assert find_config(None) == Path("serving/models.config")
