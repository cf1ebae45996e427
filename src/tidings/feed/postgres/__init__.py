"""A log over PostgreSQL (the extra ``tidings[postgres]``)."""

from tidings.feed.postgres.log import PostgresLog

__all__ = ["PostgresLog"]
