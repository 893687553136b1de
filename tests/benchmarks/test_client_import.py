"""What the client costs before it does anything: CPU time of its import, size of its installation."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import Report

pytestmark = pytest.mark.benchmark

_ROOT = Path(__file__).parents[2]
#: Of the CPU time of the import that clients of tensorflow-serving-api begin with.
_SHARE = 0.1
_INSTALL_MB = 130
_RUNS = 3

#: Import, client, and a predict that gets as far as the wire.
_FIRST_PREDICT = """
import time
from tfbundle_client import Client, ConnectionFailed
try:
    Client("grpc://127.0.0.1:1").predict("m", [1.0])
except ConnectionFailed:
    pass
import sys
assert "tensorflow" not in sys.modules
print(time.process_time())
"""
#: Unit: what nobody who sends arrays over gRPC can do without.
_FLOOR = "import time, numpy, grpc; print(time.process_time())"
_THEIRS = "import time; from tensorflow_serving.apis import prediction_service_pb2_grpc; print(time.process_time())"


def _cpu_s(code: str, cache: Path) -> float:
    """Run code in a fresh interpreter that keeps compiled modules, as an installed package has them, in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(cache)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def test_import_and_first_predict_are_quick(report: Report, tmp_path: Path) -> None:
    """Import and a first gRPC predict take a tenth of the CPU time of importing the official stubs alone."""
    scripts = {"ours": _FIRST_PREDICT, "floor": _FLOOR, "theirs": _THEIRS}
    for code in scripts.values():
        _cpu_s(code, tmp_path)  # compiles
    took: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(_RUNS):
        for name, code in scripts.items():
            took[name].append(_cpu_s(code, tmp_path))
    medians = {name: statistics.median(each) for name, each in took.items()}
    report.time("import and first gRPC predict, CPU", medians["ours"])
    report.time("import of numpy and grpc, CPU", medians["floor"])
    report.ratio(
        "import and first predict, of the official stubs' import",
        medians["ours"] / medians["theirs"],
        _SHARE,
        at_most=True,
    )


@pytest.mark.network
def test_installation_is_small(tmp_path: Path) -> None:
    """`pip install .` without extras makes site-packages of less than 130 MB, pip itself not counted, and it works."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*install, "--constraint", str(_ROOT / "constraints.txt"), str(_ROOT)], check=True)
    site = next((environment / "lib").glob("python3*/site-packages"))
    size_mb = sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 1e6
    distributions = len(list(site.glob("*.dist-info")))
    print(f"\nsite-packages: {size_mb:.0f} MB, {distributions} distributions")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([str(python), "-c", "import tfbundle_client"], check=True, cwd=tmp_path, env=clean)
    assert size_mb < _INSTALL_MB
