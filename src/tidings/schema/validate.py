"""Holding a record's values against its resource: all problems at once, then cast values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from tidings.errors import MAX_PROBLEMS, ProblemList
from tidings.schema.fields import MISSING, Field
from tidings.schema.resource import ResourceType
from tidings.schema.types import ValueProblem


def read_only_names(resource: ResourceType, values: Mapping[str, Any]) -> frozenset[str]:
    """Those of the given names that only trusted code may set."""
    fields = resource.fields
    return frozenset(name for name in values if name in fields and fields[name].read_only)


def validate_new(
    resource: ResourceType, values: Mapping[str, Any], *, refused: Collection[str] = ()
) -> dict[str, Any]:
    """Values of a whole new record: defaults filled in, absent ones null.

    ``refused`` are names that the client gave and must not (see `read_only_names`).

    Raises:
        ValidationFailed: with every problem of every field.
    """
    problems = ProblemList()
    result = _accept_given(resource, values, problems, refused)
    for name, field in resource.fields.items():
        if name not in values:
            result[name] = _absent(field, problems)
    problems.raise_if_any(resource.name)
    return result


def validate_changes(
    resource: ResourceType, values: Mapping[str, Any], *, refused: Collection[str] = ()
) -> dict[str, Any]:
    """Values of some fields of a record that exists: only what was given.

    Raises:
        ValidationFailed: with every problem of every field.
    """
    problems = ProblemList()
    result = _accept_given(resource, values, problems, refused)
    problems.raise_if_any(resource.name)
    return result


def _absent(field: Field, problems: ProblemList) -> Any:
    if field.default is not MISSING:
        try:
            return field.accept(field.make_default())
        except ValueProblem as problem:
            problems.add(field.name, f"the default {problem.message}", problem.code, problem.path)
    elif field.required:
        problems.add(field.name, "is required", "REQUIRED")
    return None


def _accept_given(
    resource: ResourceType,
    values: Mapping[str, Any],
    problems: ProblemList,
    refused: Collection[str],
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        if len(problems.problems) >= MAX_PROBLEMS:
            break
        field = resource.fields.get(name)
        if field is None:
            problems.add(name, _unknown(resource, name), "UNKNOWN_FIELD")
        elif name in refused:
            problems.add(name, "is read only", "READ_ONLY")
        else:
            try:
                result[name] = field.accept(value)
            except ValueProblem as problem:
                problems.add(name, problem.message, problem.code, problem.path)
    return result


def _unknown(resource: ResourceType, name: str) -> str:
    visible = [known for known, field in resource.fields.items() if not field.hidden]
    close = get_close_matches(name[:100], visible, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"is no field of {resource.name!r}{hint}"
