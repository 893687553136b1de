"""A model becomes a SavedModel with named inputs and outputs, through a tf.Module of our own.

Keras's `model.export` names outputs output_0, writes each signature twice and gives other bytes in every process.
This writes one graph a signature, holds the variables and tables and nothing else, and is the same for both Kerases.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.fingerprint import FINGERPRINT
from tfbundle_serving.apis.signatures import PREDICT_METHOD
from tfbundle_serving.apis.version_folder import SAVED_MODEL

from ..models.source_model import SourceModel
from ..models.trackables import refuse_untracked
from ..reasons import reason_of
from ..runtime import import_tensorflow
from ..signatures.endpoint import Endpoint


def write_saved_model(folder: Path, model: SourceModel, endpoints: Sequence[Endpoint]) -> None:
    """Write a SavedModel.

    Args:
        folder: Where; it is made.
        model: The source, whose variables and tables the signatures share.
        endpoints: The signatures.

    Raises:
        ExportError: TensorFlow cannot trace or write it.
    """
    tf = import_tensorflow()
    module = tf.Module()
    module.model_resources = [*model.resources, *(each for endpoint in endpoints for each in endpoint.resources)]
    try:
        functions = {endpoint.signature: _trace(tf, model, endpoint) for endpoint in endpoints}
        # What no signature reads stays out: above all the seeds of dropout layers, other ones in each process.
        # By their handles, since mixed precision of Keras 2 wraps each variable in another one.
        used = {id(variable.handle) for function in functions.values() for variable in function.graph.variables}
        module.model_variables = [variable for variable in model.variables if id(variable.handle) in used]
        tf.saved_model.save(module, str(folder), signatures=functions)
    except (tf.errors.OpError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise ExportError(
            f"TensorFlow cannot write model {model.name!r}: {type(error).__name__}: {reason_of(error)}"
        ) from error
    methods = {endpoint.signature: endpoint.method_name for endpoint in endpoints}
    _name_methods(folder, {name: method for name, method in methods.items() if method != PREDICT_METHOD})
    _settle_fingerprint(folder)


def _trace(tf: Any, model: SourceModel, endpoint: Endpoint) -> Any:
    specs = [
        tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype.number), name=name) for name, spec in endpoint.inputs.items()
    ]

    # By position, named by the specs: as keywords, names with a hyphen or a dot would be rewritten.
    def serve(*tensors: Any) -> dict[str, Any]:
        return endpoint.call(dict(zip(endpoint.inputs, tensors, strict=True)))

    concrete = tf.function(serve, autograph=False).get_concrete_function(*specs)
    resources = [*model.resources, *endpoint.resources]
    refuse_untracked(f"model {model.name!r}, signature {endpoint.signature!r}", concrete, model.variables, resources)
    return concrete


def _name_methods(folder: Path, methods: Mapping[str, str]) -> None:
    """Write the method names of signatures that are no predict signatures; TF2's saver knows predict only."""
    if not methods:
        return
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model import fingerprinting_utils

    path = folder / SAVED_MODEL
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for signature, method in methods.items():
            graph.signature_def[signature].method_name = method
    # In the order that the saver itself writes maps in, or two exports would differ.
    path.write_bytes(saved.SerializeToString(deterministic=True))
    # The fingerprint covers the signatures.
    fingerprinting_utils.write_fingerprint(str(folder))


def _settle_fingerprint(folder: Path) -> None:
    """Give fingerprint.pb a number made from its hashes for its random one, so that equal exports are equal files."""
    from tensorflow.core.protobuf import fingerprint_pb2

    path = folder / FINGERPRINT
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.ClearField("uuid")
    hashes = fingerprint.SerializeToString(deterministic=True)
    fingerprint.uuid = str(uuid.UUID(bytes=hashlib.sha256(hashes).digest()[:16]).int)
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))
