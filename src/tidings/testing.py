"""For tests of an application: its api in the same process, asked and watched by anybody.

    async with running(make_api("sqlite+aiosqlite://")) as live:
        ann = live.client(Identity(user_id="ann", roles=frozenset({"editor"})))
        watch = await ann.subscribe("posts", {"status": "published"})
        await ann.http.post("/api/posts", json=document, headers=JSON_API)
        await watch.assert_told(("enter", "1"))

There is no network and no waiting for a while: `Live.settled` returns when everything that has been
committed has been told to whoever it was to be told.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from tidings.api import Api, Verifier
from tidings.errors import AuthenticationError, ConfigurationError, MissingExtraError, TidingsError
from tidings.identity import ANONYMOUS, Identity
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscription

if TYPE_CHECKING:
    import httpx
    from starlette.types import ASGIApp

JSON_API: Final = {"Content-Type": "application/vnd.api+json"}
"""The header that a write's document needs."""
_numbers = count(1)


@asynccontextmanager
async def running(
    api: Api, *, app: ASGIApp | None = None, base_url: str = "http://test"
) -> AsyncIterator[Live]:
    """Open an api for one test, and close it.

    Give it a database of its own: ``sqlite+aiosqlite://`` is in memory, and new each time. ``app``
    is the application that the api is installed into (its ``dependency_overrides`` count), by
    default the api's own. Its lifespan is not run; the api is opened and closed here.

    Raises:
        MissingExtraError: httpx is not there.
        ConfigurationError: the api cannot be opened.
    """
    try:
        import httpx  # noqa: F401
    except ImportError:
        raise MissingExtraError("httpx", "testing", "tidings.testing") from None
    async with api, AsyncExitStack() as stack:
        tokens = _Tokens(api.internals.authority.verifier)
        api.set_verifier(tokens)
        stack.callback(_give_back, api, tokens)
        yield Live(api, api.asgi() if app is None else app, base_url, tokens, stack)


def _give_back(api: Api, tokens: _Tokens) -> None:
    if tokens.original is not None:
        api.set_verifier(tokens.original)


class Live:
    """An api that is running, made by `running`."""

    def __init__(
        self, api: Api, app: ASGIApp, base_url: str, tokens: _Tokens, stack: AsyncExitStack
    ) -> None:
        self.api = api
        self._app = app
        self._base_url = base_url
        self._tokens = tokens
        self._stack = stack

    def client(self, identity: Identity = ANONYMOUS) -> Client:
        """Somebody who asks and watches; by default nobody in particular."""
        import httpx

        headers = {"Accept": "application/vnd.api+json"}
        if identity.is_authenticated:
            headers["Authorization"] = f"Bearer {self._tokens.token_of(identity)}"
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self._app), base_url=self._base_url, headers=headers
        )
        self._stack.push_async_callback(http.aclose)
        return Client(self, identity, http)

    async def settled(self) -> None:
        """Wait until what has been committed, by anybody, has been told."""
        await self.api.socket_server.settled()


class Client:
    """Somebody who asks over HTTP (``http``, an ``httpx.AsyncClient``) and watches."""

    def __init__(self, live: Live, identity: Identity, http: httpx.AsyncClient) -> None:
        self.live = live
        self.identity = identity
        self.http = http
        self._wire: _Wire | None = None

    async def subscribe(
        self, resource: str, filters: Mapping[str, Any] | None = None, **options: Any
    ) -> Watch:
        """Watch a resource, as ``socket.emit("subscribe", ...)`` does; ``options`` are ``cursor``,
        ``include``, ``fields`` and ``subscriptionId``.

        Raises:
            SubscriptionRefused: with the code that a client is told.
        """
        wire = self._connected()
        request = {"resource": resource, **options}
        if filters is not None:
            request["filters"] = dict(filters)
        server = self.live.api.socket_server
        start = len(wire.events)
        answer, then = await server.handle(wire.id, "subscribe", request)
        if answer is None:
            raise SubscriptionRefused("DISCONNECTED", "the token has ended, or was revoked")
        if "error" in answer:
            raise SubscriptionRefused(answer["error"]["code"], answer["error"]["message"])
        then()
        key = answer["data"]["subscriptionId"]
        return Watch(self, wire, start, key, resource, dict(filters or {}))

    def _connected(self) -> _Wire:
        if self._wire is None or self._wire.is_ended:
            if not self.live.api.has_sockets:
                raise ConfigurationError("subscriptions need the SocketIOPlugin: use it")
            wire = self._wire = _Wire(f"test-{next(_numbers)}")
            self.live.api.socket_server.join(wire.id, self.identity, wire)
        return self._wire


