"""Keys that verify signatures, each tied to the algorithms it may be used with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

import jwt
from jwt import PyJWK

from tidings.errors import ConfigurationError

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

    PublicKey: TypeAlias = str | bytes | AllowedPublicKeys | PyJWK

logger = logging.getLogger("tidings.auth")

ASYMMETRIC: tuple[str, ...] = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "ES256K",
    "EdDSA",
)
"""Algorithms whose verifying key may be known to everybody."""

HMAC_BYTES: dict[str, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Symmetric algorithms and the shortest secret each may have, in bytes (RFC 7518, 3.2)."""

RSA_BITS = 2048
"""The shortest RSA key that may be used (RFC 7518, 3.3)."""


_FEW_CHARACTERS = 10
_GIVEAWAYS = (
    "secret",
    "password",
    "changeme",
    "change-me",
    "example",
    "default",
    "12345",
    "qwerty",
)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key ready for use, with the only algorithms it may verify."""

    key: Any = field(repr=False)
    algorithms: tuple[str, ...]
    kid: str | None = None


def from_secret(secret: object, algorithms: Sequence[str] | None = None) -> VerificationKey:
    """A shared secret, for HS256 unless ``algorithms`` names other HMAC algorithms.

    Raises:
        ConfigurationError: no text or bytes, too short, a public key, or algorithms that do not
            belong to a secret.
    """
    if not isinstance(secret, str | bytes):
        raise ConfigurationError(f"secret must be str or bytes, not {type(secret).__name__}")
    chosen = checked_algorithms(algorithms, ("HS256",), tuple(HMAC_BYTES))
    key = secret.encode() if isinstance(secret, str) else secret
    for name in chosen:
        if len(key) < HMAC_BYTES[name]:
            raise ConfigurationError(
                f"secret is {len(key)} bytes long; {name} needs at least {HMAC_BYTES[name]}: "
                'make one with python -c "import secrets; print(secrets.token_hex(64))"'
            )
    if _prepared(key, chosen[0]) is None:
        raise ConfigurationError("secret is a PEM, SSH or JWK key: use public_key= for that")
    return VerificationKey(key, chosen)


def is_guessable(key: object) -> bool:
    """Whether a shared secret holds words that people write, or hardly anything but repetition.

    A secret of letters, digits and their like that has spaces is taken for a sentence.
    """
    if not isinstance(key, bytes):
        return False
    text = key.decode("latin-1").lower()
    if len(set(text)) < _FEW_CHARACTERS or any(word in text for word in _GIVEAWAYS):
        return True
    return " " in text and text.isprintable() and text.isascii()


def from_public_key(key: object, algorithms: Sequence[str] | None = None) -> VerificationKey:
    """A public key: PEM text, a key object of cryptography, or a PyJWK.

    Without ``algorithms`` it verifies all that fit its type (a PyJWK: the one it names).

    Raises:
        ConfigurationError: unreadable, private or weak key, or algorithms that do not fit it.
    """
    if isinstance(key, PyJWK):
        algorithms = (key.algorithm_name,) if algorithms is None else algorithms
        key = key.key
    loaded = next((k for name in ASYMMETRIC if (k := _prepared(key, name)) is not None), None)
    if loaded is None:
        raise ConfigurationError(
            "public_key cannot be read: give an RSA, EC or Ed25519 public key as PEM text "
            "(from a certificate: openssl x509 -pubkey -noout)"
        )
    if _is_private(loaded):
        raise ConfigurationError("public_key holds a private key: give its public half")
    fitting = fitting_algorithms(loaded, ASYMMETRIC)
    if not fitting:
        raise ConfigurationError(f"public_key is too weak: RSA needs at least {RSA_BITS} bits")
    chosen = checked_algorithms(algorithms, fitting, ASYMMETRIC)
    for name in chosen:
        if name not in fitting:
            raise ConfigurationError(
                f"algorithm {name!r} does not fit the public key (fitting: {', '.join(fitting)})"
            )
    return VerificationKey(loaded, chosen)


def from_jwk(jwk: object) -> VerificationKey | None:
    """A member of a JWKS document; None where it cannot or must not verify a token.

    Symmetric keys are never taken: whoever can read the document could sign with them.
    """
    if not isinstance(jwk, dict) or not _is_for_signatures(jwk):
        return None
    own = jwk.get("alg")
    names = ASYMMETRIC if own is None else (own,)
    if not any(name in ASYMMETRIC for name in names):
        return None
    try:
        key = PyJWK(jwk).key
    except Exception as error:  # noqa: BLE001 - one odd key must not take the good ones away
        # Without the error's text, which quotes the key.
        logger.warning("a published key was ignored: %s", type(error).__name__)
        return None
    algorithms = fitting_algorithms(key, names)
    if not algorithms or _is_private(key):
        return None
    kid = jwk.get("kid")
    return VerificationKey(key, algorithms, kid if isinstance(kid, str) else None)


def checked_algorithms(
    algorithms: Sequence[str] | None, default: tuple[str, ...], allowed: tuple[str, ...]
) -> tuple[str, ...]:
    """The algorithms to use: ``default`` where none are named.

    Raises:
        ConfigurationError: an empty list, "none", or a name outside ``allowed``.
    """
    if algorithms is None:
        return default
    names = (algorithms,) if isinstance(algorithms, str) else tuple(algorithms)
    if not names:
        raise ConfigurationError("algorithms is empty: name at least one or leave it out")
    for name in names:
        if name not in allowed:
            raise ConfigurationError(_why_not(name, allowed))
    return names


def fitting_algorithms(key: Any, names: Iterable[str]) -> tuple[str, ...]:
    """Those asymmetric algorithms among ``names`` that this key object is fit to verify."""
    return tuple(
        name
        for name in names
        if name in ASYMMETRIC and _prepared(key, name) is not None and not _is_weak(key, name)
    )


def _why_not(name: object, allowed: tuple[str, ...]) -> str:
    text = str(name)
    known = ", ".join(allowed)
    if text.lower() == "none":
        return "algorithm 'none' would accept unsigned tokens and is never allowed"
    if text in HMAC_BYTES:
        return (
            f"algorithm {text!r} must not be used with a public key, since everybody who has the "
            f"key could sign tokens: name one of {known}"
        )
    if text in ASYMMETRIC:
        return (
            f"algorithm {text!r} needs public_key= or jwks_url=; with a secret use one of {known}"
        )
    close = get_close_matches(text.upper(), allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"there is no algorithm {text!r}{hint} (known: {known})"


def _prepared(key: Any, algorithm: str) -> Any | None:
    try:
        return jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def _is_private(key: Any) -> bool:
    return hasattr(key, "private_bytes")


def _is_weak(key: Any, algorithm: str) -> bool:
    return algorithm[:2] in ("RS", "PS") and key.key_size < RSA_BITS


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("kty") != "oct"
        and jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )
