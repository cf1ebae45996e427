"""PostgresLog: what every log must do, and what is special to PostgreSQL."""

from __future__ import annotations

import pytest
from tests.feed.conformance import LogConformance, MakeLog

from tidings.feed.postgres import PostgresLog


class TestPostgresLog(LogConformance):
    @pytest.fixture
    def make_log(self, postgres_url: str) -> MakeLog:
        def make(*, max_length: int = 100_000) -> PostgresLog:
            return PostgresLog(postgres_url, max_length=max_length)

        return make
