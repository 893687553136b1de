"""What the exporter reads off a model of either Keras; keras_3.py and keras_2.py fill it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.signatures import TensorSpec

from ..sources.artefacts import Family
from .call_arguments import Arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasView:
    """A model of either Keras, read alike.

    Attributes:
        model: The model.
        family: Its package.
        library_version: Version of that package.
        inputs: Input layer to dtype and declared shape, for a model that is a graph of layers; empty for one that is
            but code, or not built yet.
        input_form: The structure that such a model takes, with anything as leaves.
        output: Its symbolic outputs, in their structure.
        layer_of: Names the layer that a symbolic output comes from.
        is_sequential: Whether it is a row of layers, which takes one tensor.
        guesses_dtype: Whether the dtype of its input is what its first layer computes with, though that layer takes
            integers as they are: an Embedding at the head of a Sequential without Input.
        was_called: Whether it ever was called, so that nothing of it is made by the next call.
        recorded: What a model that is but code was called with; None where it does not say.
        floats: What it computes with.
        variables: Its tf.Variables, as Keras counts them.
        weights: Path to tf.Variable, of those that are weights.
        beside: What it tracks and serving has no use of: optimizers, metrics.
        call: Calls the model: positional and keyword arguments to whatever it returns. Inference.
    """

    model: Any
    family: Family
    library_version: str
    inputs: Mapping[str, TensorSpec]
    input_form: Any
    output: Any
    layer_of: Callable[[Any], str]
    is_sequential: bool
    guesses_dtype: bool
    was_called: bool
    recorded: Arguments | None
    floats: DType
    variables: tuple[Any, ...]
    weights: tuple[tuple[str, Any], ...]
    beside: tuple[type, ...]
    call: Callable[..., Any]

    @property
    def what(self) -> str:
        """The model, in messages."""
        return f"model {self.model.name!r}"
