"""The plugins that come with tidings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from tidings.api import Api, RestOptions, SocketOptions
from tidings.auth import TokenVerifier
from tidings.errors import ConfigurationError, MissingExtraError
from tidings.storage import CoreDatabase, Database, SqliteDatabase, own_engine

_DRIVERS = {"asyncpg": ("asyncpg", "postgres"), "asyncmy": ("asyncmy", "mysql")}


class RestApiPlugin:
    """Serves resources as JSON:API below ``prefix``; ``max_body`` bounds bodies, in bytes."""

    name: ClassVar[str] = "rest-api"

    def __init__(self, prefix: str = "/api", *, max_body: int = 1_048_576) -> None:
        if not prefix.startswith("/") or prefix.endswith("/"):
            raise ConfigurationError(f"prefix {prefix!r}: start it with '/', end it without")
        self._options = RestOptions(prefix, max_body)

    def install(self, api: Api) -> None:
        api.set_rest_options(self._options)


class SqlAlchemyPlugin:
    """Keeps records in an SQL database.

    Takes an SQLAlchemy URL with an asyncio driver (``sqlite+aiosqlite:///app.db``,
    ``postgresql+asyncpg://...``, ``mariadb+asyncmy://...``) or an `AsyncEngine` of the
    application's. With ``create_tables`` missing tables are created when the api opens.
    """

    name: ClassVar[str] = "sqlalchemy"

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: AsyncEngine | None = None,
        create_tables: bool = False,
    ) -> None:
        if (url is None) == (engine is None):
            raise ConfigurationError("SqlAlchemyPlugin takes a database URL or an engine=")
        self._database = (
            CoreDatabase(engine, owned=False) if engine is not None else _database(str(url))
        )
        self._create_tables = create_tables

    def install(self, api: Api) -> None:
        api.set_database(self._database, create_tables=self._create_tables)


def _database(url: str) -> Database:
    try:
        driver = make_url(url).drivername
    except ArgumentError:
        raise ConfigurationError(
            "the database URL cannot be read; it looks like sqlite+aiosqlite:///app.db"
        ) from None
    if driver in ("sqlite", "sqlite+aiosqlite"):
        return SqliteDatabase(url)
    package, extra = _DRIVERS.get(driver.partition("+")[2], ("", ""))
    if not package:
        raise ConfigurationError(
            f"driver {driver!r} is not supported: use sqlite+aiosqlite, postgresql+asyncpg, "
            "mariadb+asyncmy or mysql+asyncmy, or pass an AsyncEngine as engine="
        )
    if find_spec(package) is None:
        raise MissingExtraError(package, extra, f"the database URL {driver}://")
    return CoreDatabase(own_engine(url), owned=True)


class JWTAuthPlugin:
    """Turns JSON Web Tokens into identities, over HTTP (``Authorization: Bearer``) and sockets
    (``auth.token``) alike. One of ``secret``, ``public_key`` (PEM) and ``jwks_url`` is needed.

    ``leeway`` is in seconds. The claim names may be dotted paths (``realm_access.roles``).
    """

    name: ClassVar[str] = "jwt-auth"

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
    ) -> None:
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


class SocketIOPlugin:
    """Tells subscribed clients over Socket.IO that something has changed.

    ``limit`` is how many subscriptions one socket may have. Every socket needs a token, unless
    ``anonymous`` lets those without one in, as nobody in particular.
    """

    name: ClassVar[str] = "socketio"

    def __init__(
        self,
        *,
        path: str = "/socket.io",
        cors: Mapping[str, Any] | None = None,
        limit: int = 100,
        anonymous: bool = False,
    ) -> None:
        self._options = SocketOptions(path, cors, limit, anonymous)
        self.dependencies = ("sqlalchemy",) if anonymous else ("sqlalchemy", "jwt-auth")

    def install(self, api: Api) -> None:
        api.set_socket_options(self._options)
