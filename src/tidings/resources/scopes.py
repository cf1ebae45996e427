"""Within which transaction an operation runs: its own, a given one, or the application's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tidings.storage import Connection, Database, Publisher, UnitOfWork, join, unit_of_work

TransactionLike = UnitOfWork | AsyncSession | AsyncConnection | None

PATIENCE: Final = 2.0
"""For how many seconds the permission checks of one request may keep locks that others wait for."""


class Scopes:
    """Opens transactions on one database; ``publisher`` is told of what commits."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher

    @asynccontextmanager
    async def transaction(
        self, outer: TransactionLike = None, *, writing: bool = True
    ) -> AsyncIterator[UnitOfWork]:
        """A unit of work: a new one, the given one, or one around the application's own."""
        if isinstance(outer, UnitOfWork):
            yield outer
        elif outer is not None:
            seconds = self._database.answer_seconds
            yield await join(outer, self._publisher, writing=writing, seconds=seconds)
        else:
            async with unit_of_work(self._database, self._publisher) as uow:
                yield uow

    @asynccontextmanager
    async def writing(self, outer: TransactionLike) -> AsyncIterator[UnitOfWork]:
        """The unit of work of one write."""
        if outer is not None:
            async with self.transaction(outer) as uow:
                yield uow
        else:
            async with unit_of_work(self._database, self._publisher, single=True) as uow:
                uow.patience = PATIENCE
                yield uow

    @asynccontextmanager
    async def reading(self, outer: TransactionLike, *, snapshot: bool) -> AsyncIterator[Connection]:
        """The connection of one read; with ``snapshot`` all its statements see one state."""
        if outer is None:
            async with self._database.reading(snapshot=snapshot) as connection:
                yield connection
        else:
            async with self.transaction(outer, writing=False) as uow:
                yield uow.connection


@asynccontextmanager
async def step(uow: UnitOfWork) -> AsyncIterator[None]:
    """A write, its change and the hooks after it stand or fall together.

    In a larger transaction that needs a savepoint: a write that is cancelled while it runs would
    stay without its change, and PostgreSQL goes on after an error only from a savepoint.
    """
    if uow.is_single:
        with uow.part():
            yield
    else:
        async with uow.savepoint():
            yield


def given_unit(outer: TransactionLike) -> UnitOfWork | None:
    """What a permission check of a read can read through, too."""
    return outer if isinstance(outer, UnitOfWork) else None
