"""Setters: what is stored of what was given."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from tidings.schema import ResourceType, ValueProblem
from tidings.storage import Row


def still_stored(
    resource: ResourceType, values: Mapping[str, Any], kept: Mapping[str, Any]
) -> set[str]:
    """The fields with a setter whose values are those of the record itself, which are ``kept``:
    no hook has given another.
    """
    return {
        name
        for name, value in kept.items()
        if values.get(name) is value and resource.fields[name].setter is not None
    }


async def stored(resource: ResourceType, accepted: Row, fresh: Collection[str]) -> Row:
    """The values that the columns are to have, of those that were accepted; ``fresh`` names those
    that were given, by a client, trusted code or a hook. Null stays null.

    What a setter hands on as it was given is cast already.

    Raises:
        ValueError: a setter gave what its field cannot hold.
    """
    result = {name: value for name, value in accepted.items() if name in resource.fields}
    for name in fresh:
        field, value = resource.fields.get(name), result.get(name)
        if field is None or field.setter is None or value is None:
            continue
        made = field.setter(value)
        if inspect.isawaitable(made):
            made = await made
        if made is value:
            continue
        try:
            result[name] = field.cast(made)
        except ValueProblem as problem:
            message = f"the setter of {resource.name}.{name}: {problem.message}"
            raise ValueError(message) from None
    return result
