"""What is done to a server process from within: points at which it dies, and mutants.

A *point* is a step on the way of a change. The process counts how often it comes by, and at the
given count it is killed as by ``kill -9``, between one instruction and the next.

A *mutant* is tidings with a fault built in, which the proofs must find.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from tidings.feed import Batch, Cursor, SharedFeed
from tidings.realtime import delivery
from tidings.realtime.connection import SocketConnection
from tidings.realtime.replay import Replayer
from tidings.realtime.server import SocketServer
from tidings.realtime.service import SubscriptionService
from tidings.socketio.takeover import FastLink
from tidings.storage import outbox as outbox_module
from tidings.storage import relay as relay_module
from tidings.storage.change_log import ChangeLog
from tidings.storage.outbox import Outbox, batch_of, new_key
from tidings.storage.relay import Relay

POINTS: Mapping[str, tuple[Any, str, bool]] = {
    # the owner of a function, its name, and whether one dies after it (or before it)
    "begin": (Outbox, "add", False),
    "kept": (Outbox, "add", True),
    "committed": (relay_module._Relayed, "committed", False),
    "answering": (relay_module._Relayed, "committed", True),
    "appending": (SharedFeed, "append", False),
    "appended": (SharedFeed, "append", True),
    "removed": (Outbox, "remove", True),
    "reading": (SharedFeed, "_take", False),
    "matching": (delivery.Dispatcher, "_deliver", False),
    "delivering": (SocketConnection, "notify", False),
    "delivered": (SocketConnection, "notify", True),
    "sent": (FastLink, "_write", True),
    "restoring": (SubscriptionService, "restore", False),
    "restored": (SocketServer, "_missed", True),
}
"""Where a process can die."""


def die_at(point: str, count: int) -> None:
    """Have this process die when it comes by a point for the ``count``-th time."""
    owner, name, after = POINTS[point]
    numbers = itertools.count(1)

    def come_by() -> None:
        if next(numbers) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    _wrap(owner, name, come_by, after=after)


def _wrap(owner: Any, name: str, come_by: Callable[[], None], *, after: bool) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if not after:
            come_by()
            return original(*arguments, **options)
        result = original(*arguments, **options)
        if asyncio.iscoroutine(result):
            return _then(result, come_by)
        come_by()
        return result

    setattr(owner, name, wrapped)


async def _then(result: Awaitable[Any], come_by: Callable[[], None]) -> Any:
    found = await result
    come_by()
    return found


def mutate(mutant: str) -> None:
    """Build a fault into this process."""
    MUTANTS[mutant]()


def _publish_before_commit() -> None:
    """What is told is not yet there, and may never be."""

    async def commit(connection: Any, log: Any, publisher: Any) -> None:
        changes = log.take()
        publication = publisher.begin(changes)
        publication.committed(kept=False)
        await asyncio.sleep(0.02)
        try:
            await connection.commit()
        except BaseException:
            await connection.rollback()
            raise

    import_module("tidings.storage.unit_of_work")._commit = commit
    _rolled_back_too()


def _rolled_back_too() -> None:
    clear = ChangeLog.clear
    relays: list[Relay] = []
    begin = Relay.begin

    def noted(self: Relay, changes: Sequence[Any]) -> Any:
        relays[:] = [self]
        return begin(self, changes)

    def cleared(self: Any) -> None:
        changes = list(self._changes)
        clear(self)
        if relays and changes:
            begin(relays[0], changes).committed(kept=False)

    Relay.begin = noted  # type: ignore[method-assign]  # a fault, on purpose
    ChangeLog.clear = cleared  # type: ignore[method-assign]  # a fault, on purpose


def _drop_a_change() -> None:
    """Each 10th batch does not reach the feed."""
    original, numbers = SharedFeed.append, itertools.count(1)

    async def append(self: SharedFeed, batches: Sequence[Batch]) -> None:
        await original(self, [one for one in batches if next(numbers) % 10])

    SharedFeed.append = append  # type: ignore[method-assign]  # a fault, on purpose


def _skip_the_outbox() -> None:
    """What is committed waits in memory, and dies with the process."""

    async def nothing(*_: object) -> None:
        pass

    committed = relay_module._Relayed.committed

    def unkept(self: Any, *, kept: bool = True) -> None:
        committed(self, kept=False)

    Outbox.add = nothing  # type: ignore[method-assign, assignment]  # a fault, on purpose
    relay_module._Relayed.committed = unkept  # type: ignore[method-assign]  # a fault, on purpose


def _replay_one_short() -> None:
    """The first of what was missed is left out."""
    _replay_from(1)


def _replay_one_twice() -> None:
    """The last that was seen comes again."""
    _replay_from(-1)


def _replay_from(later: int) -> None:
    original = Replayer.replay

    async def replay(self: Replayer, wanted: Any, afford: Any = None) -> Any:
        moved = [
            replace(one, cursor=Cursor(one.cursor.epoch, max(0, one.cursor.offset + later)))
            for one in wanted
            if one.cursor is not None
        ]
        return await original(self, moved if len(moved) == len(wanted) else wanted, afford)

    Replayer.replay = replay  # type: ignore[method-assign]  # a fault, on purpose


def _read_on_by_id() -> None:
    """The outbox is read from where it was last read: ids are taken before the commit."""
    _commit_slowly(0.2)
    original = Outbox.rows
    last = 0

    async def rows(self: Outbox, after: int, limit: int) -> list[Any]:
        nonlocal last
        found = await original(self, max(after, last), limit)
        last = max([last, *(int(row["id"]) for row in found)])
        return found

    Outbox.rows = rows  # type: ignore[method-assign]  # a fault, on purpose


def _forget_repeats() -> None:
    """A batch that is appended again is taken for another one."""

    def another(row: Any) -> Batch:
        return Batch(new_key(), batch_of(row).entries)

    outbox_module.batch_of = another


def _commit_slowly(seconds: float = 0.02) -> None:
    """No fault: a database may take its time."""
    original = Outbox.add

    async def add(self: Outbox, connection: Any, rows: Any) -> None:
        await original(self, connection, rows)
        await asyncio.sleep(random.choice((0, 0, seconds)))

    Outbox.add = add  # type: ignore[method-assign]


MUTANTS: Mapping[str, Callable[[], None]] = {
    "commit slowly": _commit_slowly,
    "publish before commit": _publish_before_commit,
    "drop a change": _drop_a_change,
    "skip the outbox": _skip_the_outbox,
    "replay one short": _replay_one_short,
    "replay one twice": _replay_one_twice,
    "read on by id": _read_on_by_id,
    "forget repeats": _forget_repeats,
}
"""Faults that the proofs must find; but for the first, which is none."""
