"""Is a version fit to take the place of the stable one? Both are asked the same, and rules judge what differs.

Both must be AVAILABLE, before and after, and are asked by their numbers, so that a label that moves meanwhile spoils
nothing. What is measured: the canary's own promise (its golden.npz), errors, agreement, accuracy where the true classes
are known, latency. What is judged by which bound: `verdict`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from tfbundle_serving.apis.errors import BundleError, ParityError
from tfbundle_serving.apis.signature_changes import compare_signatures
from tfbundle_serving.apis.version_folder import golden_path, list_versions, read_metadata

from ..client import UNSET, Client, Timeout
from ..parity.sides import ServedSide
from ..rollout.folder_size import folder_size
from .asking import Asked, Asking
from .evidence import Bounds, Figures
from .inputs import check_labels, check_signature, name_of
from .latency import PAIRS, LatencyFigures, time_pairs
from .promise import check_promise
from .requests import Reading, Request, Source
from .result import CanaryReport
from .sides import VersionSide
from .verdict import judge


def check_canary(
    client: Client | Sequence[Client],
    model: str,
    version: int | None = None,
    *,
    canary_label: str = "canary",
    label: str = "stable",
    stable_version: int | None = None,
    inputs: Source | Sequence[Source] | None = None,
    base_path: str | os.PathLike[str] | None = None,
    signature: str = "",
    labels: ArrayLike | None = None,
    label_output: str | None = None,
    bounds: Bounds | None = None,
    latency_pairs: int = PAIRS,
    timeout: Timeout = UNSET,
) -> CanaryReport:
    """Compare two versions that are loaded.

    Args:
        client: One client, or one for each server of a fleet: the first answers the requests, and at each of them what
            the canary serves is held against what was trained.
        model: Model name.
        version: The canary; by default the version that `canary_label` means.
        canary_label: See there.
        label: The label of the stable version.
        stable_version: Its number instead.
        inputs: What both are asked, one or several: a TFRecord file of recorded requests (`tfbundle serve --record`),
            a .npz or .npy file, arrays by name, or an array. By default the reference inputs of both versions.
        base_path: The folder of the model's versions, for their reference inputs and sizes.
        signature: Ask this signature alone; by default all that there are inputs of.
        labels: True classes, one for each row of the inputs of the signature (by default serving_default), (n,).
        label_output: The output that predicts them; by default the only one that can.
        bounds: What is still good.
        latency_pairs: How many requests are timed with both; 0 measures no latency.
        timeout: Seconds for each request.

    Returns:
        The report; "don't" is a report, too.

    Raises:
        ParityError: No comparison could be made: no inputs, no such version, no server.
    """
    begun = time.monotonic()
    clients = [client] if isinstance(client, Client) else list(client)
    if not clients:
        raise ParityError(f"{model}: no client to compare with")
    base = None if base_path is None else Path(base_path)
    try:
        number = _resolve(clients[0], model, version, canary_label, timeout)
        stable = _resolve(clients[0], model, stable_version, label, timeout)
        if number == stable:
            raise ParityError(f"{model}: the canary and the stable version are the same, version {number}")
        sides = [ServedSide(client=clients[0], model=model, version=each, timeout=timeout) for each in (stable, number)]
        for side in sides:
            side.check_available("before")
        folders = _folders(base, (stable, number))
        report = _compare(
            clients,
            model,
            number,
            stable,
            canary_label=canary_label,
            sources=_sources(inputs, folders, model),
            folders=folders,
            signature=signature,
            labels=labels,
            label_output=label_output,
            bounds=bounds or Bounds(),
            latency_pairs=latency_pairs,
            timeout=timeout,
            begun=begun,
        )
        for side in sides:
            side.check_available("after")
    except ParityError:
        raise
    except BundleError as error:
        raise ParityError(f"{model}: could not compare: {error}") from error
    except OSError as error:
        raise ParityError(f"{model}: could not compare: {error.strerror or error} ({error.filename})") from error
    return report


def _resolve(client: Client, model: str, version: int | None, label: str, timeout: Timeout) -> int:
    if version is not None:
        return version
    try:
        return client.metadata(model, label=label, timeout=timeout).version
    except BundleError as error:
        raise ParityError(f"{model}: no version has the label {label} at {client.url}: {error}") from error


def _folders(base: Path | None, versions: Sequence[int]) -> dict[int, Path]:
    if base is None:
        return {}
    try:
        found = list_versions(base)
    except OSError as error:
        raise ParityError(f"the base path {base} cannot be read: {error.strerror or error}") from error
    return {version: found[version] for version in versions if version in found}


def _sources(inputs: Source | Sequence[Source] | None, folders: dict[int, Path], model: str) -> list[Source]:
    if inputs is not None:
        return list(inputs) if isinstance(inputs, list | tuple) else [inputs]  # type: ignore[list-item]  # one source
    found: list[Source] = [path for path in map(golden_path, folders.values()) if path.is_file()]
    if not found:
        where = ", ".join(str(golden_path(folder)) for folder in folders.values()) or "no base path was given"
        raise ParityError(
            f"{model}: nothing to ask both versions: there are no reference inputs ({where}); give inputs, such as "
            "requests that `tfbundle serve --record` recorded"
        )
    return found


def _compare(
    clients: Sequence[Client],
    model: str,
    number: int,
    stable: int,
    *,
    canary_label: str,
    sources: Sequence[Source],
    folders: dict[int, Path],
    signature: str,
    labels: ArrayLike | None,
    label_output: str | None,
    bounds: Bounds,
    latency_pairs: int,
    timeout: Timeout,
    begun: float,
) -> CanaryReport:
    client = clients[0]
    old, new = (client.metadata(model, version=each, timeout=timeout).callable_signatures for each in (stable, number))
    check_signature(model, stable, signature, old)
    reading = Reading(model=model, signatures=old, wanted=signature)
    before, after = (
        VersionSide(client=client, model=model, version=each, timeout=timeout) for each in (stable, number)
    )
    asking = Asking(
        before,
        after,
        old,
        batchable=_batchable(folders, 2),
        truth=labels,
        truth_signature=reading.default_signature,
        label_output=label_output,
    )
    asked = asking.ask_all(reading.read(sources))
    origin = ", ".join(name_of(source) for source in sources)
    skipped = Counter(reading.skipped)
    if not asked.requests and not asked.canary_failures:
        why = "; ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        failed = asked.both_failed + asked.stable_failures
        said = " ".join(asked.first_refusal.split())
        why = why or (f"version {stable} answers none of {failed:,} ({said:.300})" if failed else "there is none")
        raise ParityError(f"{model}: no request of {origin} could be compared: {why}")
    known = asked.accuracy
    if labels is not None and not asked.was_cut_short and not asked.canary_failures:
        check_labels(len(labels), reading.rows[reading.default_signature], reading.default_signature)  # type: ignore[arg-type]  # an array or a list
    figures = Figures(
        promise=check_promise(clients, model, number, folders, canary_label, timeout),
        breaking=[
            *(str(each) for each in compare_signatures(old, new) if each.is_breaking),
            *(f"{name}: output {output} is not in the answers" for name, output in sorted(asked.missing)),
        ],
        outputs=asked.outputs,
        requests=asked.requests,
        canary_failures=asked.canary_failures,
        first_failure=asked.first_failure,
        accuracy=known,
        accuracy_of=(reading.default_signature, asked.label_output) if known is not None else None,
        latency=_time(asked, before, after, latency_pairs),
    )
    return CanaryReport(
        model=model,
        version=number,
        stable=stable,
        servers=tuple(each.url for each in clients),
        origin=origin,
        figures=figures,
        verdict=judge(figures, bounds),
        rows=asked.rows,
        stable_failures=asked.stable_failures,
        both_failed=asked.both_failed,
        skipped=skipped,
        was_cut_short=asked.was_cut_short,
        sizes={version: folder_size(folder) for version, folder in folders.items()},
        takes_unlabelled=_highest(client, model, timeout) == number,
        seconds=time.monotonic() - begun,
    )


def _batchable(folders: dict[int, Path], versions: int) -> bool | None:
    """Tell whether the rows of both versions stand for themselves, where the exporter measured it."""
    said = []
    for folder in folders.values():
        content = read_metadata(folder)
        said.append(None if content is None else content.get("batchable"))
    if False in said:
        return False
    return True if said.count(True) == versions else None


def _time(asked: Asked, before: VersionSide, after: VersionSide, pairs: int) -> LatencyFigures:
    if asked.canary_failures or asked.stable_failures or asked.both_failed:
        # Some of the sample would fail, and how fast a failure is, is no latency.
        usable: list[Request] = [each for each in asked.sample if _answers(before, each) and _answers(after, each)]
    else:
        usable = asked.sample
    return time_pairs(usable, before.answer, after.answer, pairs=pairs)


def _answers(side: VersionSide, request: Request) -> bool:
    try:
        side.answer(request)
    except BundleError:
        return False
    return True


def _highest(client: Client, model: str, timeout: Timeout) -> int:
    return max((each.version for each in client.status(model, timeout=timeout) if each.is_available), default=0)
