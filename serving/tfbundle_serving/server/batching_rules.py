"""Which requests of a version may be joined into one run, and how: decided once, when it is loaded.

    --enable_batching                           every version, in TensorFlow Serving's way
    <version folder>/batching_params.pbtxt      its own parameters, with --enable_per_model_batching_parameters
    metadata.json  {"batchable": true}          ours: joined without waiting, unless --enable_batching=false

Source: tensorflow_serving/servables/tensorflow/saved_model_bundle_factory.cc, bundle_factory_util.cc.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.signatures import Signature, TensorSpec
from tfbundle_serving.apis.version_folder import read_metadata
from tfbundle_serving.config.batching import BatchingParameters, BatchingSettings, read_batching

log = logging.getLogger(__name__)

#: The file in a version folder that --enable_per_model_batching_parameters reads.
PARAMETERS_FILE = "batching_params.pbtxt"

#: Nobody asked for batches where metadata.json allows them, so they must not cost memory that single runs do not.
_UNASKED = BatchingParameters(max_batch_size=512, max_execution_batch_size=512)
_UNASKED_BYTES = 8 << 20
#: Beyond this a run costs more than the way there, and joining is only another copy.
_UNASKED_REQUEST_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingRules:
    """How requests of one version are joined.

    Attributes:
        parameters: Sizes and times.
        is_asked_for: Whether a flag says so: then requests that no batch can hold are refused, as by TensorFlow
            Serving. Otherwise they run alone.
        max_bytes: Bytes of inputs in a batch at most; None means any number.
        max_request_bytes: A request with more bytes of inputs runs alone; None means none does.
        alone: Signatures whose requests always run alone. One is added when its answers turn out not to have a row
            for each row asked.
    """

    parameters: BatchingParameters
    is_asked_for: bool
    max_bytes: int | None = None
    max_request_bytes: int | None = None
    alone: set[str] = field(default_factory=set)

    @property
    def max_rows(self) -> int:
        """Rows that run at once at most."""
        given = self.parameters
        return given.max_execution_batch_size if given.enable_large_batch_splitting else given.max_batch_size


def choose_rules(folder: Path, settings: BatchingSettings, signatures: Mapping[str, Signature]) -> BatchingRules | None:
    """Choose the rules of a version; None where each request runs alone.

    Raises:
        InvalidArgument: Its batching_params.pbtxt holds no parameters, or impossible ones: it must not be served.
    """
    if settings.enabled is False:
        return None
    if settings.enabled:
        parameters = _asked_for(folder, settings)
        if parameters is not None:
            return BatchingRules(parameters=parameters, is_asked_for=True)
    if not _is_declared_batchable(folder):
        return None
    alone = {name for name, signature in signatures.items() if not _has_rows(signature)}
    return BatchingRules(
        parameters=_UNASKED,
        is_asked_for=False,
        max_bytes=_UNASKED_BYTES,
        max_request_bytes=_UNASKED_REQUEST_BYTES,
        alone=alone,
    )


def _asked_for(folder: Path, settings: BatchingSettings) -> BatchingParameters | None:
    common = settings.parameters or BatchingParameters()
    if not settings.per_model:
        return common
    path = folder / PARAMETERS_FILE
    if not path.exists():
        return None
    # The threads are shared by all models, so the common file alone says how many there are.
    return dataclasses.replace(
        read_batching(path), num_batch_threads=common.num_batch_threads, thread_pool_name=common.thread_pool_name
    )


def _is_declared_batchable(folder: Path) -> bool:
    try:
        metadata = read_metadata(folder)
    except (DecodeError, OSError) as error:  # TensorFlow Serving serves the folder without looking at this file
        log.warning("%s: requests are not joined, since metadata.json cannot be read: %s", folder, error)
        return False
    return metadata is not None and metadata.get("batchable") is True


def _has_rows(signature: Signature) -> bool:
    """Tell whether a signature has inputs and outputs with a row for each example, by its declared shapes."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all(_is_open(spec) for spec in specs)


def _is_open(spec: TensorSpec) -> bool:
    return spec.shape is None or (len(spec.shape) > 0 and spec.shape[0] is None)
