"""Whether the inputs of a canary can be asked at all, seen before the canary is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from tfbundle_serving.apis.errors import ParityError, SignatureMismatch
from tfbundle_serving.apis.signatures import Signature

from ..calls.input_fitting import fit_inputs
from ..client import UNSET, Client, Timeout
from .requests import Reading, Source


def check_inputs(
    client: Client,
    model: str,
    stable: int,
    inputs: Sequence[Source],
    *,
    signature: str = "",
    labels: ArrayLike | None = None,
    timeout: Timeout = UNSET,
) -> None:
    """See whether each of some inputs begins with a request that can be asked; nobody is asked it.

    For whoever loads the canary only to compare it: a file that is none is told of before.

    Args:
        client: Tells the stable version's signatures.
        model: Model name.
        stable: The stable version.
        inputs: See `check_canary`; none means the reference inputs.
        signature: Ask this signature alone.
        labels: True classes, one for each row.
        timeout: Seconds for the question.

    Raises:
        ParityError: One cannot be read, or has no request to the model, or there is another number of true classes.
        BundleError: The stable version's signatures cannot be asked for.
    """
    signatures = client.metadata(model, version=stable, timeout=timeout).callable_signatures
    check_signature(model, stable, signature, signatures)
    together = Reading(model=model, signatures=signatures, wanted=signature)
    for source in inputs:
        reading = Reading(model=model, signatures=signatures, wanted=signature)
        request = next(reading.read([source]), None)
        if request is None:
            why = "; ".join(f"{count:,} {reason}" for reason, count in reading.skipped.items()) or "there is none"
            raise ParityError(f"{model}: no request of {name_of(source)} could be compared: {why}")
        # Recorded requests were answered once; which of them still can be, the comparison counts.
        if not isinstance(source, str | os.PathLike) or os.fspath(source).endswith((".npy", ".npz")):
            try:
                fit_inputs(request.inputs, signatures[request.signature], casting="same_kind")
            except SignatureMismatch as error:
                raise ParityError(
                    f"{model}: no request of {name_of(source)} could be compared: signature {request.signature} of "
                    f"version {stable} does not take them: {error.message}"
                ) from error
    if labels is not None and inputs:
        for _ in together.read(inputs):
            pass
        name = together.default_signature
        check_labels(len(labels), together.rows[name], name)  # type: ignore[arg-type]  # an array or a list


def check_signature(model: str, stable: int, wanted: str, there: Mapping[str, Signature]) -> None:
    """Refuse a signature that the stable version lacks."""
    if wanted and wanted not in there:
        raise ParityError(f"{model} version {stable} has no signature {wanted}; it has {', '.join(sorted(there))}")


def check_labels(labels: int, rows: int, signature: str) -> None:
    """Refuse another number of true classes than there are rows."""
    if labels != rows:
        raise ParityError(
            f"there are {labels} true classes and {rows} rows of inputs to signature {signature}: "
            "one class for each row is expected, in their order"
        )


def name_of(source: Source) -> str:
    """Name a source in a message."""
    return str(source) if isinstance(source, str | os.PathLike) else "inputs given by the caller"
