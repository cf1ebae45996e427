"""Many-to-many relationships: with a link resource that is declared, and with one that is made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from tests.http.kit import SECRET, Client, bearer, document, error, serving_quietly
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    ConfigurationError,
    Identity,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)


def make(url: str) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    return api


@pytest.fixture(params=["made", "declared"])
async def library(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Api]:
    """Posts and tags; the pairs are in ``posts_tags``, whoever makes it."""
    api = make(database_url)
    declared = {"through": "posts_tags"} if request.param == "declared" else {}
    api.add_resource(
        "posts",
        {"title": {"type": "string", "search": True}},
        relationships={"tags": {"type": "manyToMany", "target": "tags", **declared}},
        search_schema={"tags.name": {"filter_operator": "in"}},
    )
    api.add_resource(
        "tags",
        {"name": {"type": "string", "search": True}},
        relationships={"posts": {"type": "manyToMany", "target": "posts", **declared}},
    )
    if declared:
        api.add_resource(
            "posts_tags",
            {
                "posts_id": {"belongs_to": "posts", "required": True, "on_delete": "cascade"},
                "tags_id": {"belongs_to": "tags", "required": True, "on_delete": "cascade"},
                "note": "string",
            },
        )
    async with api:
        for title in ("one", "two", "three"):
            await api.resources.posts.post({"title": title})
        for name in ("red", "green", "blue", "grey"):
            await api.resources.tags.post({"name": name})
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


def many(resource: str, *keys: int) -> dict[str, Any]:
    return {"data": [{"type": resource, "id": str(key)} for key in keys]}


async def tags(http: Client, post: int = 1) -> list[str]:
    return await http.ids(f"/posts/{post}/relationships/tags?sort=id")


async def link(http: Client, method: str, *keys: int, post: int = 1) -> Any:
    return await http.write(method, f"/posts/{post}/relationships/tags", many("tags", *keys))


async def test_taking_up_letting_go_and_replacing(http: Client) -> None:
    assert await tags(http) == []
    assert (await link(http, "POST", 1, 2)).status_code == 204
    assert (await link(http, "POST", 2, 3)).status_code == 204
    assert await tags(http) == ["1", "2", "3"]
    assert (await link(http, "DELETE", 2, 4)).status_code == 204
    assert await tags(http) == ["1", "3"]
    assert (await link(http, "PATCH", 3, 4)).status_code == 204
    assert await tags(http) == ["3", "4"]
    assert await http.ids("/tags/3/posts") == ["1"]
    assert await http.ids("/tags/1/posts") == []
    assert (await link(http, "PATCH")).status_code == 204
    assert await tags(http) == []


async def test_related_records_as_a_list(http: Client) -> None:
    for post, keys in ((1, (1, 2, 3)), (2, (3, 4))):
        await link(http, "POST", *keys, post=post)
    url = "/posts/1/tags?sort=-name&page[size]=2"
    first = (await http.get(url)).json()
    assert [one["attributes"]["name"] for one in first["data"]] == ["red", "green"]
    assert first["meta"]["page"]["total"] == 3
    second = (await http.get(first["links"]["next"].removeprefix("/api"))).json()
    assert [one["attributes"]["name"] for one in second["data"]] == ["blue"]
    assert await http.ids("/posts/1/tags?filter[name]=blue") == ["3"]
    assert await http.ids("/posts/2/tags?page[after]=&sort=name") == ["3", "4"]
    included = (await http.get("/posts/2/tags?include=posts")).json()["included"]
    assert sorted(one["id"] for one in included) == ["1", "2"]


async def test_included(http: Client) -> None:
    await link(http, "POST", 1, 3)
    await link(http, "POST", 3, post=2)
    found = (await http.get("/posts?include=tags&sort=id")).json()
    members = [one["relationships"]["tags"]["data"] for one in found["data"]]
    assert members == [many("tags", 1, 3)["data"], many("tags", 3)["data"], []]
    assert sorted(one["id"] for one in found["included"]) == ["1", "3"]
    deep = (await http.get("/tags/3?include=posts.tags")).json()
    assert {(one["type"], one["id"]) for one in deep["included"]} == {
        ("posts", "1"),
        ("posts", "2"),
        ("tags", "1"),
    }
    linkage = (await http.get("/posts/1/relationships/tags?include=tags.posts")).json()
    assert len(linkage["included"]) == 4


async def test_within_documents_and_from_python(library: Api, http: Client) -> None:
    body = document("posts", {"title": "new"})
    body["data"]["relationships"] = {"tags": many("tags", 2, 1)}
    made = await http.write("POST", "/posts?include=tags", body)
    assert made.status_code == 201, made.text
    data = made.json()["data"]
    assert {one["id"] for one in data["relationships"]["tags"]["data"]} == {"1", "2"}
    data["relationships"]["tags"] = many("tags", 2, 4)
    for method in ("PATCH", "PUT"):
        answer = await http.write(method, f"/posts/{data['id']}", {"data": data})
        assert answer.status_code == 200, answer.text
        assert await tags(http, int(data["id"])) == ["2", "4"]
    await library.resources.posts.patch(data["id"], {"tags": ["3"]})
    assert await tags(http, int(data["id"])) == ["3"]
    found = await library.resources.tags.query(include=["posts"])
    assert [one["id"] for one in found.included["posts"]] == [data["id"]]


async def test_what_is_not_there(http: Client) -> None:
    for method in ("POST", "PATCH"):
        for key in (99, "x"):
            answer = await http.write(
                method,
                "/posts/1/relationships/tags",
                many("tags", 1, key),  # type: ignore[arg-type]
            )
            error(answer, 404, "RELATED_NOT_FOUND", pointer="/data")
        assert await tags(http) == []
    assert (await link(http, "DELETE", 99)).status_code == 204
    error(await link(http, "POST", *range(1, 600)), 400, "TOO_MANY_MEMBERS")
    wrong = await http.write("POST", "/posts/1/relationships/tags", many("posts", 1))
    error(wrong, 409, "TYPE_CONFLICT")


async def test_what_is_told(library: Api, http: Client) -> None:
    wires = {}
    for name in ("posts", "tags"):
        who, wire = subscriber(name)
        await library.socket_server._service.subscribe(who, {"resource": name})
        wires[name] = wire
    await link(http, "POST", 1, 2)
    await link(http, "PATCH", 2, 3)
    await link(http, "PATCH", 2, 3)  # as it is: nothing is told
    await delivered(library)

    def told(name: str) -> list[tuple[str, str]]:
        return [(one["id"], one["action"]) for one in wires[name].events()]

    assert told("posts") == [("1", "patch"), ("1", "patch")]
    assert sorted(told("tags")) == [(key, "patch") for key in ("1", "1", "2", "3")]


async def test_filters_through_it_and_enter_and_leave(library: Api, http: Client) -> None:
    await link(http, "POST", 1, 2)
    await link(http, "POST", 3, post=2)
    assert await http.ids("/posts?filter[tags.name]=red,blue") == ["1", "2"]
    who, wire = subscriber()
    given = {"resource": "posts", "filters": {"tags.name": ["red"]}}
    await library.socket_server._service.subscribe(who, given)
    await link(http, "POST", 1, post=2)  # enters
    await link(http, "DELETE", 1)  # leaves
    await http.change("tags", 2, {"name": "red"})  # of post 1: enters
    await http.delete("/tags/1")  # of post 2: leaves
    await delivered(library)
    told = [(one["id"], one["meta"]["change"]) for one in wire.events()]
    assert told == [("2", "enter"), ("1", "leave"), ("1", "enter"), ("2", "leave")]


async def test_a_deleted_record_takes_its_pairs_along(library: Api, http: Client) -> None:
    await link(http, "POST", 1, 2)
    assert (await http.delete("/posts/1")).status_code == 204
    assert await http.ids("/tags/1/posts") == []
    assert (await http.delete("/tags/1")).status_code == 204


async def test_writers_at_once_leave_one_of_their_states(http: Client) -> None:
    sets = [(1, 2), (3, 4), (1, 4)]
    for _ in range(5):
        answers = await asyncio.gather(*(link(http, "PATCH", *keys) for keys in sets))
        assert {one.status_code for one in answers} <= {204, 409}
        assert await tags(http) in [[str(key) for key in keys] for keys in sets]


async def test_random_writes_against_a_model(http: Client) -> None:
    random = Random(3)
    model: dict[int, set[int]] = {1: set(), 2: set(), 3: set()}
    for _ in range(60):
        post = random.randint(1, 3)
        keys = random.sample([1, 2, 3, 4], random.randint(0, 3))
        method = random.choice(["POST", "PATCH", "DELETE"])
        assert (await link(http, method, *keys, post=post)).status_code == 204
        if method == "PATCH":
            model[post] = set(keys)
        elif method == "POST":
            model[post] |= set(keys)
        else:
            model[post] -= set(keys)
        assert await tags(http, post) == [str(key) for key in sorted(model[post])]
    for tag in (1, 2, 3, 4):
        held = [str(post) for post in (1, 2, 3) if tag in model[post]]
        assert await http.ids(f"/tags/{tag}/relationships/posts?sort=id") == held


# Who may


def allowed(context: OperationContext) -> bool:
    return "linker" in context.auth.roles or context.method in ("get", "query")


def of_user(columns: Any, identity: Identity) -> Any:
    return columns.owner == identity.user_id


@pytest.fixture
async def guarded(database_url: str) -> AsyncIterator[Client]:
    """Teams and people; memberships are seen by their owner, and made by linkers."""
    api = make(database_url)
    through = {"type": "manyToMany", "through": "memberships"}
    api.add_resource(
        "teams", {"name": "string"}, relationships={"people": {**through, "target": "people"}}
    )
    api.add_resource(
        "people",
        {"name": "string", "secret": {"type": "boolean", "default": False}},
        relationships={"teams": {**through, "target": "teams"}},
        row_policy={"*": lambda c, _i: c.secret == False},  # noqa: E712
    )
    api.add_resource(
        "memberships",
        {
            "owner": "string",
            "team_id": {"belongs_to": "teams"},
            "person_id": {"belongs_to": "people"},
        },
        row_policy={"query": of_user, "get": of_user, "*": lambda _c, _i: True},
        check_permissions=allowed,
    )

    @api.hook("before_write")
    async def own(context: OperationContext) -> None:
        if context.resource == "memberships" and context.values is not None:
            context.values["owner"] = context.auth.user_id

    async with api:
        await api.resources.teams.post({"name": "red"})
        for name, secret in (("Ada", False), ("Grace", False), ("Eve", True)):
            await api.resources.people.post({"name": name, "secret": secret})
        async with serving_quietly(api) as client:
            yield client


ANN = bearer("ann", roles=["linker"])
BEN = bearer("ben", roles=["linker"])
EVE = bearer("eve")


async def test_pairs_have_permissions_of_their_own(guarded: Client) -> None:
    url = "/teams/1/relationships/people"
    error(
        await guarded.write("POST", url, many("people", 1), headers=EVE), 403, "PERMISSION_DENIED"
    )
    answer = await guarded.write("POST", url, many("people", 1), headers=ANN)
    assert answer.status_code == 204
    answer = await guarded.write("POST", url, many("people", 2), headers=BEN)
    assert answer.status_code == 204
    for headers, keys in ((ANN, ["1"]), (BEN, ["2"]), (EVE, [])):
        assert await guarded.ids(url, headers=headers) == keys
        assert await guarded.ids("/teams/1/people", headers=headers) == keys
        found = (await guarded.get("/teams/1?include=people", headers=headers)).json()
        assert [one["id"] for one in found["included"]] == keys
    # What she does not see she neither keeps nor takes away.
    answer = await guarded.write("PATCH", url, many("people"), headers=ANN)
    assert answer.status_code == 204
    assert await guarded.ids(url, headers=BEN) == ["2"]


async def test_what_nobody_sees_cannot_be_linked(guarded: Client) -> None:
    url = "/teams/1/relationships/people"
    answer = await guarded.write("POST", url, many("people", 3), headers=ANN)
    error(answer, 404, "RELATED_NOT_FOUND", pointer="/data")


def declared(api: Api) -> None:
    api.add_resource("tags", {"name": "string"})
    api.add_resource(
        "links",
        {
            "a_id": {"belongs_to": "posts"},
            "b_id": {"belongs_to": "posts"},
            "tag_id": {"belongs_to": "tags"},
            "n": "integer",
        },
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"target": "nothing"}, "points at 'nothing', which is not declared"),
        ({"target": "tags", "through": "nothing"}, "through names 'nothing'"),
        ({"target": "tags", "through": "links"}, "name the fields of 'links'"),
        (
            {"target": "tags", "through": "links", "foreign_key": "n"},
            "no field 'n' with belongs_to",
        ),
        ({"target": "tags", "foreign_key": "a_id"}, "name it in 'through'"),
        ({"target": "tags", "on_delete": "cascade"}, "belongs to the fields of the link resource"),
        ({}, "'target' is missing"),
    ],
)
async def test_wrong_declarations(entry: dict[str, Any], says: str) -> None:
    api = make("sqlite+aiosqlite://")
    declared(api)
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        api.add_resource(
            "posts",
            {"title": "string"},
            relationships={"tags": {"type": "manyToMany", **entry}},
        )
        await api.open()


async def test_one_that_is_made_is_served_by_no_face() -> None:
    api = make("sqlite+aiosqlite://")
    api.add_resource(
        "posts",
        {"title": "string"},
        relationships={"tags": {"type": "manyToMany", "target": "tags"}},
    )
    api.add_resource("tags", {"name": "string"})
    async with api, serving_quietly(api) as client:
        error(await client.get("/posts_tags"), 404, "RESOURCE_NOT_FOUND")
        who, _ = subscriber()
        with pytest.raises(Exception, match="posts_tags"):
            await api.socket_server._service.subscribe(who, {"resource": "posts_tags"})
        assert "posts_tags" not in list(api.resources)
        assert not any("posts_tags" in path for path in api.openapi()["paths"])


async def test_friends_of_one_kind() -> None:
    api = make("sqlite+aiosqlite://")
    api.add_resource(
        "users",
        {"name": "string"},
        relationships={"friends": {"type": "manyToMany", "target": "users"}},
    )
    async with api, serving_quietly(api) as client:
        for name in ("Ada", "Grace"):
            await api.resources.users.post({"name": name})
        await api.resources.users.patch("1", {"friends": ["2"]})
        assert await client.ids("/users/1/friends") == ["2"]
        assert await client.ids("/users/2/friends") == []


# What an attack has found


@pytest.fixture
async def tenants(database_url: str) -> AsyncIterator[Client]:
    """Tags are everybody's, posts are their owner's; nobody but ann may query ``notes``."""
    api = make(database_url)
    api.add_resource(
        "posts",
        {"title": "string", "owner": "string"},
        relationships={
            "tags": {"type": "manyToMany", "target": "tags"},
            "notes": {"type": "hasMany", "target": "notes", "foreign_key": "post_id"},
        },
        row_policy=of_user,
    )
    api.add_resource(
        "tags",
        {"name": "string"},
        relationships={"posts": {"type": "manyToMany", "target": "posts"}},
    )
    api.add_resource(
        "notes",
        {"text": "string", "post_id": {"belongs_to": "posts"}},
        check_permissions=lambda context: context.auth.user_id == "ann",
    )
    async with api:
        for owner in ("ann", "ben"):
            await api.resources.posts.post({"title": owner, "owner": owner})
        await api.resources.posts.post({"title": "of ann, too", "owner": "ann"})
        await api.resources.tags.post({"name": "red"})
        await api.resources.posts.patch("1", {"tags": ["1"]})
        await api.resources.notes.post({"text": "x", "post_id": 2})
        async with serving_quietly(api) as client:
            yield client


async def test_what_is_not_seen_is_not_let_go(tenants: Client) -> None:
    url = "/tags/1/relationships/posts"
    everything = many("posts", 1, 2, 3, 99)
    gone = await tenants.write("DELETE", url, everything, headers=bearer("ben"))
    assert gone.status_code == 204
    assert await tenants.ids("/posts/1/tags", headers=bearer("ann")) == ["1"]


async def test_members_that_are_not_seen_are_not_there(tenants: Client) -> None:
    """Whether another's post has the tag is not told by an answer."""
    url = "/tags/1/relationships/posts"
    for key in (1, 3, 99):
        for method in ("POST", "PATCH"):
            answer = await tenants.write(method, url, many("posts", key), headers=bearer("ben"))
            error(answer, 404, "RELATED_NOT_FOUND", pointer="/data")


