"""A socket lives as long as its token: expiry, renewal, revocation; real servers and clocks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from tests.http.kit import SECRET, bearer, token
from tests.realtime.kit import Wire, delivered, make_api, running, spoken, subscriber
from tests.sockets.kit import (
    NOTHING,
    Closed,
    Polling,
    Socket,
    eventually,
    leftovers,
    polling,
    served,
)
from tests.support.node import NodeClient
from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    PermissionDenied,
    RestApiPlugin,
    SocketIOPlugin,
    SocketLimits,
    SqlAlchemyPlugin,
)
from tidings.realtime.deadlines import Deadlines
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Subscriber

pytestmark = pytest.mark.anyio


def session_api(database: str = "", *, jwt: dict[str, Any] | None = None, **sockets: Any) -> Api:
    api = Api(name="sessions")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite://{database}", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET, **(jwt or {})))
    api.use(SocketIOPlugin(**sockets))
    schema = {"title": "string", "status": {"type": "string", "search": True}}
    api.add_resource("posts", schema=schema)
    return api


@contextlib.asynccontextmanager
async def committing(api: Api, pause: float = 0.005) -> AsyncIterator[dict[str, float]]:
    """Commits one post after the other; gives for each id a moment just before its commit."""
    began: dict[str, float] = {}
    ended = False

    async def write() -> None:
        while not ended:
            now = time.time()
            made = await api.resources.posts.post({"title": "a", "status": "x"})
            began[made["id"]] = now
            await asyncio.sleep(pause)

    task = asyncio.create_task(write())
    try:
        yield began
    finally:
        ended = True
        await task


async def closing_time(socket: Socket) -> float:
    await socket.ended()
    return time.time()


def received(socket: Socket) -> list[str]:
    return [data["id"] for name, data in socket.events if name == "subscription.update"]


def names(socket: Socket) -> list[str]:
    return [name for name, _ in socket.events]


def figures(label: str, delays: list[float]) -> None:
    ordered = sorted(delays)
    p50, p99 = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.99))
    print(  # noqa: T201  seen with pytest -s
        f"\n{label}: {len(delays)} sockets, p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
        f"max {ordered[-1] * 1000:.1f} ms"
    )


async def test_a2_17_sockets_end_when_their_tokens_expire() -> None:
    """Fifty sockets, commits all the time: none gets what was committed after its ``exp``."""
    api = session_api(expiry_warning=1)
    async with served(api) as url, contextlib.AsyncExitStack() as stack:
        start = time.time()
        ends = [start + 5 + number * 0.01 for number in range(50)]
        sockets = []
        for end in ends:
            socket = await stack.enter_async_context(await Socket.connected(url, exp=end))
            assert (await socket.call("subscribe", {"resource": "posts"}))["success"]
            sockets.append(socket)
        async with committing(api, 0.02) as began:
            closed = await asyncio.gather(*map(closing_time, sockets))
            assert time.time() > ends[-1]
            await asyncio.sleep(0.1)
        figures("exp to disconnect", [at - end for at, end in zip(closed, ends, strict=True)])
        for socket, at, end in zip(sockets, closed, ends, strict=True):
            assert 0 <= at - end < 1
            ids = received(socket)
            assert ids
            assert all(began[one] < end for one in ids)
            assert ids == sorted(ids, key=int)
            assert names(socket)[-1] == "auth.expired"
            assert socket.events[-1][1] == {"message": "Token expired"}
            assert socket.frames[-2:] == ["41", "1"]
            [warning] = [data for name, data in socket.events if name == "auth.expiring"]
            assert warning["expiresAt"].endswith("Z")
        assert await answered(url, exp=time.time() - 1) == ("Token expired", "TOKEN_EXPIRED")
        await eventually(lambda: leftovers(api) == NOTHING and not len(api.socket_server._sessions))
        assert not len(api.socket_server._sessions._deadlines)


async def answered(url: str, **claims: Any) -> tuple[str, str]:
    """The message and the code of a refused connect."""
    async with await Socket.open(url) as socket:
        await socket.send('40{"token":"' + token(**claims) + '"}')
        error = json.loads((await socket.receive()).removeprefix("44"))
        return error["message"], error["data"]["code"]


async def test_a_token_that_lives_shortly_is_not_warned_of_without_end() -> None:
    async with served(session_api(expiry_warning=60)) as url:
        begin = time.time()
        async with await Socket.connected(url, exp=begin + 2) as socket:
            await socket.event("auth.expiring")
            assert time.time() - begin >= 0.5, "not before about half of what is left has passed"


async def test_a_refusal_that_may_pass_closes_the_connection() -> None:
    """After a CONNECT_ERROR Socket.IO never tries again by itself."""
    api = session_api(limits=SocketLimits(connections_per_user=1))
    async with (
        served(api) as url,
        await Socket.connected(url),
        await Socket.open(url) as second,
    ):
        await second.send('40{"token":"' + token() + '"}')
        with pytest.raises(Closed):
            while not (await second.receive()).startswith("44"):
                pass


async def test_a_namespace_that_does_not_exist() -> None:
    async with served(session_api()) as url, await Socket.open(url) as socket:
        await socket.send("40/nothing,{}")
        assert await socket.receive() == '44/nothing,{"message":"Invalid namespace"}'


async def test_a2_17_leeway_counts_and_the_warning_is_configurable() -> None:
    api = session_api(jwt={"leeway": 1.5}, expiry_warning=0)
    async with served(api) as url:
        end = time.time() + 0.5
        async with await Socket.connected(url, exp=end) as socket:
            assert 1.5 <= await closing_time(socket) - end < 2.5
            assert names(socket) == ["connected", "auth.expired"]


async def test_a2_17_a_polling_client_is_told_why() -> None:
    api = session_api()
    async with served(api) as url, polling(url) as http:
        end = time.time() + 2
        client = await Polling.connected(http, exp=end)
        packets = await client.until('42["auth.expired"')
        assert packets[-2:] == ["41", "1"]
        assert time.time() - end < 1
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_a2_17_a_client_between_two_polls_is_told_why() -> None:
    api = session_api(expiry_warning=0)
    async with served(api) as url, polling(url) as http:
        end = time.time() + 2
        client = await Polling.connected(http, exp=end)
        await asyncio.sleep(max(end - time.time(), 0) + 0.15)
        assert await client.get() == ['42["auth.expired",{"message":"Token expired"}]', "41", "1"]
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_a2_17_a_client_that_reads_nothing_is_forgotten_all_the_same() -> None:
    api = session_api()
    api.socket_server.io.options.unsent_bytes = 100_000_000
    async with served(api) as url:
        end = time.time() + 2
        async with await Socket.connected(url, exp=end) as socket:
            person = next(iter(api.socket_server._subscribers.values()))
            [session] = api.socket_server.io.engine.sessions.values()
            for _ in range(30):
                person.connection.send(Event.of("large", "x" * 1_000_000))
                await asyncio.sleep(0)
            await eventually(lambda: leftovers(api) == NOTHING)
            assert time.time() - end < 2
            assert not session.is_open
            await eventually(lambda: len(session.out) <= 2)
            socket.wire.transport.abort()


async def test_a2_17_what_a_client_asks_after_the_end_is_not_answered() -> None:
    """Not even what it had asked before, as long as that took."""
    api = session_api()
    asked, go_on = asyncio.Event(), asyncio.Event()

    @api.hook("subscription_filters")
    async def slow(_context: Any) -> None:
        asked.set()
        await go_on.wait()

    async with served(api) as url:
        async with await Socket.connected(url, exp=time.time() + 2) as socket:
            await socket.send('421["subscribe",{"resource":"posts"}]')
            await asked.wait()
            await socket.ended()
            assert names(socket)[-1] == "auth.expired"
            assert not any(frame.startswith("43") for frame in socket.frames)
        go_on.set()
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_a2_17_the_javascript_client_sees_expiry_renewal_and_the_end() -> None:
    api = session_api()
    async with served(api) as url, NodeClient(url, transports="websocket") as client:
        await client.connect(token(exp=time.time() + 5))
        [warning] = await client.wait("auth.expiring")
        assert set(warning.data) == {"expiresAt"}
        end = time.time() + 3
        [answer] = await client.emit("authenticate", {"token": token(exp=end)})
        assert answer["success"] is True
        [expired] = await client.wait("auth.expired", timeout=8)
        [gone] = await client.wait("disconnect")
        assert expired.data == {"message": "Token expired"}
        assert gone.data == "io server disconnect"
        assert 0 <= gone.at - end < 1


# authenticate


def narrowed_by_role(api: Api, pause: float = 0.0) -> None:
    """Who has not the role "wide" is told of status x only; role "none" is refused."""

    @api.hook("subscription_filters")
    async def narrow(context: Any) -> None:
        await asyncio.sleep(pause)
        if context.auth.has_role("none"):
            raise PermissionDenied("No posts for you")
        if not context.auth.has_role("wide"):
            context.subscription.require({"status": "x"})


async def test_a2_17_renewing_under_steady_commits_tells_of_each_exactly_once() -> None:
    api = session_api()
    narrowed_by_role(api, pause=0.05)
    async with served(api) as url, await Socket.connected(url) as socket:
        await socket.call("subscribe", {"resource": "posts"})
        async with committing(api, 0.002) as began:
            for roles in (["wide"], [], ["wide"], ["wide"], []):
                answer = await socket.call("authenticate", {"token": token(roles=roles)})
                assert answer["success"] is True
                await asyncio.sleep(0.05)
        await delivered(api)
        await socket.call("unsubscribe", {"subscriptionId": "nothing"})
        assert len(began) > 10
        assert received(socket) == list(began)
        resyncs = [data for name, data in socket.events if name == "subscription.resync"]
        assert [data["reason"] for data in resyncs] == ["permission"] * 4
        await socket.assert_healthy()


async def test_a2_17_a_renewed_socket_outlives_its_first_token() -> None:
    api = session_api()
    async with served(api) as url, await Socket.connected(url, exp=time.time() + 2) as socket:
        await socket.call("subscribe", {"resource": "posts"})
        answer = await socket.call("authenticate", {"token": token(exp=4_000_000_000)})
        assert answer == {"success": True, "data": {"expiresAt": "2096-10-02T07:06:40.000Z"}}
        await asyncio.sleep(2.5)
        made = await api.resources.posts.post({"title": "a"})
        assert (await socket.event("subscription.update"))["id"] == made["id"]
        assert "auth.expired" not in names(socket)
        assert "subscription.resync" not in names(socket)


async def test_a2_17_a_token_that_is_not_accepted_changes_nothing() -> None:
    api = session_api()
    async with served(api) as url:
        end = time.time() + 2
        async with await Socket.connected(url, exp=end) as socket:
            for given, code in (
                (token("u2"), "PERMISSION_DENIED"),
                (token(exp=1), "TOKEN_EXPIRED"),
                ("nonsense", "INVALID_TOKEN"),
                (None, "AUTHENTICATION_REQUIRED"),
            ):
                answer = await socket.call("authenticate", {"token": given})
                assert answer["error"]["code"] == code, answer
            assert (await socket.call("authenticate"))["error"]["code"] == "AUTHENTICATION_REQUIRED"
            assert 0 <= await closing_time(socket) - end < 1


async def test_a2_17_a_subscription_that_the_new_token_may_not_have_ends() -> None:
    api = session_api()
    narrowed_by_role(api)
    async with served(api) as url, await Socket.connected(url) as socket:
        made = await socket.call("subscribe", {"resource": "posts"})
        answer = await socket.call("authenticate", {"token": token(roles=["none"])})
        assert answer["success"] is True
        assert await socket.event("subscription.error") == {
            "code": "PERMISSION_DENIED",
            "message": "No posts for you",
            "resource": "posts",
            "details": {"subscriptionId": made["data"]["subscriptionId"]},
        }
        await api.resources.posts.post({"title": "a", "status": "x"})
        await delivered(api)
        answer = await socket.call("subscribe", {"resource": "posts"})
        assert answer["error"]["code"] == "PERMISSION_DENIED"
        assert received(socket) == []
        assert len(api.socket_server._matcher) == 0


@pytest.mark.parametrize("roles", [["wide"], []], ids=["other filter", "same filter"])
async def test_a2_17_a_token_that_expires_during_its_renewal(roles: list[str]) -> None:
    """Nothing is sent after it has expired, nor is the socket lost; and the client refetches."""
    api = session_api()
    held = asyncio.Event()
    held.set()
    narrowed_by_role(api)

    @api.hook("subscription_filters")
    async def wait(_context: Any) -> None:
        await held.wait()

    async with served(api) as url:
        end = time.time() + 2
        async with await Socket.connected(url, exp=end) as socket:
            await socket.call("subscribe", {"resource": "posts"})
            held.clear()
            renewing = asyncio.create_task(
                socket.call("authenticate", {"token": token(roles=roles)})
            )
            async with committing(api) as began:
                await asyncio.sleep(end - time.time() + 0.3)
                missed = len(began)
                held.set()
                assert (await renewing)["success"] is True
                await asyncio.sleep(0.1)
            await delivered(api)
            await socket.assert_healthy()
            resync = names(socket).index("subscription.resync")
            assert names(socket).count("subscription.resync") == 1
            before = [d["id"] for n, d in socket.events[:resync] if n == "subscription.update"]
            after = [d["id"] for n, d in socket.events[resync:] if n == "subscription.update"]
            assert before
            assert all(began[one] < end for one in before)
            assert missed > len(before)
            # From the swap on nothing is missing.
            assert after == list(began)[list(began).index(after[0]) :]
            assert "auth.expired" not in names(socket)


async def test_a2_17_a_failed_renewal_that_outlasted_its_token_ends_the_socket() -> None:
    api = session_api()
    narrowed_by_role(api)
    async with served(api) as url:
        end = time.time() + 2
        async with await Socket.connected(url, exp=end) as socket:
            person = next(iter(api.socket_server._subscribers.values()))
            with contextlib.suppress(ValueError), api.socket_server._sessions.renewal(person):
                await asyncio.sleep(end - time.time() + 0.3)
                assert person.is_open
                raise ValueError
            assert await closing_time(socket) - end < 1.3
            assert names(socket)[-1] == "auth.expired"


# Revocation


async def test_a2_17_a_revoked_token_is_out_at_once_and_so_are_its_sockets() -> None:
    api = session_api()
    mine, other = {"jti": "one", "iat": time.time() - 5}, {"jti": "two", "iat": time.time() - 5}
    async with (
        served(api) as url,
        httpx.AsyncClient(base_url=url) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        doomed = [
            await stack.enter_async_context(await Socket.connected(url, **mine)) for _ in range(20)
        ]
        staying = await stack.enter_async_context(await Socket.connected(url, **other))
        for socket in (*doomed, staying):
            await socket.call("subscribe", {"resource": "posts"})
        async with committing(api) as began:
            closing = [asyncio.create_task(closing_time(socket)) for socket in doomed]
            await asyncio.sleep(0.3)
            assert (await http.get("/api/posts", headers=bearer(**mine))).status_code == 200
            asked = time.time()
            await api.revoke(token=token(**mine))
            revoked = time.time()
            refused = await http.get("/api/posts", headers=bearer(**mine))
            assert refused.status_code == 401
            assert refused.json()["errors"][0]["code"] == "TOKEN_REVOKED"
            assert refused.json()["errors"][0]["detail"] == "Token revoked"
            closed = await asyncio.gather(*closing)
            await asyncio.sleep(0.2)
        figures("revoke to disconnect", [at - asked for at in closed])
        for socket, at in zip(doomed, closed, strict=True):
            assert at - asked < 1
            assert received(socket)
            assert all(began[one] <= revoked for one in received(socket))
            assert socket.events[-1] == ("auth.revoked", {"message": "Token revoked"})
        assert await answered(url, **mine) == ("Token revoked", "TOKEN_REVOKED")
        assert (await http.get("/api/posts", headers=bearer(**other))).status_code == 200
        await delivered(api)
        await staying.call("unsubscribe", {})
        assert received(staying) == list(began)
        answer = await staying.call("authenticate", {"token": token(**mine)})
        assert answer["error"]["code"] == "TOKEN_REVOKED"


async def test_a2_17_all_tokens_of_a_user_are_revoked() -> None:
    api = session_api()
    now = time.time()
    async with served(api) as url, contextlib.AsyncExitStack() as stack:

        async def connected(user: str, **claims: Any) -> Socket:
            socket = await Socket.open(url)
            await stack.enter_async_context(socket)
            await socket.connect({"token": token(user, **claims)})
            return socket

        old = await connected("u1", iat=now - 60)
        dateless = await connected("u1")
        new = await connected("u1", iat=now - 5)
        stranger = await connected("u2", iat=now - 60)
        await api.revoke(user_id="u1", issued_before=now - 30)
        for socket in (old, dateless):
            await socket.ended()
            assert names(socket)[-1] == "auth.revoked"
        await new.assert_healthy()
        await stranger.assert_healthy()
        await api.revoke(user_id="u1")
        await new.ended()
        await stranger.assert_healthy()


async def test_a2_17_a_revocation_reaches_the_sockets_of_other_processes(tmp_path: Any) -> None:
    """Two apis share a database file; each is told of what the other revokes."""
    file = f"/{tmp_path}/shared.db"
    one, two = (session_api(file, jwt={"revocation": "database"}) for _ in range(2))
    claims = {"jti": "shared", "iat": time.time() - 5}
    async with (
        served(one),
        served(two) as url,
        httpx.AsyncClient(base_url=url) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        delays = []
        for number in range(5):
            claims = {"jti": f"shared-{number}", "iat": time.time() - 5}
            async with await Socket.connected(url, **claims) as socket:
                asked = time.time()
                await one.revoke(token=token(**claims))
                delays.append(await closing_time(socket) - asked)
                assert names(socket)[-1] == "auth.revoked"
            refused = await http.get("/api/posts", headers=bearer(**claims))
            assert refused.json()["errors"][0]["code"] == "TOKEN_REVOKED"
        user = await stack.enter_async_context(await Socket.connected(url, iat=time.time() - 5))
        await one.revoke(user_id="u1")
        await user.ended()
        figures("revoke in another process to disconnect", delays)
        assert max(delays) < 2


async def test_a2_17_a_token_that_is_revoked_while_its_socket_connects() -> None:
    class Ending(Wire):
        def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
            assert for_good
            self.frames += last

    async with running() as api:
        await api.revoke(jti="j")
        wire = Ending()
        person = Subscriber("s", Identity("u1", token_id="j"), wire)
        api.socket_server._sessions.add(person)
        await api.socket_server._service.subscribe(person, {"resource": "posts"})
        await api.resources.posts.post({"title": "a"})
        await eventually(lambda: not person.is_open)
        assert [spoken(event) for event in wire.frames] == [
            ("auth.revoked", {"message": "Token revoked"})
        ]
        assert len(api.socket_server._sessions) == 0


async def test_an_api_that_is_opened_again_in_another_event_loop_keeps_its_deadlines() -> None:
    api = session_api(connect_deadline=0.3)

    async def silent() -> None:
        async with served(api) as url, await Socket.open(url) as socket:
            await socket.ended()

    for _ in range(2):
        await asyncio.to_thread(asyncio.run, silent())


# Permissions that change


async def test_permissions_changed_checks_live_subscriptions_anew() -> None:
    api = make_api()
    limits: dict[str, Any] = {}

    @api.hook("subscription_filters")
    async def limit(context: Any) -> None:
        await asyncio.sleep(0)
        clause = limits.get(context.auth.user_id)
        if clause == "nothing":
            raise PermissionDenied("no longer")
        if clause:
            context.subscription.require(clause)

    async with running(api):
        server = api.socket_server
        people = {name: subscriber(name, name) for name in ("ann", "ben", "cat")}
        for person, _ in people.values():
            server._sessions.add(person)
            await server._service.subscribe(person, {"resource": "posts", "subscriptionId": "s"})
        limits.update(ann="nothing", ben={"status": "x"})
        await api.permissions_changed(user_id="cat")
        await api.resources.posts.post({"title": "a"})
        await delivered(api)
        await api.permissions_changed(resource="posts")
        await api.permissions_changed()
        await api.resources.posts.post({"title": "b"})
        await api.resources.posts.post({"title": "c", "status": "x"})
        await delivered(api)
        told = {
            name: [event["id"] for event in wire.events()] for name, (_, wire) in people.items()
        }
        assert told == {"ann": ["1"], "ben": ["1", "3"], "cat": ["1", "2", "3"]}
        [error] = people["ann"][1].events("subscription.error")
        assert error["details"] == {"subscriptionId": "s"}
        [resync] = people["ben"][1].events("subscription.resync")
        assert (resync["reason"], resync["subscriptionId"]) == ("permission", "s")
        assert people["cat"][1].events("subscription.resync") == []
        for person, _ in people.values():
            server._forget(person)
        assert len(server._matcher) == len(server._service._members) == 0
        with pytest.raises(Exception, match="no resource 'nothing'"):
            await api.permissions_changed(resource="nothing")


@pytest.mark.parametrize("event", ["subscribe", "restore"])
async def test_a_subscription_in_the_making_is_checked_anew_as_well(event: str) -> None:
    api = make_api()
    asked, go_on, allowed = asyncio.Event(), asyncio.Event(), True

    @api.hook("subscription_filters")
    async def check(_context: Any) -> None:
        was = allowed
        asked.set()
        await go_on.wait()
        if not was:
            raise PermissionDenied("no longer")

    async with running(api):
        service = api.socket_server._service
        person, _ = subscriber()
        api.socket_server._sessions.add(person)
        request = {"resource": "posts", "subscriptionId": "s"}
        if event == "subscribe":
            work = asyncio.create_task(service.subscribe(person, request))
        else:
            work = asyncio.create_task(service.restore(person, {"subscriptions": [request]}))
        await asked.wait()
        allowed = False
        await api.permissions_changed(user_id="u1")
        go_on.set()
        if event == "subscribe":
            with pytest.raises(PermissionDenied):
                await work
        else:
            restored, failed = await work
            assert restored == []
            assert [one["error"]["code"] for one in failed] == ["PERMISSION_DENIED"]
        assert person.subscriptions == {}


async def test_the_last_of_two_checks_decides_whichever_ends_first() -> None:
    api = make_api()
    gates = [asyncio.Event(), asyncio.Event()]
    clauses = [{"status": "a"}, {"status": "b"}]
    calls = 0

    @api.hook("subscription_filters")
    async def check(context: Any) -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        if number:
            clause = clauses[number - 1]
            await gates[number - 1].wait()
            context.subscription.require(clause)

    async with running(api):
        service = api.socket_server._service
        person, wire = subscriber()
        api.socket_server._sessions.add(person)
        await service.subscribe(person, {"resource": "posts"})
        first = asyncio.create_task(api.permissions_changed())
        await asyncio.sleep(0.01)
        second = asyncio.create_task(api.permissions_changed())
        gates[1].set()
        await asyncio.sleep(0.01)
        gates[0].set()
        await asyncio.gather(first, second)
        await api.resources.posts.post({"title": "a", "status": "a"})
        await api.resources.posts.post({"title": "b", "status": "b"})
        await delivered(api)
        assert [event["id"] for event in wire.events()] == ["2"]


# Those who never connect


async def test_who_never_connects_is_disconnected() -> None:
    api = session_api(connect_deadline=0.5)
    async with served(api) as url, polling(url) as http:
        begin = time.time()
        async with (
            await Socket.connected(url) as connected,
            await Socket.open(url) as silent,
            await Socket.open(url) as refused,
            await Socket.open(url) as leaving,
        ):
            await leaving.connect({"token": token()})
            await Polling.open(http)
            waiting = await Polling.open(http)
            poll = asyncio.create_task(waiting.get())
            await refused.send('40{"token":"wrong"}')
            await asyncio.gather(silent.ended(), refused.ended())
            assert 0.5 <= time.time() - begin < 3
            assert await poll == ["1"]
            await leaving.send("41")
            await leaving.ended()
            await connected.assert_healthy()
            assert all(
                one.deadline is None for one in api.socket_server.io.engine.sessions.values()
            )
        await eventually(lambda: leftovers(api) == NOTHING)


async def test_a_client_in_a_namespace_of_the_applications_own_may_stay() -> None:
    api = session_api(connect_deadline=0.3)
    async with served(api) as url:
        api.io.on("connect", lambda socket, auth: None, namespace="/chat")
        async with await Socket.open(url) as socket:
            await socket.send("40/chat,{}")
            assert (await socket.receive()).startswith("40/chat,")
            await asyncio.sleep(0.8)
            await socket.connect({"token": token()})
            await socket.assert_healthy()


# The timer


async def test_deadlines_come_in_order_and_once() -> None:
    due: list[str] = []
    deadlines: Deadlines[str] = Deadlines(due.append)
    now = time.time()
    for name, moment in (("c", 0.3), ("a", 0.1), ("gone", 0.15), ("b", 9.0), ("past", -5.0)):
        deadlines.set(name, now + moment)
    deadlines.discard("gone")
    deadlines.set("b", now + 0.2)
    await asyncio.sleep(0.5)
    assert due == ["past", "a", "b", "c"]
    assert len(deadlines) == 0
    assert deadlines._timer is None


async def test_deadlines_that_are_set_again_and_again_do_not_pile_up() -> None:
    deadlines: Deadlines[int] = Deadlines(lambda key: None)
    far = time.time() + 1000
    for number in range(5000):
        deadlines.set(number % 10, far + number)
        deadlines.set(-1, far)
        deadlines.discard(-1)
    assert len(deadlines) == 10
    assert len(deadlines._heap) < 250
    deadlines.clear()
    assert deadlines._timer is None


async def test_one_deadline_that_fails_does_not_cost_the_others_theirs(caplog: Any) -> None:
    due: list[int] = []

    def fail_at_first(key: int) -> None:
        if key == 0:
            raise ValueError("broken")
        due.append(key)

    deadlines = Deadlines(fail_at_first)
    for number in range(300):
        deadlines.set(number, 0.0)
    await eventually(lambda: len(due) == 299)
    assert "a deadline could not be kept" in caplog.text
