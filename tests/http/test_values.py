"""Values of every type: what goes in comes out, and what may not go in stays out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.http.kit import Client, document, error, make_api, serving

TYPES = ("string", "text", "number", "integer", "decimal", "boolean", "id")
TYPES += ("date", "dateTime", "time", "array", "object")
DEEP: Any = "end"
for _ in range(30):
    DEEP = [DEEP]


@pytest.fixture(scope="module")
async def values(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    api = make_api(tmp_path_factory.mktemp("values") / "values.db")
    api.add_resource("things", schema={f"a_{name}": name for name in TYPES})
    api.add_resource(
        "ruled",
        schema={
            "word": {"type": "string", "min": 2, "max": 4},
            "letters": {"type": "text", "min": 1},
            "level": {"type": "integer", "min": 1, "max": 3},
            "share": {"type": "number", "min": 0, "max": 1},
            "price": {"type": "decimal", "min": 0, "max": 100, "precision": 5, "scale": 2},
            "born": {"type": "date", "min": "1900-01-01", "max": "2100-01-01"},
            "items": {"type": "array", "min": 1, "max": 2},
            "colour": {"type": "string", "enum": ["red", "green"]},
            "size": {"type": "integer", "enum": [1, 2, 3]},
            "always": {"type": "string", "nullable": False, "default": "here"},
            "maybe": {"type": "string", "required": True, "nullable": True},
            "counted": {"type": "integer", "default": lambda: 42},
        },
    )
    async with serving(api) as client:
        yield client


ROUND_TRIPS = [
    ("string", "plain", ...),
    ("string", "", ...),
    ("string", " spaces kept ", ...),
    ("string", "ünïcödé 漢字 🦆 é", ...),
    ("string", "'; DROP TABLE things; --\\\"%_", ...),
    ("string", "line\nbreak\ttab\x7f\u2028", ...),
    ("text", "x" * 100_000, ...),
    ("number", 1.5, ...),
    ("number", 0, 0.0),
    ("number", -0.0, 0.0),
    ("number", 1e308, ...),
    ("number", 5e-324, ...),
    ("number", 0.1 + 0.2, ...),
    ("number", "2.5", 2.5),
    ("number", 2**53, float(2**53)),
    ("integer", 0, ...),
    ("integer", 2**63 - 1, ...),
    ("integer", -(2**63), ...),
    ("integer", 3.0, 3),
    ("integer", "17", 17),
    ("decimal", "0.1", "0.1000"),
    ("decimal", "12345678901234.5678", ...),
    ("decimal", "-0.0001", ...),
    ("decimal", 0.1, "0.1000"),
    ("decimal", 5, "5.0000"),
    ("decimal", "1e3", "1000.0000"),
    ("decimal", 0, "0.0000"),
    ("boolean", True, ...),
    ("boolean", False, ...),
    ("boolean", 1, True),
    ("boolean", "false", False),
    ("id", "abc", ...),
    ("id", 7, "7"),
    ("date", "2026-02-28", ...),
    ("date", "0001-01-01", ...),
    ("date", "9999-12-31", ...),
    ("date", "2024-02-29", ...),
    ("dateTime", "2026-01-15T10:00:00Z", ...),
    ("dateTime", "2026-01-15T10:00:00.123456Z", ...),
    ("dateTime", "2026-01-15T10:00:00+05:30", "2026-01-15T04:30:00Z"),
    ("dateTime", "2026-01-15T10:00:00-08:00", "2026-01-15T18:00:00Z"),
    ("dateTime", "2026-01-15T10:00:00", "2026-01-15T10:00:00Z"),
    ("dateTime", "2026-01-15", "2026-01-15T00:00:00Z"),
    ("dateTime", "0001-01-01T00:00:00Z", ...),
    ("dateTime", "9999-12-31T23:59:59.999999Z", ...),
    ("time", "09:30:00", ...),
    ("time", "23:59:59.999999", ...),
    ("time", "09:30", "09:30:00"),
    ("dateTime", "2026-01-15t10:00:00.5z", "2026-01-15T10:00:00.500000Z"),
    ("dateTime", "2026-01-15 10:00", "2026-01-15T10:00:00Z"),
    ("dateTime", "2026-01-15T10:00:00+0530", "2026-01-15T04:30:00Z"),
    ("array", [], ...),
    ("array", [1, "two", None, [3.5, True], {"four": []}], ...),
    ("array", DEEP, ...),
    ("object", {}, ...),
    ("object", {"a": {"b": [1, {"c": None}]}, "ü": "漢", "": 0}, ...),
    ("object", {"__proto__": {"x": 1}, "constructor": 1, "toString": "x"}, ...),
    ("object", {"lat": 52.52, "big": 2**63 - 1, "e": 1e-7}, ...),
]


@pytest.mark.parametrize(("kind", "given", "expected"), ROUND_TRIPS)
async def test_round_trip(values: Client, kind: str, given: Any, expected: Any) -> None:
    expected = given if expected is ... else expected
    name = f"a_{kind}"
    made = await values.made("things", {name: given})
    assert made["attributes"][name] == expected
    assert type(made["attributes"][name]) is type(expected)
    url = f"/things/{made['id']}"
    assert await values.data(url) == made
    # What came out can go in again, and through a change and a replacement.
    for method in ("PATCH", "PUT"):
        response = await values.change("things", made["id"], made["attributes"], method)
        assert response.json()["data"] == made
    response = await values.change("things", made["id"], {name: None})
    assert response.json()["data"]["attributes"][name] is None


JSON_VALUES: list[Any] = [True, 1, -1.5, "text", [], [1], {}, {"a": 1}]
ACCEPTED: dict[str, list[Any]] = {
    "string": ["text"],
    "text": ["text"],
    "number": [1, -1.5],
    "integer": [1],
    "decimal": [1, -1.5],
    "boolean": [True, 1],
    "id": [1, "text"],
    "date": [],
    "dateTime": [],
    "time": [],
    "array": [[], [1]],
    "object": [{}, {"a": 1}],
}


@pytest.mark.parametrize("kind", TYPES)
async def test_every_json_type_for_every_field_type(values: Client, kind: str) -> None:
    for value in JSON_VALUES:
        response = await values.create("things", {f"a_{kind}": value})
        fits = any(type(value) is type(fit) and value == fit for fit in ACCEPTED[kind])
        if fits:
            assert response.status_code == 201, (value, response.text)
        else:
            error(response, 422, "INVALID_VALUE", pointer=f"/data/attributes/a_{kind}")


REFUSED = [
    ("string", "nul\0", "INVALID_VALUE"),
    ("integer", 2**63, "INVALID_VALUE"),
    ("integer", 10**400, "INVALID_VALUE"),
    ("integer", 1.5, "INVALID_VALUE"),
    ("integer", "1e3", "INVALID_VALUE"),
    ("number", "NaN", "INVALID_VALUE"),
    ("number", 10**400, "INVALID_VALUE"),
    ("decimal", "0.00001", "INVALID_VALUE"),
    ("decimal", "1" * 15, "INVALID_VALUE"),
    ("decimal", "1e30", "INVALID_VALUE"),
    ("decimal", "NaN", "INVALID_VALUE"),
    ("decimal", "1.00000000000000000000000000000000000001", "INVALID_VALUE"),
    ("decimal", 10**400, "INVALID_VALUE"),
    ("boolean", 2, "INVALID_VALUE"),
    ("id", "", "INVALID_VALUE"),
    ("date", "2026-02-29", "INVALID_VALUE"),
    ("date", "2026-01-01T00:00:00Z", "INVALID_VALUE"),
    ("date", "10000-01-01", "INVALID_VALUE"),
    ("dateTime", "2026-01-15 25:00", "INVALID_VALUE"),
    ("dateTime", "0001-01-01T00:00:00+10:00", "INVALID_VALUE"),
    ("dateTime", 1768471200, "INVALID_VALUE"),
    ("time", "09:30:00Z", "INVALID_VALUE"),
    ("time", "24:01", "INVALID_VALUE"),
    ("time", "24:00", "INVALID_VALUE"),
    ("time", "10", "INVALID_VALUE"),
    ("time", "09:30:00.1234567", "INVALID_VALUE"),
    ("time", "\uff109:30", "INVALID_VALUE"),
    ("date", "2024-1-5", "INVALID_VALUE"),
    ("date", "20240105", "INVALID_VALUE"),
    ("date", "2024-W01-5", "INVALID_VALUE"),
    ("date", "\uff12\uff10\uff12\uff14-01-05", "INVALID_VALUE"),
    ("dateTime", "2026-01-15T10", "INVALID_VALUE"),
    ("dateTime", "20260115T100000Z", "INVALID_VALUE"),
    ("dateTime", "2026-01-15T10:00:00.1234567Z", "INVALID_VALUE"),
    ("dateTime", "2026-01-15x10:00:00Z", "INVALID_VALUE"),
    ("dateTime", "2026-01-15T10:00:00+2", "INVALID_VALUE"),
    ("object", {"links": {}}, "INVALID_VALUE"),
    ("array", [{"deep": {"relationships": 1}}], "INVALID_VALUE"),
    ("array", [DEEP, [[[[DEEP]]]]], "INVALID_VALUE"),
    ("object", {"nul\0": 1}, "INVALID_VALUE"),
]


@pytest.mark.parametrize(("kind", "given", "code"), REFUSED)
async def test_refused(values: Client, kind: str, given: Any, code: str) -> None:
    response = await values.create("things", {f"a_{kind}": given})
    (found,) = response.json()["errors"]
    assert (response.status_code, found["code"]) == (422, code)
    assert found["source"]["pointer"].startswith(f"/data/attributes/a_{kind}")
    assert len(found["detail"]) < 400


RULES = [
    ("word", "a", "TOO_SMALL"),
    ("word", "ab", None),
    ("word", "🦆🦆🦆🦆", None),
    ("word", "abcde", "TOO_LARGE"),
    ("letters", "", "TOO_SMALL"),
    ("level", 0, "TOO_SMALL"),
    ("level", 1, None),
    ("level", 4, "TOO_LARGE"),
    ("share", -0.01, "TOO_SMALL"),
    ("share", 1, None),
    ("share", 1.01, "TOO_LARGE"),
    ("price", "-0.01", "TOO_SMALL"),
    ("price", "100.00", None),
    ("price", "100.01", "TOO_LARGE"),
    ("price", "0.001", "INVALID_VALUE"),
    ("born", "1899-12-31", "TOO_SMALL"),
    ("born", "1900-01-01", None),
    ("born", "2100-01-02", "TOO_LARGE"),
    ("items", [], "TOO_SMALL"),
    ("items", [1, 2], None),
    ("items", [1, 2, 3], "TOO_LARGE"),
    ("colour", "red", None),
    ("colour", "Red", "NOT_ALLOWED"),
    ("size", 2, None),
    ("size", "2", None),
    ("size", 4, "NOT_ALLOWED"),
    ("always", None, "REQUIRED"),
    ("maybe", None, None),
]


@pytest.mark.parametrize(("name", "value", "code"), RULES)
async def test_rules(values: Client, name: str, value: Any, code: str | None) -> None:
    response = await values.create("ruled", {"maybe": "x", name: value})
    if code is None:
        assert response.status_code == 201, response.text
    else:
        error(response, 422, code, pointer=f"/data/attributes/{name}")
    made = await values.made("ruled", {"maybe": "x"})
    response = await values.change("ruled", made["id"], {name: value})
    assert response.status_code == (200 if code is None else 422)


async def test_defaults(values: Client) -> None:
    made = await values.made("ruled", {"maybe": "x"})
    assert made["attributes"]["always"] == "here"
    assert made["attributes"]["counted"] == 42
    assert made["attributes"]["word"] is None
    response = await values.create("ruled", {})
    error(response, 422, "REQUIRED", pointer="/data/attributes/maybe")


DIGITS = [
    ("decimal", "12345678901234.5678", "12345678901234.5678"),
    ("decimal", "0.1000", "0.1"),
    ("integer", "9007199254740993.0", 9007199254740993),
    ("integer", "9223372036854775807.0", 2**63 - 1),
    ("number", "12345678901234.5678", 12345678901234.5678),
    ("object", '{"n": 12345678901234.568}', {"n": 12345678901234.568}),
    ("array", "[1.50, 0.1, 1e3]", [1.5, 0.1, 1000.0]),
]


@pytest.mark.parametrize(("kind", "written", "expected"), DIGITS)
async def test_numbers_keep_their_digits(
    values: Client, kind: str, written: str, expected: Any
) -> None:
    body = f'{{"data": {{"type": "things", "attributes": {{"a_{kind}": {written}}}}}}}'
    made = (await values.write("POST", "/things", body)).json()["data"]
    shown = made["attributes"][f"a_{kind}"]
    assert (Decimal(shown) == Decimal(expected)) if kind == "decimal" else shown == expected
    assert await values.data(f"/things/{made['id']}") == made


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("object", '{"n": 12345678901234.5678}'),
        ("object", '{"n": [9007199254740993.0]}'),
        ("array", "[0.12345678901234567890]"),
        ("integer", "9223372036854775808.0"),
        ("integer", "1.0000000000000000000001"),
        ("integer", "1e400"),
        ("number", "1e400"),
        ("decimal", "1e-400"),
    ],
)
async def test_numbers_that_would_lose_digits_are_refused(
    values: Client, kind: str, written: str
) -> None:
    body = f'{{"data": {{"type": "things", "attributes": {{"a_{kind}": {written}}}}}}}'
    response = await values.write("POST", "/things", body)
    assert response.json()["errors"][0]["code"] == "INVALID_VALUE"


async def test_a_string_without_max_has_no_bound(values: Client) -> None:
    response = await values.create("things", {"a_string": "x" * 100_000})
    assert response.status_code == 201
    assert json.loads(response.content)["data"]["attributes"]["a_string"] == "x" * 100_000


async def test_numbers_too_large_for_json_readers_are_refused_or_kept(values: Client) -> None:
    """Integers of any size inside an object: kept exactly, or refused, never changed."""
    for number in (2**64, 10**30, -(10**300)):
        response = await values.create("things", {"a_object": {"n": number}})
        if response.status_code == 201:
            assert json.loads(response.content)["data"]["attributes"]["a_object"]["n"] == number
        else:
            assert response.status_code == 422


async def test_text_that_is_no_utf8_does_not_hide_the_other_records(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    api = make_api(file)
    api.add_resource(
        "notes",
        {"title": {"type": "string", "search": True}, "extra": "object"},
        row_policy=lambda columns, identity: columns.title != "secret",
    )
    async with serving(api) as http:
        for title in ("a", "secret", "c"):
            await api.resources.notes.post({"title": title})
        with sqlite3.connect(file) as raw:
            raw.execute("UPDATE notes SET title = CAST(x'61ff62' AS TEXT) WHERE id = 1")
        raw.close()
        found = (await http.get("/notes")).json()["data"]
        assert [one["attributes"]["title"] for one in found] == ["a\ufffdb", "c"]
        one = await http.get("/notes/1")
        assert one.json()["data"]["attributes"]["title"] == "a\ufffdb"
        body = document("notes", {"title": "whole"}, 1)
        assert (await http.write("PATCH", "/notes/1", body)).status_code == 200
        found = (await http.get("/notes?sort=-title")).json()["data"]
        assert [one["attributes"]["title"] for one in found] == ["whole", "c"]
