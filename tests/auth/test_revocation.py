"""A revoked token is refused everywhere, and remembered for as long as it would be accepted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from tests.http.kit import MEDIA_TYPE, SECRET, bearer, token

from tidings import (
    Api,
    AuthenticationError,
    ConfigurationError,
    Identity,
    JWTAuthPlugin,
    MemoryRevocations,
    MissingDependencyError,
    RestApiPlugin,
    Revocation,
    RevocationStore,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.api.revocations import SqlRevocations
from tidings.auth import TokenVerifier

pytestmark = pytest.mark.anyio

FAR = 4_000_000_000.0


def make_api(url: str = "sqlite+aiosqlite://", *, tables: bool = True, **options: Any) -> Api:
    api = Api(name="revoking")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=tables))
    api.use(JWTAuthPlugin(secret=SECRET, **options))
    api.add_resource("posts", schema={"title": "string"}, auth={"*": ["authenticated"]})
    return api


def client_of(api: Api) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=api.asgi())
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def status(http: httpx.AsyncClient, **claims: Any) -> int:
    return (await http.get("/api/posts", headers=bearer(**claims))).status_code


# The identity


async def test_the_identity_knows_its_token() -> None:
    verifier = TokenVerifier(secret=SECRET)
    identity = await verifier.verify(token(jti="abc", iat=1000))
    assert (identity.token_id, identity.issued_at) == ("abc", 1000.0)
    assert "abc" not in repr(identity)
    text = token()
    same, again = await verifier.verify(text), await verifier.verify(text)
    assert same == again
    assert same.token_id == again.token_id
    assert same.issued_at is None
    assert await verifier.verify(token(jti="x", exp=FAR)) != await verifier.verify(
        token(jti="y", exp=FAR)
    )


async def test_a_token_without_an_id_is_named_by_what_is_signed(keys: Any) -> None:
    """Not by its signature, of which there may be many for the same claims."""
    verifier = TokenVerifier(public_key=keys.pem(keys.ec))
    texts = [jwt.encode({"sub": "1", "exp": FAR}, keys.ec, "ES256") for _ in range(2)]
    assert texts[0] != texts[1]
    first, second = [await verifier.verify(text) for text in texts]
    assert first == second
    assert first.token_id == second.token_id
    assert str(first.token_id).startswith("sha256:")
    other = await verifier.verify(jwt.encode({"sub": "2", "exp": FAR}, keys.ec, "ES256"))
    assert other.token_id != first.token_id
    empty = await TokenVerifier(secret=SECRET).verify(token(jti=""))
    assert str(empty.token_id).startswith("sha256:")


# The store in memory


async def test_memory_revokes_tokens_and_users() -> None:
    store = MemoryRevocations()
    assert isinstance(store, RevocationStore)
    told: list[Revocation] = []
    await store.open(told.extend)
    one = Revocation(FAR, token_id="t")
    await store.revoke(one)
    await store.revoke(one)
    await store.revoke(Revocation(FAR, user_id="u", issued_before=100.0))
    assert told[0] == one
    assert len(told) == len(store) == 2
    for identity, expected in (
        (Identity("a", token_id="t"), True),
        (Identity("a", token_id="s"), False),
        (Identity("a"), False),
        (Identity(), False),
        (Identity("u", issued_at=99.9), True),
        (Identity("u", issued_at=100.0), False),
        (Identity("u"), True),
    ):
        assert store.is_revoked(identity) is expected, identity
    await store.close()
    await store.revoke(Revocation(FAR, token_id="later"))
    assert len(told) == 2


async def test_an_earlier_cut_does_not_undo_a_later_one() -> None:
    store = MemoryRevocations()
    await store.revoke(Revocation(FAR, user_id="u", issued_before=100.0))
    await store.revoke(Revocation(FAR + 1, user_id="u", issued_before=50.0))
    assert store.is_revoked(Identity("u", issued_at=75.0))


async def test_memory_forgets_what_has_expired_a_few_at_a_time() -> None:
    store = MemoryRevocations()
    soon = time.time() + 0.2
    for number in range(50):
        await store.revoke(Revocation(soon, token_id=str(number)))
        await store.revoke(Revocation(soon, user_id=str(number), issued_before=1.0))
    await store.revoke(Revocation(FAR, token_id="0"))
    await asyncio.sleep(0.3)
    assert len(store) == 100
    await store.revoke(Revocation(FAR, token_id="x"))
    assert 85 <= len(store) < 100
    for number in range(12):
        await store.revoke(Revocation(FAR, token_id=f"x{number}"))
    assert len(store) == 14
    assert store.is_revoked(Identity("a", token_id="0"))
    await store.revoke(Revocation(time.time() - 1, token_id="past"))
    assert len(store) == 14


async def test_a_revocation_names_one_thing() -> None:
    for wrong in ({}, {"token_id": "a", "user_id": "b"}):
        with pytest.raises(ConfigurationError, match="token_id or a user_id"):
            Revocation(1.0, **wrong)


# api.revoke


async def test_revoke_by_token_id_and_user() -> None:
    async with make_api() as api, client_of(api) as http:
        now = time.time()
        assert await status(http, jti="a") == 200
        await api.revoke(jti="a", expires_at=now + 60)
        assert await status(http, jti="a") == 401
        await api.revoke(token=token(jti="b"))
        await api.revoke(token=token(jti="b"))
        await api.revoke(jti="c")
        nameless = token()
        await api.revoke(token=nameless)
        answer = await http.get("/api/posts", headers={"authorization": f"Bearer {nameless}"})
        assert answer.json()["errors"][0]["code"] == "TOKEN_REVOKED"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert [await status(http, jti=name) for name in "bcd"] == [401, 401, 200]
        await api.revoke(user_id=7, issued_before=now - 10)
        assert await status(http, user="7", iat=now - 11) == 401
        assert await status(http, user="7", iat=now - 9) == 200
        await api.revoke(user_id="7")
        assert await status(http, user="7", iat=now - 9) == 401
        assert await status(http, user="8", iat=now - 9) == 200


async def test_how_long_entries_are_kept() -> None:
    kept: list[Revocation] = []

    class Noted(MemoryRevocations):
        async def revoke(self, revocation: Revocation) -> None:
            kept.append(revocation)

    async with make_api(revocation=Noted(), leeway=5, max_token_lifetime=1000.0) as api:
        now = time.time()
        await api.revoke(token=token(exp=now + 100))
        await api.revoke(token=jwt.encode({"sub": "1"}, SECRET, "HS256"))
        await api.revoke(jti="a", expires_at=now + 50)
        await api.revoke(jti="a")
        await api.revoke(user_id="1", issued_before=now - 7)
        await api.revoke(token=token(exp=now - 10))  # nothing is left to revoke
    assert [round(entry.keep_until - now) for entry in kept if entry.keep_until < FAR] == [
        165,
        115,
        1065,
        1058,
    ]
    assert len(kept) == 5
    assert kept[1].keep_until > FAR


async def test_what_cannot_be_revoked() -> None:
    async with make_api() as api:
        for wrong in ({}, {"jti": "a", "user_id": "b"}, {"token": "a", "jti": "b"}):
            with pytest.raises(ConfigurationError, match="one of token="):
                await api.revoke(**wrong)
        with pytest.raises(AuthenticationError):
            await api.revoke(token="nonsense")
    async with make_api(revocation=None) as api:
        with pytest.raises(MissingDependencyError, match=r"JWTAuthPlugin\(revocation"):
            await api.revoke(jti="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revocation": "redis"}, "'memory', 'database', None or a RevocationStore"),
        ({"revocation": object()}, "'memory', 'database', None or a RevocationStore"),
        ({"revocation": None, "endpoints": True}, "needs revocation="),
        ({"max_token_lifetime": 0}, "max_token_lifetime must be a positive number"),
        ({"max_token_lifetime": "1"}, "max_token_lifetime must be a positive number"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        JWTAuthPlugin(secret=SECRET, **options)


@pytest.mark.parametrize("name", ["expiry_warning", "connect_deadline"])
@pytest.mark.parametrize("value", [-1, float("inf"), True, "10"])
def test_wrong_seconds_of_sockets(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        SocketIOPlugin(**{name: value})


# The endpoints


async def test_logout_revokes_the_token_that_asks() -> None:
    async with make_api(endpoints=True) as api, client_of(api) as http:
        mine, other = bearer(jti="mine"), bearer(jti="other")
        answer = await http.post("/api/auth/logout", headers=mine)
        assert (answer.status_code, answer.content) == (204, b"")
        again = await http.post("/api/auth/logout", headers=mine)
        assert again.json()["errors"][0]["code"] == "TOKEN_REVOKED"
        assert (await http.get("/api/posts", headers=mine)).status_code == 401
        assert (await http.get("/api/posts", headers=other)).status_code == 200


async def test_session_tells_who_is_signed_in() -> None:
    async with make_api(endpoints=True) as api, client_of(api) as http:
        claims = {"roles": ["b", "a"], "permissions": "p", "exp": FAR, "iat": 1000, "jti": "j"}
        answer = await http.get("/api/auth/session", headers=bearer(**claims))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["data"] == {
            "type": "sessions",
            "id": "j",
            "attributes": {
                "userId": "u1",
                "roles": ["a", "b"],
                "permissions": ["p"],
                "expiresAt": "2096-10-02T07:06:40.000Z",
                "issuedAt": "1970-01-01T00:16:40.000Z",
            },
        }
        text = jwt.encode({"sub": "7"}, SECRET, "HS256")
        bare = await http.get("/api/auth/session", headers={"authorization": f"Bearer {text}"})
        data = bare.json()["data"]
        assert data["id"] == "7"
        assert data["attributes"]["expiresAt"] is data["attributes"]["issuedAt"] is None


async def test_endpoints_refuse_what_is_not_for_them() -> None:
    async with make_api(endpoints=True) as api, client_of(api) as http:
        for method, path in (("POST", "logout"), ("GET", "session")):
            answer = await http.request(method, f"/api/auth/{path}")
            assert answer.status_code == 401
            assert answer.json()["errors"][0]["code"] == "AUTHENTICATION_REQUIRED"
        answer = await http.get("/api/auth/logout", headers=bearer())
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        answer = await http.get("/api/auth/session", headers={**bearer(), "accept": "text/html"})
        assert answer.status_code == 406
        assert (await http.head("/api/auth/session", headers=bearer())).content == b""
        assert (await http.get("/api/auth", headers=bearer())).status_code == 404
        assert (await http.get("/api/auth/other", headers=bearer())).status_code == 404
    async with make_api() as api, client_of(api) as http:
        assert (await http.get("/api/auth/session", headers=bearer())).status_code == 404


def test_endpoints_do_not_hide_a_resource() -> None:
    with pytest.raises(ConfigurationError, match="cannot be named 'auth'"):
        make_api(endpoints=True).add_resource("auth", schema={"title": "string"})
    api = Api(name="late")
    api.add_resource("auth", schema={"title": "string"})
    with pytest.raises(ConfigurationError, match="cannot be named 'auth'"):
        api.use(JWTAuthPlugin(secret=SECRET, endpoints=True))
    make_api().add_resource("auth", schema={"title": "string"})


# The store in the database


async def test_the_database_remembers(database_url: str) -> None:
    """Over a restart, for a second process, and on every database."""
    options = {"revocation": "database"}
    odd = "\N{SNOWMAN} 'id' " + "x" * 3000
    now = time.time()
    async with make_api(database_url, **options) as api, client_of(api) as http:
        for name in ("a", odd):
            assert await status(http, jti=name) == 200
            await api.revoke(token=token(jti=name, exp=now + 600))
            assert await status(http, jti=name) == 401
        await api.revoke(user_id="u2", issued_before=now - 10)
    one, two = make_api(database_url, **options), make_api(database_url, **options)
    async with one, two, client_of(one) as http, client_of(two) as other:
        for each in (http, other):
            assert [await status(each, jti=name) for name in ("a", odd, "b")] == [401, 401, 200]
            assert await status(each, user="u2", iat=now - 11) == 401
            assert await status(each, user="u2", iat=now - 9) == 200
        await one.revoke(jti="b")
        begin = time.monotonic()
        while await status(other, jti="b") == 200:
            await asyncio.sleep(0.02)
        assert time.monotonic() - begin < 2
        table = one._authority.store._rows
        assert len(await table.newer(0, now, 100)) == 4
        await table.sweep(now + 5000, 100)
        assert [row["user_id"] for row in await table.newer(0, now, 100)] == ["u2", None]


async def test_the_table_is_no_resource() -> None:
    api = make_api(revocation="database")
    for name, options in (("tidings_revocations", {}), ("x", {"table": "Tidings_Revocations"})):
        with pytest.raises(ConfigurationError, match="is tidings' own"):
            api.add_resource(name, schema={"token_id": "string"}, **options)
    async with api, client_of(api) as http:
        answer = await http.get("/api/tidings_revocations", headers=bearer())
        assert answer.status_code == 404


async def test_rows_that_have_run_out_are_deleted(tmp_path: Path) -> None:
    async with make_api(f"sqlite+aiosqlite:///{tmp_path}/a.db", revocation="database") as api:
        store = api._authority.store
        assert isinstance(store, SqlRevocations)
        now = time.time()
        for number in range(5):
            await store.revoke(Revocation(now + 0.1, token_id=str(number)))
            await store.revoke(Revocation(FAR, user_id=str(number)))
        await store._rows.sweep(now + 1, 3)
        rows = await store._rows.newer(0, 0.0, 100)
        assert len(rows) == 7
        await store._rows.sweep(now + 1, 100)
        rows = await store._rows.newer(0, 0.0, 100)
        assert [row["token_id"] for row in rows] == [None] * 5


async def test_more_than_a_page_is_loaded_and_late_commits_are_seen(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    async with make_api(url, revocation="database") as api:
        table = api._authority.store._rows
        for number in range(30):
            await table.add(_row(str(number)))
    store_of: Any = None
    async with make_api(url, revocation="database") as api:
        store_of = api._authority.store
        assert len(store_of) == 30
        told: list[Revocation] = []
        store_of._memory._notify = told.extend
        # A transaction that took its number early and commits late.
        store_of._seen += 5
        await store_of._rows.add(_row("late"))
        await _until(told)
        assert told == [Revocation(FAR, token_id="late")]


async def test_a_row_that_is_committed_very_late_is_seen_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit may wait for a lock, or a disk, for longer than anybody thinks."""
    monkeypatch.setattr("tidings.api.revocations._SETTLED", 0.01)
    monkeypatch.setattr("tidings.api.revocations._SWEEP_SECONDS", 0.2)
    async with make_api(f"sqlite+aiosqlite:///{tmp_path}/a.db", revocation="database") as api:
        store: Any = api._authority.store
        store._poll = 0.02
        told: list[Revocation] = []
        store._memory._notify = told.extend
        store._seen += 2000  # others have come and been read since it took its number
        async with asyncio.timeout(60):
            while store._settled.id < 2000:
                await asyncio.sleep(0.01)
        await store._rows.add(_row("late"))
        await _until(told)
        assert told == [Revocation(FAR, token_id="late")]


