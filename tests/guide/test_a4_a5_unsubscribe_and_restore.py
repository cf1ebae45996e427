"""Checklist a4 and a5: ending subscriptions, and making them again after a reconnect."""

from __future__ import annotations

import pytest

from tests.guide.conftest import Connect
from tests.guide.kit import ADMIN, Rest, Socket, summary, token, unique

pytestmark = pytest.mark.anyio


async def test_a4_43_only_the_named_subscription_ends(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    ended = await socket.subscribe("posts", filters={"author_id": author})
    kept = await socket.subscribe("posts", filters={"author_id": author}, subscriptionId="kept")
    other = await socket.subscribe("posts", filters={"author_id": author, "status": "x"})
    await rest.create("posts", title="1", author_id=author, status="x")
    for data in (ended, kept, other):
        await socket.updates(data, 1)
    assert await socket.node.unsubscribe(ended["subscriptionId"], socket=socket.name) == {
        "success": True
    }
    await rest.create("posts", title="2", author_id=author, status="x")
    await socket.updates(kept, 2)
    await socket.updates(other, 2)
    assert len(await socket.told(ended)) == 1


async def test_a4_43_nothing_comes_after_the_ack_however_busy_it_is(
    connect_by: Connect, rest: Rest
):
    socket = await connect_by()
    author = unique("author")
    marker = await socket.subscribe("posts", filters={"author_id": author}, subscriptionId="kept")
    data = await socket.subscribe("posts", filters={"author_id": author})
    for _ in range(10):
        await rest.create("posts", title="x", author_id=author)
    await socket.ask("unsubscribe", {"subscriptionId": data["subscriptionId"]})
    for _ in range(10):
        await rest.create("posts", title="x", author_id=author)
    await socket.updates(marker, 20)
    events = await socket.events()
    [acked] = [event.seq for event in events if event.args[:1] == ["unsubscribe"]]
    later = [event for event in events if event.seq > acked]
    assert {event.data["subscriptionId"] for event in later if event.event.endswith("update")} == {
        "kept"
    }


async def test_a4_44_the_errors_of_unsubscribe(connect_by: Connect):
    socket = await connect_by()
    for payload in ({}, {"subscriptionId": ""}, {"subscriptionId": None}, {"subscriptionId": 5}):
        answer = await socket.ask("unsubscribe", payload)
        assert answer["error"]["code"] == "MISSING_SUBSCRIPTION_ID", payload
    for payload in (None, [], "posts-1", 5):
        answer = await socket.ask("unsubscribe", payload)
        assert answer["error"]["code"] == "MISSING_SUBSCRIPTION_ID", payload
    for wrong in ("nope", "__proto__", "x" * 1000):
        answer = await socket.ask("unsubscribe", {"subscriptionId": wrong})
        assert answer["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"
    data = await socket.subscribe("posts")
    ended = {"subscriptionId": data["subscriptionId"]}
    assert await socket.ask("unsubscribe", ended) == {"success": True}
    assert (await socket.ask("unsubscribe", ended))["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"


async def test_a4_44_it_works_without_an_ack_function(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    await socket.say("unsubscribe", {"subscriptionId": data["subscriptionId"]})
    marker = await socket.subscribe("posts", filters={"author_id": author}, subscriptionId="kept")
    await rest.create("posts", title="x", author_id=author)
    await socket.updates(marker, 1)
    assert await socket.told(data) == []


async def restore(socket: Socket, entries: object) -> dict[str, object]:
    return await socket.ask("restore-subscriptions", {"subscriptions": entries})


async def test_a5_45_the_ack_has_success_restored_and_failed(connect_by: Connect):
    socket = await connect_by()
    stored = await socket.subscribe("posts")
    fresh = await connect_by()
    answer = await restore(fresh, [stored, {"resource": "nowhere", "subscriptionId": "n"}])
    assert set(answer) == {"success", "restored", "failed"}
    assert answer["success"] is True
    assert answer["restored"] == [stored["subscriptionId"]]
    [failed] = answer["failed"]
    assert set(failed) == {"subscriptionId", "error"}
    assert failed["subscriptionId"] == "n"
    assert failed["error"]["code"] == "RESOURCE_NOT_FOUND"


async def test_a5_45_nothing_to_restore_is_success(connect: Connect):
    assert await restore(await connect(), []) == {"success": True, "restored": [], "failed": []}


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"subscriptions": {"a": 1}}], ids=repr)
async def test_a5_45_without_an_array_it_is_invalid_data(connect: Connect, payload):
    answer = await (await connect()).ask("restore-subscriptions", payload)
    assert set(answer) == {"error"}
    assert answer["error"]["code"] == "INVALID_DATA"


async def test_a5_46_what_subscription_created_gave_restores_unchanged(
    connect_by: Connect, rest: Rest
):
    user, workspace = unique("u"), unique("w")
    given = token(user, workspace_id=workspace)
    socket = await connect_by(given, auto_restore=False)
    wanted = [
        ("posts", {"filters": {"author_id": user, "view_count": "5"}, "include": ["author"]}),
        ("posts", {"fields": {"posts": ["title"]}, "filters": {"author_id": user}}),
        ("products", {"filters": {"near_location": {"lat": 1, "lng": 2}, "status": user}}),
        ("products", {"filters": {"created_at": ["2024-01-01", "2024-12-31"], "status": user}}),
        ("projects", {"filters": {"status": "active"}}),
        ("orders", {}),
        ("invoices", {"subscriptionId": "my invoices"}),
        ("messages", {}),
    ]
    for resource, options in wanted:
        await socket.subscribe(resource, **options)
    stored = await socket.node.subscriptions(socket=socket.name)
    assert len(stored) == len(wanted)

    await socket.node.drop(hold=True, socket=socket.name)
    await socket.node.reconnect(socket=socket.name)
    answer = await socket.node.restore(socket=socket.name)
    assert answer == {
        "success": True,
        "restored": [entry["subscriptionId"] for entry in stored],
        "failed": [],
    }
    # The same filters, includes and fields as before, under the same ids.
    again = {
        entry["subscriptionId"]: entry
        for entry in await socket.node.subscriptions(socket=socket.name)
    }
    for entry in stored:
        assert {**again[entry["subscriptionId"]], "cursor": ""} == {**entry, "cursor": ""}

    # And the same meaning, what the server's hooks require included.
    await rest.create("projects", workspace_id="somebody-else-s")
    await rest.create("orders", customer_id="somebody-else")
    await rest.create("invoices", user_id="somebody-else")
    await rest.create("messages", sender_id="x", recipient_id="y")
    await rest.create("posts", title="x", author_id=user, view_count=5)
    made = [
        await rest.create("posts", title="x", author_id=user, view_count=6),
        await rest.create(
            "products", latitude=1, longitude=2, status=user, created_at="2024-12-31T23:59:59Z"
        ),
        await rest.create("projects", workspace_id=workspace),
        await rest.create("orders", customer_id=user),
        await rest.create("invoices", user_id=user),
        await rest.create("messages", sender_id="x", recipient_id=user),
    ]
    await socket.wait("subscription.update", resource="messages", id=made[-1])
    told = [event.data for event in await socket.events("subscription.update")]
    seen: dict[str, set[str]] = {}
    for update in told:
        seen.setdefault(update["subscriptionId"], set()).add(update["id"])
    found = [seen[entry["subscriptionId"]] for entry in stored]
    assert found[0] == {made[0]}
    assert made[0] in found[1]
    assert len(found[1]) == 2
    assert found[2:] == [{made[1]}, {made[1]}, {made[2]}, {made[3]}, {made[4]}, {made[5]}]


async def test_a5_46_the_guide_s_handlers_restore_by_themselves(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    await socket.node.drop(socket=socket.name)
    await socket.wait("connected", count=2)
    acks = await socket.wait("ack", count=2)
    assert acks[-1].args == [
        "restore-subscriptions",
        {"success": True, "restored": [data["subscriptionId"]], "failed": []},
    ]
    post = await rest.create("posts", title="x", author_id=author)
    [told] = await socket.updates(data, 1)
    assert told["id"] == post


async def test_a5_47_ids_are_kept(connect: Connect):
    socket = await connect()
    answer = await restore(
        socket,
        [
            {"resource": "posts", "subscriptionId": "posts-12345-abc"},
            {"resource": "posts", "subscriptionId": "é"},
        ],
    )
    assert answer["restored"] == ["posts-12345-abc", "é"]
    assert await socket.ask("unsubscribe", {"subscriptionId": "é"}) == {"success": True}


async def test_a5_47_every_entry_goes_the_way_of_a_subscribe(connect_by: Connect, rest: Rest):
    """What the client stored is not trusted, and one bad entry does not touch the others."""
    user = unique("u")
    socket = await connect_by(token(user, workspace_id=user))
    bad = [
        ({"resource": "secret-documents", "subscriptionId": "b1"}, "PERMISSION_DENIED"),
        ({"resource": "admin-logs", "subscriptionId": "b2"}, "PERMISSION_DENIED"),
        ({"resource": "posts", "subscriptionId": "b3", "filters": {"x": 1}}, "INVALID_FILTERS"),
        (
            {"resource": "projects", "subscriptionId": "b4", "filters": {"workspace_id": "no"}},
            "PERMISSION_DENIED",
        ),
        (
            {"resource": "invoices", "subscriptionId": "b5", "filters": {"user_id": user}},
            "INVALID_FILTERS",
        ),
        ({"resource": "posts", "subscriptionId": "b6", "include": ["x"]}, "INVALID_INCLUDE"),
        ({"resource": "posts", "subscriptionId": "b7", "extra": 1}, "UNSUPPORTED_OPTION"),
        ({"resource": "posts"}, "INVALID_SUBSCRIPTION_ID"),
        (None, "INVALID_SUBSCRIPTION"),
        ("posts", "INVALID_SUBSCRIPTION"),
    ]
    entries: list[object] = [entry for entry, _ in bad]
    entries.insert(5, {"resource": "orders", "subscriptionId": "good", "status": "active"})
    answer = await restore(socket, entries)
    assert answer["restored"] == ["good"]
    assert [failed["error"]["code"] for failed in answer["failed"]] == [code for _, code in bad]
    assert [failed["subscriptionId"] for failed in answer["failed"]] == [
        entry.get("subscriptionId") if isinstance(entry, dict) else None for entry, _ in bad
    ]
    await rest.create("orders", customer_id="somebody-else")
    order = await rest.create("orders", customer_id=user)
    [told] = await socket.updates({"subscriptionId": "good"}, 1)
    assert told["id"] == order


async def test_a5_47_another_user_s_stored_entry_gives_only_one_s_own(connect: Connect, rest: Rest):
    theirs, mine = unique("u"), unique("u")
    stored = await (await connect(token(theirs))).subscribe("orders")
    socket = await connect(token(mine))
    assert (await restore(socket, [stored]))["restored"] == [stored["subscriptionId"]]
    await rest.create("orders", customer_id=theirs)
    order = await rest.create("orders", customer_id=mine)
    [told] = await socket.updates(stored, 1)
    assert told["id"] == order


async def test_a5_48_an_active_equal_one_is_restored_and_not_doubled(
    connect_by: Connect, rest: Rest
):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author}, include=["author"])
    for _ in range(2):
        assert (await restore(socket, [data]))["restored"] == [data["subscriptionId"]]
    post = await rest.create("posts", title="x", author_id=author)
    await rest.patch("posts", post, title="y")
    assert summary(await socket.updates(data, 2)) == [
        ("resource.created", "post", "enter", post),
        ("resource.updated", "patch", "update", post),
    ]


