"""The commands by name. A module is imported when its command is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from tidings import TidingsError
from tidings.failing import failure, wants_traceback

# In the order of the help: what one does first comes first.
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "new": ("new", "new"),
    "run": ("serve", "serve"),
    "serve": ("serve", "serve"),
    "demo": ("demo", "demo"),
    "routes": ("describe", "routes"),
    "openapi": ("describe", "openapi"),
    "token": ("token", "token"),
    "watch": ("watch", "watch"),
    "explain": ("explain", "explain"),
    "doctor": ("doctor", "doctor"),
    "triggers": ("triggers", "triggers"),
}
_INTERRUPTED: Final = 130
"""The exit code of a program that SIGINT has ended, as shells have it."""


class Commands(click.Group):
    """The group of all commands. Whatever fails in one of them is told in three lines at most."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        found = getattr(import_module(f"tidings.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except TidingsError as error:
            if wants_traceback():
                raise
            raise click.ClickException(str(error)) from None
        except Exception as error:  # a person sees it, and a traceback helps few of them
            if wants_traceback():
                raise
            raise failure(error) from None
