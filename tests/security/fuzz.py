"""Hostile frames and requests against a real server in a process of its own.

    python -m tests.security.fuzz --frames 100000 --requests 100000 --seed 7

What must never be: a crash, a 5xx, an answer that does not come, a traceback in the server's log,
memory that grows. After every batch of frames the same socket, or the next one where the protocol
wants it closed, subscribes as if nothing had been.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.http.kit import MEDIA_TYPE, token
from tests.http.test_hostile import INJECTIONS, Fuzzer
from tests.support.server import RunningServer, run_server

ANSWER_SECONDS: Final = 5.0
PIPELINED: Final = 12
FRAMES_PER_BATCH: Final = 40
ALLOWED_GROWTH: Final = 1.15
"""Of the server's memory between the warm-up and the end; and `SLACK` beyond it.

What grows are caches that fill: statements (300, after some 60,000 requests), SQLite's pages (2 MB
for each of five connections), policies by identity.
"""
SLACK: Final = 8_000
LEAKS = re.compile(
    r"Traceback|\.py\b|sqlite3|sqlalchemy|msgspec|starlette|object at 0x|NoneType|JSONDecode"
)


class Failure(AssertionError):
    """The server has done what it must never do."""


@dataclass
class Result:
    """What has been sent, and what came of it."""

    seed: str
    frames: int = 0
    requests: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    memory: list[int] = field(default_factory=list)
    """Kilobytes: at the start, after the warm-up, and at the end."""

    def __str__(self) -> str:
        start, warm, end = self.memory
        return (
            f"fuzz: seed {self.seed}: {self.frames:,} frames, {self.requests:,} requests, "
            f"{self.seconds:.0f} s; RSS {start:,} KiB at the start, {warm:,} after the warm-up, "
            f"{end:,} at the end\n  HTTP {dict(sorted(self.statuses.items()))}\n"
            f"  sockets: {self.closed} ended by the server, {dict(self.codes.most_common())}"
        )


# Values


FIELDS = ("title", "status", "statuses", "views", "views_between", "near", "day", "authors", "ids")
KEYS = ("resource", "filters", "include", "fields", "subscriptionId", "cursor", "status", "token")
RESOURCES = ("posts", "users", "comments", "categories", "notes", "secrets", "pages", "plain")
EVENTS = ("subscribe", "unsubscribe", "restore-subscriptions", "authenticate", "explain")
STRANGE = (
    *INJECTIONS,
    "__proto__",
    "constructor",
    "prototype.title",
    "author.name",
    "author.secret",
    "posts.author.posts.author.name",
    "$or",
    "$where",
    "(a+)+$",
    ".*",
    "[[:alpha:]]{1,99999}",
    "%00",
    "\0",
    "\u202e",
    "e\u0301",
    "\U0001f986" * 20,
    "x" * 5_000,
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "1e999",
    "-0",
    "NaN",
    "9" * 60,
    "0x10",
    "2026-02-30",
    "9999-12-31T23:59:60Z",
)
# JSON that no encoder writes: it is put in at the place of a marker.
RAW = (
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    "1e999",
    "-1e999",
    "9" * 400,
    "-" + "9" * 30,
    "0.1e-400",
    "NaN",
    "Infinity",
    "01",
    '{"a":1,"a":2}',
    '{"__proto__":{"isAdmin":true}}',
    "[" * 1_200 + "]" * 1_200,
    '{"a":' * 600 + "1" + "}" * 600,
    "[" + "1," * 3_000 + "1]",
    "[" + '"a",' * 2_000 + '"a"]',
    '"' + "\\u0041" * 500 + '"',
    "undefined",
    "",
)


def lookalike(r: Random, name: str) -> str:
    """Something that looks like a name, and is another."""
    if not name:
        return "\u200b"
    place = r.randrange(len(name))
    letter = name[place]
    full = chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter
    other = {"a": "\u0430", "e": "\u0435", "o": "\u043e", "i": "\u0456", "s": "\u0455"}
    return r.choice(
        [
            name[:place] + full + name[place + 1 :],
            name[:place] + other.get(letter, "\u0131") + name[place + 1 :],
            name[: place + 1] + "\u0301" + name[place + 1 :],
            name[:place] + "\u200b" + name[place:],
            name[:place] + "\u00ad" + name[place:],
            name.upper(),
            f" {name}",
            f"{name}\0",
            f"{name}.{name}",
            f"{name}[]",
        ]
    )


def value(r: Random, depth: int = 0) -> Any:
    kind = r.randrange(12 if depth < 4 else 9)
    if kind < 4:
        return r.choice(STRANGE)
    if kind == 4:
        return r.choice([*RESOURCES, *FIELDS])
    if kind == 5:
        return r.choice([0, 1, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**40, 1.5, 5e-324])
    if kind == 6:
        return r.choice([None, True, False, [], {}])
    if kind == 7:
        return f"\ue000{r.randrange(len(RAW))}\ue000"
    if kind == 8:
        return lookalike(r, r.choice([*FIELDS, *KEYS]))
    if kind == 9:
        return [value(r, depth + 1) for _ in range(r.choice([0, 1, 3, 60]))]
    names = [r.choice([*FIELDS, *KEYS, *STRANGE]) for _ in range(r.randint(0, 3))]
    return {name: value(r, depth + 1) for name in names}


_MARKER = re.compile(r'"\ue000(\d+)\ue000"')


def encode(made: Any) -> str:
    """JSON, and where markers are, what only looks like JSON."""
    text = json.dumps(made, ensure_ascii=False)
    return _MARKER.sub(lambda found: RAW[int(found[1])], text)


def spoil(r: Random, made: Any) -> Any:
    """Change one place of a payload."""
    if isinstance(made, list) and made and r.random() < 0.8:
        place = r.randrange(len(made))
        return [*made[:place], spoil(r, made[place]), *made[place + 1 :]]
    if not isinstance(made, dict) or not made or r.random() < 0.1:
        return value(r)
    name = r.choice(list(made))
    match r.randrange(6):
        case 0 | 1:
            return {**made, name: spoil(r, made[name])}
        case 2:
            return {**made, name: value(r)}
        case 3:
            return {(lookalike(r, key) if key == name else key): one for key, one in made.items()}
        case 4:
            return {**made, r.choice([*STRANGE, *KEYS]): value(r)}
        case _:
            return {key: one for key, one in made.items() if key != name}


# Frames


@dataclass
class Packet:
    """A frame to be sent; ``ack`` is the number under which it has to be answered."""

    frame: str | bytes
    ack: int | None = None
    may_close: bool = False


class FrameFuzzer:
    """Makes frames that are nearly right."""

    def __init__(self, seed: str) -> None:
        self.r = Random(seed)
        self.numbers = 100
        self.known: list[str] = []
        """Ids and cursors that the server has given."""
        self.cursors: list[str] = ["x.1"]

    def packet(self) -> Packet:
        roll = self.r.random()
        if roll < 0.75:
            return self.event()
        return self.socket_frame() if roll < 0.92 else self.engine_frame()

    def event(self) -> Packet:
        r = self.r
        name = r.choice(EVENTS)
        made: Any = self.payload(name)
        for _ in range(r.choice([0, 1, 1, 2, 4])):
            made = spoil(r, made)
        text = encode(made)
        if r.random() < 0.06 and text:
            place = r.randrange(len(text))
            text = text[:place] + r.choice(["", ",", '"', "}", "\\u", "\x1e"]) + text[place + 1 :]
        self.numbers += 1
        extra = r.choice(["", "", "", ",null", ",{},[]"])
        frame = f'42{self.numbers}["{name}",{text}{extra}]'
        return Packet(frame, self.numbers)

    def payload(self, name: str) -> Any:
        r = self.r
        known = r.choice(self.known) if self.known else "posts-aaaaa"
        subscription = {
            "resource": r.choice(("posts",) * 6 + RESOURCES),
            "filters": {one: value(r, 3) for one in r.sample(FIELDS, r.choice([0, 1, 1, 2]))},
        }
        if r.random() < 0.5:
            subscription["filters"] = r.choice(
                [{}, {"title": "a"}, {"status": "draft"}, {"views": 1}, {"ids": ["1", "2"]}]
            )
        if r.random() < 0.3:
            subscription["include"] = ["author", "comments.user"]
            subscription["fields"] = {"posts": ["title"]}
        if r.random() < 0.3:
            subscription["cursor"] = r.choice([*self.cursors, *STRANGE, "x.99999999999999999999"])
        if r.random() < 0.3:
            subscription["subscriptionId"] = r.choice([known, *STRANGE])
        match name:
            case "subscribe":
                return subscription
            case "unsubscribe":
                return {"subscriptionId": known}
            case "restore-subscriptions":
                several = [
                    {**subscription, "subscriptionId": f"{known}{n}", "status": "active"}
                    for n in range(r.choice([0, 1, 3, 30]))
                ]
                return {"subscriptions": several}
            case "authenticate":
                return {"token": r.choice([token("u1"), token("u2"), "a.b.c", *STRANGE])}
            case _:
                return {"subscriptionId": known, "resource": "posts", "id": r.choice([1, "1"])}

    def socket_frame(self) -> Packet:
        r = self.r
        kind = r.choice("0123456789a")
        space = r.choice(["", "", "/,", "/other,", "/__proto__,", "//,", "/?x=1,", "/" + "n" * 500])
        number = r.choice(["", "1", "9" * 16, "-1", "\u0661", "1.5"])
        body = r.choice(["", "[]", "{}", "null", '["x"]', '[1,"subscribe"]', encode([value(r)])])
        frame = f"4{kind}{space}{number}{body}"
        # DISCONNECT of the namespace, or a CONNECT that is refused, ends it by the protocol.
        return Packet(frame, may_close=True)

    def engine_frame(self) -> Packet:
        r = self.r
        frame: str | bytes = r.choice(
            [
                "",
                "2",
                "2probe",
                "3",
                "3probe",
                "5",
                "6",
                "7",
                "4",
                "b4AAAA",
                "1",
                b"\x04binary",
                bytes(r.randrange(256) for _ in range(r.choice([1, 9, 300]))),
                "x" * r.choice([1, 50_000]),
                "42" + "[" * r.choice([10, 60_000]),
                "4" * r.choice([2, 5_000]),
                "\x1e" * 50,
                r.choice(STRANGE),
            ]
        )
        return Packet(frame, may_close=True)


class FrameClient:
    """One socket after another, each with batches of hostile frames."""

    def __init__(self, url: str, seed: str, result: Result) -> None:
        self._address = f"{url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
        self._fuzzer = FrameFuzzer(seed)
        self._result = result
        self._made: set[str] = set()

    async def run(self, frames: int) -> None:
        while frames > 0:
            async with self._connected() as wire:
                await self._handshake(wire)
                while frames > 0:
                    batch = [self._fuzzer.packet() for _ in range(min(frames, FRAMES_PER_BATCH))]
                    frames -= len(batch)
                    self._result.frames += len(batch)
                    if not await self._batch(wire, batch):
                        self._result.closed += 1
                        break

    def _connected(self) -> connect:
        # A bounded queue would keep the answer to a close from being read.
        return connect(self._address, compression=None, max_size=None, max_queue=None)

    async def _handshake(self, wire: ClientConnection) -> None:
        self._made.clear()
        await self._until(wire, lambda frame: frame.startswith("0{"))
        await wire.send(f"40{json.dumps({'token': token('u1', tenant_id=1)})}")
        await self._until(wire, lambda frame: frame.startswith('42["connected"'))
        await self._check_health(wire, set())

    async def _batch(self, wire: ClientConnection, batch: list[Packet]) -> bool:
        """False where the server has closed the connection, as it may for what was sent."""
        waiting = {packet.ack for packet in batch if packet.ack is not None}
        may_close = any(packet.may_close for packet in batch)
        try:
            for packet in batch:
                await wire.send(packet.frame)
            if any(_says_goodbye(packet.frame) for packet in batch):
                return False  # nothing more will be answered, and the connection may stay
            await self._check_health(wire, waiting)
        except ConnectionClosed:
            if not may_close:
                raise Failure(f"closed without a reason after {_shown(batch)}") from None
            return False
        except Failure as failure:
            raise Failure(f"{failure} after {_shown(batch)}") from None
        if waiting:
            raise Failure(f"{len(waiting)} acks did not come: {_shown(batch)}")
        return True

    async def _check_health(self, wire: ClientConnection, waiting: set[int | None]) -> None:
        """What was asked before has been answered when a subscribe is, which works."""
        for name in self._made:
            await wire.send(f"42{json.dumps(['unsubscribe', {'subscriptionId': name}])}")
        self._made.clear()
        request = {"resource": "posts", "subscriptionId": "health"}
        await wire.send(f"420{json.dumps(['subscribe', request])}")
        await wire.send('421["unsubscribe",{"subscriptionId":"health"}]')
        full = False

        def is_last(frame: str) -> bool:
            nonlocal full
            if frame.startswith("430["):
                # What the batch has made counts; where it is the most there may be, make room.
                full = "SUBSCRIPTION_LIMIT_EXCEEDED" in frame
                if '"success":true' not in frame and not full:
                    raise Failure(f"a subscribe fails: {frame}")
            self._take(frame, waiting)
            is_own = "UNKNOWN_EVENT" not in frame  # a hostile frame may have asked as number 1
            return (frame.startswith("431[") and is_own) or frame in ("1", "41")

        if await self._until(wire, is_last) != "431[":
            raise ConnectionClosed(None, None)
        if full:
            await self._check_health(wire, waiting)

    async def _until(self, wire: ClientConnection, holds: Callable[[str], bool]) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    frame = await wire.recv()
                    assert isinstance(frame, str)
                    if frame == "2":
                        await wire.send("3")
                    elif holds(frame):
                        return frame[:4]
        except TimeoutError:
            raise Failure(f"no answer for {ANSWER_SECONDS:g} s over a socket") from None

    def _take(self, frame: str, waiting: set[int | None]) -> None:
        if frame.startswith("43"):
            number, _, body = frame[2:].partition("[")
            waiting.discard(int(number))
            (answer,) = json.loads(f"[{body}")
            self._take_answer(answer)
        elif frame.startswith('42["subscription.created"'):
            data = json.loads(frame[2:])[1]
            self._fuzzer.known = [*self._fuzzer.known[-20:], data["subscriptionId"]]
            self._fuzzer.cursors = [*self._fuzzer.cursors[-20:], data["cursor"]]
            self._made.add(data["subscriptionId"])

    def _take_answer(self, answer: dict[str, Any]) -> None:
        failures = answer.get("failed", [])
        for error in [answer.get("error"), *(one["error"] for one in failures)]:
            if error is None:
                continue
            self._result.codes[error["code"]] += 1
            if error["code"] == "INTERNAL_ERROR" or LEAKS.search(error["message"]):
                raise Failure(f"{error}")
        if "error" not in answer:
            self._result.codes["success"] += 1


def _says_goodbye(frame: str | bytes) -> bool:
    """Whether a client that sends this has left the default namespace."""
    return isinstance(frame, str) and frame.startswith("41")


def _shown(batch: list[Packet]) -> str:
    return "\n".join(str(packet.frame)[:300] for packet in batch)


# Requests


RELATIONSHIPS = (
    "/api/posts/1/comments",
    "/api/posts/1/relationships/author",
    "/api/posts/1/relationships/comments",
    "/api/users/1/posts",
    "/api/users/1/relationships/posts",
    "/api/categories/1/relationships/children",
)
PATHS = (
    *("/api/posts", "/api/posts/1", "/api/users", "/api/notes", "/api/secrets", "/api", "/"),
    *RELATIONSHIPS,
)
HEADERS = (
    "accept",
    "content-type",
    "authorization",
    "x-forwarded-for",
    "cookie",
    "range",
    "if-match",
)


class RequestFuzzer:
    """Makes requests that are nearly right, as bytes."""

    def __init__(self, seed: str) -> None:
        self.r = Random(seed)
        self.plain = Fuzzer(self.r.randrange(2**32))
        self.bearer = f"Bearer {token('u1', tenant_id=1)}"

    def request(self) -> bytes:
        roll = self.r.random()
        if roll < 0.5:
            found = self.plain.request()
            raw = found.url.raw_path
            headers = [(name, text) for name, text in found.headers.raw if name != b"host"]
            return _head(found.method, raw, headers, found.read())
        return self.hostile() if roll < 0.95 else self.polling()

    def hostile(self) -> bytes:
        r = self.r
        method = r.choice(
            ["GET"] * 8 + ["POST"] * 4 + ["PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"]
        )
        if r.random() < 0.03:
            method = r.choice(["TRACE", "PROPFIND", "FOO", "get", "M-SEARCH", "X" * 200])
        path = r.choice(PATHS)
        if r.random() < 0.2:
            path += "/" + quote(str(r.choice([*STRANGE, *RESOURCES])), safe="/.")[:3_000]
        if r.random() < 0.1:
            path += r.choice(["/relationships/author", "/author", "//", "/%2e%2e/", "/%00", "/%ff"])
        pairs = [self.parameter() for _ in range(r.choice([0, 1, 1, 2, 5]))]
        if r.random() < 0.02:
            pairs = [self.parameter()] * 300
        query = "&".join(pairs)
        headers = [(b"accept", MEDIA_TYPE.encode()), (b"content-type", MEDIA_TYPE.encode())]
        if r.random() < 0.5:
            headers.append((b"authorization", self.bearer.encode()))
        for _ in range(r.choice([0, 0, 0, 1, 3])):
            text = str(r.choice(STRANGE)).encode("utf-8", "replace")[:2_000]
            clean = bytes(byte for byte in text if byte > 31 and byte != 127).strip()
            headers.append((r.choice(HEADERS).encode(), clean))
        body = b""
        if method in ("POST", "PATCH", "PUT") or r.random() < 0.05 or path in RELATIONSHIPS:
            body = self.body()
        return _head(method, f"{path}?{query}".encode()[:20_000], headers, body)

    def parameter(self) -> str:
        r = self.r
        name = r.choice(["filter", "filter", "filter", "fields", "page", "sort", "include", "x"])
        for _ in range(r.choice([0, 1, 1, 1, 2, 3, 40])):
            inner = r.choice([*FIELDS, *RESOURCES, *STRANGE, "", "size", "number"])
            if r.random() < 0.1:
                inner = lookalike(r, inner)
            name += f"[{inner[:200]}]"
        if r.random() < 0.05:
            name = name.replace("]", "", 1)
        made = value(r, 2)
        text = made if isinstance(made, str) else encode(made)
        plain = quote(f"{name}={text}"[:4_000], safe=r.choice(["=[]", "=", "=[],.:$"]))
        if r.random() < 0.05:
            plain += quote_from_bytes(bytes(r.randrange(256) for _ in range(3)))
        return plain

    def body(self) -> bytes:
        r = self.r
        data: Any = {
            "type": r.choice(RESOURCES),
            "id": r.choice(["1", "2"]),
            "attributes": {"title": "a", "status": "draft", "text": "t"},
            "relationships": {"author": {"data": {"type": "users", "id": "1"}}},
        }
        members = [
            {"type": r.choice(("posts", "comments", "categories", "users")), "id": str(number)}
            for number in range(r.choice((0, 1, 2, 2, 3, 30)))
        ]
        if r.random() < 0.2:
            data["relationships"][r.choice(("posts", "comments", "children"))] = {"data": members}
        elif r.random() < 0.3:
            data = r.choice((members, members, members[:1], None))
        made: Any = {"data": data}
        for _ in range(r.choice([0, 1, 2, 5])):
            made = spoil(r, made)
        text = encode(made).encode("utf-8", "surrogatepass")
        if r.random() < 0.05 and text:
            place = r.randrange(len(text))
            text = text[:place] + bytes([r.randrange(256)]) + text[place + 1 :]
        return text

    def polling(self) -> bytes:
        """Requests to Engine.IO; none that opens a session, which would wait for its client."""
        r = self.r
        eio = r.choice(["3", "4", "x", "4&EIO=4"])
        sid = quote(str(r.choice([*STRANGE, "", "AAAAAAAAAAAAAAAAAAAA"])))[:500]
        transport = r.choice(["polling", "websocket", "x", ""])
        target = f"/socket.io/?EIO={eio}&transport={transport}&sid={sid or 'x'}&j={sid}"
        method = r.choice(["GET", "POST", "OPTIONS", "PUT"])
        body = self.body() if method == "POST" else b""
        return _head(method, target.encode(), [], body)


def _head(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None
) -> bytes:
    lines = [method.encode() + b" " + target.partition(b"#")[0] + b" HTTP/1.1", b"Host: test"]
    unwanted = (b"content-length", b"transfer-encoding", b"connection", b"host", b"expect")
    lines += [name + b": " + text for name, text in headers if name.lower() not in unwanted]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


# What is not HTTP: the server may say so, and close the connection.
BROKEN = (
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"G\xffT / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
    b"POST /api/posts HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/posts HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"POST /api/posts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"\r\n\r\n\x16\x03\x01\x02\x00",
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: upgrade\r\nSec-WebSocket-Version: 99\r\n\r\n",
)


class RequestClient:
    """Keep-alive connections, one after another, with requests sent in batches."""

    def __init__(self, url: str, seed: str, result: Result) -> None:
        parts = urlsplit(url)
        self._place = parts.hostname, parts.port
        self._fuzzer = RequestFuzzer(seed)
        self._result = result

    async def run(self, requests: int) -> None:
        while requests > 0:
            reader, writer = await asyncio.open_connection(*self._place, limit=2**24)
            try:
                is_open = True
                while requests > 0 and is_open:
                    batch = [self._fuzzer.request() for _ in range(min(requests, PIPELINED))]
                    answered, is_open = await self._batch(reader, writer, batch)
                    # What stood behind one that ended the connection was not answered.
                    requests -= answered
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _batch(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, batch: list[bytes]
    ) -> tuple[int, bool]:
        """How many have been answered, and whether the connection is still open."""
        is_broken = self._fuzzer.r.random() < 0.05
        with contextlib.suppress(ConnectionError):
            writer.write(b"".join(batch))
            await writer.drain()
        for number, request in enumerate(batch, 1):
            self._result.requests += 1
            if not await self._answer(reader, request):
                return number, False
        if is_broken:
            with contextlib.suppress(ConnectionError):
                writer.write(self._fuzzer.r.choice(BROKEN))
                writer.write_eof()
            async with asyncio.timeout(ANSWER_SECONDS):
                with contextlib.suppress(ConnectionError):
                    rest = await reader.read()
                    if re.search(rb"HTTP/1.1 5\d\d", rest):
                        raise Failure(f"5xx for what is not HTTP: {rest[:500]!r}")
            self._result.requests += 1
            return len(batch), False
        return len(batch), True

    async def _answer(self, reader: asyncio.StreamReader, request: bytes) -> bool:
        """Read one answer and hold it against what must be; False where the server ends it."""
        place = f"{request[:1500]!r}"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, headers, body = await _read_answer(reader, request)
        except TimeoutError:
            raise Failure(f"no answer for {ANSWER_SECONDS:g} s to {place}") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Failure(f"closed without an answer to {place}") from None
        self._result.statuses[status] += 1
        if status >= 500:
            raise Failure(f"{status} to {place}\n{body[:500]!r}")
        if headers.get("content-type", "").startswith(MEDIA_TYPE) and body:
            for error in json.loads(body).get("errors", ()):
                if LEAKS.search(error.get("detail", "")):
                    raise Failure(f"{error} to {place}")
        return headers.get("connection", "").lower() != "close"


async def _read_answer(
    reader: asyncio.StreamReader, request: bytes
) -> tuple[int, dict[str, str], bytes]:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): found.strip() for name, _, found in pairs}
    status = int(first.split(" ")[1])
    if request.startswith(b"HEAD ") or status in (204, 304):
        return status, headers, b""
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return status, headers, body
    return status, headers, await reader.readexactly(int(headers.get("content-length", "0")))


# Running


def _memory(server: RunningServer) -> int:
    """What the server holds, in KiB."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])  # type: ignore[index]


