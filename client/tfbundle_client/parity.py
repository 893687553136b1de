"""Does what is served equal what was trained? Reference inputs go to the server, its answers beside the expected ones.

All requests are pinned to one version, which must be AVAILABLE before and after, so that a reload in the middle is
never called a difference. The inputs are sent in requests of several sizes, because servers batch and kernels change
with the size. What may differ by how much is one rule for all rooms: `tfbundle_serving.apis.comparison`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfbundle_serving.apis.comparison import Tolerance, compare
from tfbundle_serving.apis.errors import BundleError, NotFound, ParityError
from tfbundle_serving.apis.signatures import Signature

from .client import UNSET, Client, Timeout
from .flows import find_signature
from .parity_reference import Expected, Reference, find_tagged, implied_version, read_reference
from .parity_result import ParityReport, Run, TransportParity

#: A request size that is neither a power of two nor one: what padding to the allowed batch sizes must get right.
_ODD = 7
#: How many requests of one size are sent at most; the whole reference is sent at the largest size anyway.
MAX_REQUESTS = 500


def check_parity(
    client: Client | Sequence[Client],
    model: str,
    reference: Reference,
    *,
    version: int | str | None = None,
    label: str | None = None,
    signature: str | None = None,
    labels: ArrayLike | None = None,
    label_output: str | None = None,
    batch_sizes: Sequence[int] | None = None,
    tolerance: Tolerance | None = None,
    ptol: float = 0.0,
    max_requests: int = MAX_REQUESTS,
    timeout: Timeout = UNSET,
) -> ParityReport:
    """Compare served answers with the expected ones.

    Args:
        client: One client, or several (one for each transport, say) that must all serve the same version.
        model: Model name.
        reference: A golden.npz, a version folder, a base path (then its folder of the served version), a `Golden`, or
            (inputs, outputs) by name.
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
        tolerance: What may differ; by default what the dtype allows.
        ptol: Share of values, 0 to 1, that may differ by more.
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
    try:
        number = find_tagged(reference, version) if isinstance(version, str) else version
        pinned = _pin(clients[0], model, number, label, implied_version(reference), timeout)
        expected = read_reference(reference, pinned, signature)
        definition = _served_signature(clients, model, pinned, expected, timeout)
        examples = _count(expected, model)
        sizes = _batch_sizes(batch_sizes, examples, expected, definition)
        truth = _truth(labels, examples, expected, label_output)
        transports = []
        for each in clients:
            ask = _Asker(each, model, pinned, expected, timeout)
            runs, outputs = _measure(ask, sizes, max_requests, tolerance, ptol)
            accuracy = None if truth is None else _accuracy(outputs[truth[0]], truth[1])
            transports.append(
                TransportParity(url=each.url, transport=each.transport, runs=runs, accuracy=accuracy, outputs=outputs)
            )
        _check_available(clients, model, pinned, "after", timeout)
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
        transports=tuple(transports),
        accuracy_local=None if truth is None else _accuracy(expected.golden.outputs[truth[0]], truth[1]),
        noise_floor=expected.noise_floor,
        label_output=None if truth is None else truth[0],
        expected=expected.golden.outputs,
    )


class _Asker:
    """Sends rows of the reference inputs to one server."""

    def __init__(self, client: Client, model: str, version: int, expected: Expected, timeout: Timeout) -> None:
        self.golden = expected.golden
        self.rows = _count(expected, model)
        self._client, self._model, self._version, self._timeout = client, model, version, timeout
        self._signature = expected.signature

    def ask(self, start: int, stop: int) -> tuple[Mapping[str, NDArray[Any]], float]:
        """Send the rows from start to stop; give the outputs and the seconds that it took."""
        is_whole = start == 0 and stop >= self.rows
        answer = self._client.predict(
            self._model,
            {name: array if is_whole else array[start:stop] for name, array in self.golden.inputs.items()},
            version=self._version,
            signature=self._signature,
            outputs=tuple(self.golden.outputs),
            timeout=self._timeout,
        )
        return answer.outputs, answer.latency_s


def _pin(
    client: Client, model: str, version: int | None, label: str | None, implied: int | None, timeout: Timeout
) -> int:
    if version is None and label is None:
        version = implied
    if version is not None and label is None:
        return version
    return client.metadata(model, version=version, label=label, timeout=timeout).version


def _served_signature(
    clients: Sequence[Client], model: str, version: int, expected: Expected, timeout: Timeout
) -> Signature:
    _check_available(clients, model, version, "before", timeout)
    found = [
        find_signature(each.metadata(model, version=version, timeout=timeout), expected.signature) for each in clients
    ]
    return found[0]


