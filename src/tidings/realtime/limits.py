"""Limits on what one client, one user and one address may ask of the server."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from functools import lru_cache
from math import inf
from typing import Final

from tidings.errors import ConfigurationError, Conflict, RateLimited

_MOST_USERS: Final = 100_000
"""Of so many users it is known what they have asked lately."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """How much sockets may do. Rates are per second; a burst is what may come at once.

    Of messages, and of what subscriptions cost, a socket may have so much, and all sockets of one
    user together ``user_factor`` times as much, however often they connect anew. Who has no user
    id goes by the address, where ``connections_per_address`` says that addresses mean something.
    ``subscribe_burst`` counts each entry of a restore, and for an ``authenticate`` each
    subscription that is checked anew; it should not be less than the number of subscriptions that
    a socket may have. ``replay_rate`` and ``replay_burst`` are changes that are read again for
    whoever comes back; where that is too little they are told to refetch.

    ``filter_bytes`` is what the filters of a socket's subscriptions may come to, as JSON.

    ``frame_size`` (bytes) and ``malformed_frames`` end the connection of who sends more;
    ``message_size`` (characters) is answered with ``PAYLOAD_TOO_LARGE``. A restore of a full set
    of subscriptions with long filters must fit.

    ``unconnected`` are sessions, of either transport, that have been opened and have not shown a
    token yet; ``polling`` those without a WebSocket, connected or not. They and ``connections``
    are bounded in all of the process or per address; zero means any number. An IPv6 network of 64
    bits counts as one address. Behind a proxy that does not tell the client's address, all
    clients have the same.

    While ``queue_bytes`` are unsent to a socket, its notifications are held back, at most
    ``held_notifications`` (one per subscription and record, some 300 bytes each); where that is
    too little, its subscriptions are told to refetch.
    """

    message_rate: float = 50.0
    message_burst: int = 500
    subscribe_rate: float = 20.0
    subscribe_burst: int = 1_000
    replay_rate: float = 5_000.0
    replay_burst: int = 50_000
    user_factor: int = 4
    filter_bytes: int = 262_144
    connections_per_user: int = 100
    connections_per_address: int = 0
    frame_size: int = 4_000_000
    message_size: int = 1_000_000
    malformed_frames: int = 20
    unconnected: int = 5_000
    unconnected_per_address: int = 1_000
    polling: int = 10_000
    polling_per_address: int = 0
    queue_bytes: int = 65_536
    held_notifications: int = 1_000

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name.startswith(("connections", "unconnected", "polling")) else 1
            kinds = (int, float) if one.type == "float" else (int,)
            if type(value) not in kinds or not least <= value < inf:
                kind = "number" if one.type == "float" else "integer"
                raise ConfigurationError(
                    f"SocketLimits: {one.name} must be a finite {kind} of {least} or more, "
                    f"not {value!r}"
                )


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket holds and how fast it fills; the same object for all buckets of a kind."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic


class TokenBucket:
    """Lets ``burst`` through at once, and ``rate`` a second in the long run."""

    __slots__ = ("_left", "_of", "_seen")

    def __init__(self, of: Rate) -> None:
        self._of = of
        self._left = of.burst
        self._seen = of.clock()

    @property
    def left(self) -> float:
        """How much may pass now."""
        now = self._of.clock()
        self._left = min(self._of.burst, self._left + (now - self._seen) * self._of.rate)
        self._seen = now
        return self._left

    @property
    def is_full(self) -> bool:
        """Whether it is as if it were new."""
        return self.left >= self._of.burst

    def take(self, cost: float = 1) -> bool:
        """Whether so much may pass now; what may not costs nothing."""
        return take(cost, self)


def take(cost: float, *buckets: TokenBucket) -> bool:
    """Take so much from each of these, or nothing from any; tells which."""
    if any(cost > bucket.left for bucket in buckets):
        return False
    for bucket in buckets:
        bucket._left -= cost
    return True


class Buckets:
    """What one socket, or all of one user's, may still ask; ``factor`` times what a socket may.

    A bucket is made when something is taken out of it: most sockets never ask for a replay.
    """

    __slots__ = ("_made", "_rates", "filter_bytes", "filter_limit")

    def __init__(
        self, limits: SocketLimits, factor: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rates = _rates(limits, factor, clock)
        self._made: tuple[TokenBucket | None, ...] = _NONE_MADE
        self.filter_bytes = 0
        self.filter_limit = limits.filter_bytes * factor

    @property
    def messages(self) -> TokenBucket:
        """Messages of any kind."""
        return self._bucket(0)

    @property
    def subscribes(self) -> TokenBucket:
        """Subscriptions that are checked."""
        return self._bucket(1)

    @property
    def replays(self) -> TokenBucket:
        """Changes that are read again."""
        return self._bucket(2)

    def _bucket(self, place: int) -> TokenBucket:
        bucket = self._made[place]
        if bucket is None:
            bucket = TokenBucket(self._rates[place])
            self._made = (*self._made[:place], bucket, *self._made[place + 1 :])
        return bucket

    @property
    def are_full(self) -> bool:
        """Whether they are as if they were new."""
        return not self.filter_bytes and all(one is None or one.is_full for one in self._made)


_NONE_MADE: Final = (None, None, None)


@lru_cache
def _rates(
    limits: SocketLimits, factor: int, clock: Callable[[], float]
) -> tuple[Rate, Rate, Rate]:
    return (
        Rate(limits.message_rate * factor, limits.message_burst * factor, clock),
        Rate(limits.subscribe_rate * factor, limits.subscribe_burst * factor, clock),
        Rate(limits.replay_rate * factor, limits.replay_burst * factor, clock),
    )


class Allowance:
    """What one socket may still ask, of what is its own and of what is its user's."""

    __slots__ = ("_buckets",)

    def __init__(self, *buckets: Buckets) -> None:
        self._buckets = buckets

    def spend(self, event: str, payload: object, subscriptions: int = 0) -> None:
        """Count a message of a socket that has so many subscriptions.

        Raises:
            RateLimited: it is one too many.
        """
        price = _price(event, payload, subscriptions)
        if not take(1, *(one.messages for one in self._buckets)) or not take(
            price, *(one.subscribes for one in self._buckets)
        ):
            raise RateLimited("Too many messages; try again in a moment")

    def hold(self, size: int) -> None:
        """Count filters of so many bytes that are held from now on.

        Raises:
            Conflict: ``SUBSCRIPTION_LIMIT_EXCEEDED``, that is too much.
        """
        for one in self._buckets:
            if one.filter_bytes + size > one.filter_limit:
                raise Conflict(
                    f"The filters of all subscriptions may come to {one.filter_limit} bytes",
                    code="SUBSCRIPTION_LIMIT_EXCEEDED",
                    details={"filterBytes": one.filter_limit},
                )
        for one in self._buckets:
            one.filter_bytes += size

    def release(self, size: int) -> None:
        """Filters of so many bytes are held no more."""
        for one in self._buckets:
            one.filter_bytes -= size

    def afford_replay(self, changes: int) -> bool:
        """Whether so many changes may be read again; if so they are paid for."""
        return take(changes, *(one.replays for one in self._buckets))


