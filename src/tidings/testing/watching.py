"""Watch: one subscription of a test's client, and what it has been told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidings import Api, Identity, RequestError, TidingsError
from tidings.testing.wire import Wire

Change = Literal["enter", "update", "leave", "resync"]
"""The record's way through the subscription's filter; ``resync``: refetch everything."""


class SubscriptionRefused(TidingsError):
    """The server does not accept a subscription; ``code``, ``details`` and the text are its own."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.details: Mapping[str, Any] = error.get("details") or {}


@dataclass(frozen=True, slots=True)
class Notification:
    """What a subscription was told: ``change`` of the record ``id``, or a resync.

    ``action`` is ``post``, ``patch``, ``update`` or ``delete``. Of a resync ``id`` and ``action``
    are None, and ``reason`` says why. ``payload`` is the message as it came over the wire.
    """

    resource: str
    id: str | None
    change: str
    action: str | None
    reason: str | None
    payload: Mapping[str, Any]

    def __str__(self) -> str:
        if self.change == "resync":
            return f"resync of {self.resource} ({self.reason})"
        return f"{self.change} of {self.resource}/{self.id} ({self.action})"


class Watch:
    """A subscription, made by `Client.subscribe`, that keeps what it is told.

    Each assertion waits until everything that was committed has been delivered, so that none needs
    a pause. ``news`` is what no assertion has accounted for yet.
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
        self.data = data
        """What ``subscription.created`` gave: to be restored with, by `Client.restore`."""
        self.news: list[Notification] = []
        self.error: Mapping[str, Any] | None = None
        """Why the server has ended the subscription, if it has."""
        self._api = api
        self._wire = wire
        self._identity = identity
        self._filters = filters
        self._settle = settle

    async def assert_told(
        self,
        id: str | int | None = None,  # noqa: A002  its name on the wire
        change: Change | None = None,
        *,
        action: str | None = None,
        reason: str | None = None,
    ) -> Notification:
        """Assert that the subscription was told, and give the notification.

        What is left out may be anything: ``assert_told()`` is content with any notification. The
        notification is taken out of ``news``, so that the next assertion sees what came beside it.

            await watch.assert_told(post["id"], "leave")
            await watch.assert_told(change="resync", reason="permission")

        Raises:
            AssertionError: it was not; the message says what was told instead and, by `Api.explain`,
                which clause of the filter, a policy or a hook does not hold.
        """
        __tracebackhide__ = True
        await self._settle()
        wanted = {"id": None if id is None else str(id), "change": change}
        wanted |= {"action": action, "reason": reason}
        for told in self.news:
            if all(value is None or getattr(told, name) == value for name, value in wanted.items()):
                self.news.remove(told)
                return told
        described = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value)
        lines = [f"{self} was not told of {described or 'anything'}", self._what_came()]
        if id is not None:
            lines += await self._why(str(id))
        raise AssertionError("\n".join(lines))

    async def assert_silent(self, id: str | int | None = None) -> None:  # noqa: A002
        """Assert that nothing was told but what earlier assertions have accounted for.

        With ``id``, nothing about this record.

        Raises:
            AssertionError: something was; the message explains why the subscription sees it.
        """
        __tracebackhide__ = True
        await self._settle()
        about = None if id is None else str(id)
        heard = [told for told in self.news if about is None or told.id in (about, None)]
        if not heard:
            return
        lines = [f"{self} was told of what it should not have been", self._what_came()]
        for record_id in dict.fromkeys(told.id for told in heard if told.id is not None):
            lines += await self._why(record_id)
        raise AssertionError("\n".join(lines))

    def clear(self) -> None:
        """Forget what has been told so far."""
        self.news.clear()

    async def end(self) -> None:
        """Unsubscribe.

        Raises:
            SubscriptionRefused: there is no such subscription any more.
        """
        answer = await self._wire.call("unsubscribe", {"subscriptionId": self.id})
        if "error" in answer:
            raise SubscriptionRefused(answer["error"])

    def hear(self, event: str, payload: Mapping[str, Any]) -> None:
        """Take an event that names this subscription (the client calls it)."""
        if event == "subscription.update":
            change = payload["meta"]["change"]
            told = Notification(
                payload["resource"], payload["id"], change, payload["action"], None, payload
            )
            self.news.append(told)
        elif event == "subscription.resync":
            reason = payload["reason"]
            self.news.append(
                Notification(payload["resource"], None, "resync", None, reason, payload)
            )
        elif event == "subscription.error":
            self.error = payload

    def __str__(self) -> str:
        who = "nobody in particular" if self._identity.user_id is None else self._identity.user_id
        filters = ", ".join(f"{name}={value!r}" for name, value in self._filters.items())
        return f"the subscription of {who} to {self.resource}({filters})"

    def _what_came(self) -> str:
        if self.error is not None:
            return f"  it has ended: {self.error['code']}: {self.error['message']}"
        if self._wire.end is not None:
            return f"  its socket has ended: {self._wire.end}"
        return "  it was told: " + (", ".join(map(str, self.news)) or "nothing")

    async def _why(self, record_id: str) -> list[str]:
        """The record against the subscription, as it is now, and what became of its changes."""
        head = f"  {self.resource}/{record_id}: "
        try:
            found = await self._api.explain(
                self.resource, record_id, self._filters, auth=self._identity
            )
            lines = [head + str(found).replace("\n", "\n  ")]
        except RequestError as error:
            lines = [f"{head}{error}"]
        return lines + await self._changes(record_id)

    async def _changes(self, record_id: str) -> list[str]:
        if self._wire.end is not None or self.error is not None:
            return []
        question = {"subscriptionId": self.id, "resource": self.resource, "id": record_id}
        answer = await self._wire.call("explain", question)
        if "error" in answer:
            return []
        data = answer["data"]
        if not data["changes"]:
            return [f"  as the client may know: {data['message']}"]
        return [
            f"  its {one['action']} at {one['timestamp']}: {one['change'] or one['reason']}"
            for one in data["changes"]
        ]
