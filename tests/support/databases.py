"""Private database servers: started in a directory of their own, empty, and gone afterwards.

with postgresql() as server:
    with server.database() as url:   # an empty database: postgresql+asyncpg://...
        ...

They are real but for fsync, and set up to differ from what tests might take for granted: other
collations than by code point, a time zone that nobody has. When the process that started them
dies, however it does, they stop and their files go.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals
from typing import Any

from tests.support.server import free_port

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
USER, PASSWORD = "tidings", "right-password"

# Waits for the pipe's end, that is for the end of the process that holds the other side.
_WATCHDOG = """
cat >/dev/null
kill -s "$1" "$2" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$2" 2>/dev/null || break; sleep 0.5; done
kill -s KILL "$2" 2>/dev/null
rm -rf "$3"
"""


_ALWAYS_THERE = {"postgresql+asyncpg": "postgres", "mariadb+asyncmy": "mysql"}
_EMPTY_POSTGRESQL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = '{}' AND pid <> pg_backend_pid()",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
)


class MissingServer(Exception):
    """The server's binaries are not installed; the text says what to install."""


@dataclass
class DatabaseServer:
    """A running server; ``url`` is that of a database which is always there."""

    scheme: str
    port: int
    _execute: Callable[[DatabaseServer, str, Sequence[str]], Awaitable[None]]
    _empty: Sequence[str]
    _process: subprocess.Popen[bytes]
    _log: Path
    _numbers: Iterator[int] = field(default_factory=count)
    _unused: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.url_of("tidings")

    def url_of(self, database: str, *, password: str = PASSWORD) -> str:
        return f"{self.scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, emptied in the end whoever still uses it."""
        if self._unused:
            name = self._unused.pop()
        else:
            name = f"d{next(self._numbers)}"
            self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url_of(name)
        finally:
            # Cheaper than a new one, which PostgreSQL copies file by file.
            self.execute(*(sql.format(name) for sql in self._empty), database=name)
            self._unused.append(name)

    def execute(self, *statements: str, database: str = "tidings") -> None:
        """Run statements as the administrator; safe where an event loop is running."""
        _in_thread(lambda: self._execute(self, database, statements))

    def log(self) -> str:
        """The end of what the server has said."""
        return self._log.read_text(errors="replace")[-4000:]

    def _ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.scheme}: the server ended\n{self.log()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                self.execute("SELECT 1", database=_ALWAYS_THERE[self.scheme])
                return
            except Exception:  # it is starting up; the drivers say so in ways of their own
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.scheme}: not ready\n{self.log()}") from None
                time.sleep(0.05)


@contextmanager
def postgresql() -> Iterator[DatabaseServer]:
    """A private PostgreSQL; its default order of texts is that of a dictionary (where it can)."""
    initdb = _binary("initdb", "PostgreSQL", "postgresql", "postgresql")
    postgres = _binary("postgres", "PostgreSQL", "postgresql", "postgresql")
    with _directory() as directory:
        data = directory / "data"
        password = directory / "password"
        password.write_text(PASSWORD)
        command = [initdb, f"--pgdata={data}", f"--username={USER}", f"--pwfile={password}"]
        # One hash per connection, instead of the thousands that SCRAM asks of the client.
        command += ["--auth=md5", "--encoding=UTF8", "--no-sync"]
        command += ["--set=password_encryption=md5"] if _version(initdb) >= 16 else []
        dictionary = ["--locale=C", "--locale-provider=icu", "--icu-locale=en-US"]
        done = _run([*command, *dictionary], directory)
        if done.returncode:  # before 15, or built without ICU
            shutil.rmtree(data, ignore_errors=True)
            done = _run([*command, "--locale=C"], directory)
        if done.returncode:
            raise RuntimeError(f"initdb failed\n{done.stdout}")
        port = free_port()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "shared_buffers": "64MB",
            "timezone": "Australia/Eucla",
            "datestyle": "German, DMY",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with _server([postgres, "-D", str(data), *options], directory, SIGINT) as (process, log):
            server = DatabaseServer(
                "postgresql+asyncpg",
                port,
                _execute_postgresql,
                _EMPTY_POSTGRESQL,
                process,
                log,
            )
            server._ready()
            server.execute("CREATE DATABASE tidings", database="postgres")
            yield server


