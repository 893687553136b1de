"""One server, everything hostile: it keeps answering, others get their right answers, and nothing is left behind.

Versions that are deleted while in use, half-written or corrupt, and SIGTERM under load, are in test_lifecycle.py.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

from tests.servers import RunningServer, running_server
from tests.serving.server.conftest import wait_for
from tests.serving.server.in_process import PREDICT, REQUEST, predict
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request

PATH = "/v1/models/half_plus_two:predict"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: "
BODY = b'{"instances": [2.0]}'


class Bystander:
    """A client that asks both protocols all the time, and counts the answers that are not right."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self.asked = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with grpc.insecure_channel(self._server.grpc_target) as channel, requests.Session() as session:
            for number in itertools.count():
                if self._stop.wait(0.005):
                    return
                try:
                    body = f'{{"instances": [{number}]}}'
                    reply = session.post(self._server.rest_url + PATH, data=body, timeout=60).json()
                    if reply != {"predictions": [number / 2 + 2]} or predict(channel) != [3.0]:
                        self.wrong.append(f"{number}: {reply}")
                except Exception as error:  # shown by the test that looks at the bystander
                    self.wrong.append(f"{number}: {error!r}")
                self.asked += 1


@pytest.fixture(scope="module")
def hostile_server(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own, which these tests maltreat."""
    with running_server(str(tiny_models), folder=tmp_path_factory.mktemp("hostile")) as server:
        yield server


@pytest.fixture(autouse=True)
def others_are_served(hostile_server: RunningServer) -> Iterator[None]:
    """While a test maltreats the server, someone else uses it, and every answer is right; files are closed after."""
    before = open_files(hostile_server)
    bystander = Bystander(hostile_server)
    wait_for(lambda: bystander.asked > 5, "the bystander")
    try:
        yield
        asked = bystander.asked
        wait_for(lambda: bystander.asked > asked + 5, "answers after the test")
    finally:
        bystander.stop()
    assert not bystander.wrong, bystander.wrong[:3]
    # The first requests open a few files for good.
    wait_for(lambda: open_files(hostile_server) <= before + 20, "the connections to be closed")


def open_files(server: RunningServer) -> int:
    """Count the files that the server has open."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def memory_mb(server: RunningServer) -> float:
    """Read the memory that the server holds."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        return 0.0
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def threads(server: RunningServer) -> int:
    """Count the server's threads."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


def connect(port: int) -> socket.socket:
    """Open a bare connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_answers(client: socket.socket, count: int) -> None:
    """Read until as many right answers have come."""
    answer = b""
    while answer.count(b'{"predictions":[3.0]}') < count:
        piece = client.recv(65536)
        assert piece, f"the server closed the connection after {answer!r}"
        answer += piece


def vanish(client: socket.socket) -> None:
    """Leave without a word: the other side gets a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def post(server: RunningServer, body: bytes) -> requests.Response:
    """Send a predict body."""
    return requests.post(server.rest_url + PATH, data=body, timeout=120)


def test_random_bytes_on_both_ports(hostile_server: RunningServer) -> None:
    """Noise, also behind a good beginning, ends its own connection at most."""
    noise = random.Random(4)
    beginnings = (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (HEAD + "10\r\n").encode(), b"\x16\x03\x01", b"GET /v1/")
    for port in (hostile_server.grpc_port, hostile_server.rest_port):
        for beginning in beginnings:
            for _ in range(8):
                with connect(port) as client, contextlib.suppress(OSError):
                    client.sendall(beginning + noise.randbytes(noise.choice([1, 100, 20_000])))
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(1)
                    client.recv(1000)


def test_damaged_messages(hostile_server: RunningServer) -> None:
    """A request with bytes changed is answered or refused, never with a broken connection or a fault of the server."""
    noise = random.Random(5)
    faults = []
    with grpc.insecure_channel(hostile_server.grpc_target) as channel, requests.Session() as session:
        call = channel.unary_unary(PREDICT)
        for _ in range(150):
            damaged = bytearray(REQUEST)
            for _ in range(noise.randint(1, 4)):
                damaged[noise.randrange(len(damaged))] = noise.randrange(256)
            try:
                call(bytes(damaged), timeout=60)
            except grpc.RpcError as error:
                is_ours = error.code() is grpc.StatusCode.INTERNAL and "no such message" not in error.details()
                if is_ours or error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN):
                    faults.append((bytes(damaged), error.details()))
            body = bytearray(BODY)
            for _ in range(noise.randint(1, 3)):
                body[noise.randrange(len(body))] = noise.randrange(256)
            reply = session.post(hostile_server.rest_url + PATH, data=bytes(body), timeout=60)
            if reply.status_code not in (200, 400):
                faults.append((bytes(body), reply.text))
    assert not faults, faults[:3]


