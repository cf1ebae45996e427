"""Capturing: what triggers have noted of tables, as changes of the resources that they serve.

What tidings has written itself is noted by the triggers as well. It knows more of it than they do
(the values of paths, what a PUT is), so that its own account counts as long as the triggers say
the same of the record.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Table

from tidings.feed import Action, Change, Invalidation, Notice, fold
from tidings.resources.carrying import Carrying
from tidings.resources.effects import Effects
from tidings.schema import RelatedColumn, ResourceType
from tidings.storage import ChangeLog, Connection
from tidings.storage.capture import CapturedRow, Watched
from tidings.storage.capture.triggers import LONG
from tidings.storage.captured_values import (
    Reader,
    captured_as,
    is_real,
    may_be_long,
    parse,
    readers,
)

_log = logging.getLogger("tidings.storage")
_ACTIONS: Final[Mapping[str, Action]] = {"i": "post", "u": "patch", "d": "delete"}
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Face:
    """A resource that a table serves, and how its fields are read from what was noted."""

    resource: ResourceType
    columns: Mapping[str, tuple[str, Reader]]
    """By field: the column in the database, and what makes the field's value of it."""


class Capturing:
    """Knows what is watched of each table, and what its captured rows come to."""

    def __init__(
        self,
        resources: Iterable[ResourceType],
        tables: Mapping[str, Table],
        carrying: Carrying,
        effects: Effects,
        dialect: str,
    ) -> None:
        self._effects = effects
        self._resources: dict[str, ResourceType] = {}
        self._faces: dict[str, list[_Face]] = {}
        self._watched: dict[str, Watched] = {}
        for resource in resources:
            self._resources[resource.name] = resource
            table = tables[resource.name]
            source = table.name if table.schema is None else f"{table.schema}.{table.name}"
            face = _face(resource, table, carrying, effects, dialect)
            self._faces.setdefault(source, []).append(face)
            self._watched[source] = _watched(table, face, self._watched.get(source))

    @property
    def watched(self) -> list[Watched]:
        """The tables, each with all that any of its resources looks at."""
        return list(self._watched.values())

    def resources_of(self, watched: Watched) -> list[str]:
        """The resources that a table serves."""
        return [face.resource.name for face in self._faces[watched.source]]

    def notices(
        self, rows: Sequence[CapturedRow], own: Sequence[Notice], is_one: bool
    ) -> list[Notice]:
        """What captured rows come to, and the notices that tidings has left beside them.

        ``is_one``: they are of one transaction for certain, so that a record that came and went was
        never there.
        """
        log = ChangeLog()
        changes, stale = self._read(rows, is_one=is_one)
        mine = {
            (notice.resource, notice.id): notice
            for notice in own
            if isinstance(notice, Change) and not notice.derived
        }
        bulk = {one.resource for one in own if isinstance(one, Invalidation) and one.paths is None}
        replaced: set[object] = set()
        for key, change in changes.items():
            if key[0] in bulk or (key in mine and _says_the_same(mine[key], change)):
                continue
            replaced.add(key)
            if change is None:
                continue  # made and gone again, by whomever
            log.record(change)
            for notice in self._effects.stale(change.resource, change.before, change.after):
                stale.setdefault(notice)
        for told in own:
            is_own = isinstance(told, Change) and not told.derived
            if not is_own or _key(told) not in replaced:
                log.record(told)
        for notice in stale:
            log.record(notice)
        return log.take()

    def _read(
        self, rows: Sequence[CapturedRow], *, is_one: bool
    ) -> tuple[dict[_Key, Change | None], dict[Invalidation, None]]:
        changes: dict[_Key, Change | None] = {}
        stale: dict[Invalidation, None] = {}
        for row in rows:
            for face in self._faces.get(row.source, ()):
                name = face.resource.name
                try:
                    found = list(_changes(face, row))
                except Exception as error:  # noqa: BLE001  whatever it is, nobody may miss it
                    _log.error("what a trigger noted of %r cannot be read: %s", row.source, error)
                    found = []
                    stale.setdefault(Invalidation(name))
                if row.op == "b":
                    stale.setdefault(Invalidation(name))
                    for notice in self._effects.stale(name, None, None):
                        stale.setdefault(notice)
                for change in found:
                    key = (name, change.id)
                    changes[key] = _folded(changes.get(key), change, is_one=is_one)
        return changes, stale

    async def completed(self, connection: Connection, notices: Sequence[Notice]) -> list[Notice]:
        """The notices with what the paths of changed records lead to, which no trigger can note: as
        it is now. Whatever has changed on the way since has a notice of its own, that it is stale.

        What cannot be known (of a record that is gone, through what is gone with it) is told once
        for all of them: who looks at it is to refetch.
        """
        found = list(notices)
        by_resource: dict[str, dict[int, Change]] = {}
        for place, notice in enumerate(found):
            if not isinstance(notice, Change) or notice.resource not in self._resources:
                continue
            if any("." in name for name in notice.unknown):
                by_resource.setdefault(notice.resource, {})[place] = notice
        for name, changes in by_resource.items():
            related = self._resources[name].related
            for path, column in related.items():
                values = await self._leading(connection, column, changes.values())
                for place, change in changes.items():
                    changes[place] = _with_path(change, column, path, values)
            lost = frozenset[str]()
            for change in changes.values():
                lost |= (change.unknown - change.resynced) & related.keys()
            for place, change in changes.items():
                found[place] = replace(
                    change, unknown=change.unknown | lost, resynced=change.resynced | lost
                )
            if lost:
                found.append(Invalidation(name, lost))
        return found

    async def _leading(
        self, connection: Connection, column: RelatedColumn, changes: Iterable[Change]
    ) -> dict[Any, Any] | None:
        near = column.hops[0].near
        keys = {
            image[near]
            for change in changes
            for image in (change.before, change.after)
            if image is not None and near in image
        }
        most = self._effects.max_values
        return await self._effects.store.leading_from(
            connection, column, keys - {None}, most + len(keys)
        )


