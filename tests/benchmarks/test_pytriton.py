"""Requests a second over gRPC next to PyTriton, whose front end is Triton's, in C++.

PyTriton has to stand in an environment of its own (`pip install nvidia-pytriton tensorflow`, with the Python that its
wheel was made for); TFBUNDLE_PYTRITON_PYTHON names that environment's interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.conftest import Report
from tests.benchmarks.load import Measured, over_grpc
from tests.benchmarks.test_server import ROUNDS, SECONDS, both_sides, save_cnn, save_mlp
from tfbundle_serving.apis.wire import length_field, string_field, varint

INTERPRETER = os.environ.get("TFBUNDLE_PYTRITON_PYTHON", "")

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not INTERPRETER, reason="TFBUNDLE_PYTRITON_PYTHON names no interpreter that has PyTriton"),
]

INFER = "/inference.GRPCInferenceService/ModelInfer"


def infer_request(shape: tuple[int, ...], values: bytes) -> bytes:
    """Write an inference.ModelInferRequest for one float32 input "x" (grpc_service.proto of Triton)."""
    x = string_field(1, "x") + string_field(2, "FP32") + length_field(3, b"".join(map(varint, shape)))
    return string_field(1, "m") + length_field(5, x) + length_field(7, values)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def pytriton(folder: Path, row_shape: tuple[int, ...], log: Path) -> Iterator[str]:
    """Run PyTriton over a version folder; gives its gRPC address."""
    app = Path(__file__).with_name("pytriton_app.py")
    ports = _free_ports(3)
    command = [INTERPRETER, str(app), str(folder), json.dumps(row_shape), *map(str, ports)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        target = f"127.0.0.1:{ports[1]}"
        request = infer_request((1, *row_shape), bytes(4 * _count(row_shape)))
        end = time.monotonic() + 120
        while not _answers(target, request):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield target
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Triton and its worker are processes of the same session
        process.wait()


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _answers(target: str, request: bytes) -> bool:
    try:
        over_grpc(target, request, in_flight=1, seconds=0, method=INFER)
    except Exception:  # not yet
        return False
    return True


@pytest.mark.parametrize(("save", "row_shape"), [(save_mlp, (784,)), (save_cnn, (32, 32, 3))], ids=["dense", "conv"])
def test_more_than_pytriton(
    tmp_path: Path, report: Report, save: Callable[[Path], None], row_shape: tuple[int, ...]
) -> None:
    """One row a request, 64 in flight over gRPC."""
    name = "dense" if save is save_mlp else "conv"
    with both_sides(tmp_path, save, row_shape) as sides, pytriton(sides.folder, row_shape, tmp_path / "log") as target:
        request = infer_request(sides.row.shape, sides.row.tobytes())

        def theirs() -> Measured:
            return over_grpc(target, request, in_flight=64, seconds=SECONDS, method=INFER)

        theirs()
        pairs = [(sides.grpc().per_second, theirs().per_second) for _ in range(ROUNDS)]
    print(f"\n{name}, requests a second, ours and PyTriton's: {[(round(a), round(b)) for a, b in pairs]}")
    ratio = statistics.median(ours / other for ours, other in pairs)
    report.ratio(f"{name}, 64 in flight, gRPC / PyTriton", ratio, 1, at_most=False)
