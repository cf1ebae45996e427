"""The operations on resources, one implementation for HTTP and for Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from tidings.errors import Conflict, InvalidRequest, RelatedNotFound
from tidings.feed import Action
from tidings.filters import EVERYTHING, all_of
from tidings.hooks import HookRegistry
from tidings.identity import Identity
from tidings.resources.carrying import Carrying
from tidings.resources.context import OperationContext, operation_context
from tidings.resources.effects import Effect, Effects
from tidings.resources.includes import (
    Included,
    IncludeLoader,
    IncludeTree,
)
from tidings.resources.permissions import permit, permit_include
from tidings.resources.policies import Policies
from tidings.resources.refusals import client_id, explained, key_or_none, not_found
from tidings.resources.results import Found, Page, Selection
from tidings.resources.scopes import Scopes, TransactionLike, given_unit, step
from tidings.schema import (
    ResourceRegistry,
    ResourceType,
    read_only_names,
    validate_changes,
    validate_new,
)
from tidings.storage import (
    Connection,
    ConstraintViolation,
    Publisher,
    RecordStore,
    Row,
    UnitOfWork,
)


class Operations:
    """query, get, post, put, patch and delete, with permissions, hooks and changes.

    ``auth`` None means trusted code: no permission is asked, and read-only fields may be set.
    Without ``transaction`` an operation is a transaction of its own.
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
        self.scopes = Scopes(store.database, publisher)

    async def query(
        self,
        resource: ResourceType,
        selection: Selection,
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Page:
        """The records of one page."""
        context = operation_context(resource, "query", auth, uow=given_unit(transaction))
        await permit(resource, context, auth)
        await permit_include(self.registry, resource, selection.include, auth)
        where = self.policies.guarded(resource, selection.where, auth)
        where = all_of([self.policies.of(resource, "query", auth), where])
        selection = replace(selection, where=where)
        snapshot = bool(selection.include) or selection.number > 1
        async with self.scopes.reading(transaction, snapshot=snapshot) as connection:
            rows = await self.store.find(
                connection,
                resource,
                selection.where,
                selection.sort,
                limit=selection.size,
                offset=(selection.number - 1) * selection.size,
            )
            total = await self._total(connection, resource, selection, len(rows))
            included = await self._load(connection, resource, rows, selection.include, auth)
        return Page(rows, total, selection.number, selection.size, included)

    async def get(
        self,
        resource: ResourceType,
        record_id: object,
        *,
        include: IncludeTree | None = None,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Found:
        """One record.

        Raises:
            NotFound: there is none of this id.
        """
        await permit_include(self.registry, resource, include or {}, auth)
        included, too_large = Included(), None
        async with self.scopes.reading(transaction, snapshot=bool(include)) as connection:
            key = key_or_none(resource, record_id)
            row = None if key is None else await self.store.get(connection, resource, key)
            if row and not await self.policies.sees(connection, resource, "get", auth, row):
                row = None
            if row is not None:
                try:
                    included = await self._load(connection, resource, [row], include or {}, auth)
                except InvalidRequest as error:
                    too_large = error  # told only to those who may know of the record
        # Asked after the connection is given back: a check may read for itself.
        context = operation_context(
            resource, "get", auth, record_id=record_id, record=row, uow=given_unit(transaction)
        )
        await permit(resource, context, auth)
        if row is None:
            raise not_found(resource, record_id)
        if too_large is not None:
            raise too_large
        return Found(row, included)

    async def post(
        self,
        resource: ResourceType,
        values: Mapping[str, Any],
        *,
        record_id: object = None,
        include: IncludeTree | None = None,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Found:
        """Make a record.

        Raises:
            ValidationFailed: with every problem of every field.
            Conflict: the id or a unique value is taken.
        """
        key = resource.new_id()
        if record_id is not None:
            key = client_id(resource, record_id, trusted=auth is None)
        await permit_include(self.registry, resource, include or {}, auth)
        async with self.scopes.writing(transaction) as uow:
            context = operation_context(resource, "post", auth, values=dict(values), uow=uow)
            row = await self._create(resource, key, values, context, auth)
            included = await self._load(uow.connection, resource, [row], include or {}, auth)
        return Found(row, included, created=True)

    async def put(
        self,
        resource: ResourceType,
        record_id: object,
        values: Mapping[str, Any],
        *,
        include: IncludeTree | None = None,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Found:
        """Replace a record whole; make it where there is none and clients may choose ids.

        Read-only, hidden and owner fields that were not given keep their values: a client cannot
        send back what it cannot see, nor disown a record by leaving something out. Making one
        needs permission to post as well.
        """
        await permit_include(self.registry, resource, include or {}, auth)
        async with self.scopes.writing(transaction) as uow:
            key = key_or_none(resource, record_id)
            before, hidden = await self._locked(uow, resource, key, auth)
            context = operation_context(
                resource, "put", auth, record_id=record_id, record=before, values=values, uow=uow
            )
            if before is None:
                await permit(resource, context, auth)
                if key is None or hidden or not (resource.client_ids or auth is None):
                    raise not_found(resource, record_id)
                context.method = "post"
                row = await self._create(resource, key, values, context, auth)
            else:
                row = await self._replace(resource, before, values, context, auth)
            included = await self._load(uow.connection, resource, [row], include or {}, auth)
        return Found(row, included, created=before is None)

    async def patch(
        self,
        resource: ResourceType,
        record_id: object,
        values: Mapping[str, Any],
        *,
        include: IncludeTree | None = None,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> Found:
        """Change some fields of a record.

        Raises:
            NotFound: there is none of this id.
            ValidationFailed: with every problem of every field.
        """
        await permit_include(self.registry, resource, include or {}, auth)
        async with self.scopes.writing(transaction) as uow:
            key = key_or_none(resource, record_id)
            before, _ = await self._locked(uow, resource, key, auth)
            context = operation_context(
                resource, "patch", auth, record_id=record_id, record=before, values=values, uow=uow
            )
            await permit(resource, context, auth)
            if before is None:
                raise not_found(resource, record_id)
            await self.policies.require(uow.connection, resource, "patch", auth, before)
            accepted = await self._accept(resource, values, context, auth, validate_changes)
            row = await self._write(resource, "patch", before, accepted, context, auth)
            included = await self._load(uow.connection, resource, [row], include or {}, auth)
        return Found(row, included)

    async def delete(
        self,
        resource: ResourceType,
        record_id: object,
        *,
        auth: Identity | None = None,
        transaction: TransactionLike = None,
    ) -> None:
        """Delete a record.

        Raises:
            NotFound: there is none of this id.
            Conflict: other records refer to it.
        """
        async with self.scopes.writing(transaction) as uow:
            key = key_or_none(resource, record_id)
            before, _ = await self._locked(uow, resource, key, auth)
            context = operation_context(
                resource, "delete", auth, record_id=record_id, record=before, uow=uow
            )
            await permit(resource, context, auth)
            if before is None:
                raise not_found(resource, record_id)
            await self.policies.require(uow.connection, resource, "delete", auth, before)
            await self.hooks.run("before_write", context)
            async with step(uow):
                effect = await self.effects.prepare(uow, resource, before, None)
                try:
                    await self.store.delete(uow.connection, resource, before["id"])
                except ConstraintViolation as violation:
                    raise Conflict(
                        f"'{resource.name}' {before['id']} is still referred to by other records",
                        code="STILL_REFERENCED",
                    ) from violation
                await self._changed(effect, "delete", None, context)

    async def _create(
        self,
        resource: ResourceType,
        key: object,
        values: Mapping[str, Any],
        context: OperationContext,
        auth: Identity | None,
    ) -> Row:
        await permit(resource, context, auth)
        accepted = await self._accept(resource, values, context, auth, validate_new)
        if key is not None:
            accepted["id"] = key
        uow = context.transaction
        assert uow is not None
        try:
            async with step(uow):
                effect = await self.effects.prepare(uow, resource, None, accepted)
                row = await self.store.insert(uow.connection, resource, accepted)
                await self.policies.require(uow.connection, resource, context.method, auth, row)
                await self._changed(effect, "post", row, context)
        except ConstraintViolation as violation:
            raise await self._explained(uow, resource, accepted, violation) from violation
        return row

    async def _replace(
        self,
        resource: ResourceType,
        before: Row,
        values: Mapping[str, Any],
        context: OperationContext,
        auth: Identity | None,
    ) -> Row:
        await permit(resource, context, auth)
        assert context.transaction is not None
        await self.policies.require(context.transaction.connection, resource, "put", auth, before)
        kept = {
            name: before[name]
            for name, found in resource.fields.items()
            if name not in values
            and (found.read_only or found.hidden or name == resource.owner_field)
        }
        assert context.values is not None
        context.values.update(kept)
        accepted = await self._accept(resource, values, context, auth, validate_new)
        return await self._write(resource, "update", before, accepted, context, auth)

    async def _accept(
        self,
        resource: ResourceType,
        given: Mapping[str, Any],
        context: OperationContext,
        auth: Identity | None,
        validate: Any,
    ) -> Row:
        """Hooks may complete what was given; only what the client gave can be refused."""
        refused = frozenset() if auth is None else read_only_names(resource, given)
        await self.hooks.run("before_write", context)
        accepted: Row = validate(resource, context.values, refused=refused)
        await self._check_references(resource, given, accepted, context, auth)
        return accepted

    async def _check_references(
        self,
        resource: ResourceType,
        given: Mapping[str, Any],
        accepted: Row,
        context: OperationContext,
        auth: Identity | None,
    ) -> None:
        """What a client may not see does not exist for it: it cannot be referred to, either."""
        assert context.transaction is not None
        connection = context.transaction.connection
        hidden = []
        for name in given:
            field, value = resource.fields.get(name), accepted.get(name)
            if field is None or field.references is None or value is None:
                continue
            target = self.registry[field.references]
            if self.policies.of(target, "get", auth) == EVERYTHING:
                continue
            row = await self.store.get(connection, target, value)
            if not row or not await self.policies.sees(connection, target, "get", auth, row):
                hidden.append(name)
        if hidden:
            raise RelatedNotFound(hidden)

    async def _write(
        self,
        resource: ResourceType,
        action: Action,
        before: Row,
        accepted: Row,
        context: OperationContext,
        auth: Identity | None,
    ) -> Row:
        if not accepted:
            return before
        uow = context.transaction
        assert uow is not None
        try:
            async with step(uow):
                effect = await self.effects.prepare(uow, resource, before, accepted)
                row = await self.store.update(uow.connection, resource, before["id"], accepted)
                await self.policies.require(uow.connection, resource, context.method, auth, row)
                await self._changed(effect, action, row, context)
        except ConstraintViolation as violation:
            raise await self._explained(uow, resource, accepted, violation) from violation
        return row

    async def _explained(
        self, uow: UnitOfWork, resource: ResourceType, values: Row, violation: ConstraintViolation
    ) -> Exception:
        keys = [
            name
            for name, found in resource.fields.items()
            if found.references and found.constraint and values.get(name) is not None
        ]
        # Other databases than SQLite answer nothing more in a transaction that has failed.
        if violation.kind == "foreign key" and (not uow.is_single or self.store.is_sqlite):
            keys = [name for name in keys if await self._dangles(uow, resource, name, values)]
        return explained(resource, values, violation, keys)

    async def _dangles(
        self, uow: UnitOfWork, resource: ResourceType, name: str, values: Row
    ) -> bool:
        target = self.registry[str(resource.fields[name].references)]
        return await self.store.get(uow.connection, target, values[name]) is None

    async def _changed(
        self, effect: Effect, action: Action, after: Row | None, context: OperationContext
    ) -> None:
        image = after if after is not None else effect.before
        assert image is not None
        await effect.settle(action, after)
        context.id = str(image["id"])
        context.after = None if after is None else MappingProxyType(after)
        await self.hooks.run("after_write", context)

    async def _locked(
        self, uow: UnitOfWork, resource: ResourceType, key: object, auth: Identity | None
    ) -> tuple[Row | None, bool]:
        """The row, locked, if this identity may see it; else whether there is one all the same."""
        if key is None:
            return None, False
        row = await self.store.get(uow.connection, resource, key, lock=True)
        if row is None:
            return None, False
        sees = await self.policies.sees(uow.connection, resource, "get", auth, row)
        return (row, False) if sees else (None, True)

    async def _total(
        self, connection: Connection, resource: ResourceType, selection: Selection, found: int
    ) -> int:
        """Counted only where the page itself does not tell."""
        if 0 < found < selection.size or (found == 0 and selection.number == 1):
            return (selection.number - 1) * selection.size + found
        return await self.store.count(connection, resource, selection.where)

    async def _load(
        self,
        connection: Connection,
        resource: ResourceType,
        rows: list[Row],
        tree: IncludeTree,
        auth: Identity | None,
    ) -> Included:
        if not tree or not rows:
            return Included(asked=bool(tree))
        loader = IncludeLoader(
            self.store,
            self.registry,
            connection,
            lambda target: self.policies.of(target, "query", auth),
        )
        return await loader.load(resource, rows, tree)
