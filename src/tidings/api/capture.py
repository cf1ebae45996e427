"""Capture of an api: which tables have triggers, and what is done where they are missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
from tidings.values import without_values

_log = logging.getLogger("tidings.storage")
TRIGGERS: Final = "triggers"
EVENTS: Final = "events"
Tell = Callable[[Sequence[str]], Awaitable[None]]
"""Tells whoever watches these resources to refetch."""


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
        self.check_seconds = 10.0
        """How often (seconds) an open api sees whether its triggers are still there. While some
        are not, those who watch their resources are told to refetch, each time."""
        self._following: asyncio.Task[None] | None = None
        self._lost: list[Watched] = []

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

    @property
    def is_incomplete(self) -> bool:
        """Whether triggers were missing when they were last looked at by an open api."""
        return bool(self._lost)

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

    def follow(self, tell: Tell, *, may_install: bool) -> None:
        """Keep an eye on the triggers until `close`."""
        self._lost = []
        self._following = asyncio.create_task(
            self._follow(tell, may_install), name="tidings-triggers"
        )

    async def close(self) -> None:
        """Look at the triggers no longer."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None

    async def _follow(self, tell: Tell, may_install: bool) -> None:
        while True:
            await asyncio.sleep(self.check_seconds)
            try:
                await self._look(tell, may_install)
            except Exception as error:  # noqa: BLE001  a database that fails is looked at again
                _log.warning("the triggers could not be looked at: %s", without_values(error))

    async def _look(self, tell: Tell, may_install: bool) -> None:
        """Say what is lost, mend it where that is allowed, and have it refetched: also once more
        when it is back, for what was written until then.
        """
        wrong = await self.missing()
        before = {watched.source for watched in self._lost}
        now = {watched.source for watched in wrong}
        if new := sorted(now - before):
            _log.error(
                "the triggers of %s have gone, or are of an older declaration: what others write "
                "there is not told. Those who watch it refetch every %g s, until "
                "'tidings triggers install' has been run",
                ", ".join(new),
                self.check_seconds,
            )
        if back := sorted(before - now):
            _log.info("the triggers of %s are back", ", ".join(back))
        concerned = {watched.source: watched for watched in (*self._lost, *wrong)}
        if not concerned:
            return
        self._lost = list(concerned.values())  # should the next lines fail, they are due again
        if wrong and may_install:
            await self._mend(wrong)
        assert self._capturing is not None
        names = (self._capturing.resources_of(watched) for watched in concerned.values())
        await tell(sorted({name for some in names for name in some}))
        self._lost = wrong

    async def _mend(self, wrong: Sequence[Watched]) -> None:
        try:
            await self.install(wrong)
        except Exception as error:  # noqa: BLE001  as of a table that a migration has dropped: later
            _log.warning("the triggers could not be made anew: %s", without_values(error))

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
