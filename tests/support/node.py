"""An unmodified ``socket.io-client``, written from the guide and driven from Python.

    async with NodeClient(server.url, transports="websocket") as client:
        await client.connect(token)
        subscription = await client.subscribe(resource="posts", filters={"status": "published"})
        [update] = await client.wait("subscription.update")
        assert update.data["subscriptionId"] == subscription["subscriptionId"]

Every method takes ``socket="name"``: one client can hold several named sockets. Times are in
seconds.
"""

# ruff: noqa: ASYNC109 - a timeout goes along to the Node process, which says what was missing.

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

JS_DIRECTORY = Path(__file__).parent.parent / "js"
DEFAULT_TIMEOUT = 5.0

# How much longer than the driver itself we wait, so that its own, better message comes first.
GRACE = 3.0


class NodeClientError(Exception):
    """The driver could not do what it was asked."""

    def __init__(self, message: str, *, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class SubscriptionRefused(NodeClientError):
    """The server answered a subscribe with ``{error}``; `error` is that object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}", data=error)
        self.error = error
        self.code = error.get("code")


@dataclass(frozen=True)
class Event:
    """One line of a socket's log. `at` is seconds since 1970, `seq` its place in the log."""

    event: str
    args: list[Any]
    at: float
    seq: int

    @property
    def data(self) -> Any:
        """The first argument: the payload of all of tidings' events."""
        return self.args[0] if self.args else None


class NodeClient:
    """One Node process with any number of sockets to `url`.

    `transports` is ``"websocket"``, ``"polling"`` or ``"polling,websocket"``; without it the
    library's own default holds (polling, then an upgrade). `source` is the address of this host
    that it connects from.
    """

    def __init__(
        self, url: str, *, transports: str | None = None, source: str | None = None
    ) -> None:
        self._argv = [_node(), str(JS_DIRECTORY / "guide-client.mjs"), url]
        if transports is not None:
            self._argv += ["--transports", transports]
        if source is not None:
            self._argv += ["--from", source]
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = bytearray()
        self._last_id = 0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        self._readers = [
            asyncio.create_task(self._read_replies(self._process)),
            asyncio.create_task(self._read_stderr(self._process)),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._running()
        assert process.stdin is not None
        # The driver says goodbye to the server and exits when its input ends.
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await asyncio.gather(*self._readers)

    @property
    def stderr(self) -> str:
        """What the Node process has written to its error output so far."""
        return self._stderr.decode(errors="replace")

    async def command(
        self, command: str, /, *, timeout: float = DEFAULT_TIMEOUT, **params: Any
    ) -> Any:
        """Send one command of the driver and return its result. `None` parameters are left out."""
        process = self._running()
        assert process.stdin is not None
        self._last_id += 1
        message = {key: value for key, value in params.items() if value is not None}
        message |= {"id": self._last_id, "command": command, "timeout": round(timeout * 1000)}
        answer = self._pending[self._last_id] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            await process.stdin.drain()
            async with asyncio.timeout(timeout + GRACE):
                return await answer
        except (TimeoutError, ConnectionError) as error:
            raise NodeClientError(self._explain(f"{command}: {error or 'no answer'}")) from error
        finally:
            del self._pending[message["id"]]

    async def connect(
        self,
        token: str | None = None,
        *,
        auth: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        auto_restore: bool = True,
        cursors: bool = False,
        wait: bool = True,
        socket: str = "main",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> dict[str, Any]:
        """Open a socket; with `wait`, until it is connected or refused (`NodeClientError`).

        As in the guide, each later (re)connection restores the subscriptions by itself; pass
        ``auto_restore=False`` to call `restore` by hand. `cursors` keeps the remembered
        subscriptions at the last cursor seen, which the guide's own clients do not.
        `options` are socket.io-client's.
        """
        return await self.command(
            "connect",
            socket=socket,
            auth={"token": token} if token is not None else auth,
            options=options,
            autoRestore=auto_restore,
            cursors=cursors,
            wait=wait,
            timeout=timeout,
        )

    async def emit(
        self,
        event: str,
        *args: Any,
        ack: bool = True,
        socket: str = "main",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[Any] | None:
        """Emit an event; with `ack`, return the acknowledgement's arguments."""
        return await self.command(
            "emit", socket=socket, event=event, args=args, ack=ack, timeout=timeout
        )

    async def subscribe(
        self, *, socket: str = "main", timeout: float = DEFAULT_TIMEOUT, **options: Any
    ) -> dict[str, Any]:
        """The guide's ``subscribeToResource``; raises `SubscriptionRefused` where it rejects."""
        return _accepted(
            await self.command("subscribe", socket=socket, options=options, timeout=timeout)
        )

    async def unsubscribe(
        self, subscription_id: str, *, socket: str = "main", timeout: float = DEFAULT_TIMEOUT
    ) -> dict[str, Any]:
        """Unsubscribe, and on success forget the subscription. Returns the ack, error or not."""
        return await self.command(
            "unsubscribe", socket=socket, subscriptionId=subscription_id, timeout=timeout
        )

    async def restore(
        self,
        subscriptions: Sequence[Any] | None = None,
        *,
        socket: str = "main",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> dict[str, Any]:
        """The guide's ``restoreSubscriptions``; by default of all that were remembered."""
        return await self.command(
            "restore", socket=socket, subscriptions=subscriptions, timeout=timeout
        )

    async def subscriptions(self, *, socket: str = "main") -> list[dict[str, Any]]:
        """What ``subscription.created`` told, as the client would restore it."""
        return await self.command("subscriptions", socket=socket)

    async def wait(
        self,
        event: str | None = None,
        *,
        count: int = 1,
        match: Mapping[str, Any] | None = None,
        socket: str = "main",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[Event]:
        """Wait until the log holds `count` of these; return all of them.

        Those that came before the call count too, back to the last `clear`. `match` names what
        the first argument must hold: ``match={"id": "1", "meta": {"change": "leave"}}``.
        """
        found = await self.command(
            "wait", socket=socket, event=event, count=count, match=match, timeout=timeout
        )
        return _events(found)

    async def events(
        self,
        event: str | None = None,
        *,
        match: Mapping[str, Any] | None = None,
        socket: str = "main",
    ) -> list[Event]:
        """What the log holds now, without waiting."""
        return _events(await self.command("events", socket=socket, event=event, match=match))

    async def clear(self, *, socket: str = "main") -> None:
        """Empty the log."""
        await self.command("clear", socket=socket)

    async def disconnect(self, *, socket: str = "main") -> None:
        """Say goodbye and stay away."""
        await self.command("disconnect", socket=socket)

    async def reconnect(
        self,
        token: str | None = None,
        *,
        auth: Mapping[str, Any] | None = None,
        wait: bool = True,
        socket: str = "main",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> dict[str, Any]:
        """Connect the same socket again, with a new token if one is given."""
        return await self.command(
            "reconnect",
            socket=socket,
            auth={"token": token} if token is not None else auth,
            wait=wait,
            timeout=timeout,
        )

    async def drop(self, *, hold: bool = False, polite: bool = False, socket: str = "main") -> str:
        """Break the connection abruptly and return the reason the client's own event gave.

        The client then reconnects by itself; with `hold`, only on `reconnect`. A `polite` drop
        closes the transport in order instead.
        """
        return (await self.command("drop", socket=socket, hold=hold, polite=polite))["reason"]

    async def transport(
        self, *, until: str | None = None, socket: str = "main", timeout: float = DEFAULT_TIMEOUT
    ) -> str:
        """The transport's name; with `until`, once it has been upgraded to that one."""
        return await self.command("transport", socket=socket, until=until, timeout=timeout)

    async def status(self, *, socket: str = "main") -> dict[str, Any]:
        """``{id, connected, active}``; an active socket is connected or about to reconnect."""
        return await self.command("status", socket=socket)

    async def manager_new(
        self,
        token: str,
        *,
        api_url: str | None = None,
        wait: bool = True,
        socket: str = "manager",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> dict[str, Any]:
        """Create the guide's ``RealtimeResourceManager``; its socket can be used like any other."""
        return await self.command(
            "manager.new", socket=socket, token=token, apiUrl=api_url, wait=wait, timeout=timeout
        )

    async def manager_subscribe(
        self,
        resource: str,
        filters: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        socket: str = "manager",
    ) -> dict[str, Any]:
        """The manager's ``subscribe``; raises `SubscriptionRefused` where it rejects."""
        return _accepted(
            await self.command(
                "manager.subscribe",
                socket=socket,
                resource=resource,
                filters=filters,
                options=options,
            )
        )

    async def manager_subscriptions(self, *, socket: str = "manager") -> list[dict[str, Any]]:
        """The manager's map of subscriptions."""
        return await self.command("manager.subscriptions", socket=socket)

    async def manager_events(self, *, socket: str = "manager") -> list[dict[str, Any]]:
        """The ``resource:updated`` events that the manager emitted."""
        return await self.command("manager.events", socket=socket)

    async def manager_fetch(
        self,
        resource: str,
        id: str,  # noqa: A002 - the guide's own name
        options: Mapping[str, str] | None = None,
        *,
        socket: str = "manager",
    ) -> dict[str, Any]:
        """The manager's cached ``fetchResource``."""
        # "id" is taken by the envelope of a command.
        return await self.command(
            "manager.fetch", socket=socket, resource=resource, recordId=id, options=options
        )

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("use NodeClient as 'async with NodeClient(url) as client'")
        return self._process

    def _explain(self, message: str) -> str:
        return f"{message}\n--- the Node process's error output ---\n{self.stderr or '(nothing)'}"

    async def _read_replies(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._settle(json.loads(line))
        code = await process.wait()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionError(f"the Node process ended with code {code}"))

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self._stderr += line

    def _settle(self, reply: dict[str, Any]) -> None:
        answer = self._pending.get(reply["id"])
        if answer is None or answer.done():
            return
        if reply["ok"]:
            answer.set_result(reply["result"])
        else:
            error = reply["error"]
            answer.set_exception(
                NodeClientError(self._explain(error["message"]), data=error.get("data"))
            )


def _node() -> str:
    node = shutil.which("node")
    if node is None or not (JS_DIRECTORY / "node_modules" / "socket.io-client").is_dir():
        pytest.skip("needs Node.js 20 or later and its packages: run 'make setup-js'")
    return node


def _accepted(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise SubscriptionRefused(result["error"])
    return result


def _events(found: list[dict[str, Any]]) -> list[Event]:
    return [
        Event(event=one["event"], args=one["args"], at=one["at"] / 1000, seq=one["seq"])
        for one in found
    ]
