"""Watch: one subscription of a test's client, and what it was told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tidings import Api, Identity, RequestError, TidingsError
from tidings.testing.wire import Wire

Told = tuple[str, str]
"""The record's way through the subscription's filter and its id (``("enter", "7")``), or
``("resync", reason)``.
"""


class SubscriptionRefused(TidingsError):
    """The server refuses a subscription, or the socket that it would be on.

    ``code`` is the one that a client is told (``PERMISSION_DENIED``, ``TOKEN_EXPIRED``), and
    ``details`` what comes with it: of wrong filters, what is wrong with each.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.details: Mapping[str, Any] = details or {}


class Watch:
    """A subscription, made by `Client.subscribe`, and what it was told.

    Each question waits until everything that was committed has been delivered, so that no test
    needs a pause.
    """

    def __init__(
        self,
        api: Api,
        wire: Wire,
        identity: Identity,
        data: Mapping[str, Any],
        filters: Mapping[str, Any],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self.id: str = data["subscriptionId"]
        """The subscription's id on the wire."""
        self.resource: str = data["resource"]
        self.filters = filters
        self.data: dict[str, Any] = dict(data)
        """What ``subscription.created`` gave, with the cursor last seen, for `Client.restore`."""
        self.error: Mapping[str, Any] | None = None
        """Why the server has ended the subscription, if it has: the payload of the event."""
        self._told: list[Told] = []
        self._api = api
        self._wire = wire
        self._identity = identity
        self._settle = settle

    async def told(self) -> list[Told]:
        """What has come since this was asked last, in order: ``("enter", "7")``,
        ``("update", "7")``, ``("leave", "7")``, or ``("resync", reason)``.
        """
        await self._settle()
        found, self._told = self._told, []
        return found

    async def assert_told(self, *expected: tuple[str, object]) -> None:
        """Assert that this is what has come since the last time: all of it, in order.

            await watch.assert_told(("enter", post["id"]), ("leave", post["id"]))
            await watch.assert_told(("resync", "permission"))

        Raises:
            AssertionError: it is not. The message says, of each record that is too much or missing,
                which clause of the filters, a policy or a hook holds and which does not, and what
                became of its last changes.
        """
        __tracebackhide__ = True
        wanted = [(change, str(key)) for change, key in expected]
        found = await self.told()
        if found != wanted:
            raise AssertionError(await self._complaint(found, wanted))

    async def assert_silent(self) -> None:
        """Assert that nothing has come since the last time.

        Raises:
            AssertionError: something has; the message says why the subscription sees it.
        """
        __tracebackhide__ = True
        await self.assert_told()

    async def end(self) -> None:
        """Unsubscribe.

        Raises:
            SubscriptionRefused: there is no such subscription any more.
        """
        answer = await self._wire.call("unsubscribe", {"subscriptionId": self.id})
        if "error" in answer:
            raise refusal(answer["error"])

    def hear(self, event: str, payload: Mapping[str, Any]) -> None:
        """Take an event of the server that names this subscription; its client calls it."""
        if event == "subscription.update":
            self._told.append((payload["meta"]["change"], payload["id"]))
            self.data["cursor"] = payload["meta"]["cursor"]
        elif event == "subscription.resync":
            self._told.append(("resync", payload["reason"]))
            self.data["cursor"] = payload["cursor"]
        elif event == "subscription.error":
            self.error = payload

    async def _complaint(self, found: Sequence[Told], wanted: Sequence[Told]) -> str:
        who = self._identity.user_id or "nobody in particular"
        where = dict(self.filters) or "everything"
        lines = [
            f"{who} watches {self.resource!r} where {where}",
            f"  told:     {list(found)}",
            f"  expected: {list(wanted)}",
        ]
        if self.error is not None:
            lines.append(f"  it has ended: {self.error['code']}: {self.error['message']}")
        elif self._wire.end is not None:
            lines.append(f"  its socket has ended: {self._wire.end}")
        odd = {key for change, key in set(found) ^ set(wanted) if change != "resync"}
        # Where only the order differs, or how often, every record may be the one to look at.
        for key in sorted(odd or {key for change, key in (*found, *wanted) if change != "resync"}):
            lines += await self._why(key)
        return "\n".join(lines)

    async def _why(self, key: str) -> list[str]:
        """A record against the subscription, as both are now, and what became of its changes."""
        head = f"  {self.resource} {key}: "
        try:
            said = await self._api.explain(
                self.resource, key, dict(self.filters), auth=self._identity
            )
        except RequestError as error:
            lines = [f"{head}{error}"]
        else:
            lines = (head + str(said)).replace("\n", "\n  ").split("\n")
        return [*lines, *await self._changes(key)]

    async def _changes(self, key: str) -> list[str]:
        """The record's last changes, as a client is told of them that asks over the socket."""
        if self._wire.end is not None or self.error is not None:
            return []
        question = {"subscriptionId": self.id, "resource": self.resource, "id": key}
        answer = await self._wire.call("explain", question)
        changes = answer["data"]["changes"] if "data" in answer else []
        return [f"    {one['action']}: {one['change'] or one['reason']}" for one in changes]


def refusal(error: Mapping[str, Any]) -> SubscriptionRefused:
    """The exception for an error that a client is told."""
    return SubscriptionRefused(error["code"], error["message"], error.get("details"))
