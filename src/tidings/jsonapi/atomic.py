"""Atomic Operations: many writes in one request, all of them or none.

The extension https://jsonapi.org/ext/atomic. Each operation is what the request of its own would
be, with the same permissions, policies and hooks, in one transaction; subscribers are told after
its commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response

from tidings.errors import InvalidRequest, NotFound, RequestError, Source
from tidings.feed import weigh_all
from tidings.identity import Identity
from tidings.jsonapi.answers import answer
from tidings.jsonapi.bodies import MAX_MEMBERS, Body, decoded, escape_pointer
from tidings.jsonapi.errors import error_document
from tidings.jsonapi.negotiation import ATOMIC, ATOMIC_TYPE
from tidings.jsonapi.parameters import Parameters
from tidings.jsonapi.places import LINKAGE_METHODS, RELATED_METHODS, place_in, segments_of
from tidings.jsonapi.relationships import linkage_draft
from tidings.jsonapi.request import Request, Terms
from tidings.resources import Draft, Method, Operations, View
from tidings.resources.budget import MAX_BYTES, WriteBudget
from tidings.resources.scopes import PATIENCE
from tidings.schema import describe
from tidings.storage import UnitOfWork

MAX_OPERATIONS: Final = 100
_METHODS: Final = {"add": "POST", "update": "PATCH", "remove": "DELETE"}
_MOST_LINKS: Final = 500
_WRITES: Final[Mapping[str, Method]] = {"add": "post", "update": "patch", "remove": "delete"}
_MEMBERS: Final = frozenset({"op", "ref", "href", "data", "meta"})


@dataclass(slots=True)
class _Operation:
    """One operation, read as far as its form goes; ``pointer`` is where in the document it is."""

    op: str
    pointer: str
    type: str
    id: str | None
    relationship: str | None
    data: Any
    has_data: bool
    lid: str | None = None
    """By which later operations name the record that this one makes."""
    pointers: dict[str, str] = field(default_factory=dict)


class _Failed(Exception):
    """An operation failed, and all are undone."""

    def __init__(self, error: RequestError, operation: _Operation) -> None:
        super().__init__(str(error))
        self.error = error
        self.operation = operation


class AtomicFace:
    """Answers ``POST /operations``."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def respond(
        self, body: Body, base: str, identity: Identity, terms: Terms, cursor: str
    ) -> tuple[Response, str]:
        """Do the operations of a document; gives the answer, and the place in the feed."""
        found = _entries(body)
        results: list[dict[str, Any]] = []
        try:
            await self._permit_first(found, base, identity, terms)
            async with self._operations.scopes.transaction() as uow:
                uow.budget, uow.patience = WriteBudget(), PATIENCE
                room = [MAX_BYTES]
                lids: dict[tuple[str, str], str] = {}
                for number, entry in enumerate(found):
                    run = _Run(self._operations, uow, base, identity, terms, cursor, lids, room)
                    results.append(await run.run(entry, number))
        except _Failed as failed:
            document = error_document(
                failed.error, failed.operation.pointers, prefix=failed.operation.pointer
            )
            response = answer(failed.error.status, document)
            if failed.error.status == 503:
                response.headers["retry-after"] = "1"
            return response, cursor
        written = cursor if uow.cursor is None else str(uow.cursor)
        if not any(results):
            return Response(status_code=204), written
        document = {
            "jsonapi": {"version": "1.1", "ext": [ATOMIC]},
            "atomic:results": results,
            "meta": {"cursor": written},
        }
        return answer(200, document, media_type=ATOMIC_TYPE), written

    async def _permit_first(
        self, entries: list[Any], base: str, identity: Identity, terms: Terms
    ) -> None:
        """Ask for permission while nothing is locked, as far as that can be known beforehand: who
        may not write keeps nobody waiting. Each operation asks again.
        """
        made: set[tuple[str, str]] = set()
        for number, entry in enumerate(entries):
            run = _Run(self._operations, None, base, identity, terms, "", {}, [])
            await run.permit(entry, number, made)


