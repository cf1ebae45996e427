"""What a path leads to is asked for, as what an include brings: filters, references, sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.http.kit import Client, bearer, document, error, make_api, serving
from tidings import Api, Identity, PermissionDenied
from tidings.realtime.admission import Admission

pytestmark = pytest.mark.anyio

ANN = Identity("u1")
ADMIN = Identity("root", roles=frozenset({"admin"}))
ADMINS = {key: ["admin"] for key in ("query", "get", "post", "put", "patch", "delete")}


@pytest.fixture
async def api(tmp_path: Any) -> AsyncIterator[Api]:
    api = make_api(tmp_path / "paths.db", jwt_auth=True)
    api.add_resource("users", {"email": "string", "team_id": {"belongs_to": "teams"}}, auth=ADMINS)
    api.add_resource("teams", {"name": "string"})
    api.add_resource(
        "posts",
        {"title": "string", "author_id": {"belongs_to": "users"}},
        search_schema={
            "author_email": {"actual_field": "author.email", "filter_operator": "like"},
            "team": {"actual_field": "author.team.name"},
            "either": {"one_of": ["title", "author.email"]},
            "title": "string",
        },
    )
    async with api:
        team = await api.resources.teams.post({"name": "red"})
        user = await api.resources.users.post({"email": "ann@example.org", "team_id": team["id"]})
        await api.resources.posts.post({"title": "a", "author_id": user["id"]})
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with serving(api) as client:
        yield client


PATHS = [{"author_email": "ann"}, {"team": "red"}, {"either": "a"}]


@pytest.mark.parametrize("filters", PATHS, ids=repr)
async def test_filters_need_permission_on_what_they_look_into(
    api: Api, http: Client, filters: dict[str, str]
) -> None:
    ((name, value),) = filters.items()
    for headers, status, code in (
        ({}, 401, "AUTHENTICATION_REQUIRED"),
        (bearer(), 403, "PERMISSION_DENIED"),
    ):
        url = f"/posts?filter[{name}]={value}"
        error(await http.get(url, headers=headers), status, code)
    assert await http.ids(f"/posts?filter[{name}]={value}", headers=bearer(roles=["admin"]))
    operations = api._assembled.operations
    admission = Admission(operations.visibility, operations.hooks)
    with pytest.raises(PermissionDenied):
        await admission.admit(ANN, {"resource": "posts", "filters": filters})
    await admission.admit(ADMIN, {"resource": "posts", "filters": filters})
    assert await http.ids("/posts?filter[title]=a", headers=bearer())


async def test_references_do_not_tell_which_records_exist(http: Client) -> None:
    for key in ("1", "2"):
        body = document("posts", {"title": "b"}, author=("users", key))
        response = await http.write("POST", "/posts", body, headers=bearer())
        error(response, 404, "RELATED_NOT_FOUND")
        body = document("posts", {"title": "b"}, "1", author=("users", key))
        response = await http.write("PATCH", "/posts/1", body, headers=bearer())
        error(response, 404, "RELATED_NOT_FOUND")
    body = document("posts", {"title": "b"}, author=("users", "1"))
    admin = bearer(roles=["admin"])
    assert (await http.write("POST", "/posts", body, headers=admin)).status_code == 201


SHAPES = [
    "/users",
    "/users?filter[email]=a",
    "/users?filter[nothing]=a",
    "/users?sort=email",
    "/users?sort=nothing",
    "/users?include=team",
    "/users?include=nothing",
    "/users?fields[users]=email",
    "/users?fields[users]=nothing",
    "/users?page[size]=1000000",
    "/users/1",
    "/users/2",
    "/users/1?include=team",
    "/users/1?include=nothing",
    "/users/1?fields[users]=nothing",
]
BODIES: list[Any] = [
    document("users", {"email": "a"}),
    document("users", {"nothing": "a"}),
    document("users", {"email": 7}),
    document("users", {}, None, team=("teams", "1")),
    document("users", {}, None, nothing=("teams", "1")),
    document("teams", {}),
    {"data": []},
    {"data": {"type": "users", "relationships": {"team": {"data": []}}}},
    b"{",
    document("users", {"email": "a"}, "99"),
]


async def test_permission_comes_before_the_schema(http: Client) -> None:
    for url in SHAPES:
        error(await http.get(url, headers=bearer()), 403, "PERMISSION_DENIED")
        error(await http.get(url), 401, "AUTHENTICATION_REQUIRED")
    for body in BODIES:
        for method, url in (("POST", "/users"), ("PATCH", "/users/1"), ("PUT", "/users/1")):
            for query in ("", "?include=nothing", "?fields[users]=nothing"):
                response = await http.write(method, url + query, body, headers=bearer())
                error(response, 403, "PERMISSION_DENIED")


async def test_permission_comes_before_the_schema_on_sockets(api: Api) -> None:
    operations = api._assembled.operations
    admission = Admission(operations.visibility, operations.hooks)
    for more in (
        {},
        {"filters": {"nothing": 1}},
        {"filters": []},
        {"include": ["nothing"]},
        {"fields": {"users": ["nothing"]}},
        {"surprise": 1},
        {"subscriptionId": 7},
    ):
        with pytest.raises(PermissionDenied):
            await admission.admit(ANN, {"resource": "users", **more})


async def test_a_slow_check_keeps_nobody_waiting(tmp_path: Any) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(context: Any) -> bool:
        asked.set()
        await answer.wait()
        return False

    api = make_api(tmp_path / "slow.db")
    api.add_resource("notes", {"title": "string"}, check_permissions=slow)
    api.add_resource("words", {"title": "string"})
    async with api:
        await api.resources.notes.post({"title": "a"})
        notes = api.resources.notes
        waiting = [
            asyncio.create_task(act)
            for act in (
                notes.patch(1, {"title": "b"}, auth=ANN),
                notes.put(1, {"title": "b"}, auth=ANN),
                notes.delete(1, auth=ANN),
                notes.post({"title": "b"}, auth=ANN),
            )
        ]
        await asked.wait()
        # No lock is held meanwhile: SQLite has one for all writers.
        await api.resources.words.post({"title": "free"})
        await notes.patch(1, {"title": "free"})
        answer.set()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, PermissionDenied)


async def test_a_record_that_changes_while_permission_is_asked(tmp_path: Any) -> None:
    """Permission was for the record as it was: for what it is by then, it is asked again."""
    api = make_api(tmp_path / "changing.db")
    seen: list[Any] = []

    async def owner(context: Any) -> bool:
        seen.append(context.record["owner"])
        if len(seen) == 1:
            await api.resources.notes.patch(1, {"owner": "ben"})
        return context.record["owner"] == context.auth.user_id

    api.add_resource("notes", {"owner": "string", "title": "string"}, check_permissions=owner)
    async with api:
        await api.resources.notes.post({"owner": "u1", "title": "a"})
        with pytest.raises(PermissionDenied):
            await api.resources.notes.patch(1, {"title": "b"}, auth=ANN)
        assert seen == ["u1", "ben"]
        assert (await api.resources.notes.get(1))["title"] == "a"


async def test_an_earlier_hook_s_clause_cannot_be_dropped(tmp_path: Any) -> None:
    api = make_api(tmp_path / "hooks.db")
    api.add_resource("notes", {"tenant": "integer", "title": "string"})

    @api.hook("subscription_filters", name="tenant")
    def tenant(context: Any) -> None:
        context.subscription.filters["tenant"] = 7

    @api.hook("subscription_filters", name="later", after="tenant")
    def later(context: Any) -> None:
        how = context.auth.how
        if how == "assign":
            context.subscription.filters = {"title": "a"}
        elif how == "clear":
            context.subscription.filters.clear()
            context.subscription.clauses.clear()
        elif how == "rewrite":
            context.subscription.filters["tenant"] = 8

    async with api:
        operations = api._assembled.operations
        admission = Admission(operations.visibility, operations.hooks)
        for how in ("nothing", "assign", "clear", "rewrite"):
            who = Identity("u1", claims={"how": how})
            admitted = await admission.admit(who, {"resource": "notes"})
            assert "Atom(column='tenant', operator='=', value=7" in repr(admitted.clauses)
