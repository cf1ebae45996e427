"""What the tests of the guide's app share: tokens, requests, and one socket of a Node client."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from tests.support.node import Event, NodeClient

APP = "examples/guide/app.py"
SECRET = "guide-secret-guide-secret-guide-secret"
MEDIA_TYPE = "application/vnd.api+json"
TRANSPORTS = ["polling", "websocket", "polling,websocket"]

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A value that no other test uses, so that tests on one server do not meet."""
    return f"{prefix}-{next(_numbers)}"


def token(user: str = "u1", *, roles: tuple[str, ...] = (), **claims: Any) -> str:
    """A token as the app accepts it; a claim of None is left out."""
    given = {"sub": user, "roles": list(roles), "exp": time.time() + 3600, **claims}
    payload = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(payload, SECRET, algorithm="HS256")


ADMIN = token("root", roles=("admin",), workspace_id="w-root")


class Rest:
    """JSON:API requests, as an admin unless told otherwise."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        auth: str | None = ADMIN,
        params: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        headers = {"accept": MEDIA_TYPE}
        if auth is not None:
            headers["authorization"] = f"Bearer {auth}"
        content = None
        if document is not None:
            headers["content-type"] = MEDIA_TYPE
            content = json.dumps(document)
        return await self._http.request(
            method, f"/api/{path}", headers=headers, content=content, params=params
        )

    async def create(self, resource: str, *, auth: str = ADMIN, **attributes: Any) -> str:
        """POST, and the new record's id."""
        document = {"data": {"type": resource, "attributes": attributes}}
        answer = await self.send("POST", resource, document, auth=auth)
        assert answer.status_code == 201, answer.text
        record_id: str = answer.json()["data"]["id"]
        return record_id

    async def put(
        self, resource: str, record_id: str, *, auth: str = ADMIN, **attributes: Any
    ) -> int:
        """PUT, and the status: 201 where it created."""
        data = {"type": resource, "id": record_id, "attributes": attributes}
        answer = await self.send("PUT", f"{resource}/{record_id}", {"data": data}, auth=auth)
        assert answer.status_code in (200, 201), answer.text
        return answer.status_code

    async def patch(
        self, resource: str, record_id: str, *, auth: str = ADMIN, **attributes: Any
    ) -> None:
        data = {"type": resource, "id": record_id, "attributes": attributes}
        answer = await self.send("PATCH", f"{resource}/{record_id}", {"data": data}, auth=auth)
        assert answer.status_code == 200, answer.text

    async def delete(self, resource: str, record_id: str, *, auth: str = ADMIN) -> None:
        answer = await self.send("DELETE", f"{resource}/{record_id}", auth=auth)
        assert answer.status_code == 204, answer.text

    async def get(self, resource: str, record_id: str, *, auth: str | None = ADMIN) -> Any:
        """The attributes of a record."""
        answer = await self.send("GET", f"{resource}/{record_id}", auth=auth)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["attributes"]

    async def ids(self, resource: str, *, auth: str | None = ADMIN, **params: Any) -> set[str]:
        """The ids of a collection's records."""
        answer = await self.send("GET", resource, auth=auth, params=params)
        assert answer.status_code == 200, answer.text
        assert answer.json()["meta"]["page"]["pages"] <= 1, "ask for larger pages"
        return {entry["id"] for entry in answer.json()["data"]}


@dataclass
class Socket:
    """One named socket of a Node client."""

    node: NodeClient
    name: str

    async def subscribe(self, resource: str, **options: Any) -> dict[str, Any]:
        """The guide's ``subscribeToResource``; raises `SubscriptionRefused`."""
        return await self.node.subscribe(socket=self.name, resource=resource, **options)

    async def ask(self, event: str, *args: Any) -> dict[str, Any]:
        """Emit with an ack function, and give what it got."""
        answer = await self.node.emit(event, *args, socket=self.name)
        assert answer is not None
        assert len(answer) == 1
        found: dict[str, Any] = answer[0]
        return found

    async def refused(self, *args: Any) -> dict[str, Any]:
        """A subscribe that must fail: ``{error}`` for an ack and the same error as an event."""
        seen = len(await self.events("subscription.error"))
        answer = await self.ask("subscribe", *args)
        assert set(answer) == {"error"}, answer
        error: dict[str, Any] = answer["error"]
        events = await self.wait("subscription.error", count=seen + 1)
        assert events[-1].data == error
        assert {"code", "message"} <= set(error) <= {"code", "message", "resource", "details"}
        return error

    async def say(self, event: str, *args: Any) -> None:
        """Emit without an ack function."""
        await self.node.emit(event, *args, ack=False, socket=self.name)

    async def wait(self, event: str, *, count: int = 1, **match: Any) -> list[Event]:
        return await self.node.wait(event, count=count, match=match or None, socket=self.name)

    async def events(self, event: str | None = None, **match: Any) -> list[Event]:
        return await self.node.events(event, match=match or None, socket=self.name)

    async def updates(self, subscription: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """Wait until a subscription has had so many notifications; exactly so many."""
        found = await self.wait(
            "subscription.update", count=count, subscriptionId=subscription["subscriptionId"]
        )
        assert len(found) == count, found
        return [event.data for event in found]

    async def told(self, subscription: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The notifications that a subscription has had by now."""
        found = await self.events(
            "subscription.update", subscriptionId=subscription["subscriptionId"]
        )
        return [event.data for event in found]


def summary(updates: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """What is worth comparing: (type, action, change, id)."""
    return [
        (update["type"], update["action"], update["meta"]["change"], update["id"])
        for update in updates
    ]
