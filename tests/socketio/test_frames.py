"""WebSocket frames: what RFC 6455 says of a server, and the same answers as `websockets` gives."""

from __future__ import annotations

import os
import random
import struct
import time
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from tidings.socketio import frames
from tidings.socketio.frames import Frame, close_frame, pong_frame
from tidings.socketio.reader import TURN, FrameReader

LIMIT = 1_000


class Reader(FrameReader):
    """Keeps what it is told."""

    def __init__(self, limit: int = LIMIT, *, skips: bool = False) -> None:
        super().__init__(limit)
        self.heard: list[tuple[str, object]] = []
        self.skips = skips
        self.turns = 0
        self.reason = ""

    def text_received(self, text: str) -> None:
        self.heard.append(("text", text))

    def binary_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.heard.append(("binary", data))

    def ping_received(self, payload: bytes) -> None:
        assert type(payload) is bytes
        self.heard.append(("ping", payload))

    def close_received(self, code: int, reason: str) -> None:
        self.heard.append(("close", (code, reason)))

    def failed(self, code: int, reason: str) -> None:
        self.reason = reason
        self.heard.append(("failed", code))

    def too_large(self) -> bool:
        if self.skips:
            self.heard.append(("skipped", None))
        return self.skips

    def turn_ended(self) -> None:
        self.turns += 1

    def take(self, data: bytes) -> list[tuple[str, object]]:
        self.feed(data)
        while self.turns:
            self.turns -= 1
            self.read_on()
        return self.heard


def masked(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, size: int | None = None
) -> bytes:
    """A frame as a client sends it; ``size`` lies about the length."""
    first = (0x80 if fin else 0) | rsv | opcode
    size = len(payload) if size is None else size
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    mask = b"\x12\xf3\x05\x99"
    return head + mask + bytes(one ^ mask[place % 4] for place, one in enumerate(payload))


def text(payload: str, *, fin: bool = True) -> bytes:
    return masked(1, payload.encode(), fin=fin)


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_every_length_is_read_and_written(size: int) -> None:
    payload = b"a" * size
    assert Reader(2_000_000).take(masked(1, payload)) == [("text", payload.decode())]
    assert Reader(2_000_000).take(masked(2, payload)) == [("binary", payload)]
    theirs = ServerProtocol()
    for frame in (Frame(payload), Frame(payload, is_binary=True)):
        opcode = Opcode.BINARY if frame.is_binary else Opcode.TEXT
        written = TheirFrame(opcode, payload).serialize(mask=False)
        assert frame.wire == written
        assert frame.payload == payload
    assert theirs.state is State.CONNECTING


def test_a_frame_has_the_forms_that_transports_want() -> None:
    frame = Frame("4é".encode())
    assert (frame.text, frame.payload, frame.polled) == ("4é", "4é".encode(), "4é".encode())
    assert Frame(b"\x01\x02\x03\x04", is_binary=True).polled == b"bAQIDBA=="
    assert pong_frame(b"x") == b"\x8a\x01x"
    assert close_frame() == b"\x88\x02\x03\xe8"
    assert close_frame(frames.NO_CODE) == b"\x88\x00"
    long = close_frame(1001, "é" * 100)
    assert long[1] == len(long) - 2 <= 125
    long[4:].decode()


def test_bytes_that_come_one_by_one_make_the_same_messages() -> None:
    stream = text("42[1]") + masked(9, b"p") + text("é", fin=False) + masked(0, "ü".encode())
    stream += masked(2, bytes(300)) + masked(8, b"\x03\xe8bye")
    whole = Reader().take(stream)
    reader = Reader()
    for place in range(len(stream)):
        reader.take(stream[place : place + 1])
    assert reader.heard == whole
    assert whole == [
        ("text", "42[1]"),
        ("ping", b"p"),
        ("text", "éü"),
        ("binary", bytes(300)),
        ("close", (1000, "bye")),
    ]


def test_control_frames_may_come_between_the_frames_of_a_message() -> None:
    stream = text("a", fin=False) + masked(9) + masked(0, b"b", fin=False) + masked(10, b"x")
    assert Reader().take(stream + masked(0, b"c")) == [("ping", b""), ("text", "abc")]


BROKEN = {
    "not masked": b"\x81\x05hello",
    "RSV1": masked(1, b"x", rsv=0x40),
    "RSV2": masked(1, b"x", rsv=0x20),
    "RSV3": masked(1, b"x", rsv=0x10),
    "a reserved opcode": masked(3, b"x"),
    "a reserved control opcode": masked(11, b"x"),
    "a fragmented ping": masked(9, b"x", fin=False),
    "a ping that is too long": masked(9, b"x" * 126),
    "a close that is too long": masked(8, b"\x03\xe8" + b"x" * 124),
    "nothing to continue": masked(0, b"x"),
    "a message within a message": text("a", fin=False) + text("b"),
    "a close code of one byte": masked(8, b"\x03"),
    "close code 0": masked(8, b"\x00\x00"),
    "close code 999": masked(8, b"\x03\xe7"),
    "close code 1004": masked(8, b"\x03\xec"),
    "close code 1005": masked(8, b"\x03\xed"),
    "close code 1006": masked(8, b"\x03\xee"),
    "close code 1015": masked(8, b"\x03\xf7"),
    "close code 2999": masked(8, b"\x0b\xb7"),
    "close code 5000": masked(8, b"\x13\x88"),
}


