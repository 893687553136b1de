"""Version folders made straight through TensorFlow, with what the exporter puts beside the model.

They do not go through the exporter, so that a fault of it cannot hide one of what reads them; and are made in no time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.golden import Golden, write_golden

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)


def write_version(
    base: Path,
    number: int,
    *,
    kernel: NDArray[np.float32] = KERNEL,
    inputs: tuple[str, ...] = ("x",),
    outputs: tuple[str, ...] = ("y",),
    columns: int | None = 3,
    told: dict[str, Any] | None = None,
    kept: dict[str, bytes] | None = None,
) -> Path:
    """Write a version of y = sum of inputs @ kernel.

    Args:
        base: The base path.
        number: The version's number.
        kernel: The weight, of shape (3, 2) where columns are 3.
        inputs: Names of the inputs.
        outputs: Names of the outputs, all the same.
        columns: Declared size of the inputs' second dimension.
        told: What metadata.json says besides, or instead.
        kept: Files of assets.extra/source.
    """
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(kernel, name="dense/kernel")
    specs = [tf.TensorSpec((None, columns), tf.float32, name=name) for name in inputs]

    def serve(*tensors: Any) -> dict[str, Any]:
        return {name: tf.matmul(tf.add_n(list(tensors)), module.kernel, name=name) for name in outputs}

    folder = base / str(number)
    function = tf.function(serve, autograph=False).get_concrete_function(*specs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})
    (folder / "assets.extra").mkdir()
    rows = X[:, : len(kernel)]
    golden = Golden(dict.fromkeys(inputs, rows), dict.fromkeys(outputs, len(inputs) * rows @ kernel))
    write_golden(folder / "assets.extra" / "golden.npz", {"serving_default": golden})
    for name, content in (kept or {}).items():
        path = folder / "assets.extra" / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return seal(folder, told)


def seal(folder: Path, told: dict[str, Any] | None = None) -> Path:
    """Write metadata.json with the hashes of what is there."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "metadata.json"
    }
    content = {
        "model_name": folder.parent.name,
        "version": int(folder.name),
        "created_at": "2026-01-02T03:04:05Z",
        "batchable": True,
        "deterministic": True,
        "source": {"kind": "live", "name": "tiny", "keras_version": "3.15.1", "sha256": None},
        "parity": {"max_abs_diff": 1e-7, "rows": 4, "batch_sizes": [1, 4]},
        "files": files,
        **(told or {}),
    }
    (folder / "metadata.json").write_text(json.dumps(content))
    return folder
