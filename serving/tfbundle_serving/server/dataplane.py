"""What requests mean, whatever protocol brought them: one object behind gRPC and REST.

It takes and gives numpy arrays and raises `apis.errors`; the protocol files translate.

Source: tensorflow_serving/servables/tensorflow/predict_impl.cc, classification_service.cc, regression_service.cc,
multi_inference_helper.cc, get_model_metadata_impl.cc;
tensorflow_serving/model_servers/get_model_status_impl.cc.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from numpy.typing import NDArray

from tfbundle_serving.apis.classification import ClassificationResponse
from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.apis.examples_method import CLASSIFY, INPUTS, REGRESS, ExamplesMethod
from tfbundle_serving.apis.input_proto import ExamplesRequest
from tfbundle_serving.apis.model_metadata import SIGNATURE_DEF_FIELD, MetadataRequest, ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.multi_inference import InferenceResult, MultiInferenceRequest
from tfbundle_serving.apis.predict import Arrays, PredictRequest, PredictResponse
from tfbundle_serving.apis.regression import RegressionResponse
from tfbundle_serving.apis.signatures import PREDICT_METHOD, Signature

from .access_log import note
from .batching_run import Run
from .classify_regress import ExamplesRun, plan, plan_tasks
from .live_version import LiveVersion
from .manager import Manager
from .metrics import Metrics
from .predict_plan import check_inputs, choose_outputs, find_signature
from .recorder import NullRecorder, Recorder
from .runner import Runner

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class DataPlane:
    """Answers requests from the versions that the manager has loaded.

    Args:
        manager: Owns the versions.
        runner: Runs them.
        metrics: Counts.
        check_method_names: Whether Predict refuses signatures with a foreign method_name.
        recorder: Keeps some of the requests that were answered; None = nobody does.
    """

    def __init__(
        self,
        manager: Manager,
        runner: Runner,
        metrics: Metrics,
        *,
        check_method_names: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self._recorder = recorder or NullRecorder()
        self._manager = manager
        self._runner = runner
        self._check_method_names = check_method_names
        self.metrics = metrics

    async def predict(self, request: PredictRequest, timeout_s: float | None = None) -> PredictResponse:
        """Run a signature.

        Args:
            request: What is asked.
            timeout_s: Seconds that the model run may take; None means no limit.

        Raises:
            ApiError: By its status; the texts are TensorFlow Serving's.
        """
        spec = _expect(request.model_spec)
        with self.hold(spec) as live:
            return await self.predict_on(live, spec, request.inputs, request.output_filter, timeout_s)

    async def predict_on(
        self,
        live: LiveVersion,
        spec: ModelSpec,
        inputs: Arrays,
        output_filter: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> PredictResponse:
        """Run a signature of a version that the caller holds.

        Raises:
            ApiError: See `predict`.
        """
        name = spec.signature_key
        signature = self._fit(live, name, inputs)
        run = Run(name, inputs, choose_outputs(signature, output_filter))
        begun = time.perf_counter()
        outputs = await self._runner.run(live, run, timeout_s)
        self.metrics.runtime_latency.observe((time.perf_counter() - begun) * 1e6, spec.name, "Predict", "TF1")
        # Never the label, always the version and the signature's full name.
        answered = ModelSpec(spec.name, live.version, None, name)
        if self._recorder.wants(spec.name):
            self._recorder.take(PredictRequest(spec, inputs, output_filter), PREDICT_METHOD, answered)
        return PredictResponse(answered, outputs)

    def check(self, request: PredictRequest) -> None:
        """Say what is wrong with a request before its values are looked at: version, signature, names of inputs.

        Raises:
            ApiError: As `predict` would.
        """
        spec = _expect(request.model_spec)
        with self.hold(spec) as live:
            self._fit(live, spec.signature_key, request.inputs)

    def _fit(self, live: LiveVersion, name: str, inputs: Arrays) -> Signature:
        signature = find_signature(live.servable.signatures, name, check_method=self._check_method_names)
        check_inputs(signature, inputs.keys())
        return signature

    async def classify(self, request: ExamplesRequest, timeout_s: float | None = None) -> ClassificationResponse:
        """Give the classes of examples.

        Raises:
            ApiError: By its status; the texts are TensorFlow Serving's.
        """
        return ClassificationResponse(*await self._call_on_examples(request, CLASSIFY, timeout_s))

    async def regress(self, request: ExamplesRequest, timeout_s: float | None = None) -> RegressionResponse:
        """Give a number for each example.

        Raises:
            ApiError: By its status; the texts are TensorFlow Serving's.
        """
        return RegressionResponse(*await self._call_on_examples(request, REGRESS, timeout_s))

    async def multi_inference(
        self, request: MultiInferenceRequest, timeout_s: float | None = None
    ) -> list[InferenceResult]:
        """Classify and regress the same examples with several signatures, which run side by side.

        Raises:
            ApiError: By its status; the texts are TensorFlow Serving's.
        """
        # Only the first task says which version is meant, as in TensorFlow Serving.
        spec = (request.tasks[0].model_spec if request.tasks else None) or ModelSpec("")
        with self.hold(_expect(spec)) as live:
            runs = plan_tasks(live.servable.signatures, request.tasks, check_method=self._check_method_names)
            examples = request.input.to_array()
            results = await asyncio.gather(
                *(self._run_on_examples(live, spec.name, run, examples, timeout_s) for run in runs)
            )
            self.metrics.example_counts.observe(len(examples), spec.name)
            self.metrics.examples.add(spec.name, amount=len(examples))
            if self._recorder.wants(spec.name):
                self._recorder.take(request, "", ModelSpec(spec.name, live.version))
            return [InferenceResult(*each) for each in results]

    async def _call_on_examples(
        self, request: ExamplesRequest, method: ExamplesMethod[R], timeout_s: float | None
    ) -> tuple[ModelSpec, R]:
        spec = _expect(request.model_spec)
        with self.hold(spec) as live:
            run = plan(live.servable.signatures, spec.signature, method, check_method=self._check_method_names)
            answer = await self._run_on_examples(live, spec.name, run, request.input.to_array(), timeout_s)
            if self._recorder.wants(spec.name):
                self._recorder.take(request, method.method_name, answer[0])
            return answer

    async def _run_on_examples(
        self, live: LiveVersion, model: str, run: ExamplesRun[R], examples: NDArray[Any], timeout_s: float | None
    ) -> tuple[ModelSpec, R]:
        begun = time.perf_counter()
        outputs = await self._runner.run(live, Run(run.signature, {INPUTS: examples}, run.outputs), timeout_s)
        self.metrics.runtime_latency.observe((time.perf_counter() - begun) * 1e6, model, run.method.name, "TF1")
        return ModelSpec(model, live.version, None, run.signature), run.method.read(outputs, len(examples))

    @contextmanager
    def hold(self, spec: ModelSpec) -> Iterator[LiveVersion]:
        """Find the version that a request means; it stays loaded for the length of the block.

        Raises:
            InvalidArgument: The model has no name, or the label is unknown.
            NotFound: No such version is AVAILABLE.
        """
        note(spec.name, spec.version)
        live = self._manager.route(spec)
        note(live.model, live.version)
        try:
            yield live
        finally:
            live.release()

    def metadata(self, request: MetadataRequest) -> ModelMetadata:
        """Give the signatures of a version.

        Raises:
            ApiError: By its status; the texts are TensorFlow Serving's.
        """
        spec = request.model_spec
        if spec is None:
            raise _no_spec()
        # A model without a name is found out when it is looked for.
        if not request.metadata_fields:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_fields:
            if name != SIGNATURE_DEF_FIELD:
                raise InvalidArgument(f"Metadata field {name} is not supported")
        with self.hold(spec) as live:
            return ModelMetadata(spec.name, live.version, live.servable.signatures)

    def status(self, spec: ModelSpec | None) -> list[VersionStatus]:
        """Give the state of a model's versions, highest first; a label is looked past, as in TensorFlow Serving.

        Raises:
            ApiError: By its status; the texts are TensorFlow Serving's.
        """
        spec = _expect(spec)
        note(spec.name, spec.version)
        statuses = self._manager.status(spec.name)
        if not statuses:
            raise NotFound(f"Could not find any versions of model {spec.name}", model=spec.name)
        if spec.version is not None:
            statuses = [each for each in statuses if each.version == spec.version]
            if not statuses:
                raise NotFound(f"Could not find version {spec.version} of model {spec.name}", model=spec.name)
        return statuses

    def models(self) -> dict[str, list[VersionStatus]]:
        """Give the state of every model's versions, which TensorFlow Serving cannot."""
        return {name: self._manager.status(name) for name in self._manager.models()}

    def counted_name(self, model: str) -> str:
        """Give the name under which requests for a model are counted: its own, or "" where too many were invented."""
        return model if self._manager.knows(model) else self.metrics.unknown_models.admit(model)

    async def aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a protocol's heavy work, such as reading megabytes of JSON, on a worker thread."""
        return await self._runner.aside(function, *args, **kwargs)


def _no_spec() -> InvalidArgument:
    return InvalidArgument("Missing ModelSpec")


def _expect(spec: ModelSpec | None) -> ModelSpec:
    if spec is None:
        raise _no_spec()
    if not spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    return spec
