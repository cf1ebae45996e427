"""Atomic Operations: all or none, with each one's own permissions, told after the commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.http.kit import SECRET, Client, bearer, errors, serving
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)

ATOMIC = 'application/vnd.api+json; ext="https://jsonapi.org/ext/atomic"'
WRITERS = {"authorization": bearer("ann", roles=["writer"])["authorization"]}


def may_write(context: OperationContext) -> bool:
    asked.append((context.method, context.transaction is not None))
    return context.method in ("get", "query") or "writer" in context.auth.roles


asked: list[tuple[str, bool]] = []


def visible(columns: Any, _identity: Identity) -> Any:
    return columns.title != "hidden"


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    asked.clear()
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource(
        "users",
        {"name": {"type": "string", "required": True, "unique": True, "max": 50}},
        relationships={"posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"}},
    )
    api.add_resource(
        "posts",
        {"title": {"type": "string", "search": True}, "author_id": {"belongs_to": "users"}},
        relationships={"tags": {"type": "manyToMany", "target": "tags"}},
        check_permissions=may_write,
        row_policy=visible,
    )
    api.add_resource("tags", {"name": "string"})
    async with api:
        await api.resources.users.post({"name": "Ada"})
        await api.resources.posts.post({"title": "one", "author_id": 1})
        await api.resources.posts.post({"title": "hidden", "author_id": 1})
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving(library, checked=False) as client:
        yield client


async def send(http: Client, *operations: Any, **headers: str) -> httpx.Response:
    sent = {"content-type": ATOMIC, "accept": ATOMIC, **WRITERS, **headers}
    body = {"atomic:operations": list(operations)}
    return await http.write("POST", "/operations", body, headers=sent)


def add(resource: str, attributes: Any = None, **more: Any) -> dict[str, Any]:
    return {"op": "add", "data": {"type": resource, "attributes": attributes or {}, **more}}


def ref(resource: str, key: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": resource, **({} if key is None else {"id": str(key)}), **more}


def one(data: Any) -> dict[str, Any]:
    return {"data": data}


async def test_what_one_operation_makes_the_next_ones_name(library: Api, http: Client) -> None:
    answer = await send(
        http,
        add("users", {"name": "Grace"}, lid="grace"),
        add("tags", {"name": "new"}, lid="t"),
        add(
            "posts",
            {"title": "hers"},
            lid="p",
            relationships={
                "author": one({"type": "users", "lid": "grace"}),
                "tags": one([{"type": "tags", "lid": "t"}]),
            },
        ),
        {"op": "update", "data": {"type": "users", "lid": "grace", "attributes": {"name": "G."}}},
        {
            "op": "update",
            "ref": ref("posts", 1, relationship="author"),
            "data": {"type": "users", "lid": "grace"},
        },
        {
            "op": "add",
            "ref": {"type": "posts", "id": "1", "relationship": "tags"},
            "data": [{"type": "tags", "lid": "t"}],
        },
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ATOMIC
    results = answer.json()["atomic:results"]
    assert [sorted(result) for result in results] == [["data"]] * 4 + [[]] * 2
    grace = results[0]["data"]["id"]
    assert results[3]["data"]["attributes"]["name"] == "G."
    assert results[2]["data"]["relationships"]["author"]["data"]["id"] == grace
    assert sorted(await http.ids(f"/users/{grace}/posts")) == ["1", results[2]["data"]["id"]]
    tag = results[1]["data"]["id"]
    assert await http.ids("/posts/1/relationships/tags") == [tag]


async def test_hrefs_and_removing(http: Client) -> None:
    answer = await send(
        http,
        {**add("users", {"name": "Grace"}), "href": "/api/users"},
        {
            "op": "update",
            "href": "/posts/1",
            "data": {"type": "posts", "id": "1", "attributes": {"title": "two"}},
        },
        {"op": "update", "href": "/api/posts/1/relationships/author", "data": None},
    )
    assert answer.status_code == 200, answer.text
    found = await http.data("/posts/1")
    assert found["attributes"]["title"] == "two"
    assert found["relationships"]["author"]["data"] is None
    gone = await send(
        http, {"op": "remove", "ref": ref("posts", 1)}, {"op": "remove", "href": "/users/2"}
    )
    assert (gone.status_code, gone.content) == (204, b"")
    assert await http.ids("/posts") == []
    assert await http.ids("/users") == ["1"]


async def test_one_that_fails_undoes_all(library: Api, http: Client) -> None:
    before = library._feed.position
    answer = await send(
        http,
        add("users", {"name": "Grace"}),
        add("users", {"name": "x" * 51, "colour": "red"}),
    )
    found = [(one["code"], one["source"]["pointer"]) for one in errors(answer, 422)]
    assert found == [
        ("TOO_LARGE", "/atomic:operations/1/data/attributes/name"),
        ("UNKNOWN_FIELD", "/atomic:operations/1/data/attributes/colour"),
    ]
    assert await http.ids("/users") == ["1"]
    answer = await send(http, add("users", {"name": "Grace"}), add("users", {"name": "Ada"}))
    (taken,) = errors(answer, 409)
    assert taken["code"] == "NOT_UNIQUE"
    assert taken["source"]["pointer"] == "/atomic:operations/1/data/attributes/name"
    answer = await send(http, add("users", {"name": "Eve"}), {"op": "remove", "href": "/users/99"})
    (missing,) = errors(answer, 404)
    assert missing["source"]["pointer"] == "/atomic:operations/1"
    assert await http.ids("/users") == ["1"]
    assert library._feed.position == before


async def test_it_is_told_once_after_the_commit(library: Api, http: Client) -> None:
    who, wire = subscriber()
    await library.socket_server._service.subscribe(who, {"resource": "users"})
    answer = await send(
        http,
        add("users", {"name": "Grace"}, lid="g"),
        {"op": "update", "data": {"type": "users", "lid": "g", "attributes": {"name": "G."}}},
        add("users", {"name": "Eve"}, lid="e"),
        {"op": "remove", "ref": {"type": "users", "lid": "e"}},
    )
    assert answer.status_code == 200, answer.text
    await delivered(library)
    told = [(event["id"], event["action"]) for event in wire.events()]
    assert told == [(answer.json()["atomic:results"][0]["data"]["id"], "post")]
    assert answer.headers["tidings-cursor"] == str(library._feed.position)
    assert answer.json()["meta"]["cursor"] == str(library._feed.position)


async def test_each_has_its_own_permission(library: Api, http: Client) -> None:
    reader = bearer("ben")["authorization"]
    for operation in (
        add("posts", {"title": "x"}),
        {"op": "update", "data": {"type": "posts", "id": "1", "attributes": {"title": "x"}}},
        {"op": "remove", "ref": ref("posts", 1)},
        {"op": "update", "ref": ref("posts", 1, relationship="author"), "data": None},
    ):
        asked.clear()
        answer = await send(http, add("users", {"name": "Eve"}), operation, authorization=reader)
        (denied,) = errors(answer, 403)
        assert denied["code"] == "PERMISSION_DENIED"
        assert denied["source"]["pointer"] == "/atomic:operations/1"
        assert not any(in_transaction for _, in_transaction in asked), "nothing was locked yet"
    assert await http.ids("/users") == ["1"]
    hidden = await send(http, {"op": "remove", "ref": ref("posts", 2)})
    errors(hidden, 404)
    assert len(await library.resources.posts.query()) == 2


async def test_writers_at_once(http: Client) -> None:
    answers = await asyncio.gather(
        *(send(http, *(add("users", {"name": f"{n}-{m}"}) for m in range(5))) for n in range(8))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert (await http.get("/users")).json()["meta"]["page"]["total"] == 41


@pytest.mark.parametrize(
    ("operation", "code", "pointer"),
    [
        (5, "INVALID_DOCUMENT", ""),
        ({"op": "change"}, "INVALID_DOCUMENT", "/op"),
        ({"op": ["add"]}, "INVALID_DOCUMENT", "/op"),
        ({"op": "add"}, "INVALID_DOCUMENT", ""),
        ({"op": "add", "data": None}, "INVALID_DOCUMENT", "/data"),
        ({"op": "add", "data": [1]}, "INVALID_DOCUMENT", "/data"),
        ({"op": "add", "data": {"type": ["users"]}}, "INVALID_DOCUMENT", "/data"),
        ({"op": "remove", "data": {"type": "users", "id": "1"}}, "INVALID_DOCUMENT", ""),
        ({"op": "remove"}, "INVALID_DOCUMENT", ""),
        ({**add("users"), "extra": 1}, "INVALID_DOCUMENT", "/extra"),
        ({**add("users"), "ref": ref("users", 1)}, "INVALID_DOCUMENT", "/ref"),
        ({**add("users"), "href": "/users/1"}, "INVALID_DOCUMENT", "/href"),
        ({**add("users"), "href": "/users?x=1"}, "INVALID_DOCUMENT", "/href"),
        ({**add("users"), "href": "/users/1/posts"}, "INVALID_DOCUMENT", "/href"),
        ({**add("users"), "href": "/a", "ref": ref("users")}, "INVALID_DOCUMENT", "/href"),
        (add("users", lid=5), "INVALID_DOCUMENT", "/data/lid"),
        ({"op": "remove", "ref": ref("users", lid="x")}, "INVALID_DOCUMENT", "/ref/lid"),
        ({"op": "remove", "ref": ref("users", 1, lid="x")}, "INVALID_DOCUMENT", "/ref/lid"),
        ({"op": "remove", "ref": ref("users")}, "INVALID_DOCUMENT", ""),
        ({"op": "remove", "ref": {"type": "users", "id": 1}}, "INVALID_DOCUMENT", "/ref/id"),
        (
            {"op": "add", "data": [], "ref": ref("users", 1, relationship=[])},
            "INVALID_DOCUMENT",
            "/ref/relationship",
        ),
        ({"op": "remove", "ref": ref("users", 1, relationship="posts")}, "INVALID_DOCUMENT", ""),
        (
            {"op": "update", "ref": ref("users", 1, relationship="x"), "data": []},
            "RELATIONSHIP_NOT_FOUND",
            "",
        ),
        ({"op": "update", "data": {"type": "users", "lid": "no"}}, "INVALID_DOCUMENT", "/data/lid"),
        ({"op": "remove", "ref": ref("posts_tags", 1)}, "RESOURCE_NOT_FOUND", ""),
        (
            add("posts", relationships={"author": one({"type": "users", "lid": "no"})}),
            "INVALID_DOCUMENT",
            "/data/relationships/author/data/lid",
        ),
        (add("posts", relationships=[]), "INVALID_DOCUMENT", "/data/relationships"),
        (add("users", id="9"), "CLIENT_ID_NOT_ALLOWED", "/data/id"),
        (add("nothing"), "RESOURCE_NOT_FOUND", ""),
    ],
)  # fmt: skip
async def test_wrong_operations(http: Client, operation: Any, code: str, pointer: str) -> None:
    answer = await send(http, add("users", {"name": "Grace"}), operation)
    (found,) = errors(answer, answer.status_code)
    assert 400 <= answer.status_code < 500
    assert found["code"] == code, found
    assert found["source"]["pointer"] == f"/atomic:operations/1{pointer}"
    assert await http.ids("/users") == ["1"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"atomic:operations": []}', b"\xff", b"5"])
async def test_wrong_documents(http: Client, body: bytes) -> None:
    answer = await http.write("POST", "/operations", body, headers={"content-type": ATOMIC})
    errors(answer, 400)


async def test_too_many(http: Client) -> None:
    answer = await send(http, *(add("users", {"name": str(n)}) for n in range(101)))
    (found,) = errors(answer, 400)
    assert found["code"] == "TOO_MANY_OPERATIONS"


async def test_media_types(http: Client) -> None:
    plain = await send(http, add("users"), **{"content-type": "application/vnd.api+json"})
    assert plain.status_code == 415
    other = 'application/vnd.api+json; ext="https://example.com/other"'
    assert (await send(http, add("users"), **{"content-type": other})).status_code == 415
    assert (await send(http, add("users"), accept=other)).status_code == 406
    assert (await send(http, add("users"), accept="text/html")).status_code == 406
    name = {"name": "x"}
    assert (await send(http, add("users", name), accept="*/*")).status_code == 200
    elsewhere = await http.write("POST", "/users", one(1), headers={"content-type": ATOMIC})
    assert elsewhere.status_code == 415
    got = await http.get("/operations")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")


async def test_it_can_be_switched_off_and_the_name_be_taken() -> None:
    for atomic in (True, False):
        api = Api(name="test")
        api.use(RestApiPlugin(atomic=atomic))
        api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
        api.add_resource("operations" if atomic else "users", {"name": "string"})
        async with api, serving(api, checked=False) as client:
            headers = {"content-type": ATOMIC}
            answer = await client.write("POST", "/operations", {}, headers=headers)
            assert answer.status_code == (415 if atomic else 404)
            assert ("/api/operations" in api.openapi()["paths"]) == atomic


# What an attack has found


@pytest.mark.parametrize(
    "data",
    [
        [[]] * 300_000,
        list(range(400_000)),
        {f"r{number}": {} for number in range(50_000)},
    ],
    ids=["lists", "numbers", "names"],
)
async def test_a_large_one_that_is_refused_holds_nobody_up(library: Api, data: Any) -> None:
    """Counted in steps, since a test must not depend on how fast the machine is."""
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    from tidings.jsonapi import atomic

    linkage = {"op": "update", "ref": ref("posts", 1, relationship="tags"), "data": data}
    whole = {"op": "add", "data": {"type": "posts", "relationships": data}}
    original = atomic.escape_pointer
    atomic.escape_pointer = lambda name: (count(), original(name))[1]  # type: ignore[assignment]
    try:
        for entry in (linkage, whole):
            with contextlib.suppress(atomic._Failed):
                atomic._read(entry, 0, "/api", {})
    finally:
        atomic.escape_pointer = original
    assert steps < 10


async def test_nested_lists(http: Client) -> None:
    nested: Any = []
    for _ in range(900):
        nested = [nested]
    answer = await send(
        http, {"op": "update", "ref": ref("posts", 1, relationship="tags"), "data": nested}
    )
    assert answer.status_code == 400


async def test_results_are_bounded_as_answers_are(library: Api, http: Client) -> None:
    await library.resources.posts.patch("1", {"title": "x" * 900_000})
    same = {"op": "update", "data": {"type": "posts", "id": "1", "attributes": {}}}
    (found,) = errors(await send(http, *[same] * 12), 400)
    assert found["code"] == "ANSWER_TOO_LARGE"
    assert (await send(http, *[same] * 5)).status_code == 200


async def test_what_they_write_is_bounded_in_all(library: Api, http: Client) -> None:
    for number in range(400):
        await library.resources.tags.post({"name": str(number)})
    everything = [ref("tags", key) for key in range(1, 401)]
    linking = [
        {"op": "add", "ref": ref("posts", 1, relationship="tags"), "data": everything},
        {"op": "update", "ref": ref("posts", 1, relationship="tags"), "data": []},
        {"op": "add", "ref": ref("posts", 1, relationship="tags"), "data": everything},
    ]
    (found,) = errors(await send(http, *linking), 400)
    assert found["code"] == "TOO_MANY_MEMBERS"
    assert found["source"]["pointer"] == "/atomic:operations/2"
    assert (await send(http, *linking[:2])).status_code == 204


async def test_who_may_not_write_is_refused_what_is_not_there_before_anything_is_locked(
    http: Client,
) -> None:
    reader = bearer("ben")["authorization"]
    for operation in (
        {"op": "remove", "ref": ref("posts", 99)},
        {"op": "update", "data": {"type": "posts", "id": "99", "attributes": {}}},
    ):
        asked.clear()
        answer = await send(http, operation, authorization=reader)
        assert answer.status_code == 403
        assert not any(in_transaction for _, in_transaction in asked)


async def test_a_lid_is_given_once(http: Client) -> None:
    twice = [add("tags", {"name": "a"}, lid="x"), add("tags", {"name": "b"}, lid="x")]
    (found,) = errors(await send(http, *twice), 400)
    assert found["source"]["pointer"] == "/atomic:operations/1/data/lid"


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
async def test_conditions_cannot_be_required(http: Client, header: str) -> None:
    answer = await send(http, add("tags", {"name": "a"}), **{header: "*"})
    (found,) = errors(answer, 412)
    assert found["code"] == "PRECONDITION_FAILED"
    assert await http.ids("/tags") == []
