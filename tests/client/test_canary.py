"""Canaries at real servers: a better version passes, faults are found, and what was changed is put back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.client.canary_models import POISON, draw, record, save_classifier, softmax
from tests.servers import RunningServer, running_server
from tests.serving.server.test_examples_api import save_even_odd
from tfbundle.cli import main
from tfbundle_client import Bounds, CanaryReport, Client, ParityError, check_canary
from tfbundle_client.calls.inferences import Classifications
from tfbundle_client.canary.blocks import join, put_together
from tfbundle_client.canary.requests import Request
from tfbundle_client.canary.sides import read_classes
from tfbundle_serving.apis.prediction_log import RecordedRequest, encode_prediction_log
from tfbundle_serving.apis.tfrecord import frame

#: What is special about each version; 1 is the stable one.
_KINDS = ("same", "surer", "broken", "poisoned", "failing", "renamed", "joined", "same")
_SURER, _BROKEN, _POISONED, _FAILING, _RENAMED, _JOINED = range(2, 8)
#: A version whose graph is none.
_CORRUPT = 8
_EXAMPLES = "tensorflow/serving/classify", "tensorflow/serving/regress"

Check = Callable[..., CanaryReport]


@dataclass(frozen=True)
class Shop:
    """A base path of the model `c`, and a models.config."""

    root: Path

    @property
    def base(self) -> Path:
        """The base path."""
        return self.root / "c"

    @property
    def config(self) -> Path:
        """The models.config."""
        return self.root / "config" / "models.config"

    def write(self, versions: str = "versions: 1", labels: str = 'version_labels { key: "stable" value: 1 }') -> str:
        """Write the models.config anew."""
        self.config.parent.mkdir(exist_ok=True)
        policy = f"model_version_policy {{ specific {{ {versions} }} }}"
        head = f'name: "c" base_path: "{self.base}" model_platform: "tensorflow"'
        text = f"# kept\nmodel_config_list {{ config {{ {head} {policy} {labels} }} }}\n"
        self.config.write_text(text)
        return text


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Eight versions; the last does not load."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for version, kind in enumerate(_KINDS, 1):
        save_classifier(shop.base / str(version), kind)
    (shop.base / str(_CORRUPT) / "saved_model.pb").write_bytes(b"no model")
    save_even_odd(shop.root / "e" / "1")
    save_even_odd(shop.root / "e" / "2")
    return shop


@pytest.fixture(scope="module")
def loaded(shop: Shop) -> Iterator[RunningServer]:
    """A server with all versions that load."""
    config = shop.root / "all.config"
    entries = (("c", range(1, _CORRUPT)), ("e", range(1, 3)))
    config.write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{shop.root / name}" model_platform: "tensorflow" '
            f"model_version_policy {{ specific {{ versions: {list(versions)} }} }} "
            'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } }'
            for name, versions in entries
        )
        + "}"
    )
    with running_server(
        f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true"
    ) as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def check(request: pytest.FixtureRequest, shop: Shop, loaded: RunningServer) -> Iterator[Check]:
    """Compare a version with version 1, over each transport, with few timed pairs."""
    with Client(loaded.grpc_url if request.param == "grpc" else loaded.rest_url, timeout=30) as client:

        def run(version: int | None = None, model: str = "c", **options: object) -> CanaryReport:
            given = {"base_path": shop.root / model, "latency_pairs": 3, **options}
            return check_canary(client, model, version, **given)  # type: ignore[arg-type]  # what the test says

        yield run


def _failed(report: CanaryReport) -> set[str]:
    return {each.rule for each in report.verdict.findings if each.status == "fail"}


def test_recorded_requests(check: Check, tmp_path: Path) -> None:
    """Requests of all sizes are joined, asked of both versions and counted; the better version passes."""
    x = draw(700)
    cuts = np.cumsum([1, 2, 3, 1, 1, 40, 1, 600])
    file = record(tmp_path / "r", [part for part in np.split(x, cuts) if len(part)])
    report = check(inputs=file)
    assert (report.version, report.stable, report.verdict.word) == (_SURER, 1, "promote"), report.verdict.reasons
    assert (report.rows, report.figures.requests) == (700, 9)
    (figures,) = report.figures.outputs.values()
    assert (figures.rows, figures.agreeing, figures.flipped) == (700, 700, 0)
    assert report.figures.promise.is_equal
    assert len(report.figures.latency) == 3
    assert not report.takes_unlabelled
    json.dumps(report.to_json(), allow_nan=False)


def test_reference_inputs_are_the_default(check: Check) -> None:
    """Without inputs both versions' golden.npz are asked."""
    assert check(_SURER).rows == 128


