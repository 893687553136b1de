"""A source becomes a staged version folder: read, checked, loaded, named, asked, written. Nothing is published here.

It returns plain data, so that it can run here or, where a user's module has its say, in a process of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import write_golden
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.version_folder import SAVED_MODEL, WARMUP_REQUESTS, golden_path

from .folder.keep_source import keep_live, keep_source
from .folder.kept_saved_model import keep_saved_model
from .folder.metadata import SourceFacts
from .folder.recorded_warmup import choose_recorded, write_recorded
from .folder.saved_model import write_saved_model
from .folder.warmup import warmup_requests, write_warmup
from .folder.weights import describe_weights
from .models.live import adapt
from .models.row_by_row import free_rows, takes_one_row
from .models.saved_model import open_saved_model, read_calls
from .models.source_model import SourceModel
from .progress import begin
from .proof.graph_reader import read_graph
from .proof.questions import ask_all
from .proof.reference import Reference
from .publishing.base_path import check_free_space
from .runtime import quiet, same_chance
from .settings import Allowance, Examples, SignatureSettings, SourceSettings
from .signatures.build import build_endpoints
from .signatures.endpoint import Endpoint, plain_endpoint
from .signatures.keras2_names import keras2_names
from .sources.artefacts import Artefact, hash_artefact
from .sources.custom_objects import known_names
from .sources.loading import load_model
from .sources.security import refuse, scan

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
        unproven: Signatures that no inputs were found for, where that is allowed.
    """

    facts: SourceFacts
    weights: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, Reference]
    unproven: tuple[str, ...]


def stage(
    source: Any,
    folder: Path,
    *,
    model_name: str,
    reading: SourceSettings,
    signatures: SignatureSettings,
    examples: Examples,
    allow: frozenset[Allowance] = frozenset(),
    warmup: Path | None = None,
) -> Staged:
    """Write a version folder that is complete but for metadata.json.

    Args:
        source: A live model, or an artefact that was identified.
        folder: Where to; it does not exist yet, its parent does.
        model_name: Name of the model.
        reading: How to read the source.
        signatures: Which signatures, under which names.
        examples: The reference inputs.
        allow: What is let pass.
        warmup: Recorded requests to warm the version up with; None makes them of the reference inputs.

    Raises:
        ExportError: The source is no model, is unsafe, or does not fit what it is asked for.
        OSError: The file system refused.
    """
    with quiet():
        model, facts = _open_source(source, reading, examples)
        frees_rows = isinstance(source, Artefact) and source.kind == "saved_model" and "fixed-batch" not in allow
        is_kept = isinstance(source, Artefact) and _can_be_kept(source, signatures)
        is_kept = is_kept and not (frees_rows and takes_one_row(model.main))
        if frees_rows and not is_kept:
            model = free_rows(model)
        endpoints = _own_endpoints(model, source) if is_kept else _make_endpoints(model, signatures)
        recorded = None if warmup is None else _choose_warmup(warmup, model, model_name, endpoints)
        begin(logger, "asking the source model for its answers")
        answers = ask_all(model, endpoints, examples, allow_unproven="unproven" in allow)
        rows = answers.references[endpoints[0].signature].rows
        logger.info("asked the source model for its answers to %d rows", rows)
        if model.reset is not None:
            model.reset()  # the version begins where the source did, not where the questions left it
        _check_space(folder, source, model, reading)
        begin(logger, "writing the version")
        if is_kept:
            keep_saved_model(source.path, folder)
            logger.info("copied the SavedModel as it is")
        else:
            write_saved_model(folder, model, endpoints)
            logger.info("wrote the SavedModel")
        # A stateful version would begin with the state that its own warm-up left.
        if recorded is not None:
            write_recorded(folder, recorded)
        elif not (folder / WARMUP_REQUESTS).exists() and not model.stateful:
            methods = {endpoint.signature: endpoint.method_name for endpoint in endpoints}
            write_warmup(folder, warmup_requests(model_name, answers.references, methods))
        goldens = {name: reference.golden for name, reference in answers.references.items()}
        golden_path(folder).parent.mkdir(exist_ok=True)
        write_golden(golden_path(folder), goldens)
        if reading.keep:
            _keep(source, folder, reading)
        return Staged(
            facts=facts,
            weights=describe_weights(model.weights),
            references=answers.references,
            unproven=answers.unproven,
        )


