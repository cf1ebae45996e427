"""A client of a tidings server for asynchronous Python: to watch resources, and to keep lists.

    async with Client("https://example.org", token=get_token) as client:
        async for change in client.watch("posts", {"status": "published"}):
            print(change.kind, change.id)

A notification says that something has changed, and never what: `Client.live` fetches it, with the
list's own filters, and keeps a list that is the server's answer. Connections that are lost are made
again, and what was missed meanwhile comes then, or word that it is to be fetched.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode
from uuid import uuid4

from tidings import ConfigurationError, MissingExtraError, TidingsError

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger("tidings.client")
Kind = Literal["enter", "update", "leave", "resync"]
Status = Literal["live", "offline"]
OnStatus = Callable[[Status, str], object]
GetToken = Callable[[bool], str | Awaitable[str | None] | None]
"""Gives the token; it is told True where the one before was refused."""
MEDIA_TYPE: Final = "application/vnd.api+json"
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_ANSWER_SECONDS: Final = 20.0
_BATCH: Final = 100
_FOR_GOOD: Final = frozenset({"PERMISSION_DENIED", "RESOURCE_NOT_FOUND", "INVALID_FILTERS"})
_RENEWED: Final = frozenset({"TOKEN_EXPIRED", "TOKEN_REVOKED", "INVALID_TOKEN"})


class ClientError(TidingsError):
    """The server has refused something; ``code`` is the error's, ``status`` HTTP's, if any."""

    def __init__(self, message: str, code: str = "", status: int | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Change:
    """What a subscription was told: a record of ``id`` has entered what it watches, was updated or
    has left it. ``resync``: something was missed, so that all of it is to be fetched; ``reason``
    says why, and ``id`` is empty.
    """

    kind: Kind
    id: str
    resource: str
    cursor: str
    reason: str = ""


@dataclass(slots=True)
class _Watched:
    resource: str
    filters: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"py-{uuid4().hex[:16]}")
    cursor: str | None = None
    changes: asyncio.Queue[Change | ClientError] = field(default_factory=asyncio.Queue)
    socket: Any = None
    """The connection on which it stands."""

    def request(self) -> dict[str, Any]:
        found: dict[str, Any] = {"resource": self.resource, "subscriptionId": self.id}
        if self.filters:
            found["filters"] = dict(self.filters)
        if self.cursor is not None:
            found["cursor"] = self.cursor
        return found


class Client:
    """A connection to a server.

    ``url`` is the server's, ``prefix`` the path of its resources and ``socket_path`` that of its
    sockets. ``token`` is a text, or a function that gives one: it is called with True when the last
    token was refused or ends. ``on_status`` is called with the status and, where it is offline, the
    reason: each time that the connection stands, was lost, or could not be made.

    Raises:
        MissingExtraError: httpx and python-socketio are not there.
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
        self._url = url.rstrip("/")
        self._prefix = prefix
        self._socket_path = socket_path
        self._get_token = token
        self._say = on_status or (lambda _status, _reason: None)
        self._token: str | None = None
        self._has_token = False
        self._watched: dict[str, _Watched] = {}
        self._socket: Any = None
        self._task: asyncio.Task[None] | None = None
        self._live = asyncio.Event()
        self._lost = asyncio.Event()
        self._make_http, self._make_socket = _libraries()
        self.http: httpx.AsyncClient = self._make_http(
            base_url=self._url, headers={"Accept": MEDIA_TYPE}, timeout=30
        )
        """For requests of your own; they need the header of `headers`."""

    async def __aenter__(self) -> Client:
        self._task = asyncio.create_task(self._run(), name="tidings-client")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()
        await self.http.aclose()

    @property
    def is_live(self) -> bool:
        """Whether the connection stands at the moment, so that changes come as they happen."""
        return self._live.is_set()

    # HTTP

    async def request(self, method: str, path: str, document: Any = None, **options: Any) -> Any:
        """Send a request below the prefix and give the document; None for an answer without one.

        Raises:
            ClientError: the server has refused it.
        """
        content = None if document is None else json.dumps(document)
        headers = {} if document is None else {"Content-Type": MEDIA_TYPE}
        for is_last in (False, True):
            authorization = await self._authorization()
            answer = await self.http.request(
                method,
                f"{self._prefix}{path}",
                content=content,
                headers={**headers, **authorization},
                **options,
            )
            if answer.status_code != 401 or is_last or not callable(self._get_token):
                break
            await self._renew()
        body = answer.json() if answer.content else None
        if answer.status_code >= 400:
            raise _error(body, answer.status_code)
        return body

    async def _authorization(self) -> dict[str, str]:
        token = await self._current_token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    async def _current_token(self) -> str | None:
        if not self._has_token:
            await self._renew(first=True)
        return self._token

    async def _renew(self, *, first: bool = False) -> None:
        found = self._get_token
        if callable(found):
            given = found(not first)
            found = await given if inspect.isawaitable(given) else given
        self._token, self._has_token = found, True

    # Watching

    async def watch(
        self, resource: str, filters: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Change]:
        """The changes of a resource, for as long as somebody asks for them. The first is a
        ``resync`` when the subscription stands: what was there before is yours to fetch.

        Raises:
            ClientError: the server refuses the subscription.
        """
        watched = _Watched(resource, dict(filters or {}))
        async with self._watching(watched):
            while True:
                change = await watched.changes.get()
                if isinstance(change, ClientError):
                    raise change
                yield change

    @asynccontextmanager
    async def _watching(self, watched: _Watched) -> AsyncIterator[None]:
        if self._task is None:
            raise ConfigurationError("a client connects within 'async with': enter it first")
        self._watched[watched.id] = watched
        try:
            if self.is_live:
                try:
                    await self._subscribe(watched)
                except Exception as error:  # noqa: BLE001  it is made with the next connection
                    _log.debug("%s could not be subscribed: %s", watched.resource, error)
                    self._lost.set()
            yield
        finally:
            del self._watched[watched.id]
            if self.is_live:
                with suppress(Exception):
                    await self._socket.emit("unsubscribe", {"subscriptionId": watched.id})

    @asynccontextmanager
    async def live(
        self,
        resource: str,
        filters: Mapping[str, Any] | None = None,
        *,
        include: Sequence[str] = (),
        fields: Mapping[str, Sequence[str]] | None = None,
    ) -> AsyncIterator[LiveList]:
        """A list that is kept as the server would answer it.

        async with client.live("posts", {"status": "published"}) as posts:
            async for _ in posts.changed():
                print(len(posts.records))

        Raises:
            ClientError: the server refuses it.
        """
        watched = _Watched(resource, dict(filters or {}))
        found = LiveList(self, watched, include, fields or {})
        async with self._watching(watched):
            keeping = asyncio.create_task(found._keep(), name="tidings-live")
            try:
                await found._until_loaded(keeping)
                yield found
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    # The connection

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._connect()
                pause = _FIRST_PAUSE
                self._say("live", "")
                await self._lost.wait()
                self._say("offline", "the connection was lost")
            except ClientError as error:
                if error.code in _RENEWED and callable(self._get_token):
                    await self._renew()
                elif error.code in _RENEWED or error.code == "AUTHENTICATION_REQUIRED":
                    self._fail(error)
                    return
                self._say("offline", str(error))
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
                _log.debug("no connection to %s: %s", self._url, error)
                self._say("offline", f"no connection to {self._url}: {error}")
            await self._disconnect()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _connect(self) -> None:
        self._lost.clear()
        # Ctrl+C is the application's own business; the library would take it over.
        socket = self._socket = self._make_socket(
            reconnection=False, logger=False, handle_sigint=False
        )
        refused: list[ClientError] = []
        greeted = asyncio.Event()

        def on_error(data: Any) -> None:
            details = data.get("data") if isinstance(data, dict) else None
            code = details.get("code", "") if isinstance(details, dict) else ""
            message = data.get("message", "refused") if isinstance(data, dict) else str(data)
            refused.append(ClientError(message, code))

        def lost(*_: Any) -> None:
            self._live.clear()
            self._lost.set()

        socket.on("connect_error", on_error)
        socket.on("connected", lambda _: greeted.set())
        socket.on("disconnect", lost)
        socket.on("subscription.update", self._updated)
        socket.on("subscription.resync", self._resynced)
        socket.on("subscription.created", self._created)
        socket.on("subscription.error", self._ended)
        socket.on("auth.expiring", lambda *_: asyncio.ensure_future(self._show_another()))
        token = await self._current_token()
        try:
            await socket.connect(
                self._url,
                auth=None if token is None else {"token": token},
                socketio_path=self._socket_path,
                transports=["websocket"],
                wait_timeout=_ANSWER_SECONDS,
            )
        except Exception:
            if refused:
                raise refused[0] from None
            raise
        async with asyncio.timeout(_ANSWER_SECONDS):
            await greeted.wait()
        # Some may be added while others are subscribed.
        while waiting := [one for one in self._watched.values() if one.socket is not socket]:
            for watched in waiting:
                await self._subscribe(watched)
        self._live.set()

    async def _disconnect(self) -> None:
        self._live.clear()
        if self._socket is not None:
            with suppress(Exception):
                await self._socket.disconnect()
            self._socket = None

    async def _show_another(self) -> None:
        """Have the connection go on with a new token, before the old one ends."""
        if not callable(self._get_token):
            return
        await self._renew()
        with suppress(Exception):
            await self._socket.call("authenticate", {"token": self._token})

    async def _subscribe(self, watched: _Watched) -> None:
        is_new = watched.cursor is None
        watched.socket = self._socket
        answer = await self._socket.call("subscribe", watched.request(), timeout=_ANSWER_SECONDS)
        if "error" in answer:
            error = answer["error"]
            failed = ClientError(error.get("message", ""), error.get("code", ""))
            if failed.code not in _FOR_GOOD:
                raise failed  # the connection is made again
            watched.changes.put_nowait(failed)
        elif is_new:
            cursor = watched.cursor = answer["data"]["cursor"]
            first = Change("resync", "", watched.resource, cursor, "subscribed")
            watched.changes.put_nowait(first)

    def _updated(self, payload: dict[str, Any]) -> None:
        watched = self._watched.get(payload["subscriptionId"])
        if watched is not None:
            meta = payload["meta"]
            watched.cursor = meta["cursor"]
            change = Change(meta["change"], payload["id"], payload["resource"], meta["cursor"])
            watched.changes.put_nowait(change)

    def _resynced(self, payload: dict[str, Any]) -> None:
        watched = self._watched.get(payload["subscriptionId"])
        if watched is not None:
            cursor = watched.cursor = payload["cursor"]
            stale = Change("resync", "", watched.resource, cursor, payload["reason"])
            watched.changes.put_nowait(stale)

    def _created(self, payload: dict[str, Any]) -> None:
        watched = self._watched.get(payload["subscriptionId"])
        if watched is not None and watched.cursor is not None:
            watched.cursor = payload["cursor"]

    def _ended(self, payload: dict[str, Any]) -> None:
        watched = self._watched.get(payload.get("subscriptionId", ""))
        if watched is not None:
            error = ClientError(payload.get("message", ""), payload.get("code", ""))
            watched.changes.put_nowait(error)

    def _fail(self, error: ClientError) -> None:
        _log.error("the server does not let us in: %s", error)
        for watched in self._watched.values():
            watched.changes.put_nowait(error)


