"""States of a database that are nobody's fault: 503 and try again, or tried again at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tests.storage.conftest import server_url
from tests.storage.recording import make_api

from tidings import SqlAlchemyPlugin
from tidings.errors import DatabaseBusy, QueryTimeout
from tidings.storage.errors import DatabaseFailure, translate
from tidings.values import without_values

_SECRET = "what nobody may see"


class DriverError(Exception):
    """An error as drivers raise it: with a state, or with a number."""

    def __init__(self, *arguments: Any, sqlstate: str | None = None) -> None:
        super().__init__(*arguments)
        self.sqlstate = sqlstate


_STATES = """
    08000 08001 08003 08004 08006 08P01 25006 25P03 25P04 40000 40001 40002 40003 40P01 53000
    53100 53200 53300 53400 55006 55P03 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 72000
"""
_NUMBERS = """
    1020 1021 1037 1038 1040 1041 1053 1114 1129 1158 1159 1160 1161 1180 1184 1203 1205 1206
    1213 1226 1290 1317 1412 1615 1792 1836 1927 2002 2003 2006 2013 2014 2055 3101 3572 4031
"""
_TIMEOUTS = [
    DriverError("secret", sqlstate="57014"),
    DriverError(1028, "secret"),
    DriverError(1969, "secret"),
    DriverError(3024, "secret"),
]


@pytest.mark.parametrize("state", _STATES.split())
def test_states_of_postgresql_that_pass(state: str) -> None:
    told = translate(exc.DBAPIError("SELECT", {}, DriverError(_SECRET, sqlstate=state)))
    assert type(told) is DatabaseBusy
    assert _SECRET not in str(told)


@pytest.mark.parametrize("number", _NUMBERS.split())
def test_states_of_mariadb_that_pass(number: str) -> None:
    told = translate(exc.DBAPIError("SELECT", {}, DriverError(int(number), _SECRET)))
    assert type(told) is DatabaseBusy
    assert _SECRET not in str(told)


@pytest.mark.parametrize("error", _TIMEOUTS, ids=str)
def test_statements_that_were_stopped(error: DriverError) -> None:
    assert isinstance(translate(exc.DBAPIError("SELECT", {}, error)), QueryTimeout)


@pytest.mark.parametrize("state", ["42P01", "42703", "42501", "XX000", "P0001", "0A000", "21000"])
def test_what_is_somebodys_fault_is_no_state(state: str) -> None:
    told = translate(exc.DBAPIError("SELECT", {}, DriverError("x", sqlstate=state)))
    assert isinstance(told, DatabaseFailure)


# Provoked on the real ones


async def test_a_migration_while_statements_are_cached(postgres_url: str) -> None:
    api, feed = make_api(SqlAlchemyPlugin(postgres_url, create_tables=True))
    engine = create_async_engine(postgres_url)
    async with api:
        notes = api.resources.notes
        await notes.post({"title": "a"})
        await asyncio.gather(*(notes.query() for _ in range(5)))
        # Another type of the result: PostgreSQL refuses what it has planned for the old one.
        await _run(engine, "ALTER TABLE notes ALTER COLUMN body TYPE varchar(900)")
        for _ in range(8):
            assert [note["title"] for note in await notes.query()] == ["a"]
        await _run(engine, "ALTER TABLE notes ALTER COLUMN body TYPE text")
        outcomes = [await _settled(notes.patch(1, {"title": "b"})) for _ in range(20)]
        assert all(one is None or isinstance(one, DatabaseBusy) for one in outcomes), outcomes
        assert outcomes[-1] is None
        assert feed.words[1:] == ["patch b"] * outcomes.count(None)
    await engine.dispose()


async def test_an_administrator_ends_all_connections(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("there is no server")
    api, _ = make_api(SqlAlchemyPlugin(database_url, create_tables=True))
    engine = create_async_engine(database_url)
    async with api:
        notes = api.resources.notes

        async def spoiled() -> None:
            async with api.transaction() as uow:
                await notes.post({"title": "a"}, transaction=uow)
                await _end_others(engine)
                await notes.post({"title": "b"}, transaction=uow)

        with pytest.raises(DatabaseBusy):
            await spoiled()
        await notes.post({"title": "c"})
        assert [note["title"] for note in await notes.query()] == ["c"]
    await engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
async def test_a_database_that_can_only_be_read(
    request: pytest.FixtureRequest, url: str, kind: str
) -> None:
    url = url if kind == "sqlite" else server_url(request, kind)
    api, feed = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        await api.resources.notes.post({"title": "a"})

        async def work() -> None:
            async with api.transaction() as uow:
                connection: Any = uow.connection
                if kind == "sqlite":
                    await connection.run("PRAGMA query_only = ON")
                elif kind == "postgresql":
                    await connection.run("SET TRANSACTION READ ONLY")
                else:
                    await connection.run("SIGNAL SQLSTATE '25006' SET MYSQL_ERRNO = 1792")
                await api.resources.notes.post({"title": "b"}, transaction=uow)

        with pytest.raises(DatabaseBusy, match="only be read"):
            await work()
        assert feed.words == ["post a"]


async def test_a_full_disk(url: str) -> None:
    api, feed = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        database: Any = api._database
        await database._writer.call(lambda raw: raw.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(DatabaseBusy, match="no room"):
            await api.resources.notes.post({"title": "a", "body": "b" * 1_000_000})
        assert feed.published == []
        await database._writer.call(lambda raw: raw.execute("PRAGMA max_page_count = 100000"))
        await api.resources.notes.post({"title": "a", "body": "b" * 1_000_000})


# What is logged has no values


@pytest.mark.parametrize("owned", [True, False])
async def test_errors_are_logged_without_values(
    database_url: str, owned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(database_url)
    plugin = SqlAlchemyPlugin(
        database_url if owned else None, engine=None if owned else engine, create_tables=True
    )
    api, _ = make_api(plugin)
    async with api:
        await _run(engine, "DROP TABLE notes")
        with pytest.raises(DatabaseFailure) as caught:
            await api.resources.notes.post({"title": _SECRET})
    with caplog.at_level(logging.ERROR):
        logging.getLogger("tidings").error("it failed", exc_info=caught.value)
    assert "notes" in caplog.text
    assert _SECRET not in caplog.text
    await engine.dispose()


async def test_errors_of_the_applications_sql_are_logged_without_values(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(database_url)

    async def failing() -> None:
        try:
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TABLE t (a VARCHAR(90) PRIMARY KEY)"))
                for _ in "12":
                    await connection.execute(text("INSERT INTO t VALUES (:a)"), {"a": _SECRET})
        except exc.DBAPIError as error:
            raise ValueError("the hook failed") from error

    with pytest.raises(ValueError, match="the hook failed") as caught:
        await failing()
    with caplog.at_level(logging.ERROR):
        logging.getLogger("tidings").error("!", exc_info=without_values(caught.value))
    assert "the hook failed" in caplog.text
    assert "HiddenError" in caplog.text
    assert _SECRET not in caplog.text
    await engine.dispose()


async def _run(engine: AsyncEngine, sql: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(sql))


async def _end_others(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            return
        rows = await connection.execute(
            text(
                "SELECT id FROM information_schema.processlist "
                "WHERE db = database() AND id <> connection_id()"
            )
        )
        for (number,) in rows.all():
            await connection.execute(text(f"KILL {number}"))


async def _settled(work: Any) -> BaseException | None:
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    return outcome if isinstance(outcome, BaseException) else None
