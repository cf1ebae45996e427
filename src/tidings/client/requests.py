"""Requests: JSON:API over HTTP, with the client's token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from tidings import MissingExtraError
from tidings.client.errors import ClientError, of_document
from tidings.client.tokens import Tokens

if TYPE_CHECKING:
    import httpx

MEDIA_TYPE: Final = "application/vnd.api+json"
_SECONDS: Final = 30.0
Pairs = Sequence[tuple[str, str]]
"""Parameters of a query string."""


class Requests:
    """Sends requests below ``prefix``. One that is refused for its token is sent again, once, with
    another token, where there is one.
    """

    def __init__(self, url: str, prefix: str, tokens: Tokens) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "client", "tidings.client") from None
        self.http: httpx.AsyncClient = httpx.AsyncClient(
            base_url=url, headers={"Accept": MEDIA_TYPE}, timeout=_SECONDS
        )
        self.failures: type[Exception] = httpx.TransportError
        """What is raised where the server cannot be reached, or goes away while it answers."""
        self._prefix = prefix
        self._tokens = tokens

    async def send(self, method: str, path: str, document: Any = None, **options: Any) -> Any:
        """Send a request and give the document; None for an answer without one.

        Raises:
            ClientError: the server refuses it.
        """
        content = None if document is None else json.dumps(document)
        headers = {} if document is None else {"Content-Type": MEDIA_TYPE}
        for is_last in (False, True):
            token = await self._tokens.current()
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            answer = await self.http.request(
                method, f"{self._prefix}{path}", content=content, headers=headers, **options
            )
            if answer.status_code != 401 or is_last or not await self._tokens.renew(token):
                break
        try:
            body = answer.json() if answer.content else None
        except ValueError:  # not the application's own answer, but that of a proxy
            body = None
        if answer.status_code >= 400:
            raise of_document(body, answer.status_code)
        return body

    def passes(self, error: ClientError) -> bool:
        """Whether the same request may be accepted a little later: with a new token, too, where the
        last one ended on its way.
        """
        return error.passes or (error.code == "TOKEN_EXPIRED" and self._tokens.can_renew)

    async def pages(self, resource: str, parameters: Pairs) -> Sequence[dict[str, Any]]:
        """All pages of a list, by place: a page by number skips a record where an earlier one has
        left meanwhile.

        Raises:
            ClientError: the server refuses it.
        """
        found: list[dict[str, Any]] = []
        place: str | None = ""
        while place is not None:
            query = urlencode([*parameters, ("page[after]", place)])
            page = await self.send("GET", f"/{resource}?{query}")
            found.append(page)
            following = page.get("links", {}).get("next")
            place = page["data"][-1]["meta"]["page"]["cursor"] if following else None
        return found


def list_parameters(
    filters: Mapping[str, Any],
    include: Iterable[str],
    fields: Mapping[str, Iterable[str]],
    sort: Iterable[str],
) -> list[tuple[str, str]]:
    """A subscription's filters, and what else is asked for, as a query string's parameters."""
    found = [pair for name, value in filters.items() for pair in _filter(f"filter[{name}]", value)]
    if include := ",".join(include):
        found.append(("include", include))
    found += [(f"fields[{kind}]", ",".join(names)) for kind, names in fields.items()]
    return [*found, ("sort", ",".join(sort) or "id")]


def ids_parameter(ids: Sequence[str]) -> tuple[str, str]:
    """The filter by these ids; as JSON, since an id may hold a comma."""
    return "filter[id]", json.dumps(list(ids))


def _filter(key: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return [(f"{key}[null]", "true")]
    if isinstance(value, Mapping):
        return [pair for name, one in value.items() for pair in _filter(f"{key}[{name}]", one)]
    if isinstance(value, list | tuple):
        return [(key, json.dumps(list(value)))]
    return [(key, _text(value))]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
