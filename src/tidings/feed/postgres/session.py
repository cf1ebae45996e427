"""Session: one connection to the PostgreSQL server that keeps a feed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tidings.errors import ConfigurationError
from tidings.feed.feed import FeedUnavailable

Connection = Any
"""One of asyncpg's, which has no types."""
T = TypeVar("T")

_CLOSE_SECONDS: Final = 1.0
_CLOSED: Final = "it has been closed"
_NOT_FOR_US: Final = frozenset({"prepared_statement_cache_size", "prepared_statement_name_func"})
_OPTIONS: Final = frozenset(
    {
        "host",
        "passfile",
        "port",
        "ssl",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslrootcert",
        "target_session_attrs",
    }
)
_FILES: Final = frozenset({"passfile", "sslcert", "sslcrl", "sslkey", "sslrootcert"})

# By the first characters of the SQLSTATE: a prepared statement is gone, since a pooler has put
# another connection behind ours; who connects is unknown or may not, there is no such
# database or schema, the statements do not suit what is there (or are not permitted), nor does the
# protocol.
_REFUSALS: Final = ("26", "28", "3D", "3F", "42", "0A", "08P01")


class Server:
    """Where the server is and how to connect, read from an SQLAlchemy URL.

    ``timeout`` (seconds) bounds connecting, each statement on the server, and each wait for a
    lock. The password stays inside the `URL`, which does not show it.
    """

    def __init__(self, url: str | URL, timeout: float) -> None:
        self._url = _checked(url)
        self.timeout = timeout

    def __str__(self) -> str:
        hosts = self._url.query.get("host", ())
        named = ",".join([hosts] if isinstance(hosts, str) else hosts) or self._url.host or "local"
        port = "" if self._url.port is None else f":{self._url.port}"
        return f"postgresql://{named}{port}/{self._url.database or ''}"

    async def connect(self) -> Connection:
        """A new connection, set up for a feed. It raises what asyncpg raises."""
        milliseconds = str(int(self.timeout * 1000))
        return await import_module("asyncpg").connect(
            **self._arguments(),
            timeout=self.timeout,
            server_settings={
                "application_name": "tidings feed",
                # An append is one statement, whose parts have to see what others have committed
                # while it waited for its turn.
                "default_transaction_isolation": "read committed",
                # What has been read must not be undone by a crash of the server. Replicas need not
                # be waited for: where one takes over, that is another epoch.
                "synchronous_commit": "local",
                "statement_timeout": milliseconds,
                "lock_timeout": str(int(self.timeout * 800)),
                "idle_in_transaction_session_timeout": milliseconds,
                "jit": "off",
            },
        )

    def _arguments(self) -> dict[str, Any]:
        url = self._url
        query = {name: value for name, value in url.query.items() if name not in _NOT_FOR_US}
        if "ssl" in query:
            query["sslmode"] = query.pop("ssl")
        given: dict[str, Any] = {
            "host": url.host,
            "port": url.port,
            "user": url.username,
            "password": url.password,
            "database": url.database,
        }
        several = query.get("host", "")
        if not isinstance(several, str) or "," in several:
            # SQLAlchemy's way to say several is host=a:5432&host=b:5432, libpq's is host=a,b.
            query.setdefault("target_session_attrs", "read-write")
            query["host"] = several if isinstance(several, str) else ",".join(several)
        # Only there does asyncpg take all the options of libpq.
        given["dsn"] = "postgresql://?" + urlencode(query) if query else None
        return given


