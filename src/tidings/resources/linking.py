"""Writing to-many relationships: the records that hold the keys are what is written.

Of a hasMany or hasOne these are the related records, which are patched; of a manyToMany those that
link the two, which are made and deleted. Each is a write of its own, with the permission, policies
and hooks of such a request, in the transaction of the record that has the relationship.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from tidings.errors import (
    Conflict,
    InvalidRequest,
    Problem,
    RelatedNotFound,
    RequestError,
    ValidationFailed,
)
from tidings.filters import Atom, all_of
from tidings.resources.context import operation_context
from tidings.resources.drafts import Draft, Given, Link, Members, Mode, read_draft
from tidings.resources.includes import IncludeTree
from tidings.resources.refusals import key_or_none
from tidings.resources.scopes import TransactionLike, given_unit
from tidings.resources.visibility import View
from tidings.schema import Relationship
from tidings.storage import Connection, Row, UnitOfWork
from tidings.storage.lists import chunks

if TYPE_CHECKING:
    from tidings.resources.operations import Operations

MAX_LINKS: Final = 500
"""So many related records may one request take up or let go."""
MAX_PAIRS: Final = 2 * MAX_LINKS
"""So many records may link them: more than one may link the same two."""


class Linking:
    """Plans what a draft's members mean, and writes it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def plan(
        self, view: View, given: Given, record: Row, transaction: TransactionLike
    ) -> None:
        """Note which related records are to be written, after asking for permission for each.

        Members that are those that the record has already, as a document shows them, are no write.

        Raises:
            RelatedNotFound: some record to take up is not there for the asker.
            InvalidRequest: ``TOO_MANY_MEMBERS``.
        """
        # Who may not query the related records does not learn which of them are members.
        tree: IncludeTree = {name: {} for name in given.draft.members}
        uow = given_unit(transaction)
        await self._operations.visibility.permit_related(view, include=tree, uow=uow)
        given.present = await self._present(view, given, record, transaction)
        links: list[Link] = []
        for name, members in given.draft.members.items():
            relationship = view.resource.relationships[name]
            joining, leaving = self._difference(view, relationship, members, given)
            if len(links) + len(joining) + len(leaving) > MAX_LINKS:
                raise _too_many(name)
            holder = self._operations.visibility.view(relationship.holder, view.auth)
            find = self._pairs if relationship.through else self._children
            async with self._operations.scopes.reading(transaction, snapshot=False) as connection:
                links += await find(
                    connection, holder, relationship, record, joining, leaving, members.mode
                )
        links.sort(key=_order)
        for link in links:
            await self._permit(link, link.record, transaction)
        given.links = links

    async def _children(
        self,
        connection: Connection,
        holder: View,
        relationship: Relationship,
        record: Row,
        joining: list[Any],
        leaving: list[Any],
        mode: Mode,
    ) -> list[Link]:
        """The related records whose key is to be set, or to be emptied."""
        column = relationship.foreign_key
        links = []
        for keys, value in ((joining, record["id"]), (leaving, None)):
            for key in keys:
                row, _ = await self._operations.seen(connection, holder, key)
                is_member = row is not None and row[column] == record["id"]
                if is_member if value is not None else not is_member and mode == "remove":
                    continue
                draft = Draft({column: None if value is None else str(value)})
                given = _read(holder, draft)
                owner = record["id"]
                links.append(Link(relationship, "patch", holder, owner, key, row, given))
        return links

    async def _pairs(
        self,
        connection: Connection,
        holder: View,
        relationship: Relationship,
        record: Row,
        joining: list[Any],
        leaving: list[Any],
        _mode: Mode,
    ) -> list[Link]:
        """The records that link the two: to be made, or to be deleted."""
        near, other = relationship.foreign_key, relationship.other_key
        known = await self._visible(connection, holder, relationship, [*joining, *leaving])
        if not known.issuperset(joining):
            raise RelatedNotFound([relationship.name])
        leaving = [key for key in leaving if key in known]
        own = Atom(near, "=", record["id"])
        visible = self._operations.visibility.condition(holder)
        where = all_of([own, Atom(other, "in", (*joining, *leaving)), visible])
        rows = await self._operations.store.find(
            connection, holder.resource, where, limit=MAX_PAIRS + 1
        )
        if len(rows) > MAX_PAIRS:
            raise _too_many(relationship.name)
        present = {row[other] for row in rows}
        gone = set(leaving)
        links = [
            Link(relationship, "delete", holder, record["id"], row["id"], row, None)
            for row in rows
            if row[other] in gone
        ]
        for key in joining:
            if key not in present:
                draft = Draft({near: str(record["id"]), other: str(key)})
                given = _read(holder, draft)
                given.settle(holder, None)
                owner = record["id"]
                links.append(Link(relationship, "post", holder, owner, key, None, given))
        return links

    async def _visible(
        self, connection: Connection, holder: View, relationship: Relationship, keys: list[Any]
    ) -> set[Any]:
        """Those of the related records that the asker may see: others are not there."""
        target = View(holder.registry, holder.registry[relationship.target], holder.auth)
        condition = self._operations.visibility.condition(target)
        found: set[Any] = set()
        for some in chunks(keys):
            where = all_of([Atom("id", "in", tuple(some)), condition])
            rows = await self._operations.store.find(connection, target.resource, where)
            found |= {row["id"] for row in rows}
        return found

    async def has_moved(self, view: View, given: Given, record: Row, uow: UnitOfWork) -> bool:
        """Whether members that are to be replaced are others than when that was planned."""
        if not given.present:
            return False
        return await self._present(view, given, record, uow) != given.present

    async def write(self, view: View, given: Given, uow: UnitOfWork) -> None:
        """Write what was planned."""
        if uow.budget is not None:
            uow.budget.take(sum(link.method != "delete" for link in given.links))
        for link in given.links:
            try:
                await self._write(link, uow)
            except RequestError as error:
                raise _named(error, link.relationship.name) from None
        await self._tell_others(view, given, uow)

    async def _write(self, link: Link, uow: UnitOfWork) -> None:
        operations = self._operations
        before = None
        if link.method != "post":
            before, _ = await operations.seen(uow.connection, link.view, link.key, lock=True)
            if link.is_leaving and not link.is_held_by(before):
                return  # somebody else has taken it away, or up
            if before != link.record:
                await self._permit(link, before, uow)
        context = operation_context(
            link.view.resource,
            link.method,
            link.view.auth,
            record_id=None if link.method == "post" else link.key,
            record=before,
            values=None if link.given is None else link.given.values,
            uow=uow,
        )
        if link.method == "post" and await self._is_there(link, uow):
            return  # somebody else has taken it up
        if link.given is None:
            assert before is not None
            await operations.remove(link.view, before, context)
        elif before is None:
            await operations.create(link.view, link.view.resource.new_id(), link.given, context)
        else:
            await operations.change(link.view, before, link.given, context)

    async def _is_there(self, link: Link, uow: UnitOfWork) -> bool:
        relationship = link.relationship
        pair = [
            Atom(relationship.foreign_key, "=", link.owner),
            Atom(relationship.other_key, "=", link.key),
        ]
        resource = self._operations.registry[relationship.through]
        found = await self._operations.store.find(uow.connection, resource, all_of(pair), limit=1)
        return bool(found)

    async def _tell_others(self, view: View, given: Given, uow: UnitOfWork) -> None:
        """Say of the records on the other side of a manyToMany, and of those from which a hasMany
        took records, that their side of it changed.
        """
        others: dict[tuple[str, Any], None] = {}
        for link in given.links:
            relationship = link.relationship
            if not relationship.through and not link.is_leaving and link.record is not None:
                former = link.record[relationship.foreign_key]
                if former is not None and former != link.owner:
                    others[view.resource.name, former] = None
            if relationship.through and self._has_inverse(relationship):
                pair = link.record if link.given is None else link.given.values
                assert pair is not None
                others[relationship.target, pair[relationship.other_key]] = None
        for name, key in others:
            target = self._operations.registry[name]
            row = await self._operations.store.get(uow.connection, target, key)
            if row is not None:
                effect = await self._operations.effects.prepare(uow, target, row, {})
                await effect.settle("patch", row)

    def _has_inverse(self, relationship: Relationship) -> bool:
        target = self._operations.registry[relationship.target]
        return any(
            (one.through, one.foreign_key) == (relationship.through, relationship.other_key)
            for one in target.relationships.values()
        )

    async def _permit(self, link: Link, record: Row | None, transaction: TransactionLike) -> None:
        view, given = link.view, link.given
        key = None if link.method == "post" else link.key
        await self._operations.permit(view, link.method, key, record, given, transaction)
        if record is None and link.method == "patch":
            raise RelatedNotFound([link.relationship.name])
        if given is None:
            return
        try:
            if record is not None:
                given.compare(view.resource, record)
            given.raise_if_wrong(view.resource.name)
            if link.method == "post":
                await self._operations.check_given(view, given, None, transaction, is_whole=True)
        except RequestError as error:
            raise _named(error, link.relationship.name) from None

    async def _present(
        self, view: View, given: Given, record: Row, transaction: TransactionLike
    ) -> dict[str, list[Any]]:
        """The members of the relationships that are to be replaced, as a document would show
        them.
        """
        tree: IncludeTree = {
            n: {} for n, one in given.draft.members.items() if one.mode == "replace"
        }
        if not tree:
            return {}
        uow = given_unit(transaction)
        await self._operations.visibility.permit_related(view, include=tree, uow=uow)
        async with self._operations.scopes.reading(transaction, snapshot=True) as connection:
            shown = await self._operations.load(connection, view, [record], tree)
        place = (view.resource.name, record["id"])
        return {name: sorted(shown.members.get((*place, name), ())) for name in tree}

    def _difference(
        self, view: View, relationship: Relationship, members: Members, given: Given
    ) -> tuple[list[Any], list[Any]]:
        """The ids of what joins and of what leaves."""
        target = view.registry[relationship.target]
        keys: dict[Any, None] = {}
        for text in members.keys:
            key = key_or_none(target, text)
            if key is not None:
                keys[key] = None
            elif members.mode != "remove":  # what cannot be there is not there to be removed
                raise RelatedNotFound([relationship.name])
        if members.mode == "add":
            return list(keys), []
        if members.mode == "remove":
            return [], list(keys)
        present = given.present[relationship.name]
        return _without(keys, present), _without(present, keys)