def test_broken_weights(check: Check) -> None:
    """One weight that is off by much: rows of which the stable version was sure are answered otherwise."""
    report = check(_BROKEN, inputs=draw(400))
    assert "certainty" in _failed(report)
    assert report.figures.promise.is_equal


def test_true_classes(check: Check) -> None:
    """With the truth the accuracies decide: in the stable version's favour, or in the canary's."""
    x = draw(400)
    good = check(_BROKEN, inputs={"x": x}, labels=np.argmax(softmax(x), axis=1))
    assert good.figures.accuracy is not None
    assert good.figures.accuracy.stable == 1.0
    assert "accuracy" in _failed(good)
    broken = good.figures.accuracy.canary
    turned = check(1, stable_version=_BROKEN, inputs={"x": x}, labels=np.argmax(softmax(x), axis=1))
    assert turned.figures.accuracy is not None
    assert (turned.figures.accuracy.stable, turned.figures.accuracy.canary) == (broken, 1.0)
    assert turned.is_promote, turned.verdict.reasons


@pytest.mark.parametrize(("version", "rule"), [(_POISONED, "finite"), (_FAILING, "errors")])
def test_one_row_that_a_version_stumbles_over(check: Check, tmp_path: Path, version: int, rule: str) -> None:
    """A NaN or a failure of one request among many is found, and the others are compared all the same."""
    x = draw(300)
    x[123, 0] = POISON
    report = check(version, inputs=record(tmp_path / "r", np.split(x, 300)))
    assert _failed(report) == {rule}
    assert report.rows == (300 if rule == "finite" else 299)
    assert report.figures.canary_failures == (rule == "errors")
    table = check(version, inputs=x)
    assert (_failed(table), table.rows) == ({rule}, report.rows)


def test_an_output_that_is_gone(check: Check) -> None:
    """Clients would miss it, whatever its values."""
    report = check(_RENAMED, inputs=draw(30))
    assert _failed(report) == {"signatures"}
    assert "probabilities" in report.verdict.reasons[0]


def test_rows_that_see_each_other_are_asked_alone(check: Check) -> None:
    """A version whose rows do not stand for themselves is found by trying, and asked as the requests were recorded."""
    report = check(_JOINED, inputs=draw(30))
    assert (report.rows, report.figures.requests) == (30, 30)
    (figures,) = report.figures.outputs.values()
    assert figures.agreement is not None
    # Alone, each row is its own mean, and all answers are the same.
    assert figures.canary_classes == {0: 30}


def test_examples_requests(check: Check, tmp_path: Path) -> None:
    """Classify and regress requests are judged by class and value."""
    from tfbundle_serving.apis.example_proto import Feature, Kind, encode_example

    logs = []
    for method, signature in zip(_EXAMPLES, ("classify", "regress"), strict=True):
        for value in np.linspace(-3, 3, 40):
            example = encode_example({"x": Feature(Kind.FLOAT, [float(value)])})
            inputs = {"inputs": np.array([example], object)}
            logs.append(RecordedRequest(signature=signature, inputs=inputs, method_name=method, model="e"))
    file = tmp_path / "r"
    file.write_bytes(b"".join(bytes(chunk) for chunk in frame([[encode_prediction_log(log)] for log in logs])))
    report = check(2, model="e", inputs=file)
    assert report.is_promote, report.verdict.reasons
    kinds = {output: each.kind for (_, output), each in report.figures.outputs.items()}
    assert kinds == {"class": "labels", "scores": "values", "value": "values"}
    assert report.rows == 80


def test_what_is_left_out_is_counted(check: Check, tmp_path: Path) -> None:
    """Requests to other models and unknown signatures, and a torn end of the file, are named with their number."""
    mine = record(tmp_path / "a", np.split(draw(20), 20)).read_bytes()
    others = record(tmp_path / "b", [draw(1)] * 3, model="other").read_bytes()
    unknown = record(tmp_path / "d", [draw(1)] * 2, signature="gone").read_bytes()
    file = tmp_path / "r"
    file.write_bytes(others + mine + unknown + mine[:17])
    report = check(_SURER, inputs=[file, {"x": draw(5)}])
    assert report.rows == 25
    assert sorted(report.skipped.values()) == [1, 2, 3]


