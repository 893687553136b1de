"""Classify and Regress on a local version, as on a server; the rules are those of `apis.examples_method`."""

from __future__ import annotations

from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument, Unimplemented
from tfbundle_serving.apis.examples_method import INPUTS, METHODS
from tfbundle_serving.apis.input_proto import Input

from .version import LocalVersion


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
    wanted = method.outputs_of(signature)
    array = examples.to_array()
    outputs = version.run(signature_name, {INPUTS: array}, wanted, timeout_s)
    return method.read(outputs, len(array))
