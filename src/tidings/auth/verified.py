"""Tokens that have been verified already: a client sends the same one with every request."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Final

from tidings.auth.keys import VerificationKey
from tidings.cache import Cache
from tidings.identity import Identity
from tidings.memory import memory_of

MAX_BYTES: Final = 8_000_000
"""The identities of the tokens that are remembered come to so many bytes."""
_WITHOUT_CLAIMS: Final = 1_500
"""About what is held of a token and its identity beside the claims."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token proved, and by which key: it proves nothing once that key is withdrawn."""

    identity: Identity
    key: VerificationKey
    key_id: str | None
    size: int


class VerifiedTokens:
    """Remembers tokens until they end; those that have not been used for longest go first.

    Whether one has been revoked is not known here: it is asked for each request.
    """

    def __init__(self, leeway: float, *, max_bytes: int = MAX_BYTES) -> None:
        self._leeway = leeway
        self._kept: Cache[bytes, Verified] = Cache(max_bytes, lambda _, verified: verified.size)

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, token: str) -> Verified | None:
        """What is known of a token; None where it has ended, or was never seen."""
        digest = _digest(token)
        found = self._kept.find(digest)
        if found is None:
            return None
        ends_at = found.identity.expires_at
        if ends_at is not None and ends_at + self._leeway <= time.time():
            self._kept.drop(digest)
            return None
        return found

    def put(self, token: str, identity: Identity, key: VerificationKey, key_id: str | None) -> None:
        """Remember a token."""
        self._kept.put(_digest(token), Verified(identity, key, key_id, _weight(identity)))


def _weight(identity: Identity) -> int:
    return _WITHOUT_CLAIMS + 2 * memory_of(identity.claims)  # they are compared in another form


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
