"""How much memory a Pod asks for: what TensorFlow needs, what the versions need, and one more while it swaps.

    (680 MiB + 1.2 x (all versions served + the largest one once more) + 256 MiB) x 1.25, rounded up to 128 MiB

While a version is replaced the old and the new one are loaded, and only one is at a time. What requests need comes on
top: 256 MiB, more where they are large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIB = 1 << 20

#: The embedded server without models, measured: 270 MiB of its own and 410 MiB of TensorFlow's library.
TENSORFLOW_BYTES = 680 * MIB
#: Memory for a byte on disk: 1.1 measured; TensorFlow Serving itself reckons with 1.2.
LOADED_FACTOR = 1.2
#: What a GPU costs of the machine's own memory: the driver's context and the libraries of CUDA.
GPU_BYTES = 2560 * MIB
REQUESTS_BYTES = 256 * MIB
HEADROOM = 1.25
_STEP = 128 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A request for memory and how it came about.

    Attributes:
        mib: The request, MiB.
        why: The sum, for a person.
    """

    mib: int
    why: str

    @property
    def quantity(self) -> str:
        """As Kubernetes writes it."""
        return f"{self.mib}Mi"


def memory_for(served: Sequence[int], *, on_gpu: bool = False) -> Memory:
    """Reckon the memory for versions of these sizes (bytes on disk), all served at once."""
    base = TENSORFLOW_BYTES + (GPU_BYTES if on_gpu else 0)
    loaded, swapped = sum(served), max(served, default=0)
    raw = (base + LOADED_FACTOR * (loaded + swapped) + REQUESTS_BYTES) * HEADROOM
    mib = math.ceil(raw / _STEP) * _STEP // MIB
    why = (
        f"memory: {mib} MiB = ({base // MIB} for TensorFlow + {LOADED_FACTOR} x ({loaded / MIB:.1f} served "
        f"+ {swapped / MIB:.1f} while one is swapped) + {REQUESTS_BYTES // MIB} for requests) x {HEADROOM}, rounded up"
    )
    return Memory(mib=mib, why=why)
