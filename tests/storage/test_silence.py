"""A database that does not answer: after a fail-over without a reset, or in a query without end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tests.storage.conftest import server_url
from tests.storage.recording import NOTES
from tests.storage.recording import make_api as make_recording_api
from tests.storage.silent_line import SilentLine

from tidings import (
    Api,
    ConfigurationError,
    MemoryFeedPlugin,
    OperationsPlugin,
    RestApiPlugin,
    SqlAlchemyPlugin,
)
from tidings.errors import DatabaseBusy, QueryTimeout
from tidings.feed import Invalidation
from tidings.storage import Statement
from tidings.storage.engines import own_engine

_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown does not depend on how long it takes."""
    for name in ("storage.core.CONNECT_SECONDS", "storage.core.WAIT_SECONDS"):
        monkeypatch.setattr(f"tidings.{name}", 1.0)
    monkeypatch.setattr("tidings.storage.core.GRACE_SECONDS", _SECONDS)


@pytest.fixture(params=["postgresql", "mariadb"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[SilentLine]:
    async with SilentLine.to(server_url(request, request.param)) as line:
        yield line


def make_api(plugin: SqlAlchemyPlugin) -> Api:
    api = Api()
    api.use(RestApiPlugin())
    api.use(plugin)
    api.use(MemoryFeedPlugin(outbox=True))
    api.use(OperationsPlugin(check_seconds=1.0))
    api.add_resource("notes", schema=NOTES)
    return api


@pytest.mark.parametrize("owned", [True, False])
async def test_a_database_that_falls_silent_and_comes_back(
    line: SilentLine, owned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")
    engine = None if owned else create_async_engine(line.url)
    plugin = SqlAlchemyPlugin(
        line.url if owned else None,
        engine=engine,
        create_tables=True,
        statement_timeout=_SECONDS,
    )
    api = make_api(plugin)
    transport = httpx.ASGITransport(api.asgi())
    async with api, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        notes = api.resources.notes
        await asyncio.gather(*(notes.post({"title": "a"}) for _ in range(4)))
        told = api._feed.position
        assert (await http.get("/health/ready")).status_code == 200

        line.fall_silent()
        works: list[Any] = [notes.query() for _ in range(6)]
        works += [notes.post({"title": "b"}), notes.patch(1, {"title": "c"})]
        for outcome in await asyncio.gather(*works, return_exceptions=True):
            assert isinstance(outcome, DatabaseBusy), repr(outcome)
        assert (await http.get("/api/notes")).status_code == 503
        assert (await http.get("/health/ready")).status_code == 503

        line.speak()
        while (await http.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.05)
        await notes.post({"title": "d"})
        while api._feed.position == told:  # the relay goes on by itself
            await asyncio.sleep(0.05)
        assert {note["title"] for note in await notes.query()} == {"a", "d"}
    if engine is not None:
        await engine.dispose()


async def test_a_commit_that_is_not_answered_is_told_to_be_looked_at(line: SilentLine) -> None:
    plugin = SqlAlchemyPlugin(line.url, create_tables=True, statement_timeout=_SECONDS)
    api, feed = make_recording_api(plugin)
    async with api:

        async def spoiled() -> None:
            async with api.transaction() as uow:
                await api.resources.notes.post({"title": "a"}, transaction=uow)
                line.fall_silent()

        with pytest.raises(DatabaseBusy):
            await spoiled()
        assert feed.published == [[Invalidation("notes")]]
        line.speak()


async def test_closing_and_starting_wait_for_nobody(line: SilentLine) -> None:
    plugin = SqlAlchemyPlugin(line.url, create_tables=True, statement_timeout=_SECONDS)
    api = make_api(plugin)
    await api.open()
    line.fall_silent()
    await api.close()
    again = make_api(SqlAlchemyPlugin(line.url, statement_timeout=_SECONDS))
    with pytest.raises(ConfigurationError, match="cannot connect"):
        await again.open()


async def test_the_applications_commit_is_bounded_too(line: SilentLine) -> None:
    engine = create_async_engine(line.url)
    api = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True, statement_timeout=_SECONDS))
    async with api:
        session = AsyncSession(engine)
        await api.resources.notes.post({"title": "a"}, transaction=session)
        line.fall_silent()
        with pytest.raises(DBAPIError):
            await session.commit()
        line.speak()
        await session.close()
        await api.resources.notes.post({"title": "b"})
    await engine.dispose()


# Statements that run for too long, on servers that answer


_SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT count(*) FROM n",
    "postgresql": "SELECT count(*) FROM generate_series(1, 100000000000) AS n",
    "mariadb": "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) "
    "SELECT benchmark(100000000000, md5('a')) FROM n",
}


@pytest.mark.parametrize("engine_of", ["url", "engine"])
async def test_a_statement_that_runs_for_too_long_is_stopped(
    database_url: str, engine_of: str
) -> None:
    kind = make_url(database_url).get_backend_name()
    engine = None
    if engine_of == "engine":
        engine = own_engine(database_url, statement_timeout=_SECONDS)
        if kind == "sqlite":
            await engine.dispose()
            engine = create_async_engine(database_url)
    plugin = SqlAlchemyPlugin(
        database_url if engine is None else None,
        engine=engine,
        create_tables=True,
        statement_timeout=_SECONDS,
    )
    api = make_api(plugin)
    async with api:
        database: Any = api._database
        slow = Statement(text(_SLOW[kind]))
        async with database.reading(snapshot=False) as connection:
            with pytest.raises(QueryTimeout) as caught:
                await connection.fetch(slow, {})
        assert caught.value.code == "QUERY_TIMEOUT"

        async def within() -> None:
            async with api.transaction() as uow:
                await api.resources.notes.post({"title": "a"}, transaction=uow)
                await uow.connection.fetch(slow, {})

        with pytest.raises(QueryTimeout):
            await within()
        assert len(await api.resources.notes.query()) == 0
        await api.resources.notes.post({"title": "b"})
    if engine is not None:
        await engine.dispose()
