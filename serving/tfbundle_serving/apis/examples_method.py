"""What makes a signature one to classify or regress with, and what its outputs mean, in TensorFlow Serving's words.

A signature counts by its keys, whatever its method_name says, unless names are checked: one input `inputs` that takes
serialized examples; `classes` and `scores`, or one of them, to classify; `outputs` to regress.

Nothing here looks at an input's dtype: the graph is its judge.

Source: tensorflow_serving/servables/tensorflow/classifier.cc, regressor.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from . import dtypes
from .classification import Classifications
from .errors import FailedPrecondition, InvalidArgument
from .predict import Arrays
from .regression import Regressions
from .signature_text import signature_text
from .signatures import CLASSIFY_METHOD, REGRESS_METHOD, Signature

#: The one input of such signatures.
INPUTS = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ExamplesMethod(Generic[R]):
    """One way to call a signature on examples.

    Attributes:
        name: What metrics call it.
        method_name: The method_name that its signatures should have.
        noun: What error texts call it.
        choose: Gives the outputs that are wanted of a signature with one input; see `outputs_of`.
        read: Makes the result of the outputs and the number of examples.
    """

    name: str
    method_name: str
    noun: str
    choose: Callable[[Signature], tuple[str, ...]]
    read: Callable[[Arrays, int], R]

    def outputs_of(self, signature: Signature, *, check_method: bool = False) -> tuple[str, ...]:
        """Give the outputs that are wanted of a signature.

        Args:
            signature: What is to be called on examples.
            check_method: Whether its method_name must be this method's.

        Raises:
            InvalidArgument: It has more inputs or outputs than the method knows, or another method_name.
            FailedPrecondition: Its input or outputs have other names.
        """
        if check_method and signature.method_name != self.method_name:
            raise InvalidArgument(
                f"Expected {self.noun} signature method_name to be {self.method_name}. Was: {signature.method_name}"
            )
        if len(signature.inputs) != 1:
            raise InvalidArgument("Expected one input Tensor.")
        return self.choose(signature)


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
