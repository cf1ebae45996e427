"""Notifications go when the application's own transaction commits, and never when it does not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import event, exc, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.util import greenlet_spawn
from tests.storage.conftest import Application, application
from tests.storage.recording import make_api

from tidings import ConfigurationError, SqlAlchemyPlugin, ValidationFailed
from tidings.errors import DatabaseBusy
from tidings.storage.application import _KEY, watch


class Boom(Exception):
    """What an application raises."""


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str | None]


def undone() -> AbstractContextManager[Any]:
    """A block that ends in Boom."""
    return pytest.raises(Boom)


def refused_at_the_end() -> AbstractContextManager[Any]:
    """A block whose commit fails."""
    return pytest.raises(exc.IntegrityError)


async def write(app: Application, handle: Any, *titles: str) -> None:
    for title in titles:
        await app.notes.post({"title": title}, transaction=handle)


async def silent(app: Application) -> None:
    """Nothing was published so far, and a read from the feed would wait."""
    assert app.feed.published == []
    read = asyncio.ensure_future(app.feed.read(app.feed.start, 10))
    await asyncio.sleep(0)
    assert not read.done()
    read.cancel()


# Commit


async def test_a_session_sends_at_commit_and_not_before(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, "a", "b")
        await silent(app)
        assert await app.titles() == []
        await session.commit()
        assert app.feed.words == ["post a", "post b"]
        assert [offset for offset, _ in await app.feed.read(app.feed.start, 10)] == [1, 2]
    assert await app.titles() == ["a", "b"]


async def test_session_begin_sends_at_its_end(app: Application) -> None:
    async with app.session() as session, session.begin():
        await write(app, session, "a")
        await silent(app)
    assert app.feed.words == ["post a"]


async def test_connection_commit_sends(app: Application) -> None:
    async with app.engine.connect() as connection:
        await write(app, connection, "a")
        await silent(app)
        await connection.commit()
        assert app.feed.words == ["post a"]


async def test_engine_begin_sends_at_its_end(app: Application) -> None:
    async with app.engine.begin() as connection:
        await write(app, connection, "a")
        await silent(app)
    assert app.feed.words == ["post a"]


async def test_the_transaction_that_connection_begin_gives_sends(app: Application) -> None:
    async with app.engine.connect() as connection:
        transaction = await connection.begin()
        await write(app, connection, "a")
        await silent(app)
        await transaction.commit()
        assert app.feed.words == ["post a"]


async def test_everything_of_one_commit_is_one_publication_in_order(app: Application) -> None:
    made = [await app.notes.post({"title": title}) for title in "abc"]
    app.feed.published.clear()
    async with app.session() as session, session.begin():
        await app.notes.patch(made[0]["id"], {"title": "A"}, transaction=session)
        await app.notes.patch(made[1]["id"], {"title": "B"}, transaction=session)
        await app.notes.put(made[0]["id"], {"title": "AA"}, transaction=session)
        await app.notes.post({"title": "d"}, transaction=session)
        await app.notes.delete(made[2]["id"], transaction=session)
    assert len(app.feed.published) == 1
    assert app.feed.words == ["patch B", "update AA", "post d", "delete c"]
    assert [c.before and c.before["title"] for c in app.feed.changes] == ["b", "a", None, "c"]


async def test_what_is_sent_is_visible_to_others_at_that_moment(app: Application) -> None:
    seen: list[list[str]] = []

    async def reader() -> None:
        await app.feed.read(app.feed.start, 1)
        seen.append(await app.titles())

    reading = asyncio.ensure_future(reader())
    async with app.session() as session, session.begin():
        await write(app, session, "a")
    await reading
    assert seen == [["a"]]


async def test_operations_see_the_open_transaction(app: Application) -> None:
    async with app.session() as session:
        note = await app.notes.post({"title": "a"}, transaction=session)
        assert (await app.notes.get(note["id"], transaction=session))["title"] == "a"
        assert len(await app.notes.query(transaction=session)) == 1
        assert len(await app.notes.query()) == 0


async def test_a_transaction_that_only_reads_sends_nothing_and_takes_no_lock(
    app: Application,
) -> None:
    async with app.session() as reader, app.session() as writer:
        assert len(await app.notes.query(transaction=reader)) == 0
        await write(app, writer, "a")
        await writer.commit()
        await reader.commit()
    assert app.feed.words == ["post a"]


async def test_transactions_after_each_other_on_one_connection(app: Application) -> None:
    async with app.engine.connect() as connection:
        await write(app, connection, "a")
        await connection.commit()
        await write(app, connection, "b")
        await connection.rollback()
        await write(app, connection, "c")
        await connection.commit()
        await connection.execute(text("INSERT INTO notes (title) VALUES ('not ours')"))
        await connection.commit()
    assert [[c.after["title"] for c in part if c.after] for part in app.feed.published] == [
        ["a"],
        ["c"],
    ]
    assert await app.titles() == ["a", "c", "not ours"]


async def test_two_sessions_that_take_turns(sqlite_app: Application) -> None:
    app = sqlite_app
    async with app.session() as one, app.session() as two:
        await write(app, one, "one")
        assert len(await app.notes.query(transaction=two)) == 0
        await two.rollback()
        await one.commit()
        await write(app, two, "two")
        await write_fails_busy(app, one)
        await one.rollback()
        await two.commit()
        await write(app, one, "three")
        await one.rollback()
    assert app.feed.words == ["post one", "post two"]


async def write_fails_busy(app: Application, session: AsyncSession) -> None:
    """SQLite has one writer at a time; another one gives up in time."""
    await session.execute(text("PRAGMA busy_timeout = 1"))
    with pytest.raises(DatabaseBusy):
        await write(app, session, "refused")


# Rollback


async def test_a_session_that_rolls_back_sends_nothing(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, "a")
        await session.rollback()
        await session.commit()
    await silent(app)
    assert await app.titles() == []


async def test_an_exception_sends_nothing(app: Application) -> None:
    with undone():
        async with app.session() as session, session.begin():
            await write(app, session, "a")
            raise Boom
    with undone():
        async with app.engine.begin() as connection:
            await write(app, connection, "b")
            raise Boom
    await silent(app)
    assert await app.titles() == []


async def test_an_operation_that_fails_leaves_the_rest(app: Application) -> None:
    async with app.session() as session, session.begin():
        await write(app, session, "a")
        with pytest.raises(ValidationFailed):
            await app.notes.post({}, transaction=session)
    assert app.feed.words == ["post a"]


async def test_closing_without_commit_sends_nothing_and_frees_everything(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, *"abc")
        connection = await session.connection()
        info, log = connection.info, weakref.ref(connection.info[_KEY])
    assert _KEY not in info
    del connection
    gc.collect()
    assert log() is None
    await silent(app)
    assert await app.titles() == []


async def test_a_session_that_is_dropped_gives_its_connection_back(url: str) -> None:
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    api, feed = make_api(SqlAlchemyPlugin(engine=engine, create_tables=True))
    async with api:

        async def forget() -> None:
            await api.resources.notes.post({"title": "a"}, transaction=AsyncSession(engine))

        warned = pytest.warns(exc.SAWarning, match="garbage collector")
        with warned:
            await forget()
            gc.collect()
        await api.resources.notes.post({"title": "b"})
    assert feed.words == ["post b"]
    await engine.dispose()


async def test_an_invalidated_connection_sends_nothing(app: Application) -> None:
    async with app.engine.connect() as connection:
        await write(app, connection, "lost")
        await connection.invalidate()
        await connection.rollback()
        await write(app, connection, "a")
        await connection.commit()
    assert app.feed.words == ["post a"]
    assert await app.titles() == ["a"]


# Commits that fail


@pytest.fixture
async def deferred(app: Application) -> Callable[[Any], Any]:
    """Given a session or connection, makes its commit impossible."""
    if app.engine.dialect.name == "mariadb":
        pytest.skip("it has no deferred constraints")
    own_key = "INTEGER PRIMARY KEY" if app.is_sqlite else "SERIAL PRIMARY KEY"
    async with app.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
        await connection.execute(
            text(
                f"CREATE TABLE children (id {own_key}, parent_id INTEGER "
                "REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
            )
        )

    if app.is_sqlite:

        @event.listens_for(app.engine.sync_engine, "connect")
        def enforce(connection: Any, _: object) -> None:
            connection.execute("PRAGMA foreign_keys = ON").close()

        await app.engine.dispose()

    async def spoil(handle: Any) -> None:
        await handle.execute(text("INSERT INTO children (parent_id) VALUES (99)"))

    return spoil


async def test_a_commit_that_fails_sends_nothing(app: Application, deferred: Any) -> None:
    async with app.session() as session:
        await write(app, session, "a")
        await deferred(session)
        with pytest.raises(exc.IntegrityError):
            await session.commit()
        await silent(app)
        await session.rollback()
        await write(app, session, "b")
        await session.commit()
    assert app.feed.words == ["post b"]
    assert await app.titles() == ["b"]


async def test_nor_does_the_next_commit_on_that_connection(app: Application, deferred: Any) -> None:
    async with app.engine.connect() as connection:
        await write(app, connection, "a")
        await deferred(connection)
        with pytest.raises(exc.IntegrityError):
            await connection.commit()
        await connection.rollback()
        await write(app, connection, "b")
        await connection.commit()
    assert app.feed.words == ["post b"]
    assert await app.titles() == ["b"]


async def test_a_commit_that_fails_at_the_end_of_begin(app: Application, deferred: Any) -> None:
    with refused_at_the_end():
        async with app.engine.begin() as connection:
            await write(app, connection, "a")
            await deferred(connection)
    with refused_at_the_end():
        async with app.session() as session, session.begin():
            await write(app, session, "b")
            await deferred(session)
    await silent(app)
    assert await app.titles() == []


# Savepoints


async def test_a_savepoint_that_rolls_back_drops_its_part(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, "a")
        with undone():
            async with session.begin_nested():
                await write(app, session, "b")
                raise Boom
        await write(app, session, "c")
        await session.commit()
    assert app.feed.words == ["post a", "post c"]
    assert await app.titles() == ["a", "c"]


async def test_a_savepoint_that_is_released_waits_for_the_commit(app: Application) -> None:
    """SQLAlchemy's own ``after_commit`` fires here, which is one of its traps."""
    after_commit: list[int] = []
    async with app.session() as session:
        event.listen(session.sync_session, "after_commit", lambda _: after_commit.append(1))
        await write(app, session, "a")
        async with session.begin_nested():
            await write(app, session, "b")
        assert after_commit == [1]
        await silent(app)
        await session.commit()
    assert app.feed.words == ["post a", "post b"]


