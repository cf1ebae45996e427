"""Listener: a listening socket that refuses connections before there are no descriptors left."""

from __future__ import annotations

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


class Listener(socket.socket):
    """What the event loop accepts from.

    Out of descriptors, asyncio tries again as often as the backlog is long, and logs a traceback
    each time; and the process can open neither files nor connections to its database. So a client
    that comes when few descriptors are left is accepted and let go at once. New descriptors are
    the lowest that are free, so that their number tells how many are in use.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._refused = 0
        self._quiet_until = 0.0

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
        if client.fileno() < most_files() - _reserve():
            return client, address
        client.close()
        self._note()
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
        self._note()

    def _note(self) -> None:
        self._refused += 1
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _LOG_SECONDS
        _log.error(
            "%d connections were refused: at most %d files may be open; raise it "
            "(ulimit -n 65536, or LimitNOFILE= of systemd)",
            self._refused,
            most_files(),
        )
        self._refused = 0


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
