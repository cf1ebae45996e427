"""The form of a subscribe request, checked before anything is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tidings.errors import FilterError, InvalidRequest, NotFound, PayloadTooLarge, Problem
from tidings.feed import Cursor
from tidings.resources import parse_fieldsets, parse_include
from tidings.resources.naming import declared_fieldsets, declared_paths
from tidings.schema import ResourceRegistry, ResourceType, describe
from tidings.socketio import Unreadable

MAX_ID_LENGTH: Final = 200
_KEYS: Final = frozenset(
    {"resource", "filters", "include", "fields", "subscriptionId", "cursor", "status"}
)


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """A subscribe request of the right form; its filters are not yet checked."""

    resource: ResourceType
    filters: dict[str, Any]
    include: tuple[str, ...]
    fields: dict[str, list[str]]
    id: str | None
    cursor: Cursor | None
    has_cursor: bool


def readable(payload: object, code: str) -> object:
    """The payload itself; an unreadable one is an error of this code.

    Raises:
        RequestError: ``PAYLOAD_TOO_LARGE``, or the code.
    """
    if isinstance(payload, Unreadable):
        if payload.reason == "size":
            raise PayloadTooLarge("The message is too large")
        if payload.reason == "binary":
            raise InvalidRequest("Binary data is not taken here: send JSON", code=code)
        raise InvalidRequest("The message is not valid JSON", code=code)
    return payload


def named_resource(registry: ResourceRegistry, payload: object) -> ResourceType:
    """The resource that a request names.

    Raises:
        RequestError: it is no object, or names none.
    """
    return _resource(registry, _object(payload).get("resource"))


def parse_subscribe(
    registry: ResourceRegistry, resource: ResourceType, payload: object
) -> SubscribeRequest:
    """Check a request's form, include and fields.

    Raises:
        RequestError: with the code that WIRE.md has for it.
    """
    payload = _object(payload)
    unknown = next((key for key in payload if key not in _KEYS), None)
    if unknown is not None:
        known = ", ".join(sorted(_KEYS - {"status"}))
        raise InvalidRequest(
            f"Unsupported option {unknown[:100]!r} (known: {known})",
            code="UNSUPPORTED_OPTION",
            resource=resource.name,
        )
    filters = payload.get("filters")
    if filters is None:
        filters = {}
    if not isinstance(filters, dict):
        raise FilterError(
            problems=[Problem("filters", f"expected an object, got {describe(filters)}")],
            resource=resource.name,
        )
    cursor = payload.get("cursor")
    return SubscribeRequest(
        resource,
        filters,
        _include(registry, resource, payload.get("include")),
        _fields(registry, payload.get("fields")),
        parse_id(payload["subscriptionId"]) if payload.get("subscriptionId") is not None else None,
        Cursor.parse(cursor),
        cursor is not None,
    )


def _object(payload: object) -> dict[str, Any]:
    payload = readable(payload, "INVALID_SUBSCRIPTION")
    if not isinstance(payload, dict):
        raise InvalidRequest(
            f"Expected an object, got {describe(payload)}", code="INVALID_SUBSCRIPTION"
        )
    return payload


def _resource(registry: ResourceRegistry, name: object) -> ResourceType:
    if not isinstance(name, str) or not name:
        raise InvalidRequest("'resource' is required: its name", code="RESOURCE_REQUIRED")
    resource = registry.get(name)
    if resource is None:
        raise NotFound(
            f"There is no resource {name[:100]!r}",
            code="RESOURCE_NOT_FOUND",
            resource=name[:100],
        )
    return resource


def _include(
    registry: ResourceRegistry, resource: ResourceType, include: object
) -> tuple[str, ...]:
    if include is None:
        return ()
    if not isinstance(include, list):
        raise InvalidRequest(
            f"'include' must be an array of paths, not {describe(include)}",
            code="INVALID_INCLUDE",
            resource=resource.name,
        )
    for path in include:
        if not isinstance(path, str):
            message = f"'include' must hold strings, not {describe(path)}"
            raise InvalidRequest(message, code="INVALID_INCLUDE", resource=resource.name)
    parse_include(registry, resource, declared_paths(registry, resource, include))
    return tuple(include)


def _fields(registry: ResourceRegistry, fields: object) -> dict[str, list[str]]:
    if fields is None:
        return {}
    parse_fieldsets(registry, declared_fieldsets(registry, fields))
    assert isinstance(fields, dict)
    return {name: list(dict.fromkeys(wanted)) for name, wanted in fields.items()}


def parse_id(value: object) -> str:
    """A subscription id as a client may choose it.

    Raises:
        InvalidRequest: ``INVALID_SUBSCRIPTION_ID``.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise InvalidRequest(
            f"A subscriptionId is a string of 1 to {MAX_ID_LENGTH} characters",
            code="INVALID_SUBSCRIPTION_ID",
        )
    return value
