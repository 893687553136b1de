"""`tfbundle prune`: what may go, what stays and why, the way through the trash, and what servers have loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RunningServer, running_server
from tfbundle.cli import main
from tfbundle_client import Client
from tfbundle_client.pruning.choice import (
    OnDisk,
    asked_by_config,
    asked_by_history,
    asked_by_pins,
    asked_by_server,
    choose,
    configured_for,
    look,
)
from tfbundle_client.pruning.trash import empty_trash, list_trash, move_to_trash
from tfbundle_client.rollout.history import Record, append_record
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.models_config_edit import ConfiguredModel
from tfbundle_serving.apis.version_policy import All, Latest, Specific, VersionPolicy

CONFIG = """
model_config_list {
  config {
    name: "digits"
    base_path: "%s"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: %s } }
    version_labels { key: "stable" value: %d }
  }
}
"""


def on_disk(*numbers: int) -> list[OnDisk]:
    """Versions without a folder."""
    return [OnDisk(number=number, folder=Path(str(number))) for number in numbers]


def going(versions: list[OnDisk], keep: int, *reasons: Any) -> list[int]:
    """Numbers of the versions that go."""
    return [each.version.number for each in choose(versions, keep=keep, reasons=reasons) if each.goes]


def model(policy: VersionPolicy, **labels: int) -> ConfiguredModel:
    """A model of a models.config."""
    return ConfiguredModel(name="digits", base_path="/models/digits", platform="", policy=policy, labels=labels)


class TestChoice:
    def test_the_newest_stay(self) -> None:
        """By number, not by the order of the listing."""
        assert going(on_disk(10, 9, 2, 1), 2) == [1, 2]
        assert going(on_disk(1, 2), 5) == []
        assert going([], 1) == []

    @pytest.mark.parametrize(
        ("reasons", "expected"),
        [
            (asked_by_pins([2]), [1, 3, 4]),
            (asked_by_config([model(Specific(versions=(1, 9)), stable=3)], [1, 2, 3, 4, 5]), [2, 4]),
            (asked_by_config([model(Latest(num_versions=3))], [1, 2, 3, 4, 5]), [1, 2]),
            (asked_by_config([model(Latest())], [1, 2, 3, 4, 5]), [1, 2, 3, 4]),
            (asked_by_config([model(All())], [1, 2, 3, 4, 5]), []),
            (asked_by_config([], [1, 2, 3, 4, 5]), [1, 2, 3, 4]),
            (
                asked_by_server("grpc://a:1", [VersionStatus(n, s) for n, s in enumerate(State, 0)], {"old": 4}),
                # 0 UNKNOWN, 1 START, 2 LOADING, 3 AVAILABLE, 4 UNLOADING
                [],
            ),
            (
                asked_by_server("grpc://a:1", [VersionStatus(1, State.END), VersionStatus(3, State.AVAILABLE)], {}),
                [1, 2, 4],
            ),
            (asked_by_server("grpc://a:1", [VersionStatus(1, State.END)], {"canary": 1}), [2, 3, 4]),
        ],
    )
    def test_what_is_asked_for_stays(self, reasons: Any, expected: list[int]) -> None:
        """Of versions 1 to 5, of which the newest stays in any case."""
        assert going(on_disk(1, 2, 3, 4, 5), 1, reasons) == expected

    def test_what_a_label_can_be_rolled_back_to_stays(self) -> None:
        """Only its last move counts, of this model, with what was kept loaded for it."""

        def move(label: str, before: int | None, version: int, *kept: int, name: str = "digits") -> Record:
            return Record(model=name, label=label, before=before, version=version, kept=kept, command="promote")

        records = [
            move("stable", 1, 2),
            move("stable", 2, 4, 3),
            move("canary", None, 5),
            move("x", 1, 1, name="other"),
        ]
        assert going(on_disk(1, 2, 3, 4, 5, 6), 1, asked_by_history(records, ["digits"])) == [1]

    def test_all_reasons_are_told(self) -> None:
        """Each once, in the words of who gave it."""
        (old, new) = choose(on_disk(1, 2), keep=1, reasons=[asked_by_pins([1]), asked_by_pins([1]), {1: ["label a"]}])
        assert old.reasons == ("pinned", "label a")
        assert new.reasons == ("newest",)

    def test_what_is_not_whole_stays_and_does_not_count(self, tmp_path: Path) -> None:
        """Something may be copying it; and it must not push the last whole one out."""
        for name in ("1", "2", "3", "03", "0"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "saved_model.pb").touch()
        (tmp_path / "4").mkdir()
        (tmp_path / "5").touch()
        verdicts = choose(look(tmp_path), keep=1, reasons=[])
        assert {each.version.number: each.reasons[:1] for each in verdicts} == {
            0: ("no number of tfbundle's",),
            1: (),
            2: ("newest",),
            3: ("03 and 3 are both version 3: see tfbundle doctor",),
            4: ("no saved_model.pb: it may be on its way, or see tfbundle doctor",),
            5: ("no saved_model.pb: it may be on its way, or see tfbundle doctor",),
        }

    def test_which_models_mean_a_base_path(self, tmp_path: Path) -> None:
        """By name, and by the folder's name where a container has it elsewhere; one too many does no harm."""
        models = [
            ConfiguredModel(name=name, base_path=path, platform="", policy=Latest())
            for name, path in (("digits", "/models/digits"), ("other", "/x/y"), ("alias", "/m/digits"))
        ]
        assert [each.name for each in configured_for(models, "digits", tmp_path / "digits")] == ["digits", "alias"]
        assert [each.name for each in configured_for(models, "other", tmp_path / "y")] == ["other"]


