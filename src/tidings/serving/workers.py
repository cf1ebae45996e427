"""Workers: the processes of ``tidings run --workers N``, which share one listening socket.

uvicorn has a supervisor, too. Ours stays because tests hold it to what that one does not do:
workers end with a parent that was killed, and a hanging start does not keep the parent from ending;
those that keep failing are started ever more seldom; a second Ctrl+C ends them at once; and the
supervisor watches and hears signals while it replaces them. Nor would a blocked event loop be seen
by uvicorn's health check, which a thread of the worker answers. Here the event loop answers.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

import click

from tidings.serving.listening import Listener

_TICK: Final = 0.2
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_STEADY_SECONDS: Final = 60.0
"""A process that has served for so long does not count as one that keeps failing."""
_START_GRACE: Final = 5.0
"""So long a process that does not serve yet has to end, before it is killed."""
_ENDED: Final = (signal.SIGTERM, signal.SIGINT)
BEAT_SECONDS: Final = 0.5
"""So often a worker says that its event loop turns."""
_LONGEST_GAP: Final = 1.0
"""So much at most counts between two looks: where we did not run, nor did the workers, perhaps."""


class Worker:
    """One process. By a socket it says when it serves, and then that it is alive; it ends when that
    socket is closed.
    """

    def __init__(self, command: Sequence[str], listener: socket.socket) -> None:
        self._line, its = socket.socketpair()
        fds = (listener.fileno(), its.fileno())
        options = ["--listener", str(fds[0]), "--parent", str(fds[1])]
        try:
            with its:
                # In a group of its own: Ctrl+C is for us, and we say it to all in order.
                self.process = subprocess.Popen(  # noqa: S603  our own command
                    [*command, *options], pass_fds=fds, process_group=0
                )
        except BaseException:
            self._line.close()
            raise
        self.is_serving = False
        self.silent_seconds = 0.0
        self.started = time.monotonic()
        self.is_leaving = False
        self.is_killed = False

    def look(self, gap: float) -> None:
        """See whether it serves, and is alive; ``gap`` is how long nobody has looked."""
        said = b""
        with suppress(BlockingIOError, ConnectionError):
            said = self._line.recv(65536, socket.MSG_DONTWAIT)
        if said:
            self.is_serving = True
            self.silent_seconds = 0.0
        elif self.is_serving:
            self.silent_seconds += min(gap, _LONGEST_GAP)

    def leave(self, number: int = signal.SIGTERM) -> None:
        """Have it end; it takes as long as its clients need."""
        self.is_leaving = True
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once. It counts as one that has failed, unless it was to leave."""
        self.is_killed = True
        self.process.kill()

    def close(self) -> None:
        """Let go of one that has ended."""
        self._line.close()


