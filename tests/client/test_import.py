"""The client's face, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tfbundle_client
from tests.servers import RunningServer

_HEAVY = ("tensorflow", "keras", "grpc", "requests", "google.protobuf", "rich", "click")


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    """In a fresh process `import tfbundle_client` leaves TensorFlow, gRPC, requests and our own parity unloaded."""
    assert not _modules_after("import tfbundle_client").intersection({*_HEAVY, "tfbundle_client.parity"})


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


#: Every way between our codec and the official classes, in a process that has loaded both.
_BESIDE_TENSORFLOW = """
import sys
import numpy as np
{imports}
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_response, encode_predict_request

def ask():
    with tfbundle_client.Client(sys.argv[1], timeout=60) as client:
        assert client.predict("half_plus_two", [2.0]).output.tolist() == [3.0]

ask()
x = np.arange(6, dtype=np.float32).reshape(2, 3)
official = predict_pb2.PredictRequest.FromString(encode_predict_request(PredictRequest(ModelSpec("m", 3), {{"x": x}})))
assert official.model_spec.version.value == 3
np.testing.assert_array_equal(tf.make_ndarray(official.inputs["x"]), x)
response = predict_pb2.PredictResponse()
response.outputs["y"].CopyFrom(tf.make_tensor_proto(x))
np.testing.assert_array_equal(decode_predict_response(response.SerializeToString()).outputs["y"], x)
assert tf.add(1, 2).numpy() == 3
"""
_OURS = "import tfbundle_client\ntfbundle_client.Client('grpc://localhost:1').close()"
_THEIRS = "import tensorflow as tf\nfrom tensorflow_serving.apis import predict_pb2"


@pytest.mark.parametrize("imports", [(_OURS, _THEIRS), (_THEIRS, _OURS)], ids=["client first", "tensorflow first"])
def test_beside_tensorflow(server: RunningServer, imports: tuple[str, str]) -> None:
    """In one process with TensorFlow and the official messages, imported before or after, everything works."""
    script = _BESIDE_TENSORFLOW.format(imports="\n".join(imports))
    done = subprocess.run([sys.executable, "-c", script, server.grpc_url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
