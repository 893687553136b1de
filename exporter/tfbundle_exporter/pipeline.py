"""From a source to a published version: the steps in their order, and nothing else."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.version_folder import check_tag, find_tag

from .arguments import check_choices, read_allowances, read_base_path, read_custom_objects, read_ready
from .folder.created_at import read_created_at
from .folder.metadata import check_told, describe_version, encode_metadata, to_json
from .fresh_process import FreshProcess
from .progress import begin
from .proof.gate import GateReport, pass_gate
from .publishing.base_path import check_base_path, check_free, staging_folder
from .publishing.disk_errors import writing_to
from .publishing.publish import publish
from .settings import Allowance, Examples, Gate, GateSettings, Keras, Naming, SignatureSettings, SourceSettings
from .signatures.names import Names, check_legal
from .signatures.ready_made import ReadyMade
from .sources.artefacts import Artefact
from .sources.loading import needs_own_process
from .sources.places import find_place
from .sources.sniffing import identify
from .staging import Staged, stage

logger = logging.getLogger(__name__)

#: A server seldom has the trainer's GPU, and this process may hold all of its memory.
_GATE_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True, slots=True)
class ExportedVersion:
    """A version that was published.

    Attributes:
        version: Its number.
        path: Its folder.
        metadata: What its metadata.json says.
        seconds: What took how long: "stage", "gate" (waiting for it alone) and "publish".
    """

    version: int
    path: Path
    metadata: dict[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)


def export_model(
    source: Any,
    base_path: str | os.PathLike[str],
    *,
    example_inputs: Any = None,
    input_names: Names | None = None,
    output_names: Names | None = None,
    names: Naming = "layers",
    signature: str = DEFAULT_SIGNATURE,
    signatures: Mapping[str, Any] | None = None,
    ready: Sequence[ReadyMade | str] | ReadyMade | str = (),
    cast_outputs: bool = False,
    version: int | None = None,
    tag: str | None = None,
    architecture: Any = None,
    pick: str = "",
    custom_objects: Mapping[str, Any] | Collection[str] | str | None = None,
    recurrent_activation: str = "",
    keras: Keras = "",
    keep_source: bool = False,
    metadata: Mapping[str, Any] | None = None,
    created_at: str | float | None = None,
    allow: Collection[Allowance] = (),
    allow_unsafe: bool = False,
    gate: Gate = "local",
    server_command: str = "",
    warmup: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> ExportedVersion:
    """Turn a model into the next version that TensorFlow Serving loads.

    The version is staged beside the others, loaded in a process of its own and held against the source model at several
    batch sizes, and appears under its number all at once, or not at all. Each step is logged at INFO.

    Args:
        source: A Keras 3 or tf_keras model or a tf.Module; or the path of an .h5, .hdf5 or .keras file of any Keras
            from 2.0 on, a SavedModel folder, weights or a checkpoint (with `architecture`), or a folder of
            checkpoints (with `pick`).
        base_path: The folder of the model's versions, named after the model; made where it is missing.
        example_inputs: Rows to prove the version on, best from the test set: an array, {input name: array}, or arrays
            in the model's order, the first axis being the rows. The first 256 (or 32 MiB) are used and kept in
            golden.npz. None draws rows from the signature. A model that was never called is built by a call on them.
        input_names: What clients call the inputs: {name: input layer}, or all names in order. None keeps the layers'.
        output_names: The same for the outputs and the output layers.
        names: Where names come from that are not given: "layers", or "keras2" for those that Keras 2's own
            `model.save` gave, so that its clients go on working.
        signature: The main signature's name. Clients that name none mean "serving_default".
        signatures: Signatures of your own besides: name to tf.function with an input_signature.
        ready: Ready-made signatures around the main one: Image(), Example(), Classify(), Regress(), Raw(), Labels(), or
            what the command line says for them, such as "image:low=-1,high=1".
        cast_outputs: Give bfloat16 and float16 outputs as float32.
        version: The number; None takes the next one. One that exists or ever existed is refused.
        tag: A name for the version besides its number, such as "1.4.0"; unique in the base path.
        architecture: What weights belong to: the path of a JSON or YAML text, "module:factory" or "file.py:factory"
            (run in a process of its own), a callable that builds the model, or a model.
        pick: Which checkpoint of a folder: "latest", "best" or "epoch=N".
        custom_objects: Name to class or function, for a source with layers of your own; or "module" or "module:name",
            one or several, where they are found.
        recurrent_activation: What the recurrent layers used, for weights that do not say.
        keras: The Keras of an architecture, where nothing records it.
        keep_source: Put the source, optimizer state and all, into assets.extra/source/.
        metadata: What metadata.json shall say besides: "training", "data", "preprocessing", "notes", anything else.
        created_at: Stands in metadata.json instead of the clock's time: RFC 3339, or seconds since 1970. None takes
            SOURCE_DATE_EPOCH where it is set.
        allow: What to let pass and mark in metadata.json: "stateful", "random", "fixed-batch", "ops", "unproven".
        allow_unsafe: Load a file even if it holds code or links to other files.
        gate: "serve" starts a server on the staged version, too, and compares over the wire.
        server_command: The server for that, with {model_name}, {base_path}, {port} and {rest_port}; "" is the embedded.
        warmup: A file of requests that a server recorded (`tfbundle serve --record`), to warm the version up with: up
            to 1,000 of those that fit it, evenly over the file. None makes them of the example inputs.
        seed: For drawing inputs.

    Returns:
        The version, which is in place and on the disk.

    Raises:
        ExportError: The source is no model, is unsafe, or does not fit the arguments; nothing was published.
        GateError: The version did not answer like its source; nothing was published.
    """
    base = read_base_path(base_path)
    told = dict(metadata or {})
    check_choices("names", (names,))
    check_choices("keras", (keras,))
    check_choices("gate", (gate,))
    proof = GateSettings(allow=read_allowances(allow), serve=gate == "serve", server_command=server_command)
    moment = read_created_at(created_at)
    check_base_path(base)
    check_told(told)
    check_legal("the signature", signature)
    if version is not None:
        check_free(base, version)
    if tag is not None:
        _check_tag_is_free(base, tag)
    reading = SourceSettings(
        architecture=architecture,
        pick=pick,
        **read_custom_objects(custom_objects),
        recurrent_activation=recurrent_activation,
        keras=keras,
        allow_unsafe=allow_unsafe,
        keep=keep_source,
    )
    naming = SignatureSettings(
        name=signature,
        input_names=input_names or None,
        output_names=output_names or None,
        naming=names,
        ready=read_ready(ready),
        functions=dict(signatures or {}),
        cast_outputs=cast_outputs,
    )
    examples = Examples(given=example_inputs, seed=seed)
    looked_at = source
    if isinstance(source, (str, os.PathLike)):
        looked_at = identify(find_place(source) if os.fspath(source) else "", pick=pick)
    if isinstance(looked_at, Artefact):
        _check_apart(looked_at, base)
    clock = _Clock()
    with writing_to(base), ExitStack() as stack:
        # The gate's process imports TensorFlow while this one loads the model.
        judge = stack.enter_context(
            FreshProcess("the gate", environment=_GATE_ENVIRONMENT, preload=("tensorflow",), is_usual=True)
        )
        folder = stack.enter_context(staging_folder(base))
        with clock.measure("stage"):
            staged = _stage(
                looked_at,
                folder,
                model_name=base.name,
                reading=reading,
                signatures=naming,
                examples=examples,
                allow=proof.allow,
                warmup=None if warmup is None else Path(warmup),
            )
        with clock.measure("gate"):
            report = _prove(judge, folder, base.name, staged, proof)
        with clock.measure("publish"):
            content = to_json(
                describe_version(
                    folder,
                    model_name=base.name,
                    created_at=moment,
                    tag=tag,
                    source=staged.facts,
                    weights=staged.weights,
                    unproven=staged.unproven,
                    gate=report,
                    told=told,
                )
            )
            begin(logger, "publishing")
            number = publish(
                folder, base, version=version, metadata=lambda number: _metadata(base, tag, content, number)
            )
    logger.info("published version %d: %s", number, base / str(number))
    return ExportedVersion(number, base / str(number), content | {"version": number}, clock.seconds)


def _check_apart(source: Artefact, base: Path) -> None:
    """Refuse a base path inside of the source folder: the version would hold itself, half-made."""
    if source.path.is_dir() and base.resolve().is_relative_to(source.path.resolve()):
        raise ExportError(f"the base path {base} lies in the source {source.path}; expected one outside of it")


class _Clock:
    """Keeps how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[step] = time.monotonic() - begun


