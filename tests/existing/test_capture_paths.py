"""Foreign writes and paths: filters and policies through relationships, exact or refetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tests.realtime.kit import Wire, spoken
from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.realtime.subscriptions import Subscriber


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "cp_teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    members: Mapped[list[Member]] = relationship(back_populates="team")


class Member(Base):
    __tablename__ = "cp_members"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(String(50))
    team_id: Mapped[int] = mapped_column(ForeignKey("cp_teams.id"))
    team: Mapped[Team] = relationship(back_populates="members")


class Task(Base):
    __tablename__ = "cp_tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("cp_teams.id"))
    team: Mapped[Team | None] = relationship()
    labels: Mapped[list[Label]] = relationship()


class Label(Base):
    __tablename__ = "cp_labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    task_id: Mapped[int | None] = mapped_column(ForeignKey("cp_tasks.id"))


def of_a_member(_columns: Any, identity: Identity) -> Any:
    return {"team.members.user": identity.user_id}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Team), [{"title": "red"}, {"title": "blue"}])
        people = [("ann", 1), ("ben", 2), ("cleo", 1), ("cleo", 2)]
        values = [{"user": user, "team_id": team} for user, team in people]
        await connection.execute(insert(Member), values)
    yield engine
    await engine.dispose()


@pytest.fixture(params=[True, False], ids=["policy", "open"])
async def api(
    request: pytest.FixtureRequest, engine: AsyncEngine, database_url: str
) -> AsyncIterator[Api]:
    api = Api(name="paths")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, capture="triggers", create_tables=True))
    api.use(JWTAuthPlugin(secret="a secret of the tests, which is long enough"))
    api.use(SocketIOPlugin())
    api.add_resource("teams", Team, fields=["title", "members"])
    api.add_resource("members", Member, fields=["user", "team"])
    api.add_resource("labels", Label, fields=["name", "task_id"])
    more: dict[str, Any] = {}
    if request.param:
        more = {"row_policy": of_a_member, "borrows": ["team.members.user"]}
    api.add_resource(
        "tasks",
        Task,
        fields=["title", "team", "labels"],
        search_schema={"title": {}, "team.title": {}, "labels.name": {}},
        **more,
    )
    async with api:
        yield api


Told = list[tuple[str, str]]


class Watching:
    """What subscriptions were told, each time that it is asked."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.wires: dict[str, Wire] = {}
        self.seen: dict[str, int] = {}

    async def add(self, name: str, user: str, **filters: Any) -> None:
        wire = self.wires[name] = Wire()
        who = Subscriber(name, Identity(user_id=user), wire)
        asked = {"resource": "tasks", "filters": filters}
        await self.api.socket_server._service.subscribe(who, asked)
        self.seen[name] = len(wire.frames)

    async def told(self) -> dict[str, Told]:
        await self.api._linked.settle()
        await self.api.socket_server.settled()
        found: dict[str, Told] = {}
        for name, wire in self.wires.items():
            events = [spoken(one) for one in wire.frames[self.seen[name] :]]
            self.seen[name] = len(wire.frames)
            found[name] = [
                (payload["meta"]["change"], payload["id"])
                if event == "subscription.update"
                else ("resync", payload["reason"])
                for event, payload in events
            ]
        return found


async def test_a_path_of_one_filter_concerns_no_other(api: Api, engine: AsyncEngine) -> None:
    watching = Watching(api)
    await watching.add("plain", "cleo")
    await watching.add("red", "cleo", **{"team.title": "red"})
    await watching.add("blue", "cleo", **{"team.title": "blue"})
    async with engine.begin() as connection:
        await connection.execute(insert(Task), [{"title": "a", "team_id": 1}])
    assert await watching.told() == {
        "plain": [("enter", "1")],
        "red": [("enter", "1")],
        "blue": [],
    }
    async with engine.begin() as connection:
        await connection.execute(update(Task).values(title="b"))
    assert await watching.told() == {
        "plain": [("update", "1")],
        "red": [("update", "1")],
        "blue": [],
    }
    async with engine.begin() as connection:
        await connection.execute(update(Task).values(team_id=2))
    assert await watching.told() == {
        "plain": [("update", "1")],
        "red": [("leave", "1")],
        "blue": [("enter", "1")],
    }
    async with engine.begin() as connection:
        await connection.execute(update(Team).where(Team.id == 2).values(title="green"))
    assert await watching.told() == {
        "plain": [],
        "red": [("resync", "bulk")],
        "blue": [("resync", "bulk")],
    }
    async with engine.begin() as connection:
        await connection.execute(delete(Task))
    told = await watching.told()
    assert told["red"] == []
    assert told["plain"] in ([("leave", "1")], [("resync", "bulk")])


