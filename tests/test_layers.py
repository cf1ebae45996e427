"""The layer rule: a module imports only from its own row of the table or from rows above it.

The way of a change through the package is one direction. An import the other way is where it
would stop being one, so this test reads every import in the source, also those that only a type
checker sees.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = "tidings"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

# From the ground up. A part is a module or a package directly below `tidings`.
ROWS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "_version",
            "cache",
            "counting",
            "errors",
            "hooks",
            "identity",
            "memory",
            "numbers",
            "values",
        }
    ),
    frozenset({"schema", "socketio"}),
    frozenset({"filters"}),
    frozenset({"feed"}),
    frozenset({"storage"}),
    frozenset({"matching"}),
    frozenset({"resources"}),
    frozenset({"auth"}),
    frozenset({"jsonapi", "realtime", "description"}),
    frozenset(
        {
            "__init__",
            "alembic",
            "api",
            "plugins",
            "policies",
            "tenancy",
            "monitoring",
            "diagnosis",
            "inspector",
        }
    ),
    frozenset(
        {
            "cli",
            "failing",
            "loading",
            "serving",
            "testing",
            "client",
            "demo",
            "__main__",
        }
    ),
)

# Parts of one row that know nothing of each other.
STRANGERS = (frozenset({"jsonapi", "realtime", "description"}), frozenset({"schema", "socketio"}))

# `auth` stands beside the way of a change: it sees little of it, and only assembly sees it.
SEEN_BY_AUTH = frozenset({"cache", "errors", "identity", "hooks", "memory", "schema"})
SEES_AUTH = frozenset({"__init__", "api", "plugins", "diagnosis"})

# What uses the package as anybody would: through the names in `tidings.__all__`.
OUTSIDE = ROWS[-1]

Import = tuple[int, str, str | None]
"""Line, module, and the name taken from it (`None` for a plain ``import module``)."""


def violations(modules: Mapping[str, str]) -> list[str]:
    """Every break of the rule in `modules`, a mapping of dotted module name to source."""
    public = _public_names(modules.get(PACKAGE, ""))
    return [
        f"{module}:{line}: {complaint}"
        for module, source in sorted(modules.items())
        for line, complaint in _complaints(module, ast.parse(source), public)
    ]


def _complaints(module: str, tree: ast.Module, public: frozenset[str]) -> Iterator[tuple[int, str]]:
    part = _part(module)
    if _row(part) is None:
        yield 1, f"'{part}' is in no row of the table"
        return
    yield from _relative_imports(tree)
    for line, imported, name in _imports(tree):
        if complaint := _complaint(part, imported, name, public):
            yield line, complaint
    if part in OUTSIDE:
        yield from _private_attributes(tree, public)


def _complaint(part: str, imported: str, name: str | None, public: frozenset[str]) -> str | None:
    """What is wrong with `part` importing this, if anything."""
    target = _target(imported, name, public)
    if target == part:
        return None
    if part in OUTSIDE:
        if target in OUTSIDE or (target == "__init__" and (name is None or name in public)):
            return None
        return f"'{part}' uses the public API only, not {_spoken(imported, name)}"
    own, its = _row(part), _row(target)
    if its is None:
        return f"{_spoken(imported, name)} is in no row of the table"
    if own is None or its > own:
        return f"'{part}' must not import '{target}', which is in a row below it"
    if any({part, target} <= strangers for strangers in STRANGERS):
        return f"'{part}' and '{target}' must not know each other"
    if part == "auth" and target not in SEEN_BY_AUTH:
        return f"'auth' must not import '{target}'"
    if target == "auth" and part not in SEES_AUTH:
        return f"'{part}' must not import 'auth': only assembly does"
    return None


def _imports(tree: ast.Module) -> Iterator[Import]:
    """The absolute imports from the package, wherever in the module they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and _is_ours(node.module):
            for alias in node.names:
                yield node.lineno, str(node.module), alias.name


def _relative_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            dots = "." * node.level
            yield node.lineno, f"relative import from '{dots}{node.module or ''}'"


def _private_attributes(tree: ast.Module, public: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Uses of ``tidings.name`` where the name is not public."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == PACKAGE
            and node.attr not in public
        ):
            yield node.lineno, f"'{PACKAGE}.{node.attr}' is not in {PACKAGE}.__all__"


