"""What an application says of its own writes: ``api.changed(...)``, and capture by events."""

from __future__ import annotations

import enum
from collections.abc import Coroutine, Mapping
from typing import Any, Final, overload

from sqlalchemy import Connection, Table, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from tidings.errors import ConfigurationError, NotFound
from tidings.feed import Action, Change, Invalidation, Notice
from tidings.resources import Operations
from tidings.schema import ResourceType, ValueProblem
from tidings.storage import ChangeLog, Keeps
from tidings.storage.core import OWN
from tidings.storage.outbox import outbox_rows

_TOLD: Final = "tidings_told"


class Changed:
    """Writes what an application says into the outbox, within the application's transaction."""

    def __init__(self, operations: Operations, tables: Mapping[str, Table], outbox: Keeps) -> None:
        self._operations = operations
        self._tables = tables
        self._outbox = outbox

    @overload
    def __call__(
        self,
        resource: str,
        before: object,
        after: object,
        transaction: AsyncSession | AsyncConnection,
    ) -> Coroutine[Any, Any, None]: ...

    @overload
    def __call__(
        self, resource: str, before: object, after: object, transaction: Session | Connection
    ) -> None: ...

    def __call__(
        self, resource: str, before: object, after: object, transaction: object
    ) -> Coroutine[Any, Any, None] | None:
        notices = self._notices(resource, before, after)
        if isinstance(transaction, AsyncSession | AsyncConnection):
            return self._keep_async(notices, transaction)
        if isinstance(transaction, Session):
            transaction.flush()
            self.keep(notices, transaction.connection())
        elif isinstance(transaction, Connection):
            self.keep(notices, transaction)
        else:
            raise ConfigurationError(
                "changed(transaction=...) takes a Session, an AsyncSession, a Connection or an "
                f"AsyncConnection, not {type(transaction).__name__}"
            )
        return None

    def keep(self, notices: list[Notice], connection: Connection) -> None:
        """Write notices within the transaction that a connection is in."""
        for clause, values in self._outbox.clauses(outbox_rows(notices)):
            connection.execute(clause, values)

    async def _keep_async(
        self, notices: list[Notice], transaction: AsyncSession | AsyncConnection
    ) -> None:
        if isinstance(transaction, AsyncSession):
            await transaction.flush()
            connection = await transaction.connection()
        else:
            connection = transaction
        await connection.run_sync(lambda bound: self.keep(notices, bound))

    def _notices(self, name: str, before: object, after: object) -> list[Notice]:
        resource = self._operations.registry.get(name)
        if resource is None:
            raise NotFound(f"There is no resource {name!r}", code="RESOURCE_NOT_FOUND")
        if before is None and after is None:
            return [Invalidation(name), *self._operations.effects.stale(name, None, None)]
        old, new = self._image(resource, before), self._image(resource, after)
        image = new if new is not None else old
        assert image is not None
        action: Action = "post" if old is None else "delete" if new is None else "patch"
        unknown = self._unknown(resource, old) | self._unknown(resource, new)
        change = Change(name, str(image["id"]), action, old, new, unknown=unknown)
        log = ChangeLog()
        log.record(change)
        if old is not None and new is not None and old["id"] != new["id"]:
            log.clear()
            log.record(Change(name, str(old["id"]), "delete", old, None, unknown=unknown))
            log.record(Change(name, str(new["id"]), "post", None, new, unknown=unknown))
        for notice in self._operations.effects.stale(name, *_whole(resource, old, new)):
            log.record(notice)
        return log.take()

    def _unknown(self, resource: ResourceType, image: Mapping[str, Any] | None) -> frozenset[str]:
        carried = self._operations.effects.carrying.columns(resource)
        needed = frozenset(resource.column_names) if carried is None else carried
        missing = frozenset() if image is None else needed - image.keys()
        return frozenset(resource.related) | missing

    def _image(self, resource: ResourceType, given: object) -> dict[str, Any] | None:
        """A record as it was given: a mapping by field, or an object of the model."""
        if given is None:
            return None
        image: dict[str, Any] = {}
        for name in resource.column_names:
            found, value = self._value(resource, given, name)
            if not found:
                continue
            try:
                image[name] = _cast(resource, name, value)
            except ValueProblem as problem:
                raise ConfigurationError(
                    f"changed({resource.name!r}): {name!r} {problem.message}"
                ) from None
        if image.get("id") is None:
            raise ConfigurationError(f"changed({resource.name!r}): give the record's id as well")
        return image

    def _value(self, resource: ResourceType, given: object, name: str) -> tuple[bool, Any]:
        names = [name]
        if name == "id":
            names.append(self._tables[resource.name].info.get("key", name))
        for one in names:
            if isinstance(given, Mapping):
                if one in given:
                    return True, given[one]
            elif one in getattr(given, "__dict__", {}):
                # Not getattr: what is not loaded would be loaded now, after the write.
                return True, vars(given)[one]
        return False, None


def _whole(
    resource: ResourceType, old: dict[str, Any] | None, new: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Images in which what was not given differs: it may have changed."""
    if old is None or new is None:
        return old, new
    names = resource.column_names
    return (
        {name: old.get(name, _NOT_GIVEN) for name in names},
        {name: new.get(name) if name in new else object() for name in names},
    )


_NOT_GIVEN: Final = object()


def _cast(resource: ResourceType, name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, enum.Enum):
        value = value.value if isinstance(value.value, str) else value.name
    return resource.cast_id(value) if name == "id" else resource.fields[name].cast(value)


def watch_events(engine: AsyncEngine, tables: Mapping[str, Table], changed: Changed) -> None:
    """Tell of every statement of SQLAlchemy's on these tables that it was: no more is known of it.

    One `Invalidation` per resource and transaction. Statements in text are not seen.
    """
    resources: dict[str, list[str]] = {}
    for name, table in tables.items():
        full = table.name if table.schema is None else f"{table.schema}.{table.name}"
        resources.setdefault(full, []).append(name)

    @event.listens_for(engine.sync_engine, "after_execute")
    def after_execute(
        connection: Connection, clause: Any, _many: Any, _params: Any, _options: Any, _result: Any
    ) -> None:
        if not getattr(clause, "is_dml", False) or connection.info.get(OWN):
            return
        table = getattr(clause.table, "fullname", None)
        told = connection.info.setdefault(_TOLD, (None, set()))
        transaction = connection.get_nested_transaction() or connection.get_transaction()
        if told[0] is not transaction:
            told = connection.info[_TOLD] = (transaction, set())
        for name in resources.get(table or "", ()):
            if name not in told[1]:
                told[1].add(name)
                notices = changed._notices(name, None, None)
                changed.keep(notices, connection)
