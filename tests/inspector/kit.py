"""An api with an inspector, and people who subscribe and change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from tests.http.kit import bearer
from tests.sockets.kit import live_api
from tidings import Api, InspectorPlugin, SubscriptionContext

ADMIN = bearer("root", roles=["admin"])


def inspected(sockets: Mapping[str, Any] | None = None, **options: Any) -> Api:
    if not {"role", "allow"} & options.keys():
        options["role"] = "admin"
    api = live_api(**(sockets or {}))
    api.use(InspectorPlugin(**options))
    return api


def hide_drafts(context: SubscriptionContext) -> None:
    """A hook whose clause clients never see."""
    if context.auth.user_id == "guest":
        context.subscription.require({"note": "public"})


async def look(
    http: httpx.AsyncClient, headers: Mapping[str, str] = ADMIN, **parameters: str
) -> dict[str, Any]:
    answer = await http.get("/inspector/data", headers=headers, params=parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def explain(http: httpx.AsyncClient, cursor: str, **parameters: str) -> dict[str, Any]:
    answer = await http.get(
        "/inspector/explain", headers=ADMIN, params={"cursor": cursor, **parameters}
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