class LiveList:
    """The records of a list by id, as the server's documents show them, kept up to date."""

    def __init__(
        self,
        client: Client,
        watched: _Watched,
        include: Sequence[str],
        fields: Mapping[str, Sequence[str]],
    ) -> None:
        self._client = client
        self._watched = watched
        self._parameters = _parameters(watched.filters, include, fields)
        self._loaded = asyncio.Event()
        self._changed = asyncio.Event()
        self.records: dict[str, dict[str, Any]] = {}
        """Resource objects by id."""
        self.included: dict[tuple[str, str], dict[str, Any]] = {}
        """What ``include`` has brought along, by type and id."""
        self.version = 0
        """How often the list has changed."""

    async def changed(self) -> AsyncIterator[LiveList]:
        """The list itself, each time that it has changed; at first as it is."""
        while True:
            yield self
            await self._changed.wait()
            self._changed.clear()

    async def _until_loaded(self, keeping: asyncio.Task[None]) -> None:
        loaded = asyncio.ensure_future(self._loaded.wait())
        await asyncio.wait({loaded, keeping}, return_when=asyncio.FIRST_COMPLETED)
        loaded.cancel()
        if keeping.done():
            await keeping  # raises what has ended it

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            changes = [await self._watched.changes.get()]
            while not self._watched.changes.empty():
                changes.append(self._watched.changes.get_nowait())
            failed = next((one for one in changes if isinstance(one, ClientError)), None)
            if failed is not None:
                raise failed
            is_stale = any(isinstance(one, Change) and one.kind == "resync" for one in changes)
            ids = dict.fromkeys(one.id for one in changes if isinstance(one, Change) and one.id)
            while True:
                try:
                    await (self._load() if is_stale else self._look_at(list(ids)))
                    break
                except ClientError as error:
                    if error.status in (401, 403, 404):
                        raise
                    _log.warning("the list could not be fetched, and is tried again: %s", error)
                except self._failures() as error:
                    _log.debug("the list could not be fetched, and is tried again: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            pause = _FIRST_PAUSE
            self.version += 1
            self._loaded.set()
            self._changed.set()

    def _failures(self) -> type[Exception]:
        import httpx

        return httpx.HTTPError

    async def _load(self) -> None:
        """Fetch all of it by places, which skip nothing when records leave meanwhile. What changes
        meanwhile has been told, and is looked at next.
        """
        included: dict[tuple[str, str], dict[str, Any]] = {}
        self.records = await self._fetch(self._parameters, included)
        self.included = included

    async def _look_at(self, ids: Sequence[str]) -> None:
        """Fetch these records by the list's own filters: what does not come has left it."""
        if "id" in self._watched.filters:  # it can be given once only
            await self._load()
            return
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            asked = [("filter[id]", ",".join(some))]
            found = await self._fetch([*self._parameters, *asked], self.included)
            for key in some:
                if key in found:
                    self.records[key] = found[key]
                else:
                    self.records.pop(key, None)

    async def _fetch(
        self,
        parameters: Sequence[tuple[str, str]],
        included: dict[tuple[str, str], dict[str, Any]],
    ) -> dict[str, dict[str, Any]]:
        """All records of a list, page by page; what they bring along is put into ``included``."""
        found: dict[str, dict[str, Any]] = {}
        place: str | None = ""
        while place is not None:
            query = urlencode([*parameters, ("sort", "id"), ("page[after]", place)])
            path = f"/{self._watched.resource}?{query}"
            document = await self._client.request("GET", path)
            found.update((one["id"], one) for one in document["data"])
            brought = document.get("included", ())
            included.update(((one["type"], one["id"]), one) for one in brought)
            following = document["links"].get("next")
            place = None if following is None else document["data"][-1]["meta"]["page"]["cursor"]
        return found


def _parameters(
    filters: Mapping[str, Any], include: Sequence[str], fields: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """What a subscription's filters are in a query string."""
    found: list[tuple[str, str]] = []
    for name, value in filters.items():
        found += _filter(f"filter[{name}]", value)
    if include:
        found.append(("include", ",".join(include)))
    found += [(f"fields[{kind}]", ",".join(names)) for kind, names in fields.items()]
    return found


def _filter(key: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return [(f"{key}[null]", "true")]
    if isinstance(value, Mapping):
        return [pair for name, one in value.items() for pair in _filter(f"{key}[{name}]", one)]
    if isinstance(value, list | tuple):
        return [(f"{key}[]", _text(one)) for one in value]
    return [(key, _text(value))]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error(body: Any, status: int) -> ClientError:
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if errors else {}
    return ClientError(first.get("detail", f"answered {status}"), first.get("code", ""), status)


def _libraries() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        import aiohttp  # noqa: F401  by which python-socketio opens WebSockets
        import httpx
        import socketio
    except ImportError as error:
        raise MissingExtraError(str(error.name), "client", "tidings.client") from None
    return httpx.AsyncClient, socketio.AsyncClient
