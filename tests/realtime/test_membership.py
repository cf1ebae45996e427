"""Policies by membership: who belongs to a team sees what hangs on it, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.realtime.kit import delivered, make_api, running, subscriber
from tidings import Api, Identity, NotFound, RelatedNotFound

ANN, BEN = (Identity(user_id=name, issued_at=1) for name in ("ann", "ben"))


def _members(path: str) -> dict[str, Any]:
    return {
        "row_policy": lambda columns, identity: {path: identity.user_id},
        "borrows": [path],
    }


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = make_api()
    api.add_resource(
        "teams",
        schema={"name": "string"},
        relationships={
            "memberships": {"type": "hasMany", "target": "memberships", "foreign_key": "team_id"}
        },
        **_members("memberships.user_id"),
    )
    api.add_resource(
        "memberships",
        schema={"user_id": "string", "team_id": {"belongs_to": "teams"}},
        row_policy=lambda columns, identity: columns.user_id == identity.user_id,
    )
    api.add_resource(
        "projects",
        schema={"title": "string", "team_id": {"belongs_to": "teams"}},
        search_schema={"title": {}, "team.name": {}},
        **_members("team.memberships.user_id"),
    )
    api.add_resource(
        "tasks",
        schema={"title": "string", "project_id": {"belongs_to": "projects"}},
        search_schema={"title": {}, "project.title": {}},
        **_members("project.team.memberships.user_id"),
    )
    async with running(api):
        yield api


async def _world(api: Api) -> None:
    """Two teams, Ann in the first, Ben in the second, each with a project and a task."""
    for number, user in ((1, "ann"), (2, "ben")):
        await api.resources.teams.post({"name": f"team {number}"})
        await api.resources.memberships.post({"user_id": user, "team_id": number})
        await api.resources.projects.post({"title": f"project {number}", "team_id": number})
        await api.resources.tasks.post({"title": f"task {number}", "project_id": number})


async def test_lists_and_records(api: Api) -> None:
    await _world(api)
    for name in ("teams", "projects", "tasks", "memberships"):
        handle = api.resources[name]
        assert [row["id"] for row in await handle.query(auth=ANN)] == ["1"], name
        assert (await handle.get(1, auth=ANN))["id"] == "1"
        with pytest.raises(NotFound):
            await handle.get(2, auth=ANN)
        assert [row["id"] for row in await handle.query(auth=BEN)] == ["2"], name
        assert len(await handle.query(auth=Identity(user_id="eve"))) == 0


@pytest.mark.parametrize(
    ("resource", "name", "value"),
    [("tasks", "project.title", "project 1"), ("projects", "team.name", "team 1")],
)
async def test_filters_through_them_see_what_members_see(
    api: Api, resource: str, name: str, value: str
) -> None:
    await _world(api)
    handle = api.resources[resource]
    assert [row["id"] for row in await handle.query({name: value}, auth=ANN)] == ["1"]
    assert len(await handle.query({name: value}, auth=BEN)) == 0


async def test_references_are_to_what_one_may_see(api: Api) -> None:
    await _world(api)
    tasks = api.resources.tasks
    assert (await tasks.post({"title": "a", "project_id": 1}, auth=ANN))["id"] == "3"
    with pytest.raises(RelatedNotFound):
        await tasks.post({"title": "a", "project_id": 2}, auth=ANN)


async def test_a_membership_brings_and_takes_records(api: Api) -> None:
    await _world(api)
    heard, seen = {}, {"ann": 0, "ben": 0}
    for identity in (ANN, BEN):
        person, wire = subscriber(identity.user_id or "", identity.user_id or "")
        person.identity = identity
        for name in ("projects", "tasks"):
            await api.socket_server._service.subscribe(person, {"resource": name})
        heard[identity.user_id] = wire

    def news(user: str) -> list[tuple[str, str, str]]:
        events = heard[user].events()
        new = events[seen[user] :]
        found = [(one["resource"], one["id"], one["meta"]["change"]) for one in new]
        seen[user] = len(events)
        return sorted(found)

    memberships = api.resources.memberships
    made = await memberships.post({"user_id": "ann", "team_id": 2})
    await delivered(api)
    assert news("ann") == [("projects", "2", "enter"), ("tasks", "2", "enter")]
    assert news("ben") == []
    await api.resources.tasks.patch(2, {"title": "seen by both"})
    await delivered(api)
    assert news("ann") == news("ben") == [("tasks", "2", "update")]
    await memberships.patch(made["id"], {"user_id": "eve"})
    await delivered(api)
    assert news("ann") == [("projects", "2", "leave"), ("tasks", "2", "leave")]
    await api.resources.tasks.patch(2, {"title": "seen by one"})
    await api.resources.projects.patch(2, {"team_id": 1})
    await delivered(api)
    assert news("ann") == [("projects", "2", "enter"), ("tasks", "2", "enter")]
    assert news("ben") == [
        ("projects", "2", "leave"),
        ("tasks", "2", "leave"),
        ("tasks", "2", "update"),
    ]


async def test_explain_says_it(api: Api) -> None:
    await _world(api)
    assert (await api.explain("tasks", 1, auth=ANN)).matches
    assert not (await api.explain("tasks", 2, auth=ANN)).matches


async def test_a_negated_membership_denies_whom_it_names(api: Api) -> None:
    other = make_api()
    other.add_resource(
        "boards",
        schema={"name": "string"},
        relationships={"bans": {"type": "hasMany", "target": "bans", "foreign_key": "board_id"}},
        row_policy=lambda columns, identity: {"$not": {"bans.user_id": identity.user_id}},
        borrows=["bans.user_id"],
    )
    other.add_resource(
        "bans",
        schema={"user_id": "string", "board_id": {"belongs_to": "boards"}},
        row_policy=lambda columns, identity: False,
    )
    other.add_resource(
        "notes",
        schema={"text": "string", "board_id": {"belongs_to": "boards"}},
        search_schema={"board.name": {}},
    )
    async with running(other):
        await other.resources.boards.post({"name": "secret"})
        await other.resources.bans.post({"user_id": "ann", "board_id": 1})
        await other.resources.notes.post({"text": "a", "board_id": 1})
        assert len(await other.resources.boards.query(auth=ANN)) == 0
        assert len(await other.resources.boards.query(auth=BEN)) == 1
        assert len(await other.resources.notes.query({"board.name": "secret"}, auth=ANN)) == 0
        assert len(await other.resources.notes.query({"board.name": "secret"}, auth=BEN)) == 1
