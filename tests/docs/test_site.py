"""The site has every page, and nothing that does not exist; `make docs` builds it."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = {page.name for page in DOCS.glob("*.md")}
GENERATED = {"reference/index.md"}


def test_the_navigation_has_every_page_once():
    named = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.M)
    assert sorted(named) == sorted(PAGES | GENERATED), "a page of docs/ needs a line in mkdocs.yml"


@pytest.mark.parametrize("name", ["index.md", "llms.txt"])
def test_lists_of_pages_have_every_page(name):
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / name).read_text()))
    assert named == PAGES - {"index.md"}, f"a page of docs/ needs a line in docs/{name}"
