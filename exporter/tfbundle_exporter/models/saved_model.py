"""A SavedModel of anybody's becomes a SourceModel: Keras 2 and 3, tf.saved_model.save, TensorFlow 1, Estimators.

Its graph is all there is of it. Each signature becomes a call; wrapped under other names it computes the same bits.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import DecodeError, ExportError
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.saved_model_pb import MetaGraph, read_meta_graphs
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE, PREDICT_METHOD
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from ..reasons import reason_of
from ..runtime import import_tensorflow
from ..signatures.names import uniquify
from .concrete_call import call_of, name_inputs
from .source_model import SourceCall, SourceModel
from .structure import leaves
from .trackables import find_resources, find_variables

logger = logging.getLogger(__name__)

#: The tag of what is served; tensorflow_model_server asks for it, too.
SERVE_TAGS = ("serve",)
#: Where no signature is called serving_default, the first of these is the main one.
_MAIN = (DEFAULT_SIGNATURE, "serve", "predict", "__call__")


def is_loaded_saved_model(live: object) -> bool:
    """Tell whether an object is what tf.saved_model.load returned, without importing TensorFlow."""
    return "tensorflow" in sys.modules and hasattr(live, "signatures") and hasattr(live, "tensorflow_version")


def open_saved_model(source: Any, *, tags: Collection[str] = SERVE_TAGS) -> SourceModel:
    """Load a SavedModel and see it as the exporter does.

    Args:
        source: Its folder, or an artefact whose `path` is that.
        tags: Which of its meta graphs.

    Returns:
        The model. serving_default is the main call; where it has none, the one that looks most like it is, and stays
        under its own name besides. A signature that another one repeats (Keras 3 writes each twice) is left out.

    Raises:
        ExportError: It cannot be loaded, has no meta graph of these tags, or nothing in it can be served.
    """
    tf = import_tensorflow()
    path = Path(getattr(source, "path", source))
    graph = _meta_graph(path, frozenset(tags))
    try:
        loaded = tf.saved_model.load(str(path), tags=sorted(tags))
    except Exception as error:  # from the checkpoint reader, from protobuf, from an op that is missing, from a table
        raise ExportError(
            f"{path} cannot be loaded as a SavedModel: {type(error).__name__}: {reason_of(error)}"
        ) from error
    return adapt_loaded(loaded, name=path.name, methods=_methods(graph))


def read_calls(model: SourceModel, source: Any, *, tags: Collection[str] = SERVE_TAGS) -> dict[str, SourceCall]:
    """List every signature of a SavedModel as it stands, for one that is published as it is.

    Args:
        model: What `open_saved_model` made of it.
        source: Its folder, or an artefact whose `path` is that.
        tags: Which of its meta graphs.

    Returns:
        Signature to call, serving_default first; repeated ones, too. Empty where a server could call none of it.
    """
    methods = _methods(_meta_graph(Path(getattr(source, "path", source)), frozenset(tags)))
    return {signature: call for signature, call, _ in _all_signatures(model.name, model.live, methods)}


def _methods(graph: MetaGraph | None) -> dict[str, str]:
    return {name: signature.method_name for name, signature in graph.signatures.items()} if graph else {}


def _meta_graph(path: Path, tags: frozenset[str]) -> MetaGraph | None:
    """Find the meta graph of these tags; None where the model is text, which only TensorFlow reads."""
    file = path / SAVED_MODEL
    if not file.exists():
        return None
    try:
        graphs = read_meta_graphs(file)
    except DecodeError as error:
        raise ExportError(str(error)) from error
    for graph in graphs:
        if graph.tags == tags:
            return graph
    found = ", ".join("{" + ", ".join(sorted(graph.tags)) + "}" for graph in graphs)
    raise ExportError(
        f"{path} holds no model with the tags {{{', '.join(sorted(tags))}}}, which a server asks for; it holds {found}"
    )


def adapt_loaded(loaded: Any, *, name: str, methods: Mapping[str, str] | None = None) -> SourceModel:
    """See what tf.saved_model.load returned as the exporter does.

    Args:
        loaded: That.
        name: What the model is called.
        methods: Signature to its method name, which TensorFlow does not keep.

    Raises:
        ExportError: Nothing in it can be served.
    """
    tf = import_tensorflow()
    calls = dict(_signatures(name, loaded, methods or {})) or dict(_functions(name, loaded))
    if not calls:
        raise ExportError(
            f"the SavedModel {name} has no signature and no function that was traced before it was saved: "
            "save it with signatures=, or export the model that it was saved from"
        )
    main = next((each for each in _MAIN if each in calls), None) or next(iter(calls))
    if main != DEFAULT_SIGNATURE:
        logger.info("%s has no signature %s; taking %r of %s", name, DEFAULT_SIGNATURE, main, ", ".join(calls))
    variables = _variables(loaded)
    others = {each: call for each, call in calls.items() if each not in (DEFAULT_SIGNATURE, "__call__")}
    names = uniquify([variable.name.removesuffix(":0") for variable in variables])
    return SourceModel(
        name=name,
        family="tensorflow",
        library_version=tf.__version__,
        main=calls[main],
        others=others,
        variables=variables,
        resources=find_resources(loaded),
        weights=dict(zip(names, variables, strict=True)),
        live=loaded,
    )


def _variables(loaded: Any) -> tuple[Any, ...]:
    """List the variables: those of a TensorFlow 1 graph stand in a list, those of an object hang in the object.

    What an optimizer left in a Keras 2 SavedModel is found as well, and does no harm but for its size, so it is left
    out where the model says which variables are its own.
    """
    kind = import_tensorflow().Variable
    own = getattr(loaded, "variables", None)
    listed = [each for each in leaves(own) if isinstance(each, kind)] if isinstance(own, (list, tuple)) else []
    return tuple(listed) or tuple(find_variables(loaded).values())


def _signatures(name: str, loaded: Any, methods: Mapping[str, str]) -> Iterator[tuple[str, SourceCall]]:
    seen: set[Any] = set()
    for signature, call, inner in _all_signatures(name, loaded, methods):
        identity = (inner, tuple(call.inputs), call.output_names, call.method_name)
        if inner is not None and identity in seen:
            logger.info("%s: signature %r repeats another one and is left out", name, signature)
            continue
        seen.add(identity)
        yield signature, call


def _all_signatures(name: str, loaded: Any, methods: Mapping[str, str]) -> Iterator[tuple[str, SourceCall, str | None]]:
    # serving_default first, so that of two equal ones it is the one that stays.
    for signature in sorted(loaded.signatures, key=lambda each: (each != DEFAULT_SIGNATURE, each)):
        if signature != INIT_OP_SIGNATURE:
            function = loaded.signatures[signature]
            what = f"the SavedModel {name}, signature {signature!r},"
            method = methods.get(signature) or PREDICT_METHOD
            call = call_of(what, function, names=tuple(function._arg_keywords), method_name=method)
            yield signature, call, _inner_function(function)


def _inner_function(function: Any) -> str | None:
    """Name the one function that a signature of TensorFlow 2 wraps."""
    called = [node.attr["f"].func.name for node in function.graph.as_graph_def().node if "f" in node.attr]
    return called[0] if len(called) == 1 else None


def _functions(name: str, loaded: Any) -> Iterator[tuple[str, SourceCall]]:
    """List the functions of a model that was saved without signatures, `__call__` first."""
    found = dict(loaded._trackable_children())
    for attribute in sorted(found, key=lambda each: (each != "__call__", each)):
        concrete = _inference(getattr(found[attribute], "concrete_functions", ()))
        if concrete is not None:
            what = f"the SavedModel {name}, function {attribute!r},"
            yield attribute, call_of(what, concrete, names=name_inputs(what, concrete))


def _inference(traces: Any) -> Any:
    """Choose among the traces of one function: not for training, and bound to the fewest sizes."""
    usable = [trace for trace in traces if not any(leaf is True for leaf in leaves(trace.structured_input_signature))]
    return max(usable, key=_free_sizes, default=None)


def _free_sizes(trace: Any) -> int:
    shapes = [leaf.shape for leaf in leaves(trace.structured_input_signature) if hasattr(leaf, "shape")]
    return sum(size is None for shape in shapes if shape.rank is not None for size in shape.as_list())
