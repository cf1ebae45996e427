"""Resources as declared: fields, types, relationships, filters; validation of values."""

from tidings.schema.classes import belongs_to, field, has_many, has_one
from tidings.schema.declare import declare_resource
from tidings.schema.fields import Field, Relationship, SearchField, cast_id
from tidings.schema.limits import FilterLimits
from tidings.schema.names import MemberNames
from tidings.schema.related import RelatedColumn, resolve_path
from tidings.schema.resource import ResourceRegistry, ResourceType
from tidings.schema.types import ValueProblem, cast, describe
from tidings.schema.validate import accept_given, validate_changes, validate_new

__all__ = [
    "Field",
    "FilterLimits",
    "MemberNames",
    "RelatedColumn",
    "Relationship",
    "ResourceRegistry",
    "ResourceType",
    "SearchField",
    "ValueProblem",
    "accept_given",
    "belongs_to",
    "cast",
    "cast_id",
    "declare_resource",
    "describe",
    "field",
    "has_many",
    "has_one",
    "resolve_path",
    "validate_changes",
    "validate_new",
]
