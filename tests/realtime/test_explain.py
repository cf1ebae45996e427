"""explain: why a change was told or not; and nothing about what may not be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.realtime.kit import delivered, make_api, running, subscriber
from tidings import (
    Api,
    ConfigurationError,
    FilterError,
    Identity,
    NotFound,
    OperationContext,
    PermissionDenied,
    SubscriptionContext,
)
from tidings.realtime.subscriptions import Subscriber, Subscription

pytestmark = pytest.mark.anyio
SECRET = "a value that must not travel"


async def subscribed(
    api: Api, person: Subscriber, filters: dict[str, Any] | None = None
) -> Subscription:
    payload = {"resource": "posts", "filters": filters or {}}
    return (await api.socket_server._service.subscribe(person, payload)).subscription


async def asked(api: Api, person: Subscriber, payload: Any) -> Any:
    api.socket_server._subscribers[person.id] = person
    answer, _ = await api.socket_server.handle(person.id, "explain", payload)
    assert SECRET not in json.dumps(answer)
    return answer


async def changes(api: Api, person: Subscriber, subscription: Subscription, record: Any) -> Any:
    payload = {"subscriptionId": subscription.id, "resource": "posts", "id": record["id"]}
    answer = await asked(api, person, payload)
    assert answer["success"] is True
    assert answer["data"]["id"] == str(record["id"])
    return [(one["action"], one["change"], one["reason"]) for one in answer["data"]["changes"]]


async def test_each_change_of_the_record_was_told_or_has_a_reason() -> None:
    async with running() as api:
        posts, (ann, wire) = api.resources.posts, subscriber()
        subscription = await subscribed(api, ann, {"status": "open", "views": 10})
        post = await posts.post({"title": SECRET, "status": "new"})
        await posts.patch(post["id"], {"status": "open"})
        await posts.patch(post["id"], {"views": 11})
        await posts.patch(post["id"], {"views": 12})
        await posts.delete(post["id"])
        await delivered(api)
        assert await changes(api, ann, subscription, post) == [
            ("post", None, "filter 'status' does not hold: status = 'open'"),
            ("patch", None, "filter 'views' does not hold: views > 10"),
            ("patch", "enter", None),
            ("patch", "update", None),
            ("delete", "leave", None),
        ]
        assert [event["meta"]["change"] for event in wire.events()] == ["enter", "update", "leave"]
        answer = await asked(api, ann, {"subscriptionId": subscription.id, "id": int(post["id"])})
        cursors = [one["cursor"] for one in answer["data"]["changes"] if one["change"]]
        assert cursors == [event["meta"]["cursor"] for event in wire.events()]


async def test_what_was_before_the_subscription_is_said_to_be() -> None:
    async with running() as api:
        post = await api.resources.posts.post({"title": "a"})
        await delivered(api)
        ann, _ = subscriber()
        subscription = await subscribed(api, ann)
        assert await changes(api, ann, subscription, post) == [
            ("post", None, "it was before the subscription was made")
        ]


async def test_only_the_last_changes_are_explained() -> None:
    async with running() as api:
        ann, _ = subscriber()
        subscription = await subscribed(api, ann)
        post = await api.resources.posts.post({"title": "a"})
        for number in range(12):
            await api.resources.posts.patch(post["id"], {"views": number})
        found = await changes(api, ann, subscription, post)
        assert [action for action, _, _ in found] == ["patch"] * 10


def guarded(**options: Any) -> Api:
    """Posts are read by whose status is the reader's id; a hook adds the same as a clause."""
    api = make_api()

    @api.hook("subscription_filters")
    def own(context: SubscriptionContext) -> None:
        if options.get("refuses"):
            raise PermissionDenied("not now")
        if options.get("injects", True):
            context.subscription.require({"status": context.auth.user_id})

    def check(context: OperationContext) -> bool:
        if context.method != "get" or context.record is None:
            return True
        return context.record["status"] == context.auth.user_id

    api.add_resource(
        "notes", schema={"status": "string", "views": "integer"}, check_permissions=check
    )
    return api


