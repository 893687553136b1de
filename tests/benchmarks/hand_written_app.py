"""What people write by hand: a FastAPI app that calls a SavedModel in its thread pool, on uvicorn.

    python tests/benchmarks/hand_written_app.py VERSION_FOLDER PORTS_FILE

Where FastAPI is not installed, the same is done by hand on bare ASGI, which is quicker.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import uvicorn


def load(folder: str) -> Any:
    """Load the signature and give a function from the parsed body to the reply."""
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]

    def predict(instances: list[Any]) -> dict[str, Any]:
        outputs = signature(x=tf.constant(np.asarray(instances, np.float32)))
        return {"predictions": outputs["y"].numpy().tolist()}

    predict.keep = loaded  # type: ignore[attr-defined]  # the variables die with the object
    return predict


def fastapi_app(predict: Any) -> Any:
    """Make the app with FastAPI, whose thread pool runs plain functions."""
    # Not in the development group, so that types of it cannot be had.
    fastapi: Any = importlib.import_module("fastapi")
    app = fastapi.FastAPI()

    @app.post("/v1/models/m:predict")
    def answer(body: dict[str, Any] = fastapi.Body()) -> dict[str, Any]:  # noqa: B008
        reply: dict[str, Any] = predict(body["instances"])
        return reply

    return app


def bare_app(predict: Any) -> Any:
    """Make the app on bare ASGI with a thread pool as large as FastAPI's."""
    pool = ThreadPoolExecutor(40)

    async def app(_: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        loop = asyncio.get_running_loop()
        reply = json.dumps(await loop.run_in_executor(pool, predict, json.loads(body)["instances"])).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(reply)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


def main(folder: str, ports_file: str) -> None:
    """Serve until killed."""
    predict = load(folder)
    try:
        app = fastapi_app(predict)
    except ModuleNotFoundError:
        app = bare_app(predict)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False))
        written = Path(ports_file + ".new")
        written.write_text(json.dumps({"rest": listening.getsockname()[1], "app": app.__class__.__name__}))
        written.rename(ports_file)
        server.run([listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
