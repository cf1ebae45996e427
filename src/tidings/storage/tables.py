"""From declared resources to SQLAlchemy tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from sqlalchemy import Column, ForeignKey, MetaData, Table, UniqueConstraint

from tidings.errors import ConfigurationError
from tidings.schema import Field, ResourceType
from tidings.storage.types import MYSQL_KEY_LENGTH, column_type, id_column_type


def build_tables(
    resources: Iterable[ResourceType], existing: Mapping[str, Table] = MappingProxyType({})
) -> dict[str, Table]:
    """One table per resource, in one MetaData, by resource name; call after linking.

    ``existing`` are those that are the application's own.
    """
    metadata = MetaData()
    own = {one.name: one for one in resources if one.name not in existing}
    return {**existing, **{name: _table(one, own, metadata) for name, one in own.items()}}


def is_existing(table: Table) -> bool:
    """Whether a table is the application's own: tidings never makes or changes it."""
    return bool(table.info.get("is_existing"))


def _table(resource: ResourceType, resources: dict[str, ResourceType], metadata: MetaData) -> Table:
    numbered = resource.id_type == "integer"
    # Names are quoted always: no list of a database's reserved words is complete.
    key: Column[object] = Column(
        "id", id_column_type(resource.id_type), primary_key=True, autoincrement=numbered, quote=True
    )
    columns = [_column(field, resources) for field in resource.fields.values()]
    # Without AUTOINCREMENT SQLite gives the id of a deleted last row to the next one, and a
    # client that still holds the old id would find a stranger behind it.
    return Table(
        resource.table,
        metadata,
        key,
        *columns,
        *_pairs(resource),
        quote=True,
        sqlite_autoincrement=numbered,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )


def _pairs(resource: ResourceType) -> Iterable[UniqueConstraint]:
    """A link resource of ours holds each pair once."""
    if resource.is_internal:
        yield UniqueConstraint(*resource.fields, name=f"uq_{resource.table}"[:60])


def check_keys(table: Table) -> None:
    """Say what MariaDB and MySQL cannot hold unique.

    Raises:
        ConfigurationError: a unique text is too long for an index.
    """
    for column in table.c:
        length = getattr(column.type, "length", None)
        if column.unique and length is not None and length > MYSQL_KEY_LENGTH:
            raise ConfigurationError(
                f"{table.name}.{column.name}: MariaDB and MySQL hold texts of at most "
                f"{MYSQL_KEY_LENGTH} characters unique, and max is {length}"
            )


def _column(field: Field, resources: dict[str, ResourceType]) -> Column[object]:
    constraints = []
    # An existing table is in another MetaData, and may be made after this one.
    if field.references in resources and field.constraint:
        target = resources[field.references].table
        constraints.append(ForeignKey(f"{target}.id", use_alter=False))
    return Column(
        field.name,
        # A bound is that of what is given: what a setter makes of it may be longer.
        column_type(field if field.setter is None else replace(field, max=None)),
        *constraints,
        nullable=field.nullable,
        unique=field.unique or None,
        index=((field.references or field.targets) and not field.unique) or None,
        quote=True,
    )
