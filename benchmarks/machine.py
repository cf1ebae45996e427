"""The machine: what it is, and how much processor time a process has had."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a run does: ``--quick`` does less, and its figures vary more."""

    rounds: int
    seconds: float
    """Of each round of requests."""
    notifications: int
    sockets: int
    changes: int
    """Per round of the fan-out."""


FULL = Effort(rounds=5, seconds=1.5, notifications=2000, sockets=1000, changes=30)
QUICK = Effort(rounds=2, seconds=0.4, notifications=500, sockets=1000, changes=8)


def describe() -> dict[str, str | int]:
    """What to say of the machine beside any figure."""
    return {
        "processors": os.cpu_count() or 0,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor_seconds(pid: int) -> float | None:
    """The processor time of a process, all threads; None where the system does not tell."""
    try:
        # Linux: the clock of another process, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, OverflowError):
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def allow_open_files(wanted: int) -> int:
    """Raise the limit of open files towards ``wanted``, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return limit
    return soft
