"""Writing to-many relationships: the related records are what is written, by their foreign keys.

Each of them is a write of its own, with the permission, policies and hooks of a PATCH of that
record, in the transaction of the record that has the relationship.
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
from tidings.resources.context import operation_context
from tidings.resources.drafts import Draft, Given, Link, Members, read_draft
from tidings.resources.includes import IncludeTree
from tidings.resources.refusals import key_or_none
from tidings.resources.scopes import TransactionLike
from tidings.resources.visibility import View
from tidings.schema import Relationship
from tidings.storage import Row, UnitOfWork

if TYPE_CHECKING:
    from tidings.resources.operations import Operations

MAX_LINKS: Final = 500
"""So many related records may one request take up or let go."""


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
        given.present = await self._present(view, given, record, transaction)
        links: list[Link] = []
        for name, members in given.draft.members.items():
            relationship = view.resource.relationships[name]
            joining, leaving = self._difference(view, relationship, members, given)
            if len(links) + len(joining) + len(leaving) > MAX_LINKS:
                raise InvalidRequest(
                    f"at most {MAX_LINKS} related records are changed by one request",
                    code="TOO_MANY_MEMBERS",
                    field=name,
                )
            target = self._operations.visibility.view(relationship.target, view.auth)
            column = relationship.foreign_key
            async with self._operations.scopes.reading(transaction, snapshot=False) as connection:
                for keys, value in ((joining, record["id"]), (leaving, None)):
                    for key in keys:
                        row, _ = await self._operations.seen(connection, target, key)
                        is_member = row is not None and row[column] == record["id"]
                        if value is not None:
                            is_done = is_member
                        else:
                            is_done = not is_member and members.mode == "remove"
                        if is_done:
                            continue
                        draft = Draft({column: None if value is None else str(value)})
                        links.append(Link(name, target, key, row, _read(target, draft)))
        links.sort(key=lambda link: (link.view.resource.name, str(link.key)))
        for link in links:
            await self._permit(link, link.record, transaction)
        given.links = links

    async def has_moved(self, view: View, given: Given, record: Row, uow: UnitOfWork) -> bool:
        """Whether members that are to be replaced are others than when that was planned."""
        if not given.present:
            return False
        return await self._present(view, given, record, uow) != given.present

    async def write(self, given: Given, uow: UnitOfWork) -> None:
        """Write what was planned."""
        for link in given.links:
            before, _ = await self._operations.seen(uow.connection, link.view, link.key, lock=True)
            if before != link.record:
                await self._permit(link, before, uow)
            if before is None:
                raise RelatedNotFound([link.name])
            context = operation_context(
                link.view.resource,
                "patch",
                link.view.auth,
                record_id=link.key,
                record=before,
                values=link.given.values,
                uow=uow,
            )
            try:
                await self._operations.change(link.view, before, link.given, context)
            except RequestError as error:
                raise _named(error, link.name) from None

    async def _permit(self, link: Link, record: Row | None, transaction: TransactionLike) -> None:
        await self._operations.permit(link.view, "patch", link.key, record, link.given, transaction)
        if record is None:
            raise RelatedNotFound([link.name])
        try:
            link.given.raise_if_wrong(link.view.resource.name)
        except RequestError as error:
            raise _named(error, link.name) from None

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
        await self._operations.visibility.permit_related(view, include=tree)
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
