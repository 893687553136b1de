"""What a signature must look like to be called on examples, and what its outputs must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ApiError, FailedPrecondition, InvalidArgument, Unimplemented
from tfbundle_serving.apis.examples_method import CLASSIFY, REGRESS, ExamplesMethod
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.multi_inference import InferenceTask
from tfbundle_serving.apis.signature_text import signature_text
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD, Signature, TensorSpec, encode_signature
from tfbundle_serving.server.classify_regress import plan, plan_tasks

EXAMPLES = TensorSpec(dtypes.STRING, (None,), "examples:0")
SCORES = TensorSpec(dtypes.FLOAT, (None, 3), "scores:0")


def signature(inputs: str, outputs: str, method_name: str = "tensorflow/serving/predict") -> Signature:
    """Make a signature with these aliases."""
    return Signature(dict.fromkeys(inputs.split(), EXAMPLES), dict.fromkeys(outputs.split(), SCORES), method_name)


GOOD = signature("inputs", "classes scores")
OUTPUTS = signature("inputs", "outputs")


@pytest.mark.parametrize(
    ("found", "method", "outputs"),
    [
        (GOOD, CLASSIFY, ("classes", "scores")),
        (signature("inputs", "scores"), CLASSIFY, ("scores",)),
        (signature("inputs", "other classes"), CLASSIFY, ("classes",)),
        (OUTPUTS, REGRESS, ("outputs",)),
    ],
)
def test_the_keys_count(found: Signature, method: ExamplesMethod[Any], outputs: tuple[str, ...]) -> None:
    """A signature that says predict is as good as any other with the right keys."""
    run = plan({"serving_default": found}, "", method)
    assert (run.signature, run.outputs, run.method) == ("serving_default", outputs, method)


REFUSED: dict[str, tuple[Signature, ExamplesMethod[Any], type[ApiError], str]] = {
    "two inputs": (signature("inputs more", "scores"), CLASSIFY, InvalidArgument, "Expected one input Tensor."),
    "three outputs": (
        signature("inputs", "a b c"),
        CLASSIFY,
        InvalidArgument,
        "Expected one or two output Tensors, found 3",
    ),
    "the input's name": (
        signature("x", "scores"),
        CLASSIFY,
        FailedPrecondition,
        "No classification inputs found in SignatureDef: " + signature_text(signature("x", "scores")),
    ),
    "the outputs' names": (
        signature("inputs", "y"),
        CLASSIFY,
        FailedPrecondition,
        'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '
        + signature_text(signature("inputs", "y")),
    ),
    "two inputs to regress": (signature("a b", "outputs"), REGRESS, InvalidArgument, "Expected one input Tensor."),
    "two outputs to regress": (GOOD, REGRESS, InvalidArgument, "Expected one output Tensor."),
    "the input's name to regress": (
        signature("x", "outputs"),
        REGRESS,
        FailedPrecondition,
        "No regression inputs found in SignatureDef: " + signature_text(signature("x", "outputs")),
    ),
    "the output's name to regress": (
        signature("inputs", "y"),
        REGRESS,
        FailedPrecondition,
        "No regression outputs found in SignatureDef: " + signature_text(signature("inputs", "y")),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """The texts are TensorFlow Serving's, whole signature included."""
    found, method, error, text = REFUSED[case]
    with pytest.raises(error) as caught:
        plan({"s": found}, "s", method)
    assert caught.value.message == text


def test_an_unknown_signature() -> None:
    """It is an invalid argument here, unlike in Predict."""
    with pytest.raises(InvalidArgument, match=r"^No signature was found with the name: serving_default$"):
        plan({}, "", CLASSIFY)


def test_method_names_can_be_checked() -> None:
    """With the flag, the method_name must be the right one."""
    methods: tuple[ExamplesMethod[Any], ...] = (CLASSIFY, REGRESS)
    for method, name, noun in zip(
        methods, (CLASSIFY_METHOD, REGRESS_METHOD), ("classification", "regression"), strict=True
    ):
        right = signature("inputs", "outputs scores" if method is CLASSIFY else "outputs", name)
        assert plan({"s": right}, "s", method, check_method=True)
        with pytest.raises(InvalidArgument) as caught:
            plan({"s": OUTPUTS}, "s", method, check_method=True)
        assert caught.value.message == (
            f"Expected {noun} signature method_name to be {name}. Was: tensorflow/serving/predict"
        )


