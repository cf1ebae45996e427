"""RedisOptions: what ``redis=`` may say, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tidings.errors import ConfigurationError

_SCHEMES: Final = ("redis", "rediss", "unix")
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_EXAMPLE: Final = "it looks like redis://:password@localhost:6379/0"


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is, and what is kept there. ``ssl_*`` are the paths of PEM files.

    ``path`` is that of a Unix socket, in place of ``host`` and ``port``. ``name`` tells the logs
    of several applications on one Redis apart. ``max_length`` is about how many entries are kept,
    ``max_age`` for about how many seconds.
    """

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    ssl: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_check_hostname: bool = True
    name: str = "feed"
    max_length: int = 100_000
    max_age: float = 86_400.0

    @classmethod
    def read(cls, given: Mapping[str, Any] | str, default_name: str = "feed") -> RedisOptions:
        """From a mapping of these names, or a URL, or a mapping that has a ``url`` too.

        ``default_name`` is what the log is called where nothing else is said.

        Raises:
            ConfigurationError: a name is unknown, or a value is of no use. No message shows a
                URL or a password.
        """
        if isinstance(given, str):
            given = {"url": given}
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"redis is a mapping or a URL, not {type(given).__name__}")
        values = {name: value for name, value in given.items() if value is not None}
        if "url" in values:
            values = _of_url(values.pop("url")) | values
        for name, value in values.items():
            if name not in _CHECKS:
                known = ", ".join(["url", *_CHECKS])
                raise ConfigurationError(f"redis: {name!r} is not known; known are {known}")
            values[name] = _CHECKS[name](name, value)
        return cls(**{"name": default_name, **values})._consistent()

    @property
    def where(self) -> str:
        """The server as a URL without secrets."""
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.ssl else ''}://{host}:{self.port}/{self.db}"

    def _consistent(self) -> RedisOptions:
        names = [one.name for one in fields(self) if one.name.startswith("ssl_")]
        extra = [name for name in names if getattr(self, name) not in (None, True)]
        if extra and not self.ssl:
            raise ConfigurationError(f"redis: {extra[0]} needs ssl=True, or a rediss:// URL")
        if self.ssl and self.path is not None:
            raise ConfigurationError("redis: a Unix socket has no ssl")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ConfigurationError("redis: ssl_keyfile needs ssl_certfile")
        if self.username and not self.password:
            raise ConfigurationError("redis: username needs password")
        return self


def _of_url(url: object) -> dict[str, Any]:
    if not isinstance(url, str):
        raise ConfigurationError(f"redis: url is text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"redis: the URL cannot be read; {_EXAMPLE}") from None
    if parts.scheme not in _SCHEMES or not url.lower().startswith(f"{parts.scheme}://"):
        raise ConfigurationError(
            f"redis: the URL must begin with redis://, rediss:// or unix://; {_EXAMPLE}"
        )
    values: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    # Not shown: these may be parts of a password whose # and ? should have been encoded.
    if parts.fragment or not values.keys() <= _CHECKS.keys():
        raise ConfigurationError(
            f"redis: the URL has an option that is not known; known are {', '.join(_CHECKS)} "
            "(in a password, write # and ? as %23 and %3F)"
        )
    for name in ("db", "max_length", "max_age", "ssl", "ssl_check_hostname"):
        if name in values:
            values[name] = _of_text(name, values[name])
    values |= {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    values |= _unix(parts) if parts.scheme == "unix" else _tcp(parts, port)
    return {name: value for name, value in values.items() if value not in ("", None)}


def _unix(parts: SplitResult) -> dict[str, Any]:
    if not parts.path:
        raise ConfigurationError("redis: a unix:// URL names the socket: unix:///run/redis.sock")
    return {"path": unquote(parts.path)}


def _tcp(parts: SplitResult, port: int | None) -> dict[str, Any]:
    database = parts.path.strip("/")
    values: dict[str, Any] = {"host": unquote(parts.hostname or ""), "port": port}
    if database:
        values["db"] = _of_text("db", database)
    return values | ({"ssl": True} if parts.scheme == "rediss" else {})


def _of_text(name: str, text: str) -> object:
    """A value of a URL, whose values are texts."""
    if name in ("ssl", "ssl_check_hostname"):
        if text.lower() in _FLAGS:
            return _FLAGS[text.lower()]
        raise ConfigurationError(f"redis: {name} in the URL must be true or false")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigurationError(f"redis: {name} in the URL must be a whole number")
    return int(text)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        shown = "" if name == "password" else f", not {value!r}"
        raise ConfigurationError(f"redis: {name} must be a text that is not empty{shown}")
    return value


def _optional(name: str, value: object) -> str | None:
    return None if value == "" else _text(name, value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"redis: {name} must be True or False, not {value!r}")
    return value


def _file(name: str, value: object) -> str:
    path = _text(name, str(value) if isinstance(value, Path) else value)
    if not Path(path).is_file():
        raise ConfigurationError(f"redis: {name}: there is no file {path!r}")
    return path


def _within(least: int, most: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigurationError(
                f"redis: {name} must be a whole number from {least} to {most}, not {value!r}"
            )
        return value

    return check


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < inf:
        raise ConfigurationError(f"redis: {name} must be at least 1 second, not {value!r}")
    return float(value)


def _name(name: str, value: object) -> str:
    text = _text(name, value)
    if len(text) > 100 or "{" in text or "}" in text:
        raise ConfigurationError(
            f"redis: {name} must have at most 100 characters, without braces, not {value!r}"
        )
    return text


_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "host": _text,
    "port": _within(1, 65_535),
    "password": _optional,
    "db": _within(0, 1_000_000),
    "username": _optional,
    "path": _text,
    "ssl": _flag,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_check_hostname": _flag,
    "name": _name,
    "max_length": _within(1, 2**53),
    "max_age": _seconds,
}
