"""Ids that are not there or not allowed, and what a database's refusal means to the sender."""

from __future__ import annotations

from typing import Any

from tidings.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RelatedNotFound,
    Source,
)
from tidings.schema import ResourceType, ValueProblem
from tidings.storage import ConstraintViolation, Row


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
            source=Source(pointer="/data/id"),
        )
    try:
        return resource.cast_id(record_id)
    except ValueProblem as problem:
        raise InvalidRequest(
            f"id: {problem.message}", code="INVALID_ID", source=Source(pointer="/data/id")
        ) from None


def not_found(resource: ResourceType, record_id: object) -> NotFound:
    return NotFound(
        f"There is no '{resource.name}' with id {str(record_id)[:100]!r}",
        code="RECORD_NOT_FOUND",
        resource=resource.name,
    )


def explained(
    resource: ResourceType, values: Row, violation: ConstraintViolation, references: list[str]
) -> Exception:
    """What a broken constraint means to whoever sent the values; ``references`` are the fields
    that may refer to nothing.
    """
    if violation.kind == "unique":
        if violation.columns == ("id",):
            return Conflict(
                f"'{resource.name}' {values['id']} exists already",
                code="ID_TAKEN",
                source=Source(pointer="/data/id"),
            )
        names = [name for name in violation.columns if name in resource.fields]
        shown = " and ".join(names) or "a unique field"
        return Conflict(
            f"{shown}: the value is taken", code="NOT_UNIQUE", details={"fields": names}
        )
    if violation.kind == "foreign key":
        return RelatedNotFound(references)
    return Conflict("The database refused the values", code="CONSTRAINT")
