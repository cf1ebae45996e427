"""Api: what may be declared when, and what it says when something is missing."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

import tidings
from tidings import (
    Api,
    ConfigurationError,
    Identity,
    JWTAuthPlugin,
    MissingDependencyError,
    MissingExtraError,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.errors import DatabaseBusy
from tidings.feed import Change, Cursor
from tidings.storage import CoreDatabase, SqliteDatabase

MEMORY = "sqlite+aiosqlite://"
SECRET = "a secret that is long enough for HS256"


def made(**options: Any) -> Api:
    api = Api(**options)
    api.use(SqlAlchemyPlugin(MEMORY, create_tables=True))
    api.add_resource("notes", schema={"title": "string"})
    return api


def test_everything_exported_is_there() -> None:
    constants_first = sorted(tidings.__all__, key=lambda name: (not name.isupper(), name))
    assert tidings.__all__ == constants_first
    for name in tidings.__all__:
        assert getattr(tidings, name) is not None


# Plugins


class Noting:
    name = "noting"
    dependencies = ("jwt-auth",)

    def install(self, api: Api) -> None:
        api.add_hook("startup", "noting", lambda api: None)


def test_a_plugin_needs_its_dependencies_first() -> None:
    api = Api()
    with pytest.raises(MissingDependencyError) as caught:
        api.use(Noting())
    assert str(caught.value) == "plugin 'noting' needs plugin 'jwt-auth': use it first"
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(Noting())


@pytest.mark.parametrize(
    ("used", "missing"), [([], "sqlalchemy"), ([SqlAlchemyPlugin(MEMORY)], "jwt-auth")]
)
def test_sockets_need_a_database_and_tokens(used: list[Any], missing: str) -> None:
    api = Api()
    for plugin in used:
        api.use(plugin)
    with pytest.raises(MissingDependencyError, match=f"'socketio' needs plugin '{missing}'"):
        api.use(SocketIOPlugin())


def test_sockets_for_everybody_need_no_tokens() -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(MEMORY))
    api.use(SocketIOPlugin(anonymous=True))
    assert api.has_sockets


@pytest.mark.parametrize("wrong", [RestApiPlugin, object(), "rest-api", None])
def test_only_plugin_objects_are_used(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"takes a plugin object.*as RestApiPlugin\(\)"):
        Api().use(wrong)


def test_a_plugin_is_used_once() -> None:
    api = Api()
    api.use(RestApiPlugin())
    with pytest.raises(ConfigurationError, match="plugin 'rest-api' is in use already"):
        api.use(RestApiPlugin())


@pytest.mark.parametrize("prefix", ["api", "/api/", "", "/"])
def test_a_prefix_starts_with_a_slash_and_ends_without(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="start it with '/', end it without"):
        RestApiPlugin(prefix)


def test_the_prefix_is_known() -> None:
    api = Api()
    assert api.prefix == "/api"
    api.use(RestApiPlugin("/v1"))
    assert api.prefix == "/v1"


# Databases


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "takes a database URL or an engine="),
        ({"url": MEMORY, "engine": object()}, "takes a database URL or an engine="),
        ({"url": "not a url"}, "cannot be read; it looks like sqlite+aiosqlite:///app.db"),
        ({"url": "postgresql://x/y"}, "driver 'postgresql' is not supported: use sqlite+aiosqlite"),
        ({"url": "sqlite+pysqlite://"}, "driver 'sqlite+pysqlite' is not supported"),
    ],
)
def test_wrong_databases(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SqlAlchemyPlugin(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("driver", "package", "extra"),
    [("postgresql+asyncpg", "asyncpg", "postgres"), ("mysql+asyncmy", "asyncmy", "mysql")],
)
def test_a_missing_driver_says_what_to_install(
    driver: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.plugins.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        SqlAlchemyPlugin(f"{driver}://me:secret@host/db")
    assert str(caught.value) == (
        f"the database URL {driver}:// needs the package '{package}', which is not installed: "
        f'run pip install "tidings[{extra}]"'
    )


@pytest.mark.skipif(importlib.util.find_spec("asyncpg") is None, reason="needs asyncpg")
def test_other_databases_get_an_engine_of_their_own() -> None:
    database = SqlAlchemyPlugin("postgresql+asyncpg://me@host/db")._database
    assert isinstance(database, CoreDatabase)
    assert database.dialect_name == "postgresql"
    assert database.update_returning
    assert not database.in_memory
    assert isinstance(SqlAlchemyPlugin("sqlite:///x.db")._database, SqliteDatabase)


def test_an_api_without_a_database_says_so() -> None:
    with pytest.raises(MissingDependencyError, match="an Api needs the SqlAlchemyPlugin: use it"):
        Api().resources.notes  # noqa: B018


# Declaring


async def test_after_the_first_use_nothing_can_be_declared() -> None:
    api = made()
    async with api:
        with pytest.raises(ConfigurationError, match="resource 'late' comes too late: the api is"):
            api.add_resource("late", schema={})
        with pytest.raises(ConfigurationError, match="plugin 'rest-api' comes too late"):
            api.use(RestApiPlugin())
    assert "notes" in api._names()


async def test_what_is_declared_wrong_stays_wrong() -> None:
    api = made()
    api.add_resource("posts", schema={"author_id": {"belongs_to": "users"}})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="points at 'users', which is not declared"):
            await api.open()
    await api.close()


def test_owners_must_be_named() -> None:
    with pytest.raises(ConfigurationError, match="owner_field=; None is no field"):
        made().add_resource("posts", schema={"user_id": "id"}, auth={"patch": ["is_owner"]})


def test_unknown_rules_are_named() -> None:
    with pytest.raises(ConfigurationError, match="'posts', method 'query', rule 'is_admn'"):
        made().add_resource("posts", schema={}, auth={"query": ["is_admn"]})


async def test_own_checkers() -> None:
    api = made()
    api.add_checker("red_team", lambda context, argument: context.auth.team == "red")
    api.add_resource("plans", schema={"title": "string"}, auth={"*": ["red_team"]})
    async with api:
        await api.resources.plans.post({}, auth=Identity("1", claims={"team": "red"}))
        with pytest.raises(tidings.PermissionDenied):
            await api.resources.plans.query(auth=Identity("1", claims={"team": "blue"}))


async def test_hooks_by_decorator() -> None:
    api = made()
    seen: list[str] = []

    @api.hook("after_write")
    def second(context: Any) -> None:
        seen.append("second")

    @api.hook("after_write", name="named", before="second")
    async def first(context: Any) -> None:
        seen.append("first")

    async with api:
        await api.resources.notes.post({"title": "a"})
    assert seen == ["first", "second"]
    assert second.__name__ == "second"
    with pytest.raises(ConfigurationError, match="already has a handler named 'named'"):
        api.add_hook("after_write", "named", second)
    with pytest.raises(ConfigurationError, match="did you mean 'after_write'"):
        api.hook("after_wrte")(second)


async def test_names_of_resources() -> None:
    api = made()
    api.add_resource("blog-posts", schema={"title": "string"})
    async with api:
        assert (await api.resources["blog-posts"].query()).total == 0
        with pytest.raises(tidings.NotFound, match="no resource 'note'; did you mean 'notes'"):
            api.resources["note"]
        with pytest.raises(AttributeError, match="did you mean 'notes'"):
            api.resources.nots  # noqa: B018
        assert not hasattr(api.resources, "_private")
        assert not hasattr(api.resources, "zzz")


# Opening and closing


async def test_opening_may_be_nested() -> None:
    api = made()
    events: list[str] = []
    api.add_hook("startup", "s", lambda api: events.append("up"))
    api.add_hook("shutdown", "s", lambda api: events.append("down"))
    async with api:
        async with api as same:
            assert same is api
            assert (await api.resources.notes.post({"title": "a"}))["id"] == "1"
        assert events == ["up"]
        assert len(await api.resources.notes.query()) == 1
    assert events == ["up", "down"]
    with pytest.raises(ConfigurationError, match="use 'async with api:'"):
        await api.resources.notes.query()


async def test_closing_what_is_closed_does_nothing() -> None:
    api = made()
    await api.close()
    async with api:
        await api.resources.notes.query()
    await api.close()
    with pytest.raises(ConfigurationError, match="not open"):
        await api.resources.notes.query()


@pytest.mark.parametrize("hook", ["startup", "shutdown"])
async def test_a_hook_that_fails_leaves_the_database_closed(hook: str) -> None:
    api = made()

    def fail(api: Api) -> None:
        raise RuntimeError("no")

    api.add_hook(hook, "fail", fail)
    with pytest.raises(RuntimeError, match="no"):
        async with api:
            pass
    with pytest.raises(ConfigurationError, match="not open"):
        await api.resources.notes.query()


async def test_tables_in_memory_are_created_where_they_stay() -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(MEMORY))
    api.add_resource("notes", schema={"title": "string"})
    with pytest.raises(ConfigurationError, match="inside 'async with api:'"):
        await api.create_tables()
    async with api:
        await api.create_tables()
        await api.resources.notes.post({"title": "a"})


async def test_a_bad_path_fails_at_opening(tmp_path: Path) -> None:
    api = Api()
    api.use(SqlAlchemyPlugin(f"sqlite+aiosqlite:///{tmp_path}/no/such.db"))
    with pytest.raises(ConfigurationError, match="cannot open the database"):
        await api.open()
    with pytest.raises(ConfigurationError, match="cannot open the database"):
        await api.create_tables()


async def test_busy_is_an_error_of_the_request() -> None:
    assert DatabaseBusy("x").status == 503


# Serving


def test_serving_needs_its_plugins() -> None:
    api = made()
    with pytest.raises(MissingDependencyError, match="serving resources needs the RestApiPlugin"):
        api.rest_app  # noqa: B018
    with pytest.raises(MissingDependencyError, match="sockets need the SocketIOPlugin"):
        api.socket_server  # noqa: B018
    with pytest.raises(MissingDependencyError, match=r"start_socket_server\(\) needs the"):
        api.start_socket_server(Starlette())
    assert not api.has_sockets


def with_sockets() -> Api:
    api = made()
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    return api


def test_the_socket_server_is_started_once() -> None:
    api = with_sockets()
    app = Starlette()
    assert api.start_socket_server(app) is app
    with pytest.raises(ConfigurationError, match="the socket server is started already"):
        api.start_socket_server(app)


def test_options_of_the_start_override_the_plugins() -> None:
    api = with_sockets()
    app = api.asgi()
    assert api.start_socket_server(app, path="/live", cors={"origin": "https://a"}) is app
    assert api._socket_options is not None
    assert (api._socket_options.path, api._socket_options.limit) == ("/live", 100)


# Logging


@pytest.fixture
def tidings_log() -> Iterator[logging.Logger]:
    log = logging.getLogger("tidings")
    level, handlers, propagate = log.level, list(log.handlers), log.propagate
    log.handlers = []
    yield log
    log.setLevel(level)
    log.handlers, log.propagate = handlers, propagate


async def test_debug_logging_shows_what_happens(
    tidings_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    api = made(logging={"level": "debug"})
    async with api:
        await api.resources.notes.post({"title": "a"})
    assert "held until commit" in capsys.readouterr().err


async def test_nothing_is_printed_without_it(
    tidings_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    api = made()
    async with api:
        await api.resources.notes.post({"title": "a"})
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"lvl": "debug"}, {"level": 10}])
def test_wrong_logging_options(wrong: Any, tidings_log: logging.Logger) -> None:
    with pytest.raises(ConfigurationError, match="debug"):
        Api(logging=wrong)


# Without tokens


async def test_without_the_jwt_plugin_there_are_no_tokens() -> None:
    api = made()
    assert await api._authority.of_header(None) == tidings.ANONYMOUS
    assert await api._authority.of_header("Bearer x") == tidings.ANONYMOUS
    api.use(SocketIOPlugin(anonymous=True))
    assert await api._socket_identity(None) == tidings.ANONYMOUS


@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic abc", "Bearer", "", "nonsense"])
async def test_a_wrong_token_is_refused_not_ignored(header: str) -> None:
    api = with_sockets()
    with pytest.raises(tidings.AuthenticationError):
        await api._authority.of_header(header)
    with pytest.raises(tidings.AuthenticationError):
        await api._socket_identity(header)


async def test_changes_of_an_api_reach_its_feed() -> None:
    api = made()
    async with api:
        await api.resources.notes.post({"title": "a"})
        ((offset, change),) = await api._feed.read(Cursor(api._feed.position.epoch, 0), 10)
    assert offset == 1
    assert isinstance(change, Change)
    assert (change.resource, change.id, change.action) == ("notes", "1", "post")
