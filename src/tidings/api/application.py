"""Api: what an application declares, put together and run."""

from __future__ import annotations

import asyncio
import logging as python_logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar, overload

from sqlalchemy import Connection, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from tidings.api.asgi import ApiApp, attach_sockets, install_into
from tidings.api.authority import Authority
from tidings.api.capture import EVENTS, TRIGGERS, Capture, check_capture
from tidings.api.changed import Changed, watch_events
from tidings.api.cors import CorsOptions
from tidings.api.describing import Description, describe_in
from tidings.api.feeds import FeedLink, feed_name, link, make_feed
from tidings.api.gate import Gate
from tidings.api.identities import Identify, Identities
from tidings.api.internals import Internals
from tidings.api.logs import set_log_level
from tidings.api.parts import (
    FeedOptions,
    Parts,
    RestOptions,
    RevocationOptions,
    SocketOptions,
    State,
    Tracing,
    Wrap,
)
from tidings.api.sessions import Verifier, auth_endpoints
from tidings.auth import Checker, CheckerRegistry, Rules
from tidings.errors import (
    ConfigurationError,
    MissingDependencyError,
    NotFound,
)
from tidings.feed import MemoryFeed, Recheck, SharedFeed
from tidings.feed.redis import redis_log
from tidings.hooks import Handler, HookRegistry
from tidings.identity import ANONYMOUS, TRUSTED, Asker, Identity, asker
from tidings.jsonapi import JsonApiApp
from tidings.realtime import (
    DeliveryObserver,
    Events,
    Explainer,
    Explanation,
    Origins,
    SocketServer,
)
from tidings.resources import Operations, ResourceHandle, ResourceHandles
from tidings.resources.policies import check_policies
from tidings.schema import (
    FilterLimits,
    MemberNames,
    ResourceRegistry,
    ResourceType,
    declare_resource,
)
from tidings.schema.resource import CheckPermissions, RowPolicy
from tidings.storage import Database, RecordStore, UnitOfWork, build_tables
from tidings.storage.comparison import MISSING_TABLE, differences
from tidings.storage.models import is_model, read_model, targets_of
from tidings.storage.outbox import TABLE_NAME as OUTBOX
from tidings.storage.revocations import TABLE_NAME as REVOCATIONS
from tidings.storage.tables import is_existing

_log = python_logging.getLogger("tidings")
OWN_TABLES = frozenset({OUTBOX, REVOCATIONS})
HOOKS = ("before_write", "after_write", "subscription_filters", "startup", "shutdown")
_HandlerT = TypeVar("_HandlerT", bound=Handler)


class Plugin(Protocol):
    """Something that adds to an Api: a name, the names it depends on, and ``install``."""

    @property
    def name(self) -> str:
        """By this name other plugins depend on it."""
        ...

    def install(self, api: Api) -> None:
        """Add hooks, resources, options to the api."""
        ...


