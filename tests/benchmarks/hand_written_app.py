"""What people write by hand: a FastAPI app that calls a SavedModel in its thread pool, on uvicorn.

Call: `python tests/benchmarks/hand_written_app.py VERSION_FOLDER PORTS_FILE`
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import Body, FastAPI


def make_app(folder: str) -> FastAPI:
    """Make the app; FastAPI runs plain functions in its thread pool."""
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]
    app = FastAPI()
    app.state.loaded = loaded  # the variables die with the object

    @app.post("/v1/models/m:predict")
    def predict(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008  FastAPI's way to say it
        outputs = signature(x=tf.constant(np.asarray(body["instances"], np.float32)))
        return {"predictions": outputs["y"].numpy().tolist()}

    return app


def main(folder: str, ports_file: str) -> None:
    """Serve until killed."""
    app = make_app(folder)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False))
        written = Path(ports_file + ".new")
        written.write_text(json.dumps({"rest": listening.getsockname()[1]}))
        written.rename(ports_file)
        server.run([listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
