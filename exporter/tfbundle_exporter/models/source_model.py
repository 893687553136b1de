"""A loaded source as the exporter sees it: what it takes, what it gives, how it is called, its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfbundle_serving.apis.signatures import PREDICT_METHOD, TensorSpec

from ..sources.artefacts import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCall:
    """One way to call a source.

    Attributes:
        inputs: The source's own name of each input to its dtype and shape, the batch dimension None unless the source
            is bound to one batch size; in the source's order.
        output_names: The source's own name of each output, unique, in the order that `call` gives them.
        call: Takes one tensor an input, in order; returns one tensor an output, in order. Works eagerly and while
            being traced. Inference, not training.
        method_name: The API it is made for; a SavedModel may have signatures for Classify and Regress.
        arguments: The structure in which the source itself takes its inputs, with their names as leaves
            ({"word": "ids", "image": ["left", "right"]}); None where there is nothing to say beside `inputs`.
        results: The same of what it returns, with the outputs' names as leaves.
    """

    inputs: Mapping[str, TensorSpec]
    output_names: tuple[str, ...]
    call: Callable[[Sequence[Any]], list[Any]]
    method_name: str = PREDICT_METHOD
    arguments: Any = None
    results: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """A loaded source.

    Attributes:
        name: What it calls itself.
        family: The package it belongs to; "tensorflow" for a tf.Module or a SavedModel.
        library_version: Version of that package, here.
        main: What serving_default does.
        others: Further signatures that the source has of its own, by name.
        variables: Every tf.Variable, random seeds included.
        resources: Look-up tables and the like: trackables that a SavedModel of it must hold.
        weights: Path of each weight ("dense/kernel") to its tf.Variable.
        training: Optimizer, loss and metrics, where the source knows them.
        stateful: Names of layers that keep state from one call to the next.
        reset: Brings that state back to where it was when the source was opened.
        live: The loaded object itself.
    """

    name: str
    family: Family
    library_version: str
    main: SourceCall
    others: Mapping[str, SourceCall] = field(default_factory=dict)
    variables: tuple[Any, ...]
    resources: tuple[Any, ...]
    weights: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    stateful: tuple[str, ...] = ()
    reset: Callable[[], None] | None = None
    live: Any = None

    @property
    def weight_bytes(self) -> int:
        """Size of all variables in memory."""
        return sum(int(variable.shape.num_elements() or 0) * variable.dtype.size for variable in self.variables)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the main call takes; None where it takes any."""
        sizes = {spec.shape[0] for spec in self.main.inputs.values() if spec.shape}
        return next(iter(sizes)) if len(sizes) == 1 else None
