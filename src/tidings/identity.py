"""Who is asking: the one object that permission checks, rules and hooks see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


class ClaimList(list[Any]):
    """A list that a claim holds; where one value is expected it is refused."""

    __slots__ = ()


class ClaimDict(dict[str, Any]):
    """An object that a claim holds; where a value is expected it is refused."""

    __slots__ = ()


def _marked(value: Any) -> Any:
    """A claim's value, in which lists and objects can be told from those that code writes."""
    if isinstance(value, Mapping):
        return ClaimDict((name, _marked(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return ClaimList(_marked(item) for item in value)
    return value


def _exact(value: Any) -> Any:
    """What is equal for two claims only where types are equal, too: 1 is not True, nor 1.0."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), _exact(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return ("list", *(_exact(item) for item in value))
    return f"{type(value).__name__}:{value!r}"


@dataclass(frozen=True, slots=True, eq=False)
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
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS, repr=False)
    expires_at: float | None = None
    """When the token ends, in seconds since the epoch; None where it does not."""
    # What tells one token from another is in the claims, which are compared.
    token_id: str | None = field(default=None, repr=False)
    """The token's ``jti``, or a digest of the token where it has none."""
    issued_at: float | None = field(default=None, repr=False)
    """When the token was issued (``iat``), in seconds since the epoch, where it says so."""
    _key: Any = field(default=None, init=False, repr=False)
    _proved: Identity | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.claims is not _NO_CLAIMS:
            object.__setattr__(self, "claims", MappingProxyType(_marked(self.claims)))
        # Answers are kept by identity: two that differ in the type of a claim must not be one.
        known = (self.user_id, self.roles, self.permissions, self.expires_at)
        object.__setattr__(self, "_key", (known, _exact(self.claims)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self._key == other._key

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.user_id, self.roles, self.permissions, dict(self.claims), self.expires_at)
        return Identity, (*known, self.token_id, self.issued_at)

    def __hash__(self) -> int:
        return hash(self._key[0])

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


def enriched(identity: Identity, proved: Identity) -> Identity:
    """An identity with what is known beyond its token, held by that token all the same."""
    facts = {name: getattr(proved, name) for name in ("expires_at", "token_id", "issued_at")}
    made = replace(identity, **facts)
    object.__setattr__(made, "_proved", proved_of(proved))
    return made


def proved_of(identity: Identity) -> Identity:
    """What the token alone says of an identity."""
    return identity._proved or identity


ANONYMOUS = Identity()
"""The identity of a request without a token."""


class Trusted(Enum):
    """Who asks is the application's own code, of which no permission is asked: `TRUSTED`."""

    TRUSTED = "trusted"


TRUSTED: Final = Trusted.TRUSTED
"""Says that an operation is the application's own. It is said, or left out; None never means it."""

Asker = Identity | Trusted
"""Who asks for an operation."""


def asker(auth: Asker | None) -> Asker:
    """Who asks; None is nobody in particular, as where there is no token."""
    if auth is None:
        return ANONYMOUS
    if not isinstance(auth, Identity | Trusted):
        raise TypeError(f"auth is an Identity, TRUSTED or None, not {type(auth).__name__}")
    return auth
