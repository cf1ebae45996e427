"""SQLite as tidings drives it: settings, locks that end, and nothing left behind."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, exc, text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.storage.recording import make_api

from tidings import Api, ConfigurationError, Conflict, SqlAlchemyPlugin
from tidings.errors import DatabaseBusy
from tidings.storage import ConstraintViolation, CoreDatabase, DatabaseFailure, SqliteDatabase
from tidings.storage.core import commits_by_itself
from tidings.storage.errors import translate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def api_on(database: Any) -> Api:
    api, _ = make_api(SqlAlchemyPlugin("sqlite+aiosqlite://"))
    api.set_database(database, create_tables=True)
    return api


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Callable[..., Any]]:
    """Opens databases, and closes them also where the test fails: their threads would stay."""
    databases: list[SqliteDatabase] = []

    async def open_database(**options: Any) -> SqliteDatabase:
        databases.append(SqliteDatabase(url, **options))
        await databases[-1].open()
        return databases[-1]

    yield open_database
    for database in databases:
        await database.close()


@pytest.fixture
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that can hold the write lock."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


async def pragma(thread: Any, name: str) -> Any:
    return await thread.call(lambda raw: raw.execute(f"PRAGMA {name}").fetchone()[0])


async def test_every_connection_has_its_settings(opened: Any) -> None:
    database = await opened(readers=3, busy_timeout=1.5)
    readers = [database._readers.get_nowait() for _ in range(3)]
    for reader in readers:
        database._readers.put_nowait(reader)
    for connection in (database._writer, *readers):
        assert await pragma(connection, "journal_mode") == "wal"
        assert await pragma(connection, "foreign_keys") == 1
        assert await pragma(connection, "busy_timeout") == 1500
        assert await pragma(connection, "synchronous") == 1


async def test_opening_twice_is_opening_once(opened: Any) -> None:
    database = await opened()
    writer = database._writer
    await database.open()
    assert database._writer is writer
    await database.close()
    await database.close()


async def test_close_leaves_no_thread_and_no_task(url: str) -> None:
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    api = api_on(SqliteDatabase(url))
    async with api:
        await api.resources.notes.post({"title": "a"})
        assert len(threading.enumerate()) > len(threads)
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert set(threading.enumerate()) <= threads
    assert asyncio.all_tasks() == tasks


async def test_a_database_in_memory_is_one_connection() -> None:
    api = api_on(SqliteDatabase("sqlite+aiosqlite:///:memory:"))
    async with api:
        await asyncio.gather(*(api.resources.notes.post({"title": str(n)}) for n in range(20)))
        assert (await api.resources.notes.query()).total == 20


async def test_in_memory_a_read_outside_the_open_transaction_ends_busy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = api_on(SqliteDatabase("sqlite+aiosqlite://", busy_timeout=0.01))
    async with api, api.transaction() as uow:
        await api.resources.notes.post({"title": "a"}, transaction=uow)
        with pytest.raises(DatabaseBusy) as caught:
            await api.resources.notes.query()
        assert caught.value.status == 503
        assert "pass transaction=" in caplog.text
        assert len(await api.resources.notes.query(transaction=uow)) == 1


async def test_a_transaction_inside_a_transaction_ends_busy(url: str) -> None:
    api = api_on(SqliteDatabase(url, busy_timeout=0.01))
    async with api, api.transaction() as uow:
        with pytest.raises(DatabaseBusy):
            await api.resources.notes.post({"title": "a"})
        await api.resources.notes.post({"title": "b"}, transaction=uow)


async def test_a_lock_held_by_another_program_ends_busy(
    path: Path, url: str, held: sqlite3.Connection
) -> None:
    api = api_on(SqliteDatabase(url, busy_timeout=0.01))
    async with api:
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy) as caught:
            await api.resources.notes.post({"title": "a"})
        assert caught.value.status == 503
        assert len(await api.resources.notes.query()) == 0, "readers never wait"
        held.execute("COMMIT")
        await api.resources.notes.post({"title": "b"})


@pytest.mark.parametrize("kind", ["url", "engine"])
async def test_the_row_before_is_read_under_the_write_lock(
    url: str, held: sqlite3.Connection, kind: str
) -> None:
    engine = create_async_engine(url)
    database = SqliteDatabase(url) if kind == "url" else CoreDatabase(engine, owned=True)
    api = api_on(database)
    held.execute("PRAGMA busy_timeout = 1")
    refused: list[str] = []

    def meanwhile(context: Any) -> None:
        if context.method == "patch":
            with pytest.raises(sqlite3.OperationalError) as caught:
                held.execute("UPDATE notes SET title = 'b'")
            refused.append(str(caught.value))

    api.add_hook("before_write", "meanwhile", meanwhile)
    async with api:
        await api.resources.notes.post({"title": "a"})
        await api.resources.notes.patch(1, {"body": "x"})
    assert refused == ["database is locked"]
    await engine.dispose()


async def test_so_it_does_through_an_engine(path: Path, url: str, held: sqlite3.Connection) -> None:
    engine = create_async_engine(url, connect_args={"timeout": 0.01})
    api = api_on(CoreDatabase(engine, owned=True))
    async with api:
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            await api.resources.notes.post({"title": "a"})
        held.execute("COMMIT")
        await api.resources.notes.post({"title": "b"})


async def test_a_pool_without_a_free_connection_ends_busy(url: str) -> None:
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    api = api_on(CoreDatabase(engine, owned=True))
    async with api, api.transaction():
        with pytest.raises(DatabaseBusy):
            await api.resources.notes.query()


async def test_readers_that_wait_for_each_other_end_busy(opened: Any) -> None:
    """As a permission check does that queries while its own read goes on."""
    database = await opened(readers=2, busy_timeout=0.01)
    async with database.reading(snapshot=False), database.reading(snapshot=True):
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseBusy):
                await database.reading(snapshot=False).__aenter__()
    async with database.reading(snapshot=True), database.reading(snapshot=True):
        pass


async def test_a_snapshot_stays_as_it_was(url: str) -> None:
    database = SqliteDatabase(url)
    api = api_on(database)
    async with api:
        store, notes = api._assembled.operations.store, api._assembled.registry["notes"]
        async with database.reading(snapshot=True) as connection:
            assert await store.find(connection, notes) == []
            await api.resources.notes.post({"title": "a"})
            assert await store.find(connection, notes) == []
        assert len(await api.resources.notes.query()) == 1


async def test_tables_are_created_once_and_left_alone_then(url: str) -> None:
    for _ in range(2):
        api, _ = make_api(SqlAlchemyPlugin(url))
        await api.create_tables()
        async with api:
            await api.create_tables()
            await api.resources.notes.post({"title": "a"})
    async with api:
        assert (await api.resources.notes.query()).total == 2


async def test_tables_that_refer_to_each_other_are_created(url: str) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.add_resource("teams", schema={"lead_id": {"belongs_to": "people", "nullable": True}})
    api.add_resource("people", schema={"team_id": {"belongs_to": "teams", "nullable": True}})
    async with api:
        team = await api.resources.teams.post({})
        person = await api.resources.people.post({"team": team["id"]})
        await api.resources.teams.patch(team["id"], {"lead": person["id"]})
        with pytest.raises(Conflict):
            await api.resources.people.delete(person["id"])


async def test_creating_tables_that_fails_leaves_nothing(opened: Any) -> None:
    database = await opened()
    metadata = MetaData()
    good = Table("good", metadata, Column("id", Integer, primary_key=True))
    bad = Table("sqlite_bad", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(DatabaseFailure, match="reserved for internal use"):
        await database.create_tables([good, bad])
    async with database.writing() as connection:
        assert await pragma(connection.thread, "schema_version") == 0
        await connection.rollback()
    await database.create_tables([])


async def test_ids_of_deleted_records_are_not_given_again(url: str) -> None:
    api, _ = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        first = await api.resources.notes.post({"title": "a"})
        await api.resources.notes.delete(first["id"])
        assert (await api.resources.notes.post({"title": "b"}))["id"] == "2"


async def test_use_before_opening_and_after_closing_is_refused(url: str) -> None:
    database = SqliteDatabase(url)
    api = api_on(database)
    for _ in range(2):
        for use in (api.resources.notes.query(), api.resources.notes.post({"title": "a"})):
            with pytest.raises(ConfigurationError, match="use 'async with api:'"):
                await use
        async with api:
            pass


async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    path = tmp_path / "missing" / "notes.db"
    database = SqliteDatabase(f"sqlite+aiosqlite:///{path}")
    with pytest.raises(ConfigurationError, match=f"cannot open the database '{path}'"):
        await database.open()
    no_new_threads(threads)


@pytest.fixture
def garbage(path: Path) -> None:
    path.write_bytes(b"nothing that SQLite knows" * 100)


async def test_a_file_that_is_no_database_is_named(garbage: None, url: str) -> None:
    threads = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match=r"cannot open.*not a database"):
        await SqliteDatabase(url).open()
    no_new_threads(threads)


async def test_an_engine_that_cannot_connect_is_named_without_its_password() -> None:
    engine = create_async_engine("postgresql+asyncpg://me:secret@127.0.0.1:1/notes")
    with pytest.raises(ConfigurationError, match="cannot connect to postgresql") as caught:
        await CoreDatabase(engine, owned=True).open()
    assert "secret" not in str(caught.value)


async def test_an_engine_that_commits_by_itself_is_refused(url: str) -> None:
    engine = create_async_engine(url, execution_options={"isolation_level": "AUTOCOMMIT"})
    with pytest.raises(ConfigurationError, match="the engine is in AUTOCOMMIT mode"):
        await CoreDatabase(engine, owned=True).open()
    await engine.dispose()


@pytest.mark.parametrize("answer", [True, False, NotImplementedError])
async def test_other_databases_are_asked_whether_they_commit_by_themselves(
    url: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_async_engine(url)

    def detect(connection: Any) -> bool:
        if answer is NotImplementedError:
            raise NotImplementedError
        return bool(answer)

    async with engine.connect() as connection:
        monkeypatch.setattr(engine.dialect, "name", "other")
        monkeypatch.setattr(engine.dialect, "detect_autocommit_setting", detect)
        assert await commits_by_itself(connection) == (answer is True)
    await engine.dispose()


async def test_opening_that_fails_halfway_closes_what_was_opened(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set(threading.enumerate())
    database = SqliteDatabase(url, readers=3)
    connect, calls = database._connect, []

    async def fail_at_third() -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ConfigurationError("no more files")
        return await connect()

    monkeypatch.setattr(database, "_connect", fail_at_third)
    api = api_on(database)
    with pytest.raises(ConfigurationError, match="no more files"):
        await api.open()
    no_new_threads(threads)
    async with api:
        await api.resources.notes.post({"title": "a"})


def no_new_threads(threads: set[threading.Thread]) -> None:
    """They would keep the process from ending."""
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive()


async def test_an_old_sqlite_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"tidings needs 3\.35 \(RETURNING\)"):
        await SqliteDatabase(url).open()


def test_one_database_serves_one_event_loop_after_another(url: str) -> None:
    """As test suites do that make a loop per test."""
    api = api_on(SqliteDatabase(url))

    async def work() -> int:
        async with api:
            posts = (api.resources.notes.post({"title": str(n)}) for n in range(5))
            reads = (api.resources.notes.query() for _ in range(10))
            await asyncio.gather(*posts, *reads)
            return (await api.resources.notes.query()).total

    assert [asyncio.run(work()) for _ in range(3)] == [5, 10, 15]


async def test_an_engine_of_the_applications_stays_open(url: str) -> None:
    engine = create_async_engine(url)
    api, _ = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
    async with api:
        await api.resources.notes.post({"title": "a"})
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM notes")) == 1
    await engine.dispose()


# What the database refuses


class DriverError(Exception):
    def __init__(self, *args: object, sqlstate: str | None = None) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate


def raised(statement: str, *before: str) -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    try:
        for sql in ("PRAGMA foreign_keys = ON", *before):
            connection.execute(sql)
        connection.execute(statement)
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    raise AssertionError("it was not refused")


_TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b, c REFERENCES t, UNIQUE (a, b))"


@pytest.mark.parametrize(
    ("statement", "kind", "columns"),
    [
        ("INSERT INTO t (id) VALUES (1)", "unique", ("id",)),
        ("INSERT INTO t (a) VALUES (1)", "unique", ("a",)),
        ("INSERT INTO t (c) VALUES (99)", "foreign key", ()),
        ("INSERT INTO n VALUES (NULL)", "not null", ("x",)),
        ("INSERT INTO n VALUES (0)", "other", ("x > 0",)),
        ("INSERT INTO two VALUES (1, 2)", "unique", ("a", "b")),
    ],
)
def test_sqlites_constraints(statement: str, kind: str, columns: tuple[str, ...]) -> None:
    before = (
        _TABLE,
        "INSERT INTO t (id, a) VALUES (1, 1)",
        "CREATE TABLE n (x NOT NULL CHECK (x > 0))",
        "CREATE TABLE two (a, b, UNIQUE (a, b))",
        "INSERT INTO two VALUES (1, 2)",
    )
    violation = translate(raised(statement, *before))
    assert isinstance(violation, ConstraintViolation)
    assert (violation.kind, violation.columns) == (kind, columns)
    assert kind in str(violation)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DriverError(sqlstate="23505"), "unique"),
        (DriverError(sqlstate="23503"), "foreign key"),
        (DriverError(sqlstate="23502"), "not null"),
        (DriverError(sqlstate="23514"), "other"),
        (DriverError(1062, "Duplicate entry"), "unique"),
        (DriverError(1451, "a foreign key"), "foreign key"),
        (DriverError(1452, "a foreign key"), "foreign key"),
        (DriverError(1048, "cannot be null"), "not null"),
    ],
)
def test_other_databases_constraints(error: Exception, kind: str) -> None:
    violation = translate(exc.IntegrityError("INSERT", {}, error))
    assert isinstance(violation, ConstraintViolation)
    assert violation.kind == kind


@pytest.mark.parametrize(
    "error",
    [DriverError(sqlstate=state) for state in ("40001", "40P01", "55P03")]
    + [DriverError(number, "lock") for number in (1205, 1213)],
)
def test_other_databases_locks(error: Exception) -> None:
    assert isinstance(translate(exc.OperationalError("INSERT", {}, error)), DatabaseBusy)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DriverError("secret?"), "DriverError"),
        (DriverError(1, "secret"), "1: DriverError"),
        (DriverError(), "DriverError"),
        (DriverError("secret", sqlstate="P0001"), "P0001: DriverError"),
        (DriverError("no such column: x", sqlstate="42703"), "42703: no such column: x"),
        (raised("SELECT * FROM nowhere"), "SQLITE_ERROR: no such table: nowhere"),
    ],
)
def test_what_is_not_known_is_named_without_values(error: Exception, told: str) -> None:
    shown = translate(error)
    assert isinstance(shown, DatabaseFailure)
    assert str(shown).startswith(told)
    assert "secret" not in str(shown)
