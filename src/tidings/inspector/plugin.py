"""InspectorPlugin: the page, and the two addresses from which it reads."""

from __future__ import annotations

import asyncio
import html
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tidings.api import Api
from tidings.errors import (
    ConfigurationError,
    NotFound,
    RequestError,
    Unavailable,
    log_unforeseen,
)
from tidings.feed import Cursor
from tidings.inspector.access import Access, Allow, IdentifyRequest
from tidings.inspector.figures import Document, Figures
from tidings.inspector.reasons import Reasons
from tidings.inspector.recorder import Recorder
from tidings.monitoring.endpoints import Endpoint

_log = logging.getLogger("tidings.inspector")
_STATIC: Final = Path(__file__).parent / "static"
_FILES: Final = {
    "inspector.js": "text/javascript",
    "inspector.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_FRESH_SECONDS: Final = 0.5
"""For so long one answer serves all who look, so that ten open pages cost what one does."""
_LONGEST_USER: Final = 1_000

Answer = Callable[[Request], Awaitable[Document]]


class InspectorPlugin:
    """A page for those who run the api: connections, subscriptions, filters, the last changes with
    who was told and why others were not, queues, feed, outbox, resyncs.

        api.use(InspectorPlugin(role="admin"))            # at /inspector
        api.use(InspectorPlugin("/admin/live", allow=lambda who: who.has_permission("inspect")))

    The page itself holds nothing; what it shows it asks with the token that its reader pastes, and
    each of these requests is checked. Whoever may look sees filters, user ids and record ids of
    everybody, and what row policies and hooks add to filters.

    Args:
        path: where the page is.
        role: who has this role may look.
        allow: a function of the `Identity`, sync or async, that decides instead. Only True allows;
            an error, or no answer within 5 seconds, denies. One of both has to be named.
        identify: a function of the request that says who sends it where it has no ``Authorization``
            header, for pages that sign in by a cookie of the application's own.
        show_values: whether an explanation quotes the value of the record that fails a clause
            (False: only the clause). A reader then sees what no permission was asked for.
        changes: how many of the last changes are kept in memory (200), 1 to 10,000.
        change_bytes: how much memory they may take in all (4,000,000), 100,000 or more. The oldest
            are dropped first.

    Raises:
        ConfigurationError: nobody is named who may look, or an option is not as said above.
    """

    name = "inspector"
    dependencies: ClassVar[tuple[str, ...]] = ("socketio",)

    def __init__(
        self,
        path: str = "/inspector",
        *,
        role: str | None = None,
        allow: Allow | None = None,
        identify: IdentifyRequest | None = None,
        show_values: bool = False,
        changes: int = 200,
        change_bytes: int = 4_000_000,
    ) -> None:
        if not isinstance(path, str) or not path.startswith("/") or path.endswith("/"):
            raise ConfigurationError(
                f"InspectorPlugin: path {path!r}: start it with '/', end it without"
            )
        if (role is None) == (allow is None):
            raise ConfigurationError(
                "InspectorPlugin: say who may look, with role= (InspectorPlugin(role='admin')) or "
                "with allow=, a function of the identity; one of both"
            )
        if role is not None and (not isinstance(role, str) or not role):
            raise ConfigurationError(f"InspectorPlugin: role is the name of a role, not {role!r}")
        for name, function in (("allow", allow), ("identify", identify)):
            if function is not None and not callable(function):
                raise ConfigurationError(f"InspectorPlugin: {name} is a function, not {function!r}")
        _check_number("changes", changes, 1, 10_000)
        _check_number("change_bytes", change_bytes, 100_000, 10**12)
        self._path = path
        self._allow: Allow = allow or partial(_has_role, role or "")
        self._identify = identify
        self._shows_values = show_values is True
        self._recorder = Recorder(changes, change_bytes)

    def install(self, api: Api) -> None:
        api.set_observer(self._recorder)
        inspection = _Inspection(api, self._recorder, shows_values=self._shows_values)
        access = Access(api, self._allow, self._identify)
        base = self._path.rpartition("/")[2]
        page = (_STATIC / "index.html").read_text("utf-8")
        # Relative, since nobody here knows below which path a proxy serves this.
        page = page.replace("{base}", html.escape(quote(base), quote=True))
        page = page.replace("{knows}", "token" if self._identify is None else "cookie")
        api.add_endpoint(self._path, Endpoint(_file(page.encode(), "text/html")))
        for name, media_type in _FILES.items():
            content = (_STATIC / name).read_bytes()
            api.add_endpoint(f"{self._path}/{name}", Endpoint(_file(content, media_type)))
        for name, answer in (("data", inspection.data), ("explain", inspection.explain)):
            respond = partial(_respond, access, inspection.process, answer)
            api.add_endpoint(f"{self._path}/{name}", Endpoint(respond))


class _Inspection:
    """Answers what the page asks."""

    def __init__(self, api: Api, recorder: Recorder, *, shows_values: bool) -> None:
        self._api = api
        self._recorder = recorder
        self._figures = Figures(api, recorder)
        self._shows_values = shows_values
        self._latest: tuple[float, asyncio.Task[Document]] | None = None

    @property
    def process(self) -> str:
        return self._figures.process

    async def data(self, request: Request) -> Document:
        """All figures."""
        user = _user_of(request)
        if user is not None:
            return await self._figures.document(user)
        now = time.monotonic()
        if (
            self._latest is None
            or now - self._latest[0] > _FRESH_SECONDS
            or self._latest[1].get_loop() is not asyncio.get_running_loop()
        ):
            making = asyncio.create_task(self._figures.document(), name="tidings-inspector")
            self._latest = now, making
        return await asyncio.shield(self._latest[1])

    async def explain(self, request: Request) -> Document:
        """Why others were not told of a change.

        Raises:
            NotFound: it is not remembered any more.
        """
        cursor = Cursor.parse(request.query_params.get("cursor"))
        recorded = None if cursor is None else self._recorder.at(cursor)
        sockets = self._api.internals.sockets
        if recorded is None or sockets is None:
            raise NotFound("This process does not remember that change any more")
        reasons = Reasons(sockets, shows_values=self._shows_values)
        return await reasons.document(recorded, _user_of(request))


async def _respond(access: Access, process: str, answer: Answer, request: Request) -> Response:
    headers = dict(_HEADERS)
    if request.scope.get("http_version") in ("1.0", "1.1"):
        # Each request is to find any of the processes that serve one address, not always the same.
        headers["connection"] = "close"
    status, document = await _answered(access, process, answer, request)
    content = msgspec.json.encode(document)
    return Response(content, status, headers, media_type="application/json")


async def _answered(
    access: Access, process: str, answer: Answer, request: Request
) -> tuple[int, Document]:
    """What to answer, and with which status."""
    try:
        await access.check(request)
        wanted = request.query_params.get("process")
        if wanted not in (None, process):
            return 409, {"message": "Another process has answered", "process": process}
        return 200, {"process": process, **await answer(request)}
    except RequestError as error:
        return error.status, {"message": error.message, "code": error.code}
    except Exception as error:  # noqa: BLE001  it is logged, and told of by its number alone
        _, detail = log_unforeseen(_log, error)
        return Unavailable.status, {"message": detail}


def _file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def respond(_: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return respond


def _user_of(request: Request) -> str | None:
    user = request.query_params.get("user", "").strip()
    return user[:_LONGEST_USER] or None


def _has_role(role: str, identity: Any) -> bool:
    return identity.has_role(role) is True


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(
            f"InspectorPlugin: {name} is a number from {least:,} to {most:,}, not {value!r}"
        )
