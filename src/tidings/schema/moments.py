"""Dates and times as texts: complete, in ASCII, as ISO 8601 and RFC 3339 write them.

Python's own parsers take more than that (``2024-1-5``, ``10``, digits of other scripts, a week
number) and cut off a seventh decimal in silence, so the form is checked first.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import msgspec

DATE_FORM: Final = "a date (YYYY-MM-DD)"
DATETIME_FORM: Final = "a date and time (YYYY-MM-DDTHH:MM:SS, at most 6 decimals, Z or +HH:MM)"
TIME_FORM: Final = "a time without a zone (HH:MM:SS, at most 6 decimals)"

DURATION_FORM: Final = (
    "a duration of ISO 8601 in weeks, days, hours, minutes and seconds (P1DT2H30M, PT90S, at most "
    "6 decimals); years and months have no one length"
)

_DATE: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = "(?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:[.][0-9]{1,6})?)?"
# A "+" that was not percent-encoded arrives in a query string as a blank.
_OFFSET: Final = "(?P<zone>[Zz]|[+ -][0-9]{2}:?[0-9]{2}(?::[0-9]{2})?)"
_duration = re.compile(
    "(?P<sign>[+-]?)P(?!$)(?:(?P<weeks>[0-9]{1,6})W)?(?:(?P<days>[0-9]{1,6})D)?"
    "(?:T(?!$)(?:(?P<hours>[0-9]{1,8})H)?(?:(?P<minutes>[0-9]{1,10})M)?"
    "(?:(?P<seconds>[0-9]{1,11})(?:[.](?P<part>[0-9]{1,6}))?S)?)?"
)
_date = re.compile(_DATE)
_time = re.compile(_TIME)
_datetime = re.compile(f"{_DATE}(?:[Tt ]{_TIME}{_OFFSET}?)?")


def parse_date(text: str) -> date | None:
    """The date of a text such as ``2026-01-15``; None where it is no date."""
    if not _date.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def parse_time(text: str) -> time | None:
    """The time of a text such as ``10:00`` or ``10:00:00.123456``; None where it is no time."""
    if not _time.fullmatch(text):
        return None
    try:
        return time.fromisoformat(text)
    except ValueError:
        return None


def parse_datetime(text: str) -> datetime | None:
    """The moment of a text such as ``2026-01-15T10:00:00Z``; None where it is no moment.

    Without a zone it is UTC; a date alone is its first moment.
    """
    found = _datetime.fullmatch(text)
    if found is None:
        return None
    zone = found["zone"]
    if zone is not None and zone.startswith(" "):
        text = f"{text[: -len(zone)]}+{zone[1:]}"
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def parse_duration(text: str) -> timedelta | None:
    """The duration of a text such as ``P1DT2H30M`` or ``-PT0.5S``; None where it is none."""
    found = _duration.fullmatch(text.strip().upper() if len(text) < 64 else "")
    if found is None:
        return None
    units = ("weeks", "days", "hours", "minutes", "seconds")
    length = timedelta(**{unit: int(found[unit] or 0) for unit in units})
    length += timedelta(microseconds=int((found["part"] or "").ljust(6, "0")))
    return -length if found["sign"] == "-" else length


def duration_text(value: timedelta) -> str:
    """The one spelling that documents have of a duration: its days and seconds (``P1DT9000S``)."""
    text: str = msgspec.to_builtins(value)
    return text