class Workers:
    """Keeps ``count`` processes of a command running, until SIGTERM or SIGINT; SIGHUP replaces
    them one by one, each when its successor serves. A second signal to end kills them, as does an
    event loop that stands still for ``patience`` seconds (0: it may do so for ever).
    """

    def __init__(
        self, command: Sequence[str], listener: socket.socket, count: int, *, patience: float
    ) -> None:
        self._command = [sys.executable, *command]
        self._listener = listener
        self._count = count
        self._patience = patience
        self._workers: list[Worker] = []
        self._old: deque[Worker] = deque()
        self._ends = 0
        self._has_served = False
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE
        self._looked = time.monotonic()

    def run(self, announcement: str) -> int:
        """Run until told to end, or until a first process cannot be started; the exit status.

        What is to be announced is, once all of them serve.
        """
        for number in _ENDED:
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._replace)
        try:
            while not self._ends:
                self._start_missing()
                self._wait()
                failed = self._collect()
                if failed is not None and not self._has_served:
                    return failed
                if not self._has_served and all(one.is_serving for one in self._workers):
                    self._has_served = True
                    _say(announcement)
                self._retire()
            return 0
        finally:
            self._stop()

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._ends += 1

    def _replace(self, _signal: int, _frame: FrameType | None) -> None:
        self._old = deque(self._workers)

    @property
    def _staying(self) -> list[Worker]:
        return [one for one in self._workers if not one.is_leaving]

    def _start_missing(self) -> None:
        # While one is to be replaced there is one more: its successor.
        wanted = self._count + (1 if self._old else 0)
        while len(self._staying) < wanted and time.monotonic() >= self._not_before:
            try:
                self._workers.append(Worker(self._command, self._listener))
            except OSError as error:  # no descriptors, no memory, no more processes
                _say(f"no process can be started: {error.strerror}", err=True)
                self._back_off()

    def _back_off(self) -> None:
        """Wait for a while, and for longer each time, before another process is started."""
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _wait(self, seconds: float = _TICK) -> None:
        time.sleep(seconds)
        now = time.monotonic()
        for one in self._workers:
            one.look(now - self._looked)
        self._looked = now
        self._kill_hung()

    def _kill_hung(self) -> None:
        """Kill those whose event loop stands still: their clients would wait for them for ever."""
        for one in self._workers:
            is_hung = 0 < self._patience <= one.silent_seconds
            if is_hung and one.process.poll() is None and not one.is_killed:
                told = f"process {one.process.pid} has not answered for {self._patience:g} s"
                _say(f"{told}: it is killed", err=True)
                one.kill()

    def _collect(self) -> int | None:
        """Let go of those that have ended; the exit status of one that never served."""
        failed = None
        for one in [one for one in self._workers if one.process.poll() is not None]:
            self._workers.remove(one)
            one.close()
            if one in self._old:
                self._old.remove(one)
            if one.is_leaving:
                continue
            if not one.is_serving:
                failed = one.process.returncode or 1
            if time.monotonic() - one.started > _STEADY_SECONDS:
                self._pause = _FIRST_PAUSE
            self._back_off()
            told = f"process {one.process.pid} has ended ({one.process.returncode})"
            if self._has_served or one.is_serving:
                wait = max(0.0, self._not_before - time.monotonic())
                _say(f"{told}; another one is started in {wait:.1f} s", err=True)
        return failed

    def _retire(self) -> None:
        """End the next that is to be replaced, once its successor serves and the last has gone."""
        staying = self._staying
        is_quiet = len(staying) == len(self._workers) and all(one.is_serving for one in staying)
        if self._old and len(staying) > self._count and is_quiet:
            self._old.popleft().leave()

    def _stop(self) -> None:
        begin = time.monotonic()
        for one in self._workers:
            one.leave()
        while running := [one for one in self._workers if one.process.poll() is None]:
            is_late = time.monotonic() - begin > _START_GRACE
            for one in running:
                # One that hangs while it starts has no clients that it would have to care for.
                if self._ends > 1 or (is_late and not one.is_serving):
                    one.leave(signal.SIGKILL)
            self._wait(_TICK / 4)
        for one in self._workers:
            one.close()


def _say(text: str, *, err: bool = False) -> None:
    """Print a line, if somebody reads it: the processes matter more than what is said of them."""
    stream = sys.stderr if err else sys.stdout
    with suppress(OSError, ValueError):
        # A pipe that nobody empties would hold us up for ever.
        if select.select([], [stream], [], 0)[1]:
            click.echo(text, err=err)


def watch_parent(line: socket.socket, gone: Callable[[], None]) -> None:
    """Call ``gone``, from a thread, when the process at the other end of the line has ended.

    A thread, since a process may hang while it imports the application, or while it starts.
    """

    def wait() -> None:
        with suppress(OSError):
            while line.recv(1):
                pass
        gone()

    threading.Thread(target=wait, name="tidings-parent", daemon=True).start()


def inherited(fd: int) -> socket.socket:
    """The socket that a process was given by its parent."""
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def inherited_listener(fd: int) -> Listener:
    """The listening socket that a process was given by its parent."""
    os.set_inheritable(fd, False)
    return Listener(fileno=fd)
