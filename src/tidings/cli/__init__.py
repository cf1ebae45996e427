"""The command ``tidings``: serve an api, look after it, watch it, begin a new one.

Each command is a module of its own, and imported only when it is asked for: `tidings token` has no
use for a server, nor `tidings run` for a client.
"""

from __future__ import annotations

import os

import click

from tidings import __version__
from tidings.cli.commands import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidings")
@click.pass_context
def main(context: click.Context) -> None:
    """Serve resources as JSON:API over SQL, and tell clients over Socket.IO what has changed.

    Exit codes: 0 all is well, 1 it failed, 2 the command line is wrong, 3 the app did not start,
    130 Ctrl+C. TIDINGS_TRACEBACK=1 shows the whole traceback of a failure, NO_COLOR=1 no colours.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
