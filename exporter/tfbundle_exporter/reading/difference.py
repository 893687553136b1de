"""`tfbundle diff`: what two versions or sources differ in, and whether a client of the first notices the second."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tfbundle_serving.apis.errors import DecodeError, ExportError
from tfbundle_serving.apis.signature_changes import SignatureChange, compare_signatures
from tfbundle_serving.apis.signatures import format_shape
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from ..folder.metadata import to_json
from ..proof.graph_reader import read_graph
from ..sources.artefacts import hash_artefact
from .contents import Contents, open_contents
from .layer_changes import compare_layers
from .text_table import format_figure, format_table
from .weight_changes import WeightChanges, compare_weights

#: "unknown" where one side is no SavedModel, so that graphs cannot be held against each other.
Verdict = Literal["same", "different", "unknown"]

#: Calls of functions and copies, which say nothing of what is computed.
_PLUMBING = {"PartitionedCall", "StatefulPartitionedCall", "Identity", "NoOp"}
#: More lines than that are summed up.
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a second version or source differs from a first.

    Attributes:
        old: The first.
        new: The second.
        same_files: Whether both are the same to the byte.
        graph: Whether both compute by the same graph.
        parts: Parts of the SavedModel whose TensorFlow fingerprints differ: graph, signatures, objects, checkpoint.
        ops: Operations that requests run more or less often in the second ("2 more MatMul"); empty where graphs differ
            in names or constants alone.
        layers: Changes of the configuration, a line each.
        signatures: Changes of the signatures; empty where one side has none to compare.
        weights: How the weights differ.
    """

    old: Path
    new: Path
    same_files: bool
    graph: Verdict
    parts: tuple[str, ...]
    ops: tuple[str, ...]
    layers: tuple[str, ...]
    signatures: tuple[SignatureChange, ...]
    weights: WeightChanges

    @property
    def is_same(self) -> bool:
        """Whether both take and give the same: nothing differs that can be seen."""
        if self.same_files:
            return True
        return self.graph != "different" and not self.layers and not self.signatures and self.weights.is_same

    @property
    def is_breaking(self) -> bool:
        """Whether a client of the first may fail with the second."""
        return any(change.is_breaking for change in self.signatures)

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON values."""
        content: dict[str, Any] = to_json(
            {
                "old": str(self.old),
                "new": str(self.new),
                "same": self.is_same,
                "same_files": self.same_files,
                "breaking": self.is_breaking,
                "graph": self.graph,
                "fingerprint_parts": self.parts,
                "ops": self.ops,
                "layers": self.layers,
                "signatures": [
                    {"signature": each.signature, "what": each.what, "breaking": each.is_breaking}
                    for each in self.signatures
                ],
                "weights": {
                    "same": self.weights.same,
                    "added": self.weights.added,
                    "removed": self.weights.removed,
                    "changed": [
                        {
                            "name": each.name,
                            "new_name": each.new_name,
                            "old_shape": each.old_shape,
                            "new_shape": each.new_shape,
                            "max_abs_diff": each.max_abs_diff,
                            "relative": each.relative,
                            "cosine": each.cosine,
                        }
                        for each in self.weights.changed
                    ],
                },
            }
        )
        return content

    def to_text(self) -> str:
        """Give all of it for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        verdict = "the same" if self.is_same else "different"
        yield f"{self.old} and {self.new}: {verdict}{', BREAKING for clients' if self.is_breaking else ''}"
        if self.same_files:
            yield "the same bytes"
            return
        yield _GRAPHS[self.graph] + (f" (fingerprints differ in: {', '.join(self.parts)})" if self.parts else "")
        if self.graph == "different":
            yield f"  {', '.join(self.ops) or 'the same operations: names or constants differ'}"
        yield from _some("signatures", [f"  {change}" for change in self.signatures])
        yield from _some("layers", [f"  {change}" for change in self.layers])
        weights = self.weights
        yield (
            f"weights: {weights.same} the same, {len(weights.changed)} changed, "
            f"{len(weights.added)} added, {len(weights.removed)} removed"
        )
        yield from _limit(list(format_table(("changed", "max abs diff", "relative", "cosine"), self._rows())))
        yield from _limit([f"  added: {name}" for name in weights.added])
        yield from _limit([f"  removed: {name}" for name in weights.removed])

    def _rows(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for each in self.weights.changed:
            name = each.name if each.name == each.new_name else f"{each.name} -> {each.new_name}"
            if each.is_reshaped:
                rows.append((f"{name} {format_shape(each.old_shape)} -> {format_shape(each.new_shape)}", "-", "-", "-"))
            else:
                rows.append((name, *map(format_figure, (each.max_abs_diff, each.relative, each.cosine))))
        return rows


_GRAPHS: dict[Verdict, str] = {
    "same": "graph: the same",
    "different": "graph: different",
    "unknown": "graph: cannot be told, since one side is no SavedModel",
}


def diff(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Difference:
    """Compare two version folders or sources of any kind; nothing of them is loaded or executed.

    Args:
        old: The first, from which clients come: a file, a folder, or a base path and a tag.
        new: The second.

    Raises:
        ExportError: One of them holds no model, or is damaged.
        OSError: One of them cannot be read.
    """
    with open_contents(old) as before, open_contents(new) as after:
        for contents in (before, after):
            if contents.troubles:
                raise ExportError(f"{contents.path} cannot be compared: {contents.troubles[0]}")
        try:
            weights = compare_weights(before.stored.weights, after.stored.weights)
        except (DecodeError, KeyError, RuntimeError, ValueError) as error:
            raise ExportError(f"the weights of {before.path} and {after.path} cannot be compared: {error}") from error
        graph, parts = _compare_graphs(before, after)
        return Difference(
            old=before.path,
            new=after.path,
            same_files=_same_bytes(before, after),
            graph=graph,
            parts=parts,
            ops=tuple(_compare_ops(before, after)) if graph == "different" else (),
            layers=compare_layers(before.layers, after.layers) if before.layers and after.layers else (),
            signatures=compare_signatures(before.signatures, after.signatures)
            if before.signatures and after.signatures
            else (),
            weights=weights,
        )


def _same_bytes(before: Contents, after: Contents) -> bool:
    left, right = before.artefact, after.artefact
    return left.kind == right.kind and left.size == right.size and hash_artefact(left) == hash_artefact(right)


def _compare_graphs(before: Contents, after: Contents) -> tuple[Verdict, tuple[str, ...]]:
    """Tell whether two SavedModels have one graph; new weights alone leave all but the checkpoint's hash as it was."""
    if before.fingerprint is None or after.fingerprint is None:
        graphs = [contents.path / SAVED_MODEL for contents in (before, after)]
        if not all(path.is_file() for path in graphs):
            return "unknown", ()
        return ("same" if graphs[0].read_bytes() == graphs[1].read_bytes() else "different"), ()
    left: Mapping[str, int]
    left, right = (
        {name: getattr(each, name) for name in ("graph", "signatures", "objects", "checkpoint")}
        for each in (before.fingerprint, after.fingerprint)
    )
    parts = tuple(name for name in left if left[name] != right[name])
    return ("different" if "graph" in parts or "objects" in parts else "same"), parts


def _compare_ops(before: Contents, after: Contents) -> Iterator[str]:
    """Say which operations requests run more often, and which less."""
    old, new = (
        Counter(node.op for _, node in read_graph(contents.path / SAVED_MODEL).reached() if node.op not in _PLUMBING)
        for contents in (before, after)
    )
    for op in sorted(old.keys() | new.keys()):
        # A function's name ends in a counter, and what is in it is counted by itself.
        if old[op] != new[op] and not op.startswith("__inference_"):
            yield f"{abs(new[op] - old[op])} {'more' if new[op] > old[op] else 'fewer'} {op}"


def _some(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from _limit(lines)


def _limit(lines: list[str]) -> Iterator[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"  ... and {len(lines) - _SHOWN} more (--json lists all)"