async def _settled(server: RunningServer) -> int:
    await asyncio.sleep(0.5)  # connections that are gone are cleared away
    return _memory(server)


async def _attack(url: str, seed: str, frames: int, requests: int, result: Result) -> None:
    """Several clients of both kinds at once."""
    sockets, pipes = 3, 4
    async with asyncio.TaskGroup() as tasks:
        for number in range(sockets):
            client = FrameClient(url, f"{seed}/f{number}", result)
            tasks.create_task(client.run(frames // sockets))
        for number in range(pipes):
            http = RequestClient(url, f"{seed}/h{number}", result)
            tasks.create_task(http.run(requests // pipes))


async def fuzz(
    seed: str,
    frames: int,
    requests: int,
    *,
    fault: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Attack a server of its own, a part of it to warm up.

    Raises:
        Failure: it has done what it must never do; the message says what to.
    """
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    result = Result(seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        env = {"DATABASE": f"{folder}/fuzz.db", "FAULT": fault}
        async with run_server(["-m", "tests.security.fuzzed"], env=env, tapped=False) as server:
            try:
                await _populate(server.url)
                result.memory.append(_memory(server))
                parts = 5
                for part in range(parts):
                    share = frames // parts, requests // parts
                    await _attack(server.url, f"{seed}/{part}", *share, result)
                    if part == 0:
                        result.memory.append(await _settled(server))
                    say(
                        f"{time.monotonic() - started:4.0f} s: {result.frames:,} frames, "
                        f"{result.requests:,} requests, RSS {_memory(server):,} KiB"
                    )
                await _attack(server.url, f"{seed}/last", 30, 30, Result(seed))
                result.memory.append(await _settled(server))
            except* Failure as failures:
                first = failures.exceptions[0]
                while isinstance(first, BaseExceptionGroup):
                    first = first.exceptions[0]
                raise Failure(f"seed {seed}: {first}\n{server.output()[-3000:]}") from None
            result.seconds = time.monotonic() - started
            unexpected = tracebacks(server.output())
            if server.process.returncode is not None or unexpected:
                raise Failure(f"seed {seed}: {len(unexpected)} tracebacks {unexpected[:3]}")
    return result


def tracebacks(output: str) -> list[str]:
    """Those of a server's output, without the one that is uvicorn's own doing.

    Where a body is no HTTP while its request is being answered, uvicorn has answered 400 itself;
    it then cannot take the application's answer, and logs that.
    """
    parts = output.split("Exception in ASGI application")[1:]
    known = re.compile(
        r"h11\._util\.LocalProtocolError: can't handle event type \w+ when role=SERVER"
    )
    found = [part[-3000:] for part in parts if not known.search(part)]
    if output.count("Traceback (") > len(parts):
        found.append(output[output.index("Traceback (") :][:3000])
    return found


async def _populate(url: str) -> None:
    """Records 1 to 3, for requests to be about."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"accept", MEDIA_TYPE.encode())]
    headers.append((b"authorization", f"Bearer {token('u1', tenant_id=1)}".encode()))
    for number in range(3):
        for resource, attributes in (
            ("users", {"name": f"n{number}"}),
            ("posts", {"title": "a"}),
            ("notes", {"text": "a", "owner_id": "u1"}),
        ):
            body = json.dumps({"data": {"type": resource, "attributes": attributes}}).encode()
            request = _head("POST", f"/api/{resource}".encode(), headers, body)
            writer.write(request)
            status, _, answer = await _read_answer(reader, request)
            assert status == 201, answer
    writer.close()


def is_flat(result: Result) -> bool:
    """Whether the server's memory has stayed what it was after the warm-up."""
    _, warm, end = result.memory
    return end <= warm * ALLOWED_GROWTH + SLACK


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=101_000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", default="", help="any text; by default a random number")
    options = parser.parse_args()
    seed = options.seed or str(secrets.randbelow(10**9))

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    say(f"fuzz: seed {seed}")
    try:
        result = asyncio.run(fuzz(seed, options.frames, options.requests, say=say))
    except Failure as failure:
        say(f"FAILED {failure}")
        return 1
    say(str(result))
    if not is_flat(result):
        say("FAILED the server's memory has grown")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
