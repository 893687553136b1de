"""From a source to a published version: the steps in their order, and nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE

from .folder.metadata import check_told, describe_version, encode_metadata, to_json
from .fresh_process import FreshProcess
from .proof.gate import pass_gate
from .publishing.base_path import check_base_path, check_free, staging_folder
from .publishing.publish import publish
from .settings import Examples, SignatureSettings, SourceSettings
from .signatures.names import Names, check_legal
from .staging import stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportedVersion:
    """A version that was published.

    Attributes:
        version: Its number.
        path: Its folder.
        metadata: What its metadata.json says.
    """

    version: int
    path: Path
    metadata: dict[str, Any]


def export_model(
    source: Any,
    base_path: str | os.PathLike[str],
    *,
    example_inputs: Any = None,
    input_names: Names | None = None,
    output_names: Names | None = None,
    signature: str = DEFAULT_SIGNATURE,
    version: int | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    allow_unsafe: bool = False,
    seed: int = 0,
) -> ExportedVersion:
    """Turn a Keras model into the next version that TensorFlow Serving loads.

    The version is staged beside the others, loaded back and held against the source model at several batch sizes, and
    appears under its number all at once, or not at all. Each step is logged at INFO.

    Args:
        source: A built Keras 3 or tf_keras model, or the path of an .h5, .hdf5 or .keras file of either Keras.
        base_path: The folder of the model's versions, named after the model; made where it is missing.
        example_inputs: Rows to prove the version on, best from the test set: an array, {input name: array}, or arrays
            in the model's order, the first axis being the rows. The first 256 (or 32 MiB) are used and kept in
            golden.npz. None draws rows from the signature.
        input_names: What clients call the inputs: {name: input layer}, or all names in order. None keeps the layers'.
        output_names: The same for the outputs and the output layers.
        signature: The signature's name. Clients that name none mean "serving_default".
        version: The number; None takes the next one. One that exists or ever existed is refused.
        custom_objects: Name to class or function, for a file with layers of your own.
        metadata: What metadata.json shall say besides: "training", "data", "preprocessing", "notes", anything else.
        allow_unsafe: Load a file even if it holds code or links to other files.
        seed: For drawing inputs.

    Returns:
        The version, which is in place and on the disk.

    Raises:
        ExportError: The source is no model, is unsafe, or does not fit the arguments; nothing was published.
        GateError: The version did not answer like its source; nothing was published.
    """
    base = Path(os.path.abspath(base_path))  # noqa: PTH100  # resolve() would follow the user's own symbolic links
    told = dict(metadata or {})
    check_base_path(base)
    check_told(told)
    check_legal("the signature", signature)
    if version is not None:
        check_free(base, version)
    reading = SourceSettings(custom_objects=dict(custom_objects or {}), allow_unsafe=allow_unsafe)
    signatures = SignatureSettings(name=signature, input_names=input_names, output_names=output_names)
    examples = Examples(given=example_inputs, seed=seed)
    try:
        # The gate's process imports TensorFlow while this one loads the model.
        with (
            FreshProcess("the gate", environment=_GATE_ENVIRONMENT, preload=("tensorflow",)) as gate,
            staging_folder(base) as staged,
        ):
            made = stage(
                source, staged, model_name=base.name, reading=reading, signatures=signatures, examples=examples
            )
            report = gate.run(pass_gate, staged, made.references)
            logger.info(
                "loaded it back and compared: max abs difference %.3g at batch sizes %s (%d rows)",
                report.max_abs_diff,
                ", ".join(map(str, report.batch_sizes)),
                report.rows,
            )
            content = to_json(
                describe_version(
                    staged, model_name=base.name, source=made.facts, weights=made.weights, gate=report, told=told
                )
            )
            number = publish(staged, base, version=version, metadata=lambda number: _metadata(content, number))
    except OSError as error:
        raise ExportError(f"cannot write a version to {base}: {error.strerror or error}") from error
    logger.info("published version %d: %s", number, base / str(number))
    return ExportedVersion(number, base / str(number), content | {"version": number})


def _metadata(content: dict[str, Any], version: int) -> bytes:
    return encode_metadata(content | {"version": version})


#: A server seldom has the trainer's GPU, and this process may hold all of its memory.
_GATE_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1"}
