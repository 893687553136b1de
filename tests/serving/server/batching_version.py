"""Versions in this process whose runs are kept, and models whose rows may run together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests.models import save_two_inputs
from tfbundle_serving.apis.predict import Arrays
from tfbundle_serving.config.batching import BatchingParameters, BatchingSettings
from tfbundle_serving.server.batching_run import Run
from tfbundle_serving.server.live_version import LiveVersion
from tfbundle_serving.server.runner import Runner
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.settings import LoadSettings

JOINED = BatchingSettings()

ALONE = BatchingSettings(enabled=False)

#: More turns of a loop than any test waits for.
FOREVER = 2_000_000_000


def floats(values: Any) -> NDArray[np.float32]:
    """Make an array of float32."""
    return np.array(values, np.float32)


def ints(values: Any) -> NDArray[np.int32]:
    """Make an array of int32."""
    return np.array(values, np.int32)


def asked(**parameters: Any) -> BatchingSettings:
    """Batching as --enable_batching and a parameters file ask for it."""
    return BatchingSettings(enabled=True, parameters=BatchingParameters(**parameters))


class Recording(Servable):
    """A servable that keeps what it was given."""

    def __init__(self, folder: Path, batching: BatchingSettings) -> None:
        super().__init__(folder, LoadSettings(batching=batching))
        self.given: list[Arrays] = []

    def run(
        self, signature_name: str, inputs: Arrays, outputs: tuple[str, ...], timeout_s: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Keep the inputs and run them."""
        self.given.append(inputs)
        return super().run(signature_name, inputs, outputs, timeout_s)


class Version:
    """A loaded version and a runner for it."""

    def __init__(self, folder: Path, batching: BatchingSettings) -> None:
        self.servable = Recording(folder, batching)
        self.live = LiveVersion("model", 1, self.servable)
        self.runner = Runner(8)

    def ask(
        self, *, outputs: tuple[str, ...] = ("y",), signature: str = "", timeout_s: float | None = 60.0, **inputs: Any
    ) -> Awaitable[dict[str, NDArray[Any]]]:
        """Ask the runner for a run."""
        arrays = {alias: np.asarray(value) for alias, value in inputs.items()}
        return self.runner.run(self.live, Run(signature or "serving_default", arrays, outputs), timeout_s)

    def ask_all(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Ask for several runs at the same moment; answers or errors in the same order."""

        async def ask() -> list[Any]:
            return list(await asyncio.gather(*(self.ask(**each) for each in requests), return_exceptions=True))

        return asyncio.run(ask())

    def rows(self) -> list[int]:
        """Rows of each run until now."""
        return [len(next(iter(inputs.values()))) for inputs in self.servable.given]


def save_batchable(root: Path) -> Path:
    """Write version folders of models whose rows are independent, each declared batchable."""

    def save(name: str, function: Callable[..., Any], *specs: Any) -> None:
        module = tf.Module()
        module.f = tf.function(function, input_signature=specs, autograph=False)
        tf.saved_model.save(module, str(root / name), signatures={"serving_default": module.f})

    def count_up(n: Any, x: Any) -> Any:
        most = tf.reduce_max(n)
        end = tf.while_loop(lambda i: i < most, lambda i: (i + 1,), (tf.constant(0),), parallel_iterations=1)[0]
        return {"y": x + 0 * tf.cast(end, tf.float32)}

    row = tf.TensorSpec([None], tf.float32, name="x")
    save("half", lambda x: {"y": x / 2 + 2}, row)
    save("numbers", lambda text: {"y": tf.strings.to_number(text)}, tf.TensorSpec([None], tf.string, name="text"))
    save("sums", lambda x: {"y": tf.reduce_sum(x, 1)}, tf.TensorSpec([None, None], tf.float32, name="x"))
    save("mean", lambda x: {"y": x, "mean": tf.reduce_mean(x)}, row)
    save("first", lambda x: {"y": x[:1]}, row)
    save("slow", count_up, tf.TensorSpec([None], tf.int32, name="n"), row)
    save_two_inputs(root / "two_inputs")
    for folder in root.iterdir():
        (folder / "metadata.json").write_text(json.dumps({"batchable": True}))
    return root
