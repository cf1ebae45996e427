"""What goes with a record that is deleted: those that refer to it, as their fields declare.

The database could do the same by itself, and nobody would be told. So tidings does it: each record
that goes or changes is a write of its own in the same transaction, of which subscribers are told.
The declaration is the permission: checks and row policies of these records are not asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tidings.errors import Conflict
from tidings.feed import Invalidation
from tidings.filters import EVERYTHING, Atom, Expression
from tidings.resources.context import OperationContext, operation_context
from tidings.schema import Field, ResourceRegistry, ResourceType
from tidings.storage import Row, UnitOfWork

if TYPE_CHECKING:
    from tidings.resources.operations import Operations

MAX_TAKEN: Final = 1_000
"""So many records may go or change with one that is deleted."""


class Deleting:
    """Deletes a record, after those that go with it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._referring = _referring(operations.registry)
        store, names = operations.store, [one.name for one in operations.registry]
        self._silent = {
            name: [other for other in names if store.goes_in_silence(other, name)] for name in names
        }

    async def delete(self, resource: ResourceType, row: Row, context: OperationContext) -> None:
        """Delete a record that is locked, with permission.

        Raises:
            Conflict: ``TOO_MANY_DEPENDENTS``.
            ConstraintViolation: others refer to one of those that would go.
        """
        taken = _Taken(context.transaction)
        taken.add(resource, row)
        # A list of our own, not a function that calls itself: replies to replies go deep.
        stack = [_Step(resource, row, context, self._dependents(resource, row, context, taken))]
        while stack:
            step = stack[-1]
            found = await anext(step.dependents, None)
            if found is None:
                await self._delete(step)
                stack.pop()
                continue
            other, field, locked = found
            own = await self._take(other, field, locked, step.context, taken)
            if own is not None:
                dependents = self._dependents(other, locked, own, taken)
                stack.append(_Step(other, locked, own, dependents))

    async def _delete(self, step: _Step) -> None:
        operations, uow = self._operations, step.context.transaction
        assert uow is not None
        effect = await operations.effects.prepare(uow, step.resource, step.row, None)
        for name in self._silent[step.resource.name]:
            self._invalidate(name, uow)  # the database takes them along, and says nothing
        await operations.store.delete(uow.connection, step.resource, step.row["id"])
        await operations.changed(effect, "delete", None, step.context)

    async def _dependents(
        self, resource: ResourceType, row: Row, context: OperationContext, taken: _Taken
    ) -> AsyncIterator[tuple[ResourceType, Field, Row]]:
        """The records that refer to one that goes, locked, each once."""
        operations, uow = self._operations, context.transaction
        assert uow is not None
        for name, field in self._referring.get(resource.name, ()):
            other = operations.registry[name]
            key: Any = row["id"]
            also: Expression = EVERYTHING
            if field.targets:
                key, also = str(key), Atom(field.type_field, "=", resource.name)
            found = await operations.store.related(
                uow.connection, other, field.name, [key], taken.left + 1, also
            )
            for one in found:
                if (name, one["id"]) in taken.records:
                    continue
                if taken.left < 1 and operations.store.deletes_itself(other, field.name):
                    # Too many to be told one by one: the database takes the rest along.
                    self._invalidate(name, uow)
                    break
                # As it is now: another transaction may have written it since it was found.
                locked = await operations.store.get(uow.connection, other, one["id"], lock=True)
                if (
                    locked is not None
                    and locked[field.name] == key
                    and (not field.targets or locked[field.type_field] == resource.name)
                ):
                    taken.add(other, locked)
                    yield other, field, locked

    def _invalidate(self, name: str, uow: UnitOfWork) -> None:
        """Say that nobody knows what became of a resource, and of what goes with it."""
        waiting, seen = [name], {name}
        while waiting:
            current = waiting.pop()
            uow.record(Invalidation(current))
            for stale in self._operations.effects.stale(current, None, None):
                uow.record(stale)
            names = {other for other, _ in self._referring.get(current, ())} - seen
            seen |= names
            waiting += names

    async def _take(
        self,
        resource: ResourceType,
        field: Field,
        row: Row,
        context: OperationContext,
        taken: _Taken,
    ) -> OperationContext | None:
        """Let go of one that refers, or give the context of its own deletion."""
        operations, uow = self._operations, context.transaction
        assert uow is not None
        if field.on_delete == "restrict":
            # Of several resources no database sees to it.
            raise Conflict(
                f"'{context.resource}' {context.id} is still referred to by other records",
                code="STILL_REFERENCED",
            )
        deletes = field.on_delete == "cascade"
        emptied = {name: None for name in (field.name, field.type_field) if name}
        own = operation_context(
            resource,
            "delete" if deletes else "patch",
            context.auth,
            record_id=row["id"],
            record=row,
            values=None if deletes else dict(emptied),
            uow=uow,
        )
        await operations.hooks.run("before_write", own)
        if deletes:
            return own
        # Hooks may add to it; what the declaration says is not theirs to change.
        values = resource.counted(row, {**(own.values or {}), **emptied})
        effect = await operations.effects.prepare(uow, resource, row, values)
        after = await operations.store.update(uow.connection, resource, row["id"], values)
        await operations.changed(effect, "patch", after, own)
        # By another field it may refer to one that goes, too.
        taken.records.discard((resource.name, row["id"]))
        return None


@dataclass(slots=True)
class _Step:
    """A record that is to be deleted, after those that depend on it."""

    resource: ResourceType
    row: Row
    context: OperationContext
    dependents: AsyncIterator[tuple[ResourceType, Field, Row]]


class _Taken:
    """The records that one deletion has come to."""

    def __init__(self, uow: UnitOfWork | None) -> None:
        self.records: set[tuple[str, Any]] = set()
        self._count = 0
        self._budget = None if uow is None else uow.budget

    @property
    def left(self) -> int:
        return MAX_TAKEN + 1 - self._count

    def add(self, resource: ResourceType, row: Row) -> None:
        self.records.add((resource.name, row["id"]))
        self._count += 1
        if self._budget is not None:
            self._budget.take(1)
        if self.left < 0:
            raise Conflict(
                f"More than {MAX_TAKEN} other records would go or change with it; delete some of "
                "them first",
                code="TOO_MANY_DEPENDENTS",
            )


def _referring(registry: ResourceRegistry) -> Mapping[str, list[tuple[str, Field]]]:
    """By resource, the fields of others that say what becomes of them when a record goes."""
    found: dict[str, list[tuple[str, Field]]] = {}
    for resource in registry:
        for field in resource.fields.values():
            if field.references is not None and field.on_delete != "restrict":
                found.setdefault(field.references, []).append((resource.name, field))
            for target in field.targets:
                found.setdefault(target, []).append((resource.name, field))
    return found
