"""The ways to a server: TLS with certificates on both sides, sockets, several servers, tokens, gzip, given sessions."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.client.conftest import Behaviour
from tests.servers import RunningServer, running_server
from tfbundle.cli import main
from tfbundle_client import AsyncClient, Client, ConnectionFailed, DeadlineExceeded, InvalidArgument
from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.commands.options import access_of
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.connection import Connection, Tls
from tfbundle_client.transports.opening import open_async_transport, open_transport
from tfbundle_client.transports.replicas import Replicas
from tfbundle_client.transports.timed_connections import timed_pools
from tfbundle_client.transports.tls import ssl_context
from tfbundle_client.transports.transport import PredictCall
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import Signature, TensorSpec

Listening = Callable[[Behaviour], AbstractContextManager[int]]

KINDS = [Client, AsyncClient]


def call(kind: Any, url: str, times: int = 1, **options: Any) -> list[float]:
    """Predict some times with one client of either kind, and give the last answer."""
    if kind is Client:
        with Client(url, **options) as client:
            for _ in range(times):
                reply = client.predict("half_plus_two", [2.0])
        return list(reply.output.tolist())

    async def ask() -> list[float]:
        async with AsyncClient(url, **options) as client:
            for _ in range(times):
                reply = await client.predict("half_plus_two", [2.0])
            return list(reply.output.tolist())

    return asyncio.run(ask())


@dataclass(frozen=True)
class Pair:
    """Files of a key and its certificate."""

    key: Path
    cert: Path

    @property
    def text(self) -> str:
        """The certificate, as an ssl.config has it."""
        return self.cert.read_text().replace("\n", "\\n")


def make_pair(folder: Path, name: str) -> Pair:
    """Make a key and a certificate for localhost that signs itself."""
    pair = Pair(folder / f"{name}.key", folder / f"{name}.crt")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(pair.key), "-out", str(pair.cert)], check=True, capture_output=True)
    return pair


@dataclass(frozen=True)
class Secured:
    """A server that wants certificates over gRPC and shows its own over REST, and its UNIX socket."""

    server: RunningServer
    models: Path
    socket: Path
    ours: Pair
    theirs: Pair

    @property
    def mutual(self) -> Tls:
        """What a client needs to be let in."""
        return Tls(ca=self.ours.cert, cert=self.theirs.cert, key=self.theirs.key)


@pytest.fixture(scope="module")
def secured(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One such server."""
    if shutil.which("openssl") is None:
        pytest.skip("makes certificates with openssl")
    folder = tmp_path_factory.mktemp("s")
    ours, theirs = make_pair(folder, "server"), make_pair(folder, "client")
    key = ours.key.read_text().replace("\n", "\\n")
    plain = f'server_key: "{key}"\nserver_cert: "{ours.text}"\n'
    (folder / "rest.config").write_text(plain)
    (folder / "mutual.config").write_text(f'{plain}custom_ca: "{theirs.text}"\nclient_verify: true\n')
    path = folder / "g.sock"
    flags = (f"--ssl_config_file={folder / 'mutual.config'}", f"--rest_ssl_config_file={folder / 'rest.config'}")
    with running_server(str(tiny_models), *flags, f"--grpc_socket_path={path}") as server:
        yield Secured(server, tiny_models, path, ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_mutual_tls(secured: Secured, kind: Any) -> None:
    """A client with the right certificates is answered over TCP and over the socket; PEM may be given as bytes."""
    tls = secured.mutual
    in_memory = Tls(ca=tls.read("ca"), cert=tls.read("cert"), key=tls.read("key"))
    assert call(kind, f"grpcs://localhost:{secured.server.grpc_port}", tls=tls) == [3.0]
    assert call(kind, f"unix:{secured.socket}", tls=in_memory) == [3.0]


def test_commands_take_certificates_and_tokens(
    secured: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command that takes a URL takes --ca, --cert, --key and --token-file."""
    (tmp_path / "token").write_text("secret\n")
    access = ["--ca", str(secured.ours.cert), "--cert", str(secured.theirs.cert), "--key", str(secured.theirs.key)]
    access += ["--token-file", str(tmp_path / "token")]
    over_grpc = f"grpcs://localhost:{secured.server.grpc_port}"
    over_rest = f"https://localhost:{secured.server.rest_port}"
    for url in (over_grpc, over_rest):
        assert main(["predict", url, "half_plus_two", "--input", "[2]", "--json", *access]) == 0
        assert main(["status", url, "half_plus_two", *access]) == 0
        assert main(["metadata", url, "half_plus_two", *access]) == 0
    quickly = ["--rate", "50", "--duration", "0.2", "--warm-up", "0"]
    assert main(["bench", over_rest, "half_plus_two", *quickly, *access]) == 0
    both = ["--against", over_rest, "--against-version", "123"]
    assert main(["parity", over_grpc, "half_plus_two", *both, *access]) == 0
    assert main(["versions", str(secured.models / "half_plus_two"), "--server", over_grpc, *access]) == 0
    capsys.readouterr()
    assert main(["status", "http://localhost:1", "half_plus_two", *access]) == 1
    assert "TLS does not go with http://localhost:1; use https://" in capsys.readouterr().err
    assert main(["status", over_grpc, "half_plus_two", "--cert", str(secured.theirs.cert)]) == 1
    assert "go together" in capsys.readouterr().err


def test_certificates_are_for_encrypted_addresses_alone() -> None:
    """Of several addresses a plain one is not given them; where all are plain they stay, and are refused."""
    access: dict[str, Any] = {"headers": {}, "bearer_token": None, "tls": Tls()}
    plain, encrypted = "grpc://h:1", "https://h"
    assert access_of(plain, access, (plain, encrypted))["tls"] is None
    assert access_of(encrypted, access, (plain, encrypted))["tls"] is not None
    assert access_of(plain, access, (plain,))["tls"] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_https(secured: Secured, kind: Any) -> None:
    """Over https the server's certificate is checked against the given authority."""
    url = f"https://localhost:{secured.server.rest_port}"
    assert call(kind, url, tls=Tls(ca=secured.ours.cert)) == [3.0]
    assert call(kind, url, tls=secured.mutual) == [3.0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_of_another_kind_is_asked_about(secured: Secured, server: RunningServer, kind: Any) -> None:
    """A wrong scheme or port is answered with the question whether another one is meant."""
    grpc_meant = "is this the REST port, or is grpcs:// needed\\?"
    for url, hint in {
        f"grpc://localhost:{secured.server.grpc_port}": grpc_meant,
        f"grpc://localhost:{secured.server.rest_port}": grpc_meant,
        f"grpc://localhost:{server.rest_port}": grpc_meant,
        f"http://localhost:{secured.server.rest_port}": "is https:// meant\\?",
        f"http://localhost:{server.grpc_port}": "is this the gRPC port\\?",
        f"https://localhost:{server.rest_port}": "is http:// meant\\?",
        f"grpcs://localhost:{server.grpc_port}": "is grpc:// meant\\?",
    }.items():
        with pytest.raises(ConnectionFailed, match=f"no connection to {url}: .*{hint}$"):
            call(kind, url, timeout=20, retry=None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_stranger_is_not_trusted(secured: Secured, kind: Any, scheme: str) -> None:
    """A server whose certificate nobody vouches for is an error at once, which is not tried again."""
    port = secured.server.grpc_port if scheme == "grpcs" else secured.server.rest_port
    with pytest.raises(
        ConnectionFailed, match=rf"no connection to {scheme}://localhost:{port}: .*CERTIFICATE"
    ) as caught:
        call(kind, f"{scheme}://localhost:{port}", tls=Tls(ca=secured.theirs.cert), timeout=20)
    assert (caught.value.may_succeed_later, caught.value.attempts) == (False, 1)


def test_certificates_that_cannot_work(tmp_path: Path) -> None:
    """Half a pair, a missing file and what is no PEM are refused where they are written."""
    with pytest.raises(InvalidArgument, match="go together"):
        Tls(cert=b"x")
    with pytest.raises(InvalidArgument, match="No such file"):
        Client("grpcs://h:1", tls=Tls(ca=tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="not PEM"):
        Client("https://h:1", tls=Tls(ca=b"nonsense"))
    with pytest.raises(InvalidArgument, match="cannot be used"):
        Client("grpcs://h:1", tls=Tls(ca=b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
    with pytest.raises(InvalidArgument, match="use grpcs://"):
        Client("grpc://h:1", tls=Tls())


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"bad name": "x"}},
        {"headers": {"x": "a\r\nb: c"}},
        {"headers": {"Authorization": "x"}, "bearer_token": "t"},
        {"compression": "brotli"},
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    """Headers that would break the message, two credentials and unknown compressions are refused."""
    with pytest.raises(InvalidArgument):
        Connection(**options)


def test_secrets_do_not_show() -> None:
    """Neither a token nor a key stands in the text of the settings."""
    assert "hidden" not in repr(Connection(bearer_token="hidden", tls=Tls(cert=b"c", key=b"hidden")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_dead_replica_is_survived(server: RunningServer, kind: Any, scheme: str, free_port: int) -> None:
    """Of several servers the dead one costs no call, without any retry."""
    port = server.grpc_port if scheme == "grpc" else server.rest_port
    url = f"{scheme}://127.0.0.1:{free_port},127.0.0.1:{port},localhost:{port}"
    assert call(kind, url, times=6, retry=None) == [3.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_all_replicas_dead(kind: Any, scheme: str, free_port: int) -> None:
    """With nobody there the error names one of the addresses."""
    url = f"{scheme}://127.0.0.1:{free_port},localhost:{free_port}"
    with pytest.raises(ConnectionFailed, match=rf"no connection to {scheme}://(127\.0\.0\.1|localhost):{free_port}: "):
        call(kind, url, retry=None, timeout=10)


def test_a_name_is_balanced(server: RunningServer) -> None:
    """dns:/// reaches a server by its name."""
    assert call(Client, f"dns:///localhost:{server.grpc_port}") == [3.0]


def test_replicas_take_turns_and_rest() -> None:
    """Each server has its turn; one that failed comes last until it has rested, longer after each failure."""
    now_s = [0.0]
    replicas = Replicas("abc", clock=lambda: now_s[0])

    def firsts(count: int) -> str:
        return "".join(replicas.order()[0][1] for _ in range(count))

    assert firsts(6) == "abcabc"
    replicas.failed(1)
    assert "b" not in firsts(6)
    assert all(order[-1][1] == "b" for order in (replicas.order() for _ in range(3)))
    now_s[0] = 1.1
    assert "b" in firsts(3)
    replicas.failed(1)
    now_s[0] = 2.2
    assert "b" not in firsts(3), "the second rest is longer"
    replicas.worked(1)
    assert "b" in firsts(3)
    for number in range(3):
        replicas.failed(number)
    assert sorted(member for _, member in replicas.order()) == ["a", "b", "c"], "with nobody well, all are tried"


def _record(seen: list[bytes]) -> Behaviour:
    """Keep one request, head and body, and refuse it."""

    def behave(connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        seen.append(data)
        body = b'{"error": "no"}'
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return behave


@pytest.mark.parametrize("kind", KINDS)
def test_rest_headers_and_token(listening: Listening, kind: Any) -> None:
    """Headers and the token go with each request; a function is asked for the token anew."""
    seen: list[bytes] = []
    tokens = iter(["first", "second"])
    with listening(_record(seen)) as port:
        for _ in range(2):
            with pytest.raises(Exception, match="no"):
                call(kind, f"http://127.0.0.1:{port}", headers={"X-Team": "a"}, bearer_token=lambda: next(tokens))
    assert [b"authorization: bearer first" in data.lower() for data in seen] == [True, False]
    assert b"authorization: bearer second" in seen[1].lower()
    assert all(b"x-team: a\r\n" in data.lower() for data in seen)


class _Recorder(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Keeps the metadata of each RPC and refuses it with a trailer that says when to come back."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def service(self, _details: Any) -> Any:
        def refuse(_request: bytes, context: Any) -> bytes:
            self.seen.append(dict(context.invocation_metadata()))
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1500"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def recorder() -> Iterator[tuple[_Recorder, str]]:
    """A gRPC server that keeps what metadata came."""
    from concurrent.futures import ThreadPoolExecutor

    handler = _Recorder()
    server = grpc.server(ThreadPoolExecutor(1), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.mark.parametrize("kind", KINDS)
def test_grpc_metadata_and_pushback(recorder: tuple[_Recorder, str], kind: Any) -> None:
    """Headers and the token arrive as metadata; the server's word on when to come back is on the error."""
    handler, url = recorder
    with pytest.raises(Exception, match="slow down") as caught:
        call(kind, url, headers={"X-Team": "a"}, bearer_token="t", compression="gzip", retry=None)
    assert handler.seen[0]["x-team"] == "a"
    assert handler.seen[0]["authorization"] == "Bearer t"
    assert caught.value.retry_after_s == 1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_gzip(url: str, kind: Any) -> None:
    """Compressed requests are answered like others."""
    assert call(kind, url, compression="gzip") == [3.0]


@pytest.mark.parametrize("kind", KINDS)
def test_proxies_of_the_environment(listening: Listening, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is asked for the whole URL, unless NO_PROXY names the server."""
    seen: list[bytes] = []
    with listening(_record(seen)) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(Exception, match="no"):
            call(kind, "http://models.invalid:8501/x")
        assert seen[0].startswith(b"GET http://models.invalid:8501/x/v1/models/half_plus_two/metadata ")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(Exception, match="no"):
            call(kind, f"http://127.0.0.1:{port}")
        assert seen[1].startswith(b"GET /v1/models/half_plus_two/metadata ")


def test_a_session_or_channel_of_ones_own(server: RunningServer) -> None:
    """A session, a channel, and their asynchronous kin are used, and stay open when the client closes."""
    import aiohttp
    import grpc.aio
    import requests

    with requests.Session() as session:
        assert call(Client, server.rest_url, session=session) == [3.0]
        assert session.get(f"{server.rest_url}/v1/models/half_plus_two").ok
    with grpc.insecure_channel(server.grpc_target) as channel:
        for _ in range(2):
            assert call(Client, server.grpc_url, channel=channel) == [3.0]

    async def asynchronous() -> None:
        async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(server.grpc_target) as channel:
            for _ in range(2):
                async with AsyncClient(server.rest_url, session=session) as client:
                    assert (await client.predict("half_plus_two", [2.0])).output.tolist() == [3.0]
                async with AsyncClient(server.grpc_url, channel=channel) as client:
                    assert (await client.predict("half_plus_two", [2.0])).output.tolist() == [3.0]

    asyncio.run(asynchronous())
    with (
        grpc.insecure_channel(server.grpc_target) as channel,
        pytest.raises(InvalidArgument, match=r"takes a grpc\.aio"),
    ):
        AsyncClient(server.grpc_url, channel=channel)


def test_one_async_client_in_several_loops(url: str) -> None:
    """An AsyncClient connects anew in each event loop."""
    client = AsyncClient(url)

    async def ask() -> Any:
        async with client_closing(client):
            return (await client.status("half_plus_two"))[0].version

    assert {asyncio.run(ask()) for _ in range(2)} == {123}


class client_closing:  # noqa: N801  # reads like contextlib.aclosing
    """Close the transport's connections in this loop, and leave the client usable."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def __aenter__(self) -> None:
        """Do nothing."""

    async def __aexit__(self, *_: object) -> None:
        await self._client._transport.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_a_proxy(listening: Listening, kind: Any) -> None:
    """A proxy's 502 with a page of HTML is Unavailable, with the page's words and Retry-After."""
    page = b"<html><head><title>t</title></head><body><h1>502 Bad Gateway</h1></body></html>"

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        head = b"HTTP/1.1 502 Bad Gateway\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n" % len(page)
        connection.sendall(head + page)

    with listening(behave) as port, pytest.raises(Exception, match=r"HTTP 502 .*: 502 Bad Gateway$") as caught:
        call(kind, f"http://127.0.0.1:{port}", retry=None)
    assert type(caught.value).__name__ == "Unavailable"
    assert caught.value.retry_after_s == 7.0  # type: ignore[attr-defined]


def _never_read(_connection: socket.socket) -> None:
    threading.Event().wait(10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https", "grpcs"])
def test_handshakes_and_large_requests_end_in_time(listening: Listening, kind: Any, scheme: str) -> None:
    """A server that never shakes hands, or never reads the request, does not outlive the deadline."""
    # aiohttp goes on trying to send what a request left in its buffer, and asyncio then complains of the open socket.
    rows = 3000 if kind is Client else 1
    array = np.zeros((rows, 1000), np.float32)

    with listening(_never_read) as port:
        assert 0.45 <= _time_to_give_up(kind, f"{scheme}://127.0.0.1:{port}", array) < 0.9


def _time_to_give_up(kind: Any, url: str, array: Any) -> float:
    """Send a large predict with half a second to go, and give the seconds that it took to fail."""
    call = PredictCall(
        spec=ModelSpec("m"),
        deadline=Deadline.after(20.0),
        inputs={"x": array},
        signature=Signature({"x": TensorSpec(dtypes.FLOAT, (None, None))}, {"y": TensorSpec(dtypes.FLOAT, (None,))}),
    )

    if kind is Client:
        transport = open_transport(parse_address(url), Connection())
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
            transport.send(replace(call, deadline=Deadline.after(0.5)))
        took_s = time.monotonic() - started_s
        transport.close()
        return took_s

    async def send() -> float:
        transport = open_async_transport(parse_address(url), Connection())
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
            await transport.send(replace(call, deadline=Deadline.after(0.5)))
        took_s = time.monotonic() - started_s
        await transport.close()
        return took_s

    return asyncio.run(send())


def test_a_used_connection_has_the_new_calls_time(listening: Listening) -> None:
    """A connection that just served a call with little time left gives a large request all of its own time."""
    body = b'{"outputs": [1.0]}'

    def behave(connection: socket.socket) -> None:
        for _ in range(2):
            data = connection.recv(65536)
            length = int(data.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            missing = length - len(data.partition(b"\r\n\r\n")[2])
            time.sleep(0.35)  # not read yet: longer than the first call's time, within the second's
            while missing > 0:
                missing -= len(connection.recv(1 << 20))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with listening(behave) as port:
        import urllib3

        manager = urllib3.PoolManager()
        manager.pool_classes_by_scheme = timed_pools()
        with manager:
            url = f"http://127.0.0.1:{port}/"
            for size, timeout_s in ((10, 0.4), (30_000_000, 20.0)):
                reply = manager.request(
                    "POST", url, body=b" " * size, timeout=urllib3.Timeout(total=timeout_s), retries=False
                )
                assert reply.data == body


def test_ssl_context_checks_names() -> None:
    """Names and certificates are checked, whatever is given."""
    context = ssl_context(Tls())
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
