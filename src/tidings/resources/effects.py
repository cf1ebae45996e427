"""Effects: what a write changes for filters through relationships, on its own record and beyond.

The images of a change carry the values that the record's paths (``category.name``) lead to. And a
change of a related record changes these values for every record whose paths lead through it: each
gets a *derived* change. All of it is read inside the write's own transaction, some before the
write and some after, so that it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidings.feed import Action, Change, Invalidation
from tidings.resources.carrying import Carrying
from tidings.schema import RelatedColumn, ResourceRegistry, ResourceType
from tidings.storage import Borrowed, Chain, RecordStore, RelatedStore, Row, UnitOfWork

MAX_TOUCHED: Final = 1_000
"""How many records one write may touch through their paths before they are told to refetch."""
MAX_VALUES: Final = 5_000
"""How many related rows are read for to-many paths: of one record, or of all that are touched."""


@dataclass(frozen=True, slots=True)
class _Use:
    """A place where a path of some resource leads through, or ends at, rows of another one.

    ``columns`` are those of such a row that the path goes by. ``enforced``: the database lets no
    record refer to a row that does not exist.
    """

    path: str
    chain: Chain
    columns: frozenset[str]
    enforced: bool


@dataclass(frozen=True, slots=True)
class _Dependent:
    """A resource whose paths use rows of another one."""

    resource: ResourceType
    uses: tuple[_Use, ...]


@dataclass(slots=True)
class _Touched:
    """Records whose values a write may change: their rows, and their values before.

    ``rows`` is None where they are too many. ``late`` are chains that could not be followed
    before the write, since the database gave the new row its id.
    """

    resource: ResourceType
    paths: frozenset[str]
    rows: dict[Any, Row] | None
    before: Borrowed
    late: frozenset[Chain] = frozenset()


class Effects:
    """Knows which resources' paths lead where; `prepare` it, write, then `Effect.settle` it."""

    def __init__(self, registry: ResourceRegistry, store: RecordStore, carrying: Carrying) -> None:
        self.carrying = carrying
        self.store = RelatedStore(store)
        self.max_touched = MAX_TOUCHED
        self.max_values = MAX_VALUES
        self._volatile = store.volatile
        self._dependents = _dependents(registry)

    async def prepare(
        self, uow: UnitOfWork, resource: ResourceType, before: Row | None, values: Row | None
    ) -> Effect:
        """Read what must be read before the write.

        ``before`` is the record's row, locked, None where it is to be made; ``values`` is what
        will be written, None where it is to be deleted.
        """
        effect = Effect(self, uow, resource, before)
        if resource.related and before is not None:
            effect.own = await self.values(uow, resource, [before["id"]])
            starts = {column.hops[0].near for column in resource.related.values()}
            is_volatile = bool(values and self._volatile(resource.name) & starts)
            effect.is_moving = is_volatile or _moves(resource, before, values)
        for dependent in self._dependents.get(resource.name, ()):
            volatile = self._volatile(resource.name) if before is not None else frozenset()
            uses = [
                use
                for use in dependent.uses
                if _concerns(use, before, values) or (values and volatile & use.columns)
            ]
            if uses:
                effect.is_moving = effect.is_moving or dependent.resource.name == resource.name
                effect.touched.append(await self._touched(effect, dependent, uses, values))
        return effect

    def columns_of(self, resource: str) -> frozenset[str]:
        """The columns of this resource's rows that paths of others go by."""
        uses = (use for one in self._dependents.get(resource, ()) for use in one.uses)
        return frozenset[str]().union(*(use.columns for use in uses))

    def stale(
        self, resource: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> Iterator[Invalidation]:
        """What others' paths may come to by a write that is over, and was not tidings' own: what
        they were is not known any more. Neither image: any write.
        """
        for dependent in self._dependents.get(resource, ()):
            paths = frozenset(
                use.path
                for use in dependent.uses
                if (before is None and after is None) or _concerns(use, before, after)
            )
            if paths:
                yield Invalidation(dependent.resource.name, paths)

    async def values(self, uow: UnitOfWork, resource: ResourceType, ids: Iterable[Any]) -> Borrowed:
        """The values of the paths of these records, as the transaction sees them now."""
        return await self.store.values(uow.connection, resource, ids, self.max_values)

    async def reached(
        self, uow: UnitOfWork, resource: ResourceType, chain: Chain, keys: Iterable[Any]
    ) -> list[Row] | None:
        """The records from which a chain leads to rows with these keys; None if too many."""
        return await self.store.reach(uow.connection, resource, chain, keys, self.max_touched)

    async def _touched(
        self, effect: Effect, dependent: _Dependent, uses: list[_Use], values: Row | None
    ) -> _Touched:
        """The records that the paths lead from to the row as it is or as it will be."""
        paths = frozenset(use.path for use in uses)
        touched = _Touched(dependent.resource, paths, {}, Borrowed())
        rows: dict[Any, Row] = {}
        too_many = False
        for chain in dict.fromkeys(use.chain for use in uses):
            keys = _keys(chain, effect.before, values)
            if keys is None:
                touched.late |= {chain}
                continue
            found = await self.reached(effect.uow, dependent.resource, chain, keys) if keys else []
            # All chains are followed to their end, for the sake of the locks.
            too_many = too_many or found is None
            rows.update((row["id"], row) for row in found or ())
        if effect.before is not None and dependent.resource.name == effect.resource.name:
            rows.pop(effect.before["id"], None)  # its own change tells
        if too_many or len(rows) > self.max_touched:
            touched.rows = None
        elif rows:
            touched.before = await self.values(effect.uow, dependent.resource, rows)
            touched.rows = None if touched.before.unknown else rows
        return touched


class Effect:
    """What one write changes."""

    def __init__(
        self, effects: Effects, uow: UnitOfWork, resource: ResourceType, before: Row | None
    ) -> None:
        self.uow = uow
        self.resource = resource
        self.before = before
        self.own = Borrowed()
        self.is_moving = before is None
        """Whether the write may change the values of its own record."""
        self.touched: list[_Touched] = []
        self._effects = effects

    async def settle(self, action: Action, after: Row | None) -> None:
        """Read what must be read after the write, and record all changes.

        ``after`` is the record's row now, None where it was deleted.
        """
        await self._record_own(action, after)
        for touched in self.touched:
            if touched.rows is None or await self._found_late(touched, after):
                self._record_invalidation(touched)
            elif touched.rows:
                await self._record_derived(touched, touched.rows)

    async def _record_own(self, action: Action, after: Mapping[str, Any] | None) -> None:
        row = after if after is not None else self.before
        assert row is not None
        key, unknown = row["id"], self.own.unknown
        image = self._effects.carrying.image
        before = None if self.before is None else image(self.resource, self.before)
        after = None if after is None else image(self.resource, after)
        if self.resource.related:
            if before is not None:
                before = {**self.own.rows[key], **before}
            if after is not None:
                now = self.own
                if self.is_moving:
                    now = await self._effects.values(self.uow, self.resource, [key])
                    unknown |= now.unknown
                after = {**now.rows[key], **after}
        change = Change(self.resource.name, str(key), action, before, after, unknown=unknown)
        self.uow.record(change)

    async def _record_derived(self, touched: _Touched, rows: dict[Any, Row]) -> None:
        now = await self._effects.values(self.uow, touched.resource, rows)
        if now.unknown:
            self._record_invalidation(touched)
            return
        for key, row in rows.items():
            before, after = touched.before.rows[key], now.rows.get(key)
            if before != after:
                image = self._effects.carrying.image(touched.resource, row)
                self.uow.record(_derived(touched.resource, image, before, after))

    def _record_invalidation(self, touched: _Touched) -> None:
        self.uow.record(Invalidation(touched.resource.name, touched.paths))

    async def _found_late(self, touched: _Touched, after: Row | None) -> bool:
        """Whether records referred to a new row before it was there."""
        for chain in touched.late:
            assert after is not None
            keys = [after[chain[-1].far]]
            found = await self._effects.reached(self.uow, touched.resource, chain, keys)
            if found or found is None:
                return True
        return False


def _derived(
    resource: ResourceType, row: Mapping[str, Any], before: Row, after: Row | None
) -> Change:
    """The change of a record by that of a related one; the database itself may delete it, too."""
    return Change(
        resource.name,
        str(row["id"]),
        "delete" if after is None else "patch",
        {**row, **before},
        None if after is None else {**row, **after},
        derived=True,
    )


def _concerns(
    use: _Use, before: Mapping[str, Any] | None, values: Mapping[str, Any] | None
) -> bool:
    """Whether a write of a row can matter to a path that leads there."""
    if before is None:
        return not use.enforced
    if values is None:
        return True
    return any(name in values and values[name] != before[name] for name in use.columns)


def _moves(resource: ResourceType, before: Row, values: Row | None) -> bool:
    """Whether an update changes the keys that the record's own paths begin with."""
    starts = {column.hops[0].near for column in resource.related.values()}
    return any(before[name] != value for name, value in (values or {}).items() if name in starts)


def _keys(chain: Chain, before: Row | None, values: Row | None) -> set[Any] | None:
    """By what the row is and will be referred to; None where the database has yet to say."""
    far = chain[-1].far
    if before is None and values is not None and far not in values:
        return None
    return {row[far] for row in (before, values) if row is not None and far in row} - {None}


def _dependents(registry: ResourceRegistry) -> Mapping[str, list[_Dependent]]:
    """By resource, those whose paths use its rows."""
    found: dict[str, list[_Dependent]] = {}
    for resource in registry:
        uses: dict[str, list[_Use]] = {}
        for column in resource.related.values():
            for target, use in _uses(registry, resource, column):
                uses.setdefault(target, []).append(use)
        for target, those in uses.items():
            found.setdefault(target, []).append(_Dependent(resource, tuple(those)))
    return found


def _uses(
    registry: ResourceRegistry, resource: ResourceType, column: RelatedColumn
) -> Iterator[tuple[str, _Use]]:
    near = resource
    onwards = [*(hop.near for hop in column.hops[1:]), column.column]
    for place, (hop, onward) in enumerate(zip(column.hops, onwards, strict=True)):
        key = near.fields.get(hop.near)
        enforced = not hop.to_many and key is not None and key.constraint
        chain = column.hops[: place + 1]
        yield hop.resource, _Use(column.path, chain, frozenset({hop.far, onward}), enforced)
        near = registry[hop.resource]
