"""Testing an application that tidings serves: who may do what, and who is told of what.

    from tidings.testing import running

    async with running(api, database="memory") as live:
        ann, ben = live.client(user_id="ann"), live.client(user_id="ben")
        watch = await ann.subscribe("posts", {"status": "published"})
        await ben.create("posts", {"title": "News", "status": "published"})
        await watch.assert_told(("enter", "1"))
        await watch.assert_silent()

Everything is real but for the network: the application's own ASGI app and its lifespan, its
permissions and hooks, its database or one in memory, and the frames of Socket.IO. Nothing sleeps:
`Live.settled` returns when everything that was committed has been delivered.

Needs ``pip install "tidings[testing]"``. The fixture ``live`` for pytest comes with tidings.
"""

from tidings.testing.client import JSON_API, Client
from tidings.testing.running import Live, running
from tidings.testing.watching import SubscriptionRefused, Watch
from tidings.testing.wire import Disconnected

__all__ = [
    "JSON_API",
    "Client",
    "Disconnected",
    "Live",
    "SubscriptionRefused",
    "Watch",
    "running",
]
