"""Checklist a6 and a7: what is told, to whom, in which order, and only once it is committed."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from tests.guide.conftest import Connect
from tests.guide.kit import ADMIN, APP, Rest, Socket, summary, token, unique
from tests.support.node import NodeClient
from tests.support.server import run_server

pytestmark = pytest.mark.anyio

UPDATE_KEYS = {"type", "resource", "id", "action", "subscriptionId", "meta"}
META_KEYS = {"timestamp", "cursor", "change"}

# The rows of the wire contract's table.
CREATED = ("resource.created", "post")
REPLACED = ("resource.updated", "update")
PATCHED = ("resource.updated", "patch")
DELETED = ("resource.deleted", "delete")


async def test_a6_50_the_payload_has_the_documented_members_and_no_other(
    connect_by: Connect, rest: Rest
):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    post = await rest.create("posts", title="secret title", content="x", author_id=author)
    await rest.put("posts", post, title="secret title", author_id=author)
    await rest.patch("posts", post, content="secret content")
    await rest.delete("posts", post)
    for update in await socket.updates(data, 4):
        assert set(update) == UPDATE_KEYS
        assert set(update["meta"]) == META_KEYS
        assert (update["resource"], update["subscriptionId"]) == ("posts", data["subscriptionId"])
        assert "secret" not in json.dumps(update)


async def test_a6_51_the_id_is_a_string_in_every_action(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    post = await rest.create("posts", title="x", author_id=author)
    await rest.patch("posts", post, title="y")
    await rest.delete("posts", post)
    assert {update["id"] for update in await socket.updates(data, 3)} == {post}
    assert isinstance(post, str)


async def test_a6_51_ids_that_clients_chose_arrive_as_they_are(connect: Connect, rest: Rest):
    socket = await connect()
    users = await socket.subscribe("users")
    for chosen in (unique("ada:1"), unique('quo"te\\'), unique("é/ü ñ"), unique("007")):
        document = {"data": {"type": "users", "id": chosen, "attributes": {"name": "x"}}}
        assert (await rest.send("POST", "users", document)).status_code == 201
        await socket.wait("subscription.update", id=chosen)
    assert len(await socket.told(users)) == 4


async def test_a6_52_the_timestamp_is_utc_with_z(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    await rest.create("posts", title="x", author_id=author)
    [update] = await socket.updates(data, 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", update["meta"]["timestamp"])
    assert re.fullmatch(r"[a-z0-9]+\.\d+", update["meta"]["cursor"])


async def test_a6_53_every_row_of_the_action_table(connect_by: Connect, rest: Rest):
    """POST; PUT that creates; PUT that replaces; PATCH; DELETE."""
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    post = await rest.create("posts", title="x", author_id=author)
    put = str(int(post) + 1)
    assert await rest.put("posts", put, title="x", author_id=author) == 201
    assert await rest.put("posts", post, title="y", author_id=author) == 200
    await rest.patch("posts", post, title="z")
    await rest.delete("posts", post)
    await rest.delete("posts", put)
    assert summary(await socket.updates(data, 6)) == [
        (*CREATED, "enter", post),
        (*CREATED, "enter", put),
        (*REPLACED, "update", post),
        (*PATCHED, "update", post),
        (*DELETED, "leave", post),
        (*DELETED, "leave", put),
    ]


async def test_a6_53_the_guide_s_handlers_sort_every_action(connect: Connect, rest: Rest):
    socket = await connect()
    author = unique("author")
    await socket.subscribe("posts", filters={"author_id": author})
    post = await rest.create("posts", title="x", author_id=author)
    await rest.put("posts", post, title="y", author_id=author)
    await rest.patch("posts", post, title="z")
    await rest.delete("posts", post)
    handled = await socket.wait("handled", count=4)
    assert [event.args[0] for event in handled] == ["new", "updated", "updated", "deleted"]


async def test_a6_54_the_payload_is_under_200_bytes():
    """For names of ordinary length and ids that databases number; its own server numbers from 1."""
    async with (
        run_server(APP) as server,
        NodeClient(server.url, transports="websocket") as node,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        await node.connect(ADMIN)
        for resource in ("posts", "orders", "products", "projects", "invoices", "messages"):
            await node.subscribe(resource=resource)
            values = {"title": "x", "author_id": "1"} if resource == "posts" else {"status": "x"}
            record = await Rest(http).create(resource, **values)
            await Rest(http).put(resource, record, **values)  # has the longest row of the table
            match = {"resource": resource}
            for told in await node.wait("subscription.update", count=2, match=match):
                compact = json.dumps(told.data, separators=(",", ":"), ensure_ascii=False)
                assert len(compact.encode()) < 200, compact


async def test_a6_55_only_matching_subscriptions_are_told_once_each(
    connect_by: Connect, rest: Rest
):
    author = unique("author")
    first, second, stranger = await connect_by(), await connect_by(), await connect_by()
    one = await first.subscribe("posts", filters={"author_id": author})
    two = await first.subscribe("posts", filters={"author_id": author, "status": "published"})
    three = await first.subscribe("posts", filters={"author_id": author, "status": "draft"})
    four = await second.subscribe("posts", filters={"author_id": author})
    other = await stranger.subscribe("posts", filters={"author_id": unique("author")})
    users = await stranger.subscribe("users")
    post = await rest.create("posts", title="x", author_id=author, status="published")
    user = await rest.create("users", name="marker")
    for socket, data in ((first, one), (first, two), (second, four)):
        [update] = await socket.updates(data, 1)
        assert update["id"] == post
    assert [told["id"] for told in await stranger.updates(users, 1)] == [user]
    assert await stranger.told(other) == []
    # The same connection has had what came after, so nothing is on its way to these two.
    await first.subscribe("users", subscriptionId="marker")
    await rest.create("users", name="another marker")
    await first.updates({"subscriptionId": "marker"}, 1)
    assert await first.told(three) == []


async def test_a6_56_related_records_made_in_any_order_notify_their_own_resource(
    connect: Connect, rest: Rest
):
    socket = await connect()
    author = unique("author")
    posts = await socket.subscribe("posts", filters={"author_id": author})
    post = await rest.create("posts", title="x", author_id=author)
    comments = await socket.subscribe("comments", filters={"post_id": post})
    comment = await rest.create("comments", body="first", post_id=post, user_id=author)
    await rest.create("users", name="the author")
    assert summary(await socket.updates(comments, 1)) == [(*CREATED, "enter", comment)]
    assert summary(await socket.updates(posts, 1)) == [(*CREATED, "enter", post)]


async def test_a6_56_a_relationship_that_is_changed_notifies(connect: Connect, rest: Rest):
    socket = await connect()
    ann, bob = unique("ann"), unique("bob")
    anns = await socket.subscribe("posts", filters={"author_id": ann})
    bobs = await socket.subscribe("posts", filters={"author_id": bob})
    post = await rest.create("posts", title="x", author_id=ann)
    linkage = {"author": {"data": {"type": "users", "id": bob}}}
    document = {"data": {"type": "posts", "id": post, "relationships": linkage}}
    assert (await rest.send("PATCH", f"posts/{post}", document)).status_code == 200
    assert summary(await socket.updates(bobs, 1)) == [(*PATCHED, "enter", post)]
    assert summary(await socket.updates(anns, 2)) == [
        (*CREATED, "enter", post),
        (*PATCHED, "leave", post),
    ]


async def test_a6_57_a_failed_write_tells_nobody(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    logs = await socket.subscribe("admin-logs")
    post = await rest.create("posts", title="x", author_id=author)

    def document(**data: object) -> dict[str, object]:
        return {"data": {"type": "posts", **data}}

    attempts = [
        (422, "POST", "posts", document(attributes={"author_id": author}), ADMIN),
        (
            422,
            "POST",
            "posts",
            document(attributes={"title": "x", "author_id": author, "y": 1}),
            ADMIN,
        ),
        (401, "POST", "posts", document(attributes={"title": "x", "author_id": author}), None),
        (
            409,
            "POST",
            "posts",
            document(id=post, attributes={"title": "x", "author_id": author}),
            ADMIN,
        ),
        (422, "PATCH", f"posts/{post}", document(id=post, attributes={"title": None}), ADMIN),
        (409, "PATCH", f"posts/{post}", document(id="5", attributes={"title": "y"}), ADMIN),
        (401, "DELETE", f"posts/{post}", None, None),
        (404, "DELETE", "posts/99999999", None, ADMIN),
        (
            403,
            "POST",
            "admin-logs",
            {"data": {"type": "admin-logs", "attributes": {"message": "x"}}},
            token(),
        ),
    ]
    for status, method, path, body, auth in attempts:
        answer = await rest.send(method, path, body, auth=auth)
        assert answer.status_code == status, (method, path, answer.text)
    await rest.patch("posts", post, title="marker")
    assert summary(await socket.updates(data, 2))[1] == (*PATCHED, "update", post)
    assert await socket.told(logs) == []


async def test_a6_58_a_fetch_on_receipt_sees_what_was_committed(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    await socket.subscribe("posts", filters={"author_id": author})
    post = await rest.create("posts", title="0", author_id=author)
    for number in range(1, 15):
        writing = asyncio.create_task(rest.patch("posts", post, title=str(number)))
        # The notification may well be here before the writer has its answer.
        await socket.wait("subscription.update", count=number + 1, id=post)
        assert (await rest.get("posts", post))["title"] == str(number)
        await writing
    deleting = asyncio.create_task(rest.delete("posts", post))
    await socket.wait("subscription.update", id=post, action="delete")
    assert (await rest.send("GET", f"posts/{post}")).status_code == 404
    await deleting


async def test_a6_59_the_order_is_that_of_the_commits(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    one = await socket.subscribe("posts", filters={"author_id": author})
    two = await socket.subscribe("posts", filters={"author_id": author, "view_count": 10})
    posts = [await rest.create("posts", title="x", author_id=author) for _ in range(5)]
    expected = [("post", post) for post in posts]
    for count in (5, 20, 30, 7):
        for post in posts:
            await rest.patch("posts", post, view_count=count)
            expected.append(("patch", post))
    told = await socket.updates(one, len(expected))
    assert [(update["action"], update["id"]) for update in told] == expected
    changes = [update["meta"]["change"] for update in await socket.updates(two, 15)]
    assert changes == ["enter"] * 5 + ["update"] * 5 + ["leave"] * 5
    offsets = [
        int(event.data["meta"]["cursor"].split(".")[1])
        for event in await socket.events("subscription.update")
    ]
    assert offsets == sorted(offsets)


async def test_a6_59_concurrent_writers_are_told_in_one_order_to_all(
    connect_by: Connect, rest: Rest
):
    one, other = await connect_by(), await connect_by()
    author = unique("author")
    data = [await s.subscribe("posts", filters={"author_id": author}) for s in (one, other)]
    post = await rest.create("posts", title="x", author_id=author)

    async def write(number: int) -> None:
        await rest.patch("posts", post, view_count=number)
        await rest.create("posts", title="x", author_id=author)

    await asyncio.gather(*(write(number) for number in range(20)))
    first = await one.updates(data[0], 41)
    second = await other.updates(data[1], 41)
    assert summary(first) == summary(second)
    assert [u["meta"]["cursor"] for u in first] == [u["meta"]["cursor"] for u in second]


async def test_a6_60_a_dead_subscriber_does_not_keep_the_others_waiting(
    connect_by: Connect, rest: Rest
):
    dead, live = await connect_by(), await connect_by()
    author = unique("author")
    filters = {"author_id": author}
    await dead.subscribe("posts", filters=filters)
    data = await live.subscribe("posts", filters=filters)
    await dead.node.drop(hold=True, socket=dead.name)  # without a word to the server
    for _ in range(50):
        await rest.create("posts", title="x", author_id=author)
    await live.updates(data, 50)


async def test_a6_60_a_subscriber_that_leaves_in_the_middle_harms_nobody(
    connect: Connect, rest: Rest
):
    author = unique("author")
    stay = await connect()
    data = await stay.subscribe("posts", filters={"author_id": author})

    async def come_and_go() -> None:
        for _ in range(10):
            guest: Socket = await connect()
            await guest.subscribe("posts", filters={"author_id": author})
            await guest.node.disconnect(socket=guest.name)

    async def write() -> None:
        for _ in range(60):
            await rest.create("posts", title="x", author_id=author)

    await asyncio.gather(come_and_go(), write())
    await stay.updates(data, 60)


async def test_a6_62_enter_update_and_leave(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    filters = {"author_id": author, "status": "published", "view_count": 100}
    data = await socket.subscribe("posts", filters=filters)
    post = await rest.create("posts", title="x", author_id=author, status="published")  # outside
    await rest.patch("posts", post, view_count=100)  # not greater: outside
    await rest.patch("posts", post, view_count=101)  # enters
    await rest.patch("posts", post, title="y")  # stays
    await rest.patch("posts", post, status="draft")  # leaves
    await rest.patch("posts", post, title="z")  # outside
    await rest.put(
        "posts", post, title="z", author_id=author, status="published", view_count=500
    )  # enters
    await rest.put("posts", post, title="z", author_id=author, status="published")  # leaves
    await rest.patch("posts", post, view_count=1000)  # enters
    await rest.delete("posts", post)  # leaves
    assert summary(await socket.updates(data, 7)) == [
        (*PATCHED, "enter", post),
        (*PATCHED, "update", post),
        (*PATCHED, "leave", post),
        (*REPLACED, "enter", post),
        (*REPLACED, "leave", post),
        (*PATCHED, "enter", post),
        (*DELETED, "leave", post),
    ]


async def test_a6_62_a_delete_outside_the_filter_is_not_told(connect: Connect, rest: Rest):
    socket = await connect()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author, "status": "published"})
    draft = await rest.create("posts", title="x", author_id=author)
    await rest.delete("posts", draft)
    post = await rest.create("posts", title="marker", author_id=author, status="published")
    assert summary(await socket.updates(data, 1)) == [(*CREATED, "enter", post)]


async def test_a7_63_a_write_that_is_rolled_back_is_never_told(connect: Connect, rest: Rest):
    """Through HTTP each request is a transaction; one that fails at its end is rolled back."""
    socket = await connect()
    users = await socket.subscribe("users")
    taken = unique("user")
    document = {"data": {"type": "users", "id": taken, "attributes": {"name": "x"}}}
    assert (await rest.send("POST", "users", document)).status_code == 201
    for _ in range(3):  # the database refuses the insert itself
        assert (await rest.send("POST", "users", document)).status_code == 409
    marker = await rest.create("users", name="marker")
    assert [told["id"] for told in await socket.updates(users, 2)] == [taken, marker]


async def test_a7_64_the_write_s_own_transaction_has_ended_before_anybody_is_told(
    connect: Connect, rest: Rest
):
    """Another connection sees the record, and may write it, at the moment of the notification."""
    socket = await connect()
    author = unique("author")
    data = await socket.subscribe("posts", filters={"author_id": author})
    for number in range(1, 20, 2):
        making = asyncio.create_task(rest.create("posts", title="x", author_id=author))
        post = (await socket.updates(data, number))[-1]["id"]
        await rest.patch("posts", post, title="at once")
        await socket.updates(data, number + 1)
        assert await making == post
