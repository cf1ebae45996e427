"""Query parameters: brackets raw or percent-encoded, lists with commas or repeated keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from tidings.errors import InvalidRequest, Source
from tidings.filters import build_filters
from tidings.identity import Identity
from tidings.resources import Fieldsets, Selection, parse_fieldsets, parse_include
from tidings.resources.includes import IncludeTree
from tidings.resources.keysets import Keyset, read_place
from tidings.resources.naming import (
    declared_fieldsets,
    declared_filters,
    declared_paths,
    declared_sort,
)
from tidings.resources.sorting import parse_sort
from tidings.schema import ResourceRegistry, ResourceType, ValueProblem
from tidings.schema.types import cast_integer
from tidings.storage import Sort

MAX_PARAMETERS: Final = 500
_MAX_DEPTH: Final = 8
_MAX_PAGE: Final = 2**31
_BY_NUMBER: Final = frozenset({"number", "size"})
_BY_OFFSET: Final = frozenset({"offset", "limit"})
_BY_PLACE: Final = frozenset({"after", "before"})
_STYLES: Final = (_BY_NUMBER, _BY_OFFSET, _BY_PLACE | {"size"})
_PAGING: Final = _BY_NUMBER | _BY_OFFSET | _BY_PLACE | {"count"}
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


@dataclass(slots=True)
class Parameters:
    """The parameters of one request, taken apart but not yet held against a resource."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    filters: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, list[str]] = field(default_factory=dict)
    page: dict[str, str] = field(default_factory=dict)
    include: list[str] = field(default_factory=list)
    includes: bool = False
    """Whether ``include`` was given at all: given empty, it asks for an empty ``included``."""
    sort: list[str] = field(default_factory=list)

    def url(self, path: str) -> str:
        """The URL of the request itself, below this path."""
        return f"{path}?{urlencode(self.pairs)}" if self.pairs else path

    @property
    def selects(self) -> str | None:
        """The first parameter that only a collection can have."""
        families = ("filter", "sort", "page")
        return next((key for key, _ in self.pairs if key.split("[")[0] in families), None)

    @property
    def by_offset(self) -> bool:
        """Whether pages go by ``page[offset]`` and ``page[limit]``."""
        return not _BY_OFFSET.isdisjoint(self.page)

    def without_page(self) -> str:
        """The query string for any page of the same query, to which its place is appended."""
        places = ("page[offset]", "page[number]", "page[after]", "page[before]")
        pairs = [(key, value) for key, value in self.pairs if key not in places]
        return f"{urlencode(pairs)}&" if pairs else ""


def parse_parameters(query: bytes, *, collection: bool) -> Parameters:
    """Take a query string apart; only a ``collection`` can be filtered, sorted and paged.

    Raises:
        InvalidRequest: ``INVALID_PARAMETER``, naming the parameter.
    """
    try:
        text = query.decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except UnicodeDecodeError:
        raise InvalidRequest(
            "The query string is not valid UTF-8", code="INVALID_PARAMETER"
        ) from None
    except ValueError:
        message = f"At most {MAX_PARAMETERS} query parameters"
        raise InvalidRequest(message, code="INVALID_PARAMETER") from None
    parameters = Parameters(pairs)
    for key, value in pairs:
        _take(parameters, key, value, collection=collection)
    return parameters


def _take(parameters: Parameters, key: str, value: str, *, collection: bool) -> None:
    found = _KEY.fullmatch(key)
    family = found[1] if found else key
    path = _BRACKETS.findall(found[2]) if found else []
    if family == "include" and not path:
        parameters.include += _names(key, value)
        parameters.includes = True
    elif family == "fields" and len(path) == 1:
        parameters.fields.setdefault(path[0], []).extend(_names(key, value))
    elif family == "sort" and not path and collection:
        parameters.sort += _names(key, value)
    elif family == "page" and len(path) == 1 and path[0] in _PAGING and collection:
        parameters.page[path[0]] = value
    elif family == "filter" and 1 <= len(path) <= _MAX_DEPTH and path[0] and collection:
        _put(parameters.filters, path, value, key)
    else:
        raise _invalid(key, _advice(collection=collection))


def _advice(*, collection: bool) -> str:
    if collection:
        paging = "page[number], page[after] or page[before] with page[size] (or page[offset] "
        paging += "with page[limit]), page[count]"
        return f"known are filter[...], sort, fields[...], include, {paging}"
    return "known for one record are fields[...] and include"


def _names(key: str, value: str) -> list[str]:
    """Names with commas between them; an empty text names nothing."""
    names = value.split(",") if value else []
    if "" in names:
        raise _invalid(key, "there is nothing before or after a comma")
    return names


