"""The engine: Engine.IO sessions over polling and WebSockets, as an ASGI app."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from tidings.socketio import upgrades
from tidings.socketio.frames import POLICY_VIOLATION, Frame
from tidings.socketio.http import (
    Receive,
    Responder,
    Scope,
    Send,
    parse_query,
    refuse_websocket,
)
from tidings.socketio.ids import RandomIds
from tidings.socketio.links import Link
from tidings.socketio.lobby import Guest, Lobby, Refused, address_of
from tidings.socketio.options import Options
from tidings.socketio.origins import Origins
from tidings.socketio.polling import PollingLink, Reading, serve_get, serve_post
from tidings.socketio.portable import PortableLink
from tidings.socketio.session import LAST_SECONDS, Session
from tidings.socketio.takeover import TAKEOVER, FastLink
from tidings.socketio.turns import Turns
from tidings.socketio.wheel import Wheel

_log = logging.getLogger("tidings.socketio")
_COARSE, _FINE = 0.05, 0.001


class Handler(Protocol):
    """What is made of the messages of sessions."""

    def opened(self, session: Session) -> None:
        """A client has come."""
        ...

    def is_message(self, text: str) -> bool:
        """Whether this may be one, at first sight; it begins with Engine.IO's 4, or b if binary."""
        ...

    def received(self, session: Session, data: str | bytes) -> None:
        """A message has come: text, beginning with the 4, or binary."""
        ...

    def drained(self, session: Session) -> None:
        """Something has been sent to a session that ``wants_room``."""
        ...

    def closed(self, session: Session, reason: str) -> None:
        """A client has gone."""
        ...