async def test_a_user_is_revoked_with_the_tokens_of_a_clock_that_is_ahead() -> None:
    async with make_api(leeway=30) as api:
        now = time.time()
        ahead = jwt.encode({"sub": "7", "iat": now + 20, "exp": now + 99}, SECRET)
        assert await api._authority.of_header(f"Bearer {ahead}")
        await api.revoke(user_id="7")
        with pytest.raises(AuthenticationError):
            await api._authority.of_header(f"Bearer {ahead}")


async def test_a_store_that_fails_denies(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryRevocations):
        def is_revoked(self, identity: Identity) -> bool:
            raise OSError("no store")

    async with make_api(revocation=Broken()) as api:
        with pytest.raises(AuthenticationError):
            await api._authority.of_header(f"Bearer {jwt.encode({'sub': '7'}, SECRET)}")
        assert api._authority.is_revoked(Identity(user_id="7"))
        assert "the revocation store failed" in caplog.text
        caplog.clear()


async def test_the_store_cleans_up_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes what has run out, and does not read again what it has known for long."""
    monkeypatch.setattr("tidings.api.revocations._SETTLED", 0.1)
    monkeypatch.setattr("tidings.api.revocations._SWEEP_SECONDS", 0.1)
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    async with make_api(url, revocation="database") as api:
        store: Any = api._authority.store
        await store.revoke(Revocation(time.time() + 0.1, token_id="short"))
        await store.revoke(Revocation(FAR, token_id="long"))
        async with asyncio.timeout(5):
            while store._settled.id < 2 or len(await store._rows.newer(0, 0.0, 9)) > 1:
                await asyncio.sleep(0.05)
        assert len(store._settled) < 5
        [row] = await store._rows.newer(0, 0.0, 9)
        assert row["token_id"] == "long"


def _row(token_id: str) -> dict[str, Any]:
    return {"token_id": token_id, "user_id": None, "issued_before": 0.0, "keep_until": FAR}


async def _until(told: Sequence[object]) -> None:
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.01)


async def test_a_missing_table_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    api = make_api(url, tables=False, revocation="database")
    with pytest.raises(ConfigurationError, match=r"api.create_tables\(\)"):
        await api.open()
    await api.create_tables()
    async with api:
        await api.revoke(jti="a")


async def test_a_database_that_fails_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is known still holds, the failure is logged once, and it is tried again."""
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    caplog.set_level(logging.WARNING)
    async with make_api(url, revocation="database") as api, client_of(api) as http:
        await api.revoke(jti="a")
        store: Any = api._authority.store
        newer, failures = store._rows.newer, []

        async def fail(*_: object) -> None:
            failures.append(1)
            raise OSError("no database")

        store._rows.newer = fail
        while len(failures) < 2:
            await asyncio.sleep(0.05)
        assert await status(http, jti="a") == 401
        store._rows.newer = newer
        await store._rows.add(_row("b"))
        while await status(http, jti="b") == 200:
            await asyncio.sleep(0.02)
    assert caplog.text.count("cannot be read") == 1


async def test_a_revocation_that_cannot_be_written_still_holds_here(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    async with make_api(url, revocation="database") as api, client_of(api) as http:
        store: Any = api._authority.store

        async def fail(_row: object) -> None:
            raise OSError("no database")

        store._rows.add = fail
        with pytest.raises(OSError, match="no database"):
            await api.revoke(jti="a")
        assert await status(http, jti="a") == 401
