"""What the supervisor and its workers say to each other, pickled, over a socket pair that nobody else has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfbundle_serving.apis.errors import ApiError, BundleError
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.config.models import ModelConfig

from .settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Job:
    """To a worker, first of all: what to serve.

    Attributes:
        number: Which of the workers it is, from 1.
        settings: Ports are those of the supervisor, never 0.
        path_fd: Descriptor of the bound UNIX socket that all workers accept from; None where there is none.
        is_replacement: Whether others serve already, so that a model that cannot be loaded is no reason not to start.
    """

    number: int
    settings: ServerSettings
    path_fd: int | None = None
    is_replacement: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """From a worker: its models are there; it does not listen yet."""


@dataclass(frozen=True, slots=True)
class Open:
    """To a worker: listen."""


@dataclass(frozen=True, slots=True)
class Opened:
    """From a worker: it listens.

    Attributes:
        models: Model name to the states of its versions.
    """

    models: Mapping[str, list[VersionStatus]]


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: it cannot start."""

    error: BundleError


@dataclass(frozen=True, slots=True)
class Goodbye:
    """From a worker that ends in order: what it counted."""

    metrics: bytes


@dataclass(frozen=True, slots=True)
class Apply:
    """Serve these models and no others; answered with `Applied`.

    Attributes:
        models: All of them.
        metric_names: Counters whose increase meanwhile is to be told.
    """

    models: tuple[ModelConfig, ...]
    metric_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of `Apply`.

    Attributes:
        models: What is to be served now.
        error: Why it failed; None where it did not.
        metrics: Name to increase.
    """

    models: tuple[ModelConfig, ...]
    error: ApiError | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShowMetrics:
    """Show what was counted; answered with bytes."""


@dataclass(frozen=True, slots=True)
class Ask:
    """In either direction: a worker asks for all of them, the supervisor asks one.

    Attributes:
        number: Comes back with the answer.
        task: What is wanted.
    """

    number: int
    task: Apply | ShowMetrics


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to `Ask`."""

    number: int
    result: Any
