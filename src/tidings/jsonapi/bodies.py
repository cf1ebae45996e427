"""JSON:API documents: what comes in, taken apart with every error's pointer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tidings.errors import Conflict, InvalidRequest, Source
from tidings.numbers import decode_json
from tidings.resources import Members
from tidings.resources.naming import WrongSpelling, declared_name
from tidings.schema import Relationship, ResourceType, describe

MAX_MEMBERS: Final = 5_500
"""So many identifiers one relationship may have in a document: as many as a document shows, and
those that a request may change.
"""


@dataclass(slots=True)
class WriteRequest:
    """The resource object of a request: its id, and values by field name.

    ``pointers`` tells for each field where in the document its value stood.
    """

    id: object = None
    values: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Members] = field(default_factory=dict)
    """By to-many relationship, the ids that it is to have."""
    contested: dict[str, object] = field(default_factory=dict)
    """By foreign key, its value as an attribute where the relationship says something else."""
    pointers: dict[str, str] = field(default_factory=dict)


Body = bytes | dict[str, Any]
"""A document as it came, or as it is part of another one."""


def parse_write(resource: ResourceType, body: Body, *, expected_id: str | None) -> WriteRequest:
    """Take the document of a POST (``expected_id`` None), PUT or PATCH apart.

    Raises:
        InvalidRequest: the body is no JSON, or no document with one resource object.
        Conflict: its type or id is not that of the URL.
    """
    data = _resource_object(body)
    if not isinstance(data.get("type"), str):
        raise _invalid("'type' is missing or no string", "/data/type")
    if data["type"] != resource.name:
        raise _conflict(f"this collection holds '{resource.name}'", "/data/type", "TYPE_CONFLICT")
    request = WriteRequest(data.get("id"))
    if request.id is not None and not isinstance(request.id, str):
        raise _invalid("an id is a string", "/data/id")
    if expected_id is not None:
        if request.id is None:
            raise _invalid("'id' is missing", "/data/id")
        if request.id != expected_id:
            raise _conflict("the id is not that of the URL", "/data/id", "ID_CONFLICT")
    _take_attributes(resource, _member(data, "attributes"), request)
    _take_relationships(resource, _member(data, "relationships"), request)
    return request


def parse_linkage(relationship: Relationship, body: Body) -> str | list[str] | None:
    """Take the document of a write to a relationship apart: one id or None for a to-one, ids for
    a to-many relationship.

    Raises:
        InvalidRequest: the body is no JSON, or no document with linkage that fits.
        Conflict: a type is not that of the relationship's records.
    """
    document = _document(body)
    if relationship.to_many:
        return _members(relationship, document, "")
    return _linkage(relationship, document["data"], "/data")


def parse_reference(relationship: Relationship, body: Body) -> dict[str, Any]:
    """Take the document of a write to a to-one relationship apart: the values of its fields.

    Raises:
        InvalidRequest: the body is no JSON, or no document with linkage that fits.
        Conflict: the type is not that of the relationship's records.
    """
    data = _document(body)["data"]
    return reference(relationship, data, _linkage(relationship, data, "/data"))


def _resource_object(body: Body) -> dict[str, Any]:
    data = _document(body)["data"]
    if not isinstance(data, dict):
        raise _invalid(f"expected one resource object, got {describe(data)}", "/data")
    return data


def decoded(body: bytes) -> Any:
    """The JSON of a request's body.

    Raises:
        InvalidRequest: ``INVALID_JSON``.
    """
    try:
        return decode_json(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest("The body is not valid JSON", code="INVALID_JSON") from None


def _document(body: Body) -> dict[str, Any]:
    document = decoded(body) if isinstance(body, bytes) else body
    if not isinstance(document, dict):
        raise _invalid(f"expected a document object, got {describe(document)}", "")
    if "data" not in document:
        raise _invalid("'data' is missing", "")
    return document


def _member(data: dict[str, Any], name: str) -> dict[str, Any]:
    member = data.get(name, {})
    if not isinstance(member, dict):
        raise _invalid(f"expected an object, got {describe(member)}", f"/data/{name}")
    return member


def _take_attributes(
    resource: ResourceType, attributes: dict[str, Any], request: WriteRequest
) -> None:
    for member, value in attributes.items():
        if member.startswith("@"):  # an @-member means nothing here (JSON:API 1.1, 5.8.3)
            continue
        pointer = f"/data/attributes/{escape_pointer(member)}"
        name = _declared(resource, member, pointer)
        if name in resource.relationships:
            raise _invalid("is a relationship, not an attribute", pointer)
        request.values[name] = value
        request.pointers[name] = pointer


def _declared(resource: ResourceType, member: str, pointer: str) -> str:
    try:
        return declared_name(resource, member)
    except WrongSpelling as wrong:
        raise _invalid(str(wrong), pointer) from None


def _take_relationships(
    resource: ResourceType, relationships: dict[str, Any], request: WriteRequest
) -> None:
    for member, entry in relationships.items():
        if member.startswith("@"):
            continue
        pointer = f"/data/relationships/{escape_pointer(member)}"
        name = _declared(resource, member, pointer)
        relationship = resource.relationships.get(name)
        if relationship is None:
            raise _invalid(f"'{resource.name}' has no such relationship", pointer)
        if isinstance(entry, dict) and "data" not in entry and entry.keys() & {"links", "meta"}:
            continue  # as a document shows what was not loaded: it says nothing
        if relationship.to_many:
            request.members[name] = Members(_members(relationship, entry, pointer))
            request.pointers[name] = pointer
            continue
        if not isinstance(entry, dict) or "data" not in entry:
            raise _invalid("expected an object with 'data'", pointer)
        key = _linkage(relationship, entry["data"], f"{pointer}/data")
        if not relationship.is_own:
            request.members[name] = Members.of_one(key)
            request.pointers[name] = f"{pointer}/data"
            continue
        column = relationship.foreign_key
        if relationship.targets:
            given = reference(relationship, entry["data"], key)
            request.values.update(given)
            request.pointers.update((name, f"{pointer}/data") for name in given)
            continue
        if column in request.values:
            request.contested[column] = request.values[column]
        request.values[column] = key
        request.pointers[column] = f"{pointer}/data"


def _members(relationship: Relationship, entry: object, pointer: str) -> list[str]:
    data = entry.get("data") if isinstance(entry, dict) else None
    if not isinstance(data, list):
        raise _invalid("expected an object with 'data', an array", pointer)
    if len(data) > MAX_MEMBERS:
        raise InvalidRequest(
            f"at most {MAX_MEMBERS} resource identifiers",
            code="TOO_MANY_MEMBERS",
            source=Source(pointer=pointer or "/data"),
        )
    found = [_linkage(relationship, one, f"{pointer}/data/{n}") for n, one in enumerate(data)]
    if None in found:
        raise _invalid("expected resource identifiers, got null", f"{pointer}/data")
    return [key for key in found if key is not None]


def _linkage(relationship: Relationship, data: Any, pointer: str) -> str | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise _invalid(f"expected a resource identifier or null, got {describe(data)}", pointer)
    if data.get("type") not in relationship.types:
        known = " or ".join(f"'{name}'" for name in relationship.types)
        raise _conflict(f"expected type {known}", f"{pointer}/type", "TYPE_CONFLICT")
    if not isinstance(data.get("id"), str):
        raise _invalid("'id' is missing or no string", f"{pointer}/id")
    key: str = data["id"]
    return key


def reference(relationship: Relationship, data: Any, key: object) -> dict[str, Any]:
    """The values of the fields of a to-one relationship, for linkage that was read."""
    if not relationship.targets:
        return {relationship.foreign_key: key}
    kind = None if data is None else data["type"]
    return {relationship.type_field: kind, relationship.foreign_key: key}


def escape_pointer(name: str) -> str:
    """A name as one token of a JSON pointer (RFC 6901, 3)."""
    return name[:200].replace("~", "~0").replace("/", "~1")


def _invalid(message: str, pointer: str) -> InvalidRequest:
    return InvalidRequest(message, code="INVALID_DOCUMENT", source=Source(pointer=pointer))


def _conflict(message: str, pointer: str, code: str) -> Conflict:
    return Conflict(message, code=code, source=Source(pointer=pointer))
