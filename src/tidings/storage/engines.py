"""Engines of tidings' own: what its statements need of a connection, on each database."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tidings.numbers import decode_stored
from tidings.storage.bounds import STATEMENT_SECONDS, WAIT_SECONDS

# Strict, since cut texts and clipped numbers would be other values than those that were sent. And
# id 0, where trusted code gives it, is an id and not the wish for the next one.
_SQL_MODE: Final = (
    "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
)


def own_engine(url: str, *, statement_timeout: float = STATEMENT_SECONDS) -> AsyncEngine:
    """An engine for a URL of PostgreSQL (asyncpg), MariaDB or MySQL (asyncmy).

    ``statement_timeout`` (seconds) is how long the server lets a statement run. Errors do not show
    the parameters of their statements: those are values, and errors are logged.
    """
    options: dict[str, Any] = {"pool_timeout": WAIT_SECONDS, "hide_parameters": True}
    if make_url(url).get_backend_name() == "postgresql":
        options["connect_args"] = {
            "timeout": WAIT_SECONDS,
            "server_settings": {
                "lock_timeout": f"{WAIT_SECONDS}s",
                "statement_timeout": str(_milliseconds(statement_timeout)),
                # Compiling a filter of many terms takes it far longer than to run it.
                "jit": "off",
            },
        }
    else:
        settings = f"sql_mode = '{_SQL_MODE}', innodb_lock_wait_timeout = {WAIT_SECONDS}"
        # Each server takes the comment that is for it. MySQL's setting is for SELECT alone.
        settings += f" /*M!100100 , max_statement_time = {statement_timeout} */"
        settings += f" /*!50708 , max_execution_time = {_milliseconds(statement_timeout)} */"
        options["connect_args"] = {
            "init_command": f"SET SESSION {settings}",
            "connect_timeout": WAIT_SECONDS,
        }
        options["isolation_level"] = "READ COMMITTED"
    engine = create_async_engine(url, json_deserializer=decode_stored, **options)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))


def _refuse_closed(connection: Any, record: object, proxy: object) -> None:
    """Have the pool connect anew where the server has ended a connection while it lay idle.

    The event loop has seen it, so that this costs no question to the server, unlike
    ``pool_pre_ping``. What happens between here and the statement is an error like others.
    """
    driver = connection.driver_connection
    is_closed = getattr(driver, "is_closed", None)  # asyncpg
    protocol = getattr(driver, "_proto", None)  # asyncmy, which has no question for it
    if is_closed() if is_closed is not None else getattr(protocol, "eof", False):
        raise exc.InvalidatePoolError
