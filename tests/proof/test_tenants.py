"""Whatever a client asks for: what a hook requires beside it holds for every match."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.realtime.kit import make_api, running
from tidings import Api, FilterError, Identity
from tidings.feed import Change
from tidings.filters import Opaque, any_of, build_filters, compile_predicate
from tidings.matching import Matcher
from tidings.realtime import admission
from tidings.realtime.admission import Admission

TENANTS = (1, 2, 3)
WORDS = ("a", "A", "b", "")
SEARCH: dict[str, Any] = {
    "tenant": {"type": "integer", "actual_field": "tenant_id"},
    "tenant_in": {"filter_operator": "in", "actual_field": "tenant_id"},
    "not_tenant": {"filter_operator": "!=", "actual_field": "tenant_id"},
    "tenant_above": {"filter_operator": ">=", "actual_field": "tenant_id"},
    "word": {"one_of": ["title", "status"], "filter_operator": "like"},
    "status_in": {"filter_operator": "in", "actual_field": "status"},
    "custom": {
        "type": "integer",
        "filter_operator": lambda columns, value: (
            (columns.tenant_id != value) | columns.status.is_(None)
        ),
    },
    "opaque": {
        "type": "integer",
        "filter_operator": lambda columns, value: columns.tenant_id.op("%")(2) == value % 2,
        "filter_record": lambda record, value: True,
    },
}


def tenants_api() -> Api:
    api = make_api()
    api.add_resource(
        "notes",
        schema={"tenant_id": "integer", "title": "string", "status": "string"},
        search_schema=SEARCH,
    )

    @api.hook("subscription_filters")
    async def only_their_own(context: Any) -> None:
        context.subscription.require({"tenant_id": int(context.auth.user_id)})

    return api


def random_filters(r: Random) -> dict[str, Any]:
    make: dict[str, Callable[[], Any]] = {
        "tenant": lambda: r.choice([*TENANTS, None]),
        "tenant_in": lambda: [r.choice(TENANTS) for _ in range(r.randint(0, 3))],
        "not_tenant": lambda: r.choice([*TENANTS, None]),
        "tenant_above": lambda: r.choice(TENANTS),
        "word": lambda: r.choice(WORDS),
        "status_in": lambda: [r.choice(WORDS) for _ in range(r.randint(0, 3))],
        "custom": lambda: r.choice(TENANTS),
        "opaque": lambda: r.choice(TENANTS),
    }
    return {name: make[name]() for name in make if r.random() < 0.25}


def random_record(r: Random) -> dict[str, Any]:
    return {
        "id": 1,
        "tenant_id": r.choice([*TENANTS, None]),
        "title": r.choice([*WORDS, None]),
        "status": r.choice([*WORDS, None]),
    }


async def leaks(api: Api, seed: int) -> list[str]:
    """What subscribers are told of that is not their tenant's; and nothing of theirs is missed."""
    r, matcher, found = Random(seed), Matcher(), []
    operations = api._assembled.operations
    admitting = Admission(operations.visibility, operations.hooks)
    watched = []
    for _ in range(20):
        tenant = r.choice(TENANTS)
        identity, filters = Identity(user_id=str(tenant)), random_filters(r)
        try:
            admitted = await admitting.admit(identity, {"resource": "notes", "filters": filters})
        except FilterError:
            continue
        assert "tenant_id" not in json.dumps(admitted.filters)
        own = build_filters(operations.registry["notes"], filters, identity).expression
        node = matcher.acquire("notes", admitted.expression)
        watched.append((tenant, node, compile_predicate(own)))
    for _ in range(40):
        images = [r.choice([None, random_record(r), random_record(r)]) for _ in range(2)]
        answer = matcher.match(Change("notes", "1", "patch", images[0], images[1]))
        told = {node for nodes in answer for node in nodes}
        for tenant, node, matches in watched:
            seen = [image for image in images if image and image["tenant_id"] == tenant]
            if node in told and not seen:
                found.append(f"tenant {tenant} is told of {images} by {node.expression}")
            assert (node in told) or not any(matches(image) for image in seen)
    return found


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_is_told_of_another_tenants_records(seed: int) -> None:
    async with running(tenants_api()) as api:
        assert await leaks(api, seed) == []


async def no_clauses(*_: object) -> list[Any]:
    return []


async def test_a_clause_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "_clauses", no_clauses)
    async with running(tenants_api()) as api:
        assert await leaks(api, 0)


async def test_a_clause_that_is_merged_with_the_clients_filters_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "all_of", any_of)
    async with running(tenants_api()) as api:
        assert await leaks(api, 0)


def test_the_filters_reach_what_cannot_be_read() -> None:
    """Else the custom filters above would say less than they are to."""
    registry = tenants_api()._assembled.registry
    built = build_filters(registry["notes"], {"opaque": 1}, Identity(user_id="1"))
    assert isinstance(built.expression, Opaque)
