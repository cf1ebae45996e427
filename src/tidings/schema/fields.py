"""What a resource is made of: fields, relationships and filters, as declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from tidings.identity import Identity
from tidings.numbers import trimmed
from tidings.schema.types import (
    TypeName,
    ValueProblem,
    cast,
    cast_integer,
    cast_uuid,
    check_spelling,
)

IdType = Literal["integer", "uuid", "string"]
RelationshipKind = Literal["belongsTo", "hasMany", "hasOne", "manyToMany"]
OnDelete = Literal["restrict", "set_null", "cascade"]


Setter = Callable[[Any], Awaitable[Any] | Any]
"""The value that was given, cast and checked, to the one that is stored."""
Compute = Callable[[Mapping[str, Any]], Any]
"""The values of the fields that it depends on, by name, to the value of a computed field."""


class _Missing:
    def __repr__(self) -> str:
        return "<no default>"


MISSING: Any = _Missing()
"""Stands for "no default was declared", since None can be one."""


class _LeftToDatabase:
    def __repr__(self) -> str:
        return "<the database's default>"


LEFT_TO_DATABASE: Any = _LeftToDatabase()
"""As a default: the column is left out of an INSERT, and the database decides."""


def cast_id(id_type: IdType, value: object) -> int | str:
    """Take an id as it came (URL, document, Python) into the form its column holds.

    Raises:
        ValueProblem: no record can have such an id.
    """
    if id_type == "integer":
        return cast_integer(value)
    text: str = cast_uuid(value) if id_type == "uuid" else cast("id", value)
    return text


@dataclass(frozen=True, slots=True)
class Field:
    """One attribute of a resource and one column of its table.

    ``min`` and ``max`` bound a number, a date or a time; for text and arrays they bound the
    length. ``required`` asks for the value when a record is made; ``nullable`` (by default: what
    is not required) lets it be null. ``hidden`` keeps it out of documents, filters and sorting;
    ``read_only`` lets only trusted code set it; ``write_only`` lets clients set it and never see
    it. ``precision`` and ``scale`` are a decimal's digits in all and after the point.
    """

    name: str
    type: TypeName
    required: bool = False
    nullable: bool = True
    default: Any = MISSING
    min: Any = None
    max: Any = None
    enum: tuple[Any, ...] | None = None
    unique: bool = False
    hidden: bool = False
    read_only: bool = False
    write_only: bool = False
    as_string: bool = False
    """Whether documents hold an integer as a text, which JavaScript cannot round."""
    version: bool = False
    """Whether tidings counts it up with every write, and holds what a client sends against it."""
    setter: Setter | None = None
    """Makes what is stored of what was given."""
    computed: Compute | None = None
    """Makes the value of the fields in ``depends_on``: it has no column."""
    depends_on: tuple[str, ...] = ()
    virtual: bool = False
    """Whether hooks alone get what clients give: it has no column, and no document shows it."""
    readable_by: Callable[[Identity], bool] | None = None
    """Who may read it; to others it is ``hidden``. None: everybody."""
    precision: int = 18
    scale: int = 4
    references: str | None = None
    """The resource whose id this field holds (``belongs_to``), None for an ordinary attribute."""
    targets: tuple[str, ...] = ()
    """The resources of which it holds an id of any one, where these are several."""
    type_field: str = ""
    """The field that says of which of them."""
    constraint: bool = True
    """Whether the database enforces the reference."""
    on_delete: OnDelete = "restrict"
    """What becomes of this record when the one that it refers to is deleted."""
    is_attribute: bool = True
    """False for a foreign key that shows as a relationship only (JSON:API 1.1, 7.2.2.1)."""
    reference_type: IdType | None = None
    """The id type of the referenced resource, filled in when the resources are linked."""
    items: TypeName | None = None
    """What an array's elements have to be; None: any JSON."""

    @property
    def is_shown(self) -> bool:
        """Whether documents hold it, and filters and sorting may tell of it."""
        return not (self.hidden or self.write_only or self.virtual)

    @property
    def is_writable(self) -> bool:
        """Whether a client may give it a value."""
        return not (self.hidden or self.read_only or self.computed is not None)

    @property
    def has_column(self) -> bool:
        """Whether the table holds it."""
        return self.computed is None and not self.virtual

    def shown(self, row: Mapping[str, Any]) -> Any:
        """What a document holds of it, for this row.

        Raises:
            ValueError: the function that computes it gave what its type cannot be.
        """
        value = row[self.name] if self.computed is None else self.compute(row)
        return str(value) if self.as_string and value is not None else value

    def compute(self, row: Mapping[str, Any]) -> Any:
        """The value of a computed field, for this row.

        Raises:
            ValueError: its function gave what its type cannot be.
        """
        assert self.computed is not None
        given = MappingProxyType({name: row[name] for name in self.depends_on})
        try:
            return self.accept(self.computed(given))
        except ValueProblem as problem:
            message = f"the computed field {self.name!r} {problem.message}"
            raise ValueError(message) from None

    @property
    def is_scalar(self) -> bool:
        """False for arrays and objects."""
        return self.type not in ("array", "object")

    def cast(self, value: object) -> Any:
        """Cast a value that is not None, without the checks; see `check`."""
        if self.reference_type == "integer":
            return cast("integer", value)
        if self.reference_type == "uuid":
            return cast_uuid(value)
        result = cast(self.type, value)
        if self.type == "enum":
            self.check_enum(result)
        return result

    def accept(self, value: object) -> Any:
        """Cast a value (None where nullable) and hold it against every rule of the field.

        Raises:
            ValueProblem: says what is wrong.
        """
        if value is None:
            if not self.nullable:
                raise ValueProblem("must not be null", code="REQUIRED")
            return None
        result = self.cast(value)
        if self.reference_type is not None:
            check_spelling(value, result)
        if self.items is not None:
            result = [self._item(number, item) for number, item in enumerate(result)]
        self._check(result)
        return result

    def _item(self, number: int, value: object) -> Any:
        assert self.items is not None
        if value is None:
            return None
        try:
            return cast(self.items, value)
        except ValueProblem as problem:
            raise ValueProblem(problem.message, (number,), problem.code) from None

    def make_default(self) -> Any:
        """The declared default, called if it is a callable; None where there is none."""
        if self.default in (MISSING, LEFT_TO_DATABASE):
            return None
        return self.default() if callable(self.default) else self.default

    def check_enum(self, value: Any) -> None:
        """Hold a value against those that are allowed.

        Raises:
            ValueProblem: ``NOT_ALLOWED``.
        """
        if self.enum is not None and value not in self.enum:
            allowed = ", ".join(str(item) for item in self.enum)
            raise ValueProblem(f"must be one of: {allowed}", code="NOT_ALLOWED")

    def _check(self, value: Any) -> None:
        self.check_enum(value)
        if self.type == "decimal":
            self._check_digits(value)
        if self.min is None and self.max is None:
            return
        if self.type == "bytes":
            # Of the bytes, not of their base64.
            self._check_bounds(len(value) * 3 // 4 - value.count("="), "bytes")
        elif isinstance(value, str | list):
            self._check_bounds(len(value), "items" if self.type == "array" else "characters")
        else:
            self._check_bounds(value, "")

    def _check_bounds(self, size: Any, unit: str) -> None:
        verb = f"have at {{}} {{}} {unit}" if unit else "be at {} {}"
        if self.min is not None and size < self.min:
            raise ValueProblem(f"must {verb.format('least', self.min)}", code="TOO_SMALL")
        if self.max is not None and size > self.max:
            raise ValueProblem(f"must {verb.format('most', self.max)}", code="TOO_LARGE")

    def _check_digits(self, value: Decimal) -> None:
        if value.is_zero():
            return
        exponent = trimmed(value).as_tuple().exponent
        assert isinstance(exponent, int)
        if -exponent > self.scale:
            raise ValueProblem(f"must have at most {self.scale} digits after the point")
        if value.adjusted() >= self.precision - self.scale:
            raise ValueProblem(
                f"must have at most {self.precision - self.scale} digits before the point"
            )


@dataclass(frozen=True, slots=True)
class Relationship:
    """How records of this resource point at those of another.

    ``belongsTo``: ``foreign_key`` is a field of this resource; ``hasMany`` and ``hasOne``: of the
    target, where that of a ``hasOne`` is unique; ``manyToMany``: of the link resource ``through``,
    whose ``other_key`` holds the target's id.
    """

    name: str
    kind: RelationshipKind
    target: str
    foreign_key: str = ""
    through: str = ""
    other_key: str = ""
    targets: tuple[str, ...] = ()
    """The resources to any of which a polymorphic ``belongsTo`` leads; it has no ``target``."""
    type_field: str = ""
    """The field that says to which of them."""

    @property
    def types(self) -> tuple[str, ...]:
        """The resources that it may lead to."""
        return self.targets or (self.target,)

    def type_of(self, row: Mapping[str, Any]) -> str | None:
        """The resource to which it leads from a row that has it as its own; None: to nothing that
        is declared.
        """
        if not self.targets:
            return self.target
        found = row[self.type_field]
        return found if found in self.targets else None

    @property
    def to_many(self) -> bool:
        """True where the relationship's data is an array."""
        return self.kind in ("hasMany", "manyToMany")

    @property
    def is_own(self) -> bool:
        """Whether the record itself holds the key, and no other record does."""
        return self.kind == "belongsTo"

    @property
    def holder(self) -> str:
        """Of a relationship that is not its own, the resource whose records hold the key."""
        return self.through or self.target


FilterOperator = Callable[..., Any]
"""``(columns, value)`` and optionally ``identity``, to an SQLAlchemy boolean expression."""
FilterRecord = Callable[..., bool]
"""``(record, value)`` and optionally ``identity``, to a bool; synchronous and cheap."""


@dataclass(frozen=True, slots=True)
class SearchField:
    """One entry of a resource's search schema: a filter that clients may use by name.

    ``columns`` are the fields it looks at: one, or those of ``one_of`` (any may match); a dotted
    one is a path to related records (see `RelatedColumn`). For an array column ``type`` is that
    of its elements. With ``match_all`` an ``in`` on many values asks for all of them.
    ``split_by`` cuts a text value into several; all of them must match with ``match_all``,
    any of them otherwise.
    """

    name: str
    type: TypeName
    operator: str | FilterOperator = "="
    columns: tuple[str, ...] = ()
    split_by: str | None = None
    match_all: bool = False
    filter_record: FilterRecord | None = field(default=None)
    infers_type: bool = False
    """Whether the type is that of the column at the end of a path, known when linked."""
    operators: tuple[str, ...] = ()
    """The operators that clients may choose by name (`CLIENT_OPERATORS`), beside the declared."""

    def chosen(self, operator: str) -> SearchField:
        """The same filter with an operator that a client has chosen."""
        own = operator == self.operator
        return replace(
            self,
            operator=operator,
            split_by=self.split_by if own else None,
            match_all=self.match_all and own,
            operators=(),
        )
