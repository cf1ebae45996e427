"""URL paths: which resource, record and relationship they name, and what can be done there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from starlette.types import Scope

COLLECTION_METHODS: Final = ("GET", "HEAD", "POST")
ITEM_METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
RELATED_METHODS: Final = ("GET", "HEAD")
LINKAGE_METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "DELETE")


def place_in(segments: Sequence[str]) -> tuple[str | None, str | None, Sequence[str]] | None:
    """Of a resource's URL: the id and the relationship in it, and the methods that there are."""
    match segments[1:]:
        case []:
            return None, None, COLLECTION_METHODS
        case [record_id]:
            return record_id, None, ITEM_METHODS
        case [record_id, "relationships", name]:
            return record_id, name, LINKAGE_METHODS
        case [record_id, name]:
            return record_id, name, RELATED_METHODS
        case _:
            return None


def path_in(scope: Scope) -> tuple[str, list[str]]:
    """The path below which the app is, and the segments of what comes after it."""
    base = scope.get("root_path", "").rstrip("/")
    raw = (scope.get("raw_path") or b"").decode("latin-1").split("?")[0]
    # The raw path keeps an encoded slash inside an id apart from a real one; it is of no use
    # where a middleware has rewritten the path alone.
    path = raw if unquote(raw) == scope["path"] else quote(scope["path"])
    # FastAPI(root_path=...) names a prefix that a proxy has taken off the path already.
    cut = base if path.startswith(base) else base.removeprefix(scope.get("app_root_path", ""))
    return base, segments_of(path.removeprefix(cut))


def segments_of(path: str) -> list[str]:
    """The segments of a URL path, decoded."""
    return [unquote(segment) for segment in path.strip("/").split("/")]


def resource_named(scope: Scope) -> str:
    """The name at the place of the resource in a request's path; there may be no such resource."""
    return path_in(scope)[1][0]
