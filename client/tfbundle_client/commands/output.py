"""What the client's commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from numpy.typing import NDArray

from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_status import VersionStatus

from ..calls.prediction import Prediction
from .tables import print_table

#: Outputs up to this many values are shown whole.
_SHOWN_VALUES = 40
_ENDINGS = (".npz", ".npy", ".json")


def print_json(document: Any) -> None:
    """Print a document; numbers that JSON lacks are NaN and Infinity, as TensorFlow Serving writes them."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def prediction_to_json(prediction: Prediction) -> dict[str, Any]:
    """Give a prediction as JSON values."""
    return {
        "model": prediction.model,
        "version": prediction.version,
        "signature": prediction.signature,
        "latency_s": prediction.latency_s,
        "outputs": {name: array_to_json(array) for name, array in prediction.outputs.items()},
    }


def array_to_json(array: NDArray[Any]) -> Any:
    """Give an array as nested lists; floats as short as they round-trip, strings as text, complex numbers as pairs."""
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], -1).tolist()
    if array.dtype.kind in "OSU":
        return _texts(array.tolist())
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    if array.dtype.name == "float32" and array.ndim and np.isfinite(array).all():
        # tolist would widen 0.1 to 0.10000000149011612.
        return orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))
    return array.tolist()


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(each) for each in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def print_prediction(prediction: Prediction) -> None:
    """Print a prediction for a person."""
    rows = [
        (name, "string" if array.dtype == object else str(array.dtype), str(array.shape), _values(array))
        for name, array in prediction.outputs.items()
    ]
    print_table(
        f"{prediction.model} version {prediction.version}, signature {prediction.signature}, "
        f"{prediction.latency_s * 1e3:.1f} ms",
        ("output", "dtype", "shape", "values"),
        rows,
    )


def _values(array: NDArray[Any]) -> str:
    if array.dtype == object:
        array = np.array([_texts(each) for each in array.ravel().tolist()], dtype=object).reshape(array.shape)
    text = np.array2string(array, threshold=_SHOWN_VALUES, edgeitems=3, precision=6, separator=", ")
    return " ".join(text.split())


def check_output(path: Path) -> None:
    """Refuse a file that the outputs of one request are not written to, before anything is sent.

    Raises:
        click.UsageError: Its ending is another; the message names all.
    """
    if path.suffix not in _ENDINGS:
        raise click.UsageError(
            f"--output takes {', '.join(_ENDINGS)}, and where a file is scored also .csv, .parquet and .jsonl, "
            f"got {path}"
        )


def save_outputs(prediction: Prediction, path: Path) -> None:
    """Write the outputs to a .npz, to a .npy (a single output), or to .json.

    Raises:
        click.UsageError: The ending is none of these, or a .npy would have to hold several outputs.
    """
    check_output(path)
    if path.suffix == ".npz":
        np.savez(path, **{name: _storable(array) for name, array in prediction.outputs.items()})  # type: ignore[arg-type]  # the stubs mistake names for savez's own flag
    elif path.suffix == ".npy":
        if len(prediction.outputs) != 1:
            raise click.UsageError(
                f"{path} can hold one output, there are {', '.join(prediction)}: use .npz or --outputs"
            )
        np.save(path, _storable(prediction.output))
    else:
        path.write_text(json.dumps(prediction_to_json(prediction), ensure_ascii=False), encoding="utf-8")


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Give strings a fixed width, because object arrays would be pickled."""
    return array.astype(np.bytes_) if array.dtype == object else array


def print_status(model: str, url: str, statuses: list[VersionStatus]) -> None:
    """Print the versions of a model."""
    rows = [(str(each.version), each.state.name, each.error_message) for each in statuses]
    print_table(f"{model} at {url}", ("version", "state", "error"), rows)


def print_metadata(metadata: ModelMetadata) -> None:
    """Print the signatures of a version."""
    rows = [
        (name, role, alias, spec.type_name, "any" if spec.shape is None else str(spec).partition(" ")[2])
        for name, signature in sorted(metadata.callable_signatures.items())
        for role, specs in (("input", signature.inputs), ("output", signature.outputs))
        for alias, spec in sorted(specs.items())
    ]
    print_table(f"{metadata.name} version {metadata.version}", ("signature", "role", "name", "dtype", "shape"), rows)
