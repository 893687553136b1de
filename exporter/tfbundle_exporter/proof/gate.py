"""The gate: a staged version is loaded from disk and must answer like its source, or nothing is published.

It sees the folder and the source's recorded answers, and nothing of the model they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tfbundle_serving.apis.errors import DecodeError, GateError
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.version_folder import SAVED_MODEL, WARMUP_REQUESTS

from ..folder.warmup import read_warmup
from ..runtime import import_tensorflow
from ..settings import GateSettings
from .allowances import Allowances, check_batched, check_stateful
from .folder_check import check_files
from .op_scan import REFUSED, OpScan, scan_ops
from .parity import prove
from .reference import Reference
from .report import GateReport, OutputParity
from .served_gate import pass_served_gate
from .staged_version import StagedVersion, is_registered_op, one_line

__all__ = ["GateReport", "OutputParity", "pass_gate"]

#: TensorFlow Serving refuses a version with more.
_MAX_WARMUP_RECORDS = 1000


def pass_gate(
    folder: Path,
    references: Mapping[str, Reference],
    settings: GateSettings | None = None,
    *,
    model_name: str = "model",
) -> GateReport:
    """Load a staged version and hold it against its source.

    Args:
        folder: The staged version folder, complete but for metadata.json.
        references: Signature to reference inputs and the source's answers.
        settings: What it has to stand; None for what is usual.
        model_name: Name of the model, for a server that is started on it.

    Raises:
        GateError: It holds what no server can read or run, cannot be loaded, lacks a signature, fails on a batch,
            answers differently from its source or from itself, or a warm-up record fails. The message says which
            signature, output, batch size and elements, and what allows it where that can be.
    """
    settings = settings or GateSettings()
    allowances = Allowances(settings.allow)
    for signature, reference in references.items():
        check_stateful(signature, reference.stateful, allowances)
        inputs = ", ".join(f"{name} {array.shape}" for name, array in reference.inputs.items())
        check_batched(signature, inputs, allowances, batched=reference.is_batched or not reference.inputs)
    files = check_files(folder)
    scan = _scan(folder, allowances)
    version = StagedVersion(folder)
    proofs = {
        signature: prove(version, signature, reference, scan, allowances) for signature, reference in references.items()
    }
    warmup_records = _replay_warmup(version, folder)
    served = None
    if settings.serve:
        served = pass_served_gate(folder, references, model_name=model_name, command=settings.server_command)
    sizes = {batch.size for reference in references.values() for batch in reference.batches if batch.size is not None}
    return GateReport(
        parity={signature: proof.parity for signature, proof in proofs.items()},
        batch_sizes=tuple(sorted(sizes)),
        rows=max(reference.rows for reference in references.values()),
        noise_floor=max(reference.noise_floor for reference in references.values()),
        batchable=all(proof.batchable for proof in proofs.values()),
        deterministic=all(proof.deterministic for proof in proofs.values()),
        warmup_records=warmup_records,
        allowed=allowances.needed,
        ops=scan,
        files=files,
        served=served,
    )


def _scan(folder: Path, allowances: Allowances) -> OpScan:
    try:
        scan = scan_ops(folder / SAVED_MODEL, is_known=is_registered_op)
    except (DecodeError, OSError) as error:
        raise GateError(f"the staged SavedModel cannot be loaded: {one_line(error)}") from error
    for kind, why in REFUSED.items():
        for finding in scan.of_kind(kind)[:1]:
            allowances.need("ops", f"the graph holds {finding}", why=why)
    return scan


def _replay_warmup(version: StagedVersion, folder: Path) -> int:
    tf = import_tensorflow()
    count = 0
    if not (folder / WARMUP_REQUESTS).exists():
        return count
    try:
        for record in read_warmup(folder):
            version.call(record.signature or DEFAULT_SIGNATURE, record.inputs)
            count += 1
            if count > _MAX_WARMUP_RECORDS:
                raise GateError(f"servers refuse a version with more than {_MAX_WARMUP_RECORDS} of them")
    except (DecodeError, tf.errors.OpError) as error:
        raise GateError(f"warm-up record {count + 1} cannot be read back: {one_line(error)}") from error
    except GateError as error:
        raise GateError(f"warm-up record {count + 1}: {error}") from error
    return count
