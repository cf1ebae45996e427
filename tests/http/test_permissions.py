"""Who may do what over HTTP: rules, check_permissions, tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from tests.http.kit import (
    SECRET,
    Client,
    bearer,
    document,
    error,
    make_api,
    serving,
    token,
    tracebacks,
    watched_logs,
)

from tidings.errors import PermissionDenied

METHODS = ("query", "get", "post", "put", "patch", "delete")
ANSWERS: dict[str, Any] = {
    "yes": lambda context: True,
    "no": lambda context: False,
    "nothing": lambda context: None,
    "almost": lambda context: 1,
}


async def _later(context: Any) -> bool:
    return True


async def _later_no(context: Any) -> bool:
    return False


def _refuses(context: Any) -> bool:
    raise PermissionDenied("Not on Sundays", code="SUNDAY")


def _breaks(context: Any) -> bool:
    raise RuntimeError("a secret of the implementation")


ANSWERS |= {"later": _later, "later-no": _later_no, "refuses": _refuses, "breaks": _breaks}


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[Client]:
    api = make_api(jwt_auth=True)
    for name, answer in ANSWERS.items():
        api.add_resource(name, schema={"name": "string"}, check_permissions=answer)
    api.add_resource("public", schema={"name": "string"}, auth={"*": "public"})
    api.add_resource("members", schema={"name": "string"}, auth={"*": ["authenticated"]})
    api.add_resource(
        "mixed",
        schema={"name": "string"},
        auth={"query": "public", "get": "public", "post": ["has_role:editor", "admin"]},
    )
    api.add_resource(
        "owned",
        schema={"name": "string", "owner": "string"},
        owner_field="owner",
        auth={"query": "public", "get": "public", "*": ["is_owner", "has_permission:all"]},
    )
    api.add_resource("both", schema={"name": "string"}, auth={"*": "public"}, check_permissions=_no)
    api.add_resource(
        "parents",
        schema={"name": "string", "secret_id": {"type": "id", "belongs_to": "members"}},
        auth={"*": "public"},
    )
    async with serving(api) as client:
        yield client


def _no(context: Any) -> bool:
    return False


async def attempts(http: Client, resource: str, headers: dict[str, str]) -> dict[str, int]:
    """The status of each method, on a record that does not exist."""
    body = document(resource, {"name": "a"})
    item = document(resource, {"name": "a"}, "999")
    url = f"/{resource}/999"
    found = {
        "query": await http.get(f"/{resource}", headers=headers),
        "get": await http.get(url, headers=headers),
        "post": await http.write("POST", f"/{resource}", body, headers=headers),
        "put": await http.write("PUT", url, item, headers=headers),
        "patch": await http.write("PATCH", url, item, headers=headers),
        "delete": await http.delete(url, headers=headers),
    }
    return {method: response.status_code for method, response in found.items()}


ALLOWED = {"query": 200, "get": 404, "post": 201, "put": 404, "patch": 404, "delete": 404}


async def test_only_true_allows(guarded: Client) -> None:
    with watched_logs():
        for name in ANSWERS:
            statuses = await attempts(guarded, name, bearer())
            if name in ("yes", "later"):
                assert statuses == ALLOWED, name
            else:
                assert set(statuses.values()) == {403}, name


async def test_who_is_not_signed_in_is_asked_to(guarded: Client) -> None:
    for name in ("no", "nothing", "refuses", "members", "both"):
        assert set((await attempts(guarded, name, {})).values()) == {401}
        response = await guarded.get(f"/{name}")
        error(response, 401, "AUTHENTICATION_REQUIRED")
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_refusal_shows_its_own_text_but_a_failure_none(guarded: Client) -> None:
    response = await guarded.get("/refuses", headers=bearer())
    assert error(response, 403, "SUNDAY")["detail"] == "Not on Sundays"
    with watched_logs() as records:
        response = await guarded.get("/breaks", headers=bearer())
    error(response, 403, "PERMISSION_DENIED")
    assert "secret" not in response.text
    assert len(tracebacks(records)) == 1


async def test_rules_of_each_method(guarded: Client) -> None:
    assert await attempts(guarded, "public", {}) == ALLOWED
    assert await attempts(guarded, "members", bearer()) == ALLOWED
    statuses = await attempts(guarded, "mixed", bearer("u1", roles=["reader"]))
    assert statuses == {**dict.fromkeys(METHODS, 403), "query": 200, "get": 404}
    statuses = await attempts(guarded, "mixed", bearer("u1", roles=["editor"]))
    assert statuses == {**dict.fromkeys(METHODS, 403), "query": 200, "get": 404, "post": 201}
    statuses = await attempts(guarded, "mixed", bearer("u1", roles="admin other"))
    assert statuses["post"] == 201
    assert (await attempts(guarded, "mixed", {}))["post"] == 401


async def test_both_rules_and_check_must_allow(guarded: Client) -> None:
    assert set((await attempts(guarded, "both", bearer())).values()) == {403}


async def test_owners(guarded: Client) -> None:
    mine = document("owned", {"name": "a", "owner": "u1"})
    response = await guarded.write("POST", "/owned", mine, headers=bearer("u2"))
    error(response, 403, "PERMISSION_DENIED")
    response = await guarded.write("POST", "/owned", mine, headers=bearer("u1"))
    assert response.status_code == 201
    made = response.json()["data"]["id"]
    url = f"/owned/{made}"
    change = document("owned", {"name": "b"}, made)
    for headers, status in ((bearer("u2"), 403), ({}, 401), (bearer("u1"), 200)):
        response = await guarded.write("PATCH", url, change, headers=headers)
        assert response.status_code == status
    gift = document("owned", {"owner": "u2"}, made)
    response = await guarded.write("PATCH", url, gift, headers=bearer("u1"))
    error(response, 403, "PERMISSION_DENIED")
    response = await guarded.write("PUT", url, change, headers=bearer("u1"))
    assert response.json()["data"]["attributes"] == {"name": "b", "owner": "u1"}
    assert (await guarded.delete(url, headers=bearer("u2"))).status_code == 403
    assert (await guarded.delete(url, headers=bearer("u9", permissions=["all"]))).status_code == 204


async def test_include_needs_permission_on_what_it_brings(guarded: Client) -> None:
    assert (await guarded.get("/parents")).status_code == 200
    for url in ("/parents?include=secret", "/parents/1?include=secret"):
        error(await guarded.get(url), 401, "AUTHENTICATION_REQUIRED")
        assert (await guarded.get(url, headers=bearer())).status_code in (200, 404)


async def test_who_may_not_does_not_learn_whether_there_is_a_record(guarded: Client) -> None:
    made = await guarded.made("public", {"name": "a"})
    assert made
    for record in ("1", "999"):
        for method in ("PATCH", "DELETE"):
            body = document("mixed", {"name": "x"}, record)
            response = await guarded.write(method, f"/mixed/{record}", body, headers=bearer())
            error(response, 403, "PERMISSION_DENIED")


# Tokens


def forged(**claims: Any) -> dict[str, str]:
    key = claims.pop("key", SECRET)
    algorithm = claims.pop("algorithm", "HS256")
    made = jwt.encode({"sub": "u1", "exp": time.time() + 60} | claims, key, algorithm)
    return {"authorization": f"Bearer {made}"}


async def test_tokens_that_are_not_accepted(guarded: Client) -> None:
    cases = [
        (forged(exp=time.time() - 1), "TOKEN_EXPIRED"),
        (forged(nbf=time.time() + 100), "TOKEN_NOT_YET_VALID"),
        (forged(aud="somebody else"), "TOKEN_AUDIENCE"),
        (forged(key="x" * 40), "INVALID_TOKEN"),
        (forged(key=None, algorithm="none"), "TOKEN_ALGORITHM"),
        (forged(key=SECRET * 2, algorithm="HS512"), "TOKEN_ALGORITHM"),
        (forged(sub=""), "INVALID_TOKEN"),
        ({"authorization": "Bearer nonsense"}, "INVALID_TOKEN"),
        ({"authorization": "Bearer"}, "AUTHENTICATION_REQUIRED"),
        ({"authorization": "Basic dTpw"}, "AUTHENTICATION_REQUIRED"),
        ({"authorization": ""}, "AUTHENTICATION_REQUIRED"),
        ({"authorization": "Bearer " + "x" * 20000}, "INVALID_TOKEN"),
        ({"authorization": f"Bearer {token()} {token()}"}, "INVALID_TOKEN"),
    ]
    for headers, code in cases:
        for resource in ("members", "public"):
            response = await guarded.get(f"/{resource}", headers=headers)
            found = error(response, 401, code)
            assert "jwt" not in found["detail"].lower()
            assert response.headers["www-authenticate"] == "Bearer"


async def test_the_scheme_is_written_as_one_likes(guarded: Client) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"authorization": f"{scheme} {token()}"}
        assert (await guarded.get("/members", headers=headers)).status_code == 200


async def test_a_token_in_the_query_string_does_not_authenticate(guarded: Client) -> None:
    response = await guarded.get(f"/members?token={token()}")
    assert response.status_code in (400, 401)
    response = await guarded.get("/members", headers={"cookie": f"token={token()}"})
    assert response.status_code == 401
