"""Version folders of a few bytes, sealed by hashes: what travels needs no model in it."""

from __future__ import annotations

from pathlib import Path

from tests.exporter.version_folders import seal


def write_sealed(
    base: Path, number: int, *, seed: int = 0, size: int = 1000, tag: str | None = None, model: str = ""
) -> Path:
    """Write a folder with the files of a version and its metadata.json.

    Args:
        base: The base path.
        number: The version's number.
        seed: Makes another content.
        size: Of the weights, in bytes.
        tag: The version's tag.
        model: The model's name.
    """
    folder = base / str(number)
    contents = {
        "saved_model.pb": b"graph %d" % seed,
        "fingerprint.pb": b"fingerprint",
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": bytes([seed % 256]) * size,
        "assets/vocabulary.txt": b"a\nb\n",
        "assets.extra/golden.npz": b"answers",
    }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return seal(folder, {"tag": tag, "model_name": model})


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
