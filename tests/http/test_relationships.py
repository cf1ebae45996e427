"""The URLs of relationships, and to-many relationships in documents, on each of the databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import httpx
import pytest
from tests.http.kit import (
    SECRET,
    Client,
    bearer,
    document,
    error,
    serving,
    serving_quietly,
)
from tests.realtime.kit import Wire, delivered

from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    OperationContext,
    RelatedNotFound,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    ValidationFailed,
)
from tidings.realtime.subscriptions import Subscriber


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.add_resource(
        "users",
        {"name": "string"},
        relationships={"posts": {"type": "hasMany", "target": "posts", "foreign_key": "author_id"}},
    )
    api.add_resource(
        "posts",
        {
            "title": {"type": "string", "required": True, "search": True},
            "note": {"type": "string", "hidden": True},
            "author_id": {"type": "id", "belongs_to": "users"},
        },
        relationships={
            "comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"}
        },
    )
    api.add_resource(
        "comments",
        {
            "text": "string",
            "post_id": {"type": "id", "belongs_to": "posts"},
            "user_id": {"type": "id", "belongs_to": "users"},
        },
    )
    async with api:
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


def linkage(resource: str, *ids: Any) -> dict[str, Any]:
    return {"data": [{"type": resource, "id": str(one)} for one in ids]}


async def blog(http: Client) -> None:
    """Two users, two posts of the first, three comments on the first post, one on the second."""
    await http.made("users", {"name": "Ada"})
    await http.made("users", {"name": "Bob"})
    for title in ("a", "b"):
        await http.made("posts", {"title": title}, author=("users", 1))
    for number, post in enumerate((1, 1, 1, 2)):
        user = ("users", 1 + number % 2)
        await http.made("comments", {"text": f"c{number}"}, post=("posts", post), user=user)


async def comments(http: Client, post: int) -> list[str]:
    return await http.ids(f"/posts/{post}/relationships/comments")


async def test_a_document_links_to_its_relationships(http: Client) -> None:
    await blog(http)
    relationships = (await http.data("/posts/1"))["relationships"]
    for name in ("author", "comments"):
        self, related = f"/api/posts/1/relationships/{name}", f"/api/posts/1/{name}"
        assert relationships[name]["links"] == {"self": self, "related": related}
        for url in (self, related):
            response = await http.get(url.removeprefix("/api"))
            links = response.json()["links"]
            if name == "author":
                assert links["self"] == url
            else:
                assert links["self"] == f"{url}?page%5Bnumber%5D=1"
    assert "data" not in relationships["comments"]


async def test_related_records(http: Client) -> None:
    await blog(http)
    author = (await http.get("/posts/1/author?include=posts&fields[users]=posts,name")).json()
    assert author["data"]["id"] == "1"
    assert author["data"]["links"]["self"] == "/api/users/1"
    assert {one["id"] for one in author["included"]} == {"1", "2"}
    listed = (await http.get("/posts/1/comments?sort=-text&page[size]=2&include=user")).json()
    assert [one["attributes"]["text"] for one in listed["data"]] == ["c2", "c1"]
    assert listed["meta"]["page"] == {"number": 1, "size": 2, "total": 3, "pages": 2}
    following = await http.data(listed["links"]["next"].removeprefix("/api"))
    assert [one["attributes"]["text"] for one in following] == ["c0"]
    assert await http.ids("/users/1/posts?filter[title]=b") == ["2"]
    nobody = (await http.made("posts", {"title": "c"}))["id"]
    for url in (f"/posts/{nobody}/author", f"/posts/{nobody}/relationships/author"):
        assert (await http.get(url)).json()["data"] is None
    assert await http.ids(f"/posts/{nobody}/comments") == []
    assert (await http.head("/posts/1/comments")).status_code == 200


async def test_linkage(http: Client) -> None:
    await blog(http)
    assert await http.data("/posts/1/relationships/author") == {"type": "users", "id": "1"}
    url = "/posts/1/relationships/comments"
    body = (await http.get(f"{url}?page[size]=2")).json()
    assert body["data"] == linkage("comments", 1, 2)["data"]
    assert body["links"]["related"] == "/api/posts/1/comments"
    assert body["meta"]["page"]["total"] == 3
    assert "included" not in body
    body = (await http.get(f"{url}?include=comments.user&fields[users]=name")).json()
    kinds = sorted((one["type"], one["id"]) for one in body["included"])
    assert kinds == [("comments", "1"), ("comments", "2"), ("comments", "3"),
                     ("users", "1"), ("users", "2")]  # fmt: skip
    body = (await http.get("/posts/1/relationships/author?include=author")).json()
    assert [one["attributes"]["name"] for one in body["included"]] == ["Ada"]
    error(await http.get(f"{url}?include=author"), 400, "INVALID_INCLUDE", parameter="include")


async def test_what_is_not_there(http: Client) -> None:
    await blog(http)
    for url in ("/posts/1/nothing", "/posts/1/relationships/nothing", "/posts/1/note",
                "/posts/1/relationships/title"):  # fmt: skip
        error(await http.get(url), 404, "RELATIONSHIP_NOT_FOUND")
    for url in ("/posts/99/author", "/posts/99/relationships/comments", "/posts/01/comments"):
        error(await http.get(url), 404, "RECORD_NOT_FOUND")
    error(await http.get("/posts/1/relationships"), 404, "RELATIONSHIP_NOT_FOUND")
    for name in ("sort=name", "filter[name]=x", "page[size]=1"):
        found = await http.get(f"/posts/1/author?{name}")
        error(found, 400, "INVALID_PARAMETER", parameter=name.split("=")[0])
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        response = await http.write(method, "/posts/1/comments", linkage("comments", 1))
        error(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "GET, HEAD"
    for method in ("POST", "DELETE"):
        response = await http.write(method, "/posts/1/relationships/author", {"data": None})
        error(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "GET, HEAD, PATCH"


async def test_a_to_one_relationship_is_replaced(http: Client) -> None:
    await blog(http)
    url = "/posts/1/relationships/author"
    for data in ({"type": "users", "id": "2"}, None):
        response = await http.write("PATCH", url, {"data": data})
        assert response.status_code == 204, response.text
        assert await http.data(url) == data
    missing = {"data": {"type": "users", "id": "99"}}
    error(await http.write("PATCH", url, missing), 404, "RELATED_NOT_FOUND", pointer="/data")
    wrong = {"data": {"type": "posts", "id": "1"}}
    error(await http.write("PATCH", url, wrong), 409, "TYPE_CONFLICT", pointer="/data/type")
    for body in ("[]", "{}", '{"data": []}', '{"data": 7}', "{", '{"data": {"type": "users"}}'):
        assert (await http.write("PATCH", url, body)).status_code == 400
    response = await http.write("PATCH", f"{url}?include=author", {"data": None})
    error(response, 400, "INVALID_PARAMETER", parameter="include")


async def test_a_to_many_relationship_takes_up_lets_go_and_is_replaced(http: Client) -> None:
    await blog(http)
    url = "/posts/1/relationships/comments"

    async def write(method: str, *ids: Any) -> httpx.Response:
        return await http.write(method, url, linkage("comments", *ids))

    assert (await write("POST", 4, 4, 1)).status_code == 204  # one is new, one is there already
    assert await comments(http, 1) == ["1", "2", "3", "4"]
    assert await comments(http, 2) == []
    assert (await write("DELETE", 4, 2, 99)).status_code == 204  # what is not there is gone
    assert await comments(http, 1) == ["1", "3"]
    assert (await http.data("/comments/2"))["relationships"]["post"]["data"] is None
    assert (await write("PATCH", 2, 3)).status_code == 204
    assert await comments(http, 1) == ["2", "3"]
    assert (await write("PATCH", 2, 3)).status_code == 204
    assert (await write("PATCH")).status_code == 204
    assert await comments(http, 1) == []
    for method in ("POST", "PATCH"):
        error(await write(method, 1, 99), 404, "RELATED_NOT_FOUND", pointer="/data")
        error(await write(method, "01"), 404, "RELATED_NOT_FOUND", pointer="/data")
    assert await comments(http, 1) == []  # nothing of a refused write is done
    for method in ("POST", "PATCH", "DELETE"):
        wrong = await http.write(method, url, linkage("users", 1))
        error(wrong, 409, "TYPE_CONFLICT", pointer="/data/0/type")
        for body in ("{}", '{"data": null}', '{"data": {}}', '{"data": [null]}', '{"data": [7]}'):
            assert (await http.write(method, url, body)).status_code == 400
        for most in (500, 5_500):
            many = await http.write(method, url, linkage("comments", *range(1, most + 2)))
            error(many, 400, "TOO_MANY_MEMBERS", pointer="/data")


async def test_to_many_relationships_in_documents(http: Client) -> None:
    await blog(http)

    async def write(method: str, url: str, *ids: Any, **more: Any) -> httpx.Response:
        body = document("posts", more, url.split("/")[2] if method != "POST" else None)
        body["data"]["relationships"] = {"comments": linkage("comments", *ids)}
        return await http.write(method, f"{url}?include=comments", body)

    response = await write("POST", "/posts", 1, 4, title="new")
    assert response.status_code == 201, response.text
    made = response.json()
    assert {one["id"] for one in made["included"]} == {"1", "4"}
    assert await comments(http, 1) == ["2", "3"]
    url = f"/posts/{made['data']['id']}"
    assert (await write("PATCH", url, 4, 2)).status_code == 200
    assert await comments(http, 3) == ["2", "4"]
    assert (await write("PUT", url, 1, title="put")).status_code == 200
    assert await comments(http, 3) == ["1"]
    pointer = "/data/relationships/comments"
    for method, place in (("POST", "/posts"), ("PATCH", url), ("PUT", url)):
        refused = await write(method, place, 99, title="refused")
        error(refused, 404, "RELATED_NOT_FOUND", pointer=pointer)
    assert [one["attributes"]["title"] for one in await http.data("/posts")] == ["a", "b", "put"]


async def test_python_writes_them_by_name(http: Client, library: Api) -> None:
    await blog(http)
    made = await library.resources.posts.post({"title": "new", "comments": ["1", 4]})
    assert await comments(http, 3) == ["1", "4"]
    await library.resources.posts.patch(made["id"], {"comments": ["4"]})
    assert await comments(http, 3) == ["4"]
    await library.resources.posts.put(made["id"], {"title": "put", "comments": []})
    assert await comments(http, 3) == []
    for wrong in ("4", 4, {"id": "4"}, None):
        with pytest.raises(ValidationFailed, match="expected a list of ids"):
            await library.resources.posts.patch(3, {"comments": wrong})
    with pytest.raises(RelatedNotFound):
        await library.resources.posts.patch(3, {"comments": ["99"]})


async def test_many_who_write_the_same_relationships(http: Client) -> None:
    """Everybody gets an answer that they can act on, and a record is in one place at any time."""
    await blog(http)
    statuses: Counter[int] = Counter()

    async def write(worker: int) -> None:
        r = Random(worker)
        for _ in range(12):
            method = r.choice(("POST", "PATCH", "DELETE"))
            url = f"/posts/{r.randint(1, 2)}/relationships/comments"
            response = await http.write(method, url, linkage("comments", *r.sample(range(1, 5), 2)))
            statuses[response.status_code] += 1
            if response.status_code == 409:
                error(response, 409, "CHANGED_MEANWHILE", pointer="/data")

    await asyncio.gather(*(write(worker) for worker in range(6)))
    assert statuses.keys() <= {204, 409, 503}, statuses
    assert statuses[204] > 20, statuses
    found = [*await comments(http, 1), *await comments(http, 2)]
    assert len(found) == len(set(found))


# Permissions, policies and what is told


def guarded_api(**options: Any) -> Api:
    """Boxes with items that must be in one, and notes that need not; all with an owner."""
    api = Api(name="guarded")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(cors={"origin": "https://example.org"}))
    api.add_resource(
        "boxes",
        {"name": "string", "owner": "string"},
        relationships={
            "items": {"type": "hasMany", "target": "items", "foreign_key": "box_id"},
            "notes": {"type": "hasMany", "target": "notes", "foreign_key": "box_id"},
        },
        search_schema={"name": {}},
        **options.get("boxes", {}),
    )
    api.add_resource(
        "items",
        {"name": "string", "box_id": {"type": "id", "belongs_to": "boxes", "required": True}},
        search_schema={"box": {"actual_field": "box_id"}},
        **options.get("items", {}),
    )
    api.add_resource(
        "notes",
        {"text": "string", "owner": "string", "box_id": {"type": "id", "belongs_to": "boxes"}},
        search_schema={"box": {"actual_field": "box_id"}},
        **options.get("notes", {}),
    )
    return api


async def fill(api: Api) -> None:
    for number in (1, 2):
        await api.resources.boxes.post({"name": f"b{number}", "owner": "ann"})
        await api.resources.items.post({"name": f"i{number}", "box": number})
    for owner in ("ann", "ann", "ben"):
        await api.resources.notes.post({"text": owner, "owner": owner, "box": 1})


Seen = list[tuple[str, str, str]]


async def told(api: Api) -> tuple[Callable[[], Any], Wire]:
    wire = Wire()
    person = Subscriber("s1", Identity(user_id="ann"), wire)
    for name in ("boxes", "items", "notes"):
        await api.socket_server._service.subscribe(person, {"resource": name})

    async def seen() -> Seen:
        await delivered(api)
        found = [(one["resource"], one["id"], one["action"]) for one in wire.events()]
        wire.frames.clear()
        return found

    return seen, wire


async def test_the_record_and_what_it_takes_up_are_told_once_each() -> None:
    api = guarded_api()
    async with api, serving(api) as http:
        await fill(api)
        seen, _ = await told(api)
        url = "/boxes/2/relationships/notes"
        headers = bearer("ann")
        response = await http.write("POST", url, linkage("notes", 1, 3), headers=headers)
        assert response.status_code == 204, response.text
        assert sorted(await seen()) == [
            ("boxes", "1", "patch"),  # from which it was taken
            ("boxes", "2", "patch"),
            ("notes", "1", "patch"),
            ("notes", "3", "patch"),
        ]
        await http.write("POST", url, linkage("notes", 1), headers=headers)
        assert await seen() == []  # nothing has changed
        await http.write("PATCH", url, linkage("notes", 1), headers=headers)
        assert await seen() == [("boxes", "2", "patch"), ("notes", "3", "patch")]
        await http.write("DELETE", url, linkage("notes", 1), headers=headers)
        assert await seen() == [("boxes", "2", "patch"), ("notes", "1", "patch")]
        body = document("boxes", {"name": "new"}, 2)
        body["data"]["relationships"] = {"notes": linkage("notes", 2)}
        await http.write("PATCH", "/boxes/2", body, headers=headers)
        assert sorted(await seen()) == [
            ("boxes", "1", "patch"),
            ("boxes", "2", "patch"),
            ("notes", "2", "patch"),
        ]
        body = document("boxes", {"name": "made"})
        body["data"]["relationships"] = {"notes": linkage("notes", 2)}
        await http.write("POST", "/boxes", body, headers=headers)
        assert sorted(await seen()) == [
            ("boxes", "2", "patch"),
            ("boxes", "3", "post"),
            ("notes", "2", "patch"),
        ]
        await http.write("PATCH", "/notes/2/relationships/box", {"data": None}, headers=headers)
        assert await seen() == [("notes", "2", "patch")]


async def test_what_must_belong_to_a_record_cannot_be_let_go() -> None:
    api = guarded_api()
    async with api, serving(api) as http:
        await fill(api)
        url = "/boxes/1/relationships/items"
        for method, ids in (("DELETE", [1]), ("PATCH", []), ("PATCH", [2])):
            response = await http.write(method, url, linkage("items", *ids), headers=bearer("ann"))
            found = error(response, 422, "REQUIRED", pointer="/data")
            assert "box_id" in found["detail"]
        assert (await api.resources.items.query({"box": 1})).total == 1
        response = await http.write("POST", url, linkage("items", 2), headers=bearer("ann"))
        assert response.status_code == 204
        assert (await api.resources.items.query({"box": 1})).total == 2


def only_own(columns: Any, identity: Identity) -> Any:
    return {"owner": identity.user_id}


async def test_policies_of_both_sides_hold() -> None:
    api = guarded_api(boxes={"row_policy": only_own}, notes={"row_policy": only_own})
    async with api, serving(api) as http:
        await fill(api)
        ann, ben = bearer("ann"), bearer("ben")
        for url in ("/boxes/1/notes", "/boxes/1/relationships/notes"):
            assert await http.ids(url, headers=ann) == ["1", "2"]
            error(await http.get(url, headers=ben), 404, "RECORD_NOT_FOUND")
        url = "/boxes/1/relationships/notes"
        for method in ("POST", "PATCH", "DELETE"):
            response = await http.write(method, url, linkage("notes", 3), headers=ben)
            error(response, 404, "RECORD_NOT_FOUND")
        # What is not there for Ann is neither taken up nor let go.
        for method in ("POST", "PATCH"):
            response = await http.write(method, "/boxes/2/relationships/notes",
                                        linkage("notes", 3), headers=ann)  # fmt: skip
            error(response, 404, "RELATED_NOT_FOUND", pointer="/data")
        for method, ids in (("DELETE", [3]), ("PATCH", [])):
            response = await http.write(method, url, linkage("notes", *ids), headers=ann)
            assert response.status_code == 204
        assert [one["id"] for one in await api.resources.notes.query({"box": 1})] == ["3"]
        # A to-one relationship leads to nothing that cannot be seen.
        assert (await http.get("/notes/3/box", headers=ben)).json()["data"] is None


async def test_permissions_of_both_sides_are_asked_with_what_will_be_stored() -> None:
    asked: list[tuple[str, str, Any, Any]] = []

    def watch(name: str) -> Callable[[OperationContext], bool]:
        def check(context: OperationContext) -> bool:
            values = None if context.values is None else dict(context.values)
            asked.append((name, context.method, context.id, values))
            return context.auth.user_id == "ann" or (name, context.method) != denied

        return check

    denied = ("", "")
    api = guarded_api(
        boxes={"check_permissions": watch("boxes")}, notes={"check_permissions": watch("notes")}
    )
    async with api, serving(api) as http:
        await fill(api)
        url = "/boxes/2/relationships/notes"
        response = await http.write("POST", url, linkage("notes", 1), headers=bearer("ann"))
        assert response.status_code == 204
        assert asked == [
            ("boxes", "patch", "2", {}),
            ("notes", "query", None, None),
            ("notes", "patch", "1", {"box_id": 2}),
        ]
        body = document("boxes", {"name": "made"})
        body["data"]["relationships"] = {"notes": linkage("notes", 2)}
        asked.clear()
        await http.write("POST", "/boxes", body, headers=bearer("ann"))
        assert ("notes", "patch", "2", {"box_id": 3}) in asked
        for refused, method, place in (
            (("boxes", "patch"), "POST", url),
            (("notes", "patch"), "POST", url),
            (("notes", "query"), "PATCH", url),
            (("notes", "query"), "GET", url),
            (("notes", "query"), "GET", "/boxes/2/notes"),
            (("boxes", "get"), "GET", "/boxes/2/notes"),
            (("boxes", "get"), "GET", "/notes/1/box"),
            (("notes", "get"), "GET", "/notes/1/relationships/box"),
            (("notes", "patch"), "PATCH", "/notes/1/relationships/box"),
        ):
            denied = refused
            body = {"data": None} if place.endswith("box") else linkage("notes", 3)
            options = {"headers": bearer("ben")}
            if method == "GET":
                response = await http.get(place, **options)
            else:
                response = await http.write(method, place, body, **options)
            error(response, 403, "PERMISSION_DENIED")
        # Nothing is learnt of a resource before permission is given.
        denied = ("boxes", "patch")
        for method in ("POST", "DELETE", "PATCH"):
            place = "/boxes/2/relationships/nothing"
            response = await http.write(method, place, "{", headers=bearer("ben"))
            error(response, 403, "PERMISSION_DENIED")
        denied = ("boxes", "get")
        for place in ("/boxes/2/relationships/nothing", "/boxes/2/nothing?sort=x"):
            response = await http.get(place, headers=bearer("ben"))
            error(response, 403, "PERMISSION_DENIED")


async def test_a_relationship_over_an_unreadable_key_is_not_there() -> None:
    api = Api(name="unreadable")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.add_resource(
        "boxes",
        {"name": "string"},
        relationships={"notes": {"type": "hasMany", "target": "notes", "foreign_key": "box_id"}},
    )
    secret = {"type": "id", "belongs_to": "boxes", "readable_by": lambda i: i.user_id == "ann"}
    api.add_resource("notes", {"text": "string", "box_id": secret})
    async with api, serving(api) as http:
        await api.resources.boxes.post({"name": "b"})
        await api.resources.notes.post({"text": "n", "box": 1})
        for url in ("/boxes/1/notes", "/boxes/1/relationships/notes", "/notes/1/box",
                    "/notes/1/relationships/box"):  # fmt: skip
            assert (await http.get(url, headers=bearer("ann"))).status_code == 200
            error(await http.get(url, headers=bearer("ben")), 404, "RELATIONSHIP_NOT_FOUND")
        for method in ("POST", "PATCH", "DELETE"):
            url = "/boxes/1/relationships/notes"
            response = await http.write(method, url, linkage("notes", 1), headers=bearer("ben"))
            error(response, 404, "RELATIONSHIP_NOT_FOUND")
        response = await http.write(
            "PATCH", "/notes/1/relationships/box", {"data": None}, headers=bearer("ben")
        )
        error(response, 404, "RELATIONSHIP_NOT_FOUND")


@pytest.mark.parametrize("id_type", ["integer", "uuid"])
async def test_slow_checks_of_many_members_keep_nobody_waiting_for_long(
    database_url: str, monkeypatch: pytest.MonkeyPatch, id_type: str
) -> None:
    """Where the id is known beforehand nothing is locked; where it is not, there is an end."""
    monkeypatch.setattr("tidings.resources.scopes.PATIENCE", 0.1)
    locked: list[bool] = []

    async def check(context: OperationContext) -> bool:
        if context.method == "patch":
            locked.append(context.transaction is not None)
            await asyncio.sleep(0.03)
        return True

    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.add_resource(
        "posts",
        {"title": "string"},
        id_type=id_type,
        check_permissions=check,
        relationships={
            "comments": {"type": "hasMany", "target": "comments", "foreign_key": "post_id"}
        },
    )
    api.add_resource("comments", {"post_id": {"belongs_to": "posts"}}, check_permissions=check)
    async with serving(api) as client:
        for _ in range(8):
            await api.resources.comments.post({})
        body = document("posts", {"title": "x"})
        body["data"]["relationships"] = {"comments": linkage("comments", *range(1, 9))}
        response = await client.write("POST", "/posts", body)
        found = await api.resources.comments.query(where={"post_id": {"is null": False}})
        if id_type == "uuid":
            assert response.status_code == 201, response.text
            assert (locked, found.total) == ([False] * 8, 8)
        else:
            assert response.status_code == 503, response.text
            assert response.json()["errors"][0]["code"] == "CHECKS_TOO_SLOW"
            assert len(locked) < 8
            assert found.total == (await api.resources.posts.query()).total == 0
