"""What trusted code does wrong: hooks, filters and checks that break harm nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.http.kit import make_api, tracebacks, watched_logs
from tests.sockets.kit import Socket, live_api, served

from tidings import SocketIOPlugin
from tidings.errors import PermissionDenied


async def test_a_hook_that_breaks_or_injects_nonsense_refuses() -> None:
    api = live_api()
    breaks: list[Any] = []

    @api.hook("subscription_filters")
    async def hook(context: Any) -> None:
        breaks[-1](context.subscription, context.auth)

    def broken(draft: Any, auth: Any) -> None:
        raise RuntimeError("a secret of the implementation")

    def refuses(draft: Any, auth: Any) -> None:
        raise PermissionDenied("Not this one")

    def none(draft: Any, auth: Any) -> None:
        draft.filters["status"] = auth.workspace_id

    def none_by_require(draft: Any, auth: Any) -> None:
        draft.require({"status": auth.workspace_id})

    def unknown(draft: Any, auth: Any) -> None:
        draft.filters["workspace_id"] = 7

    def nonsense(draft: Any, auth: Any) -> None:
        draft.filters["$or"] = []

    def wrong_type(draft: Any, auth: Any) -> None:
        draft.filters["views"] = "many"

    def no_dict(draft: Any, auth: Any) -> None:
        draft.filters = None

    def empty_in(draft: Any, auth: Any) -> None:
        draft.filters["status"] = [None]

    with watched_logs():
        async with served(api) as url, await Socket.connected(url) as socket:
            for breaking in (
                broken,
                refuses,
                none,
                none_by_require,
                unknown,
                nonsense,
                wrong_type,
                no_dict,
                empty_in,
            ):
                breaks.append(breaking)
                answer = await socket.call("subscribe", {"resource": "posts"})
                error = answer["error"]
                assert error["code"] == "PERMISSION_DENIED", breaking
                assert set(error) == {"code", "message", "resource"}
                expected = "Not this one" if breaking is refuses else "You may not subscribe to"
                assert expected in error["message"]
                assert "secret" not in error["message"]
                entry = {"resource": "posts", "subscriptionId": "s"}
                answer = await socket.call("restore-subscriptions", {"subscriptions": [entry]})
                assert answer["restored"] == []
                assert answer["failed"][0]["error"]["code"] == "PERMISSION_DENIED"
            assert len(api.socket_server._matcher) == 0
            breaks.append(lambda draft, auth: None)
            await socket.assert_healthy()


async def test_a_filter_that_breaks_counts_as_no_match_and_harms_nobody() -> None:
    api = make_api(jwt_auth=True)
    api.use(SocketIOPlugin())

    def fragile(record: Any, value: Any) -> bool:
        if record["views"] == 13:
            raise RuntimeError("a secret of the implementation")
        return True

    api.add_resource(
        "posts",
        schema={"views": "integer"},
        search_schema={
            "fragile": {
                "type": "string",
                "filter_operator": lambda columns, value: columns.views % 9 >= 0,  # unreadable
                "filter_record": fragile,
            },
            "views": {},
        },
    )
    with watched_logs() as records:
        async with (
            served(api) as url,
            await Socket.connected(url) as broken,
            await Socket.connected(url) as whole,
        ):
            await broken.call("subscribe", {"resource": "posts", "filters": {"fragile": "x"}})
            await whole.call("subscribe", {"resource": "posts"})
            handles = api.resources.posts
            made = [(await handles.post({"views": views}))["id"] for views in (1, 13, 13, 2)]
            assert [(await whole.event("subscription.update"))["id"] for _ in made] == made
            heard = [(await broken.event("subscription.update"))["id"] for _ in range(2)]
            assert heard == [made[0], made[3]]
            await broken.assert_healthy()
    assert len(tracebacks(records)) == 1  # once for each filter, not for each change


async def test_a_permission_check_that_breaks_denies() -> None:
    api = live_api()

    def broken(context: Any) -> bool:
        raise RuntimeError("a secret of the implementation")

    api.add_resource("broken", schema={"name": "string"}, check_permissions=broken)
    with watched_logs():
        async with served(api) as url, await Socket.connected(url) as socket:
            answer = await socket.call("subscribe", {"resource": "broken"})
            assert answer["error"]["code"] == "PERMISSION_DENIED"
            assert "secret" not in str(answer)
            await socket.assert_healthy()


@pytest.mark.parametrize("place", ["clause", "no clause"])
async def test_a_clause_that_cannot_be_read_refuses(place: str) -> None:
    api = make_api(jwt_auth=True)
    api.use(SocketIOPlugin())

    class Strange(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("a secret of the implementation")

    api.add_resource(
        "posts",
        schema={"views": "integer"},
        search_schema={"views": {}},
        check_permissions=lambda context: True,
    )

    @api.hook("subscription_filters")
    def strange(context: Any) -> None:
        context.subscription.clauses.append(Strange(a=1) if place == "clause" else 5)

    with watched_logs() as records:
        async with served(api) as url, await Socket.connected(url) as socket:
            answer = await socket.call("subscribe", {"resource": "posts"})
            assert answer["error"]["code"] == "PERMISSION_DENIED"
            assert "secret" not in str(answer)
            assert (await socket.call("unsubscribe", {}))["error"]["code"]
    assert records


async def test_a_failing_internal_part_is_an_internal_error_with_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = live_api()
    with watched_logs() as records:
        async with served(api) as url, await Socket.connected(url) as socket:
            service = api.socket_server._service

            async def broken(*_: Any) -> None:
                raise RuntimeError("a secret of the implementation")

            monkeypatch.setattr(service, "subscribe", broken)
            answer = await socket.call("subscribe", {"resource": "posts"})
            monkeypatch.undo()
            await socket.assert_healthy()
    error = answer["error"]
    assert error["code"] == "INTERNAL_ERROR"
    (logged,) = tracebacks(records)
    assert error["message"].split()[-1] in logged
    assert "secret" not in error["message"]


async def test_python_s_own_permission_error_refuses_with_its_text() -> None:
    api = live_api()

    @api.hook("subscription_filters")
    def hook(context: Any) -> None:
        if context.subscription.requested_filters.get("status") == "named":
            raise PermissionError("Members only")
        raise PermissionError(13, "a secret of the implementation")

    async with served(api) as url, await Socket.connected(url) as socket:
        for status, told in (("named", "Members only"), ("x", "You may not subscribe to 'posts'")):
            request = {"resource": "posts", "filters": {"status": status}}
            error = (await socket.call("subscribe", request))["error"]
            assert error == {"code": "PERMISSION_DENIED", "message": told, "resource": "posts"}


async def test_a_filter_for_http_only_is_refused_by_its_name() -> None:
    api = make_api(jwt_auth=True)
    api.use(SocketIOPlugin())
    api.add_resource(
        "posts",
        schema={"views": "integer"},
        search_schema={
            "odd": {
                "type": "string",
                "filter_operator": lambda columns, value: columns.views.op("%")(2) == 1,
            }
        },
    )
    async with served(api) as url, await Socket.connected(url) as socket:
        request = {"resource": "posts", "filters": {"odd": "x"}}
        error = (await socket.call("subscribe", request))["error"]
        assert error["code"] == "UNSUPPORTED_FILTER"
        assert "'odd'" in error["message"]
        assert len(api.socket_server._matcher) == 0


async def test_an_event_that_nothing_handles_is_answered() -> None:
    async with served(live_api()) as url, await Socket.connected(url) as socket:
        for event, arguments in (("subscribed", ({},)), ("x" * 5000, ()), ("subscribe", ())):
            answer = await socket.call(event, *arguments)
            assert answer["error"]["code"] in ("UNKNOWN_EVENT", "INVALID_SUBSCRIPTION"), answer
