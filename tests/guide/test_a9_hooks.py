"""Checklist a9: what the guide's two plugins force on subscriptions, and what never leaks."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.guide.conftest import Connect
from tests.guide.kit import ADMIN, SECRET, Rest, summary, token, unique
from tests.support.node import NodeClient, SubscriptionRefused
from tests.support.server import serve
from tidings import (
    Api,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    SubscriptionContext,
)

pytestmark = pytest.mark.anyio


async def test_a9_86_the_hooks_run_for_every_subscribe_and_restore(connect_by: Connect, rest: Rest):
    user = unique("u")
    socket = await connect_by(token(user), auto_restore=False)
    first = await socket.subscribe("orders")
    second = await socket.subscribe("orders", filters={"status": "pending"})
    await socket.node.drop(hold=True, socket=socket.name)
    await socket.node.reconnect(socket=socket.name)
    assert len((await socket.node.restore(socket=socket.name))["restored"]) == 2
    third = await socket.subscribe("orders", subscriptionId="third")
    await rest.create("orders", customer_id="somebody-else")
    order = await rest.create("orders", customer_id=user)
    for data in (first, second, third):
        assert [told["id"] for told in await socket.updates(data, 1)] == [order]


async def test_a9_86_the_hooks_of_all_plugins_run(connect: Connect):
    """Both plugins have a hook; each limits its own resources, and neither the other's."""
    nobody_s = await connect(token(unique("u")))
    assert (await nobody_s.refused({"resource": "projects"}))["code"] == "PERMISSION_DENIED"
    await nobody_s.subscribe("orders")
    await nobody_s.subscribe("posts")


@pytest.mark.parametrize("workspace", [None, ""], ids=repr)
async def test_a9_87_without_a_workspace_projects_are_refused(connect_by: Connect, workspace):
    socket = await connect_by(token(workspace_id=workspace))
    error = await socket.refused({"resource": "projects", "filters": {"status": "active"}})
    assert error["code"] == "PERMISSION_DENIED"
    assert error["resource"] == "projects"
    # Admins need one too: the guide's hook makes no exception.
    socket = await connect_by(token(roles=("admin",), workspace_id=workspace))
    error = await socket.refused({"resource": "projects"})
    assert error["code"] == "PERMISSION_DENIED"


async def test_a9_87_the_workspace_is_forced(connect_by: Connect, rest: Rest):
    mine, theirs = unique("w"), unique("w")
    socket = await connect_by(token(workspace_id=mine))
    data = await socket.subscribe("projects", filters={"status": "active"})
    await rest.create("projects", status="active", workspace_id=theirs)
    await rest.create("projects", status="active")
    await rest.create("projects", status="archived", workspace_id=mine)
    moving = await rest.create("projects", status="active", workspace_id=mine)
    await rest.patch("projects", moving, workspace_id=theirs)
    await rest.patch("projects", moving, name="now a secret of theirs")
    await rest.patch("projects", moving, workspace_id=mine)
    assert summary(await socket.updates(data, 3)) == [
        ("resource.created", "post", "enter", moving),
        ("resource.updated", "patch", "leave", moving),
        ("resource.updated", "patch", "enter", moving),
    ]


async def test_a9_87_a_number_as_workspace_is_the_same_workspace(connect: Connect, rest: Rest):
    socket = await connect(token(workspace_id=77_001))
    data = await socket.subscribe("projects", filters={"workspace_id": "77001"})
    project = await rest.create("projects", workspace_id=77_001)
    assert [told["id"] for told in await socket.updates(data, 1)] == [project]


async def test_a9_87_asking_for_another_workspace_is_refused(connect_by: Connect):
    mine = unique("w")
    socket = await connect_by(token(workspace_id=mine))
    error = await socket.refused({"resource": "projects", "filters": {"workspace_id": unique("w")}})
    assert error["code"] == "PERMISSION_DENIED"
    assert error["message"] == "Cannot subscribe to other workspaces"
    await socket.subscribe("projects", filters={"workspace_id": mine})


@pytest.mark.parametrize(
    ("resource", "owner"), [("orders", "customer_id"), ("invoices", "user_id")]
)
async def test_a9_88_users_watch_only_their_own(connect_by: Connect, rest: Rest, resource, owner):
    mine, theirs = unique("u"), unique("u")
    socket = await connect_by(token(mine))
    boss = await connect_by(token(theirs, roles=("admin",)))
    data = await socket.subscribe(resource)
    everything = await boss.subscribe(resource)
    foreign = await rest.create(resource, **{owner: theirs})
    own = await rest.create(resource, **{owner: mine})
    await rest.patch(resource, own, **{owner: theirs})
    await rest.delete(resource, foreign)
    await rest.patch(resource, own, **{owner: mine})
    await rest.delete(resource, own)
    told = summary(await socket.updates(data, 4))
    assert [(action, change, record) for _, action, change, record in told] == [
        ("post", "enter", own),
        ("patch", "leave", own),
        ("patch", "enter", own),
        ("delete", "leave", own),
    ]
    assert len(await boss.updates(everything, 6)) == 6


