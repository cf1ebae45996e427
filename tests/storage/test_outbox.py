"""The outbox: what is committed is told, whatever dies or is away between commit and feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tests.support.memory_log import MemoryLog

from tidings import Api, ConfigurationError, SqlAlchemyPlugin
from tidings.api import FeedOptions
from tidings.feed import Change, FeedUnavailable, Invalidation
from tidings.storage import relay as relay_module
from tidings.storage.outbox import Outbox
from tidings.storage.relay import Relay

NOTES: dict[str, Any] = {"title": {"type": "string", "search": True}, "body": "text"}


def make_api(url: str, log: MemoryLog, *, outbox: bool = True) -> Api:
    api = Api()
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.set_feed(FeedOptions(log, outbox=outbox))  # type: ignore[arg-type]  # words are strings
    api.add_resource("notes", schema=NOTES)
    return api


def outbox_of(api: Api) -> Outbox:
    found = api._linked.outbox
    assert found is not None
    return found


def relay_of(api: Api) -> Relay:
    found = api._linked.relay
    assert found is not None
    return found


async def rows(api: Api) -> int:
    return (await outbox_of(api).state())[0]


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await reached():
            await asyncio.sleep(0.005)


async def emptied(api: Api) -> None:
    async def is_empty() -> bool:
        return await rows(api) == 0

    await until(is_empty)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


async def test_what_is_committed_is_published_and_removed(
    database_url: str, log: MemoryLog
) -> None:
    async with make_api(database_url, log) as api:
        notes = api.resources.notes
        note = await notes.post({"title": "a"})
        await notes.patch(note["id"], {"title": "b"})
        await notes.delete(note["id"])
        await emptied(api)
        assert log.words == [f"{action} {note['id']}" for action in ("post", "patch", "delete")]
        (_, patched, _) = log.notices
        assert isinstance(patched, Change)
        assert patched.before is not None
        assert patched.after is not None
        assert (patched.before["title"], patched.after["title"]) == ("a", "b")


async def test_a_row_is_in_the_transaction_and_goes_with_it(
    database_url: str, log: MemoryLog
) -> None:
    log.is_there = False
    async with make_api(database_url, log) as api:
        with pytest.raises(RuntimeError, match="no"):
            async with api.transaction() as uow:
                await api.resources.notes.post({"title": "a"}, transaction=uow)
                raise RuntimeError("no")
        assert await rows(api) == 0
        async with api.transaction() as uow:
            await api.resources.notes.post({"title": "a"}, transaction=uow)
            await api.resources.notes.post({"title": "b"}, transaction=uow)
        assert await rows(api) == 1
        log.is_there = True
        await emptied(api)
    assert log.words == ["post 2", "post 3"] or log.words == ["post 1", "post 2"]


@pytest.mark.parametrize("outbox", [True, False])
async def test_settle_publishes_what_waits(tmp_path: Any, log: MemoryLog, outbox: bool) -> None:
    async with make_api(f"sqlite+aiosqlite:///{tmp_path}/a.db", log, outbox=outbox) as api:
        await relay_of(api).settle()
        log.is_there = False
        await api.resources.notes.post({"title": "a"})
        with pytest.raises(FeedUnavailable):
            await relay_of(api).settle()
        log.is_there = True
        await relay_of(api).settle()
        assert log.words == ["post 1"]


@pytest.mark.parametrize("how", ["session", "connection"])
async def test_a_transaction_of_the_application_takes_its_row_along(
    database_url: str, log: MemoryLog, how: str
) -> None:
    log.is_there = False
    engine = create_async_engine(database_url)

    @asynccontextmanager
    async def transaction() -> AsyncIterator[Any]:
        if how == "session":
            async with AsyncSession(engine) as session, session.begin():
                yield session
        else:
            async with engine.begin() as connection:
                yield connection

    async with make_api(database_url, log) as api:
        async with transaction() as outer:
            await api.resources.notes.post({"title": "a"}, transaction=outer)
        assert await rows(api) == 1
        with pytest.raises(RuntimeError, match="no"):
            async with transaction() as outer:
                await api.resources.notes.post({"title": "b"}, transaction=outer)
                raise RuntimeError("no")
        assert await rows(api) == 1
        log.is_there = True
        await emptied(api)
        assert [notice.after["title"] for notice in log.notices] == ["a"]  # type: ignore[union-attr,index]
    await engine.dispose()


async def test_a_savepoint_that_is_the_transaction_is_told_of_without_a_row(
    log: MemoryLog, tmp_path: Any
) -> None:
    """Python's SQLite driver begins none for it, and its release has committed all at once."""
    url = f"sqlite+aiosqlite:///{tmp_path}/notes.db"
    engine = create_async_engine(url)
    async with make_api(url, log) as api, AsyncSession(engine) as session:
        async with session.begin_nested():
            await api.resources.notes.post({"title": "a"}, transaction=session)

        async def is_told() -> bool:
            return log.words == ["post 1"]

        await until(is_told)
        await session.commit()
        assert log.words == ["post 1"]
    await engine.dispose()


