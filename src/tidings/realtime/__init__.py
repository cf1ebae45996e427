"""The Socket.IO face: subscriptions, delivery, and the server that carries them."""

from tidings.realtime.draining import Drainable
from tidings.realtime.explaining import Clause, Explainer, Explanation
from tidings.realtime.limits import SocketLimits
from tidings.realtime.server import DEFAULT_CORS, SocketServer
from tidings.realtime.sessions import moment
from tidings.realtime.statistics import DeliveryTracer, SocketStatistics
from tidings.realtime.subscriptions import SubscriptionContext, SubscriptionDraft

__all__ = [
    "DEFAULT_CORS",
    "Clause",
    "DeliveryTracer",
    "Drainable",
    "Explainer",
    "Explanation",
    "SocketLimits",
    "SocketServer",
    "SocketStatistics",
    "SubscriptionContext",
    "SubscriptionDraft",
    "moment",
]
