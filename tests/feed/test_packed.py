"""Changes that nobody in a process watches stay as the log has them, until somebody asks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.realtime.kit import Wire, delivered, make_api, spoken, subscriber
from tests.support.memory_log import MemoryLog
from tidings.feed import (
    Batch,
    Change,
    Cursor,
    Invalidation,
    Packed,
    Recheck,
    SharedFeed,
    decode_notice,
    encode_notice,
    unpacked,
    weight,
)
from tidings.feed.packed import read_entry
from tidings.feed.window import Window

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def change(resource: str = "notes", record_id: str = "7", **values: Any) -> Change:
    image = {"id": record_id, "price": Decimal("1.50"), "tags": ["a"], **values}
    return Change(resource, record_id, "patch", image, {**image, "tags": ["b"]}, AT)


def nobody(_: str) -> bool:
    return False


def test_only_the_head_of_a_change_is_read() -> None:
    entry = encode_notice(change())
    packed = read_entry(entry, nobody)
    assert isinstance(packed, Packed)
    assert (packed.resource, packed.id, packed.at) == ("notes", "7", AT)
    assert packed.weight < weight(change())
    assert packed.unpack() == decode_notice(entry) == change()
    assert packed.unpack() is packed.unpack()
    assert read_entry(entry, lambda name: name == "notes") == change()
    assert isinstance(read_entry(entry, lambda name: name == "users"), Packed)


@pytest.mark.parametrize("notice", [Recheck("u1", None), Recheck(None, "a"), Invalidation("notes")])
def test_what_concerns_more_than_a_record_is_always_read(notice: Any) -> None:
    assert read_entry(encode_notice(notice), nobody) == notice


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(7),
        msgspec.msgpack.encode([1, "notes", "7"]),
        msgspec.msgpack.encode([1, 5, "7", "post", 0]),
        msgspec.msgpack.encode([1, "notes", None, "post", 0]),
        msgspec.msgpack.encode([99, "notes", "7"]),
        encode_notice(change())[:-3],
    ],
)
def test_what_has_no_head_is_everybody_s_concern(entry: bytes) -> None:
    assert read_entry(entry, nobody) == Invalidation(None)


def test_a_body_that_cannot_be_read_is_an_invalidation_for_who_asks() -> None:
    fields = msgspec.msgpack.decode(encode_notice(Change("notes", "7", "post", None, {"a": 1})))
    fields[9] = {"a": msgspec.msgpack.Ext(3, b"no number")}
    packed = read_entry(msgspec.msgpack.encode(fields), nobody)
    assert isinstance(packed, Packed)
    assert packed.unpack() == Invalidation(None)


def test_a_window_weighs_what_it_holds() -> None:
    window = Window(3, Cursor("e", 0))
    packed = [read_entry(encode_notice(change(record_id=str(n))), nobody) for n in range(5)]
    window.extend(packed[:3])
    before = window.weight
    assert window.changes_of("notes", "1", 5) == [(2, change(record_id="1"))]
    assert window.weight > before
    assert window.weight == sum(one.weight for one in packed[:3] if isinstance(one, Packed))
    window.extend(packed[3:])
    assert window.weight == sum(one.weight for one in packed[2:] if isinstance(one, Packed))
    for one in packed:
        unpacked(one)  # those that it holds no more are none of its business
    whole = decode_notice(encode_notice(change(record_id="1")))
    assert window.weight == 3 * weight(whole)
    window.restart(Cursor("f", 0))
    assert window.weight == 0


async def test_a_process_that_nobody_subscribes_to_decodes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[bytes] = []

    def counted(entry: bytes) -> Any:
        decoded.append(entry)
        return decode_notice(entry)

    monkeypatch.setattr("tidings.feed.packed.decode_notice", counted)
    api = make_api()
    api._feed = feed = SharedFeed(MemoryLog())  # type: ignore[arg-type]
    async with api:
        start = feed.position
        batch = [encode_notice(change("posts", str(n), status="published")) for n in range(5)]
        await feed.append([Batch("a", batch)])
        await feed.catch_up()
        await delivered(api)
        assert decoded == []
        # Who comes back has missed them, and is told of each.
        person, wire = subscriber()
        api.socket_server._subscribers[person.id] = person
        one = {"resource": "posts", "cursor": str(start), "subscriptionId": "mine"}
        answer, then = await api.socket_server.handle(
            person.id, "restore-subscriptions", {"subscriptions": [one]}
        )
        assert answer["restored"] == ["mine"]
        then()
        assert told(wire) == ["0", "1", "2", "3", "4"]
        assert len(decoded) == 5
        await feed.append([Batch("b", [encode_notice(change("posts", "9"))])])
        await feed.catch_up()
        await delivered(api)
        assert told(wire)[-1] == "9"


def told(wire: Wire) -> list[str]:
    events = [spoken(frame) for frame in wire.frames]
    return [given["id"] for name, given in events if name == "subscription.update"]


@pytest.mark.parametrize("is_packed", [True, False])
def test_change_of_an_older_declaration_says_what_it_does_not_carry(is_packed: bool) -> None:
    entry = encode_notice(change())
    known = frozenset(change().before or change().after or {})
    found = unpacked(read_entry(entry, lambda _: not is_packed, lambda _: known | {"newer"}))
    assert isinstance(found, Change)
    assert found.unknown == {"newer"}
