"""Socket.IO packets: the examples of the published protocol, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from tidings.socketio.attachments import filled
from tidings.socketio.packets import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    MalformedPacket,
    Packet,
    Unreadable,
    decode,
    encode,
    event_frame,
    text_frame,
)

MOST = 1_000
# Text, packet, attachments: as in the document, each behind the 4 of Engine.IO.
EXAMPLES: list[tuple[str, Packet, list[bytes]]] = [
    ("0", Packet(CONNECT), []),
    (
        '0/admin,{"sid":"oSO0OpakMV_3jnilAAAA"}',
        Packet(CONNECT, "/admin", None, {"sid": "oSO0OpakMV_3jnilAAAA"}),
        [],
    ),
    (
        '4{"message":"Not authorized"}',
        Packet(CONNECT_ERROR, data={"message": "Not authorized"}),
        [],
    ),
    ('2["foo"]', Packet(EVENT, data=["foo"]), []),
    ('2/admin,["bar"]', Packet(EVENT, "/admin", data=["bar"]), []),
    (
        '51-["baz",{"_placeholder":true,"num":0}]',
        Packet(EVENT, data=["baz", b"\1\2\3\4"]),
        [b"\1\2\3\4"],
    ),
    (
        '52-/admin,["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
        Packet(EVENT, "/admin", data=["baz", b"\1\2", b"\3\4"]),
        [b"\1\2", b"\3\4"],
    ),
    ('212["foo"]', Packet(EVENT, id=12, data=["foo"]), []),
    ('3/admin,13["bar"]', Packet(ACK, "/admin", 13, ["bar"]), []),
    (
        '61-15["bar",{"_placeholder":true,"num":0}]',
        Packet(ACK, id=15, data=["bar", b"\1\2"]),
        [b"\1\2"],
    ),
    ("1", Packet(DISCONNECT), []),
    ("1/admin,", Packet(DISCONNECT, "/admin"), []),
    (
        '2["é🦆",{"a":[1,2.5,null,true]}]',
        Packet(EVENT, data=["é🦆", {"a": [1, 2.5, None, True]}]),
        [],
    ),
    ('3456[1,"2",{"3":[false]}]', Packet(ACK, id=456, data=[1, "2", {"3": [False]}]), []),
    ("30[]", Packet(ACK, id=0, data=[]), []),
]


@pytest.mark.parametrize(("text", "packet", "attachments"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_are_written(text: str, packet: Packet, attachments: list[bytes]) -> None:
    first, *others = encode(packet.kind, packet.data, namespace=packet.namespace, id=packet.id)
    assert first.text == f"4{text}"
    assert [frame.payload for frame in others] == attachments
    assert all(frame.is_binary for frame in others)


@pytest.mark.parametrize(("text", "packet", "attachments"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_are_read(text: str, packet: Packet, attachments: list[bytes]) -> None:
    found = decode(f"4{text}", 1, most=MOST)
    assert found.attachments == len(attachments)
    if attachments:
        found.data = filled(found.data, attachments)
        found.attachments = 0
    assert found == packet


def test_a_namespace_without_its_comma_and_with_a_query() -> None:
    assert decode("0/custom", most=MOST) == Packet(CONNECT, "/custom")
    assert decode('0/custom?token=x,{"a":1}', most=MOST) == Packet(
        CONNECT, "/custom", data={"a": 1}
    )


MALFORMED = ["", "7", "x", "abc", "2", "2{}", "2null", "2[]", "2[1]", '2"x"', "2[", '2abc["x"]']
MALFORMED += ['2-1["x"]', '2٣["x"]', '29999999999999999["x"]', "3[]", "31{}", "31", "3"]
MALFORMED += ['21-["x"]', '5["x"]', '5-["x"]', '5x-["x"]', '599999999999-["x"]', "51-{}", "6[]"]
MALFORMED += ["61-[]", "4{", "0{", "1[", "0" + "[" * 100_000, f'0"{"x" * MOST}"']
MALFORMED += [f"3{'9' * 16}[]", '2/other["x"]x']


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_packet(text: str) -> None:
    with pytest.raises(MalformedPacket):
        decode(text, most=MOST)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('27["x",' + '"y"' * MOST + "]", "size"),
        ('27["x",{]', "json"),
        ('27["x",NaN]', "json"),
        ('27["x",' + "[" * 400 + "]" * 399 + "]", "json"),
    ],
)
def test_an_event_that_cannot_be_read_still_has_a_name_and_an_id(text: str, reason: str) -> None:
    packet = decode(text, most=MOST)
    assert (packet.id, packet.data) == (7, ["x", Unreadable(reason)])
    assert not packet.is_readable


def test_deep_nesting_is_no_error_of_ours() -> None:
    packet = decode('27["x",' + "[" * 100_000 + "]" * 100_000 + "]", most=10**6)
    assert packet.data == ["x", Unreadable("json")]


def placeholder(number: Any) -> dict[str, Any]:
    return {"_placeholder": True, "num": number}


def test_attachments_are_put_wherever_they_belong() -> None:
    data = ["x", {"a": [placeholder(1), {"b": placeholder(0)}]}, placeholder(0)]
    assert filled(data, [b"0", b"1"]) == ["x", {"a": [b"1", {"b": b"0"}]}, b"0"]


@pytest.mark.parametrize("number", [1, -1, "0", None, 0.0, True])
def test_a_placeholder_for_no_attachment(number: Any) -> None:
    with pytest.raises(MalformedPacket, match="no attachment"):
        filled(["x", placeholder(number)], [b"0"])


def test_frames_that_are_made_without_looking_for_bytes() -> None:
    assert event_frame("x", {"a": 1}).text == '42["x",{"a":1}]'
    assert text_frame("1").text == "41"
