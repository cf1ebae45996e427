"""Identities: what the application knows of somebody beyond what their token says."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tidings.cache import Cache
from tidings.errors import (
    AuthenticationError,
    ConfigurationError,
    IdentityUnavailable,
    RequestError,
)
from tidings.identity import Identity, enriched, proved_of
from tidings.memory import memory_of
from tidings.values import without_values

Identify = Callable[[Identity], Awaitable[Identity | None] | Identity | None]
"""Gets what a token has proved, and gives the identity to go on with; None refuses it."""

_Key = tuple[Identity, str | None]
"""What a token has proved, and which it is."""

_log = logging.getLogger("tidings.auth")
_MAX_BYTES: Final = 8_000_000
"""The claims of identities that are kept come to so many bytes, written out."""


class Identities:
    """Asks ``identify`` for each token, and keeps the answer for ``seconds``.

    Requests that come at once wait for one answer. It may take ``timeout`` seconds.
    """

    def __init__(self, identify: Identify, seconds: float, timeout: float) -> None:
        self._identify = identify
        self._seconds = seconds
        self._timeout = timeout
        self._kept: Cache[_Key, tuple[float, Identity]] = Cache(_MAX_BYTES, _weight)
        self._loading: dict[_Key, asyncio.Task[Identity]] = {}

    async def load(self, identity: Identity) -> Identity:
        """The identity as it is now; it may be one that has been loaded before.

        Raises:
            AuthenticationError: ``identify`` refuses it.
            IdentityUnavailable: it fails, or gives no answer in time.
        """
        proved = proved_of(identity)
        # Tokens that say the same are still two, of which one may be revoked.
        key = (proved, proved.token_id)
        kept = self._kept.find(key)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        loading = self._loading.get(key)
        if loading is None or loading.get_loop() is not asyncio.get_running_loop():
            loading = asyncio.create_task(self._load(proved), name="tidings-identify")
            self._loading[key] = loading
            loading.add_done_callback(lambda done: self._loaded(key, done))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(loading)

    def forget(self) -> None:
        """Ask for everybody anew: an answer that is on its way is for those who wait for it."""
        self._kept.clear()
        self._loading.clear()

    def _loaded(self, key: _Key, done: asyncio.Task[Identity]) -> None:
        # Looked at in any case: those who waited for it may all have gone.
        has_failed = done.cancelled() or done.exception() is not None
        if self._loading.get(key) is not done:
            return  # it was asked for before something changed
        del self._loading[key]
        if self._seconds and not has_failed:
            self._kept.put(key, (time.monotonic() + self._seconds, done.result()))

    async def _load(self, proved: Identity) -> Identity:
        try:
            async with asyncio.timeout(self._timeout):
                found: Any = self._identify(proved)
                if inspect.isawaitable(found):
                    found = await found
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, nobody is known by it
            shown = without_values(error)
            _log.error("identify failed for user %r", proved.user_id, exc_info=shown)
            raise IdentityUnavailable("Who you are cannot be said at present") from None
        if found is None:
            raise AuthenticationError("The token's user is not known", code="USER_UNKNOWN")
        if not isinstance(found, Identity) or found.user_id != proved.user_id:
            given = f"one of user {found.user_id!r}" if isinstance(found, Identity) else repr(found)
            raise ConfigurationError(
                f"JWTAuthPlugin(identify=...) gives the Identity of the same user, or None, "
                f"not {given:.200}"
            )
        return enriched(found, proved)


def _weight(key: _Key, kept: tuple[float, Identity]) -> int:
    return 2_000 + 2 * memory_of(key[0].claims) + 2 * memory_of(kept[1].claims)


def check_identify(identify: object) -> None:
    """Refuse what cannot be called with one identity.

    Raises:
        ConfigurationError: it cannot.
    """
    if not callable(identify):
        raise ConfigurationError(f"identify must be a function, not {identify!r:.200}")
    try:
        inspect.signature(identify).bind(None)
    except TypeError:
        raise ConfigurationError(
            "identify takes one argument, the Identity that the token has proved"
        ) from None
    except ValueError:  # something built in, whose arguments cannot be known
        return
