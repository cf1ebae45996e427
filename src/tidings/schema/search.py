"""Declaring filters: a resource's search schema, and ``search`` on a field."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tidings.errors import ConfigurationError
from tidings.schema.fields import Field, Relationship, SearchField
from tidings.schema.options import as_mapping, check_keys
from tidings.schema.related import RelatedColumn
from tidings.schema.types import (
    CONTAINER_TYPES,
    ORDERED_TYPES,
    TEXT_TYPES,
    TYPE_NAMES,
    TypeName,
)

OPERATORS: Final = frozenset({"=", "!=", ">", ">=", "<", "<=", "like", "in", "between"})
CLIENT_OPERATORS: Final = {
    "eq": "=",
    "ne": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "in": "in",
    "between": "between",
}
"""How clients name operators, in ``filter[views][gte]=5``."""
_ORDERING: Final = frozenset({">", ">=", "<", "<=", "between"})
OF_ARRAYS: Final = frozenset({"=", "!=", "in", "like"})
ELEMENT_TYPES: Final = TEXT_TYPES | {"integer", "boolean"}
"""What the elements of an array that is filtered can be."""
_OPTIONS = frozenset(
    {
        "type",
        "filter_operator",
        "operators",
        "actual_field",
        "one_of",
        "split_by",
        "match_all",
        "filter_record",
    }
)


def declare_search(
    where: str,
    fields: Mapping[str, Field],
    links: Mapping[str, Relationship],
    search_schema: Mapping[str, Any] | None,
    declared: Mapping[str, Any],
) -> dict[str, SearchField] | None:
    """Join ``search`` of the fields with the search schema; None where there is neither.

    Raises:
        ConfigurationError: names the filter and what is wrong with it.
    """
    entries: dict[str, Any] = {}
    for name, entry in declared.items():
        option = entry.get("search") if isinstance(entry, Mapping) else None
        if option:
            entries[name] = {} if option is True else _shorthand(option)
    if search_schema is not None:
        entries.update(as_mapping(f"{where}, search_schema", search_schema))
    elif not entries:
        return None
    result = {}
    for name, entry in entries.items():
        place = f"{where}, filter {name!r}"
        options = {"type": entry} if isinstance(entry, str) else dict(as_mapping(place, entry))
        check_keys(place, options, _OPTIONS)
        result[name] = _declare_entry(place, name, options, fields, links)
    return result


def _shorthand(option: Any) -> Any:
    return {"filter_operator": option} if isinstance(option, str) or callable(option) else option


def _is_async(function: object) -> bool:
    """Tell whether calling this, a function or an object, gives something to await."""
    call = getattr(function, "__call__", None)  # noqa: B004  not whether, but what is called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _declare_entry(
    place: str,
    name: str,
    options: Mapping[str, Any],
    fields: Mapping[str, Field],
    links: Mapping[str, Relationship],
) -> SearchField:
    operator = options.get("filter_operator", "=")
    operator = "!=" if operator == "<>" else operator
    if not callable(operator) and operator not in OPERATORS:
        known = ", ".join(sorted(OPERATORS))
        raise ConfigurationError(
            f"{place}: filter_operator is one of {known}, or a callable, not {operator!r}"
        )
    filter_record = options.get("filter_record")
    if filter_record is not None and not callable(operator):
        raise ConfigurationError(f"{place}: filter_record belongs to a callable filter_operator")
    if _is_async(operator):
        raise ConfigurationError(
            f"{place}: filter_operator must be an ordinary function: it makes an expression, "
            "and may wait for nothing"
        )
    if _is_async(filter_record):
        raise ConfigurationError(
            f"{place}: filter_record must be an ordinary function: it runs for every change, "
            "and may wait for nothing"
        )
    columns = () if callable(operator) else _columns(place, name, options, fields, links)
    entry = SearchField(
        name,
        _type(place, options, columns, fields),
        operator,
        columns,
        options.get("split_by"),
        bool(options.get("match_all", False)),
        filter_record,
        infers_type="type" not in options and not callable(operator) and "." in columns[0],
        operators=_client_operators(place, options.get("operators", ()), operator),
    )
    _check_options(place, entry, fields)
    for column in columns:
        if "." not in column:
            _check_operators(place, entry, column, fields.get(column), many=False)
    return entry


def _client_operators(place: str, given: Any, operator: object) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else list(given)
    if names and callable(operator):
        raise ConfigurationError(f"{place}: a callable filter_operator is the only one there is")
    for name in names:
        if name not in CLIENT_OPERATORS:
            known = ", ".join(CLIENT_OPERATORS)
            raise ConfigurationError(f"{place}: operators are some of {known}, not {name!r}")
    return tuple(dict.fromkeys(names))


def finish_search(
    where: str,
    entry: SearchField,
    fields: Mapping[str, Field],
    related: Mapping[str, RelatedColumn],
) -> SearchField:
    """Check an entry's paths, now that it is known where they lead, and complete its type.

    Raises:
        ConfigurationError: starts with ``where`` and names what is wrong.
    """
    for path in entry.columns:
        found = related.get(path)
        if found is not None:
            if entry.infers_type:
                entry = replace(entry, type=found.type, infers_type=False)
            _check_operators(where, entry, path, found.field, many=found.many)
    return entry


def _check_operators(
    place: str, entry: SearchField, column: str, field: Field | None, *, many: bool
) -> None:
    """Check the declared operator on a column, and those that clients may choose."""
    _check_column(place, entry, column, field, many=many)
    for name in entry.operators:
        _check_column(place, entry.chosen(CLIENT_OPERATORS[name]), column, field, many=many)


def _columns(
    place: str,
    name: str,
    options: Mapping[str, Any],
    fields: Mapping[str, Field],
    links: Mapping[str, Relationship],
) -> tuple[str, ...]:
    if "actual_field" in options and "one_of" in options:
        raise ConfigurationError(f"{place}: give actual_field or one_of, not both")
    chosen = options.get("one_of", [options.get("actual_field", name)])
    names = []
    for column in chosen:
        if not isinstance(column, str):
            raise ConfigurationError(f"{place}: {column!r} is no field name")
        link = links.get(column)
        if link is not None and link.targets:
            raise ConfigurationError(
                f"{place}: {column!r} leads to several resources; filter by {link.type_field!r} "
                f"and {link.foreign_key!r}"
            )
        column = link.foreign_key if link is not None and link.is_own else column
        if "." not in column and column != "id" and column not in fields:
            raise ConfigurationError(
                f"{place}: the resource has no field {column!r}; name one with actual_field"
            )
        names.append(column)
    if not names:
        raise ConfigurationError(f"{place}: one_of is empty")
    return tuple(names)


def _type(
    place: str,
    options: Mapping[str, Any],
    columns: tuple[str, ...],
    fields: Mapping[str, Field],
) -> TypeName:
    declared = options.get("type")
    if declared is not None and declared not in TYPE_NAMES:
        known = ", ".join(sorted(TYPE_NAMES))
        raise ConfigurationError(f"{place}: type is one of {known}, not {declared!r}")
    if not columns:
        if declared is None:
            raise ConfigurationError(f"{place}: a callable filter_operator needs a type")
        result: TypeName = declared
        return result
    column = fields.get(columns[0])  # none for "id", nor yet for a path
    if column is not None and column.type == "array":
        return "string" if declared in (None, "array") else declared
    return declared or ("id" if column is None else column.type)


def _check_options(place: str, entry: SearchField, fields: Mapping[str, Field]) -> None:
    if entry.split_by is not None and (not entry.split_by or entry.type not in TEXT_TYPES):
        raise ConfigurationError(f"{place}: split_by needs a text type and a separator")
    if entry.match_all and entry.split_by is None:
        many = [name for name in entry.columns if "." in name or is_array(fields.get(name))]
        if entry.operator != "in" or len(many) != len(entry.columns):
            raise ConfigurationError(
                f"{place}: match_all needs split_by, or the operator 'in' on an array or a "
                "to-many relationship"
            )


def is_array(field: Field | None) -> bool:
    """Tell whether a field (None for ``id``) holds an array."""
    return field is not None and field.type == "array"


def _check_column(
    place: str, entry: SearchField, column: str, field: Field | None, *, many: bool
) -> None:
    """Check that the operator can be used on a column, whose ``field`` is None for an ``id``."""
    kind: TypeName = "id" if field is None else field.type
    if field is not None and not field.is_shown:
        said = "hidden" if field.hidden else "write-only"
        raise ConfigurationError(
            f"{place}: field {column!r} is {said}; a filter on it would give it away"
        )
    if entry.match_all and entry.operator == "in" and not (many or kind == "array"):
        raise ConfigurationError(f"{place}: match_all: {column!r} has one value only")
    if kind == "array" and "." not in column:
        if entry.operator not in OF_ARRAYS or entry.type not in ELEMENT_TYPES:
            raise ConfigurationError(
                f"{place}: the array {column!r} takes {', '.join(sorted(OF_ARRAYS))}, and its "
                f"elements (type) are one of {', '.join(sorted(ELEMENT_TYPES))}"
            )
        kind = entry.type
    elif kind in CONTAINER_TYPES:
        raise ConfigurationError(
            f"{place}: {entry.operator!r} cannot look into the {kind} {column!r}; "
            "use a callable filter_operator with filter_record"
        )
    is_key = field is None or field.references is not None
    if entry.operator == "like" and (kind not in TEXT_TYPES or is_key):
        raise ConfigurationError(f"{place}: 'like' needs a text field, {column!r} is {kind}")
    if entry.operator in _ORDERING and kind not in ORDERED_TYPES:
        raise ConfigurationError(f"{place}: {entry.operator!r} cannot order a {kind}")