@pytest.mark.parametrize("stream", BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_protocol_ends_reading(stream: bytes) -> None:
    reader = Reader()
    assert reader.take(stream + text("after"))[-1] == ("failed", 1002)
    assert reader.has_ended
    assert reader.take(text("and later")) == [*reader.heard]
    assert "after" not in [what for _, what in reader.heard]


@pytest.mark.parametrize(
    "stream",
    [
        masked(1, b"\xff"),
        masked(1, b"\xed\xa0\x80"),
        masked(1, b"\xc3", fin=False) + masked(0, b"x"),
        masked(1, b"\xf0\x9f\xa6"),
        masked(8, b"\x03\xe8\xff"),
    ],
)
def test_text_that_is_not_utf8_ends_reading(stream: bytes) -> None:
    assert Reader().take(stream) == [("failed", 1007)]


def test_utf8_may_be_cut_anywhere() -> None:
    parts = "🦆é".encode()
    stream = b"".join(
        masked(0 if place else 1, parts[place : place + 1], fin=place == len(parts) - 1)
        for place in range(len(parts))
    )
    assert Reader().take(stream) == [("text", "🦆é")]


def test_close_codes_that_are_allowed() -> None:
    for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999):
        assert Reader().take(masked(8, struct.pack("!H", code))) == [("close", (code, ""))]
    assert Reader().take(masked(8)) == [("close", (frames.NO_CODE, ""))]


TOO_LARGE = {
    "one frame": masked(1, b"x" * (LIMIT + 1)),
    "its head alone": masked(1, b"", size=2**62),
    "the most that a length may be": b"\x82\xff" + b"\xff" * 8 + b"mask",
    "in pieces": text("x" * LIMIT, fin=False) + masked(0, b"x"),
}


