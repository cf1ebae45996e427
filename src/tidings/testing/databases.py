"""The database that an api under test runs on."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from tidings import Api, ConfigurationError, MemoryFeedPlugin, Plugin, SqlAlchemyPlugin


def use_database(api: Api, database: str | AsyncEngine | Plugin) -> None:
    """Have an api run on another database than it declares, and on a feed of its own.

    Raises:
        ConfigurationError: the api was used before, on another one.
    """
    if isinstance(database, str):
        plugin: Plugin = SqlAlchemyPlugin(database, create_tables=True)
    elif isinstance(database, AsyncEngine):
        plugin = SqlAlchemyPlugin(engine=database, create_tables=True)
    else:
        plugin = database
    try:
        api.override(plugin, MemoryFeedPlugin())
    except ConfigurationError as error:
        # An earlier test has moved it; what is in memory was lost when that one ended.
        if database == "sqlite+aiosqlite://" and api.internals.parts.database.in_memory:
            return
        raise ConfigurationError(
            "serve(): the api is in use already, on the database that it declares. Serve it before "
            "it is first used, or give database=None"
        ) from error
