"""query, get, post, put, patch and delete from Python: permissions, hooks, changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.storage.recording import RecordingFeed

from tidings import (
    ANONYMOUS,
    Api,
    AuthenticationError,
    ConfigurationError,
    Conflict,
    FilterError,
    Identity,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    SqlAlchemyPlugin,
    ValidationFailed,
)
from tidings.errors import DatabaseBusy, RelatedNotFound
from tidings.feed import Cursor
from tidings.resources import OperationContext
from tidings.storage import SqliteDatabase

ANNA, BEN = Identity("anna"), Identity("ben")
ADMIN = Identity("root", roles=frozenset({"admin"}))


class Boom(Exception):
    pass


class World:
    """An api with resources of several kinds, its feed, and what its permission checks saw."""

    def __init__(self) -> None:
        self.api = Api()
        self.feed = self.api._feed = RecordingFeed()
        self.asked: list[OperationContext] = []
        self.answer: Callable[[OperationContext], Any] = lambda context: True

    def check(self, context: OperationContext) -> Any:
        values = None if context.values is None else dict(context.values)
        self.asked.append(replace(context, values=values))
        return self.answer(context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api.resources, name)

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        return [(c.action, c.before, c.after) for c in self.feed.changes]


@pytest.fixture(params=["memory", "file"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = World()
    api = world.api
    where = "" if request.param == "memory" else f"/{tmp_path}/test.db"
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite://{where}", create_tables=True))
    # So that changes carry all columns.
    api.add_hook("subscription_filters", "looks", lambda context: None)
    if request.param == "memory":
        api.set_database(SqliteDatabase("sqlite+aiosqlite://", busy_timeout=5), create_tables=True)
    api.add_resource(
        "posts",
        schema={
            "title": {"type": "string", "required": True, "search": True},
            "views": {"type": "integer", "default": 0, "search": ">"},
            "slug": {"type": "string", "unique": True},
            "price": "decimal",
            "at": "dateTime",
            "tags": "array",
            "stamp": {"type": "string", "read_only": True},
            "secret": {"type": "string", "hidden": True},
            "author_id": {"belongs_to": "users"},
            "editor_id": {"belongs_to": "users"},
        },
        relationships={
            "comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"}
        },
        check_permissions=world.check,
    )
    api.add_resource("users", schema={"name": "string"})
    api.add_resource(
        "comments",
        schema={"text": "string", "post_id": {"belongs_to": "posts"}},
        check_permissions=lambda context: context.auth.is_authenticated,
    )
    api.add_resource(
        "diaries",
        schema={"text": "string", "owner": "id"},
        owner_field="owner",
        id_type="string",
        auth={"query": ["public"], "*": ["is_owner", "has_role:admin"]},
    )
    api.add_resource("things", schema={"name": "string"}, id_type="uuid")
    async with api:
        yield world


def row(**values: Any) -> dict[str, Any]:
    """A row of posts, as changes hold it."""
    empty = dict.fromkeys(
        ["slug", "price", "at", "tags", "stamp", "secret", "author_id", "editor_id"]
    )
    return {"id": 1, "title": "a", "views": 0, **empty, **values}


# Writing and reading


async def test_post_gives_the_record_with_what_the_database_made_of_it(world: World) -> None:
    made = await world.posts.post(
        {"title": "a", "price": "1.50", "at": "2024-01-01T01:00:00+01:00", "tags": ["x"]}
    )
    assert made == row(
        id="1", price=Decimal("1.5"), at=datetime(2024, 1, 1, tzinfo=UTC), tags=["x"]
    )
    assert await world.posts.get(1) == made
    assert await world.posts.get("1") == made
    assert world.changes == [("post", None, made | {"id": 1})]
    assert world.feed.changes[0].id == "1"


async def test_values_have_the_types_of_their_fields_from_everywhere() -> None:
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    values = {
        "number": 7.0,
        "decimal": Decimal(7),
        "boolean": True,
        "dateTime": datetime(2024, 1, 1, tzinfo=UTC),
        "date": date(2024, 1, 1),
        "time": time(7),
        "array": [],
        "object": {},
    }
    schema = {name: {"type": name, "search": name not in ("array", "object")} for name in values}
    api.add_resource("all", schema=schema)
    async with api:
        made = await api.resources["all"].post(values)
        patched = await api.resources["all"].patch(1, {"number": 8})
        for record in (made, patched, await api.resources["all"].get(1)):
            assert {name: type(record[name]) for name in values} == {
                name: type(value) for name, value in values.items()
            }
        change = (await api._feed.read(Cursor(api._feed.position.epoch, 0), 1))[0][1]
    assert change.after is not None
    assert type(change.after["number"]) is float


async def test_patch_changes_what_is_given(world: World) -> None:
    await world.posts.post({"title": "a", "views": 3})
    patched = await world.posts.patch(1, {"title": "b"})
    assert patched == row(id="1", title="b", views=3)
    assert world.changes[1:] == [("patch", row(views=3), row(title="b", views=3))]


async def test_a_patch_of_nothing_is_no_change(world: World) -> None:
    await world.posts.post({"title": "a"})
    assert (await world.posts.patch(1, {}))["title"] == "a"
    assert len(world.changes) == 1


async def test_put_replaces_the_whole(world: World) -> None:
    await world.posts.post({"title": "a", "views": 3, "slug": "x"})
    assert await world.posts.put(1, {"title": "b"}) == row(id="1", title="b")
    assert world.changes[1:] == [("update", row(views=3, slug="x"), row(title="b"))]
    with pytest.raises(ValidationFailed):
        await world.posts.put(1, {"views": 1})


async def test_put_keeps_what_a_client_cannot_see_or_set(world: World) -> None:
    await world.posts.post({"title": "a", "stamp": "s", "secret": "x"})
    replaced = await world.posts.put(1, {"title": "b"}, auth=ANNA)
    assert (replaced["stamp"], replaced["secret"]) == ("s", "x")
    trusted = await world.posts.put(1, {"title": "b", "stamp": None, "secret": "y"})
    assert (trusted["stamp"], trusted["secret"]) == (None, "y")


async def test_put_keeps_the_owner_unless_another_is_given(world: World) -> None:
    await world.diaries.post({"id": "d", "text": "a", "owner": "anna"}, auth=ANNA)
    assert await world.diaries.put("d", {"text": "b"}, auth=ANNA) == {
        "id": "d",
        "text": "b",
        "owner": "anna",
    }
    with pytest.raises(PermissionDenied):
        await world.diaries.put("d", {"text": "b", "owner": "ben"}, auth=ANNA)
    with pytest.raises(PermissionDenied):
        await world.diaries.patch("d", {"owner": None}, auth=ANNA)
    assert (await world.diaries.get("d"))["owner"] == "anna"


async def test_put_makes_what_is_not_there_where_ids_may_be_chosen(world: World) -> None:
    key = "6e8bc430-9c3a-11d9-9669-0800200c9a66"
    assert (await world.things.put(key, {"name": "a"}, auth=ANNA))["id"] == key
    assert (await world.things.put(key, {"name": "b"}, auth=ANNA))["id"] == key
    assert [action for action, _, _ in world.changes] == ["post", "update"]
    with pytest.raises(NotFound):
        await world.posts.put(7, {"title": "a"}, auth=ANNA)
    assert (await world.posts.put(7, {"title": "a"}))["id"] == "7", "trusted code may"
    with pytest.raises(NotFound):
        await world.posts.put("x", {"title": "a"})


async def test_making_by_put_needs_permission_to_post_too(world: World) -> None:
    world.answer = lambda context: context.method != "post"
    with pytest.raises(NotFound):
        await world.posts.put(7, {"title": "a"}, auth=ANNA)
    denied = await denial(world.diaries.put("d", {"text": "a", "owner": "ben"}, auth=ANNA))
    assert denied == await denial(world.diaries.put("d", {"text": "a"}, auth=ANNA))


async def denial(call: Any) -> tuple[type[Exception], str]:
    with pytest.raises((PermissionDenied, AuthenticationError)) as caught:
        await call
    return type(caught.value), str(caught.value)


async def test_delete(world: World) -> None:
    await world.posts.post({"title": "a"})
    await world.posts.delete("1")
    assert world.changes[1:] == [("delete", row(), None)]
    with pytest.raises(NotFound, match="There is no 'posts' with id '1'"):
        await world.posts.get(1)


@pytest.mark.parametrize("record_id", [99, "99", "x", "", None, 2**70, [1], {"a": 1}, 1.5, True])
async def test_what_is_not_there_is_not_found(world: World, record_id: Any) -> None:
    for call in (
        world.posts.get(record_id),
        world.posts.patch(record_id, {"title": "b"}),
        world.posts.delete(record_id),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert (caught.value.code, caught.value.resource) == ("RECORD_NOT_FOUND", "posts")
    assert world.changes == []


async def test_ids_given_by_the_sender(world: World) -> None:
    uuid = "6e8bc430-9c3a-11d9-9669-0800200c9a66"
    assert (await world.things.post({"id": uuid}, auth=ANNA))["id"] == uuid
    assert len((await world.things.post({}, auth=ANNA))["id"]) == 36
    with pytest.raises(Conflict) as caught:
        await world.things.post({"id": uuid}, auth=ANNA)
    assert caught.value.code == "ID_TAKEN"
    with pytest.raises(InvalidRequest) as invalid:
        await world.things.post({"id": "7"}, auth=ANNA)
    assert (invalid.value.code, invalid.value.message) == ("INVALID_ID", "id: expected a UUID")
    with pytest.raises(PermissionDenied) as denied:
        await world.posts.post({"id": 7, "title": "a"}, auth=ANNA)
    assert denied.value.code == "CLIENT_ID_NOT_ALLOWED"
    assert (await world.posts.post({"id": 7, "title": "a"}))["id"] == "7"


# Values


async def test_every_wrong_value_is_named_and_nothing_written(world: World) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await world.posts.post({"views": "many", "nope": 1}, auth=ANNA)
    assert {p.field: p.code for p in caught.value.problems} == {
        "title": "REQUIRED",
        "views": "INVALID_VALUE",
        "nope": "UNKNOWN_FIELD",
    }
    with pytest.raises(ValidationFailed, match="id: is no field of 'posts'"):
        await world.posts.patch(await post(world), {"id": 3})
    assert len(world.changes) == 1


async def post(world: World, **values: Any) -> str:
    made = await world.posts.post({"title": "a", **values})
    return str(made["id"])


async def test_read_only_fields_are_for_trusted_code(world: World) -> None:
    with pytest.raises(ValidationFailed, match="stamp: is read only"):
        await world.posts.post({"title": "a", "stamp": "x"}, auth=ANNA)
    record_id = await post(world, stamp="x")
    for call in (world.posts.patch, world.posts.put):
        with pytest.raises(ValidationFailed, match="stamp: is read only"):
            await call(record_id, {"title": "a", "stamp": "y"}, auth=ANNA)
    assert (await world.posts.get(record_id))["stamp"] == "x"


async def test_unique_values(world: World) -> None:
    await post(world, slug="x")
    other = await post(world, slug="y")
    for call in (
        world.posts.post({"title": "b", "slug": "x"}),
        world.posts.patch(other, {"slug": "x"}),
        world.posts.put(other, {"title": "b", "slug": "x"}),
    ):
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.code == "NOT_UNIQUE"
        assert caught.value.details == {"fields": ["slug"]}
    await post(world, slug=None)
    await post(world, slug=None)


async def test_relationships_by_name_or_by_key(world: World) -> None:
    user = (await world.users.post({"name": "u"}))["id"]
    for name in ("author", "author_id"):
        assert (await world.posts.post({"title": "a", name: user}))["author_id"] == 1
        assert (await world.posts.patch(1, {name: None}))["author_id"] is None
        assert (await world.posts.put(1, {"title": "a", name: "1"}))["author_id"] == 1
        with pytest.raises(ValidationFailed, match="author_id: an id has one spelling"):
            await world.posts.put(1, {"title": "a", name: "001"})
    with pytest.raises(ValidationFailed, match="comments: expected a list of ids"):
        await world.posts.post({"title": "a", "comments": "1"})
    with pytest.raises(RelatedNotFound) as caught:
        await world.posts.post({"title": "a", "author": 99, "editor": None})
    assert [problem.field for problem in caught.value.problems] == ["author_id"]


async def test_what_is_referred_to_cannot_be_deleted(world: World) -> None:
    user = (await world.users.post({"name": "u"}))["id"]
    await post(world, author=user)
    with pytest.raises(Conflict) as caught:
        await world.users.delete(user)
    assert caught.value.code == "STILL_REFERENCED"
    assert len(await world.users.query()) == 1


async def test_where_update_gives_no_rows_the_row_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on MySQL."""
    monkeypatch.setattr(type(world.api._database), "update_returning", False)
    record_id = await post(world)
    assert (await world.posts.patch(record_id, {"title": "b"}))["title"] == "b"
    assert world.changes[1:] == [("patch", row(), row(title="b"))]


