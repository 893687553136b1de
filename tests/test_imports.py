"""Who may import whom: the table of ARCHITECTURE.md held against the imports in the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    "tfbundle_exporter": ROOT / "exporter/tfbundle_exporter",
    "tfbundle_serving": ROOT / "serving/tfbundle_serving",
    "tfbundle_client": ROOT / "client/tfbundle_client",
    "tfbundle": ROOT / "client/tfbundle",
}
#: Room to the rooms whose modules it may import besides its own.
ALLOWED = {
    "tfbundle_serving.apis": set(),
    "tfbundle_serving.config": {"tfbundle_serving.apis"},
    "tfbundle_serving.server": {"tfbundle_serving.apis", "tfbundle_serving.config"},
    "tfbundle_serving.render": {"tfbundle_serving.apis", "tfbundle_serving.config"},
    "tfbundle_serving.cli": {
        "tfbundle_serving.apis",
        "tfbundle_serving.config",
        "tfbundle_serving.render",
        "tfbundle_serving.server",
    },
    "tfbundle_serving": set(),
    "tfbundle_exporter": {"tfbundle_serving.apis"},
    "tfbundle_client": {"tfbundle_serving.apis"},
    "tfbundle": {"tfbundle_serving.apis", "tfbundle_serving.cli", "tfbundle_exporter", "tfbundle_client"},
}
TENSORFLOW = {"tensorflow", "keras", "tf_keras", "tensorflow_serving", "h5py"}
#: The client's backend without a server: it imports TensorFlow inside of functions, when a model is first run.
LOCAL_BACKEND = "tfbundle_client.local."
#: Where TensorFlow may be imported; the demo's training script plays the user who trains.
TENSORFLOW_ALLOWED = ("tfbundle_exporter.", "tfbundle_serving.server.servable", "tfbundle.demo.training", LOCAL_BACKEND)
#: What the contract may use besides the standard library.
APIS_THIRD_PARTY = {"numpy", "orjson", "ml_dtypes"}


def modules() -> Iterator[tuple[str, Path]]:
    """List every module of ours and its file."""
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            yield ".".join(parts).removesuffix(".__init__"), path


def imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """List a module's imports as absolute names."""
    parents = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def room(name: str) -> str | None:
    """Name the room that a module or an imported name belongs to; None for foreign ones."""
    matches = [known for known in ALLOWED if name == known or name.startswith(known + ".")]
    return max(matches, key=len, default=None)


def test_rooms_import_only_what_the_table_allows() -> None:
    """Exporter, server and client never meet, and nobody imports the roof."""
    wrong = []
    for module, path in modules():
        own = room(module)
        assert own is not None
        for line, name in imports(module, path):
            other = room(name)
            if other is not None and other != own and other not in ALLOWED[own]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_tensorflow_is_imported_in_the_exporter_and_the_servable_only() -> None:
    """Whoever needs TensorFlow stands in one of two places."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for module, path in modules()
        if not f"{module}.".startswith(TENSORFLOW_ALLOWED)
        for line, name in imports(module, path)
        if name.split(".")[0] in TENSORFLOW
    ]
    assert not wrong, "\n".join(wrong)


def test_the_local_backend_imports_tensorflow_inside_functions() -> None:
    """A client process that runs no model has no TensorFlow in it, whatever else of the client it imports."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for module, path in modules()
        if module.startswith(LOCAL_BACKEND)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in TENSORFLOW
    ]
    assert not wrong, "\n".join(wrong)


def test_the_contract_needs_numpy_and_orjson_only() -> None:
    """`apis` stays light enough for the client."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for module, path in modules()
        if room(module) == "tfbundle_serving.apis"
        for line, name in imports(module, path)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names | APIS_THIRD_PARTY and top not in SOURCES
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["tfbundle_client", "tfbundle.cli", "tfbundle_exporter", "tfbundle_serving.cli"])
def test_importing_a_face_loads_no_tensorflow(module: str) -> None:
    """A fresh process that imports a room's face has no TensorFlow in it."""
    code = f"import sys, {module}; sys.exit(', '.join({TENSORFLOW!r} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
