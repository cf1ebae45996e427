"""The ledger: what was committed, what was not, and of what nobody knows; held against clients.

Whoever writes notes each attempt on a record before it is sent. Times are seconds since the epoch,
of the one clock that clients and servers share.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Values = Mapping[str, Any]
Fate = Literal["committed", "unknown", "undone"]
_TICK = 0.002
"""Notifications tell their time in milliseconds."""


@dataclass
class Op:
    """One attempt on one record: what it was before and what it would be after."""

    record: str
    before: Values | None
    after: Values | None
    sent: float
    ended: float = float("inf")
    fate: Fate = "unknown"

    @property
    def version(self) -> int | None:
        return None if self.after is None else self.after["version"]


@dataclass(frozen=True)
class Told:
    """A ``subscription.update`` as it came."""

    subscription: str
    record: str
    way: str
    cursor: tuple[str, int]
    timestamp: float
    came: float
    connection: int

    @classmethod
    def read(cls, payload: Mapping[str, Any], connection: int) -> Told:
        """From its payload, as it comes now."""
        meta = payload["meta"]
        epoch, _, offset = meta["cursor"].partition(".")
        return cls(
            payload["subscriptionId"],
            payload["id"],
            meta["change"],
            (epoch, int(offset)),
            datetime.fromisoformat(meta["timestamp"]).timestamp(),
            time.time(),
            connection,
        )


@dataclass(frozen=True)
class Fetched:
    """A list as REST gave it: the versions by id, and when it was asked for and had."""

    versions: Mapping[str, int]
    asked: float
    had: float


@dataclass
class Journal:
    """All that one client has been told, and fetched."""

    filters: Values
    told: list[Told] = field(default_factory=list)
    fetched: list[Fetched] = field(default_factory=list)
    resyncs: Counter[str] = field(default_factory=Counter)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """When the connection was lost, and when the restore after that was through."""
    view: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """What a check has counted."""

    commits: int = 0
    unknown: int = 0
    undone: int = 0
    clients: int = 0
    due: int = 0
    told: int = 0
    fetched: int = 0
    folded: int = 0
    cancelled: int = 0
    resyncs: Counter[str] = field(default_factory=Counter)
    reconnections: int = 0
    lost: int = 0
    doubled: int = 0
    untrue: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        resyncs = dict(sorted(self.resyncs.items())) or "none"
        return (
            f"{self.commits:,} commits, {self.unknown} of unknown fate, {self.undone} undone; "
            f"{self.clients} clients, {self.reconnections:,} reconnections; "
            f"of {self.due:,} due {self.told:,} told, {self.folded:,} folded into a later "
            f"one, {self.fetched:,} fetched, {self.cancelled} cancelled out; "
            f"resyncs {resyncs}; {self.lost} lost, {self.doubled} doubled, {self.untrue} untrue"
        )


def matches(filters: Values, values: Values | None) -> bool:
    """What the filters of the app come to."""
    if values is None:
        return False
    return all(
        values["rank"] > wanted if name == "rank" else values[name] == wanted
        for name, wanted in filters.items()
    )


class Ledger:
    """Attempts by record, in the order in which they were made."""

    def __init__(self) -> None:
        self.ops: dict[str, list[Op]] = defaultdict(list)
        self.versions = itertools.count(1)

    @contextmanager
    def attempts(self, ops: Sequence[Op]) -> Iterator[Callable[[Fate], None]]:
        """Attempts of one transaction; call what is given with what has become of it."""
        for op in ops:
            self.ops[op.record].append(op)

        def settle(fate: Fate) -> None:
            ended = time.time()
            for op in ops:
                if op.fate == "unknown":  # what was undone by a savepoint stays so
                    op.fate, op.ended = fate, ended

        try:
            yield settle
        finally:
            for op in ops:
                op.ended = min(op.ended, time.time())

    def settle_unknown(self, truth: Mapping[str, int]) -> None:
        """Say what has become of the last attempt on a record, now that it can be seen."""
        for ops in self.ops.values():
            last = ops[-1]
            if last.fate == "unknown":
                is_there = truth.get(last.record) == last.version
                last.fate = "committed" if is_there else "undone"

    def check(self, journals: Sequence[Journal], truth: Sequence[set[str]]) -> Tally:
        """Hold journals against the ledger; ``truth`` has what each one's list is in the end."""
        tally = Tally(clients=len(journals))
        unknown = [op for ops in self.ops.values() for op in ops if op.fate == "unknown"]
        assert not unknown, "settle_unknown() comes first"
        fates = Counter(op.fate for ops in self.ops.values() for op in ops)
        tally.commits, tally.undone = fates["committed"], fates["undone"]
        for number, (journal, listed) in enumerate(zip(journals, truth, strict=True)):
            name = f"client {number} {dict(journal.filters)}"
            tally.resyncs.update(journal.resyncs)
            tally.reconnections += len(journal.gaps)
            tally.faults += [f"{name}: {error}" for error in journal.errors]
            self._check_order(name, journal, tally)
            self._check_truth(name, journal, tally)
            self._check_due(name, journal, tally)
            if journal.view != listed:
                missing, extra = listed - journal.view, journal.view - listed
                tally.faults.append(f"{name}: the list lacks {missing}, and has {extra} too many")
        return tally

    def _check_order(self, name: str, journal: Journal, tally: Tally) -> None:
        """Nothing comes twice; within a connection and an epoch cursors rise."""
        seen: set[tuple[str, tuple[str, int]]] = set()
        last: dict[tuple[int, str], int] = {}
        for told in journal.told:
            if (told.subscription, told.cursor) in seen:
                tally.doubled += 1
                tally.faults.append(f"{name}: told twice: {told}")
            seen.add((told.subscription, told.cursor))
            epoch, offset = told.cursor
            if offset < last.get((told.connection, epoch), 0):
                tally.faults.append(f"{name}: out of order: {told}")
            last[told.connection, epoch] = offset

    def _check_truth(self, name: str, journal: Journal, tally: Tally) -> None:
        """What was told was committed: there is an attempt at that time which was."""
        before: set[tuple[str, int]] = set()
        for told in journal.told:
            found = [op for op in self.ops.get(told.record, ()) if _is_of(told, op)]
            if not found:
                tally.untrue += 1
                tally.faults.append(f"{name}: told of what was not committed: {told}")
            elif len(found) == 1:
                key = (told.cursor[0], id(found[0]))
                if key in before:
                    tally.doubled += 1
                    tally.faults.append(f"{name}: one commit at two places: {told}")
                before.add(key)

    def _check_due(self, name: str, journal: Journal, tally: Tally) -> None:
        """Of everything committed that concerns its filter the client knows."""
        told: dict[str, list[Told]] = defaultdict(list)
        for one in journal.told:
            told[one.record].append(one)
        start = journal.fetched[0].asked
        for record, ops in self.ops.items():
            stood = [op for op in ops if op.fate == "committed"]
            for index, op in enumerate(stood):
                is_due = matches(journal.filters, op.before) or matches(journal.filters, op.after)
                if not is_due or op.ended < start:
                    continue
                tally.due += 1
                if any(_is_of(one, op) for one in told[record]):
                    tally.told += 1
                elif any(_shows(fetched, op, journal) for fetched in journal.fetched):
                    tally.fetched += 1
                elif _came_back_to(told[record], op, journal):
                    tally.folded += 1
                elif _cancels_out(stood, index, journal):
                    tally.cancelled += 1
                else:
                    tally.lost += 1
                    tally.faults.append(f"{name}: never told of {op}")


