"""What a supervisor counts of a worker's silence."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from tidings.serving.workers import Worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers")
_ONE_BEAT = """
import socket, sys
line = socket.socket(fileno=int(sys.argv[-1]))
line.send(b"1")
line.recv(1)
"""


def test_the_time_that_nobody_looked_is_not_held_against_a_worker() -> None:
    """A machine that slept for an hour, or a stopped supervisor, must not kill them all."""
    with socket.socket() as listener:
        worker = Worker([sys.executable, "-c", _ONE_BEAT], listener)
        try:
            worker.look(3600)
            assert worker.silent_seconds == 0, "one that does not serve yet may take its time"
            until = time.monotonic() + 60
            while not worker.is_serving:
                assert time.monotonic() < until
                worker.look(0.01)
            worker.look(3600)
            worker.look(0.25)
            assert worker.silent_seconds == 1.25
        finally:
            worker.kill()
            worker.process.wait()
            worker.close()
