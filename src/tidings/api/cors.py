"""CORS: which origins' pages may read answers, said once for HTTP and for sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SENT: Final = ("Accept", "Authorization", "Content-Type", "If-Match", "If-None-Match")
_READ: Final = ("ETag", "Location", "Retry-After", "Tidings-Cursor", "WWW-Authenticate")


@dataclass(frozen=True, slots=True)
class CorsOptions:
    """The origins (``"*"``: any), what further headers may be sent and read, and for how many
    seconds a browser may keep the answer to a preflight request.
    """

    origins: tuple[str, ...]
    send: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 600

    def around(self, app: ASGIApp) -> ASGIApp:
        """The app, whose answers pages of these origins may read."""
        return CORSMiddleware(
            app,
            allow_origins=self.origins,
            allow_methods=METHODS,
            allow_headers=(*_SENT, *self.send),
            expose_headers=(*_READ, *self.expose),
            allow_credentials=self.credentials,
            max_age=self.max_age,
        )

    @property
    def of_sockets(self) -> Mapping[str, Any]:
        """The same, as sockets take it."""
        return {"origin": "*" if "*" in self.origins else list(self.origins)}
