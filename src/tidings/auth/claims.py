"""From the claims of a verified token to an `Identity`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tidings.errors import ConfigurationError
from tidings.identity import Identity

_ABSENT = object()
_TIMES = ("exp", "nbf", "iat")


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Where a token keeps what an identity needs.

    A name is looked up as it stands first (``"https://example.com/roles"``), then as a path into
    nested claims (``"realm_access.roles"``).
    """

    user_id: str = "sub"
    roles: str = "roles"
    permissions: str = "permissions"

    def __post_init__(self) -> None:
        for name in (self.user_id, self.roles, self.permissions):
            if not isinstance(name, str) or not name:
                raise ConfigurationError(f"a claim's name must be a non-empty str, not {name!r}")


def identity_from(claims: dict[str, Any], names: ClaimNames, token: str) -> Identity:
    """The identity that the claims of this token state.

    Raises:
        ValueError: there is no user id, or a claim has the wrong type; the text names the claim.
    """
    times = {name: _number(name, claims[name]) for name in _TIMES if name in claims}
    return Identity(
        user_id=_user_id(claims, names.user_id),
        roles=_words(claims, names.roles),
        permissions=_words(claims, names.permissions),
        claims=MappingProxyType(claims),
        expires_at=times.get("exp"),
        token_id=claims.get("jti") or _digest(token),
        issued_at=times.get("iat"),
    )


def _digest(token: str) -> str:
    """Names a token that has no id.

    It is taken of what is signed: a signature can be written in more than one way.
    """
    return f"sha256:{hashlib.sha256(token.rpartition('.')[0].encode()).hexdigest()}"


def _user_id(claims: Mapping[str, Any], name: str) -> str:
    value = _look_up(claims, name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"claim {name!r} names no user")
    return str(value)


def _words(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    value = _look_up(claims, name)
    if value is _ABSENT:
        return frozenset()
    if isinstance(value, str):
        return frozenset(value.split())
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"claim {name!r} is neither a list of strings nor a string")
    return frozenset(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"claim {name!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"claim {name!r} is too large") from None


def _look_up(claims: Mapping[str, Any], name: str) -> object:
    """The claim's value, or _ABSENT where it or a step of the way to it is missing."""
    if name in claims:
        return claims[name]
    value: object = claims
    for step in name.split("."):
        if not isinstance(value, Mapping):
            raise ValueError(f"claim {name!r} leads through something that is not an object")
        if step not in value:
            return _ABSENT
        value = value[step]
    return value
