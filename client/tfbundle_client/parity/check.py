"""Does what is served equal what was trained? Reference inputs go to the server, its answers beside the expected ones.

All requests are pinned to one version, which must be AVAILABLE before and after, so that a reload in the middle is
never called a difference. The inputs are sent in requests of several sizes, because servers batch and kernels change
with the size. What may differ by how much is one rule for all rooms: `tfbundle_serving.apis.comparison`.

The expected answers were recorded (a golden.npz), or are asked for now: of the source model or a version folder, run in
this process, or of another served version, which shows what a rollout would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from numpy.typing import ArrayLike, NDArray

from tfbundle_serving.apis.errors import BundleError, ParityError

from ..client import UNSET, Client, Timeout
from .accuracy import accuracy, read_truth
from .expected import ask_expected, find_inputs, is_source, open_reference
from .inputs import Inputs, rows_of
from .measurement import Rules, Tolerances, choose_batch_sizes, measure
from .ranking import TOP_K
from .reference import Expected, Reference, find_tagged, implied_version, read_reference
from .result import ParityReport, TransportParity
from .sides import ExpectedSide, ServedSide, pin

#: How many requests of one size are sent at most; the whole reference is sent at the largest size anyway.
MAX_REQUESTS = 500


def check_parity(
    client: Client | Sequence[Client],
    model: str,
    reference: Reference | None = None,
    *,
    inputs: Inputs | None = None,
    against: Client | None = None,
    against_model: str | None = None,
    against_version: int | None = None,
    against_label: str | None = None,
    version: int | str | None = None,
    label: str | None = None,
    signature: str | None = None,
    labels: ArrayLike | None = None,
    label_output: str | None = None,
    batch_sizes: Sequence[int] | None = None,
    tolerance: Tolerances | None = None,
    ptol: float = 0.0,
    across_devices: bool = False,
    top_k: int = TOP_K,
    max_requests: int = MAX_REQUESTS,
    timeout: Timeout = UNSET,
) -> ParityReport:
    """Compare served answers with the expected ones.

    Args:
        client: One client, or several (one for each transport, say) that must all serve the same version.
        model: Model name.
        reference: A golden.npz, a version folder, a base path (then its folder of the served version), a `Golden`, or
            (inputs, outputs) by name: answers that were recorded. Or a .keras or .h5 file, which is run here and now;
            so are version folders where `inputs` are given. With `against`, it gives the inputs alone.
        inputs: What to ask instead of the inputs of a golden.npz: arrays by name, a .npz or .npy file, or a TFRecord
            file of PredictionLogs, such as assets.extra/tf_serving_warmup_requests. Where there are none at all, they
            are drawn from the signature.
        against: Another client; what the model answers there is expected here.
        against_model: The model's name there; by default the same.
        against_version: The version to compare with, there or (without `against`) at the same server.
        against_label: A version label instead.
        version: The version to check, or its tag where the reference is a base path or lies in one; by default the one
            that a version folder given as the reference is of, else the highest that is AVAILABLE.
        label: A version label instead.
        signature: Signature name; by default serving_default, or the only one of the reference.
        labels: True classes, one an example, shape (n,); then accuracies are reported.
        label_output: The output that predicts them; by default the only one that can: scores of shape (n, classes),
            where the largest counts, a probability of shape (n,) or (n, 1), where more than 0.5 counts as class 1, or
            integer classes.
        batch_sizes: Examples a request; by default 1, 2, 7 and all, or all alone where rows do not stand for
            themselves.
        tolerance: What may differ, for all dtypes or by numpy dtype name; by default what the dtype allows.
        ptol: Share of values, 0 to 1, that may differ by more.
        across_devices: The expected answers are of a CPU and the served ones of a GPU, or the other way round: float32
            then has about a half's tolerance, because GPUs cut its mantissa (TF32).
        top_k: How many of the best classes of a row are compared, beside the very best.
        max_requests: At most that many requests of each size, with the first examples; the largest size sends all.
        timeout: Seconds for each request.

    Returns:
        The report; "differs" is a report, too.

    Raises:
        ParityError: No comparison could be made: no reference, no server, no such model, the version went away.
    """
    clients = [client] if isinstance(client, Client) else list(client)
    if not clients:
        raise ParityError(f"{model}: no client to compare with")
    is_against = against is not None or against_version is not None or against_label is not None
    try:
        with ExitStack() as stack:
            number = find_tagged(reference, version) if isinstance(version, str) else version
            if number is None and label is None and reference is not None and not is_against:
                number = implied_version(reference)
            pinned = pin(clients[0], model, number, label, timeout)
            sides = [ServedSide(client=each, model=model, version=pinned, timeout=timeout) for each in clients]
            other: ExpectedSide | None = None
            if is_against:
                there, name = against or clients[0], against_model or model
                found = pin(there, name, against_version, against_label, timeout)
                other = ServedSide(client=there, model=name, version=found, timeout=timeout)
            if other is None and inputs is None and not is_source(reference):
                expected = _read_recorded(reference, sides, signature)
            else:
                _check_available(sides, "before")
                key, definition = sides[0].signature(signature)
                other = other or open_reference(reference, sides[0], definition, stack)
                other.check_available("before")
                expected = ask_expected(other, find_inputs(inputs, reference, pinned, key, definition, model), key)
            if not expected.golden.inputs or not expected.golden.outputs:
                raise ParityError(f"{model}: the reference ({expected.origin}) holds no inputs or no outputs")
            definitions = [each.signature(expected.signature)[1] for each in sides]
            examples = rows_of(expected.golden.inputs.values())
            outputs = expected.golden.outputs
            truth = read_truth(labels, examples, outputs, label_output)
            rules = Rules(
                sizes=choose_batch_sizes(batch_sizes, examples, expected, definitions[0]),
                max_requests=max_requests,
                tolerance=tolerance,
                ptol=ptol,
                top_k=top_k,
                across_devices=across_devices,
            )
            transports = tuple(_check_side(each, expected, rules, truth) for each in sides)
            _check_available([*sides, *([] if other is None else [other])], "after")
    except ParityError:
        raise
    except BundleError as error:
        raise ParityError(f"{model}: could not compare: {error}") from error
    return ParityReport(
        model=model,
        version=pinned,
        signature=expected.signature,
        reference=expected.origin,
        examples=examples,
        transports=transports,
        accuracy_local=None if truth is None else accuracy(outputs[truth[0]], truth[1]),
        noise_floor=expected.noise_floor,
        label_output=None if truth is None else truth[0],
        expected=outputs,
        expected_name="expected" if is_against else "local",
        top_k=top_k,
    )


def _read_recorded(reference: Reference | None, sides: Sequence[ServedSide], signature: str | None) -> Expected:
    if reference is None:
        raise ParityError(f"{sides[0].model}: nothing to compare with: give a reference, or a server (against)")
    expected = read_reference(reference, sides[0].version, signature)
    _check_available(sides, "before")
    return expected


def _check_available(sides: Sequence[ExpectedSide], when: str) -> None:
    for each in sides:
        each.check_available(when)


def _check_side(
    side: ServedSide, expected: Expected, rules: Rules, truth: tuple[str, NDArray[Any]] | None
) -> TransportParity:
    runs, outputs = measure(side, expected, rules)
    return TransportParity(
        url=side.client.url,
        transport=side.client.transport,
        runs=runs,
        accuracy=None if truth is None else accuracy(outputs[truth[0]], truth[1]),
        outputs=outputs,
    )
