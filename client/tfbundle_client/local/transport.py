"""Calls answered in this process, by TensorFlow: the same client in a unit test, a notebook and production.

Runs happen on threads of their own, so that a deadline holds however long a model takes, and an event loop stays free.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.classification import ClassificationResponse
from tfbundle_serving.apis.errors import (
    ApiError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from tfbundle_serving.apis.health import ServingStatus
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.multi_inference import InferenceResult
from tfbundle_serving.apis.predict import PredictResponse
from tfbundle_serving.apis.regression import RegressionResponse
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from ..transports.per_process import CLOSED, PerProcess
from ..transports.transport import (
    Call,
    ClassifyCall,
    HealthCall,
    MetadataCall,
    MultiInferenceCall,
    PredictCall,
    RegressCall,
    Reply,
    StatusCall,
)
from .examples import run_on_examples
from .folder import Versions, find_models
from .version import LocalVersion

#: Runs at once; TensorFlow shares the cores among them.
_THREADS = 16

#: What tells one SavedModel from another at the same place: when its file was written, and which file it is.
_Written = tuple[int, int]


class LocalTransport:
    """Runs the versions of a folder; see `local_folder` for what may be given.

    Args:
        path: A models folder, a base path or a version folder.
    """

    name = "local"
    names_version = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._versions: dict[tuple[Path, _Written], LocalVersion] = {}
        self._threads: PerProcess[ThreadPoolExecutor] = PerProcess(_start_threads, _stop_threads)
        #: The process that has run models; None where none has.
        self._process: int | None = None

    def send(self, call: Call[Reply], /) -> Reply:
        """Answer a call; see `Transport`."""
        future = self.begin(call)
        try:
            return future.result(call.deadline.remaining_s())
        except FutureTimeoutError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            future.cancel()
            raise self.too_late(call) from None

    def begin(self, call: Call[Reply]) -> Future[Reply]:
        """Hand a call to a thread.

        Raises:
            Unimplemented: There is no such call without a server.
        """
        answer = _ANSWERS.get(type(call))
        if answer is None:
            raise Unimplemented(f"{type(call).__name__} needs a server; {self} has none", attempts=0)
        try:
            return self._threads.get().submit(answer, self, call)
        except RuntimeError as error:  # another thread closed it in this moment
            raise FailedPrecondition(CLOSED, attempts=0) from error

    def too_late(self, call: Call[Any]) -> DeadlineExceeded:
        """Make the error of a call whose time is up."""
        return DeadlineExceeded(f"{call.spec}: no answer from {self} within {call.deadline.timeout_s:g} s")

    def close(self) -> None:
        """Give models and threads back; calls in flight may fail."""
        self._threads.close()
        versions, self._versions = self._versions, {}
        if self._process == os.getpid():
            for version in versions.values():
                version.close()

    def __str__(self) -> str:
        """Name the folder as the address does."""
        return f"local:{self._path}"

    def _find(self, spec: ModelSpec) -> tuple[int, LocalVersion]:
        if spec.label is not None:
            raise InvalidArgument(
                f"Unrecognized servable version label: {spec.label} ({self} has no labels)",
                model=spec.name,
                version=spec.label,
            )
        models = find_models(self._path)
        versions = models.get(spec.name, {})
        number = max(versions, default=None) if spec.version is None else spec.version
        if number is None or number not in versions:
            wanted = f"Latest({spec.name})" if spec.version is None else f"Specific({spec.name}, {spec.version})"
            raise NotFound(
                f"Servable not found for request: {wanted}; {self} has {_describe(models)}",
                model=spec.name,
                version=spec.version,
            )
        return number, self._version(versions[number])

    def _version(self, folder: Path) -> LocalVersion:
        """Give the version of a folder as it is now; one that was replaced there, or is gone, is forgotten."""
        key = folder, _written(folder)
        known = self._versions.get(key)
        if known is not None:
            return known
        version = self._versions.setdefault(key, LocalVersion(folder))
        for other in list(self._versions):
            if other != key and (other[0] == folder or not other[0].exists()):
                # It is not closed, since a run may be under way: the last to hold it gives the memory back.
                self._versions.pop(other, None)
        return version

    def _find_to_run(self, spec: ModelSpec) -> tuple[int, LocalVersion]:
        if self._process not in (None, os.getpid()):
            raise FailedPrecondition(
                f"{self} has run models before this process was forked, and TensorFlow does not survive a fork: "
                "run models in the children alone, or start these in another way (spawn)",
                attempts=0,
            )
        found = self._find(spec)
        self._process = os.getpid()
        return found

    def _predict(self, call: PredictCall) -> PredictResponse:
        number, version = self._find_to_run(call.spec)
        key = call.spec.signature_key
        outputs = version.run(key, call.inputs, call.output_filter, self._left_s(call))
        return PredictResponse(ModelSpec(call.spec.name, number, None, key), outputs)

    def _classify(self, call: ClassifyCall) -> ClassificationResponse:
        return ClassificationResponse(*self._on_examples(call, CLASSIFY_METHOD))

    def _regress(self, call: RegressCall) -> RegressionResponse:
        return RegressionResponse(*self._on_examples(call, REGRESS_METHOD))

    def _on_examples(self, call: ClassifyCall | RegressCall, method_name: str) -> tuple[ModelSpec, Any]:
        number, version = self._find_to_run(call.spec)
        key = call.spec.signature_key
        result = run_on_examples(version, key, method_name, call.input, self._left_s(call))
        return ModelSpec(call.spec.name, number, None, key), result

    def _multi_inference(self, call: MultiInferenceCall) -> list[InferenceResult]:
        if not call.tasks:
            raise InvalidArgument("ModelSpec has no name specified.")
        number, version = self._find_to_run(call.spec)
        results = []
        for task in call.tasks:
            key = (task.model_spec or call.spec).signature_key
            result = run_on_examples(version, key, task.method_name, call.input, self._left_s(call))
            results.append(InferenceResult(ModelSpec(call.spec.name, number, None, key), result))
        return results

    def _metadata(self, call: MetadataCall) -> ModelMetadata:
        number, version = self._find(call.spec)
        return ModelMetadata(call.spec.name, number, version.signatures)

    def _status(self, call: StatusCall) -> list[VersionStatus]:
        models = find_models(self._path)
        versions = models.get(call.spec.name)
        if versions is None:
            raise NotFound(
                f"Could not find any versions of model {call.spec.name}; {self} has {_describe(models)}",
                model=call.spec.name,
            )
        wanted = call.spec.version
        if wanted is not None and wanted not in versions:
            raise NotFound(f"Could not find version {wanted} of model {call.spec.name}", model=call.spec.name)
        numbers = sorted(versions, reverse=True) if wanted is None else [wanted]
        return [self._status_of(number, versions[number]) for number in numbers]

    def _status_of(self, number: int, folder: Path) -> VersionStatus:
        try:
            failure = self._version(folder).failure
        except ApiError as error:
            failure = error
        if failure is None:
            return VersionStatus(number, State.AVAILABLE)
        return VersionStatus(number, State.END, failure.code, failure.message)

    def _health(self, call: HealthCall) -> ServingStatus:
        models = find_models(self._path)
        if call.service and call.service not in models:
            raise NotFound(f"there is no service or model {call.service!r}")
        return ServingStatus.SERVING

    def _left_s(self, call: Call[Any]) -> float | None:
        left_s = call.deadline.remaining_s()
        if left_s == 0.0:
            raise self.too_late(call)
        return left_s


class LocalAsyncTransport:
    """The same for event loops.

    Args:
        path: A models folder, a base path or a version folder.
    """

    name = "local"
    names_version = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._blocking = LocalTransport(path)

    async def send(self, call: Call[Reply], /) -> Reply:
        """Answer a call; see `Transport`."""
        future = asyncio.wrap_future(self._blocking.begin(call))
        try:
            done, _ = await asyncio.wait({future}, timeout=call.deadline.remaining_s())
        finally:
            if not future.done():  # too late, or the caller gave up
                future.cancel()
        if not done:
            raise self._blocking.too_late(call)
        return future.result()

    async def close(self) -> None:
        """Give models and threads back."""
        await asyncio.to_thread(self._blocking.close)


#: Kind of call to what answers it.
_ANSWERS: dict[type[Call[Any]], Callable[[LocalTransport, Any], Any]] = {
    PredictCall: LocalTransport._predict,
    ClassifyCall: LocalTransport._classify,
    RegressCall: LocalTransport._regress,
    MultiInferenceCall: LocalTransport._multi_inference,
    MetadataCall: LocalTransport._metadata,
    StatusCall: LocalTransport._status,
    HealthCall: LocalTransport._health,
}


def _start_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="tfbundle-local")


def _stop_threads(threads: ThreadPoolExecutor) -> None:
    threads.shutdown(wait=False, cancel_futures=True)


def _written(folder: Path) -> _Written:
    try:
        status = (folder / SAVED_MODEL).stat()
    except OSError:  # it went away in this moment; whoever reads it says so
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def _describe(models: Mapping[str, Versions]) -> str:
    return "; ".join(f"{name} version {', '.join(map(str, versions))}" for name, versions in models.items())
