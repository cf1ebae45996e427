"""Reading an expression as SQL: an SQLAlchemy expression with named parameters, and their values.

The statement's text depends on the expression's *shape* only (columns, operators, how many
values), so that a compiled statement can be kept and used again with other values. Where databases
differ (case, collations, JSON, overflow) the SQL is written so that their answers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Double,
    Numeric,
    String,
    Time,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.sql import FromClause
from sqlalchemy.sql import expression as sql_expression
from sqlalchemy.types import TypeDecorator, TypeEngine

from tidings.filters.arrays import (
    ElementKind,
    element_kind,
    element_parameter,
    elements_parameter,
    has_element_sql,
    has_text_sql,
)
from tidings.filters.expression import (
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Linked,
    Not,
    Opaque,
    TextMatch,
)
from tidings.filters.grouping import Group, joined
from tidings.filters.text import Flavour, encoded_pattern, fold, like_text, pattern_text
from tidings.filters.values import (
    NUMBER_KINDS,
    Arithmetic,
    Coalesce,
    Column,
    Constant,
    Length,
    Value,
    ValueKind,
    kind_of,
    parts,
)
from tidings.schema import RelatedColumn, ResourceType

# Written out: a bound value would be a parameter that `parameters` knows nothing of.
_NEVER: Final[ColumnElement[bool]] = literal_column("1 = 0", Boolean)
_ZERO: Final[ColumnElement[float]] = literal_column("0", Double)
_LOW: Final[ColumnElement[float]] = literal_column("1e-60", Double)
_HIGH: Final[ColumnElement[float]] = literal_column("1e60", Double)
_LIKE_ESCAPE: Final = "!"
EXACT: Final = {
    "sqlite": "BINARY",
    "postgresql": "C",
    "mariadb": "utf8mb4_nopad_bin",
    "mysql": "utf8mb4_0900_bin",
}
"""The collation of each database by which texts are equal code point for code point, and so
ordered.
"""
_TYPES: Final[dict[ValueKind, type[TypeEngine[Any]]]] = {
    "string": String,
    "number": Double,
    "integer": BigInteger,
    "boolean": Boolean,
    "date": Date,
    "dateTime": DateTime,
    "time": Time,
}
_MYSQL_TEMPORAL: Final[dict[ValueKind, TypeEngine[Any]]] = {
    "date": Date(),
    "dateTime": mysql.DATETIME(fsp=6),
    "time": mysql.TIME(fsp=6),
}


def shape(expression: Expression) -> tuple[Any, ...] | None:
    """What two expressions with the same SQL text have in common; None where text cannot be kept.

    Custom filters that could not be read put their values into the SQL themselves, hence None.
    """
    match expression:
        case Atom(column, operator, value):
            count = _padded_length(len(value)) if operator == "in" else None
            kinds = _element_kinds(expression) if _is_of_array(expression) else None
            return (column, operator, count, kinds)
        case Comparison(left, operator, right):
            return (_value_shape(left), operator, right and _value_shape(right))
        case TextMatch(text, _, seen_as):
            return (_value_shape(text), "match", seen_as == "exact")
        case Opaque():
            return None
        case Linked(resource, column, where):
            inner = shape(where)
            return None if inner is None else ("linked", resource.name, column, inner)
        case Not(term):
            inner = shape(term)
            return None if inner is None else ("not", inner)
        case AllOf(terms) | AnyOf(terms):
            found = tuple(shape(term) for term in terms)
            return None if None in found else (type(expression).__name__, *found)


def _is_of_array(atom: Atom) -> bool:
    return atom.some and "." not in atom.column


def _element_kinds(atom: Atom) -> tuple[ElementKind, ...]:
    values = _padded(atom.value) if atom.operator == "in" else (atom.value,)
    return tuple(element_kind(value) for value in values)


def _value_shape(value: Value) -> Any:
    match value:
        case Constant(_, kind):
            return kind
        case Coalesce(values):
            return ("coalesce", *(_value_shape(item) for item in values))
        case Length(text):
            return ("length", _value_shape(text))
        case Arithmetic(operator, left, right):
            return (operator, _value_shape(left), _value_shape(right))
        case Column():
            return value


def parameters(expression: Expression, dialect: str, *, prefix: str = "f") -> dict[str, Any]:
    """The values of the parameters that `to_sql` names, in the same walk."""
    return {f"{prefix}{index}": value for index, value in enumerate(_collect(expression, dialect))}


def to_sql(
    expression: Expression,
    resource: ResourceType,
    tables: Mapping[str, FromClause],
    dialect: str,
    *,
    prefix: str = "f",
) -> ColumnElement[bool]:
    """The expression over the resource's table; parameters are named f0, f1, ... in order.

    ``tables`` holds those of all resources, by resource name.
    """
    return _Builder(resource, tables, dialect, prefix).build(expression)


def related_value(
    resource: ResourceType, path: str, tables: Mapping[str, FromClause], dialect: str
) -> ColumnElement[Any]:
    """The value at the end of a to-one path, NULL where there is no such record."""
    builder = _Builder(resource, tables, dialect, "")
    return builder.value_at(resource.related[path])


def exactly(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """A column as it is to be ordered by: text by code point, whatever its own collation."""
    column = _comparable(column)
    return _collated(column, dialect) if _holds_text(column) else column


def _comparable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column as it can be compared: some types of PostgreSQL have equality of their own."""
    kind = getattr(column.type, "compared_as", None)
    return column if kind is None else cast(column, kind)


