"""The database that an api under test runs on."""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from tidings import Api, ConfigurationError, MemoryFeedPlugin, Plugin, SqlAlchemyPlugin

MEMORY: Final = "memory"
"""Names SQLite in memory, empty each time."""
_MEMORY_URL: Final = "sqlite+aiosqlite://"


def use_database(api: Api, database: str | AsyncEngine | Plugin) -> None:
    """Have an api run on another database than it declares, and on a feed of its own.

    Raises:
        ConfigurationError: the api was used before, on another one; or it has models, whose tables
            nobody would create in memory.
    """
    try:
        api.override(_plugin(database), MemoryFeedPlugin())
    except ConfigurationError as error:
        # An earlier test has moved it; what was in memory is gone since that one ended.
        if database != MEMORY or not api.internals.parts.database.in_memory:
            raise ConfigurationError(
                "running(): the api is in use already, on another database. Move it before it is "
                "first used, or give database=None"
            ) from error
    if database == MEMORY:
        _check_tables(api)


def _plugin(database: str | AsyncEngine | Plugin) -> Plugin:
    if isinstance(database, AsyncEngine):
        return SqlAlchemyPlugin(engine=database, create_tables=True)
    if isinstance(database, str):
        url = _MEMORY_URL if database == MEMORY else database
        return SqlAlchemyPlugin(url, create_tables=True)
    return database


def _check_tables(api: Api) -> None:
    for resource, table in api.internals.parts.tables.items():
        if table.info.get("is_existing"):
            raise ConfigurationError(
                f"resource {resource!r} is a model of your application, whose tables are not "
                "tidings' to create: create them with an engine, and give that one as database="
            )
