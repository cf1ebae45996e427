"""Testing an application that tidings serves: who may do what, and who is told of what.

    from tidings.testing import serve

    async with serve(api) as served:
        ada, bob = served.client(user_id="1"), served.client(user_id="2")
        watch = await ada.subscribe("posts", status="published")
        await bob.create("posts", {"title": "News", "status": "published"})
        await watch.assert_told("1", "enter")
        await watch.assert_silent()

Everything is real but for the network: the application's own ASGI app, its permissions and hooks, a
database in memory, and the frames of Socket.IO. Nothing sleeps: `Served.settled` returns when
everything that was committed has been delivered.

Needs ``pip install "tidings[testing]"``; the fixtures for pytest come with it.
"""

from tidings.testing.client import Client
from tidings.testing.serving import Served, serve
from tidings.testing.watching import Notification, SubscriptionRefused, Watch
from tidings.testing.wire import Disconnected

__all__ = [
    "Client",
    "Disconnected",
    "Notification",
    "Served",
    "SubscriptionRefused",
    "Watch",
    "serve",
]
