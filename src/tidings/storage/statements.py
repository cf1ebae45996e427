"""Statement: an SQLAlchemy statement that is compiled once and then run many times.

Where tidings runs the driver itself (SQLite, PostgreSQL), the text, the order of parameters and the
value processors are worked out once per statement; elsewhere SQLAlchemy executes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Column, Dialect, Select, TextClause, UpdateBase
from sqlalchemy.sql.compiler import SQLCompiler

Row = dict[str, Any]
_Processor = Callable[[Any], Any] | None
Clause = Select[*tuple[Any, ...]] | UpdateBase | TextClause


class NativeStatement:
    """A statement as its driver takes it, and how its rows become those of Python's values."""

    __slots__ = ("_binds", "_fixed", "_names", "_processed", "is_finished", "order", "sql")

    def __init__(
        self,
        sql: str,
        binds: Mapping[str, _Processor],
        names: Sequence[str] = (),
        *,
        fixed: Mapping[str, Any] = MappingProxyType({}),
        order: Sequence[str] | None = None,
    ) -> None:
        self.sql = sql
        self.order = order
        """The names of the parameters, for drivers that number them."""
        self.is_finished = False
        """Whether `finish` was called."""
        self._binds = binds
        self._fixed = fixed
        """The values of parameters that the statement itself has."""
        self._names = names
        self._processed: tuple[tuple[str, Callable[[Any], Any]], ...] = ()

    def finish(
        self, columns: Sequence[Column[Any]], dialect: Dialect, types: Sequence[object] = ()
    ) -> None:
        """Say what the rows are of; ``types`` are the driver's codes, where it has any."""
        processors = (
            column.type.dialect_impl(dialect).result_processor(dialect, found)
            for column, found in zip(columns, types or [None] * len(columns), strict=True)
        )
        self._processed = tuple(
            (name, process)
            for name, process in zip(self._names, processors, strict=True)
            if process is not None
        )
        self.is_finished = True

    def bind(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the driver takes them."""
        return {
            name: found if process is None else process(found)
            for name, process in self._binds.items()
            for found in (values[name] if name in values else self._fixed[name],)
        }

    def rows(self, found: Iterable[Sequence[Any]]) -> list[Row]:
        """The driver's rows as dicts of Python values."""
        names, processed = self._names, self._processed
        rows: list[Row] = [dict(zip(names, row, strict=True)) for row in found]
        for name, process in processed:
            for row in rows:
                row[name] = process(row[name])
        return rows


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
            native, given = self._compile_inline(dialect, values)
        else:
            native, given = self._compiled(dialect), values
        if not native.is_finished:
            native.finish(self.columns, dialect)
        return native, native.bind(given)

    def numbered(
        self, dialect: Dialect, values: Mapping[str, Any]
    ) -> tuple[NativeStatement, list[Any]]:
        """The same where ``dialect`` numbers them; the rows' types have to be said yet."""
        if self.inline:
            native, given = self._compile_inline(dialect, values)
        else:
            native, given = self._compiled(dialect), values
        bound = native.bind(given)
        return native, [bound[name] for name in native.order or ()]

    def _compiled(self, dialect: Dialect) -> NativeStatement:
        if self._native is None:
            compiled = self.clause.compile(dialect=dialect)
            assert isinstance(compiled, SQLCompiler)
            self._native = NativeStatement(
                str(compiled),
                _bind_processors(dialect, compiled),
                self.names,
                fixed=_fixed(compiled),
                order=compiled.positiontup,
            )
        return self._native

    def raw(self, dialect: Dialect, values: Mapping[str, Any]) -> tuple[str, Any]:
        """The text and the parameters as a driver of this dialect takes them."""
        compiled = self.clause.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        processors = _bind_processors(dialect, compiled)
        given = NativeStatement(str(compiled), processors, fixed=_fixed(compiled)).bind(values)
        if compiled.positiontup is None:
            return str(compiled), given
        return str(compiled), tuple(given[name] for name in compiled.positiontup)

    def _compile_inline(
        self, dialect: Dialect, values: Mapping[str, Any]
    ) -> tuple[NativeStatement, Mapping[str, Any]]:
        compiled = self.clause.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        state = compiled.construct_expanded_state(dict(values))
        # The state knows the processors of what it has expanded, not of the other parameters.
        processors = {**_bind_processors(dialect, compiled), **state.processors}
        native = NativeStatement(
            state.statement,
            {name: processors.get(name) for name in state.parameters},
            self.names,
            order=state.positiontup,
        )
        return native, state.parameters


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
