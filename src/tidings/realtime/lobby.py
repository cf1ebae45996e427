"""The lobby: sessions that have been opened and have shown no token yet, and those that poll.

Anybody can open an Engine.IO session, with one request; each costs memory until it is ended. So
their number is bounded, in all and for each address, and who comes too many is told so.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Final

from tidings.realtime.limits import SocketLimits

_log = logging.getLogger("tidings.realtime")
_GUEST: Final = "tidings.guest"
_SILENCE: Final = 60.0
"""So many seconds lie between two lines in the log about clients that are turned away."""

_Key = tuple[str, str | None]
"""What is counted (``unconnected`` or ``polling``), and of which address; None: of all."""
_UNCONNECTED, _POLLING = "unconnected", "polling"
_WORDS: Final = {_UNCONNECTED: "clients that have not connected", _POLLING: "clients that poll"}


class Refused(Exception):
    """A request is not served; ``status`` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class LobbyFull(Refused):
    """There are too many; the status is 429 where one address has too many, else 503."""


class Lobby:
    """Counts sessions by what they are at the moment."""

    def __init__(self, limits: SocketLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = {
            (_UNCONNECTED, True): limits.unconnected_per_address,
            (_UNCONNECTED, False): limits.unconnected,
            (_POLLING, True): limits.polling_per_address,
            (_POLLING, False): limits.polling,
        }
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
        kinds = (_UNCONNECTED, _POLLING) if polls else (_UNCONNECTED,)
        keys = [key for kind in kinds for key in _keys(kind, address)]
        for key in keys:
            most = self._most[key[0], key[1] is not None]
            if most and self._counts[key] >= most:
                self._refuse(key)
        guest = Guest(self._counts, address)
        guest.add(keys)
        return guest

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

    __slots__ = ("_address", "_counts", "_is_gone", "_keys", "has_session")

    def __init__(self, counts: Counter[_Key], address: str | None) -> None:
        self._counts = counts
        self._address = address
        self._keys: set[_Key] = set()
        self._is_gone = False
        self.has_session = False
        """Whether the request has come to a session, whose end is the guest's."""

    def add(self, keys: Iterable[_Key]) -> None:
        """Be counted for these, too."""
        new = set() if self._is_gone else set(keys) - self._keys
        self._keys |= new
        self._counts.update(new)

    def has_connected(self) -> None:
        """It is in a namespace now."""
        self._remove(_UNCONNECTED)

    def has_disconnected(self) -> None:
        """It is in no namespace any more; that never is too many, since it is there."""
        self.add(_keys(_UNCONNECTED, self._address))

    def has_upgraded(self) -> None:
        """It has a WebSocket now."""
        self._remove(_POLLING)

    def leave(self) -> None:
        """It has ended."""
        self._is_gone = True
        self._remove(_UNCONNECTED, _POLLING)

    def _remove(self, *kinds: str) -> None:
        for key in [key for key in self._keys if key[0] in kinds]:
            self._keys.discard(key)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def _keys(kind: str, address: str | None) -> list[_Key]:
    return [(kind, None)] if address is None else [(kind, address), (kind, None)]


def receive_guest(scope: MutableMapping[str, Any], guest: Guest) -> None:
    """Have a request carry its guest, to where its session is made."""
    scope[_GUEST] = guest


def guest_of(environ: Any) -> Guest | None:
    """The guest whose request an environ is of."""
    scope = environ.get("asgi.scope", {}) if isinstance(environ, dict) else {}
    guest = scope.get(_GUEST)
    return guest if isinstance(guest, Guest) else None
