"""An api with sockets, driven without a network: subscribers whose wires are lists."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tidings import Api, Identity, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscriber, Subscription

SECRET = "a-secret-of-thirty-two-bytes-or-more"


@dataclass
class Wire:
    """A connection that keeps what it was given."""

    frames: list[Event] = field(default_factory=list)
    ended: bool = False
    for_good: bool = False

    def send(self, event: Event) -> None:
        self.frames.append(event)

    def notify(self, subscription: Subscription, message: Message) -> None:
        self.send(message.event(subscription))

    def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
        self.frames.extend(last)
        self.ended = True
        self.for_good = for_good

    def forget(self) -> None:
        pass

    def events(self, name: str = "subscription.update") -> list[dict[str, Any]]:
        return [payload for event, payload in map(spoken, self.frames) if event == name]


def spoken(event: Event) -> tuple[str, Any]:
    """An event as its client gets it: the name and what came with it."""
    return event.name, json.loads(event.payload)


def subscriber(name: str = "s1", user: str = "u1") -> tuple[Subscriber, Wire]:
    wire = Wire()
    return Subscriber(name, Identity(user_id=user), wire), wire


def make_api(cors: Any = None, **options: Any) -> Api:
    api = Api(name="kit", **options)
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(cors=cors))
    api.add_resource(
        "posts",
        schema={"title": "string", "status": "string", "views": {"type": "integer", "default": 0}},
        search_schema={
            "title": "string",
            "status": "string",
            "views": {"type": "integer", "filter_operator": ">"},
        },
    )
    return api


@asynccontextmanager
async def running(api: Api | None = None) -> AsyncIterator[Api]:
    async with api or make_api() as opened:
        yield opened


async def delivered(api: Api) -> None:
    """Wait until every change that is in the feed has been matched and sent."""
    dispatcher = api.socket_server._dispatcher
    while dispatcher.delivered != api._feed.position:
        await asyncio.sleep(0)