def test_no_comparison(check: Check, shop: Shop, tmp_path: Path) -> None:
    """What cannot be compared is an error that says why, and no verdict."""
    empty = tmp_path / "empty"
    empty.touch()
    for options, message in (
        ({"version": 1}, "are the same, version 1"),
        ({"version": _CORRUPT}, "version 8 is not served"),
        ({"version": 2, "inputs": empty}, "there is none"),
        ({"version": 2, "inputs": tmp_path / "missing"}, "cannot read the inputs"),
        ({"version": 2, "base_path": None}, "give inputs"),
        ({"version": 2, "canary_label": "x", "label": "y"}, "label y"),
        ({"version": 2, "inputs": draw(5), "labels": np.zeros(4)}, "4 true classes"),
        ({"version": 2, "inputs": draw(5), "labels": np.zeros(9)}, "9 true classes"),
        ({"version": 2, "inputs": shop.config.parent.parent / "all.config"}, "all.config"),
        ({"version": 2, "signature": "gone"}, "no signature gone"),
    ):
        with pytest.raises(ParityError, match=message):
            check(**options)


def test_bounds(check: Check) -> None:
    """The caller may ask for more."""
    bounds = Bounds(max_latency_ratio=1e-6)
    report = check(_SURER, inputs=draw(50), bounds=bounds, latency_pairs=30)
    assert _failed(report) == {"latency p50"}


def _ask(shop: Shop, server: RunningServer, *arguments: object) -> tuple[int, str, str]:
    words = ["canary", "c", *map(str, arguments), "--server", server.grpc_url, "--config", str(shop.config)]
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([*words, "--latency-pairs", "2"])
    return code, out.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def rolling(shop: Shop) -> Iterator[RunningServer]:
    """A server whose models.config may change."""
    shop.write()
    flags = (f"--model_config_file={shop.config}", "--max_num_load_retries=0")
    with running_server(*flags, "--allow_version_labels_for_unavailable_models=true") as server:
        yield server


def _serves(server: RunningServer, label: str) -> int | None:
    with Client(server.grpc_url, timeout=30) as client:
        try:
            return client.metadata("c", label=label).version
        except Exception:
            return None


def test_the_command(shop: Shop, rolling: RunningServer, tmp_path: Path) -> None:
    """A good version stays under the label and the next line to type is given; twice is once."""
    before = shop.write()
    code, out, _ = _ask(shop, rolling, _SURER, "--dry-run")
    assert code == 0
    assert "+" in out
    assert shop.config.read_text() == before
    np.save(tmp_path / "x.npy", draw(40))
    for _ in range(2):
        code, out, errors = _ask(shop, rolling, _SURER, "--inputs", tmp_path / "x.npy")
        assert code == 0, out + errors
        assert "40 rows in 40 requests: promote" in out
        assert "reach version 2" in errors or "the highest" in errors
        following, caution = out.splitlines()[-2:]
        assert caution.startswith("on 40 rows only: enough to find a broken version, too few to find a slightly worse")
        following = following.removeprefix("next: ")
        assert shlex.split(following)[:4] == ["tfbundle", "promote", "c", str(_SURER)]
        assert (_serves(rolling, "canary"), _serves(rolling, "stable")) == (_SURER, 1)
    assert shop.config.read_text().startswith("# kept\n")


@pytest.mark.parametrize("keep", [False, True])
def test_a_refused_canary_is_put_back(shop: Shop, rolling: RunningServer, keep: bool) -> None:
    """After a don't the file is as before, byte for byte, and the label, too; unless it is to be kept."""
    before = shop.write()
    with Client(rolling.grpc_url, timeout=30) as client:
        client.reload_config(before)
    code, out, _ = _ask(shop, rolling, _BROKEN, "--json", *(["--keep"] if keep else []))
    found = json.loads(out)
    assert (code, found["verdict"], found["next"]) == (1, "don't", None)
    assert (shop.config.read_text() == before) is not keep
    assert _serves(rolling, "canary") == (_BROKEN if keep else None)
    assert _serves(rolling, "stable") == 1


def test_a_refused_canary_that_was_loaded_before(shop: Shop, rolling: RunningServer) -> None:
    """It stays loaded, so the line that drops it is given, and what to do if the change is meant."""
    with Client(rolling.grpc_url, timeout=30) as client:
        client.reload_config(shop.write())
    assert "to give it up: " not in _ask(shop, rolling, _BROKEN)[1]
    _ask(shop, rolling, _BROKEN, "--keep")
    code, out, _ = _ask(shop, rolling, _BROKEN)
    assert code == 1
    rest = f"--server {rolling.grpc_url} --config {shop.config}"
    assert f"to give it up: tfbundle canary c --drop {rest}" in out
    meant = out.splitlines()[-1]
    assert meant.startswith("if the change is meant: --labels y.npy, the true classes of the inputs, lets accuracy")
    assert meant.endswith(f"`tfbundle promote c {_BROKEN} --label stable {rest}` anyway")


