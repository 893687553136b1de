"""Classify and Regress on a signature: what is run, and what its outputs mean, in TensorFlow Serving's words.

A signature counts by its keys, whatever its method_name says, unless names are checked: one input `inputs` that takes
serialized examples; `classes` and `scores`, or one of them, to classify; `outputs` to regress.

Nothing here looks at an input's dtype: the graph is its judge.

Source: tensorflow_serving/servables/tensorflow/classifier.cc, regressor.cc, multi_inference.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.classification import Classifications
from tfbundle_serving.apis.errors import FailedPrecondition, InvalidArgument, Unimplemented
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE, ModelSpec
from tfbundle_serving.apis.multi_inference import InferenceTask
from tfbundle_serving.apis.predict import Arrays
from tfbundle_serving.apis.regression import Regressions
from tfbundle_serving.apis.signature_text import signature_text
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD, Signature

#: The one input of such signatures.
INPUTS = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"

R = TypeVar("R")
Result = Classifications | Regressions


@dataclass(frozen=True, slots=True)
class ExamplesMethod(Generic[R]):
    """One way to call a signature on examples.

    Attributes:
        name: What metrics call it.
        method_name: The method_name that its signatures should have.
        noun: What error texts call it.
        choose: Gives the outputs that are wanted of a signature whose input is right.
        read: Makes the result of the outputs and the number of examples.
    """

    name: str
    method_name: str
    noun: str
    choose: Callable[[Signature], tuple[str, ...]]
    read: Callable[[Arrays, int], R]


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
    return ExamplesRun(key, _check(signature, method, check_method=check_method), method)


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
        runs[key] = ExamplesRun(key, _check(signature, method, check_method=check_method), method)
    return list(runs.values())


def _check(signature: Signature, method: ExamplesMethod[Any], *, check_method: bool) -> tuple[str, ...]:
    if check_method and signature.method_name != method.method_name:
        raise InvalidArgument(
            f"Expected {method.noun} signature method_name to be {method.method_name}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    return method.choose(signature)


def _require_inputs(signature: Signature, noun: str) -> None:
    if INPUTS not in signature.inputs:
        raise FailedPrecondition(f"No {noun} inputs found in SignatureDef: {signature_text(signature)}")


def _choose_classes_and_scores(signature: Signature) -> tuple[str, ...]:
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    _require_inputs(signature, "classification")
    chosen = tuple(alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs)
    if not chosen:
        raise FailedPrecondition(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {signature_text(signature)}"
        )
    return chosen


def _choose_outputs(signature: Signature) -> tuple[str, ...]:
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    _require_inputs(signature, "regression")
    if _OUTPUTS not in signature.outputs:
        raise FailedPrecondition(f"No regression outputs found in SignatureDef: {signature_text(signature)}")
    return (_OUTPUTS,)


def _read_classifications(outputs: Arrays, examples: int) -> Classifications:
    for alias, dtype in ((_CLASSES, dtypes.STRING), (_SCORES, dtypes.FLOAT)):
        array = outputs.get(alias)
        if array is None:
            continue
        if array.ndim != 2:
            raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if dtypes.of_numpy(array.dtype) is not dtype:
            got = dtypes.of_numpy(array.dtype).enum_name
            raise InvalidArgument(f"Expected {alias} Tensor of {dtype.enum_name}. Got: {got}")
        if len(array) != examples:
            raise InvalidArgument(f"Expected {alias} output batch size of {examples}. Got: {len(array)}")
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return Classifications(classes, scores)


def _read_regressions(outputs: Arrays, examples: int) -> Regressions:
    array = outputs[_OUTPUTS]
    if array.ndim != 1 and (array.ndim != 2 or array.shape[1] != 1):
        raise InvalidArgument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if len(array) != examples:
        raise InvalidArgument(f"Input batch size did not match output batch size: {examples} vs. {len(array)}")
    dtype = dtypes.of_numpy(array.dtype)
    if dtype is not dtypes.FLOAT:
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {dtype.enum_name}")
    return Regressions(array.reshape(-1))


def _shape(array: NDArray[Any]) -> str:
    return f"[{','.join(map(str, array.shape))}]"


CLASSIFY = ExamplesMethod(
    "Classify", CLASSIFY_METHOD, "classification", _choose_classes_and_scores, _read_classifications
)
REGRESS = ExamplesMethod("Regress", REGRESS_METHOD, "regression", _choose_outputs, _read_regressions)
#: method_name of a task to what it asks for.
METHODS: dict[str, ExamplesMethod[Any]] = {method.method_name: method for method in (CLASSIFY, REGRESS)}
