r"""ssl.config: the server's key and certificate, and whether clients must show one.

    server_key: "-----BEGIN PRIVATE KEY-----\n..."
    server_cert: "-----BEGIN CERTIFICATE-----\n..."
    custom_ca: "-----BEGIN CERTIFICATE-----\n..."
    client_verify: true

The values are PEM text, not paths.

Source: tensorflow_serving/config/ssl_config.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument

from .schema import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class SslConfig:
    """How a listener proves who it is, and whom it believes.

    Attributes:
        server_key: Private key, PEM.
        server_cert: Certificate chain, PEM, the server's own first.
        custom_ca: Certificates that sign clients' certificates, PEM; "" = none.
        client_verify: Whether a client must show a certificate that one of those signed.
    """

    server_key: str = field(repr=False)
    server_cert: str = field(repr=False)
    custom_ca: str = field(default="", repr=False)
    client_verify: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            InvalidArgument: Key or certificate is missing or no PEM, or there is nothing to verify clients by.
        """
        if not self.server_key or not self.server_cert:
            raise InvalidArgument("an SSL config needs server_key and server_cert, as PEM text")
        for name in ("server_key", "server_cert", "custom_ca"):
            text = getattr(self, name)
            if text and "-----BEGIN " not in text:
                raise InvalidArgument(f"{name} is no PEM: the text itself is expected, not the path of a file")
        if self.client_verify and not self.custom_ca:
            raise InvalidArgument("an SSL config with client_verify needs custom_ca, which signs clients' certificates")


def read_ssl(path: Path) -> SslConfig:
    """Read an ssl.config.

    Raises:
        NotFound: The file is missing.
        InvalidArgument: It holds no SSLConfig, or one that cannot work.
    """
    parsed: Any = read_text(path, "SSLConfig")
    try:
        return SslConfig(
            server_key=parsed.server_key,
            server_cert=parsed.server_cert,
            custom_ca=parsed.custom_ca,
            client_verify=parsed.client_verify,
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}") from error