def _choose_warmup(path: Path, model: SourceModel, model_name: str, endpoints: list[Endpoint]) -> list[bytes]:
    if model.stateful:
        raise ExportError(
            f"the model {model_name} keeps state between calls, which the requests recorded in {path} would change "
            "before anybody asks: export it without them"
        )
    return choose_recorded(path, model_name, {each.signature: each.inputs for each in endpoints})


def _open_source(source: Any, reading: SourceSettings, examples: Examples) -> tuple[SourceModel, SourceFacts]:
    if not isinstance(source, Artefact):
        model = adapt(source, examples=examples.given)
        logger.info("took the live %s model %s, version %s", model.family, model.name, model.library_version)
        return model, SourceFacts.of_live(model)
    try:
        return _read_artefact(source, reading, examples)
    except OSError as error:
        # Said here, or it would pass for the base path's fault.
        raise ExportError(f"{error.filename or source.path} cannot be read: {error.strerror or error}") from error


def _read_artefact(source: Artefact, reading: SourceSettings, examples: Examples) -> tuple[SourceModel, SourceFacts]:
    if not reading.allow_unsafe:
        refuse(source, scan(source, known_names=known_names(reading)))
    logger.info("read %s", source)
    begin(logger, "loading %s", source.name)
    sha256 = hash_artefact(source)
    if source.kind == "saved_model":
        model = open_saved_model(source)
    else:
        with same_chance():
            live = load_model(source, reading, build=lambda unbuilt: _build(unbuilt, examples))
            model = adapt(live, examples=examples.given)
    logger.info("loaded it with %s %s", model.family, model.library_version)
    return model, SourceFacts.of_artefact(source, model, sha256)


def _build(live: Any, examples: Examples) -> None:
    """Call a model once on the example inputs, so that its weights exist."""
    adapt(live, examples=examples.given)


def _can_be_kept(source: Artefact, signatures: SignatureSettings) -> bool:
    """Tell whether a SavedModel is published byte for byte.

    It is where nothing else is asked for, clients find the default, and loading fills every variable that it reads.
    """
    facts = source.saved_model
    if facts is None or not signatures.keeps_names or DEFAULT_SIGNATURE not in facts.signatures:
        return False
    if not (source.path / SAVED_MODEL).exists():
        return False
    unfilled = read_graph(source.path / SAVED_MODEL).never_filled()
    if unfilled:
        logger.info("a server could not load it as it is, its variable %s stays empty: wrapping it anew", unfilled[0])
    return not unfilled


def _own_endpoints(model: SourceModel, source: Artefact) -> list[Endpoint]:
    """Take the signatures of a SavedModel as they are, legal or not: its clients know them by these names."""
    calls = read_calls(model, source)
    # The main one first.
    names = sorted(calls, key=lambda name: (name != DEFAULT_SIGNATURE, name))
    for name in names:
        described = ", ".join(f"{alias} {spec}" for alias, spec in calls[name].inputs.items())
        logger.info("signature %s: %s -> %s", name, described, ", ".join(calls[name].output_names))
    return [
        plain_endpoint(name, calls[name], inputs=tuple(calls[name].inputs), outputs=calls[name].output_names)
        for name in names
    ]


def _make_endpoints(model: SourceModel, signatures: SignatureSettings) -> list[Endpoint]:
    own_names = keras2_names(model) if signatures.naming == "keras2" else None
    return build_endpoints(model, signatures, own_names=own_names)


def _check_space(folder: Path, source: Any, model: SourceModel, reading: SourceSettings) -> None:
    kept = source.size if isinstance(source, Artefact) and reading.keep else model.weight_bytes * reading.keep
    check_free_space(folder.parent, 2 * model.weight_bytes + kept + _SMALL_FILES_BYTES)


def _keep(source: Any, folder: Path, reading: SourceSettings) -> None:
    if not isinstance(source, Artefact):
        keep_live(source, folder)
        return
    text = reading.architecture
    is_file = isinstance(text, (str, Path)) and Path(text).is_file()
    keep_source(source, folder, architecture=Path(text) if is_file else None)