async def test_a_released_savepoint_goes_with_its_transaction(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, "a")
        async with session.begin_nested():
            await write(app, session, "b")
        await session.rollback()
    await silent(app)
    assert await app.titles() == []


async def test_savepoints_inside_savepoints(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, "a")
        with undone():
            async with session.begin_nested():
                await write(app, session, "b")
                async with session.begin_nested():
                    await write(app, session, "c")
                raise Boom
        async with session.begin_nested():
            await write(app, session, "d")
            with undone():
                async with session.begin_nested():
                    await write(app, session, "e")
                    raise Boom
            await write(app, session, "f")
        await session.commit()
    assert app.feed.words == ["post a", "post d", "post f"]
    assert await app.titles() == ["a", "d", "f"]


async def test_savepoints_of_a_connection(app: Application) -> None:
    async with app.engine.begin() as connection:
        await write(app, connection, "a")
        kept = await connection.begin_nested()
        await write(app, connection, "b")
        await kept.commit()
        dropped = await connection.begin_nested()
        await write(app, connection, "c")
        await dropped.rollback()
    assert app.feed.words == ["post a", "post b"]
    assert await app.titles() == ["a", "b"]


async def test_a_savepoint_from_before_the_first_call_that_rolls_back(app: Application) -> None:
    async with app.session() as session:
        with undone():
            async with session.begin_nested():
                await write(app, session, "a")
                raise Boom
        await write(app, session, "b")
        await session.commit()
    assert app.feed.words == ["post b"]
    assert await app.titles() == ["b"]