def test_a_signature_is_shown_as_protobuf_does() -> None:
    """Protobuf's own text of the same message is equal."""
    shown = Signature(
        {"b": TensorSpec(dtypes.STRING, None, 'a"b'), "a": EXAMPLES},
        {"y": TensorSpec(dtypes.FLOAT, (0, 3, None), "y:0"), "z": TensorSpec(dtypes.INT64, (), "")},
        "m",
    )
    official = meta_graph_pb2.SignatureDef.FromString(encode_signature(shown))
    assert signature_text(shown) == text_format.MessageToString(official)


def task(signature_name: str, method: str = CLASSIFY_METHOD, model: str = "m") -> InferenceTask:
    """Make a task."""
    return InferenceTask(ModelSpec(model, signature=signature_name), method)


TASKS: dict[str, tuple[list[InferenceTask], type[ApiError], str]] = {
    "no name": ([task("c"), task("c", model="")], InvalidArgument, "Found ModelSpec with an empty model name."),
    "two models": (
        [task("c"), task("c", model="other")],
        InvalidArgument,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "twice": ([task("c"), task("c")], InvalidArgument, "Duplicate evaluation of signature: c"),
    "unknown": ([task("nope")], InvalidArgument, "Requested signature not found in model graph: nope"),
    "predict": (
        [task("c", "tensorflow/serving/predict")],
        Unimplemented,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "wrong keys": ([task("c"), task("r")], FailedPrecondition, "Expected classification signature outputs"),
}


@pytest.mark.parametrize("case", TASKS)
def test_tasks_that_do_not_fit(case: str) -> None:
    """The first misfit counts."""
    tasks, error, text = TASKS[case]
    with pytest.raises(error) as caught:
        plan_tasks({"c": GOOD, "r": OUTPUTS}, tasks)
    assert caught.value.message.startswith(text)


def test_tasks() -> None:
    """Each has its signature and its method, in the order given."""
    runs = plan_tasks({"c": GOOD, "r": OUTPUTS}, [task("r", REGRESS_METHOD), task("c")])
    assert [(run.signature, run.method) for run in runs] == [("r", REGRESS), ("c", CLASSIFY)]


def strings(*shape: int) -> Any:
    """Make an array of strings."""
    array = np.empty(shape, object)
    array[...] = b"a"
    return array


def floats(*shape: int) -> Any:
    """Make an array of float32."""
    return np.zeros(shape, np.float32)


OUTPUT_ERRORS: list[tuple[ExamplesMethod[Any], dict[str, Any], str]] = [
    (CLASSIFY, {"scores": floats(2)}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
    (CLASSIFY, {"classes": strings(2, 1, 3)}, "Expected Tensor shape: [batch_size num_classes] but got [2,1,3]"),
    (CLASSIFY, {"classes": floats(2, 3)}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    (CLASSIFY, {"scores": np.zeros((2, 3))}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    (CLASSIFY, {"classes": strings(1, 3)}, "Expected classes output batch size of 2. Got: 1"),
    (CLASSIFY, {"scores": floats(3, 3)}, "Expected scores output batch size of 2. Got: 3"),
    (
        CLASSIFY,
        {"classes": strings(2, 3), "scores": floats(2, 4)},
        "Tensors class and score should match in dim_size(1). Got 3 vs. 4",
    ),
    (
        REGRESS,
        {"outputs": floats(2, 2)},
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
    ),
    (
        REGRESS,
        {"outputs": floats()},
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []",
    ),
    (REGRESS, {"outputs": floats(3)}, "Input batch size did not match output batch size: 2 vs. 3"),
    (REGRESS, {"outputs": np.zeros(2, np.int64)}, "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
]


@pytest.mark.parametrize(("method", "outputs", "text"), OUTPUT_ERRORS)
def test_outputs_that_mean_nothing(method: ExamplesMethod[Any], outputs: dict[str, Any], text: str) -> None:
    """What a model gives is held against the number of examples, here 2."""
    with pytest.raises(InvalidArgument) as caught:
        method.read(outputs, 2)
    assert caught.value.message == text


def test_results() -> None:
    """A column of numbers is as good as a row of them."""
    both = CLASSIFY.read({"classes": strings(2, 3), "scores": floats(2, 3)}, 2)
    assert both.shape == (2, 3)
    assert REGRESS.read({"outputs": floats(2, 1)}, 2).values.shape == (2,)
    assert REGRESS.read({"outputs": floats(2)}, 2).values.shape == (2,)
