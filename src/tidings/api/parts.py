"""What an Api is assembled from, once its declarations are complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import Table
from starlette.types import ASGIApp

from tidings.auth import RevocationStore
from tidings.feed import WINDOW_BYTES, Log
from tidings.hooks import HookRegistry
from tidings.realtime import DeliveryTracer, SocketLimits
from tidings.resources import Operations
from tidings.schema import ResourceRegistry
from tidings.storage import Appends, Database, Publisher, RecordStore

State = Literal["closed", "opening", "open", "closing"]
Wrap = Callable[[ASGIApp, ResourceRegistry], ASGIApp]
"""Puts something around the app that serves these resources."""


@dataclass(frozen=True, slots=True)
class RestOptions:
    """Where and how resources are served; ``max_body`` is in bytes."""

    prefix: str = "/api"
    max_body: int = 1_048_576
    describes: bool = True
    """Whether ``openapi.json`` is served."""
    atomic: bool = True
    """Whether many operations may be sent at once."""


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Where and how subscriptions are served; ``limit`` is per socket."""

    path: str = "/socket.io"
    cors: Mapping[str, Any] | None = None
    limit: int = 100
    anonymous: bool = False
    expiry_warning: float = 60.0
    connect_deadline: float = 10.0
    permission_seconds: float = 5.0
    limits: SocketLimits | None = None
    drain_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class RevocationOptions:
    """How tokens are revoked: the store, made when the database is known, and for how long (in
    seconds) a token may live; whether clients may end their sessions over HTTP.
    """

    make: Callable[[Database], RevocationStore]
    max_lifetime: float
    endpoints: bool = False


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How changes reach other processes: by the log that they share (None: not at all), and whether
    what is committed is kept in an outbox until it is published. ``window`` is how many changes a
    process remembers for clients that come back, ``window_bytes`` what those may weigh.
    """

    log: Log | None = None
    outbox: bool = False
    window: int = 10_000
    window_bytes: int = WINDOW_BYTES


@dataclass(frozen=True, slots=True)
class Parts:
    """The assembled parts."""

    registry: ResourceRegistry
    database: Database
    tables: Mapping[str, Table]
    operations: Operations
    rest: ASGIApp


class Tracing(DeliveryTracer, Protocol):
    """Notes in a trace what becomes of a request, from its operation to the deliveries."""

    def operations(
        self,
        registry: ResourceRegistry,
        store: RecordStore,
        hooks: HookRegistry,
        publisher: Publisher,
    ) -> Operations:
        """Operations that are traced."""
        ...

    def publisher(self, publisher: Publisher, *, is_direct: bool) -> Publisher:
        """A publisher whose commits are traced; ``is_direct``: a commit publishes at once."""
        ...

    def appending(self, feed: Appends) -> Appends:
        """The writing side of a feed, traced."""
        ...
