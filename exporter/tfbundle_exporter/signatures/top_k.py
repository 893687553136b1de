"""The `top_k` signature: the names and scores of the most likely classes, best first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..models.source_model import SourceModel
from ..runtime import import_tensorflow
from .choice import choose_output
from .classify_regress import CLASSES, SCORES
from .endpoint import Endpoint
from .labels import as_scores, check_width, read_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Answer with `classes` (n, k) strings and `scores` (n, k) float32; of equal scores the first class wins.

    Attributes:
        labels: The classes' names (see `read_labels`).
        top_k: How many; all where there are fewer classes.
        signature: Its name.
        around: The signature it is built around; "" is the main one. Around "image" it names what is in a picture.
        output: The output with a score for each class; "" is the only one.
    """

    labels: str | os.PathLike[str] | Sequence[str]
    top_k: int = 5
    signature: str = "top_k"
    around: str = ""
    output: str = ""

    def __post_init__(self) -> None:
        """Refuse a number of classes that answers nothing."""
        if self.top_k < 1:
            raise ExportError(f"labels: top_k is at least 1; got {self.top_k}")

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:  # noqa: ARG002  # as each ready-made one
        """Build it.

        Raises:
            ExportError: The output is not known, or the labels cannot be read.
        """
        output = choose_output(main, self.output, signature=self.signature, option="output")
        names = read_labels(self.labels)

        def function(tensors: Mapping[str, Any]) -> dict[str, Any]:
            tf = import_tensorflow()
            scores = as_scores(main.call(tensors)[output], signature=self.signature, output=output)
            check_width(names, scores, signature=self.signature, output=output)
            best, places = tf.math.top_k(scores, min(self.top_k, len(names)))
            return {CLASSES: tf.gather(tf.constant(names), places), SCORES: best}

        return Endpoint(
            signature=self.signature,
            inputs=main.inputs,
            outputs=(CLASSES, SCORES),
            function=function,
            examples=dict,
            around=main.signature,
        )