def _with_path(
    change: Change, column: RelatedColumn, path: str, values: Mapping[Any, Any] | None
) -> Change:
    """A change with what a path leads to, where that can be known."""
    near = column.hops[0].near
    images = [image for image in (change.before, change.after) if image is not None]
    # With a record all that refers to it may have gone.
    is_gone = change.after is None and column.hops[0].to_many
    if path not in change.unknown - change.resynced or values is None or is_gone:
        return change
    if any(near not in image for image in images):
        return change
    nothing = () if column.many else None

    def seen(image: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return None if image is None else {**image, path: values.get(image[near], nothing)}

    return replace(
        change,
        before=seen(change.before),
        after=seen(change.after),
        unknown=change.unknown - {path},
    )


def _key(told: Notice) -> object:
    return (told.resource, told.id) if isinstance(told, Change) else None


def _folded(known: Change | None, change: Change, *, is_one: bool) -> Change | None:
    if known is None:
        return change
    if known.before is None and change.after is None:
        return None if is_one else change
    return fold(known, change)


def _changes(face: _Face, row: CapturedRow) -> Iterator[Change]:
    before, after = _image(face, row.before), _image(face, row.after)
    if before is None and after is None:
        return
    left_out = (image.pop(LONG, frozenset()) for image in (before, after) if image is not None)
    unknown = frozenset(face.resource.related).union(*left_out)
    at = datetime.fromtimestamp(row.added, UTC)

    def change(op: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Change:
        image = new if new is not None else old
        assert image is not None
        return Change(
            face.resource.name, str(image["id"]), _ACTIONS[op], old, new, at, unknown=unknown
        )

    if before is not None and after is not None and before["id"] != after["id"]:
        yield change("d", before, None)
        yield change("i", None, after)
    else:
        yield change("u" if before and after else "d" if before else "i", before, after)


def _image(face: _Face, text: str | None) -> dict[str, Any] | None:
    """A row as a trigger has written it down, as a record's image."""
    if text is None:
        return None
    values = parse(text)
    long = set(str(values.get(LONG) or "").split("|"))
    image = {
        name: None if values.get(column) is None else read(values[column])
        for name, (column, read) in face.columns.items()
        if column not in long
    }
    image[LONG] = {name for name, (column, _) in face.columns.items() if column in long}
    return image


def _says_the_same(own: Change, captured: Change | None) -> bool:
    if captured is None:
        return False
    return _same(own.before, captured.before) and _same(own.after, captured.after)


def _same(own: Mapping[str, Any] | None, captured: Mapping[str, Any] | None) -> bool:
    if own is None or captured is None:
        return own is captured
    return all(own[name] == captured[name] for name in own.keys() & captured.keys())


def _face(
    resource: ResourceType, table: Table, carrying: Carrying, effects: Effects, dialect: str
) -> _Face:
    chosen = carrying.columns(resource)
    if chosen is None:
        names = set(resource.column_names)
    else:
        names = {name for name in chosen if "." not in name} | effects.columns_of(resource.name)
        names |= {column.hops[0].near for column in resource.related.values()}
    read = readers(resource, table, dialect)
    columns = {
        name: (str(table.c[name].name), read[name])
        for name in resource.column_names
        if name in names or name == "id"
    }
    return _Face(resource, columns)


def _watched(table: Table, face: _Face, known: Watched | None) -> Watched:
    columns = dict.fromkeys(known.columns if known else ())
    columns |= dict.fromkeys(column for column, _ in face.columns.values())
    reals = {str(table.c[name].name) for name in face.columns if is_real(table.c[name].type)}
    longs = {str(table.c[name].name) for name in face.columns if may_be_long(table.c[name].type)}
    forms = {
        str(table.c[name].name): form
        for name in face.columns
        if (form := captured_as(table.c[name].type)) is not None
    }
    existing = table.info.get("existing", table)
    return Watched(
        table.schema,
        table.name,
        str(table.c.id.name),
        tuple(columns),
        tuple(str(column.name) for column in existing.c),
        frozenset(reals | (known.reals if known else set())),
        frozenset(longs | (known.longs if known else set())),
        {**(known.forms if known else {}), **forms},
    )
