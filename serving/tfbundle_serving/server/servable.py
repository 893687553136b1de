"""One loaded version: a TensorFlow session over a SavedModel, called by signature.

A TF1-style session serves TF1 and TF2 SavedModels alike, answers with the C++ server's own error texts and takes a time
limit with each run. Measured on a small dense model, one row: 16 us in the caller's thread, 57 us through TensorFlow's
thread pool, 185 us by a restored signature.

Source: tensorflow_serving/servables/tensorflow/predict_util.cc, saved_model_bundle_factory.cc.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session as tf_session

from tfbundle_serving.apis.errors import (
    BY_CODE,
    ApiError,
    DataLoss,
    DeadlineExceeded,
    DecodeError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from tfbundle_serving.apis.predict import Arrays
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import Signature
from tfbundle_serving.apis.tensor_proto import decode_tensor
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from .batching_rules import choose_rules
from .servable_ops import missing_operation, register_operation
from .servable_session import session_config
from .settings import LoadSettings

#: What the exports of TensorFlow before 1.0 have instead of a saved_model.pb.
_SESSION_BUNDLE = "export.meta"
#: What Python puts before the C++ status when a graph that it built fails, as the restore and init operations may.
_WHERE_IN_PYTHON = re.compile(r"\AGraph execution error:\n.*?\nNode: '[^']*'\n", re.DOTALL)


def _run_options(**values: int) -> Any:
    return tf_session.TF_NewBufferFromString(config_pb2.RunOptions(**values).SerializeToString())


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The tensors in the graph of one signature, by alias.

    Attributes:
        feeds: Inputs.
        fetches: Outputs.
        quantized: The outputs of quantized dtypes, with what TensorFlow drops of those: their numpy form.
    """

    feeds: Mapping[str, Any]
    fetches: Mapping[str, Any]
    quantized: Mapping[str, np.dtype[Any]]