class Api:
    """A set of resources, and everything needed to serve them.

    An Api is built at import (no I/O) and opened by its ASGI app's lifespan, or by
    ``async with api:`` in a script.

        api = Api(name="blog", version="1.0.0")
        api.use(RestApiPlugin())
        api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db"))
        api.add_resource("posts", schema={"title": {"type": "string", "required": True}})
        app = api.asgi()

    ``logging={"level": "debug"}`` prints what happens below the logger ``tidings``.
    ``filter_limits`` says how large filters may be, over HTTP and in subscriptions.
    ``check_timeout`` (seconds) is how long a permission check, or the hooks of one subscription,
    may take: after it the answer is no, and the log says so.
    """

    def __init__(
        self,
        name: str = "api",
        version: str = "0",
        *,
        logging: Mapping[str, str] | None = None,
        filter_limits: FilterLimits | None = None,
        check_timeout: float = 10.0,
    ) -> None:
        self.name = name
        self.version = version
        self._filter_limits = filter_limits or FilterLimits()
        if not check_timeout > 0:
            raise ConfigurationError("Api(check_timeout=...): expected a number of seconds above 0")
        self._check_timeout = check_timeout
        self._hooks = HookRegistry()
        self._hooks.declare(*HOOKS)
        self._checkers = CheckerRegistry()
        self._registry = ResourceRegistry()
        self._existing: dict[str, Table] = {}
        self._captures: dict[str, str | None] = {}
        self._captures_all: str | None = None
        self._capture: Capture | None = None
        self._changed: Changed | None = None
        self._engines: list[AsyncEngine] = []
        self._own_engine: AsyncEngine | None = None
        self._transforms: list[Callable[[ResourceType], ResourceType]] = []
        self._plugins: dict[str, Plugin] = {}
        self._database: Database | None = None
        self._creates_tables = False
        self._authority = Authority()
        self._rest = RestOptions()
        self._socket_options: SocketOptions | None = None
        self._sockets: SocketServer | None = None
        self._socket_app: ASGIApp | None = None
        self._parts: Parts | None = None
        self._feed: MemoryFeed | SharedFeed = MemoryFeed()
        self._feed_options = FeedOptions()
        self._link: FeedLink | None = None
        self._opened = 0
        self._state: State = "closed"
        self._has_been_closed = False
        self._gate = Gate(self)
        self._endpoints: dict[str, ASGIApp] = {}
        self._cors: CorsOptions | None = None
        self._wraps: list[Wrap] = []
        self._description: Description | None = None
        self._tracing: Tracing | None = None
        self._observer: DeliveryObserver | None = None
        self._sockets_started = False
        self._is_installed = False
        self.resources = ResourceHandles(self._handle, self._names)
        set_log_level(logging)

    # Declaring

    def use(self, plugin: Plugin) -> None:
        """Install a plugin.

        Raises:
            MissingDependencyError: a plugin it depends on is not in use; names both.
        """
        name = getattr(plugin, "name", None)
        if isinstance(plugin, type) or not isinstance(name, str):
            raise ConfigurationError(
                f"use() takes a plugin object that has a name, as RestApiPlugin(), not {plugin!r}"
            )
        if name in self._plugins:
            raise ConfigurationError(f"plugin {name!r} is in use already")
        for needed in getattr(plugin, "dependencies", ()):
            if needed not in self._plugins:
                raise MissingDependencyError(
                    f"plugin {name!r} needs plugin {needed!r}: use it first"
                )
        self._check_open_for_declarations(f"plugin {name!r}")
        plugin.install(self)
        self._plugins[name] = plugin

    def add_resource(
        self,
        name: str,
        schema: Mapping[str, Any] | type | Table,
        *,
        fields: str | Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
        hidden: Sequence[str] = (),
        search_schema: Mapping[str, Any] | None = None,
        relationships: Mapping[str, Any] | None = None,
        auth: Mapping[str, Any] | None = None,
        check_permissions: CheckPermissions | None = None,
        row_policy: RowPolicy | Mapping[str, RowPolicy] | None = None,
        borrows: Sequence[str] = (),
        owner_field: str | None = None,
        id_type: str = "integer",
        client_ids: bool | None = None,
        table: str | None = None,
        capture: str | bool | None = None,
        member_names: MemberNames = "as_declared",
        page_size: int = 20,
        max_page_size: int = 100,
    ) -> None:
        """Declare a resource from a dict, as in the guide, from a typed class, or from a model.

        A model is an SQLAlchemy ORM class or ``Table`` of your application. ``fields`` then says
        what clients may know of it: names of columns and relationships, ``"*"`` for every column,
        or a dict of further options by name. ``hidden`` names columns that only policies, hooks
        and trusted code use. Types, key, defaults and nullability are the model's.

            api.add_resource("tasks", Task, fields=["title", "status", "project"])

        ``auth`` has rules per method (``{"query": ["public"], "patch": ["is_owner"]}``);
        ``check_permissions(context)`` must return True. Where both are given both must allow;
        where neither is, everybody may do everything. ``row_policy(columns, identity)`` says
        which rows an identity may see and change (see ``docs/row-policies.md``); it may be a dict
        of method to policy. ``borrows`` names paths (``"workspace.owner_id"``) that policies and
        hooks use, beside those of the search schema. ``capture`` says whether triggers tell of
        those who write the table without tidings: ``"triggers"``, False, or as the
        `SqlAlchemyPlugin` says (None). ``member_names`` is how clients spell the names of fields,
        relationships and filters: ``"as_declared"``, ``"camelCase"`` or ``"dasherized"``; Python
        code uses the declared ones always.

        Raises:
            ConfigurationError: names the resource, the field or option, and what is wrong.
        """
        self._check_open_for_declarations(f"resource {name!r}")
        check_capture(f"resource {name!r}", capture)
        model = None
        if is_model(schema):
            if table is not None or id_type != "integer":
                raise ConfigurationError(
                    f"resource {name!r}: table and id_type are the model's; leave them out"
                )
            model = read_model(f"resource {name!r}", schema, fields, hidden)
            schema, id_type, table = model.schema, model.id_type, model.table.name
            relationships = {**model.relationships, **(relationships or {})}
        elif fields is not None or hidden:
            raise ConfigurationError(
                f"resource {name!r}: fields= and hidden= choose from a model or table; a schema "
                "has what it has"
            )
        assert not isinstance(schema, Table)
        resource = declare_resource(
            name,
            schema,
            is_existing=model is not None,
            make_id=None if model is None else model.make_id,
            native_uuids=frozenset() if model is None else model.native_uuids,
            search_schema=search_schema,
            relationships=relationships,
            rules=None if auth is None else Rules(auth, resource=name, checkers=self._checkers),
            check_permissions=check_permissions,
            row_policy=row_policy,
            borrows=borrows,
            member_names=member_names,
            owner_field=owner_field,
            id_type=id_type,
            client_ids=(id_type != "integer") if client_ids is None else client_ids,
            table=table,
            page_size=page_size,
            max_page_size=max_page_size,
            filter_limits=self._filter_limits,
            check_seconds=self._check_timeout,
        )
        self._check_owner(resource, auth or {})
        if resource.table.lower() in OWN_TABLES:
            raise ConfigurationError(
                f"resource {name!r}: the table {resource.table!r} is tidings' own"
            )
        self._registry.add(resource)
        if model is not None:
            self._existing[name] = model.table
        if capture is not None:
            self._captures[name] = str(capture) if capture else None
        self._check_endpoints()

    def add_hook(
        self,
        hook: str,
        name: str,
        handler: Handler,
        *,
        before: str | tuple[str, ...] = (),
        after: str | tuple[str, ...] = (),
    ) -> None:
        """Add a named handler to a hook, ordered against others by their names."""
        self._hooks.add(hook, name, handler, before=before, after=after)

    def hook(
        self,
        hook: str,
        *,
        name: str | None = None,
        before: str | tuple[str, ...] = (),
        after: str | tuple[str, ...] = (),
    ) -> Callable[[_HandlerT], _HandlerT]:
        """Decorate a handler; its name is the function's, unless given.

            @api.hook("before_write")
            async def stamp(context): ...

        Raises:
            ConfigurationError: the hook's name is left out.
        """
        if not isinstance(hook, str):
            raise ConfigurationError(
                'name the hook: @api.hook("before_write"), not @api.hook alone'
            )

        def decorate(handler: _HandlerT) -> _HandlerT:
            label = name or str(getattr(handler, "__name__", "handler"))
            self.add_hook(hook, label, handler, before=before, after=after)
            return handler

        return decorate

    def add_checker(self, name: str, checker: Checker) -> None:
        """Make an own checker usable in ``auth`` rules, by name; declare it before them."""
        self._checkers.add(name, checker)

    # For plugins

    def set_database(
        self,
        database: Database,
        *,
        create_tables: bool = False,
        capture: str | None = None,
        engine: AsyncEngine | None = None,
    ) -> None:
        """Say where records are kept (storage plugins call this).

        ``engine`` is the application's own, where it is one.
        """
        self._database = database
        self._creates_tables = create_tables
        self._captures_all = capture
        self._own_engine = engine
        if engine is not None:
            self._engines.append(engine)

    def transform_resources(self, transform: Callable[[ResourceType], ResourceType]) -> None:
        """Change what resources were declared as, those declared later too (for plugins)."""
        self._transforms.append(transform)

    def set_verifier(self, verifier: Verifier) -> None:
        """Say how tokens become identities (authentication plugins call this)."""
        self._authority.verifier = verifier

    def set_identify(self, identify: Identify, seconds: float) -> None:
        """Say what is known of somebody beyond their token, and for how long it may be kept."""
        self._authority.identities = Identities(identify, seconds, self._check_timeout)

    def set_revocation(self, options: RevocationOptions) -> None:
        """Say how tokens are revoked (authentication plugins call this)."""
        self._authority.options = options
        self._check_endpoints()

    def set_rest_options(self, options: RestOptions) -> None:
        """Say where and how resources are served over HTTP."""
        self._rest = options

    def set_cors(self, options: CorsOptions) -> None:
        """Say which origins' pages may read what is served, over HTTP and sockets."""
        self._cors = options

    def set_socket_options(self, options: SocketOptions) -> None:
        """Say where and how subscriptions are served."""
        self._socket_options = options

    def set_feed(self, options: FeedOptions) -> None:
        """Say how changes reach other processes (feed plugins call this).

        Raises:
            ConfigurationError: it has been said before, or the api is in use already.
        """
        self._check_open_for_declarations("the feed")
        if self._feed_options.log is not None:
            raise ConfigurationError("the feed is named twice: use one of redis= and feed plugins")
        self._feed_options = options
        self._feed = make_feed(self._feed_options)

    def override(self, *plugins: Plugin) -> None:
        """Put plugins in the place of those that were declared, before the api is first used.

        Tests of an application do this: its own api runs on a database of theirs, and with a feed
        of this process alone. ``tidings.testing`` calls it.

            api.override(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))

        Where the new database says nothing of ``capture``, the old one's holds.

        Raises:
            ConfigurationError: the api is in use already.
        """
        for plugin in plugins:
            self._check_open_for_declarations(f"plugin {plugin.name!r}")
            captures = self._captures_all
            if plugin.name.endswith("-feed"):
                self._feed_options = FeedOptions()
            elif plugin.name == "sqlalchemy":
                self._engines.clear()
            plugin.install(self)
            self._captures_all = self._captures_all or captures
            self._plugins[plugin.name] = plugin

    def add_endpoint(self, path: str, app: ASGIApp) -> None:
        """Serve HTTP requests for exactly this path with an ASGI app of the plugin's.

        Raises:
            ConfigurationError: it is no path, or there is an endpoint at it already.
        """
        if not path.startswith("/") or path.endswith("/"):
            raise ConfigurationError(f"path {path!r}: start it with '/', end it without")
        if path in self._endpoints:
            raise ConfigurationError(f"there is an endpoint at {path!r} already")
        self._endpoints[path] = app

    def endpoint_at(self, path: str) -> ASGIApp | None:
        """What a plugin serves at a path."""
        return self._endpoints.get(path)

    def wrap_rest(self, wrap: Wrap) -> None:
        """Put an ASGI app around the one that serves the resources (for plugins)."""
        self._check_open_for_declarations("wrap_rest()")
        self._wraps.append(wrap)

    def set_tracing(self, tracing: Tracing) -> None:
        """Say where operations, commits and deliveries are traced (for plugins)."""
        self._check_open_for_declarations("tracing")
        self._tracing = tracing

    def set_observer(self, observer: DeliveryObserver) -> None:
        """Say who sees what is delivered, and to whom (for plugins)."""
        self._check_open_for_declarations("an observer")
        self._observer = observer

    # Using

    def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """One transaction for several operations; notifications go when it commits.

        async with api.transaction() as uow:
            await api.resources.posts.post({...}, transaction=uow)
        """
        return self._assembled.operations.scopes.transaction()

    async def explain(
        self,
        resource: str,
        record: Mapping[str, Any] | str | int,
        filters: Mapping[str, Any] | None = None,
        *,
        auth: Asker | None = TRUSTED,
        where: Mapping[str, Any] | None = None,
    ) -> Explanation:
        """Tell why a subscription sees a record, or why not, clause by clause.

        ``record`` is an id, or the columns of a record (of a change, say). With ``auth`` it is
        that identity's subscription: its permission is asked, and the clauses of hooks are in it.
        This is for you, not for clients: the answer quotes hidden clauses and values.

            print(await api.explain("posts", 7, {"status": "published"}, auth=identity))

        Raises:
            NotFound: there is no such resource or record.
            FilterError: the filters cannot be used.
        """
        parts = self._assembled
        found = parts.registry.get(resource)
        if found is None:
            raise NotFound(f"There is no resource {resource!r}", code="RESOURCE_NOT_FOUND")
        explainer = Explainer(parts.operations, self._feed)
        return await explainer.record(found, record, filters or {}, asker(auth), where)

    async def revoke(
        self,
        *,
        token: str | None = None,
        jti: str | None = None,
        expires_at: float | None = None,
        user_id: str | int | None = None,
        issued_before: float | None = None,
    ) -> None:
        """Revoke a token, or all tokens of a user that were issued before a moment (now).

        From then on it is refused, and its sockets are disconnected. Times are in seconds since
        the epoch. ``expires_at`` says when the token of this ``jti`` ends, and with that how long
        its entry is kept; the api's ``max_token_lifetime`` counts otherwise.

            await api.revoke(token=token)
            await api.revoke(user_id="7")

        Raises:
            ConfigurationError: not exactly one of ``token``, ``jti`` and ``user_id``, or nothing
                is set up to revoke with.
            AuthenticationError: the token is none of ours. One that has expired is no error.
        """
        if self._authority.options is not None:
            self._assembled  # noqa: B018  it makes the store, where nothing has been asked before
        await self._authority.revoke(token, jti, expires_at, user_id, issued_before)

    async def permissions_changed(
        self, *, user_id: str | int | None = None, resource: str | None = None
    ) -> None:
        """Check live subscriptions anew: those of a user (or of everybody), on a resource (or all).

        Call it when what rules, ``check_permissions``, ``subscription_filters`` hooks or
        ``identify`` go by has changed; all processes that share the feed check theirs. A
        subscription that may see other records now is told to refetch (``subscription.resync``,
        reason ``permission``); one that is refused ends.

        From the moment of the call nothing more is told by the old rights in this process, and
        nothing that is committed after it has returned in any other: until somebody has been
        checked, what comes for them waits.

        Raises:
            NotFound: there is no such resource.
            DatabaseBusy: the outbox could not be written: other processes do not know of it.
        """
        if resource is not None and self._registry.get(resource) is None:
            raise NotFound(f"There is no resource {resource!r}", code="RESOURCE_NOT_FOUND")
        changed = Recheck(None if user_id is None else str(user_id), resource)
        self._forget_rights()
        rechecks = [] if self._sockets is None else self._sockets.begin_recheck(changed)
        await self._linked.tell(changed)
        await asyncio.gather(*rechecks)

    def _forget_rights(self) -> None:
        """Ask policies and permissions anew from now on."""
        self._authority.forget_identities()
        self._assembled.operations.policies.forget()
        if self._sockets is not None:
            self._sockets.forget_rights()

    @overload
    def changed(
        self,
        resource: str,
        *,
        before: object = None,
        after: object = None,
        transaction: AsyncSession | AsyncConnection,
    ) -> Coroutine[Any, Any, None]: ...

    @overload
    def changed(
        self,
        resource: str,
        *,
        before: object = None,
        after: object = None,
        transaction: Session | Connection,
    ) -> None: ...

    def changed(
        self, resource: str, *, before: object = None, after: object = None, transaction: Any
    ) -> Coroutine[Any, Any, None] | None:
        """Tell of a write of your own, where no trigger does: it goes out when ``transaction``
        commits, and never if that is rolled back. Call it after the write; await it with an
        `AsyncSession` or `AsyncConnection`.

            task.status = "done"
            await api.changed("tasks", before=old, after=task, transaction=session)

        ``before`` and ``after`` are dicts of fields, ``id`` among them, or objects of the model.
        None before: it was made; None after: it is gone; neither: everybody who watches the
        resource is told to refetch. Whoever filters by something that is not given is told so, too.

        Raises:
            NotFound: there is no such resource.
            ConfigurationError: a value is none of its field; or there is no outbox to write to.
        """
        self._assembled  # noqa: B018  it makes what is needed, where nothing has been asked before
        if self._changed is None:
            raise ConfigurationError(
                "api.changed() needs an outbox: SqlAlchemyPlugin(capture=...), or a feed that has "
                "one (MemoryFeedPlugin(outbox=True), RedisFeedPlugin, PostgresFeedPlugin)"
            )
        told: Coroutine[Any, Any, None] | None = self._changed(resource, before, after, transaction)
        return told

    def watch(self, engine: AsyncEngine) -> None:
        """Listen to a further engine of your application, for ``capture="events"``."""
        self._check_open_for_declarations("watch()")
        self._engines.append(engine)

    async def create_tables(self) -> None:
        """Create the tables that do not exist yet; those that do are left as they are."""
        parts = self._assembled
        if self._opened:
            await self._created_tables()
            return
        if parts.database.in_memory:
            raise ConfigurationError(
                "a database in memory is gone when it is closed: create its tables inside "
                "'async with api:', or use SqlAlchemyPlugin(..., create_tables=True)"
            )
        await parts.database.open()
        try:
            await self._created_tables()
        finally:
            await parts.database.close()

    @property
    def triggers(self) -> Capture:
        """The triggers that tell of other writers: ``install()``, ``remove()``, ``missing()`` and
        ``statements()``, for scripts and migrations; inside ``async with api:`` or not.

        Raises:
            ConfigurationError: no resource is declared with ``capture="triggers"``.
        """
        self._assembled  # noqa: B018  it makes them, where nothing has been asked before
        if self._capture is None:
            raise ConfigurationError(
                'no resource is captured: SqlAlchemyPlugin(..., capture="triggers")'
            )
        return self._capture

    async def open(self) -> None:
        """Connect to the database and begin to deliver; may be nested."""
        parts = self._assembled
        self._opened += 1
        if self._opened > 1:
            return
        self._state = "opening"
        try:
            await parts.database.open()
            if self._creates_tables:
                await self._created_tables()
            await self._check_tables()
            await self._authority.open(self._ended)
            stale = await self._open_capture()
            self._say_what_is_not_captured()
            await self._linked.open()
            if stale and not self.is_alone:  # else nobody can have been told anything yet
                await self._linked.tell_stale(stale)
            await self._hooks.run("startup", self)
            if self._socket_options is not None or self._sockets is not None:
                await self.socket_server.open()
            if self._capture is not None:
                self._capture.follow(self._linked.tell_stale, may_install=self._creates_tables)
            self._state = "open"
            self._has_been_closed = False
        except BaseException:
            self._opened -= 1
            await self._close_parts()
            raise

    async def close(self) -> None:
        """Undo `open`."""
        if not self._opened:
            return
        self._opened -= 1
        if self._opened:
            return
        self._state = "closing"
        self._has_been_closed = True
        try:
            if self._sockets is not None:
                await self._sockets.close()
            await self._hooks.run("shutdown", self)
        finally:
            await self._close_parts()

    async def _close_parts(self) -> None:
        parts = self._assembled
        self._state = "closing"
        try:
            if self._capture is not None:
                await self._capture.close()
            await self._linked.close()
        finally:
            self._state = "closed"
            await self._authority.close()
            await parts.database.close()

    async def __aenter__(self) -> Api:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Serving

    def asgi(self) -> ApiApp:
        """A complete ASGI app: resources, sockets where the plugin is in use, and the lifespan."""
        return ApiApp(self)

    def install(self, app: Any, prefix: str = "/api") -> None:
        """Serve from an existing FastAPI or Starlette app: resources below ``prefix``, sockets at
        their own path, and the api opened and closed by the app's lifespan.
        """
        install_into(app, self, prefix)
        if self._rest.describes:
            describe_in(app, lambda: self.openapi(ANONYMOUS, prefix=prefix))
        self._is_installed = True

    async def identity(self, connection: HTTPConnection) -> Identity:
        """Who sends a request, by its ``Authorization`` header, as resources would see them. In an
        application's own routes: ``who: Annotated[Identity, Depends(api.identity)]``.

        Raises:
            AuthenticationError: the token cannot be accepted. Without one it is nobody in
                particular (``is_authenticated`` is False).
        """
        return await self._authority.of_header(connection.headers.get("authorization"))

    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session on your engine for one request, which tidings' operations join. In an
        application's own routes: ``session: Annotated[AsyncSession, Depends(api.session)]``.

        What is to stand you commit yourself, before the answer; changes are told when you do.
        Objects stay readable after it (``expire_on_commit=False``).

        Raises:
            ConfigurationError: tidings was given no engine of yours.
        """
        if self._own_engine is None:
            raise ConfigurationError(
                "api.session is a session on your own engine: SqlAlchemyPlugin(engine=...)"
            )
        async with AsyncSession(self._own_engine, expire_on_commit=False) as session:
            yield session

    def openapi(self, auth: Asker = TRUSTED, *, prefix: str | None = None) -> dict[str, Any]:
        """An OpenAPI 3.1 document of the resources below ``prefix`` (by default the plugin's).

        With an identity for ``auth`` it has only the fields that they may read.
        """
        assert self._assembled is not None
        assert self._description is not None  # made when the api was put together
        return self._description.document(
            prefix=self._rest.prefix if prefix is None else prefix, auth=auth
        )

    def start_socket_server(
        self,
        app: Any,
        *,
        path: str | None = None,
        cors: Mapping[str, Any] | None = None,
        redis: Mapping[str, Any] | str | None = None,
    ) -> ASGIApp:
        """Serve sockets beside any ASGI app; gives the app that serves both.

        Options override those of the `SocketIOPlugin`. A Starlette, FastAPI or ``api.asgi()`` app
        is extended in place, so that the return value may be ignored for those. ``redis`` names the
        Redis by which several processes share their changes, as `RedisFeedPlugin` does.

        Raises:
            ConfigurationError: the plugin is not in use, or a server was started before.
        """
        if self._socket_options is None:
            raise MissingDependencyError("start_socket_server() needs the SocketIOPlugin: use it")
        if self._sockets is not None or self._sockets_started:
            raise ConfigurationError("the socket server is started already")
        if redis is not None:
            self.set_feed(FeedOptions(redis_log(redis, feed_name(self.name)), outbox=True))
        Origins(cors)  # whatever is wrong with them is said here
        options = self._socket_options
        self._socket_options = replace(
            options,
            path=path if path is not None else options.path,
            cors=cors if cors is not None else options.cors,
        )
        self._sockets_started = True
        if isinstance(app, ApiApp) and app.api is self:
            return app
        if isinstance(app, Starlette):
            if not self._is_installed:
                attach_sockets(app, self)
            return app
        return ApiApp(self, beside=app)

    @property
    def socket_server(self) -> SocketServer:
        """The socket server, started with the plugin's options if nobody has started it."""
        if self._sockets is None:
            options = self._socket_options
            if options is None:
                raise MissingDependencyError("sockets need the SocketIOPlugin: use it")
            self._sockets = SocketServer(
                self._assembled.operations,
                self._feed,
                self._socket_identity,
                path=options.path,
                cors=self._socket_cors(options),
                limit=options.limit,
                expiry_warning=options.expiry_warning,
                connect_deadline=options.connect_deadline,
                permission_seconds=options.permission_seconds,
                limits=options.limits,
                drain_seconds=options.drain_seconds,
                settle=self._linked.settle,
                leeway=self._authority.leeway,
                is_revoked=self._authority.is_revoked,
                identify=self._authority.identify,
                tracer=self._tracing,
                observer=self._observer,
            )
        return self._sockets

    def _socket_cors(self, options: SocketOptions) -> Mapping[str, Any] | None:
        if self._cors is None:
            return options.cors
        if options.cors is not None:
            raise ConfigurationError("origins are named twice: by CorsPlugin and by cors=")
        return self._cors.of_sockets

    async def drain(self) -> None:
        """Send the clients of the sockets elsewhere, before the server stops: no new ones are
        taken, the others are told what has been committed, and ended, spread over the plugin's
        ``drain_seconds``, so that they reconnect by themselves. ``tidings serve`` does it.
        """
        if self._sockets is not None:
            await self._sockets.drain()

    @property
    def is_draining(self) -> bool:
        """Whether `drain` has been called: then this process is not to get anything new."""
        return self._sockets is not None and self._sockets.is_draining

    @property
    def io(self) -> Events:
        """The sockets, for events of the application's own."""
        return self.socket_server.events

    @property
    def is_alone(self) -> bool:
        """Whether what is committed here is told within this process only."""
        return not isinstance(self._feed, SharedFeed)

    @property
    def has_sockets(self) -> bool:
        """Whether subscriptions are served."""
        return self._socket_options is not None

    @property
    def prefix(self) -> str:
        """The URL path below which ``asgi()`` serves the resources."""
        return self._rest.prefix

    @property
    def state(self) -> State:
        """Whether it is ``open`` or ``closed``, or on its way there: ``opening``, ``closing``."""
        return "closing" if self._state == "open" and self.is_draining else self._state

    @property
    def has_been_closed(self) -> bool:
        """Whether it was open, and is not to be opened by a request again."""
        return self._has_been_closed

    @property
    def internals(self) -> Internals:
        """What it is made of, for those who watch over it; may differ from version to version."""
        options = self._socket_options
        if options is not None:
            options = replace(options, cors=self._socket_cors(options))
        return Internals(
            self._assembled,
            self._feed,
            self._linked,
            self._sockets,
            options,
            self._authority,
            creates_tables=self._creates_tables,
            capture=self._capture,
        )

    @property
    def rest_app(self) -> ASGIApp:
        """The ASGI app of the resources alone."""
        if "rest-api" not in self._plugins:
            raise MissingDependencyError("serving resources needs the RestApiPlugin: use it")
        return self._assembled.rest

    @property
    def socket_app(self) -> ASGIApp:
        """The ASGI app of the sockets alone."""
        if self._socket_app is None:
            self._socket_app = self._gate.guard(self.socket_server)
        return self._socket_app

    # Private

    @property
    def _assembled(self) -> Parts:
        """What the declarations come to; after this nothing more can be declared."""
        if self._parts is None:
            if self._database is None:
                raise MissingDependencyError("an Api needs the SqlAlchemyPlugin: use it")
            for transform in self._transforms:
                self._registry.transform(transform)
            self._registry.transform(targets_of(self._existing))
            self._registry.link()
            check_policies(self._registry)
            tables = build_tables(self._registry, self._existing)
            store = RecordStore(self._database, tables)
            is_captured = any(self._captured_by(one.name) for one in self._registry)
            self._capture = (
                Capture(self._database, lambda: self._opened > 0) if is_captured else None
            )
            self._link = link(
                self._feed,
                self._feed_options,
                self._database,
                self._forget_rights,
                self._tracing,
                None if self._capture is None else self._capture.outbox,
                lambda name: self._sockets is not None and self._sockets.is_watching(name),
            )
            make = Operations if self._tracing is None else self._tracing.operations
            operations = make(self._registry, store, self._hooks, self._link.publisher)
            self._feed.carried = partial(_carried, self._registry, operations)
            if self._capture is not None:
                self._capture.assemble(
                    self._registry,
                    tables,
                    operations,
                    lambda name: self._captured_by(name) == TRIGGERS,
                )
            if self._link.outbox is not None:
                self._changed = Changed(operations, tables, self._link.outbox)
                self._watch_events(tables)
            authority = self._authority
            authority.assemble(self._database, is_alone=self.is_alone)
            self._description = Description(
                operations,
                self.name,
                self.version,
                secured=authority.verifier is not None,
                atomic=self._rest.atomic,
            )
            endpoints = dict(auth_endpoints(authority.log_out) if authority.has_endpoints else {})
            if self._rest.describes:
                endpoints |= self._description.endpoints()
            rest: ASGIApp = JsonApiApp(
                self._registry,
                operations,
                authority.of_header,
                position=lambda: self._feed.position,
                max_body=self._rest.max_body,
                endpoints=endpoints,
                atomic=self._rest.atomic,
            )
            for wrap in self._wraps:
                rest = wrap(rest, self._registry)
            rest = self._gate.guard(rest)
            if self._cors is not None:
                rest = self._cors.around(rest)
            self._parts = Parts(self._registry, self._database, tables, operations, rest)
        return self._parts

    @property
    def _linked(self) -> FeedLink:
        assert self._link is not None  # made when the api was put together
        return self._link

    def _captured_by(self, resource: str) -> str | None:
        return self._captures.get(resource, self._captures_all)

    def _watch_events(self, tables: Mapping[str, Table]) -> None:
        by_events = {
            name: table for name, table in tables.items() if self._captured_by(name) == EVENTS
        }
        if not by_events:
            return
        if not self._engines:
            raise ConfigurationError(
                "capture='events' listens to an engine: SqlAlchemyPlugin(engine=...), or "
                "api.watch(engine)"
            )
        assert self._changed is not None
        for engine in self._engines:
            watch_events(engine, by_events, self._changed)

    def _say_what_is_not_captured(self) -> None:
        """Once, at start: which tables others may write without anybody hearing of it."""
        silent = [name for name in self._existing if self._captured_by(name) is None]
        if silent and self._capture is None:
            _log.warning(
                "%s: only what is written through tidings is told. For other writers of these "
                "tables see capture= (SqlAlchemyPlugin) or api.changed()",
                ", ".join(silent),
            )

    async def _open_capture(self) -> list[str]:
        if self._capture is None:
            return []
        return await self._capture.open(may_install=self._creates_tables)

    async def _created_tables(self) -> None:
        parts = self._assembled
        own = [table for table in parts.tables.values() if not is_existing(table)]
        await parts.database.create_tables(own)
        await parts.database.create_tables(self._linked.tables)
        await parts.database.create_tables(self._authority.tables)

    async def _check_tables(self) -> None:
        """Refuse tables that do not hold what is declared: corruption would be silent.

        Tables that are missing may be created within ``async with api:``.
        """
        parts = self._assembled
        found = await differences(parts.database, self.internals.tables)
        wrong = [one for one in found if one.found != MISSING_TABLE]
        if wrong:
            listing = "".join(f"\n  {one}" for one in wrong)
            raise ConfigurationError(f"the tables are not as declared:{listing}")
        if found and not parts.database.in_memory:
            names = ", ".join(one.table for one in found)
            _log.warning("tables that are missing: %s; %s", names, found[0].fix)

    def _check_open_for_declarations(self, what: str) -> None:
        if self._parts is not None:
            raise ConfigurationError(f"{what} comes too late: the api is in use already")

    def _check_endpoints(self) -> None:
        if self._authority.has_endpoints and self._registry.get("auth") is not None:
            raise ConfigurationError(
                "JWTAuthPlugin(endpoints=True) serves auth/logout and auth/session: "
                "a resource cannot be named 'auth'"
            )

    def _check_owner(self, resource: ResourceType, auth: Mapping[str, Any]) -> None:
        used = any("is_owner" in rules for rules in auth.values())
        named = resource.owner_field not in (None, "user_id")
        if (used or named) and resource.owner_field not in resource.fields:
            raise ConfigurationError(
                f"resource {resource.name!r} uses the rule 'is_owner': name the field that holds "
                f"the owner's user id with owner_field=; {resource.owner_field!r} is no field"
            )

    def _handle(self, name: str) -> ResourceHandle | None:
        resource = self._assembled.registry.get(name)
        return None if resource is None else ResourceHandle(resource, self._assembled.operations)

    def _names(self) -> list[str]:
        return [one.name for one in self._registry if not one.is_internal]

    async def _socket_identity(self, token: object) -> Identity:
        options = self._socket_options
        anonymous = options is not None and options.anonymous
        return await self._authority.of_socket(token, anonymous=anonymous)

    def _ended(self, user_ids: set[str], token_ids: set[str]) -> None:
        """End the sockets of what has been revoked."""
        if self._sockets is not None:
            self._sockets.revoked(user_ids, token_ids)


def _carried(registry: ResourceRegistry, operations: Operations, name: str) -> frozenset[str]:
    resource = registry.get(name)
    return frozenset() if resource is None else operations.carrying.expected(resource)
