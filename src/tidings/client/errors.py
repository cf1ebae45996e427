"""ClientError: what the server has refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tidings import TidingsError

PASSING: Final = frozenset(
    {
        "DATABASE_BUSY",
        "IDENTITY_UNAVAILABLE",
        "INTERNAL_ERROR",
        "KEYS_UNAVAILABLE",
        "NOT_OPEN",
        "QUERY_TIMEOUT",
        "RATE_LIMITED",
        "SERVER_BUSY",
        "UNAVAILABLE",
    }
)
"""Codes of what will do a little later."""
UNAUTHORIZED: Final = frozenset(
    {
        "AUTHENTICATION_REQUIRED",
        "INVALID_TOKEN",
        "TOKEN_ALGORITHM",
        "TOKEN_AUDIENCE",
        "TOKEN_EXPIRED",
        "TOKEN_ISSUER",
        "TOKEN_NOT_YET_VALID",
        "TOKEN_REVOKED",
        "USER_UNKNOWN",
    }
)
"""Codes of a token that is refused, where another one may not be."""


class ClientError(TidingsError):
    """The server refuses something; ``code`` is the error's, ``status`` that of HTTP, if any."""

    def __init__(self, message: str, code: str = "", status: int | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.status = status

    @property
    def passes(self) -> bool:
        """Whether the same may be accepted a little later."""
        if self.code in PASSING:
            return True
        return self.status is not None and (self.status >= 500 or self.status == 429)


def of_payload(payload: Mapping[str, Any]) -> ClientError:
    """The exception for an error as the socket carries it."""
    details = payload.get("details")
    what = f" ({', '.join(details)})" if isinstance(details, dict) and details else ""
    return ClientError(f"{payload.get('message', 'refused')}{what}", payload.get("code", ""))


def of_document(document: Any, status: int) -> ClientError:
    """The exception for an error document of JSON:API, by its first error."""
    errors = document.get("errors") if isinstance(document, dict) else None
    first = errors[0] if errors else {}
    return ClientError(first.get("detail", f"answered {status}"), first.get("code", ""), status)
