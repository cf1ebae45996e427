"""The one place between the names that clients spell and those that a resource declares.

Faces read what a client sends through the functions here, and have `spell_error` say what is wrong
in the client's names. All else knows the declared names only. What is refused for its size is left
as it came: nobody waits for names that are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from tidings.errors import (
    MAX_PROBLEMS,
    FilterError,
    InvalidRequest,
    Problem,
    RelatedNotFound,
    RequestError,
    ValidationFailed,
)
from tidings.resources.fieldsets import is_visible
from tidings.resources.includes import MAX_DEPTH, MAX_PATHS
from tidings.resources.sorting import MAX_SORT_FIELDS
from tidings.schema import ResourceRegistry, ResourceType


class WrongSpelling(ValueError):
    """A client has spelled a name in another way than the resource has it; says how it does."""


class _Misspelled(FilterError):
    """Filters by names that are spelled in another way, as the client has spelled them."""


def declared_name(resource: ResourceType, name: str) -> str:
    """The declared name for one that a client has spelled; an unknown one is as it came.

    Raises:
        WrongSpelling: no name of this resource is spelled so.
    """
    if resource.member_names == "as_declared":
        return name
    spelled = resource.member_name(name)
    if spelled != name:
        # Said of any name of this form, so that it does not tell which ones there are.
        raise WrongSpelling(f"names are {resource.member_names} here: {spelled[:100]!r}")
    return resource.declared_names.get(name, name)


def declared_filters(resource: ResourceType, filters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Filters by their declared names.

    Raises:
        FilterError: ``UNKNOWN_FIELD``.
    """
    if resource.member_names == "as_declared":
        return filters
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in filters.items():
        if len(problems) >= MAX_PROBLEMS or len(found) > MAX_PROBLEMS + len(resource.search or ()):
            break
        try:
            found[declared_name(resource, name)] = value
        except WrongSpelling as wrong:
            problems.append(Problem(name[:100], str(wrong), "UNKNOWN_FIELD"))
    if problems:
        raise _Misspelled(problems=problems, resource=resource.name)
    return found


def declared_sort(resource: ResourceType, names: list[str]) -> list[str]:
    """Sort names by the declared ones.

    Raises:
        InvalidRequest: ``INVALID_SORT``.
    """
    if len(names) > MAX_SORT_FIELDS:
        return names
    try:
        return [
            "-" * name.startswith("-") + declared_name(resource, name.removeprefix("-"))
            for name in names
        ]
    except WrongSpelling as wrong:
        raise InvalidRequest(f"sort: {wrong}", code="INVALID_SORT", option="sort") from None


def declared_paths(
    registry: ResourceRegistry, resource: ResourceType, paths: Iterable[str]
) -> list[str]:
    """Paths of relationships by the declared names; each resource on the way has its own.

    Raises:
        InvalidRequest: ``INVALID_INCLUDE``.
    """
    if all(one.member_names == "as_declared" for one in registry):
        return list(paths)
    some = list(islice(paths, MAX_PATHS + 1))
    if len(some) > MAX_PATHS or any(path.count(".") >= MAX_DEPTH for path in some):
        return some
    try:
        return [_declared_path(registry, resource, path) for path in some]
    except WrongSpelling as wrong:
        raise InvalidRequest(
            f"Cannot include: {wrong}",
            code="INVALID_INCLUDE",
            option="include",
            resource=resource.name,
        ) from None


def _declared_path(registry: ResourceRegistry, resource: ResourceType, path: str) -> str:
    places, found = [resource], []
    for segment in path.split("."):
        names = {}
        wrong = None
        for place in places:
            try:
                names[place.name] = declared_name(place, segment)
            except WrongSpelling as error:
                wrong = error
        known = [one for one in places if names.get(one.name) in one.relationships]
        if wrong is not None and not known:
            raise wrong
        found.append(names[known[0].name] if known else segment)
        targets = {kind for one in known for kind in one.relationships[names[one.name]].types}
        places = [registry[kind] for kind in sorted(targets)]
    return ".".join(found)


def declared_fieldsets(registry: ResourceRegistry, fields: object) -> object:
    """Sparse fieldsets by the declared names; what is no fieldset is as it came.

    Raises:
        InvalidRequest: ``INVALID_FIELDS``.
    """
    if not isinstance(fields, Mapping):
        return fields
    found = dict(fields)
    for kind, names in fields.items():
        resource = registry.get(kind)
        if resource is None or not isinstance(names, list | tuple):
            continue
        try:
            found[kind] = list(_declared_fields(resource, names))
        except WrongSpelling as wrong:
            option = f"fields[{kind}]"
            raise InvalidRequest(
                f"{option}: {wrong}", code="INVALID_FIELDS", option=option
            ) from None
    return found


def _declared_fields(resource: ResourceType, names: Iterable[object]) -> Iterator[object]:
    """The names until the first that is wrong, for which all are refused."""
    for name in names:
        declared = declared_name(resource, name) if isinstance(name, str) else name
        yield declared
        if not isinstance(declared, str) or not is_visible(resource, declared):
            return


def spell_error(resource: ResourceType, error: RequestError) -> None:
    """Have an error name the members of a resource as clients spell them."""
    if resource.member_names == "as_declared" or isinstance(error, _Misspelled):
        return
    spell = resource.member_name
    error.message = _spelled(resource, error.message)
    if error.field is not None:
        error.field = spell(error.field)
    if isinstance(error, ValidationFailed | RelatedNotFound | FilterError):
        error.problems = tuple(
            replace(one, field=spell(one.field), message=_spelled(resource, one.message))
            if one.field in resource.declared_names.values()
            else replace(one, message=_spelled(resource, one.message))
            for one in error.problems
        )
    details = dict(error.details or {})
    if isinstance(error, FilterError) and error.problems:
        details = {p.field: {"code": p.code, "message": p.message} for p in error.problems}
    elif isinstance(details.get("fields"), list):
        details["fields"] = [spell(name) for name in details["fields"]]
    error.details = details or None


def _spelled(resource: ResourceType, text: str) -> str:
    names = resource.declared_names.values()
    if not names:
        return text
    # The longer ones first: a path begins with the name of a relationship.
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(
        rf"(?<![\w-])({either})(?![\w-])", lambda found: resource.member_name(found[1]), text
    )