async def test_a9_88_messages_are_those_one_sent_or_got(connect_by: Connect, rest: Rest):
    mine, theirs = unique("u"), unique("u")
    socket, boss = await connect_by(token(mine)), await connect_by(ADMIN)
    data = await socket.subscribe("messages")
    everything = await boss.subscribe("messages")
    unread = await socket.subscribe("messages", filters={"status": "unread"})
    await rest.create("messages", sender_id=theirs, recipient_id=theirs)
    sent = await rest.create("messages", sender_id=mine, recipient_id=theirs, status="read")
    got = await rest.create("messages", sender_id=theirs, recipient_id=mine)
    note = await rest.create("messages", sender_id=mine, recipient_id=mine)
    assert [told["id"] for told in await socket.updates(data, 3)] == [sent, got, note]
    assert [told["id"] for told in await socket.updates(unread, 2)] == [got, note]
    await boss.updates(everything, 4)


async def test_a9_88_asking_for_somebody_else_s_gives_nothing_of_theirs(
    connect_by: Connect, rest: Rest
):
    mine, theirs = unique("u"), unique("u")
    socket = await connect_by(token(mine))
    orders = await socket.subscribe("orders", filters={"customer_id": theirs})
    messages = await socket.subscribe("messages", filters={"sender_id": theirs})
    await rest.create("orders", customer_id=theirs)
    await rest.create("orders", customer_id=mine)
    await rest.create("messages", sender_id=theirs, recipient_id=theirs)
    got = await rest.create("messages", sender_id=theirs, recipient_id=mine)
    assert [told["id"] for told in await socket.updates(messages, 1)] == [got]
    assert await socket.told(orders) == []


async def test_a9_88_admin_logs_are_the_admins_on_both_faces(connect_by: Connect, rest: Rest):
    plain = token(unique("u"), roles=("editor",))
    log = await rest.create("admin-logs", message="x")
    error = await (await connect_by(plain)).refused({"resource": "admin-logs"})
    assert error["code"] == "PERMISSION_DENIED"
    for path in ("admin-logs", f"admin-logs/{log}"):
        assert (await rest.send("GET", path, auth=plain)).status_code == 403
    boss = await connect_by(ADMIN)
    data = await boss.subscribe("admin-logs", filters={"level": "error"})
    await rest.create("admin-logs", message="y")
    wanted = await rest.create("admin-logs", message="z", level="error")
    assert [told["id"] for told in await boss.updates(data, 1)] == [wanted]


async def test_a9_88_over_http_a_record_is_for_those_it_names(rest: Rest):
    mine, theirs = token("ann", workspace_id="wa"), token("bob", workspace_id="wb")
    owners = {
        "orders": {"customer_id": "ann"},
        "invoices": {"user_id": "ann"},
        "messages": {"sender_id": "ann", "recipient_id": "root"},
        "projects": {"workspace_id": "wa"},
    }
    for resource, attributes in owners.items():
        record = await rest.create(resource, auth=mine, **attributes)
        path = f"{resource}/{record}"
        data = {"type": resource, "id": record, "attributes": attributes | {"status": "x"}}
        for method, document in (
            ("GET", None),
            ("PATCH", {"data": data}),
            ("PUT", {"data": data}),
            ("DELETE", None),
        ):
            denied = await rest.send(method, path, document, auth=theirs)
            assert denied.status_code == 404, (method, path)
            assert (await rest.send(method, path, document, auth=None)).status_code == 401
        assert (await rest.send("GET", path, auth=mine)).status_code == 200
        assert (await rest.send("PATCH", path, {"data": data}, auth=mine)).status_code == 200
        assert (await rest.send("PUT", path, {"data": data}, auth=ADMIN)).status_code == 200
        assert (await rest.send("DELETE", path, auth=mine)).status_code == 204


async def test_a9_88_a_new_record_is_the_caller_s_unless_it_says_otherwise(rest: Rest):
    ann = token("ann", workspace_id="wa")
    filled = {"orders": "customer_id", "invoices": "user_id", "messages": "sender_id"}
    for resource, column in filled.items():
        record = await rest.create(resource, auth=ann)
        assert (await rest.get(resource, record, auth=ann))[column] == "ann"
    project = await rest.create("projects", auth=ann)
    assert (await rest.get("projects", project, auth=ann))["workspace_id"] == "wa"
    document = {"data": {"type": "orders", "attributes": {"customer_id": "bob"}}}
    assert (await rest.send("POST", "orders", document, auth=ann)).status_code == 403


