"""From what an application declares (dicts as in the guide, or typed classes) to a ResourceType."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from tidings.errors import ConfigurationError
from tidings.identity import Identity
from tidings.schema.classes import fields_of_class
from tidings.schema.fields import (
    LEFT_TO_DATABASE,
    MISSING,
    Field,
    OnDelete,
    Relationship,
    RelationshipKind,
)
from tidings.schema.kinds import check_kind, check_kinds, prepare_kind
from tidings.schema.names import declared_names
from tidings.schema.options import as_mapping, check_keys
from tidings.schema.polymorphic import declare_polymorphic
from tidings.schema.resource import ResourceType, RowPolicy
from tidings.schema.search import declare_search
from tidings.schema.types import (
    CONTAINER_TYPES,
    ORDERED_TYPES,
    TEXT_TYPES,
    TYPE_NAMES,
    TypeName,
    ValueProblem,
    cast,
)

FIELD_OPTIONS = frozenset(
    {
        "type",
        "required",
        "nullable",
        "default",
        "min",
        "max",
        "enum",
        "unique",
        "hidden",
        "read_only",
        "write_only",
        "as_string",
        "version",
        "setter",
        "computed",
        "depends_on",
        "virtual",
        "readable_by",
        "search",
        "precision",
        "scale",
        "items",
        "belongs_to",
        "as_",
        "type_field",
        "constraint",
        "on_delete",
    }
)
_RELATIONSHIP_OPTIONS = frozenset(
    {"type", "target", "foreign_key", "constraint", "on_delete", "through", "other_key"}
)
_LINK_OPTIONS = frozenset({"through", "other_key"})
# Member names begin and end with a letter or digit (JSON:API 1.1, 5.8).
_RESOURCE_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_FIELD_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_]{0,61}[A-Za-z0-9])?")
_BOUNDED_BY_VALUE = ORDERED_TYPES - TEXT_TYPES
_ITEMS = frozenset({"string", "integer", "boolean"})
_RESERVED = frozenset({"id", "type", "links", "relationships"})


def declare_resource(
    name: str,
    schema: Mapping[str, Any] | type,
    *,
    search_schema: Mapping[str, Any] | None = None,
    relationships: Mapping[str, Any] | None = None,
    is_existing: bool = False,
    **options: Any,
) -> ResourceType:
    """Build a ResourceType; ``options`` are attributes of ResourceType.

    ``is_existing``: the table is an application's own, and may have more than one of tidings'.

    Raises:
        ConfigurationError: names the resource, the field and what is wrong with it.
    """
    if not isinstance(name, str) or not _RESOURCE_NAME.fullmatch(name):
        raise ConfigurationError(
            f"resource name {name!r}: use letters, digits, '-' and '_'; start with a letter, "
            "end with a letter or digit"
        )
    where = f"resource {name!r}"
    if isinstance(schema, type):
        declared, from_class = fields_of_class(where, schema)
        if not declared and not from_class:
            raise ConfigurationError(
                f"{where}: the class {schema.__name__} has no fields: annotate them, as in "
                "title: str"
            )
        relationships = {**from_class, **(relationships or {})}
    else:
        declared = dict(as_mapping(f"{where}, schema", schema))
    declared_fields, links = _declare_fields(where, declared, is_existing=is_existing)
    fields = {name: one for name, one in declared_fields.items() if one.has_column}
    check_kinds(where, declared_fields)
    for link, entry in (relationships or {}).items():
        relationship = _declare_relationship(where, link, entry, fields)
        links[link] = relationship
    _check_names(where, declared_fields, links)
    if options.get("id_type", "integer") not in ("integer", "uuid", "string"):
        raise ConfigurationError(f"{where}: id_type is 'integer', 'uuid' or 'string'")
    options["row_policy"] = _row_policies(where, options.get("row_policy"))
    options["borrows"] = tuple(options.get("borrows", ()))
    options["table"] = options.get("table") or name.replace("-", "_")
    search = declare_search(where, fields, links, search_schema, declared)
    options["declared_names"] = declared_names(
        where,
        options.setdefault("member_names", "as_declared"),
        (*declared_fields, *links),
        (*fields, *(search or {})),
    )
    return ResourceType(
        name=name,
        fields=fields,
        relationships=links,
        computed={name: one for name, one in declared_fields.items() if one.computed},
        virtual={name: one for name, one in declared_fields.items() if one.virtual},
        search=search,
        **options,
    )


_POLICY_METHODS = frozenset({"query", "get", "post", "put", "patch", "delete", "*"})


def _row_policies(where: str, declared: object) -> Mapping[str, RowPolicy]:
    if declared is None:
        return {}
    policies = declared if isinstance(declared, Mapping) else {"*": declared}
    unknown = next((key for key in policies if key not in _POLICY_METHODS), None)
    if unknown is not None or not policies:
        known = ", ".join(sorted(_POLICY_METHODS))
        raise ConfigurationError(f"{where}, row_policy: {unknown!r} is none of {known}")
    for method, policy in policies.items():
        if not callable(policy) or inspect.iscoroutinefunction(policy):
            raise ConfigurationError(
                f"{where}, row_policy, {method!r}: expected an ordinary function "
                "(columns, identity); it is asked for every identity, and may wait for nothing"
            )
        try:
            inspect.signature(policy).bind(None, None)
        except (TypeError, ValueError) as error:
            if isinstance(error, TypeError):
                raise ConfigurationError(
                    f"{where}, row_policy, {method!r}: it is called with two arguments, "
                    "(columns, identity), and takes others"
                ) from None
    return dict(policies)


def _declare_fields(
    where: str, declared: Mapping[str, Any], *, is_existing: bool = False
) -> tuple[dict[str, Field], dict[str, Relationship]]:
    fields: dict[str, Field] = {}
    links: dict[str, Relationship] = {}
    for name, entry in declared.items():
        place = f"{where}, field {name!r}"
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name) or name in _RESERVED:
            raise ConfigurationError(
                f"{place}: a field name has letters, digits and '_', starts with a letter, "
                f"ends with a letter or digit and is none of {', '.join(sorted(_RESERVED))}"
            )
        options = {"type": entry} if isinstance(entry, str) else dict(as_mapping(place, entry))
        check_keys(place, options, FIELD_OPTIONS)
        target = options.get("belongs_to")
        if isinstance(target, list | tuple):
            own, type_field, polymorphic = declare_polymorphic(place, name, options, declared)
            if is_existing:
                raise ConfigurationError(
                    f"{place}: belongs_to of several resources is not served for models yet"
                )
            fields[name] = own
            fields[type_field.name] = type_field
            links[polymorphic.name] = polymorphic
            continue
        if "type_field" in options:
            raise ConfigurationError(f"{place}: type_field belongs to several belongs_to")
        fields[name] = _declare_field(place, name, dict(options), is_existing=is_existing)
        # A hidden key has no relationship: what it points at would tell its value.
        if target is not None and not options.get("hidden"):
            link = options.get("as_") or name.removesuffix("_id")
            links[link] = Relationship(link, "belongsTo", target, name)
    return fields, links


def _declare_field(
    place: str, name: str, options: dict[str, Any], *, is_existing: bool = False
) -> Field:
    prepare_kind(place, options)
    type_name = options.pop("type", "id" if options.get("belongs_to") else None)
    if type_name not in TYPE_NAMES:
        known = ", ".join(sorted(TYPE_NAMES))
        raise ConfigurationError(f"{place}: type is one of {known}, not {type_name!r}")
    target = options.pop("belongs_to", None)
    if target is not None and type_name != "id":
        raise ConfigurationError(f"{place}: a field with belongs_to has type 'id'")
    for handled_elsewhere in ("as_", "search"):
        options.pop(handled_elsewhere, None)
    enum = options.pop("enum", None)
    options["readable_by"] = _readers(place, options.get("readable_by"))
    required = bool(options.get("required", False))
    options.setdefault("nullable", not required)
    for bound in ("min", "max"):
        if options.get(bound) is not None and type_name in _BOUNDED_BY_VALUE:
            options[bound] = _bound(f"{place}, {bound}", type_name, options[bound])
    field = Field(
        name,
        type_name,
        enum=tuple(enum) if enum is not None else None,
        references=target,
        is_attribute=target is None,
        **options,
    )
    _check_field(place, field, is_existing=is_existing)
    return field


def _readers(place: str, declared: Any) -> Callable[[Identity], bool] | None:
    """``readable_by`` as a function: it may be a role, a list of roles, or a function."""
    if declared is None:
        return None
    if callable(declared) and not inspect.iscoroutinefunction(declared):
        reader: Callable[[Identity], bool] = declared
        return reader
    roles = [declared] if isinstance(declared, str) else declared
    if not isinstance(roles, list | tuple | set) or not all(
        isinstance(role, str) and role for role in roles
    ):
        raise ConfigurationError(
            f"{place}, readable_by: a role, a list of roles, or an ordinary function of an "
            f"identity, not {declared!r}"
        )
    checks = sorted(role for role in roles if ":" in role)
    if checks:
        raise ConfigurationError(
            f"{place}, readable_by: {checks[0]!r} looks like a permission check; readable_by takes "
            "the names of roles, as in readable_by='editor'"
        )
    allowed = frozenset(roles)
    return lambda identity: not allowed.isdisjoint(identity.roles)


def _bound(place: str, type_name: TypeName, value: object) -> Any:
    try:
        return cast(type_name, value)
    except ValueProblem as problem:
        raise ConfigurationError(f"{place}: {problem.message}") from None


def _check_field(place: str, field: Field, *, is_existing: bool) -> None:
    check_kind(place, field)
    if not field.nullable and not field.required and field.default is MISSING and field.has_column:
        raise ConfigurationError(
            f"{place}: a field that is neither nullable nor required needs a default"
        )
    if field.unique and field.type in CONTAINER_TYPES:
        raise ConfigurationError(f"{place}: an {field.type} cannot be unique")
    if field.min is not None and field.max is not None and field.min > field.max:
        raise ConfigurationError(f"{place}: min is above max, so that no value would do")
    if (field.min is not None or field.max is not None) and field.type in ("boolean", "object"):
        raise ConfigurationError(f"{place}: a {field.type} has no min and max")
    # SQLite keeps decimals of ours in 64 bits; what a table of its own may have is its business.
    if not 0 <= field.scale < field.precision <= (28 if is_existing else 18):
        raise ConfigurationError(f"{place}: 0 <= scale < precision <= 18")
    if field.type == "enum" and not field.enum:
        raise ConfigurationError(f"{place}: an enum needs its values, as enum=[...]")
    _check_on_delete(place, field.on_delete, field if field.references else None)
    if field.items is not None and (field.type != "array" or field.items not in _ITEMS):
        known = ", ".join(sorted(_ITEMS))
        raise ConfigurationError(f"{place}: items is for an array, and one of {known}")
    if field.default in (MISSING, LEFT_TO_DATABASE) or callable(field.default):
        return
    try:
        field.accept(field.default)
    except ValueProblem as problem:
        raise ConfigurationError(f"{place}: the default {problem.message}") from None


def _check_on_delete(place: str, on_delete: object, field: Field | None) -> None:
    if on_delete not in get_args(OnDelete):
        known = ", ".join(map(repr, get_args(OnDelete)))
        raise ConfigurationError(f"{place}: on_delete is one of {known}, not {on_delete!r}")
    if on_delete != "restrict" and field is None:
        raise ConfigurationError(f"{place}: on_delete belongs to a field with belongs_to")
    if on_delete == "set_null" and field is not None and not field.nullable:
        raise ConfigurationError(
            f"{place}: it must have a value, so that on_delete='set_null' cannot be done"
        )


def _declare_relationship(
    where: str, name: str, entry: object, fields: dict[str, Field]
) -> Relationship:
    place = f"{where}, relationship {name!r}"
    options = dict(as_mapping(place, entry))
    check_keys(place, options, _RELATIONSHIP_OPTIONS)
    kind: Any = options.get("type")
    if isinstance(options.get("target"), list | tuple):
        raise ConfigurationError(
            f"{place}: several targets are those of a field: belongs_to=[...] of {name}_id"
        )
    if kind not in get_args(RelationshipKind):
        known = ", ".join(map(repr, get_args(RelationshipKind)))
        raise ConfigurationError(f"{place}: type is one of {known}, not {kind!r}")
    for needed in ("target", "foreign_key") if kind != "manyToMany" else ("target",):
        if not isinstance(options.get(needed), str):
            raise ConfigurationError(f"{place}: {needed!r} is missing")
    if kind == "manyToMany":
        return _declare_link(place, name, options)
    misplaced = sorted(_LINK_OPTIONS & options.keys())
    if misplaced:
        raise ConfigurationError(f"{place}: {misplaced[0]!r} belongs to a 'manyToMany'")
    key, target = options["foreign_key"], options["target"]
    if kind == "belongsTo":
        found = _as_reference(place, key, target, options.get("constraint", True), fields)
        if "on_delete" in options:
            found = replace(found, on_delete=options["on_delete"])
        fields[key] = found
        _check_on_delete(place, found.on_delete, found)
    elif "on_delete" in options:
        raise ConfigurationError(f"{place}: on_delete belongs to the field {target}.{key}")
    return Relationship(name, kind, target, key)


def _declare_link(place: str, name: str, options: Mapping[str, Any]) -> Relationship:
    """A many-to-many relationship; what was left out is known when the resources are linked."""
    given = {key: options.get(key, "") for key in ("through", "foreign_key", "other_key")}
    for key, value in given.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"{place}: {key!r} is a name, not {value!r}")
    if not given["through"] and (given["foreign_key"] or given["other_key"]):
        raise ConfigurationError(f"{place}: the keys are those of a resource: name it in 'through'")
    for key in ("on_delete", "constraint"):
        if key in options:
            raise ConfigurationError(f"{place}: {key!r} belongs to the fields of the link resource")
    return Relationship(name, "manyToMany", options["target"], **given)


def _as_reference(
    place: str, key: str, target: str, constraint: bool, fields: Mapping[str, Field]
) -> Field:
    """The existing field as a foreign key that stays an attribute: it was declared as one."""
    found = fields.get(key)
    if found is None or found.type != "id":
        raise ConfigurationError(f"{place}: foreign_key {key!r} is no field of type 'id'")
    if not found.is_shown:
        raise ConfigurationError(
            f"{place}: foreign_key {key!r} is hidden or write-only, and the "
            "relationship would show it"
        )
    return replace(found, references=target, constraint=constraint)


def _check_names(
    where: str, fields: Mapping[str, Field], links: Mapping[str, Relationship]
) -> None:
    """Attributes and relationships share one namespace (JSON:API 1.1, 7.2.2)."""
    for link in links:
        if link in fields or link in _RESERVED or not _FIELD_NAME.fullmatch(link):
            raise ConfigurationError(
                f"{where}, relationship {link!r}: the name is taken or not allowed; "
                "give another one with as_"
            )
