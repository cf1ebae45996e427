"""Sorting through to-one relationships, and what row policies and permissions leave of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.http.kit import SECRET, Client, bearer, error, serving_quietly

from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SqlAlchemyPlugin,
)


def own_company(columns: Any, identity: Identity) -> Any:
    return (columns.owner == identity.user_id) | (columns.owner == None)  # noqa: E711


def not_for_guests(context: OperationContext) -> bool:
    return context.auth.user_id != "guest"


@pytest.fixture
async def http(database_url: str) -> AsyncIterator[Client]:
    api = Api(name="test")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.add_resource(
        "companies",
        {"name": "string", "owner": "string"},
        row_policy=own_company,
        check_permissions=not_for_guests,
    )
    api.add_resource(
        "people", {"name": "string", "secret": "string", "company_id": {"belongs_to": "companies"}}
    )
    api.add_resource(
        "notes",
        {"text": "string", "by_id": {"belongs_to": "people"}},
        search_schema={
            "by.name": {},
            "by.company.name": {"filter_operator": "like"},
            "anything": {"one_of": ["text", "by.secret"]},
        },
        borrows=("by.company.owner",),
    )
    async with api:
        for name, owner in (("zeta", None), ("alpha", "ann"), ("Beta", "ben")):
            await api.resources.companies.post({"name": name, "owner": owner})
        for name, company in (("Ada", 1), ("grace", 2), ("Bob", 3), ("Eve", None)):
            await api.resources.people.post({"name": name, "company_id": company})
        for number, by in enumerate((3, None, 1, 2, 4, 1)):
            await api.resources.notes.post({"text": str(number), "by_id": by})
        async with serving_quietly(api) as client:
            yield client


async def order(http: Client, sort: str, user: str = "ann") -> str:
    found = await http.data(f"/notes?sort={sort}&page[size]=50", headers=bearer(user))
    return "".join(one["attributes"]["text"] for one in found)


async def test_by_a_related_name(http: Client) -> None:
    # Ada 2, Ada 5, Bob 0, Eve 4, grace 3, nobody 1
    assert await order(http, "by.name") == "250431"
    assert await order(http, "-by.name") == "340251"
    assert await order(http, "by.name,-text") == "520431"
    assert await order(http, "-text") == "543210"


async def test_pages_of_it(http: Client) -> None:
    found = ""
    for number in (1, 2, 3):
        url = f"/notes?sort=by.name&page[size]=2&page[number]={number}"
        page = await http.data(url, headers=bearer("ann"))
        found += "".join(one["attributes"]["text"] for one in page)
    assert found == "250431"


async def test_what_a_policy_hides_counts_as_null(http: Client) -> None:
    # zeta: 2, 5; alpha (ann's): 3; Beta (ben's): 0; no company: 1, 4
    assert await order(http, "by.company.name", "ann") == "325014"
    assert await order(http, "by.company.name", "ben") == "025134"
    assert await order(http, "-by.company.name", "ann") == "253014"
    filtered = "by.company.name&filter[by.company.name]=a"
    assert await order(http, filtered, "ann") == "325"


async def test_permission_of_what_it_looks_at_is_asked(http: Client) -> None:
    assert await order(http, "by.name", "guest") == "250431"
    answer = await http.get("/notes?sort=by.company.name", headers=bearer("guest"))
    error(answer, 403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "sort", ["by", "by.id", "by.company.owner", "by.nothing", "nothing.name", "by.company", "by."]
)
async def test_paths_of_no_filter_are_refused(http: Client, sort: str) -> None:
    error(await http.get(f"/notes?sort={sort}", headers=bearer("ann")), 400, "INVALID_SORT")


async def test_there_is_no_place_in_it(http: Client) -> None:
    answer = await http.get("/notes?sort=by.name&page[after]=", headers=bearer("ann"))
    error(answer, 400, "INVALID_SORT")
