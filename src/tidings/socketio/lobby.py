"""The lobby: sessions that are in no namespace yet, and those that poll.

Anybody can open a session, with one request, and each costs memory until it ends. So their number
is bounded, in all and for each address; a client that comes when there are too many is told so.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol

_log = logging.getLogger("tidings.socketio")
_SILENCE: Final = 60.0
"""Seconds between two lines in the log about clients that are turned away."""

_Key = tuple[str, str | None]
"""What is counted (``unconnected`` or ``polling``), and of which address; None: of all."""
_UNCONNECTED, _POLLING = "unconnected", "polling"
_WORDS: Final = {_UNCONNECTED: "clients that have not connected", _POLLING: "clients that poll"}


class LobbyLimits(Protocol):
    """How many sessions there may be of each kind; 0: any number."""

    @property
    def unconnected(self) -> int: ...
    @property
    def unconnected_per_address(self) -> int: ...
    @property
    def polling(self) -> int: ...
    @property
    def polling_per_address(self) -> int: ...


class Refused(Exception):
    """A request is not served; ``status`` is HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class LobbyFull(Refused):
    """There are too many; the status is 429 where one address has too many, else 503."""


class Lobby:
    """Counts sessions by what they are at the moment."""

    def __init__(self, limits: LobbyLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._counts: Counter[_Key] = Counter()
        self._clock = clock
        self._silent_until = clock()

    def __len__(self) -> int:
        """How many are counted for anything."""
        return sum(self._counts.values())

    def count(self, what: str) -> int:
        """How many there are of ``unconnected`` or ``polling`` sessions."""
        return self._counts[what, None]

    def enter(self, address: str | None, *, polls: bool) -> Guest:
        """Count a new session.

        Raises:
            LobbyFull: there are too many already, and it is not counted.
        """
        for kind in (_UNCONNECTED, _POLLING) if polls else (_UNCONNECTED,):
            for key in _keys(kind, address):
                most = self._most(key)
                if most and self._counts[key] >= most:
                    self._refuse(key)
        return Guest(self, address, polls=polls)

    def add(self, kind: str, address: str | None, change: int) -> None:
        """Count one more, or one less."""
        for key in _keys(kind, address):
            self._counts[key] += change
            if not self._counts[key]:
                del self._counts[key]

    def _most(self, key: _Key) -> int:
        kind, address = key
        name = kind if address is None else f"{kind}_per_address"
        most: int = getattr(self._limits, name)
        return most

    def _refuse(self, key: _Key) -> None:
        kind, address = key
        if self._clock() >= self._silent_until:
            self._silent_until = self._clock() + _SILENCE
            where = "" if address is None else f" at {address}"
            _log.warning("sessions are refused: too many %s%s", _WORDS[kind], where)
        of_address = "" if address is None else " at this address"
        status = 503 if address is None else 429
        raise LobbyFull(f"Too many {_WORDS[kind]}{of_address}; try again later", status)


class Guest:
    """One session, from its first request to its end."""

    __slots__ = ("_is_gone", "_is_polling", "_lobby", "address", "is_unconnected")

    def __init__(self, lobby: Lobby, address: str | None, *, polls: bool) -> None:
        self._lobby = lobby
        self.address = address
        self._is_gone = False
        self.is_unconnected = True
        self._is_polling = polls
        lobby.add(_UNCONNECTED, address, 1)
        if polls:
            lobby.add(_POLLING, address, 1)

    def has_connected(self) -> None:
        """It is in a namespace now."""
        if self.is_unconnected:
            self.is_unconnected = False
            self._lobby.add(_UNCONNECTED, self.address, -1)

    def has_disconnected(self) -> None:
        """It is in no namespace any more; that never is too many, since it is there."""
        if not self.is_unconnected and not self._is_gone:
            self.is_unconnected = True
            self._lobby.add(_UNCONNECTED, self.address, 1)

    def has_upgraded(self) -> None:
        """It has a WebSocket now."""
        if self._is_polling:
            self._is_polling = False
            self._lobby.add(_POLLING, self.address, -1)

    def leave(self) -> None:
        """It has ended."""
        self._is_gone = True
        self.has_connected()
        self.has_upgraded()


def _keys(kind: str, address: str | None) -> list[_Key]:
    return [(kind, None)] if address is None else [(kind, address), (kind, None)]


def address_of(scope: Mapping[str, Any]) -> str | None:
    """Where a client connects from, as the server (or the proxy that it trusts) says.

    Of an IPv6 address it is the network: whoever has one of those has 2 ** 64.
    """
    client = scope.get("client")
    return _network(str(client[0])) if client else None


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
