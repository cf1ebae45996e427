"""Upgrades: a WebSocket that is to become the transport of a session that polls.

It is one at a time, and as long as it has not come to an end the session goes on polling.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tidings.socketio.frames import NORMAL, POLICY_VIOLATION, Frame
from tidings.socketio.links import WebSocketLink

if TYPE_CHECKING:
    from tidings.socketio.session import Session

_log = logging.getLogger("tidings.socketio")
_PROBED: Final = Frame(b"3probe")


def begin(session: Session, link: WebSocketLink) -> None:
    """Let a WebSocket try."""
    session.probe = link
    session.is_probed = False


def receive(session: Session, link: WebSocketLink, text: str) -> None:
    """Take a packet of it: a probe, and then the word that it is the transport now."""
    if session.probe is not link:
        return
    if text == "2probe" and not session.is_probed:
        session.is_probed = True
        link.write(_PROBED)
        session.engine.end_poll(session)
    elif text == "5" and session.is_probed:
        _finish(session, link)
    else:
        fail(session, "an upgrade that is none")


def fail(session: Session, why: str) -> None:
    """Go on without it, where there is one."""
    link, session.probe = session.probe, None
    if link is not None:
        _log.debug("%s goes on polling: %s", session.id, why)
        link.close(session, POLICY_VIOLATION, why)


def _finish(session: Session, link: WebSocketLink) -> None:
    old, session.link, session.probe = session.link, link, None
    session.guest.has_upgraded()
    link.limit = session.limit
    if session.is_held:
        link.pause_reading()
    old.close(session, NORMAL)
    link.flush(session)
