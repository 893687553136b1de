"""TLS with certificates on both sides, over TCP, sockets and https, and what is said where it cannot work."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.calling import KINDS, call
from tests.servers import RunningServer, running_server
from tfbundle.cli import main
from tfbundle_client import Client, ConnectionFailed, InvalidArgument
from tfbundle_client.commands.options import access_of
from tfbundle_client.transports.connection import Tls
from tfbundle_client.transports.tls import ssl_context


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
def test_a_port_without_tls_is_an_error_at_once(server: RunningServer, kind: Any, scheme: str) -> None:
    """It will have none a moment later, so the first try's reason is the one that is told."""
    port = server.grpc_port if scheme == "grpcs" else server.rest_port
    with pytest.raises(ConnectionFailed, match=r"WRONG_VERSION_NUMBER.*the port has no TLS") as caught:
        call(kind, f"{scheme}://localhost:{port}", timeout=20)
    assert (caught.value.may_succeed_later, caught.value.attempts) == (False, 1)
    assert "certificate" not in caught.value.message


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


def test_ssl_context_checks_names() -> None:
    """Names and certificates are checked, whatever is given."""
    context = ssl_context(Tls())
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