def test_a_model_that_the_file_does_not_have(shop: Shop, rolling: RunningServer) -> None:
    """That is said first, as promote says it, not that nothing has its label."""
    shop.write()
    out, errors = io.StringIO(), io.StringIO()
    words = ["canary", "iris", "1", "--server", rolling.grpc_url, "--config", str(shop.config)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        assert main(words) == 2
    assert "has no model iris; it has c" in errors.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([_CORRUPT], "could not be loaded"),
        ([99], "version 99"),
        ([1], "has the label stable already"),
        ([_SURER, "--label", "gold"], "no version of c has the label gold"),
        ([_SURER, "--label", "canary"], "needs a label of its own"),
        ([_SURER, "--labels", __file__], "is not a .npy file"),
        ([_SURER, "--inputs", __file__], "it is no TFRecord file; nothing was changed"),
        ([_SURER, "--inputs", os.devnull], "could be compared: there is none; nothing was changed"),
        ([_SURER, "--signature", "nope"], "has no signature nope; it has"),
        ([_SURER, "--inputs", "narrow.npy"], "does not take them: "),
        ([_SURER, "--inputs", "five.npy", "--labels", "six.npy"], "6 true classes and 5 rows"),
        ([], "VERSION is missing"),
        ([_SURER, "--drop", "--keep"], "--drop compares nothing"),
        ([_SURER, "--max-latency-ratio", "nan"], "'nan' is not a number"),
    ],
)
def test_no_verdict(
    shop: Shop,
    rolling: RunningServer,
    arguments: list[object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing could be compared, the exit code is 2, one line says why, and all is as before."""
    monkeypatch.chdir(tmp_path)
    for name, array in (("narrow", draw(5)[:, :1]), ("five", draw(5)), ("six", np.zeros(6, int))):
        np.save(f"{name}.npy", array)
    before = shop.write()
    code, out, errors = _ask(shop, rolling, *arguments)
    assert (code, out) == (2, "")
    (line,) = [each for each in errors.splitlines() if each.startswith("error:")]
    assert message in line
    assert ("asking" in errors) is False
    assert shop.config.read_text() == before
    assert _serves(rolling, "stable") == 1


def _request(rows: int, first_row: int = 0, width: int = 4) -> Request:
    return Request(
        signature="s", method_name="m", inputs={"x": np.zeros((rows, width))}, rows=rows, first_row=first_row
    )


def test_joining_keeps_every_row_once() -> None:
    """Whatever the sizes and shapes are, each request is in one block, and blocks are bounded."""
    random = np.random.default_rng(3)
    requests = [
        _request(int(rows), place, int(width))
        for place, (rows, width) in enumerate(random.integers(1, (300, 4), (200, 2)))
    ]
    blocks = list(join(requests, lambda _: True))
    assert sorted(each.first_row for block in blocks for each in block) == list(range(200))
    assert all(sum(each.rows for each in block) <= 512 for block in blocks)
    assert len(blocks) < 100
    assert all(put_together(block).rows == sum(each.rows for each in block) for block in blocks)
    assert all(len(block) == 1 for block in join(requests, lambda _: False))


def test_classes_in_another_order() -> None:
    """Scores are compared label by label, in whatever order a version lists them."""

    def found(labels: list[list[str]], scores: list[list[float]]) -> Classifications:
        return Classifications(
            model="m",
            version=1,
            signature="s",
            labels=np.array(labels, object),
            scores=np.array(scores, np.float32),
            latency_s=0.0,
        )

    one = read_classes(found([["a", "b"], ["a", "b"]], [[0.9, 0.1], [0.2, 0.8]]))
    other = read_classes(found([["a", "b"], ["b", "a"]], [[0.9, 0.1], [0.8, 0.2]]))
    assert one["class"].tolist() == other["class"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(one["scores"], other["scores"])
    top = read_classes(found([["a", "b"], ["c", "a"]], [[0.9, 0.1], [0.8, 0.2]]))
    assert (list(top), top["class"].tolist()) == (["class"], ["a", "c"])
    unnamed = read_classes(found([["", ""]], [[0.1, 0.9]]))
    assert (unnamed["class"].tolist(), unnamed["scores"].shape) == ([1], (1, 2))
