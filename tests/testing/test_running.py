"""An application is tested as it is: its own app, permissions, hooks and sockets."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import jwt
import pytest
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.testing.kit import SECRET, make_api
from tidings import (
    Api,
    ConfigurationError,
    Identity,
    JWTAuthPlugin,
    PermissionDenied,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.testing import Disconnected, SubscriptionRefused, running

pytestmark = pytest.mark.anyio
MINE = {"title": "News", "owner_id": "1"}


class Base(DeclarativeBase):
    pass


class Task(Base):
    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))


async def test_permissions_over_http():
    async with running(make_api(), database="memory") as live:
        ada, bob, nobody = live.client(user_id=1), live.client(user_id=2), live.client()
        made = await ada.create("posts", {"title": "News", "owner_id": "1"})
        assert made.status_code == 201
        post = made.json()["data"]["id"]
        assert (await nobody.create("posts", {"title": "News"})).status_code == 401
        assert (await bob.get("posts", post)).status_code == 404
        assert (await ada.update("posts", post, {"status": "published"})).status_code == 200
        assert (await bob.update("posts", post, {"title": "Mine"})).status_code == 403
        found = await bob.query(
            "posts", status="published", sort="-id", **{"fields[posts]": "title"}
        )
        assert [one["attributes"] for one in found.json()["data"]] == [{"title": "News"}]
        editor = live.client(user_id=3, roles=["editor"])
        assert (await editor.delete("posts", post)).status_code == 204


async def test_an_identity_is_what_the_rules_see():
    api = make_api()
    seen = []

    @api.hook("before_write")
    def look(context):
        seen.append(context.auth)

    async with running(api, database="memory") as live:
        identity = Identity(user_id="7", permissions=frozenset({"write"}), claims={"team": 3})
        await live.client(identity).create("posts", {"title": "News"})
        await live.client(user_id=7, claims={"team": 3}).create("posts", {"title": "News"})
    assert [(one.user_id, one.team) for one in seen] == [("7", 3), ("7", 3)]
    assert [one.has_permission("write") for one in seen] == [True, False]


async def test_each_time_the_database_is_empty_and_the_history_new():
    api = make_api()
    cursors = set()
    for _ in range(2):
        async with running(api, database="memory") as live:
            assert (await api.resources.posts.query()).total == 0
            made = await live.client(user_id=1).create("posts", MINE)
            assert made.json()["data"]["id"] == "1"
            await live.settled()
            cursors.add((await live.client().query("posts")).json()["meta"]["cursor"])
    assert len({cursor.partition(".")[0] for cursor in cursors}) == 2


async def test_models_and_an_engine_that_the_application_shares(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db")
    api, app = make_work(tmp_path), FastAPI()
    api.install(app)

    async def session():  # what a request of the application's gets in production
        raise NotImplementedError

    @app.post("/finish")
    async def finish(session: AsyncSession = Depends(session)) -> None:  # noqa: B008
        session.add(Task(title="Dig"))
        await session.commit()

    async def of_tests():
        async with AsyncSession(engine) as opened:
            yield opened

    app.dependency_overrides[session] = of_tests
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        async with running(api, app, database=engine) as live:
            ann = live.client(user_id=1)
            watch = await ann.subscribe("tasks")
            await ann.http.post("/finish")
            await watch.assert_told(("enter", 1))  # by a trigger: capture= is as declared
            await api.resources.tasks.patch(1, {"title": "Sow"})
            await watch.assert_told(("update", 1))
        assert not (tmp_path / "declared.db").exists()
    finally:
        await engine.dispose()


async def test_models_are_not_moved_into_memory(tmp_path):
    with pytest.raises(ConfigurationError, match="'tasks' is a model of your application"):
        async with running(make_work(tmp_path), database="memory"):
            pass


def make_work(folder: Path) -> Api:
    api = Api(name="work")
    api.use(RestApiPlugin())
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/declared.db")
    api.use(SqlAlchemyPlugin(engine=engine, capture="triggers"))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(cors={"origin": ["https://example.org"]}))
    api.add_resource("tasks", Task, fields=["title"])
    return api


async def test_a_database_of_ones_own(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/own.db"
    api = make_api(url=f"sqlite+aiosqlite:///{tmp_path}/declared.db")
    async with running(api, database=url):
        await api.resources.posts.post({"title": "News"})
    assert (tmp_path / "own.db").exists()
    assert not (tmp_path / "declared.db").exists()


async def test_an_api_that_was_used_is_not_moved(tmp_path):
    api = make_api(url=f"sqlite+aiosqlite:///{tmp_path}/declared.db")
    async with api:
        await api.create_tables()
        await api.resources.posts.post({"title": "Dear"})
    with pytest.raises(ConfigurationError, match="in use already, on another database"):
        async with running(api, database="memory"):
            pass
    async with running(api, database=None) as live:
        assert (await live.api.resources.posts.query()).total == 1


async def test_the_apps_own_tokens_are_accepted_during_and_after():
    api = make_api()
    token = jwt.encode({"sub": "7"}, SECRET, "HS256")
    async with running(api, database="memory") as live:
        made = await live.client(token=token).create("posts", {**MINE, "owner_id": "7"})
        assert made.status_code == 201
        mine = live.client(user_id=1).token
        assert (await live.client(token="no token").query("posts")).status_code == 401
    transport = httpx.ASGITransport(api.asgi())
    async with api, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get("/api/posts", headers={"Authorization": f"Bearer {mine}"})
        assert answer.status_code == 401  # what stood for somebody in a test stands for nobody now


async def test_identities_need_no_plugin_for_tokens():
    async with running(make_api(jwt=False, anonymous=True), database="memory") as live:
        assert (await live.client(user_id=1).create("posts", MINE)).status_code == 201
        assert (await live.client().create("posts", MINE)).status_code == 401
        await live.client().subscribe("posts")
        with pytest.raises(SubscriptionRefused, match="Authentication required"):
            await live.client(token="forged").subscribe("posts")


async def test_only_one_way_to_say_who_it_is():
    async with running(make_api(), database="memory") as live:
        with pytest.raises(ConfigurationError, match="one of an identity, user_id= and token="):
            live.client(Identity(user_id="1"), token="x")


async def test_a_socket_without_a_token_is_refused():
    async with running(make_api(), database="memory") as live:
        with pytest.raises(Disconnected) as refused:
            await live.client().connect()
        assert refused.value.code == "AUTHENTICATION_REQUIRED"


async def test_a_token_ends():
    async with running(make_api(), database="memory") as live:
        late = live.client(user_id=1, expires_at=time.time() - 1)
        assert (await late.query("posts")).status_code == 401
        with pytest.raises(SubscriptionRefused) as refused:
            await late.subscribe("posts")
        assert refused.value.code == "TOKEN_EXPIRED"


async def test_a_user_is_revoked():
    api = make_api()
    async with running(api, database="memory") as live:
        ada = live.client(user_id=1)
        watch = await ada.subscribe("posts", {"status": "published"})
        await api.revoke(user_id="1")
        assert (await ada.query("posts")).json()["errors"][0]["code"] == "TOKEN_REVOKED"
        await api.resources.posts.post({"title": "News", "status": "published"})
        await watch.assert_silent()
        with pytest.raises(AssertionError, match="its socket has ended: "):
            await watch.assert_told(("enter", 1))


async def test_one_token_of_a_user_is_revoked():
    api = make_api()
    async with running(api, database="memory") as live:
        phone, desk = live.client(user_id=1), live.client(user_id=1)
        await api.revoke(token=phone.token)
        assert (await phone.query("posts")).status_code == 401
        assert (await desk.query("posts")).status_code == 200


async def test_what_one_test_was_answered_is_not_the_next_ones_answer():
    shown = ["published"]
    api = make_api()
    api.add_resource(
        "notes",
        schema={"status": "string"},
        row_policy=lambda columns, identity: columns.status == shown[0],
    )
    for status in ("published", "draft"):
        shown[0] = status
        async with running(api, database="memory") as live:
            note = await api.resources.notes.post({"status": status})
            assert (await live.client(user_id=1).get("notes", note["id"])).status_code == 200


async def test_a_refused_subscription_says_why():
    api = make_api()

    @api.hook("subscription_filters")
    def refuse(context):
        if context.auth.user_id == "2":
            raise PermissionDenied("not you")

    async with running(api, database="memory") as live:
        with pytest.raises(SubscriptionRefused, match="not you") as refused:
            await live.client(user_id=2).subscribe("posts")
        assert refused.value.code == "PERMISSION_DENIED"
        with pytest.raises(SubscriptionRefused) as refused:
            await live.client(user_id=1).subscribe("posts", {"colour": "red"})
        assert refused.value.details["colour"]["code"] == "UNKNOWN_FIELD"


async def test_a_fastapi_app_with_overrides():
    api, app = make_api(), FastAPI()
    steps = []

    @asynccontextmanager
    async def lifespan(_):
        steps.append("start")
        yield {"colour": "red"}
        steps.append("stop")

    def current_user():
        raise HTTPException(401)

    @app.get("/me")
    async def me(user: str = Depends(current_user)) -> str:
        return user

    app.router.lifespan_context = lifespan
    api.install(app)
    app.dependency_overrides[current_user] = lambda: "ada"
    async with running(api, app, database="memory") as live:
        ada = live.client(user_id=1)
        assert (await ada.http.get("/me")).json() == "ada"
        watch = await ada.subscribe("posts", {"status": "published"})
        assert (await ada.create("posts", {"title": "a", "status": "published"})).status_code == 201
        await watch.assert_told(("enter", 1))
        assert steps == ["start"]
    assert steps == ["start", "stop"]


async def test_an_app_that_does_not_start_says_why():
    app = FastAPI()

    @asynccontextmanager
    async def lifespan(_):
        raise RuntimeError("no coffee")
        yield

    app.router.lifespan_context = lifespan
    api = make_api()
    api.install(app)
    with pytest.raises((ConfigurationError, RuntimeError), match="no coffee"):
        async with running(api, app, database="memory"):
            pass


async def test_with_httpx2():
    httpx2 = pytest.importorskip("httpx2")
    async with running(make_api(), http=httpx2, database="memory") as live:
        ada = live.client(user_id=1)
        assert isinstance(ada.http, httpx2.AsyncClient)
        assert (await ada.create("posts", MINE)).status_code == 201


async def test_an_application_hears_its_own_events():
    api = make_api()
    async with running(api, database="memory") as live:
        ada = live.client(user_id=1)

        @api.io.on("typing")
        def typing(socket, document):
            api.io.emit("typing", document)
            return "noted"

        wire = await ada.connect()
        assert await wire.call("typing", "letter") == "noted"
        assert ("typing", "letter") in ada.events


async def test_many_apis_side_by_side():
    async def one(number: int) -> None:
        async with running(make_api(), database="memory") as live:
            watch = await live.client(user_id=1).subscribe("posts")
            for index in range(number):
                await live.api.resources.posts.post({"title": str(index), "status": "published"})
            await watch.assert_told(*(("enter", index + 1) for index in range(number)))
            await watch.assert_silent()

    await asyncio.gather(*(one(number) for number in range(1, 5)))
