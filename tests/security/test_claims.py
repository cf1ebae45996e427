"""Claims are values: whatever shape a token gives them, they choose no operator."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tidings import (
    Api,
    AuthenticationError,
    ConfigurationError,
    Identity,
    PermissionDenied,
    RequestError,
    RestApiPlugin,
    SqlAlchemyPlugin,
    TenancyPlugin,
    policies,
)
from tidings.filters.predicate import compile_predicate
from tidings.realtime.admission import Admission

pytestmark = pytest.mark.anyio

SHAPES: list[Any] = [
    {"!=": 0},
    {">": 0},
    {"in": [1, 2]},
    {"is null": False},
    {"is null": True},
    {"like": ""},
    {},
    [],
    [1, 2],
    [1],
    ["1", "2"],
    [[1]],
    {"a": 1},
    True,
    False,
    1.5,
    "",
    "x",
    "1 OR 1=1",
    None,
    10**30,
]
OWN = [1, "1", 1.0]


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Api]:
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(TenancyPlugin("tenant_id"))
    api.add_resource("by_plugin", {"tenant_id": {"type": "integer", "search": True}})
    api.add_resource(
        "by_policy", {"space_id": "integer"}, row_policy=policies.tenant("space_id", "tenant_id")
    )
    api.add_resource(
        "by_dict", {"space_id": "integer"}, row_policy=lambda c, i: {"space_id": i.tenant_id}
    )
    api.add_resource(
        "by_column", {"space_id": "integer"}, row_policy=lambda c, i: c.space_id == i.tenant_id
    )
    api.add_resource("by_hook", {"space_id": "integer"})

    @api.hook("subscription_filters")
    def clause(context: Any) -> None:
        if context.subscription.resource == "by_hook":
            context.subscription.filters["space_id"] = context.auth.tenant_id

    async with api:
        for number in (1, 2, 3):
            await api.resources.by_plugin.post({"tenant_id": number})
            for name in ("by_policy", "by_dict", "by_column", "by_hook"):
                await api.resources[name].post({"space_id": number})
        yield api


async def listed(api: Api, resource: str, who: Identity) -> set[int]:
    if resource == "by_hook":  # whose clause is for subscriptions alone
        return set()
    column = "tenant_id" if resource == "by_plugin" else "space_id"
    try:
        return {one[column] for one in await api.resources[resource].query(auth=who)}
    except (RequestError, ConfigurationError):
        return set()


async def watched(api: Api, resource: str, who: Identity) -> set[int]:
    operations = api._assembled.operations
    admission = Admission(operations.registry, operations.hooks, operations.policies)
    try:
        admitted = await admission.admit(who, {"resource": resource})
    except (PermissionDenied, AuthenticationError):
        return set()
    matches = compile_predicate(admitted.expression)
    column = "tenant_id" if resource == "by_plugin" else "space_id"
    return {number for number in (1, 2, 3) if matches({column: number})}


RESOURCES = ("by_plugin", "by_policy", "by_dict", "by_column", "by_hook")


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
async def test_a_claim_of_any_shape_opens_nothing(api: Api, resource: str, shape: Any) -> None:
    who = Identity("ann", claims={"tenant_id": shape})
    assert await listed(api, resource, who) == set()
    assert await watched(api, resource, who) == set()


@pytest.mark.parametrize("resource", RESOURCES)
async def test_a_claim_of_one_value_opens_its_own(api: Api, resource: str) -> None:
    for shape in OWN[:1]:
        who = Identity("ann", claims={"tenant_id": shape})
        assert await watched(api, resource, who) == {1}
        if resource != "by_hook":
            assert await listed(api, resource, who) == {1}


def test_identities_whose_claims_differ_in_type_are_not_equal() -> None:
    values = [1, True, 1.0, "1", [1], [True], {"a": 1}, {"a": True}, [1.0], None]
    for one, other in itertools.combinations(values, 2):
        assert Identity("7", claims={"x": one}) != Identity("7", claims={"x": other})
        assert Identity("7", claims={"x": [{"y": one}]}) != Identity(
            "7", claims={"x": [{"y": other}]}
        )
    for value in values:
        assert Identity("7", claims={"x": value}) == Identity("7", claims={"x": value})
    assert Identity("7", claims={"a": 1, "b": 2}) == Identity("7", claims={"b": 2, "a": 1})


async def test_answers_kept_for_one_identity_are_not_another_one_s(api: Api) -> None:
    assert await listed(api, "by_dict", Identity("ann", claims={"tenant_id": 1})) == {1}
    assert await listed(api, "by_dict", Identity("ann", claims={"tenant_id": True})) == set()


async def test_a_list_of_a_claim_can_be_asked_for_in_so_many_words() -> None:
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource(
        "notes", {"team_id": "integer"}, row_policy=lambda c, i: {"team_id": {"in": i.teams}}
    )
    api.add_resource(
        "items", {"team_id": "integer"}, row_policy=lambda c, i: c.team_id.in_(i.teams)
    )
    async with api:
        for number in (1, 2, 3):
            await api.resources.notes.post({"team_id": number})
            await api.resources.items.post({"team_id": number})
        for resource in ("notes", "items"):
            for teams, seen in (([1, 3], {1, 3}), ([], set()), ({"1": 1}, set()), ([[1]], set())):
                who = Identity("ann", claims={"teams": teams})
                found = await api.resources[resource].query(auth=who)
                assert {one["team_id"] for one in found} == seen, (resource, teams)