def _order(link: Link) -> tuple[str, str, bool, str]:
    """All lock them in the same order; of two, one has to let go before another is taken up."""
    waits = link.relationship.kind == "hasOne" and not link.is_leaving
    return link.view.resource.name, link.method, waits, str(link.key)


def _too_many(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"at most {MAX_LINKS} related records are changed by one request",
        code="TOO_MANY_MEMBERS",
        field=name,
    )


def _without(keys: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    those = set(others)
    return [key for key in keys if key not in those]


def _read(view: View, draft: Draft) -> Given:
    return read_draft(view, lambda _: draft)


def _named(error: RequestError, name: str) -> RequestError:
    """What is wrong with a related record, told of the relationship that the request has."""
    if isinstance(error, ValidationFailed):
        problems = [Problem(name, f"{p.field} {p.message}", p.code) for p in error.problems]
        return ValidationFailed(problems, resource=error.resource)
    if isinstance(error, RelatedNotFound):
        return RelatedNotFound([name])
    error.field = name
    return error


def changed_meanwhile(names: Iterable[str]) -> Conflict:
    """Others write the same relationship all the time."""
    return Conflict(
        "The relationship has been changed by somebody else meanwhile; read it and try again",
        code="CHANGED_MEANWHILE",
        field=next(iter(names)),
    )
