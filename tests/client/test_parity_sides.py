"""check_parity with answers that nobody recorded: another version or server, a folder or a Keras file run here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.models import save_half_plus
from tests.servers import RunningServer, running_server
from tfbundle.cli import main
from tfbundle_client import Client, ParityError, check_parity
from tfbundle_client.calls.prediction import Prediction
from tfbundle_client.parity.inputs import draw_inputs, read_inputs
from tfbundle_client.parity.ranking import top_k_agreement
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.comparison import EXACT, Tolerance
from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.golden import Golden, write_golden
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest
from tfbundle_serving.apis.prediction_log import prediction_log_chunks, read_prediction_logs
from tfbundle_serving.apis.signatures import PREDICT_METHOD, Signature, TensorSpec
from tfbundle_serving.apis.tfrecord import frame

_X = np.linspace(-4, 4, 23, dtype=np.float32)


@pytest.fixture(scope="module")
def rollout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """A server with two versions of `digits`, of which one has one weight off; stable is 1, canary is 2."""
    models = tmp_path_factory.mktemp("rollout")
    save_half_plus(models / "digits" / "1", 2.0)
    save_half_plus(models / "digits" / "2", 2.0 + 2**-10)
    config = models / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{
          name: "digits" base_path: "{models / "digits"}" model_platform: "tensorflow"
          model_version_policy {{ all {{}} }}
          version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }} }}"""
    )
    with running_server(
        f"--model_config_file={config}", "--file_system_poll_wait_seconds=1", folder=models / "scratch"
    ) as running:
        with Client(running.grpc_url) as client:
            for version in (1, 2):
                client.wait_until_available("digits", version=version, timeout=30)
        yield running, models / "digits"


def test_one_weight_off_is_seen_between_versions_and_labels(rollout: tuple[RunningServer, Path]) -> None:
    """What a rollout would change is found between two versions, two labels, and over both transports."""
    running, _ = rollout
    with Client(running.grpc_url) as over_grpc, Client(running.rest_url) as over_rest:
        for options in (
            {"version": 2, "against_version": 1},
            {"label": "canary", "against_label": "stable"},
        ):
            report = check_parity([over_grpc, over_rest], "digits", inputs={"x": _X}, **options)
            assert (report.verdict, report.version, report.expected_name) == ("differs", 2, "expected")
            assert report.max_abs_diff == pytest.approx(2**-10)
            assert "digits version 1 at grpc://" in report.reference
            assert report.noise_floor == 0.0
            assert len(report.worst) == 5
            assert report.worst[0].distance == pytest.approx(2**-10)
        same = check_parity(over_rest, "digits", version=1, against=over_grpc, against_label="stable")
        assert same.is_equal
        assert "drawn from the signature, seed 0" in same.reference


def test_a_version_folder_is_run_here(rollout: tuple[RunningServer, Path]) -> None:
    """Given inputs, the served version equals its own folder bit for bit, and the other one's folder shows up."""
    running, base = rollout
    with Client(running.grpc_url) as client:
        report = check_parity(client, "digits", base, inputs={"x": _X}, tolerance=EXACT)
        assert (report.verdict, report.version, report.max_abs_diff) == ("equal", 2, 0.0)
        assert "at local:" in report.reference
        assert check_parity(client, "digits", base / "1", inputs={"x": _X}).is_equal
        assert not check_parity(client, "digits", base / "1", inputs={"x": _X}, version=2).is_equal
        with pytest.raises(ParityError, match="no model that can be run"):
            check_parity(client, "digits", base / "nope", inputs={"x": _X})
        with pytest.raises(ParityError, match="nothing to compare with"):
            check_parity(client, "digits")


def test_rows_that_see_each_other_are_sent_whole(tmp_path: Path) -> None:
    """Where the expected side answers otherwise row by row, only the whole is compared, and there is no noise floor."""
    import tensorflow as tf

    module = tf.Module()
    module.shares = tf.function(
        lambda x: {"y": x / tf.reduce_sum(x)},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
        autograph=False,
    )
    for version in "1", "2":
        tf.saved_model.save(module, str(tmp_path / "shares" / version), signatures=module.shares)
    with Client(f"local:{tmp_path}") as client:
        report = check_parity(client, "shares", inputs={"x": np.abs(_X)}, version=2, against_version=1)
    assert (report.verdict, report.noise_floor) == ("equal", None)
    assert [run.batch_size for run in report.transports[0].runs] == [23]


