"""The plugins that come with tidings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from math import inf
from typing import Any, ClassVar, Literal

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from tidings.api import (
    Api,
    FeedOptions,
    RestOptions,
    RevocationOptions,
    SocketOptions,
    SqlRevocations,
    feed_name,
)
from tidings.api.capture import check_capture
from tidings.api.cors import CorsOptions
from tidings.api.identities import Identify, check_identify
from tidings.auth import MemoryRevocations, RevocationStore, TokenVerifier
from tidings.errors import ConfigurationError, MissingExtraError
from tidings.feed import WINDOW_BYTES
from tidings.feed.postgres import PostgresLog
from tidings.feed.redis import redis_log
from tidings.realtime import Origins, SocketLimits
from tidings.storage import CoreDatabase, Database, PostgresDatabase, SqliteDatabase, own_engine
from tidings.storage.bounds import STATEMENT_SECONDS

_DRIVERS = {"asyncpg": ("asyncpg", "postgres"), "asyncmy": ("asyncmy", "mysql")}


class RestApiPlugin:
    """Serves resources as JSON:API below ``prefix``; ``max_body`` bounds bodies, in bytes.

    ``openapi=False`` serves no description of them at ``/openapi.json`` below the prefix,
    ``atomic=False`` takes no Atomic Operations at ``/operations``.
    """

    name = "rest-api"

    def __init__(
        self,
        prefix: str = "/api",
        *,
        max_body: int = 1_048_576,
        openapi: bool = True,
        atomic: bool = True,
    ) -> None:
        if not prefix.startswith("/") or prefix.endswith("/"):
            raise ConfigurationError(f"prefix {prefix!r}: start it with '/', end it without")
        self._options = RestOptions(prefix, max_body, openapi, atomic)

    def install(self, api: Api) -> None:
        api.set_rest_options(self._options)


class SqlAlchemyPlugin:
    """Keeps records in an SQL database.

    Takes an SQLAlchemy URL with an asyncio driver (``sqlite+aiosqlite:///app.db``,
    ``postgresql+asyncpg://...``, ``mariadb+asyncmy://...``) or an `AsyncEngine` of the
    application's. With ``create_tables`` missing tables are created when the api opens.
    ``capture="triggers"`` tells of everybody who writes the tables, not of tidings' own operations
    alone: see ``docs/existing-applications.md``.

    ``statement_timeout`` (seconds) is how long one statement may run; then it is stopped and the
    client gets 503 ``QUERY_TIMEOUT``. Too low, and long lists fail; too high, and a few expensive
    filters keep the database busy. A connection on which nothing comes for five seconds more is
    dropped. An engine of the application's needs the same setting for its server (see
    ``docs/deploying.md``); from here it has the drop alone.
    """

    name = "sqlalchemy"

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: AsyncEngine | None = None,
        create_tables: bool = False,
        capture: str | bool | None = None,
        statement_timeout: float = STATEMENT_SECONDS,
    ) -> None:
        check_capture("SqlAlchemyPlugin", capture)
        self._capture = str(capture) if capture else None
        self._engine = engine
        _check_seconds("statement_timeout", statement_timeout)
        if isinstance(url, AsyncEngine):
            raise ConfigurationError("SqlAlchemyPlugin: pass an engine by name, as engine=...")
        if (url is None) == (engine is None):
            raise ConfigurationError("SqlAlchemyPlugin takes a database URL or an engine=")
        if engine is not None and not isinstance(engine, AsyncEngine):
            raise ConfigurationError(
                f"SqlAlchemyPlugin: engine is an AsyncEngine (create_async_engine), not a "
                f"{type(engine).__name__}"
            )
        self._database = (
            _database(str(url), statement_timeout)
            if engine is None
            else CoreDatabase(engine, owned=False, statement_timeout=statement_timeout)
        )
        self._create_tables = create_tables

    def install(self, api: Api) -> None:
        api.set_database(
            self._database,
            create_tables=self._create_tables,
            capture=self._capture,
            engine=self._engine,
        )


def _database(url: str, statement_timeout: float) -> Database:
    try:
        driver = make_url(url).drivername
    except ArgumentError:
        raise ConfigurationError(
            "the database URL cannot be read; it looks like sqlite+aiosqlite:///app.db"
        ) from None
    if driver in ("sqlite", "sqlite+aiosqlite"):
        return SqliteDatabase(url, statement_timeout=statement_timeout)
    package, extra = _DRIVERS.get(driver.partition("+")[2], ("", ""))
    if not package:
        raise ConfigurationError(
            f"driver {driver!r} is not supported: use sqlite+aiosqlite, postgresql+asyncpg, "
            "mariadb+asyncmy or mysql+asyncmy, or pass an AsyncEngine as engine="
        )
    if find_spec(package) is None:
        raise MissingExtraError(package, extra, f"the database URL {driver}://")
    engine = own_engine(url, statement_timeout=statement_timeout)
    if package == "asyncpg":
        return PostgresDatabase(engine, statement_timeout=statement_timeout)
    return CoreDatabase(engine, owned=True, statement_timeout=statement_timeout)


class RedisFeedPlugin:
    """Shares changes among processes by way of Redis: a write in one reaches the sockets of all.

    ``redis`` is a mapping (``{"host": ..., "port": ..., "password": ..., "db": ...}``) or a URL;
    see ``docs/redis.md``. With the outbox, a table in the api's database, nothing that was
    committed is lost with a process, or while Redis is away; without it changes wait in memory.
    ``window`` is how many changes a process remembers for clients that come back, and
    ``window_bytes`` what those may weigh.
    """

    name = "redis-feed"
    dependencies: ClassVar[tuple[str, ...]] = ("sqlalchemy",)

    def __init__(
        self,
        redis: Mapping[str, Any] | str,
        *,
        outbox: bool = True,
        window: int = 10_000,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        redis_log(redis)  # what is wrong with it shows here
        self._redis = redis
        self._outbox = outbox
        self._window = _check_window(window, window_bytes)

    def install(self, api: Api) -> None:
        log = redis_log(self._redis, feed_name(api.name))
        api.set_feed(FeedOptions(log, self._outbox, *self._window))


class PostgresFeedPlugin:
    """Shares changes among processes by way of PostgreSQL, where there is no Redis.

    ``url`` is that of any PostgreSQL database, the api's own for one
    (``postgresql+asyncpg://...``); at most three connections are held. ``name`` tells several feeds
    in one database apart, unless given it is the api's. The feed keeps about ``max_length``
    changes for at most ``max_age`` seconds. For ``outbox`` and ``window`` see `RedisFeedPlugin`.
    """

    name = "postgres-feed"
    dependencies: ClassVar[tuple[str, ...]] = ("sqlalchemy",)

    def __init__(
        self,
        url: str | URL,
        *,
        name: str | None = None,
        max_length: int = 100_000,
        max_age: float | None = 24 * 3600.0,
        outbox: bool = True,
        window: int = 10_000,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._log = partial(PostgresLog, url, max_length=max_length, max_age=max_age)
        self._log(name or "feed")  # what is wrong with it shows here
        self._name = name
        self._outbox = outbox
        self._window = _check_window(window, window_bytes)

    def install(self, api: Api) -> None:
        log = self._log(self._name or feed_name(api.name))
        api.set_feed(FeedOptions(log, self._outbox, *self._window))


class MemoryFeedPlugin:
    """Sets how much the feed of a single process remembers, and whether it has an outbox.

    Not needed for the defaults: ``window`` is how many changes are remembered for clients that
    come back. The outbox settles what became of a commit during which the connection to the
    database was lost; it must not be shared with other processes.
    """

    name = "memory-feed"
    dependencies: ClassVar[tuple[str, ...]] = ("sqlalchemy",)

    def __init__(
        self, *, window: int = 10_000, window_bytes: int = WINDOW_BYTES, outbox: bool = False
    ) -> None:
        self._options = FeedOptions(None, outbox, *_check_window(window, window_bytes))

    def install(self, api: Api) -> None:
        api.set_feed(self._options)


def _check_window(window: object, max_bytes: object) -> tuple[int, int]:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ConfigurationError(f"window must be a number of changes, 1 or more, not {window!r}")
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1_000_000:
        raise ConfigurationError(
            f"window_bytes must be a number of bytes, 1,000,000 or more, not {max_bytes!r}"
        )
    return window, max_bytes


class JWTAuthPlugin:
    """Turns JSON Web Tokens into identities, over HTTP (``Authorization: Bearer``) and sockets
    (``auth.token``) alike.

        api.use(JWTAuthPlugin(secret=os.environ["JWT_SECRET"], audience="my-api"))

    Give exactly one of ``secret``, ``public_key`` and ``jwks_url``.

    Args:
        secret: the HMAC key, 32 bytes or more.
        public_key: an RSA, EC or Ed25519/Ed448 key, as PEM.
        jwks_url: where an identity provider publishes its keys.
        algorithms: the accepted algorithms. By default HS256, or all that fit the key.
        audience: the ``aud`` that tokens must have. Without it, a token with an audience is
            refused.
        issuer: the ``iss`` that tokens must have. By default it is not checked.
        leeway: seconds that clocks may differ. Too low refuses good tokens; too high accepts
            expired ones for longer.
        user_id_claim: the claim with the user's id; may be a dotted path (``realm.user``).
        roles_claim: the claim with the roles; may be a dotted path.
        permissions_claim: the claim with the permissions; may be a dotted path.
        revocation: where revoked tokens are remembered: ``"memory"`` of this process, the
            ``"database"`` for all processes that share it, your own `RevocationStore`, or None
            for nowhere.
        max_token_lifetime: seconds that the revocation of all of a user's tokens is kept. If it is
            shorter than your tokens live, revoked tokens are accepted again.
        endpoints: adds ``POST {prefix}/auth/logout`` and ``GET {prefix}/auth/session``.
        identify: loads what the token does not say, such as memberships. It gets the `Identity`
            of the token and returns one of the same user, or None to refuse the token.
        identify_seconds: seconds that an answer of ``identify`` is kept; 0 asks each time. Too
            high delays changes until ``api.permissions_changed()`` is called.

    Raises:
        ConfigurationError: there is not exactly one source of keys, or it cannot be used.
    """

    name = "jwt-auth"

    def __init__(
        self,
        *,
        secret: str | bytes | None = None,
        public_key: str | bytes | None = None,
        jwks_url: str | None = None,
        algorithms: Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0,
        user_id_claim: str = "sub",
        roles_claim: str = "roles",
        permissions_claim: str = "permissions",
        revocation: Literal["memory", "database"] | RevocationStore | None = "memory",
        max_token_lifetime: float = 30 * 24 * 3600.0,
        endpoints: bool = False,
        identify: Identify | None = None,
        identify_seconds: float = 5.0,
    ) -> None:
        if identify is not None:
            check_identify(identify)
        if identify_seconds != 0:
            _check_seconds("identify_seconds", identify_seconds)
        self._identify = identify
        self._identify_seconds = identify_seconds
        self._revocation = _revocation(revocation, max_token_lifetime, endpoints=endpoints)
        self._verifier = TokenVerifier(
            secret=secret,
            public_key=public_key,
            jwks_url=jwks_url,
            algorithms=algorithms,
            audience=audience,
            issuer=issuer,
            leeway=leeway,
            user_id_claim=user_id_claim,
            roles_claim=roles_claim,
            permissions_claim=permissions_claim,
        )

    def install(self, api: Api) -> None:
        api.set_verifier(self._verifier)
        if self._revocation is not None:
            api.set_revocation(self._revocation)
        if self._identify is not None:
            api.set_identify(self._identify, self._identify_seconds)


def _revocation(given: object, max_lifetime: float, *, endpoints: bool) -> RevocationOptions | None:
    _check_seconds("max_token_lifetime", max_lifetime)
    if given is None:
        if endpoints:
            raise ConfigurationError("endpoints=True needs revocation=: a logout revokes")
        return None
    if given == "memory":
        return RevocationOptions(lambda _: MemoryRevocations(), max_lifetime, endpoints)
    if given == "database":
        return RevocationOptions(SqlRevocations, max_lifetime, endpoints)
    if isinstance(given, str) or not isinstance(given, RevocationStore):
        raise ConfigurationError(
            f"revocation is 'memory', 'database', None or a RevocationStore, not {given!r}"
        )
    return RevocationOptions(lambda _: given, max_lifetime, endpoints)


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise ConfigurationError(f"{name} must be a positive number of seconds, not {value!r}")


class CorsPlugin:
    """Lets pages of other origins read answers, over HTTP and over sockets.

        api.use(CorsPlugin(origins=["https://app.example.org"]))

    Args:
        origins: the origins of the pages, as browsers send them; ``["*"]`` for any.
        headers: further request headers that pages may send.
        expose: further response headers that pages may read.
        credentials: lets cookies along, which tidings itself does not use. Not with ``"*"``.
        max_age: seconds that a browser keeps the answer to a preflight request. Lower means more
            requests; higher delays changes of this plugin.

    Raises:
        ConfigurationError: an origin is not as browsers write it.
    """

    name = "cors"

    def __init__(
        self,
        origins: Sequence[str],
        *,
        headers: Sequence[str] = (),
        expose: Sequence[str] = (),
        credentials: bool = False,
        max_age: int = 600,
    ) -> None:
        given = [origins] if isinstance(origins, str) else list(origins)
        if not given:
            raise ConfigurationError("CorsPlugin: name at least one origin, or leave it out")
        Origins({"origin": "*" if given == ["*"] else given})  # what is wrong with them is said
        if credentials and "*" in given:
            raise ConfigurationError("CorsPlugin: credentials need origins by name, not '*'")
        if max_age < 0:
            raise ConfigurationError(f"CorsPlugin: max_age is in seconds, not {max_age!r}")
        self._options = CorsOptions(
            tuple(given), tuple(headers), tuple(expose), credentials, max_age
        )

    def install(self, api: Api) -> None:
        api.set_cors(self._options)


class SocketIOPlugin:
    """Tells subscribed clients over Socket.IO that something has changed.

    ``limit`` is how many subscriptions one socket may have. Every socket needs a token, unless
    ``anonymous`` lets those without one in, as nobody in particular. ``expiry_warning`` seconds
    before a socket's token expires its client is warned; 0 means not at all. A client that has not
    connected (and with that, authenticated) after ``connect_deadline`` seconds is disconnected;
    so long an upgrade to a WebSocket may take, too.
    Whether an identity may still query a resource is asked again at delivery, and the answer kept
    for ``permission_seconds`` (0: asked every time). ``limits`` bounds messages, connections
    and what is not connected yet. When the process stops, its clients are sent elsewhere, spread
    over ``drain_seconds`` at most.
    """

    name = "socketio"

    def __init__(
        self,
        *,
        path: str = "/socket.io",
        cors: Mapping[str, Any] | None = None,
        limit: int = 100,
        anonymous: bool = False,
        expiry_warning: float = 60.0,
        connect_deadline: float = 10.0,
        permission_seconds: float = 5.0,
        limits: SocketLimits | None = None,
        drain_seconds: float = 5.0,
    ) -> None:
        if expiry_warning != 0:
            _check_seconds("expiry_warning", expiry_warning)
        _check_seconds("connect_deadline", connect_deadline)
        if permission_seconds != 0:
            _check_seconds("permission_seconds", permission_seconds)
        if drain_seconds != 0:
            _check_seconds("drain_seconds", drain_seconds)
        Origins(cors)  # whatever is wrong with them is said here
        self._options = SocketOptions(
            path,
            cors,
            limit,
            anonymous,
            expiry_warning,
            connect_deadline,
            permission_seconds,
            limits,
            drain_seconds,
        )
        self.dependencies = ("sqlalchemy",) if anonymous else ("sqlalchemy", "jwt-auth")

    def install(self, api: Api) -> None:
        api.set_socket_options(self._options)
