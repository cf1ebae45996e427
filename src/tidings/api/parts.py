"""What an Api is assembled from, once its declarations are complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from tidings.jsonapi import JsonApiApp
from tidings.resources import Operations
from tidings.schema import ResourceRegistry
from tidings.storage import Database


@dataclass(frozen=True, slots=True)
class RestOptions:
    """Where and how resources are served; ``max_body`` is in bytes."""

    prefix: str = "/api"
    max_body: int = 1_048_576


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Where and how subscriptions are served; ``limit`` is per socket."""

    path: str = "/socket.io"
    cors: Mapping[str, Any] | None = None
    limit: int = 100
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """The assembled parts."""

    registry: ResourceRegistry
    database: Database
    tables: Mapping[str, Table]
    operations: Operations
    rest: JsonApiApp
