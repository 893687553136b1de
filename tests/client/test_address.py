"""Which addresses a client takes."""

from __future__ import annotations

import pytest

from tfbundle_client import Client, FailedPrecondition, InvalidArgument
from tfbundle_client.address import parse_address


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
