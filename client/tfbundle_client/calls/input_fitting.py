"""Inputs as a caller has them become the arrays that a signature wants, or an error that shows both.

    numpy array     a cast that loses nothing is done (uint8 to float32, float32 to float64); float64 to float32 has to
                    be asked for, with casting="same_kind" or array.astype
    list, number    what Python cannot say otherwise is understood: 0.1 becomes float32, 3 becomes int8 or float32, if
                    the value fits; 0.5 never becomes an integer, nor 1 a bool
    strings         bytes or str (as UTF-8), in lists, numpy string arrays or object arrays
    pandas          a DataFrame with a column for each input, or whose columns in their order are the one input; a
                    Series. Where pandas chose the dtype itself (float64, int64, object), values are taken as those of
                    a list are. A column also goes to an input of shape (?, 1).

Shapes must agree in every size that the signature names.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import InvalidArgument, SignatureMismatch
from tfbundle_serving.apis.signatures import Shape, Signature, TensorSpec, format_shape

#: Which casts of arrays are done unasked; the names are numpy's.
Casting = Literal["safe", "same_kind"]

#: What pandas makes of plain numbers and of mixed columns, unasked.
_PANDAS_OWN = (np.float64, np.int64, np.object_)
#: Kinds of numpy dtypes by how much they can hold; a kind goes into its own and those after it.
_KIND_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def fit_inputs(inputs: Any, signature: Signature, *, casting: Casting = "safe") -> dict[str, NDArray[Any]]:
    """Make the arrays that a signature wants.

    Args:
        inputs: A mapping from input name to value, or one value for a signature with one input.
        signature: What is wanted.
        casting: Which casts of arrays are done.

    Returns:
        Input name to array of the signature's dtype.

    Raises:
        SignatureMismatch: A name, dtype or shape does not fit; the message says what is wanted and what came.
        Unimplemented: The signature wants bfloat16, and the package ml_dtypes is not installed.
    """
    if type(inputs) is np.ndarray and len(signature.inputs) == 1:
        ((name, spec),) = signature.inputs.items()
        return {name: _fit(inputs, spec, name, casting)}  # as nearly always; the checks below cost more than this
    if isinstance(inputs, Mapping):
        named = inputs
    elif _is_frame(inputs):
        named = _take_frame_apart(inputs, signature)
    else:
        named = {only_input(signature): inputs}
    _check_names(named, signature)
    return {name: _fit(value, signature.inputs[name], name, casting) for name, value in named.items()}


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "iloc")


def _take_frame_apart(frame: Any, signature: Signature) -> Mapping[str, Any]:
    """Make inputs of a DataFrame's columns, or one input of all of them."""
    columns = [str(column) for column in frame.columns]
    if len(signature.inputs) == 1 and not signature.inputs.keys() & set(columns):
        name, spec = next(iter(signature.inputs.items()))
        is_flat = spec.shape is not None and len(spec.shape) == 1 and len(columns) == 1
        return {name: frame.iloc[:, 0] if is_flat else frame}
    named = {}
    for place, column in enumerate(columns):
        spec_or_none = signature.inputs.get(column)
        values = frame.iloc[:, place]
        is_column = spec_or_none is not None and spec_or_none.shape is not None and len(spec_or_none.shape) == 2
        named[column] = values.to_frame() if is_column else values
    return named


def _from_pandas(value: Any) -> tuple[NDArray[Any], bool]:
    """Give the array of a DataFrame or Series, and whether somebody chose its dtype."""
    array: NDArray[Any] = value.to_numpy()
    if array.dtype == object and array.size and not isinstance(array.flat[0], str | bytes):
        array = np.asarray(array.tolist())  # numbers of a dtype that numpy does not have, such as Int64
    return array, array.dtype not in _PANDAS_OWN


def only_input(signature: Signature) -> str:
    """Name the input that a value without a name is for: the only one, or the only one that has to be given.

    Raises:
        SignatureMismatch: There are several.
    """
    if len(signature.inputs) == 1:
        return next(iter(signature.inputs))
    required = [name for name in signature.inputs if name not in signature.defaults]
    if len(required) == 1:
        return required[0]
    raise SignatureMismatch(f"got one array without a name, but {describe_inputs(signature)}; give {{name: array}}")


def describe_inputs(signature: Signature) -> str:
    """Say in words what a signature takes: the inputs are a: float32 (?, 3), b: float32 (?, 3)."""
    if not signature.inputs:
        return "there are no inputs"
    specs = ", ".join(f"{name}: {spec}" for name, spec in sorted(signature.inputs.items()))
    return f"the {'input is' if len(signature.inputs) == 1 else 'inputs are'} {specs}"


