"""Entity tags and conditional requests (RFC 9110, 8.8.3 and 13).

The tag of one record's document is two: one of the record, one of the whole document. What a
client has fetched, with whatever came along, so says of which state of the record it was: a write
with ``If-Match`` is held against that, a read with ``If-None-Match`` against the whole.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response

from tidings.errors import InvalidRequest, PreconditionFailed, Source
from tidings.resources import Require, View
from tidings.storage import Row

State = Callable[[View, Row], str]
"""The tag of a record, as who asks may know it."""
CURSOR_HEADER: Final = "tidings-cursor"
_TAGS: Final = re.compile(r'\s*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,\s*|$)|,\s*)')
_MOST: Final = 100
_encoder = msgspec.json.Encoder(decimal_format="string")


def tag_of(*parts: bytes) -> str:
    """A tag for what these bytes say."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return urlsafe_b64encode(digest.digest()).decode()


def state_tag(values: list[Any]) -> str:
    """A tag for the values of a record."""
    return tag_of(_encoder.encode(values))


def requirement(headers: Headers, method: str, state: State) -> Require | None:
    """What ``If-Match`` and ``If-None-Match`` require of the record that a request would write.

    Raises:
        InvalidRequest: ``INVALID_HEADER``, they are no lists of entity tags.
        PreconditionFailed: nothing that is there could meet them.
    """
    match, none_match = _read(headers, "if-match"), _read(headers, "if-none-match")
    if match is None and none_match is None:
        return None
    if method == "POST":
        # It has no record to be held against; what cannot be decided is not done.
        raise PreconditionFailed(
            "A POST makes a new record: to make one only if there is none, PUT"
            " it with If-None-Match: *"
        )

    def require(view: View, row: Row | None) -> None:
        if row is None and method != "PUT":
            return  # there is nothing to write, which is said as ever
        now = None if row is None else state(view, row)
        if match is not None and not _is_met(match, now):
            raise PreconditionFailed(
                "The record has changed since you read it: fetch it again",
                source=Source(header="If-Match"),
            )
        if none_match is not None and _is_met(none_match, now, weakly=True):
            raise PreconditionFailed(
                "There is such a record already", source=Source(header="If-None-Match")
            )

    return require


def unless_known(response: Response, headers: Headers) -> Response:
    """The answer to a read, or 304 where the client has it already."""
    known = _read(headers, "if-none-match")
    tag = response.headers.get("etag")
    if known is None or tag is None or response.status_code != 200:
        return response
    # RFC 9110, 13.1.2: weakly compared, so that a proxy that weakens tags does no harm.
    if not known.matches(tag.strip('"'), weakly=True):
        return response
    unchanged = Response(status_code=304)
    for name in ("etag", "vary"):
        unchanged.headers[name] = response.headers[name]
    return unchanged


@dataclass(frozen=True, slots=True)
class _Tags:
    """The tags that a header lists, or any; whether each is weak."""

    is_any: bool = False
    listed: tuple[tuple[bool, str], ...] = ()

    def matches(self, tag: str, *, weakly: bool) -> bool:
        return self.is_any or any(one == tag and (weakly or not weak) for weak, one in self.listed)


def _is_met(tags: _Tags, state: str | None, *, weakly: bool = False) -> bool:
    if not state:  # there is none, or it cannot be told
        return False
    parts = tuple((weak, tag.partition(".")[0]) for weak, tag in tags.listed)
    return _Tags(tags.is_any, parts).matches(state, weakly=weakly)


def _read(headers: Headers, name: str) -> _Tags | None:
    given = headers.getlist(name)
    if not given:
        return None
    text = ", ".join(given).strip()
    if text == "*":
        return _Tags(is_any=True)
    tags: list[tuple[bool, str]] = []
    at = count = 0
    while at < len(text):
        found = _TAGS.match(text, at)
        count += 1
        if found is None or count > _MOST:
            raise InvalidRequest(
                f'{name.title()}: expected "*" or at most {_MOST} entity tags in quotes',
                code="INVALID_HEADER",
                source=Source(header=name.title()),
            )
        if found[2] is not None:
            tags.append((found[1] is not None, found[2]))
        at = found.end()
    return _Tags(listed=tuple(tags))