async def test_a_savepoint_from_before_the_first_call_that_is_released(app: Application) -> None:
    """Without BEGIN by event such a savepoint is the transaction itself, for Python's SQLite."""
    async with app.session() as session:
        async with session.begin_nested():
            await write(app, session, "a")
            await silent(app)
        assert app.feed.words == await app.titles_sent()
        await write(app, session, "b")
        await session.commit()
    assert app.feed.words == ["post a", "post b"]
    assert await app.titles() == ["a", "b"]


async def test_what_such_a_savepoint_left_is_sent_exactly_if_it_stays(app: Application) -> None:
    async with app.session() as session:
        async with session.begin_nested():
            await write(app, session, "a")
        await session.rollback()
    assert app.feed.words == await app.titles_sent()
    assert len(app.feed.words) == (0 if app.begins_by_event else 1)


async def test_savepoints_around_and_inside_a_nested_first_call(app: Application) -> None:
    async with app.session() as session, session.begin():
        with undone():
            async with session.begin_nested():
                async with session.begin_nested():
                    await write(app, session, "a")
                async with session.begin_nested():
                    await write(app, session, "b")
                raise Boom
        await write(app, session, "c")
    assert app.feed.words == ["post c"]
    assert await app.titles() == ["c"]


async def test_savepoints_of_a_unit_of_work_around_the_applications(app: Application) -> None:
    """A hook gets the unit of work, and may use savepoints of its own."""
    units: list[Any] = []
    api = app.api
    api.add_hook("after_write", "keep", lambda context: units.append(context.transaction))
    async with app.session() as session:
        await write(app, session, "a")
        unit_of_work = units[0]
        with undone():
            async with unit_of_work.savepoint():
                await write(app, unit_of_work, "b")
                async with session.begin_nested():
                    await write(app, session, "c")
                raise Boom
        await write(app, session, "d")
        await silent(app)
        assert units[-1] is unit_of_work
        await session.commit()
    assert app.feed.words == ["post a", "post d"]
    assert await app.titles() == ["a", "d"]
    with pytest.raises(ConfigurationError, match="has ended"):
        await write(app, unit_of_work, "e")


