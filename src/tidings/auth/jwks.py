"""The keys that an identity provider publishes at a URL (a JWKS document, RFC 7517)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tidings.auth.download import download
from tidings.auth.keys import VerificationKey, from_jwk
from tidings.errors import ConfigurationError, KeysUnavailable

logger = logging.getLogger("tidings.auth")

MAX_BYTES: Final = 1024 * 1024
_NEVER = float("-inf")
_FIRST_RETRY = 1.0
_FAILURES = (OSError, HTTPException, ValueError, msgspec.MsgspecError, RecursionError)


class _Document(msgspec.Struct):
    keys: list[Any]


class JwksClient:
    """Fetches a JWKS document without blocking the event loop, and keeps its keys.

    Keys are fetched at the first use and again when they are older than ``max_age`` seconds:
    whoever needs one meanwhile gets it from those that there are. A key id that is not among them
    causes one fetch at most per ``cooldown`` seconds, for which all who ask for it wait. Where a
    fetch fails, the keys of the last good one stay in use, but for ``keep`` seconds at most after
    it; the next attempt follows after ``cooldown`` seconds (one second while there are no keys).

    A fetch has ``timeout`` seconds; redirects are not followed, a body over 1 MiB is refused, and
    the proxies of the environment are used.

    Raises:
        ConfigurationError: the URL is not http(s), has no host, or holds a user or password.
    """

    def __init__(
        self,
        url: str,
        *,
        max_age: float = 600.0,
        keep: float = 24 * 3600.0,
        cooldown: float = 30.0,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _checked_url(url)
        self._max_age = max_age
        self._keep = keep
        self._cooldown = cooldown
        self._timeout = timeout
        self._clock = clock
        self._keys: tuple[VerificationKey, ...] | None = None
        self._fetched_at = _NEVER
        self._due = _NEVER
        self._unknown_kid_due = _NEVER
        self._fetching: asyncio.Task[None] | None = None

    @property
    def shown_url(self) -> str:
        """The URL without its query, which may hold a secret."""
        return urlsplit(self._url)._replace(query="", fragment="").geturl()

    def __repr__(self) -> str:
        return f"JwksClient({self.shown_url!r})"

    async def find(self, kid: str | None) -> tuple[VerificationKey, ...]:
        """The keys with this id: none, one, or several of different types.

        Without an id the only usable key is meant; where there are several, none is.

        Raises:
            KeysUnavailable: no keys could be fetched so far, or not for too long.
        """
        if self._clock() >= self._due:
            self._start_fetch()
        if not self._has_keys():
            await self._fetched()
            return self._matching(kid)
        found = self._matching(kid)
        if not found and kid is not None and self._may_fetch_for_unknown_kid():
            self._start_fetch()
            await self._fetched()
            found = self._matching(kid)
        return found

    async def check(self) -> int:
        """Fetch the document now, whatever has been kept; gives how many usable keys it has.

        Raises:
            KeysUnavailable: with the reason.
        """
        try:
            return len(await self._download())
        except _FAILURES as error:
            raise KeysUnavailable(str(error)) from error

    def _has_keys(self) -> bool:
        return self._keys is not None and self._clock() - self._fetched_at < self._keep

    def _may_fetch_for_unknown_kid(self) -> bool:
        if self._fetching is not None and not self._fetching.done():
            return True
        now = self._clock()
        if now < self._unknown_kid_due:
            return False
        self._unknown_kid_due = now + self._cooldown
        return True

    def _matching(self, kid: str | None) -> tuple[VerificationKey, ...]:
        if self._keys is None or not self._has_keys():
            raise KeysUnavailable("Token cannot be verified at present")
        if kid is None:
            return self._keys if len(self._keys) == 1 else ()
        return tuple(key for key in self._keys if key.kid == kid)

    def _start_fetch(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(), name="tidings-jwks")

    async def _fetched(self) -> None:
        """Wait for the fetch that is under way, if one is."""
        if self._fetching is not None:
            # One caller that goes away must not take the fetch from the others.
            await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            self._keys = await self._download()
        except _FAILURES as error:
            wait = self._cooldown if self._has_keys() else _FIRST_RETRY
            self._due = self._clock() + wait
            logger.warning("JWKS from %s not fetched: %s", self.shown_url, error)
            return
        self._fetched_at = self._clock()
        self._due = self._fetched_at + self._max_age
        if not self._keys:
            logger.warning("JWKS from %s has no usable key", self.shown_url)

    async def _download(self) -> tuple[VerificationKey, ...]:
        return _usable_keys(await download(self._url, seconds=self._timeout, max_bytes=MAX_BYTES))


def _checked_url(url: object) -> str:
    if not isinstance(url, str):
        raise ConfigurationError(f"jwks_url must be str, not {type(url).__name__}")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(
            f"jwks_url must be like https://host/path, not of the form {parts.scheme or '?'}:..."
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("jwks_url must not hold a user or password")
    return url


def _usable_keys(body: bytes) -> tuple[VerificationKey, ...]:
    document = msgspec.json.decode(body, type=_Document)
    keys = (from_jwk(jwk) for jwk in document.keys)
    return tuple(key for key in keys if key is not None)
