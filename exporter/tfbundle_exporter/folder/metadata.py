"""metadata.json: who made a version, from what, what it takes and gives, and what was proven of it.

Its form is laid down in tfbundle_serving/apis/metadata.schema.json.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import sha256_of
from tfbundle_serving.apis.fingerprint import read_fingerprint
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE, Signature, TensorSpec
from tfbundle_serving.apis.version_folder import METADATA, SAVED_MODEL

from ..models.source_model import SourceModel
from ..proof.report import GateReport, OutputParity
from ..runtime import import_tensorflow
from ..sources.artefacts import Artefact

#: Raised when a reader of the old form would misread the new one.
SCHEMA_VERSION = 1

#: What the user may say of a model under a name of its own; everything else goes under "user".
_TOLD = ("preprocessing", "data", "notes")
_TRAINING = ("optimizer", "loss", "metrics", "batch_size", "epochs", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """Where a version comes from, as plain data.

    Attributes:
        kind: "live", or the kind of the file or folder.
        name: The file's name without its folder, or the live model's.
        family: The package that loaded it.
        library_version: Version of that package, here.
        writer_version: Version of the Keras that wrote the source; "" where it does not say, or was no Keras.
        writer: Who wrote it, in a person's words.
        tensorflow_version: Version of TensorFlow, here.
        sha256: The file's hash; None for a live model.
        size: In bytes; None for a live model.
        training: What the source knows of its training.
    """

    kind: str
    name: str
    family: str
    library_version: str
    writer_version: str
    writer: str
    tensorflow_version: str
    sha256: str | None = None
    size: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_live(cls, model: SourceModel) -> SourceFacts:
        """Describe a live model."""
        return cls(
            kind="live",
            name=model.name,
            family=model.family,
            library_version=model.library_version,
            writer_version="" if model.family == "tensorflow" else model.library_version,
            writer=f"{model.family} {model.library_version}",
            tensorflow_version=_tensorflow_version(),
            training=to_json(model.training),
        )

    @classmethod
    def of_artefact(cls, artefact: Artefact, model: SourceModel, sha256: str) -> SourceFacts:
        """Describe a file and the model that it became."""
        return cls(
            kind=artefact.kind,
            name=artefact.name,
            family=model.family,
            library_version=model.library_version,
            writer_version=artefact.keras_version,
            writer=artefact.writer,
            tensorflow_version=_tensorflow_version(),
            sha256=sha256,
            size=artefact.size,
            training=to_json(artefact.training),
        )


def _tensorflow_version() -> str:
    return str(import_tensorflow().__version__)


def describe_version(
    folder: Path,
    *,
    model_name: str,
    created_at: str,
    tag: str | None,
    source: SourceFacts,
    weights: Mapping[str, Any],
    unproven: Sequence[str],
    gate: GateReport,
    told: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather everything that metadata.json says, but for the number.

    Args:
        folder: The staged version folder, complete but for metadata.json.
        model_name: Name of the model, which is the base path's.
        created_at: When it was made, RFC 3339.
        tag: Its other name.
        source: Where the version comes from.
        weights: Figures and hashes of its weights.
        unproven: Signatures that were let pass without proof.
        gate: What was measured of it.
        told: What the user says: "training", "data", "preprocessing", "notes", and fields of the user's own.

    Raises:
        ExportError: What the user says is no JSON.
    """
    signatures = read_signatures(folder)
    main = signatures.get("serving_default") or next(iter(signatures.values()))
    return {
        "schema_version": SCHEMA_VERSION,
        "model_name": model_name,
        "format": "saved_model",
        "version": None,
        "tag": tag,
        "created_at": created_at,
        "tfbundle_version": package_version("tfbundle"),
        "tensorflow_version": source.tensorflow_version,
        "keras_version": None if source.family == "tensorflow" else source.library_version,
        "python_version": platform.python_version(),
        "source": _describe_source(source),
        "signatures": {name: _describe_signature(signature) for name, signature in signatures.items()},
        "input_signature": {name: _describe_spec(spec) for name, spec in main.inputs.items()},
        "training": _describe_training(source, told.get("training")),
        **{name: told.get(name) for name in _TOLD},
        "user": {name: value for name, value in told.items() if name not in (*_TOLD, "training")},
        "weights": weights,
        "fingerprint": _fingerprint(folder),
        "files": {
            path.relative_to(folder).as_posix(): sha256_of(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != METADATA
        },
        "parity": _describe_parity(gate),
        "batchable": gate.batchable,
        "deterministic": gate.deterministic,
        "allowed": sorted({*gate.allowed, *(["unproven"] if unproven else [])}),
        "unproven": list(unproven),
        "ops": gate.ops.to_json(),
        "served": None if gate.served is None else gate.served.to_json(),
        "warmup_records": gate.warmup_records,
    }


def encode_metadata(content: Mapping[str, Any]) -> bytes:
    """Write metadata.json; numbers that JSON lacks become null."""
    return json.dumps(to_json(content), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def check_told(told: Mapping[str, Any]) -> None:
    """Refuse descriptions by the user that do not fit metadata.json, before any work is done.

    Raises:
        ExportError: A field has the wrong type; the message names it.
    """
    expected: dict[str, tuple[type | tuple[type, ...], str]] = {
        "training": (Mapping, "an object"),
        "data": (Mapping, "an object"),
        "notes": (str, "a text"),
    }
    for name, (kind, what) in expected.items():
        if told.get(name) is not None and not isinstance(told[name], kind):
            raise ExportError(f"metadata field {name!r} must be {what}, got {told[name]!r:.80}")
    unnamed = [name for name in told if not isinstance(name, str)]
    if unnamed:
        raise ExportError(f"metadata fields have names; got {unnamed[0]!r}")


def to_json(value: Any) -> Any:
    """Bring a value into JSON's types: arrays become lists, NaN and infinities null, other objects their text."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return getattr(value, "__name__", None) or str(value)


def read_signatures(staged: Path) -> dict[str, Signature]:
    """Read the signatures that a server will see in a SavedModel."""
    graph = next(graph for graph in read_meta_graphs(staged / SAVED_MODEL) if "serve" in graph.tags)
    return {name: each for name, each in sorted(graph.signatures.items()) if name != INIT_OP_SIGNATURE}


def _describe_source(source: SourceFacts) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "name": source.name,
        "family": source.family,
        "keras_version": source.writer_version or None,
        "writer": source.writer,
        "sha256": source.sha256,
        "size": source.size,
    }


def _describe_signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: _describe_spec(spec) for name, spec in sorted(signature.inputs.items())},
        "outputs": {name: _describe_spec(spec) for name, spec in sorted(signature.outputs.items())},
        "method_name": signature.method_name,
    }


def _describe_spec(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.type_name, "shape": None if spec.shape is None else list(spec.shape)}


def _describe_training(source: SourceFacts, told: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**dict.fromkeys(_TRAINING), **source.training, **(told or {})}


def _fingerprint(staged: Path) -> str | None:
    """Give the SavedModel's singleprint: equal for equal graphs and weights, whenever and wherever written."""
    fingerprint = read_fingerprint(staged)
    return None if fingerprint is None else fingerprint.singleprint


def _describe_parity(gate: GateReport) -> dict[str, Any]:
    return {
        "max_abs_diff": gate.max_abs_diff,
        "max_rel_diff": gate.max_rel_diff,
        "argmax_agreement": gate.argmax_agreement,
        "noise_floor": gate.noise_floor,
        "rows": gate.rows,
        "batch_sizes": list(gate.batch_sizes),
        "signatures": {
            signature: {name: _describe_output(output) for name, output in outputs.items()}
            for signature, outputs in gate.parity.items()
        },
    }


def _describe_output(output: OutputParity) -> dict[str, Any]:
    return {
        "max_abs_diff": output.max_abs_diff,
        "max_rel_diff": output.max_rel_diff,
        "argmax_agreement": output.argmax_agreement,
        "tolerance": {"rtol": output.tolerance.rtol, "atol": output.tolerance.atol},
        "by_value": output.by_value,
    }
