"""Checklist a3: subscribing, its answer, and everything that is refused."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.guide.conftest import Connect
from tests.guide.kit import ADMIN, Rest, Socket, summary, token, unique
from tests.support.node import SubscriptionRefused

pytestmark = pytest.mark.anyio

DATA_KEYS = {"subscriptionId", "resource", "filters", "include", "fields", "status", "cursor"}


async def test_a3_21_every_member_of_the_request_is_accepted(connect_by: Connect):
    socket = await connect_by()
    data = await socket.subscribe(
        "posts",
        filters={"status": "published"},
        include=["author", "comments.user"],
        fields={
            "posts": ["title", "summary", "published_at"],
            "users": ["name", "avatar"],
            "comments": ["body", "created_at"],
        },
        subscriptionId="my own id",
        cursor=(await socket.wait("connected"))[0].data["cursor"],
    )
    assert data["subscriptionId"] == "my own id"
    assert data["include"] == ["author", "comments.user"]
    assert data["fields"]["users"] == ["name", "avatar"]


async def test_a3_22_the_ack_is_success_and_data(connect_by: Connect):
    socket = await connect_by()
    answer = await socket.ask("subscribe", {"resource": "posts", "filters": {"view_count": 100}})
    assert set(answer) == {"success", "data"}
    assert answer["success"] is True
    assert set(answer["data"]) == DATA_KEYS
    assert {**answer["data"], "subscriptionId": "?", "cursor": "?"} == {
        "subscriptionId": "?",
        "resource": "posts",
        "filters": {"view_count": 100},
        "include": [],
        "fields": {},
        "status": "active",
        "cursor": "?",
    }


async def test_a3_23_a_failure_s_ack_is_error_and_the_event_has_the_same(connect_by: Connect):
    socket = await connect_by()
    answer = await socket.ask("subscribe", {"resource": "posts", "filters": {"nope": 1}})
    assert set(answer) == {"error"}
    [event] = await socket.wait("subscription.error")
    assert event.data == answer["error"]


async def test_a3_24_subscription_created_carries_the_data_of_the_ack(connect_by: Connect):
    socket = await connect_by()
    answer = await socket.ask("subscribe", {"resource": "posts"})
    [created] = await socket.wait("subscription.created")
    assert created.data == answer["data"]
    names = [event.event for event in await socket.events()]
    assert names.count("ack") == names.count("subscription.created") == 1


async def test_a3_24_without_an_ack_function_the_events_come_alone(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    await socket.say("subscribe", {"resource": "posts", "filters": {"author_id": author}})
    [created] = await socket.wait("subscription.created")
    assert set(created.data) == DATA_KEYS
    await rest.create("posts", title="x", author_id=author)
    await socket.updates(created.data, 1)
    await socket.say("subscribe", {"resource": "nowhere"})
    [error] = await socket.wait("subscription.error")
    assert error.data["code"] == "RESOURCE_NOT_FOUND"
    assert await socket.events("ack") == []


async def test_a3_25_the_error_is_flat_with_resource_and_details(connect_by: Connect):
    socket = await connect_by()
    await socket.say("subscribe", {"resource": "posts", "filters": {"invalid_field": "value"}})
    [error] = await socket.wait("subscription.error")
    assert error.data == {
        "code": "INVALID_FILTERS",
        "message": "Invalid filter values",
        "resource": "posts",
        "details": {
            "invalid_field": {
                "code": "UNKNOWN_FIELD",
                "message": "Field not defined in searchSchema",
            }
        },
    }


async def test_a3_26_made_ids_begin_with_the_resource_and_are_unique_on_the_socket(
    connect: Connect,
):
    socket = await connect()
    made = [await socket.subscribe("posts") for _ in range(3)]
    made.append(await socket.subscribe("posts", filters={"status": "x"}))
    ids = [data["subscriptionId"] for data in made]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"posts-[a-z2-7]{5}(-\d+)?", found) for found in ids), ids


async def test_a3_26_equal_subscriptions_of_one_socket_each_get_the_notification(
    connect: Connect, rest: Rest
):
    socket = await connect()
    author = unique("author")
    both = [await socket.subscribe("posts", filters={"author_id": author}) for _ in range(2)]
    await rest.create("posts", title="x", author_id=author)
    for data in both:
        await socket.updates(data, 1)


@pytest.mark.parametrize("bad", ["", 5, [], {}, "x" * 201, True], ids=repr)
async def test_a3_26_a_chosen_id_must_be_a_short_string(connect: Connect, bad):
    socket = await connect()
    error = await socket.refused({"resource": "posts", "subscriptionId": bad})
    assert error["code"] == "INVALID_SUBSCRIPTION_ID"


async def test_a3_26_a_chosen_id_is_unique_on_its_socket_only(connect: Connect):
    one, other = await connect(), await connect()
    await one.subscribe("posts", subscriptionId="mine")
    error = await one.refused({"resource": "users", "subscriptionId": "mine"})
    assert error["code"] == "SUBSCRIPTION_EXISTS"
    assert (await other.subscribe("users", subscriptionId="mine"))["subscriptionId"] == "mine"


async def test_a3_27_many_subscriptions_live_side_by_side(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author, customer = unique("author"), unique("customer")
    drafts = await socket.subscribe("posts", filters={"author_id": author, "status": "draft"})
    seen = await socket.subscribe("posts", filters={"author_id": author, "view_count": 10})
    pending = await socket.subscribe("orders", filters={"customer_id": customer})
    urgent = await socket.subscribe(
        "orders", filters={"customer_id": customer, "status": "processing", "priority": "high"}
    )
    stock = await socket.subscribe("products", filters={"category_id": 5, "in_stock": True})

    both = await rest.create("posts", title="x", author_id=author, view_count=11)
    one = await rest.create("posts", title="x", author_id=author, view_count=11, status="published")
    plain = await rest.create("orders", customer_id=customer)
    high = await rest.create("orders", customer_id=customer, status="processing", priority="high")
    await rest.create("products", category_id=6, in_stock=True)
    item = await rest.create("products", category_id=5, in_stock=True)

    async def ids(subscription, count):
        return [told["id"] for told in await socket.updates(subscription, count)]

    assert await ids(stock, 1) == [item]
    assert await ids(drafts, 1) == [both]
    assert await ids(seen, 2) == [both, one]
    assert await ids(pending, 2) == [plain, high]
    assert await ids(urgent, 1) == [high]


@pytest.mark.parametrize("options", [{}, {"filters": {}}, {"filters": None}], ids=repr)
async def test_a3_28_without_filters_every_record_is_watched(
    connect_by: Connect, rest: Rest, options
):
    socket = await connect_by()
    answer = await socket.ask("subscribe", {"resource": "posts", **options})
    assert answer["data"]["filters"] == {}
    post = await rest.create("posts", title="x", author_id="somebody")
    [told] = await socket.updates(answer["data"], 1)
    assert told["id"] == post


async def test_a3_28_without_filters_a_resource_needs_no_search_schema(
    connect: Connect, rest: Rest
):
    socket = await connect()
    users = await socket.subscribe("users")
    user = await rest.create("users", name="Ada")
    [told] = await socket.updates(users, 1)
    assert told["id"] == user


HOSTILE = [
    None,
    [],
    [1, 2],
    "posts",
    7,
    True,
    {},
    {"resource": None},
    {"resource": ""},
    {"resource": 5},
    {"resource": ["posts"]},
    {"resource": {"name": "posts"}},
    {"resource": "__proto__"},
    {"resource": "constructor"},
    {"resource": "toString"},
    {"resource": "posts\x00"},
    {"resource": "posts", "filters": []},
    {"resource": "posts", "filters": "status=x"},
    {"resource": "posts", "filters": {"__proto__": {"status": "x"}, "constructor": 1}},
    {"resource": "posts", "filters": {"status": {"$ne": None}}},
    {"resource": "posts", "filters": {"status": ["a", "b"]}},
    {"resource": "posts", "filters": {"status": "nul\x00"}},
    {"resource": "posts", "filters": {"view_count": "NaN"}},
    {"resource": "posts", "filters": {"view_count": "1e999"}},
    {"resource": "products", "filters": {"category_id": list(range(1000))}},
    {"resource": "products", "filters": {"created_at": ["2024-01-01"]}},
    {"resource": "products", "filters": {"near_location": "[" * 5000}},
    {"resource": "posts", "include": "author"},
    {"resource": "posts", "fields": ["title"]},
]


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload)[:60])
async def test_a3_29_a_bad_payload_is_answered_and_the_socket_lives(connect: Connect, payload):
    socket = await connect()
    error = await socket.refused(payload)
    assert error["code"] != "INTERNAL_ERROR"
    await socket.subscribe("posts")


async def test_a3_29_a_large_payload_is_answered_and_the_socket_lives(connect_by: Connect):
    socket = await connect_by()
    error = await socket.refused({"resource": "posts", "filters": {"status": "x" * 1_000_000}})
    assert error["code"] == "PAYLOAD_TOO_LARGE"
    await socket.subscribe("posts")


async def test_a3_29_a_deep_payload_is_answered_and_the_socket_lives(connect: Connect):
    socket = await connect()
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    error = await socket.refused({"resource": "products", "filters": {"near_location": deep}})
    assert error["code"] == "INVALID_FILTERS"
    await socket.subscribe("posts")


async def test_a3_29_no_argument_and_odd_arguments_do_not_crash(connect: Connect):
    socket = await connect()
    assert (await socket.ask("subscribe"))["error"]["code"] == "INVALID_SUBSCRIPTION"
    await socket.say("subscribe", {"resource": "posts"}, "not a function")
    await socket.wait("subscription.created")
    await socket.say("no such event", {"resource": "posts"})
    await socket.subscribe("users")


async def test_a3_30_unknown_keys_are_refused_and_those_of_a_stored_one_accepted(
    connect_by: Connect,
):
    socket = await connect_by()
    for key in ("filter", "fliters", "where"):
        error = await socket.refused({"resource": "posts", key: {"status": "x"}})
        assert error["code"] == "UNSUPPORTED_OPTION"
        assert key in error["message"]
    await socket.subscribe("posts", status="active", cursor="abc.1")


@pytest.mark.parametrize("resource", ["secret-documents", "admin-logs"])
async def test_a3_31_subscribing_needs_the_query_permission(connect_by: Connect, resource):
    socket = await connect_by(token())
    error = await socket.refused({"resource": resource})
    assert error["code"] == "PERMISSION_DENIED"
    assert error["resource"] == resource
    await (await connect_by(ADMIN)).subscribe(resource)


async def test_a3_32_a_check_that_returns_false_denies(connect: Connect):
    # The app's check returns whether the roles hold "admin", word for word as the guide's does.
    for roles in ((), ("editor",), ("administrator",)):
        error = await (await connect(token(roles=roles))).refused({"resource": "secret-documents"})
        assert error["code"] == "PERMISSION_DENIED"


async def test_a3_33_values_are_cast_and_shown_back(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = 900_001
    data = await socket.subscribe(
        "posts",
        filters={
            "author_id": author,
            "view_count": "100",
            "published_at": "2024-01-01T00:00:00+01:00",
        },
    )
    assert data["filters"]["author_id"] == str(author)
    assert data["filters"]["view_count"] == 100
    assert data["filters"]["published_at"].startswith("2023-12-31T23:00:00")
    when = "2023-12-31T23:00:00Z"
    await rest.create("posts", title="x", author_id=str(author), view_count=100, published_at=when)
    post = await rest.create(
        "posts", title="x", author_id=author, view_count=101, published_at=when
    )
    [told] = await socket.updates(data, 1)
    assert told["id"] == post


async def test_a3_34_every_unknown_filter_is_listed(connect_by: Connect):
    socket = await connect_by()
    error = await socket.refused(
        {"resource": "posts", "filters": {"status": "x", "invalid_field": 1, "title": "y"}}
    )
    unknown = {"code": "UNKNOWN_FIELD", "message": "Field not defined in searchSchema"}
    assert (error["code"], error["message"]) == ("INVALID_FILTERS", "Invalid filter values")
    assert error["details"] == {"invalid_field": unknown, "title": unknown}


@pytest.mark.parametrize(
    ("resource", "name", "value"),
    [
        ("posts", "view_count", "many"),
        ("posts", "view_count", True),
        ("posts", "view_count", None),
        ("posts", "published_at", "yesterday"),
        ("posts", "status", 5),
        ("posts", "author_id", ""),
        ("products", "in_stock", "maybe"),
        ("products", "created_at", ["2024-01-01", "2024-02-01", "2024-03-01"]),
        ("products", "created_at", "2024-01-01"),
        ("products", "category_id", [[1]]),
        ("products", "near_location", 5),
        ("products", "near_location", {}),
        ("products", "near_location", {"lat": "x", "lng": 1}),
        ("products", "near_location", {"lat": 91, "lng": 1}),
        ("products", "near_location", {"lat": 1, "lng": 1, "radius": -1}),
        ("products", "near_location", {"lat": 1, "lng": 1, "raduis": 1}),
        ("products", "available_for_user", "u1"),
        ("products", "available_for_user", {"include_private": "maybe"}),
        ("products", "search", 5),
    ],
)
async def test_a3_35_a_bad_value_names_its_field(
    connect: Connect, rest: Rest, resource, name, value
):
    socket = await connect()
    error = await socket.refused({"resource": resource, "filters": {name: value}})
    assert error["code"] == "INVALID_FILTERS"
    assert set(error["details"]) == {name}
    assert error["details"][name]["code"] == "INVALID_VALUE"


async def test_a3_36_a_custom_filter_without_filter_record_is_for_http_only(
    connect_by: Connect, rest: Rest
):
    socket = await connect_by()
    error = await socket.refused({"resource": "products", "filters": {"complex_search": "ab"}})
    assert error["code"] == "UNSUPPORTED_FILTER"
    assert "filterRecord" in error["message"]
    assert "complex_search" in error["message"]
    product = await rest.create("products", title="Xa Bx")
    assert product in await rest.ids("products", **{"filter[complex_search]": "xabx"})


async def test_a3_37_filters_without_a_search_schema_are_refused(connect_by: Connect):
    socket = await connect_by()
    error = await socket.refused({"resource": "users", "filters": {"name": "Ada"}})
    assert (error["code"], error["resource"]) == ("FILTERING_NOT_ENABLED", "users")


@pytest.mark.parametrize("name", ["comment", "Posts", "posts ", "sqlite_master", "__class__"])
async def test_a3_38_an_unknown_resource_is_named_in_the_error(connect_by: Connect, name):
    error = await (await connect_by()).refused({"resource": name})
    assert (error["code"], error["resource"]) == ("RESOURCE_NOT_FOUND", name)


async def fill(socket: Socket, count: int) -> None:
    for number in range(count):
        await socket.say("subscribe", {"resource": "posts", "subscriptionId": f"s{number}"})
    await socket.wait("subscription.created", count=count)


async def test_a3_39_number_101_is_refused(connect_by: Connect):
    socket = await connect_by()
    await fill(socket, 100)
    error = await socket.refused({"resource": "posts"})
    assert error["code"] == "SUBSCRIPTION_LIMIT_EXCEEDED"
    assert error["details"] == {"limit": 100}
    await (await connect_by()).subscribe("posts")


async def test_a3_39_unsubscribing_frees_a_place_and_a_refusal_takes_none(connect: Connect):
    socket = await connect()
    await fill(socket, 99)
    for _ in range(5):
        await socket.refused({"resource": "posts", "filters": {"nope": 1}})
    await socket.subscribe("posts", subscriptionId="the 100th")
    await socket.refused({"resource": "posts"})
    assert await socket.ask("unsubscribe", {"subscriptionId": "s7"}) == {"success": True}
    await socket.subscribe("posts")
    assert (await socket.refused({"resource": "posts"}))["code"] == "SUBSCRIPTION_LIMIT_EXCEEDED"


async def test_a3_39_restored_ones_count(connect: Connect):
    socket = await connect()
    await fill(socket, 98)
    entries = [{"resource": "users", "subscriptionId": f"r{number}"} for number in range(4)]
    answer = await socket.ask("restore-subscriptions", {"subscriptions": entries})
    assert answer["restored"] == ["r0", "r1"]
    assert [failed["subscriptionId"] for failed in answer["failed"]] == ["r2", "r3"]
    assert {failed["error"]["code"] for failed in answer["failed"]} == {
        "SUBSCRIPTION_LIMIT_EXCEEDED"
    }


async def test_a3_39_concurrent_subscribes_do_not_exceed_it(connect_by: Connect):
    socket = await connect_by()
    asked = [socket.ask("subscribe", {"resource": "posts"}) for _ in range(130)]
    answers = await asyncio.gather(*asked)
    assert sum("data" in answer for answer in answers) == 100
    codes = {answer["error"]["code"] for answer in answers if "error" in answer}
    assert codes == {"SUBSCRIPTION_LIMIT_EXCEEDED"}


@pytest.mark.parametrize(
    "include",
    ["author", {"author": True}, ["editor"], ["comments.editor"], ["author", ""], [5], [None]],
    ids=repr,
)
async def test_a3_40_a_wrong_include_is_refused(connect: Connect, include):
    error = await (await connect()).refused({"resource": "posts", "include": include})
    assert error["code"] == "INVALID_INCLUDE"


@pytest.mark.parametrize(
    "fields",
    [
        ["title"],
        "title",
        {"posts": "title"},
        {"posts": ["titel"]},
        {"post": ["title"]},
        {"posts": [5]},
        {"users": ["salary"]},
    ],
    ids=repr,
)
async def test_a3_40_wrong_fields_are_refused(connect: Connect, fields):
    error = await (await connect()).refused({"resource": "posts", "fields": fields})
    assert error["code"] == "INVALID_FIELDS"


async def test_a3_41_a_refused_subscribe_leaves_nothing_behind(connect_by: Connect, rest: Rest):
    socket = await connect_by()
    author = unique("author")
    given = {"resource": "posts", "filters": {"author_id": author}, "subscriptionId": "once"}
    await socket.refused({**given, "include": ["nope"]})
    await socket.refused({**given, "filters": {"author_id": author, "nope": 1}})
    answer = await socket.ask("unsubscribe", {"subscriptionId": "once"})
    assert answer["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"
    marker = await socket.subscribe("posts", filters={"author_id": author})
    await rest.create("posts", title="x", author_id=author)
    [told] = await socket.updates(marker, 1)
    assert [event.data for event in await socket.events("subscription.update")] == [told]
    # The id was not taken either.
    await socket.subscribe("posts", subscriptionId="once")


async def test_a3_42_a_write_right_after_the_ack_is_always_notified(
    connect_by: Connect, rest: Rest
):
    socket = await connect_by()
    for _ in range(20):
        author = unique("author")
        data = await socket.subscribe("posts", filters={"author_id": author})
        post = await rest.create("posts", title="x", author_id=author)
        assert summary(await socket.updates(data, 1)) == [
            ("resource.created", "post", "enter", post)
        ]


async def test_a3_42_writes_around_the_ack_are_notified_from_some_moment_on(
    connect: Connect, rest: Rest
):
    """Writes go on while subscribing: what is told is an unbroken end of what was written."""
    socket = await connect()
    author = unique("author")
    written: list[str] = []
    enough = asyncio.Event()

    async def write() -> None:
        for _ in range(40):
            written.append(await rest.create("posts", title="x", author_id=author))
            if len(written) == 5:
                enough.set()

    writer = asyncio.create_task(write())
    await enough.wait()
    data = await socket.subscribe("posts", filters={"author_id": author})
    acked = len(written)
    await writer
    await socket.wait("subscription.update", id=written[-1], subscriptionId=data["subscriptionId"])
    told = [update["id"] for update in await socket.told(data)]
    assert told == written[-len(told) :]
    assert len(told) >= len(written) - acked


async def test_a3_a_refusal_is_what_the_guide_s_helper_rejects_with(connect: Connect):
    with pytest.raises(SubscriptionRefused) as caught:
        await (await connect()).subscribe("nowhere")
    assert caught.value.error["code"] == "RESOURCE_NOT_FOUND"
    assert caught.value.error["resource"] == "nowhere"
