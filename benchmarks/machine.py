"""The machine: what it is, and how much processor time a process has had."""

from __future__ import annotations

import math
import os
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
    subscriptions: tuple[int, ...]
    """At how many of them matching is measured."""


FULL = Effort(
    rounds=5,
    seconds=1.5,
    notifications=2000,
    sockets=1000,
    changes=30,
    subscriptions=(1_000, 10_000, 100_000, 1_000_000),
)
QUICK = Effort(
    rounds=2,
    seconds=0.4,
    notifications=500,
    sockets=1000,
    changes=8,
    subscriptions=(1_000, 10_000),
)


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


def resident_bytes(process: int | str = "self") -> float:
    """The memory that a process occupies; NaN where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return math.nan
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def in_a_process_of_its_own(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do some work in a fresh process, so that no earlier work shows in its memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


def allow_open_files(wanted: int) -> int:
    """Raise the limit of open files towards ``wanted``, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return limit
    return soft
