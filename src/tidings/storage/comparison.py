"""Comparison: whether the tables that are there hold what is declared, as it is declared.

A type that does not fit is seldom an error: SQLite keeps a price of 19.99 in a NUMERIC column as
a float that reads back as 0.1999, PostgreSQL shifts a moment in a column without a zone by the
zone of the session, MariaDB rounds a time to seconds. So it is looked at before anything is
written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, text
from sqlalchemy.types import TypeEngine

from tidings.storage.database import Database
from tidings.storage.statements import Row, Statement
from tidings.storage.tables import is_existing
from tidings.storage.types import (
    ExactBytes,
    ExactDate,
    ExactDecimal,
    ExactDouble,
    ExactDuration,
    ExactInet,
    ExactJson,
    ExactText,
    ExactTime,
    NativeDuration,
    UTCDateTime,
)

MISSING_TABLE: Final = "missing"
_MICROSECONDS: Final = 6


@dataclass(frozen=True, slots=True)
class Difference:
    """What of a table is not as declared: where, what was found, and what to do."""

    table: str
    column: str | None
    found: str
    fix: str

    def __str__(self) -> str:
        where = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{where}: {self.found}; {self.fix}"


async def differences(database: Database, tables: Sequence[Table]) -> list[Difference]:
    """What of these tables is not in the database as it is declared."""
    dialect = _dialect(database.dialect_name)
    if dialect not in _COLUMNS:
        return []
    there = await _columns_there(database, dialect)
    for schema in {table.schema for table in tables if table.schema}:
        in_schema = await _columns_there(database, dialect, schema)
        there |= {f"{schema}.{name}": columns for name, columns in in_schema.items()}
    found: list[Difference] = []
    for table in tables:
        columns = there.get(f"{table.schema}.{table.name}" if table.schema else table.name)
        if columns is None:
            fix = (
                "create it with your own migrations: it is a model's"
                if is_existing(table)
                else "create it with api.create_tables() or SqlAlchemyPlugin(..., "
                "create_tables=True)"
            )
            found.append(Difference(table.name, None, MISSING_TABLE, fix))
            continue
        for column in table.c:
            there_is = columns.get(column.name)
            if there_is is not None and is_existing(table):
                # What is written is read back, so that its owner may well keep whole seconds.
                there_is = {**there_is, "fraction": _MICROSECONDS}
            difference = _compare(dialect, table.name, column, there_is)
            if difference is not None:
                found.append(difference)
    return found


def _dialect(name: str) -> str:
    return "mariadb" if name == "mysql" else name


_NAMES: Final = ("table_name", "column_name", "type", "precision", "scale", "fraction")
_COLUMNS: Final = {
    "sqlite": """
        SELECT tables.name AS table_name, columns.name AS column_name, columns.type AS type,
            NULL AS "precision", NULL AS scale, NULL AS fraction
        FROM sqlite_master AS tables, pragma_table_xinfo(tables.name) AS columns
        WHERE tables.type IN ('table', 'view')
    """,
    "postgresql": """
        SELECT CAST(table_name AS text) AS table_name, CAST(column_name AS text) AS column_name,
            CASE WHEN data_type IN ('USER-DEFINED', 'ARRAY') THEN CAST(udt_name AS text)
                ELSE CAST(data_type AS text) END AS type,
            CAST(numeric_precision AS integer) AS precision,
            CAST(numeric_scale AS integer) AS scale,
            CAST(datetime_precision AS integer) AS fraction
        FROM information_schema.columns WHERE table_schema = ANY (current_schemas(false))
        ORDER BY array_position(current_schemas(false), CAST(table_schema AS name)) DESC
    """,
    "mariadb": """
        SELECT table_name AS table_name, column_name AS column_name, data_type AS type,
            numeric_precision AS `precision`, numeric_scale AS scale, datetime_precision AS fraction
        FROM information_schema.columns WHERE table_schema = database()
    """,
}


_IN_SCHEMA: Final[Mapping[str, Callable[[str, str], str]]] = {
    # An attached database, whose name can be no parameter.
    "sqlite": lambda sql, schema: sql.replace(
        "FROM sqlite_master", f"FROM {_sqlite_name(schema)}.sqlite_master"
    ).replace("pragma_table_xinfo(tables.name)", "pragma_table_xinfo(tables.name, :schema)"),
    "postgresql": lambda sql, _: sql.replace("= ANY (current_schemas(false))", "= :schema"),
    "mariadb": lambda sql, _: sql.replace("= database()", "= :schema"),
}


def _sqlite_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _columns_there(
    database: Database, dialect: str, schema: str | None = None
) -> dict[str, dict[str, Row]]:
    names = tuple(Column[Any](name, String) for name in _NAMES)
    sql, values = _COLUMNS[dialect], {}
    if schema is not None:
        sql, values = _IN_SCHEMA[dialect](sql, schema), {"schema": schema}
    statement = Statement(text(sql), names)
    async with database.reading(snapshot=False) as connection:
        rows = await connection.fetch(statement, values)
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(str(row["table_name"]), {})[str(row["column_name"])] = row
    return found


def _compare(dialect: str, table: str, column: Column[Any], found: Row | None) -> Difference | None:
    if found is None:
        fix = "add the column, or take the field out of the schema: no table is changed by tidings"
        return Difference(table, column.name, "there is no such column", fix)
    fit = _FITTING[dialect](column.type, found)
    if fit is None:
        return None
    said = _said(found)
    return Difference(
        table, column.name, f"its type {said} does not fit", f"{fit} (ALTER TABLE, or leave it out)"
    )


def _said(found: Row) -> str:
    said = str(found["type"]).upper() or "(none)"
    if found["scale"] is not None and said in ("NUMERIC", "DECIMAL"):
        said += f"({found['precision']}, {found['scale']})"
    return said


# Each gives what is needed instead, or None where the type fits.


def _fits_postgresql(declared: TypeEngine[Any], found: Row) -> str | None:
    kind = str(found["type"])
    match declared:
        case ExactText():
            fits, needed = kind in ("text", "character varying"), "it takes TEXT or VARCHAR"
        case ExactDecimal():
            fits = kind == "numeric" and _has_digits(declared, found)
            needed = f"it takes NUMERIC({declared.precision}, {declared.scale}) or more"
        case UTCDateTime():
            fits = kind == "timestamp with time zone" and _has_microseconds(found)
            needed = "it takes TIMESTAMP WITH TIME ZONE"
        case ExactTime():
            fits = kind == "time without time zone" and _has_microseconds(found)
            needed = "it takes TIME"
        case ExactDate():
            fits, needed = kind == "date", "it takes DATE"
        case ExactJson():
            fits, needed = kind in ("json", "jsonb"), "it takes JSON or JSONB"
        case ExactDouble():
            fits, needed = kind == "double precision", "it takes DOUBLE PRECISION"
        case Boolean():
            fits, needed = kind == "boolean", "it takes BOOLEAN"
        case BigInteger() | Integer():
            fits, needed = kind in ("bigint", "integer", "smallint"), "it takes BIGINT"
        case ExactBytes():
            fits, needed = kind == "bytea", "it takes BYTEA"
        case ExactDuration() | NativeDuration():
            fits, needed = kind == "interval", "it takes INTERVAL"
        case ExactInet():
            fits, needed = kind == "inet", "it takes INET"
        case _:
            return None
    return None if fits else needed


_MARIADB_TEXTS: Final = ("varchar", "text", "tinytext", "mediumtext", "longtext")
_MARIADB_BYTES: Final = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_MARIADB_INTEGERS: Final = ("tinyint", "smallint", "mediumint", "int", "bigint")


def _fits_mariadb(declared: TypeEngine[Any], found: Row) -> str | None:
    kind = str(found["type"]).lower()
    match declared:
        case ExactText():
            fits, needed = kind in _MARIADB_TEXTS, "it takes VARCHAR or LONGTEXT"
        case ExactDecimal():
            fits = kind == "decimal" and _has_digits(declared, found)
            needed = f"it takes DECIMAL({declared.precision}, {declared.scale}) or more"
        case UTCDateTime():
            fits = kind == "datetime" and _has_microseconds(found)
            needed = "it takes DATETIME(6), which holds UTC"
        case ExactTime():
            fits, needed = kind == "time" and _has_microseconds(found), "it takes TIME(6)"
        case ExactDate():
            fits, needed = kind == "date", "it takes DATE"
        case ExactJson():
            fits, needed = kind in _MARIADB_TEXTS, "it takes LONGTEXT"
        case ExactDouble():
            fits, needed = kind == "double", "it takes DOUBLE"
        case Boolean():
            fits, needed = kind == "tinyint", "it takes BOOLEAN"
        case BigInteger() | Integer():
            fits, needed = kind in _MARIADB_INTEGERS, "it takes BIGINT"
        case ExactBytes():
            fits, needed = kind in _MARIADB_BYTES, "it takes VARBINARY or LONGBLOB"
        case ExactDuration():
            fits, needed = kind == "bigint", "it takes BIGINT, which holds microseconds"
        case NativeDuration():
            fits, needed = kind == "datetime", "it takes DATETIME(6), as SQLAlchemy's Interval"
        case ExactInet():
            fits, needed = kind in _MARIADB_TEXTS, "it takes VARCHAR"
        case _:
            return None
    return None if fits else needed


def _fits_sqlite(declared: TypeEngine[Any], found: Row) -> str | None:
    affinity = _affinity(str(found["type"]))
    if affinity == "BLOB":
        return None  # a column without a type keeps what it is given
    match declared:
        case ExactText():
            fits, needed = affinity == "TEXT", "it takes TEXT or VARCHAR"
        case ExactDecimal():
            fits = affinity == "INTEGER"
            needed = f"it takes BIGINT, which holds the value times 10^{declared.scale}"
        case UTCDateTime() | ExactTime() | ExactDate():
            fits = affinity in ("TEXT", "NUMERIC")
            needed = "it takes DATETIME, DATE, TIME or TEXT, which hold the text of ISO 8601"
        case ExactJson():
            fits, needed = affinity in ("TEXT", "NUMERIC"), "it takes JSON or TEXT"
        case ExactDouble():
            fits, needed = affinity in ("REAL", "NUMERIC"), "it takes DOUBLE or REAL"
        case Boolean():
            fits, needed = affinity in ("NUMERIC", "INTEGER"), "it takes BOOLEAN or INTEGER"
        case BigInteger() | Integer():
            fits, needed = affinity in ("INTEGER", "NUMERIC"), "it takes INTEGER"
        case ExactDuration():
            fits, needed = affinity == "INTEGER", "it takes BIGINT, which holds microseconds"
        case NativeDuration():
            fits = affinity in ("TEXT", "NUMERIC")
            needed = "it takes DATETIME, as SQLAlchemy's Interval"
        case ExactBytes():
            fits, needed = False, "it takes BLOB"
        case ExactInet():
            fits, needed = affinity == "TEXT", "it takes TEXT or VARCHAR"
        case _:
            return None
    return None if fits else needed


def _affinity(declared: str) -> str:
    """As https://www.sqlite.org/datatype3.html#determination_of_column_affinity has it."""
    upper = declared.upper()
    for parts, affinity in (
        (("INT",), "INTEGER"),
        (("CHAR", "CLOB", "TEXT"), "TEXT"),
        (("BLOB",), "BLOB"),
        (("REAL", "FLOA", "DOUB"), "REAL"),
    ):
        if any(part in upper for part in parts):
            return affinity
    return "NUMERIC" if upper and upper != "ANY" else "BLOB"


def _has_digits(declared: ExactDecimal, found: Row) -> bool:
    precision, scale = found["precision"], found["scale"]
    if precision is None or scale is None:
        return True  # PostgreSQL's NUMERIC, which has as many as it is given
    whole = declared.precision - declared.scale
    return bool(scale >= declared.scale and precision - scale >= whole)


def _has_microseconds(found: Row) -> bool:
    return bool(found["fraction"] == _MICROSECONDS)


_FITTING: Final = {
    "sqlite": _fits_sqlite,
    "postgresql": _fits_postgresql,
    "mariadb": _fits_mariadb,
}
