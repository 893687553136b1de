"""Whoever looks at a base path while versions are published sees whole ones, or none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.nursery import NURSERY
from tfbundle_exporter import export_model

LOOKS = 20_000
WEIGHTS = 4_000_000

#: A process of its own, so that it looks while the exporter works. It says how often it looked, how often a version was
#: in the making, which versions it saw, and each incomplete one.
WATCHER = """
import json, os, sys
base, looks, weights_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
needed = {"saved_model.pb": 1, "metadata.json": 1, "fingerprint.pb": 1, "variables/variables.index": 1,
          "variables/variables.data-00000-of-00001": weights_bytes, "assets.extra/golden.npz": 1,
          "assets.extra/tf_serving_warmup_requests": 1}
count, staging, seen, bad, stopped = 0, 0, set(), [], False
while count < looks or not stopped:
    stopped = os.path.exists(base + "/../stop")  # before the look, so that the last one sees everything
    names = os.listdir(base)
    count += 1
    staging += any(name.startswith(".staging-") for name in names)
    for name in names:
        if not name.isdigit():
            continue
        if name not in seen:
            json.load(open(f"{base}/{name}/metadata.json"))
            seen.add(name)
        for file, size in needed.items():
            try:
                found = os.stat(f"{base}/{name}/{file}").st_size
            except OSError as error:
                bad.append(str(error))
                continue
            if found < size:
                bad.append(f"{name}/{file} has {found} bytes")
print(json.dumps({"looks": count, "staging": staging, "seen": sorted(seen), "bad": bad[:10]}))
"""


def test_twenty_thousand_looks_see_no_incomplete_version(keras: Any, tmp_path: Path) -> None:
    """A busy watcher of a base path into which 16 MB models are exported sees each version whole at its first look."""
    base = tmp_path / "m"
    base.mkdir()
    model = keras.Sequential([keras.Input((1000,), name="x"), keras.layers.Dense(WEIGHTS // 1000, use_bias=False)])
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(base), str(LOOKS), str(4 * WEIGHTS)], stdout=subprocess.PIPE, text=True
    )
    try:
        versions = [str(export_model(model, base).version) for _ in range(3)]
    finally:
        (tmp_path / "stop").touch()
        output, _ = watcher.communicate(timeout=60)
    found = json.loads(output)
    assert found["bad"] == []
    assert found["looks"] >= LOOKS
    assert found["seen"] == versions
    assert found["staging"] > 1000, "the watcher hardly saw an export going on; the test proves nothing"


def test_two_exporters_make_two_versions(keras: Any, tmp_path: Path) -> None:
    """Two processes that export into one base path at once neither lose nor share a version."""
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    command = ["export", str(tmp_path / "m.keras"), str(tmp_path / "m"), "--quiet"]
    racing = [
        NURSERY.start(command, tmp_path / f"out-{number}", {}, errors=tmp_path / f"errors-{number}")
        for number in range(2)
    ]
    ended = [process.wait(120) for process in racing]
    assert ended == [0, 0], [path.read_text() for path in tmp_path.glob("errors-*")]
    assert sorted((tmp_path / f"out-{number}").read_text() for number in range(2)) == ["1\n", "2\n"]
    for number in (1, 2):
        assert json.loads((tmp_path / f"m/{number}/metadata.json").read_text())["version"] == number