async def killed(api: Api) -> None:
    """End its relay as a kill would, between the commit and the feed."""
    relay = relay_of(api)
    assert relay._task is not None
    relay._task.cancel()
    await asyncio.gather(relay._task, return_exceptions=True)
    relay._task = None


async def test_what_a_killed_process_has_left_another_publishes(
    database_url: str, log: MemoryLog
) -> None:
    async with make_api(database_url, log) as dead, make_api(database_url, log) as living:
        await killed(dead)
        await dead.resources.notes.post({"title": "left behind"})
        await emptied(living)
        assert log.words == ["post 1"]


async def test_what_is_left_is_published_at_the_next_start(
    database_url: str, log: MemoryLog
) -> None:
    async with make_api(database_url, log) as dead:
        await killed(dead)
        await dead.resources.notes.post({"title": "left behind"})
    assert log.words == []
    async with make_api(database_url, log) as next_one:
        await emptied(next_one)
        assert log.words == ["post 1"]


async def test_two_transactions_on_one_record_are_published_in_their_order(
    database_url: str, log: MemoryLog
) -> None:
    """Whichever process is the first to publish: it takes along what comes before."""
    async with make_api(database_url, log) as slow, make_api(database_url, log) as quick:
        await killed(slow)
        note = await quick.resources.notes.post({"title": "a"})
        await slow.resources.notes.patch(note["id"], {"title": "b"})
        await quick.resources.notes.patch(note["id"], {"title": "c"})
        await emptied(quick)
        titles = [notice.after["title"] for notice in log.notices]  # type: ignore[union-attr,index]
        assert titles == ["a", "b", "c"]


