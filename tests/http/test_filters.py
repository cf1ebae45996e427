"""Filters in a query string: each operator, each way of writing it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.http.kit import Client, error, errors, make_api, serving

from tidings import Api, FilterError

POSTS = {
    "a": {
        "title": "Ångström 100% sure",
        "status": "draft",
        "view_count": 0,
        "rating": None,
        "price": "9.99",
        "is_public": True,
        "published_at": "2026-01-15T23:30:00Z",
        "day": "2026-01-15",
        "opens": "09:00:00",
    },
    "b": {
        "title": "under_score",
        "body": "a Body with comma, and words",
        "status": "published",
        "view_count": 100,
        "rating": 4.5,
        "price": "10.00",
        "is_public": False,
        "published_at": "2026-01-16T00:00:00+02:00",
        "day": "1066-10-14",
        "opens": "23:59:59",
    },
    "c": {
        "title": "UNDER the bridge",
        "body": None,
        "status": "published",
        "view_count": 101,
        "rating": 5,
        "price": None,
        "is_public": None,
        "published_at": None,
        "day": "9999-12-31",
    },
    "d": {"title": "a,b", "status": "archived", "view_count": 2**53, "rating": -1.5},
    "e": {"title": "100 percent", "status": None, "view_count": 7, "price": "-0.01"},
}


@pytest.fixture(scope="module")
async def names(library: Api) -> AsyncIterator[dict[str, str]]:
    """Record ids to the letters of `POSTS`; d and e have an author."""
    author = await library.resources.users.post({"name": "Ada"})
    other = await library.resources.users.post({"name": "Bob"})
    letters = {}
    for letter, values in POSTS.items():
        owner = {"d": author["id"], "e": other["id"]}.get(letter)
        post = await library.resources.posts.post({**values, "author_id": owner})
        letters[post["id"]] = letter
    letters |= {"ada": author["id"], "bob": other["id"]}
    yield letters
    for post_id in list(letters)[:5]:
        await library.resources.posts.delete(post_id)


FILTERS = [
    # equality, and its absence of NULL
    ("filter[status]=published", "bc"),
    ("filter[not_status]=published", "ad"),
    ("filter[exact_title]=under_score", "b"),
    ("filter[exact_title]=UNDER_SCORE", ""),
    ("filter[exact_title]=a,b", "d"),
    # numbers
    ("filter[views]=100", "b"),
    ("filter[views]=0100", "b"),
    ("filter[views]=9007199254740992", "d"),
    ("filter[views_over]=100", "cd"),
    ("filter[views_from]=100", "bcd"),
    ("filter[views_under]=100", "ae"),
    ("filter[views_to]=100", "abe"),
    ("filter[views_between]=7,100", "be"),
    ("filter[views_between]=100,7", ""),
    ("filter[rating]=-2", "bcd"),
    ("filter[rating]=4.5e0", "bc"),
    ("filter[price]=10", "b"),
    ("filter[price]=10.000", "b"),
    ("filter[price]=9.99", "a"),
    ("filter[price]=9.991", ""),
    ("filter[price]=-0.01", "e"),
    ("filter[price_between]=-1,9.995", "ae"),
    # booleans
    ("filter[is_public]=true", "a"),
    ("filter[is_public]=1", "a"),
    ("filter[is_public]=false", "b"),
    # dates, times, moments
    ("filter[day]=1066-10-14", "b"),
    ("filter[day]=9999-12-31", "c"),
    ("filter[opens]=09:00", "a"),
    ("filter[published_at]=2026-01-15T22:30:00Z", "a"),
    ("filter[published_at]=2026-01-16T00:30:00%2B02:00", "a"),
    ("filter[published_at]=2026-01-16T00:30:00+02:00", "a"),  # "+" not encoded: a blank
    ("filter[published_at]=2026-01-15T22:00:00Z", "ab"),
    ("filter[published_on]=2026-01-15", "ab"),
    ("filter[published_on]=2026-01-16", ""),
    ("filter[published_on]=9999-12-31", ""),
    ("filter[published_on]=2026-01-15T22:00:00Z", "b"),
    # like: contains, without case, without wildcards
    ("filter[title]=under", "bc"),
    ("filter[title]=UNDER", "bc"),
    ("filter[title]=r_s", "b"),
    ("filter[title]=%25", "a"),
    ("filter[title]=100%25", "a"),
    ("filter[title]=%C3%A5NGSTR%C3%96M", "a"),
    ("filter[title]=", "abcde"),
    ("filter[title]=a,b", "d"),
    ("filter[text]=body", "b"),
    ("filter[text]=under", "bc"),
    ("filter[words]=the%20under", "c"),
    ("filter[words]=the+under", "c"),
    ("filter[author][null]=true", "abc"),
    ("filter%5Bauthor%5D%5Bnull%5D=true", "abc"),
    ("filter[not_status][null]=true", "abcd"),
    # in: commas, repeated keys, brackets
    ("filter[statuses]=draft", "a"),
    ("filter[statuses]=draft,archived", "ad"),
    ("filter[statuses]=draft&filter[statuses]=archived", "ad"),
    ("filter[statuses][]=draft&filter[statuses][]=archived", "ad"),
    ('filter[statuses]=["draft","archived"]', "ad"),
    ("filter%5Bstatuses%5D%5B%5D=draft&filter%5Bstatuses%5D=archived", "ad"),
    ("filter[statuses]=draft%2Carchived", "ad"),
    ("filter[statuses]=", ""),
    # encoded brackets, several filters
    ("filter%5Bstatus%5D=published&filter[views_over]=100", "c"),
    ("filter[status]=published&filter[title]=under&filter[is_public]=0", "b"),
    ("filter[status]=draft&filter[statuses]=published", ""),
    # a callable, with an object from brackets or JSON; its OR stays inside
    ("filter[near][at]=4.5&filter[near][within]=0.1", "b"),
    ("filter[near][at]=4.5", "bc"),
    ('filter[near]={"at":4.5,"within":0.1}', "b"),
    ("filter[near][at]=-1.5&filter[near][or_title]=100 percent", "de"),
    ("filter[near][at]=-1.5&filter[near][or_title]=100 percent&filter[status]=published", ""),
    ("filter[raw]=x", "abcde"),
    ("filter[raw]=x&filter[status]=published", "bc"),
    ("filter[any_status]=draft,archived", "ad"),
    ('filter[any_status]=["draft","archived"]', "ad"),
    ("filter[any_status][]=draft", "a"),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
async def test_filter(http: Client, names: dict[str, str], query: str, expected: str) -> None:
    body = (await http.get(f"/posts?{query}")).json()
    assert "errors" not in body, body
    assert "".join(sorted(names[entry["id"]] for entry in body["data"])) == expected
    assert body["meta"]["page"]["total"] == len(expected)


@pytest.mark.parametrize(
    "query",
    [
        "filter[status]=Published",
        "filter[status]=",
        "filter[statuses]=nothing,published,nothing",
        "filter[statuses][]=draft,archived",  # one value, which holds a comma
    ],
)
async def test_filter_by_what_no_record_can_have(http: Client, query: str) -> None:
    name = query.partition("=")[0].removesuffix("[]")
    found = error(await http.get(f"/posts?{query}"), 400, "INVALID_VALUE")
    assert found["source"]["parameter"].startswith(name)


async def test_filter_by_related_id(http: Client, names: dict[str, str]) -> None:
    for query, expected in (
        (f"filter[author]={names['ada']}", "d"),
        (f"filter[authors]={names['ada']},{names['bob']}", "de"),
        (f"filter[author]={names['ada']}&filter[author]={names['bob']}", None),
        ("filter[author]=999999", ""),
    ):
        response = await http.get(f"/posts?{query}")
        if expected is None:
            error(response, 400, "INVALID_VALUE", parameter="filter[author]")
        else:
            found = response.json()["data"]
            assert "".join(sorted(names[entry["id"]] for entry in found)) == expected
    d_and_e = [key for key, letter in names.items() if letter in ("d", "e")]
    assert await http.ids(f"/posts?filter[ids]={','.join(d_and_e)}") == d_and_e


BAD_VALUES = [
    ("views", "many"),
    ("views", "1.5"),
    ("views", ""),
    ("views", "9" * 25),
    ("views", "1_000"),
    ("views", "\u0663"),
    ("rating", "NaN"),
    ("rating", "Infinity"),
    ("rating", "1e999"),
    ("rating", "0x10"),
    ("price", "ten"),
    ("price", "1" * 65),
    ("is_public", "yes"),
    ("is_public", "True"),
    ("day", "2026-13-01"),
    ("day", "2026-01-01T00:00:00Z"),
    ("day", "yesterday"),
    ("opens", "25:00"),
    ("published_at", "soon"),
    ("published_on", "2026-02-30"),
    ("views_between", "1"),
    ("views_between", "1,2,3"),
    ("views_between", ""),
    ("views_between", "1,x"),
    ("statuses", "a" + ",a" * 500),
    ("title", "nul\0"),
    ("exact_title", "nul\0"),
    ("ids", "1,x"),
    ("near", "4.5"),
    ("near", "[4.5]"),
    ("near", "{"),
    ("words", "a\0"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
async def test_values_that_make_no_sense_are_refused(http: Client, name: str, value: str) -> None:
    response = await http.get("/posts", params={f"filter[{name}]": value})
    error(response, 400, "INVALID_VALUE", parameter=f"filter[{name}]")


@pytest.mark.parametrize("value", ["1e20", "-1e9999", "9" * 40, "0." + "0" * 40 + "1"])
async def test_decimals_beyond_the_column_match_nothing_or_are_refused(
    http: Client, names: dict[str, str], value: str
) -> None:
    response = await http.get("/posts", params={"filter[price]": value})
    if response.status_code == 200:
        assert response.json()["data"] == []
    else:
        error(response, 400, "INVALID_VALUE", parameter="filter[price]")


async def test_every_wrong_filter_is_reported(http: Client) -> None:
    response = await http.get(
        "/posts?filter[views]=x&filter[nothing]=1&filter[day]=x&filter[a][b]=1"
    )
    found = {entry["source"]["parameter"]: entry["code"] for entry in errors(response, 400)}
    assert found == {
        "filter[views]": "INVALID_VALUE",
        "filter[nothing]": "UNKNOWN_FIELD",
        "filter[day]": "INVALID_VALUE",
        "filter[a]": "UNKNOWN_FIELD",
    }


async def test_only_declared_names_are_filters(http: Client) -> None:
    for name in ("body", "note", "score", "view_count", "$or", "__proto__", "constructor"):
        response = await http.get("/posts", params={f"filter[{name}]": "1"})
        error(response, 400, "UNKNOWN_FIELD", parameter=f"filter[{name}]")


async def test_a_resource_without_filters_says_so(http: Client) -> None:
    error(await http.get("/plain?filter[name]=x"), 400, "FILTERING_NOT_ENABLED")
    assert (await http.get("/plain")).status_code == 200


async def test_a_filter_given_both_as_value_and_object_is_refused(http: Client) -> None:
    for query in (
        "filter[near]=1&filter[near][at]=2",
        "filter[near][at]=2&filter[near]=1",
        "filter[near][at]=1&filter[near][at][x]=2",
        "filter[near][]=1&filter[near][at]=2",
    ):
        response = await http.get(f"/posts?{query}")
        assert response.json()["errors"][0]["code"] == "INVALID_PARAMETER"


async def test_objects_and_lists_where_a_value_is_expected_are_refused(http: Client) -> None:
    for query in ("filter[status][a]=b", "filter[views][]=1", "filter[title]=a&filter[title]=b"):
        name = query[7 : query.index("]")]
        error(await http.get(f"/posts?{query}"), 400, "INVALID_VALUE", parameter=f"filter[{name}]")
    response = await http.get("/posts?filter[statuses][a]=b")
    error(response, 400, "INVALID_VALUE", parameter="filter[statuses]")


async def test_a_custom_filter_that_misses_a_member_of_its_value() -> None:
    """As the guide's near_location does, which is given no lat."""
    api = make_api()
    api.add_resource(
        "places",
        schema={"lat": "number"},
        search_schema={
            "near": {
                "type": "object",
                "filter_operator": lambda columns, value: columns.lat > value["lat"],
            }
        },
    )
    async with serving(api) as http:
        assert (await http.get("/places?filter[near][lat]=1")).status_code == 200
        error(await http.get("/places?filter[near][x]=1"), 400, "INVALID_VALUE")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
async def test_a_number_that_no_database_takes_is_refused_by_a_custom_filter(number: int) -> None:
    api = make_api()
    api.add_resource(
        "places",
        {"size": "integer"},
        search_schema={
            "near": {
                "type": "object",
                "filter_operator": lambda columns, value: columns.size > value["size"],
            }
        },
    )
    async with api:
        with pytest.raises(FilterError, match="too large"):
            await api.resources.places.query({"near": {"size": number}})
