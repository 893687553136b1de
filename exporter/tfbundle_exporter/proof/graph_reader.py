"""The nodes and functions of a saved_model.pb, and which of them a request can reach; read without TensorFlow.

A SavedModel holds much that no request ever runs: the saver that reads and writes the checkpoint, and in one that
Keras wrote the functions for training.

Source: tensorflow/core/protobuf/saved_model.proto (meta_graphs = 2), meta_graph.proto (meta_info_def = 1,
graph_def = 2, signature_def = 5), framework/graph.proto (node = 1, library = 2, versions = 4), node_def.proto
(name = 1, op = 2, input = 3, attr = 5), function.proto (signature = 1, node_def = 3, attr = 5), attr_value.proto
(list = 1, b = 5, func = 10; func = 9 in a list).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE
from tfbundle_serving.apis.wire import as_int, as_text, as_view, fields, read_map_entry

_MUST_COMPILE = "_XlaMustCompile"
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
#: Where TensorFlow 1 names what a server runs when it loads.
_LOADING_COLLECTIONS = frozenset({"saved_model_main_op", "legacy_init_op"})


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        name: Its name.
        op: What it does; may be the name of a function.
        inputs: Names of the nodes that it waits for.
        functions: Names of the functions that it may call.
        must_compile: Whether XLA has to compile it.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    functions: tuple[str, ...]
    must_compile: bool


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the library: its nodes, and whether XLA has to compile it."""

    nodes: tuple[Node, ...]
    must_compile: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """What a server loads.

    Attributes:
        nodes: Name to node of the graph itself.
        functions: Name to function of its library.
        fetches: Signature to the nodes that give its outputs.
        loading: The nodes that a server runs once, when it loads.
        tensorflow_version: The TensorFlow that wrote it.
        producer: Its version of the graph format.
        min_consumer: The oldest version of the graph format whose readers may load it.
    """

    nodes: Mapping[str, Node]
    functions: Mapping[str, Function]
    fetches: Mapping[str, tuple[str, ...]]
    loading: tuple[str, ...]
    tensorflow_version: str
    producer: int
    min_consumer: int

    def never_filled(self) -> tuple[str, ...]:
        """Name the variables that signatures read and that loading does not fill, sorted.

        tf.saved_model.save of a Keras 3 model (3.15) writes such: Python's loader puts them right, a server cannot.
        """
        signatures = [names for name, names in self.fetches.items() if name != INIT_OP_SIGNATURE]
        read = {node.name for node in _upstream(self.nodes, chain(*signatures)) if node.op in _VARIABLES}
        return tuple(sorted(read - {node.name for node in _upstream(self.nodes, self.loading)}))

    def all_nodes(self) -> Iterator[tuple[str, Node]]:
        """Give every node, each with the name of the function that it stands in, "" for the graph itself."""
        for node in self.nodes.values():
            yield "", node
        for name, function in self.functions.items():
            for node in function.nodes:
                yield name, node

    def reached(self) -> Iterator[tuple[str, Node]]:
        """Give every node that a request to any signature may run, as `all_nodes` does."""
        wanted = [name for signature, names in self.fetches.items() if signature != INIT_OP_SIGNATURE for name in names]
        calls: list[str] = []
        for node in _upstream(self.nodes, wanted):
            yield "", node
            calls += (node.op, *node.functions)
        seen: set[str] = set()
        while calls:
            name = calls.pop()
            if name in seen or name not in self.functions:
                continue
            seen.add(name)
            for node in self.functions[name].nodes:
                yield name, node
                calls += (node.op, *node.functions)


def _upstream(nodes: Mapping[str, Node], names: Iterable[str]) -> Iterator[Node]:
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        waiting += nodes[name].inputs


def read_graph(path: Path) -> Graph:
    """Read the graph for serving of a saved_model.pb.

    Raises:
        DecodeError: The file is no SavedModel, or has no graph with the tag "serve"; the message names it.
        OSError: It cannot be read.
    """
    if path.stat().st_size == 0:
        raise DecodeError(f"{path} is empty, expected a SavedModel")
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        for number, _, value in fields(data):
            if number == 2:
                graph = _read_meta_graph(as_view(value, "meta_graphs"))
                if graph is not None:
                    return graph
    except DecodeError as error:
        raise DecodeError(f"{path} is not a SavedModel: {error}") from None
    raise DecodeError(f"{path} has no graph with the tag 'serve'")


@dataclass(slots=True)
class _Parts:
    """What of a meta graph was read so far."""

    tags: set[str] = field(default_factory=set)
    tensorflow_version: str = ""
    producer: int = 0
    min_consumer: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    fetches: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loading: list[str] = field(default_factory=list)


