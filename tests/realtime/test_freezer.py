"""Subscriptions are kept away from the garbage collector, and do not need it to be freed."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.sockets.kit import live_api
from tidings.identity import Identity
from tidings.matching.node import Entry, Node
from tidings.realtime import freezer
from tidings.realtime.freezer import Freezer
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscriber, Subscription


class Collector:
    """Stands for the module ``gc``; notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_on = True

    def isenabled(self) -> bool:
        return self.is_on

    def collect(self) -> None:
        self.asked.append("collect")

    def freeze(self) -> None:
        self.asked.append("freeze")

    def unfreeze(self) -> None:
        self.asked.append("unfreeze")

    def taken(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    found = Collector()
    monkeypatch.setattr(freezer, "gc", found)
    return found


def test_every_so_many_subscriptions_what_lives_is_frozen(collector: Collector) -> None:
    keeper = Freezer(every=10)
    for _ in range(9):
        keeper.added()
    assert collector.taken() == []
    keeper.added()
    assert collector.taken() == ["collect", "freeze"]
    for _ in range(10):
        keeper.added()
    assert collector.taken() == ["collect", "freeze"]


def test_the_collector_gets_everything_back_when_few_are_left(collector: Collector) -> None:
    keeper = Freezer(every=10)
    for _ in range(40):
        keeper.added()
    collector.taken()
    for _ in range(30):
        keeper.removed()
    assert collector.taken() == []
    for _ in range(10):
        keeper.removed()
    assert collector.taken() == ["unfreeze"]


def test_where_subscriptions_come_and_go_everything_is_collected_now_and_then(
    collector: Collector,
) -> None:
    keeper = Freezer(every=10)
    for _ in range(20):
        keeper.added()
    collector.taken()
    for _ in range(50):
        keeper.added()
        keeper.removed()
    asked = collector.taken()
    assert asked.count("unfreeze") == 2
    assert asked[asked.index("unfreeze") :][:3] == ["unfreeze", "collect", "freeze"]


def test_a_collector_that_is_turned_off_is_left_alone(collector: Collector) -> None:
    keeper = Freezer(every=1)
    collector.is_on = False
    keeper.added()
    keeper.removed()
    assert collector.taken() == []


class Nowhere:
    def send(self, event: Event) -> None:
        pass

    def finish(self, last: Sequence[Event], *, for_good: bool = False) -> None:
        pass

    def notify(self, subscription: Subscription, message: Message) -> None:
        pass

    def forget(self) -> None:
        pass


@contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def held() -> int:
    return sum(isinstance(one, Subscription | Node | Entry) for one in gc.get_objects())


@pytest.mark.anyio
async def test_a_subscription_that_ended_is_freed_without_a_collection() -> None:
    service = live_api().socket_server._service
    with collector_off():
        before = held()
        subscriber = Subscriber("s", Identity(user_id="u1"), Nowhere())
        for number in range(20):
            payload = {"resource": "posts", "subscriptionId": str(number)}
            await service.subscribe(subscriber, payload)
        assert held() > before
        await service.unsubscribe(subscriber, {"subscriptionId": "3"})
        service.forget(subscriber)
        assert held() == before
