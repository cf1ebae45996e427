"""Schemathesis: requests made of the OpenAPI document, right and wrong, with and without a token.

No answer may be a 5xx, or have a status, type, header or body that the document does not declare.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.conftest import declare_library
from tests.http.kit import bearer, make_api, serving_quietly

UNSAID = (
    # What JSON Schema cannot say: which parameters go together, which paths and records there are.
    "positive_data_acceptance",
    # An id that cannot be one is no member of a relationship: removing it is no error.
    "negative_data_rejection",
    # Which methods a relationship takes says what it is: only those are told who may ask at all.
    "unsupported_method",
    "allow_header_conformance",
)


def without_fieldsets(document: dict[str, Any]) -> dict[str, Any]:
    """Sparse fieldsets leave out members that the document requires, as its parameters say."""
    for item in document["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict) and "parameters" in operation:
                operation["parameters"] = [
                    one
                    for one in operation["parameters"]
                    if not one.get("name", "").startswith("fields[")
                ]
    return document


@pytest.mark.parametrize("has_token", [False, True])
async def test_every_answer_to_any_request_is_declared(tmp_path: Path, has_token: bool) -> None:
    if find_spec("schemathesis") is None:
        pytest.skip("needs schemathesis: run 'make setup'")
    api = make_api(jwt_auth=True)
    declare_library(api)
    api.add_resource("private", {"name": "string"}, auth={"*": ["authenticated"]})
    headers = bearer() if has_token else {}
    async with api, serving_quietly(api) as http:
        url = str(http.base_url).rstrip("/")
        async with httpx.AsyncClient(headers=headers) as plain:
            document = (await plain.get(f"{url}/openapi.json")).json()
        assert ("/private" in str(document["paths"])) is has_token
        (tmp_path / "openapi.json").write_text(json.dumps(without_fieldsets(document)))
        options = ["--seed=1", "--max-examples=3", "--phases=coverage,fuzzing", "--no-color"]
        options += [f"--exclude-checks={','.join(UNSAID)}", f"--url={url}"]
        options += [f"--header={name}: {value}" for name, value in headers.items()]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json"),
            *options,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    report = output.decode()
    assert process.returncode == 0, report
    assert "Test cases:" in report, report
