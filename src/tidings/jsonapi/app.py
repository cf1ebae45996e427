"""The HTTP face: an ASGI app that serves the resources below its root path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tidings.errors import (
    AuthenticationError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestError,
    Unavailable,
)
from tidings.feed import Cursor
from tidings.identity import Identity
from tidings.jsonapi.answers import LARGE, READING_SECONDS, Room, answer, answered
from tidings.jsonapi.atomic import AtomicFace
from tidings.jsonapi.bodies import Body, decoded
from tidings.jsonapi.conditions import CURSOR_HEADER, requirement, unless_known
from tidings.jsonapi.documents import DocumentWriter
from tidings.jsonapi.endpoints import Endpoint
from tidings.jsonapi.errors import error_document, internal_error_document
from tidings.jsonapi.negotiation import MEDIA_TYPE, check_accept, check_content_type
from tidings.jsonapi.parameters import ParameterReader, parse_parameters, refuse_all
from tidings.jsonapi.places import LINKAGE_METHODS, RELATED_METHODS, path_in, place_in
from tidings.jsonapi.relationships import RelationshipFace
from tidings.jsonapi.request import Request, Terms
from tidings.resources import Found, Operations
from tidings.schema import ResourceRegistry

Authenticate = Callable[[str | None], Awaitable[Identity]]
"""The value of the Authorization header (None where there is none), to an identity."""

_log = logging.getLogger("tidings.jsonapi")
_LONG_BODY: Final = 32_768
OPERATIONS: Final = "operations"
"""Where many operations are sent at once, unless a resource has this name."""


class JsonApiApp:
    """Serves ``/{resource}``, ``/{resource}/{id}``, ``/{resource}/{id}/{relationship}`` and
    ``/{resource}/{id}/relationships/{relationship}``.

    ``max_body`` bounds a request's body, in bytes. ``endpoints`` are served beside the resources,
    by their paths (``auth/session``). ``position`` is the feed's: a client that subscribes with the
    cursor of a response misses nothing that came after it.
    """

    def __init__(
        self,
        registry: ResourceRegistry,
        operations: Operations,
        authenticate: Authenticate,
        *,
        position: Callable[[], Cursor],
        max_body: int = 1_048_576,
        endpoints: Mapping[str, Endpoint] = MappingProxyType({}),
        atomic: bool = True,
    ) -> None:
        self._registry = registry
        self._operations = operations
        self._authenticate = authenticate
        self._position = position
        self._max_body = max_body
        self._endpoints = endpoints
        self._relationships = RelationshipFace(operations)
        self._atomic = AtomicFace(operations)
        self._is_atomic = atomic
        self._room = Room()
        self._terms: dict[ResourceRegistry, Terms] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"JsonApiApp serves http, not {scope['type']}")
        pointers: dict[str, str] = {}
        try:
            response = await self._respond(scope, receive, pointers)
        except RequestError as error:
            response = error_response(error, pointers)
        except Exception as error:  # noqa: BLE001  no traceback reaches a client; it is logged
            response = answer(500, internal_error_document(error))
        if scope["method"] == "HEAD":
            response.body = b""
        try:
            async with self._room.hold(len(response.body)):
                await self._send(response, scope, receive, send)
        except Unavailable as error:
            await error_response(error, pointers)(scope, receive, send)

    async def _send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if len(response.body) < LARGE:
            await response(scope, receive, send)
            return
        try:
            async with asyncio.timeout(READING_SECONDS):
                await response(scope, receive, send)
        except TimeoutError:
            _log.warning("a client has not read its answer for %d s", READING_SECONDS)

    async def _respond(self, scope: Scope, receive: Receive, pointers: dict[str, str]) -> Response:
        headers = Headers(scope=scope)
        base, segments = path_in(scope)
        endpoint = self._endpoints.get("/".join(segments))
        if endpoint is not None:
            return await self._answer(endpoint, scope["method"], headers, base)
        resource = self._registry.get(segments[0])
        if resource is None and segments == [OPERATIONS] and self._is_atomic:
            return await self._operate(scope, receive, headers, base)
        place = place_in(segments)
        if resource is None or place is None:
            raise NotFound("There is nothing at this URL", code="RESOURCE_NOT_FOUND")
        record_id, relationship_name, allowed = place
        method = scope["method"]
        if method not in allowed:
            raise MethodNotAllowed(f"{method} is not possible here", allowed)
        check_accept(headers.get("accept"))
        identity = await self._authenticate(headers.get("authorization"))
        terms = self._terms_of(identity)
        listing = method in ("GET", "HEAD") and (record_id is None or relationship_name is not None)
        parameters = parse_parameters(scope.get("query_string", b""), collection=listing)
        body: Body = b""
        if method in ("POST", "PUT", "PATCH") or (method == "DELETE" and relationship_name):
            check_content_type(headers.get("content-type"))
            body = await _document_of(await self._body(receive, headers))
        request = Request(
            method,
            base,
            terms.registry[resource.name],
            record_id,
            relationship_name,
            parameters,
            identity,
            headers,
            body,
            terms,
            pointers,
            str(self._position()),
        )
        try:
            if allowed is LINKAGE_METHODS:
                response = await self._relationships.linkage(request)
            elif allowed is RELATED_METHODS:
                response = await self._relationships.related(request)
            else:
                response = await self._dispatch(request)
        except RequestError as error:
            request.spell(error)
            raise
        if method in ("GET", "HEAD"):
            response = unless_known(response, headers)
        response.headers[CURSOR_HEADER] = request.cursor
        return response

    async def _answer(
        self, endpoint: Endpoint, method: str, headers: Headers, base: str
    ) -> Response:
        if method not in endpoint.methods:
            raise MethodNotAllowed(f"{method} is not possible here", endpoint.methods)
        if endpoint.media_type == MEDIA_TYPE:
            check_accept(headers.get("accept"))
        identity = await self._authenticate(headers.get("authorization"))
        document = await endpoint.respond(identity, base)
        response = Response(status_code=204) if document is None else answer(200, document)
        if document is not None:
            response.headers["content-type"] = endpoint.media_type
        response.headers["cache-control"] = "no-store"
        return response

    async def _operate(
        self, scope: Scope, receive: Receive, headers: Headers, base: str
    ) -> Response:
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['method']} is not possible here", ("POST",))
        check_accept(headers.get("accept"), atomic=True)
        identity = await self._authenticate(headers.get("authorization"))
        refuse_all(parse_parameters(scope.get("query_string", b""), collection=False))
        check_content_type(headers.get("content-type"), atomic=True)
        requirement(headers, "POST", lambda _view, _row: "")
        body = await _document_of(await self._body(receive, headers))
        cursor = str(self._position())
        terms = self._terms_of(identity)
        response, cursor = await self._atomic.respond(body, base, identity, terms, cursor)
        response.headers[CURSOR_HEADER] = cursor
        return response

    def _terms_of(self, identity: Identity) -> Terms:
        registry = self._registry.seen_by(identity)
        found = self._terms.get(registry)
        if found is None:
            found = self._terms[registry] = Terms(
                registry, ParameterReader(registry), DocumentWriter(registry)
            )
        return found

    async def _body(self, receive: Receive, headers: Headers) -> bytes:
        declared = headers.get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > self._max_body:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise PayloadTooLarge("The request ended before its body did")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_body:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body has more than {self._max_body} bytes")

    async def _dispatch(self, request: Request) -> Response:
        if request.record_id is None:
            handler = self._create if request.method == "POST" else self._list
        else:
            handlers = {"PUT": self._write, "PATCH": self._write, "DELETE": self._delete}
            handler = handlers.get(request.method, self._read)
        return await handler(request)

    async def _list(self, request: Request) -> Response:
        page = await self._operations.query(
            request.resource.name, request.selection, auth=request.identity
        )
        document = request.terms.documents.collection(request.resource, page, request.shown)
        return await answered(200, document)

    async def _read(self, request: Request) -> Response:
        found = await self._operations.get(
            request.resource.name,
            request.record_id,
            include=request.include,
            auth=request.identity,
        )
        document = self._document(request, found)
        return await answered(200, document, self._state(request, found))

    async def _create(self, request: Request) -> Response:
        found = await self._operations.post(
            request.resource.name, request.draft, auth=request.identity
        )
        return await self._written(request, found)

    async def _write(self, request: Request) -> Response:
        operation = self._operations.put if request.method == "PUT" else self._operations.patch
        found = await operation(
            request.resource.name, request.record_id, request.draft, auth=request.identity
        )
        return await self._written(request, found)

    async def _written(self, request: Request, found: Found) -> Response:
        request.written_at(found.cursor)
        document = self._document(request, found)
        status = 201 if found.created else 200
        response = await answered(status, document, self._state(request, found))
        if found.created:
            response.headers["location"] = document["data"]["links"]["self"]
        return response

    def _document(self, request: Request, found: Found) -> dict[str, Any]:
        return request.terms.documents.item(request.resource, found, request.shown)

    def _state(self, request: Request, found: Found) -> str:
        return request.terms.documents.state(request.resource, found.row)

    async def _delete(self, request: Request) -> Response:
        cursor = await self._operations.delete(
            request.resource.name,
            request.record_id,
            require=request.requirement(),
            auth=request.identity,
        )
        request.written_at(cursor)
        return Response(status_code=204)


async def _document_of(body: bytes) -> Body:
    """A long body as what it holds, read beside the event loop; any other as it came."""
    if len(body) < _LONG_BODY:
        return body
    try:
        found = await asyncio.to_thread(decoded, body)
    except InvalidRequest:
        return body  # which is said when permission was asked
    return found if isinstance(found, dict) else body


def error_response(
    error: RequestError, pointers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """The response to what cannot be done."""
    response = answer(error.status, error_document(error, pointers))
    if isinstance(error, AuthenticationError):
        response.headers["www-authenticate"] = "Bearer"
    elif isinstance(error, MethodNotAllowed):
        response.headers["allow"] = ", ".join(error.allowed)
    elif isinstance(error, Unavailable):
        response.headers["retry-after"] = "1"
    return response
