"""JSON:API clients of others, unmodified: records, to-many, relationship URLs, included records."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest

from tests.http.kit import serving_quietly
from tests.independent.kit import declare_blog
from tests.support.node import JS_DIRECTORY

FOLDER = JS_DIRECTORY / "independent"


@pytest.mark.parametrize("client", ["kitsu", "devour-client", "jsona", "@warp-drive/json-api"])
async def test_a_javascript_client_goes_the_whole_round(client: str) -> None:
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("needs Node.js 20 or later and its packages: run 'make setup-js'")
    # @warp-drive's ready builds; the others need a build step of Ember's.
    arguments = [
        node,
        "--conditions=unpkg",
        "--test",
        "--test-reporter=tap",
        f"--test-name-pattern=^{client}$",
    ]
    async with declare_blog() as api, serving_quietly(api) as http:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            "clients.test.mjs",
            cwd=FOLDER,
            env={**os.environ, "API_URL": str(http.base_url).rstrip("/")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    report = output.decode()
    assert process.returncode == 0, report
    assert "# pass 1\n" in report, report


async def test_jsonapi_client_goes_the_whole_round() -> None:
    jsonapi_client = pytest.importorskip("jsonapi_client")

    def go(url: str) -> None:
        to_one = {"relation": "to-one", "resource": ["users"]}
        to_many = {"relation": "to-many", "resource": ["tags"]}
        text = {"type": ["string", "null"]}
        schema = {
            "users": {"properties": {"name": text}},
            "tags": {"properties": {"name": text}},
            "posts": {"properties": {"title": text, "author": to_one, "tags": to_many}},
        }
        with jsonapi_client.Session(url, schema=schema) as session:
            ada = session.create_and_commit("users", name="Ada")
            red, blue = (session.create_and_commit("tags", name=name) for name in ("red", "blue"))
            made = session.create_and_commit("posts", title="one", author=ada, tags=[red])
            assert (made.title, made.author.name) == ("one", "Ada")
        with jsonapi_client.Session(url, schema=schema) as session:
            shown = jsonapi_client.Inclusion("author", "tags")
            post = session.get("posts", shown + jsonapi_client.Filter(title="one")).resource
            assert post.author.name == "Ada"
            assert [tag.name for tag in post.tags] == ["red"]
            post.title = "two"
            post.tags = [red.id, blue.id]
            post.commit()
        with jsonapi_client.Session(url, schema=schema) as session:
            post = session.get("posts", made.id).resource
            assert post.title == "two"
            related = session.fetch_document_by_url(post.relationships.tags.links.related.url)
            assert [tag.name for tag in related.resources] == ["red", "blue"]
            linkage = session.fetch_document_by_url(post.relationships.tags.links.self.url)
            assert {tag.id for tag in linkage.resources} == {red.id, blue.id}
            assert [one.title for one in session.iterate("posts")] == ["two"]

    async with declare_blog() as api, serving_quietly(api) as http:
        url = str(http.base_url).rstrip("/")
        await asyncio.to_thread(go, url)
        # Its other half cannot read a 204, which has no document.
        async with jsonapi_client.Session(url, enable_async=True) as session:
            post = (await session.get("posts", "1")).resource
            post.delete()
            await post.commit()
        assert await http.ids("/posts") == []
