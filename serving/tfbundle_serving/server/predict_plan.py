"""Match the inputs and outputs of a request with a signature's, in TensorFlow Serving's words.

Nothing here looks at shapes or dtypes: the graph is their judge, as in TensorFlow Serving.

Source: tensorflow_serving/servables/tensorflow/predict_util.cc; tensorflow/cc/saved_model/util.cc (GetInputValues).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from tfbundle_serving.apis.errors import FailedPrecondition, Internal, InvalidArgument
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD, Signature

_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)


def find_signature(signatures: Mapping[str, Signature], name: str, *, check_method: bool = False) -> Signature:
    """Find the signature that a Predict call names.

    Args:
        signatures: The version's signatures.
        name: The wanted one; "" means serving_default.
        check_method: Whether its method_name must be one of the three known ones.

    Raises:
        FailedPrecondition: There is no such signature.
        Internal: Its method_name is a foreign one.
    """
    key = name or DEFAULT_SIGNATURE
    signature = signatures.get(key)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{key}" not found.')
    if check_method and signature.method_name not in _METHODS:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {signature.method_name}"
        )
    return signature


def check_inputs(signature: Signature, given: Collection[str]) -> None:
    """Check that a request has the inputs that a signature wants; those with a default may be absent.

    Raises:
        InvalidArgument: Too many, too few or others.
    """
    wanted, defaults = signature.inputs, signature.defaults
    if given == wanted.keys():
        return
    if len(given) > len(wanted) or (len(given) < len(wanted) and not defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({{{_list(given)}}}) != "
            f"len({{{_list(wanted)}}}). Sent extra: {{{_list(set(given) - set(wanted))}}}. "
            f"Missing but required: {{{_list(set(wanted) - set(given))}}}."
        )
    for alias, spec in wanted.items():
        if alias not in given and alias not in defaults:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {spec.tensor_name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {{{_list(given)}}}, or default input alias "
                f"set: {_list(defaults)}"
            )
    used = set(given) & set(wanted)
    if len(used) != len(given):
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_list(used)}, request input: {_list(given)}"
        )


def choose_outputs(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
    """Choose the outputs that a request wants.

    Args:
        signature: The signature.
        output_filter: Aliases; empty means all.

    Raises:
        InvalidArgument: The signature has no such output, or one is named twice.
    """
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_list(signature.outputs)}}}."
            )
        if alias in output_filter[:position]:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
    return tuple(output_filter or signature.outputs)


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