@contextmanager
def mariadb() -> Iterator[DatabaseServer]:
    """A private MariaDB, with its default collation, for which A and a are the same."""
    install = _binary("mariadb-install-db", "MariaDB", "mariadb-server", "mariadb")
    mariadbd = _binary("mariadbd", "MariaDB", "mariadb-server", "mariadb")
    with _directory() as directory:
        data = directory / "data"
        done = _run(
            [
                install,
                "--no-defaults",
                f"--datadir={data}",
                # Two that begin at once, in containers with one /tmp, would share file names there.
                f"--tmpdir={directory}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            directory,
        )
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed\n{done.stdout}")
        first = directory / "first.sql"
        first.write_text(
            f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
            "CREATE DATABASE tidings;\n"
        )
        first.chmod(0o644)
        port = free_port()
        settings = {
            "datadir": data,
            "tmpdir": directory,
            "port": port,
            "bind-address": "127.0.0.1",
            "socket": directory / "socket",
            "pid-file": directory / "pid",
            "init-file": first,
            "skip-name-resolve": 1,
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-flush-method": "nosync",
            "innodb-doublewrite": 0,
            "innodb-buffer-pool-size": "64M",
            "innodb-log-file-size": "16M",
            "performance-schema": 0,
            "max-connections": 200,
            "default-time-zone": "+08:45",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        # Not SIGTERM, to which it answers with an orderly shutdown: nothing here is to be kept.
        with _server([mariadbd, "--no-defaults", *options], directory, SIGKILL) as (process, log):
            server = DatabaseServer(
                "mariadb+asyncmy",
                port,
                _execute_mariadb,
                ("DROP DATABASE {}", "CREATE DATABASE {}"),
                process,
                log,
            )
            server._ready()
            yield server


async def _execute_postgresql(
    server: DatabaseServer, database: str, statements: Sequence[str]
) -> None:
    asyncpg = import_module("asyncpg")
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, database=database
    )
    try:
        for sql in statements:
            await connection.execute(sql)
    finally:
        await connection.close()


async def _execute_mariadb(
    server: DatabaseServer, database: str, statements: Sequence[str]
) -> None:
    asyncmy = import_module("asyncmy")
    connection = await asyncmy.connect(
        host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, db=database
    )
    try:
        async with connection.cursor() as cursor:
            for sql in statements:
                await cursor.execute(sql)
    finally:
        await connection.ensure_closed()


def _in_thread(work: Callable[[], Awaitable[None]]) -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        await work()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _binary(name: str, what: str, package: str, brew: str) -> str:
    """The path of a program, also where distributions hide it from PATH; the newest of several."""
    folders = [Path(folder) for folder in ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")]
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/*/bin"):
        found = Path("/").glob(pattern)
        folders += sorted(found, key=lambda path: _numbers_in(str(path)), reverse=True)
    path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if path is None:
        raise MissingServer(
            f"{name} was not found: install {what} (Debian and Ubuntu: apt-get install {package}; "
            f"macOS: brew install {brew})"
        )
    return path


def _numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _version(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return _numbers_in(done.stdout)[0]


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tidings-"))
    try:
        if account := _account():
            os.chown(path, account.pw_uid, account.pw_gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Whom the servers run as: PostgreSQL refuses root, so for root somebody without rights."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "postgres", "mysql"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise MissingServer("started by root, a server needs an account without rights: add 'nobody'")


def _started_as(directory: Path) -> dict[str, Any]:
    options: dict[str, Any] = {
        "cwd": directory,
        "env": {**os.environ, "HOME": str(directory), "LC_ALL": "C", "TZ": "UTC"},
        "stdin": subprocess.DEVNULL,
        # Not reached by what is sent to the terminal's group: Ctrl-C is for the tests.
        "start_new_session": True,
    }
    if account := _account():
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options


def _run(command: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_started_as(directory),
    )


@contextmanager
def _server(
    command: Sequence[str], directory: Path, stop: Signals
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, **_started_as(directory)
        )
    watchdog = subprocess.Popen(
        ["sh", "-c", _WATCHDOG, "watchdog", stop.name[3:], str(process.pid), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process, log
    finally:
        watchdog.kill()
        watchdog.communicate()  # closes the pipe, for what the shell was running
        process.send_signal(stop)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
