"""Every error that tidings raises on purpose.

    TidingsError
    ├── ConfigurationError          the application was put together wrongly
    │   ├── MissingDependencyError  a plugin needs another one that is not in use
    │   └── MissingExtraError       an optional package is not installed
    └── RequestError                the caller asked for something that cannot be done
        ├── InvalidRequest          400  form of the request, document or parameter
        ├── AuthenticationError     401  no usable token
        ├── PermissionDenied        403
        ├── NotFound                404  unknown resource or record
        ├── RelatedNotFound         404  a value refers to a record that does not exist
        ├── MethodNotAllowed        405
        ├── NotAcceptable           406
        ├── Conflict                409  id taken, unique value taken, still referenced
        ├── PayloadTooLarge         413
        ├── UnsupportedMediaType    415
        ├── ValidationFailed        422  one or more values are wrong: see ``problems``
        ├── FilterError             400  a subscription's or a query's filters are wrong
        └── Unavailable             503  something that is needed cannot be reached: try again
            ├── KeysUnavailable     503  the keys that tokens are verified with
            ├── IdentityUnavailable 503  what ``identify`` reads
            └── DatabaseBusy        503
                └── QueryTimeout    503  a statement took too long: ask for less

A `RequestError` is turned into a JSON:API error object in ``tidings.jsonapi`` and into a socket
payload in ``tidings.realtime``, in one place each.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from tidings.values import without_values


class TidingsError(Exception):
    """Root of all errors raised by tidings."""


class ConfigurationError(TidingsError):
    """The application was put together wrongly; the message says where and what to do."""


class MissingDependencyError(ConfigurationError):
    """A plugin was used before a plugin that it depends on."""


class MissingExtraError(ConfigurationError):
    """An optional package is missing; the message names the ``pip install`` to run."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f'run pip install "tidings[{extra}]"'
        )


MAX_PROBLEMS: Final = 100
"""How many problems one answer lists: an answer must not be many times as long as its request."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one value.

    ``field`` names the field; ``path`` leads to the place inside its value, where that is an
    array or an object; ``code`` is stable, ``message`` is for people.
    """

    field: str
    message: str
    code: str = "INVALID_VALUE"
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where in a request an error lies: a JSON pointer, a query parameter or a header."""

    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class RequestError(TidingsError):
    """The caller asked for something that cannot be done.

    ``code`` is stable and meant for programs, ``str(error)`` for people. Neither ever holds the
    text of a library or database error.
    """

    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad Request"
    default_code: ClassVar[str] = "BAD_REQUEST"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        source: Source | None = None,
        field: str | None = None,
        option: str | None = None,
        resource: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.source = source
        self.field = field
        """The field or relationship that is wrong, or ``id``; None where it is none of these."""
        self.option = option
        """What else of the request is wrong: ``include``, ``sort``, ``fields[posts]``."""
        self.resource = resource
        self.details = details


class InvalidRequest(RequestError):
    """The form of the request is wrong."""

    default_code = "INVALID_REQUEST"


class AuthenticationError(RequestError):
    """There is no token, or it cannot be accepted."""

    status = 401
    title = "Unauthorized"
    default_code = "AUTHENTICATION_REQUIRED"


class PermissionDenied(RequestError):
    """The identity may not do this."""

    status = 403
    title = "Forbidden"
    default_code = "PERMISSION_DENIED"


class NotFound(RequestError):
    """There is no such resource or record, as far as the caller may know."""

    status = 404
    title = "Not Found"
    default_code = "NOT_FOUND"


class RelatedNotFound(RequestError):
    """Values refer to records that do not exist; ``problems`` names the fields."""

    status = 404
    title = "Not Found"
    default_code = "RELATED_NOT_FOUND"

    def __init__(self, fields: Sequence[str]) -> None:
        message = "refers to a record that does not exist"
        self.problems = tuple(Problem(name, message, self.default_code) for name in fields)
        super().__init__(f"{', '.join(fields) or 'A value'} {message}")


class MethodNotAllowed(RequestError):
    """The URL exists, the method does not; ``allowed`` lists those that do."""

    status = 405
    title = "Method Not Allowed"
    default_code = "METHOD_NOT_ALLOWED"

    def __init__(self, message: str, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class NotAcceptable(RequestError):
    """The client accepts no media type that can be sent."""

    status = 406
    title = "Not Acceptable"
    default_code = "NOT_ACCEPTABLE"


class Conflict(RequestError):
    """The record's present state, or another record, stands in the way."""

    status = 409
    title = "Conflict"
    default_code = "CONFLICT"