def _is_of(told: Told, op: Op) -> bool:
    """Whether this may be what is told of the attempt; of one record there is one at a time."""
    return op.fate == "committed" and op.sent - _TICK <= told.timestamp <= op.ended + _TICK


def _came_back_to(told: Sequence[Told], op: Op, journal: Journal) -> bool:
    """Whether a client that was away has been told of a later change of the record instead."""
    is_later = any(one.timestamp >= op.sent for one in told)
    return is_later and any(restored >= op.sent for _, restored in journal.gaps)


def _shows(fetched: Fetched, op: Op, journal: Journal) -> bool:
    """Whether who has fetched this list knows of the attempt."""
    if fetched.asked >= op.ended:
        return True
    if fetched.had < op.sent:
        return False
    if not matches(journal.filters, op.after):
        return op.record not in fetched.versions
    return fetched.versions.get(op.record, -1) == op.version


def _cancels_out(ops: Sequence[Op], index: int, journal: Journal) -> bool:
    """Whether a client that was away came back when its list was as before.

    When it went does not matter: what was committed before that may have been published after.
    """
    for _, restored in journal.gaps:
        missed = [number for number, op in enumerate(ops) if op.sent <= restored]
        before = [n for n in missed if n <= index and not matches(journal.filters, ops[n].before)]
        after = [n for n in missed if n >= index and not matches(journal.filters, ops[n].after)]
        if before and after:
            return True
    return False
