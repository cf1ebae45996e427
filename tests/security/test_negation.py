"""What cannot be decided denies, under a negation too.

A filter through a relationship sees a related record only where its policy lets it be read. The
policies here are made at random, of parts that a path can reach and parts that none can (arrays,
comparisons of two columns), below any number of negations.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tidings import Api, Identity, RestApiPlugin, SqlAlchemyPlugin
from tidings.filters.predicate import compile_predicate
from tidings.realtime.admission import Admission

pytestmark = pytest.mark.anyio

FOLDERS = [
    {"name": name, "owner": owner, "level": level, "blocked": blocked}
    for name, owner, level, blocked in (
        ("plain", "ann", 1, []),
        ("secret", "ben", 2, ["ann"]),
        ("odd", None, None, None),
        ("shared", "ann", 3, ["ann", "ben"]),
        ("high", "ben", 9, ["eve"]),
    )
]
NAMES = [str(folder["name"]) for folder in FOLDERS]


def reachable(chance: random.Random) -> Any:
    return chance.choice(
        [
            {"owner": "ann"},
            {"owner": {"!=": "ann"}},
            {"level": {">": chance.randrange(4)}},
            {"owner": {"is null": True}},
            {"name": {"like": "e"}},
        ]
    )


def unreachable(chance: random.Random) -> Any:
    return chance.choice(
        [
            {"blocked": "ann"},
            {"blocked": {"!=": "ann"}},
            {"blocked": {"in": ["ann", "eve"]}},
            {"blocked": {"like": "a"}},
        ]
    )


def policy(chance: random.Random, depth: int) -> Any:
    if not depth or chance.random() < 0.2:
        return (unreachable if chance.random() < 0.5 else reachable)(chance)
    kind = chance.choice(["$not", "$or", "$and", "$not"])
    if kind == "$not":
        return {"$not": policy(chance, depth - 1)}
    return {kind: [policy(chance, depth - 1) for _ in range(chance.randint(1, 3))]}


class Current:
    """The policy that is in force; a new identity is asked for each."""

    clause: Any = None

    def __call__(self, columns: Any, identity: Any) -> Any:
        return self.clause


CURRENT = Current()
_numbers = itertools.count()


def somebody() -> Identity:
    return Identity("ann", claims={"number": next(_numbers)})


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Api]:
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource(
        "folders",
        {"name": "string", "owner": "string", "level": "integer", "blocked": "array"},
        row_policy=CURRENT,
    )
    api.add_resource(
        "files",
        {"title": "string", "folder_id": {"belongs_to": "folders"}},
        search_schema={
            "folder": {"actual_field": "folder.name"},
            "not_folder": {"actual_field": "folder.name", "filter_operator": "!="},
            "like": {"actual_field": "folder.name", "filter_operator": "like"},
            "either": {"one_of": ["folder.name", "folder.owner"], "filter_operator": "!="},
            "none": {"actual_field": "folder.owner"},
        },
    )
    async with api:
        for folder in FOLDERS:
            made = await api.resources.folders.post(folder)
            await api.resources.files.post({"title": folder["name"], "folder_id": made["id"]})
        yield api


FILTERS: list[dict[str, Any]] = [
    *({"folder": name} for name in NAMES),
    *({"not_folder": name} for name in NAMES),
    {"like": "e"},
    {"either": "nobody"},
    {"none": None},
]


async def titles(api: Api, resource: str, column: str, auth: Identity, filters: Any) -> set[Any]:
    found = await api.resources[resource].query(filters, auth=auth)
    return {one[column] for one in found}


async def watched(api: Api, auth: Identity, filters: Any) -> set[str]:
    """The titles of the files that a subscription with these filters is told of."""
    operations = api._assembled.operations
    admission = Admission(operations.visibility, operations.hooks)
    admitted = await admission.admit(auth, {"resource": "files", "filters": filters})
    matches = compile_predicate(admitted.expression)
    return {
        folder["name"]
        for folder in FOLDERS
        if matches(
            {
                "title": folder["name"],
                "folder_id": 1,
                **{f"folder.{k}": v for k, v in folder.items()},
            }
        )
    }


@pytest.mark.parametrize("seed", range(150))
async def test_nothing_is_found_by_what_may_not_be_read(api: Api, seed: int) -> None:
    chance = random.Random(seed)
    CURRENT.clause = policy(chance, 3)
    who = somebody()
    readable = await titles(api, "folders", "name", who, {})
    for filters in FILTERS:
        found = await titles(api, "files", "title", who, filters)
        assert found <= readable, (CURRENT.clause, filters)
        assert await watched(api, who, filters) <= readable, (CURRENT.clause, filters)


async def test_a_negated_policy_on_an_array_denies(api: Api) -> None:
    CURRENT.clause = {"$not": {"blocked": "ann"}}
    assert await titles(api, "files", "title", somebody(), {"folder": "secret"}) == set()
    assert await titles(api, "files", "title", somebody(), {"like": "sec"}) == set()


async def test_a_policy_of_reachable_parts_is_seen_through_negations(api: Api) -> None:
    CURRENT.clause = {"$not": {"$or": [{"owner": "ben"}, {"$not": {"level": {">": 0}}}]}}
    who = somebody()
    assert await titles(api, "folders", "name", who, {}) == {"plain", "shared"}
    assert await titles(api, "files", "title", who, {"like": "a"}) == {"plain", "shared"}
