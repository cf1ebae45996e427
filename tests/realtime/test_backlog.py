"""What is held for a slow client comes to the same as all of it, or is said to be lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.realtime.kit import Wire, spoken
from tidings import Identity, SocketLimits
from tidings.feed import Change, Cursor
from tidings.realtime.backlog import Backlog, SlowCounters
from tidings.realtime.connection import BURST, Pace, SocketConnection
from tidings.realtime.messages import Event
from tidings.realtime.notifications import Notification, Resync, folded, without_values
from tidings.realtime.subscriptions import Message, Subscriber, Subscription
from tidings.socketio import Frame, Options, Server, Session

ROW = {"id": 1, "title": "a value"}
NAMES = "abcd"
CHANGES = {
    "post": Change("posts", "1", "post", None, ROW),
    "put": Change("posts", "1", "update", ROW, ROW),
    "patch": Change("posts", "1", "patch", ROW, ROW),
    "delete": Change("posts", "1", "delete", ROW, None),
}


def subscription(name: str = "s", subscriber: Subscriber | None = None) -> Subscription:
    whose = subscriber or Subscriber("x", Identity(user_id="u"), Wire())
    return Subscription(name, whose, "posts", {}, (), {}, None)  # type: ignore[arg-type]


def notification(what: str, way: str, offset: int = 1, record: str = "1") -> Notification:
    change = CHANGES[what]
    bare = Change("posts", record, change.action, change.before, change.after)
    return Notification(without_values(bare), way, Cursor("e", offset))


def payload(message: Message, told: Subscription) -> dict[str, Any]:
    """A message as it is on the wire; a notification's event is left out."""
    event, data = spoken(message.event(told))
    return data if event == "subscription.update" else {"event": event, **data}


@pytest.mark.parametrize(
    ("first", "second", "net"),
    [
        ("post enter", "patch update", "created post enter"),
        ("post enter", "put update", "created post enter"),
        ("patch enter", "patch update", "updated patch enter"),
        ("patch enter", "put update", "updated update enter"),
        ("post enter", "patch leave", "updated patch leave"),
        ("post enter", "delete leave", "deleted delete leave"),
        ("patch enter", "delete leave", "deleted delete leave"),
        ("patch update", "patch update", "updated patch update"),
        ("put update", "patch update", "updated update update"),
        ("patch update", "patch leave", "updated patch leave"),
        ("patch update", "delete leave", "deleted delete leave"),
        ("patch leave", "patch enter", "updated patch update"),
        ("delete leave", "post enter", "updated update update"),
    ],
)
def test_two_notifications_are_one(first: str, second: str, net: str) -> None:
    one, other = (
        notification(*each.split(), offset=offset) for offset, each in ((3, first), (7, second))
    )
    found = folded(one, other)
    told = payload(found, subscription())
    assert f"{told['type']} {told['action']} {told['meta']['change']}" == f"resource.{net}"
    assert told["meta"]["cursor"] == "e.7"


def test_no_values_are_kept() -> None:
    held = without_values(CHANGES["patch"])
    assert not held.before
    assert not held.after
    assert without_values(CHANGES["post"]).before is None
    assert without_values(CHANGES["delete"]).after is None


@dataclass
class World:
    """Records, what four subscriptions see of them, and a client that hears through a backlog."""

    most: int
    offset: int = 0
    exists: set[str] = field(default_factory=set)
    seen: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in NAMES})
    views: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in NAMES})
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    cursor: int = 0
    updates: set[tuple[str, int]] = field(default_factory=set)
    refetched: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.counters = SlowCounters()
        self.backlog = Backlog(self.most, lambda: Cursor("e", self.offset), self.counters)
        self.subscriptions = {name: subscription(name) for name in NAMES}

    def change(self, record: str, what: str, sees: frozenset[str]) -> None:
        """A record is written, and afterwards is seen by these subscriptions."""
        if what == "delete" and record not in self.exists:
            return
        if what != "delete" and record not in self.exists:
            what = "post"
        elif what == "post":
            what = "put"
        self.offset += 1
        (self.exists.discard if what == "delete" else self.exists.add)(record)
        for name, seen in self.seen.items():
            was, now = record in seen, what != "delete" and name in sees
            (seen.add if now else seen.discard)(record)
            if was or now:
                way = "update" if was and now else "enter" if now else "leave"
                self.last[name, record] = self.offset
                told = notification(what, way, self.offset, record)
                self.backlog.add(self.subscriptions[name], told)

    def resync(self, name: str) -> None:
        resync = Resync("permission", Cursor("e", self.offset))
        self.backlog.add(self.subscriptions[name], resync)

    def fetch(self, name: str) -> None:
        """The client reads a list of its own accord, before it has heard what is held for it."""
        self.views[name] = set(self.seen[name])
        self.fetched.add(name)

    def take(self, count: int) -> None:
        """The client reads some of what is held."""
        for _ in range(count):
            found = self.backlog.take(0.0)
            if found is None:
                return
            told, message = found
            self.hear(told.id, payload(message, told))

    def hear(self, name: str, data: dict[str, Any]) -> None:
        is_resync = "event" in data
        cursor = int((data if is_resync else data["meta"])["cursor"].split(".")[1])
        assert self.cursor <= cursor, "in the order of the feed"
        self.cursor = cursor
        if is_resync:
            self.views[name] = set(self.seen[name])
            self.refetched.add(name)
            for key in self.last:
                if key[0] == name:
                    self.told[key] = max(self.told.get(key, 0), cursor)
            return
        assert (name, cursor) not in self.updates, "once"
        self.updates.add((name, cursor))
        record, way = data["id"], data["meta"]["change"]
        knows = record in self.views[name]
        # Whoever has refetched may know already what comes then.
        assert name in self.refetched | self.fetched or way == "leave" or knows == (way == "update")
        assert (data["action"] == "delete") <= (way == "leave")
        assert (data["action"] == "post") <= (way == "enter")
        (self.views[name].discard if way == "leave" else self.views[name].add)(record)
        self.told[name, record] = cursor


