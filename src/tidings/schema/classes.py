"""Resources declared as typed classes: annotations become the same options that dicts have.

class Post:
    title: str = field(max=200, search="like")
    status: Literal["draft", "published"] = "draft"
    published_at: datetime | None
    author: BelongsTo["users"]  (written: author = belongs_to("users"))
    comments = has_many("comments", foreign_key="post_id")
"""

from __future__ import annotations

import dataclasses
import enum
import types
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from tidings.errors import ConfigurationError
from tidings.schema.fields import MISSING

_TYPE_OF: Final[dict[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Decimal: "decimal",
    datetime: "dateTime",
    date: "date",
    time: "time",
    timedelta: "duration",
    bytes: "bytes",
    list: "array",
    dict: "object",
}


class _Declared:
    """What `field`, `belongs_to`, `has_many` and `has_one` leave in the class body."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        self.kind = kind
        self.options = options


def field(**options: Any) -> Any:
    """Options of an annotated attribute of a resource class, by the names that dicts use.

        title: str = field(max=200, search="like")

    ``type`` overrides what the annotation says (``text``, ``id``).
    """
    return _Declared("field", options)


def belongs_to(target: str, **options: Any) -> Any:
    """A to-one relationship; its foreign key is named after the attribute, with ``_id``.

    author = belongs_to("users", required=True)
    """
    return _Declared("belongsTo", {"belongs_to": target, **options})


def has_many(target: str, *, foreign_key: str) -> Any:
    """A to-many relationship; ``foreign_key`` is the field of the target that points back.

    comments = has_many("comments", foreign_key="post_id")
    """
    return _Declared("hasMany", {"type": "hasMany", "target": target, "foreign_key": foreign_key})


def has_one(target: str, *, foreign_key: str) -> Any:
    """A to-one relationship that the other record holds: ``foreign_key`` is the field of the target
    that points back, and is unique.

    profile = has_one("profiles", foreign_key="user_id")
    """
    return _Declared("hasOne", {"type": "hasOne", "target": target, "foreign_key": foreign_key})


def fields_of_class(where: str, declaration: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema and the relationships of a class, in the form that dicts have.

    Raises:
        ConfigurationError: an annotation cannot be read or has no field type.
    """
    schema: dict[str, Any] = {}
    relationships: dict[str, Any] = {}
    try:
        hints = get_type_hints(declaration)
    except NameError as error:
        raise ConfigurationError(
            f"{where}: an annotation of {declaration.__name__} cannot be read ({error}); "
            "what it names must be known at the top of the module"
        ) from None
    declared = _declared(declaration)
    for name, value in declared.items():
        if not isinstance(value, _Declared):
            continue
        if value.kind in ("hasMany", "hasOne"):
            relationships[name] = value.options
        elif value.kind == "belongsTo":
            schema[f"{name}_id"] = {"type": "id", "as_": name, **value.options}
    for name, hint in hints.items():
        if name.startswith("_"):
            continue
        place = f"{where}, field {name!r}"
        value = _default(place, _kept(declaration, name, declared.get(name, MISSING)))
        schema[name] = _field_options(place, hint, value)
    return schema, relationships


def _declared(declaration: type) -> dict[str, Any]:
    """What stands in the class body and in those of its bases."""
    bodies = (vars(base) for base in reversed(declaration.__mro__))
    return {name: value for body in bodies for name, value in body.items()}


def _kept(declaration: type, name: str, value: Any) -> Any:
    """What is said of an attribute: models of pydantic and dataclasses keep it aside."""
    for place in ("model_fields", "__dataclass_fields__"):
        value = getattr(declaration, place, {}).get(name, value)
    return value


def _default(place: str, value: Any) -> Any:
    """The default in a ``Field`` of pydantic or a ``field`` of dataclasses; others as they are."""
    if isinstance(value, dataclasses.Field):
        if value.default_factory is not dataclasses.MISSING:
            return value.default_factory
        return MISSING if value.default is dataclasses.MISSING else value.default
    if not (type(value).__module__ == "pydantic.fields" and hasattr(value, "default_factory")):
        return value
    if getattr(value, "default_factory_takes_validated_data", False):
        raise ConfigurationError(f"{place}: a default_factory of resources takes no argument")
    if value.default_factory is not None:
        return value.default_factory
    return MISSING if value.is_required() else value.default


def _field_options(place: str, hint: Any, value: Any) -> dict[str, Any]:
    hint, nullable = _without_none(hint)
    options = _options_of_type(place, hint)
    options["nullable"] = nullable
    if isinstance(value, _Declared):
        options.update(value.options)
    elif value is not MISSING:
        options["default"] = value.value if isinstance(value, enum.Enum) else value
    if "default" not in options and not nullable:
        options.setdefault("required", True)
    return options


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def _options_of_type(place: str, hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Literal:
        values = get_args(hint)
        return {"type": _type_of(place, type(values[0])), "enum": values}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = tuple(member.value for member in hint)
        return {"type": _type_of(place, type(values[0])), "enum": values}
    return {"type": _type_of(place, get_origin(hint) or hint)}


def _type_of(place: str, hint: Any) -> str:
    found = _TYPE_OF.get(hint)
    if found is None:
        known = ", ".join(kind.__name__ for kind in _TYPE_OF)
        raise ConfigurationError(
            f"{place}: no field type for the annotation {hint!r} (known: {known}; "
            "also X | None, Literal and Enum)"
        )
    return found
