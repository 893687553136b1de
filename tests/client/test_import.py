"""The client's face, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import tfbundle_client

_HEAVY = ("tensorflow", "keras", "grpc", "requests", "google.protobuf", "rich", "click")


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    """In a fresh process `import tfbundle_client` leaves TensorFlow, gRPC and requests unloaded."""
    assert not _modules_after("import tfbundle_client").intersection(_HEAVY)


def test_each_transport_loads_its_own_library_only() -> None:
    """A gRPC call loads no HTTP library, a REST call no grpc, and neither loads TensorFlow or protobuf."""
    call = (
        "from tfbundle_client import Client, ConnectionFailed\n"
        "try: Client('{}://127.0.0.1:1').status('m')\n"
        "except ConnectionFailed: pass\n"
        "else: raise SystemExit('something listens on port 1')"
    )
    loaded = _modules_after(call.format("grpc"))
    assert "grpc" in loaded
    assert not loaded & {"requests", "urllib3", "tensorflow", "google.protobuf"}
    loaded = _modules_after(call.format("http"))
    assert "urllib3" in loaded
    assert not loaded & {"grpc", "tensorflow", "google.protobuf"}


def test_exported_names_are_there_and_sorted() -> None:
    """`__all__` is sorted and each of its names exists."""
    assert list(tfbundle_client.__all__) == sorted(tfbundle_client.__all__)
    for name in tfbundle_client.__all__:
        assert hasattr(tfbundle_client, name)


def test_every_error_is_exported() -> None:
    """Each class that a call can raise can be named from the face."""
    from tfbundle_serving.apis.errors import BY_CODE

    assert {error.__name__ for error in BY_CODE.values()} <= set(tfbundle_client.__all__)