class Engine:
    """The sessions of one server. ``cors`` is of `Origins`."""

    def __init__(self, handler: Handler, options: Options, origins: Origins) -> None:
        self.handler = handler
        self.options = options
        self.origins = origins
        self.lobby = Lobby(options)
        self.reading = Reading(options.reading_bytes)
        self.sessions: dict[str, Session] = {}
        self.leaving: dict[str, Session] = {}
        """Sessions that have ended, whose clients have not fetched the last packets yet."""
        self.slow = 0
        """How many clients have been disconnected because they did not read."""
        self.wheel = Wheel(min(max(options.ping_timeout / 200, _FINE), _COARSE))
        self.new_id = RandomIds().take
        self.turns = Turns()
        self._has_hinted = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            try:
                await self._websocket(scope, receive, send)
            except Refused as refused:
                _log.debug("refused: %s", refused.message)
                await refuse_websocket(receive, send, refused)
            return
        respond = Responder(send, self.origins.headers(scope))
        try:
            await self._http(scope, receive, respond)
        except Refused as refused:
            _log.debug("refused: %s", refused.message)
            await respond.refuse(refused)

    # Requests

    async def _http(self, scope: Scope, receive: Receive, respond: Responder) -> None:
        method = scope["method"]
        if method == "OPTIONS":
            await respond.nothing()
            return
        self._check_origin(scope)
        query = parse_query(scope)
        if query.get("transport") == "websocket":
            self._hint_at_proxy()
            raise Refused("This is no WebSocket: the headers Upgrade and Connection are missing")
        self._check_query(query, "polling")
        if "j" in query:
            raise Refused("JSONP is not spoken here: use XMLHttpRequest or fetch")
        if method not in ("GET", "POST"):
            raise Refused("Only GET and POST are of the protocol")
        if "sid" not in query:
            if method == "POST":
                raise Refused("A POST needs the 'sid' of a session")
            guest = self.lobby.enter(address_of(scope), polls=True)
            session = self._open(scope, PollingLink(), guest)
        else:
            session = self._session(query["sid"], may_leave=method == "GET")
        if method == "GET":
            await serve_get(session, receive, respond)
        else:
            await serve_post(self, session, receive, respond)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check_origin(scope)
        query = parse_query(scope)
        self._check_query(query, "websocket")
        session = guest = None
        if "sid" in query:
            session = self._session(query["sid"])
            if session.link.is_websocket or session.probe is not None:
                _log.debug("%s: another WebSocket is not taken", session.id)
                await receive()
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
                return
        else:
            guest = self.lobby.enter(address_of(scope), polls=False)
        take_over = (scope.get("extensions") or {}).get(TAKEOVER)
        portable = PortableLink(send) if take_over is None else None
        link = portable or FastLink(self)
        if session is not None:
            upgrades.begin(session, link)
        try:
            await receive()
            if isinstance(link, FastLink) and take_over is not None:
                take_over(link)
            await send({"type": "websocket.accept"})
            if not link.is_open:
                return
            link.limit = self.options.max_payload
            if session is None and guest is not None:
                session = self._open(scope, link, guest)
            assert session is not None
            link.begin(session)
            if portable is not None:
                await portable.serve(receive)
        finally:
            if guest is not None and session is None:
                guest.leave()
            if session is not None and (portable is not None or not link.is_open):
                session.link_lost(link)

    def _check_origin(self, scope: Scope) -> None:
        if not self.origins.allows(scope):
            raise Refused("Pages of this origin may not connect")

    def _check_query(self, query: dict[str, str], transport: str) -> None:
        version = query.get("EIO")
        if version != "4":
            raise Refused(
                "Engine.IO protocol 4 is spoken here: use a client of Socket.IO 3 or later, "
                f"not one of protocol {(version or '?')[:10]}"
            )
        if query.get("transport") != transport:
            raise Refused("The transport is 'polling' or 'websocket'")

    def _hint_at_proxy(self) -> None:
        if not self._has_hinted:
            self._has_hinted = True
            _log.warning(
                "a WebSocket came as a plain request: a proxy has to pass the headers "
                "'Upgrade' and 'Connection: upgrade' on (see docs/processes.md)"
            )

    def _session(self, session_id: str, *, may_leave: bool = False) -> Session:
        session = self.sessions.get(session_id)
        if session is None and may_leave:
            session = self.leaving.get(session_id)
        if session is None:
            raise Refused("There is no such session")
        if session.is_open:
            session.due(time.monotonic())
        if not session.is_open and not may_leave:
            raise Refused("There is no such session")
        return session

    # Sessions

    def _open(self, scope: Scope, link: Link, guest: Guest) -> Session:
        options = self.options
        session = Session(self, self.new_id(), link, guest, scope)
        self.sessions[session.id] = session
        upgrades = "" if link.is_websocket else '"websocket"'
        session.send(
            Frame(
                f'0{{"sid":"{session.id}","upgrades":[{upgrades}],'
                f'"pingInterval":{round(1000 * options.ping_interval)},'
                f'"pingTimeout":{round(1000 * options.ping_timeout)},'
                f'"maxPayload":{options.max_payload}}}'.encode()
            )
        )
        self.handler.opened(session)
        return session

    def end_poll(self, session: Session) -> None:
        """Have the client of a session stop polling."""
        if isinstance(session.link, PollingLink):
            session.link.end_poll()

    def polled(self, session: Session) -> None:
        """A client has fetched packets; of a session that has ended, those were the last."""
        if not session.is_open and not session.out:
            self.forget(session)

    def ended(self, session: Session, code: int, why: str, *, waits: bool) -> None:
        """Keep no more of a session than what its client is to get last."""
        self.sessions.pop(session.id, None)
        session.guest.leave()
        self.wheel.discard(session)
        if waits and not session.link.is_websocket:
            self.leaving[session.id] = session
            self.wheel.set(session, time.monotonic() + LAST_SECONDS)
        session.link.close(session, code, why)

    def forget(self, session: Session) -> None:
        """Keep nothing of a session that has ended."""
        self.leaving.pop(session.id, None)
        self.wheel.discard(session)
        session.drop()

    def too_slow(self, session: Session) -> None:
        """End a session to which too much is unsent."""
        self.slow += 1
        _log.warning("%s disconnected: it reads too slowly", session.id)
        session.drop()
        session.close("transport error")

    @property
    def unsent(self) -> int:
        """The bytes that have not been sent yet, to all clients."""
        return sum(session.unsent for session in self.sessions.values())

    def close(self) -> None:
        """End all sessions; the engine may be used again, in this event loop or another."""
        for session in list(self.sessions.values()):
            session.close("server shutting down")
        for session in list(self.leaving.values()):
            self.forget(session)
