"""``/openapi.json``: the resources as whoever asks may know them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tidings.cache import Cache
from tidings.description import merged, openapi_document
from tidings.errors import RequestError
from tidings.identity import TRUSTED, Asker, Identity
from tidings.jsonapi import Endpoint
from tidings.resources import Operations
from tidings.schema import ResourceRegistry

_KEPT_BYTES: Final = 4_000_000
_Key = tuple[ResourceRegistry, frozenset[str], str]


class Description:
    """Describes resources to those who may query them."""

    def __init__(
        self, operations: Operations, title: str, version: str, *, secured: bool, atomic: bool
    ) -> None:
        self._visibility = operations.visibility
        self._title = title
        self._version = version
        self._secured = secured
        self._atomic = atomic
        # There are as many as there are kinds of people, not as there are people.
        self._kept: Cache[_Key, bytes] = Cache(_KEPT_BYTES, lambda _, document: len(document))

    def document(
        self, *, prefix: str = "", auth: Asker = TRUSTED, only: frozenset[str] | None = None
    ) -> dict[str, Any]:
        """The whole document, for trusted code; or as somebody may know the resources."""
        return openapi_document(
            self._visibility.registry(auth),
            title=self._title,
            version=self._version,
            prefix=prefix,
            only=only,
            secured=self._secured,
            atomic=self._atomic,
        )

    def endpoints(self) -> Mapping[str, Endpoint]:
        """The endpoint by its path below the prefix."""
        return {"openapi.json": Endpoint(("GET", "HEAD"), self._respond, "application/json")}

    async def _respond(self, identity: Identity, base: str) -> msgspec.Raw:
        registry = self._visibility.registry(identity)
        names = [
            one.name
            for one in registry
            if not one.is_internal and await self._may_query(one.name, identity)
        ]
        key = (registry, frozenset(names), base)
        document = self._kept.find(key)
        if document is None:  # of many resources it takes long to make
            document = await asyncio.to_thread(self._encoded, identity, key)
            self._kept.put(key, document)
        return msgspec.Raw(document)

    def _encoded(self, identity: Identity, key: _Key) -> bytes:
        _, names, base = key
        document = self.document(auth=identity, only=names) | {"servers": [{"url": base or "/"}]}
        return msgspec.json.encode(document)

    async def _may_query(self, name: str, identity: Identity) -> bool:
        try:
            await self._visibility.permit_query(self._visibility.view(name, identity))
        except RequestError:
            return False
        return True


def describe_in(app: Any, describe: Callable[[], dict[str, Any]]) -> None:
    """Have a FastAPI app's own description, and its pages, show the resources, too. Any other
    app has none.
    """
    of_host = getattr(app, "openapi", None)
    if of_host is None or not hasattr(app, "openapi_schema"):
        return
    known: dict[int, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        host = of_host()  # FastAPI makes it once
        if id(host) not in known:
            known.clear()
            known[id(host)] = merged(host, describe())
        return known[id(host)]

    app.openapi = openapi
