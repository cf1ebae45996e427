"""Holding a record's values against its resource: all problems at once, then cast values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from tidings.errors import MAX_PROBLEMS, ProblemList
from tidings.schema.fields import LEFT_TO_DATABASE, MISSING, Field
from tidings.schema.resource import ResourceType
from tidings.schema.types import ValueProblem


def accept_given(
    resource: ResourceType,
    values: Mapping[str, Any],
    problems: ProblemList,
    *,
    trusted: bool,
    sent_back: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Cast the values that can be; ``problems`` gets what is wrong with the others.

    Only ``trusted`` code may set read-only fields, and to all others hidden ones are not declared.
    ``sent_back`` gets what cannot be set, and may still be what a document has shown; without it
    that is wrong in any case.
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if len(problems.problems) >= MAX_PROBLEMS:
            break
        field = resource.declared(name)
        if field is None or (field.hidden and not trusted):
            problems.add(name, _unknown(resource, name), "UNKNOWN_FIELD")
        elif field.computed is not None or (field.read_only and not trusted):
            if sent_back is None:
                problems.add(name, "is read only", "READ_ONLY")
            else:
                sent_back[name] = value
        else:
            _accept(field, value, problems, result)
    return result


def validate_new(
    resource: ResourceType, values: Mapping[str, Any], stored: Collection[str] = ()
) -> dict[str, Any]:
    """Values of a whole new record: defaults filled in, absent ones null. Those in ``stored`` are
    as a setter has made them, which the rules for what is given do not fit.

    Raises:
        ValidationFailed: with every problem of every field.
    """
    problems = ProblemList()
    given = {name: value for name, value in values.items() if name not in stored}
    result = accept_given(resource, given, problems, trusted=True)
    result.update((name, values[name]) for name in stored)
    check_pairs(resource, result, problems)
    for name, field in resource.fields.items():
        if name not in values and field.default is not LEFT_TO_DATABASE:
            result[name] = _absent(field, problems)
    problems.raise_if_any(resource.name)
    return result


def validate_changes(
    resource: ResourceType, values: Mapping[str, Any], _stored: Collection[str] = ()
) -> dict[str, Any]:
    """Values of some fields of a record that exists: only what was given.

    Raises:
        ValidationFailed: with every problem of every field.
    """
    problems = ProblemList()
    result = accept_given(resource, values, problems, trusted=True)
    check_pairs(resource, result, problems)
    problems.raise_if_any(resource.name)
    return result


def check_pairs(resource: ResourceType, values: Mapping[str, Any], problems: ProblemList) -> None:
    """Of a polymorphic reference, type and id come together: both are null, or neither."""
    if problems.problems:
        return
    for name, field in resource.fields.items():
        if not field.targets or (name not in values and field.type_field not in values):
            continue
        together = (values.get(name, MISSING), values.get(field.type_field, MISSING))
        if MISSING in together or (together[0] is None) != (together[1] is None):
            problems.add(name, f"comes together with {field.type_field}, or both are null")


def _accept(field: Field, value: Any, problems: ProblemList, result: dict[str, Any]) -> None:
    try:
        result[field.name] = field.accept(value)
    except ValueProblem as problem:
        problems.add(field.name, problem.message, problem.code, problem.path)


def _absent(field: Field, problems: ProblemList) -> Any:
    if field.default is not MISSING:
        try:
            return field.accept(field.make_default())
        except ValueProblem as problem:
            problems.add(field.name, f"the default {problem.message}", problem.code, problem.path)
    elif field.required:
        problems.add(field.name, "is required", "REQUIRED")
    return None


def _unknown(resource: ResourceType, name: str) -> str:
    declared = {**resource.fields, **resource.virtual}
    # As clients spell them: of an unknown name no other spelling is known, and a hidden one must
    # not be told from it by the hint.
    visible = {
        resource.member_name(known): known for known, field in declared.items() if not field.hidden
    }
    close = get_close_matches(resource.member_name(name[:100]), visible, n=1)
    hint = f"; did you mean {visible[close[0]]!r}?" if close else ""
    return f"is no field of {resource.name!r}{hint}"