def _stage(source: Any, folder: Path, *, reading: SourceSettings, **settings: Any) -> Staged:
    """Stage here, or in a process of its own where a module of the user's has its say."""
    environment = needs_own_process(source, reading) if isinstance(source, Artefact) else None
    if environment is None:
        return stage(source, folder, reading=reading, **settings)
    with FreshProcess("loading the source", environment=environment, preload=("tensorflow",)) as process:
        staged: Staged = process.run(stage, source, folder, reading=reading, **settings)
        return staged


def _prove(judge: FreshProcess, folder: Path, model_name: str, staged: Staged, settings: GateSettings) -> GateReport:
    begin(logger, "loading the version back and comparing it")
    report: GateReport = judge.run(pass_gate, folder, staged.references, settings, model_name=model_name)
    sizes = ", ".join(map(str, report.batch_sizes)) or "as the inputs come"
    logger.info(
        "loaded it back and compared: max abs difference %.3g at batch sizes %s (%d rows)",
        report.max_abs_diff,
        sizes,
        report.rows,
    )
    if report.served is not None:
        figures = ", ".join(f"{name} {figure:.3g}" for name, figure in report.served.max_abs_diff.items())
        logger.info(
            "served it with %s and compared over the wire: max abs difference %s", report.served.server, figures
        )
    return report


def _metadata(base: Path, tag: str | None, content: dict[str, Any], version: int) -> bytes:
    if tag is not None:
        _check_tag_is_free(base, tag)
    return encode_metadata(content | {"version": version})


def _check_tag_is_free(base: Path, tag: str) -> None:
    check_tag(tag)
    taken = find_tag(base, tag) if base.exists() else None
    if taken is not None:
        raise ExportError(f"tag {tag!r} stands on version {taken} of {base} already; a tag names one version")
