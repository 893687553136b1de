"""Signatures for the Classify and Regress calls: serialized tf.Example in, classes and scores or one number out.

The calls find their tensors by fixed keys; the method name is for servers that check it.

Source: tensorflow_serving/servables/tensorflow/classifier.cc and regressor.cc; tensorflow/cc/saved_model
signature_constants.h.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD

from ..models.source_model import SourceModel
from ..runtime import import_tensorflow
from .choice import choose_output, rows_of_bytes
from .endpoint import Endpoint
from .labels import as_scores, check_width, read_labels
from .tf_example import check_parseable, encode_examples, parse_examples

INPUTS, CLASSES, SCORES, OUTPUTS = "inputs", "classes", "scores", "outputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """Answer Classify calls: `classes` (n, k) strings and `scores` (n, k) float32, in the order of the output.

    Attributes:
        signature: Its name.
        around: The signature it is built around; "" is the main one.
        scores: The output with a score for each class; "" is the only one.
        labels: The classes' names (see `read_labels`); None numbers them "0", "1", ...
    """

    signature: str = "classify"
    around: str = ""
    scores: str = ""
    labels: str | os.PathLike[str] | Sequence[str] | None = None

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:  # noqa: ARG002  # as each ready-made one
        """Build it.

        Raises:
            ExportError: An input cannot be a feature, the output is not known, or the labels cannot be read.
        """
        output = choose_output(main, self.scores, signature=self.signature, option="scores")
        labels = None if self.labels is None else read_labels(self.labels)

        def answer(results: Mapping[str, Any], rows: Any) -> dict[str, Any]:
            tf = import_tensorflow()
            scores = as_scores(results[output], signature=self.signature, output=output)
            if labels is None:
                names = tf.strings.as_string(tf.range(tf.shape(scores)[1]))
            else:
                check_width(labels, scores, signature=self.signature, output=output)
                names = tf.constant(labels)
            return {CLASSES: tf.tile(names[tf.newaxis], [rows, 1]), SCORES: scores}

        return _from_examples(self.signature, main, (CLASSES, SCORES), answer, CLASSIFY_METHOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regress:
    """Answer Regress calls: `outputs` (n,) float32.

    Attributes:
        signature: Its name.
        around: The signature it is built around; "" is the main one.
        output: The output with one number a row; "" is the only one.
    """

    signature: str = "regress"
    around: str = ""
    output: str = ""

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:  # noqa: ARG002  # as each ready-made one
        """Build it.

        Raises:
            ExportError: An input cannot be a feature, or the output is not known.
        """
        output = choose_output(main, self.output, signature=self.signature, option="output")

        def answer(results: Mapping[str, Any], rows: Any) -> dict[str, Any]:
            tf = import_tensorflow()
            values = results[output]
            shape = values.shape.as_list() if values.shape.rank is not None else [None]
            if values.dtype.is_complex or values.dtype == tf.string or shape[1:] not in ([], [1], [None]):
                raise ExportError(
                    f"signature {self.signature!r}: output {output!r} is {values.dtype.name} {values.shape}; "
                    "Regress answers with one number a row"
                )
            return {OUTPUTS: tf.reshape(tf.cast(values, tf.float32), [rows])}

        return _from_examples(self.signature, main, (OUTPUTS,), answer, REGRESS_METHOD)


def _from_examples(
    signature: str,
    main: Endpoint,
    outputs: tuple[str, ...],
    answer: Callable[[Mapping[str, Any], Any], dict[str, Any]],
    method_name: str,
) -> Endpoint:
    check_parseable(signature, main.inputs)

    def function(tensors: Mapping[str, Any]) -> dict[str, Any]:
        tf = import_tensorflow()
        return answer(main.call(parse_examples(tensors[INPUTS], main.inputs)), tf.size(tensors[INPUTS]))

    return Endpoint(
        signature=signature,
        inputs={INPUTS: rows_of_bytes(main)},
        outputs=outputs,
        function=function,
        method_name=method_name,
        examples=lambda arrays: {INPUTS: encode_examples(arrays)},
        around=main.signature,
    )
