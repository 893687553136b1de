"""What a predict call gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tfbundle_serving.apis.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """A model's answer. `r["probabilities"]` is one output; `r.output` is the output of a model that has one.

    Attributes:
        model: The model that was asked.
        version: The version that answered, the same over both transports.
        signature: The signature that was called.
        outputs: Alias to array. Arrays are read-only, because they look into the received bytes where they can;
            strings are object arrays of bytes. Copy what you want to change.
        latency_s: Seconds from the call to the answer, look-ups and decoding included.
        attempts: How often the request was sent until it was answered.
    """

    model: str
    version: int
    signature: str
    outputs: Mapping[str, NDArray[Any]]
    latency_s: float
    attempts: int = 1

    @property
    def output(self) -> NDArray[Any]:
        """The only output.

        Raises:
            InvalidArgument: There are several; the message names them.
        """
        if len(self.outputs) != 1:
            names = ", ".join(self.outputs)
            raise InvalidArgument(
                f"{self.model} version {self.version} has {len(self.outputs)} outputs ({names}): "
                f'take one by name, as in r["{next(iter(self.outputs), "name")}"]'
            )
        return next(iter(self.outputs.values()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Take one output by name."""
        try:
            return self.outputs[name]
        except KeyError:
            raise KeyError(
                f"{self.model} version {self.version} has no output {name!r}; it has {', '.join(self.outputs)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self.outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)
