"""Classify, Regress and MultiInference: which signatures are run for which outputs, in TensorFlow Serving's words.

What a signature must look like is for `apis.examples_method` to say.

Source: tensorflow_serving/servables/tensorflow/classification_service.cc, regression_service.cc, multi_inference.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tfbundle_serving.apis.classification import Classifications
from tfbundle_serving.apis.errors import InvalidArgument, Unimplemented
from tfbundle_serving.apis.examples_method import METHODS, ExamplesMethod
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE, ModelSpec
from tfbundle_serving.apis.multi_inference import InferenceTask
from tfbundle_serving.apis.regression import Regressions
from tfbundle_serving.apis.signatures import Signature

R = TypeVar("R")
Result = Classifications | Regressions


@dataclass(frozen=True, slots=True)
class ExamplesRun(Generic[R]):
    """A signature to run on examples, checked.

    Attributes:
        signature: Its name.
        outputs: The wanted outputs.
        method: How it is called.
    """

    signature: str
    outputs: tuple[str, ...]
    method: ExamplesMethod[R]


def plan(
    signatures: Mapping[str, Signature], name: str, method: ExamplesMethod[R], *, check_method: bool = False
) -> ExamplesRun[R]:
    """Plan a Classify or Regress call.

    Args:
        signatures: The version's signatures.
        name: The wanted one; "" means serving_default.
        method: How it is called.
        check_method: Whether its method_name must be that of the method.

    Raises:
        InvalidArgument: There is no such signature, or it has more inputs or outputs than the method knows.
        FailedPrecondition: Its input or outputs have other names.
    """
    key = name or DEFAULT_SIGNATURE
    signature = signatures.get(key)
    if signature is None:
        raise InvalidArgument(f"No signature was found with the name: {key}")
    return ExamplesRun(key, method.outputs_of(signature, check_method=check_method), method)


def plan_tasks(
    signatures: Mapping[str, Signature], tasks: Sequence[InferenceTask], *, check_method: bool = False
) -> list[ExamplesRun[Result]]:
    """Plan a MultiInference call, whose first task has said which version answers.

    Raises:
        InvalidArgument: Tasks do not fit together, or as `plan`.
        FailedPrecondition: As `plan`.
        Unimplemented: A task asks for another method.
    """
    runs: dict[str, ExamplesRun[Result]] = {}
    model = ""
    for task in tasks:
        spec = task.model_spec or ModelSpec("")
        if not spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if model and spec.name != model:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        model, key = spec.name, spec.signature_key
        if key in runs:
            raise InvalidArgument(f"Duplicate evaluation of signature: {key}")
        signature = signatures.get(key)
        if signature is None:
            raise InvalidArgument(f"Requested signature not found in model graph: {key}")
        method = METHODS.get(task.method_name)
        if method is None:
            raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")
        runs[key] = ExamplesRun(key, method.outputs_of(signature, check_method=check_method), method)
    return list(runs.values())
