"""To-one relationships to a record of any of several resources, on each of the databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openapi_spec_validator import validate
from tests.http.kit import SECRET, Client, bearer, error, errors, serving_quietly
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    ConfigurationError,
    JWTAuthPlugin,
    RelatedNotFound,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    ValidationFailed,
)

EITHER = ["posts", "photos"]


def declare(url: str) -> Api:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource("users", {"name": "string"})
    api.add_resource(
        "posts",
        {"title": "string", "author_id": {"belongs_to": "users"}},
        row_policy=lambda c, _i: c.title != "secret",
    )
    api.add_resource(
        "photos",
        {"url": "string", "album": "string"},
        id_type="uuid",
        auth={
            "query": ["public"],
            "post": ["public"],
            "delete": ["public"],
            "get": ["authenticated"],
        },
    )
    api.add_resource(
        "comments",
        {"text": "string", "subject_id": {"belongs_to": EITHER, "required": True}},
        search_schema={"subject_type": {}, "subject_id": {}},
    )
    api.add_resource(
        "pins", {"name": "string", "pinned_id": {"belongs_to": EITHER, "read_only": True}}
    )
    api.add_resource("marks", {"mark_id": {"belongs_to": EITHER, "on_delete": "set_null"}})
    api.add_resource(
        "likes", {"liked_id": {"belongs_to": [*EITHER, "users"], "on_delete": "cascade"}}
    )
    return api


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with declare(database_url) as api:
        await api.resources.users.post({"name": "Ada"})
        for title in ("one", "two", "secret"):
            await api.resources.posts.post({"title": title, "author_id": 1})
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving_quietly(api) as client:
        client.headers.update(bearer())
        yield client


def at(kind: str, key: Any) -> dict[str, str]:
    return {"type": kind, "id": str(key)}


async def test_linkage_has_the_type_and_include_brings_all_of_them(http: Client) -> None:
    photo = (await http.made("photos", {"url": "x"}))["id"]
    for text, to in (("a", ("posts", 1)), ("b", ("photos", photo)), ("c", ("posts", 2))):
        await http.made("comments", {"text": text}, subject=to)
    found = (await http.get("/comments?include=subject.author&sort=text")).json()
    links = [one["relationships"]["subject"]["data"] for one in found["data"]]
    assert links == [at("posts", 1), at("photos", photo), at("posts", 2)]
    kinds = sorted((one["type"], one["id"]) for one in found["included"])
    assert kinds == [("photos", photo), ("posts", "1"), ("posts", "2"), ("users", "1")]
    assert "subject_type" not in found["data"][0]["attributes"]

    related = (await http.get("/comments/1/subject?include=author")).json()
    assert (related["data"]["type"], related["included"][0]["type"]) == ("posts", "users")
    assert (await http.data("/comments/2/subject"))["id"] == photo
    error(await http.get("/comments/2/subject?include=author"), 400, "INVALID_INCLUDE")
    error(await http.get("/comments?include=subject.nobody"), 400, "INVALID_INCLUDE")
    linkage = (await http.get("/comments/2/relationships/subject?include=subject")).json()
    assert (linkage["data"], linkage["included"][0]["id"]) == (at("photos", photo), photo)

    assert await http.ids("/comments?filter[subject_type]=photos") == ["2"]
    query = "filter[subject_type]=posts&filter[subject_id]=2"
    assert await http.ids(f"/comments?{query}") == ["3"]
    # Sent back as it came; and another one, of the other type.
    (shown, *_) = found["data"]
    assert (await http.write("PATCH", "/comments/1", {"data": shown})).status_code == 200
    response = await http.change("comments", 1, subject=("photos", photo))
    assert response.json()["data"]["relationships"]["subject"]["data"] == at("photos", photo)


async def test_it_is_written_at_its_url_and_from_python(http: Client, api: Api) -> None:
    await http.made("marks")
    url = "/marks/1/relationships/mark"
    before = (await http.get(url)).headers["etag"]
    assert (await http.write("PATCH", url, {"data": at("posts", 1)})).status_code == 204
    assert await http.data(url) == at("posts", 1)
    response = await http.write("PATCH", url, {"data": None}, headers={"if-match": before})
    assert response.status_code == 412
    assert (await http.write("PATCH", url, {"data": None})).status_code == 204
    for place in (url, "/marks/1/mark"):
        assert await http.data(place) is None
    error(await http.get("/marks/1/mark?include=nothing"), 400, "INVALID_INCLUDE")
    assert (await http.get("/marks/1/mark?include=author")).json()["included"] == []

    marks = api.resources.marks
    made = await marks.post({"mark": ("posts", 2)})
    assert (made["mark_type"], made["mark_id"]) == ("posts", "2")
    assert (await marks.patch(made["id"], {"mark": None}))["mark_type"] is None
    for wrong in ({"mark": "2"}, {"mark_id": "2"}, {"mark_type": "posts"}, {"mark": ("users", 1)}):
        with pytest.raises(ValidationFailed):
            await marks.patch(made["id"], wrong)
    for missing in (("posts", 99), ("posts", "x"), ("photos", 1)):
        with pytest.raises(RelatedNotFound):
            await marks.patch(made["id"], {"mark": missing})


async def test_what_is_not_there_for_the_asker_is_not_referred_to(http: Client) -> None:
    photo = (await http.made("photos", {"url": "x"}))["id"]
    pointer = "/data/relationships/subject/data"
    wrong = [("posts", 99), ("posts", 3), ("posts", "01"), ("posts", "x"), ("photos", 1)]
    for to in wrong:
        response = await http.create("comments", {"text": "a"}, subject=to)
        error(response, 404, "RELATED_NOT_FOUND", pointer=pointer)
    response = await http.create("comments", {"text": "a"}, subject=("users", 1))
    error(response, 409, "TYPE_CONFLICT", pointer=f"{pointer}/type")
    for value in ({"subject_id": "1"}, {"subject_type": "posts"}):
        assert errors(await http.create("comments", {"text": "a", **value}), 422)
    error(await http.create("comments", {"text": "a"}), 422, "REQUIRED")
    error(await http.create("comments", {"text": "a"}, subject=None), 422, "REQUIRED")
    await http.made("comments", {"text": "a"}, subject=("photos", photo))
    http.headers.pop("authorization")
    response = await http.create("comments", {"text": "a"}, subject=("photos", photo))
    error(response, 404, "RELATED_NOT_FOUND", pointer=pointer)
    error(await http.get("/comments/1/subject"), 401, "AUTHENTICATION_REQUIRED")


async def test_what_is_deleted_is_not_referred_to_any_more(http: Client, api: Api) -> None:
    photo = (await http.made("photos", {"url": "x"}))["id"]
    await http.made("comments", {"text": "a"}, subject=("posts", 1))
    for resource, name in (("marks", "mark"), ("likes", "liked")):
        for to in (("posts", 1), ("posts", 2), ("photos", photo)):
            await http.made(resource, **{name: to})
    # One of another resource with the same id stays.
    await http.made("users", {"name": "Bea"})
    await http.made("likes", liked=("users", 2))
    error(await http.delete("/posts/1"), 409, "STILL_REFERENCED")
    wires = {}
    for name in ("marks", "likes"):
        who, wire = subscriber(name)
        await api.socket_server._service.subscribe(who, {"resource": name})
        wires[name] = wire
    assert (await http.delete("/posts/2")).status_code == 204
    assert (await http.delete(f"/photos/{photo}")).status_code == 204
    await delivered(api)
    told = {n: [(one["id"], one["action"]) for one in w.events()] for n, w in wires.items()}
    assert told == {
        "marks": [("2", "patch"), ("3", "patch")],
        "likes": [("2", "delete"), ("3", "delete")],
    }
    marks = [one["relationships"]["mark"]["data"] for one in await http.data("/marks?sort=id")]
    assert marks == [at("posts", 1), None, None]
    assert await http.ids("/likes") == ["1", "4"]


async def test_what_is_kept_need_not_be_seen(http: Client, api: Api) -> None:
    made = await api.resources.pins.post({"name": "x", "pinned": ("posts", 3)})
    url = f"/pins/{made['id']}"
    shown = await http.data(url)
    assert shown["relationships"]["pinned"]["data"] == at("posts", 3)
    for body in ({**shown, "relationships": {}}, shown):
        response = await http.write("PUT", url, {"data": body})
        assert response.json()["data"] == shown
    response = await http.change("pins", made["id"], pinned=("posts", 1))
    error(response, 422, "READ_ONLY", pointer="/data/relationships/pinned/data")


async def test_nobody_refers_to_what_is_deleted_meanwhile(http: Client) -> None:
    async def refer() -> int:
        return (await http.create("likes", liked=("posts", 2))).status_code

    async def remove() -> int:
        return (await http.delete("/posts/2")).status_code

    codes = await asyncio.gather(refer(), remove(), refer())
    assert set(codes) <= {201, 204, 404, 503}
    if 204 in codes:
        assert await http.ids("/likes") == []


def test_the_description_names_each_of_them() -> None:
    found = declare("sqlite+aiosqlite://").openapi()
    validate(found)
    schemas = found["components"]["schemas"]
    shown = schemas["CommentRelationships"]["properties"]["subject"]["properties"]["data"]
    names = [one.get("$ref", "null").rsplit("/", 1)[-1] for one in shown["oneOf"]]
    assert names == ["PostIdentifier", "PhotoIdentifier", "null"]
    assert set(schemas["CommentIncluded"]["discriminator"]["mapping"]) == {*EITHER, "users"}
    assert "/api/comments/{id}/subject" in found["paths"]


@pytest.mark.parametrize(
    ("schema", "options", "said"),
    [
        ({"a_id": {"belongs_to": ["posts"]}}, {}, "two resources or more"),
        ({"a_id": {"belongs_to": ["posts", "nothing"]}}, {}, "'nothing', which is not declared"),
        ({"a_id": {"belongs_to": EITHER, "unique": True}}, {}, "unique does not go"),
        ({"a_id": {"belongs_to": EITHER}, "a_type": "string"}, {}, "'a_type' is made for it"),
        ({"a_id": {"belongs_to": EITHER, "on_delete": "x"}}, {}, "cannot be done"),
        (
            {"a_id": {"belongs_to": EITHER}},
            {"search_schema": {"a.title": {}}},
            "leads to several resources",
        ),
        ({"a_id": {"belongs_to": EITHER}}, {"search_schema": {"a": {}}}, "'a_type' and 'a_id'"),
        ({"a_id": {"belongs_to": EITHER}}, {"borrows": ["a.title"]}, "several resources"),
        (
            {"title": "string"},
            {"relationships": {"b": {"type": "belongsTo", "target": EITHER, "foreign_key": "b"}}},
            "those of a field",
        ),
        (
            {"title": "string"},
            {"relationships": {"c": {"type": "hasMany", "target": "c", "foreign_key": "p_id"}}},
            "not served from this side",
        ),
    ],
)
def test_declarations_that_cannot_be(
    schema: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://"))
    api.add_resource("posts", {"title": "string"})
    api.add_resource("photos", {"title": "string"})
    api.add_resource("c", {"p_id": {"belongs_to": EITHER}})
    with pytest.raises(ConfigurationError, match=said):
        api.add_resource("other", schema, **options)
        api.openapi()
