"""Revoking, and the endpoints with which a client sees and ends its own session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from tidings.auth import FOREVER, Revocation
from tidings.errors import AuthenticationError, ConfigurationError
from tidings.identity import Identity
from tidings.jsonapi import Endpoint
from tidings.realtime import moment

_MARGIN: Final = 60.0
"""Entries stay longer by so many seconds, since the clocks of processes differ."""
Document = dict[str, Any]


class Verifier(Protocol):
    """Turns a token into an identity, for HTTP and for sockets alike."""

    async def verify(self, token: object) -> Identity:
        """The token's identity, or `AuthenticationError`."""
        ...


def leeway_of(verifier: Verifier | None) -> float:
    """For how long the verifier accepts tokens beyond their ``exp``."""
    return float(getattr(verifier, "leeway", 0.0))


def of_identity(identity: Identity, leeway: float) -> Revocation:
    """The revocation of one token, kept until it has expired anyway."""
    if identity.token_id is None:
        raise ConfigurationError("a token without token_id cannot be revoked: the verifier sets it")
    ends = FOREVER if identity.expires_at is None else identity.expires_at + leeway + _MARGIN
    return Revocation(min(ends, FOREVER), token_id=identity.token_id)


def of_id(token_id: str, expires_at: float | None, leeway: float, lifetime: float) -> Revocation:
    """The revocation of a token that is known by its id alone."""
    ends = time.time() + lifetime if expires_at is None else expires_at
    return Revocation(min(ends + leeway + _MARGIN, FOREVER), token_id=token_id)


def of_user(
    user_id: str, issued_before: float | None, leeway: float, lifetime: float
) -> Revocation:
    """The revocation of a user's tokens, kept for as long as a token may live.

    A token is accepted though it was issued ``leeway`` seconds from now, since clocks differ: so
    those that there are now may say that they are so new.
    """
    before = time.time() + leeway if issued_before is None else issued_before
    ends = min(before + lifetime + leeway + _MARGIN, FOREVER)
    return Revocation(ends, user_id=user_id, issued_before=before)


def auth_endpoints(log_out: Callable[[Identity], Awaitable[None]]) -> Mapping[str, Endpoint]:
    """The endpoints by their paths below the prefix."""

    async def logout(identity: Identity, _base: str) -> None:
        await log_out(_signed_in(identity))

    async def session(identity: Identity, _base: str) -> Document:
        return _session(_signed_in(identity))

    return {
        "auth/logout": Endpoint(("POST",), logout),
        "auth/session": Endpoint(("GET", "HEAD"), session),
    }


def _signed_in(identity: Identity) -> Identity:
    if not identity.is_authenticated:
        raise AuthenticationError("Authentication required")
    return identity


def _session(identity: Identity) -> Document:
    attributes = {
        "userId": identity.user_id,
        "roles": sorted(identity.roles),
        "permissions": sorted(identity.permissions),
        "expiresAt": moment(identity.expires_at),
        "issuedAt": moment(identity.issued_at),
    }
    token_id = identity.claims.get("jti") or identity.user_id
    data = {"type": "sessions", "id": token_id, "attributes": attributes}
    return {"jsonapi": {"version": "1.1"}, "data": data}
