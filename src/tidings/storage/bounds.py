"""Bounds: how long a database may take, and what is done with a connection that takes longer."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_log = logging.getLogger("tidings.storage")

WAIT_SECONDS: Final = 5
"""How long to wait for a lock, or for a free connection."""
CONNECT_SECONDS: Final = 2 * WAIT_SECONDS
"""How long to wait for a connection, also where one has to be made when its turn has come."""
CREATE_SECONDS: Final = 60
"""How long the tables may take to be created."""
STATEMENT_SECONDS: Final = 10.0
"""How long a statement may run, unless the application says otherwise."""
GRACE_SECONDS: Final = 5.0
"""So much longer is waited for a server that should have given up the statement by itself."""


@contextmanager
def bounded(driver: Any, seconds: float) -> Iterator[None]:
    """Cut a driver's connection if what it is asked for within takes longer than ``seconds``.

    A server that fails over without a reset leaves connections on which nothing ever comes. To
    cancel the driver would not do: drivers answer that by asking the server. A connection that is
    cut fails at once, and whoever waits for it sees an error like that of any lost connection.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _give_up, driver, seconds)
    try:
        yield
    finally:
        timer.cancel()


def _give_up(driver: Any, seconds: float) -> None:
    if is_sqlite(driver):
        _log.warning("a statement has run for %g s: it is interrupted", seconds)
    else:
        _log.warning("the database has not answered for %g s: the connection is dropped", seconds)
    cut(driver)


def is_sqlite(driver: Any) -> bool:
    """Whether it is a connection to SQLite: there is no server that could be lost."""
    return hasattr(driver, "interrupt")


def cut(driver: Any) -> None:
    """End what a driver's connection does, without a word to the server and without waiting."""
    if is_sqlite(driver):
        _call(driver.interrupt)
        return
    terminate = getattr(driver, "terminate", None)  # asyncpg
    # asyncmy has no name for it, and its close() waits until all has been sent.
    transport = getattr(driver, "_transport", None)
    if terminate is not None:
        terminate()
    elif transport is not None:
        transport.abort()
    else:
        _call(driver.close)


def _call(method: Any) -> None:
    """Call a method that is a coroutine with some drivers, and with others is not."""
    result = method()
    if inspect.isawaitable(result):
        asyncio.ensure_future(result).add_done_callback(_is_done)


def _is_done(task: asyncio.Future[Any]) -> bool:
    """Whether it went well. Asked for, since a failure that nobody sees would be reported."""
    return not task.cancelled() and task.exception() is None
