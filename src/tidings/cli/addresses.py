"""Where to listen: the options of all commands that serve."""

from __future__ import annotations

from typing import Any, Final

import click

FROM_ENVIRONMENT: Final[dict[str, Any]] = {"auto_envvar_prefix": "TIDINGS"}
"""Settings of a command whose options the environment may give, too: ``TIDINGS_LOG_LEVEL``."""

host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    show_envvar=True,
    help="Address to listen on; 0.0.0.0 for all.",
)
port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar=["TIDINGS_PORT", "PORT"],  # many platforms say PORT
    show_default=True,
    show_envvar=True,
    help="Port to listen on; 0 takes a free one.",
)
