"""Limits on what one client, one user and one address may ask of the server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import IPv6Address, ip_address
from math import inf
from typing import Any, Final

from tidings.errors import ConfigurationError, RateLimited


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """How much sockets may do. Rates are per second and socket; a burst is what may come at once.

    ``subscribe_burst`` counts each entry of a restore; it should not be less than the number of
    subscriptions that a socket may have.

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


class TokenBucket:
    """Lets ``burst`` through at once, and ``rate`` a second in the long run."""

    __slots__ = ("_burst", "_clock", "_left", "_rate", "_seen")

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._seen = clock()

    def take(self, cost: float = 1) -> bool:
        """Whether so much may pass now; what may not costs nothing."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._seen) * self._rate)
        self._seen = now
        if cost > self._left:
            return False
        self._left -= cost
        return True


class Allowance:
    """What one socket may still ask."""

    __slots__ = ("_messages", "_subscribes")

    def __init__(self, limits: SocketLimits) -> None:
        self._messages = TokenBucket(limits.message_rate, limits.message_burst)
        self._subscribes = TokenBucket(limits.subscribe_rate, limits.subscribe_burst)

    def spend(self, event: str, payload: object) -> None:
        """Count a message.

        Raises:
            RateLimited: it is one too many.
        """
        if not self._messages.take() or not self._subscribes.take(_subscribes(event, payload)):
            raise RateLimited("Too many messages; try again in a moment")


def _subscribes(event: str, payload: object) -> int:
    if event == "restore-subscriptions" and isinstance(payload, dict):
        entries = payload.get("subscriptions")
        return len(entries) if isinstance(entries, list) else 0
    return 1 if event in ("subscribe", "explain") else 0


def address_of(scope: Any) -> str | None:
    """Where a client connects from, as the server (or the proxy that it trusts) says.

    Of an IPv6 address the network, for who has one of those has 2 ** 64.
    """
    client = scope.get("client")
    return _network(str(client[0])) if client else None


def _network(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


_HELD: Final = "tidings.connection"


class Connections:
    """Counts the connections of each user and of each address; an environ stands for one."""

    def __init__(self, limits: SocketLimits) -> None:
        self._limits = limits
        self._counts: Counter[tuple[str, str]] = Counter()

    def enter(self, environ: dict[str, Any], user_id: str | None, address: str | None) -> bool:
        """Count a connection; False where there are too many, and it is not counted."""
        self.leave(environ)
        keys = [
            (kind, key)
            for kind, key in (("user", user_id), ("address", address))
            if key is not None
        ]
        most = {
            "user": self._limits.connections_per_user,
            "address": self._limits.connections_per_address,
        }
        if any(most[key[0]] and self._counts[key] >= most[key[0]] for key in keys):
            return False
        self._counts.update(keys)
        environ[_HELD] = keys
        return True

    def leave(self, environ: dict[str, Any] | None) -> None:
        """Count a connection no more, if it was counted."""
        for key in environ.pop(_HELD, ()) if environ is not None else ():
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
