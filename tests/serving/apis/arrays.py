"""Arrays of every dtype that the contract knows, the extremes of each among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType

#: Every dtype with a numpy form.
EVERY_DTYPE = [dtype for dtype in dtypes.BY_NUMBER.values() if dtype.numpy_name]
#: What the REST API carries, and what it does not.
WITH_JSON_FORM = [
    dtypes.FLOAT,
    dtypes.DOUBLE,
    dtypes.INT8,
    dtypes.INT16,
    dtypes.INT32,
    dtypes.INT64,
    dtypes.UINT8,
    dtypes.UINT32,
    dtypes.UINT64,
    dtypes.BOOL,
    dtypes.STRING,
]
WITHOUT_JSON_FORM = [dtypes.HALF, dtypes.BFLOAT16, dtypes.UINT16, dtypes.COMPLEX64, dtypes.COMPLEX128]
STRINGS = [b"", b"plain", "Grüße".encode(), b"\x00\xff\x80 not UTF-8", b'quo"te\\ \n', b"x" * 300]


def array_of(dtype: DType, shape: tuple[int, ...] = (2, 3)) -> NDArray[Any]:
    """Make an array whose first values are the extremes of its dtype."""
    size = int(np.prod(shape))
    flat: NDArray[Any]
    if dtype.is_string:
        flat = np.empty(size, object)
        flat[:] = [STRINGS[index % len(STRINGS)] for index in range(size)]
        return flat.reshape(shape)
    to = dtype.to_numpy()
    values: list[Any]
    if to.kind in "iu":
        limits = np.iinfo(to)
        values = [limits.min, limits.max, 0, 1, 127, 100]
    elif to.kind == "b":
        values = [True, False]
    elif to.kind == "c":
        values = [complex(1.5, -2.25), complex(0.0, np.inf), 0j, complex(-0.0, 3e38)]
    else:
        values = [1.5, -0.0, np.inf, -np.inf, 65504.0, 6e-8, -3.0]
    flat = np.resize(np.array(values, to), size)
    return flat.reshape(shape)


def same_bits(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Whether two arrays are equal in dtype, shape and every bit."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind == "O":
        return bool(left.tolist() == right.tolist())
    return left.tobytes() == right.tobytes()