STEPS = st.one_of(
    st.tuples(
        st.just("change"),
        st.sampled_from("123456"),
        st.sampled_from(["post", "put", "patch", "delete"]),
        st.frozensets(st.sampled_from(NAMES), max_size=2),
    ),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("resync"), st.sampled_from(NAMES)),
    st.tuples(st.just("fetch"), st.sampled_from(NAMES)),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=60), st.integers(1, 12))
def test_a_client_that_hears_the_net_effect_has_the_same_view(
    steps: list[tuple[Any, ...]], most: int
) -> None:
    world = World(most)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        assert len(world.backlog) <= most + len(world.subscriptions)
    world.take(10_000)
    assert len(world.backlog) == 0
    assert world.views == world.seen
    for key, offset in world.last.items():
        if key[1] in world.seen[key[0]]:
            assert world.told[key] >= offset, "the client has fetched since the last change"
    if not any(step[0] == "resync" for step in steps):
        assert bool(world.refetched) == bool(world.counters.overflows)
        assert world.counters.resyncs >= len(world.refetched)


def test_a_record_that_changes_all_the_time_is_told_of() -> None:
    world = World(most=10)
    for _ in range(20):
        for record in "123":
            world.change(record, "put", frozenset({"a"}))
            world.take(1)
    told = [record for (_, record), offset in world.told.items() if offset > 30]
    assert sorted(told) == ["1", "2", "3"]


def test_too_many_are_one_resync_for_each_subscription_concerned() -> None:
    counters = SlowCounters()
    backlog = Backlog(3, lambda: Cursor("e", 9), counters)
    first, second, third = (subscription(name) for name in ("a", "b", "c"))
    for number in range(3):
        backlog.add((first, second)[number % 2], notification("post", "enter", number, str(number)))
    backlog.add(second, notification("post", "enter", 4, "x"))
    backlog.add(first, notification("post", "enter", 5, "y"))  # it will refetch
    backlog.add(third, notification("post", "enter", 6, "z"))  # nothing of it was lost
    told = [(to.id, payload(message, to)) for to, message in _taken(backlog)]
    assert [(name, data.get("reason")) for name, data in told] == [
        ("c", None),
        ("a", "overflow"),
        ("b", "overflow"),
    ]
    assert [data["cursor"] for _, data in told[1:]] == ["e.9", "e.9"]
    assert (counters.overflows, counters.resyncs, counters.held) == (1, 2, 5)


def _taken(backlog: Backlog) -> Iterator[tuple[Subscription, Message]]:
    while (found := backlog.take(0.0)) is not None:
        yield found


def test_what_is_half_told_counts_and_is_lost_with_the_rest() -> None:
    backlog = Backlog(3, lambda: Cursor("e", 9))
    first, second = subscription("a"), subscription("b")
    for number in range(3):
        backlog.add(first, notification("post", "enter", number, str(number)))
    assert backlog.take(0.0) is not None
    backlog.add(second, notification("post", "enter", 4, "x"))
    backlog.add(second, notification("post", "enter", 5, "y"))
    told = [(to.id, payload(message, to).get("reason")) for to, message in _taken(backlog)]
    assert told == [("b", "overflow"), ("a", "overflow")]


