"""docker/nginx/secure.conf in a real nginx in front of a real server: TLS, keys, and what is passed on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

from tests.docker.free_ports import free_port
from tests.models import save_half_plus
from tests.servers import RunningServer, running_server
from tfbundle_client import (
    ApiError,
    AsyncClient,
    Client,
    PermissionDenied,
    Tls,
    Unauthenticated,
    Unavailable,
)

DOCKER = Path(__file__).parents[2] / "docker"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
pytestmark = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="no nginx, or no openssl, is installed here"
)


@dataclass(frozen=True)
class Proxy:
    """A running nginx with secure.conf, and the keys that it knows."""

    grpc_port: int
    rest_port: int
    user_key: str
    admin_key: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def urls(self) -> tuple[str, str]:
        """Both addresses, gRPC's first."""
        return f"grpcs://127.0.0.1:{self.grpc_port}", f"https://127.0.0.1:{self.rest_port}"

    @property
    def ca(self) -> Path:
        """The certificate that a client has to trust."""
        return self.folder / "secrets" / "server.pem"

    def client(self, url: str, key: str | None) -> Client:
        """A client with a key, or without."""
        return Client(url, tls=Tls(ca=self.ca), bearer_token=key, retry=None, timeout=20)


def _replace_once(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


@contextmanager
def running_nginx(folder: Path, grpc_upstream: int, rest_upstream: int) -> Iterator[Proxy]:
    """Run nginx with the repository's secure.conf, its ports and those behind it changed, and secrets made anew."""
    folder.chmod(0o755)
    subprocess.run([DOCKER / "nginx" / "make-secrets.sh", folder / "secrets"], check=True, capture_output=True)
    grpc_port, rest_port, health_port = free_port(), free_port(), free_port()
    text = (DOCKER / "nginx" / "secure.conf").read_text().replace(" /tmp/", f" {folder}/")
    for old, new in (
        ("listen 8500 ", f"listen 127.0.0.1:{grpc_port} "),
        ("listen 8501 ", f"listen 127.0.0.1:{rest_port} "),
        ("127.0.0.1:8080", f"127.0.0.1:{health_port}"),
        ("server:8500", f"127.0.0.1:{grpc_upstream}"),
        ("server:8501", f"127.0.0.1:{rest_upstream}"),
        ("worker_processes auto", "worker_processes 1"),
        ("/dev/stdout", str(folder / "calls.log")),
    ):
        text = _replace_once(text, old, new)
    (folder / "secure.conf").write_text(text)
    keys = {owner: key for key, owner in map(str.split, _lines(folder / "secrets" / "keys.map"))}
    log = folder / "nginx.log"
    with log.open("wb") as out:
        command = [str(NGINX), "-e", "stderr", "-c", str(folder / "secure.conf"), "-g", "daemon off;"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait_for(health_port, process, log)
        yield Proxy(grpc_port, rest_port, keys["user:first;"], keys["admin:first;"], folder, process)
    finally:
        process.terminate()
        process.wait(20)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).text == "ok\n":
                return
        except requests.ConnectionError:
            time.sleep(0.02)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server behind the proxy, from a models.config."""
    folder = tmp_path_factory.mktemp("backend")
    save_half_plus(folder / "half" / "1")
    (folder / "models.config").write_text(_config(folder))
    with running_server(
        f"--model_config_file={folder / 'models.config'}",
        f"--monitoring_config_file={DOCKER.parent / 'serving' / 'monitoring.config'}",
        "--enable_grpc_healthcheck_service=true",
        folder=folder,
    ) as running:
        yield running


def _config(folder: Path, label: str = "") -> str:
    labels = f'version_labels {{ key: "{label}" value: 1 }}' if label else ""
    model = f'name: "half" base_path: "{folder / "half"}" model_platform: "tensorflow" {labels}'
    return f"model_config_list {{ config {{ {model} }} }}"


@pytest.fixture(scope="module")
def proxy(backend: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Nginx in front of the server."""
    with running_nginx(tmp_path_factory.mktemp("nginx"), backend.grpc_port, backend.rest_port) as running:
        yield running


@pytest.fixture(params=[0, 1], ids=["grpc", "rest"])
def url(request: pytest.FixtureRequest, proxy: Proxy) -> str:
    """The proxy's address, once for each transport."""
    return proxy.urls[request.param]


def test_the_right_key_is_served(proxy: Proxy, url: str) -> None:
    """A user's key predicts and asks for states and signatures, as Bearer and as X-API-Key."""
    with proxy.client(url, proxy.user_key) as client:
        np.testing.assert_allclose(client.predict("half", np.array([1.0], np.float32))["y"], [2.5])
        assert [status.version for status in client.status("half")] == [1]
        assert "serving_default" in client.metadata("half").signatures
    with Client(url, tls=Tls(ca=proxy.ca), headers={"x-api-key": proxy.user_key}) as client:
        np.testing.assert_allclose(client.predict("half", np.array([3.0], np.float32))["y"], [3.5])


def test_other_keys_are_refused(proxy: Proxy, url: str) -> None:
    """No key, a wrong one, the head of a right one, one of other words: Unauthenticated over both transports."""
    for key in (None, "wrong", proxy.user_key[:-1], proxy.user_key + "0", "default", "user:first"):
        said = "needs an API key: send it as 'Auth" if key is None else "does not know the API key that was sent"
        with proxy.client(url, key) as client, pytest.raises(Unauthenticated, match=said):
            client.predict("half", np.array([1.0], np.float32))


def test_a_refusal_over_rest_looks_like_tensorflow_servings(proxy: Proxy) -> None:
    """Status 401 with a JSON object that has `error`; what is not passed on is a 404, with a key and without."""
    rest = proxy.urls[1]
    refused = requests.post(
        f"{rest}/v1/models/half:predict", json={"instances": [1.0]}, verify=str(proxy.ca), timeout=20
    )
    assert (refused.status_code, refused.headers["Content-Type"]) == (401, "application/json")
    assert list(refused.json()) == ["error"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    disguised = ("%2e%2e/%2E./monitoring", "half%2F..%2f..%2fmonitoring", "..%5cmonitoring", "..?x=1", ".")
    for path in (
        *("/monitoring/prometheus/metrics", "/", "/v1", "/v1/modelsx", "/health", "/v1/models/../../monitoring"),
        *(f"/v1/models/{each}" for each in disguised),
    ):
        for headers in ({}, {"Authorization": f"Bearer {proxy.admin_key}"}):
            reply = _raw_get(proxy, path, headers)
            assert reply.startswith("HTTP/1.1 404"), (path, reply)
            assert '{"error":' in reply


def _raw_get(proxy: Proxy, path: str, headers: dict[str, str]) -> str:
    """Send a path as it is; requests would tidy it up."""
    context = ssl.create_default_context(cafile=str(proxy.ca))
    with (
        socket.create_connection(("127.0.0.1", proxy.rest_port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n".encode())
        reply = b""
        while part := sock.recv(65536):
            reply += part
    return reply.decode()


def test_only_an_admin_replaces_the_list_of_models(proxy: Proxy, backend: RunningServer) -> None:
    """HandleReloadConfigRequest takes an admin's key; a user's is PERMISSION_DENIED and changes nothing."""
    folder = backend.log.parent
    with proxy.client(proxy.urls[0], proxy.user_key) as client, pytest.raises(PermissionDenied, match="admin key"):
        client.reload_config("")
    with proxy.client(proxy.urls[0], proxy.admin_key) as client:
        client.reload_config(_config(folder, label="stable"))
        np.testing.assert_allclose(client.predict("half", np.array([1.0], np.float32), label="stable")["y"], [2.5])


def test_other_services_are_not_passed_on(proxy: Proxy) -> None:
    """The health service is; the profiler, odd spellings of the reload and unknown methods are UNIMPLEMENTED."""
    credentials = grpc.ssl_channel_credentials(proxy.ca.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{proxy.grpc_port}", credentials) as channel:

        def call(method: str, key: str) -> grpc.StatusCode:
            try:
                channel.unary_unary(method)(b"", metadata=[("authorization", f"Bearer {key}")], timeout=20)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        assert call("/grpc.health.v1.Health/Check", proxy.user_key) is grpc.StatusCode.OK
        assert call("/grpc.health.v1.Health/Check", "wrong") is grpc.StatusCode.UNAUTHENTICATED
        for method in (
            "/tensorflow.ProfilerService/Profile",
            "/tensorflow.serving.SessionService/SessionRun",
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest/",
            "/tensorflow.serving.ModelService/HandleReloadConfigReques%74",
            "/tensorflow.serving.PredictionService/../ModelService/HandleReloadConfigRequest",
            "//tensorflow.serving.ModelService/HandleReloadConfigRequest",
        ):
            assert call(method, proxy.user_key) is grpc.StatusCode.UNIMPLEMENTED, method


def test_large_requests_and_answers_pass(proxy: Proxy, url: str) -> None:
    """Five megabytes of rows go there and back, many times over one connection."""
    rows = np.arange(1_300_000, dtype=np.float32)
    with proxy.client(url, proxy.user_key) as client:
        for _ in range(2):
            np.testing.assert_allclose(client.predict("half", rows)["y"], rows / 2 + 2)


def test_large_requests_without_a_key_are_refused_as_small_ones(proxy: Proxy, url: str) -> None:
    """The refusal arrives although nginx never reads the rest of the request."""
    with proxy.client(url, "wrong") as client, pytest.raises(ApiError) as caught:
        client.predict("half", np.zeros(1_300_000, np.float32))
    assert isinstance(caught.value, Unauthenticated)


def test_errors_of_the_server_arrive_unchanged(proxy: Proxy, backend: RunningServer, url: str) -> None:
    """What the server refuses is told through the proxy in the same words as without it."""
    direct_url = backend.grpc_url if url.startswith("grpc") else backend.rest_url
    messages = []
    for client in (proxy.client(url, proxy.user_key), Client(direct_url)):
        with client, pytest.raises(ApiError) as caught:
            client.predict("absent", np.array([1.0], np.float32))
        messages.append((type(caught.value), caught.value.message))
    assert messages[0] == messages[1]


def test_the_asynchronous_client_passes(proxy: Proxy, url: str) -> None:
    """AsyncClient comes through with many calls at once."""

    async def ask() -> None:
        async with AsyncClient(url, tls=Tls(ca=proxy.ca), bearer_token=proxy.user_key) as client:
            answers = await asyncio.gather(*(client.predict("half", np.array([i], np.float32)) for i in range(50)))
        assert [float(answer["y"][0]) for answer in answers] == [i / 2 + 2 for i in range(50)]

    asyncio.run(ask())


def test_the_log_names_callers_and_no_keys(proxy: Proxy) -> None:
    """Each call is a line of JSON with the name of the key's owner; the keys themselves are nowhere."""
    for url in proxy.urls:
        with proxy.client(url, proxy.user_key) as client:
            client.status("half")
    text = (proxy.folder / "calls.log").read_text()
    calls = [json.loads(line) for line in text.splitlines()]
    assert {"user:first"} < {call["caller"] for call in calls} | {"", "admin:first"}
    assert not re.search(f"{proxy.user_key}|{proxy.admin_key}", text + (proxy.folder / "nginx.log").read_text())


def test_a_key_that_is_taken_away_is_refused_after_a_reload(proxy: Proxy) -> None:
    """SIGHUP reads keys.map anew; the other keys go on working."""
    keys = proxy.folder / "secrets" / "keys.map"
    before = keys.read_text()
    try:
        keys.write_text(before.replace(proxy.user_key, "ab" * 32))
        proxy.process.send_signal(signal.SIGHUP)
        for url in proxy.urls:
            _wait_until_refused(proxy.client(url, proxy.user_key))
            with proxy.client(url, "ab" * 32) as client:
                client.status("half")
    finally:
        keys.write_text(before)
        proxy.process.send_signal(signal.SIGHUP)


def _wait_until_refused(client: Client) -> None:
    deadline = time.monotonic() + 20
    with client:
        while time.monotonic() < deadline:
            try:
                client.status("half")
            except Unauthenticated:
                return
            time.sleep(0.02)
    raise AssertionError("the key is still taken")


@pytest.mark.parametrize("transport", [0, 1], ids=["grpc", "rest"])
def test_a_server_that_is_down_is_unavailable(transport: int, tmp_path: Path) -> None:
    """With nothing behind it the proxy answers UNAVAILABLE, over REST 503 with a JSON error."""
    with running_nginx(tmp_path, free_port(), free_port()) as proxy:
        with (
            proxy.client(proxy.urls[transport], proxy.user_key) as client,
            pytest.raises(Unavailable, match="behind the proxy"),
        ):
            client.status("half")
        with proxy.client(proxy.urls[transport], "wrong") as client, pytest.raises(Unauthenticated):
            client.status("half")


def test_secrets_are_private_and_made_once(tmp_path: Path) -> None:
    """The script writes files for their owner alone, for the hosts that it is given, and keeps what is there."""
    script = [str(DOCKER / "nginx" / "make-secrets.sh"), str(tmp_path / "s"), "model.example", "10.0.0.7"]
    first = subprocess.run(script, check=True, capture_output=True, text=True)
    assert "PROXY_USER=" in first.stderr
    files = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert sorted(files) == ["keys.map", "server.key", "server.pem"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "s").iterdir())
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", tmp_path / "s" / "server.pem"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    assert "DNS:model.example" in names
    assert "IP Address:10.0.0.7" in names
    subprocess.run(script, check=True, capture_output=True)
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