@dataclass(slots=True)
class _Run:
    """The run of one operation; ``uow`` is None while permission is asked beforehand."""

    operations: Operations
    uow: UnitOfWork | None
    base: str
    identity: Identity
    terms: Terms
    cursor: str
    lids: dict[tuple[str, str], str]
    room: list[int]
    """How many bytes of records the answer may still have."""

    async def permit(self, entry: Any, number: int, made: set[tuple[str, str]]) -> None:
        """Refuse what is refused whatever the operations before it do.

        Raises:
            _Failed: it is.
        """
        operation = _read(entry, number, self.base, None)
        is_new = operation.op == "add" and operation.relationship is None
        if is_new and isinstance(operation.data.get("id"), str):
            made.add((operation.type, operation.data["id"]))
        elif not is_new and (operation.id is None or (operation.type, operation.id) in made):
            return  # it names what an earlier one makes
        request: Request | None = None
        try:
            request = self._request(operation)
            # Of a relationship it is the record that is written.
            method = "patch" if operation.relationship is not None else _WRITES[operation.op]
            await self.operations.permit_early(
                request.resource.name,
                method,
                operation.id,
                request.draft if is_new else None,
                auth=self.identity,
            )
        except RequestError as error:
            if request is not None:
                request.spell(error)
            raise _Failed(error, operation) from None

    async def run(self, entry: Any, number: int) -> dict[str, Any]:
        """Do it, and give its result.

        Raises:
            _Failed: it cannot be done.
        """
        operation = _read(entry, number, self.base, self.lids)
        if operation.id is None and (operation.op != "add" or operation.relationship is not None):
            raise _Failed(_invalid("it names no record", ""), operation)
        try:
            return await self._run(operation)
        except RequestError as error:
            raise _Failed(error, operation) from None

    def _request(self, operation: _Operation) -> Request:
        resource = self.terms.registry.get(operation.type)
        if resource is None:
            raise NotFound(
                f"There is no resource {operation.type[:100]!r}", code="RESOURCE_NOT_FOUND"
            )
        return Request(
            _METHODS[operation.op],
            self.base,
            resource,
            operation.id,
            operation.relationship,
            Parameters(),
            self.identity,
            Headers(),
            {"data": operation.data} if operation.has_data else {},
            self.terms,
            operation.pointers,
            self.cursor,
        )

    async def _run(self, operation: _Operation) -> dict[str, Any]:
        request = self._request(operation)
        try:
            return await self._do(operation, request)
        except RequestError as error:
            request.spell(error)
            raise

    async def _do(self, operation: _Operation, request: Request) -> dict[str, Any]:
        name, who = request.resource.name, self.identity

        def linkage(_view: View) -> Draft:
            return linkage_draft(request)

        if operation.relationship is not None:
            await self.operations.patch(name, operation.id, linkage, auth=who, transaction=self.uow)
            return {}
        if operation.op == "remove":
            await self.operations.delete(name, operation.id, auth=who, transaction=self.uow)
            return {}
        if operation.op == "add":
            found = await self.operations.post(name, request.draft, auth=who, transaction=self.uow)
            if operation.lid is not None:
                if (name, operation.lid) in self.lids:
                    raise _invalid("an earlier operation has this lid already", "/data/lid")
                self.lids[name, operation.lid] = str(found.row["id"])
        else:
            found = await self.operations.patch(
                name, operation.id, request.draft, auth=who, transaction=self.uow
            )
        self.room[0] -= weigh_all(found.row.values())
        if self.room[0] < 0:
            raise InvalidRequest(
                f"the results are longer than {MAX_BYTES:,} bytes in all: send fewer operations",
                code="ANSWER_TOO_LARGE",
            )
        document = self.terms.documents.item(request.resource, found, request.shown)
        return {"data": document["data"]}


def _entries(body: Body) -> list[Any]:
    document = decoded(body) if isinstance(body, bytes) else body
    entries = document.get("atomic:operations") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise _invalid("expected an array with at least one operation", "/atomic:operations")
    if len(entries) > MAX_OPERATIONS:
        raise InvalidRequest(
            f"at most {MAX_OPERATIONS} operations",
            code="TOO_MANY_OPERATIONS",
            source=Source(pointer="/atomic:operations"),
        )
    return entries


def _read(
    entry: Any, number: int, base: str, lids: Mapping[tuple[str, str], str] | None
) -> _Operation:
    """Read one operation; ``lids`` None: what local ids stand for is not known yet.

    Raises:
        _Failed: its form is wrong.
    """
    operation = _Operation("", f"/atomic:operations/{number}", "", None, None, None, False)
    try:
        _fill(operation, entry, base, lids)
    except RequestError as error:
        raise _Failed(error, operation) from None
    return operation


