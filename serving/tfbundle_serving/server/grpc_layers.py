"""What stands before the gRPC services where a flag asks for it: the access log and the API keys.

Each finds methods, and wraps what another one found.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from tfbundle_serving.apis.errors import DeadlineExceeded, Unauthenticated

from . import access_log
from .access_log import Access, AccessLog
from .api_key import NO_KEY, UNKNOWN_KEY, ApiKeys
from .grpc_methods import Asked, Call, Find, Handler, Method, refusing
from .grpc_status import as_api_error
from .health_service import LIST
from .health_service import SERVICE as HEALTH


def with_keys(find: Find, keys: ApiKeys) -> Find:
    """Refuse who has no key. Health checks need none: those who ask cannot be told secrets, and are told no names."""
    refused = {text: refusing(Unauthenticated(text)) for text in (NO_KEY, UNKNOWN_KEY)}

    def find_if_allowed(asked: Asked) -> Method:
        is_check = asked.path.startswith(f"/{HEALTH}/") and asked.path != LIST
        refusal = "" if is_check else keys.refusal(asked.headers)
        return refused[refusal] if refusal else find(asked)

    return find_if_allowed


def with_log(find: Find, log: AccessLog) -> Find:
    """Take every call down that has one answer."""

    def find_logged(asked: Asked) -> Method:
        method = find(asked)
        if method.handler is None:
            return method
        return replace(method, handler=_logged(asked.path.rpartition("/")[2], method.handler, log))

    return find_logged


def _logged(method: str, handler: Handler, log: AccessLog) -> Handler:
    async def logged(call: Call) -> bytes:
        begun = time.perf_counter()
        subject = access_log.begin()
        reply = b""
        code = "OK"
        try:
            reply = await handler(call)
        except asyncio.CancelledError:
            code = DeadlineExceeded("").status_name if call.has_expired else "CANCELLED"
            raise
        except Exception as error:
            code = as_api_error(error).status_name
            raise
        finally:
            log.add(
                Access(
                    protocol="grpc",
                    method=method,
                    subject=subject,
                    code=code,
                    seconds=time.perf_counter() - begun,
                    bytes_in=call.bytes_in,
                    bytes_out=len(reply),
                    peer=call.peer(),
                )
            )
        return reply

    return logged
