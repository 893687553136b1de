"""What a store, or the road to it, refuses: in one line that names the URL and says what to do.

Each of fsspec's file systems raises the errors of the library below it. They are told by their classes' names, so that
none of these libraries has to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tfbundle_serving.apis.errors import BundleError, ExportError

from .stores import without_secrets

_CREDENTIALS = (
    "there are no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3) or "
    "GOOGLE_APPLICATION_CREDENTIALS (Google), or give the machine a role"
)
_REFUSED = "access is denied; look at the credentials, at what they may do there, and at the bucket's name"
_ROAD = "it cannot be reached; look at --endpoint-url and at the network"

#: Name of an error's class to what it means.
_MEANINGS = {
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "TokenRetrievalError": _CREDENTIALS,
    "DefaultCredentialsError": _CREDENTIALS,
    "RefreshError": _CREDENTIALS,
    "PermissionError": _REFUSED,
    "EndpointConnectionError": _ROAD,
    "ConnectTimeoutError": _ROAD,
    "ReadTimeoutError": _ROAD,
    "ConnectionClosedError": _ROAD,
    "ClientConnectorError": _ROAD,
    "ClientConnectorDNSError": _ROAD,
    "ConnectionRefusedError": _ROAD,
    "ProxyConnectionError": _ROAD,
    "SSLError": _ROAD,
    "TimeoutError": _ROAD,
    "FSTimeoutError": _ROAD,
    "FileNotFoundError": "there is no such bucket, or no such file in it",
}


@contextmanager
def speaking_of(address: str) -> Iterator[None]:
    """Say of whatever goes wrong in this block that it concerns a URL.

    FileExistsError goes through, and so do our own errors.

    Raises:
        ExportError: In place of any other error.
    """
    try:
        yield
    except (BundleError, FileExistsError):
        raise
    except ImportError as error:
        raise ExportError(f"{address}: {error}; s3:// and gs:// come with pip install 'tfbundle[remote]'") from error
    except Exception as error:  # the libraries below share no base class
        raise ExportError(f"{address}: {_meaning(error)}") from error


def _meaning(error: BaseException) -> str:
    text = without_secrets(" ".join(str(error).split()))
    if isinstance(error, ValueError) and "rotocol not known" in text:
        return f"nothing here reaches such a URL ({text}); expected a directory, s3://, gs:// or what else fsspec knows"
    if isinstance(error, TypeError):
        return f"an option of --storage-option is wrong: {text}"
    for cause in _causes(error):
        for each in type(cause).__mro__:
            if each.__name__ in _MEANINGS:
                return f"{_MEANINGS[each.__name__]} ({text or type(error).__name__})"
    return f"{type(error).__name__}: {text}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
