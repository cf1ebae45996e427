"""Capture of an api: which tables have triggers, and what is done where they are missing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import Table

from tidings.errors import ConfigurationError
from tidings.feed import Notice
from tidings.resources import Operations
from tidings.resources.capturing import Capturing
from tidings.schema import ResourceRegistry
from tidings.storage import Connection, Database
from tidings.storage.capture import (
    CapturedRow,
    CaptureOutbox,
    Watched,
    check,
    install,
    remove,
    statements,
)
from tidings.storage.capture.install import prepare

_log = logging.getLogger("tidings.storage")
TRIGGERS: Final = "triggers"
EVENTS: Final = "events"


def check_capture(where: str, given: object) -> None:
    """See that an option says how to capture.

    Raises:
        ConfigurationError: starts with ``where`` and says what there is.
    """
    if given not in (None, False, TRIGGERS, EVENTS):
        raise ConfigurationError(
            f"{where}: capture is 'triggers', 'events', or False for not at all"
        )


class Capture:
    """The triggers of an api's tables. Made before the operations are; `assemble` completes it."""

    def __init__(self, database: Database, is_open: Callable[[], bool]) -> None:
        self._database = database
        self._is_open = is_open
        self.outbox = CaptureOutbox(database, self._convert)
        self._capturing: Capturing | None = None

    def assemble(
        self,
        registry: ResourceRegistry,
        tables: Mapping[str, Table],
        operations: Operations,
        is_captured: Callable[[str], bool],
    ) -> None:
        """Say what is captured, now that everything is declared."""
        chosen = [resource for resource in registry if is_captured(resource.name)]
        self._capturing = Capturing(
            chosen,
            tables,
            operations.effects.carrying,
            operations.effects,
            self._database.dialect_name,
        )

    @property
    def watched(self) -> Sequence[Watched]:
        """The tables that are captured."""
        assert self._capturing is not None
        return self._capturing.watched

    async def missing(self) -> list[Watched]:
        """The tables whose triggers are missing, disabled or of an older declaration."""
        async with self._reachable():
            return await check(self._database, self.watched)

    async def install(self, tables: Sequence[Watched] | None = None) -> None:
        """Make the triggers of these tables, or of all."""
        async with self._reachable():
            await self._database.create_tables([self.outbox.table])
            await prepare(self._database)
            await install(self._database, self.watched if tables is None else tables)

    async def remove(self) -> None:
        """Remove all triggers."""
        async with self._reachable():
            await remove(self._database, self.watched)

    async def statements(self) -> list[str]:
        """The SQL that `install` runs."""
        async with self._reachable():
            return await statements(self._database, self.watched)

    @asynccontextmanager
    async def _reachable(self) -> AsyncIterator[None]:
        """The database, opened for this where the api is not open."""
        if self._is_open():
            yield
            return
        await self._database.open()
        try:
            yield
        finally:
            await self._database.close()

    async def open(self, *, may_install: bool) -> list[str]:
        """See that the triggers are there, or make them; gives the resources that were not told of.

        Raises:
            ConfigurationError: some are missing, and are not to be made here.
        """
        wrong = await self.missing()
        if not wrong:
            return []
        names = ", ".join(watched.source for watched in wrong)
        if not may_install:
            raise ConfigurationError(
                f"the triggers of {names} are missing, or of an older declaration: install them "
                "with 'tidings triggers install', or api.triggers.install(), as a migration does"
            )
        await self.install(wrong)
        _log.info("triggers installed on %s", names)
        assert self._capturing is not None
        return [name for watched in wrong for name in self._capturing.resources_of(watched)]

    async def _convert(
        self,
        connection: Connection,
        rows: Sequence[CapturedRow],
        own: Sequence[Notice],
        is_one: bool,
    ) -> list[Notice]:
        assert self._capturing is not None
        notices = self._capturing.notices(rows, own, is_one)
        return await self._capturing.completed(connection, notices)