def test_a_resync_is_told_instead_of_what_is_half_told() -> None:
    backlog = Backlog(9, lambda: Cursor("e", 9))
    first, second = subscription("a"), subscription("b")
    for number in range(4):
        told = (first, second)[number // 3]
        backlog.add(told, notification("post", "enter", number, str(number)))
    assert backlog.take(0.0) is not None
    backlog.add(first, Resync("permission", Cursor("e", 4)))
    backlog.add(first, notification("post", "enter", 5, "x"))
    heard = [(to.id, payload(message, to).get("reason")) for to, message in _taken(backlog)]
    assert heard == [("b", None), ("a", "permission")]


def test_what_has_ended_is_told_nothing() -> None:
    backlog = Backlog(10, lambda: Cursor("e", 9))
    ended, expired, live = (subscription(name) for name in ("a", "b", "c"))
    for one in (ended, expired, live):
        backlog.add(one, notification("post", "enter"))
        backlog.add(one, Resync("bulk", Cursor("e", 2)))
    ended.is_active = False
    expired.subscriber.ends_at = 5.0
    assert [(to.id, message.reason) for to, message in _taken_at(backlog, 5.0)] == [("c", "bulk")]


def _taken_at(backlog: Backlog, now: float) -> Iterator[tuple[Subscription, Any]]:
    while (found := backlog.take(now)) is not None:
        yield found


# The connection that holds it.


class Line:
    """A link whose client reads when it is told to: what is taken is unsent until then."""

    is_websocket = True

    def __init__(self) -> None:
        self.taken: list[Frame] = []
        self.is_closed = False

    @property
    def unsent(self) -> int:
        return sum(len(frame.wire) for frame in self.taken)

    def flush(self, session: Session) -> None:
        if not self.taken:
            self.taken = session.take(BURST)

    def close(self, session: Session, code: int, why: str = "") -> None:
        self.taken += session.take(10**9)
        self.is_closed = True

    def write_rest(self, data: bytes) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Slow:
    """A connection whose client reads when it is told to."""

    def __init__(self, **limits: int) -> None:
        self.server = Server(Options(unsent_bytes=limits.pop("unsent_bytes", 8_000_000)))
        engine = self.server.engine
        self.line = Line()
        guest = engine.lobby.enter(None, polls=False)
        self.session = Session(engine, "session", self.line, guest, {})
        engine.sessions["session"] = self.session
        self.server.opened(self.session)
        self.session.receive("40")
        (socket,) = self.server.namespaces["/"].sockets.values()
        self.heard()
        self.counters = SlowCounters()
        self.offset = 0
        pace = Pace(SocketLimits(**limits), lambda: Cursor("e", self.offset), self.counters)
        self.connection = SocketConnection(socket, pace)
        self.subscriber = Subscriber("x", Identity(user_id="u"), self.connection)

    def notify(self, told: Subscription, record: str = "1", way: str = "update") -> None:
        self.offset += 1
        self.connection.notify(told, notification("patch", way, self.offset, record))

    def heard(self) -> list[dict[str, Any]]:
        """Read a burst, and have the next one taken."""
        self.session.link.flush(self.session)
        frames, self.line.taken = self.line.taken, []
        self.session.has_room()
        return [json.loads(frame.text[2:])[1] for frame in frames if frame.text[:2] == "42"]

    def read(self) -> list[dict[str, Any]]:
        """All that is there."""
        found: list[dict[str, Any]] = []
        while self.session.unsent or self.connection.held:
            found += self.heard()
        return found


async def test_a_slow_client_gets_the_rest_folded_and_in_order() -> None:
    slow = Slow(queue_bytes=2_000)
    told = subscription("s", slow.subscriber)
    for number in range(500):
        slow.notify(told, str(number % 5))
        assert slow.session.unsent < 2_300
    assert slow.connection.held == 5
    heard = slow.read()
    cursors = [int(data["meta"]["cursor"].split(".")[1]) for data in heard]
    assert cursors[-5:] == list(range(496, 501))
    assert cursors[:-5] == list(range(1, len(cursors) - 4))
    assert slow.connection.held == 0
    slow.notify(told)
    assert [data["meta"]["cursor"] for data in slow.read()] == ["e.501"]
    assert slow.counters == SlowCounters(
        behind=1, held=500 - len(cursors) + 5, folded=500 - len(cursors)
    )


async def test_a_slow_client_reads_a_large_backlog_burst_by_burst() -> None:
    slow = Slow(queue_bytes=BURST)
    told = subscription("s", slow.subscriber)
    for number in range(900):
        slow.notify(told, str(number))
    most, held = 0, []
    while slow.connection.held:
        assert slow.heard()
        held.append(slow.connection.held)
        most = max(most, slow.session.unsent)
    assert len(held) > 3
    assert most < 2.1 * BURST


async def test_a_client_that_is_gone_leaves_nothing_in_the_backlog() -> None:
    for ended in ("finish", "forget"):
        slow = Slow(queue_bytes=100)
        told = subscription("s", slow.subscriber)
        for number in range(10):
            slow.notify(told, str(number))
        assert slow.connection.held
        waiting = len(slow.session.out)
        if ended == "finish":
            slow.connection.finish([Event.of("last", {"meta": 0})])
            assert slow.line.is_closed
        else:
            slow.connection.forget()
        assert slow.connection.held == 0
        assert slow.session.state.on_drained is None
        slow.notify(told)
        slow.connection.send(Event.of("more", {}))
        assert len(slow.heard()) == waiting + (ended == "finish")


async def test_answers_that_nobody_reads_end_the_connection() -> None:
    slow = Slow(unsent_bytes=10_000)
    for _ in range(200):
        slow.connection.send(Event.of("subscription.created", {"x": "y" * 400}))
    assert slow.line.is_closed
    assert slow.server.engine.slow == 1
    assert slow.session.size == 0
