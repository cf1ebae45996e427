"""Fields of a special kind: write-only, computed and virtual ones, versions, setters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from tidings.errors import ConfigurationError
from tidings.schema.fields import MISSING, Field

_KINDS: Final = ("hidden", "read_only", "write_only", "version", "computed", "virtual")
_OF_COLUMNS: Final = ("unique", "default", "search", "belongs_to", "setter")


def prepare_kind(place: str, options: dict[str, Any]) -> None:
    """Complete the options of a field by what its kind says, before they are read.

    Raises:
        ConfigurationError: two of them exclude each other.
    """
    given = [name for name in _KINDS if options.get(name)]
    if len(given) > 1:
        raise ConfigurationError(f"{place}: {given[0]} and {given[1]} exclude each other")
    kind = given[0] if given else ""
    if kind in ("computed", "virtual"):
        misplaced = next((name for name in _OF_COLUMNS if options.get(name)), None)
        if misplaced is not None:
            raise ConfigurationError(
                f"{place}: {misplaced} needs a column; a {kind} field has none"
            )
    if kind == "version":
        options.pop("required", None)
        options.setdefault("nullable", False)
        options.setdefault("default", 1)
    if kind == "computed":
        options.pop("required", None)
        names = options.get("depends_on")
        if isinstance(names, str) or not names:
            raise ConfigurationError(
                f"{place}: depends_on=[...] names the fields that the function gets; who may not "
                "read one of them does not see the computed one, either"
            )
        options["depends_on"] = tuple(names)
    elif options.get("depends_on"):
        raise ConfigurationError(f"{place}: depends_on belongs to a computed field")


def check_kind(place: str, field: Field) -> None:
    """Hold a field against what its kind allows.

    Raises:
        ConfigurationError: says what is wrong.
    """
    if (field.as_string or field.version) and field.type != "integer":
        option = "as_string" if field.as_string else "version"
        raise ConfigurationError(f"{place}: {option} is for an integer, not {field.type!r}")
    if field.write_only or field.virtual:
        kind = "write-only" if field.write_only else "virtual"
        if field.unique:
            raise ConfigurationError(
                f"{place}: a {kind} field is not unique: that a value is taken would give it away"
            )
        if field.references is not None:
            raise ConfigurationError(
                f"{place}: a {kind} field has no belongs_to: the relationship would show it"
            )
        if field.readable_by is not None:
            raise ConfigurationError(f"{place}: nobody reads a {kind} field; drop readable_by")
    if field.setter is not None and not callable(field.setter):
        raise ConfigurationError(f"{place}: setter is a function of the given value")
    if field.setter is not None and field.references is not None:
        raise ConfigurationError(f"{place}: what refers to a record has no setter")
    compute = field.computed
    if compute is not None and (not callable(compute) or inspect.iscoroutinefunction(compute)):
        raise ConfigurationError(
            f"{place}: computed is an ordinary function of the values in depends_on"
        )
    if field.version and field.default is MISSING:
        raise ConfigurationError(f"{place}: a version begins with its default, 1")


def check_kinds(where: str, fields: Mapping[str, Field]) -> None:
    """Hold the fields of a resource against each other.

    Raises:
        ConfigurationError: names the field.
    """
    versions = [name for name, one in fields.items() if one.version]
    if len(versions) > 1:
        raise ConfigurationError(f"{where}: {versions[0]!r} and {versions[1]!r} both are versions")
    columns = {name for name, one in fields.items() if one.has_column}
    for name, one in fields.items():
        for needed in one.depends_on:
            if needed != "id" and needed not in columns:
                raise ConfigurationError(
                    f"{where}, field {name!r}: depends_on names {needed!r}, which is no field "
                    "with a column"
                )
