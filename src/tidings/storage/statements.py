"""Statement: an SQLAlchemy statement that is compiled once and then run many times.

Where tidings runs the driver itself (SQLite), the text, the order of parameters and the value
processors are worked out once per statement; elsewhere SQLAlchemy executes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Dialect, Select, TextClause, UpdateBase
from sqlalchemy.sql.compiler import SQLCompiler

Row = dict[str, Any]
_Processor = Callable[[Any], Any] | None
Clause = Select[*tuple[Any, ...]] | UpdateBase | TextClause


@dataclass(frozen=True, slots=True)
class NativeStatement:
    """A statement as its driver takes it."""

    sql: str
    bind_processors: Mapping[str, _Processor]
    result_processors: tuple[_Processor, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """The values of parameters that the statement itself has."""

    def bind(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the driver takes them."""
        return {
            name: found if process is None else process(found)
            for name, process in self.bind_processors.items()
            for found in (values[name] if name in values else self.fixed[name],)
        }

    def rows(self, names: Sequence[str], found: Sequence[Sequence[Any]]) -> list[Row]:
        """The driver's rows as dicts of Python values."""
        return [
            {
                name: value if process is None else process(value)
                for name, process, value in zip(names, self.result_processors, row, strict=True)
            }
            for row in found
        ]


class Statement:
    """An executable with the columns of the rows it gives (none for one that gives no rows).

    ``inline`` statements carry values of their own (custom filters), so that their text is
    compiled anew with the given values each time.
    """

    __slots__ = ("_native", "clause", "columns", "inline", "names")

    def __init__(
        self, clause: Clause, columns: Sequence[Column[Any]] = (), *, inline: bool = False
    ) -> None:
        self.clause = clause
        self.columns = tuple(columns)
        self.names = tuple(str.__str__(column.key) for column in columns)
        self.inline = inline
        self._native: NativeStatement | None = None

    def native(self, dialect: Dialect, values: Mapping[str, Any]) -> tuple[NativeStatement, Any]:
        """The compiled statement and its parameters; ``dialect`` has named parameters."""
        if self.inline:
            return self._compile_inline(dialect, values)
        if self._native is None:
            compiled = self.clause.compile(dialect=dialect)
            self._native = self._finish(dialect, compiled)
        return self._native, self._native.bind(values)

    def raw(self, dialect: Dialect, values: Mapping[str, Any]) -> tuple[str, Any]:
        """The text and the parameters as a driver of this dialect takes them."""
        compiled = self.clause.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        processors = _bind_processors(dialect, compiled)
        given = NativeStatement(str(compiled), processors, (), _fixed(compiled)).bind(values)
        if compiled.positiontup is None:
            return str(compiled), given
        return str(compiled), tuple(given[name] for name in compiled.positiontup)

    def _compile_inline(
        self, dialect: Dialect, values: Mapping[str, Any]
    ) -> tuple[NativeStatement, Any]:
        compiled = self.clause.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        state = compiled.construct_expanded_state(dict(values))
        # The state knows the processors of what it has expanded, not of the other parameters.
        processors = {**_bind_processors(dialect, compiled), **state.processors}
        native = NativeStatement(
            state.statement,
            {name: processors.get(name) for name in state.parameters},
            self._result_processors(dialect),
        )
        return native, native.bind(state.parameters)

    def _finish(self, dialect: Dialect, compiled: Any) -> NativeStatement:
        assert isinstance(compiled, SQLCompiler)
        binds = _bind_processors(dialect, compiled)
        results = self._result_processors(dialect)
        return NativeStatement(str(compiled), binds, results, _fixed(compiled))

    def _result_processors(self, dialect: Dialect) -> tuple[_Processor, ...]:
        return tuple(
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in self.columns
        )


def _bind_processors(dialect: Dialect, compiled: SQLCompiler) -> dict[str, _Processor]:
    return {
        name: bind.type.dialect_impl(dialect).bind_processor(dialect)
        for bind, name in compiled.bind_names.items()
    }


def _fixed(compiled: SQLCompiler) -> dict[str, Any]:
    """The values that a statement has itself: of what a model computes by SQL, say."""
    return {
        name: bind.effective_value
        for bind, name in compiled.bind_names.items()
        if not bind.required
    }


STATEMENTS: Final = 300
"""So many of one kind are kept; the least recently used go first, since clients choose shapes."""
