"""Requests that a server recorded warm a version up: which are taken, and that the version has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tfbundle_exporter import export_model
from tfbundle_exporter.folder.recorded_warmup import choose_recorded
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.prediction_log import (
    RecordedRequest,
    decode_prediction_log,
    encode_prediction_log,
    read_prediction_logs,
)
from tfbundle_serving.apis.signatures import TensorSpec
from tfbundle_serving.apis.tfrecord import frame
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

SIGNATURES = {
    "serving_default": {"x": TensorSpec(dtypes.FLOAT, (None,))},
    "other": {"a": TensorSpec(dtypes.FLOAT, (None,)), "b": TensorSpec(dtypes.FLOAT, (None,))},
}


def write(path: Path, *requests: tuple[str, str, str, int], times: int = 1) -> Path:
    """Record requests: model, signature, name of the input and its one value."""
    records = [
        encode_prediction_log(
            RecordedRequest(model=model, signature=signature, inputs={name: np.array([value], np.float32)})
        )
        for model, signature, name, value in requests
    ]
    path.write_bytes(b"".join(frame([[record] for record in records * times])))
    return path


def chosen(path: Path) -> list[int]:
    """Give the values of the requests that were chosen."""
    records = choose_recorded(path, "digits", SIGNATURES)
    return [int(decode_prediction_log(record)[0].inputs["x"][0]) for record in records]


def test_what_fits_is_taken(tmp_path: Path) -> None:
    """Signature and inputs have to be the version's; the model's name, too, where any record has it."""
    path = tmp_path / "log"
    requests = [("digits", "serving_default", "x", 1), ("faces", "serving_default", "x", 2)]
    requests += [("digits", "serving_default", "y", 3), ("digits", "nope", "x", 4), ("digits", "other", "a", 5)]
    assert chosen(write(path, *requests)) == [1]
    assert chosen(write(path, ("faces", "serving_default", "x", 2), ("digits", "nope", "x", 4))) == [2]


def test_what_was_cut_off_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that was killed, or writes on, leaves a part of a record at the end."""
    path = write(tmp_path / "log", *(("digits", "serving_default", "x", value) for value in (1, 2)))
    path.write_bytes(path.read_bytes()[:-3])
    assert chosen(path) == [1]
    assert "is cut off and was left out" in caplog.text


@pytest.mark.parametrize(
    ("array", "fits"),
    [
        (np.zeros((5, 8), np.float32), True),
        (np.zeros((0, 8), np.float32), True),
        (np.zeros((5, 9), np.float32), False),
        (np.zeros(8, np.float32), False),
        (np.zeros((5, 8, 1), np.float32), False),
        (np.zeros((5, 8), np.float64), False),
    ],
)
def test_other_shapes_and_dtypes(array: NDArray[Any], fits: bool, tmp_path: Path) -> None:
    """Requests to a version before, which took something else, would keep this one from being loaded."""
    record = encode_prediction_log(RecordedRequest(model="m", signature="s", inputs={"x": array}))
    (tmp_path / "log").write_bytes(b"".join(frame([[record]])))
    signatures = {"s": {"x": TensorSpec(dtypes.FLOAT, (None, 8))}}
    if fits:
        assert choose_recorded(tmp_path / "log", "m", signatures) == [record]
    else:
        with pytest.raises(ExportError, match="none that fits"):
            choose_recorded(tmp_path / "log", "m", signatures)


def test_as_many_as_a_server_takes(tmp_path: Path) -> None:
    """1,000 of more, evenly over the file."""
    path = tmp_path / "log"
    values = chosen(write(path, *(("digits", "serving_default", "x", value) for value in range(4000))))
    assert values == list(range(0, 4000, 4))


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (None, "log holds 1 recorded requests, and none that fits a signature of this version"),
        (-1, "log holds 0 recorded requests"),
        (0, "log holds 0 recorded requests"),
    ],
)
def test_what_cannot_be_used(cut: int | None, text: str, tmp_path: Path) -> None:
    """A file without a whole request that fits stops the export."""
    path = write(tmp_path / "log", ("digits", "nope", "x", 1))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ExportError, match=text):
        chosen(path)
    with pytest.raises(ExportError, match="missing cannot be read: No such file"):
        chosen(tmp_path / "missing")


def test_an_export_warms_up_with_it(tiny_models: Path, tmp_path: Path) -> None:
    """The gate replays what was recorded, and the version holds it byte for byte."""
    path = write(tmp_path / "log", *(("half_plus_two", "serving_default", "x", value) for value in range(3)))
    base = tmp_path / "models" / "half_plus_two"
    version = export_model(tiny_models / "half_plus_two" / "123", base, warmup=path)
    assert (version.path / WARMUP_REQUESTS).read_bytes() == path.read_bytes()
    assert len(list(read_prediction_logs(version.path / WARMUP_REQUESTS))) == 3
