"""Pages by place: complete and in order, whatever comes and goes meanwhile; and lists uncounted."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from tests.http.kit import Client, error, serving_quietly

from tidings import Api, RestApiPlugin, SqlAlchemyPlugin

ORDERS = [
    "",
    "-id",
    "title",
    "-title,-id",
    "views,-title",
    "-rating,views",
    "price,-when",
    "-day,opens",
    "done,-price",
    "code",
    "-author_id,title",
]


def random_values(random: Random) -> dict[str, Any]:
    def maybe(value: Any) -> Any:
        return None if random.random() < 0.2 else value

    return {
        "title": maybe(random.choice(["a", "A", "b", "ä", "Z", "", "\U0001d54f", " a"])),
        "views": random.randint(0, 3),
        "rating": maybe(random.choice([0.1, -2.5, 1e300, 3.0])),
        "price": maybe(random.choice(["1.10", "-3.00", "99999999.99"])),
        "when": maybe(f"2026-01-0{random.randint(1, 3)}T10:00:00.{random.randint(0, 2):06}Z"),
        "day": maybe(f"2026-01-0{random.randint(1, 3)}"),
        "opens": maybe(f"0{random.randint(7, 9)}:30:00"),
        "done": maybe(random.random() < 0.5),
        "code": maybe(f"00000000-0000-4000-8000-00000000000{random.randint(0, 3)}"),
        "author_id": maybe("1"),
    }


@pytest.fixture
async def library(database_url: str) -> AsyncIterator[Api]:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.add_resource("users", {"name": "string"})
    api.add_resource(
        "items",
        {
            "title": {"type": "string", "search": "like"},
            "views": {"type": "integer", "search": True},
            "rating": "number",
            "price": {"type": "decimal", "precision": 10, "scale": 2},
            "when": "dateTime",
            "day": "date",
            "opens": "time",
            "done": "boolean",
            "code": "uuid",
            "text": "text",
            "secret": {"type": "string", "hidden": True},
            "author_id": {"type": "id", "belongs_to": "users"},
        },
        row_policy=lambda c, _identity: c.views < 3,
        max_page_size=500,
    )
    async with api:
        random = Random(4)
        await api.resources.users.post({"name": "Ada"})
        for _ in range(60):
            await api.resources.items.post(random_values(random))
        yield api


@pytest.fixture
async def http(library: Api) -> AsyncIterator[Client]:
    async with serving_quietly(library) as client:
        yield client


async def walked(http: Client, url: str, direction: str) -> list[list[str]]:
    """The ids of each page from a URL on, by the links."""
    pages: list[list[str]] = []
    following: str | None = url
    while following:
        answer = await http.get(following.removeprefix("/api"))
        assert answer.status_code == 200, answer.text
        document = answer.json()
        pages.append([entry["id"] for entry in document["data"]])
        following = document["links"][direction]
    return pages


@pytest.mark.parametrize("order", ORDERS)
async def test_pages_are_the_list_both_ways(http: Client, order: str) -> None:
    whole = await http.ids(f"/items?sort={order}&page[size]=500")
    assert 20 < len(whole) < 60
    for size in (1, 7, len(whole)):
        url = f"/items?sort={order}&page[size]={size}"
        forward = await walked(http, f"{url}&page[after]=", "next")
        assert [one for page in forward for one in page] == whole
        assert all(len(page) == size for page in forward[:-1])
        backward = await walked(http, f"{url}&page[before]=", "prev")
        assert [one for page in reversed(backward) for one in page] == whole


@pytest.mark.parametrize("order", ["", "title,-views", "-rating"])
async def test_nothing_is_skipped_or_twice_while_records_come_and_go(
    library: Api, http: Client, order: str
) -> None:
    random = Random(9)
    started = await http.ids(f"/items?sort={order}&page[size]=500")
    gone: set[str] = set()
    seen: list[str] = []
    following: str | None = f"/items?sort={order}&page[size]=5&page[after]="
    while following:
        document = (await http.get(following.removeprefix("/api"))).json()
        seen += [entry["id"] for entry in document["data"]]
        following = document["links"]["next"]
        for key in random.sample(started, 2):
            if key not in gone:  # those of pages that have been and those to come
                gone.add(key)
                await library.resources.items.delete(key)
        await library.resources.items.post(random_values(random))
    assert len(seen) == len(set(seen))
    assert set(started) - gone <= set(seen)


async def test_a_page_links_to_both_sides(http: Client) -> None:
    first = (await http.get("/items?page[size]=4&page[after]=&sort=id")).json()
    assert first["links"]["prev"] is None
    assert first["meta"]["page"] == {"size": 4}
    second = (await http.get(first["links"]["next"].removeprefix("/api"))).json()
    back = (await http.get(second["links"]["prev"].removeprefix("/api"))).json()
    assert [one["id"] for one in back["data"]] == [one["id"] for one in first["data"]]
    again = (await http.get(second["links"]["self"].removeprefix("/api"))).json()
    assert again["data"] == second["data"]
    cursor = first["data"][1]["meta"]["page"]["cursor"]
    from_there = await http.ids(f"/items?page[size]=2&sort=id&page[after]={cursor}")
    assert from_there == [one["id"] for one in first["data"]][2:]
    for name in ("first", "last"):
        page = (await http.get(second["links"][name].removeprefix("/api"))).json()
        assert len(page["data"]) == 4


async def test_filters_includes_and_relationships_go_along(http: Client) -> None:
    whole = await http.ids("/items?filter[views]=1&page[size]=500")
    pages = await walked(
        http, "/items?filter[views]=1&page[size]=3&include=author&page[after]=", "next"
    )
    assert [one for page in pages for one in page] == whole


async def test_counting_can_be_chosen(http: Client) -> None:
    whole = await http.ids("/items?page[size]=500")
    plain = (await http.get("/items?page[size]=5&page[count]=false")).json()
    assert plain["meta"]["page"] == {"number": 1, "size": 5}
    assert plain["links"]["last"] is None
    pages = await walked(http, "/items?page[size]=5&page[count]=false", "next")
    assert [one for page in pages for one in page] == whole
    placed = (await http.get("/items?page[size]=5&page[after]=&page[count]=true")).json()
    assert placed["meta"]["page"]["total"] == len(whole)
    following = placed["links"]["next"].removeprefix("/api")
    assert (await http.get(following)).json()["meta"]["page"]["total"] == len(whole)


async def test_the_end_and_what_is_empty(http: Client) -> None:
    last = (await http.get("/items?page[size]=3&page[before]=")).json()
    assert last["links"]["next"] is None
    cursor = last["data"][-1]["meta"]["page"]["cursor"]
    beyond = (await http.get(f"/items?page[after]={cursor}")).json()
    assert beyond["data"] == []
    assert beyond["links"]["next"] is None


def place(content: Any) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("page[after]=!", "page[after]"),
        ("page[after]=abc", "page[after]"),
        (f"page[after]={place(['id', ['x']])}", "page[after]"),
        (f"page[after]={place(['id', ['01']])}", "page[after]"),
        (f"page[after]={place(['id', [None]])}", "page[after]"),
        (f"page[after]={place(['id', [1, 2]])}", "page[after]"),
        (f"page[after]={place(['id', {'a': 1}])}", "page[after]"),
        (f"page[after]={place(['secret,id', ['a', 1]])}", "page[after]"),
        (f"page[before]={place(['title,id', ['a', 1]])}", "page[before]"),
        (f"page[before]={place(['id'])}", "page[before]"),
        (f"page[before]={place([[[[]]]])}", "page[before]"),
        (f"page[before]={'A' * 1600}", "page[before]"),
        (f"page[before]={'W1tb' * 300}", "page[before]"),
        ("page[after]=&page[before]=", "page[before]"),
        ("page[after]=&page[number]=2", "page[number]"),
        ("page[after]=&page[limit]=2", "page[limit]"),
        ("page[number]=1&page[limit]=2", "page[number]"),
        ("page[count]=1", "page[count]"),
    ],
)
async def test_what_is_no_place(http: Client, query: str, parameter: str) -> None:
    error(await http.get(f"/items?{query}"), 400, "INVALID_PARAMETER", parameter=parameter)


async def test_values_too_long_for_a_url(library: Api, http: Client) -> None:
    for number in range(3):
        await library.resources.items.post({"text": "x" * 2_000 + str(number), "views": 0})
    error(await http.get("/items?sort=text&page[after]=&page[size]=1"), 400, "INVALID_SORT")
    assert len(await http.ids("/items?sort=text&page[size]=1")) == 1


async def test_a_place_holds_no_more_than_the_list_shows(http: Client) -> None:
    entry = (await http.get("/items?sort=-title&page[after]=&page[size]=1")).json()["data"][0]
    text = entry["meta"]["page"]["cursor"]
    content = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert content == ["-title,id", [entry["attributes"]["title"], int(entry["id"])]]
