"""Every writer is told: those who write captured tables without tidings."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.existing.kit import declare, make_api
from tests.existing.models import Project, Status, Task
from tidings import Api, ConfigurationError
from tidings.feed import Change, Cursor, Invalidation, Notice


async def told(api: Api, count: int = 1) -> list[Notice]:
    """What the feed has had since it was opened, when so much has come."""
    async with asyncio.timeout(10):
        while len(notices(api)) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return notices(api)


def notices(api: Api) -> list[Notice]:
    return [one for _, one in api._feed.recent(Cursor(api._feed.position.epoch, 0))]


async def first_change(api: Api) -> Any:
    """The first change that the feed has, whatever was told to refetch before it."""
    async with asyncio.timeout(10):
        while not (found := [one for one in notices(api) if isinstance(one, Change)]):
            await asyncio.sleep(0.01)
    return shown(list(found))[0]


def shown(found: list[Notice]) -> list[Any]:
    return [
        (one.resource, one.action, (one.before or {}).get("title"), (one.after or {}).get("title"))
        if isinstance(one, Change)
        else one
        for one in found
    ]


async def test_transactions_that_wait_together_are_told_each_for_itself(api: Api) -> None:
    """Also of a record that came and went among them."""
    relay = api.internals.link.relay
    assert relay is not None
    async with relay._publishing:
        made: Any = await api.resources.tasks.post({"title": "a"})
        await api.resources.tasks.patch(made["id"], {"title": "b"})
        await api.resources.tasks.delete(made["id"])
    await api._linked.settle()
    assert shown(notices(api)) == [
        ("tasks", "post", None, "a"),
        ("tasks", "patch", "a", "b"),
        ("tasks", "delete", "b", None),
    ]


async def test_what_a_session_writes_is_told(api: Api, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        task = Task(title="a")
        session.add(task)
        await session.commit()
        await told(api, 1)
        task.title = "b"
        await session.commit()
        await told(api, 2)
        await session.delete(task)
        await session.commit()
    assert shown(await told(api, 3)) == [
        ("tasks", "post", None, "a"),
        ("tasks", "patch", "a", "b"),
        ("tasks", "delete", "b", None),
    ]


VALUES: dict[str, Any] = {
    "title": 'Ünï "quoted" \\ \n',
    "notes": "n" * 1000,
    "status": Status.IN_PROGRESS,
    "priority": -7,
    "price": Decimal("12345678.90"),
    "rating": 0.1 + 0.2,
    "is_private": True,
    "due_at": datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
    "seen_at": datetime(2024, 3, 1, 10),
    "on_day": date(2024, 3, 2),
    "at_time": time(8, 30),
    "extra": {"a": [1, 0.1, {"b": None}], "ü": "ß"},
    "reviewer": uuid.UUID(int=77),
    "blob": b"\x00\xff",
}


@pytest.mark.parametrize("values", [VALUES, {"title": "only"}])
async def test_images_are_what_tidings_itself_reads(
    api: Api, engine: AsyncEngine, values: dict[str, Any]
) -> None:
    """The same record, as a trigger has noted it and as a query gives it."""
    async with engine.begin() as connection:
        await connection.execute(insert(Task).values(uid=uuid.UUID(int=3), **values))
    (found,) = await told(api)
    assert isinstance(found, Change)
    record = dict(await api.resources.tasks.get(str(uuid.UUID(int=3))))
    assert found.after is not None
    image = {name: value for name, value in found.after.items() if "." not in name}
    assert image == {name: record[name] for name in image}
    assert {name: type(value) for name, value in image.items()} == {
        name: type(record[name]) for name in image
    }


async def test_statements_of_any_kind_are_told(api: Api, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        session.add_all([Task(title="a", uid=uuid.UUID(int=1)), Task(title="b")])
    await told(api, 2)
    async with engine.begin() as connection:
        await connection.execute(update(Task).values(title=Task.title + "!"))
        await connection.execute(text("UPDATE task_items SET title = title WHERE 1 = 1"))
    await told(api, 4)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE task_items SET notes = 'x' WHERE title = 'a!'"))
    await told(api, 5)
    async with engine.begin() as connection:
        await connection.execute(delete(Task).where(Task.title == "a!"))
    found = shown(await told(api, 6))
    assert sorted(found[2:4]) == [("tasks", "patch", "a", "a!"), ("tasks", "patch", "b", "b!")]
    assert found[4:] == [("tasks", "patch", "a!", "a!"), ("tasks", "delete", "a!", None)]


async def test_a_transaction_is_told_by_its_net_effect_after_the_commit(
    api: Api, engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        session.add(Task(title="a", uid=uuid.UUID(int=1)))
    await told(api, 1)
    async with AsyncSession(engine) as session:
        task = await session.get(Task, uuid.UUID(int=1))
        assert task is not None
        for title in "bcd":
            task.title = title
            await session.flush()
        await asyncio.sleep(0.2)
        assert len(notices(api)) == 1, "nothing before the commit"
        await session.commit()
        await told(api, 2)
        task.title = "never"
        await session.flush()
        await session.rollback()
    await asyncio.sleep(0.2)
    assert shown(await told(api, 2))[1:] == [("tasks", "patch", "a", "d")]


async def test_own_writes_are_told_once_and_in_order_with_others(
    api: Api, engine: AsyncEngine
) -> None:
    tasks = api.resources.tasks
    made = await tasks.post({"title": "1"})
    for number in range(2, 12):
        if number % 2:
            await tasks.patch(made["id"], {"title": str(number)})
        else:
            async with AsyncSession(engine) as session, session.begin():
                task = await session.get(Task, uuid.UUID(made["id"]))
                assert task is not None
                task.title = str(number)
    found = shown(await told(api, 2))
    # Several transactions may be told together, where the database does not tell them apart.
    before = None
    for resource, _, old, new in found:
        assert (resource, old) == ("tasks", before)
        before = new
    assert before == "11"
    if engine.dialect.name == "postgresql":
        assert len(found) == 11


async def test_own_and_other_writes_in_one_transaction(api: Api, engine: AsyncEngine) -> None:
    tasks = api.resources.tasks
    made = await tasks.post({"title": "a"})
    await told(api, 1)
    async with AsyncSession(engine) as session, session.begin():
        await tasks.patch(made["id"], {"title": "b"}, transaction=session)
        await session.execute(update(Task).values(title="c"))
        session.add(Task(title="other"))
    found = shown(await told(api, 3))[1:]
    assert sorted(found, key=str) == [
        ("tasks", "patch", "a", "c"),
        ("tasks", "post", None, "other"),
    ]


async def test_many_rows_are_one_resync(api: Api, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            insert(Task), [{"title": str(n), "uid": uuid.UUID(int=n)} for n in range(3_000)]
        )
    found = await told(api, 1)
    assert {type(one).__name__ for one in found} == {"Invalidation"} or len(found) <= 3_001
    async with engine.begin() as connection:
        await connection.execute(update(Task).values(title="x"))
    last = (await told(api, len(found) + 1))[-1]
    assert not isinstance(last, Change)
    assert last.resource == "tasks"
    async with engine.connect() as connection:
        left = await connection.scalar(text("SELECT count(*) FROM tidings_captured"))
    assert left == 0


async def test_paths_are_read_and_a_related_write_is_told_to_refetch(
    api: Api, engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        session.add(Task(title="a", project=Project(title="p")))
    found = await told(api, 2)
    tasks = [one for one in found if isinstance(one, Change) and one.resource == "tasks"]
    # The project was made in the same transaction: what its title was to others is not known.
    assert [one.unknown - one.resynced for one in tasks] == [frozenset()]
    seen = len(found)
    async with engine.begin() as connection:
        await connection.execute(update(Project).values(title="q"))
    found = (await told(api, seen + 2))[seen:]
    (stale,) = [one for one in found if isinstance(one, Invalidation)]
    assert stale.paths == {"project.title"}


async def test_triggers_that_are_gone_or_old_are_said_and_made_anew(
    engine: AsyncEngine, database_url: str, api: Api
) -> None:
    assert await api.triggers.missing() == []
    await api.triggers.remove()
    assert [one.source for one in await api.triggers.missing()] == ["projects", "task_items"]
    other = make_api(database_url, capture="triggers")
    declare(other)
    with pytest.raises(
        ConfigurationError, match="the triggers of projects, task_items are missing"
    ):
        await other.open()
    await other.triggers.install()
    async with other:
        assert await other.triggers.missing() == []
    # A declaration that looks at more needs others.
    third = make_api(database_url, capture="triggers")
    declare(third, row_policy=lambda columns, identity: columns.is_private.is_(False))
    with pytest.raises(ConfigurationError, match="task_items"):
        await third.open()


async def test_what_is_too_long_for_a_change_is_not_even_noted(
    engine: AsyncEngine, database_url: str
) -> None:
    """Else a text of a megabyte were written twice, and read again, at each change of its row."""
    api = make_api(database_url, capture="triggers", create_tables=True)
    declare(api, row_policy=lambda columns, identity: True)
    async with api:
        api._linked.relay._task.cancel()  # type: ignore[union-attr]  # nobody reads meanwhile
        key = uuid.UUID(int=1)
        async with engine.begin() as connection:
            notes = "n" * 60_000 if engine.dialect.name == "mariadb" else "n" * 300_000
            extra = {"a": "x" * 70_000}
            await connection.execute(
                insert(Task).values(uid=key, title="a", notes=notes, extra=extra)
            )
        async with engine.begin() as connection:
            await connection.execute(update(Task).values(title="b"))
        async with engine.connect() as connection:
            sizes = text("SELECT max(length(new_row)), count(*) FROM tidings_captured")
            size, count = (await connection.execute(sizes)).one()
        assert (size < 70_000, count) == (True, 2)
        await api._linked.settle()
        found = [one for one in notices(api) if isinstance(one, Change)]
        left_out = {"extra"} if engine.dialect.name == "mariadb" else {"extra", "notes"}
        for one in found:
            assert left_out <= one.unknown
            assert one.after is not None
            assert not left_out & one.after.keys()
        assert [one.after["title"] for one in found if one.after][-1] == "b"


async def test_a_long_transaction_is_read_in_pages_that_grow(api: Api, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        rows = [{"project_title": str(n)} for n in range(700)]
        await connection.execute(insert(Project.__table__), rows)
    changes = [one for one in await told(api, 700) if isinstance(one, Change)]
    assert len({one.id for one in changes}) == len(changes) == 700


async def looked_at_often(api: Api, *, may_install: bool) -> None:
    await api.triggers.close()
    api.triggers.check_seconds = 0.05
    api.triggers.follow(api._linked.tell_stale, may_install=may_install)


async def complete(api: Api) -> None:
    async with asyncio.timeout(10):
        while api.triggers.is_incomplete:
            await asyncio.sleep(0.01)


async def test_triggers_that_vanish_under_a_running_server_are_said_and_watchers_refetch(
    engine: AsyncEngine, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    await looked_at_often(api, may_install=False)
    await api.triggers.remove()
    async with engine.begin() as connection:  # nobody notes it
        await connection.execute(insert(Project).values(title="unheard"))
    found = await told(api, 4)  # again and again, while they are missing
    assert all(isinstance(one, Invalidation) and not one.paths for one in found)
    assert {one.resource for one in found} == {"projects", "tasks"}
    said = [one.message for one in caplog.records if "have gone" in one.message]
    assert all("tidings triggers install" in one for one in said)
    for table in ("projects", "task_items"):  # once each, however many looks there were
        assert sum(table in one for one in said) == 1

    await api.triggers.install()
    await complete(api)
    async with engine.begin() as connection:
        await connection.execute(insert(Project).values(title="heard"))
    assert await first_change(api) == ("projects", "post", None, "heard")


async def test_a_table_that_a_migration_rebuilds_gets_its_triggers_back(
    engine: AsyncEngine, api: Api
) -> None:
    await looked_at_often(api, may_install=True)
    metadata = Task.metadata
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all, tables=[Task.__table__])
    found = await told(api, 2)
    assert {one.resource for one in found} == {"tasks"}
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all, tables=[Task.__table__])
    await complete(api)
    async with AsyncSession(engine) as session, session.begin():
        session.add(Task(title="after"))
    assert await first_change(api) == ("tasks", "post", None, "after")