async def test_a9_89_an_injected_condition_is_enforced_and_never_shown(
    connect_by: Connect, rest: Rest
):
    """``invoices.user_id`` is in no search schema: clients can neither name nor see it."""
    user = unique("u")
    socket = await connect_by(token(user), auto_restore=False)
    error = await socket.refused({"resource": "invoices", "filters": {"user_id": user}})
    assert error["details"]["user_id"]["code"] == "UNKNOWN_FIELD"
    data = await socket.subscribe("invoices", filters={"status": "open"})
    assert data["filters"] == {"status": "open"}
    await socket.node.drop(hold=True, socket=socket.name)
    await socket.node.reconnect(socket=socket.name)
    assert (await socket.node.restore(socket=socket.name))["restored"] == [data["subscriptionId"]]
    await rest.create("invoices", user_id=unique("u"))
    invoice = await rest.create("invoices", user_id=user)
    assert [told["id"] for told in await socket.updates(data, 1)] == [invoice]
    for event in await socket.events():
        if event.event != "connected":
            assert user not in json.dumps(event.args)


@pytest.mark.parametrize("name", ["$or", "$and", "$not", "$ne"])
async def test_a9_89_server_operators_are_not_for_clients(connect_by: Connect, name):
    socket = await connect_by(token("ann"))
    clause = [{"sender_id": "bob"}, {"recipient_id": "bob"}]
    error = await socket.refused({"resource": "messages", "filters": {name: clause}})
    assert error["code"] == "INVALID_FILTERS"
    assert error["details"][name]["code"] == "UNKNOWN_FIELD"


@pytest.mark.parametrize("claim", [None, [], {}, True], ids=repr)
async def test_a9_90_a_claim_that_is_no_value_refuses(connect_by: Connect, claim):
    payload = {} if claim is None else {"workspace_id": claim}
    socket = await connect_by(token(**payload))
    error = await socket.refused({"resource": "projects"})
    assert error["code"] == "PERMISSION_DENIED"
    answer = await socket.ask(
        "restore-subscriptions",
        {"subscriptions": [{"resource": "projects", "subscriptionId": "p"}]},
    )
    assert answer["failed"][0]["error"]["code"] == "PERMISSION_DENIED"


def blind_api(hook: Callable[[SubscriptionContext], None]) -> Api:
    """One resource with a workspace, and a hook as short as the guide's."""
    api = Api()
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource("notes", schema={"workspace_id": "id"})
    api.add_hook("subscription_filters", "hook", hook)
    return api


@pytest.mark.parametrize("claim", [None, {}, True, {"no such operator": 1}], ids=repr)
async def test_a9_90_a_hook_that_trusts_the_claim_blindly_fails_closed(claim):
    def isolate(context: SubscriptionContext) -> None:
        context.subscription.filters["workspace_id"] = context.auth.workspace_id

    api = blind_api(isolate)
    async with serve(api.asgi()) as url, NodeClient(url, transports="websocket") as node:
        await node.connect(token(workspace_id=claim))
        with pytest.raises(SubscriptionRefused, match="PERMISSION_DENIED"):
            await node.subscribe(resource="notes")
        await node.connect(token(workspace_id="w1"))
        await node.subscribe(resource="notes")


async def test_a9_94_a_refusal_tells_no_more_than_that(connect_by: Connect):
    """Neither a column, nor the condition, nor where in the code it was refused."""
    socket = await connect_by(token(workspace_id={"sql": "1=1"}))
    assert await socket.refused({"resource": "projects"}) == {
        "code": "PERMISSION_DENIED",
        "message": "User must belong to a workspace",
        "resource": "projects",
    }


async def test_a9_94_a_hook_s_own_mistake_is_told_in_a_fixed_text():
    def fail(context: SubscriptionContext) -> None:
        raise RuntimeError("SELECT secret FROM vault at /srv/app.py")

    api = blind_api(fail)
    async with serve(api.asgi()) as url, NodeClient(url, transports="websocket") as node:
        await node.connect(token())
        with pytest.raises(SubscriptionRefused) as caught:
            await node.subscribe(resource="notes")
    assert caught.value.error == {
        "code": "PERMISSION_DENIED",
        "message": "You may not subscribe to 'notes'",
        "resource": "notes",
    }


async def test_a9_95_no_value_of_a_record_is_in_any_frame(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    for resource in ("posts", "users", "products", "orders", "messages"):
        await socket.subscribe(resource)
    secret = unique("very-secret")
    post = await rest.create(
        "posts", title=secret, content=secret, status=secret, author_id=secret, summary=secret
    )
    await rest.patch("posts", post, content=secret + "!")
    await rest.create("users", name=secret)
    await rest.create("products", title=secret, price=98_765, tags=[secret], shared_with=[secret])
    order = await rest.create("orders", customer_id=secret, notes=secret)
    await rest.delete("orders", order)
    await rest.create("messages", body=secret, sender_id=secret, recipient_id=secret)
    await socket.wait("subscription.update", resource="messages")
    for event in await socket.events():
        assert secret not in json.dumps(event.args)
        assert "98765" not in json.dumps(event.args)
