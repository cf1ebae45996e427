"""Who may do what: checks see what will be stored, and nobody writes what they may not read."""

from __future__ import annotations

import copy
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from tests.http.kit import Client, bearer, document, error, make_api, serving
from tidings import TRUSTED, AuthenticationError, Identity, PermissionDenied, ValidationFailed

pytestmark = pytest.mark.anyio

KNOWN = uuid.UUID("6e8bc430-9c3a-11d9-9669-0800200c9a66")
SEEN: list[Any] = []
ANN = Identity("ann")
BOSS = Identity("boss", roles=frozenset({"boss"}))


def denies(context: Any) -> bool:
    """A check as people write it: it compares with plain values."""
    SEEN.append(copy.copy(context))
    values = context.values or {}
    return not (
        context.id in ("1", str(KNOWN))
        or values.get("role_id") == 1
        or values.get("is_admin") is True
        or values.get("price") == Decimal("5.5")
    )


def boss(identity: Identity) -> bool:
    return identity.has_role("boss")


@pytest.fixture(scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    api = make_api(tmp_path_factory.mktemp("writes") / "writes.db", jwt_auth=True)
    schema = {
        "name": "string",
        "role_id": {"type": "id", "belongs_to": "roles"},
        "is_admin": "boolean",
        "price": "decimal",
    }
    api.add_resource("roles", {"name": "string"})
    api.add_resource("accounts", schema, check_permissions=denies)
    api.add_resource("keys", schema, id_type="uuid", check_permissions=denies)
    api.add_resource("numbers", {"name": "string"}, client_ids=True)
    api.add_resource(
        "people",
        {
            "name": {"type": "string", "required": True},
            "secret": {"type": "string", "hidden": True, "max": 5, "unique": True},
            "salary": {"type": "integer", "readable_by": boss, "max": 9, "unique": True},
            "rank": {"type": "string", "readable_by": boss, "enum": ("low", "high")},
        },
    )
    async with serving(api) as client:
        client.api = api  # type: ignore[attr-defined]
        for _ in range(3):
            await api.resources.roles.post({"name": "r"})
            await api.resources.accounts.post({"name": "a"})
        await api.resources["keys"].post({"id": str(KNOWN), "name": "k"})
        yield client


SPELLINGS = ["1", "01", "+1", "001", "1.0", "%201", "1%20", "%EF%BC%91", "-0", "%2B1"]
UUIDS = [
    str(KNOWN),
    str(KNOWN).upper(),
    KNOWN.hex,
    f"%7B{KNOWN}%7D",
    KNOWN.urn,
    f"{KNOWN}%20",
]


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("resource", "spelled"),
    [*(("accounts", one) for one in SPELLINGS), *(("keys", one) for one in UUIDS)],
)
async def test_no_spelling_of_an_id_passes_a_check(
    http: Client, resource: str, spelled: str, method: str
) -> None:
    url = f"/{resource}/{spelled}"
    if method in ("PATCH", "PUT"):
        body = document(resource, {"name": "taken"}, httpx_unquote(spelled))
        response = await http.write(method, url, body, headers=bearer())
    else:
        response = await http.request(method, url, headers=bearer())
    assert response.status_code in (403, 404), response.text
    record = await http.api.resources[resource].get(  # type: ignore[attr-defined]
        "1" if resource == "accounts" else str(KNOWN)
    )
    assert record["name"] != "taken"


def httpx_unquote(spelled: str) -> str:
    from urllib.parse import unquote

    return unquote(spelled)


@pytest.mark.parametrize(
    "values",
    [
        {"role_id": 1},
        {"role_id": "1"},
        {"role_id": 1.0},
        {"is_admin": True},
        {"is_admin": "true"},
        {"is_admin": 1},
        {"is_admin": "1"},
        {"price": 5.5},
        {"price": "5.50"},
        {"price": "0.55e1"},
    ],
    ids=repr,
)
async def test_no_spelling_of_a_value_passes_a_check(http: Client, values: Any) -> None:
    for response in (
        await http.write(
            "PATCH", "/accounts/2", document("accounts", values, "2"), headers=bearer()
        ),
        await http.write("POST", "/accounts", document("accounts", values), headers=bearer()),
    ):
        assert response.status_code in (403, 422), response.text


