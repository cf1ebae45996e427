"""Connection: the socket to the server, made again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import uuid4

from tidings import MissingExtraError
from tidings.client.changes import Change, Changes
from tidings.client.errors import UNAUTHORIZED, ClientError, of_payload
from tidings.client.tokens import Tokens

_log = logging.getLogger("tidings.client")
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 10.0
_ANSWER_SECONDS: Final = 20.0
_LAST_SECONDS: Final = 2.0
_RESTORED_AT_ONCE: Final = 100


def paused(pause: float) -> float:
    """Seconds to wait: not the same for all clients, so that they do not come all at once."""
    return pause * random.uniform(0.5, 1.0)  # noqa: S311  no secret


@dataclass(slots=True, eq=False)
class Subscription:
    """What is watched. ``cursor`` is the place up to which it was told; None: it never stood."""

    resource: str
    filters: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"py-{uuid4().hex[:16]}")
    cursor: str | None = None
    changes: Changes = field(default_factory=Changes)
    socket: Any = None
    """The socket on which it stands, or has been asked for."""

    def request(self) -> dict[str, Any]:
        """What the server is asked for; with a cursor, it tells what came since, too."""
        found: dict[str, Any] = {"resource": self.resource, "subscriptionId": self.id}
        if self.filters:
            found["filters"] = dict(self.filters)
        if self.cursor is not None:
            found["cursor"] = self.cursor
        return found


Status = Literal["live", "offline"]
OnStatus = Callable[[Status, str], object]
"""Called with the status and, where it is offline, the reason."""


class Connection:
    """Keeps a socket, and on it all subscriptions.

    Each socket is a new one of python-socketio's, which does not reconnect by itself: what it would
    do then it does with the token of the first time.
    """

    def __init__(
        self, url: str, path: str, tokens: Tokens, on_status: OnStatus | None = None
    ) -> None:
        self._url = url
        self._path = path
        self._tokens = tokens
        self._make = _library()
        self._say = on_status or (lambda _status, _reason: None)
        self._subscriptions: dict[str, Subscription] = {}
        self._socket: Any = None
        self._live = asyncio.Event()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asides: set[asyncio.Task[None]] = set()
        self.refusal: ClientError | None = None
        """Why the server does not let this client in, for good."""

    @property
    def is_live(self) -> bool:
        """Whether the socket stands, with the subscriptions on it."""
        return self._live.is_set()

    @property
    def is_open(self) -> bool:
        """Whether it is kept at all."""
        return self._task is not None

    def open(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name="tidings-client")

    async def close(self) -> None:
        """End the socket."""
        tasks = [*self._asides, *([self._task] if self._task else [])]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._disconnect()

    def add(self, subscription: Subscription) -> None:
        """Watch something, from now or from when the socket stands."""
        self._subscriptions[subscription.id] = subscription
        if self.refusal is not None:
            subscription.changes.fail(self.refusal)
        elif self.is_live:
            self._aside(self._subscribe(self._socket, subscription))

    async def remove(self, subscription: Subscription) -> None:
        """Watch it no longer."""
        self._subscriptions.pop(subscription.id, None)
        if self._socket is not None and subscription.socket is self._socket:
            with suppress(Exception):  # with the socket the subscription ends as well
                await self._socket.emit("unsubscribe", {"subscriptionId": subscription.id})

    # Connecting

    async def _run(self) -> None:
        pause, refused = FIRST_PAUSE, False
        while True:
            token = None
            try:
                token = await self._tokens.current()
                await self._connect(token)
                pause, refused = FIRST_PAUSE, False
                self._say("live", "")
                await self._lost.wait()
                self._say("offline", "the connection was lost")
            except ClientError as error:
                self._say("offline", str(error))
                if error.code in UNAUTHORIZED:
                    # That a new token is refused as well has another reason than its age, unless
                    # it has ended on its way.
                    if refused or not await self._renewed(token):
                        self._refuse(error)
                        return
                    refused = error.code != "TOKEN_EXPIRED"
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
                self._say(
                    "offline", f"no connection to {self._url}: {str(error) or type(error).__name__}"
                )
                _log.debug("no connection to %s: %r", self._url, error)
            await self._disconnect()
            await asyncio.sleep(paused(pause))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _renewed(self, token: str | None) -> bool:
        try:
            return await self._tokens.renew(token)
        except Exception:  # noqa: BLE001  it is the application's, has been logged, and is asked again
            return True

    async def _connect(self, token: str | None) -> None:
        self._lost.clear()
        # Ctrl+C is the application's own business; the library would take it over.
        socket = self._socket = self._make(reconnection=False, logger=False, handle_sigint=False)
        refusals: list[ClientError] = []
        greeted = asyncio.Event()

        def refuse(data: Any = None) -> None:
            refusals.append(_refusal(data))
            self._is_lost(socket)

        socket.on("connect_error", refuse)
        socket.on("connected", lambda _: greeted.set())
        socket.on("disconnect", lambda *_: self._is_lost(socket))
        for event, handle in (
            ("subscription.update", self._updated),
            ("subscription.resync", self._resynced),
            ("subscription.created", self._moved),
            ("subscription.error", self._ended),
        ):
            socket.on(event, self._of(socket, handle))
        socket.on("auth.expiring", lambda *_: self._aside(self._show_another(socket, token)))
        async with asyncio.timeout(_ANSWER_SECONDS):
            await socket.connect(
                self._url,
                auth=None if token is None else {"token": token},
                socketio_path=self._path,
                transports=["websocket"],
                wait=False,
            )
        # python-socketio says nothing of a transport that ends before the server has accepted the
        # socket, and lets whoever waits for an answer wait on.
        ended = asyncio.ensure_future(socket.eio.wait())
        ended.add_done_callback(lambda task: self._is_lost(socket, task))
        setting_up = asyncio.create_task(self._set_up(socket, greeted))
        losing = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({setting_up, losing}, return_when=asyncio.FIRST_COMPLETED)
            if refusals:
                raise refusals[0]
            if not setting_up.done():
                raise ConnectionError("the connection was lost while it was made")
            await setting_up
        finally:
            for task in (setting_up, losing):
                task.cancel()
            await asyncio.gather(setting_up, losing, return_exceptions=True)

    async def _set_up(self, socket: Any, greeted: asyncio.Event) -> None:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await greeted.wait()
        await self._subscribe_all(socket)

    async def _subscribe_all(self, socket: Any) -> None:
        known = [one for one in self._subscriptions.values() if one.cursor is not None]
        for start in range(0, len(known), _RESTORED_AT_ONCE):
            await self._restore(socket, known[start : start + _RESTORED_AT_ONCE])
        # Those that are added while others are being subscribed are not forgotten.
        while waiting := [one for one in self._subscriptions.values() if one.socket is not socket]:
            await asyncio.gather(*(self._subscribe(socket, one) for one in waiting))
        if not self._lost.is_set():
            self._live.set()

    async def _disconnect(self) -> None:
        self._live.clear()
        socket, self._socket = self._socket, None
        if socket is not None:
            with suppress(Exception):  # it may have gone, or not answer
                async with asyncio.timeout(_LAST_SECONDS):
                    await socket.disconnect()

    def _is_lost(self, socket: Any, ended: asyncio.Future[Any] | None = None) -> None:
        if ended is not None and not ended.cancelled():
            ended.exception()  # which it ended with is all the same, and must not be missed
        if socket is self._socket:
            self._live.clear()
            self._lost.set()

    def _refuse(self, error: ClientError) -> None:
        _log.error("the server does not let this client in: %s", error)
        self.refusal = error
        for subscription in self._subscriptions.values():
            subscription.changes.fail(error)

    async def _show_another(self, socket: Any, token: str | None) -> None:
        """Have the socket go on with a new token before the old one ends."""
        with suppress(Exception):  # it ends then, and is made again
            if await self._tokens.renew(token):
                token = await self._tokens.current()
                answer = await socket.call("authenticate", {"token": token})
                if "error" in answer:
                    _log.warning("a renewed token is refused: %s", answer["error"].get("code"))

    # Subscribing

    async def _restore(self, socket: Any, some: list[Subscription]) -> None:
        for one in some:
            one.socket = socket
        entries = {one.id: one for one in some}
        request = {"subscriptions": [one.request() for one in some]}
        answer = await socket.call("restore-subscriptions", request, timeout=_ANSWER_SECONDS)
        if "error" in answer:
            raise of_payload(answer["error"])
        for failure in answer["failed"]:
            self._failed(socket, entries[failure["subscriptionId"]], failure["error"])

    async def _subscribe(self, socket: Any, one: Subscription) -> None:
        one.socket = socket
        is_new = one.cursor is None
        try:
            answer = await socket.call("subscribe", one.request(), timeout=_ANSWER_SECONDS)
        except Exception as error:  # noqa: BLE001  it is made with the next socket
            _log.debug("%s could not be subscribed: %r", one.resource, error)
            self._is_lost(socket)
            return
        if "error" in answer:
            self._failed(socket, one, answer["error"])
        elif is_new and one.cursor is None:
            cursor = one.cursor = answer["data"]["cursor"]
            one.changes.put(Change("resync", "", one.resource, cursor, "subscribed"))

    def _failed(self, socket: Any, one: Subscription, payload: Mapping[str, Any]) -> None:
        """One subscription is refused, which is no matter of the others."""
        if of_payload(payload).passes:
            self._aside(self._subscribe_later(socket, one))
        else:
            self._ended(one, payload)

    async def _subscribe_later(self, socket: Any, one: Subscription) -> None:
        await asyncio.sleep(paused(5 * FIRST_PAUSE))
        if socket is self._socket and one.id in self._subscriptions:
            await self._subscribe(socket, one)

    def _aside(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    # Hearing

    def _of(
        self, socket: Any, handle: Callable[[Subscription, dict[str, Any]], None]
    ) -> Callable[[dict[str, Any]], None]:
        """A handler for those events of this socket that name a subscription of ours."""

        def heard(payload: dict[str, Any]) -> None:
            details = payload.get("details") or {}
            name = payload.get("subscriptionId") or details.get("subscriptionId", "")
            one = self._subscriptions.get(name)
            # What an earlier socket still says would move the cursor back.
            if one is not None and one.socket is socket is self._socket:
                handle(one, payload)

        return heard

    def _updated(self, one: Subscription, payload: dict[str, Any]) -> None:
        meta = payload["meta"]
        one.cursor = meta["cursor"]
        one.changes.put(Change(meta["change"], payload["id"], one.resource, meta["cursor"]))

    def _resynced(self, one: Subscription, payload: dict[str, Any]) -> None:
        cursor = one.cursor = payload["cursor"]
        one.changes.put(Change("resync", "", one.resource, cursor, payload["reason"]))

    def _moved(self, one: Subscription, payload: dict[str, Any]) -> None:
        # The first one comes before the ack, which is what makes it stand.
        if one.cursor is not None:
            one.cursor = payload["cursor"]

    def _ended(self, one: Subscription, payload: Mapping[str, Any]) -> None:
        self._subscriptions.pop(one.id, None)  # the next socket is not asked for it
        one.changes.fail(of_payload(payload))


def _refusal(data: Any) -> ClientError:
    if not isinstance(data, dict):
        return ClientError(str(data))
    details = data.get("data")
    code = details.get("code", "") if isinstance(details, dict) else ""
    return ClientError(data.get("message", "refused"), code)


def _library() -> Callable[..., Any]:
    try:
        import aiohttp  # noqa: F401  by which python-socketio opens WebSockets
        import socketio
    except ImportError as error:
        raise MissingExtraError(str(error.name), "client", "tidings.client") from None
    make: Callable[..., Any] = socketio.AsyncClient
    return make