def test_bodies_of_100_megabytes(hostile_server: RunningServer) -> None:
    """Large good requests are answered, large bad ones refused, and the memory comes back."""
    size = 100 << 20
    post(hostile_server, BODY)
    before = memory_mb(hostile_server)
    good = b'{"pad": "' + b"x" * size + b'", "instances": [2.0]}'
    assert post(hostile_server, good).json() == {"predictions": [3.0]}
    assert post(hostile_server, b"[" + good).status_code == 400
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(hostile_server.grpc_target, options=options) as channel:
        # Field 15 is none of the message's: it is read past.
        assert predict(channel, REQUEST + b"\x7a\x80\x80\x80\x32" + bytes(size)) == [3.0]
        with pytest.raises(grpc.RpcError) as caught:
            predict(channel, b"\xff" * size)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    wait_for(lambda: memory_mb(hostile_server) < before + 400, "the memory to come back")


def test_deep_json(hostile_server: RunningServer) -> None:
    """Half a million brackets are read past where nobody asks for them, and refused where they are the input."""
    deep = b"[" * 500_000 + b"]" * 500_000
    assert post(hostile_server, b'{"pad": ' + deep + b', "instances": [2.0]}').json() == {"predictions": [3.0]}
    lists = b"[" * 50_000 + b"]" * 50_000
    objects = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    for value in (lists, objects, b"[" * 100_000):
        assert post(hostile_server, b'{"inputs": ' + value + b"}").status_code == 400
        assert post(hostile_server, value).status_code == 400


def test_slow_senders(hostile_server: RunningServer) -> None:
    """Two hundred clients that stop in the middle hold nobody up, and are answered once they go on."""
    head = f"{HEAD}{len(BODY)}\r\n\r\n".encode()
    cuts = [len(head) * number // 200 for number in range(200)]
    clients = [connect(hostile_server.rest_port) for _ in cuts]
    for client, cut in zip(clients, cuts, strict=True):
        client.sendall(head[:cut])
    assert post(hostile_server, BODY).json() == {"predictions": [3.0]}
    for client, cut in zip(clients, cuts, strict=True):
        client.sendall(head[cut:] + BODY[:5])
    for client in clients:
        client.sendall(BODY[5:])
        read_answers(client, 1)
        client.close()


def test_two_thousand_idle_connections(hostile_server: RunningServer) -> None:
    """They wait, half on each port; others are answered meanwhile, and all are let go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    with contextlib.ExitStack() as opened:
        for number in range(2000):
            port = hostile_server.grpc_port if number % 2 else hostile_server.rest_port
            opened.enter_context(connect(port))
        # A new client finds room beside them.
        assert post(hostile_server, BODY).json() == {"predictions": [3.0]}
        with grpc.insecure_channel(hostile_server.grpc_target) as channel:
            assert predict(channel) == [3.0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_vanish(hostile_server: RunningServer) -> None:
    """In the middle of a body, of a run or of a large answer: their work ends, and their connections go."""
    head = f"{HEAD}{len(BODY)}\r\n\r\n".encode()
    count = b'{"inputs": [20000]}'
    slow = f"POST /v1/models/counter:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(count)}\r\n\r\n".encode()
    large = b'{"inputs": [' + b"1.5," * 200_000 + b"1.5]}"
    wide = f"{HEAD}{len(large)}\r\n\r\n".encode() + large
    for message in (head + BODY[:5], slow + count, wide, wide[: len(wide) // 2]):
        for _ in range(10):
            client = connect(hostile_server.rest_port)
            client.sendall(message)
            vanish(client)
    counting = encode_predict_request(PredictRequest(ModelSpec("counter"), {"n": np.array([20_000], np.int32)}, []))
    with grpc.insecure_channel(hostile_server.grpc_target) as channel:
        calls = [channel.unary_unary(PREDICT).future(counting, timeout=60) for _ in range(20)]
        for call in calls:
            call.cancel()


def test_many_pipelined_requests(hostile_server: RunningServer) -> None:
    """A client that sends a hundred requests before it reads gets a hundred answers in order."""
    request = f"{HEAD}{len(BODY)}\r\n\r\n".encode() + BODY
    with connect(hostile_server.rest_port) as client:
        client.sendall(request * 100)
        read_answers(client, 100)


def test_nothing_leaks(hostile_server: RunningServer) -> None:
    """Bad requests by the thousand leave neither threads nor memory behind."""
    bad = [b"{", b'{"instances": [[1], 2]}', b'{"instances": ["' + b"x" * 50_000 + b'"]}', b""]

    def ask(number: int) -> None:
        assert post(hostile_server, bad[number % len(bad)]).status_code == 400

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))
        before, threads_before = memory_mb(hostile_server), threads(hostile_server)
        list(pool.map(ask, range(800)))
    assert memory_mb(hostile_server) < before + 30
    assert threads(hostile_server) <= threads_before + 20


def test_the_log_says_no_more_than_it_must(hostile_server: RunningServer) -> None:
    """After all of that there is no traceback in the log: none of it was a fault of the server."""
    assert "Traceback" not in hostile_server.log.read_text()
