"""The HTTP face: JSON:API 1.1 documents over ASGI."""

from tidings.jsonapi.app import Authenticate, JsonApiApp, error_response
from tidings.jsonapi.endpoints import Endpoint
from tidings.jsonapi.negotiation import MEDIA_TYPE
from tidings.jsonapi.places import resource_named

__all__ = [
    "MEDIA_TYPE",
    "Authenticate",
    "Endpoint",
    "JsonApiApp",
    "error_response",
    "resource_named",
]
