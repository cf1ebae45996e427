"""What the HTTP tests share: apis to ask, a client that checks every document, log watching."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jwt
from jsonschema import Draft202012Validator
from tests.support.server import REPOSITORY, serve

from tidings import Api, JWTAuthPlugin, RestApiPlugin, SqlAlchemyPlugin

MEDIA_TYPE = "application/vnd.api+json"
SECRET = "a secret of the tests, which is long enough"
SCHEMAS = REPOSITORY.parent / "shared" / "jsonapi"
_ERROR_MEMBERS = {"id", "links", "status", "code", "title", "detail", "source", "meta"}


def token(user: str = "u1", **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + 86_400, **claims}, SECRET, "HS256")


def bearer(user: str = "u1", **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(user, **claims)}"}


def make_api(database: str | Path | None = None, *, jwt_auth: bool = False, **rest: Any) -> Api:
    """An api without resources, over SQLite in a file or in memory."""
    api = Api(name="test")
    api.use(RestApiPlugin(**rest))
    url = "sqlite+aiosqlite://" if database is None else f"sqlite+aiosqlite:///{database}"
    api.use(SqlAlchemyPlugin(url, create_tables=True))
    if jwt_auth:
        api.use(JWTAuthPlugin(secret=SECRET))
    return api


class Client(httpx.AsyncClient):
    """Speaks JSON:API, and checks what every answer must be, whatever it says."""

    def __init__(self, base_url: str, *, checked: bool = True, **options: Any) -> None:
        options.setdefault("timeout", 20)
        options.setdefault("headers", {}).setdefault("accept", MEDIA_TYPE)
        hooks = {"response": [_check_response]} if checked else {}
        super().__init__(base_url=base_url, event_hooks=hooks, **options)

    async def write(self, method: str, url: str, document: Any, **options: Any) -> httpx.Response:
        content = document if isinstance(document, bytes | str) else json.dumps(document)
        headers = {"content-type": MEDIA_TYPE, **options.pop("headers", {})}
        return await self.request(method, url, content=content, headers=headers, **options)

    async def create(
        self, resource: str, attributes: Any = None, *, record_id: Any = None, **links: Any
    ) -> httpx.Response:
        return await self.write(
            "POST", f"/{resource}", document(resource, attributes, record_id, **links)
        )

    async def change(
        self,
        resource: str,
        record_id: Any,
        attributes: Any = None,
        method: str = "PATCH",
        **links: Any,
    ) -> httpx.Response:
        body = document(resource, attributes, record_id, **links)
        return await self.write(method, f"/{resource}/{record_id}", body)

    async def made(self, resource: str, attributes: Any = None, **links: Any) -> dict[str, Any]:
        response = await self.create(resource, attributes, **links)
        assert response.status_code == 201, response.text
        return response.json()["data"]

    async def data(self, url: str, **options: Any) -> Any:
        response = await self.get(url, **options)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    async def ids(self, url: str, **options: Any) -> list[str]:
        return [entry["id"] for entry in await self.data(url, **options)]


def document(
    resource: str, attributes: Any = None, record_id: Any = None, **links: Any
) -> dict[str, Any]:
    """A document with one resource object; ``links`` are (type, id), or None."""
    data: dict[str, Any] = {"type": resource, "attributes": attributes or {}}
    if record_id is not None:
        data["id"] = str(record_id)
    if links:
        data["relationships"] = {
            name: {"data": None if to is None else {"type": to[0], "id": str(to[1])}}
            for name, to in links.items()
        }
    return {"data": data}


def errors(response: httpx.Response, status: int) -> list[dict[str, Any]]:
    assert response.status_code == status, response.text
    return response.json()["errors"]


def error(
    response: httpx.Response,
    status: int,
    code: str,
    *,
    pointer: str | None = None,
    parameter: str | None = None,
    header: str | None = None,
) -> dict[str, Any]:
    """The one error of a response, which says what, and where."""
    (found,) = errors(response, status)
    assert found["code"] == code, found
    wanted = {"pointer": pointer, "parameter": parameter, "header": header}
    source = {name: value for name, value in wanted.items() if value is not None}
    if source:
        assert found.get("source") == source, found
    return found


async def _check_response(response: httpx.Response) -> None:
    await response.aread()
    if not response.content:
        assert response.request.method == "HEAD" or response.status_code in (204, 304)
        return
    check_document(response)


def check_document(response: httpx.Response) -> None:
    """Hold a response against JSON:API: the official schema, and what a schema cannot say."""
    assert response.headers["content-type"] == MEDIA_TYPE
    body = response.json()
    problem = next(iter(schema_problems(body)), None)
    assert problem is None, problem
    if response.status_code >= 400:
        _check_errors(response.status_code, body)
    else:
        _check_compound(body, sparse="fields" in str(response.request.url))


def _check_errors(status: int, body: dict[str, Any]) -> None:
    assert body["errors"]
    for entry in body["errors"]:
        assert set(entry) <= _ERROR_MEMBERS
        assert entry["status"] == str(status)
        assert entry["code"] == entry["code"].upper()
        assert entry["title"]
        assert entry["detail"]


def _check_compound(body: dict[str, Any], *, sparse: bool) -> None:
    """Full linkage, and no resource object twice (JSON:API 1.1, 7.4)."""
    data = _as_list(body["data"])
    primary = [entry for entry in data if "attributes" in entry]  # others are linkage
    included = body.get("included", [])
    keys = [(entry["type"], entry["id"]) for entry in [*primary, *included]]
    assert len(keys) == len(set(keys))
    if sparse:
        return  # which may take the linkage away
    linked = {
        (to["type"], to["id"])
        for entry in [*primary, *included]
        for link in entry.get("relationships", {}).values()
        for to in _as_list(link.get("data"))
    } | {(entry["type"], entry["id"]) for entry in data}
    assert {(entry["type"], entry["id"]) for entry in included} <= linked


def _as_list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [] if data is None else [data]


@cache
def _validator() -> Any:
    path = SCHEMAS / "schema-1.0.json"
    if not path.exists():
        return None
    # The schema's empty pattern means "every name", which jsonschema takes for "no pattern".
    text = path.read_text().replace(
        '"patternProperties": {\n        "":', '"patternProperties": {".*":'
    )
    return Draft202012Validator(json.loads(text))


def has_schema() -> bool:
    return _validator() is not None


def schema_problems(body: Any) -> Iterator[str]:
    validator = _validator()
    if validator is not None:
        for problem in validator.iter_errors(body):
            yield f"{problem.json_path}: {problem.message[:300]}"


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not any(record is known for known in self.records[-3:]):
            self.records.append(record)


WATCHED = ("", "uvicorn", "tidings")  # these two may not propagate


@contextlib.contextmanager
def watched_logs() -> Iterator[list[logging.LogRecord]]:
    """Everything that is logged, also by loggers that do not propagate."""
    collector = _Collector()
    for name in WATCHED:
        logging.getLogger(name).addHandler(collector)
    try:
        yield collector.records
    finally:
        for name in WATCHED:
            logging.getLogger(name).removeHandler(collector)


def tracebacks(records: list[logging.LogRecord]) -> list[str]:
    """The records that say that something unforeseen has happened."""
    return [
        f"{record.name}: {record.getMessage()} {record.exc_info}"
        for record in records
        if record.levelno >= logging.ERROR or record.exc_info
    ]


WITHOUT_LOG: dict[str, Any] = {"log_config": None}
"""Nothing of uvicorn's own logging: the tests look at what is logged."""


@contextlib.asynccontextmanager
async def serving(api: Api, **options: Any) -> AsyncIterator[Client]:
    """A client of the api's resources, on a real server."""
    async with (
        serve(api.asgi(), **WITHOUT_LOG) as url,
        Client(f"{url}{api.prefix}", **options) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def serving_quietly(api: Api) -> AsyncIterator[Client]:
    """The same; at the end nothing unforeseen must have been logged."""
    with watched_logs() as records:
        async with serving(api) as client:
            yield client
    assert tracebacks(records) == []