@pytest.mark.parametrize("stream", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_message_that_is_too_large_is_an_error(stream: bytes) -> None:
    assert Reader().take(stream) == [("failed", 1009)]


def test_the_largest_message_is_read() -> None:
    assert Reader().take(masked(1, b"x" * LIMIT)) == [("text", "x" * LIMIT)]


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_message_that_is_too_large_can_be_skipped_without_being_kept(step: int) -> None:
    stream = masked(2, bytes(5_000)) + text("a") + text("b" * 900, fin=False)
    stream += masked(0, b"c" * 900, fin=False) + masked(9) + masked(0, b"d" * 900) + text("e")
    reader = Reader(skips=True)
    for place in range(0, len(stream), step):
        reader.take(stream[place : place + step])
        assert len(reader._buffer or b"") < LIMIT + 20
    assert reader.heard == [
        ("skipped", None),
        ("text", "a"),
        ("skipped", None),
        ("ping", b""),
        ("text", "e"),
    ]


def test_what_comes_while_reading_is_held_waits() -> None:
    reader = Reader()
    reader.is_held = True
    for _ in range(3):
        reader.take(text("a") + text("b"))
    assert reader.heard == []
    reader.is_held = False
    reader.read_on()
    assert len(reader.heard) == 6


def test_a_reader_can_be_held_between_two_frames() -> None:
    class Once(Reader):
        def text_received(self, text: str) -> None:
            super().text_received(text)
            self.is_held = True

    reader = Once()
    reader.take(text("a") + text("b") + text("c"))
    assert reader.heard == [("text", "a")]
    reader.is_held = False
    reader.read_on()
    assert reader.heard == [("text", "a"), ("text", "b")]
    reader.take(text("d"))
    for _ in range(2):
        reader.is_held = False
        reader.read_on()
    assert [what for _, what in reader.heard] == ["a", "b", "c", "d"]


def test_others_get_a_turn_between_many_frames() -> None:
    reader = Reader()
    reader.feed(text("x") * 10_000)
    assert len(reader.heard) == TURN
    assert reader.turns == 1
    reader.take(b"")
    assert len(reader.heard) == 10_000


def test_many_tiny_fragments_cost_what_they_hold() -> None:
    """Not their number times the message so far: 100,000 of them would take minutes."""
    stream = text("", fin=False) + masked(0, b"x", fin=False) * 100_000 + masked(0)
    reader = Reader(200_000)
    begin = time.process_time()
    assert reader.take(stream) == [("text", "x" * 100_000)]
    assert time.process_time() - begin < 10


# The same as `websockets`

SEED = int(os.environ.get("TIDINGS_FUZZ_SEED", "6455"))
COUNT = int(os.environ.get("TIDINGS_FUZZ_FRAMES", "3000"))


def random_stream(r: random.Random) -> bytes:
    """Frames that are nearly right."""
    stream = bytearray()
    for _ in range(r.randint(1, 6)):
        opcode = r.choice([0, 1, 1, 1, 2, 2, 8, 9, 10, r.randrange(16)])
        size = r.choice([0, 1, 2, 5, 20, 125, 126, 300, LIMIT, LIMIT + 1])
        payload = r.choice(
            [
                lambda size: r.randbytes(size),
                lambda size: b"a" * size,
                lambda size: ("é🦆" * size).encode()[:size],
                lambda size: struct.pack("!H", r.choice([1000, 1001, 1005, 3000, 77])) + b"x",
            ]
        )(size)
        frame = masked(opcode, payload, fin=r.random() < 0.7, rsv=r.choice([0] * 20 + [0x40]))
        if r.random() < 0.05:
            frame = bytes((frame[0], frame[1] & 0x7F)) + frame[2:]
        stream += frame
    for _ in range(r.choice([0, 0, 0, 1, 2])):
        stream[r.randrange(len(stream))] = r.randrange(256)
    return bytes(stream)


def theirs(pieces: list[bytes]) -> list[tuple[str, object]]:
    """What `websockets` makes of a stream, told in our words."""
    protocol = ServerProtocol(max_size=LIMIT, state=State.OPEN)
    heard: list[tuple[str, object]] = []
    parts: list[bytes] = []
    opcode = Opcode.TEXT
    for piece in pieces:
        protocol.receive_data(piece)
        for event in protocol.events_received():
            assert isinstance(event, TheirFrame)
            if event.opcode is Opcode.PING:
                heard.append(("ping", bytes(event.data)))
            elif event.opcode is Opcode.CLOSE:
                assert protocol.close_rcvd is not None
                heard.append(("close", (protocol.close_rcvd.code, protocol.close_rcvd.reason)))
                return heard
            elif event.opcode in (Opcode.CONT, Opcode.TEXT, Opcode.BINARY):
                if event.opcode is not Opcode.CONT:
                    opcode, parts = event.opcode, []
                parts.append(bytes(event.data))
                if not event.fin:
                    continue
                data = b"".join(parts)
                if opcode is Opcode.BINARY:
                    heard.append(("binary", data))
                    continue
                try:
                    heard.append(("text", data.decode()))
                except UnicodeDecodeError:
                    heard.append(("failed", 1007))
                    return heard
        if protocol.parser_exc is not None:
            if "incomplete fragmented" in str(protocol.parser_exc) and protocol.close_rcvd:
                # They want a message to be whole before the end; RFC 6455 does not.
                heard.append(("close", (protocol.close_rcvd.code, protocol.close_rcvd.reason)))
                return heard
            assert protocol.close_sent is not None or isinstance(
                protocol.parser_exc, ConnectionClosedError
            )
            heard.append(("failed", protocol.close_sent.code if protocol.close_sent else 1002))
            return heard
    return heard


def comparable(
    reader: Reader, ours: list[tuple[str, object]], expected: list[tuple[str, object]]
) -> tuple[list[tuple[str, object]], list[tuple[str, object]]]:
    """Both as far as they have to be the same."""
    place = len(expected) - 1
    if expected[place:] == [("failed", 1009)]:
        # They hold control frames to what a fragmented message leaves of the limit.
        return ours[:place], expected[:place]
    if reader.reason == "a control frame is too long":
        # They take a short one whose length is written the long way, which RFC 6455 forbids.
        return ours[:-1], expected[: len(ours) - 1]
    if ours[-1:] != expected[-1:] and [kind for kind, _ in ours[-1:]] == ["failed"]:
        # A frame may be wrong in two ways, and be judged by either.
        assert expected[place][0] == "failed"
        assert {ours[-1][1], expected[place][1]} <= {1002, 1007, 1009}
        return ours[:-1], expected[:place]
    return ours, expected


def test_random_streams_are_read_as_websockets_reads_them() -> None:
    r = random.Random(SEED)
    failures = 0
    for number in range(COUNT):
        stream = random_stream(r)
        cuts = sorted(r.randrange(len(stream)) for _ in range(r.choice([0, 1, 3, 10])))
        places = [0, *cuts, len(stream)]
        pieces = [stream[a:b] for a, b in pairwise(places)]
        # Some errors we see in the head of a frame and they when it is whole.
        pieces.append(masked(9, b"end") + bytes(4 * LIMIT))
        reader = Reader()
        for piece in pieces:
            reader.take(piece)
        expected = theirs(pieces)
        ours = reader.heard
        failures += ours[-1:] == [("failed", 1002)]
        ours, expected = comparable(reader, ours, expected)
        assert ours == expected, (SEED, number, stream)
    assert COUNT / 10 < failures < COUNT