def _check_names(named: Mapping[str, Any], signature: Signature) -> None:
    if named.keys() == signature.inputs.keys():
        return
    unknown = [name for name in named if name not in signature.inputs]
    if unknown:
        near = get_close_matches(str(unknown[0]), signature.inputs, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SignatureMismatch(f"there is no input {unknown[0]!r}: {describe_inputs(signature)}{hint}")
    missing = sorted(name for name in signature.inputs if name not in named and name not in signature.defaults)
    if missing:
        raise SignatureMismatch(f"input {missing[0]!r} is missing: {describe_inputs(signature)}")


def _fit(value: Any, spec: TensorSpec, name: str, casting: Casting) -> NDArray[Any]:
    to = spec.dtype.to_numpy()
    if type(value) is np.ndarray and value.dtype == to and to.kind != "O" and _fits(value.shape, spec.shape):
        return value  # as nearly always; it says no more than what follows, and costs a fifth
    if hasattr(value, "iloc"):
        value, has_dtype = _from_pandas(value)
    else:
        has_dtype = hasattr(value, "dtype") or hasattr(value, "__array__")
    array = _as_array(value, spec, name, keeps_dtype=has_dtype)
    if not _fits(array.shape, spec.shape):
        raise _mismatch(name, spec, array, _shape_hint(array.shape, spec.shape))
    try:
        came = dtypes.of_numpy(array.dtype)
    except InvalidArgument:
        raise _mismatch(name, spec, array, "") from None
    if came is spec.dtype:
        return array
    if came.is_string or spec.dtype.is_string:
        raise _mismatch(name, spec, array, "")
    if has_dtype:
        if not _may_cast(array.dtype, to, casting):
            raise _mismatch(name, spec, array, f"if the loss is meant, send array.astype({spec.type_name!r})")
        return _cast(array, spec, to, name)
    if not _literal_may_become(array, to):
        raise _mismatch(name, spec, array, "")
    return _cast(array, spec, to, name)


def _as_array(value: Any, spec: TensorSpec, name: str, *, keeps_dtype: bool) -> NDArray[Any]:
    try:
        # Fixed-width bytes of numpy's own making would lose NULs at the end.
        array = np.asarray(value, dtype=object if spec.dtype.is_string and not keeps_dtype else None)
    except (TypeError, ValueError) as error:
        raise SignatureMismatch(f"input {name!r} wants {spec}, got something that is no array: {error}") from error
    if array.dtype == object:
        _check_elements(array, spec, name)
    return array


def _check_elements(array: NDArray[Any], spec: TensorSpec, name: str) -> None:
    """Refuse objects that are not strings, and strings where none are wanted."""
    kinds = set(map(type, array.ravel().tolist()))
    strangers = kinds - {bytes, str} if spec.dtype.is_string else kinds or {object}
    if strangers:
        stranger = min(each.__name__ for each in strangers)
        raise SignatureMismatch(f"input {name!r} wants {spec}, got Python objects such as {stranger}")


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    if wanted is None:
        return True
    if len(shape) != len(wanted):
        return False
    for size, want in zip(shape, wanted, strict=True):  # noqa: SIM110 - a generator costs a microsecond here
        if want is not None and size != want:
            return False
    return True


def _shape_hint(shape: tuple[int, ...], wanted: Shape) -> str:
    if wanted is None:
        return ""
    if wanted[:1] == (None,) and _fits(shape, wanted[1:]):
        return "a single example needs a batch dimension in front, as in array[None]"
    if wanted[-1:] == (1,) and _fits((*shape, 1), wanted):
        return "the last dimension of size 1 is missing, as in array[..., None]"
    return ""


def _may_cast(came: np.dtype[Any], to: np.dtype[Any], casting: Casting) -> bool:
    if "bfloat16" in (came.name, to.name):
        # numpy has no rules for a dtype that is not its own: bfloat16 is a short float32.
        if came.name == "bfloat16":
            return to.name in ("float32", "float64") or (casting == "same_kind" and to.kind in "fc")
        return came.kind in "fbiu" and (casting == "same_kind" or came.name in ("bool", "uint8", "int8"))
    return np.can_cast(came, to, casting)


def _literal_may_become(array: NDArray[Any], to: np.dtype[Any]) -> bool:
    if array.size == 0:
        return True
    rank = 2 if to.name == "bfloat16" else _KIND_RANK[to.kind]
    came = _KIND_RANK[array.dtype.kind]
    return came <= rank and not (rank == 1 and came == 0)


def _cast(array: NDArray[Any], spec: TensorSpec, to: np.dtype[Any], name: str) -> NDArray[Any]:
    if to.kind in "iu" and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(to)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            worst = low if low < limits.min else high
            raise SignatureMismatch(f"input {name!r} wants {spec}, got {worst}, which does not fit into {to}")
    try:
        with np.errstate(over="raise"):
            return array.astype(to)
    except FloatingPointError:
        raise SignatureMismatch(
            f"input {name!r} wants {spec}, got values up to {np.nanmax(np.abs(array)):.3g}, too large for {to}"
        ) from None


def _mismatch(name: str, spec: TensorSpec, array: NDArray[Any], hint: str) -> SignatureMismatch:
    came = "string" if array.dtype.kind in "OSUT" else str(array.dtype)
    text = f"input {name!r} wants {spec}, got {came} {format_shape(array.shape)}"
    return SignatureMismatch(f"{text}; {hint}" if hint else text)
