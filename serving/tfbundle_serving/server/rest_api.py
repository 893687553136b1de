"""The REST API as an ASGI application.

Small bodies are read and written on the event loop, so that a request makes one hop, to the model and back; large ones
on a worker thread.

Source: tensorflow_serving/model_servers/http_server.cc, http_rest_api_handler.cc; errors outside /v1 are libevent's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from tfbundle_serving.apis import json_document, json_examples, json_reply, json_request
from tfbundle_serving.apis.errors import ApiError, Internal, InvalidArgument
from tfbundle_serving.apis.input_proto import ExamplesRequest
from tfbundle_serving.apis.model_metadata import MetadataRequest, metadata_to_json
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import status_to_json
from tfbundle_serving.config.monitoring import MonitoringConfig

from .dataplane import DataPlane
from .rest_body import DisconnectedError, collect, inflate
from .rest_protocol import page, target
from .rest_routes import Action, BadVersion, bare_path, is_uri, match

log = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
P = ParamSpec("P")
T = TypeVar("T")

#: JSON of more bytes than this is read and written on a worker thread; below it the way there costs more.
_ASIDE_BYTES = 1 << 15
#: A byte of JSON examples, or a class of a reply to them, takes as long as so many bytes of a tensor: they are read and
#: written one by one.
_EXAMPLES_COST = 8

_JSON = (b"content-type", b"application/json")
_HTML = (b"content-type", b"text/html")
_TEXT = (b"content-type", b"text/plain")
#: What libevent lets through; everything else it answers itself.
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)


class RestApi:
    """Translates between HTTP and the data plane.

    Args:
        plane: Answers.
        timeout_s: Time limit of a model run; None means none.
        monitoring: Whether and where metrics are shown.
        show_metrics: Gives what is shown there; None = what this process counted.
    """

    def __init__(
        self,
        plane: DataPlane,
        *,
        timeout_s: float | None = 30.0,
        monitoring: MonitoringConfig | None = None,
        show_metrics: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        self._plane = plane
        self._show_metrics = show_metrics
        self._timeout_s = timeout_s
        self._monitoring = monitoring or MonitoringConfig()
        self._actions: dict[Action, Callable[[ModelSpec, bytes], Awaitable[bytes]]] = {
            Action.PREDICT: self._predict,
            Action.CLASSIFY: self._classify,
            Action.REGRESS: self._regress,
            Action.STATUS: self._status,
            Action.METADATA: self._metadata,
            Action.LIST: self._list,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            reply = await self._answer(scope, receive)
        except DisconnectedError:
            return
        headers = [*reply.headers, (b"content-length", str(len(reply.body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        method = scope["method"]
        if method not in _METHODS:
            return _page(501)
        headers = dict(scope["headers"])
        if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            return _page(417)
        wire = target(scope)
        if not is_uri(wire):
            return _page(400)
        path = wire.decode("ascii")
        if self._monitoring.enable and bare_path(path) == self._monitoring.path:
            return await self._metrics(path)
        if path[:4].lower() != "/v1/":
            return _page(404)
        if method == "OPTIONS":
            origin = headers.get(b"origin", b"")
            is_web = b"http://" in origin or b"https://" in origin
            return Reply(200 if is_web else 400, b"", ())
        return await self._answer_api(method, path, headers, receive)

    async def _answer_api(self, method: str, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> Reply:
        begun = time.perf_counter()
        route = None
        status = "OK"
        try:
            route = match(method, path)
            body = b""
            if method == "POST":
                body = await collect(receive)
                if b"gzip" in headers.get(b"content-encoding", b""):
                    body = await self._plane.aside(inflate, body)
            reply = Reply(200, await self._actions[route.action](route.spec, body))
        except ApiError as error:
            status = error.status_name
            text = b"" if isinstance(error, BadVersion) else json_reply.write_error(error.message)
            reply = Reply(error.http_status, text)
        except DisconnectedError:
            raise
        except Exception as error:  # the outermost place: logged once, answered as our fault
            log.exception("%s %s failed", method, path)
            status = Internal("").status_name
            reply = Reply(Internal.http_status, json_reply.write_error(f"{type(error).__name__}: {error}"))
        metrics = self._plane.metrics
        model = self._plane.counted_name(route.spec.name) if route else ""
        metrics.requests.add(model, status)
        if status == "OK":
            api = route.action.value if route and method == "POST" else ""
            metrics.request_latency.observe((time.perf_counter() - begun) * 1e6, model, api, "REST")
        return reply

    async def _status(self, spec: ModelSpec, _: bytes) -> bytes:
        return json_reply.write_json(status_to_json(self._plane.status(spec)))

    async def _metadata(self, spec: ModelSpec, _: bytes) -> bytes:
        return json_reply.write_json(metadata_to_json(self._plane.metadata(MetadataRequest(spec))))

    async def _list(self, _: ModelSpec, __: bytes) -> bytes:
        models = self._plane.models()
        listed = [{"name": name, **status_to_json(statuses)} for name, statuses in models.items()]
        return json_reply.write_json({"models": listed})

    async def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        """Answer a predict request; the order of the checks is TensorFlow Serving's."""
        size = len(body)
        document, only_numbers = await self._work(size, _read_document, body)
        name = json_request.signature_name(document)
        wanted = ModelSpec(spec.name, spec.version, spec.label, name)
        with self._plane.hold(wanted) as live:
            signature = live.servable.signatures.get(wanted.signature_key)
            if signature is None:
                raise InvalidArgument(
                    f'Serving signature name: "{wanted.signature_key}" not found in signature def', model=spec.name
                )
            read_inputs = partial(json_request.read_inputs, only_numbers=only_numbers)
            inputs, is_rows = await self._work(size, read_inputs, document, signature, name)
            response = await self._plane.predict_on(live, wanted, inputs, (), self._timeout_s)
        outputs = response.outputs
        # A number takes some eight characters in JSON.
        size = 8 * sum(array.size for array in outputs.values())
        return await self._work(size, partial(json_reply.write_outputs, rows=is_rows), outputs)

    async def _classify(self, spec: ModelSpec, body: bytes) -> bytes:
        response = await self._plane.classify(await self._read_examples(spec, body), self._timeout_s)
        size = _EXAMPLES_COST * math.prod(response.result.shape)
        return await self._work(size, json_examples.write_classifications, response.result)

    async def _regress(self, spec: ModelSpec, body: bytes) -> bytes:
        response = await self._plane.regress(await self._read_examples(spec, body), self._timeout_s)
        return json_examples.write_regressions(response.result)

    async def _read_examples(self, spec: ModelSpec, body: bytes) -> ExamplesRequest:
        """Read a classify or regress request; unlike a predict request's, its whole body is judged before its model."""
        # Each feature is put into a map, so that of two with one name the last stays.
        document = await self._work(len(body), json_document.parse, body, last_wins_inside=True)
        name = json_request.signature_name(document)
        examples = await self._work(_EXAMPLES_COST * len(body), json_examples.read_examples, document)
        return ExamplesRequest(ModelSpec(spec.name, spec.version, spec.label, name), examples)

    async def _work(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if size > _ASIDE_BYTES:
            return await self._plane.aside(function, *args, **kwargs)
        return function(*args, **kwargs)

    async def _metrics(self, path: str) -> Reply:
        if path != self._monitoring.path:
            text = f"Unexpected path: {path}. Should be {self._monitoring.path}"
            return Reply(400, text.encode("utf-8", "replace"), (_TEXT,))
        shown = await self._show_metrics() if self._show_metrics else self._plane.metrics.show()
        return Reply(200, shown, (_TEXT,))


def _read_document(body: bytes) -> tuple[dict[str, Any], bool]:
    return json_document.parse(body), json_document.only_numbers(body)


def _page(status: int) -> Reply:
    return Reply(status, page(status), (_HTML, (b"connection", b"close")))
