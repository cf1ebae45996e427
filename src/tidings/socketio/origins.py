"""Origins: the pages whose browsers may open sockets."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tidings.errors import ConfigurationError

_log = logging.getLogger("tidings.socketio")
_METHODS: Final = ("GET", "POST")
"""Those that Socket.IO uses, all of them: to allow others would mean nothing."""

# As browsers write it (RFC 6454): no path, no user, letters in lower case, no default port.
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Origins:
    """Which origins may connect: any (``*``), or those named.

    A browser sends the origin of its page with the handshake of either transport; whatever is no
    browser need not, and is let in without one.

    Args:
        cors: ``origin`` is ``"*"`` (the default), one origin or a list of them (an empty one lets
            only pages of the server's own origin in); ``methods``, where given, holds GET and POST.

    Raises:
        ConfigurationError: an option is unknown, or an origin is not as browsers write it.
    """

    def __init__(self, cors: Mapping[str, Any] | None = None) -> None:
        cors = {} if cors is None else cors
        unknown = sorted(str(name) for name in set(cors) - {"origin", "methods"})
        if unknown:
            raise ConfigurationError(f"cors: unknown option {unknown[0]!r}; use origin, methods")
        _check_methods(cors.get("methods", _METHODS))
        named = _named(cors.get("origin", "*"))
        self.allows_any = named is None
        self._named = frozenset(named or ())
        self._has_hinted = False

    def allows(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request (an ASGI scope) may go on; where it may not, the log says why."""
        if self.allows_any:
            return True
        origin = _header(scope, b"origin")
        if origin is None or origin in self._named:
            return True
        is_own = origin in _own(scope)
        if is_own and not self._named:
            return True
        if is_own and not self._has_hinted:
            self._has_hinted = True
            _log.warning(
                "a page of this server's own origin was refused: cors names others alone; add "
                "it, if it is one of yours: %r",
                origin[:200],
            )
        _log.debug("refused: the origin %r is not named in cors", origin[:200])
        return False

    def headers(self, scope: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
        """What lets the browser hand an answer to a page of an origin that is allowed."""
        origin = _header(scope, b"origin")
        if origin is None or not (self.allows_any or origin in self._named):
            return []
        headers = [
            (b"access-control-allow-origin", b"*" if self.allows_any else origin.encode("latin-1"))
        ]
        if not self.allows_any:
            # No cookie means anything here; but a client that sends them reads no answer without.
            headers.append((b"access-control-allow-credentials", b"true"))
            headers.append((b"vary", b"Origin"))
        if scope.get("method") == "OPTIONS":
            headers.append((b"access-control-allow-methods", b"GET, POST"))
            asked = _header(scope, b"access-control-request-headers")
            if asked is not None:
                headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
        return headers


def _named(given: object) -> list[str] | None:
    """The origins that are named; None where any may come."""
    if given == "*":
        return None
    origins = [given] if isinstance(given, str) else given
    if not isinstance(origins, list | tuple):
        raise ConfigurationError("cors: origin is '*', one origin or a list of origins")
    for origin in origins:
        problem = _problem(origin)
        if problem is not None:
            raise ConfigurationError(
                f"cors: {origin!r} is not an origin as browsers send it: {problem}"
            )
    return list(origins)


def _problem(origin: object) -> str | None:
    if origin == "null":  # that of a page in a file, or in a frame without rights
        return None
    if not isinstance(origin, str):
        return "it is no string"
    if "*" in origin:
        return "there are no patterns; name each, or say '*' alone"
    if "://" not in origin:
        return f"it needs a scheme, as in 'https://{origin.strip('/') or 'example.org'}'"
    if origin.count("/") > 2:
        end = origin.index("/", origin.index("://") + 3)
        return f"it has no path, nor a slash at its end: {origin[:end]!r}"
    if origin != origin.lower():
        return f"it is in small letters: {origin.lower()!r}"
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return "it is scheme://host or scheme://host:port"
    port = found["port"]
    if port is not None and port == _DEFAULT_PORTS.get(found["scheme"]):
        return f"the port that goes without saying is left out: {origin.removesuffix(':' + port)!r}"
    return None


def _check_methods(methods: object) -> None:
    given = list(methods) if isinstance(methods, Sequence) else [methods]
    wrong = [one for one in given if one not in _METHODS]
    if isinstance(methods, str) or wrong or set(given) != set(_METHODS):
        raise ConfigurationError(
            f"cors: methods is ['GET', 'POST'], both of which Socket.IO needs and beside which it "
            f"uses none, not {methods!r}; leave it out"
        )


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    for key, value in scope.get("headers", ()):
        if key == name:
            return str(value.decode("latin-1"))
    return None


def _own(scope: Mapping[str, Any]) -> list[str]:
    """The origin of the server's own pages, as far as the request tells."""
    host = _header(scope, b"host")
    if host is None:
        return []
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    schemes = {scheme, _first(scope, b"x-forwarded-proto") or scheme}
    hosts = {host.lower(), _first(scope, b"x-forwarded-host") or host.lower()}
    return [f"{one}://{name}" for one in schemes for name in hosts]


def _first(scope: Mapping[str, Any], name: bytes) -> str:
    return (_header(scope, name) or "").split(",")[0].strip().lower()
