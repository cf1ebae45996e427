"""Tokens: what the client shows the server, and gets anew when it ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger("tidings.client")
GetToken = Callable[[bool], str | Awaitable[str | None] | None]
"""Gives the token, or None for nobody in particular. It is called with True where the token before
was refused or is about to end, so that one from a cache will not do.
"""


class Tokens:
    """The token at present. Whoever finds it refused says which one it was, so that several who
    find that at once ask for a new one only once.
    """

    def __init__(self, token: str | GetToken | None) -> None:
        self._source = token
        self._token: str | None = None if callable(token) else token
        self._is_known = not callable(token)
        self._lock = asyncio.Lock()

    @property
    def can_renew(self) -> bool:
        """Whether there may be another one than the present one."""
        return callable(self._source)

    async def current(self) -> str | None:
        """The token, asked for at the first call."""
        if not self._is_known:
            async with self._lock:
                if not self._is_known:
                    await self._ask(is_refused=False)
        return self._token

    async def renew(self, refused: str | None) -> bool:
        """Have another token in the place of this one; False where there is only the one."""
        if not callable(self._source):
            return False
        async with self._lock:
            if self._token == refused:  # else somebody else was faster
                await self._ask(is_refused=True)
        return True

    async def _ask(self, *, is_refused: bool) -> None:
        assert callable(self._source)
        try:
            given = self._source(is_refused)
            self._token = await given if inspect.isawaitable(given) else given
        except Exception:
            _log.warning("the function that gives the token has failed", exc_info=True)
            raise
        self._is_known = True
