"""Who is asking: the one object that permission checks, rules and hooks see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of an operation or the owner of a socket.

    The same token gives an equal identity over HTTP and over Socket.IO. Claims beyond the known
    ones are attributes too: ``identity.workspace_id`` is ``claims["workspace_id"]``, or None where
    the token has no such claim (a rule or clause built on None denies).

        Identity(user_id="7", roles=frozenset({"editor"}))
    """

    user_id: str | None = None
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS, repr=False, hash=False)
    expires_at: float | None = None
    """When the token ends, in seconds since the epoch; None where it does not."""
    # What tells one token from another is in the claims, which are compared.
    token_id: str | None = field(default=None, repr=False, compare=False)
    """The token's ``jti``, or a digest of the token where it has none."""
    issued_at: float | None = field(default=None, repr=False, compare=False)
    """When the token was issued (``iat``), in seconds since the epoch, where it says so."""

    @property
    def is_authenticated(self) -> bool:
        """True where a verified token names a user."""
        return self.user_id is not None

    def has_role(self, role: str) -> bool:
        """Tell whether the identity has this role."""
        return role in self.roles

    def has_permission(self, permission: str) -> bool:
        """Tell whether the identity has this permission."""
        return permission in self.permissions

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are no attributes; dunder look-ups (copy, pickle) must fail.
        if name.startswith("__"):
            raise AttributeError(name)
        return self.claims.get(name)


ANONYMOUS = Identity()
"""The identity of a request without a token."""
