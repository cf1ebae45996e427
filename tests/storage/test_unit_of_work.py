"""``api.transaction()``: one transaction, whose changes are published when it has committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from tests.storage.conftest import begin_by_event, server_url
from tests.storage.recording import RecordingFeed, make_api

from tidings import Api, ConfigurationError, SqlAlchemyPlugin, ValidationFailed
from tidings.storage.core import CoreConnection
from tidings.storage.postgres import _PostgresConnection
from tidings.storage.sqlite import _SqliteConnection
from tidings.storage.waiting import uninterrupted

Made = tuple[Api, RecordingFeed]


class Boom(Exception):
    pass


def undone() -> AbstractContextManager[Any]:
    """A block that ends in Boom."""
    return pytest.raises(Boom)


KINDS = ["file", "memory", "engine", "engine, BEGIN by event", "postgresql", "mariadb"]


@pytest.fixture(params=KINDS)
async def made(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Made]:
    engine = None
    if request.param in ("postgresql", "mariadb"):
        url = server_url(request, request.param)
    if request.param.startswith("engine"):
        engine = create_async_engine(url)
        if request.param.endswith("event"):
            begin_by_event(engine)
    where = {"memory": "sqlite+aiosqlite://"}.get(request.param, url if engine is None else None)
    api, feed = make_api(SqlAlchemyPlugin(where, engine=engine, create_tables=True))
    async with api:
        yield api, feed
    if engine is not None:
        await engine.dispose()


async def titles(api: Api) -> list[str]:
    return [note["title"] for note in await api.resources.notes.query(sort="id", size=100)]


async def test_changes_are_published_at_the_end_in_order(made: Made) -> None:
    api, feed = made
    async with api.transaction() as uow:
        gone = await api.resources.notes.post({"title": "gone"}, transaction=uow)
        note = await api.resources.notes.post({"title": "a"}, transaction=uow)
        await api.resources.notes.post({"title": "b"}, transaction=uow)
        await api.resources.notes.patch(note["id"], {"title": "c"}, transaction=uow)
        await api.resources.notes.delete(gone["id"], transaction=uow)
        assert feed.published == []
    assert len(feed.published) == 1
    assert feed.words == ["post b", "post c"], "one each, by what is committed"


async def test_an_operation_alone_is_a_transaction(made: Made) -> None:
    api, feed = made
    await api.resources.notes.post({"title": "a"})
    await api.resources.notes.post({"title": "b"})
    assert len(feed.published) == 2
    assert await titles(api) == ["a", "b"]


async def test_an_error_undoes_everything_and_publishes_nothing(made: Made) -> None:
    api, feed = made
    with undone():
        async with api.transaction() as uow:
            await api.resources.notes.post({"title": "a"}, transaction=uow)
            raise Boom
    assert feed.changes == []
    assert await titles(api) == []
    await api.resources.notes.post({"title": "b"})
    assert feed.words == ["post b"]


async def test_an_operation_that_fails_leaves_the_rest(made: Made) -> None:
    api, feed = made
    async with api.transaction() as uow:
        await api.resources.notes.post({"title": "a"}, transaction=uow)
        with pytest.raises(ValidationFailed):
            await api.resources.notes.post({}, transaction=uow)
    assert feed.words == ["post a"]


async def test_savepoints(made: Made) -> None:
    api, feed = made

    async def post(title: str) -> None:
        await api.resources.notes.post({"title": title}, transaction=uow)

    async with api.transaction() as uow:
        await post("a")
        with undone():
            async with uow.savepoint():
                await post("b")
                async with uow.savepoint():
                    await post("c")
                raise Boom
        async with uow.savepoint():
            await post("d")
            with undone():
                async with uow.savepoint():
                    await post("e")
                    raise Boom
            await post("f")
    assert feed.words == ["post a", "post d", "post f"]
    assert await titles(api) == ["a", "d", "f"]


async def test_savepoints_first_and_alone(made: Made) -> None:
    api, feed = made
    with undone():
        async with api.transaction() as uow:
            async with uow.savepoint():
                await api.resources.notes.post({"title": "a"}, transaction=uow)
            raise Boom
    assert feed.changes == []
    assert await titles(api) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_use_after_the_end_is_refused(made: Made, fails: bool) -> None:
    api, feed = made
    try:
        async with api.transaction() as uow:
            if fails:
                raise Boom
    except Boom:
        pass
    with pytest.raises(ConfigurationError, match="this unit of work has ended; open a new one"):
        await api.resources.notes.post({"title": "late"}, transaction=uow)
    with pytest.raises(ConfigurationError, match="has ended"):
        async with uow.savepoint():
            pass
    assert feed.changes == []


async def test_fifty_writers_publish_in_the_order_of_their_commits(made: Made) -> None:
    api, feed = made

    async def writer(number: int) -> None:
        async with api.transaction() as uow:
            note = await api.resources.notes.post({"title": f"n{number}"}, transaction=uow)
            await asyncio.sleep(0)
            await api.resources.notes.patch(note["id"], {"body": "x"}, transaction=uow)

    await asyncio.gather(*(writer(number) for number in range(50)))
    assert len(feed.published) == 50
    assert [change.action for change in feed.changes] == ["post"] * 50
    assert all(change.after and change.after["body"] == "x" for change in feed.changes)
    told = [(int(c.id), c.after["title"]) for c in feed.changes if c.after]
    if api._database.dialect_name == "sqlite":
        assert told == sorted(told), "ids are given in the order of the transactions"
    assert await titles(api) == [title for _, title in sorted(told)]


async def test_changes_of_one_record_are_a_chain(made: Made) -> None:
    api, feed = made
    await api.resources.notes.post({"title": "a"})

    async def writer(number: int) -> None:
        await api.resources.notes.patch(1, {"body": str(number)})

    await asyncio.gather(*(writer(number) for number in range(30)))
    for former, latter in zip(feed.changes, feed.changes[1:], strict=False):
        assert latter.before == former.after


async def test_reads_during_a_write_see_the_old_state(url: str) -> None:
    api, _ = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        async with api.transaction() as uow:
            await api.resources.notes.post({"title": "a"}, transaction=uow)
            assert await titles(api) == []
            assert len(await api.resources.notes.query(transaction=uow)) == 1
        assert await titles(api) == ["a"]


async def test_a_deferred_constraint_that_fails_at_commit(url: str) -> None:
    api, feed = make_api(SqlAlchemyPlugin(url, create_tables=True))
    async with api:
        database: Any = api._database
        children = (
            "CREATE TABLE children (id INTEGER PRIMARY KEY, parent_id INTEGER "
            "REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED)"
        )
        await database._writer.call(lambda raw: raw.execute(children))

        async def spoiled() -> None:
            async with api.transaction() as uow:
                await api.resources.notes.post({"title": "a"}, transaction=uow)
                await uow.connection.run("INSERT INTO children (parent_id) VALUES (99)")

        with pytest.raises(Exception, match="foreign key constraint"):
            await spoiled()
        assert feed.changes == []
        assert await titles(api) == []
        await api.resources.notes.post({"title": "b"})
    assert feed.words == ["post b"]


# Cancellation


class Canceller:
    """Cancels a task just after its n-th call to the database was sent off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.task: asyncio.Task[None] | None = None
        self.calls = 0
        self.at = 0
        for kind, names in (
            (_SqliteConnection, ("fetch", "run")),
            (CoreConnection, ("fetch", "commit", "rollback", "savepoint", "release")),
            (_PostgresConnection, ("fetch", "commit", "rollback", "savepoint", "release")),
        ):
            for name in names:
                monkeypatch.setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(*arguments: Any) -> Any:
            if self.task is not None:
                self.calls += 1
                if self.calls == self.at:
                    asyncio.get_running_loop().call_soon(self.task.cancel)
            return await method(*arguments)

        return counted

    async def run(self, work: Callable[[], Any], at: int) -> bool:
        """Run the work and cancel it at a call; False where it has fewer calls."""
        self.calls, self.at = 0, at
        self.task = asyncio.ensure_future(work())
        try:
            await self.task
        except asyncio.CancelledError:
            return True
        finally:
            self.task = None
        return self.calls >= at


