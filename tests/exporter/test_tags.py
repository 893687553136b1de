"""Tags: a version's second name, wherever a version is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tfbundle_exporter.sources.places import find_place, version_folder
from tfbundle_serving.apis.errors import ExportError, InvalidArgument, NotFound
from tfbundle_serving.apis.version_folder import check_tag, find_tag, find_version, list_tags


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with a version that has no tag, two of one tag, and one that is damaged."""
    contents: dict[str, Any] = {
        "1": {"tag": None},
        "2": {"tag": "1.4.0"},
        "3": {"tag": "spring"},
        "10": {"tag": "1.4.0"},
    }
    base = tmp_path / "digits"
    for name, content in contents.items():
        (base / name).mkdir(parents=True)
        (base / name / "metadata.json").write_text(json.dumps(content))
    (base / "11").mkdir()
    (base / "11" / "metadata.json").write_text("{")
    return base


@pytest.mark.parametrize("tag", ["1.4.0", "v2", "spring release", "release-2026-01", "été", "1e3"])
def test_names_that_are_tags(tag: str) -> None:
    """Semantic versions and plain words are tags."""
    check_tag(tag)


@pytest.mark.parametrize("tag", ["", "3", "007", "-1", " 5 ", "a/b", ".hidden", " x", "x\n", "a\tb"])
def test_names_that_are_none(tag: str) -> None:
    """What could be taken for a number, or is no part of a path, is refused with the rule."""
    with pytest.raises(InvalidArgument, match="a tag is a text such as"):
        check_tag(tag)


def test_versions_are_found_by_number_and_tag(base: Path) -> None:
    """A number is itself, a tag the version that bears it, the newest of several."""
    assert list_tags(base) == {2: "1.4.0", 3: "spring", 10: "1.4.0"}
    assert find_tag(base, "1.4.0") == 10
    assert find_tag(base, "autumn") is None
    assert find_version(base, "spring") == (3, base / "3")
    for wanted in (1, "1", "001"):
        assert find_version(base, wanted) == (1, base / "1")


@pytest.mark.parametrize("wanted", ["autumn", "7", 7])
def test_unknown_versions_list_what_there_is(base: Path, wanted: str | int) -> None:
    """The error says which numbers and tags there are."""
    with pytest.raises(NotFound, match=rf"{wanted}; it has 1, 2 \(tag 1.4.0\), 3 \(tag spring\), 10 \(tag 1.4.0\), 11"):
        find_version(base, wanted)


def test_a_path_may_end_in_a_tag(base: Path, tmp_path: Path) -> None:
    """models/digits/spring is the version folder; a path that exists is itself, and so is one beside no versions."""
    assert find_place(base / "spring") == base / "3"
    assert version_folder(base / "spring") == base / "3"
    assert find_place(base / "2") == base / "2"
    assert find_place(tmp_path / "autumn") == tmp_path / "autumn"
    (base / "autumn.index").touch()
    assert find_place(base / "autumn") == base / "autumn"
    (base / "autumn.index").unlink()
    with pytest.raises(ExportError, match=r"autumn is not there.*3 \(tag spring\)"):
        find_place(base / "autumn")


def test_what_is_no_version_folder(base: Path, tmp_path: Path) -> None:
    """A base path names its newest version, an unknown tag the known ones, anything else what is expected."""
    with pytest.raises(ExportError, match=r"is a base path with 5 version\(s\).*digits/11"):
        version_folder(base)
    with pytest.raises(ExportError, match=r"autumn is not there.*3 \(tag spring\)"):
        version_folder(base / "autumn")
    with pytest.raises(ExportError, match="is a file; expected a version folder"):
        version_folder(base / "1" / "metadata.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="is no version folder"):
        version_folder(tmp_path / "empty")
