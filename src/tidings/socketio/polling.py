"""Polling: a GET waits for packets, a POST brings some. Between two GETs a session has nothing."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tidings.socketio.http import Receive, Responder
from tidings.socketio.lobby import Refused
from tidings.socketio.session import Session

if TYPE_CHECKING:
    from tidings.socketio.engine import Engine

SEPARATOR: Final = "\x1e"
BURST: Final = 32_768
"""So many bytes one GET gets; a client that comes for more has read them."""
MOST_PACKETS: Final = 512
"""So many packets one POST may bring: all that a client has emitted before its first poll."""
_TURN: Final = 64
_PROBE_SECONDS: Final = 0.1
"""So long a GET waits that comes while the client upgrades: it may be done by then."""
_NOOP: Final = b"6"
# OPEN 0 is the server's; CLOSE 1, PING 2, PONG 3, MESSAGE 4, UPGRADE 5, NOOP 6; b is binary.
_PACKET: Final = re.compile(r"[1356]|[23](?:probe)?|4.*|b[A-Za-z0-9+/]*={0,2}", re.DOTALL)


class PollingLink:
    """The transport of a session that polls."""

    is_websocket = False
    __slots__ = ("_poll", "_resumed", "_taken", "is_posting")

    def __init__(self) -> None:
        self._poll: asyncio.Future[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._taken = 0
        self.is_posting = False

    @property
    def unsent(self) -> int:
        """What the last GET got is on its way until the next comes."""
        return self._taken

    @property
    def is_polled(self) -> bool:
        """Whether a GET waits."""
        return self._poll is not None

    def flush(self, session: Session) -> None:
        """Answer the GET that waits."""
        if session.out:
            _wake(self._poll)

    def write_rest(self, data: bytes) -> None:
        """There is no descriptor here."""
        raise NotImplementedError

    def close(self, session: Session, code: int, why: str = "") -> None:
        """Answer the GET that waits."""
        _wake(self._poll)
        _wake(self._resumed)

    def pause_reading(self) -> None:
        """A POST waits where the session is held."""

    def resume_reading(self) -> None:
        """Go on with a POST."""
        _wake(self._resumed)

    def end_poll(self) -> None:
        """Answer the GET that waits with an empty packet, so that the client may stop polling."""
        _wake(self._poll)

    async def packets(self, session: Session, receive: Receive) -> bytes | None:
        """Wait for packets; None if the client has gone.

        Raises:
            Refused: it has a WebSocket by now, and its packets go there.
        """
        self._taken = 0
        session.has_room()
        if not session.out and session.is_open and not await self._wait(session, receive):
            return None
        if session.link is not self:
            raise Refused("This session has a WebSocket")
        frames = session.take(BURST)
        body = SEPARATOR.encode().join([frame.polled for frame in frames]) or _NOOP
        self._taken = len(body)
        session.is_behind = True
        return body

    async def _wait(self, session: Session, receive: Receive) -> bool:
        """Wait until there is something to answer; False if the client has gone."""
        loop = asyncio.get_running_loop()
        poll = self._poll = loop.create_future()
        if session.is_probed and session.probe is not None:
            # The answer to its probe may reach the client after that to the GET before: then it
            # polls once more, and sends nothing at all until this GET is answered.
            loop.call_later(_PROBE_SECONDS, _wake, poll)
        watching = asyncio.ensure_future(_gone(receive))
        watching.add_done_callback(lambda _: _wake(poll))
        # A server that ends cancels its requests: then that is what it was for.
        with suppress(asyncio.CancelledError):
            await poll
        self._poll = None
        has_gone = watching.done() and not watching.cancelled()
        watching.cancel()
        return not has_gone

    async def resumed(self) -> None:
        """Wait until the session is not held any more."""
        self._resumed = asyncio.get_running_loop().create_future()
        await self._resumed
        self._resumed = None


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve_get(session: Session, receive: Receive, respond: Responder) -> None:
    """Answer a poll.

    Raises:
        Refused: another waits already, and the session ends.
    """
    link = _polling(session)
    if link.is_polled:
        session.close("transport error")
        raise Refused("Another GET of this session waits already")
    body = await link.packets(session, receive)
    session.engine.polled(session)
    if body is not None:
        await respond.packets(body)


async def serve_post(
    engine: Engine, session: Session, receive: Receive, respond: Responder
) -> None:
    """Take what a client sends.

    Raises:
        Refused: it is too much, too late, not the protocol, or two at a time.
    """
    link = _polling(session)
    if link.is_posting:
        session.close("transport error")
        raise Refused("Another POST of this session is under way")
    link.is_posting = True
    try:
        body = await engine.reading.read(receive, session.limit, engine.options.read_deadline)
        if body is None:
            return
        await _receive(session, link, body)
    finally:
        link.is_posting = False
    await respond.packets(b"ok")


def _polling(session: Session) -> PollingLink:
    if not isinstance(session.link, PollingLink):
        raise Refused("This session has a WebSocket")
    return session.link


async def _receive(session: Session, link: PollingLink, body: bytes) -> None:
    packets = _split(body)
    is_message = session.engine.handler.is_message
    if packets is None or not all(is_message(one) for one in packets if one[0] in "4b"):
        session.has_erred("a body is no payload of Engine.IO 4")
        raise Refused("The payload is malformed")
    for number, packet in enumerate(packets):
        while session.is_held and session.is_open:
            await link.resumed()
        if packet[:1] == "b":
            session.receive_binary(b64decode(packet[1:]))
        else:
            session.receive(packet)
        if session.problem is not None:
            raise Refused(f"The session has ended: {session.problem}")
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)


def _split(body: bytes) -> list[str] | None:
    """The packets of a payload; None where it is none."""
    if body.count(b"\x1e") >= MOST_PACKETS:
        return None
    try:
        packets = body.decode().split(SEPARATOR)
    except UnicodeDecodeError:
        return None
    for packet in packets:
        if _PACKET.fullmatch(packet) is None or (packet[0] == "b" and len(packet) % 4 != 1):
            return None
    return packets


class Reading:
    """What is being read and is not whole yet, which may come to ``most`` bytes in all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0

    def add(self, size: int) -> bool:
        """Count so many bytes more (or less); False where it is too much."""
        self._bytes += size
        return self._bytes <= self._most

    async def read(self, receive: Receive, most: int, seconds: float) -> bytes | None:
        """A body of so many bytes at most; None where its client has gone.

        Raises:
            Refused: it is larger, or has not come in time, or too much is being read.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message: Any = await receive()
                    if message["type"] != "http.request":
                        return None
                    chunk = message.get("body", b"")
                    body += chunk
                    has_room = self.add(len(chunk))
                    if len(body) > most:
                        raise Refused("The payload is too large", 413)
                    if not has_room:
                        raise Refused("Too much is being read at the moment", 503)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused("The payload has not come in time", 408) from None
        finally:
            self.add(-len(body))