def _put(target: dict[str, Any], path: list[str], value: str, key: str) -> None:
    """``filter[a]`` twice or ``filter[a][]`` is a list; ``filter[a][b]`` an object."""
    *outer, last = [part for part in path if part]
    for part in outer:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise _invalid(key, "is given both as a value and as an object")
        target = inner
    present = target.get(last)
    if isinstance(present, dict):
        raise _invalid(key, "is given both as a value and as an object")
    if present is None:
        target[last] = [value] if path[-1] == "" else value
    else:
        target[last] = [*(present if isinstance(present, list) else [present]), value]


def refuse_selecting(parameters: Parameters) -> None:
    """Say that one record is no collection.

    Raises:
        InvalidRequest: ``INVALID_PARAMETER``, naming the parameter.
    """
    if parameters.selects is not None:
        raise _invalid(parameters.selects, _advice(collection=False))


def refuse_all(parameters: Parameters) -> None:
    """Say that there is nothing to be shown.

    Raises:
        InvalidRequest: ``INVALID_PARAMETER``, naming the parameter.
    """
    if parameters.pairs:
        raise _invalid(parameters.pairs[0][0], "this write takes none")


def _invalid(key: str, message: str) -> InvalidRequest:
    shown = key[:100]
    return InvalidRequest(
        f"Query parameter {shown!r}: {message}",
        code="INVALID_PARAMETER",
        source=Source(parameter=shown),
    )


def _check_styles(parameters: Parameters) -> None:
    """Pages go by number, by offset or by place; ``after`` and ``before`` are no range."""
    given = parameters.page.keys() - {"count"}
    if not any(given <= style for style in _STYLES) or given >= _BY_PLACE:
        *others, last = sorted(given)
        raise _invalid(f"page[{last}]", f"does not go with page[{'], page['.join(others)}]")


def _keyset(resource: ResourceType, sort: Sort, parameters: Parameters) -> Keyset | None:
    path = next((name for name, _ in sort if "." in name), None)
    if path is not None and not _BY_PLACE.isdisjoint(parameters.page):
        raise InvalidRequest(
            f"sort: a list by {path!r} has no page[after] and page[before]; use page[number]",
            code="INVALID_SORT",
            option="sort",
        )
    for name in _BY_PLACE & parameters.page.keys():
        text = parameters.page[name]
        if not text:
            return Keyset(backward=name == "before")
        try:
            return Keyset(read_place(resource, sort, text), name == "before", text)
        except ValueProblem as problem:
            raise _invalid(f"page[{name}]", problem.message) from None
    return None


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    given = parameters.page.get(name)
    if given is None:
        return default
    if given not in ("true", "false"):
        raise _invalid(f"page[{name}]", "expected true or false")
    return given == "true"


class ParameterReader:
    """Holds taken-apart parameters against a resource."""

    def __init__(self, registry: ResourceRegistry) -> None:
        self._registry = registry

    def selection(
        self, resource: ResourceType, parameters: Parameters, identity: Identity
    ) -> Selection:
        """What a request for a collection selects.

        Raises:
            RequestError: for the first parameter that is wrong (for filters: all of them).
        """
        _check_styles(parameters)
        size_name = "limit" if parameters.by_offset else "size"
        size = self._page(parameters, size_name, resource.page_size, resource.max_page_size)
        if parameters.by_offset:
            offset = self._page(parameters, "offset", 0, _MAX_PAGE, least=0)
        else:
            offset = (self._page(parameters, "number", 1, _MAX_PAGE) - 1) * size
        given = declared_filters(resource, parameters.filters)
        filters = build_filters(resource, given, identity, text=True)
        sort = parse_sort(resource, declared_sort(resource, parameters.sort))
        keyset = _keyset(resource, sort, parameters)
        return Selection(
            filters.expression,
            sort,
            offset,
            size,
            self.include(resource, parameters),
            keyset=keyset,
            is_counted=_flag(parameters, "count", default=keyset is None),
        )

    def include(self, resource: ResourceType, parameters: Parameters) -> IncludeTree:
        """The include tree."""
        paths = declared_paths(self._registry, resource, parameters.include)
        return parse_include(self._registry, resource, paths)

    def fieldsets(self, parameters: Parameters) -> Fieldsets:
        """The sparse fieldsets."""
        if not parameters.fields:
            return {}
        return parse_fieldsets(
            self._registry, declared_fieldsets(self._registry, parameters.fields)
        )

    def _page(
        self, parameters: Parameters, name: str, default: int, most: int, *, least: int = 1
    ) -> int:
        given = parameters.page.get(name)
        if given is None:
            return default
        try:
            number = cast_integer(given)
        except ValueProblem:
            number = -1
        if not least <= number <= most:
            raise _invalid(f"page[{name}]", f"expected a number from {least} to {most}")
        return number
