"""PostgreSQL's own connections: how many there are, and what becomes of those that went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import Column, Integer, String, text

from tidings import SqlAlchemyPlugin
from tidings.errors import ConfigurationError, DatabaseBusy
from tidings.storage import PostgresDatabase, Statement, postgres

PID = Statement(text("SELECT pg_backend_pid() AS pid"), [Column("pid", Integer)])
OTHERS = Statement(
    text(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
    [Column("pid", Integer)],
)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    database = SqlAlchemyPlugin(postgres_url)._database
    assert isinstance(database, PostgresDatabase)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def pid(database: PostgresDatabase) -> int:
    async with database.reading(snapshot=False) as connection:
        (row,) = await connection.fetch(PID, {})
    return int(row["pid"])


async def test_one_connection_serves_those_that_come_after_each_other(
    database: PostgresDatabase,
) -> None:
    assert len({await pid(database) for _ in range(20)}) == 1


async def test_a_connection_that_the_server_has_ended_is_not_used_again(
    database: PostgresDatabase,
) -> None:
    async with database.reading(snapshot=False) as one, database.reading(snapshot=False) as other:
        (row,) = await one.fetch(PID, {})
        end = Statement(text(f"SELECT pg_terminate_backend({row['pid']})"))
        await other.fetch(end, {})
        with pytest.raises(DatabaseBusy, match=r"lost|cannot be reached"):
            await one.fetch(PID, {})
        with pytest.raises(DatabaseBusy, match="lost"):
            await one.fetch(PID, {})
    assert await pid(database) != row["pid"]


async def test_with_a_lost_connection_those_that_wait_are_given_up(
    database: PostgresDatabase,
) -> None:
    async with database.reading(snapshot=False) as one:
        assert isinstance(one, postgres._PostgresConnection)
        async with database.reading(snapshot=False) as other:
            (row,) = await other.fetch(PID, {})
        one.driver.terminate()
    assert await pid(database) != row["pid"]


async def test_a_cancelled_statement_takes_its_connection_and_its_transaction_along(
    database: PostgresDatabase,
) -> None:
    async def work() -> None:
        async with database.writing() as connection:
            await connection.run("CREATE TABLE made (id integer)")
            begun.set()
            await connection.run("SELECT pg_sleep(60)")

    begun = asyncio.Event()
    task = asyncio.create_task(work())
    await begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.writing() as connection:
        await connection.run("CREATE TABLE made (id integer)")
        await connection.commit()


async def test_so_many_at_most_and_few_stay(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(postgres, "_KEPT_SECONDS", 0.01)
    async with AsyncExitStack() as stack:
        for _ in range(postgres.CONNECTIONS):
            connection = await stack.enter_async_context(database.reading(snapshot=False))
            await connection.fetch(PID, {})
        with pytest.raises(DatabaseBusy, match="busy"):
            await pid(database)

    async def others() -> int:
        async with database.reading(snapshot=False) as connection:
            return len(await connection.fetch(OTHERS, {}))

    while await others() > postgres._KEPT - 1:  # the one that asks is the sixth
        await asyncio.sleep(0.01)


async def test_what_failed_in_a_savepoint_does_not_keep_the_rest_from_its_commit(
    database: PostgresDatabase,
) -> None:
    async with database.writing() as connection:
        await connection.run("CREATE TABLE made (id integer UNIQUE)")
        await connection.savepoint("a")
        with pytest.raises(Exception, match="42"):
            await connection.run("SELECT nothing")
        await connection.rollback_to("a")
        await connection.commit()
    async with database.writing() as connection:
        with pytest.raises(Exception, match="42"):
            await connection.run("SELECT nothing")
        with pytest.raises(ConfigurationError, match="undoes all of it"):
            await connection.commit()
        await connection.rollback()
    assert await pid(database)


async def test_a_snapshot_stays_what_it_was(database: PostgresDatabase) -> None:
    count = Statement(text("SELECT count(*) AS n FROM made"), [Column("n", Integer)])
    async with database.writing() as connection:
        await connection.run("CREATE TABLE made (id integer)")
        await connection.commit()
    async with database.reading(snapshot=True) as reader:
        assert await reader.fetch(count, {}) == [{"n": 0}]
        await database.execute(Statement(text("INSERT INTO made VALUES (1)")), {})
        assert await reader.fetch(count, {}) == [{"n": 0}]
    async with database.reading(snapshot=True) as reader:
        assert await reader.fetch(count, {}) == [{"n": 1}]


async def test_closing_ends_those_in_use_when_they_are_given_back(postgres_url: str) -> None:
    database = SqlAlchemyPlugin(postgres_url)._database
    assert isinstance(database, PostgresDatabase)
    await database.open()
    async with database.reading(snapshot=False) as connection:
        await database.close()
        assert await connection.fetch(PID, {})
    assert connection.driver.is_closed()
    with pytest.raises(ConfigurationError, match="not open"):
        await pid(database)


async def test_a_column_that_changes_its_type_is_read_anew(database: PostgresDatabase) -> None:
    read = Statement(text("SELECT x FROM made"), [Column("x", String)])
    async with database.writing() as connection:
        await connection.run("CREATE TABLE made AS SELECT 1 AS x")
        await connection.commit()
    async with database.reading(snapshot=False) as reader:
        assert await reader.fetch(read, {}) == [{"x": 1}]
        async with database.writing() as connection:
            await connection.run("ALTER TABLE made ALTER x TYPE text")
            await connection.commit()
        assert await reader.fetch(read, {}) == [{"x": "1"}]
