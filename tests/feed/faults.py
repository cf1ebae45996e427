"""What may happen to a private PostgreSQL: it is killed, started again, stopped for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.databases import DatabaseServer, _started_as


class Faults:
    """A server with all that one may do to it."""

    def __init__(self, server: DatabaseServer) -> None:
        self.server = server
        self._first = self._process = server._process
        self._command = list(self._first.args)  # type: ignore[call-overload]
        self.data = server._log.parent / "data"

    def crash(self) -> None:
        """As at a power cut, but that the operating system keeps what has been written."""
        family = self._family()
        for pid in family:
            self._signal(pid, signal.SIGKILL)
        self._process.wait()
        while any(Path(f"/proc/{pid}").exists() or _is_alive(pid) for pid in family[1:]):
            time.sleep(0.01)

    def stop(self) -> None:
        """In good order, though at once."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def start(self, **settings: str) -> None:
        """Start it (again), with these settings besides the usual ones."""
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self.server._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                **_started_as(self.data.parent),
            )
        self.server._process = self._process
        self.server._ready()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing of it runs, but its connections stay."""
        family = self._family()
        for pid in family:
            self._signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                self._signal(pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not self._first and self._process.poll() is None:
            self.stop()

    def _family(self) -> list[int]:
        done = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        own = self._process.pid
        return [own, *(pid for pid, parent in pairs if parent == own)]

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
