"""``on_delete``: what goes with a record that is deleted, and that each of it is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, MetaData, String
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from tests.http.kit import SECRET, Client, error, serving_quietly
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.resources import deleting


def make(url: str | AsyncEngine, **options: Any) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True, **options))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    return api


def nobody(_context: OperationContext) -> bool:
    return False


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    api = make(database_url)
    api.add_resource("users", {"name": "string"})
    api.add_resource(
        "posts",
        {
            "title": {"type": "string", "search": True},
            "author_id": {"belongs_to": "users", "on_delete": "cascade", "required": True},
        },
        search_schema={"author.name": {}},
        check_permissions=nobody,
        row_policy=lambda c, _i: c.title != "hidden",
    )
    api.add_resource(
        "comments",
        {
            "text": "string",
            "post_id": {"belongs_to": "posts", "on_delete": "cascade"},
            "parent_id": {"belongs_to": "comments", "on_delete": "cascade"},
            "user_id": {"belongs_to": "users", "on_delete": "set_null"},
        },
        search_schema={"post.title": {}},
    )
    api.add_resource("likes", {"comment_id": {"belongs_to": "comments"}})
    async with api:
        for name in ("Ada", "Grace"):
            await api.resources.users.post({"name": name})
        for title, author in (("one", 1), ("hidden", 1), ("of Grace", 2)):
            await api.resources.posts.post({"title": title, "author_id": author})
        for post, parent, user in ((1, None, 2), (1, 1, 1), (2, None, 2), (3, None, 1)):
            values = {"post_id": post, "parent_id": parent, "user_id": user}
            await api.resources.comments.post({"text": "x", **values})
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


async def follow(api: Api, *resources: str) -> dict[str, Any]:
    wires = {}
    for name in resources:
        who, wire = subscriber(name)
        await api.socket_server._service.subscribe(who, {"resource": name})
        wires[name] = wire
    return wires


async def test_everything_goes_and_each_of_it_is_told_once(library: Api, http: Client) -> None:
    wires = await follow(library, "users", "comments")
    start = library._feed.position
    assert (await http.delete("/users/1")).status_code == 204
    await delivered(library)
    assert [one["id"] for one in await library.resources.posts.query()] == ["3"]
    (left,) = await library.resources.comments.query()
    assert (left["id"], left["user_id"], left["post_id"]) == ("4", None, 3)
    noted = [change for _, change in await library._feed.read(start, 50)]
    told = [(one.resource, one.id, one.action) for one in noted if not one.derived]  # type: ignore[union-attr]
    assert len(told) == len(set(told))
    gone = [("posts", "1"), ("posts", "2"), ("comments", "1"), ("comments", "2")]
    assert set(told) == {
        ("users", "1", "delete"),
        *((name, key, "delete") for name, key in [*gone, ("comments", "3")]),
        ("comments", "4", "patch"),
    }
    assert told[-1] == ("users", "1", "delete")
    events = {(one["id"], one["action"]) for one in wires["comments"].events()}
    assert events == {("1", "delete"), ("2", "delete"), ("3", "delete"), ("4", "patch")}


async def test_what_is_restricted_further_down_keeps_all(library: Api, http: Client) -> None:
    await library.resources.likes.post({"comment_id": 2})
    start = library._feed.position
    error(await http.delete("/users/1"), 409, "STILL_REFERENCED")
    assert len(await library.resources.posts.query()) == 3
    assert len(await library.resources.comments.query()) == 4
    assert library._feed.position == start


async def test_it_is_of_the_transaction(library: Api) -> None:
    with pytest.raises(RuntimeError):
        async with library.transaction() as uow:
            await library.resources.users.delete("1", transaction=uow)
            raise RuntimeError
    assert len(await library.resources.comments.query()) == 4
    async with library.transaction() as uow:
        await library.resources.users.delete("1", transaction=uow)
        await library.resources.users.delete("2", transaction=uow)
    assert [one["id"] for one in await library.resources.comments.query()] == []


async def test_hooks_run_for_each(library: Api) -> None:
    seen: list[tuple[str, str | None, str]] = []

    @library.hook("after_write")
    async def note(context: OperationContext) -> None:
        seen.append((context.resource, context.id, context.method))

    await library.resources.users.delete("2")
    assert sorted(seen) == [
        ("comments", "1", "patch"),
        ("comments", "3", "patch"),
        ("comments", "4", "delete"),
        ("posts", "3", "delete"),
        ("users", "2", "delete"),
    ]


async def test_too_many_are_refused(
    library: Api, http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleting, "MAX_TAKEN", 5)
    error(await http.delete("/users/1"), 409, "TOO_MANY_DEPENDENTS")
    assert len(await library.resources.comments.query()) == 4
    monkeypatch.setattr(deleting, "MAX_TAKEN", 6)
    assert (await http.delete("/users/1")).status_code == 204


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"belongs_to": "users", "on_delete": "drop"}, "on_delete is one of 'restrict'"),
        ({"type": "integer", "on_delete": "cascade"}, "belongs to a field with belongs_to"),
        ({"belongs_to": "users", "required": True, "on_delete": "set_null"}, "must have a value"),
    ],
)
def test_wrong_declarations(field: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Api(name="test").add_resource("posts", {"author_id": field})


class Base(DeclarativeBase):
    metadata = MetaData()


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Task(Base):
    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    last_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="SET NULL"))
    team: Mapped[Team] = relationship(foreign_keys=team_id)
    last: Mapped[Team | None] = relationship(foreign_keys=last_id)


@pytest.mark.parametrize("most", [1_000, 2])
async def test_what_a_model_s_database_deletes_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(deleting, "MAX_TAKEN", most)
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    api = make(database_url)
    api.add_resource("teams", Team, fields=["name"])
    api.add_resource("tasks", Task, fields=["title", "team", "last"])
    async with api:
        for name in ("red", "blue"):
            await api.resources.teams.post({"name": name})
        for number in range(4):
            values = {"title": str(number), "team": 1 if number < 3 else 2, "last": 1}
            await api.resources.tasks.post(values)
        wires = await follow(api, "tasks")
        await api.resources.teams.delete("1")
        await delivered(api)
        (left,) = await api.resources.tasks.query()
        assert (left["title"], left["last_id"]) == ("3", None)
        if most == 2:
            assert wires["tasks"].events("subscription.resync")
        else:
            told = [(one["id"], one["action"]) for one in wires["tasks"].events()]
            assert told == [("1", "delete"), ("2", "delete"), ("3", "delete"), ("4", "patch")]
    await engine.dispose()


async def test_replies_to_replies_however_deep(library: Api, http: Client) -> None:
    parent: int | None = None
    for number in range(990):
        made = await library.resources.comments.post({"post_id": 3, "parent_id": parent})
        parent = int(made["id"])
        if number == 0:
            first = made["id"]
    assert (await http.delete(f"/comments/{first}")).status_code == 204
    assert len(await library.resources.comments.query({"post.title": "of Grace"})) == 1
