"""Verifying JSON Web Tokens: a token in, an `Identity` or a refusal out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jwt

from tidings.auth import keys
from tidings.auth.claims import ClaimNames, identity_from
from tidings.auth.jwks import JwksClient
from tidings.auth.verified import VerifiedTokens
from tidings.errors import AuthenticationError, ConfigurationError
from tidings.identity import Identity

if TYPE_CHECKING:
    from jwt.types import Options

logger = logging.getLogger("tidings.auth")

MAX_TOKEN_LENGTH = 16 * 1024

# PyJWT wants "sub" to be a string; some issuers write a number, which `identity_from` checks.
_OPTIONS: Options = {"verify_sub": False}

_REFUSALS: tuple[tuple[type[Exception], str, str], ...] = (
    (jwt.ExpiredSignatureError, "Token expired", "TOKEN_EXPIRED"),
    (jwt.ImmatureSignatureError, "Token not yet valid", "TOKEN_NOT_YET_VALID"),
    (jwt.InvalidAudienceError, "Token has the wrong audience", "TOKEN_AUDIENCE"),
    (jwt.InvalidIssuerError, "Token has the wrong issuer", "TOKEN_ISSUER"),
    (jwt.InvalidAlgorithmError, "Token algorithm not allowed", "TOKEN_ALGORITHM"),
)
_UNUSABLE = (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError)


class TokenVerifier:
    """Verifies tokens against one source of keys.

        verifier = TokenVerifier(secret=os.environ["JWT_SECRET"], audience="my-api")
        identity = await verifier.verify(token)

    Args:
        secret: shared secret for HMAC: 32 bytes or more for HS256, 48 for HS384, 64 for HS512.
        public_key: RSA (2048 bits or more), EC or Ed25519/Ed448 key as PEM, or a key object.
        jwks_url: http(s) address of a JWKS document; see `JwksClient`.
        algorithms: the only algorithms accepted; by default HS256 for a secret, else all
            asymmetric ones that fit the key.
        audience: accepted values of ``aud``. A token with ``aud`` is refused where this is unset.
        issuer: accepted values of ``iss``.
        leeway: seconds by which ``exp``, ``nbf`` and ``iat`` may be off.
        user_id_claim: claim with the user's id, a non-empty string or an integer.
        roles_claim: claim with the roles: a list of strings or one space-separated string.
        permissions_claim: the same for permissions. Dots lead into nested claims
            (``"realm_access.roles"``), unless the token has a claim of just that name.

    Raises:
        ConfigurationError: not exactly one of secret, public_key and jwks_url, or unsafe or
            contradicting settings; the message says which.
    """

    def __init__(
        self,
        *,
        secret: str | bytes | None = None,
        public_key: keys.PublicKey | None = None,
        jwks_url: str | None = None,
        algorithms: Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0,
        user_id_claim: str = "sub",
        roles_claim: str = "roles",
        permissions_claim: str = "permissions",
    ) -> None:
        _check_one_source(secret=secret, public_key=public_key, jwks_url=jwks_url)
        self._source: keys.VerificationKey | JwksClient
        if jwks_url is not None:
            self._source = JwksClient(jwks_url)
            allowed = keys.checked_algorithms(algorithms, keys.ASYMMETRIC, keys.ASYMMETRIC)
        elif secret is not None:
            self._source = keys.from_secret(secret, algorithms)
            allowed = self._source.algorithms
        else:
            self._source = keys.from_public_key(public_key, algorithms)
            allowed = self._source.algorithms
        self._algorithms = allowed
        self._audience = _accepted("audience", audience)
        self._issuer = _accepted("issuer", issuer)
        self._leeway = _checked_leeway(leeway)
        self._verified = VerifiedTokens(self._leeway)
        self._names = ClaimNames(user_id_claim, roles_claim, permissions_claim)

    def __repr__(self) -> str:
        source = repr(self._source) if isinstance(self._source, JwksClient) else "one key"
        return (
            f"<TokenVerifier {source}, algorithms={self._algorithms}, "
            f"audience={self._audience}, issuer={self._issuer}>"
        )

    @property
    def jwks(self) -> JwksClient | None:
        """Where the keys are fetched from, if they are."""
        return self._source if isinstance(self._source, JwksClient) else None

    @property
    def has_guessable_secret(self) -> bool:
        """Whether it verifies with a secret that looks as if somebody had thought it up."""
        source = self._source
        return not isinstance(source, JwksClient) and keys.is_guessable(source.key)

    @property
    def leeway(self) -> float:
        """Seconds for which a token is accepted beyond its ``exp``."""
        return self._leeway

    async def verify(self, token: object) -> Identity:
        """The identity that ``token`` proves.

        Raises:
            AuthenticationError: with the code AUTHENTICATION_REQUIRED (None or an empty string),
                TOKEN_EXPIRED, TOKEN_NOT_YET_VALID, TOKEN_AUDIENCE, TOKEN_ISSUER,
                TOKEN_ALGORITHM, or INVALID_TOKEN for everything else. The messages are fixed and
                hold nothing of the token.
            KeysUnavailable: the keys at ``jwks_url`` cannot be fetched.
        """
        if token is None or token == "":
            raise AuthenticationError("Authentication required", code="AUTHENTICATION_REQUIRED")
        try:
            text = _checked_text(token)
            return await self._remembered(text) or await self._proved(text)
        except _UNUSABLE as error:
            # The text may quote the token's header: repr keeps it on one line.
            logger.debug("token refused: %s %.200r", type(error).__name__, str(error))
            raise _refusal(error) from None

    async def _remembered(self, token: str) -> Identity | None:
        """What the token proved before, if its key is still one of ours."""
        found = self._verified.find(token)
        if found is None:
            return None
        source = self._source
        if isinstance(source, JwksClient) and found.key not in await source.find(found.key_id):
            return None
        return found.identity

    async def _proved(self, token: str) -> Identity:
        source, key_id = self._source, None
        if isinstance(source, JwksClient):
            key = await self._published_key(source, token)
            key_id = jwt.get_unverified_header(token).get("kid")
        else:
            key = source
        identity = identity_from(self._claims(token, key), self._names, token)
        self._verified.put(token, identity, key, key_id)
        return identity

    def _claims(self, token: str, key: keys.VerificationKey) -> dict[str, Any]:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[name for name in key.algorithms if name in self._algorithms],
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway,
            options=_OPTIONS,
        )
        # PyJWT lets an empty audience pass, although it names nobody.
        if self._audience is None and "aud" in claims:
            raise jwt.InvalidAudienceError("audience in token, none configured")
        return claims

    async def _published_key(self, published: JwksClient, token: str) -> keys.VerificationKey:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        # Before the keys are asked for: such a token must not cause a fetch.
        if algorithm not in self._algorithms:
            raise jwt.InvalidAlgorithmError("the algorithm is not configured")
        found = await published.find(header.get("kid"))
        if not found:
            raise jwt.InvalidTokenError("no published key goes with the token")
        for key in found:
            if algorithm in key.algorithms:
                return key
        raise jwt.InvalidAlgorithmError("the algorithm does not fit the published key")


def _check_one_source(**sources: object) -> None:
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(
            "tokens need exactly one of secret, public_key and jwks_url "
            f"(given: {', '.join(given) or 'none'})"
        )


def _accepted(name: str, values: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if values is None:
        return None
    accepted = (values,) if isinstance(values, str) else tuple(values)
    if not accepted or not all(isinstance(value, str) and value for value in accepted):
        raise ConfigurationError(
            f"{name} must be a non-empty string or a list of them, or be left out"
        )
    return accepted


def _checked_leeway(leeway: float) -> float:
    if not isinstance(leeway, int | float) or not 0 <= leeway < math.inf:
        raise ConfigurationError(f"leeway must be zero or more seconds, not {leeway!r}")
    return leeway


def _checked_text(token: object) -> str:
    if not isinstance(token, str):
        raise ValueError("not a string")
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError(f"longer than {MAX_TOKEN_LENGTH} characters")
    return token


def _refusal(error: Exception) -> AuthenticationError:
    if isinstance(error, jwt.MissingRequiredClaimError):
        wrong = jwt.InvalidAudienceError if error.claim == "aud" else jwt.InvalidIssuerError
        return _refusal(wrong())
    for kind, message, code in _REFUSALS:
        if isinstance(error, kind):
            return AuthenticationError(message, code=code)
    return AuthenticationError("Invalid authentication token", code="INVALID_TOKEN")
