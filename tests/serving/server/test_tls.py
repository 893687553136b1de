"""TLS for gRPC, on port and socket, and for REST; certificates of clients; configs that cannot work."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import requests

from tests.serving.server.in_process import predict, serving
from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.config.ssl_config import SslConfig, read_ssl
from tfbundle_serving.server.flags import parse
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.settings import ServerSettings, settings_from_flags
from tfbundle_serving.server.tls import grpc_context

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, PEM, and the files that hold them."""

    key: str
    cert: str
    key_file: Path
    cert_file: Path


def make_pair(folder: Path, name: str, *extra: str) -> Pair:
    """Make a key and a certificate for localhost that signs itself."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert), *extra], check=True, capture_output=True)
    return Pair(key.read_text(), cert.read_text(), key, cert)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The server's pair."""
    return make_pair(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A client's pair."""
    return make_pair(tmp_path_factory.mktemp("tls"), "client")


def write_config(path: Path, ours: Pair, **more: str) -> Path:
    """Write an ssl.config as TensorFlow Serving reads it."""
    values = {"server_key": json.dumps(ours.key), "server_cert": json.dumps(ours.cert), **more}
    path.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
    return path


@pytest.fixture(scope="module")
def server(
    tiny_models: Path, tmp_path_factory: pytest.TempPathFactory, ours: Pair, theirs: Pair
) -> Iterator[tuple[Server, Path]]:
    """A server that wants certificates over gRPC and shows its own over REST, and its UNIX socket."""
    folder = tmp_path_factory.mktemp("s")
    mutual = write_config(folder / "ssl.config", ours, custom_ca=json.dumps(theirs.cert), client_verify="true")
    plain = write_config(folder / "rest.config", ours)
    flags = (f"--ssl_config_file={mutual}", f"--rest_ssl_config_file={plain}", f"--model_base_path={folder}")
    read = settings_from_flags(parse(flags))
    socket = folder / "g.sock"
    with serving(tiny_models, ssl=read.ssl, rest_ssl=read.rest_ssl, grpc_socket_path=str(socket)) as running:
        yield running, socket


def test_mutual_tls_over_grpc(server: tuple[Server, Path], ours: Pair, theirs: Pair) -> None:
    """A client with a certificate that the CA signed is answered, on the port and on the socket."""
    credentials = grpc.ssl_channel_credentials(ours.cert.encode(), theirs.key.encode(), theirs.cert.encode())
    name = [("grpc.ssl_target_name_override", "localhost")]
    for target in (f"localhost:{server[0].grpc_port}", f"unix:{server[1]}"):
        with grpc.secure_channel(target, credentials, options=name) as channel:
            assert predict(channel) == [3.0]


def test_others_are_not_let_in(server: tuple[Server, Path], ours: Pair) -> None:
    """A client without a certificate, with a foreign one, or without TLS gets no answer over gRPC."""
    target = f"localhost:{server[0].grpc_port}"
    root, key = ours.cert.encode(), ours.key.encode()
    for channel in (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(root)),
        grpc.secure_channel(target, grpc.ssl_channel_credentials(root, key, root)),
        grpc.insecure_channel(target),
    ):
        with channel, pytest.raises(grpc.RpcError) as caught:
            predict(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("protocols", "is_let_in"), [(["h2"], True), (["h2", "http/1.1"], True), (["http/1.1"], False)]
)
def test_grpc_is_http2_only(
    server: tuple[Server, Path], ours: Pair, theirs: Pair, protocols: list[str], is_let_in: bool
) -> None:
    """A client over TLS that does not offer HTTP/2 is not served; one that does gets the server's SETTINGS."""
    context = ssl.create_default_context(cafile=str(ours.cert_file))
    context.load_cert_chain(theirs.cert_file, theirs.key_file)
    context.set_alpn_protocols(protocols)
    with (
        socket.create_connection(("localhost", server[0].grpc_port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        assert (client.recv(9)[3:4] == b"\x04") is is_let_in


def test_rest_over_tls(server: tuple[Server, Path], ours: Pair) -> None:
    """REST answers https to who trusts the certificate, and no plain http."""
    url = f"localhost:{server[0].rest_port}/v1/models/half_plus_two:predict"
    body = {"instances": [2.0]}
    assert requests.post(f"https://{url}", json=body, verify=str(ours.cert_file), timeout=30).json() == {
        "predictions": [3.0]
    }
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(f"https://{url}", json=body, timeout=30)
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.post(f"http://{url}", json=body, timeout=30)


def test_mutual_tls_over_rest(tiny_models: Path, ours: Pair, theirs: Pair) -> None:
    """With client_verify REST, too, wants a certificate."""
    config = SslConfig(server_key=ours.key, server_cert=ours.cert, custom_ca=theirs.cert, client_verify=True)
    with serving(tiny_models, rest_ssl=config, grpc_port=None) as running, requests.Session() as session:
        session.trust_env = False  # or REQUESTS_CA_BUNDLE would win over what follows
        session.verify = str(ours.cert_file)
        url = f"https://localhost:{running.rest_port}/v1/models/half_plus_two"
        with pytest.raises(requests.exceptions.RequestException):
            session.get(url, timeout=30)
        session.cert = (str(theirs.cert_file), str(theirs.key_file))
        assert session.get(url, timeout=30).status_code == 200


def test_configs_that_cannot_work(tmp_path: Path, ours: Pair, theirs: Pair) -> None:
    """A file that is missing, incomplete or no config is named; a pair that is none is refused before any load."""
    with pytest.raises(NotFound, match=r"none\.config"):
        read_ssl(tmp_path / "none.config")
    path = tmp_path / "ssl.config"
    path.write_text('server_key: "x"')
    with pytest.raises(InvalidArgument, match=r"ssl\.config: .*needs server_key and server_cert"):
        read_ssl(path)
    path.write_text('server_kex: "x"')
    with pytest.raises(InvalidArgument, match="Invalid protobuf file"):
        read_ssl(path)
    with pytest.raises(InvalidArgument, match="server_key is no PEM: the text itself is expected, not the path"):
        SslConfig(server_key="server.key", server_cert=ours.cert)
    with pytest.raises(InvalidArgument, match="needs custom_ca"):
        read_ssl(write_config(path, ours, client_verify="true"))
    for bad in (
        SslConfig(server_key=theirs.key, server_cert=ours.cert),
        SslConfig(server_key="-----BEGIN no PEM", server_cert=ours.cert),
    ):
        with pytest.raises(InvalidArgument, match="not a pair"):
            grpc_context(bad)
        with pytest.raises(InvalidArgument, match="not a pair"):
            Server(ServerSettings(rest_ssl=bad))
    with pytest.raises(InvalidArgument, match="custom_ca"):
        grpc_context(SslConfig(server_key=ours.key, server_cert=ours.cert, custom_ca="-----BEGIN no PEM"))


def test_a_locked_key_is_refused_without_a_question(tmp_path: Path, ours: Pair) -> None:
    """A key with a password is refused; nobody is asked for it on a terminal that a server does not have."""
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(ours.key_file), "-out", str(locked), "-passout", "pass:x"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(InvalidArgument, match="not a pair"):
        grpc_context(SslConfig(server_key=locked.read_text(), server_cert=ours.cert))


def test_keys_do_not_show(ours: Pair) -> None:
    """A config in a log or a traceback does not give the key away."""
    config = SslConfig(server_key=ours.key, server_cert=ours.cert)
    assert "PRIVATE" not in repr(config)
    assert "PRIVATE" not in repr(ServerSettings(ssl=config, api_keys=("PRIVATE",)))
