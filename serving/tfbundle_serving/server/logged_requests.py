"""Recorded requests of every kind, run against a version that nobody else sees yet.

Where --enable_batching joins requests, they run in the shapes that batches have, so that those are warm.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.examples_method import INPUTS, ExamplesMethod
from tfbundle_serving.apis.input_proto import ExamplesRequest
from tfbundle_serving.apis.multi_inference import MultiInferenceRequest
from tfbundle_serving.apis.predict import PredictRequest

from .batching_run import Run, run_alone
from .classify_regress import ExamplesRun, plan, plan_tasks
from .predict_plan import check_inputs, choose_outputs, find_signature

if TYPE_CHECKING:
    from .servable import Servable


@dataclass(frozen=True, slots=True)
class LoggedExamples:
    """A recorded Classify or Regress request."""

    method: ExamplesMethod[Any]
    request: ExamplesRequest


LoggedRequest = PredictRequest | LoggedExamples | MultiInferenceRequest


def run_logged(servable: Servable, logged: LoggedRequest) -> None:
    """Run a recorded request as if it had come for this version; its answer is judged and dropped.

    Raises:
        ApiError: As the request itself would be answered.
    """
    if isinstance(logged, PredictRequest):
        name = logged.model_spec.signature_key if logged.model_spec else ""
        signature = find_signature(servable.signatures, name)
        check_inputs(signature, logged.inputs.keys())
        run_alone(servable, Run(name, logged.inputs, choose_outputs(signature, logged.output_filter)))
        return
    runs = list(_plan(servable, logged))
    request = logged.request if isinstance(logged, LoggedExamples) else logged
    examples = request.input.to_array()
    for run in runs:
        run.method.read(run_alone(servable, Run(run.signature, {INPUTS: examples}, run.outputs)), len(examples))


def _plan(servable: Servable, logged: LoggedExamples | MultiInferenceRequest) -> Iterator[ExamplesRun[Any]]:
    if isinstance(logged, MultiInferenceRequest):
        yield from plan_tasks(servable.signatures, logged.tasks)
    else:
        spec = logged.request.model_spec
        yield plan(servable.signatures, spec.signature if spec else "", logged.method)
