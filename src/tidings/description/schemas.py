"""JSON Schemas (2020-12) of fields: what documents hold, and what writes and filters take."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from tidings.schema import Field, ResourceType, SearchField
from tidings.schema.fields import LEFT_TO_DATABASE, MISSING
from tidings.schema.moments import duration_text
from tidings.schema.search import CLIENT_OPERATORS
from tidings.schema.types import INT64_MAX, INT64_MIN, TypeName

Schema = dict[str, Any]
_PLAIN: Final[dict[TypeName, Schema]] = {
    "string": {"type": "string"},
    "text": {"type": "string"},
    "id": {"type": "string"},
    "uuid": {"type": "string", "format": "uuid"},
    "enum": {"type": "string"},
    "number": {"type": "number"},
    "integer": {"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX},
    "decimal": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "dateTime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "pattern": r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$"},
    "duration": {"type": "string", "format": "duration"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "inet": {"type": "string"},
    "array": {"type": "array"},
    "object": {"type": "object"},
}
_INTEGER_TEXT: Final[Schema] = {"type": "string", "pattern": "^-?(0|[1-9][0-9]{0,18})$"}
_BOUNDS: Final = {
    "array": ("minItems", "maxItems"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "string": ("minLength", "maxLength"),
    "text": ("minLength", "maxLength"),
}


def value_schema(field: Field) -> Schema:
    """What a field holds."""
    schema = dict(_INTEGER_TEXT if field.as_string else _PLAIN[field.type])
    kind = "" if field.as_string else field.type
    bounds = zip(_BOUNDS.get(kind, ()), (field.min, field.max), strict=False)
    schema |= {key: bound for key, bound in bounds if bound is not None}
    if field.items is not None:
        schema["items"] = nullable(_PLAIN[field.items])
    if field.enum is not None:
        items = [_json(item) for item in field.enum]
        schema["enum"] = [str(item) for item in items] if field.as_string else items
    if field.nullable:
        schema = nullable(schema)
    if field.read_only or field.computed is not None:
        schema["readOnly"] = True
    if field.write_only or field.virtual:
        schema["writeOnly"] = True
    return schema


def new_value_schema(field: Field) -> Schema:
    """What a field takes when a record is made. Its default is said in words: generators of types
    take a schema's ``default`` for a promise that there is a value.
    """
    schema = value_schema(field)
    if field.default not in (MISSING, LEFT_TO_DATABASE, None) and not callable(field.default):
        schema["description"] = f"Default: {msgspec.json.encode(_json(field.default)).decode()}"
    return schema


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    found = schema | {"type": [schema["type"], "null"]}
    if "enum" in schema:
        found["enum"] = [*schema["enum"], None]
    return found


def id_schema(resource: ResourceType) -> Schema:
    """The id of a record, which documents hold as a text."""
    if resource.id_type == "integer":
        return {"type": "string", "pattern": "^(0|-?[1-9][0-9]*)$"}
    return {"type": "string"} | ({"format": "uuid"} if resource.id_type == "uuid" else {})


def filter_schema(resource: ResourceType, entry: SearchField) -> Schema:
    """What a filter takes in a query string."""
    if entry.columns == ("id",):
        one = id_schema(resource)
    else:
        one = dict(_PLAIN[entry.type])
        field = resource.fields.get(entry.columns[0]) if entry.columns else None
        if entry.type in ("enum", "string") and field is not None and field.enum is not None:
            one["enum"] = [_json(item) for item in field.enum]
    if entry.operator in ("in", "between") and one["type"] != "array":
        bounds = {"minItems": 2, "maxItems": 2} if entry.operator == "between" else {}
        return {"type": "array", "items": one} | bounds
    if one["type"] == "array":
        one["items"] = {"type": "string"}
    return one


def operators_of(entry: SearchField) -> list[tuple[str, SearchField]]:
    """The operators that clients may choose, with the filters that they make of an entry."""
    return [(name, entry.chosen(CLIENT_OPERATORS[name])) for name in entry.operators]


def _json(value: object) -> Any:
    """A declared value as a document would have it."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    return str(value) if isinstance(value, Decimal) else value
