"""The one place where errors become socket payloads: ``{code, message, resource?, details?}``."""

from __future__ import annotations

import logging
from typing import Any

from tidings.errors import AuthenticationError, RequestError, log_unforeseen

_log = logging.getLogger("tidings.realtime")


def refusal_payload(error: AuthenticationError) -> dict[str, Any]:
    """The payload for a token that is not accepted: its code says why."""
    return {"code": error.code, "message": error.message}


def error_payload(error: Exception) -> dict[str, Any]:
    """The payload; what nobody foresaw is logged under an id, of which alone it tells."""
    if not isinstance(error, RequestError):
        _, message = log_unforeseen(_log, error)
        return {"code": "INTERNAL_ERROR", "message": message}
    code = "PERMISSION_DENIED" if isinstance(error, AuthenticationError) else error.code
    payload: dict[str, Any] = {"code": code, "message": error.message}
    if error.resource is not None:
        payload["resource"] = error.resource
    if error.details is not None:
        payload["details"] = dict(error.details)
    return payload
