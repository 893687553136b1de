"""TLS for both listeners, from one kind of file.

Source: tensorflow_serving/model_servers/server.cc (BuildServerCredentialsFromSSLConfigFile); REST over TLS is ours.
"""

from __future__ import annotations

import os
import ssl
import tempfile

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.config.ssl_config import SslConfig

#: The one protocol that gRPC is spoken over.
HTTP2 = "h2"


def grpc_context(config: SslConfig) -> ssl.SSLContext:
    """Make the context of the gRPC listeners.

    Raises:
        InvalidArgument: Key and certificate are no PEM, or not a pair.
    """
    context = ssl_context(config)
    context.set_alpn_protocols([HTTP2])
    return context


def ssl_context(config: SslConfig) -> ssl.SSLContext:
    """Make the context of a listener of any protocol.

    Raises:
        InvalidArgument: Key and certificate are no PEM, or not a pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        _load_pair(context, config)
    except ssl.SSLError as error:
        raise InvalidArgument(f"server_key and server_cert of the SSL config are not a pair in PEM: {error}") from error
    if config.custom_ca:
        try:
            context.load_verify_locations(cadata=config.custom_ca)
        except ssl.SSLError as error:
            raise InvalidArgument(f"custom_ca of the SSL config is no certificate in PEM: {error}") from error
    context.verify_mode = ssl.CERT_REQUIRED if config.client_verify else ssl.CERT_NONE
    return context


def _load_pair(context: ssl.SSLContext, config: SslConfig) -> None:
    # The ssl module takes a key from a file only; a new one is readable by its owner alone.
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{config.server_key}\n{config.server_cert}\n")
        # A key with a password would otherwise be asked for on the terminal.
        context.load_cert_chain(path, password="")
    finally:
        os.unlink(path)  # noqa: PTH108  a path as mkstemp gives it