async def test_rows_that_could_not_be_removed_are_not_told_twice(
    database_url: str, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, failures = Outbox.remove, iter([True, True, False])

    async def fails(self: Outbox, found: Any) -> None:
        if next(failures, False):
            raise FeedUnavailable("the process was stopped here, say")
        await remove(self, found)

    monkeypatch.setattr(Outbox, "remove", fails)
    async with make_api(database_url, log) as api:
        await api.resources.notes.post({"title": "a"})
        await emptied(api)
    assert log.words == ["post 1"]
    assert len(log.dropped) == 2


async def test_a_row_that_has_taken_over_an_id_is_not_removed_for_its_predecessor(
    log: MemoryLog, tmp_path: Any
) -> None:
    """SQLite gives the ids of an empty table anew."""
    url = f"sqlite+aiosqlite:///{tmp_path}/notes.db"
    async with make_api(url, log) as one, make_api(url, log) as other:
        await killed(one)
        await killed(other)
        await one.resources.notes.post({"title": "a"})
        seen_by_one = await outbox_of(one).pending()
        assert seen_by_one is not None
        await outbox_of(other).remove(seen_by_one)
        await other.resources.notes.post({"title": "b"})
        (fresh,) = await outbox_of(other).rows(0, 10)
        assert fresh["id"] == seen_by_one.rows[0]["id"]
        await outbox_of(one).remove(seen_by_one)
        assert await outbox_of(one).rows(0, 10) == [fresh]


async def test_large_transactions_are_in_several_rows(log: MemoryLog, tmp_path: Any) -> None:
    log.is_there = False
    async with make_api(f"sqlite+aiosqlite:///{tmp_path}/notes.db", log) as api:
        async with api.transaction() as uow:
            for number in range(900):
                await api.resources.notes.post({"title": f"n{number}"}, transaction=uow)
        assert await rows(api) == 2
        log.is_there = True
        await emptied(api)
    assert log.words == [f"post {number}" for number in range(1, 901)]


async def test_a_missing_table_is_named_at_the_start(log: MemoryLog, tmp_path: Any) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path}/notes.db"))
    api.set_feed(FeedOptions(log, outbox=True))  # type: ignore[arg-type]
    api.add_resource("notes", schema=NOTES)
    with pytest.raises(ConfigurationError, match=r"'tidings_outbox' cannot be read: create it"):
        await api.open()
    await api.create_tables()
    async with api:
        await api.resources.notes.post({"title": "a"})
        await emptied(api)


async def test_an_outbox_before_the_feed_of_one_process(tmp_path: Any) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path}/notes.db", create_tables=True))
    api.set_feed(FeedOptions(outbox=True))
    api.add_resource("notes", schema=NOTES)
    async with api:
        start = api._feed.position
        await api.resources.notes.post({"title": "a"})
        ((offset, change),) = await api._feed.read(start, 10)
        assert (offset, change.resource) == (1, "notes")
        await emptied(api)


def test_the_tables_of_tidings_are_its_own() -> None:
    api = Api()
    with pytest.raises(ConfigurationError, match="'tidings_outbox' is tidings' own"):
        api.add_resource("notes", schema=NOTES, table="tidings_outbox")


# Without an outbox


async def test_without_an_outbox_changes_wait_in_memory(tmp_path: Any, log: MemoryLog) -> None:
    log.is_there = False
    url = f"sqlite+aiosqlite:///{tmp_path}/notes.db"
    async with make_api(url, log, outbox=False) as api:
        for title in "abc":
            await api.resources.notes.post({"title": title})
        assert relay_of(api).waiting > 0
        log.is_there = True

        async def is_told() -> bool:
            return log.words == ["post 1", "post 2", "post 3"]

        await until(is_told)
        assert relay_of(api).waiting == 0


async def test_too_much_in_memory_becomes_a_resync(
    tmp_path: Any, log: MemoryLog, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(relay_module.Relay.__init__, "__kwdefaults__", {"max_waiting": 1_000})
    log.is_there = False
    url = f"sqlite+aiosqlite:///{tmp_path}/notes.db"
    async with make_api(url, log, outbox=False) as api:
        for _ in range(50):
            await api.resources.notes.post({"title": "x" * 50})
        assert relay_of(api).waiting <= 1_200
        assert relay_of(api).overflows > 0
        assert "changes of notes are dropped" in caplog.text
        log.is_there = True

        async def is_told() -> bool:
            return relay_of(api).waiting == 0

        await until(is_told)
    assert Invalidation("notes") in log.notices
    assert len(log.notices) < 20


async def test_what_cannot_be_published_before_the_end_is_said(
    tmp_path: Any, log: MemoryLog, caplog: Any
) -> None:
    log.is_there = False
    url = f"sqlite+aiosqlite:///{tmp_path}/notes.db"
    async with make_api(url, log, outbox=False) as api:
        await api.resources.notes.post({"title": "a"})
    assert "what has not been published is lost" in caplog.text
