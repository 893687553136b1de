"""From a source to a published version: the steps in their order, and nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import write_golden
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.version_folder import golden_path

from . import example_inputs as examples
from .base_path import check_base_path, check_free, check_free_space, staging_folder
from .gate import GateReport, pass_gate
from .keras_model import KerasModel, adapt
from .loading import load_model
from .metadata import SourceFacts, check_told, describe_version, encode_metadata, sha256_of, to_json
from .names import Names, check_legal, choose_names
from .publish import publish
from .reference import Reference, ask
from .runtime import quiet
from .saved_model import Endpoint, write_saved_model
from .security import refuse, scan
from .sniffing import identify
from .warmup import warmup_requests, write_warmup

logger = logging.getLogger(__name__)

#: Room for everything in a version folder that is not a weight.
_SMALL_FILES_BYTES = 16 << 20


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
    with quiet():
        facts = _open_source(source, custom_objects=custom_objects, allow_unsafe=allow_unsafe)
        endpoint = _name_endpoint(facts.model, signature, input_names, output_names)
        inputs = _reference_inputs(endpoint, example_inputs, seed)
        references = {signature: ask(endpoint.predict, inputs)}
        logger.info("asked the source model for its answers to %d rows", references[signature].rows)
        check_free_space(base, 2 * facts.model.weight_bytes + _SMALL_FILES_BYTES)
        try:
            with staging_folder(base) as staged:
                gate = _stage(staged, base.name, endpoint, references)
                content = to_json(describe_version(staged, model_name=base.name, source=facts, gate=gate, told=told))
                number = publish(staged, base, version=version, metadata=lambda number: _metadata(content, number))
        except OSError as error:
            raise ExportError(f"cannot write a version to {base}: {error.strerror or error}") from error
    logger.info("published version %d: %s", number, base / str(number))
    return ExportedVersion(number, base / str(number), content | {"version": number})


def _metadata(content: dict[str, Any], version: int) -> bytes:
    return encode_metadata(content | {"version": version})


def _open_source(source: Any, *, custom_objects: Mapping[str, Any] | None, allow_unsafe: bool) -> SourceFacts:
    if not isinstance(source, (str, os.PathLike)):
        model = adapt(source)
        logger.info("took the live %s model %s, Keras %s", model.family, model.name, model.keras_version)
        return SourceFacts(model=model, artefact=None)
    artefact = identify(source)
    if not allow_unsafe:
        refuse(artefact, scan(artefact, known_names=custom_objects or {}))
    logger.info("read %s", artefact)
    sha256 = sha256_of(artefact.path)
    model = adapt(load_model(artefact, custom_objects=custom_objects, allow_unsafe=allow_unsafe))
    logger.info("loaded it with %s %s", model.family, model.keras_version)
    return SourceFacts(model=model, artefact=artefact, sha256=sha256)


def _name_endpoint(
    model: KerasModel, signature: str, input_names: Names | None, output_names: Names | None
) -> Endpoint:
    inputs = choose_names("input", tuple(model.inputs), input_names)
    outputs = choose_names("output", model.output_names, output_names)
    specs = dict(zip(inputs, model.inputs.values(), strict=True))
    described = ", ".join(f"{name} {spec}" for name, spec in specs.items())
    logger.info("signature %s: %s -> %s", signature, described, ", ".join(outputs))
    return Endpoint(signature=signature, inputs=specs, outputs=outputs, model=model)


def _reference_inputs(endpoint: Endpoint, given: Any, seed: int) -> examples.Arrays:
    if given is not None:
        return examples.fit_examples(given, endpoint.inputs, tuple(endpoint.model.inputs))
    logger.info("no example inputs were given: drawing some from the signature (seed %d)", seed)
    return examples.draw_examples(endpoint.inputs, seed=seed)


def _stage(staged: Path, model_name: str, endpoint: Endpoint, references: Mapping[str, Reference]) -> GateReport:
    write_saved_model(staged, [endpoint])
    logger.info("wrote the SavedModel")
    write_warmup(staged, warmup_requests(model_name, references))
    write_golden(golden_path(staged), {name: reference.golden for name, reference in references.items()})
    report = pass_gate(staged, references)
    logger.info(
        "loaded it back and compared: max abs difference %.3g at batch sizes %s (%d rows)",
        report.max_abs_diff,
        ", ".join(map(str, report.batch_sizes)),
        report.rows,
    )
    return report
