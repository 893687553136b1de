"""tfbundle predict, status, metadata, parity, versions: as a person or a script calls them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.servers import RunningServer
from tfbundle.cli import main
from tfbundle_client.cli import main as client_main
from tfbundle_serving.apis.golden import Golden, write_golden

_X = np.linspace(-4, 4, 11, dtype=np.float32)
Captured = pytest.CaptureFixture[str]


def _run(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    done = capsys.readouterr()
    return code, done.out, done.err


def _answer(capsys: Captured, *arguments: str) -> Any:
    code, out, err = _run(capsys, "predict", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize(
    "given",
    [
        "[1, 2, 5]",
        '{"instances": [1, 2, 5]}',
        '{"inputs": [1.0, 2.0, 5.0]}',
        '{"inputs": {"x": [1, 2, 5]}}',
        '{"x": [1, 2, 5]}',
    ],
)
def test_predict_takes_json(capsys: Captured, url: str, given: str) -> None:
    """JSON is taken in TensorFlow Serving's own forms and as bare values, over both transports."""
    answer = _answer(capsys, url, "half_plus_two", "--input", given)
    assert answer["outputs"] == {"y": [2.5, 3.0, 4.5]}
    assert (answer["model"], answer["version"], answer["signature"]) == ("half_plus_two", 123, "serving_default")


def test_predict_takes_files(capsys: Captured, url: str, tmp_path: Path) -> None:
    """Arrays are taken from .npy and .npz, one by one or by name, JSON from a file."""
    np.save(tmp_path / "x.npy", _X)
    np.savez(tmp_path / "in.npz", x=_X)
    (tmp_path / "in.json").write_text(json.dumps({"instances": [{"x": float(each)} for each in _X]}))
    expected = (_X / 2 + 2).tolist()
    for given in (f"{tmp_path}/x.npy", f"{tmp_path}/in.npz", f"{tmp_path}/in.json", f"x={tmp_path}/x.npy"):
        got = _answer(capsys, url, "half_plus_two", "--input", given)["outputs"]["y"]
        np.testing.assert_allclose(got, expected, rtol=1e-7)


def test_predict_reads_standard_input(capsys: Captured, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash is JSON on standard input."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"instances": [4]}')))
    assert _answer(capsys, url, "half_plus_two", "--input", "-")["outputs"] == {"y": [4.0]}


def test_predict_chooses_signature_outputs_and_version(capsys: Captured, url: str) -> None:
    """Options go through to the call; a body may name the signature itself."""
    both = '{"a": [[1, 2, 3]], "b": [[1, 1, 1]]}'
    answer = _answer(capsys, url, "two_inputs", "--input", both, "--outputs", "sum", "--version", "1")
    assert answer["outputs"] == {"sum": [[2.0, 3.0, 4.0]]}
    assert list(_answer(capsys, url, "two_inputs", "--input", both, "--signature", "only_sum")["outputs"]) == ["sum"]
    body = json.dumps({"signature_name": "only_sum", "inputs": json.loads(both)})
    assert _answer(capsys, url, "two_inputs", "--input", body)["signature"] == "only_sum"


def test_predict_takes_several_named_files(capsys: Captured, url: str, tmp_path: Path) -> None:
    """NAME=FILE gives each input its array."""
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.ones((1, 3), np.float32))
    given = [f"--input={name}={tmp_path}/{name}.npy" for name in "ab"]
    assert _answer(capsys, url, "two_inputs", *given)["outputs"]["sum"] == [[2.0, 2.0, 2.0]]


def test_predict_rounds_when_asked(capsys: Captured, url: str, tmp_path: Path) -> None:
    """A float64 file is refused for a float32 input, and sent with --cast."""
    np.save(tmp_path / "x.npy", _X.astype(np.float64))
    code, out, err = _run(capsys, "predict", url, "half_plus_two", "--input", f"{tmp_path}/x.npy")
    assert (code, out) == (1, "")
    assert "wants float32 (?,), got float64 (11,)" in err
    assert len(_answer(capsys, url, "half_plus_two", "--input", f"{tmp_path}/x.npy", "--cast")["outputs"]["y"]) == 11


