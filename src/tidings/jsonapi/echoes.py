"""Echoes: documents that come back as tidings gave them, with something in them changed.

Such a document repeats the members of to-many relationships, which a write cannot set here, and
may hold a foreign key twice: as an attribute and as a relationship, of which one was changed.
What says no more than the record does is accepted.
"""

from __future__ import annotations

from typing import Any

from tidings.errors import InvalidRequest, NotFound, PermissionDenied, Source
from tidings.identity import Identity
from tidings.jsonapi.requests import WriteRequest, is_same_id
from tidings.resources import Found, Operations
from tidings.schema import ResourceType


async def settle_echoes(
    operations: Operations,
    resource: ResourceType,
    record_id: object,
    write: WriteRequest,
    identity: Identity,
) -> None:
    """Drop from a write what only repeats the record; ``record_id`` is None where it is new.

    Raises:
        PermissionDenied: ``FULL_REPLACEMENT_NOT_ALLOWED``, a to-many relationship is given other
            members than the client is shown.
        InvalidRequest: attribute and relationship of one foreign key have both been changed.
    """
    if not (write.members or write.contested):
        return
    present = await _present(operations, resource, record_id, write, identity)
    for name, members in write.members.items():
        if sorted(members) != _shown_members(present, name):
            raise PermissionDenied(
                "A to-many relationship cannot be replaced here; write the related records",
                code="FULL_REPLACEMENT_NOT_ALLOWED",
                source=Source(pointer=write.pointers[name]),
            )
    for column, attribute in write.contested.items():
        write.values[column] = _changed_one(present, column, attribute, write)


async def _present(
    operations: Operations,
    resource: ResourceType,
    record_id: object,
    write: WriteRequest,
    identity: Identity,
) -> Found | None:
    if record_id is None:
        return None
    include: dict[str, Any] = {name: {} for name in write.members}
    try:
        return await operations.get(resource, record_id, include=include, auth=identity)
    except NotFound:
        return None  # a PUT may make it; the write itself says what is wrong


def _shown_members(present: Found | None, name: str) -> list[str]:
    members = {} if present is None else present.included.members
    return sorted(str(key) for place, keys in members.items() if place[2] == name for key in keys)


def _changed_one(
    present: Found | None, column: str, attribute: object, write: WriteRequest
) -> object:
    """The one of a foreign key's two values that the record does not have yet."""
    related = write.values[column]
    if present is not None and is_same_id(attribute, present.row[column]):
        return related
    if present is not None and is_same_id(related, present.row[column]):
        return attribute
    raise InvalidRequest(
        f"contradicts the attribute {column!r}",
        code="INVALID_DOCUMENT",
        source=Source(pointer=write.pointers[column].removesuffix("/data")),
    )
