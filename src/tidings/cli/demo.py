"""``tidings demo``: a live board to look at."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tidings.cli.addresses import FROM_ENVIRONMENT, host_option, port_option
from tidings.demo import build_demo
from tidings.serving import Settings, run


@click.command(context_settings=FROM_ENVIRONMENT, short_help="Run a live board, to look at.")
@host_option
@port_option
def demo(host: str, port: int) -> None:
    """Run a live board of posts, with a database that is gone when it stops."""
    with tempfile.TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True) as folder:
        run(build_demo(Path(folder)).app, Settings(host, port), "The demo")