class Allowances:
    """What each user may still ask, whatever connections come and go."""

    def __init__(self, limits: SocketLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._of: OrderedDict[tuple[str, str], Buckets] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def open(self, user_id: str | None, address: str | None) -> Allowance:
        """The allowance of a new socket."""
        own = Buckets(self._limits, clock=self._clock)
        if user_id is not None:
            key = ("user", user_id)
        elif address is not None and self._limits.connections_per_address:
            key = ("address", address)
        else:  # addresses may be those of a proxy, that is: of everybody
            return Allowance(own)
        shared = self._of.get(key)
        if shared is None:
            self._sweep()
            shared = self._of[key] = Buckets(self._limits, self._limits.user_factor, self._clock)
        self._of.move_to_end(key)
        return Allowance(own, shared)

    def _sweep(self) -> None:
        """Forget those that are as if they were new, which those that have not come for long are.

        Only where there are too many do others go; that is what their next socket gains by it.
        """
        for _ in range(2):
            if self._of:
                key, shared = next(iter(self._of.items()))
                self._of.move_to_end(key)
                if shared.are_full or len(self._of) >= _MOST_USERS:
                    del self._of[key]


def _price(event: str, payload: object, subscriptions: int) -> int:
    """What a message costs beyond itself, in subscriptions that are to be checked for it."""
    if event == "restore-subscriptions" and isinstance(payload, dict):
        entries = payload.get("subscriptions")
        return len(entries) if isinstance(entries, list) else 0
    if event == "authenticate":
        return 1 + subscriptions
    return 1 if event in ("subscribe", "explain") else 0


class Connections:
    """Counts the connections of each user and of each address."""

    def __init__(self, limits: SocketLimits) -> None:
        self._limits = limits
        self._counts: Counter[tuple[str, str]] = Counter()
        self._whose: dict[Hashable, tuple[str | None, str | None]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._whose)

    def enter(self, connection: Hashable, user_id: str | None, address: str | None) -> bool:
        """Count a connection; False where there are too many, and it is not counted."""
        self.leave(connection)
        keys = _keys(user_id, address)
        most = {
            "user": self._limits.connections_per_user,
            "address": self._limits.connections_per_address,
        }
        if any(most[key[0]] and self._counts[key] >= most[key[0]] for key in keys):
            return False
        self._counts.update(keys)
        self._whose[connection] = (user_id, address)
        return True

    def leave(self, connection: Hashable) -> None:
        """Count a connection no more, if it was counted."""
        for key in _keys(*self._whose.pop(connection, (None, None))):
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def _keys(user_id: str | None, address: str | None) -> list[tuple[str, str]]:
    pairs = (("user", user_id), ("address", address))
    return [(kind, key) for kind, key in pairs if key is not None]
