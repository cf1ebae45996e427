"""Loading: what ``MODULE:ATTRIBUTE`` names, for the commands that take one."""

from __future__ import annotations

import operator
import os
import sys
from importlib import import_module
from typing import Any

import click

from tidings import Api, ConfigurationError
from tidings.failing import failure, wants_traceback


def load(target: str) -> Any:
    """The object that ``module:attribute`` names; modules are also looked for in the directory.

    Raises:
        ClickException: there is none, or its module fails; the message says what is missing.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise click.UsageError(f"{target!r} is not MODULE:ATTRIBUTE, as in blog:api")
    sys.path.insert(0, os.getcwd())
    module = _import(module_name)
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise click.ClickException(f"module {module_name!r} has no {attribute!r}") from error


def load_api(target: str) -> Api:
    """The Api that ``module:attribute`` names, itself or by its own ASGI app.

    Raises:
        ClickException: there is none, or it is something else.
    """
    found = load(target)
    api = getattr(found, "api", found)
    if not isinstance(api, Api):
        kind = type(found).__name__
        raise click.ClickException(f"{target!r} is no Api, but a {kind}: name the Api itself")
    return api


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    except Exception as error:
        if _is_missing(error, name):
            message = f"there is no module {name!r} here or in the environment"
            raise click.ClickException(message) from error
        if wants_traceback():
            raise
        raise failure(error, f"{name!r} cannot be imported") from None


def _is_missing(error: Exception, name: str) -> bool:
    """Whether it is this module that there is not, rather than one that it imports."""
    return isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