def _fill(
    operation: _Operation, entry: Any, base: str, lids: Mapping[tuple[str, str], str] | None
) -> None:
    if not isinstance(entry, dict):
        raise _invalid(f"expected an operation object, got {describe(entry)}", "")
    unknown = sorted(entry.keys() - _MEMBERS)
    if unknown:
        raise _invalid("is no member of an operation", f"/{escape_pointer(str(unknown[0]))}")
    if not isinstance(entry.get("op"), str) or entry["op"] not in _METHODS:
        raise _invalid("'op' is add, update or remove", "/op")
    operation.op = entry["op"]
    operation.has_data = "data" in entry
    data = operation.data = entry.get("data")
    where = next((f"/{name}" for name in ("ref", "href") if name in entry), "/data")
    if "ref" in entry and "href" in entry:
        raise _invalid("give ref or href, not both", "/href")
    if not operation.has_data and (operation.op != "remove" or where == "/data"):
        raise _invalid("'data' is missing", "")
    if where == "/ref":
        _take_ref(operation, entry["ref"], lids)
    elif where == "/href":
        _take_href(operation, entry["href"], base)
    if operation.relationship is not None:
        operation.data = _identified(data, "/data", lids)
        return
    if operation.op == "remove":
        if where == "/data":
            raise _invalid("name the record with ref or href", "")
    else:
        _take_object(operation, data, lids)
    if operation.op == "add" and (where == "/ref" or operation.id is not None):
        raise _invalid("a new record has no place yet", where)


def _take_object(
    operation: _Operation, data: Any, lids: Mapping[tuple[str, str], str] | None
) -> None:
    """Take the resource object of an add or an update."""
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise _invalid("expected a resource object with a type", "/data")
    lid = data.get("lid")
    if lid is not None and (not isinstance(lid, str) or "id" in data):
        raise _invalid("a lid is a string, and stands in place of an id", "/data/lid")
    operation.type = operation.type or data["type"]
    links = data.get("relationships")
    found = dict(data)
    if isinstance(links, dict) and lids is not None and len(links) <= _MOST_LINKS:
        found["relationships"] = {
            name: _linked(link, f"/data/relationships/{escape_pointer(str(name))}", lids)
            for name, link in links.items()
        }
    if operation.op == "add":
        operation.lid = lid
    else:
        found = _identified(found, "/data", lids)
        if operation.id is None and isinstance(found.get("id"), str):
            operation.id = found["id"]
    operation.data = found


def _linked(link: Any, pointer: str, lids: Mapping[tuple[str, str], str] | None) -> Any:
    if not isinstance(link, dict) or "data" not in link:
        return link
    return {**link, "data": _identified(link["data"], f"{pointer}/data", lids)}


def _take_ref(operation: _Operation, ref: Any, lids: Mapping[tuple[str, str], str] | None) -> None:
    if not isinstance(ref, dict) or not isinstance(ref.get("type"), str):
        raise _invalid("expected an object with a type", "/ref")
    named = _identified(ref, "/ref", lids)
    if named.get("id") is not None and not isinstance(named["id"], str):
        raise _invalid("an id is a string", "/ref/id")
    relationship = ref.get("relationship")
    if relationship is not None and not isinstance(relationship, str):
        raise _invalid("a relationship is a string", "/ref/relationship")
    operation.type, operation.id = ref["type"], named.get("id")
    operation.relationship = relationship


def _take_href(operation: _Operation, href: Any, base: str) -> None:
    if not isinstance(href, str) or "?" in href or "#" in href:
        raise _invalid("expected a URL path without parameters", "/href")
    inner = href.removeprefix(base) if href.startswith(f"{base}/") else href
    segments = segments_of(inner)
    place = place_in(segments)
    if place is None or place[2] is RELATED_METHODS:
        raise _invalid("it is the URL of no collection, record or relationship", "/href")
    operation.type = segments[0]
    operation.id = place[0]
    operation.relationship = place[1] if place[2] is LINKAGE_METHODS else None


def _identified(value: Any, pointer: str, lids: Mapping[tuple[str, str], str] | None) -> Any:
    """Resource identifiers with the ids of records that earlier operations have made."""
    if lids is None:
        return value
    if isinstance(value, list):
        if len(value) > MAX_MEMBERS:
            return value  # which is said when it is read
        return [
            _one(one, f"{pointer}/{number}", lids) if isinstance(one, dict) else one
            for number, one in enumerate(value)
        ]
    return _one(value, pointer, lids)


def _one(value: Any, pointer: str, lids: Mapping[tuple[str, str], str]) -> Any:
    if not isinstance(value, dict) or "lid" not in value:
        return value
    kind, lid = value.get("type"), value["lid"]
    if "id" in value or not isinstance(lid, str):
        raise _invalid("a lid is a string, and stands in place of an id", f"{pointer}/lid")
    key = lids.get((str(kind), lid))
    if key is None:
        raise _invalid(
            f"no earlier operation makes a {str(kind)[:100]!r} with this lid", f"{pointer}/lid"
        )
    return {**value, "id": key}


def _invalid(message: str, pointer: str) -> InvalidRequest:
    return InvalidRequest(message, code="INVALID_DOCUMENT", source=Source(pointer=pointer))
