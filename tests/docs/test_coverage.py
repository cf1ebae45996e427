"""The documentation names what there is (codes, options, hooks, exports), and its links lead on."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

import tidings
from tests.docs.blocks import PAGES, REPOSITORY, name_of
from tidings.api.application import HOOKS
from tidings.auth import METHODS, CheckerRegistry
from tidings.schema.declare import FIELD_OPTIONS
from tidings.schema.search import OPERATORS
from tidings.schema.types import TYPE_NAMES

SOURCE = REPOSITORY / "src" / "tidings"
NAME = re.compile(r"[A-Z]+(_[A-Z]+)+|REQUIRED|CONFLICT|CONSTRAINT|UNAVAILABLE")
CODES_IN = ("default_code", "_REFUSALS")
"""Variables with an annotation that hold codes."""
MAKERS = ("problems.add", "Problem", "_conflict", "_object")
"""Functions that take a code without naming it."""
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text()


def codes() -> set[str]:
    """Every code that an error is given in the source: ``code="..."``, a default, a refusal."""
    trees = (ast.parse(path.read_text()) for path in SOURCE.rglob("*.py"))
    found = {text for tree in trees for node in ast.walk(tree) for text in given_as_code(node)}
    return {code for code in found if NAME.fullmatch(code)}


def given_as_code(node: ast.AST) -> set[str]:
    match node:
        case ast.keyword(arg="code" | "default_code", value=value):
            return constants(value)
        case ast.Assign(targets=[target], value=value) if "code" in ast.unparse(target):
            return constants(value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return constants(value) if ast.unparse(target) in CODES_IN else set()
        case ast.Dict(keys=[ast.Constant("code"), *_], values=[value, *_]):
            return constants(value)
        case ast.Call(func=func) if ast.unparse(func) in MAKERS:
            return constants(node)
    return set()


def constants(node: ast.AST) -> set[str]:
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def test_every_code_has_a_heading_and_every_heading_a_code():
    headings = re.findall(r"^### ([A-Z_]+)$", page("errors.md"), re.MULTILINE)
    assert sorted(headings) == sorted(codes()), "docs/errors.md has a heading for each code"


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (FIELD_OPTIONS | TYPE_NAMES, "resources.md"),
        (OPERATORS, "filters.md"),
        (set(HOOKS), "plugins.md"),
        (set(METHODS), "auth.md"),
        (set(CheckerRegistry()._entries), "auth.md"),
    ],
    ids=["options and types", "operators", "hooks", "methods", "rules"],
)
def test_every_name_is_documented(names, where):
    assert {
        name for name in names if not re.search(rf"`{re.escape(name)}[`:]", page(where))
    } == set()


def test_every_exported_name_is_documented():
    everything = "".join(each.read_text() for each in PAGES)
    names = set(tidings.__all__) - {"__version__"}
    assert {name for name in names if not re.search(rf"\b{name}\b", everything)} == set()


def anchors(path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, REPOSITORY / "CHANGELOG.md"], ids=name_of)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_changelog_has_the_version():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    assert tidings.__version__.partition("a")[0].partition(".dev")[0] in text
