"""Certificates as Python's ssl and as grpc want them."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tfbundle_serving.apis.errors import InvalidArgument

from .connection import Tls

if TYPE_CHECKING:
    import grpc


def ssl_context(tls: Tls) -> ssl.SSLContext:
    """Make the context of HTTPS connections; the server's certificate and name are always checked.

    Without a `ca` of ours the system's authorities are trusted, and certifi's, which requests brings along: a slim
    container has no others.

    Raises:
        InvalidArgument: A file cannot be read, or key and certificate are none or do not belong together.
    """
    ca = tls.read("ca")
    try:
        if ca is not None:
            context = ssl.create_default_context(cadata=ca.decode("ascii", "replace"))
        else:
            import certifi

            context = ssl.create_default_context()
            context.load_verify_locations(cafile=os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where())
        _load_pair(context, tls)
    except (ssl.SSLError, OSError) as error:
        raise InvalidArgument(f"tls: the certificates cannot be used: {error}", attempts=0) from error
    return context


def _load_pair(context: ssl.SSLContext, tls: Tls) -> None:
    cert, key = tls.read("cert"), tls.read("key")
    if cert is None or key is None:
        return
    # OpenSSL reads a client's pair from a file only; this one is readable by its owner alone and gone at once.
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder, "pair.pem")
        pair.touch(mode=0o600)
        pair.write_bytes(key + b"\n" + cert)
        context.load_cert_chain(pair, password=_no_password)


def _no_password() -> str:
    # Without this, OpenSSL would ask for one on the terminal.
    raise InvalidArgument("tls: the key is locked with a password; give it without one", attempts=0)


def grpc_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Make the credentials of encrypted channels; without a `ca` of ours, grpc's own authorities are trusted.

    Raises:
        InvalidArgument: A file cannot be read, or key and certificate are none or do not belong together.
    """
    import grpc

    if tls.cert is not None or tls.ca is not None:
        ssl_context(tls)  # grpc would say of a bad pair, much later, no more than "empty address list"
    return grpc.ssl_channel_credentials(tls.read("ca"), tls.read("key"), tls.read("cert"))
