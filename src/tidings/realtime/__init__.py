"""The Socket.IO face: subscriptions, delivery, and the server that carries them."""

from tidings.realtime.draining import Drainable
from tidings.realtime.events import Events
from tidings.realtime.explaining import Clause, Explainer, Explanation
from tidings.realtime.limits import SocketLimits
from tidings.realtime.notifications import Notification, Resync, timestamp
from tidings.realtime.server import SocketServer
from tidings.realtime.sessions import moment
from tidings.realtime.statistics import DeliveryObserver, DeliveryTracer, SocketStatistics
from tidings.realtime.subscriptions import (
    Message,
    Subscriber,
    Subscription,
    SubscriptionContext,
    SubscriptionDraft,
)
from tidings.socketio import Origins

__all__ = [
    "Clause",
    "DeliveryObserver",
    "DeliveryTracer",
    "Drainable",
    "Events",
    "Explainer",
    "Explanation",
    "Message",
    "Notification",
    "Origins",
    "Resync",
    "SocketLimits",
    "SocketServer",
    "SocketStatistics",
    "Subscriber",
    "Subscription",
    "SubscriptionContext",
    "SubscriptionDraft",
    "moment",
    "timestamp",
]
