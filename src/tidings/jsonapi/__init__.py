"""The HTTP face: JSON:API 1.1 documents over ASGI."""

from tidings.jsonapi.app import Authenticate, JsonApiApp, resource_named
from tidings.jsonapi.endpoints import Endpoint
from tidings.jsonapi.negotiation import MEDIA_TYPE

__all__ = ["MEDIA_TYPE", "Authenticate", "Endpoint", "JsonApiApp", "resource_named"]
