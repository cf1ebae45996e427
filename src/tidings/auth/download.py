"""Fetching a document over HTTP in a thread, with one deadline over the whole of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import Future
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

# Some providers turn the default User-Agent of urllib away.
_HEADERS: Final = {"Accept": "application/json", "User-Agent": "tidings"}


async def download(url: str, *, seconds: float, max_bytes: int) -> bytes:
    """The body at an http(s) URL; redirects are not followed, proxies of the environment are used.

    Whatever the server does (drips, sends headers without an end, says nothing), the answer or the
    error comes after ``seconds`` at the latest, and the connection is closed then.

    Raises:
        OSError, HTTPException: it cannot be reached; TimeoutError: it is not complete in time.
        ValueError: it answers with another status than success, or with more than ``max_bytes``.
    """
    outcome: Future[bytes] = Future()
    outcome.set_running_or_notify_cancel()  # whoever gives up leaves it to the thread
    lines = _Lines()

    def run() -> None:
        try:
            outcome.set_result(_read(url, seconds, max_bytes, lines))
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            outcome.set_exception(error)
        finally:
            lines.close()

    # A thread of its own: one that hangs must not take the place of the application's.
    threading.Thread(target=run, name="tidings-download", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(outcome)
    except TimeoutError:
        raise TimeoutError(f"not complete after {seconds:g} s") from None
    finally:
        lines.cut()


class _Lines:
    """The connections of one download, which another thread can cut.

    The time-out of a socket is no bound: it begins anew with each byte.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_cut = False

    def add(self, line: socket.socket) -> None:
        # Another descriptor of the same connection: TLS takes the first one away.
        twin = line.dup()
        with self._lock:
            self._open.append(twin)
            if self._is_cut:
                _shut(twin)

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            for twin in self._open:
                _shut(twin)

    def close(self) -> None:
        with self._lock:
            for twin in self._open:
                twin.close()
            self._open.clear()


def _shut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _read(url: str, seconds: float, max_bytes: int, lines: _Lines) -> bytes:
    body = bytearray()
    try:
        request = Request(url, headers=_HEADERS)  # noqa: S310 - the caller has checked the scheme
        with _opener(lines).open(request, timeout=seconds) as response:
            while chunk := response.read1(65536):
                body += chunk
                if len(body) > max_bytes:
                    raise ValueError(f"the document is larger than {max_bytes} bytes")
    except HTTPError as error:
        error.close()
        raise ValueError(f"the server answered with status {error.code}") from None
    return bytes(body)


def _opener(lines: _Lines) -> OpenerDirector:
    """Without the handlers for redirects, files and FTP: only the one URL is ever asked."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            lines.add(self.sock)

    # HTTPSConnection's own connect() goes on to that of Plain, and then to TLS.
    class Secure(HTTPSConnection, Plain):
        pass

    class PlainHandler(HTTPHandler):
        def http_open(self, req: Request) -> HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(HTTPSHandler):
        def https_open(self, req: Request) -> HTTPResponse:
            return self.do_open(Secure, req)

    handlers: list[Any] = [ProxyHandler(), PlainHandler(), SecureHandler()]
    opener = OpenerDirector()
    for handler in [*handlers, HTTPDefaultErrorHandler(), HTTPErrorProcessor()]:
        opener.add_handler(handler)
    return opener