async def test_a_non_reader_learns_nothing_that_an_unknown_id_would_not_tell() -> None:
    async with running(guarded()) as api:
        posts, (ann, wire) = api.resources.posts, subscriber()
        subscription = await subscribed(api, ann)
        other = await posts.post({"title": "a", "status": "u2"})
        await posts.patch(other["id"], {"views": 3})
        await delivered(api)

        async def about(record_id: str) -> Any:
            payload = {"subscriptionId": subscription.id, "id": record_id}
            return (await asked(api, ann, payload))["data"]

        hidden, unknown = await about(other["id"]), await about("404")
        assert hidden | {"id": "404"} == unknown
        assert hidden["changes"] == []
        assert not wire.events()


async def test_the_check_for_get_decides_who_reads_too() -> None:
    async with running(guarded(injects=False)) as api:
        ann, _ = subscriber()
        service = api.socket_server._service
        subscription = (await service.subscribe(ann, {"resource": "notes"})).subscription
        note = await api.resources.notes.post({"status": "u2"})
        payload = {"subscriptionId": subscription.id, "id": note["id"]}
        assert (await asked(api, ann, payload))["data"]["changes"] == []
        await api.resources.notes.patch(note["id"], {"status": "u1"})
        found = (await asked(api, ann, payload))["data"]["changes"]
        assert [one["action"] for one in found] == ["patch"]


async def test_what_policies_add_to_a_filter_is_not_shown() -> None:
    api = make_api()
    api.add_resource(
        "projects",
        {"name": "string", "owner_id": "string"},
        row_policy=lambda columns, identity: columns.owner_id == identity.user_id,
    )
    api.add_resource(
        "tasks",
        {"title": "string", "project_id": {"type": "id", "belongs_to": "projects"}},
        search_schema={"project_name": {"type": "string", "actual_field": "project.name"}},
    )
    async with running(api):
        await api.resources.projects.post({"name": "a", "owner_id": SECRET})
        ann, _ = subscriber()
        server = api.socket_server
        asking = {"resource": "tasks", "filters": {"project_name": "a"}, "subscriptionId": "t"}
        await server._service.subscribe(ann, asking)
        await api.resources.tasks.post({"title": "x", "project_id": 1})
        await delivered(api)
        answer = await asked(api, ann, {"subscriptionId": "t", "id": "1"})
        [change] = answer["data"]["changes"]
        assert change["reason"] == "filter 'project_name' does not hold: project.name = 'a'"


async def test_what_was_gone_before_the_subscription_is_not_told_of() -> None:
    """Who could read it then is not known: rights may have been granted since."""
    async with running(guarded()) as api:
        seen = await api.resources.posts.post({"title": "a", "status": "u1"})
        gone = await api.resources.posts.post({"title": "b", "status": "u1"})
        await api.resources.posts.delete(gone["id"])
        await delivered(api)
        ann, _ = subscriber()
        subscription = await subscribed(api, ann)
        assert await changes(api, ann, subscription, gone) == []
        assert len(await changes(api, ann, subscription, seen)) == 1
        await api.resources.posts.delete(seen["id"])
        await delivered(api)
        told = await changes(api, ann, subscription, seen)
        assert [(action, way) for action, way, _ in told] == [("delete", "leave")]


async def test_a_check_of_its_own_is_asked_with_the_record_as_it_is() -> None:
    """Changes carry only what filters look at, so that a checker could be asked for less."""
    api = make_api()

    def is_writer(context: OperationContext, _: object) -> bool:
        return context.record is None or context.record["writer"] == context.auth.user_id

    api.add_checker("is_writer", is_writer)
    api.add_resource(
        "notes",
        {"text": "string", "writer": "string"},
        auth={"query": ["public"], "get": ["is_writer"], "*": ["public"]},
    )
    async with running(api):
        ann, _ = subscriber()
        await api.socket_server._service.subscribe(
            ann, {"resource": "notes", "subscriptionId": "n"}
        )
        for writer in ("u1", "u2"):
            await api.resources.notes.post({"text": SECRET, "writer": writer})
        await delivered(api)
        for record, count in (("1", 1), ("2", 0)):
            answer = await asked(api, ann, {"subscriptionId": "n", "id": record})
            assert len(answer["data"]["changes"]) == count


