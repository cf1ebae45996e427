"""Media types (JSON:API 1.1, chapter 5) and headers of answers."""

from __future__ import annotations

import json

import pytest
from tests.http.kit import MEDIA_TYPE, Client, document, error

BODY = json.dumps(document("plain", {"name": "a"}))


@pytest.mark.parametrize(
    "header",
    [
        MEDIA_TYPE,
        "Application/VND.API+JSON",
        f'{MEDIA_TYPE}; profile="http://example.com/a http://example.com/b"',
        f"{MEDIA_TYPE} ;",
        f'{MEDIA_TYPE}; profile="https://example.com/p;v=1,2"',
    ],
)
async def test_content_types_that_are_taken(http: Client, header: str) -> None:
    response = await http.post("/plain", content=BODY, headers={"content-type": header})
    assert response.status_code == 201
    assert response.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        f"{MEDIA_TYPE}; charset=utf-8",
        f'{MEDIA_TYPE}; ext="http://example.com/ext"',
        f"{MEDIA_TYPE}; profile=x; q=1",
        f"{MEDIA_TYPE}x",
        "*/*",
        ";;;",
    ],
)
async def test_content_types_that_are_not(http: Client, header: str | None) -> None:
    headers = {} if header is None else {"content-type": header}
    for method, url in (("POST", "/plain"), ("PATCH", "/plain/1"), ("PUT", "/plain/1")):
        response = await http.request(method, url, content=BODY, headers=headers)
        error(response, 415, "UNSUPPORTED_MEDIA_TYPE", header="Content-Type")


@pytest.mark.parametrize(
    "header",
    [
        "*/*",
        "application/*",
        "application/json",
        MEDIA_TYPE,
        f"text/html, {MEDIA_TYPE};q=0.9",
        f"{MEDIA_TYPE};q=0.5, text/html",
        f'{MEDIA_TYPE}; profile="http://example.com/p"',
        f"{MEDIA_TYPE}; charset=utf-8, {MEDIA_TYPE}",
        f'{MEDIA_TYPE}; profile="https://example.com/p;v=1,2", text/html',
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "",
    ],
)
async def test_accept_headers_that_are_met(http: Client, header: str) -> None:
    response = await http.get("/plain", headers={"accept": header})
    assert response.status_code == 200
    assert response.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize(
    "header",
    [
        "text/html",
        f"{MEDIA_TYPE}; charset=utf-8",
        f'{MEDIA_TYPE}; ext="http://example.com/ext"',
        f"{MEDIA_TYPE}; charset=utf-8, {MEDIA_TYPE}; ext=x, text/html",
        f"{MEDIA_TYPE};q=0",
        f"*/*, {MEDIA_TYPE};q=0.000",
        "*/*;q=0",
        f"{MEDIA_TYPE}; charset=utf-8, */*",
        "nonsense",
        ",",
    ],
)
async def test_accept_headers_that_cannot_be_met(http: Client, header: str) -> None:
    response = await http.get("/plain", headers={"accept": header})
    error(response, 406, "NOT_ACCEPTABLE", header="Accept")


async def test_answers_say_what_they_vary_by(http: Client) -> None:
    for url in ("/plain", "/nothing"):
        vary = (await http.get(url)).headers["vary"].lower()
        assert "accept" in vary
        assert "authorization" in vary
