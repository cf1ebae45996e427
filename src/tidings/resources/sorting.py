"""The order a client asks for."""

from __future__ import annotations

from tidings.errors import InvalidRequest
from tidings.schema import ResourceType
from tidings.storage import Sort

MAX_SORT_FIELDS = 8


def parse_sort(resource: ResourceType, names: list[str]) -> Sort:
    """Check sort names ("title", "-created_at" for descending) against the schema.

    Raises:
        InvalidRequest: ``INVALID_SORT``, naming the field.
    """
    if len(names) > MAX_SORT_FIELDS:
        raise _invalid(f"at most {MAX_SORT_FIELDS} fields")
    result = []
    for name in names:
        column = name.removeprefix("-")
        if not resource.sortable(column):
            hint = ": sorting goes by paths that some filter looks at" if "." in column else ""
            raise _invalid(f"'{resource.name}' cannot be sorted by {column[:100]!r}{hint}")
        result.append((column, name.startswith("-")))
    return tuple(result)


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(f"sort: {message}", code="INVALID_SORT", option="sort")
