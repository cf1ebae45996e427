"""The URLs of relationships: what they lead to, and the linkage itself (JSON:API 1.1, 9.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.responses import Response

from tidings.errors import InvalidRequest, MethodNotAllowed, NotFound
from tidings.jsonapi.answers import answered, tagged
from tidings.jsonapi.bodies import parse_linkage, parse_reference
from tidings.jsonapi.conditions import requirement, state_tag
from tidings.jsonapi.parameters import refuse_all, refuse_selecting
from tidings.jsonapi.request import Request
from tidings.resources import (
    Draft,
    Found,
    IncludeTree,
    Members,
    Mode,
    Operations,
    Page,
    Require,
    Selection,
    View,
)
from tidings.schema import Relationship, ResourceType
from tidings.storage import Row

_TO_ONE_METHODS: Final = ("GET", "HEAD", "PATCH")
_MODES: Final[Mapping[str, Mode]] = {"POST": "add", "PATCH": "replace", "DELETE": "remove"}


class RelationshipFace:
    """Answers requests whose URL names a relationship of a record."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def related(self, request: Request) -> Response:
        """``/posts/1/author`` and ``/posts/1/comments``: the related records, as their own
        resource would show them.
        """
        found, link = await self._record(request)
        place = f"{_location(request, found)}/{request.resource.member_name(link.name)}"
        kind = link.type_of(found.row) if link.is_own else link.target
        if kind is None:  # of several resources it is none
            refuse_include(request, link)
            return tagged(200, request.terms.documents.nothing(request.shown, place))
        target = request.terms.registry[kind]
        if link.to_many:
            page = await self._page(request, link, found)
            document = request.terms.documents.collection(
                target,
                page,
                request.shown,
                place,
            )
            return await answered(200, document)
        related = await (self._own if link.is_own else self._other)(request, link, target, found)
        if related is None:
            return tagged(200, request.terms.documents.nothing(request.shown, place))
        document = request.terms.documents.item(target, related, request.shown, place)
        return await answered(200, document)

    async def linkage(self, request: Request) -> Response:
        """``/posts/1/relationships/author``: which records are related, read and written."""
        if request.method not in ("GET", "HEAD"):
            written = await self._operations.patch(
                request.resource.name,
                request.record_id,
                lambda _view: linkage_draft(request),
                auth=request.identity,
            )
            request.written_at(written.cursor)
            return Response(status_code=204)
        tree: IncludeTree = {}

        def include(_view: View) -> IncludeTree:
            nonlocal tree
            link = request.relationship()
            tree = _linkage_tree(request, link)
            # The records that hold the key are read by pages, with what they bring along.
            return tree if link.is_own else {}

        found = await self._operations.get(
            request.resource.name, request.record_id, include=include, auth=request.identity
        )
        link = request.relationship()
        if link.is_own:
            document = request.terms.documents.to_one_linkage(
                request.resource, link, found, request.shown
            )
            return await answered(200, document, _linkage_state(link, found.row))
        page = await self._page(request, link, found, tree.get(link.name, {}))
        document = request.terms.documents.others_linkage(
            request.resource,
            link,
            page,
            request.shown,
            _location(request, found),
            shows=link.name in tree,
        )
        return await answered(200, document)

    async def _record(self, request: Request) -> tuple[Found, Relationship]:
        """The record whose relationship it is."""

        def include(_view: View) -> IncludeTree:
            if not request.relationship().to_many:
                refuse_selecting(request.parameters)
            return {}

        found = await self._operations.get(
            request.resource.name, request.record_id, include=include, auth=request.identity
        )
        return found, request.relationship()

    async def _other(
        self, request: Request, link: Relationship, _target: ResourceType, found: Found
    ) -> Found | None:
        """The record that holds the key, if there is one for this asker."""
        page = await self._page(request, link, found)
        return next((Found(row, page.included) for row in page.rows), None)

    async def _own(
        self, request: Request, link: Relationship, target: ResourceType, found: Found
    ) -> Found | None:
        """The record to which the record itself refers, if there is one for this asker."""

        def include(_view: View) -> IncludeTree:
            request.fields = request.terms.reader.fieldsets(request.parameters)
            return request.terms.reader.include(target, request.parameters)

        key = found.row[link.foreign_key]
        if key is None:
            # What is wrong with the request is wrong with nothing to show, too.
            view = self._operations.visibility.view(target.name, request.identity)
            await self._operations.visibility.permit_query(view)
            include(view)
            return None
        try:
            return await self._operations.get(
                target.name, key, include=include, auth=request.identity
            )
        except NotFound:
            return None

    async def _page(
        self,
        request: Request,
        link: Relationship,
        found: Found,
        include: IncludeTree | None = None,
    ) -> Page:
        """One page of the records of a to-many relationship. ``include``: what they bring along,
        where the request does not say it in their terms.
        """

        def select(view: View) -> Selection:
            request.fields = request.terms.reader.fieldsets(request.parameters)
            parameters = request.parameters
            if include is not None:
                parameters = replace(parameters, include=[])
            selection = request.terms.reader.selection(view.resource, parameters, request.identity)
            if include is not None:
                selection = replace(selection, include=include)
            return replace(selection, clause=members)

        members = await self._operations.visibility.members(link, found.row["id"], request.identity)
        return await self._operations.query(link.target, select, auth=request.identity)


def _location(request: Request, found: Found) -> str:
    return request.terms.documents.location(request.resource, found.row, request.base)


def _linkage_state(link: Relationship, row: Row) -> str:
    """The tag of a to-one relationship; that of the members of a to-many one is not kept, and
    cannot be required.
    """
    return "" if not link.is_own else state_tag([link.type_of(row), row[link.foreign_key]])


def _requirement(request: Request, link: Relationship) -> Require | None:
    return requirement(request.headers, "PATCH", lambda _view, row: _linkage_state(link, row))


def refuse_include(request: Request, link: Relationship) -> None:
    """Refuse paths that no record to which a relationship may lead could bring along."""
    request.fields = request.terms.reader.fieldsets(request.parameters)
    name = request.resource.member_name(link.name)
    paths = [f"{name}.{path}" for path in request.parameters.include]
    request.terms.reader.include(request.resource, replace(request.parameters, include=paths))


def _linkage_tree(request: Request, link: Relationship) -> IncludeTree:
    """What comes along with linkage: paths begin at the record that has the relationship."""
    if not link.to_many:
        refuse_selecting(request.parameters)
    tree = request.include()
    others = [name for name in tree if name != link.name]
    if others:
        raise InvalidRequest(
            f"{others[0]!r} is not in this document; paths begin with {link.name!r}",
            code="INVALID_INCLUDE",
            option="include",
        )
    return tree


def linkage_draft(request: Request) -> Draft:
    """The write that linkage in a request's body means."""
    link = request.relationship()
    if not link.to_many and request.method not in _TO_ONE_METHODS:
        message = f"{link.name!r} is a to-one relationship: replace it with PATCH"
        raise MethodNotAllowed(message, _TO_ONE_METHODS)
    refuse_all(request.parameters)
    if link.is_own:
        values = parse_reference(link, request.body)
        request.pointers.update(dict.fromkeys(values, "/data"))
        return Draft(values, require=_requirement(request, link))
    given: Any = parse_linkage(link, request.body)
    request.pointers[link.name] = "/data"
    some = Members(given, _MODES[request.method]) if link.to_many else Members.of_one(given)
    members = {link.name: some}
    return Draft(members=members, require=_requirement(request, link))
