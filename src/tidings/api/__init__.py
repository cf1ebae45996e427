"""Assembly: what is installed and declared becomes something that serves."""

from tidings.api.application import Api, Plugin
from tidings.api.parts import RestOptions, RevocationOptions, SocketOptions
from tidings.api.revocations import SqlRevocations
from tidings.api.sessions import Verifier

__all__ = [
    "Api",
    "Plugin",
    "RestOptions",
    "RevocationOptions",
    "SocketOptions",
    "SqlRevocations",
    "Verifier",
]
