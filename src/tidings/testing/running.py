"""running: an application under test, without a network."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from tidings import (
    ANONYMOUS,
    Api,
    ConfigurationError,
    Identity,
    MissingExtraError,
    Plugin,
)
from tidings.testing.client import MEDIA_TYPE, Client
from tidings.testing.databases import use_database
from tidings.testing.identities import TestIdentities
from tidings.testing.lifespan import lifespan
from tidings.testing.wire import Hear, Wire


class Live:
    """An application that is open; made by `running`."""

    def __init__(
        self,
        api: Api,
        app: ASGIApp,
        state: Mapping[str, Any],
        identities: TestIdentities,
        http: ModuleType,
    ) -> None:
        self.api = api
        self.app = app
        self._state = state
        self._identities = identities
        self._http = http
        self._clients: list[Client] = []

    def client(
        self,
        identity: Identity | None = None,
        *,
        user_id: str | int | None = None,
        roles: Iterable[str] = (),
        permissions: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        expires_at: float | None = None,
        token: str | None = None,
    ) -> Client:
        """A user of the application; without arguments somebody who shows no token.

            ada = live.client(user_id="1", roles=["editor"], claims={"team": 7})

        ``identity`` says the same as one object. ``expires_at`` is in seconds since the epoch;
        None: the token does not end. ``token`` is a real one, for the application's own plugin to
        verify; what the user may know is then the plugin's to say.

        Raises:
            ConfigurationError: more than one of ``identity``, ``user_id`` and ``token`` is given.
        """
        if (identity is not None) + (user_id is not None) + (token is not None) > 1:
            raise ConfigurationError("client() takes one of an identity, user_id= and token=")
        if user_id is not None:
            identity = Identity(
                user_id=str(user_id),
                roles=frozenset(roles),
                permissions=frozenset(permissions),
                claims=dict(claims or {}),
                expires_at=expires_at,
            )
        if identity is not None and identity.is_authenticated:
            token = self._identities.token_for(identity)
        headers = {"Accept": f"{MEDIA_TYPE}, */*;q=0.5"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        http = self._http.AsyncClient(
            transport=self._http.ASGITransport(self.app),
            base_url="http://testserver",
            headers=headers,
        )
        client = Client(self.api, http, identity or ANONYMOUS, token, self._make_wire, self.settled)
        self._clients.append(client)
        return client

    async def settled(self) -> None:
        """Wait until everything that has been committed so far was delivered to every client.

        It waits for the outbox, the feed, the matching, permissions that are being asked, and the
        frames on their way: for work, not for time. What another task commits while it waits may
        or may not be among it.
        """
        if not self.api.has_sockets:
            return
        await self.api.socket_server.settled()
        for client in self._clients:
            while client.unsent:  # noqa: ASYNC110  the server's own tasks write it, in the next turns
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients:
            await client.close()
        self._clients.clear()

    def _make_wire(self, hear: Hear) -> Wire:
        return Wire(self.api, self.app, self._state, hear)


@asynccontextmanager
async def running(
    api: Api,
    app: ASGIApp | None = None,
    *,
    database: str | AsyncEngine | Plugin | None = None,
    http: ModuleType | None = None,
) -> AsyncIterator[Live]:
    """Open an application for a test, and close it at the end.

        async with running(api, app, database="memory") as live:
            ann = live.client(user_id="ann")

    ``app`` is the application's own ASGI app (FastAPI's, for one) where the api is installed in
    one; its lifespan runs, and its ``dependency_overrides`` hold. By default it is ``api.asgi()``.

    ``database`` is what the api runs on instead of what it declares (None): ``"memory"`` is SQLite
    in memory, with its tables, empty for each ``running``; it may also be a URL, an `AsyncEngine`
    or a `SqlAlchemyPlugin`. Models of your application need an engine that your code shares.
    An api can be moved before it is first used only, so that all tests of one api go by one
    database. Moved, it has a feed of this process alone, whatever Redis it declares.

    ``http`` is the module ``httpx`` or ``httpx2``; by default whichever is installed.

    Raises:
        ConfigurationError: the api was used on another database before, or cannot be opened.
        MissingExtraError: neither httpx nor httpx2 is installed.
    """
    module = http or _find_http()
    if database is not None:
        use_database(api, database)
    asgi = api.asgi() if app is None else app
    authority = api.internals.authority
    declared = authority.verifier
    identities = TestIdentities(declared)
    api.set_verifier(identities)
    try:
        async with lifespan(asgi) as state:
            # What an earlier test was answered must not be this one's answer.
            await api.permissions_changed()
            live = Live(api, asgi, state, identities, module)
            try:
                yield live
            finally:
                await live.close()
    finally:
        authority.verifier = declared


def _find_http() -> ModuleType:
    for name in ("httpx", "httpx2"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise MissingExtraError("httpx", "testing", "tidings.testing")
