"""Socket.IO 5 over Engine.IO 4, as a server: polling and WebSockets, over any ASGI server, or over
uvicorn's transports directly (`tidings.socketio.uvicorn`). It knows nothing of subscriptions.
"""

from tidings.socketio.frames import Frame
from tidings.socketio.lobby import Lobby, LobbyFull, address_of
from tidings.socketio.options import Options
from tidings.socketio.origins import Origins
from tidings.socketio.packets import Unreadable, event_frame, text_frame
from tidings.socketio.server import Server
from tidings.socketio.session import Session
from tidings.socketio.sockets import (
    NO_ANSWER,
    Answer,
    ComeAgain,
    ConnectionRefused,
    Namespace,
    Socket,
)

__all__ = [
    "NO_ANSWER",
    "Answer",
    "ComeAgain",
    "ConnectionRefused",
    "Frame",
    "Lobby",
    "LobbyFull",
    "Namespace",
    "Options",
    "Origins",
    "Server",
    "Session",
    "Socket",
    "Unreadable",
    "address_of",
    "event_frame",
    "text_frame",
]