def _target(imported: str, name: str | None, public: frozenset[str]) -> str:
    """The part that an import reaches: ``from tidings import schema`` reaches `schema`."""
    if imported != PACKAGE:
        return _part(imported)
    if name is not None and name not in public and _row(name) is not None:
        return name
    return "__init__"


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def _row(part: str) -> int | None:
    return next((number for number, parts in enumerate(ROWS) if part in parts), None)


def _is_ours(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == PACKAGE


def _spoken(imported: str, name: str | None) -> str:
    return f"'{imported}'" if name is None else f"'{name}' of '{imported}'"


def _public_names(source: str) -> frozenset[str]:
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def _read_package() -> dict[str, str]:
    modules = {}
    for path in SOURCE.rglob("*.py"):
        dotted = ".".join((PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts))
        modules[dotted.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return modules


def test_the_package_keeps_the_layer_rule():
    modules = _read_package()
    assert f"{PACKAGE}.errors" in modules
    assert violations(modules) == []


API = 'from tidings.api import Api\n__all__ = ["Api"]\n'


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tidings.storage.rows", "from tidings.schema import ResourceType"),
        ("tidings.storage.rows", "from tidings.storage.tables import Table"),
        ("tidings.realtime.rooms", "import tidings.matching.index"),
        ("tidings.auth.jwt", "from tidings.identity import Identity"),
        ("tidings.plugins", "from tidings.auth import Jwt\nfrom tidings import realtime"),
        ("tidings", API),
        ("tidings.cli", "import tidings\nfrom tidings import Api\napp = tidings.Api()"),
        ("tidings.cli", "from tidings.demo import app"),
        ("tidings.schema", "from tidingsextra.realtime import thing\nimport os"),
    ],
)
def test_a_good_import_is_let_through(module, source):
    assert violations({"tidings": API} | {module: source}) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("tidings.schema", "from tidings.filters import F", "'filters', which is in a row below"),
        ("tidings.feed", "import tidings.storage.rows", "'storage', which is in a row below"),
        ("tidings.feed", "from tidings import storage", "'storage', which is in a row below"),
        ("tidings.errors", "from tidings import Api", "'__init__', which is in a row below"),
        ("tidings.api", "from tidings.cli import main", "'cli', which is in a row below"),
        ("tidings.jsonapi.x", "from tidings.realtime import R", "must not know each other"),
        ("tidings.realtime.x", "from tidings.jsonapi import J", "must not know each other"),
        ("tidings.socketio.x", "from tidings.schema import S", "must not know each other"),
        ("tidings.socketio.x", "from tidings.realtime import R", "in a row below it"),
        ("tidings.auth.jwt", "from tidings.storage import S", "'auth' must not import 'storage'"),
        ("tidings.auth", "from tidings.realtime import R", "must not import 'realtime'"),
        ("tidings.realtime", "from tidings.auth import Jwt", "only assembly does"),
        ("tidings.resources", "from tidings.auth import Jwt", "must not import 'auth'"),
        ("tidings.cli", "from tidings.storage import S", "uses the public API only"),
        ("tidings.demo.app", "from tidings import storage", "uses the public API only"),
        ("tidings.client", "from tidings import _version", "uses the public API only"),
        ("tidings.client", "import tidings.feed", "uses the public API only"),
        ("tidings.client", "import tidings\ntidings.feed", "'tidings.feed' is not in"),
        ("tidings.schema.fields", "from . import types", "relative import from '.'"),
        ("tidings.schema.fields", "from ..hooks import Hooks", "relative import from '..hooks'"),
        ("tidings.novelty", "import os", "'novelty' is in no row"),
        ("tidings.schema", "import tidings.novelty", "'tidings.novelty' is in no row"),
        (
            "tidings.schema",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tidings.api",
            "tidings.schema:3: 'schema' must not import 'api'",
        ),
        (
            "tidings.schema",
            "def late():\n    from tidings.api import Api\n    return Api",
            "tidings.schema:2: 'schema' must not import 'api'",
        ),
    ],
)
def test_a_bad_import_is_named(module, source, complaint):
    [found] = violations({"tidings": API, module: source})
    assert complaint in found
    assert found.startswith(f"{module}:")
