"""Databases on disk, reached by tidings and by the application itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from tests.storage.recording import RecordingFeed, make_api

from tidings import Api, SqlAlchemyPlugin


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/notes.db"


def server_url(request: pytest.FixtureRequest, kind: str) -> str:
    """An empty database of the test's own, on the server ``postgresql`` or ``mariadb``."""
    name = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[kind]
    url: str = request.getfixturevalue(name)
    return url


def begin_by_event(engine: AsyncEngine) -> AsyncEngine:
    """SQLAlchemy's recipe for savepoints that work on SQLite."""

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


@dataclass
class Application:
    """An application with an engine of its own, and an api on the same database."""

    api: Api
    engine: AsyncEngine
    feed: RecordingFeed
    begins_by_event: bool

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def session(self, **options: Any) -> AsyncSession:
        return AsyncSession(self.engine, **options)

    @property
    def notes(self) -> Any:
        return self.api.resources.notes

    async def titles(self) -> list[str]:
        """The titles in the database, as anybody else sees them."""
        async with self.engine.connect() as connection:
            return list(await connection.scalars(text("SELECT title FROM notes ORDER BY id")))

    async def titles_sent(self) -> list[str]:
        """What must have been published where everything in the database came from a post."""
        return [f"post {title}" for title in await self.titles()]


SQLITE = ["engine", "engine, BEGIN by event", "url", "url, BEGIN by event"]


@asynccontextmanager
async def application(kind: str, url: str) -> AsyncIterator[Application]:
    """Where the api has the application's engine, or a URL and so connections of its own."""
    is_sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": 1}} if is_sqlite else {}
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, **options)
    by_event = kind.endswith("event")
    if by_event:
        begin_by_event(engine)
    plugin = SqlAlchemyPlugin(
        url if kind.startswith("url") else None,
        engine=(None if kind.startswith("url") else engine),
        create_tables=True,
    )
    api, feed = make_api(plugin)
    async with api:
        if is_sqlite:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("COMMIT") if by_event else None
                await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        # Of these two, and of SQLite with its recipe, a savepoint is never the transaction.
        yield Application(api, engine, feed, by_event or not is_sqlite)
    await engine.dispose()


@pytest.fixture(params=SQLITE)
async def sqlite_app(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Application]:
    """On SQLite."""
    async with application(request.param, url) as app:
        yield app


@pytest.fixture(params=[*SQLITE, "postgresql", "mariadb"])
async def app(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Application]:
    """On SQLite, PostgreSQL and MariaDB."""
    if request.param not in SQLITE:
        url = server_url(request, request.param)
    async with application(request.param, url) as app:
        yield app
