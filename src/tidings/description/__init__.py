"""What an api says of itself to machines: an OpenAPI document of its resources."""

from tidings.description.merging import merged
from tidings.description.openapi import OPENAPI_VERSION, openapi_document

__all__ = ["OPENAPI_VERSION", "merged", "openapi_document"]
