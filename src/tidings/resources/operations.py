"""The operations on resources, one implementation for HTTP and for Python."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from tidings.errors import (
    PermissionDenied,
    RelatedNotFound,
    RequestError,
    Unavailable,
    ValidationFailed,
)
from tidings.feed import Action, Cursor
from tidings.filters import EVERYTHING, Atom, Expression, all_of
from tidings.hooks import HookRegistry
from tidings.identity import TRUSTED, Asker, Trusted
from tidings.resources.budget import ReadBudget, Weights
from tidings.resources.carrying import Carrying
from tidings.resources.context import Method, OperationContext, operation_context
from tidings.resources.deleting import Deleting
from tidings.resources.drafts import Given, MakeDraft, Require, read_any_draft, worked
from tidings.resources.effects import Effect, Effects
from tidings.resources.includes import Included, IncludeLoader, IncludeTree
from tidings.resources.keysets import Keyset
from tidings.resources.linking import Linking, changed_meanwhile
from tidings.resources.permissions import check_permission, is_asked, permit
from tidings.resources.policies import Policies
from tidings.resources.refusals import client_id, explained, key_or_none, not_found, referred
from tidings.resources.results import Found, Page, Selection
from tidings.resources.scopes import Scopes, TransactionLike, given_unit, step
from tidings.resources.setting import still_stored, stored
from tidings.resources.visibility import View, Visibility
from tidings.schema import ResourceRegistry, ResourceType, validate_changes, validate_new
from tidings.storage import (
    Connection,
    ConstraintViolation,
    Publisher,
    RecordStore,
    Row,
    UnitOfWork,
)

_log = logging.getLogger("tidings.permissions")
Select = Callable[[View], Selection]
"""Reads what a query asks for in terms of what the asker may know."""
MakeInclude = Callable[[View], IncludeTree]


def _include_nothing(_view: View) -> IncludeTree:
    return {}


class Operations:
    """query, get, post, put, patch and delete, with permissions, hooks and changes.

    Each takes a resource's name and who asks, and reads what it was given in terms of what that
    asker may know, after it has asked for permission. Without ``transaction`` an operation is a
    transaction of its own.
    """

    def __init__(
        self,
        registry: ResourceRegistry,
        store: RecordStore,
        hooks: HookRegistry,
        publisher: Publisher,
    ) -> None:
        self.registry = registry
        self.store = store
        self.hooks = hooks
        self.carrying = Carrying(hooks)
        self.effects = Effects(registry, store, self.carrying)
        self.policies = Policies(registry, store)
        self.visibility = Visibility(registry, self.policies)
        self.weights = Weights()
        self.scopes = Scopes(store.database, publisher)
        self._linking = Linking(self)
        self._deleting = Deleting(self)

    async def query(
        self,
        name: str,
        select: Select,
        *,
        auth: Asker = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Page:
        """The records of one page."""
        view = self.visibility.view(name, auth)
        resource = view.resource
        context = operation_context(resource, "query", auth, uow=given_unit(transaction))
        await permit(resource, context, auth)
        selection = select(view)
        paths = [name for name, _ in selection.sort if "." in name]
        looked = all_of([selection.where, *(Atom(path, "is not null") for path in paths)])
        await self.visibility.permit_related(view, looked, selection.include)
        guards = {path: self.policies.along(resource, path, auth) for path in paths}
        filters = all_of([selection.where, selection.clause])
        selection = replace(selection, where=self.visibility.condition(view, "query", filters))
        in_steps = selection.wanted > self.weights.step(resource.name)
        snapshot = bool(selection.include) or in_steps
        async with self.scopes.reading(transaction, snapshot=snapshot) as connection:
            return await self._page(connection, view, selection, guards)

    async def get(
        self,
        name: str,
        record_id: object,
        *,
        include: MakeInclude = _include_nothing,
        auth: Asker = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Found:
        """One record.

        Raises:
            NotFound: there is none of this id.
        """
        view = self.visibility.view(name, auth)
        key = key_or_none(view.resource, record_id)
        row: Row | None = None
        if is_asked(view.resource, auth):
            # The connection is given back before permission is asked: a check may read for itself.
            async with self.scopes.reading(transaction, snapshot=False) as connection:
                row, _ = await self.seen(connection, view, key)
            await self.permit(view, "get", key, row, transaction=transaction)
        tree = include(view)
        await self.visibility.permit_related(view, include=tree)
        if is_asked(view.resource, auth):
            if row is None:
                raise not_found(view.resource, record_id)
            if not tree:
                return Found(row, Included())
        async with self.scopes.reading(transaction, snapshot=bool(tree)) as connection:
            if row is None:
                row, _ = await self.seen(connection, view, key)
            if row is None:
                raise not_found(view.resource, record_id)
            return Found(row, await self.load(connection, view, [row], tree))

    async def post(
        self,
        name: str,
        make: MakeDraft,
        *,
        auth: Asker = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Found:
        """Make a record.

        Raises:
            ValidationFailed: with every problem of every field.
            Conflict: the id or a unique value is taken.
        """
        view = self.visibility.view(name, auth)
        given = await read_any_draft(view, make)
        given.settle(view, None)
        key = self._chosen_key(view, given)
        chosen = None if given.draft.record_id is None else key
        context = operation_context(
            view.resource,
            "post",
            auth,
            record_id=chosen,
            values=given.values,
            uow=given_unit(transaction),
        )
        await permit(view.resource, context, auth)
        await self.check_given(view, given, None, transaction, is_whole=True)
        if given.draft.members and key is not None:
            await self._linking.plan(view, given, {**given.values, "id": key}, transaction)
        async with self.scopes.writing(transaction) as uow:
            context.transaction = uow
            row = await self.create(view, key, given, context)
            included = await self.load(uow.connection, view, [row], given.draft.include)
        return Found(row, included, created=True, cursor=uow.cursor)

    async def put(
        self,
        name: str,
        record_id: object,
        make: MakeDraft,
        *,
        auth: Asker = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Found:
        """Replace a record whole; make it where there is none and clients may choose ids.

        Read-only, hidden and owner fields that were not given keep their values: a client cannot
        send back what it cannot see, nor disown a record by leaving something out. Making one
        needs permission to post as well.
        """
        view = self.visibility.view(name, auth)
        given = await read_any_draft(view, make)
        key = key_or_none(view.resource, record_id)
        async with self._writing(view, "put", key, given, transaction) as (context, before):
            uow = context.transaction
            assert uow is not None
            if before is None:
                row = await self._put_anew(view, key, record_id, given, context)
            else:
                row = await self._replace(view, before, given, context)
            included = await self.load(uow.connection, view, [row], given.draft.include)
        return Found(row, included, created=before is None, cursor=uow.cursor)

    async def patch(
        self,
        name: str,
        record_id: object,
        make: MakeDraft,
        *,
        auth: Asker = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Found:
        """Change some fields of a record.

        Raises:
            NotFound: there is none of this id.
            ValidationFailed: with every problem of every field.
        """
        view = self.visibility.view(name, auth)
        given = await read_any_draft(view, make)
        key = key_or_none(view.resource, record_id)
        async with self._writing(view, "patch", key, given, transaction) as (context, before):
            if before is None:
                raise not_found(view.resource, record_id)
            uow = context.transaction
            assert uow is not None
            row = await self.change(view, before, given, context)
            included = await self.load(uow.connection, view, [row], given.draft.include)
        return Found(row, included, cursor=uow.cursor)

    async def delete(
        self,
        name: str,
        record_id: object,
        *,
        require: Require | None = None,
        auth: Asker = TRUSTED,
        transaction: TransactionLike = None,
    ) -> Cursor | None:
        """Delete a record; gives the place of that in the feed, where it is known here.

        Raises:
            NotFound: there is none of this id.
            Conflict: other records refer to it, and do not go with it (``on_delete``).
        """
        view = self.visibility.view(name, auth)
        resource = view.resource
        key = key_or_none(resource, record_id)
        async with self._writing(view, "delete", key, None, transaction, require) as (
            context,
            before,
        ):
            if before is None:
                raise not_found(resource, record_id)
            uow = context.transaction
            assert uow is not None
            await self.remove(view, before, context)
        return uow.cursor

    # Permission, before anything is locked

    async def permit(
        self,
        view: View,
        method: Method,
        key: object,
        record: Row | None,
        given: Given | None = None,
        transaction: TransactionLike = None,
    ) -> None:
        context = operation_context(
            view.resource,
            method,
            view.auth,
            record_id=key,
            record=record,
            values=None if given is None else given.values,
            uow=given_unit(transaction),
        )
        await permit(view.resource, context, view.auth)

    async def permit_early(
        self,
        name: str,
        method: Method,
        record_id: object,
        make: MakeDraft | None = None,
        *,
        auth: Asker,
    ) -> None:
        """Ask for permission to a write of a transaction that has not begun, where that can be
        known: what it is about may be made or changed by others before it.
        """
        view = self.visibility.view(name, auth)
        if not is_asked(view.resource, auth):
            return
        given = None if make is None else await read_any_draft(view, make)
        if given is not None:
            given.settle(view, None)
        key = key_or_none(view.resource, record_id)
        row: Row | None = None
        if key is not None:
            async with self.scopes.reading(None, snapshot=False) as connection:
                row, _ = await self.seen(connection, view, key)
        await self.permit(view, method, key, row, given)

    @asynccontextmanager
    async def _writing(
        self,
        view: View,
        method: Method,
        key: object,
        given: Given | None,
        transaction: TransactionLike,
        require: Require | None = None,
    ) -> AsyncIterator[tuple[OperationContext, Row | None]]:
        """The transaction of a write and the record, locked, as permission was given for it.

        Permission is asked while nothing is locked: a slow check would keep all others waiting.
        Where the record has changed meanwhile it is asked again, at last under the lock.
        """
        require = require if given is None else given.draft.require
        looks_first = is_asked(view.resource, view.auth) or (given is not None and given.is_echo)
        for is_last in (False, False, True):
            asked: Row | None = None
            if looks_first:
                asked = await self._ask(view, method, key, given, transaction)
            elif given is not None:
                is_whole = method == "put"
                await self.check_given(view, given, None, transaction, is_whole=is_whole)
            async with self.scopes.writing(transaction) as uow:
                before, is_hidden = await self.seen(uow.connection, view, key, lock=True)
                is_stale = looks_first and before != asked
                has_moved = (
                    given is not None
                    and before is not None
                    and await self._linking.has_moved(view, given, before, uow)
                )
                if (is_stale or has_moved) and transaction is None and not is_last:
                    continue
                if has_moved:
                    assert given is not None
                    raise changed_meanwhile(given.present)
                if is_stale:
                    # Only somebody who was allowed it for the record as it was comes this far.
                    await self.permit(view, method, key, before, given, uow)
                if require is not None:
                    require(view, before)
                if given is not None and before is not None:
                    given.check_version(view.resource, before)
                context = operation_context(
                    view.resource,
                    method,
                    view.auth,
                    record_id=None if is_hidden else key,
                    record=before,
                    values=None if given is None else given.values,
                    uow=uow,
                )
                yield context, before
                return

    async def _ask(
        self,
        view: View,
        method: Method,
        key: object,
        given: Given | None,
        transaction: TransactionLike,
    ) -> Row | None:
        """Ask for permission to write, and say what is wrong with the draft; gives the record for
        which that was.
        """
        async with self.scopes.reading(transaction, snapshot=False) as connection:
            record, is_hidden = await self.seen(connection, view, key)
        if given is not None:
            given.settle(view, record)
        await self.permit(view, method, key, record, given, transaction)
        if method == "put" and record is None and not is_hidden and self._may_choose(view):
            await self.permit(view, "post", key, None, given, transaction)
        if given is not None:
            is_whole = method == "put"
            await self.check_given(view, given, record, transaction, is_whole=is_whole)
        return record

    async def check_given(
        self,
        view: View,
        given: Given,
        record: Row | None,
        transaction: TransactionLike,
        *,
        is_whole: bool,
    ) -> None:
        """Say what is wrong with a draft, now that permission was given; ``is_whole``: a field
        that is not in it has no value.
        """
        if is_whole or record is not None:  # what is not there to be changed is said as ever
            given.compare(view.resource, record)
        if is_whole:
            given.note_missing_virtual(view.resource)
        if given.is_wrong and is_whole and not self.hooks.has("before_write"):
            # Where no hook may fill them in, what is missing is told together with the rest.
            given.note_missing(view.resource)
        given.raise_if_wrong(view.resource.name)
        uow = given_unit(transaction)
        await self.visibility.permit_related(view, include=given.draft.include, uow=uow)
        await self._permit_references(view, given, transaction)
        if record is not None and given.draft.members:
            await self._linking.plan(view, given, record, transaction)

    async def _permit_references(
        self, view: View, given: Given, transaction: TransactionLike
    ) -> None:
        """What a client may not get does not exist for it: it cannot be referred to, either."""
        hidden = []
        for name, value in given.values.items():
            field = view.resource.fields.get(name)
            kind = None if field is None else referred(field, given.values)
            if kind is None or value is None:
                continue
            target = self.visibility.view(kind, view.auth)
            if field is not None and field.targets:
                value = key_or_none(target.resource, value)
            if is_asked(target.resource, view.auth) and not await self._may_get(
                target, value, transaction
            ):
                hidden.append(name)
        if hidden:
            raise RelatedNotFound(hidden)

    async def _may_get(self, view: View, key: object, transaction: TransactionLike) -> bool:
        async with self.scopes.reading(transaction, snapshot=False) as connection:
            row, _ = await self.seen(connection, view, key)
        context = operation_context(
            view.resource,
            "get",
            view.auth,
            record_id=key,
            record=row,
            uow=given_unit(transaction),
        )
        try:
            await check_permission(view.resource, context)
        except RequestError as error:
            if isinstance(error, Unavailable):
                raise
            return False
        return True

    # Writing

    async def change(self, view: View, before: Row, given: Given, context: OperationContext) -> Row:
        """Write what a patch was given to a record that is locked, with permission."""
        assert context.transaction is not None
        connection = context.transaction.connection
        await self.policies.require(connection, view.resource, "patch", view.auth, before)
        accepted = await self._accept(view, given, context, validate_changes)
        return await self._write(view, "patch", before, accepted, context, given)

    async def remove(self, view: View, before: Row, context: OperationContext) -> None:
        """Delete a record that is locked, with permission."""
        resource, uow = view.resource, context.transaction
        assert uow is not None
        await self.policies.require(uow.connection, resource, "delete", view.auth, before)
        await self.hooks.run("before_write", context)
        async with step(uow):
            try:
                await self._deleting.delete(self.registry[resource.name], before, context)
            except ConstraintViolation as violation:
                broken = self.store.in_fields(resource, violation)
                raise explained(resource, before, broken, [], deleting=True) from violation

    def _chosen_key(self, view: View, given: Given) -> Any:
        resource = view.resource
        if given.draft.record_id is None:
            return resource.new_id()
        try:
            trusted = isinstance(view.auth, Trusted)
            return client_id(resource, given.draft.record_id, trusted=trusted)
        except RequestError as failure:
            given.failure = given.failure or failure
            return None

    async def _put_anew(
        self,
        view: View,
        key: object,
        record_id: object,
        given: Given,
        context: OperationContext,
    ) -> Row:
        if key is None or context.id is None or not self._may_choose(view):
            raise not_found(view.resource, record_id)
        trusted = isinstance(view.auth, Trusted)
        key = client_id(view.resource, key, trusted=trusted)
        context.method = "post"
        return await self.create(view, key, given, context)

    def _may_choose(self, view: View) -> bool:
        """Whether the asker may choose the id of a new record."""
        return view.resource.client_ids or isinstance(view.auth, Trusted)

    async def create(self, view: View, key: object, given: Given, context: OperationContext) -> Row:
        """Make a record, with permission."""
        resource, uow = view.resource, context.transaction
        assert uow is not None
        accepted = await self._accept(view, given, context, validate_new)
        if key is not None:
            accepted["id"] = key
        try:
            async with step(uow):
                effect = await self.effects.prepare(uow, resource, None, accepted)
                row = await self.store.insert(uow.connection, resource, accepted)
                await self._require_after(view, context, row)
                await self.changed(effect, "post", row, context)
                if given.draft.members:
                    if not given.links:
                        # Only now there is an id that the related records can be permitted to have.
                        await self._linking.plan(view, given, row, uow)
                    row = await self._linked(view, given, row, uow)
        except ConstraintViolation as violation:
            raise await self._explained(uow, view, accepted, violation) from violation
        return row

    async def _replace(
        self, view: View, before: Row, given: Given, context: OperationContext
    ) -> Row:
        resource = view.resource
        assert context.transaction is not None
        connection = context.transaction.connection
        await self.policies.require(connection, resource, "put", view.auth, before)
        kept = {
            name: before[name]
            for name, found in resource.fields.items()
            if name not in given.values
            and (
                found.read_only
                or found.version
                or not found.is_shown
                or name == resource.owner_field
            )
        }
        assert context.values is not None
        context.values.update(kept)
        accepted = await self._accept(view, given, context, validate_new, kept)
        return await self._write(view, "update", before, accepted, context, given)

    async def _accept(
        self,
        view: View,
        given: Given,
        context: OperationContext,
        validate: Callable[[ResourceType, Row, Collection[str]], Row],
        kept: Mapping[str, Any] = MappingProxyType({}),
    ) -> Row:
        """Hooks may complete what was given; the whole is held against the schema. Setters make
        what is stored, except of what is ``kept`` as it was.
        """
        await self.hooks.run("before_write", context)
        assert context.values is not None
        before = still_stored(view.resource, context.values, kept)
        try:
            accepted = await worked(given, partial(validate, view.resource, context.values, before))
        except ValidationFailed as error:
            raise self._without_hidden(view, error, context.method) from None
        await self._check_references(view, given, accepted, context, kept)
        return await stored(view.resource, accepted, context.values.keys() - before)

    def _without_hidden(self, view: View, error: ValidationFailed, method: Method) -> RequestError:
        """The error as the asker may know it: a field that it may not see is not declared."""
        if isinstance(view.auth, Trusted):
            return error
        fields = view.resource.fields
        known = [p for p in error.problems if p.field not in fields or not fields[p.field].hidden]
        if known:
            return ValidationFailed(known, resource=error.resource)
        _log.warning("%s %s is refused by hidden fields: %s", method, view.resource.name, error)
        return PermissionDenied(
            f"You may not {method} '{view.resource.name}'", resource=view.resource.name
        )

    async def _check_references(
        self,
        view: View,
        given: Given,
        accepted: Row,
        context: OperationContext,
        kept: Mapping[str, Any],
    ) -> None:
        """Hold what the asker refers to against the row policies, in the write's transaction."""
        assert context.transaction is not None
        connection = context.transaction.connection
        fresh = {name: value for name, value in accepted.items() if name not in kept}
        hidden = await self._missing(view, fresh, connection)
        for name in given.values:
            field, value = view.resource.fields.get(name), accepted.get(name)
            if field is None or field.references is None or value is None:
                continue
            target = self.visibility.view(field.references, view.auth)
            if self.policies.of(target.resource, "get", view.auth) == EVERYTHING:
                continue
            row, _ = await self.seen(connection, target, value)
            if row is None:
                hidden.append(name)
        if hidden:
            raise RelatedNotFound(hidden)

    async def _missing(self, view: View, accepted: Row, connection: Connection) -> list[str]:
        """The polymorphic references to what is not there for the asker: no database sees to them.
        What they refer to is locked, so that nobody deletes it meanwhile.
        """
        missing = []
        for name, field in view.resource.fields.items():
            kind = referred(field, accepted) if field.targets else None
            if kind is None or accepted.get(name) is None:
                continue
            target = self.visibility.view(kind, view.auth)
            key = key_or_none(target.resource, accepted[name])
            row, _ = await self.seen(connection, target, key, lock=True)
            if row is None:
                missing.append(name)
        return missing

    async def _write(
        self,
        view: View,
        action: Action,
        before: Row,
        accepted: Row,
        context: OperationContext,
        given: Given,
    ) -> Row:
        """Write the record and what its relationships take up and let go, of which it is told as
        of a change of the record.
        """
        if not accepted and not given.links:
            return before
        resource, uow = view.resource, context.transaction
        assert uow is not None
        accepted = resource.counted(before, accepted)
        try:
            async with step(uow):
                effect = await self.effects.prepare(uow, resource, before, accepted)
                row = before
                if accepted:
                    row = await self.store.update(uow.connection, resource, before["id"], accepted)
                await self._require_after(view, context, row)
                await self.changed(effect, action, row, context)
                row = await self._linked(view, given, row, uow)
        except ConstraintViolation as violation:
            raise await self._explained(uow, view, accepted, violation) from violation
        return row

    async def _linked(self, view: View, given: Given, row: Row, uow: UnitOfWork) -> Row:
        """Write what its relationships take up and let go; gives the row, which may be a member of
        its own.
        """
        await self._linking.write(view, given, uow)
        if all(link.key != row["id"] for link in given.links):
            return row
        return await self.store.get(uow.connection, view.resource, row["id"]) or row

    async def _require_after(self, view: View, context: OperationContext, row: Row) -> None:
        """Nobody writes a record out of what the policy lets them write."""
        assert context.transaction is not None
        connection = context.transaction.connection
        await self.policies.require(connection, view.resource, context.method, view.auth, row)

    async def _explained(
        self, uow: UnitOfWork, view: View, values: Row, violation: ConstraintViolation
    ) -> Exception:
        keys = [
            name
            for name, found in view.resource.fields.items()
            if found.references and found.constraint and values.get(name) is not None
        ]
        # Other databases than SQLite answer nothing more in a transaction that has failed.
        if violation.kind == "foreign key" and (not uow.is_single or self.store.is_sqlite):
            keys = [name for name in keys if await self._dangles(uow, view, name, values)]
        broken = self.store.in_fields(view.resource, violation)
        return explained(view.resource, values, broken, keys)

    async def _dangles(self, uow: UnitOfWork, view: View, name: str, values: Row) -> bool:
        target = self.registry[str(view.resource.fields[name].references)]
        return await self.store.get(uow.connection, target, values[name]) is None

    async def changed(
        self, effect: Effect, action: Action, after: Row | None, context: OperationContext
    ) -> None:
        image = after if after is not None else effect.before
        assert image is not None
        self.weights.note(effect.resource.name, [image])
        await effect.settle(action, after)
        context.id = str(image["id"])
        context.after = None if after is None else MappingProxyType(after)
        await self.hooks.run("after_write", context)

    # Reading

    async def seen(
        self, connection: Connection, view: View, key: object, *, lock: bool = False
    ) -> tuple[Row | None, bool]:
        """The row, if this asker may see it; else whether there is one all the same."""
        if key is None:
            return None, False
        row = await self.store.get(connection, view.resource, key, lock=lock)
        if row is None:
            return None, False
        sees = await self.policies.sees(connection, view.resource, "get", view.auth, row)
        return (row, False) if sees else (None, True)

    async def _page(
        self,
        connection: Connection,
        view: View,
        selection: Selection,
        guards: Mapping[str, Expression],
    ) -> Page:
        keyset = selection.keyset or Keyset()
        where = all_of([selection.where, keyset.condition(selection.sort)])

        counted: int | None = None

        async def read(count: int, after: int) -> list[Row]:
            nonlocal counted
            is_first = after == 0
            rows, total = await self.store.find_counted(
                connection,
                view.resource,
                where,
                selection.sort,
                counted=selection.where if is_first and selection.is_counted else None,
                limit=count,
                offset=selection.offset + after,
                backward=keyset.backward,
                guards=guards,
            )
            counted = total if is_first else counted
            return rows

        budget = ReadBudget(self.weights)
        found = await budget.read(view.resource.name, selection.wanted, read)
        total = counted
        if total is None and selection.is_counted:
            total = await self._total_beyond(connection, view.resource, selection)
        rows = found[: selection.size]
        if keyset.backward:
            rows.reverse()
        included = await self.load(connection, view, rows, selection.include, budget)
        return Page(selection, rows, total, included, is_cut=len(found) > len(rows))

    async def _total_beyond(
        self, connection: Connection, resource: ResourceType, selection: Selection
    ) -> int:
        """How many records there are where the page has none, with which the number would come."""
        if selection.offset == 0 and (selection.keyset is None or selection.keyset.values is None):
            return 0
        total = await self.store.count(connection, resource, selection.where)
        # What was made since the page was read would be on it.
        return total if selection.keyset is not None else min(total, selection.offset)

    async def load(
        self,
        connection: Connection,
        view: View,
        rows: list[Row],
        tree: IncludeTree,
        budget: ReadBudget | None = None,
    ) -> Included:
        if not tree or not rows:
            return Included(asked=bool(tree))
        loader = IncludeLoader(
            self.store,
            view.registry,
            connection,
            lambda target: self.policies.of(target, "query", view.auth),
            budget or ReadBudget(self.weights),
        )
        return await loader.load(view.resource, rows, tree)
