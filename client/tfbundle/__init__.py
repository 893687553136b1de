"""The `tfbundle` command: a roof over the rooms that own its sub-commands."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Answer `tfbundle.__version__` on demand: reading it costs more than the rest of the import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("tfbundle")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