async def test_a5_48_an_active_one_with_other_content_fails(connect: Connect):
    socket = await connect()
    data = await socket.subscribe("posts", filters={"status": "a"}, include=["author"])
    for changed in (
        {"filters": {"status": "b"}},
        {"filters": {}},
        {"include": []},
        {"fields": {"posts": ["title"]}},
        {"resource": "products"},
    ):
        answer = await restore(socket, [{**data, "include": [], **changed}])
        assert answer["restored"] == []
        assert answer["failed"][0]["error"]["code"] == "SUBSCRIPTION_EXISTS"
    # The active one is as it was.
    assert (await restore(socket, [data]))["restored"] == [data["subscriptionId"]]


async def test_a5_49_who_missed_something_is_told_after_the_ack(connect_by: Connect, rest: Rest):
    """By what was missed, or by one resync for each subscription; never by silence."""
    socket = await connect_by(auto_restore=False)
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    await socket.node.drop(hold=True, socket=socket.name)
    post = await rest.create("posts", title="missed", author_id=author)
    await socket.node.reconnect(socket=socket.name)
    await socket.node.clear(socket=socket.name)
    await socket.node.restore(socket=socket.name)
    marker = await socket.subscribe("posts", filters={"author_id": author}, subscriptionId="later")
    events = await socket.events()
    names = [event.event for event in events]
    news = [
        event
        for event in events
        if event.event in ("subscription.update", "subscription.resync")
        and event.data["subscriptionId"] == data["subscriptionId"]
    ]
    assert len(news) == 1
    assert news[0].seq > events[names.index("ack")].seq
    if news[0].event == "subscription.update":
        assert news[0].data["id"] == post
    else:
        assert set(news[0].data) == {"subscriptionId", "resource", "reason", "cursor"}
    later = await rest.create("posts", title="seen", author_id=author)
    assert [told["id"] for told in await socket.updates(marker, 1)] == [later]