class Servable:
    """A version that can be run, from several threads at once.

    Args:
        folder: The version folder.
        settings: Which meta graph to load, and with how many threads it runs.
        on_run: Called after every run that succeeded, with its seconds.

    Attributes:
        signatures: Name to signature, the init pseudo signature included.
        batching: How its requests may be joined; None = not at all.

    Raises:
        NotFound: There is no saved_model.pb, or no meta graph with these tags in it, or it needs an operation of a
            package that is not installed.
        Unimplemented: It is an export of TensorFlow before 1.0.
        DataLoss: saved_model.pb is no SavedModel.
        InvalidArgument: Its batching_params.pbtxt is not what it should be.
        ApiError: TensorFlow cannot load it, by its status.
    """

    def __init__(self, folder: Path, settings: LoadSettings, on_run: Callable[[float], None] | None = None) -> None:
        self._on_run = on_run
        self.signatures = _read_signatures(folder, settings.tags)
        self.batching = choose_rules(folder, settings.batching, self.signatures)
        self._graph, self._session = _load(folder, settings)
        self._tensors: dict[str, _Tensors] = {}

    def run(
        self, signature_name: str, inputs: Arrays, outputs: tuple[str, ...], timeout_s: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run a signature.

        Args:
            signature_name: A key of `signatures`.
            inputs: Alias to array, checked by `predict_plan.check_inputs`; strings as object arrays of bytes.
            outputs: Aliases of the wanted outputs, checked by `predict_plan.choose_outputs`.
            timeout_s: Seconds that the run may take; None means no limit.

        Returns:
            Alias to array, in the order of `outputs`.

        Raises:
            DeadlineExceeded: It took too long and was interrupted.
            ApiError: The graph refuses the values, or whatever TensorFlow says.
        """
        tensors = self._tensors.get(signature_name) or self._resolve(signature_name)
        feeds = {tensors.feeds[alias]: array for alias, array in inputs.items()}
        if len(feeds) < len(tensors.feeds):
            feeds |= self._defaults(signature_name, tensors, inputs)
        fetches = [tensors.fetches[alias] for alias in outputs]
        results = self._run(feeds, fetches, timeout_s)
        arrays = {alias: _as_array(result) for alias, result in zip(outputs, results, strict=True)}
        for alias in tensors.quantized.keys() & arrays.keys():
            arrays[alias] = arrays[alias].view(tensors.quantized[alias])
        return arrays

    def close(self) -> None:
        """Give the memory back; no run may be under way."""
        self._session.close()
        self._tensors = {}
        del self._session, self._graph
        # A graph is full of reference cycles. This is quick, because what TensorFlow's import made is frozen (see
        # `lifecycle`): 0.6 ms against 170 ms.
        gc.collect()

    def _run(self, feeds: dict[Any, NDArray[Any]], fetches: list[Any], timeout_s: float | None) -> list[Any]:
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded("Timed out waiting for notification")
        if timeout_s is None:
            return self._call(feeds, fetches, None)
        options = _run_options(timeout_in_ms=min(max(1, round(timeout_s * 1e3)), 1 << 62))
        try:
            return self._call(feeds, fetches, options)
        finally:
            tf_session.TF_DeleteBuffer(options)

    def _call(self, feeds: dict[Any, NDArray[Any]], fetches: list[Any], options: Any) -> list[Any]:
        begun = time.perf_counter()
        try:
            # What tf.compat.v1.Session.run calls in the end. It checks dtypes in the words of the C++ server, gives
            # the GIL away while it runs, and skips the 100 us of Python around it.
            results: list[Any] = tf_session.TF_SessionRun_wrapper(
                self._session._session, options, feeds, fetches, [], None
            )
        except tf.errors.OpError as error:
            raise to_api_error(error) from None
        if self._on_run is not None:
            self._on_run(time.perf_counter() - begun)
        return results

    def _resolve(self, signature_name: str) -> _Tensors:
        signature = self.signatures[signature_name]
        tensors = _Tensors(
            {alias: self._tensor(spec.tensor_name) for alias, spec in signature.inputs.items()},
            {alias: self._tensor(spec.tensor_name) for alias, spec in signature.outputs.items()},
            {alias: spec.dtype.to_numpy() for alias, spec in signature.outputs.items() if spec.dtype.storage},
        )
        self._tensors[signature_name] = tensors
        return tensors

    def _tensor(self, name: str) -> Any:
        try:
            return self._graph.get_tensor_by_name(name)._as_tf_output()
        except (KeyError, ValueError) as error:
            raise FailedPrecondition(f"the signature names the tensor {name!r}, which the graph lacks") from error

    def _defaults(self, signature_name: str, tensors: _Tensors, inputs: Arrays) -> dict[Any, NDArray[Any]]:
        defaults = self.signatures[signature_name].defaults
        absent = [alias for alias in tensors.feeds if alias not in inputs]
        try:
            return {tensors.feeds[alias]: decode_tensor(defaults[alias]) for alias in absent}
        except DecodeError as error:
            raise InvalidArgument(f"tensor parsing error: {', '.join(absent)}") from error


def _as_array(result: Any) -> NDArray[Any]:
    """Undo what TensorFlow does to results of rank 0: strings arrive as bare bytes."""
    return np.array(result, object) if isinstance(result, bytes) else np.asarray(result)


def _read_signatures(folder: Path, tags: frozenset[str]) -> dict[str, Signature]:
    path = folder / SAVED_MODEL
    if not path.is_file():
        if (folder / _SESSION_BUNDLE).exists():
            raise Unimplemented("Session Bundle is deprecated and removed.")
        raise NotFound(
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`saved_model.pb`)\nSpecified file path: {folder}"
        )
    try:
        graphs = read_meta_graphs(path)
    except DecodeError as error:
        raise DataLoss(f"Can't parse {path} as binary proto: {error}") from error
    for graph in graphs:
        if graph.tags == tags:
            return graph.signatures
    there = "; ".join("{ " + " ".join(sorted(graph.tags)) + " }" for graph in graphs)
    raise NotFound(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To inspect available "
        "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`. "
        f"(The one at {folder} has {there})"
    )


def _load(folder: Path, settings: LoadSettings, registered: frozenset[str] = frozenset()) -> tuple[Any, Any]:
    try:
        return _load_once(folder, settings)
    except ApiError as error:
        operation = missing_operation(error.message)
        if not operation or operation in registered:
            raise
    register_operation(operation)
    # TensorFlow names one operation at a time, and a model may need those of two packages.
    return _load(folder, settings, registered | {operation})


def _load_once(folder: Path, settings: LoadSettings) -> tuple[Any, Any]:
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=session_config(settings))
    try:
        with graph.as_default():
            tf.compat.v1.saved_model.loader.load(session, list(settings.tags), str(folder))
    except tf.errors.OpError as error:
        session.close()
        raise to_api_error(error) from None
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # how TensorFlow's own Python loader complains
        session.close()
        raise Unknown(f"{folder} cannot be loaded: {type(error).__name__}: {error}") from error
    graph.finalize()
    return graph, session


def to_api_error(error: tf.errors.OpError) -> ApiError:
    """Turn TensorFlow's exception into ours, with the text that its C++ status has."""
    text = _WHERE_IN_PYTHON.sub("", error.message).partition("\n\nOriginal stack trace for ")[0]
    return BY_CODE.get(error.error_code, Internal)(text)
