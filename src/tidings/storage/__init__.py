"""SQL: tables, statements, the databases behind one seam, and units of work."""

from tidings.storage.application import join
from tidings.storage.change_log import ChangeLog
from tidings.storage.core import CoreDatabase
from tidings.storage.database import Connection, Database
from tidings.storage.engines import own_engine
from tidings.storage.errors import ConstraintViolation, DatabaseFailure
from tidings.storage.outbox import Keeps, Outbox
from tidings.storage.postgres import PostgresDatabase
from tidings.storage.publishing import DirectPublisher, NobodyPublisher, Publication, Publisher
from tidings.storage.records import RecordStore, Sort
from tidings.storage.related import Borrowed, Chain, RelatedStore
from tidings.storage.relay import Appends, Relay
from tidings.storage.revocations import RevocationTable
from tidings.storage.sqlite import SqliteDatabase
from tidings.storage.statements import Row, Statement
from tidings.storage.tables import build_tables
from tidings.storage.unit_of_work import UnitOfWork, unit_of_work

__all__ = [
    "Appends",
    "Borrowed",
    "Chain",
    "ChangeLog",
    "Connection",
    "ConstraintViolation",
    "CoreDatabase",
    "Database",
    "DatabaseFailure",
    "DirectPublisher",
    "Keeps",
    "NobodyPublisher",
    "Outbox",
    "PostgresDatabase",
    "Publication",
    "Publisher",
    "RecordStore",
    "RelatedStore",
    "Relay",
    "RevocationTable",
    "Row",
    "Sort",
    "SqliteDatabase",
    "Statement",
    "UnitOfWork",
    "build_tables",
    "join",
    "own_engine",
    "unit_of_work",
]
