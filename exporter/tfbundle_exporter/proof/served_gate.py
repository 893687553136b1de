"""The gate's second half, where it is asked for: a server is started on the staged version and asked over the wire."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError, GateError
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import Signature
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from .parity import check_output
from .reference import Reference
from .report import ServedReport
from .server_process import VERSION, TrialServer, trial_server
from .wire_questions import GrpcWire, NotListeningError, NoWireFormError, RestWire

logger = logging.getLogger(__name__)

#: TensorFlow Serving looks for versions every second, loads them, and runs up to 1,000 warm-up records.
_LOAD_S, _LOOK_S = 300.0, 0.1


def pass_served_gate(
    folder: Path, references: Mapping[str, Reference], *, model_name: str, command: str = ""
) -> ServedReport:
    """Start a server on a staged version and hold what comes over the wire against the source.

    Each transport that the server speaks is asked every reference batch. Where a layer keeps state, what a server
    answers depends on what its warm-up has asked before, so only shape, dtype and names are looked at there.

    Args:
        folder: The staged version folder.
        references: Signature to reference inputs and the source's answers.
        model_name: Name of the model.
        command: The server's command line with {model_name}, {base_path}, {port} and {rest_port}; "" for the
            embedded server.

    Raises:
        ExportError: The command line cannot be used.
        GateError: The server does not start or load the version, refuses a request, or answers differently; the
            message says which transport, signature, output, batch and elements.
    """
    signatures = _read_signatures(folder)
    found: dict[str, float] = {}
    left_out: list[str] = []
    with trial_server(folder, model_name=model_name, command=command) as server:
        wires: list[GrpcWire | RestWire] = []
        if server.grpc_port is not None:
            wires.append(GrpcWire(server.grpc_port))
        if server.rest_port is not None:
            wires.append(RestWire(server.rest_port))
        for wire in wires:
            with closing(wire):
                _wait_until_available(server, wire, model_name)
                for name, reference in references.items():
                    spec = ModelSpec(model_name, version=VERSION, signature=name)
                    try:
                        worst = _compare_batches(wire, spec, signatures[name], reference)
                    except NoWireFormError as error:
                        left_out.append(f"{wire.name}, signature {name}: {error}")
                    else:
                        found[wire.name] = max(found.get(wire.name, 0.0), worst)
        logger.info("%s answers like the source over %s", server.name, " and ".join(found) or "no transport")
        return ServedReport(server=server.name, max_abs_diff=found, left_out=tuple(left_out))


def _read_signatures(folder: Path) -> dict[str, Signature]:
    graph = next(graph for graph in read_meta_graphs(folder / SAVED_MODEL) if "serve" in graph.tags)
    return graph.signatures


def _wait_until_available(server: TrialServer, wire: GrpcWire | RestWire, model_name: str) -> None:
    deadline = time.monotonic() + _LOAD_S
    last = ""
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            statuses = [status for status in wire.statuses(model_name) if status.version == VERSION]
        except NotListeningError as error:
            statuses, last = [], str(error)
        except (BundleError, ValueError) as error:  # until it has looked, TensorFlow Serving knows no such model
            statuses, last = [], str(error)
        for status in statuses:
            if status.is_available:
                return
            last = f"{status.state.name} {status.error_message}".strip()
            if status.error_message or status.state is State.END:
                raise GateError(f"{server.name} cannot load the staged version: {last}; its log: {server.said()}")
        time.sleep(_LOOK_S)
    raise GateError(
        f"{server.name} did not make the staged version available within {_LOAD_S:.0f} s: {last}; "
        f"its log: {server.said()}"
    )


def _compare_batches(wire: GrpcWire | RestWire, spec: ModelSpec, signature: Signature, reference: Reference) -> float:
    worst = 0.0
    for batch in reference.batches:
        place = f"over {wire.name}, signature {spec.signature!r}"
        try:
            answer = wire.predict(spec, signature, batch.take(reference.inputs))
        except NoWireFormError:
            raise
        except GateError as error:
            raise GateError(f"{place}, {batch}: the server fails: {error}") from error
        if answer.keys() != batch.outputs.keys():
            raise GateError(
                f"{place}: the server answers with {', '.join(sorted(answer))}; "
                f"the source with {', '.join(sorted(batch.outputs))}"
            )
        for name in batch.outputs:
            what = f"{place}, output {name!r}, {batch}: the server"
            judged = reference.with_unsteady(tuple(batch.outputs)) if reference.stateful else reference
            comparison = check_output(what, judged, batch, answer, name)
            if name not in judged.unsteady:
                worst = max(worst, comparison.max_abs_diff)
    return worst
