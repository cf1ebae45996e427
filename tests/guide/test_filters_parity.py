"""A filter means the same over HTTP and on a socket, the app's custom ones included.

Subscriptions are made first; then records are made, and each subscription must be told of exactly
those that a GET with the same filters then lists.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from examples.guide.filters import near_location_record

from tests.guide.kit import Rest, Socket, token
from tests.support.node import NodeClient
from tests.support.server import RunningServer

pytestmark = pytest.mark.anyio

MUNICH, ANTIPODE = (48.137, 11.575), (-48.137, -168.425)
BEYOND = (89.59799164833686, 133.22058586673614)


def products() -> list[dict[str, Any]]:
    """Records at the edges of every filter, and some at random."""
    edges: list[dict[str, Any]] = [
        {},
        {"title": "Phone", "description": "A PHONE with 100% charge", "tags": ["new", "sale"]},
        {"title": "ÉCLAIR", "description": "straße", "tags": ["Öl", "x_y", 5, None, True]},
        {"title": "x_y", "tags": []},
        {"title": "xAy 100 percent", "description": "", "tags": ["a,b", "c d"]},
        {"title": "back\\slash /slash", "description": "İstanbul"},
        {"status": "active", "price": 99.99, "stock": 0},
        {"status": "Active", "price": 99.98, "stock": 1, "in_stock": True},
        {"status": "active ", "price": 100, "stock": 0.5, "in_stock": False},
        {"category_id": 1, "created_at": "2024-01-01T00:00:00Z"},
        {"category_id": "2", "created_at": "2023-12-31T23:59:59.999Z"},
        {"category_id": "alice", "created_at": "2024-12-31T23:59:59.999999Z"},
        {"category_id": 5, "in_stock": True, "created_at": "2025-01-01T00:00:00Z"},
        {"category_id": "05", "in_stock": None, "created_at": "2024-12-31T23:30:00-01:00"},
        {"latitude": MUNICH[0], "longitude": MUNICH[1]},
        {"latitude": MUNICH[0] + 0.0899, "longitude": MUNICH[1]},
        {"latitude": MUNICH[0] + 0.09, "longitude": MUNICH[1]},
        {"latitude": ANTIPODE[0], "longitude": ANTIPODE[1]},
        {"latitude": MUNICH[0]},
        {"latitude": 0, "longitude": 179.99},
        {"latitude": 90, "longitude": 12},
        {"owner_id": "ann", "is_public": False},
        {"owner_id": "bob", "is_public": True},
        {"owner_id": "bob", "shared_with": ["ann"]},
        {"owner_id": "bob", "shared_with": ["Ann", "anna", "an", 7]},
        {"owner_id": 7, "shared_with": []},
        {"is_public": True, "shared_with": ["ann", "bob"]},
        {"latitude": -BEYOND[0], "longitude": BEYOND[1] - 180},
    ]
    chance = random.Random(20240115)
    for _ in range(15):
        edges.append(
            {
                "title": chance.choice(["phone", "PHONES", "tele phone", "radio", None]),
                "tags": chance.sample(["phone", "sale", "Öl", "ann"], 2),
                "status": chance.choice(["active", "sold", None]),
                "price": chance.choice([99, 99.99, 150.5, None]),
                "stock": chance.choice([0, 1, 10]),
                "in_stock": chance.choice([True, False, None]),
                "category_id": chance.choice([1, 2, 5, "alice", None]),
                "created_at": f"2024-{chance.randint(1, 12):02}-15T12:00:00Z",
                "latitude": MUNICH[0] + chance.uniform(-0.2, 0.2),
                "longitude": MUNICH[1] + chance.uniform(-0.2, 0.2),
                "owner_id": chance.choice(["ann", "bob", "7", None]),
                "is_public": chance.choice([True, False]),
                "shared_with": chance.choice([None, ["ann"], ["bob", "7"]]),
            }
        )
    return edges


def near(where: tuple[float, float], **radius: object) -> dict[str, Any]:
    return {"near_location": {"lat": where[0], "lng": where[1], **radius}}


PRODUCT_FILTERS: list[dict[str, Any]] = [
    {"status": "active"},
    {"status": "ACTIVE"},
    {"price": 99.99},
    {"price": "1e2"},
    {"stock": 0},
    {"stock": -1},
    {"in_stock": True},
    {"in_stock": "false"},
    {"title": "phone"},
    {"title": "éclair"},
    {"title": "_"},
    {"title": "%"},
    {"title": "\\"},
    {"title": ""},
    {"category_id": [1, 2, 3]},
    {"category_id": ["alice"]},
    {"category_id": "5"},
    {"category_id": [5, "05", 5]},
    {"created_at": ["2024-01-01", "2024-12-31"]},
    {"created_at": ["2024-12-31", "2024-12-31"]},
    {"created_at": ["2024-12-31", "2024-01-01"]},
    {"search": "phone"},
    {"search": "ÖL"},
    {"search": "STRASSE"},
    {"search": "straße"},
    {"search": "i̇stanbul"},
    {"search": "100%"},
    {"search": "x_y"},
    {"search": "/"},
    {"search": "\\"},
    {"search": "5"},
    {"search": "null"},
    {"search": "c d"},
    {"search": "new sale"},
    {"search": ""},
    near(MUNICH),
    near(MUNICH, radius=10.01),
    near(MUNICH, radius=0),
    near(MUNICH, radius=20015.2),
    near(ANTIPODE, radius=20016),
    near((0, -179.99), radius=3),
    near(BEYOND, radius=20016),
    near((90, -100)),
    {"near_location": {"lat": "48.137", "lng": "11.575", "radius": "5"}},
    {"available_for_user": {}},
    {"available_for_user": {"include_private": True}},
    {"available_for_user": {"user_id": "bob", "include_private": True}},
    {"status": "active", "price": 99, "title": "phone", "category_id": [1, 2, 5]},
    {"search": "phone", **near(MUNICH, radius=15), "available_for_user": {}},
]

POST_FILTERS: list[dict[str, Any]] = [
    {"status": "published"},
    {"status": "draft"},
    {"author_id": 1},
    {"author_id": "1", "view_count": 100},
    {"author_id": "alice"},
    {"published_at": "2024-01-01T00:00:00Z"},
    {"published_at": "2024-01-01T01:00:00+01:00"},
    {"published_at": "2024-01-01"},
    {"view_count": 100},
    {"view_count": "-0.5"},
    {"category_id": 5, "status": "published"},
]


def posts() -> Iterator[dict[str, Any]]:
    for status in ("published", "draft", None):
        for count in (0, 100, 100.5):
            yield {
                "title": "x",
                "author_id": {0: 1, 100: "1", 100.5: "alice"}[count],
                "view_count": count,
                "category_id": 5 if count else None,
                "published_at": None
                if status is None
                else ("2024-01-01T00:00:00Z" if count else "2023-12-31T23:59:59.999Z"),
                **({} if status is None else {"status": status}),
            }


def query(filters: Mapping[str, Any], style: str) -> dict[str, Any]:
    """The same filters as query parameters."""
    result: dict[str, Any] = {"page[size]": 100}
    for name, value in filters.items():
        if isinstance(value, dict) and (style == "json" or not value):
            result[f"filter[{name}]"] = json.dumps(value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                text = str(inner).lower() if isinstance(inner, bool) else inner
                result[f"filter[{name}][{key}]"] = text
        elif isinstance(value, list):
            repeated = [str(item) for item in value]
            result[f"filter[{name}]"] = repeated if style == "json" else ",".join(repeated)
        else:
            result[f"filter[{name}]"] = str(value).lower() if isinstance(value, bool) else value
    return result


CASES = [
    *(("ann", "posts", filters) for filters in POST_FILTERS),
    *(("ann", "products", filters) for filters in PRODUCT_FILTERS),
    # What a filter answers may hang on who asks.
    *(("7", "products", one) for one in PRODUCT_FILTERS if "available_for_user" in one),
    *(("root", "products", one) for one in PRODUCT_FILTERS if "available_for_user" in one),
]


@dataclass
class World:
    """The records' ids by resource, and what each case's subscription was told of."""

    made: dict[str, list[str]]
    told: list[set[str]]


@pytest.fixture(scope="module")
async def world(server: RunningServer, rest: Rest) -> AsyncIterator[World]:
    async with NodeClient(server.url, transports="websocket") as node:
        users = list(dict.fromkeys(user for user, _, _ in CASES))
        sockets = {user: Socket(node, user) for user in users}
        for user in users:
            await node.connect(token(user), socket=user)
        subscriptions = [
            await sockets[user].subscribe(resource, filters=filters)
            for user, resource, filters in CASES
        ]
        everything = [
            await sockets[user].subscribe(resource)
            for user in users
            for resource in ("posts", "products")
        ]
        made = {
            "posts": [await rest.create("posts", **record) for record in posts()],
            "products": [await rest.create("products", **record) for record in products()],
        }
        for data, user in zip(everything, [name for name in users for _ in range(2)], strict=True):
            ids = made[data["resource"]]
            # Everything made was told, and with it whatever came before on the same socket.
            assert [one["id"] for one in await sockets[user].updates(data, len(ids))] == ids
        told = []
        for (user, _, _), data in zip(CASES, subscriptions, strict=True):
            updates = await sockets[user].told(data)
            assert {one["meta"]["change"] for one in updates} <= {"enter"}
            assert len({one["id"] for one in updates}) == len(updates)
            told.append({one["id"] for one in updates})
        yield World(made, told)


@pytest.mark.parametrize("style", ["brackets", "json"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0]} {CASES[n][2]}")
async def test_a8_71_a_fetch_lists_what_was_told(world: World, rest: Rest, number: int, style: str):
    user, resource, filters = CASES[number]
    listed = await rest.ids(resource, auth=token(user), **query(filters, style))
    assert world.told[number] == listed


async def test_a8_71_the_filters_tell_records_apart(world: World):
    """A comparison of empty sets, or of everything with everything, would prove little."""
    sizes = [
        (len(found), len(world.made[resource]))
        for found, (_, resource, _) in zip(world.told, CASES, strict=True)
    ]
    assert sum(0 < size < total for size, total in sizes) > 0.75 * len(sizes)


def names(world: World, case: tuple[str, str, dict[str, Any]]) -> list[int]:
    """The places, in the list of records, of what a case was told of."""
    _, resource, _ = case
    found = world.told[CASES.index(case)]
    return [place for place, one in enumerate(world.made[resource]) if one in found]


async def test_a8_85_near_location_is_a_circle_of_10_km_by_default(world: World):
    edges = [place for place in names(world, ("ann", "products", near(MUNICH))) if place < 27]
    assert edges == [14, 15]  # at 9.997 km, not at 10.008 km
    farthest = near(MUNICH, radius=20015.2)
    assert 17 in names(world, ("ann", "products", near(ANTIPODE, radius=20016)))
    assert 18 not in names(world, ("ann", "products", farthest))
    assert 19 in names(world, ("ann", "products", near((0, -179.99), radius=3)))


def test_a8_85_near_location_survives_rounding_at_the_antipode():
    """For many points the formula's square comes out above 1, where the arc sine has no value."""
    chance = random.Random(1)
    for _ in range(2000):
        lat, lng = chance.uniform(-90, 90), chance.uniform(-180, 180)
        record = {"latitude": -lat, "longitude": lng + 180 if lng < 0 else lng - 180}
        assert near_location_record(record, {"lat": lat, "lng": lng, "radius": 20016})
        assert not near_location_record(record, {"lat": lat, "lng": lng, "radius": 20000})


