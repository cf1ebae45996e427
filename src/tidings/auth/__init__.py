"""Who is asking, and what they may do: token verification and declarative permission rules."""

from tidings.auth.checkers import METHODS, CheckContext, Checker, CheckerRegistry
from tidings.auth.jwks import JwksClient
from tidings.auth.revocation import (
    FOREVER,
    MemoryRevocations,
    Notify,
    Revocation,
    RevocationStore,
)
from tidings.auth.rules import Rules
from tidings.auth.tokens import TokenVerifier

__all__ = [
    "FOREVER",
    "METHODS",
    "CheckContext",
    "Checker",
    "CheckerRegistry",
    "JwksClient",
    "MemoryRevocations",
    "Notify",
    "Revocation",
    "RevocationStore",
    "Rules",
    "TokenVerifier",
]