async def test_hooks_and_checks_get_values_as_they_are_stored(http: Client) -> None:
    api = http.api  # type: ignore[attr-defined]
    SEEN.clear()
    body = document("keys", {"role_id": "2", "is_admin": "false", "price": "1.50"}, uuid.uuid4())
    response = await http.write("POST", "/keys", body, headers=bearer())
    assert response.status_code == 201, response.text
    (context,) = SEEN
    assert context.id == response.json()["data"]["id"], "the id that the client chose"
    assert context.values == {"role_id": 2, "is_admin": False, "price": Decimal("1.50")}
    SEEN.clear()
    await api.resources["keys"].post({"name": "x"}, auth=ANN)
    assert SEEN[0].id is None


HIDDEN = [
    ("secret", "x"),
    ("secret", "far too long for it"),
    ("secret", 7),
    ("salary", 5),
    ("salary", 10),
    ("salary", "many"),
    ("rank", "high"),
    ("rank", "unheard of"),
]


@pytest.mark.parametrize(("name", "value"), HIDDEN)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
async def test_what_may_not_be_read_cannot_be_written(
    http: Client, method: str, name: str, value: Any
) -> None:
    api = http.api  # type: ignore[attr-defined]
    kept = {"name": "a", "secret": uuid.uuid4().hex[:5], "salary": None, "rank": "low"}
    record = await api.resources.people.post(kept)
    values = {"name": "b", name: value}
    url = "/people" if method == "POST" else f"/people/{record['id']}"
    body = document("people", values, None if method == "POST" else record["id"])
    response = await http.write(method, url, body, headers=bearer())
    found = error(response, 422, "UNKNOWN_FIELD", pointer=f"/data/attributes/{name}")
    assert found["detail"] == f"{name}: is no field of 'people'"
    handle = api.resources.people
    with pytest.raises(ValidationFailed, match=f"{name}: is no field of 'people'"):
        if method == "POST":
            await handle.post(values, auth=ANN)
        else:
            await getattr(handle, method.lower())(record["id"], values, auth=ANN)
    assert await handle.get(record["id"]) == record


async def test_put_keeps_what_its_sender_may_not_read(http: Client) -> None:
    api = http.api  # type: ignore[attr-defined]
    made = await api.resources.people.post(
        {"name": "a", "secret": "abc", "salary": 3, "rank": "low"}
    )
    await api.resources.people.put(made["id"], {"name": "b"}, auth=ANN)
    body = document("people", {"name": "c"}, made["id"])
    assert (await http.write("PUT", f"/people/{made['id']}", body, headers=bearer())).is_success
    assert await api.resources.people.get(made["id"]) == {**made, "name": "c"}
    await api.resources.people.put(made["id"], {"name": "d"}, auth=BOSS)
    assert (await api.resources.people.get(made["id"]))["salary"] is None


async def test_none_is_nobody_and_trust_is_said(http: Client) -> None:
    accounts = http.api.resources.accounts  # type: ignore[attr-defined]
    for auth in (TRUSTED,):
        assert (await accounts.get(1, auth=auth))["id"] == "1"
    with pytest.raises(AuthenticationError):
        await accounts.get(1, auth=None)
    with pytest.raises(PermissionDenied):
        await accounts.get(1, auth=ANN)


async def test_numbers_that_would_end_all_creation_are_refused(http: Client) -> None:
    for chosen in (2**63 - 1, 2**53, 0, -1):
        body = document("numbers", {"name": "a"}, chosen)
        error(await http.write("POST", "/numbers", body), 400, "INVALID_ID", pointer="/data/id")
        response = await http.write("PUT", f"/numbers/{chosen}", body)
        error(response, 400, "INVALID_ID", pointer="/data/id")
    assert (await http.write("POST", "/numbers", document("numbers", {"name": "a"}))).is_success
    body = document("numbers", {"name": "a"}, 2**53 - 1)
    assert (await http.write("POST", "/numbers", body)).is_success
    assert (await http.write("POST", "/numbers", document("numbers", {"name": "a"}))).is_success
