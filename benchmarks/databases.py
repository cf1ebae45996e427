"""Private database servers, as the tests start them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def private(kind: str) -> Iterator[str]:
    """The URL of an empty database in a server of its own: ``postgresql`` or ``mariadb``.

    Raises:
        Exception: whatever keeps it from starting; the message says what.
    """
    databases = import_module("tests.support.databases")
    with getattr(databases, kind)() as server, server.database() as url:
        yield url
