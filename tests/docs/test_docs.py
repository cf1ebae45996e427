"""What the documentation shows is run: Python whole, the rest as far as it can be read."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.docs.blocks import PAGES, Block, blocks, name_of
from tidings import Api

pytestmark = pytest.mark.anyio

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
LANGUAGES = {"python", "js", "json", "sh", "http", "nginx", "text", "toml"}
RECIPES = {"jsx", "ts", "html"}
"""Of docs/clients.md, where tests/clients runs them."""


def of_language(page: Path, language: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == language and block.skip is None]


async def run(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    source = "\n" * (block.line - 1) + block.code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    result = eval(compile(source, str(page), "exec", flags=flags, dont_inherit=True), namespace)
    if inspect.isawaitable(result):
        await result


@every_page
async def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_SECRET", "a secret for tests, of 32 bytes or more")
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        namespace: dict[str, Any] = {"__name__": page.stem, "stack": stack}
        stack.push_async_callback(close_all, namespace)
        for block in of_language(page, "python"):
            await run(block, page, namespace)


async def close_all(namespace: dict[str, Any]) -> None:
    """What a page leaves open where one of its blocks fails; threads would outlive the test."""
    for found in namespace.values():
        if isinstance(found, Api):
            await found.close()
        elif isinstance(found, httpx.AsyncClient):
            await found.aclose()
        elif isinstance(found, AsyncEngine):
            await found.dispose()


@every_page
def test_json_blocks_are_json(page):
    for block in of_language(page, "json"):
        try:
            json.loads(block.code)
        except ValueError as error:
            pytest.fail(f"{name_of(page)}:{block.line}: {error}")


@every_page
@pytest.mark.parametrize(("language", "check"), [("js", ["node", "--check"]), ("sh", ["sh", "-n"])])
def test_scripts_have_no_syntax_error(page, language, check, tmp_path):
    if shutil.which(check[0]) is None:
        pytest.skip(f"{check[0]} is not installed")
    for block in of_language(page, language):
        script = tmp_path / f"line-{block.line}.{'mjs' if language == 'js' else 'sh'}"
        script.write_text(block.code, encoding="utf-8")
        done = subprocess.run([*check, script], capture_output=True, text=True)
        assert done.returncode == 0, f"{name_of(page)}:{block.line}: {done.stderr}"


@every_page
def test_every_block_says_its_language(page):
    known = LANGUAGES | RECIPES if page.name == "clients.md" else LANGUAGES
    strange = [block for block in blocks(page) if block.language not in known]
    assert not strange


@every_page
def test_no_block_is_overlooked(page):
    fences = sum(line.startswith("```") for line in page.read_text().splitlines())
    hidden = page.read_text().count("<!-- test: run")
    assert fences == 2 * (len(list(blocks(page))) - hidden)