@pytest.fixture
def base(tiny_models: Path, tmp_path: Path) -> Path:
    """A base path with versions 1 to 5 of half_plus_two, of the model digits."""
    (source,) = [path for path in (tiny_models / "half_plus_two").iterdir() if path.name.isdigit()][:1]
    for number in range(1, 6):
        shutil.copytree(source, tmp_path / "models/digits" / str(number))
    return tmp_path / "models/digits"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where there is no models.config by default."""
    monkeypatch.chdir(tmp_path)


def numbers(folder: Path) -> list[str]:
    """Names of the versions, and of what else is not hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def pruned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Prune a base path that nothing need serve, and give the document."""
    assert main(["prune", *map(str, arguments), "--unserved", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


class TestTrash:
    def test_through_the_trash(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Out of sight by a rename, back by another one, gone for good after a time, the number never again."""
        assert [each["version"] for each in pruned(capsys, base, "--keep", 2, "--dry-run")["pruned"]] == [1, 2, 3]
        assert numbers(base) == ["1", "2", "3", "4", "5"]
        document = pruned(capsys, base, "--keep", 2)
        assert document["trashed_bytes"] > 0
        assert document["freed_bytes"] == 0
        assert numbers(base) == ["4", "5"]
        assert [each.number for each in list_trash(base)] == [1, 2, 3]
        assert (base / ".released").read_text().split() == ["1", "2", "3", "4", "5"]
        assert pruned(capsys, base, "--keep", 2)["pruned"] == []
        assert pruned(capsys, base, "--restore", 2)["restored"] == 2
        assert (base / "2/saved_model.pb").exists()
        again = pruned(capsys, base, "--keep", 2, "--trash-days", 0)
        assert [each["version"] for each in again["removed_for_good"]] == [1, 2, 3]
        assert again["freed_bytes"] > 0
        assert not list((base / ".trash").iterdir())

    def test_after_some_days(self, base: Path) -> None:
        """Its age is in its name, since a rename leaves the times of a folder alone."""
        now = datetime.now(timezone.utc)
        move_to_trash(base, [base / "1"], now - timedelta(days=8))
        move_to_trash(base, [base / "2"], now - timedelta(days=6))
        (base / ".trash/.going-9-20200101T000000Z").mkdir()
        (base / ".trash/notes").mkdir()
        assert [each.number for each in empty_trash(base, older_than=timedelta(days=7), now=now)] == [1]
        assert [path.name for path in (base / ".trash").iterdir() if path.name.startswith(".going-")] == []
        assert [each.number for each in list_trash(base)] == [2]
        assert (base / ".trash/notes").exists()

    def test_what_cannot_be_restored(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Because it is not there, or because its number is taken."""
        assert main(["prune", str(base), "--restore", "1"]) == 1
        assert "it holds nothing" in capsys.readouterr().err
        pruned(capsys, base, "--keep", 4)
        shutil.copytree(base / "5", base / "1")
        assert main(["prune", str(base), "--restore", "1"]) == 1
        assert "version 1 is in" in capsys.readouterr().err

    def test_servers_and_exporters_look_past_it(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The doctor finds nothing wrong with it, and the next number is still the next."""
        from tfbundle_exporter.publishing.base_path import next_version
        from tfbundle_exporter.reading.doctor import examine

        move_to_trash(base, [base / "5"], datetime.now(timezone.utc))
        assert next_version(base) == 6
        assert examine(base).ailments == ()
        assert main(["versions", str(base)]) == 0
        assert ".trash" not in capsys.readouterr().out

    def test_pins(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Pinned versions stay until they are unpinned."""
        assert pruned(capsys, base, "--pin", 1)["pinned"] == [1]
        assert pruned(capsys, base, "--pin", 3)["pinned"] == [1, 3]
        assert [each["version"] for each in pruned(capsys, base, "--keep", 1)["pruned"]] == [2, 4]
        assert pruned(capsys, base, "--unpin", 1)["pinned"] == [3]
        assert [each["version"] for each in pruned(capsys, base, "--keep", 1)["pruned"]] == [1]
        assert main(["prune", str(base), "--pin", "9"]) == 1
        (base / ".pinned").write_text("three")
        assert main(["prune", str(base), "--unserved"]) == 1
        assert ".pinned is damaged" in capsys.readouterr().err


class TestConfig:
    def test_labels_policy_and_history(self, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What is labelled, listed or rolled back to stays, and the reasons are told."""
        config = tmp_path / "models.config"
        config.write_text(CONFIG % ("/models/digits", "2", 2))
        append_record(config, Record(model="digits", label="stable", before=1, version=2, command="promote"))
        document = pruned(capsys, base, "--keep", 1)
        assert [each["version"] for each in document["pruned"]] == [3, 4]
        assert {each["version"]: each["reasons"] for each in document["kept"]} == {
            1: ["rollback of stable"],
            2: ["label stable", "pinned by models.config (specific)", "last move of stable"],
            5: ["newest"],
        }

    def test_a_config_without_the_model(self, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One that was named is a mistake; one that happens to lie here tells nothing, and nothing goes for that."""
        config = tmp_path / "models.config"
        config.write_text((CONFIG % ("/x/y", "2", 2)).replace("digits", "other"))
        assert main(["prune", str(base), "--keep", "1", "--config", str(config)]) == 1
        assert "has no model digits; it has other" in capsys.readouterr().err
        assert len(numbers(base)) == 5
        assert main(["prune", str(base), "--keep", "1", "--json"]) == 1
        found = capsys.readouterr()
        assert "has no model digits, so that labels and rollbacks are not known" in found.err
        assert "--unserved goes on if nothing serves it; nothing was pruned" in json.loads(found.out)["error"]
        assert len(numbers(base)) == 5
        assert len(pruned(capsys, base, "--keep", 1)["pruned"]) == 4

    def test_a_config_of_another_folder(self, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One that lies here and serves another folder of that name tells nothing; one that was named does."""
        config, other = tmp_path / "models.config", tmp_path / "elsewhere/digits"
        config.write_text(CONFIG % (other, "1", 1))
        words = ["prune", str(base), "--keep", "1"]
        assert main([*words, "--dry-run"]) == 0
        other.mkdir(parents=True)
        assert main(words) == 1
        errors = capsys.readouterr().err
        assert f"is of {other}, not of {base}, so that labels and rollbacks are not known" in errors
        assert "nor a models.config that has digits (--config)" in errors
        assert main([*words, "--config", str(config)]) == 0
        assert numbers(base) == ["1", "5"]
        linked = tmp_path / "link"
        linked.symlink_to(base)
        config.write_text(CONFIG % (linked, "1", 1))
        assert main(words) == 0

    def test_a_config_that_is_none(self, base: Path, tmp_path: Path) -> None:
        """Nobody knows what it would have said, so nothing goes."""
        (tmp_path / "models.config").write_text("model_config_list {")
        assert main(["prune", str(base), "--keep", "1"]) == 1
        assert len(numbers(base)) == 5


@pytest.fixture
def serving(base: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """A server that has versions 2 and 4 loaded, 2 of them as stable."""
    config = tmp_path / "server.config"
    config.write_text(CONFIG % (base, "[2, 4]", 2))
    flags = (f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true")
    with running_server(*flags, folder=tmp_path / "log") as running, Client(running.grpc_url) as client:
        for number in (2, 4):
            client.wait_until_available("digits", version=number)
        yield running


class TestServers:
    def test_what_a_server_has_loaded_stays(
        self, base: Path, serving: RunningServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It serves on, over both protocols; and what it does not know goes."""
        for url in (serving.grpc_url, serving.rest_url):
            document = pruned(capsys, base, "--keep", 1, "--server", url, "--dry-run")
            assert [each["version"] for each in document["pruned"]] == [1, 3]
            reasons = {each["version"]: " ".join(each["reasons"]) for each in document["kept"]}
            assert reasons[2].startswith(f"AVAILABLE at {url}")
            assert f"label stable at {url}" in reasons[2]
            assert reasons[4] == f"AVAILABLE at {url}"
        pruned(capsys, base, "--keep", 1, "--server", serving.grpc_url)
        assert numbers(base) == ["2", "4", "5"]
        with Client(serving.grpc_url) as client:
            assert client.predict("digits", [2.0], version=2)
            assert [each.version for each in client.status("digits") if each.is_available] == [4, 2]

    def test_a_server_that_cannot_be_asked(
        self, base: Path, serving: RunningServer, free_port: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One silent server among several is enough for nothing to go; and so is a name that it does not know."""
        silent = f"grpc://127.0.0.1:{free_port}"
        assert main(["prune", str(base), "--keep", "1", "--server", serving.grpc_url, "--server", silent]) == 1
        assert f"{silent} cannot be asked, so that nothing was pruned" in capsys.readouterr().err
        assert main(["prune", str(base), "--keep", "1", "--server", serving.grpc_url, "--model", "typo"]) == 1
        assert "serves no model typo" in capsys.readouterr().err
        assert len(numbers(base)) == 5


class TestMisuse:
    @pytest.mark.parametrize(
        "arguments",
        [["--keep", "0"], ["--pin", "1", "--restore", "1"], ["--trash-days", "-1"], ["--pin", "1", "--unpin", "1"]],
    )
    def test_options(self, arguments: list[str], base: Path) -> None:
        """Exit code 2, and nothing goes."""
        assert main(["prune", str(base), *arguments]) == 2
        assert len(numbers(base)) == 5

    def test_no_base_path(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The message says what was expected."""
        assert main(["prune", str(tmp_path / "nothing")]) == 1
        assert "expected a base path" in capsys.readouterr().err

    def test_the_folder_above(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder of base paths is none, and those in it are named."""
        assert main(["prune", str(base.parent), "--unserved"]) == 1
        assert "these in it have some: digits; nothing was pruned" in capsys.readouterr().err

    def test_a_linked_version(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The link goes, and what it leads to stays."""
        (base / "1").rename(base.parent / "elsewhere")
        (base / "1").symlink_to(base.parent / "elsewhere")
        pruned(capsys, base, "--keep", 4, "--trash-days", 0)
        assert not (base / "1").is_symlink()
        assert (base.parent / "elsewhere/saved_model.pb").exists()
