"""Refusing connections before there are no descriptors left.

Out of descriptors a process can open neither files nor connections to its database, and asyncio
tries again as often as the backlog is long, with a traceback each time. New descriptors are the
lowest that are free, so that the number of a connection's tells how many are in use.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from typing import Any, Final

_log = logging.getLogger("tidings.serving")
BACKLOG: Final = 2048
_RESERVE: Final = 64
"""So many descriptors stay for databases, files and whatever else is not a client."""
_LOG_SECONDS: Final = 10.0
_NONE_LEFT: Final = (errno.EMFILE, errno.ENFILE)


class _Refusals:
    """Counts connections that were refused, and says so now and then."""

    def __init__(self) -> None:
        self._count = 0
        self._quiet_until = 0.0

    def note(self) -> None:
        self._count += 1
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _LOG_SECONDS
        _log.error(
            "%d connections were refused: at most %d files may be open; raise it "
            "(ulimit -n 65536, or LimitNOFILE= of systemd)",
            self._count,
            most_files(),
        )
        self._count = 0


_refusals = _Refusals()


class Listener(socket.socket):
    """What asyncio's event loop accepts from: a client for whom few descriptors would be left is
    accepted and let go at once. uvloop does without: see `refusing`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a client.

        Raises:
            BlockingIOError: there is none, or it was let go.
        """
        try:
            client, address = super().accept()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            self._let_go()
            raise BlockingIOError from None
        if _leaves_enough(client):
            return client, address
        client.close()
        _refusals.note()
        raise BlockingIOError

    def close(self) -> None:
        """Listen no longer."""
        super().close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _let_go(self) -> None:
        """Accept one with the descriptor kept for that: it would stay in the backlog for ever."""
        os.close(self._spare)
        try:
            super().accept()[0].close()
        except OSError:
            pass  # somebody else has taken either
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY)
        _refusals.note()


def refusing(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """A protocol that lets a client go for whom few descriptors would be left.

    It is for uvloop, which accepts in C whatever comes.
    """

    class Refusing(protocol):  # type: ignore[valid-type, misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            line = transport.get_extra_info("socket")
            if line is None or _leaves_enough(line):
                super().connection_made(transport)
                return
            transport.set_protocol(asyncio.Protocol())  # to this one it has never been made
            transport.abort()
            _refusals.note()

    return Refusing


def _leaves_enough(line: Any) -> bool:
    return bool(line.fileno() < most_files() - _reserve())


def most_files() -> int:
    """How many descriptors this process may have."""
    try:
        import resource
    except ImportError:  # there is no such limit on Windows
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _reserve() -> int:
    return min(_RESERVE, most_files() // 4)
