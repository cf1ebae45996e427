"""Ids that are not there or not allowed, and what a database's refusal means to the sender."""

from __future__ import annotations

from typing import Any, Final

from tidings.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RelatedNotFound,
)
from tidings.schema import Field, ResourceType, ValueProblem
from tidings.storage import ConstraintViolation, Row

MAX_CLIENT_NUMBER: Final = 2**53 - 1
"""The highest number that a client may choose for an id; JavaScript counts that far, too."""


def key_or_none(resource: ResourceType, record_id: object) -> int | str | None:
    """The id as the column holds it; None where no record can have it, which is not an error."""
    try:
        return resource.cast_id(record_id)
    except ValueProblem:
        return None


def client_id(resource: ResourceType, record_id: object, *, trusted: bool) -> Any:
    if not trusted and not resource.client_ids:
        raise PermissionDenied(
            f"'{resource.name}' makes its own ids; send none",
            code="CLIENT_ID_NOT_ALLOWED",
            field="id",
        )
    try:
        key = resource.cast_id(record_id)
    except ValueProblem as problem:
        raise InvalidRequest(f"id: {problem.message}", code="INVALID_ID", field="id") from None
    # After the highest number that there is the database could number no other record.
    if not trusted and isinstance(key, int) and not 1 <= key <= MAX_CLIENT_NUMBER:
        raise InvalidRequest(
            f"id: a number from 1 to {MAX_CLIENT_NUMBER}", code="INVALID_ID", field="id"
        )
    return key


def not_found(resource: ResourceType, record_id: object) -> NotFound:
    return NotFound(
        f"There is no '{resource.name}' with id {str(record_id)[:100]!r}",
        code="RECORD_NOT_FOUND",
        resource=resource.name,
    )


def explained(
    resource: ResourceType,
    values: Row,
    violation: ConstraintViolation,
    references: list[str],
    *,
    deleting: bool = False,
) -> Exception:
    """What a broken constraint means to whoever sent the values.

    ``references`` are the fields that may refer to nothing. ``resource`` is as the sender may know
    it: a hidden field is not named.
    """
    if violation.kind == "foreign key" and deleting:
        return Conflict(
            f"'{resource.name}' {values['id']} is still referred to by other records",
            code="STILL_REFERENCED",
        )
    if violation.kind == "foreign key":
        return RelatedNotFound(references)
    if violation.kind == "unique" and violation.columns == ("id",):
        return Conflict(
            f"'{resource.name}' {values['id']} exists already", code="ID_TAKEN", field="id"
        )
    names = [name for name in violation.columns if is_known(resource, name)]
    if violation.kind == "unique" and (names or not violation.columns):
        shown = " and ".join(names) or "a unique field"
        return Conflict(
            f"{shown}: the value is taken",
            code="NOT_UNIQUE",
            field=names[0] if len(names) == 1 else None,
            details={"fields": names},
        )
    return Conflict("The database refused the values", code="CONSTRAINT")


def is_known(resource: ResourceType, name: str) -> bool:
    """Whether whoever has this view of a resource may know of the field."""
    return name in resource.fields and resource.fields[name].is_shown


def referred(field: Field, values: Row) -> str | None:
    """The resource to a record of which a field refers, of a record with these values; None where
    it refers to none.
    """
    found = values.get(field.type_field) if field.targets else field.references
    return found if isinstance(found, str) else None