class SubscriptionRefused(TidingsError):
    """A subscription was refused; ``code`` is what the client is told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Watch:
    """A subscription, and what it was told."""

    def __init__(
        self,
        client: Client,
        wire: _Wire,
        start: int,
        key: str,
        resource: str,
        filters: dict[str, Any],
    ) -> None:
        self.id = key
        self.resource = resource
        self.filters = filters
        self._client = client
        self._wire = wire
        self._read = start

    async def told(self) -> list[tuple[str, str]]:
        """What has come since it was asked last: ``("enter", "7")``, ``("update", "7")``,
        ``("leave", "7")``, or ``("resync", reason)``, in order.
        """
        await self._client.live.settled()
        events, self._read = self._wire.events[self._read :], len(self._wire.events)
        found = []
        for name, payload in events:
            if name == "subscription.update" and payload["subscriptionId"] == self.id:
                found.append((payload["meta"]["change"], payload["id"]))
            elif name == "subscription.resync" and payload["subscriptionId"] == self.id:
                found.append(("resync", payload["reason"]))
        return found

    async def assert_told(self, *expected: tuple[str, object]) -> None:
        """Hold what has come against what should have: all of it, in order.

        Raises:
            AssertionError: with why the subscription sees the records concerned, or does not.
        """
        wanted = [(change, str(key)) for change, key in expected]
        found = await self.told()
        if found != wanted:
            raise AssertionError(await self._complaint(found, wanted))

    async def assert_silent(self) -> None:
        """See that nothing has come.

        Raises:
            AssertionError: something has.
        """
        await self.assert_told()

    async def _complaint(
        self, found: Sequence[tuple[str, str]], wanted: Sequence[tuple[str, str]]
    ) -> str:
        lines = [
            f"{self._client.identity.user_id or 'nobody in particular'} watches {self.resource!r} "
            f"where {self.filters or 'everything'}",
            f"  told:     {list(found)}",
            f"  expected: {list(wanted)}",
        ]
        odd = {key for change, key in set(found) ^ set(wanted) if change != "resync"}
        api = self._client.live.api
        for key in sorted(odd):
            try:
                said = await api.explain(
                    self.resource, key, self.filters, auth=self._client.identity
                )
            except TidingsError as error:
                lines.append(f"  {self.resource} {key}: {error}")
            else:
                lines.append(f"  {self.resource} {key}: {said}")
        return "\n".join(lines)


class _Wire:
    """The connection of a client that is in the same process."""

    def __init__(self, key: str) -> None:
        self.id = key
        self.events: list[tuple[str, Any]] = []
        self.is_ended = False

    def send(self, event: Event) -> None:
        self.events.append((event.name, json.loads(event.payload)))

    def notify(self, subscription: Subscription, message: Message) -> None:
        self.send(message.event(subscription))

    def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
        for event in last:
            self.send(event)
        self.is_ended = True

    def forget(self) -> None:
        self.is_ended = True


class _Tokens:
    """Knows the identities of tests by tokens that it makes, and leaves others to the api's own."""

    def __init__(self, original: Verifier | None) -> None:
        self.original = original
        self._known: dict[str, Identity] = {}

    def token_of(self, identity: Identity) -> str:
        token = f"test-{len(self._known)}"
        self._known[token] = identity
        return token

    async def verify(self, token: object) -> Identity:
        found = self._known.get(token) if isinstance(token, str) else None
        if found is not None:
            return found
        if self.original is None:
            raise AuthenticationError("no such token", code="INVALID_TOKEN")
        return await self.original.verify(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)
