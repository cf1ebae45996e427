"""Waiting: what a socket is to be told, kept in order while something about it is being asked.

Whether its identity may still query a resource is asked of the application's own code, which may
take its time. Meanwhile the others go on; what comes for this socket waits behind the question, so
that it is told in the order of the feed, or not at all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tidings.realtime.subscriptions import Message, Subscriber, Subscription

_log = logging.getLogger("tidings.realtime")
MOST_WAITING: Final = 1_000
"""So many notifications of one socket wait; where there are more it is told to refetch."""


class Question(Protocol):
    """Something that is asked about a socket; see `tidings.resources.Answer`."""

    allowed: bool | None

    def then(self, call: Callable[[], None]) -> None: ...


@dataclass(slots=True)
class Entry:
    """A message for a subscription, and what has to be allowed before it is told.

    Without a subscription it is a bar: what comes after it waits until its questions are answered.
    """

    subscription: Subscription | None
    message: Message | None
    offset: float
    questions: tuple[Question, ...]

    @property
    def is_open(self) -> bool:
        """Whether something is still being asked."""
        return any(question.allowed is None for question in self.questions)


Tell = Callable[[Entry], None]


class WaitingLines:
    """The lines of all sockets of which something is being asked.

    ``tell`` hands an entry over whose questions have been answered. ``overflow`` is called for a
    socket whose line was too long: what it held is gone.
    """

    def __init__(self, tell: Tell, overflow: Callable[[Subscriber], None]) -> None:
        self._tell = tell
        self._overflow = overflow
        self._lines: dict[Subscriber, deque[Entry]] = {}
        self._overflown: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._lines)

    def give(self, entry: Entry) -> None:
        """Have an entry told, now or when what is before it has been."""
        assert entry.subscription is not None
        subscriber = entry.subscription.subscriber
        line = self._lines.get(subscriber)
        if line is None and not entry.is_open:
            self._tell(entry)
        else:
            self._append(subscriber, entry)

    def bar(self, subscriber: Subscriber, question: Question) -> None:
        """Have everything wait that comes for a socket from now on, until this is answered."""
        self._append(subscriber, Entry(None, None, 0, (question,)))

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._overflown.clear()

    def _append(self, subscriber: Subscriber, entry: Entry) -> None:
        line = self._lines.setdefault(subscriber, deque())
        for question in entry.questions:
            if question.allowed is None:
                question.then(lambda: self._advance(subscriber))
        if len(line) < MOST_WAITING:
            line.append(entry)
            return
        # The questions stay, as one bar: what comes next still waits for them.
        open_ones = {question for one in (*line, entry) for question in one.questions}
        line.clear()
        line.append(Entry(None, None, 0, tuple(open_ones)))
        self._overflown.add(subscriber)
        _log.warning("%s: more waits for an answer than is kept: it will refetch", subscriber.id)

    def _advance(self, subscriber: Subscriber) -> None:
        line = self._lines.get(subscriber)
        while line and not line[0].is_open:
            entry = line.popleft()
            if entry.subscription is not None:
                self._tell(entry)
        if line is not None and not line:
            del self._lines[subscriber]
            if subscriber in self._overflown:
                self._overflown.discard(subscriber)
                self._overflow(subscriber)
