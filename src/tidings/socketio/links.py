"""Links: what a session wants of the transport that it has at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tidings.socketio.frames import Frame

if TYPE_CHECKING:
    from tidings.socketio.session import Session


class Link(Protocol):
    """The transport that a session has. Nothing here waits."""

    is_websocket: bool

    @property
    def unsent(self) -> int:
        """How many bytes have been taken from the session and are not sent."""
        ...

    def flush(self, session: Session) -> None:
        """Take what the session holds, as far as the client reads, and send it."""
        ...

    def write_rest(self, data: bytes) -> None:
        """Write what the system has not taken of a frame that the session has written itself: it
        does where this link has set `Session.descriptor`.
        """
        ...

    def close(self, session: Session, code: int, why: str = "") -> None:
        """End, once what the session holds has been sent, or has had the time to."""
        ...

    def pause_reading(self) -> None:
        """Have the client wait with what it sends."""
        ...

    def resume_reading(self) -> None:
        """Go on reading."""
        ...


class WebSocketLink(Link, Protocol):
    """A transport that a session can be upgraded to; ``limit`` bounds a message."""

    limit: int

    def write(self, frame: Frame) -> None:
        """Send a frame at once."""
        ...
