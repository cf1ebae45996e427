"""A private Redis server, in a directory of its own, that tests may hurt in every way.

with redis_server(password="secret") as server:
    server.kill()
    server.start()
    server.execute("CONFIG", "SET", "maxmemory", "1mb")
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.support.databases import (
    _WATCHDOG,
    START_TIMEOUT,
    _binary,
    _directory,
    _started_as,
)
from tests.support.server import free_port


@dataclass
class RedisServer:
    """A server of one directory; it may be down and come up again, on the same port."""

    port: int
    password: str | None
    _directory: Path
    _options: Sequence[str]
    _tls: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _watchdog: subprocess.Popen[bytes] | None = None

    def redis(self, **more: Any) -> dict[str, Any]:
        """What ``redis=`` has to be."""
        own = {"host": "127.0.0.1", "port": self.port, "password": self.password}
        return own | more

    @property
    def socket(self) -> Path:
        """Its Unix socket."""
        return self._directory / "redis.sock"

    @property
    def clients(self) -> int:
        """How many connections it has, but for the administrator's."""
        return str(self.execute("CLIENT", "LIST")).count("addr=") // 2 - 1

    def log(self) -> str:
        """What the server has said."""
        return (self._directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, with the data that it has persisted, and wait until it answers."""
        program = _binary("redis-server", "Redis", "redis-server", "redis")
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [program, *self._options],
                stdout=output,
                stderr=subprocess.STDOUT,
                **_started_as(self._directory),
            )
        self._watchdog = subprocess.Popen(
            ["sh", "-c", _WATCHDOG, "sh", "KILL", str(self._process.pid), str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with suppress(redis.RedisError):
                self.execute("PING")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not start\n{log.read_text()[-4000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None and self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._process.kill()
            self._process.wait()
            self._process = self._watchdog = None

    def restart(self) -> None:
        """Killed and started again; without an append-only file it is empty then."""
        self.kill()
        self.start()

    def restart_empty(self) -> None:
        """Killed and started again without its data."""
        self.kill()
        for path in self._directory.glob("appendonlydir"):
            shutil.rmtree(path)
        for path in self._directory.glob("*.rdb"):
            path.unlink()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def execute(self, *command: str | bytes | int, db: int = 0) -> Any:
        """Run a command as the administrator; the answer with texts as bytes."""
        client = redis.Redis(
            "127.0.0.1",
            self.port,
            db,
            self.password,
            socket_timeout=10,
            protocol=2,
            retry=None,
            **self._tls,
        )
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def drop_connections(self) -> None:
        """Cut off everybody."""
        self.execute("CLIENT", "KILL", "TYPE", "normal")


@contextmanager
def redis_server(
    *options: str, password: str | None = None, tls: Path | None = None
) -> Iterator[RedisServer]:
    """A running server; ``options`` are those of its command line, ``--name``, ``value``.

    ``tls`` is a directory with ``ca.pem``, ``server.pem`` and ``server.key``; the port then
    speaks nothing but TLS.

    Raises:
        MissingServer: redis-server is not installed.
    """
    _binary("redis-server", "Redis", "redis-server", "redis")
    # A node of a cluster has another port, 10,000 above.
    port = next(port for port in iter(free_port, None) if port < 55_536)
    with _directory() as directory:
        command = ["--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        command += ["--unixsocket", "redis.sock", *options]
        command += ["--requirepass", password] if password else []
        client: dict[str, Any] = {}
        if tls is None:
            command += ["--port", str(port)]
        else:
            for name in ("ca.pem", "server.pem", "server.key"):
                shutil.copy(tls / name, directory / name)
                (directory / name).chmod(0o644)
            command += ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
            command += ["--tls-ca-cert-file", "ca.pem", "--tls-cert-file", "server.pem"]
            command += ["--tls-key-file", "server.key"]
            client = {"ssl": True, "ssl_ca_certs": str(tls / "ca.pem")}
        server = RedisServer(port, password, directory, command, client)
        try:
            server.start()
            yield server
        finally:
            server.kill()
