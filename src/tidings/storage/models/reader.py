"""Models: an application's own ORM class or table, read as what a resource is declared with.

Nothing is exposed that was not named, and nothing is guessed: what tidings cannot serve exactly is
refused by the name of its column and type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, MetaData, Table
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.interfaces import MANYTOMANY, MANYTOONE

from tidings.errors import ConfigurationError
from tidings.schema.fields import LEFT_TO_DATABASE, IdType
from tidings.storage.models.defaults import called, constant, is_python, python_default
from tidings.storage.models.targets import TABLE
from tidings.storage.models.types import Served, served

EVERY_COLUMN: Final = "*"
_RULES: Final = {"CASCADE": "cascade", "SET NULL": "set_null"}


@dataclass(frozen=True, slots=True)
class Model:
    """What a resource is declared with, and the table that it reads and writes.

    The columns of ``table`` have the names of the fields as keys, and that of the primary key is
    ``id``, whatever they are called in the database.
    """

    table: Table
    schema: Mapping[str, Mapping[str, Any]]
    relationships: Mapping[str, Mapping[str, Any]]
    id_type: IdType
    make_id: Callable[[], Any] | None = None
    native_uuids: frozenset[str] = frozenset()


def is_model(schema: object) -> bool:
    """Whether this is a mapped class or a table, rather than tidings' own way to declare."""
    return isinstance(schema, Table) or _mapper(schema) is not None


def read_model(
    where: str,
    model: Any,
    fields: str | Iterable[str] | Mapping[str, Mapping[str, Any]] | None,
    hidden: Iterable[str],
) -> Model:
    """Read a mapped class or a table.

    ``fields`` names what clients may know: columns and relationships by the names of the class's
    attributes, or ``"*"`` for every column; as a dict it gives further options by name. ``hidden``
    names columns that only policies, hooks and trusted code use.

    Raises:
        ConfigurationError: starts with ``where`` and names the column, what is wrong with it and
            what to do.
    """
    reader = _Reader(where, model)
    return reader.read(_chosen(where, fields, reader), tuple(hidden))


def _mapper(model: object) -> Mapper[Any] | None:
    if not isinstance(model, type):
        return None
    found: object = inspect_model(model, raiseerr=False)
    return found if isinstance(found, Mapper) else None


def _chosen(where: str, fields: Any, reader: _Reader) -> dict[str, Mapping[str, Any]]:
    if fields == EVERY_COLUMN:
        return {name: {} for name in reader.columns if name != reader.key}
    if isinstance(fields, Mapping):
        return {str(name): dict(options or {}) for name, options in fields.items()}
    if fields is None or isinstance(fields, str):
        raise ConfigurationError(
            f"{where}: say what clients may know of {reader.table.name!r}: fields=[...] with the "
            'names of columns and relationships, or fields="*" for every column'
        )
    return {str(name): {} for name in fields}


@dataclass(slots=True)
class _Found:
    schema: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    relationships: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    columns: list[Column[Any]] = field(default_factory=list)
    uuids: set[str] = field(default_factory=set)
    onupdate: dict[str, Callable[[], Any]] = field(default_factory=dict)
    deleting: set[str] = field(default_factory=set)
    """The keys by which the database itself deletes or changes records with others."""


