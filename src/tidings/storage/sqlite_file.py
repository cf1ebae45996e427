"""SqliteFile: which database an SQLAlchemy URL of SQLite means, with the options it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from sqlalchemy import make_url

from tidings.errors import ConfigurationError

_OF_THE_FILE: Final = ("mode", "cache", "vfs", "nolock", "immutable", "psow", "modeof")
_TRUE: Final = ("true", "1", "yes", "on", "t", "y")
_FALSE: Final = ("false", "0", "no", "off", "f", "n")


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """What is opened: ``name`` is a path, or a URI where ``is_uri``."""

    name: str
    is_uri: bool
    in_memory: bool
    is_read_only: bool
    timeout: float | None
    """Seconds to wait for a lock, where the URL says so."""

    @classmethod
    def of_url(cls, url: str) -> SqliteFile:
        """Read a URL such as ``sqlite+aiosqlite:///app.db?mode=ro&uri=true``.

        Raises:
            ConfigurationError: an option is not known, or cannot be followed.
        """
        parts = make_url(url)
        options = {name: _single(name, value) for name, value in parts.query.items()}
        is_uri = _flag("uri", options.pop("uri", "false"))
        timeout = _seconds(options.pop("timeout", None))
        options.pop("check_same_thread", None)  # each connection has a thread of its own
        name = parts.database or ":memory:"
        if unknown := sorted(options.keys() - set(_OF_THE_FILE)):
            raise ConfigurationError(
                f"the database URL has the option {unknown[0]!r}, which is not one of "
                f"{', '.join(('uri', 'timeout', *_OF_THE_FILE))}; for others pass an engine="
            )
        if options and not is_uri:
            raise ConfigurationError(
                f"the database URL has the option {sorted(options)[0]!r}, which SQLite reads only "
                "in a URI: add uri=true"
            )
        if is_uri:
            name, options = _as_uri(name, options)
        return cls(
            name,
            is_uri,
            _is_in_memory(name, options),
            options.get("mode") == "ro" or options.get("immutable") in _TRUE,
            timeout,
        )


def _as_uri(name: str, options: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The URI, and all options of it: some stand in the URL's path, others behind it."""
    path, _, query = name.partition("?")
    within = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    merged = {**within, **options}
    if not path.startswith("file:"):
        path = f"file:{quote(path)}"
    return (f"{path}?{urlencode(merged)}" if merged else path), merged


def _is_in_memory(name: str, options: Mapping[str, str]) -> bool:
    path = name.partition("?")[0]
    return path in (":memory:", "file::memory:", "file:") or options.get("mode") == "memory"


def _single(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ConfigurationError(f"the database URL has the option {name!r} more than once")


def _flag(name: str, value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise ConfigurationError(f"the database URL's {name} is true or false, not {value!r}")
    return value.lower() in _TRUE


def _seconds(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 3600:
        raise ConfigurationError(f"the database URL's timeout is in seconds, not {value!r}")
    return seconds
