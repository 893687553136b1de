"""What in a model file could run code, read other files or fill the disk; looked for before anything loads it.

A Lambda layer is Python byte code, and tf_keras runs the one of an .h5 while loading, whatever its safe_mode says. A
"module" in a layer's configuration is imported. So both are refused here, by the JSON alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from . import checkpoint_artefact, hdf5_artefact, keras_archive, saved_model_artefact
from .artefacts import Artefact, Kind
from .findings import Finding

#: Modules that a configuration may name: Keras's own; "builtins" is how Keras marks its own functions.
_OWN_MODULES = re.compile(r"(keras|tf_keras|tensorflow\.keras|tensorflow\.python\.keras)(\.\w+)*|builtins")

#: Layers that carry code or another model's graph.
_CODE_LAYERS = {
    "Lambda": "is a Lambda layer, which holds Python code",
    "__lambda__": "holds Python code",
    "TFSMLayer": "is a TFSMLayer, which loads another SavedModel",
}

#: Modules of Keras whose functions only compute. Those of others fetch files (keras.utils.get_file), load models or
#: lift Keras's own protection.
_COMPUTING_MODULES = re.compile(
    r"(tf_|tensorflow\.|tensorflow\.python\.)?keras(\.src)?"
    r"\.(activations|backend|constraints|initializers|layers|losses|metrics|ops|random|regularizers)(\.\w+)*"
)
#: Functions of Python itself that Keras 2 finds by the module "builtins" and that do more than compute.
_RUNNING_BUILTINS = frozenset(
    {"__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "help", "input"}
    | {"locals", "open", "print", "quit", "setattr", "vars"}
)

#: Parts of a preprocessing layer's configuration that are read from a file where they are a text.
_READ_FROM_FILES = ("vocabulary", "idf_weights")

#: Layers that call the TensorFlow function named by that key of their configuration.
_OP_LAYERS = {"TFOpLambda": "function", "ClassMethod": "cls_symbol"}
#: Functions of TensorFlow that reach outside the graph.
_REACHING_OUT = re.compile(
    r"(compat\.v[12]\.)?("
    r"(raw_ops|saved_model|summary|data|train|distribute|sysconfig|io\.gfile)\..*"
    r"|(io\.)?(read_file|write_file|matching_files|write_graph)"
    r"|py_func|py_function|numpy_function|load_op_library|load_library|load_file_system_library|print|Print)"
)


def scan(artefact: Artefact, *, known_names: Collection[str] = ()) -> list[Finding]:
    """Look a model file or folder over; nothing of it is executed.

    Args:
        artefact: The file or folder.
        known_names: Names of the custom objects that the user supplies; their modules are not imported.

    Raises:
        ExportError: The file is damaged.
    """
    # A SavedModel's architecture is history: what runs is its graph, and the gate looks at that.
    architecture = {} if artefact.kind == "saved_model" else artefact.architecture or {}
    return [*find_code(architecture, known_names=known_names), *_CONTAINERS[artefact.kind](artefact)]


def refuse(artefact: Artefact, findings: Sequence[Finding]) -> None:
    """Stop where there is something to stop for.

    Raises:
        ExportError: There are findings; the message names the first three and the way to load the file all the same.
    """
    if not findings:
        return
    more = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
    yours = next((finding.module for finding in findings if finding.module), "")
    supply = f"If that is code of yours: --custom-objects {yours} (custom_objects=). " if yours else ""
    raise ExportError(
        f"{artefact.path} is refused before loading: {'; '.join(map(str, findings[:3]))}{more}. {supply}"
        "If you trust where it comes from: --allow-unsafe (allow_unsafe=True)"
    )


def find_code(architecture: Mapping[str, Any], *, known_names: Collection[str] = ()) -> Iterator[Finding]:
    """Find what would run or import code in a model's configuration.

    Args:
        architecture: The JSON of model_config or config.json.
        known_names: Names of custom objects that are supplied.
    """
    nodes: list[tuple[Any, str]] = [(architecture, "the model")]
    while nodes:
        node, owner = nodes.pop()
        if isinstance(node, list):
            nodes += [(item, owner) for item in reversed(node)]
            continue
        if not isinstance(node, dict):
            continue
        class_name = node.get("class_name")
        if isinstance(class_name, str):
            owner = _owner(node, owner)
            yield from _judge(node, class_name, owner, known_names)
        nodes += [(item, owner) for item in reversed(node.values())]


def _owner(node: Mapping[str, Any], outer: str) -> str:
    """Name the layer that a node describes; an initializer or activation belongs to the layer around it."""
    config = node.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return f"layer {name!r}" if isinstance(name, str) else outer


def _judge(node: Mapping[str, Any], class_name: str, owner: str, known_names: Collection[str]) -> Iterator[Finding]:
    bare_name = class_name.rpartition(">")[2]
    config = node.get("config")
    config = config if isinstance(config, dict) else {}
    if bare_name in _CODE_LAYERS:
        yield Finding(owner, _CODE_LAYERS[bare_name])
    symbol = config.get(_OP_LAYERS.get(bare_name, ""))
    if isinstance(symbol, str) and _REACHING_OUT.fullmatch(symbol):
        yield Finding(owner, f"calls tf.{symbol}, which reaches outside the model")
    for key in _READ_FROM_FILES:
        if isinstance(config.get(key), str):
            # tf_keras would put that file, whatever it is, into the version folder.
            yield Finding(owner, f"reads its {key} from the file {config[key]!r} of this machine")
    module = node.get("module")
    function = node.get("config") if class_name == "function" else class_name
    if isinstance(module, str) and isinstance(function, str) and _is_reaching(module, function):
        yield Finding(owner, f"calls {module}.{function}, which reaches outside the model")
    if isinstance(module, str) and not _OWN_MODULES.fullmatch(module):
        # A function's configuration is its name.
        names = (class_name, bare_name, node.get("registered_name"), node.get("config"))
        if not any(isinstance(name, str) and name in known_names for name in names):
            yield Finding(owner, f"imports the module {module!r} (for {class_name})", module)


def _is_reaching(module: str, function: str) -> bool:
    if module == "builtins":
        return function in _RUNNING_BUILTINS
    # Classes of any of Keras's modules are parts of models; what begins with "__" is how Keras writes values.
    is_function = not function[:1].isupper() and not function.startswith("__")
    return is_function and _OWN_MODULES.fullmatch(module) is not None and not _COMPUTING_MODULES.fullmatch(module)


def _find_hdf5_hazards(artefact: Artefact) -> Iterator[Finding]:
    return hdf5_artefact.find_hazards(artefact.path, where=artefact.path.name, stored_bytes=artefact.size)


_CONTAINERS: dict[Kind, Callable[[Artefact], Iterator[Finding]]] = {
    "hdf5": _find_hdf5_hazards,
    "weights_keras2": _find_hdf5_hazards,
    "weights_v3": _find_hdf5_hazards,
    "keras_archive": lambda artefact: keras_archive.find_hazards(artefact.path),
    "keras_folder": keras_archive.find_unzipped_hazards,
    "saved_model": saved_model_artefact.find_hazards,
    "checkpoint": checkpoint_artefact.find_hazards,
}