class _Reader:
    def __init__(self, where: str, model: Any) -> None:
        self.where = where
        self.mapper = _mapper(model)
        self.table = self._own_table(model)
        self.columns: dict[str, Column[Any]] = self._columns()
        """By the names of attributes."""
        self.names = {column: name for name, column in self.columns.items()}
        self.key = self._key()
        self.found = _Found()

    def _refuse(self, said: str) -> ConfigurationError:
        return ConfigurationError(f"{self.where}: {said}")

    def _own_table(self, model: Any) -> Table:
        if self.mapper is None:
            table = model
        else:
            table = self.mapper.local_table
            if self.mapper.inherits is not None:
                raise self._refuse(self._inherited(self.mapper, self.mapper.inherits))
        if not isinstance(table, Table):
            raise self._refuse("the class is mapped to no table, but to a query")
        return table

    def _inherited(self, mapper: Mapper[Any], base: Mapper[Any]) -> str:
        """Why a class that inherits is not served, and what to do."""
        names = f"{mapper.class_.__name__} inherits from {base.class_.__name__}"
        if mapper.local_table is not base.local_table:
            return (
                f"{names} by joining the tables {base.local_table} and {mapper.local_table}, and "
                f"a record is a row of one table: declare a resource of {base.class_.__name__}, "
                "of mapper.local_table, or of a view of both"
            )
        return (
            f"{names} and is a part of the table {base.local_table}: declare a resource of "
            f"{base.class_.__name__}, where a row_policy may leave out the others by "
            f"{base.polymorphic_on}"
        )

    def _columns(self) -> dict[str, Column[Any]]:
        if self.mapper is None:
            return {str(column.key): column for column in self.table.c}
        return {
            attribute.key: attribute.columns[0]
            for attribute in self.mapper.column_attrs
            if isinstance(attribute.columns[0], Column)
        }

    def _key(self) -> str:
        keys = list(self.table.primary_key)
        if len(keys) != 1:
            what = "no primary key" if not keys else "a primary key of several columns"
            raise self._refuse(
                f"the table {self.table.name!r} has {what}, and a record has one id: add a column "
                "that is unique by itself and make it the key"
            )
        name = self.names.get(keys[0])
        if name is None:
            raise self._refuse(f"the primary key of {self.table.name!r} is no attribute")
        return name

    def read(self, chosen: Mapping[str, Mapping[str, Any]], hidden: tuple[str, ...]) -> Model:
        id_type, make_id = self._read_key()
        for name, options in chosen.items():
            if options.get("computed") or options.get("virtual"):
                self.found.schema[name] = options  # no column has it
            elif name in self.columns:
                self._add_column(name, options)
            elif self.mapper is not None and name in self.mapper.relationships:
                self._add_relationship(name, self.mapper.relationships[name], options)
            else:
                raise self._refuse(
                    f"fields: {self.table.name!r} has no column {name!r}{self._known()}"
                )
        for name in hidden:
            if name not in self.columns:
                raise self._refuse(f"hidden: {self.table.name!r} has no column {name!r}")
            if name not in self.found.schema:
                self._add_column(name, {"hidden": True})
        self._check_the_rest()
        info = {
            "is_existing": True,
            "onupdate": self.found.onupdate,
            "deleting": self.found.deleting,
            "volatile": self._volatile(),
            "silent": self._silent(),
            "existing": self.table,
            "key": self.key,
        }
        table = Table(
            self.table.name,
            MetaData(),
            *self.found.columns,
            schema=self.table.schema,
            quote=True,
            info=info,
        )
        return Model(
            table,
            self.found.schema,
            self.found.relationships,
            id_type,
            make_id,
            frozenset(self.found.uuids),
        )

    def _volatile(self) -> frozenset[str]:
        """The fields that a write may change without naming them."""
        return frozenset(
            name
            for name, column in self.columns.items()
            if column.computed is not None
            or column.onupdate is not None
            or column.server_onupdate is not None
        )

    def _silent(self) -> frozenset[str]:
        """The tables with whose records the database deletes or changes these by itself, by keys
        that tidings does not know as relationships.
        """
        return frozenset(
            str(key.column.table.fullname)
            for name, column in self.columns.items()
            for key in column.foreign_keys
            if str(key.ondelete).upper() in _RULES and name not in self.found.deleting
        )

    def _known(self) -> str:
        names = [*self.columns]
        if self.mapper is not None:
            names += self.mapper.relationships.keys()
        return f" (it has {', '.join(names)})"

    def _read_key(self) -> tuple[IdType, Callable[[], Any] | None]:
        column = self.columns[self.key]
        found = self._served(self.key)
        kinds: dict[str, IdType] = {
            "integer": "integer",
            "uuid": "uuid",
            "string": "string",
            "text": "string",
        }
        id_type = kinds.get(found.options["type"])
        if id_type is None:
            raise self._refuse(
                f"the primary key {self.table.name}.{column.name} is {column.type!r}: an id is an "
                "integer, a UUID or a text"
            )
        if id_type == "uuid":
            self.found.uuids.add("id")
        self._keep("id", column, found, is_key=True)
        return id_type, python_default(column)

    def _served(self, name: str) -> Served:
        column = self.columns[name]
        found = served(column.type)
        if found is None:
            raise self._refuse(
                f"{self.table.name}.{column.name} has the type {column.type!r}, which is not "
                "served: leave it out of fields, or declare a Table or view that has the column "
                "with a type of the database"
            )
        return found

    def _keep(self, name: str, column: Column[Any], found: Served, *, is_key: bool = False) -> None:
        clause = (
            column.default if column.default is not None and not is_python(column.default) else None
        )
        changed = (
            column.onupdate
            if column.onupdate is not None and not is_python(column.onupdate)
            else None
        )
        self.found.columns.append(
            Column(
                column.name,
                found.column,
                key=name,
                primary_key=is_key,
                nullable=bool(column.nullable),
                autoincrement=is_key and found.options["type"] == "integer",
                default=getattr(clause, "arg", None),
                onupdate=getattr(changed, "arg", None),
                quote=True,
            )
        )
        if column.onupdate is not None and is_python(column.onupdate):
            self.found.onupdate[name] = called(column.onupdate)

    def _add_column(self, name: str, options: Mapping[str, Any]) -> None:
        if name == self.key:
            return  # every document has its id
        column, found = self.columns[name], self._served(name)
        self.found.schema[name] = {**self._options(column), **found.options, **options}
        if found.options["type"] == "uuid":
            self.found.uuids.add(name)
        self._keep(name, column, found)

    def _options(self, column: Column[Any]) -> dict[str, Any]:
        options: dict[str, Any] = {"nullable": bool(column.nullable), "unique": bool(column.unique)}
        default = python_default(column) or self._own_identity(column)
        if column.computed is not None or (column.identity is not None and column.identity.always):
            options |= {"read_only": True, "default": LEFT_TO_DATABASE}
        elif default is not None:
            options["default"] = default
        elif column.default is not None or column.server_default is not None:
            options["default"] = LEFT_TO_DATABASE
        elif not column.nullable:
            options["required"] = True
        return options

    def _own_identity(self, column: Column[Any]) -> Callable[[], Any] | None:
        """What the mapper writes into a discriminator, without which no row is of a class."""
        if self.mapper is None or self.mapper.polymorphic_on is not column:
            return None
        identity = self.mapper.polymorphic_identity
        return None if identity is None else constant(identity)

    def _add_relationship(
        self, name: str, link: RelationshipProperty[Any], options: Mapping[str, Any]
    ) -> None:
        where = f"relationship {name!r}"
        target = link.mapper.local_table
        if link.direction is MANYTOMANY:
            raise self._refuse(
                f"{where} goes through the table {link.secondary}, which is not served yet: make "
                "a resource of that table, and relationships to it"
            )
        pairs = link.local_remote_pairs or []
        if len(pairs) != 1 or not isinstance(target, Table):
            raise self._refuse(f"{where} is joined by more than one column, and is not served")
        local, remote = pairs[0]
        placeholder = f"{TABLE}{target.fullname}"
        if link.direction is MANYTOONE:
            self._add_reference(name, local, remote, placeholder, options)
            return
        key = link.mapper.get_property_by_column(remote).key
        if local is not self.columns[self.key]:
            raise self._refuse(f"{where} does not begin at the primary key, and is not served")
        self.found.relationships[name] = {
            "type": "hasMany" if link.uselist else "hasOne",
            "target": placeholder,
            "foreign_key": key,
        }

    def _add_reference(
        self, name: str, local: Any, remote: Any, target: str, options: Mapping[str, Any]
    ) -> None:
        key = self.names.get(local)
        if key is None or key == self.key:
            raise self._refuse(f"relationship {name!r} has no column of its own, and is not served")
        if not remote.primary_key:
            raise self._refuse(
                f"relationship {name!r} refers to {remote.table.name}.{remote.name}, which is not "
                "the primary key: it is not served"
            )
        found = self._served(key)
        if found.options["type"] == "uuid":
            self.found.uuids.add(key)
        if key in self.found.schema:
            self.found.schema[key] = {**self.found.schema[key], "type": "id"}
            self.found.relationships[name] = {
                "type": "belongsTo",
                "target": target,
                "foreign_key": key,
                **self._on_delete(key, local, remote),
            }
            return
        own = {
            "type": "id",
            "belongs_to": target,
            "as_": name,
            **self._on_delete(key, local, remote),
        }
        self.found.schema[key] = {**self._options(local), **own, **options}
        self._keep(key, local, found)

    def _on_delete(self, name: str, local: Any, remote: Any) -> dict[str, Any]:
        """What the database does with a record when the one that it refers to is deleted."""
        for key in local.foreign_keys:
            rule = _RULES.get(str(key.ondelete).upper())
            if key.column is remote and rule is not None:
                self.found.deleting.add(name)
                return {"on_delete": rule}
        return {}

    def _check_the_rest(self) -> None:
        """Whether records can be made without the columns that were not named."""
        for name, column in self.columns.items():
            is_left_out = name != self.key and name not in self.found.schema
            is_discriminator = self._own_identity(column) is not None
            is_filled = column.default is not None or column.server_default is not None
            is_made = is_filled or column.computed is not None or column.identity is not None
            is_made = is_made or is_discriminator
            if is_left_out and not column.nullable and not is_made:
                raise self._refuse(
                    f"{self.table.name}.{column.name} is NOT NULL and has no default, so no record "
                    f"could be made without it: name {name!r} in fields, or in hidden=[...] for "
                    "hooks to fill in"
                )
            is_models = column.default is not None or column.onupdate is not None
            if is_left_out and (is_models or is_discriminator):
                self._add_column(name, {"hidden": True})  # the model fills it in, as it always does
