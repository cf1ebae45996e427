"""A process that has everything imported, and forks servers: one is up in a few milliseconds.

It holds the listening sockets, one per slot, so that a connection that comes while the slot's
server is dead waits for the next one, as with a supervisor.

    in   {"start": 0, "die": ["committed", 7], "mutant": "drop a change"}
    out  {"slot": 0, "pid": 4711}
    out  {"ended": 4711, "status": -9}
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from importlib import import_module
from typing import Any

import uvicorn

from tests.chaos.app import Setup, make_app
from tests.chaos.faults import die_at, mutate

_LATER = ("asyncpg", "asyncmy", "redis.asyncio", "websockets")


def serve(config: uvicorn.Config, listener: socket.socket, order: dict[str, Any]) -> None:
    """Be a server until somebody ends this process."""
    if order.get("mutant"):
        mutate(order["mutant"])
    if order.get("die"):
        point, count = order["die"]
        die_at(point, count)
    uvicorn.Server(config).run(sockets=[listener])


def _config(setup: Setup) -> uvicorn.Config:
    """The app, put together, and all that uvicorn would import late; nothing is connected yet."""
    app, api = make_app(setup)
    assert api.rest_app is not None
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="on"
    )
    config.load()
    return config


class Zygote:
    """The parent of the servers."""

    def __init__(self, setup: Setup, listeners: list[socket.socket]) -> None:
        self._config = _config(setup)
        self._listeners = listeners
        self._children: set[int] = set()
        self._wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Obey until the input ends."""
        rest = b""
        while True:
            ready, _, _ = select.select([0, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._start(json.loads(line))
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, order: dict[str, Any]) -> None:
        slot = order["start"]
        pid = os.fork()
        if pid == 0:
            self._become(self._listeners[slot], order)
        self._children.add(pid)
        _say({"slot": slot, "pid": pid})

    def _become(self, listener: socket.socket, order: dict[str, Any]) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(2, 1)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            serve(self._config, listener, order)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._children.discard(pid)
            _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _listeners(slots: int) -> list[socket.socket]:
    made = []
    for _ in range(slots):
        # With the protocol named, asyncio turns Nagle off.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        made.append(listener)
    return made


def main() -> None:
    told = json.loads(sys.argv[1])
    for name in _LATER:
        with contextlib.suppress(ImportError):
            import_module(name)
    listeners = _listeners(told["slots"])
    _say({"ports": [listener.getsockname()[1] for listener in listeners]})
    Zygote(Setup(**told["setup"]), listeners).run()


if __name__ == "__main__":
    main()
