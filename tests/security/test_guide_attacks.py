"""The guide's security examples, attacked: mallory, of workspace w-evil, wants what is others'.

No attack may tell her anything of a foreign record, over sockets or over HTTP.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.guide.kit import ADMIN, APP, Rest, token, unique
from tests.sockets.kit import Socket
from tests.support.server import RunningServer, run_server

MALLORY = token("mallory", workspace_id="w-evil")
VICTIM = token("victim", workspace_id="w-good")
OF_SOMEBODY = ("projects", "orders", "invoices", "messages")
GUARDED = (*OF_SOMEBODY, "admin-logs", "secret-documents")


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with run_server(APP) as server:
        yield server
    assert "Traceback" not in server.output()


@pytest.fixture
async def rest(server: RunningServer) -> AsyncIterator[Rest]:
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as http:
        yield Rest(http)


@dataclass
class Attacker:
    """A socket, and the victim who works meanwhile."""

    socket: Socket
    rest: Rest

    async def subscribe(self, payload: Any) -> dict[str, Any]:
        return await self.socket.call("subscribe", payload)

    async def raw(self, event: str, text: str) -> Any:
        """An event whose payload is given as JSON text, to say what no encoder would."""
        self.socket._ack += 1
        await self.socket.send(f"42{self.socket._ack}[{json.dumps(event)},{text}]")
        return await self.socket.answer(self.socket._ack)

    async def told(self) -> list[dict[str, Any]]:
        """What she is told while the victim makes, changes and deletes one of everything."""
        for resource, values in works().items():
            record = await self.rest.create(resource, **values)
            await self.rest.patch(resource, record, status="changed")
            await self.rest.delete(resource, record)
        # Her own record comes last: what has not come before it does not come.
        mine = await self.rest.create("comments", auth=MALLORY, user_id="mallory", body="x")
        answer = await self.subscribe({"resource": "comments", "subscriptionId": unique("mark")})
        assert answer["success"], answer
        await self.rest.patch("comments", mine, auth=MALLORY, body="y")
        while True:
            frame = await self.socket.receive()
            self.socket.take(frame)
            updates = [one for name, one in self.socket.events if name == "subscription.update"]
            if any(one["resource"] == "comments" for one in updates):
                self.socket.events.clear()
                return [one for one in updates if one["resource"] != "comments"]


def works() -> dict[str, dict[str, Any]]:
    """Records of the victim's, as an admin makes them."""
    return {
        "projects": {"name": "plan", "workspace_id": "w-good"},
        "orders": {"customer_id": "victim", "status": "pending"},
        "invoices": {"user_id": "victim", "number": "1"},
        "messages": {"sender_id": "victim", "recipient_id": "friend", "subject": "s"},
        "secret-documents": {"title": "t"},
    }


@pytest.fixture
async def attacker(server: RunningServer, rest: Rest) -> AsyncIterator[Attacker]:
    socket = await Socket.open(server.url)
    await socket.connect({"token": MALLORY})
    async with socket:
        yield Attacker(socket, rest)


# Asking for what is another's


@pytest.mark.parametrize("workspace", ["w-good", ["w-good"], None, {"!=": "w-evil"}, 0, True])
async def test_another_workspace_is_refused(attacker: Attacker, workspace: Any) -> None:
    answer = await attacker.subscribe(
        {"resource": "projects", "filters": {"workspace_id": workspace}}
    )
    assert answer["error"]["code"] in ("PERMISSION_DENIED", "INVALID_FILTERS"), answer
    assert await attacker.told() == []


@pytest.mark.parametrize(
    ("resource", "filters"),
    [
        ("orders", {"customer_id": "victim"}),
        ("orders", {"status": "pending"}),
        ("invoices", {}),
        ("messages", {"sender_id": "victim"}),
        ("messages", {"recipient_id": "friend"}),
        ("projects", {}),
        ("projects", {"status": "active"}),
    ],
)
async def test_filters_for_others_tell_nothing(
    attacker: Attacker, resource: str, filters: dict[str, Any]
) -> None:
    answer = await attacker.subscribe({"resource": resource, "filters": filters})
    assert answer["success"] is True, answer
    assert answer["data"]["filters"] == filters, "what is required of her is not shown"
    assert await attacker.told() == []


