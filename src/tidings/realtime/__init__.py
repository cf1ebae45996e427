"""The Socket.IO face: subscriptions, delivery, and the server that carries them."""

from tidings.realtime.draining import Drainable
from tidings.realtime.events import Events
from tidings.realtime.explaining import Clause, Explainer, Explanation
from tidings.realtime.limits import SocketLimits
from tidings.realtime.server import SocketServer
from tidings.realtime.sessions import moment
from tidings.realtime.statistics import DeliveryTracer, SocketStatistics
from tidings.realtime.subscriptions import SubscriptionContext, SubscriptionDraft
from tidings.socketio import Origins

__all__ = [
    "Clause",
    "DeliveryTracer",
    "Drainable",
    "Events",
    "Explainer",
    "Explanation",
    "Origins",
    "SocketLimits",
    "SocketServer",
    "SocketStatistics",
    "SubscriptionContext",
    "SubscriptionDraft",
    "moment",
]
