"""The commands by name. A module is imported when its command is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import IO, Any, Final

import click

from tidings.failing import failure, wants_traceback

# In the order of the help: what one does first comes first.
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "new": ("new", "new"),
    "run": ("serve", "serve"),
    "serve": ("serve", "serve"),
    "demo": ("demo", "demo"),
    "routes": ("describe", "routes"),
    "openapi": ("describe", "openapi"),
    "types": ("types", "types"),
    "token": ("token", "token"),
    "watch": ("watch", "watch"),
    "explain": ("explain", "explain"),
    "doctor": ("doctor", "doctor"),
    "triggers": ("triggers", "triggers"),
}
_INTERRUPTED: Final = 130
"""The exit code of a program that SIGINT has ended, as shells have it."""


class _Misuse(click.ClickException):
    """A wrong command line, told in two lines: how it goes, and what is wrong."""

    exit_code = click.UsageError.exit_code

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message())
        self._context = error.ctx

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        if self._context is not None:
            usage = " ".join(self._context.get_usage().split())
            click.echo(f"{usage} (--help tells more)", file=file, err=True)
        super().show(file)


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
        except click.UsageError as error:
            raise _Misuse(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            raise  # nobody reads any more, as with "| head -1"; click ends it without a word
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except Exception as error:  # a person sees it, and a traceback helps few of them
            if wants_traceback():
                raise
            raise failure(error) from None
