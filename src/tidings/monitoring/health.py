"""Health: whether the process lives, and whether it can serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Column, Integer, literal_column, select

from tidings.api import Api
from tidings.feed import SharedFeed
from tidings.monitoring.questions import Questions
from tidings.storage import Statement

_log = logging.getLogger("tidings.health")
_TRIVIAL: Final = Statement(
    select(literal_column("1", Integer).label("one")), (Column("one", Integer),)
)
OLD_SECONDS: Final = 30.0
"""What has been in the outbox for so long should have been published."""

Status = Literal["ok", "degraded", "failed"]
Document = dict[str, Any]
_WORDS: Final = {"ok": "ready", "degraded": "degraded", "failed": "unavailable"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check has found: for whoever asks, so neither secrets nor texts of errors."""

    status: Status
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> Document:
        """As it is sent."""
        return {"status": self.status, **self.details}


Check = Callable[[], Coroutine[Any, Any, Outcome]]


class Health:
    """Checks an Api whenever somebody asks; those who ask at the same moment share the checks.

    ``seconds`` bounds each check. A feed that is away degrades the process (it serves reads and
    writes, and tells of them later), or with ``require_feed`` makes it unavailable.
    """

    def __init__(self, api: Api, *, seconds: float = 2.0, require_feed: bool = False) -> None:
        self._api = api
        self._questions = Questions(seconds)
        self._without_feed: Status = "failed" if require_feed else "degraded"
        self._known: dict[str, Status] = {}

    async def ready(self) -> tuple[bool, Document]:
        """Whether requests should be sent to this process, and what has been found."""
        if self._api.state != "open":
            found = {"api": Outcome("failed", {"reason": f"it is {self._api.state}"})}
        else:
            checks = self._checks()
            outcomes = await asyncio.gather(*(self._run(*check) for check in checks.items()))
            found = dict(zip(checks, outcomes, strict=True))
        statuses = {outcome.status for outcome in found.values()}
        worst: Status = (
            "failed" if "failed" in statuses else "degraded" if "degraded" in statuses else "ok"
        )
        checks_found = {name: outcome.document() for name, outcome in found.items()}
        return worst != "failed", {"status": _WORDS[worst], "checks": checks_found}

    def _checks(self) -> dict[str, Check]:
        checks: dict[str, Check] = {"database": self._database, "feed": self._feed}
        if self._api.internals.link.outbox is not None:
            checks["outbox"] = self._outbox
        return checks

    async def _run(self, name: str, check: Check) -> Outcome:
        error: Exception | None = None
        try:
            outcome = await self._questions.ask(name, check)
        except TimeoutError as late:
            error = late
            outcome = Outcome("failed", {"reason": f"no answer in {self._questions.seconds:g} s"})
        except Exception as failure:  # noqa: BLE001  whatever it is, it is logged, and no answer
            error = failure
            outcome = Outcome("failed", {"reason": "it cannot be used; the log tells why"})
        self._note(name, outcome, error)
        return outcome

    def _note(self, name: str, outcome: Outcome, error: Exception | None) -> None:
        """Log what has changed since it was last asked."""
        if self._known.get(name, "ok") == outcome.status:
            return
        self._known[name] = outcome.status
        level = logging.INFO if outcome.status == "ok" else logging.WARNING
        _log.log(level, "health of the %s: %s %s", name, outcome.status, error or "")

    async def _database(self) -> Outcome:
        begin = time.perf_counter()
        async with self._api.internals.parts.database.reading(snapshot=False) as connection:
            await connection.fetch(_TRIVIAL, {})
        return Outcome("ok", {"seconds": round(time.perf_counter() - begin, 4)})

    async def _feed(self) -> Outcome:
        internals = self._api.internals
        feed, relay = internals.feed, internals.link.relay
        details: Document = {"shared": isinstance(feed, SharedFeed)}
        if relay is not None and relay.outbox is None:
            details["waiting_bytes"] = relay.waiting
        if isinstance(feed, SharedFeed) and not feed.is_connected:
            details["reason"] = "it cannot be reached: changes wait, and are told later"
            return Outcome(self._without_feed, details)
        return Outcome("ok", details)

    async def _outbox(self) -> Outcome:
        outbox = self._api.internals.link.outbox
        assert outbox is not None  # it is asked only where there is one
        rows, oldest = await outbox.state()
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        details = {"rows": rows, "oldest_seconds": round(age, 1)}
        return Outcome("degraded" if age > OLD_SECONDS else "ok", details)