def test_a_rollout_in_the_middle_is_no_difference(rollout: tuple[RunningServer, Path]) -> None:
    """A version that goes away while it is compared ends without a verdict, whenever that happens."""
    running, base = rollout

    class Unloading(Client):
        """Takes the version away after some requests, as an operator would."""

        left = 0

        def predict(self, *arguments: Any, **options: Any) -> Prediction:
            answer = super().predict(*arguments, **options)
            self.left -= 1
            if self.left == 0:
                shutil.move(base / "3", base.parent / "gone")
                self._wait_for_end()
            return answer

        def _wait_for_end(self) -> None:
            with Client(running.grpc_url) as watcher:
                while any(each.is_available for each in watcher.status("digits", version=3)):
                    pass

    for requests in (2, 3):
        shutil.rmtree(base.parent / "gone", ignore_errors=True)
        shutil.copytree(base / "2", base.parent / "new")
        (base.parent / "new").rename(base / "3")
        client = Unloading(running.grpc_url)
        with client:
            client.wait_until_available("digits", version=3, timeout=30)
            client.left = requests
            with pytest.raises(ParityError, match=r"version 3|Specific\(digits, 3\)"):
                # One request to open the connection and two of the smallest size.
                check_parity(client, "digits", ({"x": _X}, {"y": _X}), version=3, batch_sizes=[12])


def test_nan_and_infinity_on_both_sides(rollout: tuple[RunningServer, Path]) -> None:
    """NaN equals NaN at its place and infinities go by sign; both are counted, and one out of place is found."""
    running, _ = rollout
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    with Client(running.grpc_url) as over_grpc, Client(running.rest_url) as over_rest:
        report = check_parity([over_grpc, over_rest], "digits", inputs={"x": x}, version=1, against_version=1)
        assert report.is_equal
        assert report.transports[1].runs[-1].not_finite == {"y": (3, 3)}
        moved = check_parity(over_grpc, "digits", ({"x": x}, {"y": x[::-1] / 2 + 2}), version=1, batch_sizes=[4])
        assert not moved.is_equal
        assert moved.worst[0].distance == np.inf
        assert json.dumps(moved.to_json(), allow_nan=False)


def test_strings_against_a_folder(server: RunningServer, tiny_models: Path) -> None:
    """Text of both sides is compared as bytes; a difference names row and both values."""
    text = np.array([b"ab", b"", b"Cd", "\u00e4".encode()], object)
    with Client(server.grpc_url) as client:
        assert check_parity(client, "strings", tiny_models / "strings", inputs={"text": text}).is_equal
        wrong = {"upper": np.array([b"AB", b"", b"XX", "\u00e4".encode()], object)}
        report = check_parity(client, "strings", ({"text": text}, wrong), batch_sizes=[4])
    difference = report.worst[0].difference
    assert (difference.index, difference.expected, difference.actual) == ((2,), b"XX", b"CD")


def test_a_tolerance_of_one_dtype(rollout: tuple[RunningServer, Path]) -> None:
    """A tolerance by dtype holds for that dtype; others keep theirs."""
    running, _ = rollout
    with Client(running.grpc_url) as client:
        for name, verdict in (("float32", "equal"), ("float64", "differs")):
            report = check_parity(
                client,
                "digits",
                inputs={"x": _X},
                version=2,
                against_version=1,
                tolerance={name: Tolerance(atol=0.01)},
            )
            assert report.verdict == verdict


def test_across_devices_float32_has_more_room(rollout: tuple[RunningServer, Path]) -> None:
    """A difference that no CPU makes, but TF32 does, is allowed where the caller says so."""
    running, _ = rollout
    expected = (_X / 2 + 2) * (1 + 2**-12)
    with Client(running.grpc_url) as client:
        for across_devices in (False, True):
            report = check_parity(
                client, "digits", ({"x": _X}, {"y": expected}), version=1, across_devices=across_devices
            )
            assert report.is_equal == across_devices


