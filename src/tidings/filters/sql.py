"""Reading an expression as SQL: an SQLAlchemy expression with named parameters, and their values.

The statement's text depends on the expression's *shape* only (columns, operators, how many
values), so that a compiled statement can be kept and used again with other values.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    or_,
    true,
)
from sqlalchemy.sql import FromClause
from sqlalchemy.sql import expression as sql_expression

from tidings.filters.expression import AllOf, AnyOf, Atom, Expression, Not, Opaque

SQLITE_LOWER = "tidings_lower"
"""SQLite's own lower() knows ASCII only; each connection registers Python's under this name."""

# Written out: a bound value would be a parameter that `parameters` knows nothing of.
_NEVER: ColumnElement[bool] = literal_column("1 = 0", Boolean)


def shape(expression: Expression) -> tuple[Any, ...] | None:
    """What two expressions with the same SQL text have in common; None where text cannot be kept.

    Custom filters put their values into the SQL themselves, hence None for them.
    """
    if isinstance(expression, Atom):
        if expression.operator == "in":
            return (expression.column, "in", _padded_length(len(expression.value)))
        return (expression.column, expression.operator)
    if isinstance(expression, Opaque):
        return None
    if isinstance(expression, Not):
        inner = shape(expression.term)
        return None if inner is None else ("not", inner)
    parts = tuple(shape(term) for term in expression.terms)
    return None if None in parts else (type(expression).__name__, *parts)


def parameters(expression: Expression, dialect: str) -> dict[str, Any]:
    """The values of the parameters that `to_sql` names, in the same walk."""
    values: list[Any] = []
    _collect(expression, values, dialect)
    return {f"f{index}": value for index, value in enumerate(values)}


def to_sql(expression: Expression, table: FromClause, dialect: str) -> ColumnElement[bool]:
    """The expression over the table's columns; parameters are named f0, f1, ... in order."""
    return _Builder(table, dialect).build(expression)


def _padded_length(length: int) -> int:
    """Lists are padded to a power of two, so that few distinct statements serve all lengths."""
    return 1 << (length - 1).bit_length() if length else 0


def _padded(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return values + values[-1:] * (_padded_length(len(values)) - len(values))


def _like_text(value: str, dialect: str) -> str:
    lowered = value.lower()
    if dialect == "sqlite":
        return lowered
    escaped = lowered.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _collect(expression: Expression, values: list[Any], dialect: str) -> None:
    if isinstance(expression, Atom):
        if expression.operator == "in":
            values.extend(_padded(expression.value))
        elif expression.operator == "between":
            values.extend(expression.value)
        elif expression.operator == "like":
            values.append(_like_text(expression.value, dialect))
        elif expression.operator not in ("is null", "is not null"):
            values.append(expression.value)
    elif isinstance(expression, Not):
        _collect(expression.term, values, dialect)
    elif not isinstance(expression, Opaque):
        for term in expression.terms:
            _collect(term, values, dialect)


class _Builder:
    def __init__(self, table: FromClause, dialect: str) -> None:
        self._table = table
        self._dialect = dialect
        self._count = 0

    def build(self, expression: Expression) -> ColumnElement[bool]:
        match expression:
            case Atom():
                return self._atom(expression)
            case AllOf(terms):
                return and_(true(), *(self.build(term) for term in terms))
            case AnyOf(terms):
                if not terms:
                    return _NEVER
                return or_(*(self.build(term) for term in terms))
            case Not(term):
                return not_(self.build(term).self_group())
            case Opaque(clause=clause):
                # Grouped, so that an OR inside cannot escape what stands beside it.
                grouped: ColumnElement[bool] = sql_expression.Grouping(clause(self._table.c))
                return grouped

    def _parameter(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        self._count += 1
        return bindparam(f"f{self._count - 1}", type_=column.type)

    def _atom(self, atom: Atom) -> ColumnElement[bool]:
        column = self._table.c[atom.column]
        match atom.operator:
            case "is null":
                return column.is_(None)
            case "is not null":
                return column.is_not(None)
            case "in":
                count = _padded_length(len(atom.value))
                if not count:
                    return _NEVER
                return column.in_([self._parameter(column) for _ in range(count)])
            case "between":
                return column.between(self._parameter(column), self._parameter(column))
            case "like":
                return self._like(column)
            case compare:
                return column.op(compare, is_comparison=True)(self._parameter(column))

    def _like(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        if self._dialect == "sqlite":
            lowered = getattr(func, SQLITE_LOWER)(column)
            return func.instr(lowered, self._parameter(column)) > literal_column("0")
        return func.lower(column).like(self._parameter(column), escape="\\")
