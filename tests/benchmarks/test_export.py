"""How long an export takes and how much memory, next to a plain script: pytest tests/benchmarks -m benchmark."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import Report

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

#: Measurements of each; the first warms the disk's cache and is thrown away.
ROUNDS = 4

#: What somebody writes who knows Keras and nothing of us.
PLAIN = """
import json, resource, sys, time
begun = time.perf_counter()
import tensorflow as tf
import keras
keras.models.load_model(sys.argv[1], compile=False).export(sys.argv[2], verbose=False)
took = time.perf_counter() - begun
print(json.dumps({"s": took, "kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""
OURS = """
import json, resource, sys, time
begun = time.perf_counter()
from tfbundle_exporter import export_model
version = export_model(sys.argv[1], sys.argv[2] + "/m")
took = time.perf_counter() - begun
kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"s": took, "kb": kb, "gate": version.seconds["gate"]}))
"""

Figures = list[dict[str, float]]


@pytest.fixture(scope="module", params=["m.keras", "m.h5"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 100 MB in one of Keras's formats."""
    import keras

    path = tmp_path_factory.mktemp("source") / str(request.param)
    hidden = [keras.layers.Dense(2048, activation="relu") for _ in range(6)]
    model = keras.Sequential([keras.Input((512,), name="x"), *hidden, keras.layers.Dense(1024, name="y")])
    model.save(path)
    assert 90e6 < path.stat().st_size < 110e6
    return path


def measure(source: Path, folder: Path) -> dict[str, Figures]:
    """Run both programs in turn, each in a process of its own."""
    found: dict[str, Figures] = {"plain": [], "ours": []}
    for number in range(ROUNDS):
        for name, program in (("plain", PLAIN), ("ours", OURS)):
            command = [sys.executable, "-W", "ignore", "-c", program, str(source), str(folder / f"{name}-{number}")]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {name: figures[1:] for name, figures in found.items()}


def median(figures: Figures, what: str) -> float:
    """Give the median of one figure."""
    return statistics.median(each[what] for each in figures)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras advises against its own .h5
def test_an_export_of_a_hundred_megabytes(source: Path, tmp_path: Path, report: Report) -> None:
    """Hashes, figures, golden outputs and the wait for a proof cost little beside TensorFlow's own work."""
    found = measure(source, tmp_path)
    plain_s, plain_kb = median(found["plain"], "s"), median(found["plain"], "kb")
    ours_s = median([{"s": each["s"] - each["gate"]} for each in found["ours"]], "s")
    what = f"export of 100 MB {source.suffix}"
    report.time(f"{what}, plain script (wall time)", plain_s)
    report.time(f"{what}, ours without the gate (wall time)", ours_s)
    report.ratio(f"{what}, without the gate, of the script's time", ours_s / plain_s, 1.5, at_most=True)
    report.ratio(f"{what}, with the gate, of the script's time", median(found["ours"], "s") / plain_s, 3, at_most=True)
    report.ratio(f"{what}, peak memory, of the script's", median(found["ours"], "kb") / plain_kb, 1.2, at_most=True)