def test_recorded_requests(rollout: tuple[RunningServer, Path], tmp_path: Path) -> None:
    """A TFRecord file of PredictionLogs gives the inputs; so does the warm-up file of a version folder."""
    running, base = rollout
    path = tmp_path / "requests"
    _write_logs(path, [_X[:2], _X[2:], _X.reshape(1, 23)])
    with Client(running.grpc_url) as client:
        report = check_parity(client, "digits", base / "1", inputs=path)
        assert (report.verdict, report.examples) == ("equal", 23)
        assert "(2 of 3 requests, of one shape)" in report.reference
    assert [each.inputs["x"].shape for each in read_prediction_logs(path)] == [(2,), (21,), (1, 23)]
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-3], "cut off"),
        (b"\0" * 12 + whole, "is no TFRecord file"),
        (b"\x1f\x8b", "compressed"),
        (whole[:12] + b"\xff" + whole[13:], "record 1"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DecodeError, match=message):
            list(read_prediction_logs(path))


def _write_logs(path: Path, inputs: list[Any]) -> None:
    requests = [PredictRequest(ModelSpec("digits"), {"x": array}) for array in inputs]
    path.write_bytes(b"".join(frame([prediction_log_chunks(each, PREDICT_METHOD) for each in requests])))


def test_input_files(tmp_path: Path) -> None:
    """.npy, .npz and golden.npz give the inputs; what they lack is said."""
    signature = Signature({"x": TensorSpec(dtypes.FLOAT, (None,))}, {})
    np.save(tmp_path / "x.npy", _X)
    np.savez(tmp_path / "x.npz", x=_X)
    write_golden(tmp_path / "golden.npz", {"serving_default": Golden({"x": _X}, {"y": _X})})
    for name in ("x.npy", "x.npz", "golden.npz"):
        given = read_inputs(tmp_path / name, "serving_default", signature)
        assert np.array_equal(given.arrays["x"], _X)
    with pytest.raises(ParityError, match="has no inputs of signature other; it has serving_default"):
        read_inputs(tmp_path / "golden.npz", "other", signature)
    with pytest.raises(ParityError, match="cannot read the inputs"):
        read_inputs(tmp_path / "nope", "serving_default", signature)
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(ParityError, match=r"is not a \.npz file"):
        read_inputs(tmp_path / "bad.npz", "serving_default", signature)


def test_drawn_inputs_are_the_same_again() -> None:
    """Drawn inputs depend on the seed alone, fit the signature, and begin with edge rows."""
    usable = {name: TensorSpec(dtype, (None, 3, None)) for name, dtype in dtypes.BY_NUMPY_NAME.items()}
    usable["text"] = TensorSpec(dtypes.STRING, (None, 3, None))
    signature = Signature(usable, {})
    first, again, other = draw_inputs(signature), draw_inputs(signature), draw_inputs(signature, seed=1)
    for name, array in first.arrays.items():
        assert array.shape == (32, 3, 4)
        assert dtypes.of_numpy(array.dtype) is usable[name].dtype
        assert array.tolist() == again.arrays[name].tolist()
    assert first.arrays["float32"][0].tolist() == [[0.0] * 4] * 3
    assert first.arrays["float32"].tolist() != other.arrays["float32"].tolist()


def test_top_k_ties_are_no_disagreement() -> None:
    """The k best classes are the same set; entries within the tolerance of the last of them may stand in for it."""
    expected = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]], np.float32)
    tied = np.array([[0.4, 0.2, 0.3, 0.1], [0.3, 0.4, 0.2, 0.1]], np.float32)
    assert top_k_agreement(expected, tied, Tolerance(atol=1e-6), 2) == 0.5
    assert top_k_agreement(expected, tied, Tolerance(atol=0.06), 2) == 1.0
    assert top_k_agreement(expected, expected, EXACT, 4) is None
    assert top_k_agreement(expected * np.nan, expected * np.nan, EXACT, 2) == 1.0


