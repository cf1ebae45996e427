"""In which order what transactions have done to the same records is told, and how often."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.existing.models import Task
from tests.existing.test_capture import notices, shown
from tidings import Api
from tidings.feed import Invalidation

SERVERS = pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])


@pytest.fixture
def database_url(server: str, request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(server)
    return found


async def _add(session: AsyncSession, title: str) -> None:
    session.add(Task(title=title))
    await session.flush()


@SERVERS
async def test_what_tidings_wrote_is_not_told_after_what_the_application_did_to_it(
    api: Api, engine: AsyncEngine
) -> None:
    """Between the two, others have written: their rows part those of the transaction."""
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        document: Any = await api.resources.tasks.post({"title": "gone"}, transaction=session)
        key = uuid.UUID(document["id"])
        await _add(other, "b")
        task = await session.get(Task, key)
        await session.delete(task)
        await session.flush()
        await _add(other, "c")
        await other.commit()
        await session.commit()
    await api._linked.settle()
    assert shown(notices(api)) == [("tasks", "post", None, "b"), ("tasks", "post", None, "c")]


@SERVERS
async def test_what_tidings_wrote_is_told_once_whoever_came_between(
    api: Api, engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        document: Any = await api.resources.tasks.post({"title": "a"}, transaction=session)
        key = document["id"]
        await _add(other, "b")
        await api.resources.tasks.patch(key, {"title": "c"}, transaction=session)
        await other.commit()
        await session.commit()
    await api._linked.settle()
    assert sorted(shown(notices(api))) == [
        ("tasks", "post", None, "b"),
        ("tasks", "post", None, "c"),
    ]


@SERVERS
async def test_a_name_that_a_connection_keeps_joins_no_two_transactions(
    api: Api, engine: AsyncEngine
) -> None:
    """After a transaction of tidings the connection goes on, in those of the application."""
    async with engine.connect() as connection, AsyncSession(connection) as session:
        document: Any = await api.resources.tasks.post({"title": "a"}, transaction=session)
        await session.commit()
        key = uuid.UUID(document["id"])
        for title in ("b", "c"):
            (await session.get_one(Task, key)).title = title
            await session.commit()
        await api.resources.tasks.patch(str(key), {"title": "d"}, transaction=session)
        await session.commit()
    await api._linked.settle()
    assert shown(notices(api)) == [
        ("tasks", "post", None, "a"),
        # Of one connection, with nobody between them: those may be told as one.
        *(
            [("tasks", "patch", "a", "c")]
            if engine.dialect.name in ("mariadb", "mysql")
            else [("tasks", "patch", "a", "b"), ("tasks", "patch", "b", "c")]
        ),
        ("tasks", "patch", "c", "d"),
    ]


@SERVERS
async def test_a_transaction_of_the_page_is_left_alone_that_is_closed_beyond_it(
    api: Api, engine: AsyncEngine
) -> None:
    """What others did meanwhile is told first, and it whole, once it is seen whole."""
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        document: Any = await api.resources.tasks.post({"title": "gone"}, transaction=session)
        await _add(other, "b")
        task = await session.get(Task, uuid.UUID(document["id"]))
        await session.delete(task)
        await session.flush()
        for number in range(150):  # the first page is of a hundred rows
            await _add(other, str(number))
        await other.commit()
        await session.commit()
    await api._linked.settle()
    assert [one[-1] for one in shown(notices(api))] == ["b", *map(str, range(150))]


@SERVERS
async def test_that_all_is_to_be_refetched_is_told_after_what_was_before(
    api: Api, engine: AsyncEngine
) -> None:
    """A long transaction begins first and ends last: what was changed meanwhile is older."""
    async with AsyncSession(engine) as long, AsyncSession(engine) as other:
        await long.execute(
            insert(Task), [{"title": str(n), "uid": uuid.uuid4()} for n in range(2_500)]
        )
        await _add(other, "older")
        await other.commit()
        await long.execute(text("UPDATE task_items SET title = 'newer' WHERE title = 'older'"))
        await long.commit()
    await api._linked.settle()
    found = shown(notices(api))
    assert ("tasks", "post", None, "older") in found
    assert found[-1] == Invalidation("tasks")


@SERVERS
@pytest.mark.parametrize("count", [400, 600, 900])
async def test_what_has_been_told_is_removed_whoever_is_still_at_work(
    api: Api, engine: AsyncEngine, count: int
) -> None:
    """A server that looked at all rows to find these would wait for those of others."""
    async with AsyncSession(engine) as first, AsyncSession(engine) as second:
        await _add(first, "first")
        await second.execute(
            insert(Task), [{"title": str(n), "uid": uuid.uuid4()} for n in range(count)]
        )
        await second.commit()
        async with asyncio.timeout(30):
            while (await api._capture.outbox.state())[0]:  # type: ignore[union-attr]
                await api._linked.settle()
        await first.commit()
    await api._linked.settle()
    assert [one[-1] for one in shown(notices(api))] == [*map(str, range(count)), "first"]


@SERVERS
async def test_a_long_transaction_waits_for_no_open_one_nor_takes_it_along(
    api: Api, engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as first, AsyncSession(engine) as long:
        await api.resources.tasks.post({"title": "first"}, transaction=first)
        await long.execute(
            insert(Task), [{"title": str(n), "uid": uuid.uuid4()} for n in range(2_500)]
        )
        await long.commit()
        await api._linked.settle()
        assert notices(api) == [Invalidation("tasks")]
        await first.commit()
    await api._linked.settle()
    assert shown(notices(api))[1:] == [("tasks", "post", None, "first")]


@pytest.mark.parametrize("server", ["postgres_url"])  # the others tell each for itself
async def test_accounts_without_end_in_one_transaction_are_told_as_one(
    api: Api, engine: AsyncEngine
) -> None:
    """Such as a program gives that calls ``changed`` for each of its records."""
    async with AsyncSession(engine) as session:
        for number in range(2_100):
            await api.changed(
                "tasks", before=None, after={"uid": uuid.UUID(int=number)}, transaction=session
            )
        await session.commit()
    await api._linked.settle()
    assert notices(api) == [Invalidation("tasks")]
