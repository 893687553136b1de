"""Which children of a base path are versions, and what metadata.json holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.version_folder import golden_path, list_versions, parse_version, read_metadata

VERSIONS = {
    "1": 1,
    "007": 7,
    "00000123": 123,
    "20170111173521": 20170111173521,
    "0": 0,
    "000": 0,
    "+5": 5,
    "-5": -5,
    " 5 ": 5,
    str((1 << 63) - 1): (1 << 63) - 1,
    str(-(1 << 63)): -(1 << 63),
    "0" * 5000 + "9": 9,
}
NO_VERSIONS = [
    *("", " ", "tmp-5", "5.denied", "1_0", "1.0", "0x10", "1e3", "+", "-", "+-5", "5 5", "v1", ".staging-1"),
    *("٣", "²", str(1 << 63), str(-(1 << 63) - 1), "9" * 5000),
]


@pytest.mark.parametrize("name", VERSIONS)
def test_names_that_are_versions(name: str) -> None:
    """A name that parses wholly as an int64 is that version."""
    assert parse_version(name) == VERSIONS[name]


@pytest.mark.parametrize("name", NO_VERSIONS)
def test_names_that_are_no_versions(name: str) -> None:
    """Every other name is looked past."""
    assert parse_version(name) is None


def test_versions_come_in_the_order_of_numbers(tmp_path: Path) -> None:
    """Ten comes after nine, and foreign names are not listed."""
    for name in ("10", "9", "008", ".staging-7", "notes"):
        (tmp_path / name).mkdir()
    assert list(list_versions(tmp_path).items()) == [
        (8, tmp_path / "008"),
        (9, tmp_path / "9"),
        (10, tmp_path / "10"),
    ]


def test_one_counts_beside_padded_one(tmp_path: Path) -> None:
    """Of two names for one number the last in sorted order counts, as in TensorFlow Serving."""
    for name in ("001", "1", "01"):
        (tmp_path / name).mkdir()
    assert list_versions(tmp_path) == {1: tmp_path / "1"}


def test_a_file_with_a_number_is_listed_too(tmp_path: Path) -> None:
    """TensorFlow Serving goes by names alone, and so does the list."""
    (tmp_path / "3").touch()
    assert list_versions(tmp_path) == {3: tmp_path / "3"}


def test_a_missing_base_path_raises(tmp_path: Path) -> None:
    """There is a difference between no versions and no base path."""
    with pytest.raises(FileNotFoundError):
        list_versions(tmp_path / "none")


def test_metadata_is_read(tmp_path: Path) -> None:
    """metadata.json is given as it stands."""
    (tmp_path / "metadata.json").write_text('{"version": 3, "notes": "Grüße"}', encoding="utf-8")
    assert read_metadata(tmp_path) == {"version": 3, "notes": "Grüße"}


def test_no_metadata_is_none(tmp_path: Path) -> None:
    """A version folder that tfbundle did not make has none; a file in its place has none either."""
    (tmp_path / "3").touch()
    assert read_metadata(tmp_path) is None
    assert read_metadata(tmp_path / "3") is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\udcff", "[" * 100_000])
def test_damaged_metadata_names_the_file(tmp_path: Path, text: str) -> None:
    """What is no JSON object is an error that names the file."""
    (tmp_path / "metadata.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DecodeError, match=r"metadata\.json"):
        read_metadata(tmp_path)


def test_golden_lies_in_assets_extra(tmp_path: Path) -> None:
    """TensorFlow Serving leaves assets.extra alone."""
    assert golden_path(tmp_path) == tmp_path / "assets.extra" / "golden.npz"
