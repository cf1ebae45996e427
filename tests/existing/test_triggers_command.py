"""``tidings triggers``, ``tidings doctor`` and the helpers for Alembic."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from click.testing import CliRunner
from sqlalchemy import Column, Connection, String, insert, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from tests.existing.kit import declare, existing, make_api
from tests.existing.models import Base, Task
from tests.existing.test_capture import told
from tidings import alembic
from tidings.cli import main

APP = """
    from tests.existing.kit import declare, make_api

    api = make_api({url!r}, capture="triggers")
    declare(api)
"""


@pytest.fixture
def app(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an Api over an existing database, as the command takes it."""
    asyncio.run(_prepare(database_url))
    name = f"app_{abs(hash(database_url))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(APP.format(url=database_url)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}:api"


async def _prepare(url: str) -> None:
    async with existing(url):
        pass


def test_install_check_sql_and_remove(app: str) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, [*arguments, app])
        return done.exit_code, done.output

    gone = "projects: missing or old\ntask_items: missing or old\n"
    there = "projects: ok\ntask_items: ok\n"
    assert run("triggers", "check") == (1, gone)
    code, said = run("doctor")
    assert code == 1
    assert "triggers" not in said, "without its table first things come first"
    assert run("triggers", "install") == (0, "installed on projects, task_items\n")
    assert run("triggers", "check") == (0, there)
    assert run("triggers", "install") == (0, "installed on projects, task_items\n")
    code, said = run("doctor")
    assert "triggers     2 tables tell of everybody who writes them" in said, said
    code, sql = run("triggers", "sql")
    assert code == 0
    assert "tidings_captured" in sql
    assert run("triggers", "remove") == (0, "removed from projects, task_items\n")
    assert run("triggers", "check") == (1, gone)
    assert "tidings triggers install" in run("doctor")[1]


def test_what_is_no_api_with_triggers_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_app.py").write_text(
        "from tidings import *\napi = Api()\napi.use(SqlAlchemyPlugin('sqlite+aiosqlite://'))\n"
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["triggers", "check", "plain_app:api"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: no resource is captured")


async def test_a_migration_installs_them_and_autogenerate_is_clean(database_url: str) -> None:
    """A column is added, one is dropped, and the writer in between is told of."""
    api = make_api(database_url, capture="triggers")
    declare(api)
    engine = create_async_engine(database_url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.run_sync(lambda bound: alembic.install_triggers(bound, api))
        async with engine.connect() as connection:
            assert await connection.run_sync(_differences) == []
        async with api:
            assert await api.triggers.missing() == []
            async with engine.begin() as connection:
                await connection.run_sync(_migrate, api)
            assert await api.triggers.missing() == []
            async with engine.begin() as connection:
                await connection.execute(insert(Task).values(title="after"))
                await connection.execute(update(Task).values(title="later"))
            assert await told(api, 1)
    finally:
        await engine.dispose()


def _differences(connection: Connection) -> list[object]:
    options = {"include_object": alembic.include_object, "compare_type": False}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, Base.metadata))


def _migrate(connection: Connection, api: object) -> None:
    operations = Operations(MigrationContext.configure(connection))
    operations.add_column("task_items", Column("more", String(10)))
    alembic.remove_triggers(connection, api, ["task_items"])  # type: ignore[arg-type]
    connection.execute(text("ALTER TABLE task_items DROP COLUMN more"))
    alembic.install_triggers(connection, api)  # type: ignore[arg-type]
