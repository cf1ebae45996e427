"""Hooks around writes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.http.kit import error, make_api, serving

from tidings.errors import PermissionDenied


async def test_a_hook_may_complete_what_was_given() -> None:
    api = make_api()
    api.add_resource(
        "notes", schema={"text": "string", "by": {"type": "string", "read_only": True}}
    )

    @api.hook("before_write")
    def complete(context: Any) -> None:
        if context.values is not None:
            context.values["by"] = "the hook"

    async with serving(api) as http:
        assert (await http.made("notes", {"text": "a"}))["attributes"]["by"] == "the hook"
        response = await http.create("notes", {"text": "a", "by": "me"})
        error(response, 422, "READ_ONLY", pointer="/data/attributes/by")


@pytest.mark.parametrize("hook", ["before_write", "after_write"])
async def test_a_hook_may_refuse_and_then_nothing_is_written(hook: str) -> None:
    api = make_api()
    api.add_resource("notes", schema={"text": "string"})

    @api.hook(hook)
    def refuse(context: Any) -> None:
        if context.values is not None and context.values.get("text") == "forbidden":
            raise PermissionDenied("Not this word")

    async with serving(api) as http:
        made = await http.made("notes", {"text": "a"})
        for response in (
            await http.create("notes", {"text": "forbidden"}),
            await http.change("notes", made["id"], {"text": "forbidden"}),
            await http.change("notes", made["id"], {"text": "forbidden"}, "PUT"),
        ):
            assert error(response, 403, "PERMISSION_DENIED")["detail"] == "Not this word"
        assert await http.data("/notes") == [made]


@pytest.mark.parametrize("hook", ["before_write", "after_write"])
async def test_a_hook_that_breaks_shows_nothing_of_itself(hook: str) -> None:
    api = make_api()
    api.add_resource("notes", schema={"text": "string"})

    @api.hook(hook)
    def breaks(context: Any) -> None:
        raise RuntimeError("a secret of the implementation")

    async with serving(api) as http:
        response = await http.create("notes", {"text": "a"})
        found = error(response, 500, "INTERNAL_ERROR")
        assert found["id"] in found["detail"]
        assert "secret" not in response.text
        assert await http.data("/notes") == []