def _read_meta_graph(data: memoryview) -> Graph | None:
    parts = _Parts()
    for number, _, value in fields(data):
        if number == 1:
            for inner, _, content in fields(as_view(value, "meta_info_def")):
                if inner == 4:
                    parts.tags.add(as_text(content, "tags"))
                elif inner == 5:
                    parts.tensorflow_version = as_text(content, "tensorflow_version")
        elif number == 2:
            _read_graph_def(as_view(value, "graph_def"), parts)
        elif number == 3:
            for inner, _, content in fields(as_view(value, "saver_def")):
                if inner == 3:
                    parts.loading.append(_node_of(as_text(content, "restore_op_name")))
        elif number == 4:
            name, content = read_map_entry(as_view(value, "collection_def"), "collection_def")
            if name in _LOADING_COLLECTIONS:
                parts.loading += _read_node_list(content)
        elif number == 5:
            signature, content = read_map_entry(as_view(value, "signature_def"), "signature_def")
            parts.fetches[signature] = tuple(_read_fetches(content))
            if signature == INIT_OP_SIGNATURE:
                parts.loading += parts.fetches[signature]
    if "serve" not in parts.tags:
        return None
    return Graph(
        nodes=parts.nodes,
        functions=parts.functions,
        fetches=parts.fetches,
        loading=tuple(parts.loading),
        tensorflow_version=parts.tensorflow_version,
        producer=parts.producer,
        min_consumer=parts.min_consumer,
    )


def _read_node_list(collection: memoryview) -> Iterator[str]:
    for number, _, value in fields(collection):
        if number == 1:
            for inner, _, name in fields(as_view(value, "node_list")):
                if inner == 1:
                    yield _node_of(as_text(name, "value"))


def _read_graph_def(data: memoryview, parts: _Parts) -> None:
    for number, _, value in fields(data):
        if number == 1:
            node = _read_node(as_view(value, "node"))
            parts.nodes[node.name] = node
        elif number == 2:
            for inner, _, content in fields(as_view(value, "library")):
                if inner == 1:
                    name, function = _read_function(as_view(content, "function"))
                    parts.functions[name] = function
        elif number == 4:
            for inner, _, content in fields(as_view(value, "versions")):
                if inner == 1:
                    parts.producer = as_int(content, "producer")
                elif inner == 2:
                    parts.min_consumer = as_int(content, "min_consumer")


def _read_function(data: memoryview) -> tuple[str, Function]:
    name, nodes, must_compile = "", [], False
    for number, _, value in fields(data):
        if number == 1:
            for inner, _, content in fields(as_view(value, "signature")):
                if inner == 1:
                    name = as_text(content, "name")
        elif number == 3:
            nodes.append(_read_node(as_view(value, "node_def")))
        elif number == 5:
            key, content = read_map_entry(as_view(value, "attr"), "attr")
            must_compile = must_compile or (key == _MUST_COMPILE and _is_true(content))
    return name, Function(tuple(nodes), must_compile)


def _read_node(data: memoryview) -> Node:
    name = op = ""
    inputs: list[str] = []
    functions: list[str] = []
    must_compile = False
    for number, _, value in fields(data):
        if number == 1:
            name = as_text(value, "name")
        elif number == 2:
            op = as_text(value, "op")
        elif number == 3:
            inputs.append(_node_of(as_text(value, "input")))
        elif number == 5:
            key, content = read_map_entry(as_view(value, "attr"), "attr")
            if key == _MUST_COMPILE:
                must_compile = _is_true(content)
            else:
                functions += _called(content)
    return Node(name, op, tuple(inputs), tuple(functions), must_compile)


def _node_of(tensor: str) -> str:
    """Give the node of "name", "name:0" or "^name"."""
    return tensor.removeprefix("^").split(":", 1)[0]


def _is_true(attribute: memoryview) -> bool:
    return any(number == 5 and as_int(value, "b") != 0 for number, _, value in fields(attribute))


def _called(attribute: memoryview) -> Iterator[str]:
    """Give the functions that an attribute names, and those that these are given in turn."""
    for number, _, value in fields(attribute):
        if number == 10:
            yield from _names_of(as_view(value, "func"))
        elif number == 1:
            for inner, _, content in fields(as_view(value, "list")):
                if inner == 9:
                    yield from _names_of(as_view(content, "func"))


def _names_of(name_and_attributes: memoryview) -> Iterator[str]:
    for number, _, value in fields(name_and_attributes):
        if number == 1:
            yield as_text(value, "name")
        elif number == 2:
            yield from _called(read_map_entry(as_view(value, "attr"), "attr")[1])


def _read_fetches(signature: memoryview) -> Iterator[str]:
    for number, _, value in fields(signature):
        if number == 2:
            yield from _nodes_of(read_map_entry(as_view(value, "outputs"), "outputs")[1])


def _nodes_of(tensor_info: memoryview) -> Iterator[str]:
    """Give the node of a tensor, or those of the parts that a sparse or composite one is made of."""
    for number, _, value in fields(tensor_info):
        if number == 1:
            yield _node_of(as_text(value, "name"))
        elif number == 4:
            for _, _, part in fields(as_view(value, "coo_sparse")):
                yield _node_of(as_text(part, "coo_sparse"))
        elif number == 5:
            for inner, _, part in fields(as_view(value, "composite_tensor")):
                if inner == 2:
                    yield from _nodes_of(as_view(part, "components"))