async def test_a8_85_available_for_user_is_one_s_own_and_public_and_on_request_shared(world: World):
    def found(user: str, **value: Any) -> list[int]:
        case = (user, "products", {"available_for_user": value})
        return [place for place in names(world, case) if 21 <= place < 27]

    assert found("ann") == [21, 22, 26]
    assert found("ann", include_private=True) == [21, 22, 23, 26]
    assert found("7") == [22, 25, 26]
    assert found("7", include_private=True) == [22, 24, 25, 26]
    assert found("root", include_private=True) == [22, 26]


async def test_x15_the_user_is_the_token_s_whatever_the_client_says(world: World):
    mine = {"available_for_user": {"include_private": True}}
    theirs = {"available_for_user": {"user_id": "bob", "include_private": True}}
    for user in ("ann", "7", "root"):
        assert names(world, (user, "products", mine)) == names(world, (user, "products", theirs))


async def test_x15_nobody_sees_what_is_public(world: World, rest: Rest):
    listed = await rest.ids(
        "products",
        auth=None,
        **query({"available_for_user": {"user_id": "bob", "include_private": True}}, "brackets"),
    )
    public = [place for place, one in enumerate(products()) if one.get("is_public")]
    assert listed == {world.made["products"][place] for place in public}


async def test_x16_an_or_inside_a_custom_filter_does_not_escape_the_others(
    world: World, rest: Rest
):
    filters = {"available_for_user": {}, "search": "phone", "near_location": {"lat": 0, "lng": 0}}
    assert await rest.ids("products", auth=token("ann"), **query(filters, "json")) == set()


