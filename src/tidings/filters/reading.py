"""Reading a custom filter: from an SQLAlchemy boolean expression to an expression tree.

The author of a custom filter writes SQLAlchemy once; from the tree come SQL that means the same on
every database, and the Python predicate. What cannot be read with its meaning unchanged is not
read at all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import (
    JSON,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    Numeric,
    String,
    TableClause,
    Time,
    column,
    table,
)
from sqlalchemy.sql import ClauseElement, elements, operators
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.types import TypeEngine

from tidings.filters.expression import (
    EVERYTHING,
    NOTHING,
    Atom,
    Comparison,
    Expression,
    Not,
    all_of,
    any_of,
)
from tidings.filters.reading_constants import (
    Unreadable,
    cast_for_column,
    constant,
    stored_type,
)
from tidings.filters.reading_text import TEXT_OPERATORS, read_cased, read_like
from tidings.filters.reading_values import (
    Cased,
    Operand,
    Stored,
    ValueReader,
    Written,
    ungrouped,
)
from tidings.filters.truth import Condition, strict
from tidings.filters.values import NUMBER_KINDS, Column, Value, kind_of
from tidings.schema import ResourceType
from tidings.schema.types import CONTAINER_TYPES, OPAQUE_TYPES

MAX_NODES: Final = 500
"""How many elements an expression may have; one with more is not read."""

_Compared = Literal["=", "!=", ">", ">=", "<", "<="]
_COMPARED: Final[dict[Any, _Compared]] = {
    operators.eq: "=",
    operators.ne: "!=",
    operators.gt: ">",
    operators.ge: ">=",
    operators.lt: "<",
    operators.le: "<=",
}
_MIRRORED: Final[dict[_Compared, _Compared]] = {
    "=": "=",
    "!=": "!=",
    ">": "<",
    ">=": "<=",
    "<": ">",
    "<=": ">=",
}
_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    "string": String(),
    "text": String(),
    "id": String(),
    "uuid": String(),
    "enum": String(),
    "number": Float(),
    "integer": Integer(),
    "decimal": Numeric(),
    "boolean": Boolean(),
    "date": Date(),
    "dateTime": DateTime(timezone=True),
    "time": Time(),
    "duration": Interval(),
    "bytes": String(),
    "inet": String(),
    "array": JSON(),
    "object": JSON(),
}


_STRICT: Final = {name: strict(kind) for name, kind in _TYPES.items()}


def stub_columns(resource: ResourceType) -> ReadOnlyColumnCollection[str, Any]:
    """Columns with types, of no real table, for a custom filter to make its expression with."""
    return _stub_table(_Same(resource)).c


def read(resource: ResourceType, clause: object) -> Expression | None:
    """The expression that an SQLAlchemy expression over `stub_columns` means.

    None where it cannot be read: nothing is guessed.
    """
    depth = resource.filter_limits.depth
    if not isinstance(clause, ClauseElement) or not _is_small(clause, depth):
        return None
    try:
        return _Reader(resource).condition(clause)
    except Unreadable:
        return None


class _Same:
    """A resource as a key: nothing in it can be hashed."""

    __slots__ = ("resource",)

    def __init__(self, resource: ResourceType) -> None:
        self.resource = resource

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.resource is other.resource

    def __hash__(self) -> int:
        return id(self.resource)


@lru_cache(maxsize=1024)
def _stub_table(key: _Same) -> TableClause:
    resource = key.resource
    columns = (column(name, _STRICT[stored_type(resource, name)]) for name in resource.column_names)
    return table(resource.table, *columns)


def _is_small(clause: ClauseElement, most: int) -> bool:
    """Whether a clause is nested so deep at most, parentheses apart."""
    waiting, seen = [(clause, 1)], 0
    while waiting:
        found, depth = waiting.pop()
        seen += 1
        if depth > most or seen > MAX_NODES:
            return False
        below = depth if type(found) is elements.Grouping else depth + 1
        waiting.extend((child, below) for child in found.get_children())
    return True


def _negated(term: Expression) -> Expression:
    match term:
        case Not(inner):
            return inner
        case Atom(name, "=", bool() as value):
            return Atom(name, "=", not value)
    return NOTHING if term == EVERYTHING else EVERYTHING if term == NOTHING else Not(term)


class _Reader:
    def __init__(self, resource: ResourceType) -> None:
        self._resource = resource
        self._values = ValueReader(resource, stub_columns(resource))

    def condition(self, clause: Any) -> Expression:
        clause = ungrouped(clause)
        kind, operator = type(clause), getattr(clause, "operator", None)
        if kind is elements.BooleanClauseList and operator is operators.and_:
            return all_of(self.condition(item) for item in clause.clauses)
        if kind is elements.BooleanClauseList and operator is operators.or_:
            return any_of(self.condition(item) for item in clause.clauses)
        if kind is elements.AsBoolean and operator is operators.is_true:
            return self.condition(clause.element)
        if kind is elements.AsBoolean and operator is operators.is_false:
            return _negated(self.condition(clause.element))
        if kind is elements.UnaryExpression and operator is operators.inv:
            return _negated(self.condition(clause.element))
        if kind in (elements.BinaryExpression, Condition):
            return self._binary(clause)
        found = self._values.operand(clause)
        if isinstance(found, Written) and isinstance(found.value, bool):
            return EVERYTHING if found.value else NOTHING
        if isinstance(found, Written | Stored | Cased) or kind_of(found) != "boolean":
            raise Unreadable
        return self._compare(found, "=", Written(True))

    def _binary(self, clause: Any) -> Expression:
        operator, left, right = clause.operator, clause.left, clause.right
        if operator in TEXT_OPERATORS:
            text, pattern = self._values.operand(left), self._values.operand(right)
            kind = TEXT_OPERATORS[operator]
            return read_like(self._resource, text, pattern, clause.modifiers, kind)
        if operator is operators.between_op or operator is operators.not_between_op:
            found = self._between(clause)
            return found if operator is operators.between_op else Not(found)
        if clause.modifiers:
            raise Unreadable
        if operator in _COMPARED:
            first, second = self._values.operand(left), self._values.operand(right)
            return self._compare(first, _COMPARED[operator], second)
        if operator is operators.in_op or operator is operators.not_in_op:
            found = self._in(self._values.operand(left), self._values.listed(right))
            return found if operator is operators.in_op else _negated(found)
        if operator is operators.is_ or operator is operators.is_not:
            is_positive = operator is operators.is_
            return self._is(self._values.operand(left), right, positive=is_positive)
        raise Unreadable

    def _compare(self, left: Operand, operator: _Compared, right: Operand) -> Expression:
        if isinstance(left, Written) or isinstance(right, Cased):
            left, operator, right = right, _MIRRORED[operator], left
        if isinstance(left, Written) or isinstance(right, Cased | Stored):
            raise Unreadable
        if isinstance(left, Cased):
            return read_cased(left, operator, right)
        if isinstance(right, Written):
            return self._compare_with_constant(left, operator, right.value)
        if isinstance(left, Stored):
            raise Unreadable
        kinds = {kind_of(left), kind_of(right)}
        if len(kinds) > 1 and not kinds <= NUMBER_KINDS:
            raise Unreadable
        _check_ordered(left, operator)
        return Comparison(left, operator, right)

    def _compare_with_constant(
        self, left: Value | Stored, operator: _Compared, value: Any
    ) -> Expression:
        _check_ordered(left, operator)
        if isinstance(left, Column | Stored):
            if operator not in ("=", "!=") and self._is_opaque(left.name):
                raise Unreadable
            return Atom(left.name, operator, cast_for_column(self._resource, left.name, value))
        return Comparison(left, operator, constant(kind_of(left), value))

    def _is_opaque(self, name: str) -> bool:
        return stored_type(self._resource, name) in OPAQUE_TYPES

    def _in(self, left: Operand, items: list[Operand]) -> Expression:
        values = [item.value for item in items if isinstance(item, Written)]
        if isinstance(left, Column | Stored) and len(values) == len(items):
            if stored_type(self._resource, left.name) in CONTAINER_TYPES:
                raise Unreadable
            cast_values = (cast_for_column(self._resource, left.name, value) for value in values)
            return Atom(left.name, "in", tuple(cast_values))
        return any_of([self._compare(left, "=", item) for item in items])

    def _between(self, clause: Any) -> Expression:
        pair = clause.right
        is_pair = type(pair) is elements.ExpressionClauseList and len(pair.clauses) == 2
        if not is_pair or any(clause.modifiers.values()):
            raise Unreadable
        found = self._values.operand(clause.left)
        low, high = (self._values.operand(item) for item in pair.clauses)
        first, last = self._compare(found, ">=", low), self._compare(found, "<=", high)
        match first, last:
            case Atom(name, ">=", start), Atom(other, "<=", end) if name == other:
                return Atom(name, "between", (start, end))
        return all_of([first, last])

    def _is(self, left: Operand, right: Any, *, positive: bool) -> Expression:
        if isinstance(left, Written | Cased):
            raise Unreadable
        if type(right) is elements.Null:
            return _null(left, is_null=positive)
        if type(right) not in (elements.True_, elements.False_):
            raise Unreadable
        if isinstance(left, Stored) or kind_of(left) != "boolean":
            raise Unreadable
        wanted = type(right) is elements.True_
        if positive:  # never unknown, other than "="
            equal = self._compare_with_constant(left, "=", wanted)
            return all_of([_null(left, is_null=False), equal])
        other = self._compare_with_constant(left, "=", not wanted)
        return any_of([_null(left, is_null=True), other])


def _check_ordered(value: Value | Stored, operator: _Compared) -> None:
    is_boolean = not isinstance(value, Stored) and kind_of(value) == "boolean"
    if is_boolean and operator not in ("=", "!="):
        raise Unreadable


def _null(value: Value | Stored, *, is_null: bool) -> Expression:
    operator: Literal["is null", "is not null"] = "is null" if is_null else "is not null"
    if isinstance(value, Column | Stored):
        return Atom(value.name, operator)
    return Comparison(value, operator)
