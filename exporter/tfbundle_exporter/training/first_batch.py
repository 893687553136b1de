"""What `fit` feeds a model that does not say itself what it takes."""

from __future__ import annotations

import logging
from typing import Any

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.signatures import TensorSpec

from ..proof.example_inputs import draw_examples
from ..runtime import import_tensorflow

logger = logging.getLogger(__name__)


class FirstBatch:
    """Sees the dtypes and shapes of the first batch, and makes example inputs of that form.

    A subclassed model knows its inputs only by having been called, and Keras 3 forgets their dtypes. No hook of a
    callback is shown any data, so `train_step` is stood in for until it has been called once.
    """

    def __init__(self) -> None:
        self._inputs: Any = None

    def watch(self, model: Any) -> None:
        """Look at the next batch that a model is trained on, if its inputs are not known.

        Args:
            model: A model that is about to be trained.
        """
        if self._inputs is not None or getattr(model, "inputs", None):
            return
        own = model.train_step

        def train_step(data: Any, *others: Any) -> Any:
            self.forget(model)
            self._inputs = data[0] if isinstance(data, tuple) else data
            self._inputs = import_tensorflow().nest.map_structure(_spec, self._inputs)
            return own(data, *others)

        # Past Keras's own __setattr__, which would have a look at what is assigned.
        model.__dict__["train_step"] = train_step

    def forget(self, model: Any) -> None:
        """Leave the model as it was."""
        model.__dict__.pop("train_step", None)

    def examples(self, seed: int) -> Any:
        """Draw inputs in the form of the batch.

        Args:
            seed: Equal seeds draw equal inputs.

        Returns:
            Arrays in the structure that the model takes; None where no batch was seen, or not all of it was tensors.
        """
        nest = import_tensorflow().nest
        specs = nest.flatten(self._inputs) if self._inputs is not None else []
        if not specs or None in specs:
            return None
        drawn = draw_examples({str(place): spec for place, spec in enumerate(specs)}, seed=seed)
        return nest.pack_sequence_as(self._inputs, list(drawn.values()))


def _spec(value: Any) -> TensorSpec | None:
    """Describe a tensor, real or symbolic, with any number of rows; None where it is sparse, ragged or no tensor."""
    tf = import_tensorflow()
    if not isinstance(value, tf.Tensor):
        return None
    shape = None if value.shape.rank is None else (None, *value.shape.as_list()[1:])
    return TensorSpec(dtypes.by_number(value.dtype.as_datatype_enum), shape)