async def test_what_the_database_alone_refuses_is_a_conflict(world: World) -> None:
    database: Any = world.api._database
    async with database.writing() as connection:
        await connection.run(
            "CREATE TRIGGER t BEFORE INSERT ON posts BEGIN SELECT RAISE(ABORT, 'secret rule'); END"
        )
        await connection.commit()
    with pytest.raises(Conflict) as caught:
        await world.posts.post({"title": "a"})
    assert (caught.value.code, str(caught.value)) == (
        "CONSTRAINT",
        "The database refused the values",
    )


# Queries


async def test_query(world: World) -> None:
    for number, title in enumerate("abcab"):
        await post(world, title=title, views=number)
    found = await world.posts.query({"title": "a"})
    assert [record["id"] for record in found] == ["1", "4"]
    assert (found.total, found.number, found.size, len(found)) == (2, 1, 20, 2)
    assert [r["id"] for r in await world.posts.query({"title": "a", "views": 2})] == ["4"]
    assert [r["id"] for r in await world.posts.query(where={"views": [1, 2]})] == ["2", "3"]
    combined = await world.posts.query({"title": "a"}, where={"views": {">": 0}})
    assert [r["id"] for r in combined] == ["4"]


async def test_the_order_and_the_pages(world: World) -> None:
    for title, views in [("b", 1), ("a", 2), ("c", None), ("a", 1)]:
        await post(world, title=title, views=views)

    async def ids(**options: Any) -> list[str]:
        return [record["id"] for record in await world.posts.query(**options)]

    assert await ids() == ["1", "2", "3", "4"]
    assert await ids(sort="title") == ["2", "4", "1", "3"]
    assert await ids(sort="title,-id") == ["4", "2", "1", "3"]
    assert await ids(sort=["-title", "views"]) == ["3", "1", "4", "2"]
    assert await ids(sort="views") == ["1", "4", "2", "3"]
    assert await ids(sort="-views") == ["2", "1", "4", "3"]
    assert await ids(sort="title", page=2, size=3) == ["3"]
    assert await ids(sort="", page=3, size=3) == []
    for page, size, total in [(1, 3, 4), (2, 3, 4), (9, 3, 4), (1, 4, 4), (1, 9, 4), (1, 1, 4)]:
        assert (await world.posts.query(page=page, size=size)).total == total
    assert (await world.posts.query(where={"title": "z"})).total == 0
    assert (await world.posts.query(where={"title": "z"}, page=2)).total == 0