async def test_a_cancelled_transaction_is_published_exactly_if_it_was_committed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, feed = made
    canceller = Canceller(monkeypatch)

    async def work() -> None:
        async with api.transaction() as uow:
            note = await api.resources.notes.post({"title": "a"}, transaction=uow)
            async with uow.savepoint():
                await api.resources.notes.patch(note["id"], {"title": "b"}, transaction=uow)

    fates = set()
    for at in range(1, 20):
        feed.published.clear()
        before = len(await titles(api))
        was_cancelled = await canceller.run(work, at)
        committed = len(await titles(api)) - before
        assert feed.words == ["post b"] * committed
        fates.add((was_cancelled, committed))
        # Whatever was cut short, the connection serves the next one.
        await api.resources.notes.post({"title": "next"})
    assert fates == {(True, 0), (True, 1), (False, 1)}


async def test_a_cancelled_read_spoils_no_reader(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = made
    await api.resources.notes.post({"title": "a"})
    canceller = Canceller(monkeypatch)

    async def work() -> None:
        await api.resources.notes.query(page=2, size=1)

    for at in [1, 2, 3] * 5:
        await canceller.run(work, at)
    await asyncio.gather(*(titles(api) for _ in range(10)))
    await api.resources.notes.post({"title": "b"})
    assert await titles(api) == ["a", "b"], "no reader stayed in its old snapshot"


async def test_a_task_that_is_cancelled_while_it_waits_for_its_turn(made: Made) -> None:
    api, feed = made
    async with api.transaction() as uow:
        await api.resources.notes.post({"title": "a"}, transaction=uow)
        waiting = asyncio.ensure_future(api.resources.notes.post({"title": "b"}))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await api.resources.notes.post({"title": "c"})
    assert feed.words == ["post a", "post c"]


async def test_a_timeout_inside_a_savepoint_undoes_the_savepoint_only(made: Made) -> None:
    api, feed = made
    async with api.transaction() as uow:
        await api.resources.notes.post({"title": "a"}, transaction=uow)
        with pytest.raises(TimeoutError):
            await part_that_takes_too_long(api, uow)
    assert feed.words == ["post a"]
    assert await titles(api) == ["a"]


async def part_that_takes_too_long(api: Api, uow: Any) -> None:
    async with asyncio.timeout(None) as limit, uow.savepoint():
        await api.resources.notes.post({"title": "b"}, transaction=uow)
        limit.reschedule(0)
        await asyncio.Event().wait()


async def test_uninterrupted_work_ends_and_then_tells_of_the_cancellation() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> int:
        await gate.wait()
        done.append(1)
        return 7

    task = asyncio.ensure_future(uninterrupted(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]
    assert await uninterrupted(work()) == 7


async def test_uninterrupted_work_that_fails_or_ends_itself() -> None:
    async def fail() -> None:
        raise Boom

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(Boom):
        await uninterrupted(fail())
    with pytest.raises(asyncio.CancelledError):
        await uninterrupted(give_up())
