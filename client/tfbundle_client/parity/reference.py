"""Where the expected answers of a parity check come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfbundle_serving.apis.errors import BundleError, NotFound, ParityError
from tfbundle_serving.apis.golden import Golden, read_golden
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.version_folder import (
    SAVED_MODEL,
    find_version,
    golden_path,
    list_versions,
    parse_version,
    read_metadata,
)

#: A golden.npz, a version folder, a base path, or the arrays themselves: (inputs, outputs) by name.
Reference = str | os.PathLike[str] | Golden | tuple[Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was asked of the source model, what it answered, and what the exporter measured of it.

    Attributes:
        golden: Inputs and outputs.
        signature: The signature they are of.
        origin: Where they come from, for reports.
        noise_floor: Largest difference of the source model against itself; None where nobody measured it.
        is_batchable: Whether rows give the same answers alone and together; True unless it was measured otherwise.
    """

    golden: Golden
    signature: str
    origin: str
    noise_floor: float | None = None
    is_batchable: bool = True


def implied_version(reference: Reference) -> int | None:
    """Give the version that a reference is of, where its path says so: models/digits/3 is of version 3."""
    folder = _version_folder_of(reference)
    return None if folder is None else parse_version(folder.name)


def find_tagged(reference: Reference | None, version: str) -> int:
    """Find the number of a version by its tag, with the base path that the reference is or lies in.

    Args:
        reference: A base path, a version folder, or a golden.npz in one.
        version: The tag; a number written as text is taken, too.

    Raises:
        ParityError: No version bears the tag, or the reference is no path into a base path.
    """
    number = parse_version(version)
    if number is not None:
        return number
    folder = _version_folder_of(reference)
    if folder is None and not isinstance(reference, (str, os.PathLike)):
        raise ParityError(f"version {version} is a tag, and no base path says which number it is: give the number")
    base = Path(reference) if folder is None else folder.parent  # type: ignore[arg-type]  # a path, as was just seen
    try:
        return find_version(base, version)[0]
    except NotFound as error:
        raise ParityError(error.message) from error
    except OSError as error:
        raise ParityError(f"cannot look for the tag {version} in {base}: {error.strerror or error}") from error


def _version_folder_of(reference: Reference | None) -> Path | None:
    """Find the version folder that a path is, or that a golden.npz lies in."""
    if not isinstance(reference, (str, os.PathLike)):
        return None
    path = Path(reference).absolute()
    candidates = (path, *path.parents[:2]) if path.suffix == ".npz" else (path,)
    return next((each for each in candidates if parse_version(each.name) and (each / SAVED_MODEL).exists()), None)


def read_reference(reference: Reference, version: int, signature: str | None) -> Expected:
    """Read the expected answers.

    Args:
        reference: Where they are.
        version: The version that is served; it chooses the folder below a base path.
        signature: The signature that is meant; None means serving_default, or the only one that there is.

    Raises:
        ParityError: They are not there, or cannot be read, or not of that signature.
    """
    if isinstance(reference, tuple):
        inputs, outputs = reference
        reference = Golden(
            {name: np.asarray(array) for name, array in inputs.items()},
            {name: np.asarray(array) for name, array in outputs.items()},
        )
    if isinstance(reference, Golden):
        return Expected(golden=reference, signature=signature or DEFAULT_SIGNATURE, origin="arrays given by the caller")
    try:
        return _read_path(Path(reference), version, signature)
    except ParityError:
        raise
    except BundleError as error:
        raise ParityError(str(error)) from error
    except OSError as error:
        raise ParityError(f"cannot read the reference {reference}: {error.strerror or error}") from error


def _read_path(path: Path, version: int, signature: str | None) -> Expected:
    file = path
    if path.is_dir():
        folder = path if (path / SAVED_MODEL).exists() else list_versions(path).get(version)
        if folder is None:
            raise ParityError(f"{path} is neither a version folder nor has one of version {version}, which is served")
        file = golden_path(folder)
        if not file.exists():
            raise ParityError(
                f"{file} is missing: export the version with example inputs, name a golden.npz as the reference, "
                "or give inputs, with which the folder is run here"
            )
    goldens = read_golden(file)
    name = _choose(goldens, signature, file)
    measured = _measured(_version_folder_of(file))
    noise = measured.get("noise_floor")
    return Expected(
        golden=goldens[name],
        signature=name,
        origin=str(file),
        noise_floor=float(noise) if isinstance(noise, (int, float)) else None,
        is_batchable=measured.get("batchable") is not False,
    )


def _choose(goldens: Mapping[str, Golden], signature: str | None, file: Path) -> str:
    wanted = signature or (
        DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in goldens or len(goldens) != 1 else next(iter(goldens))
    )
    if wanted not in goldens:
        raise ParityError(f"{file} has no answers of signature {wanted}; it has {', '.join(sorted(goldens)) or 'none'}")
    return wanted


def _measured(folder: Path | None) -> dict[str, Any]:
    """Find what the exporter measured, in the metadata.json of the version."""
    content = None if folder is None else read_metadata(folder)
    if content is None:
        return {}
    parity = content.get("parity")
    return {"batchable": content.get("batchable"), **(parity if isinstance(parity, dict) else {})}
