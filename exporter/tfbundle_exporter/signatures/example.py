"""The `example` signature: serialized tf.Example in, parsed in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..models.source_model import SourceModel
from .choice import rows_of_bytes
from .endpoint import Endpoint
from .tf_example import check_parseable, encode_examples, parse_examples

EXAMPLES = "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Take serialized tf.Example, each a row; the features are called like the inputs.

    Attributes:
        signature: Its name.
        around: The signature it is built around; "" is the main one.
    """

    signature: str = "example"
    around: str = ""

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:  # noqa: ARG002  # as each ready-made one
        """Build it.

        Raises:
            ExportError: An input cannot be a feature.
        """
        check_parseable(self.signature, main.inputs)

        def function(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
            return main.call(parse_examples(tensors[EXAMPLES], main.inputs))

        return Endpoint(
            signature=self.signature,
            inputs={EXAMPLES: rows_of_bytes(main)},
            outputs=main.outputs,
            function=function,
            examples=lambda arrays: {EXAMPLES: encode_examples(arrays)},
            around=main.signature,
        )