async def test_who_may_not_query_learns_of_no_member(tenants: Client) -> None:
    url = "/posts/2/relationships/notes"
    for key in (1, 2, 99):
        for method in ("POST", "PATCH", "DELETE"):
            answer = await tenants.write(method, url, many("notes", key), headers=bearer("ben"))
            error(answer, 403, "PERMISSION_DENIED")


async def test_the_same_pair_taken_up_at_once_is_one(http: Client) -> None:
    for _ in range(5):
        answers = await asyncio.gather(*(link(http, "POST", 1, 2) for _ in range(6)))
        assert {one.status_code for one in answers} == {204}
        assert await tags(http) == ["1", "2"]
        await link(http, "PATCH")


def test_one_table_of_pairs_is_not_shared_by_two_relationships() -> None:
    api = make("sqlite+aiosqlite://")
    entry = {"type": "manyToMany", "target": "users"}
    api.add_resource(
        "users", {"name": "string"}, relationships={"friends": entry, "blocked": entry}
    )
    with pytest.raises(ConfigurationError, match=r"'friends' and 'blocked'.*both lead to 'users'"):
        _ = api.openapi()


async def test_what_has_moved_meanwhile_is_not_let_go(database_url: str) -> None:
    api = make(database_url)
    gate, waiting = asyncio.Event(), asyncio.Event()
    gate.set()

    async def slow(context: OperationContext) -> bool:
        if context.method == "patch" and not gate.is_set():
            waiting.set()
            await gate.wait()
        return True

    api.add_resource(
        "posts",
        {"title": "string"},
        relationships={"notes": {"type": "hasMany", "target": "notes", "foreign_key": "post_id"}},
    )
    api.add_resource("notes", {"post_id": {"belongs_to": "posts"}}, check_permissions=slow)
    async with api, serving_quietly(api) as client:
        for _ in range(2):
            await api.resources.posts.post({})
        await api.resources.notes.post({"post_id": 1})
        gate.clear()
        letting_go = asyncio.create_task(
            client.write("DELETE", "/posts/1/relationships/notes", many("notes", 1))
        )
        await waiting.wait()
        await api.resources.notes.patch("1", {"post_id": 2})
        gate.set()
        assert (await letting_go).status_code == 204
        assert (await api.resources.notes.get("1"))["post_id"] == 2


