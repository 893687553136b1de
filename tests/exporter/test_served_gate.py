"""The gate over the wire: a real server is started on a staged version and must answer like the source."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models import save_half_plus, save_identities
from tfbundle_exporter.proof.gate import pass_gate
from tfbundle_exporter.proof.reference import Predict, Reference, ask
from tfbundle_exporter.proof.served_gate import pass_served_gate
from tfbundle_exporter.settings import GateSettings
from tfbundle_serving.apis.errors import ExportError, GateError

X = {"x": np.linspace(-1, 1, 9, dtype=np.float32)}


def half_plus(addend: float) -> Predict:
    """Play the source model y = x / 2 + addend."""
    return lambda inputs: {"y": (inputs["x"] / np.float32(2) + np.float32(addend)).astype(np.float32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A staged y = x / 2 + 2."""
    return save_half_plus(tmp_path_factory.mktemp("staged") / "version")


@pytest.fixture(scope="module")
def references() -> dict[str, Reference]:
    """What its source answers."""
    return {"serving_default": ask(half_plus(2), X)}


def test_the_embedded_server_answers_like_the_source(folder: Path, references: dict[str, Reference]) -> None:
    """Both transports are compared, and neither server nor scratch folder stays."""
    before = sorted(path.name for path in folder.rglob("*"))
    report = pass_gate(folder, references, GateSettings(serve=True), model_name="half plus")
    assert report.served is not None
    assert report.served.max_abs_diff.keys() == {"grpc", "rest"}
    assert max(report.served.max_abs_diff.values()) < 1e-6
    assert report.served.left_out == ()
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert [path.name for path in folder.parent.iterdir()] == ["version"]


#: A server of the user's own that answers wrongly: the model it serves is another one than it was given.
WRONG = (
    f"{sys.executable} -m tfbundle serve --port=0 --rest_api_port={{rest_port}} "
    "--model_name={model_name} --model_base_path=OTHER"
)


def test_a_server_that_answers_wrongly(tmp_path: Path, references: dict[str, Reference]) -> None:
    """Transport, signature, output and batch stand in the error; the server is the one that the user named."""
    other = save_half_plus(tmp_path / "other/1", addend=2.5).parent
    staged = save_half_plus(tmp_path / "staged/version")
    command = WRONG.replace("OTHER", str(other))
    with pytest.raises(GateError) as caught:
        pass_served_gate(staged, references, model_name="m", command=command)
    assert "over rest, signature 'serving_default', output 'y', batch of 1: the server does not answer" in str(
        caught.value
    )


def test_a_version_that_the_server_cannot_load(tmp_path: Path, references: dict[str, Reference]) -> None:
    """The server's own reason is passed on."""
    staged = save_half_plus(tmp_path / "staged/version")
    (staged / "variables/variables.index").unlink()
    with pytest.raises(
        GateError, match=r"tfbundle serve tried the staged version and ended with exit code 1: .*variables"
    ):
        pass_served_gate(staged, references, model_name="m")


def test_dtypes_that_json_lacks_are_left_out_of_rest(tmp_path: Path) -> None:
    """They are compared over gRPC, and the report says what was not compared."""
    staged = save_identities(tmp_path / "staged/version")
    pairs = {name: np.ones((4, 2), name) for name in ("complex64", "int64")}
    references = {name: ask(lambda inputs: {"y": inputs["x"]}, {"x": array}) for name, array in pairs.items()}
    report = pass_served_gate(staged, references, model_name="m")
    assert report.max_abs_diff == {"grpc": 0.0, "rest": 0.0}
    assert len(report.left_out) == 1
    assert report.left_out[0].startswith("rest, signature complex64: input x is of dtype complex64")


@pytest.mark.parametrize(
    ("command", "error", "says"),
    [
        ("serve {base_path}", ExportError, r"names neither \{port\} nor \{rest_port\}"),
        ("serve {port} {folder}", ExportError, r"'folder'.*it may name \{model_name\}, \{base_path\}"),
        ("/no/such/server {port}", ExportError, "cannot start the server '/no/such/server': No such file"),
        (
            f"{sys.executable} -c \"print('no licence'); raise SystemExit(3)\" {{port}}",
            GateError,
            "exit code 3: no licence",
        ),
    ],
    ids=["no port", "unknown place", "missing", "ends"],
)
def test_server_commands_that_do_not_work(
    command: str, error: type[Exception], says: str, folder: Path, references: dict[str, Reference]
) -> None:
    """What is wrong is said at once, and nothing is left of it."""
    with pytest.raises(error, match=says):
        pass_served_gate(folder, references, model_name="m", command=command)
    assert [path.name for path in folder.parent.iterdir()] == ["version"]


def test_another_user_can_read_what_is_tried(folder: Path, references: dict[str, Reference], tmp_path: Path) -> None:
    """The named server meets base path and files that are open to all, whatever the exporter's umask."""
    look = tmp_path / "look.py"
    look.write_text(
        "import os, stat, sys\n"
        "def mode(path): return oct(stat.S_IMODE(os.stat(path).st_mode))\n"
        "base = sys.argv[1]\n"
        "found = {mode(os.path.join(parent, n)) for parent, _, names in os.walk(base) for n in ['.', *names]}\n"
        "print(sorted(found), mode(os.path.dirname(base)), os.path.basename(base)); sys.exit(4)\n"
    )
    command = f"{sys.executable} {look} {{base_path}} {{port}}"
    before = os.umask(0o077)
    try:
        with pytest.raises(GateError, match=r"\['0o644', '0o755'\] 0o755 digits"):
            pass_served_gate(folder, references, model_name="digits", command=command)
    finally:
        os.umask(before)
