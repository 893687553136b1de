"""Which addresses a client takes."""

from __future__ import annotations

import pytest

from tfbundle_client import Client, FailedPrecondition, InvalidArgument
from tfbundle_client.transports.address import parse_address


@pytest.mark.parametrize(
    ("url", "transport", "target"),
    [
        ("grpc://localhost:8500", "gRPC", "localhost:8500"),
        ("grpc://[::1]:8500/", "gRPC", "[::1]:8500"),
        ("http://models.internal", "REST", "models.internal"),
        ("https://gateway:8443/serving/", "REST", "gateway:8443"),
    ],
)
def test_scheme_chooses_the_transport(url: str, transport: str, target: str) -> None:
    """The scheme grpc means gRPC, http and https mean REST; a REST address may have a path in front."""
    address = parse_address(url)
    assert (address.transport, address.target) == (transport, target)
    assert not address.url.endswith("/")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8500",
        "ftp://host:1",
        "grpc://",
        "grpc://host",
        "http://",
        "http://h:99999",
        "grpc://h:1/x",
        "",
        "http://h?x=1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """An address without scheme, host or port is refused with the forms that are understood."""
    with pytest.raises(InvalidArgument, match="grpc://host:port"):
        Client(url)


def test_a_channel_or_session_must_fit_the_address() -> None:
    """A session does not go with gRPC, nor channel options with REST."""
    import requests

    with requests.Session() as session, pytest.raises(InvalidArgument, match="does not go with"):
        Client("grpc://h:1", session=session)
    with pytest.raises(InvalidArgument, match="does not go with"):
        Client("http://h:1", channel_options={"grpc.x": 1})


@pytest.mark.parametrize(
    ("url", "targets", "is_secure"),
    [
        ("grpcs://h:1", ["h:1"], True),
        ("unix:/run/m.sock", ["unix:/run/m.sock"], None),
        ("unix:///run/m.sock", ["unix:/run/m.sock"], None),
        ("dns:///models:8500", ["dns:///models:8500"], None),
        ("grpc://a:1,b:2", ["a:1", "b:2"], False),
        ("http://a:1,http://b/x,a:1", ["a:1", "b"], False),
    ],
)
def test_several_servers_sockets_and_names(url: str, targets: list[str], is_secure: bool | None) -> None:
    """Several servers stand with commas between; sockets and names are gRPC, with TLS if the settings say so."""
    address = parse_address(url)
    assert [endpoint.target for endpoint in address.endpoints] == targets
    assert address.is_secure is is_secure


@pytest.mark.parametrize("url", ["unix:relative", "dns:///name", "dns:///:1", "grpc://a:1,", "grpc://a:1,http://b:1"])
def test_half_an_address_is_refused(url: str) -> None:
    """A socket without a slash, a name without a port, and mixed or missing servers are refused."""
    with pytest.raises(InvalidArgument):
        parse_address(url)


def test_credentials_do_not_stand_in_addresses() -> None:
    """A password in an address is refused, and not repeated in the message."""
    with pytest.raises(InvalidArgument, match="bearer_token or headers") as caught:
        parse_address("https://me:secret@h:1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_must_be_positive(timeout: float) -> None:
    """Zero, negative numbers and NaN are refused where they are written."""
    with pytest.raises(InvalidArgument, match="positive number of seconds"):
        Client("grpc://h:1", timeout=timeout)


def test_a_closed_client_says_so() -> None:
    """A call on a closed client is an error of ours, not of grpc's or requests'."""
    client = Client("grpc://127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(FailedPrecondition, match="is closed"):
        client.status("m")