def _check_available(clients: Sequence[Client], model: str, version: int, when: str, timeout: Timeout) -> None:
    for each in clients:
        try:
            statuses = each.status(model, version=version, timeout=timeout)
        except NotFound as error:
            raise ParityError(f"{model} version {version} is not served at {each.url}: {error.message}") from error
        if not any(status.is_available for status in statuses):
            states = ", ".join(status.state.name for status in statuses) or "unknown"
            raise ParityError(
                f"{model} version {version} at {each.url} is {states}, not AVAILABLE, {when} the comparison"
            )


def _count(expected: Expected, model: str) -> int:
    """Count the examples: the first size that all inputs share, or 1 where they do not have one."""
    golden = expected.golden
    if not golden.inputs or not golden.outputs:
        raise ParityError(f"{model}: the reference ({expected.origin}) holds no inputs or no outputs")
    sizes = {array.shape[0] if array.ndim else None for array in golden.inputs.values()}
    return next(iter(sizes)) or 0 if len(sizes) == 1 and None not in sizes else 1


def _batch_sizes(
    wanted: Sequence[int] | None, examples: int, expected: Expected, signature: Signature
) -> tuple[int, ...]:
    whole = max(examples, 1)
    if wanted is not None:
        if not wanted or min(wanted) < 1:
            raise ParityError(f"batch sizes are positive numbers, got {list(wanted)}")
        return tuple(sorted({min(size, whole) for size in wanted}))
    specs = [
        *signature.inputs.values(),
        *(signature.outputs[name] for name in expected.golden.outputs if name in signature.outputs),
    ]
    has_rows = all(spec.shape is None or spec.shape[:1] == (None,) for spec in specs) and all(
        array.ndim and array.shape[0] == examples
        for array in (*expected.golden.inputs.values(), *expected.golden.outputs.values())
    )
    if not has_rows or not expected.is_batchable:
        return (whole,)
    return tuple(sorted({min(size, whole) for size in (1, 2, _ODD, whole)}))


def _measure(
    ask: _Asker, sizes: Sequence[int], max_requests: int, tolerance: Tolerance | None, ptol: float
) -> tuple[tuple[Run, ...], dict[str, NDArray[Any]]]:
    ask.ask(0, sizes[0])  # opens the connection; its time would not be the model's
    runs = []
    outputs: dict[str, NDArray[Any]] = {}
    for size in sizes:
        rows = ask.rows if size == sizes[-1] else min(ask.rows, size * max_requests)
        latencies = []
        parts = []
        for start, stop in _slices(rows, size):
            answer, latency_s = ask.ask(start, stop)
            parts.append(answer)
            latencies.append(latency_s)
        outputs = {name: _join([part[name] for part in parts], name, size) for name in ask.golden.outputs}
        comparisons = {
            name: compare(
                array if len(parts) == 1 and rows == ask.rows else array[:rows], outputs[name], tolerance, ptol
            )
            for name, array in ask.golden.outputs.items()
        }
        runs.append(Run(batch_size=size, examples=rows, comparisons=comparisons, latencies_s=tuple(latencies)))
    return tuple(runs), outputs


def _slices(rows: int, size: int) -> Iterator[tuple[int, int]]:
    yield from ((start, min(start + size, rows)) for start in range(0, max(rows, 1), size))


def _join(parts: Sequence[NDArray[Any]], name: str, size: int) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    if any(part.ndim == 0 for part in parts):
        raise ParityError(f"output {name!r} has no rows, so that requests of {size} examples cannot be put together")
    try:
        return np.concatenate(parts)
    except ValueError as error:
        raise ParityError(f"answers of {size} examples cannot be put together for output {name!r}: {error}") from error


def _truth(
    labels: ArrayLike | None, examples: int, expected: Expected, label_output: str | None
) -> tuple[str, NDArray[Any]] | None:
    if labels is None:
        return None
    truth = np.asarray(labels)
    outputs = expected.golden.outputs
    if truth.shape != (examples,):
        raise ParityError(f"labels have shape {truth.shape}, expected ({examples},): one class for each example")
    able = [name for name, array in outputs.items() if _predicts_classes(array, examples)]
    if label_output is not None:
        if label_output not in able:
            raise ParityError(
                f"output {label_output!r} predicts no classes; those that do: {', '.join(able) or 'none'}"
            )
        return label_output, truth
    if len(able) != 1:
        raise ParityError(f"say which output predicts the labels (label_output): {', '.join(able) or 'none can'}")
    return able[0], truth


def _predicts_classes(array: NDArray[Any], examples: int) -> bool:
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
        return False
    return array.shape[0] == examples and (array.dtype.kind == "f" or array.ndim == 1 or array.shape[1] == 1)


def _accuracy(output: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Give the share of right predictions; None where there are no examples, or the server left some out."""
    if output.shape[:1] != labels.shape or labels.size == 0:
        return None
    classes: NDArray[Any]
    if output.ndim == 2 and output.shape[1] > 1:
        classes = output.argmax(axis=1)
    else:
        flat = output.reshape(-1)
        classes = flat > 0.5 if flat.dtype.kind == "f" else flat
    return float(np.mean(classes == labels))
