"""A source of a few lines of TensorFlow, its signatures as the exporter makes them, and the written version asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_exporter.folder.saved_model import write_saved_model
from tfbundle_exporter.models.source_model import SourceCall, SourceModel
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_exporter.signatures.endpoint import Endpoint
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.signatures import TensorSpec

Arrays = Mapping[str, NDArray[Any]]


def spec(dtype: str, *shape: int | None) -> TensorSpec:
    """Describe an input; the batch dimension goes without saying."""
    return TensorSpec(dtypes.STRING if dtype == "string" else dtypes.BY_NUMPY_NAME[dtype], (None, *shape))


def call_of(inputs: Mapping[str, TensorSpec], outputs: tuple[str, ...], function: Callable[..., Any]) -> SourceCall:
    """Make a call of a function that takes a tensor an input and gives a tensor, or a list of them."""

    def call(tensors: Any) -> list[Any]:
        results = function(*tensors)
        return results if isinstance(results, list) else [results]

    return SourceCall(inputs=inputs, output_names=outputs, call=call)


def source(
    inputs: Mapping[str, TensorSpec],
    outputs: tuple[str, ...],
    function: Callable[..., Any],
    *,
    variables: tuple[Any, ...] = (),
    others: Mapping[str, SourceCall] | None = None,
) -> SourceModel:
    """Make a source with one call, or several."""
    return SourceModel(
        name="small",
        family="tensorflow",
        library_version="0",
        main=call_of(inputs, outputs, function),
        others=others or {},
        variables=variables,
        resources=(),
        weights={f"v{place}": variable for place, variable in enumerate(variables)},
    )


class Version:
    """A written version of a source, with the endpoints that it was made of."""

    def __init__(self, folder: Path, model: SourceModel, settings: SignatureSettings) -> None:
        import tensorflow as tf

        self.folder = folder
        self.endpoints: dict[str, Endpoint] = {each.signature: each for each in build_endpoints(model, settings)}
        write_saved_model(folder, model, list(self.endpoints.values()))
        self._loaded = tf.saved_model.load(str(folder))

    def ask(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Call a signature of the written version."""
        import tensorflow as tf

        answers = self._loaded.signatures[signature](**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: np.asarray(answer.numpy()) for name, answer in answers.items()}

    def examples(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Turn inputs of the signature that a ready-made one is built around into its own."""
        convert = self.endpoints[signature].examples
        assert convert is not None
        return convert(inputs)
