"""Which inputs and outputs of a signature a ready-made one is built on, where it is not told or cannot know."""

from __future__ import annotations

from collections.abc import Iterable

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from .endpoint import Endpoint


def choose_output(main: Endpoint, wanted: str, *, signature: str, option: str) -> str:
    """Find the output that a ready-made signature is made of: the wanted one, or the only one.

    Args:
        main: The signature that it is built around.
        wanted: The output's public name; "" means the only one.
        signature: The ready-made signature's name, for messages.
        option: The setting that names the output, for messages.

    Raises:
        ExportError: There is no such output, or several and none is named.
    """
    if wanted in main.outputs:
        return wanted
    there = ", ".join(main.outputs)
    if wanted:
        raise ExportError(
            f"signature {signature!r}: signature {main.signature!r} has no output {wanted!r}; it has {there}"
        )
    if len(main.outputs) > 1:
        raise ExportError(
            f"signature {signature!r}: signature {main.signature!r} has {len(main.outputs)} outputs ({there}); "
            f"say which is meant: {option}={main.outputs[0]}"
        )
    return main.outputs[0]


def rows_of_bytes(main: Endpoint) -> TensorSpec:
    """Describe an input that takes one string a row, in batches like those of another signature."""
    shape = next((spec.shape for spec in main.inputs.values() if spec.shape), (None,))
    return TensorSpec(dtypes.STRING, shape[:1])


def join_inputs(signature: str, inputs: Iterable[tuple[str, TensorSpec]]) -> dict[str, TensorSpec]:
    """Put a signature's inputs together.

    Raises:
        ExportError: Two have one name.
    """
    joined: dict[str, TensorSpec] = {}
    for name, spec in inputs:
        if name in joined:
            raise ExportError(
                f"signature {signature!r} would have two inputs {name!r}; give the model's own another name: "
                f"--input NAME={name} (input_names=)"
            )
        joined[name] = spec
    return joined
