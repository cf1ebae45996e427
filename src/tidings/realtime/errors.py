"""The one place where errors become socket payloads: ``{code, message, resource?, details?}``."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from tidings.errors import AuthenticationError, RequestError

_log = logging.getLogger("tidings.realtime")


def error_payload(error: Exception) -> dict[str, Any]:
    """The payload; what nobody foresaw is logged under an id, of which alone it tells."""
    if not isinstance(error, RequestError):
        number = secrets.token_hex(6)
        _log.error("internal error %s", number, exc_info=error)
        message = f"Something went wrong on the server; it is logged as {number}"
        return {"code": "INTERNAL_ERROR", "message": message}
    code = "PERMISSION_DENIED" if isinstance(error, AuthenticationError) else error.code
    payload: dict[str, Any] = {"code": code, "message": error.message}
    if error.resource is not None:
        payload["resource"] = error.resource
    if error.details is not None:
        payload["details"] = dict(error.details)
    return payload
