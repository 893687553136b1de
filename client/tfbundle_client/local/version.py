"""One version folder run in this process, by TensorFlow's own session, as a server would run it.

The session is the kind that TensorFlow Serving and the embedded server use, with the same defaults, so that answers are
the same bit for bit on the same machine. TensorFlow is imported when the first version is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    Unknown,
)
from tfbundle_serving.apis.predict import Arrays
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import Signature
from tfbundle_serving.apis.tensor_proto import decode_tensor
from tfbundle_serving.apis.version_folder import SAVED_MODEL

#: The tag of the meta graph that servers load unless they are told otherwise.
_TAGS = frozenset({"serve"})
#: How TensorFlow says that a graph needs an operation of another package.
_MISSING_OPERATION = "Op type not registered"


class LocalVersion:
    """A version folder; its signatures are read at once, the model is loaded when it is first run.

    Safe across threads.

    Args:
        folder: The version folder.

    Attributes:
        folder: The version folder.
        signatures: Name to signature.

    Raises:
        NotFound: There is no meta graph that servers load.
        DataLoss: saved_model.pb is no SavedModel.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signatures: Mapping[str, Signature] = _read_signatures(folder)
        self._lock = threading.Lock()
        self._session: Any = None
        self._failure: ApiError | None = None

    @property
    def failure(self) -> ApiError | None:
        """Why it could not be loaded; None where it was, or nobody tried."""
        return self._failure

    def run(
        self, signature_name: str, inputs: Arrays, outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, NDArray[Any]]:
        """Run a signature.

        Args:
            signature_name: A key of `signatures`.
            inputs: Alias to array; strings as object arrays of bytes.
            outputs: Aliases of the wanted outputs; empty means all.
            timeout_s: Seconds that the run may take; None means no limit.

        Returns:
            Alias to array.

        Raises:
            FailedPrecondition: There is no such signature, or TensorFlow is not installed.
            InvalidArgument: Inputs are missing, or the graph refuses the values.
            DeadlineExceeded: It took too long and was interrupted.
            ApiError: Whatever TensorFlow says.
        """
        signature = self.signatures.get(signature_name)
        if signature is None:
            raise FailedPrecondition(f'Serving signature key "{signature_name}" not found.')
        session = self._load()
        import tensorflow as tf

        wanted = {alias: signature.outputs[alias] for alias in outputs or signature.outputs}
        options = None
        if timeout_s is not None:
            options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, round(timeout_s * 1e3)))
        try:
            results: dict[str, Any] = session.run(
                {alias: spec.tensor_name for alias, spec in wanted.items()},
                {spec.tensor_name: _feed(signature, alias, inputs) for alias, spec in signature.inputs.items()},
                options=options,
            )
        except tf.errors.DeadlineExceededError as error:
            raise DeadlineExceeded("the model run took too long and was interrupted") from error
        except tf.errors.OpError as error:
            raise _to_api_error(error) from None
        except (TypeError, ValueError) as error:  # what a session's own checks in Python raise
            raise InvalidArgument(str(error)) from error
        return {
            # TensorFlow's quantized dtypes come back as what they are made of.
            alias: (
                _as_array(results[alias]).view(spec.dtype.to_numpy())
                if spec.dtype.storage
                else _as_array(results[alias])
            )
            for alias, spec in wanted.items()
        }

    def close(self) -> None:
        """Give the memory back; a run under way fails."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _load(self) -> Any:
        session = self._session
        if session is not None:
            return session
        with self._lock:
            if self._session is None:
                try:
                    self._session = _open_session(self.folder)
                except ApiError as error:
                    self._failure = error
                    raise
                self._failure = None
            return self._session


def import_tensorflow() -> Any:
    """Import TensorFlow.

    Raises:
        FailedPrecondition: It is not installed; one line that says what to do.
    """
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise FailedPrecondition(
            "a local: address runs models in this process and needs TensorFlow: pip install 'tfbundle[export]'",
            attempts=0,
        ) from None
    return tf


def _read_signatures(folder: Path) -> dict[str, Signature]:
    path = folder / SAVED_MODEL
    try:
        graphs = read_meta_graphs(path)
    except DecodeError as error:
        raise DataLoss(f"Can't parse {path} as binary proto: {error}", attempts=0) from error
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror or error}", attempts=0) from error
    for graph in graphs:
        if graph.tags == _TAGS:
            return dict(graph.signatures)
    there = "; ".join("{ " + " ".join(sorted(graph.tags)) + " }" for graph in graphs)
    raise NotFound(f"{path} has no meta graph with the tag `serve`; it has {there or 'none'}", attempts=0)


def _open_session(folder: Path) -> Any:
    tf = import_tensorflow()
    # What tf.compat.v1.saved_model.loader.load calls, without its log message that there is a newer way, which is none
    # for sessions.
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader

    graph = tf.Graph()
    config = tf.compat.v1.ConfigProto()
    config.gpu_options.allow_growth = True  # others in this process may want the GPU, too
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            SavedModelLoader(str(folder)).load(session, sorted(_TAGS))
    except tf.errors.OpError as error:
        session.close()
        raise _to_api_error(error) from None
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # how TensorFlow's own loader complains
        session.close()
        raise Unknown(f"{folder} cannot be loaded: {type(error).__name__}: {error}") from error
    graph.finalize()
    return session


def _feed(signature: Signature, alias: str, inputs: Arrays) -> NDArray[Any]:
    if alias in inputs:
        return inputs[alias]
    if alias not in signature.defaults:
        raise InvalidArgument(f"the input {alias!r} is missing")
    try:
        return decode_tensor(signature.defaults[alias])
    except DecodeError as error:
        raise InvalidArgument(f"the default of the input {alias!r} cannot be read: {error}") from error


def _as_array(result: Any) -> NDArray[Any]:
    """Undo what a session does to strings of rank 0: they arrive as bare bytes."""
    return np.array(result, object) if isinstance(result, bytes) else np.asarray(result)


def _to_api_error(error: Any) -> ApiError:
    """Turn TensorFlow's exception into ours, without what Python adds about where the graph was built."""
    text = str(error.message).partition("\n\nOriginal stack trace for ")[0]
    if text.startswith("Graph execution error:"):
        text = text.split("\n", 1)[-1].strip()
    if _MISSING_OPERATION in text:
        text += "; import the Python package that brings the operation (such as tensorflow_text) before the first call"
    return BY_CODE.get(error.error_code, Internal)(text)
