"""What --record and the flags beside it say: which requests are kept where, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfbundle_serving.apis.errors import InvalidArgument

#: Bytes that the file may have where nobody says otherwise.
MAX_BYTES = 1 << 30
#: The probability that a request is recorded, likewise.
DEFAULT_RATE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """Which requests are recorded.

    Attributes:
        file: The TFRecord file that they are appended to.
        rate: The probability with which each request is, 0 to 1.
        max_bytes: Bytes that the file may have; then recording rests until the file is moved away.
        models: Only requests to these models; empty = to all.
    """

    file: Path
    rate: float = DEFAULT_RATE
    max_bytes: int = MAX_BYTES
    models: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what is no probability and no size.

        Raises:
            InvalidArgument: The rate is not from 0 to 1, or the file may have no bytes.
        """
        if not 0 <= self.rate <= 1:
            raise InvalidArgument(
                f"--record_rate is the probability with which a request is recorded, 0 to 1; got {self.rate:g}"
            )
        if self.max_bytes < 1:
            raise InvalidArgument(f"--record_max_bytes must be 1 or more, got {self.max_bytes}")
