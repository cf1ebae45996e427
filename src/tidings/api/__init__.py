"""Assembly: what is installed and declared becomes something that serves."""

from tidings.api.application import Api, Plugin, Verifier
from tidings.api.parts import RestOptions, SocketOptions

__all__ = ["Api", "Plugin", "RestOptions", "SocketOptions", "Verifier"]