class Session:
    """One connection, made when it is needed, which does one thing at a time.

    It is given up whenever anything goes wrong with it, so that none is used whose state is not
    known. ``channel`` is what it listens to.
    """

    def __init__(self, server: Server, channel: str | None = None) -> None:
        self._server = server
        self._channel = channel
        self._connection: Connection | None = None
        self._connecting: asyncio.Future[Connection] | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False
        self.mark = ""
        """What the server is, as far as entries may get lost between two of them."""
        self.woken = asyncio.Event()
        """Set by a notification, and when the connection is lost or given up."""

    @property
    def is_lost(self) -> bool:
        """Whether the server, or the network, has ended the connection that there was."""
        return self._connection is not None and self._connection.is_closed()

    def open(self) -> None:
        """Allow connections (again)."""
        self._is_closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something with the connection.

        Raises:
            FeedUnavailable: it could not be done, or took longer than ``timeout`` and a second.
        """
        with self._told():
            async with asyncio.timeout(self._server.timeout + 1), self._turn:
                # asyncpg must not be cancelled: it would connect once more, to cancel what it does.
                task = asyncio.ensure_future(work(await self._connected()))
                task.add_done_callback(_is_done)
                try:
                    await asyncio.wait([task])
                    return task.result()
                except BaseException:
                    self._drop()
                    await asyncio.wait([task])
                    raise

    def drop(self) -> None:
        """Give the connection up, where it is lost."""
        if self.is_lost:
            self._drop()

    def give_up(self) -> None:
        """Give the connection up, unless something is being done with it: the next one is new."""
        if not self._turn.locked():
            self._drop()

    async def close(self) -> None:
        """Give the connection up, and whatever is being done with it."""
        self._is_closed = True
        self.woken.set()
        if (connecting := self._connecting) is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
            if _is_done(connecting):
                connecting.result().terminate()
            self._connecting = None
        if self._connection is not None and not self._turn.locked():
            try:
                await self._connection.close(timeout=_CLOSE_SECONDS)
            except _failures():
                pass  # It has been given up nonetheless.
        self._drop()
        # The transport is closed by the event loop, in its next round.
        await asyncio.sleep(0)

    async def _connected(self) -> Connection:
        if self._is_closed:
            raise FeedUnavailable(_CLOSED)
        if self.is_lost:
            self._drop()
        if self._connection is None:
            if self._connecting is None:
                self._connecting = asyncio.ensure_future(self._connect())
                self._connecting.add_done_callback(_is_done)
            # Where this is given up, the next one who needs the connection has it.
            await asyncio.wait([self._connecting])
            connecting, self._connecting = self._connecting, None
            if connecting is None or connecting.cancelled():
                raise FeedUnavailable(_CLOSED)
            self._connection = connecting.result()
        return self._connection

    async def _connect(self) -> Connection:
        connection = await self._server.connect()
        try:
            async with asyncio.timeout(self._server.timeout):
                self.mark = await _mark(connection)
                if self._channel is not None:
                    await connection.add_listener(self._channel, self._notified)
                    connection.add_termination_listener(self._notified)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _notified(self, *_: object) -> None:
        self.woken.set()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self.woken.set()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise FeedUnavailable("it does not answer in time") from error
        except _failures() as error:
            if self._is_closed:
                raise FeedUnavailable(_CLOSED) from error
            raise FeedUnavailable(_reason(error)) from error


async def check_pooler(one: Connection, other: Connection) -> None:
    """See that a connection stays what it is between two statements: what was prepared is there.

    Behind a pooler that gives each transaction another one it is missing, and so are notifications.
    """
    await one.fetchval("SELECT 1")
    async with other.transaction():
        await other.execute("SELECT 1")  # which holds what was behind the first
        await one.fetchval("SELECT 1")


def _is_done(task: asyncio.Future[Any]) -> bool:
    """Whether it has a result. A failure is thereby taken note of, should nobody else ask."""
    return not task.cancelled() and task.exception() is None


def refusal(error: FeedUnavailable) -> str | None:
    """Why the server would refuse again what it has refused; None where it might not."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or ""
    is_final = state.startswith(_REFUSALS) or isinstance(cause, ssl.SSLError)
    # asyncpg has no other name for a server without TLS, nor for arguments that it cannot use.
    is_final |= isinstance(cause, ConnectionError) and "SSL upgrade" in str(cause)
    is_final |= type(cause).__name__ in (
        "ClientConfigurationError",
        "UnsupportedClientFeatureError",
    )
    return str(error) if is_final else None


def _reason(error: BaseException) -> str:
    # Not the details that str() adds: they may quote values.
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(message).partition("\n")[0]


def _failures() -> tuple[type[Exception], ...]:
    driver = import_module("asyncpg")
    return (
        OSError,
        TimeoutError,
        driver.PostgresError,
        driver.InterfaceError,
        driver.InternalClientError,
    )


def _checked(url: str | URL) -> URL:
    """The URL, read.

    Raises:
        ConfigurationError: it is not one of PostgreSQL with asyncpg, or has unknown options.
    """
    like = "it looks like postgresql+asyncpg://user:password@host/database"
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        # Not the text of that error, which may quote the URL.
        raise ConfigurationError(f"the feed's database URL cannot be read; {like}") from None
    if read.drivername not in ("postgresql", "postgresql+asyncpg"):
        raise ConfigurationError(
            f"the feed's database URL begins with {read.drivername}://; {like}"
        )
    if unknown := sorted(read.query.keys() - _OPTIONS - _NOT_FOR_US):
        raise ConfigurationError(
            f"the feed's database URL has the unknown option {unknown[0]!r}; "
            f"there are {', '.join(sorted(_OPTIONS))}"
        )
    for option in _FILES & read.query.keys():
        # What the driver says of it does not name the file.
        if (path := str(read.query[option])) != "system" and not Path(path).is_file():
            raise ConfigurationError(f"the feed's database URL: {option}={path} is no file")
    return read


_MARKS: Final = (
    "(SELECT system_identifier FROM pg_control_system())",
    "left(pg_walfile_name(pg_current_wal_lsn()), 8)",
    "CASE WHEN current_setting('fsync') = 'off'"
    " THEN extract(epoch FROM pg_postmaster_start_time()) END",
)


async def _mark(connection: Connection) -> str:
    """What changes where committed transactions may have got lost.

    That is the server's identity, and its timeline, which a replica that takes over, or a restore
    of a backup, begins anew. With ``fsync`` off every start may have lost some.
    """
    driver = import_module("asyncpg")
    try:
        return str(await connection.fetchval(f"SELECT concat_ws('/', {', '.join(_MARKS)})"))
    except (
        driver.InsufficientPrivilegeError,
        driver.UndefinedFunctionError,
        driver.FeatureNotSupportedError,
    ):
        # Not every server that speaks PostgreSQL's protocol knows them, or tells.
        return str(await connection.fetchval(f"SELECT {_MARKS[-1]}"))
