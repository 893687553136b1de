"""`tfbundle inspect`: what a source or version folder is, without loading it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import BundleError
from tfbundle_serving.apis.signatures import Signature, format_shape
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from ..folder.metadata import to_json
from ..proof.op_scan import REFUSED, scan_ops
from ..sources.artefacts import KIND_NAMES, hash_artefact
from ..sources.findings import Finding
from ..sources.security import scan
from .contents import Contents, open_contents
from .layers import Shape, walk
from .signature_table import SIGNATURE_COLUMNS, signature_rows, signature_to_json
from .text_table import format_figure, format_table
from .weight_figures import describe_stored

#: What metadata.json says that is worth repeating.
_RECORDED = ("model_name", "version", "tag", "created_at", "tfbundle_version", "tensorflow_version", "keras_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of the configuration.

    Attributes:
        name: Its name; outer/inner for a layer inside a model.
        class_name: Its class.
        output_shape: The shape of what it gives, where the configuration tells.
        parameters: How many values its weights have; None where the file does not tell whose they are.
    """

    name: str
    class_name: str
    output_shape: Shape | None
    parameters: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was seen of a source or version folder.

    Attributes:
        path: Where it is.
        kind: What it is: a kind of source, or "version_folder".
        writer: Who wrote it, in a person's words.
        keras_version: Version of the Keras that wrote it; "" where it is not recorded.
        family: The package that loads it; None where the file cannot tell.
        size: In bytes.
        sha256: Its hash, as metadata.json of an export of it has it.
        layers: The layers of its configuration.
        signatures: Name to signature.
        weights: Name to shape, dtype, mean, std, min, max and hash.
        optimizer_state: Whether a training could go on from it.
        training: Optimizer, loss, metrics, as far as it says.
        findings: What a stranger should not be trusted with.
        recorded: What its metadata.json says; None where there is none.
        troubles: What could not be read.
    """

    path: Path
    kind: str
    writer: str
    keras_version: str
    family: str | None
    size: int
    sha256: str
    layers: tuple[Layer, ...]
    signatures: Mapping[str, Signature]
    weights: Mapping[str, Mapping[str, Any]]
    optimizer_state: bool
    training: Mapping[str, Any]
    findings: tuple[Finding, ...]
    recorded: Mapping[str, Any] | None
    troubles: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """How many values all weights have."""
        return sum(math.prod(weight["shape"]) for weight in self.weights.values())

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON values; figures that are not finite are null."""
        recorded = self.recorded or {}
        content: dict[str, Any] = to_json(
            {
                "path": str(self.path),
                "kind": self.kind,
                "writer": self.writer,
                "keras_version": self.keras_version,
                "family": self.family,
                "size": self.size,
                "sha256": self.sha256,
                "parameters": self.parameters,
                "layers": [
                    {
                        "name": layer.name,
                        "class_name": layer.class_name,
                        "output_shape": layer.output_shape,
                        "parameters": layer.parameters,
                    }
                    for layer in self.layers
                ],
                "signatures": {name: signature_to_json(each) for name, each in self.signatures.items()},
                "weights": self.weights,
                "optimizer_state": self.optimizer_state,
                "training": self.training,
                "findings": [{"place": finding.place, "what": finding.what} for finding in self.findings],
                "recorded": None if self.recorded is None else {name: recorded.get(name) for name in _RECORDED},
                "source": recorded.get("source"),
                "parity": recorded.get("parity"),
                "troubles": self.troubles,
            }
        )
        return content

    def to_text(self) -> str:
        """Give all of it as a page for a person."""
        lines = [f"{self.path}: {_KINDS.get(self.kind, self.kind)}, {self.writer}, {self.size / 1e6:.3g} MB"]
        lines.append(f"sha256 {self.sha256}")
        lines += self._recorded_lines()
        lines += _section("layers", format_table(("name", "class", "output shape", "parameters"), self._layer_rows()))
        lines += _section("signatures", format_table(SIGNATURE_COLUMNS, signature_rows(self.signatures)))
        lines += _section(
            f"weights ({self.parameters:,} values)",
            format_table(("name", "dtype", "shape", "mean", "std", "min", "max", "sha256"), self._weight_rows()),
        )
        told = [(name, _brief(value)) for name, value in self.training.items() if value not in (None, [], {})]
        told += [("optimizer state", "kept: a training can go on from it")] if self.optimizer_state else []
        lines += _section("training", (f"  {name}: {value}" for name, value in told))
        lines += _section("security: refused by export without --allow-unsafe", (f"  {each}" for each in self.findings))
        lines += _section("could not be read", (f"  {each}" for each in self.troubles))
        return "\n".join(lines)

    def _recorded_lines(self) -> list[str]:
        if self.recorded is None:
            return []
        said = [f"{name} {self.recorded[name]}" for name in _RECORDED if self.recorded.get(name) not in (None, "")]
        lines = [", ".join(said)]
        source, parity = self.recorded.get("source"), self.recorded.get("parity")
        if isinstance(source, dict):
            lines.append(f"made from {source.get('name')} ({source.get('kind')}, Keras {source.get('keras_version')})")
        if isinstance(parity, dict):
            lines.append(
                f"parity when exported: max abs difference {format_figure(parity.get('max_abs_diff'))}, "
                f"{parity.get('rows')} rows, batch sizes {parity.get('batch_sizes')}"
            )
        return lines

    def _layer_rows(self) -> list[tuple[object, ...]]:
        return [
            (
                layer.name,
                layer.class_name,
                "-" if layer.output_shape is None else format_shape(layer.output_shape),
                "-" if layer.parameters is None else f"{layer.parameters:,}",
            )
            for layer in self.layers
        ]

    def _weight_rows(self) -> list[tuple[object, ...]]:
        return [
            (
                name,
                weight["dtype"],
                format_shape(tuple(weight["shape"])),
                *(format_figure(weight[figure]) for figure in ("mean", "std", "min", "max")),
                weight["sha256"][:12],
            )
            for name, weight in self.weights.items()
        ]