class PreconditionFailed(RequestError):
    """The record is not as the request's ``If-Match`` or ``If-None-Match`` requires."""

    status = 412
    title = "Precondition Failed"
    default_code = "PRECONDITION_FAILED"


class PayloadTooLarge(RequestError):
    """The request's body or frame is over the limit."""

    status = 413
    title = "Content Too Large"
    default_code = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(RequestError):
    """The request's body has the wrong media type."""

    status = 415
    title = "Unsupported Media Type"
    default_code = "UNSUPPORTED_MEDIA_TYPE"


class ValidationFailed(RequestError):
    """Values of a document are wrong; ``problems`` has every one of them."""

    status = 422
    title = "Unprocessable Content"
    default_code = "VALIDATION_FAILED"

    def __init__(self, problems: Sequence[Problem], *, resource: str | None = None) -> None:
        self.problems = tuple(problems)
        if not all(isinstance(one, Problem) for one in self.problems):
            raise TypeError(
                'ValidationFailed takes problems, as in [Problem("title", "is too odd")]'
            )
        listing = "; ".join(f"{problem.field}: {problem.message}" for problem in self.problems)
        super().__init__(listing, resource=resource)


class FilterError(RequestError):
    """Filters cannot be used; ``problems`` names each filter that is wrong."""

    title = "Invalid filter"
    default_code = "INVALID_FILTERS"

    def __init__(
        self,
        message: str = "Invalid filter values",
        problems: Sequence[Problem] = (),
        *,
        code: str | None = None,
        resource: str | None = None,
    ) -> None:
        self.problems = tuple(problems)
        details = {p.field: {"code": p.code, "message": p.message} for p in self.problems}
        super().__init__(message, code=code, resource=resource, details=details or None)

    def __str__(self) -> str:
        """What a Python caller reads: each filter with its reason, by the names that Python has."""
        reasons = "; ".join(f"{one.field}: {one.message}" for one in self.problems)
        said = f"{self.message}: {reasons}" if reasons else self.message
        return said.replace("searchSchema", "search_schema")


class RateLimited(RequestError):
    """Too much at once; the same will do a little later."""

    status = 429
    title = "Too Many Requests"
    default_code = "RATE_LIMITED"


class Unavailable(RequestError):
    """Something that is needed cannot be reached at present; the same will do a little later."""

    status = 503
    title = "Service Unavailable"
    default_code = "UNAVAILABLE"


class KeysUnavailable(Unavailable):
    """The keys that tokens are verified with cannot be fetched, so that nobody can be told apart
    from anybody else.
    """

    default_code = "KEYS_UNAVAILABLE"


class IdentityUnavailable(Unavailable):
    """What `JWTAuthPlugin(identify=...)` loads could not be loaded in time, or at all."""

    default_code = "IDENTITY_UNAVAILABLE"


class DatabaseBusy(Unavailable):
    """The database did not give a lock in time, or cannot be reached; nothing was changed."""

    default_code = "DATABASE_BUSY"


class QueryTimeout(DatabaseBusy):
    """A statement ran for longer than ``SqlAlchemyPlugin(statement_timeout=...)``; nothing was
    changed. Trying again helps only where the database has less to do then.
    """

    default_code = "QUERY_TIMEOUT"


@dataclass(slots=True)
class ProblemList:
    """Collects the problems of one document, so that all of them are reported at once."""

    problems: list[Problem] = field(default_factory=list)

    def add(
        self,
        name: str,
        message: str,
        code: str = "INVALID_VALUE",
        path: tuple[str | int, ...] = (),
    ) -> None:
        """Note that the value of field ``name`` is wrong."""
        self.problems.append(Problem(name, message, code, path))

    def raise_if_any(self, resource: str | None = None) -> None:
        """Raise `ValidationFailed` if anything was noted."""
        if self.problems:
            raise ValidationFailed(self.problems, resource=resource)


def log_unforeseen(logger: logging.Logger, error: Exception) -> tuple[str, str]:
    """Log an error that nobody foresaw; gives its number, and the message that may be told.

    What a database has quoted of values is left out.
    """
    number = secrets.token_hex(6)
    logger.error("internal error %s", number, exc_info=without_values(error))
    return number, f"Something went wrong on the server; it is logged as {number}"
