"""`tfbundle versions`: sizes, graphs, labels and states of all servers in one table that fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.canary_models import save_classifier
from tests.models import save_half_plus
from tests.servers import RunningServer, running_server
from tfbundle.cli import main
from tfbundle_client.commands.size import show_bytes
from tfbundle_client.commands.version_list import Version
from tfbundle_client.commands.versions import lay_out


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of one graph, 3 of another; a models.config in which labels mean 1 and 3."""
    base = tmp_path_factory.mktemp("site") / "m"
    save_classifier(base / "1")
    save_classifier(base / "2", "surer")
    save_half_plus(base / "3")
    _write(base, "versions: 1 versions: 3", {"stable": 1, "canary": 3})
    return base


def _write(base: Path, versions: str, labels: dict[str, int]) -> None:
    said = " ".join(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels.items())
    (base.parent / "models.config").write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" '
        f"model_version_policy {{ specific {{ {versions} }} }} {said} }} }}"
    )


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[RunningServer]:
    """A server that reads that models.config."""
    flags = (f"--model_config_file={base.parent / 'models.config'}",)
    with running_server(*flags, "--allow_version_labels_for_unavailable_models=true") as running:
        yield running


def test_all_of_it(
    base: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Size, graph, labels of the models.config that lies here, and the state at each server."""
    monkeypatch.chdir(base.parent)
    servers = ["--server", server.grpc_url, "--server", server.rest_url]
    assert main(["versions", str(base), *servers, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["versions"]
    assert [each["same_graph"] for each in listed] == [None, True, False]
    assert [each["labels"] for each in listed] == [["stable"], [], ["canary"]]
    assert [each["states"][server.rest_url] for each in listed] == ["AVAILABLE", "", "AVAILABLE"]
    assert [each["trouble"] for each in listed] == ["", "", ""]
    files = [path for path in (base / "1").rglob("*") if path.is_file()]
    assert listed[0]["bytes"] == sum(path.stat().st_size for path in files)
    assert main(["versions", str(base), *servers]) == 0
    _, columns, *rows = capsys.readouterr().out.splitlines()
    assert columns.split()[:4] == ["version", "labels", "size", "graph"]
    assert rows[0].split()[:2] == ["1", "stable"]


def test_labels_that_a_server_has_elsewhere(
    base: Path, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A models.config that the server has not read is told from what the server does."""
    config = base.parent / "models.config"
    before = config.read_text()
    try:
        _write(base, "versions: 1 versions: 3", {"stable": 3, "gold": 1})
        assert main(["versions", str(base), "--config", str(config), "--server", server.grpc_url, "--json"]) == 0
    finally:
        config.write_text(before)
    troubles = [each["trouble"] for each in json.loads(capsys.readouterr().out)["versions"]]
    assert troubles == [
        f"label gold means nothing at {server.grpc_url}",
        "",
        f"label stable means version 1 at {server.grpc_url}",
    ]


def test_a_config_that_is_not_of_this_model(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was named must have the model; one that merely lies here may be of others."""
    monkeypatch.chdir(base.parent)
    assert main(["versions", str(base), "--model", "other"]) == 0
    assert "models.config has no model other (--model), so that labels are not known" in capsys.readouterr().err
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(base)
        assert main(["versions", str(base)]) == 0
    assert "no models.config was read (--config), so that labels are not known" in capsys.readouterr().err
    assert main(["versions", str(base), "--model", "other", "--config", "models.config"]) == 1
    assert "has no model other" in capsys.readouterr().err


@pytest.mark.parametrize(("width", "gone"), [(None, set()), (100, {"source"}), (60, {"source", "graph", "size"})])
def test_a_narrow_terminal(width: int | None, gone: set[str]) -> None:
    """Where the table does not fit, the least important columns go, and no cell is folded into pieces."""
    versions = [
        Version(
            number=number,
            tag="1.4.0",
            created_at="2026-01-02T03:04:05Z",
            source="a_source_with_a_very_long_name_that_says_little.h5",
            max_abs_diff=1e-7,
            bytes=283_000,
            same_graph=True,
            labels=("stable",),
        )
        for number in (1, 2)
    ]
    columns, rows = lay_out(versions, (), width)
    assert gone.isdisjoint(columns)
    assert {"version", "labels"} <= set(columns)
    widest = [max(len(cells[place]) for cells in (columns, *rows)) for place in range(len(columns))]
    assert width is None or sum(widest) + 3 * len(widest) + 1 <= width


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (283_063, "283 kB"), (1_420_000_000, "1.42 GB"), (9.9996e5, "1 MB")],
)
def test_sizes(size: float, text: str) -> None:
    """Bytes are shown with three digits."""
    assert show_bytes(size) == text