async def test_a5_49_who_missed_nothing_is_told_nothing(connect: Connect):
    socket = await connect(auto_restore=False)
    data = await socket.subscribe("posts", filters={"author_id": unique("author")})
    await socket.node.drop(hold=True, socket=socket.name)
    await socket.node.reconnect(socket=socket.name)
    await socket.node.restore(socket=socket.name)
    await socket.subscribe("posts", subscriptionId="marker")
    told = [
        *await socket.events("subscription.resync"),
        *await socket.events("subscription.update"),
    ]
    assert told == []
    assert data["status"] == "active"


async def test_a5_49_a_cursor_of_another_history_gives_resync(connect: Connect):
    socket = await connect()
    entry = {"resource": "posts", "subscriptionId": "old", "cursor": "zzzzzz.5"}
    assert (await restore(socket, [entry]))["restored"] == ["old"]
    [resync] = await socket.wait("subscription.resync")
    assert resync.data["reason"] == "epoch"
    assert resync.data["subscriptionId"] == "old"


async def test_a5_49_the_list_is_bounded(connect: Connect):
    socket = await connect(ADMIN)
    entries = [{"resource": "posts", "subscriptionId": f"s{number}"} for number in range(500)]
    answer = await restore(socket, entries)
    assert len(answer["restored"]) == 100
    assert len(answer["failed"]) == 400