@pytest.mark.parametrize("sort", ["nope", "secret", "tags", "-", "--title", ",".join("a" * 9)])
async def test_wrong_orders(world: World, sort: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.posts.query(sort=sort)
    assert caught.value.code == "INVALID_SORT"


async def test_wrong_filters(world: World) -> None:
    with pytest.raises(FilterError):
        await world.posts.query({"slug": "x"})
    with pytest.raises(ConfigurationError):
        await world.posts.query(where={"nope": 1})


async def test_related_records_come_along(world: World) -> None:
    user = (await world.users.post({"name": "u"}))["id"]
    first, second = await post(world, author=user, editor=user), await post(world)
    await world.comments.post({"text": "c", "post": first})
    await world.comments.post({"text": "d", "post": second})
    found = await world.posts.query(include=["author", "editor", "comments.post.author"])
    assert {name: [r["id"] for r in rows] for name, rows in found.included.items()} == {
        "users": ["1"],
        "comments": ["1", "2"],
        "posts": ["1", "2"],
    }
    assert (await world.posts.query()).included == {}
    assert (await world.users.query(include=[])).included == {}


@pytest.mark.parametrize(("id_type", "key"), [("integer", "integer"), ("string", "id")])
async def test_to_many_over_a_key_that_is_an_attribute(id_type: str, key: str) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    members = {"members": {"type": "hasMany", "target": "members", "foreign_key": "team_id"}}
    api.add_resource("teams", schema={"name": "string"}, relationships=members, id_type=id_type)
    api.add_resource("members", schema={"name": "string", "team_id": key})
    async with api:
        team = await api.resources.teams.post({"name": "t"})
        await api.resources.members.post({"name": "m", "team_id": team["id"]})
        found = await api.resources.teams.query(include=["members"])
        assert [record["name"] for record in found.included["members"]] == ["m"]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (["nope"], "Cannot include 'nope': 'posts' has no relationship 'nope'"),
        (["author.posts"], "'author.posts': 'users' has no relationship 'posts'"),
        (["author_id"], "no relationship 'author_id'"),
        ([""], "no relationship ''"),
        (["comments.post" * 9], "at most 50 paths of 8 segments"),
        ([".".join(["comments", "post"] * 5)], "at most 50 paths of 8 segments"),
        (["author"] * 51, "at most 50 paths"),
        ([7], "at most 50 paths"),
    ],
)
async def test_wrong_includes(world: World, include: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.posts.query(include=include)
    assert caught.value.code == "INVALID_INCLUDE"
    assert message in str(caught.value)


async def test_one_document_carries_so_many_related_records(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.resources.budget.MAX_READ", 2)
    first = await post(world)
    for _ in range(2):
        await world.comments.post({"post": first})
    assert len((await world.posts.query(include=["comments"])).included["comments"]) == 2
    await world.comments.post({"post": first})
    with pytest.raises(InvalidRequest) as caught:
        await world.posts.query(include=["comments"])
    assert caught.value.code == "INCLUDE_TOO_LARGE"


async def test_more_related_records_than_one_statement_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.storage.lists.CHUNK", 2)
    for _ in range(5):
        user = (await world.users.post({}))["id"]
        await post(world, author=user)
    found = await world.posts.query(include=["author"])
    assert [r["id"] for r in found.included["users"]] == ["1", "2", "3", "4", "5"]


# Permissions


async def test_without_auth_nothing_is_asked(world: World) -> None:
    world.answer = lambda context: False
    record_id = await post(world)
    await world.posts.query()
    await world.posts.get(record_id)
    await world.posts.patch(record_id, {"title": "b"})
    await world.posts.put(record_id, {"title": "b"})
    await world.posts.delete(record_id)
    assert world.asked == []


def calls(world: World, record_id: Any) -> dict[str, Callable[[Identity], Any]]:
    return {
        "query": lambda auth: world.posts.query(auth=auth),
        "get": lambda auth: world.posts.get(record_id, auth=auth),
        "post": lambda auth: world.posts.post({"title": "a"}, auth=auth),
        "put": lambda auth: world.posts.put(record_id, {"title": "b"}, auth=auth),
        "patch": lambda auth: world.posts.patch(record_id, {"title": "b"}, auth=auth),
        "delete": lambda auth: world.posts.delete(record_id, auth=auth),
    }


def deny(context: OperationContext) -> Any:
    raise PermissionDenied("go away", resource="posts")


def fail(context: OperationContext) -> Any:
    raise Boom


async def wait_and_deny(context: OperationContext) -> bool:
    await asyncio.sleep(0)
    return False


@pytest.mark.parametrize(
    "answer",
    [lambda c: False, lambda c: None, lambda c: 1, lambda c: "yes", deny, fail, wait_and_deny],
)
async def test_only_true_allows(world: World, answer: Any) -> None:
    record_id = await post(world)
    world.answer = answer
    for method, call in calls(world, record_id).items():
        with pytest.raises(PermissionDenied) as caught:
            await call(ANNA)
        if answer is not deny:
            assert str(caught.value) == f"You may not {method} 'posts'"
        with pytest.raises(AuthenticationError, match="Authentication required"):
            await call(ANONYMOUS)
    assert len(world.changes) == 1


async def test_a_check_that_cannot_look_is_not_a_denial(world: World) -> None:
    def busy(context: OperationContext) -> Any:
        raise DatabaseBusy("try again")

    world.answer = busy
    with pytest.raises(DatabaseBusy):
        await world.posts.get(1, auth=ANNA)


async def test_a_check_may_wait(world: World) -> None:
    async def allow(context: OperationContext) -> bool:
        await asyncio.sleep(0)
        return True

    world.answer = allow
    assert (await world.posts.post({"title": "a"}, auth=ANNA))["id"] == "1"


@pytest.mark.parametrize("identity", [ANNA, ANONYMOUS])
async def test_a_denial_does_not_tell_whether_the_record_is_there(
    world: World, identity: Identity
) -> None:
    there, not_there = await post(world), 99
    world.answer = lambda context: False
    for method in ("get", "put", "patch", "delete"):
        here = await denial(calls(world, there)[method](identity))
        for missing in (not_there, "x", 2**70):
            assert await denial(calls(world, missing)[method](identity)) == here


async def test_nor_do_rules_on_the_owner(world: World) -> None:
    await world.diaries.post({"id": "d", "owner": "anna"})
    for call in (world.diaries.get, world.diaries.delete):
        assert await denial(call("d", auth=BEN)) == await denial(call("none", auth=BEN))
        assert await denial(call("d", auth=ANONYMOUS)) == await denial(call("x", auth=ANONYMOUS))
    assert (await world.diaries.get("d", auth=ANNA))["id"] == "d"
    assert (await world.diaries.get("d", auth=ADMIN))["id"] == "d"
    with pytest.raises(NotFound):
        await world.diaries.get("none", auth=ADMIN)


async def test_permission_comes_before_validation(world: World) -> None:
    record_id = await post(world)
    world.answer = lambda context: False
    for call in (
        world.posts.post({"nope": 1}, auth=ANNA),
        world.posts.put(record_id, {"nope": 1}, auth=ANNA),
        world.posts.patch(record_id, {"nope": 1}, auth=ANNA),
    ):
        with pytest.raises(PermissionDenied):
            await call


async def test_what_a_check_sees(world: World) -> None:
    record_id = await post(world)
    for call in calls(world, record_id).values():
        await call(ANNA)
    seen = [(c.method, c.id, c.record and c.record["title"], c.values) for c in world.asked]
    assert seen == [
        ("query", None, None, None),
        ("get", "1", "a", None),
        ("post", None, None, {"title": "a"}),
        ("put", "1", "a", {"title": "b"}),
        ("patch", "1", "b", {"title": "b"}),
        ("delete", "1", "b", None),
    ]
    assert {c.auth for c in world.asked} == {ANNA}
    assert {c.resource for c in world.asked} == {"posts"}


async def test_related_records_need_permission_to_be_queried(world: World) -> None:
    await post(world)
    allowed = await world.posts.query(include=["comments"], auth=ANNA)
    assert allowed.total == 1
    with pytest.raises(AuthenticationError):
        await world.posts.query(include=["comments"], auth=ANONYMOUS)
    await world.posts.query(include=["author"], auth=ANONYMOUS)


async def test_a_check_may_look_at_other_records(world: World) -> None:
    """Also while many do: no read holds a connection that the check would wait for."""
    record_id = await post(world)

    async def is_member(context: OperationContext) -> bool:
        uow = context.transaction
        members = await world.users.query(where={"name": context.auth.user_id}, transaction=uow)
        return members.total == 1

    world.answer = is_member
    with pytest.raises(PermissionDenied):
        await world.posts.get(record_id, auth=ANNA)
    await world.users.post({"name": "anna"})
    got = await asyncio.gather(*(world.posts.get(record_id, auth=ANNA) for _ in range(20)))
    assert len(got) == 20
    for call in calls(world, record_id).values():
        await call(ANNA)
    async with world.api.transaction() as uow:
        await world.posts.post({"title": "a"}, auth=ANNA, transaction=uow)
        await world.posts.get(2, auth=ANNA, transaction=uow)
        await world.posts.query(auth=ANNA, transaction=uow)


async def test_too_many_related_records_are_told_only_to_those_who_may_know(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.resources.budget.MAX_READ", 0)
    await world.comments.post({"post": await post(world)})
    operations = world.api._assembled.operations

    async def get() -> Any:
        tree: dict[str, Any] = {"comments": {}}
        return await operations.get("posts", 1, include=lambda view: tree, auth=ANNA)

    with pytest.raises(InvalidRequest, match="More than 0 related records"):
        await get()
    world.answer = lambda context: False
    with pytest.raises(PermissionDenied):
        await get()


# Hooks


async def test_before_write_completes_what_was_given(world: World) -> None:
    def stamp(context: OperationContext) -> None:
        if context.values is not None:
            context.values["stamp"] = context.auth.user_id
            context.values.setdefault("title", "untitled")

    world.api.add_hook("before_write", "stamp", stamp)
    made = await world.posts.post({}, auth=ANNA)
    assert (made["title"], made["stamp"]) == ("untitled", "anna")
    assert (await world.posts.patch(1, {"views": 1}, auth=BEN))["stamp"] == "ben"
    assert (await world.posts.put(1, {"title": "x"}, auth=ANNA))["stamp"] == "anna"


async def test_what_a_hook_completes_is_validated(world: World) -> None:
    world.api.add_hook("before_write", "spoil", lambda c: c.values.update(views="many"))
    with pytest.raises(ValidationFailed, match="views: expected an integer"):
        await world.posts.post({"title": "a"})


async def test_before_write_may_refuse(world: World) -> None:
    record_id = await post(world)
    world.api.add_hook("before_write", "refuse", fail)
    for method, call in calls(world, record_id).items():
        if method not in ("query", "get"):
            with pytest.raises(Boom):
                await call(ANNA)
    assert len(world.changes) == 1
    assert (await world.posts.query()).total == 1


async def test_after_write_sees_both_states(world: World) -> None:
    seen: list[Any] = []

    async def look(context: OperationContext) -> None:
        assert context.transaction is not None
        here = await world.posts.query(transaction=context.transaction)
        seen.append(
            (
                context.method,
                context.id,
                context.record and context.record["title"],
                context.after and context.after["title"],
                here.total,
            )
        )

    world.api.add_hook("after_write", "look", look)
    record_id = await post(world)
    await world.posts.patch(record_id, {"title": "b"})
    await world.posts.put(record_id, {"title": "c"})
    await world.posts.delete(record_id)
    assert seen == [
        ("post", "1", None, "a", 1),
        ("patch", "1", "a", "b", 1),
        ("put", "1", "b", "c", 1),
        ("delete", "1", "c", None, 0),
    ]


async def test_an_error_in_after_write_undoes_the_write(world: World) -> None:
    record_id = await post(world)
    world.api.add_hook("after_write", "fail", fail)
    for method, call in calls(world, record_id).items():
        if method not in ("query", "get"):
            with pytest.raises(Boom):
                await call(ANNA)
    assert world.changes == [("post", None, row())]
    assert await world.posts.get(record_id) == row(id="1")


async def test_also_inside_a_larger_transaction(world: World) -> None:
    def refuse(context: OperationContext) -> None:
        if context.after is None or context.after["title"] == "bad":
            raise Boom

    world.api.add_hook("after_write", "refuse", refuse)
    async with world.api.transaction() as uow:
        made = await world.posts.post({"title": "good"}, transaction=uow)
        for call in (
            world.posts.post({"title": "bad"}, transaction=uow),
            world.posts.patch(made["id"], {"title": "bad"}, transaction=uow),
            world.posts.put(made["id"], {"title": "bad"}, transaction=uow),
            world.posts.delete(made["id"], transaction=uow),
        ):
            with pytest.raises(Boom):
                await call
        await world.posts.patch(made["id"], {"views": 7}, transaction=uow)
    assert world.changes == [("post", None, row(id=1, title="good", views=7))]
    assert (await world.posts.query()).records == [row(id="1", title="good", views=7)]


async def test_what_a_hook_writes_goes_with_the_write(world: World) -> None:
    async def log(context: OperationContext) -> None:
        if context.resource == "posts":
            await world.users.post({"name": context.method}, transaction=context.transaction)
            if context.method == "delete":
                raise Boom

    world.api.add_hook("after_write", "log", log)
    record_id = await post(world)
    with pytest.raises(Boom):
        await world.posts.delete(record_id)
    assert [change.resource for change in world.feed.changes] == ["posts", "users"]
    assert [r["name"] for r in await world.users.query()] == ["post"]


# Transactions


async def test_operations_in_one_transaction_see_each_other(world: World) -> None:
    async with world.api.transaction() as uow:
        made = await world.posts.post({"title": "a"}, transaction=uow)
        await world.comments.post({"post": made["id"]}, transaction=uow)
        found = await world.posts.query(include=["comments"], page=1, transaction=uow)
        assert len(found.included["comments"]) == 1
        assert (await world.posts.get(made["id"], transaction=uow))["title"] == "a"
        with pytest.raises(Conflict):
            await world.posts.delete(made["id"], transaction=uow)
    assert [change.resource for change in world.feed.changes] == ["posts", "comments"]


async def test_concurrent_patches_of_one_record_lose_nothing(world: World) -> None:
    record_id = await post(world)

    async def increment() -> None:
        async with world.api.transaction() as uow:
            views = (await world.posts.get(record_id, transaction=uow))["views"]
            await world.posts.patch(record_id, {"views": views + 1}, transaction=uow)

    await asyncio.gather(*(increment() for _ in range(20)))
    assert (await world.posts.get(record_id))["views"] == 20
    after = [change.after["views"] for change in world.feed.changes if change.after]
    assert after == list(range(21))
