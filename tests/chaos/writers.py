"""Writers over HTTP, which note in the ledger all that they attempt."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from tests.chaos.ledger import Ledger, Op, Values

STATUSES = ("open", "done", "late")
GROUPS = ("a", "b", "c", "d")
MEDIA_TYPE = "application/vnd.api+json"


class Writer:
    """Changes records of its own, one after the other, at whichever server.

    A record of whose fate it is not sure it never touches again.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        urls: Sequence[str],
        ledger: Ledger,
        name: str,
        seed: str,
        *,
        records: int = 12,
        pause: float = 0.0,
    ) -> None:
        self.errors: list[str] = []
        self.written = 0
        self._http = http
        self._urls = urls
        self._ledger = ledger
        self._name = name
        self._random = random.Random(seed)
        self._most = records
        self._pause = pause
        self._records: dict[str, Values] = {}
        self._numbers = itertools.count(1)

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Write for as long as this holds."""
        while goes_on():
            await self.write()
            if self._pause:
                await asyncio.sleep(self._random.uniform(0, 2 * self._pause))

    async def write(self) -> None:
        """One attempt."""
        kind = self._random.choices(("single", "script", "undone"), (8, 1, 1))[0]
        if kind == "single":
            op = self._op()
            if op is not None:
                await self._single(op)
        else:
            await self._script(undone=kind == "undone")

    async def write_many(self, count: int) -> None:
        """Make so many records in one transaction, and delete them in another."""
        now = time.time()
        names = [f"{self._name}-{next(self._numbers)}" for _ in range(count)]
        made = [Op(name, None, self._values(), now) for name in names]
        url = f"{self._urls[0]}/script"
        await self._attempt(made, "POST", url, {"json": {"steps": [step_of(op) for op in made]}})
        gone = [Op(op.record, op.after, None, time.time()) for op in made]
        await self._attempt(gone, "POST", url, {"json": {"steps": [step_of(op) for op in gone]}})

    def _values(self) -> dict[str, Any]:
        return {
            "status": self._random.choice(STATUSES),
            "grp": self._random.choice(GROUPS),
            "rank": self._random.randrange(100),
            "version": next(self._ledger.versions),
        }

    def _op(self, but: Sequence[Op] = ()) -> Op | None:
        """An attempt on a record that none of the others is about."""
        taken = {op.record for op in but}
        known = [name for name in self._records if name not in taken]
        now = time.time()
        if len(self._records) < self._random.randint(1, self._most) or not known:
            return Op(f"{self._name}-{next(self._numbers)}", None, self._values(), now)
        name = self._random.choice(known)
        before = self._records[name]
        if self._random.random() < 0.2:
            return Op(name, before, None, now)
        return Op(name, before, {**before, **self._changed()}, now)

    def _changed(self) -> dict[str, Any]:
        values = self._values()
        kept = self._random.sample(("status", "grp", "rank"), self._random.randint(0, 3))
        return {name: value for name, value in values.items() if name not in kept}

    async def _single(self, op: Op) -> None:
        url = f"{self._random.choice(self._urls)}/api/notes"
        document = {"data": {"type": "notes", "id": op.record, "attributes": op.after}}
        method = "POST" if op.before is None else "DELETE" if op.after is None else "PATCH"
        url += "" if op.before is None else f"/{op.record}"
        body = {} if op.after is None else {"json": document}
        await self._attempt([op], method, url, body)

    async def _script(self, *, undone: bool) -> None:
        """One transaction: several records, parts that savepoints undo, perhaps all undone."""
        ops: list[Op] = []
        steps: list[dict[str, Any]] = []
        lost: list[Op] = []
        for _ in range(self._random.randint(1, 3)):
            op = self._op([*ops, *lost])
            if op is None:
                continue
            is_lost = self._random.random() < 0.25
            (lost if is_lost else ops).append(op)
            step = step_of(op)
            if is_lost or self._random.random() < 0.3:
                step = {"do": "savepoint", "steps": [step], "undo": is_lost}
            steps.append(step)
            if self._random.random() < 0.3:
                steps.append({"do": "sleep", "seconds": self._random.uniform(0, 0.01)})
        url = f"{self._random.choice(self._urls)}/script"
        body = {"json": {"steps": steps, "rollback": undone}}
        await self._attempt(ops, "POST", url, body, undone=undone, lost=lost)

    async def _attempt(
        self,
        ops: Sequence[Op],
        method: str,
        url: str,
        body: dict[str, Any],
        *,
        undone: bool = False,
        lost: Sequence[Op] = (),
    ) -> None:
        for op in lost:
            op.fate = "undone"
        with self._ledger.attempts([*ops, *lost]) as settle:
            if undone:
                settle("undone")
            try:
                status, text = await self._request(method, url, body)
            except (aiohttp.ClientError, OSError):
                status, text = 0, ""
            if status // 100 == 2 and not undone:
                settle("committed")
                self._keep(ops)
            elif status // 100 != 2:
                # The client sends a DELETE again by itself where a kept connection breaks.
                if 0 < status < 500 and (method, status) != ("DELETE", 404):
                    self.errors.append(f"{method} {url}: {status} {text}")
                self._abandon([*ops, *lost])
        self.written += 1

    async def _request(self, method: str, url: str, body: dict[str, Any]) -> tuple[int, str]:
        headers = {"content-type": MEDIA_TYPE} if "json" in body else {}
        async with self._http.request(method, url, headers=headers, **body) as answer:
            return answer.status, await answer.text()

    def _keep(self, ops: Sequence[Op]) -> None:
        for op in ops:
            if op.after is None:
                del self._records[op.record]
            else:
                self._records[op.record] = op.after

    def _abandon(self, ops: Sequence[Op]) -> None:
        for op in ops:
            self._records.pop(op.record, None)


def step_of(op: Op) -> dict[str, Any]:
    """An attempt as a step of a script."""
    if op.before is None:
        return {"do": "create", "id": op.record, "values": op.after}
    if op.after is None:
        return {"do": "delete", "id": op.record}
    return {"do": "patch", "id": op.record, "values": op.after}
