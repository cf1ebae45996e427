"""Identities of tests, and the tokens that stand for them."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Protocol

from tidings import AuthenticationError, Identity


class Verifier(Protocol):
    """Turns a token into an identity, as the application's own plugin does."""

    async def verify(self, token: object) -> Identity:
        """The token's identity, or `AuthenticationError`."""
        ...


class TestIdentities:
    """Knows the tokens that `token_for` has given out, and leaves all others to the application.

    So a test needs no key to sign with, and everything behind the token is as in production:
    ``identify``, revocation, the end of a token, and the rules.
    """

    __test__ = False  # for pytest, which collects classes of such names

    def __init__(self, declared: Verifier | None) -> None:
        self._declared = declared
        self._known: dict[str, Identity] = {}

    @property
    def declared(self) -> Verifier | None:
        """What the application itself verifies tokens with."""
        return self._declared

    @property
    def leeway(self) -> float:
        """For how long (seconds) the application accepts tokens beyond their end."""
        return float(getattr(self._declared, "leeway", 0.0))

    def token_for(self, identity: Identity) -> str:
        """A new token, which stands for this identity until the test ends."""
        token = f"test-{secrets.token_hex(16)}"
        # Revocation goes by these two; a token of the application's has them as well.
        self._known[token] = replace(
            identity,
            token_id=identity.token_id or token,
            issued_at=time.time() if identity.issued_at is None else identity.issued_at,
        )
        return token

    async def verify(self, token: object) -> Identity:
        """The identity of a token.

        Raises:
            AuthenticationError: it has expired, or the application does not accept it.
        """
        found = self._known.get(token) if isinstance(token, str) else None
        if found is not None:
            if found.expires_at is not None and found.expires_at + self.leeway <= time.time():
                raise AuthenticationError("Token expired", code="TOKEN_EXPIRED")
            return found
        if self._declared is None:
            raise AuthenticationError("Authentication required")
        return await self._declared.verify(token)
