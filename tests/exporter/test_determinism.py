"""The same source gives the same bytes, wherever and whenever it is exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tfbundle_serving.apis.version_folder import METADATA

#: With signatures of several kinds beside the main one.
ARGUMENTS = ("--quiet", "--with=raw", "--with=classify")


def start_export(source: Path, base: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Export in a fresh process, with hashing of its own order."""
    command = [sys.executable, "-m", "tfbundle", "export", str(source), str(base), *ARGUMENTS]
    return subprocess.Popen(command, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment})


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two exports, as if at one moment, of a model with recurrent dropout, whose seeds no .h5 holds."""
    scratch = tmp_path_factory.mktemp("twice")
    import keras

    keras.utils.set_random_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 3 advises against .h5
        layers = [keras.Input((4, 3), name="steps"), keras.layers.GRU(4, recurrent_dropout=0.5), keras.layers.Dense(2)]
        keras.Sequential(layers).save(scratch / "m.h5")
    first = start_export(scratch / "m.h5", scratch / "a/m", PYTHONHASHSEED="1")
    second = start_export(scratch / "m.h5", scratch / "b/m", PYTHONHASHSEED="2")
    assert [first.wait(120), second.wait(120)] == [0, 0]
    return scratch / "a/m/1", scratch / "b/m/1"


def test_all_files_are_equal(twice: tuple[Path, Path]) -> None:
    """Graph, weights, fingerprint, warm-up records, golden.npz and metadata.json are the same to the last bit."""
    first, second = map(contents, twice)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert {"saved_model.pb", "variables/variables.index", "fingerprint.pb", "assets.extra/golden.npz"} <= first.keys()


def test_source_date_epoch_is_when_it_was_made(twice: tuple[Path, Path]) -> None:
    """metadata.json gives the moment that was told."""
    assert json.loads((twice[0] / METADATA).read_text())["created_at"] == "2023-11-14T22:13:20Z"


def test_the_singleprint_is_tensorflows_own(twice: tuple[Path, Path]) -> None:
    """What metadata.json calls the fingerprint is what TensorFlow reads from either folder."""
    import tensorflow as tf

    read: Any = tf.saved_model.experimental.read_fingerprint
    prints = {str(read(str(folder)).singleprint()) for folder in twice}
    assert prints == {json.loads((twice[0] / METADATA).read_text())["fingerprint"]}
