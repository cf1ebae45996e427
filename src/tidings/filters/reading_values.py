"""Reading the values in an SQLAlchemy expression: columns, constants, what they are computed to.

Whatever is not known to be read with its meaning unchanged is `Unreadable`. Classes are compared
by identity: SQLAlchemy's subclasses, and those of applications, may be compiled differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy.sql import elements, functions, operators

from tidings.filters.reading_constants import (
    Unreadable,
    bound_value,
    constant,
    plain,
    stored_type,
)
from tidings.filters.values import (
    LIMIT,
    NUMBER_KINDS,
    RECIPROCAL,
    Arithmetic,
    ArithmeticOperator,
    Coalesce,
    Column,
    Length,
    Value,
    ValueKind,
    is_safe,
    kind_of,
)
from tidings.schema import ResourceType


@dataclass(frozen=True, slots=True)
class Stored:
    """A column that values cannot be computed from: a decimal, an array, an object."""

    name: str


@dataclass(frozen=True, slots=True)
class Written:
    """A constant as the author wrote it: what it is cast to depends on what is beside it."""

    value: Any


@dataclass(frozen=True, slots=True)
class Cased:
    """A text in lower or upper case."""

    text: Value
    case: Literal["lower", "upper"]


Operand = Value | Stored | Written | Cased

_EXACT_INTEGER: Final = 2**53
_KINDS: Final[dict[str, ValueKind]] = {
    "string": "string",
    "text": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "date": "date",
    "dateTime": "dateTime",
    "time": "time",
}
_ARITHMETIC: Final[dict[Any, ArithmeticOperator]] = {
    operators.add: "+",
    operators.sub: "-",
    operators.mul: "*",
    operators.truediv: "/",
}


def ungrouped(clause: Any) -> Any:
    """What stands in the parentheses."""
    while type(clause) is elements.Grouping:
        clause = clause.element
    return clause


class ValueReader:
    """Reads values over the columns of one resource.

    ``columns`` are the stubs by name: no other object is a column of the resource.
    """

    def __init__(self, resource: ResourceType, columns: Any) -> None:
        self._resource = resource
        self._columns = columns

    def operand(self, clause: Any) -> Operand:
        """A value, a constant, or what else a comparison may have on a side."""
        clause = ungrouped(clause)
        read = self._readers.get(type(clause))
        if read is None:
            raise Unreadable
        return read(self, clause)

    def value(self, clause: Any) -> Value:
        """A value that is not a constant."""
        found = self.operand(clause)
        if isinstance(found, Stored | Written | Cased):
            raise Unreadable
        return found

    def listed(self, clause: Any) -> list[Operand]:
        """What stands in the parentheses after IN."""
        found: list[Operand]
        if type(clause) is elements.BindParameter and clause.expanding:
            values = bound_value(clause)
            if type(values) not in (list, tuple):
                raise Unreadable
            found = [Written(plain(value, clause.type, listed=True)) for value in values]
        elif type(ungrouped(clause)) is elements.ClauseList:
            found = [self.operand(item) for item in ungrouped(clause).clauses]
        else:
            raise Unreadable
        if len(found) > self._resource.filter_limits.values:
            raise Unreadable
        return found

    def _column(self, clause: Any) -> Operand:
        name = clause.key
        if self._columns.get(name) is not clause:
            raise Unreadable
        kind = stored_type(self._resource, name)
        if kind == "id":
            return Column(name, "string")
        return Column(name, _KINDS[kind]) if kind in _KINDS else Stored(name)

    def _bound(self, clause: Any) -> Operand:
        if clause.expanding:
            raise Unreadable
        return Written(plain(bound_value(clause), clause.type))

    def _true(self, _clause: Any) -> Operand:
        return Written(True)

    def _false(self, _clause: Any) -> Operand:
        return Written(False)

    # Functions

    def _function(self, clause: Any) -> Operand:
        if clause.packagenames or type(clause.name) is not str:
            raise Unreadable
        arguments = clause.clauses.clauses
        match clause.name:
            case "lower" | "upper" as case if len(arguments) == 1:
                return Cased(self.text(arguments[0]), case)
            case "length" | "char_length" if len(arguments) == 1:
                return Length(self.text(arguments[0]))
            case "coalesce" if len(arguments) > 1:
                return self._coalesce([self.operand(item) for item in arguments])
        raise Unreadable

    def text(self, clause: Any) -> Value:
        """A text column, or the first of some texts."""
        return as_text(self.operand(clause))

    def _coalesce(self, found: list[Operand]) -> Operand:
        kinds = {item.kind for item in found if isinstance(item, Column)}
        if len(kinds) != 1:
            raise Unreadable
        (kind,) = kinds
        values: list[Value] = []
        for item in found:
            if isinstance(item, Written):
                values.append(constant(kind, item.value))
            elif isinstance(item, Column):
                values.append(item)
            else:
                raise Unreadable
        return Coalesce(tuple(values))

    # Arithmetic

    def _binary(self, clause: Any) -> Operand:
        operator = _ARITHMETIC.get(clause.operator)
        if operator is None or clause.modifiers:
            raise Unreadable
        return _computed(operator, self.operand(clause.left), self.operand(clause.right))

    def _series(self, clause: Any) -> Operand:
        """``a + b + c``, which databases compute from the left."""
        operator = _ARITHMETIC.get(clause.operator)
        if operator is None or len(clause.clauses) < 2:
            raise Unreadable
        first, *others = (self.operand(item) for item in clause.clauses)
        for item in others:
            first = _computed(operator, first, item)
        return first

    def _unary(self, clause: Any) -> Operand:
        if clause.operator is not operators.neg or clause.modifier is not None:
            raise Unreadable
        return _computed("-", Written(0), self.operand(clause.element))

    _readers: Final[dict[type, Callable[[ValueReader, Any], Operand]]] = {
        elements.ColumnClause: _column,
        elements.BindParameter: _bound,
        elements.True_: _true,
        elements.False_: _false,
        functions.Function: _function,
        functions.coalesce: _function,
        functions.char_length: _function,
        elements.BinaryExpression: _binary,
        elements.ExpressionClauseList: _series,
        elements.UnaryExpression: _unary,
    }


def as_text(found: Operand) -> Value:
    """The operand, which has to be a text column, or the first of some texts."""
    if isinstance(found, Column | Coalesce) and kind_of(found) == "string":
        return found
    raise Unreadable


def _computed(operator: ArithmeticOperator, left: Operand, right: Operand) -> Arithmetic:
    result = Arithmetic(operator, _number(left), _number(right))
    if not is_safe(result):
        raise Unreadable
    return result


def _number(found: Operand) -> Value:
    if isinstance(found, Written):
        if isinstance(found.value, int) and abs(found.value) > _EXACT_INTEGER:
            raise Unreadable
        result = constant("number", found.value)
        if result.value != 0 and not RECIPROCAL <= abs(result.value) <= LIMIT:
            raise Unreadable
        return result
    if isinstance(found, Stored | Cased) or kind_of(found) not in NUMBER_KINDS:
        raise Unreadable
    return found
