"""cost: what the most expensive requests and frames cost a server, per byte that is sent.

``--src`` measures another checkout (its ``src``) by the same requests, in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import Effort
from benchmarks.requests import get, post
from benchmarks.servers import HOST, ROOT, Server, python_server
from benchmarks.sockets import SocketClient
from benchmarks.tables import Table

_PATIENCE: Final = 90.0
_BIG: Final = 900_000
_WORDS: Final = " ".join(f"w{number:03d}" for number in range(500))


async def run(effort: Effort, src: Path | None = None) -> Table:
    """Measure each attack on a server of its own."""
    where = "this checkout" if src is None else str(src)
    table = Table(
        f"The worst that is accepted, {where}",
        ["KB sent", "CPU s", "others wait ms", "peak MB more", "answers"],
    )
    for what, attack in ATTACKS.items():
        environment = {} if src is None else {"PYTHONPATH": f"{src}{os.pathsep}{ROOT}"}
        async with python_server("cost_app", environment=environment) as server:
            table.add(what, await _measured(server, attack))
    table.notes.append("others wait: the longest that a GET of one short record took meanwhile")
    return table


async def _measured(server: Server, attack: Attack) -> dict[str, float]:
    async with _Connection(server) as http:
        await http.request(_made("authors", name="a"))
    prepare, act = attack
    state = await prepare(server)
    waits: list[float] = []
    probe = asyncio.create_task(_probe(server, waits))
    await asyncio.sleep(0.3)
    before, seconds = _memory(server, reset=True), server.processor_seconds()
    waits.clear()
    sent, answers = 0, 0.0
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(_PATIENCE):
            sent, answers = await act(server, state)
    await asyncio.sleep(0.3)
    probe.cancel()
    return {
        "KB sent": sent / 1000,
        "CPU s": server.processor_seconds() - seconds,
        "others wait ms": 1000 * max(waits, default=float("nan")),
        "peak MB more": (_memory(server) - before) / 1000,
        "answers": answers,
    }


async def _probe(server: Server, waits: list[float]) -> None:
    async with _Connection(server) as http:
        while True:
            begin = time.perf_counter()
            try:
                await http.request(get("/api/authors/1"))
            except OSError:
                return
            finally:
                waits.append(time.perf_counter() - begin)
            await asyncio.sleep(0.005)


class _Connection:
    """One connection, for answers of any size and status."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __aenter__(self) -> _Connection:
        self._reader, self._writer = await asyncio.open_connection(HOST, self._server.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def request(self, request: bytes) -> bytes:
        """Send an encoded request; gives the head of its answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head.lower())
        left = int(found[1]) if found else 0
        while left:
            left -= len(await self._reader.read(min(left, 1_000_000)))
        return head


def _memory(server: Server, *, reset: bool = False) -> float:
    """The peak of what the process had in memory, in kB; ``reset`` begins anew."""
    if reset:
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def _made(kind: str, **attributes: Any) -> bytes:
    return post(f"/api/{kind}", {"data": {"type": kind, "attributes": attributes}})


def _filling(count: int, size: int, word: str = "x") -> Callable[[Server], Awaitable[None]]:
    async def fill(server: Server) -> None:
        async with _Connection(server) as http:
            for number in range(count):
                text = (word * (size // len(word)))[:size]
                await http.request(_made("posts", title=str(number), text=text, author_id="1"))

    return fill


async def _nothing(_: Server) -> None:
    pass


async def _ask(server: Server, requests: list[bytes], at_once: int = 8) -> tuple[int, float]:
    waiting = list(requests)

    async def work() -> int:
        done = 0
        async with _Connection(server) as http:
            while waiting:
                await http.request(waiting.pop())
                done += 1
        return done

    done = await asyncio.gather(*(work() for _ in range(at_once)), return_exceptions=True)
    return sum(map(len, requests)), float(sum(one for one in done if isinstance(one, int)))


async def _long_lists(server: Server, _: object) -> tuple[int, float]:
    return await _ask(server, [get("/api/posts?page[size]=100")] * 8)


async def _many_includes(server: Server, _: object) -> tuple[int, float]:
    path = "posts.author.posts.author.posts.author.posts"
    return await _ask(server, [get(f"/api/authors?include={path}")] * 8)


async def _small_patches(server: Server, _: object) -> tuple[int, float]:
    requests = [
        post(
            "/api/posts/1",
            {"data": {"type": "posts", "id": "1", "attributes": {"title": str(number)}}},
        ).replace(b"POST", b"PATCH", 1)
        for number in range(300)
    ]
    return await _ask(server, requests, at_once=1)


async def _many_words(server: Server, _: object) -> tuple[int, float]:
    words = _WORDS.replace(" ", "%20")
    return await _ask(server, [get(f"/api/posts?filter[words]={words}")] * 2)


async def _watched_words(server: Server, _: object) -> tuple[int, float]:
    sent = 0
    sockets = []
    for number in range(20):
        socket = await SocketClient.open(server, lambda: None)
        sockets.append(socket)  # open until the change has come
        words = " ".join(f"{number}w{one:03d}" for one in range(500))
        filters = {"resource": "posts", "filters": {"words": words}}
        sent += len(words)
        with suppress(Exception):
            await socket.call("subscribe", filters)
    text = "".join(chr(97 + number % 26) for number in range(10_000))
    more, answers = await _ask(server, [_made("posts", title="a", text=text, author_id="1")] * 3)
    for socket in sockets:
        socket.close()
    return sent + more, answers


async def _long_ago(server: Server) -> tuple[SocketClient, list[dict[str, Any]]]:
    socket = await SocketClient.open(server, lambda: None)
    first = await socket.call("subscribe", {"resource": "posts", "filters": {}})
    cursor = first.get("data", first).get("cursor", "")
    await _filling(4_000, 50)(server)
    entries = [
        {
            "resource": "posts",
            "filters": {"title": str(number)},
            "subscriptionId": f"s{number}",
            "cursor": cursor,
        }
        for number in range(90)
    ]
    return socket, entries


async def _old_cursors(server: Server, state: Any) -> tuple[int, float]:
    socket, entries = state
    await socket.call("restore-subscriptions", {"subscriptions": entries})
    return len(str(entries)), 1.0


Attack = tuple[
    Callable[[Server], Awaitable[Any]], Callable[[Server, Any], Awaitable[tuple[int, float]]]
]
ATTACKS: Final[dict[str, Attack]] = {
    "8 lists of 100 long texts": (_filling(100, _BIG), _long_lists),
    "8 includes along 7 relationships": (_filling(1_500, 100), _many_includes),
    "300 short PATCHes of a long record": (_filling(1, _BIG), _small_patches),
    "2 filters of 500 words, 1,000 rows": (_filling(1_000, 2_000, "lorem "), _many_words),
    "20 subscriptions of 500 words, 3 POSTs": (_nothing, _watched_words),
    "a restore of 90, 4,000 changes ago": (_long_ago, _old_cursors),
}
