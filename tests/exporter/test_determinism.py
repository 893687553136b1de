"""The same source gives the same bytes, wherever and whenever it is exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.exporter.zoo import dicts
from tfbundle_serving.apis.version_folder import METADATA

#: What stands in a fingerprint.pb besides the hashes is a random number.
FINGERPRINT = "fingerprint.pb"


def export(source: Path, base: Path, **environment: str) -> Path:
    """Export in a fresh process, with hashing of its own order, and give the version folder."""
    command = [sys.executable, "-m", "tfbundle", "export", str(source), str(base), "--quiet"]
    subprocess.run(command, check=True, timeout=120, capture_output=True, env={**os.environ, **environment})
    return base / "1"


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two exports of a model with two inputs and two outputs, as if at one moment."""
    scratch = tmp_path_factory.mktemp("twice")
    import keras

    keras.utils.set_random_seed(7)
    dicts(keras).model.save(scratch / "m.keras")
    return (
        export(scratch / "m.keras", scratch / "a/m", SOURCE_DATE_EPOCH="1700000000", PYTHONHASHSEED="1"),
        export(scratch / "m.keras", scratch / "b/m", SOURCE_DATE_EPOCH="1700000000", PYTHONHASHSEED="2"),
    )


def test_all_files_but_two_are_equal(twice: tuple[Path, Path]) -> None:
    """Graph, weights, warm-up records and golden.npz are the same to the last bit."""
    first, second = map(contents, twice)
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} <= {FINGERPRINT, METADATA}
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/golden.npz"} <= first.keys()


def test_metadata_differs_by_the_fingerprint_files_hash_only(twice: tuple[Path, Path]) -> None:
    """With SOURCE_DATE_EPOCH set, that file's random number is all that is left; the singleprint is the same."""
    first, second = (json.loads((folder / METADATA).read_text()) for folder in twice)
    assert first["created_at"] == "2023-11-14T22:13:20Z"
    assert first["fingerprint"] == second["fingerprint"]
    for metadata in (first, second):
        del metadata["files"][FINGERPRINT]
    assert first == second


def test_the_singleprint_is_tensorflows_own(twice: tuple[Path, Path]) -> None:
    """What metadata.json calls the fingerprint is what TensorFlow reads from either folder."""
    import tensorflow as tf

    read: Any = tf.saved_model.experimental.read_fingerprint
    prints = {str(read(str(folder)).singleprint()) for folder in twice}
    assert prints == {json.loads((twice[0] / METADATA).read_text())["fingerprint"]}
