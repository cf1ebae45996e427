"""SqliteThread: a connection to SQLite, and the thread that everything is done in."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")
_Work = Callable[[sqlite3.Connection], Any]
_Job = tuple[_Work, asyncio.Future[Any] | None]


class SqliteThread:
    """Does one thing after the other, in the order in which they were asked for.

    Who stops waiting does not stop what was asked for; `interrupt` does.
    """

    def __init__(self) -> None:
        self._raw: sqlite3.Connection | None = None
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        # A script that fails before it closes the api must still end.
        self._thread = threading.Thread(target=self._work, name="tidings-sqlite", daemon=True)

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Start the thread and connect, in it; what that fails with is raised."""
        opened: asyncio.Future[sqlite3.Connection] = asyncio.get_running_loop().create_future()
        self._jobs.put((lambda _: connect(), opened))
        self._thread.start()
        try:
            self._raw = await opened
        except BaseException:
            self.start(sqlite3.Connection.close)  # also where it was cancelled, and does connect
            if opened.done() and not opened.cancelled():
                self._thread.join()
            raise

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; False of a connection that is closed."""
        return self._raw is not None and self._raw.in_transaction

    def interrupt(self) -> None:
        """Have the statement that runs fail."""
        if self._raw is not None:
            self._raw.interrupt()

    def start(self, work: _Work) -> None:
        """Have something done that nobody waits for."""
        self._jobs.put((work, None))

    async def call(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Have something done, and give its result.

        Raises:
            ProgrammingError: the connection has been closed.
        """
        if self._raw is None:
            raise sqlite3.ProgrammingError("the connection has been closed")
        return await self._ask(work)

    async def _ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, answer))
        return await answer

    async def rollback(self) -> None:
        """Undo what is open by then, if anything is."""
        await self.call(sqlite3.Connection.rollback)

    async def close(self) -> None:
        """Close the connection and end the thread, after everything else."""
        if self._raw is not None:
            self._raw = None
            await self._ask(sqlite3.Connection.close)
            self._thread.join()  # that was the last it did

    def _work(self) -> None:
        raw: Any = None
        while True:
            work, answer = self._jobs.get()
            result, failure = None, None
            try:
                if raw is not None or work is not sqlite3.Connection.close:
                    result = work(raw)
            except BaseException as error:  # noqa: BLE001  it belongs to whoever asked
                failure = error
            if raw is None:
                raw = result
            if answer is not None:
                with suppress(RuntimeError):  # their event loop is gone
                    answer.get_loop().call_soon_threadsafe(_tell, answer, result, failure)
            if work is sqlite3.Connection.close:
                return
            del work, answer, result, failure  # an idle thread holds nobody's rows


def _tell(answer: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if answer.done():
        return  # nobody waits any more
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)