def test_predict_shows_a_table(capsys: Captured, url: str) -> None:
    """Without --json the outputs are shown with dtype, shape and values."""
    code, out, err = _run(capsys, "predict", url, "half_plus_two", "--input", "[1]")
    assert (code, err) == (0, "")
    head, columns, row = out.splitlines()
    assert head.startswith("half_plus_two version 123, signature serving_default, ")
    assert columns.split() == ["output", "dtype", "shape", "values"]
    assert row.split() == ["y", "float32", "(1,)", "[2.5]"]


def test_predict_writes_files(capsys: Captured, url: str, tmp_path: Path) -> None:
    """--output keeps the arrays in .npy, .npz or .json."""
    for name in ("out.npy", "out.npz", "out.json"):
        code, out, err = _run(
            capsys, "predict", url, "half_plus_two", "--input", "[1]", "--output", f"{tmp_path}/{name}"
        )
        assert (code, out) == (0, "")
        assert name in err
    assert np.load(tmp_path / "out.npy").tolist() == [2.5]
    assert np.load(tmp_path / "out.npz")["y"].tolist() == [2.5]
    assert json.loads((tmp_path / "out.json").read_text())["outputs"] == {"y": [2.5]}


def test_floats_are_as_short_as_they_round_trip(capsys: Captured, url: str) -> None:
    """A float32 0.1 is 0.1, not 0.10000000149011612."""
    answer = _answer(capsys, url, "identities", "--input", "[[0.1, 1e10]]", "--signature", "float32")
    assert answer["outputs"] == {"y": [[0.1, 1e10]]}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope", "--input", "[1]"], 1, "Servable not found for request: Latest(nope)"),
        (["half_plus_two", "--input", "[1", "--version", "123"], 1, "--input: JSON Parse error"),
        (["half_plus_two", "--input", "missing.npy"], 1, "No such file or directory: missing.npy; --input takes .npy"),
        (["half_plus_two", "--input", "[1]", "--output", "out.xyz"], 2, "takes .npz, .npy, .json, and where a file is"),
        (["half_plus_two", "--input", "data.csv"], 2, "--input takes .npy, .npz, .json or JSON itself"),
        (["half_plus_two"], 2, "say what to send: --input FILE|JSON"),
        (["half_plus_two", "--input", "[1]", "--version", "1", "--label", "x"], 2, "--version or --label, not both"),
        (["half_plus_two", "--input", "[1]", "--outputs", "z"], 1, "there is no output 'z'"),
        (["half_plus_two", "--input", "[1]", "--header", "x"], 2, "--header takes NAME=VALUE"),
        (["half_plus_two", "--input", "[1]", "--nope"], 2, "No such option"),
    ],
)
def test_predict_says_what_is_wrong(capsys: Captured, url: str, arguments: list[str], code: int, message: str) -> None:
    """Errors are one line on standard error; 1 is a failure, 2 is misuse; nothing goes to standard output."""
    got, out, err = _run(capsys, "predict", url, *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_file_that_is_none(capsys: Captured, url: str, tmp_path: Path) -> None:
    """A damaged .npy and one with Python objects name the file."""
    for content in (b"nonsense", _pickled()):
        (tmp_path / "x.npy").write_bytes(content)
        code, _, err = _run(capsys, "predict", url, "half_plus_two", "--input", f"{tmp_path}/x.npy")
        assert code == 1
        assert f"{tmp_path}/x.npy is not a .npy file" in err


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    return file.getvalue()


def test_status(capsys: Captured, url: str) -> None:
    """The status is a table, or TensorFlow Serving's own JSON."""
    code, out, _ = _run(capsys, "status", url, "half_plus_two", "--wait", "10")
    assert code == 0
    assert out.splitlines()[-1].split() == ["123", "AVAILABLE"]
    code, out, _ = _run(capsys, "status", url, "half_plus_two", "--json")
    assert code == 0
    assert json.loads(out)["model_version_status"][0]["state"] == "AVAILABLE"


def test_status_of_what_is_not_there(capsys: Captured, url: str, free_port: int) -> None:
    """An unknown model, an unknown version and an unreachable server exit with 1."""
    assert _run(capsys, "status", url, "nope")[0] == 1
    assert _run(capsys, "status", url, "half_plus_two", "--version", "9")[0] == 1
    code, out, err = _run(capsys, "status", f"{url.partition(':')[0]}://127.0.0.1:{free_port}", "m")
    assert (code, out) == (1, "")
    assert "no connection to" in err


def test_metadata(capsys: Captured, url: str) -> None:
    """The signatures are a table, or TensorFlow Serving's own JSON."""
    code, out, _ = _run(capsys, "metadata", url, "two_inputs")
    assert code == 0
    assert ["only_sum", "input", "a", "float32", "(?,", "3)"] in [line.split() for line in out.splitlines()]
    code, out, _ = _run(capsys, "metadata", url, "two_inputs", "--json")
    assert code == 0
    assert json.loads(out)["model_spec"]["version"] == "1"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """What half_plus_two answers."""
    path = tmp_path / "golden.npz"
    write_golden(path, {"serving_default": Golden({"x": _X}, {"y": _X / 2 + 2})})
    return path


def test_parity_equal(capsys: Captured, server: RunningServer, golden: Path, tmp_path: Path) -> None:
    """Equal exits with 0, has a row for each transport, and writes the page."""
    html = tmp_path / "report.html"
    np.save(tmp_path / "labels.npy", (_X / 2 + 2 > 0.5).astype(int))
    arguments = [
        *("parity", server.grpc_url, "half_plus_two", "--also", server.rest_url, "--reference", str(golden)),
        *("--labels", str(tmp_path / "labels.npy"), "--html", str(html)),
    ]
    code, out, err = _run(capsys, *arguments)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["gRPC", "REST", "expected:"]
    assert out.count("100.00%") == 4
    assert str(html) in err
    assert "Equal over gRPC and REST" in html.read_text()
    code, out, _ = _run(capsys, *arguments, "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "equal")


def test_parity_differs(capsys: Captured, url: str, tmp_path: Path) -> None:
    """Different exits with 1 and says where; a tolerance that allows it exits with 0."""
    path = tmp_path / "golden.npz"
    expected = _X / 2 + 2
    expected[3] += 0.25
    write_golden(path, {"serving_default": Golden({"x": _X}, {"y": expected})})
    code, out, err = _run(capsys, "parity", url, "half_plus_two", "--reference", str(path))
    assert (code, err) == (1, "")
    assert "output y: 1 of 11 values differ by more than" in out
    assert "at [3] expected" in out
    assert _run(capsys, "parity", url, "half_plus_two", "--reference", str(path), "--atol", "0.3")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["half_plus_two", "--version", "9"],
        ["half_plus_two", "--label", "nope"],
        ["half_plus_two", "--rtol", "x"],
    ],
)
def test_parity_could_not_compare(capsys: Captured, url: str, golden: Path, arguments: list[str]) -> None:
    """No verdict exits with 2, which is neither equal nor different."""
    code, out, err = _run(capsys, "parity", url, *arguments, "--reference", str(golden))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_parity_without_reference_or_server(
    capsys: Captured, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Path, free_port: int
) -> None:
    """A missing reference (by default models/MODEL), a missing label file and an unreachable server exit with 2."""
    monkeypatch.chdir(tmp_path)
    code, _, err = _run(capsys, "parity", url, "half_plus_two")
    assert code == 2
    assert "models/half_plus_two" in err
    assert _run(capsys, "parity", url, "half_plus_two", "--reference", str(golden), "--labels", "none.npy")[0] == 2
    scheme = url.partition(":")[0]
    assert _run(capsys, "parity", f"{scheme}://127.0.0.1:{free_port}", "m", "--reference", str(golden))[0] == 2


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path whose version 123 is served and bears the tag 1.4.0; 124 is not served, 125 is damaged."""
    base = tmp_path / "half_plus_two"
    for number in (123, 124, 125):
        (base / str(number) / "assets.extra").mkdir(parents=True)
        (base / str(number) / "saved_model.pb").touch()
    told = {
        "tag": "1.4.0",
        "created_at": "2026-01-02T03:04:05Z",
        "source": {"name": "half.h5"},
        "parity": {"max_abs_diff": 1.5e-7, "noise_floor": 0.0},
    }
    (base / "123" / "metadata.json").write_text(json.dumps(told))
    (base / "125" / "metadata.json").write_text("{")
    write_golden(base / "123/assets.extra/golden.npz", {"serving_default": Golden({"x": _X}, {"y": _X / 2 + 2})})
    return base


def test_a_tag_stands_for_a_version(capsys: Captured, url: str, base: Path) -> None:
    """Every command that takes a version takes its tag, which --base-path tells the number of."""
    tagged = ["half_plus_two", "--version", "1.4.0", "--base-path", str(base)]
    assert _answer(capsys, url, *tagged, "--input", "[2]")["version"] == 123
    assert _run(capsys, "status", url, *tagged)[0] == 0
    code, out, _ = _run(capsys, "metadata", url, *tagged, "--json")
    assert (code, json.loads(out)["model_spec"]["version"]) == (0, "123")
    assert _run(capsys, "parity", url, *tagged)[0] == 0
    code, out, _ = _run(
        capsys, "parity", url, "half_plus_two", "--version", "1.4.0", "--reference", str(base / "123"), "--json"
    )
    assert (code, json.loads(out)["version"]) == (0, 123)


@pytest.mark.parametrize(
    ("command", "code"), [("predict --input [1]", 1), ("status", 1), ("metadata", 1), ("parity", 2)]
)
def test_a_tag_that_nobody_bears(capsys: Captured, url: str, base: Path, command: str, code: int) -> None:
    """An unknown tag lists the known ones; a tag without a base path says which option is missing."""
    name, *rest = command.split()
    got, out, err = _run(capsys, name, url, "half_plus_two", *rest, "--version", "spring", "--base-path", str(base))
    assert (got, out) == (code, "")
    assert "has no version of the tag spring; it has 123 (tag 1.4.0), 124, 125" in err
    got, out, err = _run(capsys, name, url, "half_plus_two", *rest, "--version", "1.4.0")
    assert (got, out) == (2, "")
    assert "--base-path models/MODEL" in err if name != "parity" else "models/half_plus_two" in err


def test_versions(capsys: Captured, url: str, base: Path) -> None:
    """The versions are listed with what their folders say, and their state where a server is named."""
    assert client_main(["versions", str(base)]) == 0
    head, columns, first, second, third = capsys.readouterr().out.splitlines()
    assert head == f"half_plus_two in {base}"
    assert columns.split() == ["version", "tag", "created", "size", "source", "max", "abs", "diff", "remark"]
    assert first.split() == ["123", "1.4.0", "2026-01-02T03:04:05Z", *first.split()[3:5], "half.h5", "1.5e-07"]
    assert second.split() == ["124", "-", "-", "0", "B", "-", "-"]
    assert "metadata.json is not JSON" in third
    (base / "123").rename(base / "gone")
    assert client_main(["versions", str(base), "--server", url, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["versions"]
    assert [(each["version"], each["state"], each["is_there"]) for each in listed] == [
        (123, "AVAILABLE", False),
        (124, "", True),
        (125, "", True),
    ]
    assert client_main(["versions", str(base), "--server", url, "--model", "unknown"]) == 0


def test_versions_of_what_is_no_base_path(capsys: Captured, base: Path) -> None:
    """A folder of models names those in it, what is missing or a version says what was expected."""
    for path, message in {
        base.parent: f"there is no version folder in {base.parent}; these in it have some: {base.name}",
        base / "124": f"there is no version folder in {base / '124'}; expected a base path",
        base / "nope": f"{base / 'nope'} is no folder; expected a base path",
    }.items():
        code, out, err = _run(capsys, "versions", str(path))
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"), [(["demo"], "keras", "all"), (["serve", "m"], "google", "serve")]
)
def test_a_command_without_its_packages(tmp_path: Path, arguments: list[str], missing: str, extra: str) -> None:
    """With only the client installed, a command that needs more says how to install it, and leaves nothing behind."""
    # None in sys.modules is how Python is told that there is no such module.
    script = f"import sys; sys.modules[{missing!r}] = None; from tfbundle.cli import main; sys.exit(main({arguments}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"pip install 'tfbundle[{extra}]'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["predict", "status", "metadata", "parity"])
def test_help(capsys: Captured, command: str) -> None:
    """--help of each command tells its options and exits with 0."""
    code, out, _ = _run(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"Usage: tfbundle {command} ")
    assert "--timeout" in out
    assert "--json" in out
