"""check_parity against a real server: equal, different, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.servers import RunningServer
from tfbundle_client import Client, ParityError, check_parity
from tfbundle_client.parity.reference import implied_version
from tfbundle_serving.apis.comparison import Tolerance
from tfbundle_serving.apis.golden import Golden, write_golden

_X = np.linspace(-4, 4, 23, dtype=np.float32)


@pytest.fixture
def clients(server: RunningServer) -> Iterator[list[Client]]:
    """One client a transport."""
    with Client(server.grpc_url) as over_grpc, Client(server.rest_url) as over_rest:
        yield [over_grpc, over_rest]


def _golden(outputs: Any = None) -> Golden:
    return Golden({"x": _X}, {"y": _X / 2 + 2 if outputs is None else outputs})


def test_equal_over_both_transports(clients: list[Client]) -> None:
    """What is served equals what was expected, at every request size, over each transport."""
    report = check_parity(clients, "half_plus_two", _golden())
    assert report.is_equal
    assert (report.verdict, report.version, report.examples) == ("equal", 123, 23)
    assert [each.transport for each in report.transports] == ["gRPC", "REST"]
    for each in report.transports:
        assert [run.batch_size for run in each.runs] == [1, 2, 7, 23]
        assert [len(run.latencies_s) for run in each.runs] == [23, 12, 4, 1]
        assert [run.examples for run in each.runs] == [23] * 4
        assert (each.max_abs_diff, each.max_rel_diff, each.argmax_agreement) == (0.0, 0.0, None)
        assert each.examples_per_second > 0
        assert np.array_equal(each.outputs["y"], _X / 2 + 2)


def test_different_answers_are_a_report(clients: list[Client]) -> None:
    """A difference is found in the row where it is, and is a verdict, not an error."""
    expected = _X / 2 + 2
    expected[5] += 0.5
    report = check_parity(clients, "half_plus_two", _golden(expected))
    assert report.verdict == "differs"
    for each in report.transports:
        assert each.max_abs_diff == pytest.approx(0.5)
        assert [run.comparisons["y"].worst[0].index for run in each.runs] == [(5,)] * 4


def test_tolerance_and_share_are_obeyed(clients: list[Client]) -> None:
    """A wider tolerance, or a share of values that may differ, turns the verdict."""
    expected = _X / 2 + 2
    expected[5] += 0.5
    golden = _golden(expected)
    assert check_parity(clients, "half_plus_two", golden, tolerance=Tolerance(atol=0.6)).is_equal
    assert check_parity(clients, "half_plus_two", golden, ptol=0.05, batch_sizes=[23]).is_equal


def test_request_sizes_and_numbers_are_chosen(clients: list[Client]) -> None:
    """Sizes given by the caller are sent, no more requests of one size than allowed, the largest size whole."""
    report = check_parity(clients[0], "half_plus_two", _golden(), batch_sizes=[3, 5], max_requests=2)
    runs = report.transports[0].runs
    assert [(run.batch_size, len(run.latencies_s), run.examples) for run in runs] == [(3, 2, 6), (5, 5, 23)]


def test_accuracy_local_and_served(clients: list[Client]) -> None:
    """With labels, the share of right predictions is reported for the source model and for what is served."""
    labels = (_X / 2 + 2 > 0.5).astype(int)
    labels[:2] = 1 - labels[:2]
    report = check_parity(clients, "half_plus_two", _golden(), labels=labels)
    assert report.accuracy_local == pytest.approx(21 / 23)
    assert [each.accuracy for each in report.transports] == [report.accuracy_local] * 2
    assert report.label_output == "y"


def test_several_outputs_and_inputs(clients: list[Client]) -> None:
    """Every output of the reference is compared, argmax agreement where an output has classes."""
    a = np.arange(12, dtype=np.float32).reshape(4, 3)
    golden = Golden({"a": a, "b": a}, {"sum": a + a, "product": a @ np.array([[1], [2], [3]], np.float32)})
    report = check_parity(clients, "two_inputs", golden)
    assert report.is_equal
    assert set(report.transports[0].runs[0].comparisons) == {"sum", "product"}
    assert report.transports[0].argmax_agreement == 1.0


def test_strings_are_compared_exactly(clients: list[Client]) -> None:
    """Text outputs are compared as bytes."""
    text = np.array([b"ab", b"cd"], object)
    reference = ({"text": text}, {"upper": np.array([b"AB", b"CD"], object), "length": np.array([2, 2], np.int32)})
    assert check_parity(clients, "strings", reference).is_equal


def test_json_form(clients: list[Client]) -> None:
    """The report survives JSON, infinite differences included, and carries each request's time."""
    expected = _X / 2 + 2
    expected[0] = np.nan
    document = json.loads(
        json.dumps(check_parity(clients, "half_plus_two", _golden(expected)).to_json(), allow_nan=False)
    )
    assert document["verdict"] == "differs"
    over_grpc = document["transports"][0]
    assert over_grpc["max_abs_diff"] is None
    assert over_grpc["runs"][0]["outputs"]["y"]["worst"][0]["expected"] == "nan"
    assert len(over_grpc["runs"][0]["latencies_s"]) == 23


