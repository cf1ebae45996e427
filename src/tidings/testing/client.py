"""Client: somebody who uses the application, over HTTP and with subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tidings import Api, ConfigurationError, Identity
from tidings.testing.watching import SubscriptionRefused, Watch, refusal
from tidings.testing.wire import Disconnected, Hear, Wire

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

MEDIA_TYPE: Final = "application/vnd.api+json"
JSON_API: Final = {"Content-Type": MEDIA_TYPE}
"""The header that a write's document needs."""


class Client:
    """One user of the application, made by `Live.client`; its socket opens when it subscribes.

    ``http`` is an `httpx.AsyncClient` that sends the user's token: the application's own routes are
    called with it. The methods beside it speak JSON:API, and give the response whatever its status
    is, since what a test wants to see is often a 403.

        answer = await ada.update("posts", 1, {"title": "Mine now"})
        assert answer.status_code == 403
    """

    def __init__(
        self,
        api: Api,
        http: AsyncClient,
        identity: Identity,
        token: str | None,
        make_wire: Callable[[Hear], Wire],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self.http = http
        self.identity = identity
        self.token = token
        self.events: list[tuple[str, Any]] = []
        """Every event that the socket was sent, in order: the application's own as well."""
        self.watches: list[Watch] = []
        self._api = api
        self._make_wire = make_wire
        self._settle = settle
        self._wire: Wire | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # HTTP

    async def query(self, resource: str, **parameters: Any) -> Response:
        """Ask for a list: ``query("posts", status="published")`` filters by ``status``.

        A name with brackets, or ``sort`` and ``include``, is sent as it is:
        ``query("posts", **{"page[size]": 5}, sort="-id")``.
        """
        return await self.http.get(self._url(resource), params=_query(parameters))

    async def get(self, resource: str, id: str | int, **parameters: Any) -> Response:  # noqa: A002
        """Ask for one record; ``include`` and ``fields[...]`` are sent as they are."""
        return await self.http.get(self._url(resource, id), params=_query(parameters))

    async def create(
        self,
        resource: str,
        attributes: Mapping[str, Any],
        relationships: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> Response:
        """POST a record. ``relationships`` are JSON:API linkage: ``{"type": ..., "id": ...}``."""
        document = _document(resource, id, attributes, relationships)
        return await self._send("POST", self._url(resource), document)

    async def update(
        self,
        resource: str,
        id: str | int,  # noqa: A002
        attributes: Mapping[str, Any],
        relationships: Mapping[str, Any] | None = None,
    ) -> Response:
        """PATCH a record."""
        document = _document(resource, str(id), attributes, relationships)
        return await self._send("PATCH", self._url(resource, id), document)

    async def delete(self, resource: str, id: str | int) -> Response:  # noqa: A002
        """DELETE a record."""
        return await self._send("DELETE", self._url(resource, id), None)

    # Subscriptions

    async def subscribe(
        self, resource: str, filters: Mapping[str, Any] | None = None, **options: Any
    ) -> Watch:
        """Watch a resource, as ``socket.emit("subscribe", ...)`` does.

        ``options`` are ``include``, ``fields``, ``subscriptionId``, and ``cursor`` (of a document's
        ``meta``, say), with which the subscription is told what came since, too.

        Raises:
            SubscriptionRefused: the server says no, to the subscription or to the user's token.
            ConfigurationError: the api has no sockets.
        """
        request: dict[str, Any] = {"resource": resource, **options}
        if filters is not None:
            request["filters"] = dict(filters)
        wire = await self._connected()
        # What it has missed comes right behind the ack, before this goes on.
        before = len(self.events)
        answer = await wire.call("subscribe", request)
        if "error" in answer:
            raise refusal(answer["error"])
        return self._watch(wire, answer["data"], filters or {}, before)

    async def restore(self, watch: Watch) -> Watch:
        """Make a subscription again, from the cursor that it saw last: what a client does that has
        lost its connection (see `disconnect`).

        Raises:
            SubscriptionRefused: the server says no, to the subscription or to the user's token.
        """
        wire = await self._connected()
        before = len(self.events)
        answer = await wire.call("restore-subscriptions", {"subscriptions": [watch.data]})
        if "error" in answer:
            raise refusal(answer["error"])
        for failure in answer["failed"]:
            raise refusal(failure["error"])
        return self._watch(wire, watch.data, watch.filters, before)

    async def connect(self) -> Wire:
        """The user's socket, opened where it is not open yet: for events of the application's own
        (``await (await ann.connect()).call("typing", "letter")``).

        Raises:
            Disconnected: the token is refused.
            ConfigurationError: the api has no sockets.
        """
        if not self._api.has_sockets:
            raise ConfigurationError("subscriptions need the SocketIOPlugin: use it")
        if self._wire is None or self._wire.end is not None:
            wire = self._make_wire(self._hear)
            await wire.connect(self.token)
            self._wire = wire
        return self._wire

    async def disconnect(self) -> None:
        """Close the socket; the next `subscribe` or `restore` opens another one."""
        if self._wire is not None:
            await self._wire.close()
            self._wire = None
            self.watches.clear()

    async def settled(self) -> None:
        """Wait until everything that has been committed is delivered; see `Live.settled`."""
        await self._settle()

    async def assert_silent(self) -> None:
        """Assert that none of this user's subscriptions was told anything more.

        Raises:
            AssertionError: one was.
        """
        __tracebackhide__ = True
        for watch in self.watches:
            await watch.assert_silent()

    async def close(self) -> None:
        """End the socket and the HTTP client."""
        await self.disconnect()
        await self.http.aclose()

    @property
    def unsent(self) -> int:
        """How many bytes the server still holds for the user's socket."""
        return 0 if self._wire is None else self._wire.unsent

    async def _connected(self) -> Wire:
        try:
            return await self.connect()
        except Disconnected as error:
            raise SubscriptionRefused(error.code or "DISCONNECTED", str(error)) from None

    def _watch(
        self, wire: Wire, data: Mapping[str, Any], filters: Mapping[str, Any], before: int
    ) -> Watch:
        watch = Watch(self._api, wire, self.identity, data, filters, self._settle)
        for event, payload in self.events[before:]:
            if _subscription_of(payload) == watch.id:
                watch.hear(event, payload)
        self.watches.append(watch)
        return watch

    def _hear(self, event: str, payload: Any) -> None:
        self.events.append((event, payload))
        for watch in self.watches:
            if _subscription_of(payload) == watch.id:
                watch.hear(event, payload)

    async def _send(self, method: str, url: str, document: object) -> Response:
        headers = {} if document is None else JSON_API
        return await self.http.request(method, url, json=document, headers=headers)

    def _url(self, resource: str, record_id: str | int | None = None) -> str:
        url = f"{self._api.prefix}/{quote(resource, safe='')}"
        return url if record_id is None else f"{url}/{quote(str(record_id), safe='')}"


def _subscription_of(payload: Any) -> object:
    """The id that an event names; errors name it among their details."""
    if not isinstance(payload, dict):
        return None
    return payload.get("subscriptionId") or (payload.get("details") or {}).get("subscriptionId")


def _query(parameters: Mapping[str, Any]) -> dict[str, Any]:
    own = ("sort", "include")
    return {
        name if name in own or "[" in name else f"filter[{name}]": value
        for name, value in parameters.items()
    }


def _document(
    resource: str,
    record_id: str | None,
    attributes: Mapping[str, Any],
    relationships: Mapping[str, Any] | None,
) -> dict[str, Any]:
    data: dict[str, Any] = {"type": resource, "attributes": dict(attributes)}
    if record_id is not None:
        data["id"] = record_id
    if relationships:
        data["relationships"] = {name: {"data": value} for name, value in relationships.items()}
    return {"data": data}