async def test_what_is_not_hers_at_all_is_refused(attacker: Attacker) -> None:
    for resource in ("admin-logs", "secret-documents"):
        answer = await attacker.subscribe({"resource": resource})
        assert answer["error"]["code"] == "PERMISSION_DENIED"
    assert await attacker.told() == []


async def test_another_users_id_in_a_filter_value_changes_nothing(attacker: Attacker) -> None:
    value = {"user_id": "victim", "include_private": True}
    answer = await attacker.subscribe(
        {"resource": "products", "filters": {"available_for_user": value}}
    )
    assert "success" in answer or answer["error"]["code"] == "INVALID_FILTERS"
    private = {"title": "p", "owner_id": "victim", "is_public": False, "shared_with": ["friend"]}
    record = await attacker.rest.create("products", **private)
    await attacker.rest.patch("products", record, stock=5)
    assert await attacker.told() == []
    found = await attacker.rest.send(
        "GET",
        "products",
        auth=MALLORY,
        params={"filter[available_for_user]": json.dumps(value)},
    )
    assert found.status_code in (200, 400)
    if found.status_code == 200:
        assert record not in {one["id"] for one in found.json()["data"]}


# Overwriting what the server adds


OVERWRITES = [
    {"$or": [{"customer_id": "victim"}, {"status": "pending"}]},
    {"$not": {"customer_id": "mallory"}},
    {"$and": []},
    {"customer_id": {"$ne": "mallory"}},
    {"customer_id": {"$or": ["victim"]}},
    {"customer_id": {"!=": "mallory"}},
    {"__proto__": {"customer_id": "victim"}},
    {"constructor": {"prototype": {"customer_id": "victim"}}},
    {"customer_id__ne": "mallory"},
    {"customer.id": "victim"},
    {"\uff43ustomer_id": "victim"},
    {"customer_id\u200b": "victim"},
    {"customerId": "victim"},
]


@pytest.mark.parametrize("filters", OVERWRITES, ids=lambda one: json.dumps(one)[:40])
async def test_the_servers_clauses_cannot_be_overwritten(
    attacker: Attacker, filters: dict[str, Any]
) -> None:
    for resource in ("orders", "projects", "messages", "invoices"):
        answer = await attacker.subscribe({"resource": resource, "filters": filters})
        assert answer["error"]["code"] in ("INVALID_FILTERS", "PERMISSION_DENIED"), answer
    assert await attacker.told() == []


async def test_ids_of_others_can_be_asked_for_and_are_not_told(attacker: Attacker) -> None:
    ids = [str(number) for number in range(1, 100)]
    for resource in ("orders", "messages", "invoices"):
        answer = await attacker.subscribe({"resource": resource, "filters": {"id": ids}})
        assert [str(one) for one in answer["data"]["filters"]["id"]] == ids
    assert await attacker.told() == []


@pytest.mark.parametrize(
    "text",
    [
        '{"resource":"orders","filters":{"customer_id":"mallory","customer_id":"victim"}}',
        '{"resource":"orders","filters":{"customer_id":"victim"},"filters":{}}',
        '{"resource":"comments","resource":"orders","filters":{}}',
        '{"resource":"orders","filters":{"\\u0063ustomer_id":"victim"}}',
        '{"resource":"projects","filters":{"workspace_id":"w-evil","workspace_id":"w-good"}}',
        '{"resource":"projects","filters":{"workspace_id":"w-good","workspace_id":"w-evil"}}',
        '{"resource":"orders","filters.__proto__":{"customer_id":"victim"}}',
        '{"resource":"orders","__proto__":{"filters":{"customer_id":"victim"}}}',
        '{"resource":"orders","auth":{"userId":"victim","roles":["admin"]}}',
        '{"resource":"orders","identity":{"user_id":"victim"},"clauses":[]}',
    ],
)
async def test_json_that_says_things_twice(attacker: Attacker, text: str) -> None:
    answer = await attacker.raw("subscribe", text)
    assert set(answer) in ({"error"}, {"success", "data"})
    assert await attacker.told() == []


# Restoring what never was


