"""Finding: what one check has come to; and how errors are said in one line."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import DBAPIError

from tidings.storage import DatabaseFailure

Status = Literal["ok", "warning", "failed"]
_CLASS = re.compile(r"^(?:\([\w.]+\) )?<class '[\w.]+'>: ")


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check: what it is about, what was found, and what to do where it is bad."""

    check: str
    status: Status
    message: str
    advice: str | None = None


Findings = AsyncGenerator[Finding, None]


def ok(check: str, message: str) -> Finding:
    """Nothing has to be done."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str | None = None) -> Finding:
    """It works, but."""
    return Finding(check, "warning", message, advice)


def failed(check: str, message: str, advice: str | None = None) -> Finding:
    """It does not work."""
    return Finding(check, "failed", message, advice)


def reason(error: BaseException, seconds: float) -> str:
    """Why something failed, without the SQL: of a database's errors, the driver's own text."""
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, DatabaseFailure):
        return error.reason
    for found in (error.__cause__, error.__context__):
        if isinstance(found, DBAPIError):
            error = found
    told = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(told).strip().splitlines()
    return _CLASS.sub("", lines[0]) if lines else type(told).__name__


def milliseconds(seconds: float) -> str:
    """A short time, as people read it."""
    return f"{1000 * seconds:.1f} ms"
