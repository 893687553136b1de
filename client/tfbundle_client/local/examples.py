"""Classify and Regress on a local version: what is run, and what its outputs mean, as on a server.

A signature counts by its keys: one input `inputs` that takes serialized examples; `classes` and `scores`, or one of
them, to classify; `outputs` to regress.

Source: tensorflow_serving/servables/tensorflow/classifier.cc, regressor.cc, multi_inference.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.classification import Classifications
from tfbundle_serving.apis.errors import FailedPrecondition, InvalidArgument, Unimplemented
from tfbundle_serving.apis.input_proto import Input
from tfbundle_serving.apis.predict import Arrays
from tfbundle_serving.apis.regression import Regressions
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD, Signature

from .version import LocalVersion

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


@dataclass(frozen=True, slots=True)
class _Method:
    """One way to call a signature on examples.

    Attributes:
        noun: What error texts call it.
        known: The outputs that it reads; a signature has at least one of them.
        most: How many outputs a signature may have.
        read: Makes the result of the outputs and the number of examples.
    """

    noun: str
    known: tuple[str, ...]
    most: int
    read: Callable[[Arrays, int], Any]


def run_on_examples(
    version: LocalVersion, signature_name: str, method_name: str, examples: Input, timeout_s: float | None
) -> Any:
    """Classify or regress examples.

    Args:
        version: What is run.
        signature_name: A signature's name.
        method_name: "tensorflow/serving/classify" or "tensorflow/serving/regress".
        examples: Serialized examples.
        timeout_s: Seconds that the run may take; None means no limit.

    Returns:
        `Classifications` or `Regressions`.

    Raises:
        InvalidArgument: There are no examples or no such signature, or its inputs or outputs have other shapes.
        FailedPrecondition: Its inputs or outputs have other names.
        Unimplemented: It is another method.
        ApiError: See `LocalVersion.run`.
    """
    method = METHODS.get(method_name)
    if method is None:
        raise Unimplemented(f"Unsupported signature method_name: {method_name}")
    signature = version.signatures.get(signature_name)
    if signature is None:
        raise InvalidArgument(f"No signature was found with the name: {signature_name}")
    wanted = _choose(signature, method)
    array = examples.to_array()
    outputs = version.run(signature_name, {_INPUTS: array}, wanted, timeout_s)
    return method.read(outputs, len(array))


def _choose(signature: Signature, method: _Method) -> tuple[str, ...]:
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if not 1 <= len(signature.outputs) <= method.most:
        allowed = "one output Tensor" if method.most == 1 else "one or two output Tensors"
        raise InvalidArgument(f"Expected {allowed}, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise FailedPrecondition(
            f"No {method.noun} inputs found: the signature's input is {next(iter(signature.inputs))!r}"
        )
    chosen = tuple(alias for alias in method.known if alias in signature.outputs)
    if not chosen:
        raise FailedPrecondition(
            f"No {method.noun} outputs found: expected {' or '.join(map(repr, method.known))}, the signature has "
            f"{', '.join(sorted(signature.outputs))}"
        )
    return chosen


def _read_classifications(outputs: Arrays, examples: int) -> Classifications:
    for alias, dtype in ((_CLASSES, dtypes.STRING), (_SCORES, dtypes.FLOAT)):
        array = outputs.get(alias)
        if array is None:
            continue
        if array.ndim != 2:
            raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        _check_dtype(array, dtype, f"Expected {alias} Tensor of")
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
    _check_dtype(array, dtypes.FLOAT, "Expected output Tensor of")
    return Regressions(array.reshape(-1))


def _check_dtype(array: NDArray[Any], wanted: dtypes.DType, text: str) -> None:
    got = dtypes.of_numpy(array.dtype)
    if got is not wanted:
        raise InvalidArgument(f"{text} {wanted.enum_name}. Got: {got.enum_name}")


def _shape(array: NDArray[Any]) -> str:
    return f"[{','.join(map(str, array.shape))}]"


#: method_name to what it asks for.
METHODS: Mapping[str, _Method] = {
    CLASSIFY_METHOD: _Method("classification", (_CLASSES, _SCORES), 2, _read_classifications),
    REGRESS_METHOD: _Method("regression", (_OUTPUTS,), 1, _read_regressions),
}