def _collated(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    if dialect in ("mariadb", "mysql") and getattr(column.type, "is_converted", False):
        # A collation belongs to a character set, and the column may have another one.
        column = cast(column, mysql.CHAR(charset="utf8mb4"))
    return column.collate(EXACT[dialect])


def _holds_text(column: ColumnElement[Any]) -> bool:
    return _holds(column, String) and not getattr(column.type, "is_opaque", False)


def _holds(column: ColumnElement[Any], kind: type[TypeEngine[Any]]) -> bool:
    found = column.type
    return isinstance(found.impl if isinstance(found, TypeDecorator) else found, kind)


def _padded_length(length: int) -> int:
    """Lists are padded to a power of two, so that few distinct statements serve all lengths."""
    return 1 << (length - 1).bit_length() if length else 0


def _padded(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return values + values[-1:] * (_padded_length(len(values)) - len(values))


def _flavour(dialect: str) -> Flavour:
    return "postgresql" if dialect == "postgresql" else "pcre"


def _contains(text: str, dialect: str) -> str:
    if dialect == "sqlite":
        return fold(text)
    return pattern_text(("", fold(text), ""), "fold", _flavour(dialect))


def _pattern(match: TextMatch, dialect: str) -> str:
    if dialect == "sqlite":
        return encoded_pattern(match.segments, match.case)
    if match.case == "exact" and dialect == "postgresql":
        return like_text(match.segments, _LIKE_ESCAPE)
    return pattern_text(match.segments, match.case, _flavour(dialect))


def _collect(expression: Expression, dialect: str) -> Iterator[Any]:
    match expression:
        case Atom():
            yield from _atom_values(expression, dialect)
        case Comparison(left, _, right):
            yield from _constants(left)
            if right is not None:
                yield from _constants(right)
        case TextMatch(text):
            yield from _constants(text)
            yield _pattern(expression, dialect)
        case Not(term):
            yield from _collect(term, dialect)
        case AllOf(terms) | AnyOf(terms):
            for term in terms:
                yield from _collect(term, dialect)
        case Linked(where=where):
            yield from _collect(where, dialect)
        case Opaque():
            pass


def _constants(value: Value) -> Iterator[Any]:
    return (part.value for part in parts(value) if isinstance(part, Constant))


def _atom_values(atom: Atom, dialect: str) -> Iterator[Any]:
    of_array = _is_of_array(atom)
    match atom.operator:
        case "is null" | "is not null":
            return
        case "like":
            yield _contains(atom.value, dialect)
        case "in" if of_array and dialect == "sqlite":
            if atom.value:  # all of them for one look at the array
                yield elements_parameter(atom.value)
        case "in":
            for value in _padded(atom.value):
                yield element_parameter(value, dialect) if of_array else value
        case "between":
            yield from atom.value
        case _:
            yield element_parameter(atom.value, dialect) if of_array else atom.value


class _Builder:
    def __init__(
        self,
        resource: ResourceType,
        tables: Mapping[str, FromClause],
        dialect: str,
        prefix: str = "f",
    ) -> None:
        self._prefix = prefix
        self._resource = resource
        self._tables = tables
        self._table = tables[resource.name]
        self._dialect = dialect
        self._count = 0
        self._hops = 0
        self._negated = False

    def build(self, expression: Expression) -> ColumnElement[bool]:
        match expression:
            case Atom(column) if column in self._resource.related:
                return self._related(expression, self._resource.related[column])
            case Atom(column, some=True):
                return self._some_element(expression, self._table.c[column])
            case Atom(column):
                return self._atom(expression, self._table.c[column])
            case Comparison():
                return self._comparison(expression)
            case TextMatch():
                return self._text_match(expression)
            case AllOf(terms):
                return joined(and_, [true(), *map(self.build, terms)], self._dialect)
            case AnyOf(terms):
                return joined(or_, list(map(self.build, terms)) or [_NEVER], self._dialect)
            case Not(term):
                return self._not(term)
            case Linked():
                return self._linked(expression)
            case Opaque(clause=clause):
                # Grouped, so that an OR inside cannot escape what stands beside it. Nor does a
                # custom function know "unknown".
                grouped: ColumnElement[bool] = sql_expression.Grouping(clause(self._table.c))
                return func.coalesce(grouped, _NEVER) if self._negated else grouped

    def _linked(self, term: Linked) -> ColumnElement[bool]:
        inner = _Builder(term.resource, self._tables, self._dialect, self._prefix)
        inner._count, inner._hops = self._count, self._hops
        condition = inner.build(term.where)
        self._count, self._hops = inner._count, inner._hops
        keys = select(inner._table.c[term.column]).where(condition)
        return self._table.c.id.in_(keys)

    def _not(self, term: Expression) -> ColumnElement[bool]:
        before, self._negated = self._negated, True
        try:
            return not_(self.build(term).self_group())
        finally:
            self._negated = before

    def _parameter(self, kind: TypeEngine[Any]) -> ColumnElement[Any]:
        self._count += 1
        return bindparam(f"{self._prefix}{self._count - 1}", type_=kind)

    # One column and one value

    def _atom(self, atom: Atom, column: ColumnElement[Any]) -> ColumnElement[bool]:
        column = _comparable(column)
        match atom.operator:
            case "is null":
                return column.is_(None)
            case "is not null":
                return column.is_not(None)
            case "in":
                return self._in(column, _padded_length(len(atom.value)))
            case "between":
                low, high = self._operand(column), self._operand(column)
                if _holds_text(column):
                    # MariaDB makes one equality of BETWEEN 'A' AND 'a', whatever the collation.
                    return and_(column >= low, column <= high)
                return column.between(low, high)
            case "like":
                return self._like(column)
            case "=" if self._may_ignore_case(column):
                value = self._parameter(column.type)
                # The first comparison is there for the sake of an index of that collation.
                return and_(column == value, column == self._exact(value))
            case "=" if self._may_round(column):
                value = self._parameter(column.type)
                return and_(column >= value, column <= value)
            case compare:
                return column.op(compare, is_comparison=True)(self._operand(column))

    def _may_ignore_case(self, column: ColumnElement[Any]) -> bool:
        """Whether the column's collation may take different texts for equal.

        SQLite looks at the collation that is written, and has one index for it as a rule. On
        PostgreSQL only those do that are not deterministic; which they are is not seen from here.
        """
        return _holds_text(column) and self._dialect != "sqlite"

    def _may_round(self, column: ColumnElement[Any]) -> bool:
        """MariaDB looks up what is equal in an index by the digits that the column has."""
        return _holds(column, Numeric) and self._dialect in ("mariadb", "mysql")

    def _operand(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter; for text with the collation that the comparison is to follow."""
        value = self._parameter(column.type)
        return self._exact(value) if _holds_text(column) else value

    def _exact(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        return value.collate(EXACT[self._dialect])

    def _in(self, column: ColumnElement[Any], count: int) -> ColumnElement[bool]:
        if not count:
            return _NEVER
        values = [self._parameter(column.type) for _ in range(count)]
        if self._may_round(column):
            column = sql_expression.Grouping(column.op("+")(_ZERO))
        if not _holds_text(column):
            return column.in_(values)
        exact = _collated(column, self._dialect).in_(values)
        # The first comparison is there for the sake of an index of another collation.
        return and_(column.in_(values), exact) if self._may_ignore_case(column) else exact

    def _like(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        if self._dialect == "sqlite":
            folded = func.tidings_fold(column)
            return func.instr(folded, self._parameter(column.type)) > literal_column("0")
        return self._matches_regex(column, self._parameter(String()))

    def _matches_regex(
        self, text: ColumnElement[Any], pattern: ColumnElement[Any]
    ) -> ColumnElement[bool]:
        operator = "~" if self._dialect == "postgresql" else "REGEXP"
        return text.op(operator, is_comparison=True)(self._exact(pattern))

    # Columns with many values, and columns of other tables

    def _some_element(self, atom: Atom, column: ColumnElement[Any]) -> ColumnElement[bool]:
        if atom.operator == "like":
            part = self._parameter(String())
            found = has_text_sql(column, part, self._dialect, self._matches_regex)
        else:
            kinds = _element_kinds(atom)
            if not kinds:
                return _NEVER
            if self._dialect == "sqlite":
                kinds = kinds[:1]
            wanted = [(kind, self._parameter(String())) for kind in kinds]
            found = has_element_sql(column, wanted, self._dialect, self._exact)
        return func.coalesce(found, _NEVER) if self._negated else found

    def _related(self, atom: Atom, related: RelatedColumn) -> ColumnElement[bool]:
        """A column of related records, as if it were joined: see `RelatedColumn`.

        Where only "true" counts, the keys are looked up in a list, which databases can turn round
        (first the related records, then by index the records that refer to them).
        """
        if related.many:
            if self._negated:
                return exists(self._chain(related, lambda column: self._atom(atom, column)))
            return self._key_in(related, lambda column: self._atom(atom, column))
        if self._negated or atom.operator in ("is null", "is not null"):
            return self._atom(atom, self.value_at(related))
        return self._key_in(related, lambda column: self._atom(atom, column))

    def value_at(self, related: RelatedColumn) -> ColumnElement[Any]:
        value = self._chain(related, None).scalar_subquery()
        return sql_expression.type_coerce(value, value.type)

    def _hop_table(self, resource: str) -> FromClause:
        self._hops += 1
        return self._tables[resource].alias(f"r{self._hops}")

    def _key_in(
        self,
        related: RelatedColumn,
        test: Callable[[ColumnElement[Any]], ColumnElement[bool]],
    ) -> ColumnElement[bool]:
        tables = [self._hop_table(hop.resource) for hop in related.hops]
        condition = test(tables[-1].c[related.column])
        nears = [self._table, *tables]
        for place in range(len(tables) - 1, -1, -1):
            hop, table = related.hops[place], tables[place]
            keys = select(table.c[hop.far]).where(condition)
            condition = nears[place].c[hop.near].in_(keys)
        return condition

    def _chain(
        self,
        related: RelatedColumn,
        test: Callable[[ColumnElement[Any]], ColumnElement[bool]] | None,
    ) -> Any:
        """The related records as a correlated subquery: their values, or those that pass."""
        tables = [self._hop_table(hop.resource) for hop in related.hops]
        last = tables[-1].c[related.column]
        nears = [self._table, *tables]
        found = select(last if test is None else literal_column("1")).select_from(*tables)
        for hop, near, table in zip(related.hops, nears, tables, strict=False):
            found = found.where(table.c[hop.far] == near.c[hop.near])
        found = found.correlate(self._table)
        return found if test is None else found.where(test(last))

    # What custom filters compute

    def _comparison(self, term: Comparison) -> ColumnElement[bool]:
        if term.right is None:
            value = self._value(term.left, [term.left])
            return value.is_(None) if term.operator == "is null" else value.is_not(None)
        sides = [term.left, term.right]
        left, right = (self._value(side, sides) for side in sides)
        if kind_of(term.left) != kind_of(term.right):
            left, right = (
                self._as_double(value, side)
                for value, side in zip((left, right), sides, strict=True)
            )
        if kind_of(term.left) == "string":
            right = self._exact(right)
        return left.op(term.operator, is_comparison=True)(right)

    def _text_match(self, term: TextMatch) -> ColumnElement[bool]:
        text = self._value(term.text, [term.text])
        if self._dialect == "sqlite":
            matches = func.tidings_match(text, self._parameter(String()))
            return matches == literal_column("1")
        if term.case != "exact" or self._dialect != "postgresql":
            # MariaDB's LIKE misses letters beyond 16 bits where it uses an index.
            return self._matches_regex(text, self._parameter(String()))
        return text.like(self._exact(self._parameter(String())), escape=_LIKE_ESCAPE)

    def _value(self, value: Value, beside: list[Value]) -> ColumnElement[Any]:
        """``beside``: what it is compared with, whose columns tell a constant's exact type."""
        match value:
            case Column(name):
                return _comparable(self._table.c[name])
            case Constant(_, kind):
                return self._constant(kind, beside)
            case Coalesce(values):
                return func.coalesce(*(self._value(item, beside) for item in values))
            case Length(text):
                name = "length" if self._dialect == "sqlite" else "char_length"
                length: ColumnElement[Any] = getattr(func, name)(
                    self._value(text, [text]), type_=BigInteger
                )
                return length
            case Arithmetic():
                return self._arithmetic(value)

    def _constant(self, kind: ValueKind, beside: list[Value]) -> ColumnElement[Any]:
        value = self._parameter(self._type_of(kind, beside))
        if kind in _MYSQL_TEMPORAL and self._dialect in ("mariadb", "mysql"):
            # Else COALESCE would make texts of a column and a parameter.
            return cast(value, _MYSQL_TEMPORAL[kind])
        return value

    def _type_of(self, kind: ValueKind, beside: list[Value]) -> TypeEngine[Any]:
        inside = (part for value in beside for part in parts(value))
        columns = (part for part in inside if isinstance(part, Column) and part.kind == kind)
        found = next(columns, None)
        return _TYPES[kind]() if found is None else self._table.c[found.name].type

    def _arithmetic(self, value: Arithmetic) -> ColumnElement[Any]:
        left, right = self._number(value.left), self._number(value.right)
        match value.operator:
            case "+":
                result = left + right
            case "-":
                result = left - right
            case "*":
                result = left * right
            case "/":
                result = left / func.nullif(right, literal_column("0"), type_=Double)
        return Group(result)

    def _number(self, value: Value) -> ColumnElement[Any]:
        """An operand of arithmetic: a double, and NULL where it is beyond the limit."""
        if isinstance(value, Constant):
            return self._as_double(self._parameter(Double()), value)
        number = self._value(value, [value])
        if isinstance(value, Arithmetic):
            return number
        if kind_of(value) == "integer":
            return self._as_double(number, value)
        within = or_(number == _ZERO, func.abs(number).between(_LOW, _HIGH))
        return sql_expression.type_coerce(case((within, number)), Double())

    def _as_double(self, number: ColumnElement[Any], value: Value) -> ColumnElement[Any]:
        if kind_of(value) not in NUMBER_KINDS or isinstance(value, Arithmetic):
            return number
        if self._dialect in ("mariadb", "mysql"):
            # Their CAST knows doubles in some versions only.
            return sql_expression.type_coerce(
                sql_expression.Grouping(number.op("+")(literal_column("0e0"))), Double()
            )
        return cast(number, Double())