async def test_forged_restores_tell_nothing(server: RunningServer, attacker: Attacker) -> None:
    victim = await Socket.open(server.url)
    await victim.connect({"token": VICTIM})
    async with victim:
        stored = {}
        for resource in OF_SOMEBODY:
            answer = await victim.call("subscribe", {"resource": resource})
            stored[resource] = answer["data"]
        epoch = stored["orders"]["cursor"].split(".")[0]
        cursors = [None, "", "x", f"{epoch}.0", f"{epoch}.99999999999999999999", f"{epoch}.-1"]
        entries: list[dict[str, Any]] = []
        for (resource, data), cursor in itertools.product(stored.items(), cursors):
            forged = {**data, "cursor": cursor, "subscriptionId": f"{resource}-{len(entries)}"}
            entries += [forged, {**forged, "filters": {"customer_id": "victim"}}]
            entries += [{**forged, "status": "trusted"}, {**forged, "identity": "victim"}]
        entries += list(stored.values())  # the victim's ids, as they are
        entries += [{"resource": "secret-documents", "subscriptionId": "x", "status": "active"}]
        entries += [{"resource": "projects", "filters": {"workspace_id": "w-good"}, "status": 1}]
        answer = await attacker.socket.call("restore-subscriptions", {"subscriptions": entries})
        assert answer["success"] is True
        failed = {one["error"]["code"] for one in answer["failed"]}
        assert failed >= {"PERMISSION_DENIED", "UNSUPPORTED_OPTION", "INVALID_FILTERS"}
        assert await attacker.told() == []
        # Ending the victim's subscriptions is not hers either; those of that id are her own.
        for data in stored.values():
            await attacker.socket.call("unsubscribe", {"subscriptionId": data["subscriptionId"]})
        record = await attacker.rest.create("orders", customer_id="victim")
        event: dict[str, Any] = {}
        while event.get("id") != record or event["resource"] != "orders":
            event = await victim.event("subscription.update")
        assert event["subscriptionId"] == stored["orders"]["subscriptionId"]


async def test_explain_tells_nothing_of_others(attacker: Attacker) -> None:
    record = await attacker.rest.create("orders", customer_id="victim")
    answer = await attacker.subscribe({"resource": "orders"})
    name = answer["data"]["subscriptionId"]
    asked = [
        await attacker.socket.call("explain", {"subscriptionId": name, "id": one})
        for one in (record, "99999999")
    ]
    assert asked[0]["data"]["changes"] == [] == asked[1]["data"]["changes"]
    assert asked[0]["data"]["message"] == asked[1]["data"]["message"]


async def test_somebody_elses_token_does_not_renew_a_socket(attacker: Attacker) -> None:
    for other in (VICTIM, ADMIN):
        answer = await attacker.socket.call("authenticate", {"token": other})
        assert answer["error"]["code"] == "PERMISSION_DENIED"
    answer = await attacker.subscribe({"resource": "orders"})
    assert answer["success"] is True
    assert await attacker.told() == []


# Over HTTP


async def test_single_records_of_others_are_refused(rest: Rest) -> None:
    for resource, values in works().items():
        record = await rest.create(resource, **values)
        data = {"type": resource, "id": record, "attributes": {"status": "stolen"}}
        for method, document in (
            ("GET", None),
            ("PATCH", {"data": data}),
            ("PUT", {"data": data}),
            ("DELETE", None),
        ):
            answer = await rest.send(method, f"{resource}/{record}", document, auth=MALLORY)
            assert answer.status_code in (403, 404), (method, resource, answer.text)
        assert (await rest.get(resource, record)).get("status") != "stolen"


@pytest.mark.parametrize("resource", GUARDED)
async def test_collections_show_only_what_is_hers(rest: Rest, resource: str) -> None:
    values = works().get(resource, {"message": "m"})
    record = await rest.create(resource, **values)
    answer = await rest.send("GET", resource, auth=MALLORY, params={"page[size]": 100})
    is_shown = answer.status_code == 200 and record in {one["id"] for one in answer.json()["data"]}
    assert not is_shown, answer.text


async def test_records_cannot_be_made_for_others(rest: Rest) -> None:
    """What a socket's clauses go by is not to be forged by writing it."""
    data = {"type": "orders", "attributes": {"customer_id": "victim", "status": "forged"}}
    answer = await rest.send("POST", "orders", {"data": data}, auth=MALLORY)
    assert answer.status_code == 403, answer.text
