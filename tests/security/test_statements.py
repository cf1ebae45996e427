"""What a change costs the database does not grow with those who watch."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.realtime.kit import SECRET, Wire
from tidings import (
    Api,
    Identity,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    policies,
)
from tidings.realtime.subscriptions import Subscriber

IDENTITIES, SOCKETS = 200, 25
Check = Callable[[OperationContext], Any]


def members_only(context: OperationContext) -> bool:
    return context.auth.is_authenticated


def make_api(check: Check = members_only) -> Api:
    """Notes of tenants in folders, guarded in every way at once."""
    api = Api(name="counted")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(permission_seconds=0))
    api.add_resource("folders", {"name": "string", "owner_id": "string", "tenant_id": "integer"})
    api.add_resource(
        "notes",
        {
            "tenant_id": "integer",
            "state": "string",
            "folder_id": {"belongs_to": "folders"},
        },
        search_schema={"state": "string", "folder": {"actual_field": "folder.name"}},
        auth={"query": ["authenticated"], "*": ["authenticated"]},
        check_permissions=check,
        row_policy=policies.either(
            policies.tenant(),
            lambda columns, identity: {"folder.owner_id": identity.user_id},
        ),
        borrows=["folder.owner_id"],
    )

    @api.hook("subscription_filters")
    def not_secret(context: Any) -> None:
        context.subscription.require({"state": {"!=": "secret"}})

    return api


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are run meanwhile."""
    found: list[str] = []

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if any(word in text for word in ("SELECT", "INSERT", "UPDATE", "DELETE")):
                found.append(text)

    logger, handler = logging.getLogger("tidings.storage"), Counter()
    level, logger.propagate = logger.level, False
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True


async def watch(api: Api, number: int) -> Wire:
    """One more socket, with one subscription."""
    who = number % IDENTITIES
    wire = Wire()
    identity = Identity(user_id=f"u{who}", claims={"tenant_id": who % 3})
    subscriber = Subscriber(f"s{number}", identity, wire)
    filters = ({}, {"state": "open"}, {"folder": "a"})[number % 3]
    request = {"resource": "notes", "filters": filters}
    await api.socket_server._service.subscribe(subscriber, request)
    return wire


async def costs(api: Api) -> dict[str, int]:
    """How many statements each kind of change takes, until everybody has been told."""
    notes, folders = api.resources.notes, api.resources.folders
    folder = await folders.post({"name": "a", "owner_id": "u1", "tenant_id": 0})
    other = await folders.post({"name": "b", "owner_id": "u2", "tenant_id": 0})
    note = await notes.post({"tenant_id": 0, "state": "open", "folder_id": folder["id"]})
    kinds: dict[str, Callable[[], Awaitable[Any]]] = {
        "post": lambda: notes.post({"tenant_id": 1, "state": "open", "folder_id": folder["id"]}),
        "patch": lambda: notes.patch(note["id"], {"state": "done"}),
        "tenant": lambda: notes.patch(note["id"], {"tenant_id": 2}),
        "folder": lambda: notes.patch(note["id"], {"folder_id": other["id"]}),
        "owner": lambda: folders.patch(other["id"], {"owner_id": "u3"}),
        "rename": lambda: folders.patch(folder["id"], {"name": "c"}),
        "delete": lambda: notes.delete(note["id"]),
    }
    found = {}
    for kind, change in kinds.items():
        await api.socket_server._dispatcher.caught_up()
        with counted() as statements:
            await change()
            await api.socket_server._dispatcher.caught_up()
        found[kind] = len(statements)
    return found


async def test_statements_per_change_do_not_grow_with_subscribers() -> None:
    async with make_api() as api:
        first = await watch(api, 0)
        alone = await costs(api)
        wires = [await watch(api, number) for number in range(1, IDENTITIES * SOCKETS)]
        among_many = await costs(api)
    assert among_many == alone
    assert min(alone.values()) >= 1
    told = sum(len(wire.events()) for wire in wires)
    assert told > IDENTITIES * SOCKETS, "it must be work to tell them"
    assert first.events()
    print(f"statements per change, 1 and {len(wires) + 1} subscribers: {alone}")  # noqa: T201


async def test_the_counter_sees_a_check_that_asks_the_database() -> None:
    """Such a check is asked once for each identity, however many its sockets are."""
    api: Api

    async def asks(context: OperationContext) -> bool:
        if context.method == "query" and context.transaction is None:
            await api.resources.folders.query(size=1)
        return True

    api = make_api(asks)
    async with api:
        await watch(api, 0)
        alone = await costs(api)
        for number in range(1, 60):
            await watch(api, number)
        among = await costs(api)
        for number in range(3 * IDENTITIES, 3 * IDENTITIES + 60):
            await watch(api, number)
        with_more_sockets = await costs(api)
    assert among["post"] > alone["post"] + 10
    assert with_more_sockets == among
