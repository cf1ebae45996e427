"""Access: who may look. Whatever cannot be decided denies."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request

from tidings.api import Api
from tidings.errors import AuthenticationError, PermissionDenied, RequestError
from tidings.identity import ANONYMOUS, Identity
from tidings.values import without_values

_log = logging.getLogger("tidings.inspector")
_SECONDS: Final = 5.0

Allow = Callable[[Identity], bool | Awaitable[bool]]
"""Whether an identity may look. Only True allows."""
IdentifyRequest = Callable[[Request], Awaitable[Identity | None] | Identity | None]
"""Who sends a request, where it has no ``Authorization`` header; None: nobody known."""


class Access:
    """Decides about each request anew, so that a token that was revoked opens nothing."""

    def __init__(self, api: Api, allow: Allow, identify: IdentifyRequest | None) -> None:
        self._api = api
        self._allow = allow
        self._identify = identify

    async def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            AuthenticationError: nobody knows who sent it.
            PermissionDenied: its sender may not look, or that could not be decided.
            RequestError: the application does not say at the moment who sent it.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                identity = await self._sender(request)
                if not identity.is_authenticated:
                    raise AuthenticationError("Sign in to use the inspector")
                answer = self._allow(identity)
                if inspect.isawaitable(answer):
                    answer = await answer
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001  a check that fails in any way has not said yes
            _log.error(
                "it could not be decided who may use the inspector, which denies",
                exc_info=without_values(error),
            )
            answer = False
        if answer is not True:
            raise PermissionDenied("You may not use the inspector")

    async def _sender(self, request: Request) -> Identity:
        if self._identify is None or "authorization" in request.headers:
            return await self._api.identity(request)
        found: Any = self._identify(request)
        if inspect.isawaitable(found):
            found = await found
        return found if isinstance(found, Identity) else ANONYMOUS