_KINDS: dict[str, str] = {**{str(kind): name for kind, name in KIND_NAMES.items()}, "version_folder": "version folder"}


def inspect(path: str | os.PathLike[str], *, pick: str = "") -> Inspection:
    """Look at a source or version folder; nothing of it is loaded or executed, and unsafe files are looked at, too.

    Args:
        path: A file, a folder, a checkpoint's prefix, or a base path and a tag ("models/digits/1.4.0").
        pick: Which checkpoint of a folder with several.

    Raises:
        ExportError: It is nothing that holds a model.
        OSError: It cannot be read.
    """
    with open_contents(path, pick=pick) as contents:
        artefact = contents.artefact
        findings, troubles = _scan(contents)
        return Inspection(
            path=artefact.path,
            kind="version_folder" if contents.metadata is not None else artefact.kind,
            writer=artefact.writer,
            keras_version=artefact.keras_version,
            family=artefact.family,
            size=artefact.size,
            sha256=hash_artefact(artefact),
            layers=tuple(_layers(contents)),
            signatures=contents.signatures,
            weights=describe_stored(contents.stored.weights, troubles),
            optimizer_state=contents.stored.optimizer_state,
            training=artefact.training or dict((contents.metadata or {}).get("training") or {}),
            findings=tuple(findings),
            recorded=contents.metadata,
            troubles=tuple(troubles),
        )


def _scan(contents: Contents) -> tuple[list[Finding], list[str]]:
    findings: list[Finding] = []
    troubles = list(contents.troubles)
    try:
        findings += scan(contents.artefact)
        findings += _find_ops(contents.path / SAVED_MODEL)
    except (BundleError, OSError) as error:
        troubles.append(str(error))
    return findings, list(dict.fromkeys(troubles))


def _find_ops(saved_model: Path) -> Iterator[Finding]:
    """Find the ops of a SavedModel that reach outside of it; whether TensorFlow knows them all is the gate's to ask."""
    if saved_model.is_file():
        for finding in scan_ops(saved_model, is_known=lambda _: True).findings:
            if finding.kind in REFUSED:
                yield Finding(str(finding), f"is refused by the gate: {REFUSED[finding.kind]}")


def _layers(contents: Contents) -> list[Layer]:
    weights = contents.stored.weights
    of_layer: dict[str, int] = {}
    for name, weight in weights.items():
        # All ways down to the weight count it: outer/inner/kernel is of outer, of inner and of outer/inner.
        parts = name.split("/")[:-1]
        outer = [] if parts[:1] == [weight.layer] else [weight.layer]
        whole = [*outer, *parts]
        for owner in {"/".join(whole[:end]) for end in range(1, len(whole) + 1)}:
            of_layer[owner] = of_layer.get(owner, 0) + weight.size
    is_told = any(weight.layer for weight in weights.values())
    return [
        Layer(
            name=path,
            class_name=node.class_name,
            output_shape=node.output_shape,
            parameters=of_layer.get(path, 0) if is_told or not weights else None,
        )
        for path, node in walk(contents.layers)
    ]


def _section(title: str, body: Any) -> list[str]:
    lines = list(body)
    return ["", title, *lines] if lines else []


def _brief(value: Any) -> str:
    """Show a serialized optimizer or loss by its class and plain settings."""
    if isinstance(value, dict) and "class_name" in value:
        config = value.get("config")
        plain = config.items() if isinstance(config, dict) else ()
        settings = ", ".join(
            f"{key} {each}" for key, each in plain if isinstance(each, (int, float, str)) and each != ""
        )
        return f"{value['class_name']}({settings})"
    return f"{value}"
