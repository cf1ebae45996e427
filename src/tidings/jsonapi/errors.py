"""The one place where errors become JSON:API error objects (JSON:API 1.1, chapter 11)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tidings.errors import (
    FilterError,
    Problem,
    RelatedNotFound,
    RequestError,
    Source,
    ValidationFailed,
    log_unforeseen,
)
from tidings.jsonapi.bodies import escape_pointer

_log = logging.getLogger("tidings.jsonapi")


def error_document(
    error: RequestError, pointers: Mapping[str, str], *, prefix: str = ""
) -> dict[str, Any]:
    """The error document; ``pointers`` says where the request had each field's value, below
    ``prefix`` where what is wrong is part of a larger document.
    """
    objects = _objects(error, pointers)
    if prefix:
        for one in objects:
            source = one.setdefault("source", {})
            if not source or "pointer" in source:
                source["pointer"] = prefix + source.get("pointer", "")
    return {"jsonapi": {"version": "1.1"}, "errors": objects}


def internal_error_document(error: Exception) -> dict[str, Any]:
    """The document for what nobody foresaw: logged under an id, of which alone it tells."""
    number, detail = log_unforeseen(_log, error)
    entry = _object("500", "INTERNAL_ERROR", "Internal Server Error", detail)
    return {"jsonapi": {"version": "1.1"}, "errors": [{"id": number, **entry}]}


def _objects(error: RequestError, pointers: Mapping[str, str]) -> list[dict[str, Any]]:
    status = str(error.status)
    if isinstance(error, ValidationFailed | RelatedNotFound) and error.problems:
        return [
            _object(status, problem.code, error.title, f"{problem.field[:100]}: {problem.message}")
            | {"source": {"pointer": _pointer(problem, pointers)}}
            for problem in error.problems
        ]
    if isinstance(error, FilterError) and error.problems:
        return [
            _object(status, problem.code, error.title, f"{problem.field[:100]}: {problem.message}")
            | {"source": {"parameter": f"filter[{problem.field[:100]}]"}}
            for problem in error.problems
        ]
    entry = _object(status, error.code, error.title, error.message)
    source = error.source or _place(error, pointers)
    if source is not None:
        entry["source"] = _source(source)
    if error.details is not None:
        entry["meta"] = dict(error.details)
    return [entry]


def _object(status: str, code: str, title: str, detail: str) -> dict[str, Any]:
    return {"status": status, "code": code, "title": title, "detail": detail}


def _pointer(problem: Problem, pointers: Mapping[str, str]) -> str:
    base = pointers.get(problem.field)
    if base is None:  # the value is missing, so its place is where it should have been
        base = "/data/attributes/" + escape_pointer(problem.field)
    return base + "".join(f"/{escape_pointer(str(part))}" for part in problem.path)


def _place(error: RequestError, pointers: Mapping[str, str]) -> Source | None:
    """Where in the request that stood which the error names."""
    if error.option is not None:
        return Source(parameter=error.option)
    if error.field == "id":
        return Source(pointer="/data/id")
    if error.field is not None:
        return Source(pointer=_pointer(Problem(error.field, ""), pointers))
    return None


def _source(source: Source) -> dict[str, str]:
    members = {
        "pointer": source.pointer,
        "parameter": source.parameter,
        "header": source.header,
    }
    return {name: value for name, value in members.items() if value is not None}