async def test_what_a_change_was_too_long_to_carry_is_not_taken_for_null() -> None:
    api = make_api()
    api.add_resource(
        "pages",
        {"body": "text", "status": "string"},
        row_policy=lambda columns, identity: columns.body.is_(None),
    )
    async with running(api):
        ann, _ = subscriber()
        await api.socket_server._service.subscribe(
            ann, {"resource": "pages", "subscriptionId": "p"}
        )
        await api.resources.pages.post({"body": "x" * 70_000, "status": "a"})
        await api.resources.pages.delete(1)
        await delivered(api)
        answer = await asked(api, ann, {"subscriptionId": "p", "id": "1"})
        assert answer["data"]["changes"] == []


async def test_who_may_no_longer_subscribe_learns_nothing() -> None:
    options: dict[str, Any] = {"injects": False}
    api = make_api()

    @api.hook("subscription_filters")
    def hook(context: SubscriptionContext) -> None:
        if options.get("refuses"):
            raise PermissionDenied("not now")

    async with running(api):
        ann, _ = subscriber()
        subscription = await subscribed(api, ann)
        post = await api.resources.posts.post({"title": "a"})
        assert len(await changes(api, ann, subscription, post)) == 1
        options["refuses"] = True
        assert await changes(api, ann, subscription, post) == []


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (7, "INVALID_DATA"),
        ({}, "MISSING_SUBSCRIPTION_ID"),
        ({"subscriptionId": 7, "id": "1"}, "MISSING_SUBSCRIPTION_ID"),
        ({"subscriptionId": "nope", "id": "1"}, "SUBSCRIPTION_NOT_FOUND"),
        ({"subscriptionId": "s", "resource": "users", "id": "1"}, "INVALID_DATA"),
        ({"subscriptionId": "s"}, "INVALID_DATA"),
        ({"subscriptionId": "s", "id": True}, "INVALID_DATA"),
        ({"subscriptionId": "s", "id": ["1"]}, "INVALID_DATA"),
        ({"subscriptionId": "s", "id": ""}, "INVALID_DATA"),
    ],
)
async def test_wrong_questions(payload: Any, code: str) -> None:
    async with running() as api:
        ann, _ = subscriber()
        await api.socket_server._service.subscribe(
            ann, {"resource": "posts", "subscriptionId": "s"}
        )
        assert (await asked(api, ann, payload))["error"]["code"] == code


# From Python


async def test_python_is_told_each_clause_with_the_value_that_failed() -> None:
    async with running() as api:
        post = await api.resources.posts.post({"title": "a", "status": "new", "views": 20})
        found = await api.explain("posts", post["id"], {"status": "open", "views": 10})
        assert not found.matches
        assert str(found) == (
            "does not match\n"
            "  fails: filter 'status': status = 'open'; it is 'new'\n"
            "  holds: filter 'views': views > 10"
        )
        by_columns = await api.explain("posts", post, {"status": "open", "views": 10})
        assert by_columns == found
        assert (await api.explain("posts", post["id"], {"views": 10})).matches
        assert (await api.explain("posts", post["id"], where={"title": ["a", "b"]})).matches
        assert str(await api.explain("posts", int(post["id"]))) == "matches"


async def test_python_sees_what_hooks_add_and_what_they_refuse() -> None:
    async with running(guarded()) as api:
        post = await api.resources.posts.post({"title": "a", "status": "u2"})
        found = await api.explain("posts", post["id"], auth=Identity(user_id="u1"))
        assert str(found) == "does not match\n  fails: server: status = 'u1'; it is 'u2'"
        assert (await api.explain("posts", post["id"], auth=Identity(user_id="u2"))).matches
    async with running(guarded(refuses=True)) as api:
        post = await api.resources.posts.post({"title": "a", "status": "u2"})
        found = await api.explain("posts", post["id"], auth=Identity(user_id="u1"))
        assert (found.matches, found.refusal) == (False, "not now")
        assert "refused: not now" in str(found)


async def test_python_mistakes_are_named() -> None:
    async with running() as api:
        with pytest.raises(NotFound, match="no resource 'nope'"):
            await api.explain("nope", 1)
        for unknown in (404, "x"):
            with pytest.raises(NotFound):
                await api.explain("posts", unknown)
        with pytest.raises(FilterError):
            await api.explain("posts", 1, {"nope": 1}, auth=Identity(user_id="u1"))
        with pytest.raises(ConfigurationError, match="no column 'status'"):
            await api.explain("posts", {"id": 1}, {"status": "open"})
