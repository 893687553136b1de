"""A source becomes a staged version folder: read, checked, loaded, named, asked, written. Nothing is published here.

It returns plain data, so that it can run here or, where a user's module has its say, in a process of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.golden import write_golden
from tfbundle_serving.apis.version_folder import golden_path

from .folder.metadata import SourceFacts, sha256_of
from .folder.saved_model import write_saved_model
from .folder.warmup import warmup_requests, write_warmup
from .folder.weights import describe_weights
from .models.keras_model import adapt
from .models.source_model import SourceModel
from .proof import example_inputs
from .proof.reference import Reference, ask
from .publishing.base_path import check_free_space
from .runtime import quiet
from .settings import Examples, SignatureSettings, SourceSettings
from .signatures.endpoint import Endpoint, plain_endpoint
from .signatures.names import choose_names
from .sources.loading import load_model
from .sources.security import refuse, scan
from .sources.sniffing import identify

logger = logging.getLogger(__name__)

#: Room for everything in a version folder that is not a weight.
_SMALL_FILES_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A staged version, complete but for metadata.json.

    Attributes:
        facts: Where it comes from.
        weights: What metadata.json says of the weights.
        references: Signature to reference inputs and the source's answers.
    """

    facts: SourceFacts
    weights: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, Reference]


def stage(
    source: Any,
    folder: Path,
    *,
    model_name: str,
    reading: SourceSettings,
    signatures: SignatureSettings,
    examples: Examples,
) -> Staged:
    """Write a version folder that is complete but for metadata.json.

    Args:
        source: A live model or a path.
        folder: Where to; it does not exist yet, its parent does.
        model_name: Name of the model.
        reading: How to read the source.
        signatures: Which signatures, under which names.
        examples: The reference inputs.

    Raises:
        ExportError: The source is no model, is unsafe, or does not fit what it is asked for.
        OSError: The file system refused.
    """
    with quiet():
        model, facts = _open_source(source, reading)
        endpoints = _make_endpoints(model, signatures)
        references = _ask_all(model, endpoints, examples)
        logger.info("asked the source model for its answers to %d rows", references[endpoints[0].signature].rows)
        check_free_space(folder.parent, 2 * model.weight_bytes + _SMALL_FILES_BYTES)
        write_saved_model(folder, model, endpoints)
        write_warmup(folder, warmup_requests(model_name, references))
        write_golden(golden_path(folder), {name: reference.golden for name, reference in references.items()})
        logger.info("wrote the SavedModel")
        return Staged(facts=facts, weights=describe_weights(model.weights), references=references)


def _open_source(source: Any, reading: SourceSettings) -> tuple[SourceModel, SourceFacts]:
    if not isinstance(source, (str, os.PathLike)):
        model = adapt(source)
        logger.info("took the live %s model %s, Keras %s", model.family, model.name, model.library_version)
        return model, SourceFacts.of_live(model)
    artefact = identify(source)
    if not reading.allow_unsafe:
        refuse(artefact, scan(artefact, known_names=reading.custom_objects))
    logger.info("read %s", artefact)
    sha256 = sha256_of(artefact.path)
    live = load_model(artefact, custom_objects=reading.custom_objects, allow_unsafe=reading.allow_unsafe)
    model = adapt(live)
    logger.info("loaded it with %s %s", model.family, model.library_version)
    return model, SourceFacts.of_artefact(artefact, model, sha256)


def _make_endpoints(model: SourceModel, settings: SignatureSettings) -> list[Endpoint]:
    inputs = choose_names("input", tuple(model.main.inputs), settings.input_names)
    outputs = choose_names("output", model.main.output_names, settings.output_names)
    main = plain_endpoint(settings.name, model.main, inputs=inputs, outputs=outputs)
    described = ", ".join(f"{name} {spec}" for name, spec in main.inputs.items())
    logger.info("signature %s: %s -> %s", main.signature, described, ", ".join(outputs))
    return [main]


def _ask_all(model: SourceModel, endpoints: list[Endpoint], examples: Examples) -> dict[str, Reference]:
    main, *_ = endpoints
    if examples.given is None:
        logger.info("no example inputs were given: drawing some from the signature (seed %d)", examples.seed)
        inputs = example_inputs.draw_examples(main.inputs, seed=examples.seed)
    else:
        inputs = example_inputs.fit_examples(examples.given, main.inputs, tuple(model.main.inputs))
    return {main.signature: ask(main.predict, inputs)}
