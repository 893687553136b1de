"""batching.config: how requests of one model are joined into batches.

    max_batch_size { value: 128 }
    batch_timeout_micros { value: 1000 }
    allowed_batch_sizes: 32
    allowed_batch_sizes: 128

Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto (BatchingParameters); defaults from
tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument

from .schema import read_text

#: Rows in a batch at most, unless the file says otherwise.
_MAX_BATCH_SIZE = 1000


def _cpus() -> int:
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingParameters:
    """How requests are joined.

    Attributes:
        max_batch_size: Rows in a batch at most.
        batch_timeout_micros: How long the first request of a batch waits for others.
        max_enqueued_batches: Batches that may wait before requests are refused.
        num_batch_threads: Batches that run at once.
        thread_pool_name: A name for the threads.
        allowed_batch_sizes: Batches are padded up to one of these; empty means any size.
        pad_variable_length_inputs: Whether inputs that differ in other dimensions are padded to fit each other.
        enable_large_batch_splitting: Whether a request larger than a batch is split over several.
        max_execution_batch_size: Rows that run at once where requests are split; as a rule max_batch_size.
    """

    max_batch_size: int = _MAX_BATCH_SIZE
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=_cpus)
    thread_pool_name: str = ""
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = _MAX_BATCH_SIZE

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be meant.

        Raises:
            InvalidArgument: A size is not positive, or allowed_batch_sizes is not ascending up to the largest batch.
        """
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name} must be positive; was {getattr(self, name)}")
        sizes = self.allowed_batch_sizes
        if sizes and list(sizes) != sorted(set(sizes)):
            raise InvalidArgument("allowed_batch_sizes entries must be monotonically increasing")
        largest = self.max_execution_batch_size if self.enable_large_batch_splitting else self.max_batch_size
        if sizes and sizes[-1] != largest:
            raise InvalidArgument(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {largest}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingSettings:
    """Whether requests are joined, and how.

    Attributes:
        enabled: True = those of every version, False = none, None = those of versions whose metadata.json says that
            rows alone and together get the same answers.
        parameters: How; None = the defaults.
        per_model: Whether each version brings its own parameters; one that does not is treated as by None above.
    """

    enabled: bool | None = None
    parameters: BatchingParameters | None = None
    per_model: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters that nothing would use.

        Raises:
            InvalidArgument: There are parameters, but nothing is enabled; TensorFlow Serving's text.
        """
        if self.parameters is not None and not self.enabled:
            raise InvalidArgument(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
            )


_WRAPPED = (
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
)


def read_batching(path: Path) -> BatchingParameters:
    """Read a batching.config; what the file leaves out keeps its default.

    Raises:
        NotFound: The file is missing.
        InvalidArgument: It holds no BatchingParameters, or impossible ones.
    """
    return batching_parameters(read_text(path, "BatchingParameters"))


def batching_parameters(parsed: Any) -> BatchingParameters:
    """Read a BatchingParameters message; what it leaves out keeps its default.

    Raises:
        InvalidArgument: The parameters are impossible.
    """
    given = {name: getattr(parsed, name).value for name in _WRAPPED if parsed.HasField(name)}
    if "max_execution_batch_size" not in given:
        given["max_execution_batch_size"] = given.get("max_batch_size", _MAX_BATCH_SIZE)
    return BatchingParameters(
        **given,
        allowed_batch_sizes=tuple(parsed.allowed_batch_sizes),
        pad_variable_length_inputs=parsed.pad_variable_length_inputs,
    )
