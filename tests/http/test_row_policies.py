"""Row policies: each helper, each path to a record, and what a missing claim or a fault means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from tests.http.kit import Client
from tests.realtime.kit import SECRET, Wire, delivered
from tests.realtime.kit import make_api as kit_api
from tests.support.server import serve

from tidings import (
    Api,
    FilterError,
    Identity,
    JWTAuthPlugin,
    NotFound,
    PermissionDenied,
    RelatedNotFound,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    policies,
)
from tidings.realtime.subscriptions import Subscriber

pytestmark = pytest.mark.anyio

ANN = Identity(user_id="ann", claims={"team": "red"})
BEN = Identity(user_id="ben", claims={"team": "blue"})
ADMIN = Identity(user_id="root", roles=frozenset({"admin"}))
WITHOUT = Identity(user_id="eve")
NOBODY = Identity()
Policy = Callable[[Any, Any], Any]

NOTES = {
    "title": {"type": "string", "search": True},
    "owner_id": "string",
    "team": "string",
    "is_public": {"type": "boolean", "default": False},
}
ROWS = [
    {"title": "ann's", "owner_id": "ann", "team": "red"},
    {"title": "ben's", "owner_id": "ben", "team": "blue"},
    {"title": "public", "owner_id": "ben", "team": "blue", "is_public": True},
    {"title": "nobody's"},
]


def make_api(policy: Any) -> Api:
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(cors={"origin": "http://a"}))
    api.add_resource("notes", NOTES, row_policy=policy)
    api.add_resource(
        "comments",
        {"text": "string", "note_id": {"belongs_to": "notes"}},
        search_schema={"note": {"actual_field": "note.title"}},
    )
    return api


async def seen(policy: Any, identity: Identity) -> set[str]:
    """The titles that a list shows, and that a subscription is told of: they must be the same."""
    api = make_api(policy)
    async with api:
        wire = Wire()
        person = Subscriber("s", identity, wire)
        await api.socket_server._service.subscribe(person, {"resource": "notes"})
        for row in ROWS:
            await api.resources.notes.post(row)
        await delivered(api)
        found = await api.resources.notes.query(auth=identity)
        assert found.total == len(found)
        assert [one["id"] for one in wire.events()] == [note["id"] for note in found]
        for number in range(1, 1 + len(ROWS)):
            readable = number in {int(note["id"]) for note in found}
            if readable:
                await api.resources.notes.get(number, auth=identity)
            else:
                with pytest.raises(NotFound):
                    await api.resources.notes.get(number, auth=identity)
        return {note["title"] for note in found}


EVERYTHING = {row["title"] for row in ROWS}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (policies.owner(), {"ann": {"ann's"}, "ben": {"ben's", "public"}}),
        (policies.tenant("team"), {"ann": {"ann's"}, "ben": {"ben's", "public"}}),
        (policies.tenant("owner_id", "team"), {}),
        (policies.public(), {user: {"public"} for user in ("ann", "ben", "root", "eve", None)}),
        (policies.role("admin", "auditor"), {"root": EVERYTHING}),
        (policies.signed_in(), dict.fromkeys(["ann", "ben", "root", "eve"], EVERYTHING)),
        (
            policies.either(policies.owner(), policies.public(), policies.role("admin")),
            {
                "ann": {"ann's", "public"},
                "ben": {"ben's", "public"},
                "root": EVERYTHING,
                "eve": {"public"},
                None: {"public"},
            },
        ),
    ],
    ids=["owner", "tenant", "tenant by claim", "public", "role", "signed in", "either"],
)
async def test_each_helper_shows_its_rows_and_no_others(
    policy: Policy, expected: dict[str | None, set[str]]
) -> None:
    for identity in (ANN, BEN, ADMIN, WITHOUT, NOBODY):
        assert await seen(policy, identity) == expected.get(identity.user_id, set())


def fails(columns: Any, identity: Any) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "policy",
    [
        policies.tenant("team"),
        lambda columns, identity: columns.team == identity.team,
        lambda columns, identity: {"team": identity.team},
        lambda columns, identity: columns.team.in_([identity.team]),
        lambda columns, identity: (columns.team == identity.team) | columns.team.is_(None),
        lambda columns, identity: None,
        lambda columns, identity: "yes",
        fails,
    ],
    ids=["tenant", "==", "dict", "in", "or", "None", "text", "fault"],
)
async def test_what_lacks_a_claim_or_goes_wrong_denies(policy: Policy) -> None:
    """Above all it must not become "is null", which would show what belongs to nobody."""
    assert await seen(policy, WITHOUT) == set()
    assert await seen(policy, NOBODY) == set()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with make_api(policies.either(policies.owner(), policies.public())) as opened:
        for row in ROWS:
            await opened.resources.notes.post(row)
        yield opened


async def test_a_hidden_row_is_not_there_on_any_path(api: Api) -> None:
    notes, comments = api.resources.notes, api.resources.comments
    hidden, shown = "2", "3"
    with pytest.raises(NotFound):
        await notes.get(hidden, auth=ANN)
    with pytest.raises(NotFound):
        await notes.patch(hidden, {"title": "x"}, auth=ANN)
    with pytest.raises(NotFound):
        await notes.put(hidden, {"title": "x", "owner_id": "ann"}, auth=ANN)
    with pytest.raises(NotFound):
        await notes.delete(hidden, auth=ANN)
    with pytest.raises(RelatedNotFound):
        await comments.post({"text": "a", "note_id": hidden}, auth=ANN)
    assert (await notes.get(hidden))["title"] == "ben's"

    await comments.post({"text": "on a hidden one", "note_id": hidden})
    await comments.post({"text": "on a public one", "note_id": shown})
    found = await comments.query(include=["note"], sort="id", auth=ANN)
    assert [note["title"] for note in found.included["notes"]] == ["public"]
    for title, count in (("ben's", 0), ("public", 1)):
        assert (await comments.query({"note": title}, auth=ANN)).total == count
    assert (await notes.query(auth=ANN)).total == 2
    assert (await notes.query({"title": "ben's"}, auth=ANN)).total == 0


async def test_nobody_writes_himself_out_of_what_he_may(api: Api) -> None:
    notes = api.resources.notes
    with pytest.raises(PermissionDenied):
        await notes.post({"title": "for ben", "owner_id": "ben"}, auth=ANN)
    with pytest.raises(PermissionDenied):
        await notes.patch(1, {"owner_id": "ben"}, auth=ANN)
    assert (await notes.get(1))["owner_id"] == "ann"
    await notes.patch(1, {"owner_id": "ben", "is_public": True}, auth=ANN)


async def test_over_http_a_hidden_row_and_none_are_answered_alike() -> None:
    api = make_api(policies.owner())
    async with serve(api.asgi()) as url, Client(f"{url}/api", headers=bearer_of("ann")) as http:
        for row in ROWS:
            await api.resources.notes.post(row)
        answers = [
            [
                await http.get(f"/notes/{key}"),
                await http.change("notes", key, {"title": "x"}),
                await http.change("notes", key, {"title": "x"}, "PUT"),
                await http.delete(f"/notes/{key}"),
            ]
            for key in ("2", "99")
        ]
        hidden, absent = ([answer.json()["errors"] for answer in some] for some in answers)
        for one, other in zip(hidden, absent, strict=True):
            one[0]["detail"] = one[0]["detail"].replace("2", "99")
            assert one == other
            assert one[0]["status"] == "404"


def bearer_of(user: str) -> dict[str, str]:
    return {"authorization": "Bearer " + jwt.encode({"sub": user}, SECRET, "HS256")}


async def test_a_filter_over_the_socket_is_no_way_around(api: Api) -> None:
    wire = Wire()
    service = api.socket_server._service
    person = Subscriber("s", ANN, wire)
    await service.subscribe(person, {"resource": "notes", "filters": {"title": "ben's"}})
    await service.subscribe(person, {"resource": "comments", "filters": {"note": "ben's"}})
    with pytest.raises(FilterError):
        await service.subscribe(person, {"resource": "notes", "filters": {"owner_id": "ben"}})
    await api.resources.notes.patch(2, {"team": "x"})
    await api.resources.comments.post({"text": "a", "note_id": "2"})
    await delivered(api)
    assert wire.events() == []
    await api.resources.notes.patch(2, {"is_public": True})
    await delivered(api)
    ways = [(one["resource"], one["meta"]["change"]) for one in wire.events()]
    assert ("notes", "enter") in ways


async def test_policies_may_differ_by_operation() -> None:
    api = make_api(
        {"*": policies.signed_in(), "patch": policies.owner(), "delete": policies.role("a")}
    )
    async with api:
        notes = api.resources.notes
        await notes.post({"title": "t", "owner_id": "ann"})
        assert (await notes.query(auth=BEN)).total == 1
        with pytest.raises(PermissionDenied):
            await notes.patch(1, {"title": "x"}, auth=BEN)
        await notes.patch(1, {"title": "x"}, auth=ANN)
        with pytest.raises(PermissionDenied):
            await notes.delete(1, auth=ANN)


async def test_without_a_policy_everybody_sees_every_row() -> None:
    async with kit_api() as api:
        await api.resources.posts.post({"title": "a"})
        assert (await api.resources.posts.query(auth=NOBODY)).total == 1


async def test_a_related_value_that_is_null_where_nothing_is_related(database_url: str) -> None:
    """What is not there is null for everybody; what is there and hidden is nothing to anybody."""
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(database_url, create_tables=True))
    api.add_resource("notes", NOTES, row_policy=policies.owner())
    api.add_resource(
        "comments",
        {"text": "string", "note_id": {"belongs_to": "notes"}},
        search_schema={"team": {"actual_field": "note.team", "operators": ["eq", "ne"]}},
    )
    async with api:
        for owner, team in (("ann", None), ("ann", "red"), ("ben", None)):
            await api.resources.notes.post({"title": "x", "owner_id": owner, "team": team})
        for number in ("1", "2", "3", None):
            await api.resources.comments.post({"text": number or "alone", "note_id": number})
        found = await api.resources.comments.query({"team": {"eq": None}}, auth=ANN)
        assert {one["text"] for one in found} == {"1", "alone"}
        found = await api.resources.comments.query({"team": {"ne": None}}, auth=ANN)
        assert {one["text"] for one in found} == {"2"}