async def test_the_former_owner_is_told(database_url: str) -> None:
    api = make(database_url)
    api.add_resource(
        "posts",
        {"title": "string"},
        relationships={"notes": {"type": "hasMany", "target": "notes", "foreign_key": "post_id"}},
    )
    api.add_resource("notes", {"post_id": {"belongs_to": "posts"}})
    async with api, serving_quietly(api) as client:
        for _ in range(2):
            await api.resources.posts.post({})
        await api.resources.notes.post({"post_id": 1})
        who, wire = subscriber()
        await api.socket_server._service.subscribe(who, {"resource": "posts"})
        await client.write("POST", "/posts/2/relationships/notes", many("notes", 1))
        await delivered(api)
        assert sorted((one["id"], one["action"]) for one in wire.events()) == [
            ("1", "patch"),
            ("2", "patch"),
        ]


async def test_hooks_do_not_run_for_pairs_that_nobody_declared(database_url: str) -> None:
    api = make(database_url)
    seen: list[str] = []
    api.add_resource(
        "posts",
        {"title": "string"},
        relationships={"tags": {"type": "manyToMany", "target": "tags"}},
    )
    api.add_resource("tags", {"name": "string"})

    @api.hook("before_write")
    def stamp(context: OperationContext) -> None:
        seen.append(context.resource)

    @api.hook("after_write")
    def note(context: OperationContext) -> None:
        seen.append(context.resource)

    async with api:
        await api.resources.tags.post({"name": "a"})
        seen.clear()
        await api.resources.posts.post({"title": "x", "tags": ["1"]})
        await api.resources.posts.patch("1", {"tags": []})
        assert set(seen) == {"posts"}


async def test_a_record_among_its_own_members(database_url: str) -> None:
    api = make(database_url)
    api.add_resource(
        "nodes",
        {"name": "string", "parent_id": {"belongs_to": "nodes"}},
        relationships={
            "children": {"type": "hasMany", "target": "nodes", "foreign_key": "parent_id"}
        },
    )
    async with api, serving_quietly(api) as client:
        await api.resources.nodes.post({"name": "x"})
        body = document("nodes", {}, 1)
        body["data"]["relationships"] = {"children": many("nodes", 1)}
        answer = await client.write("PATCH", "/nodes/1", body)
        data = answer.json()["data"]
        assert data["relationships"]["parent"]["data"] == {"type": "nodes", "id": "1"}
        assert answer.headers["etag"] == (await client.get("/nodes/1")).headers["etag"]