def test_a_keras_file(server: RunningServer, tmp_path: Path) -> None:
    """A .keras file is run here; one of Keras 2 is refused in a line that names tfbundle export."""
    import h5py
    import keras

    inputs = keras.Input((), name="x")
    outputs = keras.layers.Rescaling(0.5, offset=2.0, name="y")(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with Client(server.grpc_url) as client:
        report = check_parity(client, "half_plus_two", tmp_path / "model.keras", inputs={"x": _X})
        assert report.is_equal
        assert "run by Keras in this process" in report.reference
        assert check_parity(client, "half_plus_two", tmp_path / "model.keras").examples == 32
        with h5py.File(tmp_path / "old.h5", "w") as file:
            file.attrs["keras_version"] = "2.15.0"
        with pytest.raises(ParityError, match=r"written by Keras 2\.15\.0, .*run `tfbundle export` on it"):
            check_parity(client, "half_plus_two", tmp_path / "old.h5")
        (tmp_path / "none.keras").write_bytes(b"nonsense")
        with pytest.raises(ParityError, match="is no model of Keras"):
            check_parity(client, "half_plus_two", tmp_path / "none.keras")


def test_a_sequential_model(server: RunningServer, tmp_path: Path) -> None:
    """A Sequential names no outputs; with one it needs none."""
    pytest.importorskip("keras", minversion="3")
    import keras

    model = keras.Sequential([keras.Input(()), keras.layers.Rescaling(0.5, offset=2.0)])
    model.save(tmp_path / "model.h5")
    with Client(server.grpc_url) as client:
        assert check_parity(client, "half_plus_two", tmp_path / "model.h5", inputs={"x": _X}).is_equal


def test_a_fault_of_ours_is_no_difference(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in an unexpected way exits with 2, as all that could not be compared, and says so in one line."""
    monkeypatch.setattr("tfbundle_client.commands.parity.check_parity", lambda *_, **__: 1 / 0)
    arguments = ["parity", server.grpc_url, "half_plus_two", "--reference", str(tmp_path)]
    assert main(arguments) == 2
    assert "error: unexpected ZeroDivisionError: division by zero (a fault" in capsys.readouterr().err
    with pytest.raises(Exception, match="ZeroDivisionError"):
        main([*arguments, "--debug"])


def test_the_command_and_its_junit(
    rollout: tuple[RunningServer, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions, labels and servers are compared from the shell; JUnit has a test an output and size, or an error."""
    running, _ = rollout
    junit, html = tmp_path / "parity.xml", tmp_path / "parity.html"
    url = running.grpc_url
    common = ("--junit", str(junit), "--html", str(html))
    assert main(["parity", url, "digits", "--version", "2", "--against-version", "1", *common]) == 1
    out = capsys.readouterr().out
    assert "the worst values" in out
    assert "noise floor 0" in out
    root = ElementTree.parse(junit).getroot()
    suites = root.findall("testsuite")
    assert [(each.get("tests"), each.get("failures")) for each in suites] == [("4", "4")]
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert "values differ by more than" in str(failure.get("message"))
    assert "Does what is served equal what is expected?" in html.read_text()
    assert main(["parity", url, "digits", "--label", "canary", "--against-label", "stable", *common]) == 1
    equal = ["parity", url, "digits", "--version", "1", "--against", running.rest_url, "--against-label", "stable"]
    capsys.readouterr()
    assert main([*equal, *common]) == 0
    assert f"\nexpected: digits version 1 at {running.rest_url}, " in capsys.readouterr().out
    assert (
        main(["parity", url, "digits", "--version", "2", "--against-version", "1", "--tolerance", "float32=0,1"]) == 0
    )
    capsys.readouterr()
    assert main(["parity", url, "digits", "--against-version", "9", *common]) == 2
    error = ElementTree.parse(junit).getroot().find("testsuite/testcase/error")
    assert error is not None
    assert "version 9" in str(error.get("message"))
    assert main(["parity", url, "digits", "--against-version", "1", "--against-label", "stable"]) == 2
    capsys.readouterr()
    assert main(["parity", url, "digits", "--version", "2", "--against-version", "first"]) == 2
    assert "--against-version first is a tag" in capsys.readouterr().err
    base = tmp_path / "tagged"
    for number, tag in ((1, "first"), (2, "second")):
        (base / str(number)).mkdir(parents=True)
        (base / str(number) / "metadata.json").write_text(json.dumps({"tag": tag}))
    asked = ["--version", "second", "--base-path", str(base), "--against-version", "first"]
    assert main(["parity", url, "digits", *asked, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["version"] == 2
    assert main(["parity", url, "digits", "--tolerance", "float32"]) == 2
