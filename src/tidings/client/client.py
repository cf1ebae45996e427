"""Client: watches resources of a server, and keeps lists of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tidings import ConfigurationError
from tidings.client.changes import Change
from tidings.client.connection import Connection, OnStatus, Subscription
from tidings.client.lists import LiveList
from tidings.client.requests import Requests
from tidings.client.tokens import GetToken, Tokens

if TYPE_CHECKING:
    import httpx


class Client:
    """A connection to a server, made by ``async with`` and kept until its end.

        async with Client("https://example.org", token=get_token) as client:
            async with client.live("posts", {"status": "published"}, sort=["-id"]) as posts:
                async for _ in posts.changed():
                    print([one["attributes"]["title"] for one in posts.data])

    ``url`` is the server's, ``prefix`` the path of its resources and ``socket_path`` that of its
    sockets. ``token`` is a text, or a function (async or not) that gives one: it is called with
    False at first, and with True where the last one was refused or ends in a minute. A text cannot
    be renewed, so that the client is refused when it ends.

    A connection that is lost is made again, after 0.2 seconds at first and every 10 at last, and
    what was missed meanwhile comes then. ``on_status`` is called with ``live`` when it stands, and
    with ``offline`` and the reason when it was lost or could not be made.

    Raises:
        MissingExtraError: httpx or python-socketio is not installed.
        ConfigurationError: the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | GetToken | None = None,
        prefix: str = "/api",
        socket_path: str = "/socket.io",
        on_status: OnStatus | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"url {url!r} is not of the form https://example.org")
        url = url.rstrip("/")
        self._tokens = Tokens(token)
        self._connection = Connection(url, socket_path, self._tokens, on_status)
        self._requests = Requests(url, prefix, self._tokens)

    async def __aenter__(self) -> Client:
        self._connection.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.close()
        await self.http.aclose()

    @property
    def is_live(self) -> bool:
        """Whether the connection stands at the moment, so that changes come as they happen."""
        return self._connection.is_live

    @property
    def http(self) -> httpx.AsyncClient:
        """For requests of your own; they go without the token, other than those of `request`."""
        return self._requests.http

    async def request(self, method: str, path: str, document: Any = None, **options: Any) -> Any:
        """Send a request below the prefix and give the document; None for an answer without one.

            await client.request("PATCH", "/posts/1", {"data": {...}})

        ``options`` are those of `httpx.AsyncClient.request`. Where the token is refused, it is
        renewed and the request sent again, once.

        Raises:
            ClientError: the server refuses it.
        """
        return await self._requests.send(method, path, document, **options)

    async def watch(
        self,
        resource: str,
        filters: Mapping[str, Any] | None = None,
        **more_filters: Any,
    ) -> AsyncIterator[Change]:
        """The changes of a resource, for as long as somebody asks for them.

            async for change in client.watch("posts", status="published"):
                print(change.kind, change.id)

        The first is a ``resync`` with the reason ``subscribed``, when the subscription stands: what
        was there before is yours to fetch. Where 10,000 changes wait for you, they become one
        ``resync`` with the reason ``overflow``.

        Raises:
            ClientError: the server refuses the subscription, or has ended it.
            ConfigurationError: the client was not entered.
        """
        subscription = Subscription(resource, {**(filters or {}), **more_filters})
        async with self._watching(subscription):
            while True:
                yield await subscription.changes.get()

    @asynccontextmanager
    async def live(
        self,
        resource: str,
        filters: Mapping[str, Any] | None = None,
        *,
        include: Sequence[str] = (),
        fields: Mapping[str, Sequence[str]] | None = None,
        sort: Sequence[str] = (),
        **more_filters: Any,
    ) -> AsyncIterator[LiveList]:
        """A list that is kept as the server would answer it; loaded when the block begins.

            async with client.live("posts", status="published") as posts:
                async for _ in posts.changed():
                    print(len(posts.records))

        ``include``, ``fields`` and ``sort`` are those of JSON:API. Without ``sort`` the order is
        that of the ids. With it only the server knows where a record belongs, so the whole list is
        fetched again when a record comes or moves. Name the sorted fields in ``fields``, if you
        give any: without their values every change is taken for a move.

        Raises:
            ClientError: the server refuses it. Later on, `LiveList.changed` raises.
            ConfigurationError: the client was not entered.
        """
        subscription = Subscription(resource, {**(filters or {}), **more_filters})
        found = LiveList(
            self._connection,
            self._requests,
            subscription,
            include=include,
            fields=fields,
            sort=sort,
        )
        async with self._watching(subscription):
            keeping = asyncio.create_task(found.keep(), name="tidings-live")
            try:
                await found.loaded()
                yield found
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    @asynccontextmanager
    async def _watching(self, subscription: Subscription) -> AsyncIterator[None]:
        if not self._connection.is_open:
            raise ConfigurationError("a client connects within 'async with': enter it first")
        self._connection.add(subscription)
        try:
            yield
        finally:
            await self._connection.remove(subscription)
