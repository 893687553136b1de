"""Code of the user's own, named on the command line: "module", "module:name", "file.py", "file.py:name".

To name it is to consent to its running. It belongs into a process of its own (see `loading.needs_own_process`): what it
imports, and which Keras `tf.keras` is for it, cannot be taken back.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tfbundle_serving.apis.errors import BundleError, ExportError

from ..reasons import reason_of

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReference:
    """Where the user's code is.

    Attributes:
        target: A module's name, or the path of a .py file.
        name: What is meant of it; "" for all of it.
        option: The option that named it, for messages: "--architecture (architecture=)".
    """

    target: str
    name: str
    option: str

    def __str__(self) -> str:
        """Write it as the user did."""
        return f"{self.target}:{self.name}" if self.name else self.target


def parse_reference(text: str, *, option: str) -> CodeReference:
    """Take a reference apart.

    Raises:
        ExportError: It is neither a module nor a .py file.
    """
    target, colon, name = text.rpartition(":")
    if not colon or not _NAME.fullmatch(name):  # no colon, or that of a drive letter
        target, name = text, ""
    if not target.endswith(".py") and not _NAME.fullmatch(target):
        raise ExportError(f"{option}: {text!r} names no code; expected module, module:name, file.py or file.py:name")
    return CodeReference(target=target, name=name, option=option)


def import_code(reference: CodeReference) -> Any:
    """Import what a reference names.

    Returns:
        The module, or what it holds under that name.

    Raises:
        ExportError: There is no such module, file or name, or it fails while being imported.
    """
    module = _import_file(reference) if reference.target.endswith(".py") else _import_module(reference)
    found: Any = module
    for part in filter(None, reference.name.split(".")):
        if not hasattr(found, part):
            raise ExportError(_no_such_name(reference, part, found))
        found = getattr(found, part)
    return found


def explain_failure(error: BaseException, *, within: str = "") -> str:
    """Say in a line how the user's code failed, and where in it.

    Args:
        error: What it raised.
        within: Part of a path; the innermost frame of such a file is named. "" takes the innermost frame of all.
    """
    text = reason_of(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if within in frame.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _import_module(reference: CodeReference) -> ModuleType:
    # A console script does not look where the user stands; `python` does, and so do we.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(reference.target)
    except ModuleNotFoundError as error:
        if error.name and f"{reference.target}.".startswith(f"{error.name}."):
            raise ExportError(
                f"{reference.option}: there is no module {error.name!r} (for {reference}); it was looked for in {here} "
                "and among the installed packages. A file is named by its path: path/to/file.py:name"
            ) from None
        raise _fails_on_import(reference, error) from error
    except BundleError:
        raise
    except (Exception, SystemExit) as error:
        raise _fails_on_import(reference, error) from error


def _import_file(reference: CodeReference) -> ModuleType:
    path = Path(reference.target)
    if not path.is_file():
        raise ExportError(f"{reference.option}: there is no file {path} (for {reference})")
    try:
        return _import_path(path.resolve())
    except BundleError:
        raise
    except (Exception, SystemExit) as error:
        raise _fails_on_import(reference, error) from error


@functools.cache
def _import_path(path: Path) -> ModuleType:
    """Import a file once, as `python FILE` would find its neighbours."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = path.stem if path.stem not in sys.modules else f"{path.stem} of {path.parent}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _fails_on_import(reference: CodeReference, error: BaseException) -> ExportError:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return ExportError(
            f"{reference.option}: {reference.target} imports {error.name!r}, which is not installed here"
        )
    return ExportError(f"{reference.option}: {reference.target} fails on import: {explain_failure(error)}")


def _no_such_name(reference: CodeReference, part: str, owner: Any) -> str:
    public = [name for name in vars(owner) if not name.startswith("_")] if hasattr(owner, "__dict__") else []
    near = difflib.get_close_matches(part, public, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it holds {', '.join(public[:10]) or 'nothing public'}"
    return f"{reference.option}: {reference.target} holds no {part!r}{hint}"
