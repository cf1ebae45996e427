"""``tidings openapi`` and ``tidings routes``: what an api has."""

from __future__ import annotations

import json

import click

from tidings.loading import load_api


@click.command(short_help="Print the OpenAPI document of an Api.")
@click.argument("target", metavar="MODULE:API")
def openapi(target: str) -> None:
    """Print the OpenAPI document of an Api, with all its resources and fields.

    For example: tidings openapi blog:api > openapi.json
    """
    click.echo(json.dumps(load_api(target).openapi(), indent=2))


@click.command()
@click.argument("target", metavar="MODULE:API")
def routes(target: str) -> None:
    """Print the methods and paths of an Api's resources.

    For example: tidings routes blog:api
    """
    for path, item in load_api(target).openapi()["paths"].items():
        methods = [name.upper() for name in item if name != "parameters"]
        click.echo(f"{' '.join(methods):28} {path}")
