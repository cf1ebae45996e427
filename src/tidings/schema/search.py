"""Declaring filters: a resource's search schema, and ``search`` on a field."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from tidings.errors import ConfigurationError
from tidings.schema.fields import Field, Relationship, SearchField
from tidings.schema.options import as_mapping, check_keys
from tidings.schema.types import (
    CONTAINER_TYPES,
    ORDERED_TYPES,
    TEXT_TYPES,
    TYPE_NAMES,
    TypeName,
)

OPERATORS: Final = frozenset({"=", "!=", ">", ">=", "<", "<=", "like", "in", "between"})
_ORDERING: Final = frozenset({">", ">=", "<", "<=", "between"})
_OPTIONS = frozenset(
    {"type", "filter_operator", "actual_field", "one_of", "split_by", "match_all", "filter_record"}
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
    if filter_record is not None and inspect.iscoroutinefunction(filter_record):
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
    )
    _check_entry(place, entry, fields)
    return entry


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
        column = link.foreign_key if link is not None and not link.to_many else column
        if "." in column:
            raise ConfigurationError(
                f"{place}: filters through relationships ({column!r}) are not supported yet"
            )
        if column != "id" and column not in fields:
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
    if declared is None:
        if not columns:
            raise ConfigurationError(f"{place}: a callable filter_operator needs a type")
        return "id" if columns[0] == "id" else fields[columns[0]].type
    if declared not in TYPE_NAMES:
        known = ", ".join(sorted(TYPE_NAMES))
        raise ConfigurationError(f"{place}: type is one of {known}, not {declared!r}")
    result: TypeName = declared
    return result


def _check_entry(place: str, entry: SearchField, fields: Mapping[str, Field]) -> None:
    """Check that the operator can be used on each of the entry's columns."""
    for column in entry.columns:
        kind: TypeName = "id" if column == "id" else fields[column].type
        if column != "id" and fields[column].hidden:
            raise ConfigurationError(
                f"{place}: field {column!r} is hidden; a filter on it would give it away"
            )
        if kind in CONTAINER_TYPES:
            raise ConfigurationError(
                f"{place}: {entry.operator!r} cannot look into the {kind} {column!r}; "
                "use a callable filter_operator with filter_record"
            )
        if entry.operator == "like" and (kind not in TEXT_TYPES or _is_reference(column, fields)):
            raise ConfigurationError(f"{place}: 'like' needs a text field, {column!r} is {kind}")
        if entry.operator in _ORDERING and kind not in ORDERED_TYPES:
            raise ConfigurationError(f"{place}: {entry.operator!r} cannot order a {kind}")
    if entry.split_by is not None and (not entry.split_by or entry.type not in TEXT_TYPES):
        raise ConfigurationError(f"{place}: split_by needs a text type and a separator")


def _is_reference(column: str, fields: Mapping[str, Field]) -> bool:
    return column == "id" or fields[column].references is not None