async def test_x17_search_ignores_case_and_takes_wildcards_literally(world: World):
    def found(text: str) -> list[int]:
        case = ("ann", "products", {"search": text})
        return [place for place in names(world, case) if place < 27]

    assert found("phone") == [1]
    assert found("ÖL") == [2]
    assert found("100%") == [1]
    assert found("x_y") == [2, 3]
    assert found("5") == [2]  # tags are kept as strings, whatever they came as
    assert found("new sale") == []  # each tag by itself


async def test_a8_73_the_guide_s_query_means_equal_and_strictly_greater(world: World, rest: Rest):
    wanted = {"filter[status]": "published", "filter[view_count]": 100}
    listed = await rest.ids("posts", auth=None, **wanted)
    assert listed == {world.made["posts"][2]}


@pytest.mark.parametrize(
    "value",
    ["x", '{"lat":"x","lng":1}', "{}", "[1,2]", '{"lat":1,"lng":181}', '{"lat":1}'],
    ids=str,
)
async def test_a_bad_value_of_a_custom_filter_is_a_clear_error(rest: Rest, value: str):
    answer = await rest.send("GET", "products", params={"filter[near_location]": value})
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["source"] == {"parameter": "filter[near_location]"}
    assert error["code"] == "INVALID_VALUE"
    assert error["detail"].startswith("near_location: ")
