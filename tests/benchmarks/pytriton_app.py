"""The same model behind PyTriton; runs in an environment of its own, for what PyTriton needs does not go with ours.

Call: `python tests/benchmarks/pytriton_app.py VERSION_FOLDER ROW_SHAPE HTTP_PORT GRPC_PORT METRICS_PORT`
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(folder: str, row_shape: str, http: str, grpc: str, metrics: str) -> None:
    """Serve until killed."""
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]

    def predict(x: Any) -> dict[str, Any]:
        return {"y": signature(x=tf.constant(x))["y"].numpy()}

    local: Any = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1"}
    ports: Any = {"http_port": int(http), "grpc_port": int(grpc), "metrics_port": int(metrics)}
    with Triton(config=TritonConfig(**local, **ports)) as triton:
        triton.bind(
            "m",
            infer_func=batch(predict),
            inputs=[Tensor(name="x", dtype=np.float32, shape=tuple(json.loads(row_shape)))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(10,))],
            # Joins what is there and waits for nothing, as our server does.
            config=ModelConfig(max_batch_size=128, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