def _version_folder(base: Path, number: int, **metadata: Any) -> Path:
    """Make as much of a version folder as a reference needs."""
    folder = base / str(number)
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "metadata.json").write_text(json.dumps(metadata))
    write_golden(folder / "assets.extra" / "golden.npz", {"serving_default": _golden()})
    return folder


def test_references_on_disk(clients: list[Client], tmp_path: Path) -> None:
    """A golden.npz, a version folder and a base path all lead to the same answers, and to what was measured of them."""
    folder = _version_folder(tmp_path / "half_plus_two", 123, parity={"noise_floor": 1e-7})
    for reference in (folder / "assets.extra" / "golden.npz", folder, str(tmp_path / "half_plus_two")):
        report = check_parity(clients, "half_plus_two", reference)
        assert (report.verdict, report.noise_floor, report.version) == ("equal", 1e-7, 123)


def test_a_version_folder_is_compared_with_its_own_version(clients: list[Client], tmp_path: Path) -> None:
    """Version 7's folder is not compared with version 123, which happens to be served."""
    folder = _version_folder(tmp_path / "half_plus_two", 7)
    assert implied_version(folder) == implied_version(folder / "assets.extra" / "golden.npz") == 7
    with pytest.raises(ParityError, match="half_plus_two version 7 is not served at grpc://"):
        check_parity(clients, "half_plus_two", folder)
    assert check_parity(clients, "half_plus_two", folder, version=123).is_equal


def test_models_that_do_not_batch_are_sent_whole(clients: list[Client], tmp_path: Path) -> None:
    """Where the exporter measured that rows do not stand for themselves, only the whole is sent."""
    folder = _version_folder(tmp_path / "half_plus_two", 123, batchable=False)
    report = check_parity(clients, "half_plus_two", folder)
    assert [run.batch_size for run in report.transports[0].runs] == [23]


@pytest.mark.parametrize(
    ("model", "reference", "options", "message"),
    [
        ("nope", _golden(), {}, r"nope: could not compare: Servable not found"),
        ("half_plus_two", _golden(), {"version": 9}, r"half_plus_two version 9 is not served at grpc://"),
        ("half_plus_two", Golden({"z": _X}, {"y": _X}), {}, r"there is no input 'z'"),
        ("half_plus_two", Golden({"x": _X}, {"z": _X}), {}, r"there is no output 'z'"),
        ("half_plus_two", Golden({"x": _X}, {}), {}, r"holds no inputs or no outputs"),
        ("half_plus_two", _golden(), {"signature": "nope"}, r"has no signature 'nope'; the signatures are"),
        ("half_plus_two", _golden(), {"labels": [1, 2]}, r"labels have shape \(2,\), expected \(23,\)"),
        ("half_plus_two", _golden(), {"labels": [0] * 23, "label_output": "z"}, r"output 'z' predicts no classes"),
        ("half_plus_two", _golden(), {"batch_sizes": [0]}, r"batch sizes are positive"),
        ("half_plus_two", "no/such/path", {}, r"cannot read the reference no/such/path: No such file"),
    ],
)
def test_what_cannot_be_compared(
    clients: list[Client], model: str, reference: Any, options: dict[str, Any], message: str
) -> None:
    """Where no comparison is possible there is no verdict, but one line that says why."""
    with pytest.raises(ParityError, match=message) as caught:
        check_parity(clients, model, reference, **options)
    assert "\n" not in str(caught.value)


def test_an_unreachable_server_cannot_be_compared(free_port: int) -> None:
    """No server, no verdict."""
    with Client(f"grpc://127.0.0.1:{free_port}") as client, pytest.raises(ParityError, match="no connection to"):
        check_parity(client, "half_plus_two", _golden())


def test_references_that_are_not_there(clients: list[Client], tmp_path: Path) -> None:
    """A folder without golden.npz, a base path without the version, and a damaged file are told apart."""
    folder = _version_folder(tmp_path / "half_plus_two", 123)
    golden = folder / "assets.extra" / "golden.npz"
    with pytest.raises(ParityError, match="neither a version folder nor has one of version 123"):
        check_parity(clients, "half_plus_two", tmp_path)
    golden.write_bytes(golden.read_bytes()[:50])
    with pytest.raises(ParityError, match=r"is not a golden\.npz"):
        check_parity(clients, "half_plus_two", folder)
    golden.unlink()
    with pytest.raises(ParityError, match=r"golden\.npz is missing"):
        check_parity(clients, "half_plus_two", folder)


def test_a_version_by_its_tag(clients: list[Client], tmp_path: Path) -> None:
    """A tag means the version that bears it in the base path of the reference; one that nobody bears is an error."""
    folder = _version_folder(tmp_path, 123, tag="1.4.0")
    for reference in (tmp_path, folder, folder / "assets.extra/golden.npz"):
        assert check_parity(clients[0], "half_plus_two", reference, version="1.4.0").version == 123
    with pytest.raises(ParityError, match=r"has no version of the tag spring; it has 123 \(tag 1.4.0\)"):
        check_parity(clients[0], "half_plus_two", tmp_path, version="spring")
    with pytest.raises(ParityError, match="give the number"):
        check_parity(clients[0], "half_plus_two", _golden(), version="1.4.0")
    assert check_parity(clients[0], "half_plus_two", _golden(), version="123").version == 123
