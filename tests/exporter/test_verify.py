"""tfbundle verify: files by their hashes, answers by golden.npz."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.exporter.version_folders import KERNEL, X, write_version
from tfbundle_exporter.reading.cli import main
from tfbundle_exporter.reading.golden_check import check_golden
from tfbundle_exporter.reading.verification import Verification, verify
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import FileCheck
from tfbundle_serving.apis.golden import Golden, write_golden

Captured = pytest.CaptureFixture[str]


def test_a_version_as_it_was_published_is_proven(tmp_path: Path, capsys: Captured) -> None:
    """All files and all answers are as recorded; the exit code is 0, by number and by tag."""
    write_version(tmp_path / "m", 3, told={"tag": "spring"})
    assert main(["verify", str(tmp_path / "m" / "spring"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["proven"]
    assert report["files"]["checked"] == 5
    assert [(each["output"], each["batch"], each["equal"]) for each in report["outputs"]] == [
        ("y", "all 4", True),
        ("y", "the first alone", True),
    ]


def test_without_tensorflow_nothing_is_said_of_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorFlow is not installed, that is the error, and no verdict of the version."""
    folder = write_version(tmp_path / "m", 1)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        verify(folder)
    assert caught.value.name == "tensorflow"


def test_other_answers_are_found(tmp_path: Path) -> None:
    """A version whose answers are not the recorded ones differs, and where and by how much is said."""
    folder = write_version(tmp_path / "m", 1)
    expected = X @ KERNEL
    expected[2, 1] += 0.5
    write_golden(folder / "assets.extra/golden.npz", {"serving_default": Golden({"x": X}, {"y": expected})})
    (whole, alone), _ = check_golden(folder, {"batchable": True})
    assert (whole.equal, alone.equal) == (False, True)
    assert whole.max_abs_diff == pytest.approx(0.5)
    assert "at [2, 1] expected" in whole.verdict
    found = Verification(folder=folder, files=FileCheck(checked=5), outputs=(whole, alone), failures=(), notes=())
    assert not found.is_proven
    assert "NOT proven" in found.to_text()


def test_missing_changed_and_extra_files_are_named(tmp_path: Path, capsys: Captured) -> None:
    """Every file that is not as it was is named, and a graph that is another one is not run."""
    folder = write_version(tmp_path / "m", 1)
    with (folder / "saved_model.pb").open("ab") as file:
        file.write(b"\x00")
    (folder / "fingerprint.pb").unlink()
    (folder / "assets" / "note.txt").parent.mkdir(exist_ok=True)
    (folder / "assets" / "note.txt").touch()
    assert main(["verify", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == {
        "checked": 3,
        "missing": ["fingerprint.pb"],
        "changed": ["saved_model.pb"],
        "extra": ["assets/note.txt"],
    }
    assert report["outputs"] == []
    assert "was not run" in report["failures"][0]


def test_damaged_values_cannot_be_loaded(tmp_path: Path) -> None:
    """A flipped bit in the variables is a changed file and a version that cannot be loaded."""
    folder = write_version(tmp_path / "m", 1)
    data = next((folder / "variables").glob("*.data*"))
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    found = verify(folder)
    assert found.files is not None
    assert found.files.changed == (f"variables/{data.name}",)
    assert "it cannot be loaded" in found.failures[0]


def test_nothing_to_verify_against_is_a_failure(tmp_path: Path) -> None:
    """Without metadata.json and golden.npz nothing is proven, and both are named."""
    folder = write_version(tmp_path / "m", 1)
    (folder / "metadata.json").unlink()
    (folder / "assets.extra/golden.npz").unlink()
    found = verify(folder)
    assert not found.is_proven
    assert found.files is None
    assert "there is no metadata.json" in found.failures[0]
    assert "golden.npz is missing" in found.failures[1]


def test_what_was_known_at_export_is_a_note(tmp_path: Path) -> None:
    """Rows that depend on each other are not asked alone; random answers are held by shape and dtype only."""
    folder = write_version(tmp_path / "m", 1)
    checks, notes = check_golden(folder, {"batchable": False, "signatures": {"serving_default": {}, "image": {}}})
    assert [check.batch for check in checks] == ["all 4"]
    assert "rows are not asked alone" in notes[0]
    assert notes[1] == "golden.npz holds no answers of image"
    assert check_golden(folder, {})[1] == (
        "rows are not asked alone, since metadata.json does not say that they can be",
    )
    golden = Golden({"x": X}, {"y": np.zeros((4, 2), np.float32)})
    write_golden(folder / "assets.extra/golden.npz", {"serving_default": golden})
    (check, *_), notes = check_golden(folder, {"deterministic": False})
    assert (check.equal, check.max_abs_diff) == (True, None)
    assert "only shapes and dtypes were compared" in notes[0]


def test_a_base_path_names_its_newest(tmp_path: Path) -> None:
    """A base path is no version; the error says which folder to give."""
    (tmp_path / "m" / "2").mkdir(parents=True)
    (tmp_path / "m" / "12").mkdir()
    with pytest.raises(ExportError, match="m/12"):
        main(["verify", str(tmp_path / "m")])


def test_a_graph_in_another_form_is_not_run(tmp_path: Path) -> None:
    """saved_model.pbtxt in the place of the published graph is found and not run."""
    folder = write_version(tmp_path / "m", 1)
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    found = verify(folder)
    assert found.outputs == ()
    assert found.failures == ("saved_model.pb is not the one that was published, so that it was not run",)
