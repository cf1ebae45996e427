"""RedisOptions: what ``redis=`` may say, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tidings.errors import ConfigurationError

_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26_379
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_EXAMPLE: Final = "it looks like redis://:password@localhost:6379/0"


Address = tuple[str, int]
"""A host and a port."""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is, and what is kept there. ``ssl_*`` are the paths of PEM files.

    In place of ``host`` and ``port``: ``path`` is that of a Unix socket; ``nodes`` are addresses
    of which one leads to the master, those of a cluster or of a master and its replicas;
    ``sentinels`` know where the master called ``service`` is.

    ``name`` tells the logs of several applications on one Redis apart. ``max_length`` is about how
    many entries are kept, ``max_age`` for about how many seconds.
    """

    host: str = "localhost"
    port: int = _PORT
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    nodes: tuple[Address, ...] = ()
    sentinels: tuple[Address, ...] = ()
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
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
        places = [name for name in ("path", "nodes", "sentinels") if values.get(name)]
        places += ["host"] if values.keys() & {"host", "port"} else []
        if len(places) > 1:
            raise ConfigurationError(f"redis: give {places[0]} or {places[1]}, not both")
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
        scheme = "rediss" if self.ssl else "redis"
        if self.sentinels:
            return f"{scheme}+sentinel://{_shown(self.sentinels)}/{self.service}/{self.db}"
        return f"{scheme}://{_shown(self.addresses)}/{self.db}"

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where to look for the server, in this order, unless sentinels know it."""
        return self.nodes or ((self.host, self.port),)

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
        if self.sentinel_username and not self.sentinel_password:
            raise ConfigurationError("redis: sentinel_username needs sentinel_password")
        if self.sentinels and not self.service:
            raise ConfigurationError(
                "redis: sentinels need service, the name by which they know the master: "
                "redis+sentinel://sentinel-1:26379,sentinel-2:26379/mymaster/0"
            )
        if (self.service or self.sentinel_password) and not self.sentinels:
            raise ConfigurationError("redis: service and sentinel_password need sentinels")
        return self


def _of_url(url: object) -> dict[str, Any]:
    if not isinstance(url, str):
        raise ConfigurationError(f"redis: url is text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        place = _place(parts)
    except ValueError:
        raise ConfigurationError(f"redis: the URL cannot be read; {_EXAMPLE}") from None
    if parts.scheme not in _SCHEMES or not url.lower().startswith(f"{parts.scheme}://"):
        raise ConfigurationError(
            f"redis: the URL must begin with redis://, rediss://, redis+sentinel:// or unix://; "
            f"{_EXAMPLE}"
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
    values |= place
    if "unix" not in parts.scheme:
        values |= _of_path(parts)
    elif not place["path"]:
        raise ConfigurationError("redis: a unix:// URL names the socket: unix:///run/redis.sock")
    return {name: value for name, value in values.items() if value not in ("", None, ())}


def _place(parts: SplitResult) -> dict[str, Any]:
    """Where the server is, by the part of a URL before the path.

    Raises:
        ValueError: that part cannot be read.
    """
    if parts.scheme == "unix":
        return {"path": unquote(parts.path)}
    several = parts.netloc.rpartition("@")[2].split(",")
    has_sentinels = parts.scheme.endswith("+sentinel")
    if not has_sentinels and len(several) == 1:
        return {"host": unquote(parts.hostname or ""), "port": parts.port}
    for address in several:
        _address(address, _PORT)  # so that what cannot be read is not shown: it may be a password
    return {"sentinels" if has_sentinels else "nodes": several}


def _of_path(parts: SplitResult) -> dict[str, Any]:
    """What the path of a URL says: the database, after the service where there are sentinels."""
    values: dict[str, Any] = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    database = parts.path.strip("/")
    if parts.scheme.endswith("+sentinel"):
        service, _, database = database.partition("/")
        values["service"] = unquote(service)
    return values | ({"db": _of_text("db", database)} if database else {})


def _address(text: str, port: int) -> Address:
    """A host and a port, as ``host:port`` says them; ``port`` where it says none.

    Raises:
        ValueError: it says no host, or a port that is none.
    """
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.netloc != text or "@" in text or parts.port == 0:
        raise ValueError(text)
    return unquote(parts.hostname), parts.port or port


def _shown(addresses: Sequence[Address]) -> str:
    return ",".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses
    )


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
        shown = "" if name.endswith("password") else f", not {value!r}"
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


def _several(port: int) -> Callable[[str, object], tuple[Address, ...]]:
    def check(name: str, value: object) -> tuple[Address, ...]:
        wanted = f'redis: {name} must be addresses, ["host-1:{port}", "host-2:{port}"]'
        if isinstance(value, str) or not isinstance(value, Sequence) or not 0 < len(value) <= 100:
            raise ConfigurationError(wanted)
        try:
            return tuple(_address(_text(name, one), port) for one in value)
        except ValueError:
            raise ConfigurationError(wanted) from None

    return check


_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "host": _text,
    "port": _within(1, 65_535),
    "password": _optional,
    "db": _within(0, 1_000_000),
    "username": _optional,
    "path": _text,
    "nodes": _several(_PORT),
    "sentinels": _several(_SENTINEL_PORT),
    "service": _text,
    "sentinel_username": _optional,
    "sentinel_password": _optional,
    "ssl": _flag,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_check_hostname": _flag,
    "name": _name,
    "max_length": _within(1, 2**53),
    "max_age": _seconds,
}
