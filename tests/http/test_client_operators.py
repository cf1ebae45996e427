"""Operators that clients choose: ``filter[views][gte]=5``, over HTTP and over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.http.kit import SECRET, Client, error, serving_quietly
from tests.realtime.kit import delivered, subscriber

from tidings import (
    Api,
    ConfigurationError,
    FilterError,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)

ROWS: list[dict[str, Any]] = [
    {"title": "one", "views": 1, "tags": ["a"], "author_id": "1"},
    {"title": "Two", "views": 5, "tags": ["a", "b"], "author_id": "2"},
    {"title": None, "views": 9, "tags": []},
    {"title": "two, or 2", "views": None},
]


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource("users", {"name": "string"})
    ordering = ["eq", "ne", "gt", "gte", "lt", "lte", "in", "between"]
    api.add_resource(
        "items",
        {
            "title": "string",
            "views": "integer",
            "tags": "array",
            "author_id": {"type": "id", "belongs_to": "users"},
        },
        search_schema={
            "title": {"operators": ["ne", "like", "in"]},
            "views": {"operators": ordering},
            "tags": {"operators": ["in", "ne"], "match_all": True, "filter_operator": "in"},
            "author.name": {"operators": ["like", "gte"]},
            "plain": {"actual_field": "views"},
        },
    )
    async with api:
        await api.resources.users.post({"name": "Ada"})
        await api.resources.users.post({"name": "Grace"})
        for row in ROWS:
            await api.resources.items.post(row)
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("filter[views]=5", "2"),
        ("filter[views][eq]=5", "2"),
        ("filter[views][gte]=5", "23"),
        ("filter[views][gt]=1&filter[views][lt]=9", "2"),
        ("filter[views][ne]=5", "13"),
        ("filter[views][in]=1,9", "13"),
        ("filter[views][in][]=1&filter[views][in][]=9", "13"),
        ("filter[views][between]=1,5", "12"),
        ("filter[views][between]=1,5&filter[views][ne]=1", "2"),
        ("filter[views][null]=true", "4"),
        ("filter[views][ne][null]=true", "123"),
        ("filter[views][eq][null]=true", "4"),
        ("filter[title][like]=two", "24"),
        ("filter[title][ne]=one", "24"),
        ("filter[title][in][]=two, or 2", "4"),
        ("filter[tags]=a,b", "2"),
        ("filter[tags][in]=a,b", "2"),
        ("filter[author.name][like]=a", "12"),
        ("filter[author.name][gte]=B&filter[views][lte]=5", "2"),
    ],
)
async def test_each(http: Client, query: str, ids: str) -> None:
    assert await http.ids(f"/items?{query}&sort=id") == list(ids)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("filter[views][like]=5", "'like' is none of its operators"),
        ("filter[views][]=5&filter[views][gte]=5", None),
        ("filter[views][gte]=x", "gte: expected an integer"),
        ("filter[views][gte][lt]=5", "gte: expected a value"),
        ("filter[views][null]=false", "'null' is none"),
        ("filter[title][gte]=5", "'gte' is none"),
        ("filter[plain][gte]=5", "expected a value"),
        ("filter[views][__class__]=5", "is none of its operators"),
        ("filter[views][between]=5", "between: expected an array of two"),
        ("filter[views][lt][null]=true", "null cannot be compared"),
    ],
)
async def test_wrong_ones(http: Client, query: str, says: str | None) -> None:
    answer = await http.get(f"/items?{query}")
    code = "INVALID_PARAMETER" if says is None else "INVALID_VALUE"
    assert (says or "") in error(answer, 400, code)["detail"]


async def test_sockets_mean_the_same(library: Api) -> None:
    who, wire = subscriber()
    service = library.socket_server._service
    given = {"views": {"lt": 9, "gte": 5}, "title": {"like": "TWO"}}
    await service.subscribe(who, {"resource": "items", "filters": given, "subscriptionId": "s"})
    items = library.resources.items
    await items.patch("1", {"views": 8})  # the title does not match
    await items.patch("4", {"views": 6})
    await items.patch("2", {"views": 9})
    await delivered(library)
    told = [(one["id"], one["meta"]["change"]) for one in wire.events()]
    assert told == [("4", "enter"), ("2", "leave")]


async def test_what_is_shown_back_can_be_given_again(library: Api) -> None:
    who, _ = subscriber()
    given = {"views": {"gte": "5", "in": [5, 9]}}
    first = await library.socket_server._service.subscribe(
        who, {"resource": "items", "filters": given, "subscriptionId": "s"}
    )
    assert first.data["filters"] == {"views": {"gte": 5, "in": [5, 9]}}
    again = await library.socket_server._service.subscribe(
        who, {"resource": "items", "filters": first.data["filters"], "subscriptionId": "s"}
    )
    assert again.data["filters"] == first.data["filters"]


async def test_python_means_the_same(library: Api) -> None:
    found = await library.resources.items.query({"views": {"gte": 5}})
    assert [one["id"] for one in found] == ["2", "3"]
    with pytest.raises(FilterError, match="none of its operators"):
        await library.resources.items.query({"views": {"like": 5}})


async def test_they_are_described(library: Api) -> None:
    parameters = library.openapi()["paths"]["/api/items"]["get"]["parameters"]
    names = {one["name"]: one["schema"]["type"] for one in parameters if "name" in one}
    assert names["filter[views][gte]"] == "integer"
    assert names["filter[views][between]"] == "array"
    assert "filter[plain][gte]" not in names


def near(columns: Any, value: Any) -> Any:
    return columns.n == value["n"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"operators": ["over"]}, "operators are some of eq, ne"),
        ({"operators": ["like"]}, "'like' needs a text field"),
        (
            {"operators": ["gte"], "type": "object", "filter_operator": lambda c, v: c.n == 1},
            "only",
        ),
    ],
)
def test_wrong_declarations(options: dict[str, Any], says: str) -> None:
    api = Api(name="test")
    with pytest.raises(ConfigurationError, match=says):
        api.add_resource("items", {"n": "integer"}, search_schema={"n": options})
