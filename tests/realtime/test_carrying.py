"""What changes carry of their records: no more than filters and policies can look at."""

from __future__ import annotations

from typing import Any

import pytest

from tests.realtime.kit import delivered, make_api, running, subscriber
from tidings import Api, Identity, SqlAlchemyPlugin
from tidings.feed import Batch, Change, encode_notice

SCHEMA: dict[str, Any] = {
    "title": {"type": "string", "search": "like"},
    "body": "text",
    "status": "string",
    "writer_id": "string",
}


async def carried(**options: Any) -> set[str]:
    """The columns of the images of a change."""
    hook = options.pop("hook", None)
    api = Api()
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.add_resource("posts", schema=SCHEMA, **options)
    if hook is not None:
        api.add_hook("subscription_filters", "hook", hook)
    async with api:
        start = api._feed.position
        await api.resources.posts.post({"title": "a", "body": "b"})
        await api.resources.posts.patch(1, {"title": "c"})
        ((_, posted), (_, patched)) = await api._feed.read(start, 10)
    assert isinstance(posted, Change)
    assert isinstance(patched, Change)
    assert posted.after is not None
    assert patched.before is not None
    assert patched.after is not None
    assert set(posted.after) == set(patched.before) == set(patched.after)
    return set(posted.after)


EVERYTHING = {"id", *SCHEMA}


async def test_the_columns_of_filters_are_carried() -> None:
    assert await carried() == {"id", "title"}
    search = {"either": {"type": "string", "one_of": ["status", "body"]}}
    assert await carried(search_schema=search) == {"id", "title", "status", "body"}


async def test_the_owner_is_carried() -> None:
    assert await carried(owner_field="writer_id") == {"id", "title", "writer_id"}


@pytest.mark.parametrize(
    "options",
    [
        {"row_policy": lambda columns, identity: columns.status == "public"},
        {"hook": lambda context: None},
        {
            "search_schema": {
                "short": {
                    "type": "boolean",
                    "filter_operator": lambda columns, value: columns.body == "",
                }
            }
        },
    ],
    ids=["row policy", "hook", "function"],
)
async def test_where_code_decides_everything_is_carried(options: dict[str, Any]) -> None:
    assert await carried(**options) == EVERYTHING


async def test_a_check_costs_no_columns() -> None:
    """It is asked of somebody, or with the record as it is."""
    assert await carried(check_permissions=lambda context: True) < EVERYTHING


async def test_a_hook_that_comes_late_costs_a_refetch_and_no_secret() -> None:
    """What happened before does not carry what it looks at: nobody knows who may be told of it."""
    api = make_api()
    api.add_resource("notes", schema={"text": "string"})
    async with running(api):
        before = str(api._feed.position)
        await api.resources.notes.post({"text": "a"})

        @api.hook("subscription_filters")
        def only_some(context: Any) -> None:
            context.subscription.require({"text": "a"})

        person, _ = subscriber()
        done = await api.socket_server._service.subscribe(
            person, {"resource": "notes", "cursor": before}
        )
        assert done.resync_reason == "window"
        assert done.missed == []


async def test_a_rule_over_the_owner_can_still_explain() -> None:
    api = make_api()
    api.add_resource(
        "notes",
        schema={"text": "string", "writer_id": "string", "status": {"type": "string"}},
        search_schema={"status": "string"},
        owner_field="writer_id",
        auth={"query": ["public"], "get": ["is_owner"], "*": ["public"]},
    )
    async with running(api):
        person, _ = subscriber(user="7")
        service = api.socket_server._service
        done = await service.subscribe(person, {"resource": "notes"})
        await api.resources.notes.post({"text": "a", "writer_id": "7"})
        await api.resources.notes.post({"text": "a", "writer_id": "8"})
        answers = [
            await api.socket_server._explainer.changes(done.subscription, str(number))
            for number in (1, 2)
        ]
        assert [len(answer["changes"]) for answer in answers] == [1, 0]
        assert Identity(user_id="7") == person.identity


async def test_changes_of_a_process_with_an_older_declaration() -> None:
    """It carries nothing of a field that was declared since: who looks at it is told to refetch,
    and the others as ever.
    """
    api = make_api()
    api.add_resource(
        "notes",
        {"state": "string", "newer": "string"},
        search_schema={"state": {}, "newer": {"filter_operator": "!="}},
    )
    async with api:
        who, wire = subscriber()
        for name, filters in (("newer", {"newer": "x"}), ("state", {"state": "new"})):
            payload = {"resource": "notes", "filters": filters, "subscriptionId": name}
            await api.socket_server._service.subscribe(who, payload)
        image = {"id": 1, "state": "new"}
        entry = encode_notice(Change("notes", "1", "patch", image, image))
        await api._feed.append([Batch("b", [entry])])
        await delivered(api)
        assert [told["subscriptionId"] for told in wire.events()] == ["state"]
        (resync,) = wire.events("subscription.resync")
        assert (resync["subscriptionId"], resync["reason"]) == ("newer", "bulk")
