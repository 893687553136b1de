"""Wrap a SourceModel as the exporter does, load the folder back and ask it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_exporter.folder.saved_model import write_saved_model
from tfbundle_exporter.models.batch_size import trace
from tfbundle_exporter.models.source_model import SourceModel
from tfbundle_exporter.models.trackables import refuse_untracked
from tfbundle_exporter.signatures.endpoint import plain_endpoint
from tfbundle_exporter.signatures.names import nearest_legal


def wrap(model: SourceModel, folder: Path) -> Any:
    """Write the main call and the others as signatures under their own names as far as they are legal, and load it."""
    import tensorflow as tf

    calls = {"serving_default": model.main, **model.others}
    endpoints = [
        plain_endpoint(name, call, inputs=tuple(map(nearest_legal, call.inputs)), outputs=call.output_names)
        for name, call in calls.items()
    ]
    for name, call in calls.items():
        refuse_untracked(name, trace(name, call.call, call.inputs), model.variables, model.resources)
    write_saved_model(folder, model, endpoints)
    return tf.saved_model.load(str(folder))


def ask(loaded: Any, arrays: Sequence[Any], signature: str = "serving_default") -> dict[str, NDArray[Any]]:
    """Call a signature with its inputs in the order of their names' placeholders."""
    import tensorflow as tf

    function = loaded.signatures[signature]
    dtypes = [tensor.dtype for tensor in function.inputs]
    tensors = [tf.constant(array, dtype) for array, dtype in zip(arrays, dtypes, strict=False)]
    return {
        name: np.asarray(value.numpy())
        for name, value in function._call_flat(tensors, function.captured_inputs).items()
    }


def ask_call(model: SourceModel, arrays: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Call the main call eagerly."""
    import tensorflow as tf

    specs = model.main.inputs.values()
    tensors = [tf.constant(array, tf.as_dtype(spec.dtype.number)) for array, spec in zip(arrays, specs, strict=True)]
    return {
        name: np.asarray(value.numpy())
        for name, value in zip(model.main.output_names, model.main.call(tensors), strict=True)
    }