@pytest.mark.parametrize("api", [True], ids=["policy"], indirect=True)
async def test_members_are_told_and_others_are_not(api: Api, engine: AsyncEngine) -> None:
    watching = Watching(api)
    for user in ("ann", "ben", "cleo", "eve"):
        await watching.add(user, user)
    async with engine.begin() as connection:
        await connection.execute(
            insert(Task),
            [
                {"title": "r", "team_id": 1},
                {"title": "b", "team_id": 2},
                {"title": "-", "team_id": None},
            ],
        )
    assert await watching.told() == {
        "ann": [("enter", "1")],
        "ben": [("enter", "2")],
        "cleo": [("enter", "1"), ("enter", "2")],
        "eve": [],
    }
    async with engine.begin() as connection:
        await connection.execute(update(Task).where(Task.id == 1).values(team_id=2))
        await connection.execute(update(Task).where(Task.id == 2).values(title="x"))
    assert await watching.told() == {
        "ann": [("leave", "1")],
        "ben": [("enter", "1"), ("update", "2")],
        "cleo": [("update", "1"), ("update", "2")],
        "eve": [],
    }
    async with engine.begin() as connection:
        await connection.execute(delete(Task).where(Task.id == 2))
    assert await watching.told() == {
        "ann": [],
        "ben": [("leave", "2")],
        "cleo": [("leave", "2")],
        "eve": [],
    }
    # A membership brings and takes tasks: who may have them is to look.
    async with engine.begin() as connection:
        await connection.execute(insert(Member), [{"user": "eve", "team_id": 2}])
    told = await watching.told()
    assert told["eve"] == [("resync", "bulk")]


async def test_what_may_be_gone_is_told_once_for_a_transaction(
    api: Api, engine: AsyncEngine
) -> None:
    watching = Watching(api)
    async with engine.begin() as connection:
        await connection.execute(
            insert(Task), [{"title": "a", "team_id": 1}, {"title": "b", "team_id": 1}]
        )
        await connection.execute(insert(Label), [{"name": "hot", "task_id": 1}])
    await watching.told()
    await watching.add("plain", "ann", title="a")
    await watching.add("hot", "ann", **{"labels.name": "hot"})
    async with engine.begin() as connection:
        await connection.execute(update(Task).values(title="c"))
    assert await watching.told() == {"plain": [("leave", "1")], "hot": [("update", "1")]}
    async with engine.begin() as connection:
        await connection.execute(update(Label).values(task_id=None))
        await connection.execute(delete(Task))
    told = await watching.told()
    assert told["plain"] == []
    assert told["hot"] == [("resync", "bulk")]


async def test_writers_at_once_are_told_exactly(api: Api, engine: AsyncEngine) -> None:
    """Each of many transactions brings a task of a team: nobody is told of another team's."""
    watching = Watching(api)
    await watching.add("red", "cleo", **{"team.title": "red"})

    async def write(number: int) -> None:
        async with engine.begin() as connection:
            values = [{"title": str(number), "team_id": number % 2 + 1}]
            await connection.execute(insert(Task), values)

    is_sqlite = engine.dialect.name == "sqlite"
    for start in range(0, 40, 1 if is_sqlite else 8):
        await asyncio.gather(*(write(start + n) for n in range(1 if is_sqlite else 8)))
    told = (await watching.told())["red"]
    reds = await api.resources.tasks.query(where={"team_id": 1}, size=50)
    assert sorted(told) == sorted(("enter", one["id"]) for one in reds)