async def test_an_after_write_hook_that_refuses_undoes_only_its_write(app: Application) -> None:
    def refuse(context: Any) -> None:
        if context.after["title"] == "bad":
            raise Boom

    app.api.add_hook("after_write", "refuse", refuse)
    async with app.session() as session:
        await write(app, session, "a")
        with undone():
            await write(app, session, "bad")
        await write(app, session, "b")
        await session.commit()
    assert app.feed.words == ["post a", "post b"]
    assert await app.titles() == ["a", "b"]


async def test_with_such_a_hook_a_rollback_still_undoes_everything(app: Application) -> None:
    """The hook's savepoint must not become the transaction."""
    app.api.add_hook("after_write", "look", lambda context: None)
    async with app.session() as session:
        await write(app, session, "a")
        await session.rollback()
    await silent(app)
    assert await app.titles() == []


# Sessions that are more than a transaction


async def test_pending_objects_are_flushed_before(app: Application) -> None:
    async with app.session() as session, session.begin():
        note = Note(title="by the ORM")
        session.add(note)
        found = await app.notes.query({"title": "by the ORM"}, transaction=session)
        assert len(found) == 1
        assert note.id is not None
        await app.notes.patch(note.id, {"title": "patched"}, transaction=session)
    assert app.feed.words == ["patch patched"]


async def test_a_session_without_autoflush_is_left_alone(app: Application) -> None:
    async with app.session(autoflush=False) as session:
        session.add(Note(title="pending"))
        assert len(await app.notes.query(transaction=session)) == 0


async def test_a_session_inside_an_outer_transaction(app: Application) -> None:
    """SQLAlchemy: "Joining a Session into an External Transaction", as test suites do."""
    async with app.engine.connect() as connection:
        outer = await connection.begin()
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            await write(app, session, "a")
            await session.commit()
            await write(app, session, "b")
            await session.rollback()
            await write(app, session, "c")
            await session.commit()
        if app.begins_by_event:
            await silent(app)
        await outer.rollback()
    # Without it SQLite takes the first savepoint for the transaction, see above.
    assert app.feed.words == await app.titles_sent() == ["post a"] * (not app.begins_by_event)


@pytest.mark.parametrize("mode", ["create_savepoint", "control_fully", "rollback_only"])
async def test_a_joined_session_sends_when_the_database_commits(
    app: Application, mode: Any
) -> None:
    async with app.engine.connect() as connection:
        outer = await connection.begin()
        # Something of the application's own first, as it would be; then SQLite has begun as well.
        await connection.execute(text("INSERT INTO notes (title) VALUES ('own')"))
        async with AsyncSession(connection, join_transaction_mode=mode) as session:
            await write(app, session, "a")
            await session.commit()
        assert bool(app.feed.published) == (mode == "control_fully")
        if mode != "control_fully":
            await outer.commit()
    assert app.feed.words == ["post a"]
    assert await app.titles() == ["own", "a"]


