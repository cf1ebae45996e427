"""Polymorphic references: the id of a record of any of several resources, and which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, get_args

from tidings.errors import ConfigurationError
from tidings.schema.fields import Field, OnDelete, Relationship

_OPTIONS: Final = frozenset(
    {"type", "belongs_to", "as_", "type_field", "required", "nullable", "on_delete", "read_only"}
)


def declare_polymorphic(
    place: str, name: str, options: Mapping[str, Any], declared: Mapping[str, Any]
) -> tuple[Field, Field, Relationship]:
    """The field that holds the id, the one that says of which resource, and the relationship.

    Raises:
        ConfigurationError: says what is wrong.
    """
    targets = tuple(options["belongs_to"])
    if len(set(targets)) < 2 or not all(isinstance(one, str) for one in targets):
        raise ConfigurationError(f"{place}: belongs_to=[...] names two resources or more")
    misplaced = sorted(options.keys() - _OPTIONS)
    if misplaced or options.get("type", "id") != "id":
        wrong = misplaced[0] if misplaced else "type"
        raise ConfigurationError(f"{place}: {wrong} does not go with several belongs_to")
    link = options.get("as_") or name.removesuffix("_id")
    type_name = options.get("type_field") or f"{link}_type"
    if type_name in declared:
        raise ConfigurationError(
            f"{place}: the field {type_name!r} is made for it; drop it, or name another one with "
            "type_field"
        )
    on_delete = options.get("on_delete", "restrict")
    required = bool(options.get("required", False))
    nullable = bool(options.get("nullable", not required))
    if on_delete not in get_args(OnDelete) or (on_delete == "set_null" and not nullable):
        raise ConfigurationError(f"{place}: on_delete={on_delete!r} cannot be done")
    if not required and not nullable:
        raise ConfigurationError(f"{place}: what is not nullable is required")

    which = Field(
        type_name,
        "enum",
        enum=targets,
        read_only=bool(options.get("read_only", False)),
        is_attribute=False,
    )
    own = replace(
        which,
        name=name,
        type="id",
        enum=None,
        required=required,
        nullable=nullable,
        targets=targets,
        type_field=type_name,
        on_delete=on_delete,
    )
    relationship = Relationship(link, "belongsTo", "", name, targets=targets, type_field=type_name)
    return own, which, relationship
