"""A cluster of server processes over one database and one feed, which die and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.chaos.app import Setup, make_api
from tests.support.server import REPOSITORY, START_TIMEOUT


class Cluster:
    """Slots, each with a port that stays, and at most one process at a time."""

    def __init__(self, process: asyncio.subprocess.Process, ports: list[int], log: Path) -> None:
        self.ports = ports
        self.died: list[str] = []
        """Ends of processes that nobody asked for."""
        self.kills = 0
        self._process = process
        self._log = log
        self._pids: dict[int, int] = {}
        self._of_pid: dict[int, int] = {}
        self._ended = {slot: asyncio.Event() for slot in range(len(ports))}
        self._started: dict[int, asyncio.Future[int]] = {}

    @property
    def urls(self) -> list[str]:
        """Where the slots listen."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def log(self) -> str:
        """The end of what the servers have said."""
        return self._log.read_text(errors="replace")[-4000:]

    def pid(self, slot: int) -> int:
        """The process of a slot."""
        return self._pids[slot]

    async def start(
        self, slot: int, *, die: tuple[str, int] | None = None, mutant: str | None = None
    ) -> None:
        """Start a slot's server; ``die`` names the point and the count at which it dies."""
        assert slot not in self._pids
        self._ended[slot].clear()
        started = self._started[slot] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        order = {"start": slot, "die": die, "mutant": mutant}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await started

    async def ended(self, slot: int) -> None:
        """Wait until a slot's process is gone."""
        await self._ended[slot].wait()

    async def kill(self, slot: int) -> None:
        """SIGKILL, wherever the process is at this moment."""
        pid = self._pids.get(slot)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await self.ended(slot)

    async def stop(self, slot: int) -> None:
        """SIGTERM, and wait."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pids[slot], signal.SIGTERM)
        await self.ended(slot)

    def rss(self, slot: int) -> int:
        """Resident memory of a slot's process, in bytes."""
        pages = Path(f"/proc/{self._pids[slot]}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told: dict[str, Any] = json.loads(line)
            if "pid" in told:
                slot, pid = told["slot"], told["pid"]
                self._pids[slot] = pid
                self._of_pid[pid] = slot
                self._started.pop(slot).set_result(pid)
            else:
                self._gone(told["ended"], told["status"])

    def _gone(self, pid: int, status: int) -> None:
        slot = self._of_pid.pop(pid)
        del self._pids[slot]
        if status == -signal.SIGKILL:
            self.kills += 1
        elif status not in (0, -signal.SIGTERM):
            self.died.append(f"the server of slot {slot} ended with {status}\n{self.log()}")
        self._ended[slot].set()


@contextlib.asynccontextmanager
async def cluster(
    setup: Setup, slots: int = 2, *, mutant: str | None = None, start: bool = True
) -> AsyncIterator[Cluster]:
    """A cluster with its tables made, and all slots running."""
    await make_api(setup).create_tables()
    with tempfile.TemporaryDirectory(prefix="tidings-chaos-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.chaos.zygote"),
                json.dumps({"slots": slots, "setup": setup.told()}),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        assert process.stdout is not None
        assert process.stdin is not None
        listening = None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                line = await process.stdout.readline()
            if not line:
                raise RuntimeError(f"the servers could not be started\n{log.read_text()}")
            made = Cluster(process, json.loads(line)["ports"], log)
            listening = asyncio.create_task(made._listen())
            if start:
                for slot in range(slots):
                    await made.start(slot, mutant=mutant)
            yield made
        except BaseException as error:
            error.add_note(f"--- the servers have said ---\n{log.read_text()[-4000:]}")
            raise
        finally:
            process.stdin.close()
            await process.wait()
            if listening is not None:
                await listening