async def test_a_scoped_session_is_a_session(app: Application) -> None:
    sessions = async_scoped_session(async_sessionmaker(app.engine), asyncio.current_task)
    await write(app, sessions, "a")
    await sessions.commit()
    await sessions.remove()
    assert app.feed.words == ["post a"]


async def test_a_cancelled_commit_is_sent_if_it_happens(app: Application) -> None:
    """The application's task is cancelled while the database commits."""
    dialect = app.engine.dialect
    task: asyncio.Task[None] | None = None

    async def work() -> None:
        async with app.session() as session:
            await write(app, session, "a")
            commit = dialect.do_commit

            def cancel_and_commit(*arguments: Any) -> None:
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
                commit(*arguments)

            dialect.do_commit = cancel_and_commit  # type: ignore[method-assign]
            try:
                await session.commit()
            finally:
                dialect.do_commit = commit  # type: ignore[method-assign]

    task = asyncio.ensure_future(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await app.titles() == ["a"]
    assert app.feed.words == ["post a"]


async def test_reads_around_a_write_do_not_miss_what_others_wrote(sqlite_app: Application) -> None:
    """The row before a change is read under the write lock, so that it is the row before."""
    app = sqlite_app
    note = await app.notes.post({"title": "a"})
    async with app.session() as session:
        await app.notes.patch(note["id"], {"body": "x"}, transaction=session)
        async with app.engine.connect() as other:
            await other.execute(text("PRAGMA busy_timeout = 1"))
            with pytest.raises(exc.OperationalError, match="locked"):
                await other.execute(text("UPDATE notes SET title = 'b'"))
        await session.commit()
    assert app.feed.changes[-1].before == {"id": 1, "title": "a", "body": None}


async def test_the_write_lock_is_held_from_the_first_read_on(sqlite_app: Application) -> None:
    app = sqlite_app
    note = await app.notes.post({"title": "a"})
    others: list[str] = []

    async def meanwhile(context: Any) -> None:
        async with app.engine.connect() as other:
            await other.execute(text("PRAGMA busy_timeout = 1"))
            try:
                await other.execute(text("UPDATE notes SET title = 'b'"))
                await other.commit()
            except exc.OperationalError as error:
                others.append(str(error))

    app.api.add_hook("before_write", "meanwhile", meanwhile)
    async with app.session() as session:
        if app.begins_by_event:
            # It has begun without the lock already; then the write is refused rather than wrong.
            with pytest.raises(DatabaseBusy):
                await app.notes.patch(note["id"], {"body": "x"}, transaction=session)
            assert not others
        else:
            await app.notes.patch(note["id"], {"body": "x"}, transaction=session)
            assert others


# Errors that the application swallows


async def test_what_a_swallowed_error_undoes_is_not_sent(app: Application) -> None:
    """PostgreSQL then answers COMMIT with ROLLBACK, and says nothing."""
    async with app.session() as session:
        await write(app, session, "a")
        with pytest.raises(exc.DBAPIError):
            await session.execute(text("SELECT no_such_column FROM notes"))
        await session.commit()
        assert app.feed.words == await app.titles_sent()
        assert len(app.feed.words) == (app.engine.dialect.name != "postgresql")
        await write(app, session, "b")
        await session.commit()
    assert app.feed.words == await app.titles_sent()
    assert app.feed.words[-1] == "post b"


async def test_an_error_that_a_savepoint_has_caught_undoes_nothing_else(app: Application) -> None:
    async with app.session() as session:
        await write(app, session, "a")
        with pytest.raises(exc.DBAPIError):
            async with session.begin_nested():
                await session.execute(text("SELECT no_such_column FROM notes"))
        await write(app, session, "b")
        await session.commit()
    assert app.feed.words == ["post a", "post b"] == await app.titles_sent()


async def test_what_a_deadlock_undoes_is_not_sent(mariadb_url: str) -> None:
    """MariaDB undoes the whole transaction; what follows in it is another one."""
    async with application("engine", mariadb_url) as app:
        one, two = [(await app.notes.post({"title": title}))["id"] for title in "ab"]
        app.feed.published.clear()
        both_have_one = asyncio.Barrier(2)

        async def change(first: int, second: int) -> bool:
            async with app.session() as session:
                await app.notes.patch(first, {"body": f"{first} first"}, transaction=session)
                await both_have_one.wait()
                fell = False
                try:
                    await app.notes.patch(second, {"body": f"{first} second"}, transaction=session)
                except DatabaseBusy:
                    fell = True
                await write(app, session, f"after {first}")
                await session.commit()
            return fell

        assert sorted(await asyncio.gather(change(one, two), change(two, one))) == [False, True]
        told = {(c.id, c.after["body"]) for c in app.feed.changes if c.after and c.after["body"]}
        kept = await app.notes.query(sort="id")
        assert told == {(str(row["id"]), row["body"]) for row in kept if row["body"]}
        assert len(told) == 2
        assert len(kept) == 4


# What is refused


async def test_autocommit_is_refused(app: Application) -> None:
    async with app.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            await write(app, connection, "a")
    await silent(app)


@pytest.mark.parametrize("wrong", [object(), "session", 7])
async def test_anything_else_is_refused_by_name(app: Application, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"AsyncSession.* not {type(wrong).__name__}"):
        await write(app, wrong, "a")


async def test_a_forgotten_async_with_is_explained(app: Application) -> None:
    with pytest.raises(ConfigurationError, match=r"async with api.transaction\(\)"):
        await write(app, app.api.transaction(), "a")


# The dialect's methods


class TwoPhaseDialect(DefaultDialect):
    """As PostgreSQL's: a two-phase commit ends with a plain rollback of what is left."""

    name = "postgresql"

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    def do_commit(self, source: Any) -> None: ...
    def do_rollback(self, source: Any) -> None: ...
    def do_savepoint(self, source: Any, name: str) -> None: ...
    def do_rollback_to_savepoint(self, source: Any, name: str) -> None: ...
    def do_release_savepoint(self, source: Any, name: str) -> None: ...

    def do_commit_twophase(self, source: Any, xid: str, is_prepared: bool = True) -> None:
        if self.fails:
            raise Boom
        self.do_rollback(source) if is_prepared else self.do_commit(source)

    def do_rollback_twophase(self, source: Any, xid: str, is_prepared: bool = True) -> None:
        self.do_rollback(source)


class Source:
    """A connection, as far as the dialect's methods look at it."""

    driver_connection = None

    def __init__(self, joined: Any) -> None:
        self.info = {_KEY: joined}


class Joined:
    seconds = 60.0
    is_running = False

    def end(self) -> None:
        pass

    def __init__(self) -> None:
        self.fate = ""

    def check(self, source: Source) -> None:
        raise AssertionError("between the phases the driver is in no transaction")

    was_ended = check

    def begin(self) -> str:
        return "publication"

    def committed(self, publication: str, *, kept: bool) -> None:
        # Between the phases nothing can be written: it is told of from memory.
        assert (publication, kept) == ("publication", False)
        self.fate += "committed"

    def failed(self, publication: str, *, doubtful: bool) -> None:
        assert (publication, doubtful) == ("publication", False)
        self.fate += "failed"

    def rolled_back(self, *, was_ended: bool) -> None:
        assert not was_ended
        self.fate += "rolled back"


@pytest.mark.parametrize("is_prepared", [True, False])
async def test_two_phase_transactions(is_prepared: bool) -> None:
    dialect: Any = TwoPhaseDialect()
    watch(dialect)
    watch(dialect)  # once is enough
    committed, rolled_back, failed = Joined(), Joined(), Joined()
    await greenlet_spawn(dialect.do_commit_twophase, Source(committed), "x", is_prepared)
    await greenlet_spawn(dialect.do_rollback_twophase, Source(rolled_back), "x", is_prepared)
    dialect.fails = True
    with undone():
        await greenlet_spawn(dialect.do_commit_twophase, Source(failed), "x", is_prepared)
    assert (committed.fate, rolled_back.fate, failed.fate) == (
        "committed",
        "rolled back",
        "failed",
    )


async def test_other_connections_of_the_engine_are_left_alone(app: Application) -> None:
    async with app.session() as session, app.engine.connect() as other:
        await write(app, session, "a")
        await other.rollback()
        await other.execute(text("SELECT 1"))
        await other.commit()
        await silent(app)
        await session.commit()
    assert app.feed.words == ["post a"]
