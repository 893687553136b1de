"""Which ops a version runs, and which of them a stock server cannot run, or should not.

Everything works in the process that traced the model: Python is there, its files are, its own ops are registered. A
server has none of that, and finds out when it loads the version or at the first request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .graph_reader import Node, read_graph

Kind = Literal["python", "files", "xla", "unknown", "print", "random", "state"]

#: Kind to the ops of that kind, tried in order.
_KINDS: Mapping[Kind, re.Pattern[str]] = {
    "python": re.compile(r"(Eager)?PyFunc(Stateless)?|GeneratorDataset"),
    "files": re.compile(
        r"ReadFile|WriteFile|MatchingFiles|LoadAndRemapMatrix|Save(V2|Slices)?|Restore(V2|Slice)?|MergeV2Checkpoints"
        r"|(WholeFile|TextLine|TFRecord|FixedLengthRecord|LMDB)Reader(V2)?"
        r"|(TextLine|TFRecord|FixedLengthRecord|CSV|Sql|MatchingFiles)Dataset(V\d)?|SaveDataset(V\d)?|LoadDataset"
    ),
    "print": re.compile(r"Print(V2)?"),
    "random": re.compile(
        r"(Stateless|Stateful)?(Random|Parameterized)?(StandardNormal|TruncatedNormal|Uniform(FullInt|Int)?|Multinomial"
        r"|Binomial)(V\d)?|(Stateless)?Random(Normal|Uniform|Gamma|Poisson|Shuffle|Binomial)\w*"
        r"|StatelessShuffle|RngReadAndSkip|RngSkip|StatefulRandomBinomial|\w*SampleDistortedBoundingBox(V2)?"
    ),
    "state": re.compile(
        r"Assign(Add|Sub)?(VariableOp)?|Resource(Scatter\w+|StridedSliceAssign|Apply\w+|CountUpTo)"
        r"|Scatter(Add|Sub|Update|NdUpdate)|LookupTable(Insert|Import|Remove)(V2)?"
    ),
}

#: Findings that a stock server fails on, or that must not be in one, to what is wrong and what to do.
REFUSED: Mapping[Kind, str] = {
    "python": (
        "it calls back into the Python process that traced it, and a server has none; write the step with TensorFlow's "
        "own ops instead of numpy_function or py_function, or leave it to the client"
    ),
    "files": (
        "it touches the server's file system at each request; read the file when the model is built, or give a table "
        "its vocabulary as an asset"
    ),
    "xla": ("a stock server has XLA compilation off and fails at the first request; trace it without jit_compile=True"),
    "unknown": (
        "TensorFlow itself does not know it, and neither does a stock server (an op of tensorflow-text, of an add-on, "
        "or your own); do without it, or serve with a server that has it built in"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFinding:
    """One op that is worth a word.

    Attributes:
        kind: What is with it.
        op: The op.
        node: The node; Keras puts the layers' names into it.
        function: The function that the node stands in; "" for the graph itself.
    """

    kind: Kind
    op: str
    node: str
    function: str

    def __str__(self) -> str:
        """Name op, node and function."""
        return f"op {self.op} (node {self.node}{f' of function {self.function}' if self.function else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpScan:
    """The ops of a version.

    Attributes:
        ops: Every op that a request may run, sorted.
        findings: The ones worth a word: those that a request may run, and unknown ones wherever they are.
        tensorflow_version: The TensorFlow that wrote the graph.
        producer: Its version of the graph format.
        min_consumer: The oldest version of the graph format whose readers may load it.
    """

    ops: tuple[str, ...]
    findings: tuple[OpFinding, ...]
    tensorflow_version: str
    producer: int
    min_consumer: int

    def of_kind(self, kind: Kind) -> list[OpFinding]:
        """Give the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Give the scan as JSON has it."""
        return {
            "used": list(self.ops),
            "producer": self.producer,
            "min_consumer": self.min_consumer,
            "findings": [
                {"kind": each.kind, "op": each.op, "node": each.node, "function": each.function}
                for each in self.findings
            ],
        }


def scan_ops(saved_model: Path, *, is_known: Callable[[str], bool]) -> OpScan:
    """Look through the ops of a SavedModel, those of its functions included.

    Args:
        saved_model: The saved_model.pb.
        is_known: Tells whether TensorFlow has an op of that name.

    Raises:
        DecodeError: The file is no SavedModel.
        OSError: It cannot be read.
    """
    graph = read_graph(saved_model)
    found: dict[OpFinding, None] = {}
    ops = set()
    compiled = {name for name, function in graph.functions.items() if function.must_compile}
    for function, node in graph.reached():
        if node.op not in graph.functions:
            ops.add(node.op)
        for kind in _kinds_of(node, compiled):
            found[OpFinding(kind=kind, op=node.op, node=node.name, function=function)] = None
    known: dict[str, bool] = {}
    for function, node in graph.all_nodes():
        if node.op not in known:
            known[node.op] = node.op in graph.functions or is_known(node.op)
        if not known[node.op]:
            found[OpFinding(kind="unknown", op=node.op, node=node.name, function=function)] = None
    return OpScan(
        ops=tuple(sorted(ops)),
        findings=tuple(found),
        tensorflow_version=graph.tensorflow_version,
        producer=graph.producer,
        min_consumer=graph.min_consumer,
    )


def _kinds_of(node: Node, compiled: set[str]) -> Iterator[Kind]:
    if node.must_compile or compiled.intersection((node.op, *node.functions)):
        yield "xla"
    for kind, pattern in _KINDS.items():
        if pattern.fullmatch(node.op):
            yield kind
            return
