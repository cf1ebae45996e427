"""Assembly: what is installed and declared becomes something that serves."""

from tidings.api.application import Api, Plugin
from tidings.api.feeds import feed_name
from tidings.api.parts import FeedOptions, RestOptions, RevocationOptions, SocketOptions
from tidings.api.revocations import SqlRevocations
from tidings.api.sessions import Verifier

__all__ = [
    "Api",
    "FeedOptions",
    "Plugin",
    "RestOptions",
    "RevocationOptions",
    "SocketOptions",
    "SqlRevocations",
    "Verifier",
    "feed_name",
]
